"""Micro models: whole attention heads, feed-forward units and hidden channels cut from a model.

One set of hidden channels is used everywhere; feed-forward units are cut jointly in w1, w2 and w3;
heads are cut whole, because rotary embeddings pair channels within a head. What is kept is what has
the largest sum of absolute weights, ties broken by index, in source order. That is simple and
deterministic, and no claim of quality. The sums are exact integers (in units of 2^-24, the spacing
of float16's smallest numbers), so that they do not depend on the order of summation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact, SpecError
from wmtp_assets.base.progress import Progress
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import MicroSpec, ModelSpec
from wmtp_assets.checkpoints.beside import (
    MODEL_FILES,
    TOKENIZER_FOLDER,
    checkpoint_metadata,
    describe,
)
from wmtp_assets.checkpoints.convert import cast, tensor_bytes
from wmtp_assets.checkpoints.families import FAMILIES, META, Block, Family
from wmtp_assets.checkpoints.params import MetaParams, parse_config, parse_params
from wmtp_assets.checkpoints.safetensors_file import (
    DTYPE_CODES,
    DTYPE_NAMES,
    Header,
    TensorEntry,
    read_header,
    write_checkpoint,
)
from wmtp_assets.checkpoints.tokenizer import place_tokenizer
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.pieces import HEADER, tensor_place
from wmtp_assets.storage.store import repair_command

if TYPE_CHECKING:
    import torch

_UNIT = 2.0**24
_ROWS = 256

ReadTensor = Callable[[str], "torch.Tensor"]
"""Name → tensor, shape and dtype as in the parent."""


def micro_params(parent: MetaParams, spec: MicroSpec) -> MetaParams:
    """The parameters of the micro model.

    Raises:
        SpecError: naming the field, if the shape cannot be cut from the parent's by whole heads.
    """
    shape = spec.shape
    params = parent.model_copy(update=shape.model_dump())
    heads, kv_heads = params.n_heads, params.kv_heads
    limits = {"dim": parent.dim, "n_heads": parent.n_heads, "n_kv_heads": parent.kv_heads}
    problems = [
        *(
            (
                getattr(shape, field) > limit,
                f"shape.{field} is {getattr(shape, field)}, {spec.parent} has {limit}",
            )
            for field, limit in limits.items()
        ),
        (
            params.dim % heads != 0 or params.head_dim != parent.head_dim,
            f"shape.dim {params.dim} with shape.n_heads {heads} cuts heads apart: {spec.parent} "
            f"has heads of {parent.head_dim} channels",
        ),
        (
            heads * parent.kv_heads != kv_heads * parent.n_heads,
            f"shape.n_heads {heads} on shape.n_kv_heads {kv_heads}; {spec.parent} has "
            f"{parent.n_heads} on {parent.kv_heads}, and whole groups are cut",
        ),
        (
            not 1 <= params.n_trunk <= parent.n_trunk,
            f"shape.n_layers {shape.n_layers} asks for {params.n_trunk} trunk layers, "
            f"{spec.parent} has {parent.n_trunk}",
        ),
        (
            shape.ffn_dim_multiplier > parent.intermediate_size,
            f"shape.ffn_dim_multiplier is {shape.ffn_dim_multiplier:g}, a factor of about 1",
        ),
    ]
    for is_wrong, problem in problems:
        if is_wrong:
            raise SpecError(f"{spec.name}: {problem}")
    if params.intermediate_size > parent.intermediate_size:  # of a factor that is one
        raise SpecError(
            f"{spec.name}: shape.multiple_of and shape.ffn_dim_multiplier make a feed-forward size "
            f"of {params.intermediate_size}, {spec.parent} has {parent.intermediate_size}"
        )
    return params


def source_blocks(family: Family, parent: MetaParams, micro: MetaParams) -> dict[str, str]:
    """Micro block → parent block.

    A single trunk layer is the parent's last (the next-token head); several are evenly spaced, the
    first and the last included. Extra heads come from the extra heads of the same number.
    """
    last, gaps = parent.n_trunk - 1, micro.n_trunk - 1
    trunk = [i * last // gaps for i in range(micro.n_trunk)] if gaps else [last]
    return {f"{family.layers}.{i}": f"{family.layers}.{it}" for i, it in enumerate(trunk)} | {
        f"{family.extra_heads}.{i}": f"{family.extra_heads}.{i}" for i in range(micro.n_extra_heads)
    }


def magnitude(weight: torch.Tensor, dim: int) -> torch.Tensor:
    """Sums of absolute values of a matrix, exact.

    Args:
        weight: shape [rows, columns], floating point.
        dim: 0 for a sum per column, 1 for a sum per row.

    Returns:
        int64, in units of 2^-24; right as long as no sum exceeds 2^39, about 5.5e11.
    """
    import torch

    parts = [(rows.double().abs() * _UNIT).round().long().sum(dim) for rows in weight.split(_ROWS)]
    return torch.stack(parts).sum(0) if dim == 0 else torch.cat(parts)


def largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the ``count`` largest scores, ascending; of equal scores the first ones."""
    order = scores.sort(descending=True, stable=True).indices
    return order[:count].sort().values


def _rows_of(groups: torch.Tensor, size: int) -> torch.Tensor:
    """Row indices of whole groups of ``size`` consecutive rows."""
    return (groups[:, None] * size + groups.new_tensor(range(size))).reshape(-1)


def _cut_attention(
    read: ReadTensor, names: Block, parent: MetaParams, micro: MetaParams, channels: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    wq, wk, wv, wo = map(read, (names.query, names.key, names.value, names.output))
    query_rows = magnitude(wq, 1) + magnitude(wo, 0)
    kv_rows = magnitude(wk, 1) + magnitude(wv, 1)
    groups = parent.kv_heads
    scores = query_rows.view(groups, -1).sum(1) + kv_rows.view(groups, -1).sum(1)
    kept = largest(scores, micro.kv_heads)
    queries = _rows_of(kept, parent.dim // groups)
    keys = _rows_of(kept, parent.head_dim)
    yield names.query, wq[queries][:, channels]
    yield names.key, wk[keys][:, channels]
    yield names.value, wv[keys][:, channels]
    yield names.output, wo[channels][:, queries]


def _cut_feed_forward(
    read: ReadTensor, names: Block, micro: MetaParams, channels: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    gate, down, up = map(read, (names.gate, names.down, names.up))
    scores = magnitude(gate, 1) + magnitude(up, 1) + magnitude(down, 0)
    units = largest(scores, micro.intermediate_size)
    yield names.gate, gate[units][:, channels]
    yield names.down, down[channels][:, units]
    yield names.up, up[units][:, channels]


def cut(
    read: ReadTensor,
    family: Family,
    parent: MetaParams,
    micro: MetaParams,
    *,
    tied: bool = True,
    has_output: bool = True,
) -> dict[str, torch.Tensor]:
    """Cut a micro model out of a parent's tensors.

    At most the tensors of one block and the embedding are in memory, beside the result.

    Args:
        tied: without the output matrix: its readers use the embedding.
        has_output: whether the parent has one; the embedding is that of a tied parent.

    Returns:
        Name → contiguous tensor in the parent's dtype.
    """
    embedding = read(family.embedding)
    channels = largest(magnitude(embedding, 0), micro.dim)
    tensors = {family.embedding: embedding[:, channels]}
    del embedding
    names = family.block
    for target, source in source_blocks(family, parent, micro).items():

        def read_part(name: str, source: str = source) -> torch.Tensor:
            return read(f"{source}.{name}.weight")

        for name, tensor in (
            *_cut_attention(read_part, names, parent, micro, channels),
            *_cut_feed_forward(read_part, names, micro, channels),
            *((n, read_part(n)[channels]) for n in (names.attention_norm, names.feed_forward_norm)),
        ):
            tensors[f"{target}.{name}.weight"] = tensor
    tensors[family.norm] = read(family.norm)[channels]
    if not tied:
        tensors[family.output] = (
            read(family.output)[:, channels] if has_output else tensors[family.embedding]
        )
    if family.value_head:
        tensors[family.value_head] = read(family.value_head)[:, channels]
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


@contextmanager
def verified_parent(
    build: Build[MicroSpec], parent: Artifact[ModelSpec]
) -> Iterator[tuple[Path, Header, ReadTensor]]:
    """Path and verified header of the parent's checkpoint, and what reads one of its tensors, once.

    Each tensor is checked as it is read; those that nobody read are at the end: a damaged parent
    makes no micro model, wherever it is damaged. A file without hashes of its tensors is verified
    as a whole before.

    Raises:
        CorruptArtifact: here or as a tensor is read, if it is not the committed one.
    """
    import torch

    store, checkpoint = build.store, MODEL_FILES.checkpoint
    try:
        path, verify = store.open_verified(parent, checkpoint, build.say)
    except MissingArtifact as error:
        raise CorruptArtifact(str(error)) from error
    hashes = {piece.place: piece.sha256 for piece in store.pieces(parent).get(checkpoint, [])}
    verify(0, 1 if HEADER in hashes else path.stat().st_size)
    header = read_header(path)
    entries = {entry.name: entry for entry in header.entries}
    unread = [*entries]
    progress = Progress(
        f"cutting {build.spec.name}", sum(entry.size for entry in header.entries), build.say
    )

    def read(name: str) -> torch.Tensor:
        entry = entries[name]
        buffer = bytearray(entry.size)
        with path.open("rb") as file:
            file.seek(header.begins[name])
            count = file.readinto(buffer)
        found = hashlib.sha256(buffer).hexdigest()
        expected = hashes.get(tensor_place(name)) if HEADER in hashes else found
        if count != entry.size or found != expected:
            raise CorruptArtifact(
                f"{path}: tensor {name} is damaged: SHA-256 {found}, but {parent.key} was "
                f"committed with {expected}. Repair it with: {repair_command(parent.key)}"
            )
        unread.remove(name)
        progress.advance(count)
        dtype: torch.dtype = getattr(torch, DTYPE_NAMES[entry.dtype])
        return torch.frombuffer(buffer, dtype=dtype).reshape(entry.shape)

    yield path, header, read
    for name in list(unread):
        read(name)


def build_micro(build: Build[MicroSpec]) -> Document:
    """Cut the micro model from its parent's verified tensors.

    Raises:
        CorruptArtifact: if a tensor of the parent is not the committed one.
        SpecError: if the shape cannot be cut from the parent.
        InvalidInput: if the result is larger than the spec allows.
    """
    import torch

    spec, store = build.spec, build.store
    parent = build.upstream("safetensors")
    parent_params = parse_params(
        store.read(parent, MODEL_FILES.params), str(store.path(parent, MODEL_FILES.params))
    )
    params = micro_params(parent_params, spec)
    family = FAMILIES[store.catalogue.family(spec)]
    where = str(store.path(parent, MODEL_FILES.config))
    config = None if family is META else parse_config(store.read(parent, MODEL_FILES.config), where)
    with verified_parent(build, parent) as (path, header, read):
        has_output = family.output in header.shapes
        tensors = cut(read, family, parent_params, params, tied=spec.tied, has_output=has_output)
    target: torch.dtype = getattr(torch, spec.dtype)
    entries = [
        TensorEntry(name, DTYPE_CODES[spec.dtype], tuple(tensor.shape))
        for name, tensor in tensors.items()
    ]

    def pieces(entry: TensorEntry) -> Iterator[memoryview]:
        yield tensor_bytes(cast(tensors[entry.name], target, f"{path}: {entry.name}"))

    with build.staged.create(MODEL_FILES.checkpoint, in_parts=False) as file:
        metadata = checkpoint_metadata(spec.folder, spec.dtype)
        written = write_checkpoint(file, entries, metadata, pieces)
    size = build.staged.files[MODEL_FILES.checkpoint].size
    if size >= spec.max_bytes:
        raise InvalidInput(
            f"{spec.name}: model.safetensors is {size} bytes, not under {spec.max_bytes}"
        )
    place_tokenizer(build, TOKENIZER_FOLDER)
    return describe(
        build,
        params,
        written,
        config,
        source=store.manifest(parent).document["source"],
        conversion={
            "from_dtype": sorted({DTYPE_NAMES[entry.dtype] for entry in header.entries}),
            "to_dtype": spec.dtype,
            "dropped": [family.output] if spec.tied and has_output else [],
            "aliased": {} if has_output and not spec.tied else {family.output: family.embedding},
            "blocks": source_blocks(family, parent_params, params),
        },
    )
