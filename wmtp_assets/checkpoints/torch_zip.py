"""Reading a zip-format ``.pth`` / ``.bin`` without loading it.

``torch.save`` writes a zip archive of uncompressed records: ``<name>/data.pkl`` describes the
tensors, ``<name>/data/<n>`` are their storages. Torch itself reads the description, with
``weights_only=True`` and on the meta device; the zip directory says where each storage lies, and
its data is read in blocks. Format: https://docs.pytorch.org/docs/stable/notes/serialization.html.

Only files whose bytes were verified belong here: torch does not detect corruption.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from wmtp_assets.checkpoints.safetensors_file import is_tensor_name
from wmtp_assets.errors import InvalidInput

if TYPE_CHECKING:
    import torch

DESCRIPTION = ("data.pkl", "version", "byteorder")
MAX_DESCRIPTION = 64 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, sizes of name and extra field
_ENCRYPTED = 1  # bit of a record's flags


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file.

    Attributes:
        name: key in the state dict.
        dtype: torch's name without the prefix, such as ``float32``.
        shape, stride: in elements.
        begin: where the storage starts, plus the tensor's offset in it: byte in the file.
        item_size: bytes per element.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    begin: int
    item_size: int

    @property
    def size(self) -> int:
        """Bytes of the tensor's elements."""
        return prod(self.shape) * self.item_size

    @property
    def extent(self) -> int:
        """Bytes from the first element to the end of the last one."""
        return _extent(self.shape, self.stride) * self.item_size

    @property
    def is_contiguous(self) -> bool:
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


def _extent(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


@dataclass(frozen=True)
class _Archive:
    """The zip archive of a checkpoint.

    Attributes:
        prefix: the folder all records are in, with its slash.
        storages: number of a storage → first byte of its data in the file, and bytes.
        description: the small records that describe the tensors, by name without the prefix.
    """

    prefix: str
    storages: Mapping[str, tuple[int, int]]
    description: Mapping[str, bytes]


def _open_archive(path: Path) -> _Archive:
    with path.open("rb") as file:
        if file.read(1) == b"\x80":
            raise InvalidInput(
                f"{path}: a legacy (non-zip) torch file. Rewrite it where it was made: "
                "torch.save(torch.load(old, weights_only=True), new)"
            )
        try:
            with zipfile.ZipFile(file) as archive:
                return _read_archive(path, file, archive)
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


def _read_archive(path: Path, file: IO[bytes], archive: zipfile.ZipFile) -> _Archive:
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
    storages: dict[str, tuple[int, int]] = {}
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
            storages[info.filename.removeprefix(f"{prefix}data/")] = (begin, info.file_size)
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


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint, by name, without their data.

    Raises:
        InvalidInput: naming the file and the tensor, if it is no flat state dict in zip format, if
            it needs more than weights to load, or if a tensor does not lie within its record.
        OSError: if the file cannot be read.
    """
    archive = _open_archive(path)
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
    begin, size = archive.storages[number]
    item = value.element_size()
    tensor = StoredTensor(
        name=name,
        dtype=str(value.dtype).removeprefix("torch."),
        shape=tuple(value.shape),
        stride=tuple(value.stride()),
        begin=begin + int(value.storage_offset()) * item,
        item_size=item,
    )
    if (
        size != storage.nbytes()
        or tensor.size > size
        or tensor.begin + tensor.extent > begin + size
    ):
        raise InvalidInput(
            f"{path}: {name} {list(tensor.shape)} does not fit its record data/{number} of "
            f"{size} bytes"
        )
    return tensor


def read_blocks(path: Path, tensor: StoredTensor, block: int) -> Iterator[torch.Tensor]:
    """The elements of ``tensor`` in row-major order, as one-dimensional tensors.

    Each piece holds at most ``block`` bytes and is valid until the next one is asked for; a tensor
    that is not contiguous comes whole.

    Raises:
        InvalidInput: if the file ends early.
    """
    import torch

    dtype: torch.dtype = getattr(torch, tensor.dtype)
    if tensor.size == 0:
        return
    span = tensor.extent
    whole_items = max(block // tensor.item_size, 1) * tensor.item_size
    view = memoryview(bytearray(min(whole_items, span) if tensor.is_contiguous else span))
    with path.open("rb", buffering=0) as file:
        file.seek(tensor.begin)
        left = span
        while left:
            piece = view[: min(left, len(view))]
            filled = 0
            while filled < len(piece):
                count = file.readinto(piece[filled:])
                if not count:
                    raise InvalidInput(f"{path}: the file ends inside {tensor.name}")
                filled += count
            left -= len(piece)
            flat = torch.frombuffer(piece, dtype=dtype)
            if tensor.is_contiguous:
                yield flat
            else:
                yield flat.as_strided(tensor.shape, tensor.stride).reshape(-1).contiguous()
