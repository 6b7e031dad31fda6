"""Conversion of a raw checkpoint to one safetensors file: cast, checked, hashed, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_assets.base.errors import DamagedRecord, InvalidInput
from wmtp_assets.base.progress import Progress, Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DType, ModelSpec
from wmtp_assets.checkpoints.configs import (
    files_of,
    model_document,
    parse_parameters,
    write_configs,
)
from wmtp_assets.checkpoints.families import FAMILIES
from wmtp_assets.checkpoints.params import check_tensor_shapes
from wmtp_assets.checkpoints.pipeline import AHEAD, BLOCK, Extent, read_extents
from wmtp_assets.checkpoints.safetensors_file import (
    DTYPE_CODES,
    TensorEntry,
    WrittenCheckpoint,
    file_order,
    write_checkpoint,
)
from wmtp_assets.checkpoints.source import plan, read_source
from wmtp_assets.checkpoints.stored import Record, StoredTensor
from wmtp_assets.checkpoints.torch_zip import Verify
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.files import HashedFile
from wmtp_assets.storage.manifest import Document

if TYPE_CHECKING:
    import torch


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
    metadata: Mapping[str, str],
    file: HashedFile,
    say: Say = silent,
) -> WrittenCheckpoint:
    """Write tensors to a safetensors file in ``dtype``.

    Each tensor is read once, in blocks; one that is not contiguous is read whole. A record that no
    tensor fills (several share it, or parts of it are used) is read once more, before: for its
    checksum.

    Args:
        sources: name → the tensor that is written under it, then those that must be equal to it.

    Raises:
        InvalidInput: naming file and tensor: no floating point of 16 to 64 bits, NaN, infinity,
            overflow, two that should be equal and are not.
        DamagedRecord: if the CRC-32 of a record is not the archive's.
        OSError: ENOSPC before the first tensor is read.
    """
    for tensor in (tensor for same in sources.values() for tensor in same):
        if tensor.dtype not in DTYPE_CODES:
            raise InvalidInput(
                f"{tensor.path}: {tensor.name} is {tensor.dtype}; expected one of "
                + ", ".join(DTYPE_CODES)
            )
    entries = [
        TensorEntry(name, DTYPE_CODES[dtype], same[0].shape) for name, same in sources.items()
    ]
    ordered = [_without_repetition(sources[entry.name]) for entry in file_order(entries)]
    _check_other_records(ordered, say)
    widest = max((len(same) for same in ordered), default=1)
    extents = (extent for same in ordered if _is_streamed(same) for extent in _extents(same))
    caster = _Caster(dtype)
    turns = iter(ordered)
    with _one_thread_each(), closing(read_extents(extents, kept=widest)) as blocks:

        def read(entry: TensorEntry) -> Iterator[memoryview]:
            same = next(turns)
            views = _streamed(same, blocks) if _is_streamed(same) else _whole(same)
            return caster.cast_all(same, views)

        return write_checkpoint(file, entries, metadata, read)


@contextmanager
def _one_thread_each() -> Iterator[None]:
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
    return all(tensor.is_contiguous for tensor in same)


def _extents(same: Sequence[StoredTensor]) -> Iterator[Extent]:
    """The blocks of the tensors, taking turns."""
    extents = (Extent(item.path, item.begin, item.size, item.name).blocks() for item in same)
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
            _compare(tensor.path, tensor.record, crc)


def _whole(same: Sequence[StoredTensor]) -> Iterator[list[memoryview]]:
    """The elements of each tensor in row-major order, all at once."""
    import torch

    views = []
    for tensor in same:
        if not tensor.size:
            continue
        buffer = bytearray()
        for block in read_extents(
            Extent(tensor.path, tensor.begin, tensor.extent, tensor.name).blocks()
        ):
            buffer += block
        flat = torch.frombuffer(buffer, dtype=getattr(torch, tensor.dtype))
        values = flat.as_strided(tensor.shape, tensor.stride).reshape(-1).contiguous()
        views.append(tensor_bytes(values))
    if views:
        yield views


def _check_other_records(tensors: Iterable[Sequence[StoredTensor]], say: Say) -> None:
    """Check the CRC-32 of the records that are not read from begin to end in one go."""
    from isal.isal_zlib import crc32

    filled: set[tuple[Path, int]] = set()
    others: dict[tuple[Path, int], Record] = {}
    for same in tensors:
        for tensor in same:
            record = tensor.record
            if record is None:
                continue
            if _is_streamed(same) and tensor.fills_record:
                filled.add((tensor.path, record.begin))
            else:
                others[tensor.path, record.begin] = record
    left = {place: record for place, record in others.items() if place not in filled}
    progress = Progress(
        "verifying records of several tensors", sum(r.size for r in left.values()), say
    )
    for (path, begin), record in left.items():
        crc = 0
        for block in read_extents(Extent(path, begin, record.size, record.name).blocks()):
            crc = crc32(block, crc)
            progress.advance(len(block))
        _compare(path, record, crc)


def _compare(path: Path, record: Record, crc: int) -> None:
    if crc != record.crc32:
        raise DamagedRecord(
            f"{path}: record {record.name} has CRC-32 {crc:08x}, the archive says "
            f"{record.crc32:08x}"
        )


class _Caster:
    """Casts blocks into reused buffers: fresh memory costs more than the cast itself."""

    def __init__(self, dtype: DType) -> None:
        import torch

        self._dtype: torch.dtype = getattr(torch, dtype)
        self._buffers = [torch.empty(0, dtype=self._dtype) for _ in range(AHEAD + 1)]
        self._turn = 0

    def _buffer(self, count: int) -> torch.Tensor | None:
        """A buffer for ``count`` elements; None where they are more than a block has."""
        import torch

        if count > BLOCK // 2:
            return None
        self._turn = (self._turn + 1) % len(self._buffers)
        if self._buffers[self._turn].numel() < count:
            self._buffers[self._turn] = torch.empty(count, dtype=self._dtype)
        return self._buffers[self._turn][:count]

    def cast_all(
        self, same: Sequence[StoredTensor], blocks: Iterator[list[memoryview]]
    ) -> Iterator[memoryview]:
        """The cast bytes of the first of ``same``, after comparing the others with it."""
        import torch

        kept, *others = same
        dtype: torch.dtype = getattr(torch, kept.dtype)
        where = f"{kept.path}: {kept.name}"
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
            out = self._buffer(values.numel())
            yield tensor_bytes(cast(values, self._dtype, where, out))


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
    family = FAMILIES[spec.family]
    described = f"raw/{spec.parameters_file}"
    params, config = parse_parameters(
        spec, store.read(raw, described), str(store.path(raw, described))
    )

    def open_raw(name: str) -> tuple[Path, Verify]:
        return store.open_verified(raw, f"raw/{name}", build.say)

    with _damage_told_first(build, raw):
        planned = plan(read_source(spec.files, open_raw), family)
        checkpoint = store.path(raw, f"raw/{spec.files.checkpoint}")
        expected = family.tensor_shapes(params, tied=False)
        check_tensor_shapes(expected, planned.shapes, str(checkpoint), Path(described).name)

        entries = (
            TensorEntry(name, DTYPE_CODES[dtype], shape) for name, shape in planned.shapes.items()
        )
        progress = Progress(
            f"converting {spec.name} to {dtype}", sum(entry.size for entry in entries), build.say
        )
        name = files_of(artifact).checkpoint
        with build.staged.create(name, progress.advance, in_parts=False) as file:
            metadata = {"format": "pt", "model_name": spec.folder}
            written = convert(planned.sources, dtype, metadata, file, build.say)
    write_configs(build, params, written, config)
    return model_document(
        build,
        written,
        source=store.manifest(raw).document["source"],
        conversion={
            "from_dtype": planned.dtypes,
            "to_dtype": dtype,
            "dropped": list(planned.dropped),
            "aliased": dict(planned.aliased),
        },
    )
