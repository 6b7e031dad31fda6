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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIGNMENT = 64
"""Bytes; torch aligns the data of each record so that it can be mapped."""

SERIALIZATION_ID = b"0" * 40

DType = Literal["float16", "float32"]

NUMPY_DTYPES: Mapping[DType, str] = {"float16": "<f2", "float32": "<f4"}

STORAGE_CLASSES: Mapping[DType, str] = {"float16": "HalfStorage", "float32": "FloatStorage"}
"""The classes of torch by which a checkpoint tells the dtype of its storages."""


def write_pth(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    values: Callable[[str], NDArray[np.floating[Any]]],
    *,
    dtype: DType = "float32",
    shared: Mapping[str, str] | None = None,
    state_dict: bool = False,
) -> None:
    """Write a dict of tensors to ``path``, in torch's zip format.

    Args:
        path: the file; records are named after its stem, as ``torch.save`` does.
        shapes: key → shape, in the order of the dict. Torch writes a tuple for each tensor; one
            object that is the shape of several is written once.
        values: called once per storage, with the key it belongs to, in order of first use; returns
            the tensor, little-endian ``dtype``.
        dtype: of all tensors.
        shared: key → the key whose storage it uses; all others have storages of their own.
        state_dict: write what a module's ``state_dict()`` is, an ``OrderedDict`` with the version
            of each module in its attribute ``_metadata``, in place of a plain dict.

    Raises:
        ValueError: if a value has another dtype or shape than declared, or if a key is to use the
            storage of one that has another shape or none of its own.
        OSError: if the file cannot be written.
    """
    shared = shared or {}
    for key, owner in shared.items():
        if owner in shared or shapes.get(owner) != shapes[key]:
            raise ValueError(f"{key} cannot use the storage of {owner}")
    owners = {key: shared.get(key, key) for key in shapes}

    with path.open("wb") as file, zipfile.ZipFile(_Stream(file), "w") as archive:

        def record(name: str, data: bytes | memoryview) -> None:
            _write_record(archive, file.tell(), f"{path.stem}/{name}", data)

        record("data.pkl", _pickle(shapes, owners, dtype, state_dict))
        record(".format_version", b"1")
        record(".storage_alignment", b"%d" % ALIGNMENT)
        record("byteorder", b"little")
        for number, key in enumerate(dict.fromkeys(owners.values())):
            value = values(key)
            if value.dtype != NUMPY_DTYPES[dtype] or value.shape != shapes[key]:
                raise ValueError(
                    f"{key} is {value.dtype} {value.shape}, declared as {dtype} {shapes[key]}"
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


def _pickle(
    shapes: Mapping[str, tuple[int, ...]],
    owners: Mapping[str, str],
    dtype: DType,
    state_dict: bool,
) -> bytes:
    """The record ``data.pkl``: the dict, with the tensors' data left to the records ``data/N``."""
    import torch
    from torch._utils import _rebuild_tensor_v2

    storage_class = getattr(torch, STORAGE_CLASSES[dtype])

    class Storage:
        def __init__(self, number: int, count: int) -> None:
            self.name = str(number)
            self.count = count

    class Tensor:
        def __init__(self, storage: Storage, shape: tuple[int, ...]) -> None:
            self.storage = storage
            self.shape = shape

        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            ones = itertools.accumulate(reversed(self.shape[1:]), int.__mul__, initial=1)
            strides = tuple(reversed(tuple(ones)))
            arguments = (self.storage, 0, self.shape, strides, False, OrderedDict())
            return _rebuild_tensor_v2, arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, Storage):
                return ("storage", storage_class, obj.name, "cpu", obj.count)
            return None

    storages = {
        key: Storage(number, math.prod(shapes[key]))
        for number, key in enumerate(dict.fromkeys(owners.values()))
    }
    tensors = {key: Tensor(storages[owners[key]], shape) for key, shape in shapes.items()}
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(_as_state_dict(tensors) if state_dict else tensors)
    return buffer.getvalue()


def _as_state_dict(tensors: Mapping[str, Any]) -> OrderedDict[str, Any]:
    state = OrderedDict(tensors)
    vars(state)["_metadata"] = OrderedDict((name, {"version": 1}) for name in _modules(tensors))
    return state


def _modules(keys: Iterable[str]) -> list[str]:
    """The modules that hold the tensors and those around them, outer before inner."""
    names: dict[str, None] = {}
    for key in keys:
        parts = key.split(".")
        names |= dict.fromkeys(".".join(parts[:depth]) for depth in range(len(parts)))
    return list(names)
