"""What a publication would do: which files are new, the same, changed or no longer wanted."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from wmtp_assets.base.errors import PublishError
from wmtp_assets.base.model import folded
from wmtp_assets.base.progress import Say, human_bytes, silent
from wmtp_assets.base.settings import Source
from wmtp_assets.destinations.destination import SIDE_BY_SIDE, Destination, How, NotThere, comparing
from wmtp_assets.destinations.listing import (
    MANIFEST,
    MAX_SIZE,
    Listing,
    Local,
    Outgoing,
    SentArtifact,
    SentFile,
    parse_listing,
)
from wmtp_assets.rules.findings import as_text
from wmtp_assets.storage.manifest import FileRecord

State = Literal["new", "same", "changed", "damaged", "extra"]
STATES: tuple[State, ...] = ("new", "same", "changed", "damaged", "extra")


@dataclass(frozen=True)
class Item:
    """One file of the plan.

    Attributes:
        state: ``damaged``: published as it is here, but not lying there as published;
            ``extra``: published, or left from a publication before, and no longer wanted.
        artifact: asset key; empty where none has it any more.
        size: bytes.
    """

    path: str
    state: State
    artifact: str
    size: int


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        source, release: of what is here; None: nothing was released.
        before: what is published now; None: nothing.
        locals: the artifacts that are published.
        outgoing: the files to send.
        kept: path → file that is there already.
        dropped: artifacts that are published no longer.
        others: artifacts that stay published as they are.
        extra: path → published files that are obsolete, as they were sent.
    """

    source: Source
    release: str | None
    before: Listing | None
    locals: tuple[Local, ...]
    items: tuple[Item, ...]
    outgoing: tuple[Outgoing, ...]
    kept: Mapping[str, SentFile]
    dropped: tuple[str, ...]
    others: tuple[str, ...]
    extra: Mapping[str, SentFile]

    @property
    def size(self) -> int:
        """Bytes to send, where nothing of an interrupted publication is there."""
        return sum(file.record.size for file in self.outgoing)

    def count(self) -> dict[State, dict[str, int]]:
        """State → number of files and bytes."""
        return {
            state: {
                "files": sum(item.state == state for item in self.items),
                "bytes": sum(item.size for item in self.items if item.state == state),
            }
            for state in STATES
        }

    def as_json(self) -> dict[str, Any]:
        """The counts, what is dropped, and each file that is not the same."""
        return {
            "states": self.count(),
            "dropped": list(self.dropped),
            "files": [
                {"path": i.path, "state": i.state, "artifact": i.artifact, "bytes": i.size}
                for i in self.items
                if i.state != "same"
            ],
        }


def read_published(destination: Destination) -> Listing | None:
    """What ``MANIFEST.json`` says at the destination; None: there is none.

    Raises:
        PublishError: if it is damaged, or the destination refuses.
    """
    data = bytearray()
    try:
        for block in destination.read(MANIFEST):
            data += block
            if len(data) > MAX_SIZE:
                break
    except NotThere:
        return None
    return parse_listing(bytes(data), f"{destination.name}/{MANIFEST}")


def make_plan(
    destination: Destination,
    locals_: Sequence[Local],
    source: Source,
    release: str | None,
    how: How,
    *,
    drop: Collection[str] = (),
    downgrade: bool = False,
    overwrite: bool = False,
    say: Say = silent,
) -> Plan:
    """Compare what is here with what is published.

    Args:
        release: the version that is released here.
        how: how what is published is compared with what lies there.
        drop: keys of artifacts that will no longer be published.
        downgrade: an older release may replace a newer one.
        overwrite: our file may replace one that no publication put there, and a published value
            head that is not here is no longer wanted.

    Raises:
        PublishError: if the destination holds the other source, a newer release or an artifact of
            one, if what is to be dropped is not published, if names collide, if a file is too large
            for it, if somebody else's file is where ours belongs, if a value head is published that
            is not here, or if it refuses.
    """
    listing = read_published(destination)
    artifacts = listing.artifacts if listing else {}
    published = listing.files if listing else {}
    if listing is not None and listing.source != source:
        raise PublishError(
            f"{destination.name} holds artifacts of the source {listing.source!r}, these are of "
            f"{source!r}: the two never share a tree. Publish to another place"
        )
    for key in drop:
        if key not in artifacts:
            raise PublishError(
                f"{key} cannot be dropped: it is not published at {destination.name}; that is: "
                f"{', '.join(artifacts) or 'nothing'}"
            )
    if listing is not None and not downgrade:
        _require_successor(destination.name, listing, locals_, release)
    if not overwrite:
        _require_heads(destination.name, artifacts, locals_)
    files = {file.path: file for local in locals_ for file in local.files}
    keys = {local.artifact.key for local in locals_}
    others = [key for key in artifacts if key not in keys and key not in drop]
    staying = {*files, *(path for key in others for path in artifacts[key].files)}
    destination.expect(files, staying)
    same = {
        path: published[path]
        for path, file in files.items()
        if path in published and published[path].record == file.record
    }
    advance = comparing(f"comparing with {destination.name}", same.values(), say)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        answers = pool.map(lambda path: destination.is_same(path, same[path], how, advance), same)
        confirmed = {path for path, is_same in zip(same, answers, strict=True) if is_same}
    for path in same.keys() - confirmed:
        say(f"{path} does not lie at {destination.name} as it was published: it is sent again")
    for file in files.values():
        if file.record.size > destination.largest:
            raise PublishError(
                f"{file.path} has {human_bytes(file.record.size)}, and {destination.name} takes no "
                f"file of more than {human_bytes(destination.largest)}. Nothing was sent; publish "
                f"without {file.artifact}, or to a folder"
            )
    retired = listing.retired if listing else {}
    extra = {p: file for p, file in {**retired, **published}.items() if p not in staying}
    there = destination.names(files)
    _require_no_collision(destination.name, there, files, staying)
    if not overwrite:
        unknown = there.keys() - published.keys() - retired.keys()
        _require_ours(destination, [files[path] for path in files if path in unknown], say)
    states: dict[str, State] = dict.fromkeys(published, "changed")
    states |= {path: "same" if path in confirmed else "damaged" for path in same}
    items = [
        Item(path, states.get(path, "new"), file.artifact, file.record.size)
        for path, file in files.items()
    ]
    owners = {path: key for key in drop for path in artifacts[key].files}
    items += [Item(path, "extra", owners.get(path, ""), f.size) for path, f in extra.items()]
    return Plan(
        source,
        release,
        listing,
        tuple(locals_),
        tuple(items),
        tuple(file for path, file in files.items() if path not in confirmed),
        {path: same[path] for path in confirmed},
        tuple(drop),
        tuple(others),
        extra,
    )


def _require_successor(
    name: str, listing: Listing, locals_: Sequence[Local], release: str | None
) -> None:
    """Neither the tree nor an artifact whose content, or value head, changes goes back to an older
    release."""
    held = {name: listing.release}
    for local in locals_:
        before = listing.artifacts.get(local.artifact.key)
        here = {file.path: file.record for file in local.files}
        if before and (
            before.content_sha256 != local.content_sha256
            or _heads(before.files, local) != _heads(here, local)
        ):
            held[f"{local.artifact.key} at {name}"] = before.release
    for what, newer in held.items():
        if newer and is_newer(newer, release):
            ours = f"release {as_text(release)}" if release else "nothing released"
            raise PublishError(
                f"{what} holds release {as_text(newer)}, and here is {ours}: it would go "
                "back. Publish from the machine that has the newer release, to another place, or "
                "with --downgrade if it must go back"
            )


def _heads(files: Mapping[str, FileRecord], local: Local) -> dict[str, str]:
    """Path → SHA-256 of what training put beside the files of an artifact."""
    paths = [f"{local.artifact.base}/{guest}" for guest in local.artifact.guests]
    return {path: files[path].sha256 for path in paths if path in files}


def _require_heads(
    name: str, artifacts: Mapping[str, SentArtifact], locals_: Sequence[Local]
) -> None:
    """A value head that is published, and is not here, may be the only one there is."""
    for local in locals_:
        before = artifacts.get(local.artifact.key)
        there = _heads(before.files, local) if before else {}
        for path in there.keys() - {file.path for file in local.files}:
            raise PublishError(
                f"{path} is published at {name}, and {local.artifact.key} has no value head here: "
                "it would be published no longer. Nothing was sent; fetch it first with wmtp pull "
                f"{local.artifact.spec.folder}, or publish with --overwrite if it must go"
            )


def is_newer(version: str, than: str | None) -> bool:
    """Whether a release's version is higher: numbers as numbers; ``-rc1`` is before what it leads
    to, ``+build`` means nothing, and no release is the lowest."""
    return than is None or _order(version) > _order(than)


def _order(version: str) -> tuple[list[int], bool, list[tuple[bool, int, str]]]:
    main, _, rest = version.partition("+")[0].partition("-")
    numbers = re.findall(r"[0-9]{1,9}", re.sub(r"(\.0+)+$", "", main))  # 2.0 is 2.0.0
    words = re.findall(r"[0-9]{1,9}|[A-Za-z]+", rest)
    return (
        [int(number) for number in numbers],
        not rest,
        [(not word.isdigit(), int(word) if word.isdigit() else 0, word) for word in words],
    )


def _require_ours(destination: Destination, files: Sequence[Outgoing], say: Say) -> None:
    """What lies where our files belong, and is not published, must be what would be put there."""
    records = [file.record for file in files]
    advance = comparing(f"comparing what nobody published at {destination.name}", records, say)
    for file in files:
        if not destination.holds(file, advance):
            raise PublishError(
                f"{file.path} at {destination.name} is another file than the one of "
                f"{file.artifact} here, and {MANIFEST} does not name it: it is somebody else's, or "
                "was left by a first publication that was cut off. Nothing was sent; move it away, "
                "or replace what lies there with --overwrite"
            )


def _require_no_collision(
    name: str, found: Collection[str], files: Mapping[str, Outgoing], staying: set[str]
) -> None:
    """No two files would have one name, also where upper and lower case are the same."""
    there, ours = sorted({*found, *staying, MANIFEST}), {*files, MANIFEST}
    by_fold: dict[str, list[str]] = {}
    for path in there:
        by_fold.setdefault(folded(path), []).append(path)
    for path in there:
        places = [path, *map(str, PurePosixPath(path).parents)]
        for other in (o for place in places for o in by_fold.get(folded(place), ())):
            if other != path and not ours.isdisjoint((path, other)):
                mine, theirs = (path, other) if path in ours else (other, path)
                raise PublishError(
                    f"{mine} and {as_text(theirs)}, at {name}, would be one file, or one "
                    "inside the other, where upper and lower case are the same. Nothing was sent; "
                    "move the latter away"
                )
