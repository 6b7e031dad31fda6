"""Conversion of a raw checkpoint to one safetensors file: cast, checked, hashed, in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_assets.build import Build
from wmtp_assets.checkpoints.configs import CHECKPOINT, model_document, write_configs
from wmtp_assets.checkpoints.params import (
    ROPE_BUFFERS,
    check_tensor_shapes,
    parse_params,
)
from wmtp_assets.checkpoints.safetensors_file import (
    DTYPE_CODES,
    TensorEntry,
    WrittenCheckpoint,
    write_checkpoint,
)
from wmtp_assets.checkpoints.torch_zip import StoredTensor, read_blocks, read_tensors
from wmtp_assets.errors import InvalidInput
from wmtp_assets.files import HashedFile
from wmtp_assets.manifest import Document
from wmtp_assets.progress import Progress
from wmtp_assets.specs import DType, ModelSpec

if TYPE_CHECKING:
    import torch

BLOCK = 8 << 20


def cast(values: torch.Tensor, dtype: torch.dtype, where: str) -> torch.Tensor:
    """Round a block of floats to ``dtype``, to nearest, ties to even.

    Raises:
        InvalidInput: naming the tensor (``where``), for NaN, infinity, or a number whose rounding
            is infinite: 65,520 and above in float16.
    """
    import torch

    if values.numel() == 0:
        return values.to(dtype)
    low, high = torch.aminmax(values)
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise InvalidInput(f"{where}: holds NaN or infinity")
    largest = torch.maximum(low.abs(), high.abs())
    if not torch.isfinite(largest.to(dtype)):
        raise InvalidInput(
            f"{where}: {largest.item():g} overflows {str(dtype).removeprefix('torch.')} "
            f"(largest {torch.finfo(dtype).max:g})"
        )
    return values.to(dtype)


def tensor_bytes(values: torch.Tensor) -> memoryview:
    """The elements of a contiguous tensor as bytes, without a copy."""
    import torch

    return values.reshape(-1).view(torch.uint8).numpy().data


def convert(
    checkpoint: Path,
    tensors: Mapping[str, StoredTensor],
    dtype: DType,
    metadata: Mapping[str, str],
    file: HashedFile,
    progress: Progress,
) -> WrittenCheckpoint:
    """Write ``tensors`` of ``checkpoint`` to a safetensors file in ``dtype``.

    Args:
        checkpoint: a verified zip-format torch checkpoint.
        tensors: what :func:`read_tensors` found in it and is to be written.
        progress: advanced by the bytes read.

    Raises:
        InvalidInput: naming file and tensor: no floating point of 16 to 64 bits, NaN, infinity,
            overflow.
        OSError: ENOSPC before the first tensor is read.
    """
    import torch

    target: torch.dtype = getattr(torch, dtype)
    for tensor in tensors.values():
        if tensor.dtype not in DTYPE_CODES:
            raise InvalidInput(
                f"{checkpoint}: {tensor.name} is {tensor.dtype}; expected one of "
                + ", ".join(DTYPE_CODES)
            )

    def read(entry: TensorEntry) -> Iterator[memoryview]:
        tensor = tensors[entry.name]
        for values in read_blocks(checkpoint, tensor, BLOCK):
            yield tensor_bytes(cast(values, target, f"{checkpoint}: {tensor.name}"))
            progress.advance(values.numel() * tensor.item_size)

    entries = [
        TensorEntry(tensor.name, DTYPE_CODES[dtype], tensor.shape) for tensor in tensors.values()
    ]
    return write_checkpoint(file, entries, metadata, read)


def build_safetensors(build: Build) -> Document:
    """Convert the raw checkpoint of a model of Meta's family.

    Raises:
        InvalidInput: if names, shapes or values of the tensors are not what ``params.json`` and
            the spec ask for.
        CorruptArtifact: if the raw files are not the ones that were downloaded.
    """
    spec = build.artifact.spec
    assert isinstance(spec, ModelSpec)
    store = build.store
    raw, tokenizer = (build.upstream(key) for key in build.artifact.upstream)
    params_name = f"raw/{spec.files.params}"
    params = parse_params(store.read(raw, params_name), str(store.path(raw, params_name)))

    checkpoint_name = f"raw/{spec.files.checkpoint}"
    record = store.manifest(raw).files.get(checkpoint_name)
    size = record.size if record else 0
    hashing = Progress(f"verifying {spec.files.checkpoint}", size, build.say)
    checkpoint = store.verify_file(raw, checkpoint_name, hashing.advance)

    stored = read_tensors(checkpoint)
    dropped = sorted(ROPE_BUFFERS & stored.keys())
    tensors = {name: tensor for name, tensor in stored.items() if name not in ROPE_BUFFERS}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    check_tensor_shapes(params.tensor_shapes(tied=False), found, str(checkpoint))

    total = sum(tensor.size for tensor in tensors.values())
    with build.staged.create(CHECKPOINT) as file:
        written = convert(
            checkpoint,
            tensors,
            spec.dtype,
            {"format": "pt", "model_name": spec.folder},
            file,
            Progress(f"converting to {spec.dtype}", total, build.say),
        )
    write_configs(build, params, written)
    return model_document(
        build,
        written,
        store.manifest(tokenizer).files["tokenizer.model"],
        version=spec.version,
        target_device=spec.target_device,
        shared_with=None,
        source=store.manifest(raw).document["source"],
        conversion={
            "from_dtype": sorted({tensor.dtype for tensor in tensors.values()}),
            "to_dtype": spec.dtype,
            "dropped": dropped,
            "aliased": {},
        },
    )
