"""Reading a zip-format ``.pth`` / ``.bin`` without loading it.

``torch.save`` writes a zip archive of uncompressed records: ``<name>/data.pkl`` describes the
tensors, ``<name>/data/<n>`` are their storages. Torch itself reads the description, with
``weights_only=True`` and on the meta device; the zip directory says where each storage lies.
Format: https://docs.pytorch.org/docs/stable/notes/serialization.html.

Torch does not detect corruption. So the directory and the description are verified before they are
parsed, by the function that :func:`read_tensors` is given; the data, which nothing parses, by
whoever reads it, against the CRC-32 that the directory has for each storage.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from wmtp_assets.checkpoints.safetensors_file import is_tensor_name
from wmtp_assets.checkpoints.stored import Record, StoredTensor
from wmtp_assets.errors import InvalidInput

if TYPE_CHECKING:
    import torch

DESCRIPTION = ("data.pkl", "version", "byteorder")
MAX_DESCRIPTION = 64 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, sizes of name and extra field
_ENCRYPTED = 1  # bit of a record's flags


TAIL = 16 << 20
"""Bytes at the end of the file that must hold the zip directory; 300 tensors need 30 kB."""

Verify = Callable[[int, int], None]
"""Takes first byte and end of a part of the file; raises if it is not what it should be."""


def trust(begin: int, end: int) -> None:
    """A :data:`Verify` for a file that was verified as a whole."""


@dataclass(frozen=True)
class _Archive:
    """The zip archive of a checkpoint.

    Attributes:
        prefix: the folder all records are in, with its slash.
        storages: number of a storage → its record.
        description: the small records that describe the tensors, by name without the prefix.
    """

    prefix: str
    storages: Mapping[str, Record]
    description: Mapping[str, bytes]


def _open_archive(path: Path, verify: Verify) -> _Archive:
    with path.open("rb") as file:
        if file.read(1) == b"\x80":
            raise InvalidInput(
                f"{path}: a legacy (non-zip) torch file. Rewrite it where it was made: "
                "torch.save(torch.load(old, weights_only=True), new)"
            )
        size = os.fstat(file.fileno()).st_size
        verify(max(size - TAIL, 0), size)
        try:
            with zipfile.ZipFile(file) as archive:
                if archive.start_dir < size - TAIL:
                    raise InvalidInput(f"{path}: the zip directory is larger than {TAIL} bytes")
                return _read_archive(path, file, archive, verify)
        except (
            zipfile.BadZipFile,
            EOFError,
            struct.error,
            RuntimeError,
            ValueError,
            ArithmeticError,
        ) as error:
            raise InvalidInput(
                f"{path}: not a torch checkpoint, or cut off: {error}; download it again"
            ) from error


def _read_archive(
    path: Path, file: IO[bytes], archive: zipfile.ZipFile, verify: Verify
) -> _Archive:
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    names = {info.filename for info in infos}
    if len(names) != len(infos):
        raise InvalidInput(f"{path}: a record stands twice in the archive")
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InvalidInput(f"{path}: not a torch checkpoint: {len(pickles)} records data.pkl")
    prefix = pickles[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in names:
        raise InvalidInput(
            f"{path}: a TorchScript archive, not a checkpoint. Save the state dict instead: "
            "torch.save(module.state_dict(), new)"
        )
    described = [name for name in DESCRIPTION if prefix + name in names]
    if sum(archive.getinfo(prefix + name).file_size for name in described) > MAX_DESCRIPTION:
        raise InvalidInput(f"{path}: the description is larger than {MAX_DESCRIPTION} bytes")
    storages: dict[str, Record] = {}
    position = 0
    for info in infos:
        is_stored = (
            info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        )
        if not is_stored or info.flag_bits & _ENCRYPTED:
            raise InvalidInput(
                f"{path}: record {info.filename!r} is compressed or encrypted; "
                "torch writes records stored"
            )
        file.seek(info.header_offset)
        signature, name_size, extra_size = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        begin = info.header_offset + _LOCAL_HEADER.size + name_size + extra_size
        end = begin + info.file_size
        if signature != b"PK\x03\x04" or info.header_offset < position or end > archive.start_dir:
            raise InvalidInput(f"{path}: record {info.filename!r} does not lie where it should")
        position = end
        if info.filename.startswith(f"{prefix}data/"):
            number = info.filename.removeprefix(f"{prefix}data/")
            storages[number] = Record(info.filename, begin, info.file_size, info.CRC)
        elif info.filename.removeprefix(prefix) in DESCRIPTION:
            verify(info.header_offset, end)
    description = {name: archive.read(prefix + name) for name in described}
    if description.get("byteorder", b"little") != b"little":
        raise InvalidInput(f"{path}: tensors are big-endian; save them on a little-endian machine")
    return _Archive(prefix, storages, description)


def _load_description(archive: _Archive) -> tuple[Any, dict[int, str]]:
    """What ``torch.load`` makes of the description, and offset → number of a storage.

    Torch is given an archive with the same description and empty storages: on the meta device it
    reads no data, and says for each storage at which offset the archive keeps it. (In the original
    it would guess offsets from the way its own writer lays records out.)
    """
    import torch

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as skeleton:
        for name, data in archive.description.items():
            skeleton.writestr(archive.prefix + name, data)
        for number in archive.storages:
            skeleton.writestr(f"{archive.prefix}data/{number}", b"")
        numbers = {
            info.header_offset + _LOCAL_HEADER.size + len(info.filename.encode()): number
            for number in archive.storages
            for info in [skeleton.getinfo(f"{archive.prefix}data/{number}")]
        }
    buffer.seek(0)
    return torch.load(buffer, map_location="meta", weights_only=True), numbers


def read_tensors(path: Path, verify: Verify = trust) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint, by name, without their data.

    Args:
        path: the file.
        verify: called for each part of the file before it is parsed.

    Raises:
        InvalidInput: naming the file and the tensor, if it is no flat state dict in zip format, if
            it needs more than weights to load, or if a tensor does not lie within its record.
        OSError: if the file cannot be read.
    """
    archive = _open_archive(path, verify)
    import torch

    try:
        loaded, numbers = _load_description(archive)
        if not isinstance(loaded, Mapping):
            raise InvalidInput(f"{path}: holds a {type(loaded).__name__}, not a state dict")
        if not loaded:
            raise InvalidInput(f"{path}: holds no tensors")
        tensors: dict[str, StoredTensor] = {}
        for name, value in loaded.items():
            if not isinstance(name, str) or not is_tensor_name(name):
                shown = repr(name[:60]) if isinstance(name, str) else f"a {type(name).__name__}"
                raise InvalidInput(f"{path}: {shown} is no name of a tensor")
            if not isinstance(value, torch.Tensor):
                raise InvalidInput(
                    f"{path}: {name} is a {type(value).__name__}, not a tensor: "
                    "expected a flat state dict"
                )
            tensors[name] = _locate(path, name, value, archive, numbers)
        return tensors
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        # Torch's own text stays out of the traceback: it recommends to load the file unsafely.
        raise InvalidInput(f"{path}: no plain state dict: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Why torch refused, in one printable line, without its advice to load the file unsafely."""
    asked = re.search(r"GLOBAL (\S+)", str(error))
    if asked:
        line = f"it asks for {asked[1]}, which weights do not need"
    else:
        lines = [line.strip() for line in str(error).splitlines() if "weights_only" not in line]
        line = next(filter(None, lines), type(error).__name__)
    return "".join(c if c.isprintable() else "?" for c in line[:200])


def _locate(
    path: Path, name: str, value: torch.Tensor, archive: _Archive, numbers: Mapping[int, str]
) -> StoredTensor:
    import torch

    if value.layout != torch.strided:
        layout = str(value.layout).removeprefix("torch.")
        raise InvalidInput(f"{path}: {name} is a {layout} tensor; only dense ones are read")
    if value.is_neg() or value.is_conj():
        raise InvalidInput(
            f"{path}: {name} is a view whose signs torch flips as it reads; save "
            f"{name}.resolve_neg().resolve_conj()"
        )
    storage = value.untyped_storage()
    number = numbers.get(getattr(storage, "_checkpoint_offset", -1))
    if number is None:
        raise InvalidInput(f"{path}: {name} has no storage in the archive")
    record = archive.storages[number]
    item = value.element_size()
    tensor = StoredTensor(
        path=path,
        name=name,
        dtype=str(value.dtype).removeprefix("torch."),
        shape=tuple(value.shape),
        stride=tuple(value.stride()),
        begin=record.begin + int(value.storage_offset()) * item,
        item_size=item,
        record=record,
    )
    if (
        record.size != storage.nbytes()
        or tensor.size > record.size
        or tensor.begin + tensor.extent > record.begin + record.size
    ):
        raise InvalidInput(
            f"{path}: {name} {list(tensor.shape)} does not fit its record data/{number} of "
            f"{record.size} bytes"
        )
    return tensor
