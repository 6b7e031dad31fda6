"""Conversion of a raw checkpoint to one safetensors file: cast, checked, hashed, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_assets.base.errors import CorruptArtifact, DamagedRecord, InvalidInput
from wmtp_assets.base.progress import Progress, Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DType, ModelSpec
from wmtp_assets.checkpoints.architecture import Proof, Shapes, prove, prove_llama
from wmtp_assets.checkpoints.beside import checkpoint_metadata, describe, files_of
from wmtp_assets.checkpoints.families import FAMILIES
from wmtp_assets.checkpoints.params import (
    MetaParams,
    check_tensor_shapes,
    is_tied,
    parse_described,
    parse_parameters,
)
from wmtp_assets.checkpoints.pipeline import (
    AHEAD,
    BLOCK,
    Extent,
    Record,
    StoredTensor,
    read_extents,
)
from wmtp_assets.checkpoints.safetensors_file import (
    DTYPE_CODES,
    TensorEntry,
    WrittenCheckpoint,
    file_order,
    read_header,
    write_checkpoint,
)
from wmtp_assets.checkpoints.torch_zip import Verify
from wmtp_assets.checkpoints.upstream import (
    Plan,
    Upstream,
    begins_with,
    check_form,
    check_placeholders,
    plan,
    plan_of_names,
    prefixes,
    read_upstream,
    wanted,
)
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.files import HashedFile
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Store, materialize_command

if TYPE_CHECKING:
    import torch

COPIED, LINKED = "byte for byte", "hard link"
"""How an upstream file was taken over. Whether a copy shares its blocks is of the filesystem, and
is not said: the same input makes the same manifest everywhere."""


def cast(
    values: torch.Tensor, dtype: torch.dtype, where: str, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Round a block of floats to ``dtype`` as ``Tensor.to`` does: to nearest, ties to even.

    That of float64 to 16 bits rounds twice, by way of float32.

    Args:
        out: where the result goes, of ``dtype`` and the size of ``values``; None: a new tensor.

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
    return values.to(dtype) if out is None else out.copy_(values)


def tensor_bytes(values: torch.Tensor) -> memoryview:
    """The elements of a contiguous tensor as bytes, without a copy."""
    import torch

    return values.reshape(-1).view(torch.uint8).numpy().data


def convert(
    sources: Mapping[str, Sequence[StoredTensor]],
    dtype: DType,
    metadata: Mapping[str, str] | bytes,
    file: HashedFile,
    say: Say = silent,
    shared: Path | None = None,
) -> WrittenCheckpoint:
    """Write tensors to a safetensors file in ``dtype``.

    Each tensor is read once, in blocks; one that is not contiguous is read whole. A record that no
    tensor fills (several share it, or parts of it are used) is read once more, before: for its
    checksum.

    Args:
        sources: name → the tensor that is written under it, then those that must be equal to it.
        metadata: as :func:`write_checkpoint`.
        shared: a file with the same bytes as that of all tensors, to read instead; None: there is
            none.

    Raises:
        InvalidInput: naming file and tensor: no floating point of 16 to 64 bits, NaN, infinity,
            overflow, two that should be equal and are not.
        DamagedRecord: if the CRC-32 of a record is not the archive's.
        OSError: ENOSPC before the first tensor is read.
    """
    import torch

    _check_dtypes(sources)
    entries = [
        TensorEntry(name, DTYPE_CODES[dtype], same[0].shape) for name, same in sources.items()
    ]
    ordered = [_without_repetition(sources[entry.name]) for entry in file_order(entries)]
    _check_other_records(ordered, say)
    extents = (
        extent for same in ordered if _is_streamed(same) for extent in _extents(same, shared)
    )
    # reused: fresh memory costs more than the cast itself
    buffers = cycle(
        [torch.empty(BLOCK // 2, dtype=getattr(torch, dtype)) for _ in range(AHEAD + 1)]
    )
    turns = iter(ordered)
    with (
        one_thread_each(),
        closing(read_extents(extents, kept=max(map(len, ordered), default=1))) as blocks,
    ):

        def read(entry: TensorEntry) -> Iterator[memoryview]:
            same = next(turns)
            views = _streamed(same, blocks) if _is_streamed(same) else _whole(same)
            return _cast_all(same, views, buffers)

        return write_checkpoint(file, entries, metadata, read)


def _check_dtypes(sources: Mapping[str, Sequence[StoredTensor]]) -> None:
    """Require that tensors are floats that are read."""
    for tensor in chain.from_iterable(sources.values()):
        if tensor.dtype not in DTYPE_CODES:
            raise InvalidInput(
                f"{tensor.path}: {tensor.name} is {tensor.dtype}; expected one of "
                + ", ".join(DTYPE_CODES)
            )


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep torch from splitting an operation: on blocks of this size its threads mostly spin,
    waiting for each other, on the cores that hash."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _without_repetition(same: Sequence[StoredTensor]) -> list[StoredTensor]:
    """The first tensor and those that do not lie at the very same place."""
    kept, *others = same
    return [kept, *(tensor for tensor in others if not tensor.is_at(kept))]


def _is_streamed(same: Sequence[StoredTensor]) -> bool:
    return all(tensor.stride is None for tensor in same)


def _extents(same: Sequence[StoredTensor], shared: Path | None) -> Iterator[Extent]:
    """The blocks of the tensors, taking turns."""
    extents = (
        Extent(shared or item.path, item.begin, item.size, item.name).blocks() for item in same
    )
    for blocks in zip(*extents, strict=True):
        yield from blocks


def _streamed(
    same: Sequence[StoredTensor], blocks: Iterator[memoryview]
) -> Iterator[list[memoryview]]:
    """The blocks of each tensor side by side; CRC-32s are checked at the end."""
    from isal.isal_zlib import crc32

    checksums = [0] * len(same)
    for _ in Extent(same[0].path, 0, same[0].size, "").blocks():
        views = [next(blocks) for _ in same]
        checksums = [crc32(view, crc) for view, crc in zip(views, checksums, strict=True)]
        yield views
    for tensor, crc in zip(same, checksums, strict=True):
        if tensor.record is not None and tensor.fills_record:
            _compare(tensor.record, crc)


def _whole(same: Sequence[StoredTensor]) -> Iterator[list[memoryview]]:
    """The elements of each tensor in row-major order, all at once."""
    import torch

    if not same[0].size:
        return
    views = []
    for tensor in same:
        buffer = bytearray()
        for block in read_extents(
            Extent(tensor.path, tensor.begin, tensor.extent, tensor.name).blocks()
        ):
            buffer += block
        flat = torch.frombuffer(buffer, dtype=getattr(torch, tensor.dtype))
        if tensor.stride is not None:
            flat = flat.as_strided(tensor.shape, tensor.stride).contiguous()
        views.append(tensor_bytes(flat))
    yield views


def _check_other_records(tensors: Sequence[Sequence[StoredTensor]], say: Say) -> None:
    """Check the CRC-32 of the records that are not read from begin to end in one go."""
    from isal.isal_zlib import crc32

    filled = {
        tensor.record
        for same in tensors
        for tensor in same
        if _is_streamed(same) and tensor.fills_record
    }
    records = dict.fromkeys(tensor.record for same in tensors for tensor in same)
    left = [
        record
        for record in records
        if record is not None and record.crc32 is not None and record not in filled
    ]
    progress = Progress(
        "verifying records of several tensors", sum(record.size for record in left), say
    )
    for record in left:
        crc = 0
        for block in read_extents(record.blocks()):
            crc = crc32(block, crc)
            progress.advance(len(block))
        _compare(record, crc)


def _compare(record: Record, crc: int) -> None:
    if record.crc32 is not None and crc != record.crc32:
        raise DamagedRecord(
            f"{record.path}: record {record.what} has CRC-32 {crc:08x}, the archive says "
            f"{record.crc32:08x}"
        )


def _cast_all(
    same: Sequence[StoredTensor],
    blocks: Iterator[list[memoryview]],
    buffers: Iterator[torch.Tensor],
) -> Iterator[memoryview]:
    """The cast bytes of the first of ``same``, after comparing the others with it.

    Args:
        buffers: of the target dtype, one for each block; one that is larger gets memory of its own.
    """
    import torch

    kept, *others = same
    dtype: torch.dtype = getattr(torch, kept.dtype)
    done = 0
    for view, *twins in blocks:
        values = _from_bytes(view, dtype)
        for tensor, twin in zip(others, twins, strict=True):
            if not torch.equal(_from_bytes(view, torch.uint8), _from_bytes(twin, torch.uint8)):
                raise InvalidInput(
                    f"{tensor.path}: {tensor.name} is not the same as {kept.name} in "
                    f"{kept.path.name}: they differ within elements {done} to "
                    f"{done + values.numel()}"
                )
        done += values.numel()
        buffer = next(buffers)
        out = buffer[: values.numel()] if values.numel() <= buffer.numel() else None
        yield tensor_bytes(cast(values, buffer.dtype, f"{kept.path}: {kept.name}", out))


def _from_bytes(view: memoryview, dtype: torch.dtype) -> torch.Tensor:
    """The elements that lie in ``view``, one-dimensional; a copy only where they are unaligned."""
    import torch

    data = torch.frombuffer(view, dtype=torch.uint8)
    if data.data_ptr() % dtype.itemsize:
        data = data.clone()
    return data.view(dtype)


@contextmanager
def _damage_told_first(build: Build[ModelSpec], raw: Artifact[ModelSpec]) -> Iterator[None]:
    """Before a checkpoint is refused, see whether it is still the one that was downloaded.

    A flipped bit can make an infinite weight, or two twins that differ: nothing of upstream's.

    Raises:
        CorruptArtifact: if it is not.
    """
    spec = build.artifact.spec
    try:
        yield
    except InvalidInput as error:
        for name in (spec.files.checkpoint, *spec.files.shards):
            build.store.verify_file(raw, f"raw/{name}")
        if isinstance(error, DamagedRecord):
            raise InvalidInput(
                f"{error}. The file is as upstream has it: upstream's own copy is damaged"
            ) from error
        raise


def _check_rows(spec: ModelSpec, rows: int, pieces: int | None, where: str) -> None:
    """Require that an embedding with more rows than the tokenizer has pieces is meant.

    Raises:
        InvalidInput: naming the file (``where``), and what the spec would say.
    """
    stated = spec.checkpoint.embedding_rows
    if rows != stated and (stated is not None or (pieces is not None and rows > pieces)):
        asked = f"the spec says {stated}" if stated else f"the tokenizer has {pieces} pieces"
        raise InvalidInput(
            f"{where}: the embedding has {rows} rows, and {asked}. Where upstream added tokens to "
            f"the vocabulary, or padded it, write checkpoint: {{embedding_rows: {rows}}} into the "
            "spec"
        )


@dataclass(frozen=True)
class Meant:
    """What the tensors of a raw checkpoint are to be.

    Attributes:
        planned: which tensor of our checkpoint each of them becomes.
        params: of a family that is known here.
        config: upstream's ``config.json``, with the spec's overrides; None: there is none.
        derived: parameters that upstream leaves open, and that the tensors decide.
        proof: of the family ``transformers``.
    """

    planned: Plan
    params: MetaParams | None
    config: Document | None
    derived: Document = field(default_factory=dict)
    proof: Proof | None = None


def intended(store: Store, raw: Artifact[ModelSpec], upstream: Upstream, data: bytes) -> Meant:
    """What the tensors of a raw checkpoint are to be, where they are those of the model.

    Args:
        data: the file of the parameters; empty: there is none.

    Raises:
        InvalidInput: naming the file and its tensors, if names, shapes or dtypes are not what the
            parameters and the spec ask for.
    """
    meant = (_of_parameters if raw.spec.has_params else _of_architecture)(
        store, raw, upstream, data
    )
    _check_dtypes(meant.planned.sources)
    return meant


def _of_parameters(
    store: Store, raw: Artifact[ModelSpec], upstream: Upstream, data: bytes
) -> Meant:
    """Tensors as the parameters and the naming scheme of a family ask for them."""
    spec = raw.spec
    family, described = FAMILIES[spec.family], f"raw/{spec.parameters_file}"
    where = str(store.path(raw, described))
    checkpoint = str(store.path(raw, f"raw/{spec.files.checkpoint}"))
    parameters = parse_parameters(spec, data, where, upstream.rows(family))
    params, tied = parameters.params, is_tied(parameters.config)
    planned = plan(upstream, family, tied)
    expected = family.tensor_shapes(params, tied)
    check_form(expected, planned.shapes, family, checkpoint)
    check_tensor_shapes(expected, planned.shapes, checkpoint, Path(described).name)
    _check_rows(spec, params.vocab_size, store.catalogue.tokenizer(spec).vocab_size, checkpoint)
    if spec.family == "llama" and parameters.config is not None:
        prove_llama(parameters.config, planned.shapes, checkpoint, where)
    return Meant(planned, params, parameters.config, parameters.derived)


def _of_architecture(
    store: Store, raw: Artifact[ModelSpec], upstream: Upstream, data: bytes
) -> Meant:
    """Tensors under their own names, as a class of transformers takes them, or as they are."""
    spec = raw.spec
    checkpoint = str(store.path(raw, f"raw/{spec.files.checkpoint}"))
    shapes = {name: tensor.shape for name, (tensor, *_) in upstream.tensors.items()}
    check_placeholders({}, shapes, checkpoint)
    config, where = None, ""
    if spec.parameters_file is not None:
        where = str(store.path(raw, f"raw/{spec.parameters_file}"))
        config = parse_described(spec, data, where)
    if spec.family == "any" or config is None:
        return Meant(plan_of_names(upstream, {}, ()), None, config)
    proof = _proof(config, shapes, checkpoint, where)
    if proof.embedding:
        rows, pieces = shapes[proof.embedding][0], store.catalogue.tokenizer(spec).vocab_size
        _check_rows(spec, rows, pieces, checkpoint)
        if pieces is not None and rows < pieces:
            raise InvalidInput(
                f"{checkpoint}: the embedding {proof.embedding} has {rows} rows, and the tokenizer "
                f"has {pieces} pieces: it is the tokenizer of another model"
            )
    return Meant(plan_of_names(upstream, proof.same, proof.ignored), None, config, proof=proof)


def _proof(config: Document, shapes: Shapes, checkpoint: str, where: str) -> Proof:
    """:func:`prove`, and where the names are those of a training run, what to do about it."""
    try:
        return prove(config, shapes, checkpoint, where)
    except InvalidInput:
        for prefix in prefixes(shapes):
            stripped = {name.removeprefix(prefix): shape for name, shape in shapes.items()}
            with suppress(InvalidInput):
                prove(config, stripped, checkpoint, where)
                found = prefix
                break
        else:
            raise
    raise begins_with(checkpoint, found, next(iter(shapes)))


def _header_as_it_is(
    build: Build[ModelSpec],
    raw: Artifact[ModelSpec],
    sources: Mapping[str, Sequence[StoredTensor]],
    dtype: DType,
) -> bytes:
    """The bytes before the data of a raw file that is taken over as it is; empty: it is not.

    That is one safetensors file, all tensors of which have our names and the dtype, in the order in
    which ``save_file`` lays them out, with the ``format`` that transformers asks for.
    """
    if not build.spec.is_one_safetensors:
        return b""
    path = build.store.path(raw, f"raw/{build.spec.files.checkpoint}")
    header = read_header(path)
    names = {entry.name: entry.name for entry in header.entries}
    said = {"dtype": dtype, **header.metadata}
    is_taken_over = (
        names == {ours: same[0].name for ours, same in sources.items() if len(same) == 1}
        and {entry.dtype for entry in header.entries} == {DTYPE_CODES[dtype]}
        and [*header.entries] == file_order(header.entries)
        and header.data_start % 8 == 0
        and (said["dtype"], said.get("format")) == (dtype, "pt")
    )
    if not is_taken_over:
        return b""
    with path.open("rb") as file:
        return file.read(header.data_start)


def _written(
    build: Build[ModelSpec],
    raw: Artifact[ModelSpec],
    sources: Mapping[str, Sequence[StoredTensor]],
    header: bytes,
    progress: Progress,
) -> WrittenCheckpoint:
    """Write the checkpoint; one that is taken over is read as any other, and has upstream's hash.

    Raises:
        CorruptArtifact: if the raw file changes while it is read.
    """
    artifact, store = build.artifact, build.store
    dtype, target = artifact.dtype, files_of(artifact).checkpoint
    assert dtype is not None
    if not header:
        metadata = checkpoint_metadata(build.spec.folder, dtype)
        with build.staged.create(target, progress.advance, in_parts=False) as file:
            return convert(sources, dtype, metadata, file, build.say)
    name = f"raw/{build.spec.files.checkpoint}"
    file, read_from = build.staged.take_over(
        target, store.path(raw, name), progress.advance, link=build.spec.checkpoint.link
    )
    with file, read_from.open("rb") as source:
        head = source.read(len(header))
        written = convert(sources, dtype, head, file, build.say, read_from)
    if build.staged.files[target] != store.manifest(raw).files[name]:
        raise CorruptArtifact(
            f"{store.path(raw, name)} was changed while it was taken over. Run again: "
            + materialize_command(artifact.key)
        )
    return written


def build_safetensors(build: Build[ModelSpec]) -> Document:
    """Convert the raw checkpoint of a model to the artifact's dtype.

    Raises:
        InvalidInput: if names, shapes or values of the tensors are not what the upstream parameters
            and the spec ask for.
        CorruptArtifact: if the raw files are not the ones that were downloaded.
    """
    artifact, store = build.artifact, build.store
    spec, dtype = artifact.spec, artifact.dtype
    assert dtype is not None
    raw = build.upstream("raw")
    data = store.read(raw, f"raw/{spec.parameters_file}") if spec.parameters_file else b""

    def open_raw(name: str) -> tuple[Path, Verify]:
        return store.open_verified(raw, f"raw/{name}", build.say)

    with _damage_told_first(build, raw):
        upstream = read_upstream(spec.files, open_raw, wanted(spec))
        meant = intended(store, raw, upstream, data)
        planned = meant.planned
        entries = (
            TensorEntry(name, DTYPE_CODES[dtype], shape) for name, shape in planned.shapes.items()
        )
        progress = Progress(
            f"converting {spec.name} to {dtype}", sum(entry.size for entry in entries), build.say
        )
        header = _header_as_it_is(build, raw, planned.sources, dtype)
        written = _written(build, raw, planned.sources, header, progress)
    said = {
        "select": spec.checkpoint.select,
        "strip_prefix": spec.checkpoint.strip_prefix,
        "left_out": dict(upstream.left_out),
        "overrides": spec.overrides,
        "derived": meant.derived,
        "taken_over": (LINKED if spec.checkpoint.link else COPIED) if header else None,
    }
    return describe(
        build,
        meant.params,
        written,
        meant.config,
        source=store.manifest(raw).document["source"],
        conversion={
            "from_dtype": sorted({same[0].dtype for same in planned.sources.values()}),
            "to_dtype": dtype,
            "dropped": list(planned.dropped),
            "aliased": dict(planned.aliased),
            **{name: value for name, value in said.items() if value},
        },
        proof=meant.proof,
    )
