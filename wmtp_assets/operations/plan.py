"""What making artifacts will take: bytes to download, and disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, computed_field

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints.preflight import judge
from wmtp_assets.hub.download import FORESEEN, RAW, foresee, known_files
from wmtp_assets.hub.endpoint import open_endpoint
from wmtp_assets.hub.remote import MAIN, pin_of, read_pins, resolve
from wmtp_assets.kinds.registry import kind_of
from wmtp_assets.kinds.staleness import reasons
from wmtp_assets.operations.materialize import is_alone
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer.places import Places, download_rate, free_space, last_rate


class RawPlan(BaseModel):
    """What one raw artifact needs.

    Attributes:
        revision: the commit; None: not known.
        is_pinned: whether defs.yaml or wmtp.lock name it; the sample is as pinned as its code.
        files, size: of the repository's wanted files; None: not known.
        here: bytes of them that need not be fetched, by size alone; None: not known.
        to_download: the others; None: not known.
        problem: why it cannot be had, or ``would be refused: `` and why; empty: nothing is known
            against it.
        warning: the latter, where it is had all the same, as only raw files are wanted.
    """

    name: str
    repository: str
    revision: str | None
    is_pinned: bool
    files: int | None
    size: int | None
    here: int | None
    problem: str
    warning: str = ""
    to_download: int | None


class Space(BaseModel):
    """Disk, in bytes; None: not known, because some repository could not be asked.

    Attributes:
        raw: of all raw files.
        made: of what is made from them.
        staging: of the artifact that needs most while it is made: its new files beside the old ones
            and the parts of a conversion.
        used: what of all that is there now.
    """

    raw: int | None
    made: int | None
    staging: int | None
    used: int | None

    @computed_field
    @property
    def peak(self) -> int | None:
        return _sum(self.raw, self.made, self.staging)

    @computed_field
    @property
    def needed(self) -> int | None:
        """More than is used now."""
        if self.peak is None or self.used is None:
            return None
        return max(self.peak - self.used, 0)


def _sum(*sizes: int | None) -> int | None:
    """The sum of sizes; None where one of them is not known."""
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


class Plan(BaseModel):
    """What making artifacts takes.

    Attributes:
        free: bytes on the disk of the storage root.
        bytes_per_second: assumed of a download; None: none was measured yet.
    """

    raw: list[RawPlan]
    space: Space
    free: int
    bytes_per_second: float | None


def make_plan(store: Store, artifacts: Iterable[Artifact], rate: float | None = None) -> Plan:
    """What artifacts, and all they are made from, need.

    Args:
        rate: bytes per second to assume; None: as last measured.
    """
    wanted = with_upstream(store, artifacts)
    keys = [artifact.key for artifact in wanted]
    raw = [
        plan_raw(store, artifact, alone=is_alone(store.catalogue, artifact, keys))
        for artifact in wanted
        if artifact.is_downloaded
    ]
    return Plan(
        raw=raw,
        space=space_of(store, wanted, raw),
        free=free_space(store),
        bytes_per_second=rate or last_rate(download_rate(store)),
    )


def with_upstream(store: Store, artifacts: Iterable[Artifact]) -> list[Artifact]:
    """Artifacts and all they are made from, upstream first; optional ones only where needed."""
    wanted = {artifact.key for artifact in artifacts}
    for artifact in reversed([*store.catalogue]):
        if artifact.key in wanted:
            wanted |= {
                key
                for key in artifact.upstream
                if not (artifact.is_summary and store.catalogue[key].optional)
            }
    return [artifact for artifact in store.catalogue if artifact.key in wanted]


def plan_raw(store: Store, artifact: Artifact, *, alone: bool = False) -> RawPlan:
    """What one raw artifact needs; asks the hub where what is here does not say.

    Args:
        alone: nothing that is made from it is wanted.
    """
    spec = artifact.spec
    pins = read_pins(store.settings, spec.repository)
    pin = pin_of(store.settings, spec, pins)
    problem = warning = ""
    remote = known_files(store, artifact, pins)
    if remote is None:
        try:
            with open_endpoint(store.settings, spec.repository) as endpoint:
                remote = resolve(endpoint, spec, pin or MAIN)
        except WmtpError as error:
            problem = str(error)
    if remote and (reason := foresee(store, artifact, remote, judge)):
        foreseen = f"{FORESEEN}{reason}"
        problem, warning = ("", foreseen) if alone else (foreseen, "")
    missing = Places(store, artifact, RAW).missing(remote.files) if remote else 0
    return RawPlan(
        name=artifact.key,
        repository=spec.repository.id,
        revision=remote.commit if remote else pin,
        is_pinned=pin is not None
        or (store.settings.source == "sample" and not spec.repository.is_folder),
        files=len(remote.files) if remote else None,
        size=remote.size if remote else None,
        here=remote.size - missing if remote else None,
        problem=problem,
        warning=warning,
        to_download=missing if remote else None,
    )


def space_of(store: Store, artifacts: Sequence[Artifact], rows: Sequence[RawPlan]) -> Space:
    """Disk that making ``artifacts``, upstream first, takes; estimated for those that were never
    made. What is as it would be made, like all it is made from, needs no second generation."""
    raw = {row.name: row.size for row in rows}
    made: list[int | None] = []
    staging: list[int | None] = [0]
    used: list[int | None] = [row.here for row in rows]
    changing: set[str] = set()
    for artifact in artifacts:
        manifest, kind = store.find_manifest(artifact), kind_of(artifact)
        committed = manifest.size if manifest else 0
        bytes_of_raw = raw.get(f"{artifact.spec.name}_raw", 0)
        size = committed if manifest else None
        if not manifest and (bytes_of_raw is not None or kind.is_bound):
            size = round(kind.size(artifact, bytes_of_raw or 0))
        if reasons(store, artifact, reads=False) or not changing.isdisjoint(artifact.upstream):
            changing.add(artifact.key)
            staging.append(None if size is None else round(committed + kind.scratch * size))
        if not artifact.is_downloaded:
            made.append(size)
            used.append(committed)
    most = None if None in staging else max(size for size in staging if size is not None)
    return Space(raw=_sum(*raw.values()), made=_sum(*made), staging=most, used=_sum(*used))
