"""The tensors of an upstream checkpoint of any format: one file or shards, torch or safetensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import SEEK_END
from pathlib import Path, PurePosixPath

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.excerpts import OpenFile, open_whole
from wmtp_assets.base.model import relative_path
from wmtp_assets.base.strict_json import MAX_SIZE, parse_object, short
from wmtp_assets.catalogue.specs import ModelFiles, ModelSpec
from wmtp_assets.checkpoints.families import FAMILIES, Family
from wmtp_assets.checkpoints.pipeline import ALL, Contents, StoredTensor, Wanted
from wmtp_assets.checkpoints.safetensors_file import (
    DTYPE_NAMES,
    ITEM_SIZE,
    MAX_NAME,
    read_header,
)
from wmtp_assets.checkpoints.torch_zip import Verify, read_tensors

OpenRaw = Callable[[str], tuple[Path, Verify]]
"""Path inside the repository → the file, and what verifies a part of it."""

RawTensors = Mapping[str, tuple[StoredTensor, ...]]
"""Name in the checkpoint → where the tensor is; the first is the one that counts."""


@dataclass(frozen=True)
class Upstream:
    """What the files of a checkpoint hold; no data.

    Attributes:
        tensors: name → where it lies.
        dropped: names of buffers, which are left out.
        left_out: what is beside the selected state dict → the number of tensors in it.
    """

    tensors: RawTensors
    dropped: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def rows(self, family: Family) -> int | None:
        """Rows of the embedding; None: it has none, or it is not a matrix."""
        for name, (tensor, *_) in self.tensors.items():
            if family.name_of(name) == family.embedding and len(tensor.shape) == 2:
                return tensor.shape[0]
        return None


def wanted(spec: ModelSpec) -> Wanted:
    """Which tensors of its checkpoint's files a spec asks for."""
    part = spec.checkpoint
    keys = tuple(part.select.split(".")) if part.select else ()
    family = FAMILIES.get(spec.family)
    return Wanted(keys, part.strip_prefix, *([family.buffers.fullmatch] if family else []))


def read_upstream(
    files: ModelFiles,
    open_raw: OpenRaw,
    wanted: Wanted = ALL,
    open_file: OpenFile = open_whole,
) -> Upstream:
    """Where each tensor of a checkpoint lies; no data is read.

    Args:
        wanted: which tensors of the files are the model's.
        open_file: how a file is opened.

    Raises:
        InvalidInput: naming file and tensor: not a checkpoint, an index that does not fit its
            shards.
        OSError: if a file cannot be read.
    """
    if not files.shards:
        held = read_file(*open_raw(files.checkpoint), wanted, open_file)
        tensors = {name: (tensor,) for name, tensor in held.tensors.items()}
        return Upstream(tensors, tuple(sorted(held.dropped)), held.left_out)
    path, verify = open_raw(files.checkpoint)
    with open_file(path) as file:
        size = file.seek(0, SEEK_END)
        verify(0, size)
        file.seek(0)
        data = file.read(MAX_SIZE + 1)
    shard_of = _read_index(path, data, files, wanted)
    shards = {shard: read_file(*open_raw(shard), wanted, open_file) for shard in files.shards}
    return Upstream(
        _join(path, shard_of, {shard: held.tensors for shard, held in shards.items()}),
        tuple(sorted({name for held in shards.values() for name in held.dropped})),
        {
            f"{shard}: {name}": count
            for shard, held in shards.items()
            for name, count in held.left_out.items()
        },
    )


def read_file(path: Path, verify: Verify, wanted: Wanted, open_file: OpenFile) -> Contents:
    """The tensors of one file of a checkpoint.

    Raises:
        InvalidInput, OSError: as :func:`read_upstream`.
    """
    if path.suffix != ".safetensors":
        return read_tensors(path, verify, wanted, open_file)
    with open_file(path) as file:
        verify(0, file.seek(0, SEEK_END))  # there are no checksums in it
    header = read_header(path, open_file)
    names = {entry.name: wanted.name_of(entry.name, path) for entry in header.entries}
    tensors = {
        names[entry.name]: StoredTensor(
            path=path,
            name=names[entry.name],
            dtype=DTYPE_NAMES.get(entry.dtype, entry.dtype),
            shape=entry.shape,
            stride=None,
            begin=header.begins[entry.name],
            item_size=ITEM_SIZE[entry.dtype],
        )
        for entry in header.entries
        if not wanted.is_buffer(names[entry.name])
    }
    return Contents(tensors, tuple(filter(wanted.is_buffer, names.values())))


def _read_index(path: Path, data: bytes, files: ModelFiles, wanted: Wanted) -> dict[str, str]:
    """Tensor → shard, as paths inside the repository, from ``{"weight_map": {tensor: shard}}``.

    Buffers are not among them: nothing depends on where they are, if they are anywhere.
    """
    try:
        weight_map = parse_object(data).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ValueError("it has no weight_map")
        shard_of: dict[str, str] = {}
        for name, shard in weight_map.items():
            if not isinstance(shard, str) or len(shard) > MAX_NAME:
                raise ValueError(f"{short(name)} is in {short(shard)}, not in a file")
            place = str(PurePosixPath(files.checkpoint).parent / relative_path(shard))
            ours = wanted.name_of(name, path)
            if wanted.is_buffer(ours):
                continue
            if place not in files.shards:
                raise InvalidInput(
                    f"{path}: {short(name)} is in {short(place)}, which is none of the "
                    f"shards of the spec: {', '.join(files.shards)}"
                )
            shard_of[ours] = place
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: not an index of shards: {error}") from error
    return shard_of


def _join(
    index: Path, shard_of: Mapping[str, str], shards: Mapping[str, Mapping[str, StoredTensor]]
) -> RawTensors:
    unused = [shard for shard, held in shards.items() if held and shard not in shard_of.values()]
    if unused:
        raise InvalidInput(f"{index}: names no tensor of {unused[0]}, a shard of the spec")
    for name, shard in shard_of.items():
        if name not in shards[shard]:
            raise InvalidInput(f"{index}: {short(name)} is not in {shard}, where it should be")
    for shard, tensors in shards.items():
        unlisted = [name for name in tensors if name not in shard_of]
        if unlisted:
            raise InvalidInput(f"{index}: does not name {unlisted[0]}, which is in {shard}")
    return {
        name: (
            shards[shard][name],
            *(
                tensors[name]
                for other, tensors in shards.items()
                if other != shard and name in tensors
            ),
        )
        for name, shard in shard_of.items()
    }


@dataclass(frozen=True)
class Plan:
    """Which source tensors become which tensors of our checkpoint.

    Attributes:
        sources: our name → the tensor that is written, then those that must be equal to it.
        dropped: names of buffers that are left out.
        aliased: name in the source → our name, for those that are only compared.
    """

    sources: Mapping[str, tuple[StoredTensor, ...]]
    dropped: tuple[str, ...]
    aliased: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Our name → shape."""
        return {name: tensors[0].shape for name, tensors in self.sources.items()}


def plan(upstream: Upstream, family: Family, tied: bool = False) -> Plan:
    """Give each tensor of a source its name in ours.

    Args:
        tied: whether upstream's output matrix is the embedding. Where it is in the files all the
            same, it must be equal.

    Raises:
        InvalidInput: naming files and tensors, if two that get one name differ in dtype or shape.
    """
    tensors = upstream.tensors

    def name_of(name: str) -> str:
        ours = family.name_of(name)
        return family.embedding if tied and ours == family.output else ours

    def rank(name: str) -> tuple[bool, int, str]:
        return (
            name_of(name) != family.name_of(name),
            next((i for i, prefix in enumerate(family.prefixes) if name.startswith(prefix)), -1),
            name,
        )

    return _plan(upstream, sorted(tensors, key=rank), name_of)


def plan_of_names(upstream: Upstream, same: Mapping[str, str], ignored: Collection[str]) -> Plan:
    """Each tensor of a source keeps its name.

    Args:
        same: tensors that must be equal to another, and are left out → that one.
        ignored: names of buffers, which are left out.

    Raises:
        InvalidInput: naming files and tensors, if two that must be equal differ in dtype or shape.
    """
    left = {name: found for name, found in upstream.tensors.items() if name not in ignored}
    dropped = tuple(sorted({*upstream.dropped, *ignored}))
    wanted = Upstream(left, dropped, upstream.left_out)
    return _plan(
        wanted, sorted(left, key=lambda name: (name in same, name)), lambda n: same.get(n, n)
    )


def _plan(upstream: Upstream, names: Iterable[str], name_of: Callable[[str], str]) -> Plan:
    """The tensors of a source in the order of ``names``: of those with one name in ours, the first
    counts."""
    tensors = upstream.tensors
    sources: dict[str, tuple[StoredTensor, ...]] = {}
    aliased: dict[str, str] = {}
    for name in names:
        ours = name_of(name)
        for tensor in tensors[name]:
            same = sources.setdefault(ours, ())
            if same:
                aliased[name if name != same[0].name else f"{tensor.path.name}: {name}"] = ours
                one = same[0]
                if (one.dtype, one.shape) != (tensor.dtype, tensor.shape):
                    raise InvalidInput(
                        f"{tensor.path}: {tensor.name} is {tensor.dtype} {list(tensor.shape)}, but "
                        f"{one.name} in {one.path.name}, which should be the same, is "
                        f"{one.dtype} {list(one.shape)}"
                    )
            sources[ours] = (*same, tensor)
    return Plan(sources, upstream.dropped, aliased)


def check_form(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    family: Family,
    where: str,
) -> None:
    """Require that the tensors of a file (``where``) are not a model's in a form that a training
    run gave them.

    Raises:
        InvalidInput: naming the file, and what to do.
    """
    for prefix in prefixes(found):
        if expected.keys() <= {family.name_of(name.removeprefix(prefix)) for name in found}:
            raise begins_with(where, prefix, next(iter(found)))
    check_placeholders(expected, found, where)


def prefixes(names: Collection[str]) -> Iterator[str]:
    """What all names begin with, up to a dot each."""
    first = next(iter(names), "")
    for at, character in enumerate(first):
        if character == "." and all(name.startswith(first[: at + 1]) for name in names):
            yield first[: at + 1]


def begins_with(where: str, prefix: str, name: str) -> InvalidInput:
    """What is said of a file whose names, as ``name``, have a prefix that is not the model's."""
    return InvalidInput(
        f"{where}: every name begins with {prefix!r}, as {name}. Write checkpoint: "
        f'{{strip_prefix: "{prefix}"}} into the spec'
    )


def check_placeholders(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Require that no tensor of a file (``where``) stands for weights that are elsewhere.

    Raises:
        InvalidInput: naming the file, and what to do.
    """
    for name, shape in found.items():
        if shape == (0,) != expected.get(name):
            raise InvalidInput(
                f"{where}: {name} has shape [0]: a placeholder of DeepSpeed ZeRO-3, whose weights "
                "are in other files. Gather them where they are, with zero_to_fp32.py"
            )
