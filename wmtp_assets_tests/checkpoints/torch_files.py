"""Torch checkpoints that torch itself would not write."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._utils import _rebuild_tensor_v2


def records(data: bytes) -> dict[str, bytes]:
    """The records of an archive, by name without the prefix."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def zipped(
    records: Mapping[str, bytes],
    prefix: str = "archive/",
    compressed: tuple[str, ...] = (),
    buffer: io.BytesIO | None = None,
    extra: bytes = b"",
) -> bytes:
    """An archive as Python's zipfile writes it: no alignment, nothing of torch's own."""
    buffer = buffer or io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in records.items():
            info = zipfile.ZipInfo(prefix + name)
            info.compress_type = zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED
            info.extra = extra
            archive.writestr(info, data)
    return buffer.getvalue()


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def crafted(
    size: tuple[int, ...] = (2, 2),
    stride: tuple[int, ...] = (2, 1),
    offset: int = 0,
    count: Any = 4,
    key: Any = "0",
    record: bytes = bytes(16),
) -> bytes:
    """A file with one tensor ``w`` whose description says whatever it is told to say."""

    class Storage:
        reference = ("storage", torch.FloatStorage, key, "cpu", count)

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj.reference if isinstance(obj, Storage) else None

    buffer = io.BytesIO()
    arguments = Storage(), offset, size, stride, False, OrderedDict()
    Pickler(buffer, protocol=2).dump({"w": Call(_rebuild_tensor_v2, *arguments)})
    return zipped({"data.pkl": buffer.getvalue(), "data/0": record, "version": b"3\n"})
