"""Micro models: whole attention heads, feed-forward units and hidden channels cut from a model.

One set of hidden channels is used everywhere; feed-forward units are cut jointly in w1, w2 and w3;
heads are cut whole, because rotary embeddings pair channels within a head. What is kept is what has
the largest sum of absolute weights, ties broken by index, in source order. That is simple and
deterministic, and no claim of quality. The sums are exact integers (in units of 2^-24, the spacing
of float16's smallest numbers), so that they do not depend on the order of summation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.build import Build
from wmtp_assets.checkpoints.configs import (
    CHECKPOINT,
    PARAMS,
    model_document,
    write_configs,
)
from wmtp_assets.checkpoints.convert import cast, tensor_bytes
from wmtp_assets.checkpoints.params import EMBEDDING, MetaParams, parse_params
from wmtp_assets.checkpoints.safetensors_file import (
    DTYPE_CODES,
    DTYPE_NAMES,
    Header,
    TensorEntry,
    read_header,
    write_checkpoint,
)
from wmtp_assets.errors import CorruptArtifact, InvalidInput, SpecError
from wmtp_assets.manifest import Document
from wmtp_assets.progress import Progress
from wmtp_assets.specs import MicroSpec
from wmtp_assets.store import materialize_command

if TYPE_CHECKING:
    import torch

_UNIT = 2.0**24
_ROWS = 4096

ReadTensor = Callable[[str], "torch.Tensor"]
"""Name → tensor, shape and dtype as in the parent."""


def micro_params(parent: MetaParams, spec: MicroSpec) -> MetaParams:
    """The parameters of the micro model.

    Raises:
        SpecError: naming the field, if the shape cannot be cut from the parent's by whole heads.
    """
    shape = spec.shape
    params = parent.model_copy(update=shape.model_dump())
    for field, limit in (
        ("dim", parent.dim),
        ("n_heads", parent.n_heads),
        ("n_kv_heads", parent.kv_heads),
    ):
        if getattr(shape, field) > limit:
            raise SpecError(
                f"{spec.name}: shape.{field} is {getattr(shape, field)}, {spec.parent} has {limit}"
            )
    if params.dim % params.n_heads or params.head_dim != parent.head_dim:
        raise SpecError(
            f"{spec.name}: shape.dim {params.dim} with shape.n_heads {params.n_heads} cuts heads "
            f"apart: {spec.parent} has heads of {parent.head_dim} channels"
        )
    if params.n_heads * parent.kv_heads != params.kv_heads * parent.n_heads:
        raise SpecError(
            f"{spec.name}: shape.n_heads {params.n_heads} on shape.n_kv_heads {params.kv_heads}; "
            f"{spec.parent} has {parent.n_heads} on {parent.kv_heads}, and whole groups are cut"
        )
    if params.n_trunk < 1 or params.n_trunk > parent.n_trunk:
        raise SpecError(
            f"{spec.name}: shape.n_layers {shape.n_layers} asks for {params.n_trunk} trunk layers, "
            f"{spec.parent} has {parent.n_trunk}"
        )
    if shape.ffn_dim_multiplier > parent.intermediate_size:
        raise SpecError(
            f"{spec.name}: shape.ffn_dim_multiplier is {shape.ffn_dim_multiplier:g}, a factor of "
            "about 1"
        )
    if params.intermediate_size > parent.intermediate_size:
        raise SpecError(
            f"{spec.name}: shape.multiple_of and shape.ffn_dim_multiplier make a feed-forward size "
            f"of {params.intermediate_size}, {spec.parent} has {parent.intermediate_size}"
        )
    return params


def source_blocks(parent: MetaParams, micro: MetaParams) -> dict[str, str]:
    """Micro block → parent block.

    A single trunk layer is the parent's last (the next-token head); several are evenly spaced, the
    first and the last included. Extra heads come from the extra heads of the same number.
    """
    if micro.n_trunk == 1:
        trunk = [parent.n_trunk - 1]
    else:
        trunk = [i * (parent.n_trunk - 1) // (micro.n_trunk - 1) for i in range(micro.n_trunk)]
    return {f"layers.{i}": f"layers.{source}" for i, source in enumerate(trunk)} | {
        f"extra_heads.{i}": f"extra_heads.{i}" for i in range(micro.n_extra_heads)
    }


def magnitude(weight: torch.Tensor, dim: int) -> torch.Tensor:
    """Sums of absolute values of a matrix, exact.

    Args:
        weight: shape [rows, columns], floating point.
        dim: 0 for a sum per column, 1 for a sum per row.

    Returns:
        int64, in units of 2^-24.
    """
    import torch

    parts = [(rows.double().abs() * _UNIT).round().long().sum(dim) for rows in weight.split(_ROWS)]
    return torch.stack(parts).sum(0) if dim == 0 else torch.cat(parts)


def largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the ``count`` largest scores, ascending; of equal scores the first ones."""
    import torch

    order = torch.sort(scores, descending=True, stable=True).indices
    return order[:count].sort().values


def _rows_of(groups: torch.Tensor, size: int) -> torch.Tensor:
    """Row indices of whole groups of ``size`` consecutive rows."""
    import torch

    return (groups[:, None] * size + torch.arange(size)).reshape(-1)


def _cut_attention(
    read: ReadTensor, source: str, parent: MetaParams, micro: MetaParams, channels: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    wq, wk, wv, wo = (
        read(f"{source}.attention.{name}.weight") for name in ("wq", "wk", "wv", "wo")
    )
    query_rows = magnitude(wq, 1) + magnitude(wo, 0)
    kv_rows = magnitude(wk, 1) + magnitude(wv, 1)
    groups = parent.kv_heads
    scores = query_rows.view(groups, -1).sum(1) + kv_rows.view(groups, -1).sum(1)
    kept = largest(scores, micro.kv_heads)
    queries = _rows_of(kept, parent.dim // groups)
    keys = _rows_of(kept, parent.head_dim)
    yield "attention.wq.weight", wq[queries][:, channels]
    yield "attention.wk.weight", wk[keys][:, channels]
    yield "attention.wv.weight", wv[keys][:, channels]
    yield "attention.wo.weight", wo[channels][:, queries]


def _cut_feed_forward(
    read: ReadTensor, source: str, micro: MetaParams, channels: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    w1, w2, w3 = (read(f"{source}.feed_forward.{name}.weight") for name in ("w1", "w2", "w3"))
    units = largest(magnitude(w1, 1) + magnitude(w3, 1) + magnitude(w2, 0), micro.intermediate_size)
    yield "feed_forward.w1.weight", w1[units][:, channels]
    yield "feed_forward.w2.weight", w2[channels][:, units]
    yield "feed_forward.w3.weight", w3[units][:, channels]


def cut(read: ReadTensor, parent: MetaParams, micro: MetaParams) -> dict[str, torch.Tensor]:
    """Cut a micro model of Meta's family out of a parent's tensors, embeddings tied.

    At most the tensors of one block and the embedding are in memory, beside the result.

    Returns:
        Name → contiguous tensor in the parent's dtype; no ``output.weight``.
    """
    embedding = read(EMBEDDING)
    channels = largest(magnitude(embedding, 0), micro.dim)
    tensors = {EMBEDDING: embedding[:, channels]}
    del embedding
    for target, source in source_blocks(parent, micro).items():
        for name, tensor in _cut_attention(read, source, parent, micro, channels):
            tensors[f"{target}.{name}"] = tensor
        for name, tensor in _cut_feed_forward(read, source, micro, channels):
            tensors[f"{target}.{name}"] = tensor
        for name in ("attention_norm.weight", "ffn_norm.weight"):
            tensors[f"{target}.{name}"] = read(f"{source}.{name}")[channels]
    tensors["norm.weight"] = read("norm.weight")[channels]
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def verified_reader(path: Path, header: Header, hashes: Mapping[str, str], key: str) -> ReadTensor:
    """A function that reads one tensor of a safetensors file and checks its hash.

    Args:
        path: the file.
        header: its header.
        hashes: name → SHA-256 of the tensor's data, from the manifest.
        key: the asset the file belongs to, for the error.
    """
    import torch

    entries = {entry.name: entry for entry in header.entries}

    def read(name: str) -> torch.Tensor:
        entry = entries[name]
        buffer = bytearray(entry.size)
        with path.open("rb") as file:
            file.seek(header.begins[name])
            count = file.readinto(buffer)
        found = hashlib.sha256(buffer).hexdigest()
        if count != entry.size or found != hashes.get(name):
            raise CorruptArtifact(
                f"{path}: tensor {name} is damaged: SHA-256 {found}, but {key} was committed with "
                f"{hashes.get(name)}. Make it again with: {materialize_command(key)}"
            )
        dtype: torch.dtype = getattr(torch, DTYPE_NAMES[entry.dtype])
        return torch.frombuffer(buffer, dtype=dtype).reshape(entry.shape)

    return read


def parent_header(build: Build, key: str) -> tuple[Path, Header, Mapping[str, str]]:
    """Path, header and per-tensor hashes of the parent's checkpoint.

    Raises:
        CorruptArtifact: if the header is not the committed one.
    """
    parent = build.upstream(key)
    path = build.store.path(parent, CHECKPOINT)
    described: Any = build.store.manifest(parent).document["checkpoint"]
    try:
        header = read_header(path)
    except (InvalidInput, FileNotFoundError) as error:
        raise CorruptArtifact(f"{error}. Make it again with: {materialize_command(key)}") from error
    if header.sha256 != described["header_sha256"]:
        raise CorruptArtifact(
            f"{path}: the header is damaged: SHA-256 {header.sha256}, but {key} was committed with "
            f"{described['header_sha256']}. Make it again with: {materialize_command(key)}"
        )
    return path, header, {name: row["sha256"] for name, row in described["tensors"].items()}


def build_micro(build: Build) -> Document:
    """Cut the micro model from its parent's verified tensors.

    Raises:
        CorruptArtifact: if a tensor of the parent is not the committed one.
        SpecError: if the shape cannot be cut from the parent.
        InvalidInput: if the result is larger than the spec allows.
    """
    import torch

    spec = build.artifact.spec
    assert isinstance(spec, MicroSpec)
    store = build.store
    parent_key, tokenizer_key = build.artifact.upstream
    parent, tokenizer = build.upstream(parent_key), build.upstream(tokenizer_key)
    parent_params = parse_params(store.read(parent, PARAMS), str(store.path(parent, PARAMS)))
    params = micro_params(parent_params, spec)

    path, header, hashes = parent_header(build, parent_key)
    read = verified_reader(path, header, hashes, parent_key)
    total = sum(entry.size for entry in header.entries)
    reading = Progress(f"cutting {spec.name}", total, build.say)
    unread = dict.fromkeys(entry.name for entry in header.entries)

    def read_and_count(name: str) -> torch.Tensor:
        tensor = read(name)
        del unread[name]
        reading.advance(tensor.nbytes)
        return tensor

    tensors = cut(read_and_count, parent_params, params)
    for name in list(unread):  # a damaged parent makes no micro model, wherever it is damaged
        read_and_count(name)
    target: torch.dtype = getattr(torch, spec.dtype)
    entries = [
        TensorEntry(name, DTYPE_CODES[spec.dtype], tuple(tensor.shape))
        for name, tensor in tensors.items()
    ]

    def pieces(entry: TensorEntry) -> Iterator[memoryview]:
        yield tensor_bytes(cast(tensors[entry.name], target, f"{path}: {entry.name}"))

    with build.staged.create(CHECKPOINT) as file:
        written = write_checkpoint(
            file, entries, {"format": "pt", "model_name": spec.folder}, pieces
        )
    size = build.staged.files[CHECKPOINT].size
    if size >= spec.max_bytes:
        raise InvalidInput(
            f"{spec.name}: model.safetensors is {size} bytes, not under {spec.max_bytes}"
        )
    for name in ("tokenizer.model", "tokenizer_config.json"):
        build.staged.write(f"tokenizer/{name}", store.read(tokenizer, name))
    write_configs(build, params, written)
    return model_document(
        build,
        written,
        build.staged.files["tokenizer/tokenizer.model"],
        version=spec.version,
        target_device=spec.target_device,
        shared_with=parent.spec.folder,
        source=store.manifest(parent).document["source"],
        conversion={
            "from_dtype": sorted({DTYPE_NAMES[entry.dtype] for entry in header.entries}),
            "to_dtype": spec.dtype,
            "dropped": ["output.weight"],
            "aliased": {"output.weight": EMBEDDING},
            "blocks": source_blocks(parent_params, params),
        },
    )
