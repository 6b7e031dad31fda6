"""Loading a checkpoint of which every byte was verified."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.checkpoints.safetensors_file import MAX_HEADER, Header, parse_header
from wmtp_assets.storage.pieces import HEADER, tensor_place
from wmtp_assets.storage.verified import VerifiedFile, read_verified

if TYPE_CHECKING:
    import torch

TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "C64": "complex64",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
"""Header code → torch's name."""


def load_verified(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, each in private memory that was hashed.

    Where ``pieces.json`` has the hashes of header and tensors, each tensor has memory of its own;
    else all share what the whole file was read into. Tensors are on the CPU, in the file's dtype,
    in file order.

    Raises:
        MissingArtifact, CorruptArtifact: as :func:`wmtp_assets.storage.verified.read_verified`.
        InvalidInput: if the committed bytes are not a safetensors file.
        OSError: if the file cannot be read, or there is too little memory.
    """
    return read_verified(path, _tensors)


def _tensors(file: VerifiedFile) -> dict[str, torch.Tensor]:
    size, path = file.listed.record.size, file.listed.path
    first = file.pieces[0]
    if first.place != HEADER:
        whole = file.read_whole()
        header = parse_header(whole[: MAX_HEADER + 8].tobytes(), size, path)
        ends = [*header.begins.values(), size]
        data = [whole[begin:end] for begin, end in pairwise(ends)]
    else:
        if first.end > MAX_HEADER + 8:
            raise file.listed.refused(f"a header of {first.end} bytes", f"{MAX_HEADER} at most")
        header = parse_header(file.read(first).tobytes(), size, path)
        _require_same(file, header)
        data = file.read_each(file.pieces[1:])
    return {
        entry.name: _tensor(view, entry.dtype, entry.shape)
        for entry, view in zip(header.entries, data, strict=True)
    }


def _require_same(file: VerifiedFile, header: Header) -> None:
    """The pieces are the header and the tensors that it lists."""
    begins = {tensor_place(name): begin for name, begin in header.begins.items()}
    if {piece.place: piece.begin for piece in file.pieces[1:]} != begins:
        raise CorruptArtifact(
            f"{file.listed.path}: the pieces beside {file.listed.where} are not the tensors of the "
            f"header. Find out more with: wmtp verify {file.listed.key}"
        )


def _tensor(view: memoryview, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    kind: torch.dtype = getattr(torch, TORCH_NAMES[dtype])
    if not prod(shape):
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(view, dtype=kind).reshape(shape)
