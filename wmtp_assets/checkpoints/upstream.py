"""The tensors of an upstream checkpoint of any format: one file or shards, torch or safetensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.model import relative_path
from wmtp_assets.base.strict_json import parse_object, read_small, short
from wmtp_assets.catalogue.specs import ModelFiles
from wmtp_assets.checkpoints.families import Family
from wmtp_assets.checkpoints.pipeline import StoredTensor
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
"""Name in the checkpoint → where the tensor stands; the first is the one that counts."""


def read_upstream(files: ModelFiles, open_raw: OpenRaw) -> RawTensors:
    """Where each tensor of a checkpoint lies; no data is read.

    Raises:
        InvalidInput: naming file and tensor: not a checkpoint, an index that does not fit its
            shards.
        OSError: if a file cannot be read.
    """
    if not files.shards:
        return {name: (tensor,) for name, tensor in _read_file(*open_raw(files.checkpoint)).items()}
    path, verify = open_raw(files.checkpoint)
    verify(0, path.stat().st_size)
    shard_of = _read_index(path, files)
    shards = {shard: _read_file(*open_raw(shard)) for shard in files.shards}
    return _join(path, shard_of, shards)


def _read_file(path: Path, verify: Verify) -> dict[str, StoredTensor]:
    if path.suffix != ".safetensors":
        return read_tensors(path, verify)
    verify(0, path.stat().st_size)  # there are no checksums in it
    header = read_header(path)
    return {
        entry.name: StoredTensor(
            path=path,
            name=entry.name,
            dtype=DTYPE_NAMES.get(entry.dtype, entry.dtype),
            shape=entry.shape,
            stride=None,
            begin=header.begins[entry.name],
            item_size=ITEM_SIZE[entry.dtype],
        )
        for entry in header.entries
    }


def _read_index(path: Path, files: ModelFiles) -> dict[str, str]:
    """Tensor → shard, as paths inside the repository, from ``{"weight_map": {tensor: shard}}``."""
    try:
        weight_map = parse_object(read_small(path)).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ValueError("it has no weight_map")
        shard_of: dict[str, str] = {}
        for name, shard in weight_map.items():
            if not isinstance(shard, str) or len(shard) > MAX_NAME:
                raise ValueError(f"{short(name)} is in {short(shard)}, not in a file")
            shard_of[name] = str(PurePosixPath(files.checkpoint).parent / relative_path(shard))
            if shard_of[name] not in files.shards:
                raise InvalidInput(
                    f"{path}: {short(name)} is in {short(shard_of[name])}, which is none of the "
                    f"shards of the spec: {', '.join(files.shards)}"
                )
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: not an index of shards: {error}") from error
    unused = [shard for shard in files.shards if shard not in shard_of.values()]
    if unused:
        raise InvalidInput(f"{path}: names no tensor of {unused[0]}, a shard of the spec")
    return shard_of


def _join(
    index: Path, shard_of: Mapping[str, str], shards: Mapping[str, Mapping[str, StoredTensor]]
) -> RawTensors:
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
    """Which tensors of a source become which of ours.

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


def plan(tensors: RawTensors, family: Family) -> Plan:
    """Give each tensor of a source its name in ours.

    Raises:
        InvalidInput: naming files and tensors, if two that get one name differ in dtype or shape.
    """
    dropped = tuple(sorted(filter(family.buffers.fullmatch, tensors)))

    def rank(name: str) -> tuple[int, str]:
        return (
            next((i for i, prefix in enumerate(family.prefixes) if name.startswith(prefix)), -1),
            name,
        )

    sources: dict[str, tuple[StoredTensor, ...]] = {}
    aliased: dict[str, str] = {}
    for name in sorted(tensors.keys() - {*dropped}, key=rank):
        ours = family.name_of(name)
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
    return Plan(sources, dropped, aliased)
