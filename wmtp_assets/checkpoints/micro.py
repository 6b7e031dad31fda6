"""Micro models: whole attention heads, feed-forward units and hidden channels cut from a model.

One set of hidden channels is used everywhere; feed-forward units are cut jointly in w1, w2 and w3;
heads are cut whole, because rotary embeddings pair channels within a head. What is kept is what has
the largest sum of absolute weights, ties broken by index, in source order. That is simple and
deterministic, and no claim of quality. The sums are exact integers (in units of 2^-24, the spacing
of float16's smallest numbers), so that they do not depend on the order of summation.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact, SpecError
from wmtp_assets.base.progress import Progress
from wmtp_assets.base.settings import read_workers
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import MicroSpec, ModelSpec
from wmtp_assets.checkpoints.architecture import Shapes, prove, prove_llama
from wmtp_assets.checkpoints.beside import (
    MODEL_FILES,
    TOKENIZER_FOLDER,
    checkpoint_metadata,
    describe,
)
from wmtp_assets.checkpoints.convert import cast, one_thread_each, tensor_bytes
from wmtp_assets.checkpoints.families import FAMILIES, Axis, Block, Family
from wmtp_assets.checkpoints.llama_like import LlamaLike, llama_like
from wmtp_assets.checkpoints.params import (
    MetaParams,
    feed_forward_size,
    llama_config,
    parse_config,
    parse_params,
)
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
from wmtp_assets.storage.files import BLOCK, hash_range, open_regular, read_ahead
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.pieces import HEADER, tensor_place
from wmtp_assets.storage.store import materialize_command, repair_command

if TYPE_CHECKING:
    import torch

_UNIT = 2.0**24
_ROWS = 256


@dataclass(frozen=True)
class Rows:
    """A tensor of the parent, as it is read.

    Attributes:
        parts: its rows in order, some at a time; each is valid until the next one is asked for. A
            vector comes in such parts too.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    parts: Iterable[torch.Tensor]


ReadRows = Callable[[str], Rows]
"""Name → tensor, shape and dtype as in the parent."""


class Sizes(Protocol):
    """What a cut must know of a model, as :class:`MetaParams` says it."""

    @property
    def dim(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def n_trunk(self) -> int: ...
    @property
    def n_extra_heads(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...


def check_shape(spec: MicroSpec, parent: Sizes, *, is_square: bool) -> None:
    """Require that the shape of a micro model can be cut from the parent by whole heads.

    Args:
        is_square: whether all heads together are as wide as the hidden size.

    Raises:
        SpecError: naming the field.
    """
    shape = spec.shape
    heads, kv_heads = shape.n_heads, shape.n_kv_heads
    n_trunk = shape.n_layers - parent.n_extra_heads
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
            is_square and heads * parent.head_dim != shape.dim,
            f"shape.dim {shape.dim} with shape.n_heads {heads} cuts heads apart: {spec.parent} "
            f"has heads of {parent.head_dim} channels",
        ),
        (
            heads * parent.kv_heads != kv_heads * parent.n_heads,
            f"shape.n_heads {heads} on shape.n_kv_heads {kv_heads}; {spec.parent} has "
            f"{parent.n_heads} on {parent.kv_heads}, and whole groups are cut",
        ),
        (
            not 1 <= n_trunk <= parent.n_trunk,
            f"shape.n_layers {shape.n_layers} asks for {n_trunk} trunk layers, "
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
    units = feed_forward_size(shape.dim, shape.multiple_of, shape.ffn_dim_multiplier)
    if units > parent.intermediate_size:  # of a factor that is one
        raise SpecError(
            f"{spec.name}: shape.multiple_of and shape.ffn_dim_multiplier make a feed-forward size "
            f"of {units}, {spec.parent} has {parent.intermediate_size}"
        )


def micro_params(parent: MetaParams, spec: MicroSpec) -> MetaParams:
    """The parameters of the micro model.

    Raises:
        SpecError: as :func:`check_shape`.
    """
    check_shape(spec, parent, is_square=True)
    return parent.model_copy(update=spec.shape.model_dump())


def micro_config(
    parent: Document, shapes: Shapes, spec: MicroSpec, where: str
) -> tuple[LlamaLike, LlamaLike, Document]:
    """The sizes of a parent without Meta's parameters and of the micro model, and the
    ``config.json`` of that.

    Args:
        parent, shapes: ``config.json`` and tensors of the parent, in the file ``where``.

    Raises:
        SpecError: as :func:`check_shape` and :func:`llama_like`.
    """
    theirs = llama_like(parent, shapes, where)
    check_shape(spec, theirs, is_square=False)
    ours = theirs.cut_to(spec.shape)
    return theirs, ours, ours.config(parent, trunk_blocks(theirs, ours), tied=spec.tied)


def trunk_blocks(parent: Sizes, micro: Sizes) -> list[int]:
    """The number in the parent of each trunk layer of the micro model.

    A single one is the parent's last (the next-token head); several are evenly spaced, the first
    and the last included.
    """
    last, gaps = parent.n_trunk - 1, micro.n_trunk - 1
    return [i * last // gaps for i in range(micro.n_trunk)] if gaps else [last]


def source_blocks(family: Family, parent: Sizes, micro: Sizes) -> dict[str, str]:
    """Micro block → parent block; extra heads come from the extra heads of the same number."""
    trunk = enumerate(trunk_blocks(parent, micro))
    return {f"{family.layers}.{i}": f"{family.layers}.{it}" for i, it in trunk} | {
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

    parts = [_sums(rows, dim) for rows in weight.split(_ROWS)]
    return torch.stack(parts).sum(0) if dim == 0 else torch.cat(parts)


def _sums(rows: torch.Tensor, dim: int) -> torch.Tensor:
    """:func:`magnitude` of some rows.

    Float64 adds whole numbers of units without rounding as long as no sum reaches 2^53; what might
    is added as int64, which takes longer.
    """
    import torch

    if rows.dtype == torch.float16:  # whole numbers of units as they are
        values, unit = rows.float().abs_().double(), _UNIT
    else:
        values, unit = rows.double().abs_().mul_(_UNIT).round_(), 1.0
    if float(values.max()) * unit * values.shape[dim] < 2.0**53:
        return values.sum(dim).mul_(unit).long()
    return values.mul_(unit).long().sum(dim)


def largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the ``count`` largest scores, ascending; of equal scores the first ones."""
    order = scores.sort(descending=True, stable=True).indices
    return order[:count].sort().values


def _rows_of(groups: torch.Tensor, size: int) -> torch.Tensor:
    """Row indices of whole groups of ``size`` consecutive rows."""
    return (groups[:, None] * size + groups.new_tensor(range(size))).reshape(-1)


def _narrowed(
    rows: Rows, axes: Sequence[Axis], channels: torch.Tensor, *, scored: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor cut to hidden channels where it has them.

    Args:
        axes: what its dimensions run along; of a vector the first counts.
        scored: give its :func:`magnitude` along all hidden channels, too: a number for each index
            of the other axis. Of a vector there is none.
    """
    import torch

    along = axes[: len(rows.shape)]
    dim = along.index("channels") if "channels" in along else None
    shape = [*rows.shape]
    if dim is not None:
        shape[dim] = len(channels)
    # both at once: what stays of each part would lie scattered over the heap
    kept = torch.empty(shape, dtype=rows.dtype)
    is_scored = scored and dim is not None and len(shape) > 1
    sums = torch.zeros(rows.shape[1 - dim] if is_scored and dim is not None else 0).long()
    begin = done = 0
    for part in rows.parts:
        end = begin + len(part)
        chosen = part
        if dim == 0:
            is_in_part = (channels >= begin) & (channels < end)
            chosen = part.index_select(0, channels[is_in_part] - begin)
        elif dim == 1:
            chosen = part.index_select(1, channels)
        kept[done : done + len(chosen)] = chosen
        if is_scored and dim == 0:
            sums += magnitude(part, 0)
        elif is_scored:
            sums[begin:end] = magnitude(part, 1)
        begin, done = end, done + len(chosen)
    return kept, sums


def _kept(
    scores: Mapping[str, torch.Tensor], names: Block, parent: Sizes, micro: Sizes
) -> dict[Axis, torch.Tensor]:
    """Which queries, keys and feed-forward units of a block stay: those of whole heads, each group
    of query heads with its key-value head.

    Args:
        scores: name of a matrix → its sums along the hidden channels.
    """
    wq, wk, wv, wo, gate, down, up = (
        scores[f"{name}.weight"]
        for name in (
            names.query,
            names.key,
            names.value,
            names.output,
            names.gate,
            names.down,
            names.up,
        )
    )
    groups = parent.kv_heads
    of_groups = (wq + wo).view(groups, -1).sum(1) + (wk + wv).view(groups, -1).sum(1)
    kept = largest(of_groups, micro.kv_heads)
    return {
        "queries": _rows_of(kept, len(wq) // groups),
        "keys": _rows_of(kept, parent.head_dim),
        "units": largest(gate + up + down, micro.intermediate_size),
    }


def cut(
    read: ReadRows,
    family: Family,
    parent: Sizes,
    micro: Sizes,
    *,
    parts: Iterable[str] = (),
    tied: bool = True,
    has_output: bool = True,
) -> dict[str, torch.Tensor]:
    """Cut a micro model out of a parent's tensors.

    Of each matrix only the hidden channels that stay are kept when it is read, so that beside the
    result a block of that width is in memory. The embedding, which decides about them, is read
    twice.

    Args:
        parts: the tensors of each block; empty: those that every model has.
        tied: without the output matrix: its readers use the embedding.
        has_output: whether the parent has one; the embedding is that of a tied parent.

    Returns:
        Name → contiguous tensor in the parent's dtype.
    """
    rows = (magnitude(part, 0) for part in read(family.embedding).parts)
    channels = largest(reduce(operator.add, rows), micro.dim)

    def narrowed(name: str, *axes: Axis) -> torch.Tensor:
        return _narrowed(read(name), axes, channels)[0]

    tensors = {family.embedding: narrowed(family.embedding, "units", "channels")}
    names = family.block
    for target, source in source_blocks(family, parent, micro).items():
        block: dict[str, torch.Tensor] = {}
        scores: dict[str, torch.Tensor] = {}
        for part in parts or names.weights:
            axes = names.axes[part.rpartition(".")[0]]
            block[part], scores[part] = _narrowed(
                read(f"{source}.{part}"), axes, channels, scored=True
            )
        kept = _kept(scores, names, parent, micro)
        for part, tensor in block.items():
            axes = names.axes[part.rpartition(".")[0]]
            for dim, axis in enumerate(axes[: tensor.ndim]):
                if axis != "channels":
                    tensor = tensor.index_select(dim, kept[axis])
            tensors[f"{target}.{part}"] = tensor
    tensors[family.norm] = narrowed(family.norm, "channels")
    if not tied:
        tensors[family.output] = (
            narrowed(family.output, "units", "channels")
            if has_output
            else tensors[family.embedding]
        )
    if family.value_head:
        tensors[family.value_head] = narrowed(family.value_head, "units", "channels")
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


@contextmanager
def verified_parent(
    build: Build[MicroSpec], parent: Artifact[ModelSpec]
) -> Iterator[tuple[Path, Header, ReadRows]]:
    """Path and verified header of the parent's checkpoint, and what reads one of its tensors.

    Each tensor is checked as it is read; those that nobody read are at the end: a damaged parent
    makes no micro model, wherever it is damaged. A file without hashes of its tensors is verified
    as a whole before.

    Raises:
        CorruptArtifact: here or when a tensor was read, if it is not the committed one.
        SpecError: when a tensor is asked for that it does not have: it was made as one of another
            family than its spec says now.
    """
    import torch

    store, checkpoint = build.store, MODEL_FILES.checkpoint
    try:
        path, verify = store.open_verified(parent, checkpoint, build.say)
    except MissingArtifact as error:
        raise CorruptArtifact(str(error)) from error
    hashes = {piece.place: piece.sha256 for piece in store.pieces(parent).get(checkpoint, [])}
    is_hashed = HEADER in hashes
    verify(0, 1 if is_hashed else path.stat().st_size)
    header = read_header(path)
    entries = {entry.name: entry for entry in header.entries}
    unread = {*entries}
    total = sum(entry.size for entry in header.entries)
    progress = Progress(f"cutting {build.spec.name}", total, build.say)

    def require(name: str, found: str) -> None:
        """Raise, if a tensor is not the committed one; count it, the first time."""
        if is_hashed and found != (expected := hashes.get(tensor_place(name))):
            raise CorruptArtifact(
                f"{path}: tensor {name} is damaged: SHA-256 {found}, but {parent.key} was "
                f"committed with {expected}. Repair it with: {repair_command(parent.key)}"
            )
        if name in unread:
            unread.remove(name)
            progress.advance(entries[name].size)

    def read(name: str) -> Rows:
        entry = entries.get(name)
        if entry is None:
            raise SpecError(
                f"{path}: it has no tensor {name}, which a model of the family "
                f"{parent.spec.family} has: nothing can be cut from it. If the spec of "
                f"{parent.spec.name} says the right family, make the model again with: "
                f"{materialize_command(parent.key)}"
            )
        dtype: torch.dtype = getattr(torch, DTYPE_NAMES[entry.dtype])
        return Rows(entry.shape, dtype, parts(entry, dtype))

    def parts(entry: TensorEntry, dtype: torch.dtype) -> Iterator[torch.Tensor]:
        name, begin = entry.name, header.begins[entry.name]
        row = max(entry.size // max(entry.shape[0], 1), 1)
        digest = hashlib.sha256()
        with open_regular(path) as file, ThreadPoolExecutor(1) as beside:
            step = max(BLOCK // row, 1) * row
            for block in read_ahead(file, begin, begin + entry.size, step):
                hashed = beside.submit(digest.update, block)
                if len(block) % row == 0:  # else the file ends here
                    yield torch.frombuffer(block, dtype=dtype).view(-1, *entry.shape[1:])
                hashed.result()
        require(name, digest.hexdigest())

    def digest_of(name: str) -> str:
        return hash_range(path, header.begins[name], [entries[name].size])[0]

    with one_thread_each():
        yield path, header, read
    with ThreadPoolExecutor(read_workers()) as pool:
        left = [entry.name for entry in header.entries if entry.name in unread]
        for name, found in zip(left, pool.map(digest_of, left), strict=True):
            require(name, found)


def build_micro(build: Build[MicroSpec]) -> Document:
    """Cut the micro model from its parent's verified tensors.

    Raises:
        CorruptArtifact: if a tensor of the parent is not the committed one.
        SpecError: if the shape cannot be cut from the parent, or nothing can.
        InvalidInput: if a class of transformers does not take the result, or if that is larger than
            the spec allows.
    """
    import torch

    spec, store = build.spec, build.store
    parent = build.upstream("safetensors")
    root = store.catalogue.root_of(spec)
    config = None
    if root.family != "meta_mtp":
        where = str(store.path(parent, MODEL_FILES.config))
        config = parse_config(store.read(parent, MODEL_FILES.config), where)
    params: MetaParams | None = None
    with verified_parent(build, parent) as (path, header, read):
        if root.has_params or config is None:
            where = str(store.path(parent, MODEL_FILES.params))
            theirs = parse_params(store.read(parent, MODEL_FILES.params), where)
            ours = params = micro_params(theirs, spec)
            family, parts, is_headed = FAMILIES[root.family], (), True
        else:
            theirs, ours, config = micro_config(config, header.shapes, spec, str(path))
            family, parts, is_headed = theirs.family, theirs.parts, theirs.has_output
        has_output = family.output in header.shapes
        tensors = cut(
            read,
            family,
            theirs,
            ours,
            parts=parts,
            tied=spec.tied or not is_headed,
            has_output=has_output,
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    proof, described = None, f"{spec.name}: config.json"
    if params is None and config is not None:
        proof = prove(config, shapes, spec.name, described)
    elif root.family == "llama" and params is not None:
        config_of_ours = llama_config(params, spec.dtype, spec.tied, config)
        prove_llama(config_of_ours, shapes, spec.name, described)
    target: torch.dtype = getattr(torch, spec.dtype)
    entries = [TensorEntry(name, DTYPE_CODES[spec.dtype], shape) for name, shape in shapes.items()]

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
    is_written = family.output in shapes
    is_alias = is_headed and not (is_written and has_output)
    return describe(
        build,
        params,
        written,
        config,
        source=store.manifest(parent).document["source"],
        conversion={
            "from_dtype": sorted({DTYPE_NAMES[entry.dtype] for entry in header.entries}),
            "to_dtype": spec.dtype,
            "dropped": [family.output] if has_output and not is_written else [],
            "aliased": {family.output: family.embedding} if is_alias else {},
            "blocks": source_blocks(family, theirs, ours),
        },
        proof=proof,
    )
