"""What making artifacts will take: bytes to download, and disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact, WmtpError
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.hub.download import Places, known_files
from wmtp_assets.hub.endpoint import open_endpoint
from wmtp_assets.hub.pins import pin_of, read_lock
from wmtp_assets.hub.remote import MAIN, resolve
from wmtp_assets.kinds.registry import kind_of
from wmtp_assets.storage.store import Store


@dataclass(frozen=True)
class RawPlan:
    """What one raw artifact needs.

    Attributes:
        revision: the commit; None: not known.
        is_pinned: whether defs.yaml or the lock file name it; the sample is as pinned as its code.
        files, size: of the repository's wanted files; None: not known.
        here: bytes of them that need not be fetched, by size alone.
        problem: why it cannot be had; empty: it can.
    """

    name: str
    repository: str
    revision: str | None
    is_pinned: bool
    files: int | None
    size: int | None
    here: int
    problem: str = ""

    @property
    def missing(self) -> int:
        """Bytes to download."""
        return (self.size or 0) - self.here

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "to_download": self.missing if self.size is not None else None}


@dataclass(frozen=True)
class Space:
    """Disk, in bytes.

    Attributes:
        raw: of all raw files.
        made: of what is made from them.
        staging: of the artifact that needs most while it is made: its new files beside the old ones
            and the parts of a conversion.
        used: what of all that is there now.
    """

    raw: int
    made: int
    staging: int
    used: int

    @property
    def peak(self) -> int:
        return self.raw + self.made + self.staging

    @property
    def needed(self) -> int:
        """More than is used now."""
        return max(self.peak - self.used, 0)

    def as_json(self) -> dict[str, int]:
        return {**asdict(self), "peak": self.peak, "needed": self.needed}


def with_upstream(store: Store, artifacts: Iterable[Artifact]) -> list[Artifact]:
    """Artifacts and all they are made from, upstream first; optional ones only where needed."""
    wanted = {artifact.key for artifact in artifacts}
    for artifact in reversed([*store.catalogue]):
        if artifact.key in wanted:
            needed = (store.catalogue[key] for key in artifact.upstream)
            wanted |= {i.key for i in needed if not (artifact.is_summary and i.optional)}
    return [artifact for artifact in store.catalogue if artifact.key in wanted]


def plan_raw(store: Store, artifact: Artifact) -> RawPlan:
    """What one raw artifact needs; asks the hub where what is here does not say."""
    spec = artifact.spec
    lock = read_lock(store.settings)
    pin = pin_of(store.settings, spec, lock)
    problem = ""
    remote = known_files(store, artifact, lock)
    if remote is None:
        try:
            with open_endpoint(store.settings, spec.repository) as endpoint:
                remote = resolve(endpoint, spec, pin or MAIN)
        except WmtpError as error:
            problem = str(error)
    places = Places(store, artifact)
    return RawPlan(
        name=artifact.key,
        repository=spec.repository.id,
        revision=remote.commit if remote else pin,
        is_pinned=pin is not None or store.settings.source == "sample",
        files=len(remote.files) if remote else None,
        size=remote.size if remote else None,
        here=sum(map(places.bytes_here, remote.files)) if remote else 0,
        problem=problem,
    )


def space_of(store: Store, artifacts: Sequence[Artifact], rows: Sequence[RawPlan]) -> Space:
    """Disk that making ``artifacts`` takes; estimated for those that were never made."""
    raw = {row.name: row.size or 0 for row in rows}
    made = staging = 0
    used = sum(row.here for row in rows)
    for artifact in artifacts:
        committed, kind = _committed_size(store, artifact), kind_of(artifact)
        size = committed
        if size is None:
            size = round(kind.size(artifact, raw.get(f"{artifact.spec.name}_raw", 0)))
        staging = max(staging, round((committed or 0) + kind.scratch * size))
        if not artifact.is_downloaded:
            made += size
            used += committed or 0
    return Space(sum(raw.values()), made, staging, used)


def _committed_size(store: Store, artifact: Artifact) -> int | None:
    try:
        return store.manifest(artifact).size
    except (MissingArtifact, CorruptArtifact, OSError):
        return None
