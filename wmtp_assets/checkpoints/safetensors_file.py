"""The safetensors format: a checked header reader, and a streaming writer.

A file is ``u64 little-endian n | n bytes of JSON | data``. The JSON maps each tensor's name to
``dtype``, ``shape`` and ``data_offsets`` (begin and end in the data, in bytes), and
``__metadata__`` to a map of strings. Format: https://github.com/huggingface/safetensors#format.

The reader refuses what the library accepts at a high price or by mistake: headers over 16 MiB or
of more than 20,000 tensors, the same key twice, names that are not plain text. The writer produces
the bytes that ``safetensors.torch.save_file`` does for metadata in key order, without holding the
tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.excerpts import OpenFile, open_whole
from wmtp_assets.base.strict_json import check_values, no_duplicates, short
from wmtp_assets.checkpoints.pipeline import ahead
from wmtp_assets.storage.files import HashedFile
from wmtp_assets.storage.pieces import Tensors

MAX_HEADER = 16 << 20
MAX_TENSORS = 20_000
MAX_NAME = 512
MAX_RANK = 64
MAX_SIZE = (1 << 63) - 1

# Bytes per element, in the order of the library's Dtype enum: the writer puts later ones first.
ITEM_SIZE = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "C64": 8,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}
_RANK = {code: rank for rank, code in enumerate(ITEM_SIZE)}

DTYPE_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
"""Header code → torch's name, for the dtypes that our checkpoints may have."""
DTYPE_CODES = {name: code for code, name in DTYPE_NAMES.items()}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: name, dtype (header code, such as ``F16``) and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * ITEM_SIZE[self.dtype]


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file.

    Attributes:
        entries: the tensors, in the order of their data.
        begins: name → first byte of the tensor's data in the file.
        metadata: ``__metadata__``.
        data_start: bytes before the data: 8 + the length of the JSON.
        sha256: of these bytes.
    """

    entries: tuple[TensorEntry, ...]
    begins: Mapping[str, int]
    metadata: Mapping[str, str]
    data_start: int
    sha256: str

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape."""
        return {entry.name: entry.shape for entry in self.entries}

    @property
    def piece_sizes(self) -> list[int]:
        """Bytes of the pieces of the file: what is before the data, then each tensor."""
        return [self.data_start, *(entry.size for entry in self.entries)]

    @property
    def n_params(self) -> int:
        """Elements of all tensors together."""
        return sum(prod(entry.shape) for entry in self.entries)


def is_tensor_name(name: str) -> bool:
    """Whether ``name`` is short, printable text without ``..`` and backslash."""
    return (
        0 < len(name) <= MAX_NAME and name.isprintable() and ".." not in name and "\\" not in name
    )


def _is_sizes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_RANK
        and all(type(number) is int and 0 <= number <= MAX_SIZE for number in value)
    )


def _entry(name: str, value: Any) -> tuple[TensorEntry, int, int]:
    if not is_tensor_name(name):
        raise ValueError(f"{short(name)} is not a tensor name")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZE:
        raise ValueError(f"{name}: unknown dtype {short(dtype)}")
    for numbers in (shape, offsets):
        if not _is_sizes(numbers):
            raise ValueError(f"{name}: {short(numbers)} is not a list of sizes")
    if len(offsets) != 2:
        raise ValueError(f"{name}: data_offsets must be begin and end")
    entry = TensorEntry(name, dtype, tuple(shape))
    if offsets[1] - offsets[0] != entry.size:
        raise ValueError(
            f"{name}: {dtype} {short(shape)} is {entry.size} bytes, data_offsets span "
            f"{offsets[1] - offsets[0]}"
        )
    return entry, offsets[0], offsets[1]


def read_header(path: Path, open_file: OpenFile = open_whole) -> Header:
    """Read and check the header of a safetensors file.

    Args:
        open_file: how the file is opened.

    Raises:
        InvalidInput: naming the file and the key, if the header is not exactly that of a file of
            this size: every byte of the data belongs to one tensor.
        OSError: if the file cannot be read.
    """
    with open_file(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        prefix = file.read(8)
        head = prefix + file.read(_header_length(prefix, size, path))
    return parse_header(head, size, path)


def _header_length(prefix: bytes, size: int, path: Path) -> int:
    """Bytes of the JSON, as the first eight bytes of a file of ``size`` bytes say."""
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > min(MAX_HEADER, size - 8):
        raise InvalidInput(
            f"{path}: no safetensors file: a header of {length} bytes in a file of {size}"
        )
    return length


def parse_header(head: bytes, size: int, path: Path) -> Header:
    """Check the header of a safetensors file.

    Args:
        head: the first bytes of the file, at least all before the data.
        size: of the file.
        path: of the file, for messages.

    Raises:
        InvalidInput: as :func:`read_header`.
    """
    length = _header_length(head[:8], size, path)
    prefix, data = head[:8], head[8 : 8 + length]
    try:
        check_values(data)
        document = json.loads(data.decode(), object_pairs_hook=no_duplicates)
        if not isinstance(document, dict):
            raise ValueError("the header is not a JSON object")
        metadata = document.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(
            isinstance(value, str) for value in metadata.values()
        ):
            raise ValueError("__metadata__ is not a map of strings")
        "".join((*metadata, *metadata.values())).encode()  # JSON can spell half a character
        if len(document) > MAX_TENSORS:
            raise ValueError(f"{len(document)} tensors, at most {MAX_TENSORS} are read")
        rows = sorted(
            (_entry(name, value) for name, value in document.items()),
            key=lambda row: (row[1], row[2], row[0].name),
        )
        position = 0
        for entry, begin, end in rows:
            if begin != position:
                raise ValueError(
                    f"{entry.name}: begins at {begin}, the one before ends at {position}"
                )
            position = end
        if 8 + length + position != size:
            raise ValueError(f"the tensors end at byte {8 + length + position}, the file at {size}")
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: bad safetensors header: {error}") from error
    start = 8 + length
    return Header(
        entries=tuple(entry for entry, _, _ in rows),
        begins={entry.name: start + begin for entry, begin, _ in rows},
        metadata=metadata,
        data_start=start,
        sha256=hashlib.sha256(prefix + data).hexdigest(),
    )


def file_order(entries: Iterable[TensorEntry]) -> list[TensorEntry]:
    """The order in which ``save_file`` lays tensors out: by dtype, wider first, then by name."""
    return sorted(entries, key=lambda entry: (-_RANK[entry.dtype], entry.name))


def render_header(entries: Sequence[TensorEntry], metadata: Mapping[str, str]) -> bytes:
    """The bytes before the data, for tensors in :func:`file_order`."""
    document: dict[str, Any] = {}
    if metadata:
        document["__metadata__"] = dict(sorted(metadata.items()))
    ends = accumulate(entry.size for entry in entries)
    for entry, end in zip(entries, ends, strict=True):
        document[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [end - entry.size, end],
        }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class WrittenCheckpoint:
    """What :func:`write_checkpoint` wrote; with the file's size it covers every byte of it.

    Attributes:
        header_sha256: SHA-256 of the bytes before the data.
        tensors: the tensors in file order, each with the SHA-256 of its data.
    """

    header_sha256: str
    tensors: tuple[tuple[TensorEntry, str], ...]

    def cut(self) -> Tensors:
        """The pieces it consists of."""
        rows = [(entry.name, entry.size, sha256) for entry, sha256 in self.tensors]
        return Tensors(header=self.header_sha256, tensors=rows)


def describe_tensors(entries: Iterable[TensorEntry]) -> dict[str, Any]:
    """What ``metadata.json`` says about a checkpoint's tensors; dtypes by torch's names."""
    return {
        "tensors": {
            entry.name: {
                "dtype": DTYPE_NAMES.get(entry.dtype, entry.dtype),
                "shape": list(entry.shape),
            }
            for entry in entries
        }
    }


def write_checkpoint(
    file: HashedFile,
    entries: Iterable[TensorEntry],
    metadata: Mapping[str, str] | bytes,
    read: Callable[[TensorEntry], Iterable[memoryview]],
) -> WrittenCheckpoint:
    """Write a safetensors file tensor by tensor.

    Tensors are read and hashed in one thread, the file is hashed and written in another.

    Args:
        file: a new file.
        entries: the tensors, in any order.
        metadata: ``__metadata__``, written in key order; or all bytes before the data, of these
            tensors in :func:`file_order`.
        read: called for each tensor in :func:`file_order`; yields its data in its target dtype,
            row-major, little-endian, in pieces that are valid as :func:`pipeline.ahead` asks.

    Raises:
        ValueError: if ``read`` yields more or fewer bytes than the entry has.
        OSError: ENOSPC before the first tensor is read.
    """
    ordered = file_order(entries)
    header = metadata if isinstance(metadata, bytes) else render_header(ordered, metadata)
    file.reserve(len(header) + sum(entry.size for entry in ordered))
    file.write(header)
    written: list[tuple[TensorEntry, str]] = []

    def pieces() -> Iterator[memoryview]:
        for entry in ordered:
            digest = hashlib.sha256()
            size = 0
            for piece in read(entry):
                digest.update(piece)
                size += piece.nbytes
                yield piece
            if size != entry.size:
                raise ValueError(f"{entry.name}: {size} bytes for a tensor of {entry.size}")
            written.append((entry, digest.hexdigest()))

    with closing(ahead(pieces())) as stream:
        for piece in stream:
            file.write(piece)
    return WrittenCheckpoint(hashlib.sha256(header).hexdigest(), tuple(written))
