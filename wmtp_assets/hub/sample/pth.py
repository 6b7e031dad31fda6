"""Write a checkpoint as ``torch.save`` does, one tensor in memory at a time.

``torch.save`` itself wants all tensors at once, and closes the archive with a
``.data/serialization_id`` that is computed by the C++ library's ``std::hash``: other bytes on
Linux than on macOS. Here that record is constant; all others are what ``torch.save`` writes.
"""

from __future__ import annotations

import io
import itertools
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIGNMENT = 64
"""Bytes; torch aligns the data of each record so that it can be mapped."""

SERIALIZATION_ID = b"0" * 40


def write_pth(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    values: Callable[[str], NDArray[np.float32]],
) -> None:
    """Write a dict of float32 tensors to ``path``, in torch's zip format.

    Args:
        path: the file; records are named after its stem, as ``torch.save`` does.
        shapes: key → shape, in the order of the dict.
        values: called once per key, in that order; returns the tensor, little-endian float32.

    Raises:
        ValueError: if a value has another dtype or shape than declared.
        OSError: if the file cannot be written.
    """
    with path.open("wb") as file, zipfile.ZipFile(_Stream(file), "w") as archive:

        def record(name: str, data: bytes | memoryview) -> None:
            _write_record(archive, file.tell(), f"{path.stem}/{name}", data)

        record("data.pkl", _pickle(shapes))
        record(".format_version", b"1")
        record(".storage_alignment", b"%d" % ALIGNMENT)
        record("byteorder", b"little")
        for number, (key, shape) in enumerate(shapes.items()):
            value = values(key)
            if value.dtype != "<f4" or value.shape != shape:
                raise ValueError(
                    f"{key} is {value.dtype} {value.shape}, declared as float32 {shape}"
                )
            record(f"data/{number}", value.reshape(-1).view("u1").data)
        record("version", b"3\n")
        record(".data/serialization_id", SERIALIZATION_ID)


class _Stream(io.RawIOBase):
    """A file without ``seek``: behind each record zipfile then writes a data descriptor.

    Torch's writer does too, and torch's reader, asked for the offsets of storages, counts on it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _write_record(
    archive: zipfile.ZipFile, offset: int, name: str, data: bytes | memoryview
) -> None:
    # A local header is 30 bytes, the name, and the extra field: here one entry, "FB" with its
    # length in 2 bytes, that pads up to the next aligned offset, as torch's writer does.
    info = zipfile.ZipInfo(name)
    padding = -(offset + 30 + len(name) + 4) % ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    archive.writestr(info, data)


def _pickle(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """The record ``data.pkl``: the dict, with the tensors' data left to the records ``data/N``."""
    import torch
    from torch._utils import _rebuild_tensor_v2

    class Storage:
        def __init__(self, number: int, count: int) -> None:
            self.reference = ("storage", torch.FloatStorage, str(number), "cpu", count)

    class Tensor:
        def __init__(self, number: int, shape: tuple[int, ...]) -> None:
            self.storage = Storage(number, math.prod(shape))
            self.shape = shape

        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            ones = itertools.accumulate(reversed(self.shape[1:]), int.__mul__, initial=1)
            strides = tuple(reversed(tuple(ones)))
            arguments = (self.storage, 0, self.shape, strides, False, OrderedDict())
            return _rebuild_tensor_v2, arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj.reference if isinstance(obj, Storage) else None

    buffer = io.BytesIO()
    tensors = {key: Tensor(number, shape) for number, (key, shape) in enumerate(shapes.items())}
    Pickler(buffer, protocol=2).dump(tensors)
    return buffer.getvalue()
