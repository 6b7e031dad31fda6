"""Sending a plan: the payload, then names, then ``MANIFEST.json``.

Until all payload is there, a failure leaves the destination as it was; what was sent is kept out of
sight, and the next call resumes there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from wmtp_assets.base.errors import PublishError
from wmtp_assets.base.progress import Progress, Say, silent
from wmtp_assets.base.settings import timestamp
from wmtp_assets.destinations.changes import Plan, is_newer, read_published
from wmtp_assets.destinations.destination import (
    Destination,
    How,
    Stopped,
    Units,
    comparing,
    each,
)
from wmtp_assets.destinations.journal import write_rate
from wmtp_assets.destinations.listing import MANIFEST, Listing, Outgoing, SentArtifact, SentFile
from wmtp_assets.storage.store import Store


@dataclass(frozen=True)
class Options:
    """How to publish.

    Attributes:
        how: how files are compared that are published already, and those that were sent.
        delete: remove published files that are obsolete; else they stay.
        downgrade: an older release may replace a newer one.
        overwrite: our file may replace one that no publication put there, and a value head
            that is published and not here is published no longer.
        drop: keys of artifacts that will no longer be published.
        is_accepted: whoever publishes keeps to the conditions of the licences.
        include_local_small: where nothing is named, what exists for tests on one machine is sent
            too.
    """

    how: How = "hash"
    delete: bool = False
    downgrade: bool = False
    overwrite: bool = False
    drop: tuple[str, ...] = ()
    include_local_small: bool = False
    is_accepted: bool = False


DEFAULT = Options()


@dataclass(frozen=True)
class Done:
    """What was published.

    Attributes:
        payload: bytes of files that were sent.
        is_written: ``MANIFEST.json`` was; False: all was published before.
        deleted: paths of files that were removed.
    """

    plan: Plan
    listing: Listing
    payload: int
    seconds: float
    is_written: bool
    deleted: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            **self.plan.as_json(),
            "artifacts": {local.artifact.key: local.content_sha256 for local in self.plan.locals},
            "release": self.listing.release,
            "sent_bytes": self.payload,
            "seconds": round(self.seconds, 3),
            "manifest_written": self.is_written,
            "deleted": list(self.deleted),
        }


def transmit(
    store: Store,
    destination: Destination,
    plan: Plan,
    options: Options = DEFAULT,
    say: Say = silent,
) -> Done:
    """Send what is new or changed, verify it, and write ``MANIFEST.json``.

    Args:
        store: there the rate is remembered.

    Raises:
        PublishError: if a file changes while it is read, somebody else publishes at the same time,
            or the destination refuses.
    """
    started, sent_before = time.monotonic(), destination.payload
    sent = _send(destination, plan, say)
    listing = _listing(plan, sent, downgrade=options.downgrade)
    is_written = listing is not plan.before or (destination.is_atomic and bool(sent))
    deleted: tuple[str, ...] = ()
    is_held = is_written or bool(sent) or (options.delete and bool(plan.extra))
    with destination.hold() if is_held else nullcontext():
        if sent:
            _commit(destination, plan, sent, options.how, say)
        seconds, payload = time.monotonic() - started, destination.payload - sent_before
        if is_written:
            write_rate(store, destination.key, payload, seconds)
            _write_manifest(destination, plan.before, listing, sent)
        elif sent:  # what was damaged lies there again
            _require_as_before(destination, listing, "Run again")
        if options.delete and plan.extra:
            _require_as_before(destination, listing, "Nothing was deleted; run again")
            deleted = _delete(destination, plan, say)
            before, listing = listing, listing.model_copy(update={"retired": {}})
            _write_manifest(destination, before, listing, {})
            is_written = True
    destination.finish([file.path for local in plan.locals for file in local.files])
    return Done(plan, listing, payload, seconds, is_written, deleted)


def _send(destination: Destination, plan: Plan, say: Say) -> dict[str, SentFile]:
    """Stage what is to be sent, and read back what is staged, where nobody did."""
    if not plan.outgoing:
        return {}
    destination.prepare(plan.size, say)
    sent = _stage(destination, plan.outgoing, say)
    advance = comparing("comparing what was sent", sent.values(), say)

    _require_each(
        sent,
        lambda path, file: destination.is_staged(path, file, advance),
        lambda file: f"{_as_sent(destination, file)}. Nothing was published; run again",
    )
    return sent


def _require_each(
    files: Mapping[str, SentFile],
    is_right: Callable[[str, SentFile], bool],
    problem: Callable[[SentFile], str],
) -> None:
    """Compare all files, several at a time, and say what is wrong with one that is not right."""

    def require(path: str) -> None:
        if not is_right(path, files[path]):
            raise PublishError(f"{path} does not lie at {problem(files[path])}")

    each(require, files)


def _as_sent(destination: Destination, file: SentFile) -> str:
    return f"{destination.name} as it was sent: {file.size} bytes with SHA-256 {file.sha256}"


def _stage(destination: Destination, outgoing: Sequence[Outgoing], say: Say) -> dict[str, SentFile]:
    progress = Progress("publishing", sum(file.record.size for file in outgoing), say)
    largest_first = sorted(outgoing, key=lambda file: -file.record.size)
    with ThreadPoolExecutor(destination.streams) as pool:
        told = progress.advance, progress.found
        tasks = {pool.submit(destination.stage, f, *told): f for f in largest_first}
        try:
            wait(tasks, return_when=FIRST_EXCEPTION)
        finally:  # of an error or Ctrl-C: the parts on their way arrive, no more begin
            if not all(task.done() and not task.exception() for task in tasks):
                destination.stop()
                pool.shutdown(cancel_futures=True)
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
    if errors:  # others stopped because of one, which says why
        raise min(errors, key=lambda error: isinstance(error, Stopped))
    return {file.path: task.result() for task, file in tasks.items()}


def _commit(
    destination: Destination, plan: Plan, sent: Mapping[str, SentFile], how: How, say: Say
) -> None:
    """Put every file in its place, what describes others behind the others; then compare all."""
    _require_as_before(
        destination, plan.before, "Nothing of this was published; run again: what was sent is kept"
    )
    say(f"all is there; {len(sent)} files get their names at {destination.name}")
    advance = comparing("comparing what is in its place", sent.values(), say)

    with _naming(destination):
        destination.commit(_by_unit(plan, sent), _ours(plan))
        _require_each(
            sent,
            lambda path, file: destination.is_placed(path, file, how, advance),
            lambda file: f"{_as_sent(destination, file)}. Run again",
        )


def _ours(plan: Plan) -> set[str]:
    """The paths of all files that are published, were, or will be."""
    there = {*plan.before.files, *plan.before.retired} if plan.before else set[str]()
    return there | {file.path for local in plan.locals for file in local.files}


def _by_unit(plan: Plan, sent: Mapping[str, SentFile]) -> Units:
    """The sent files by the folder that is exchanged as a whole, those at the root last."""
    folders = {
        file.path: local.artifact.unit if file.path.startswith(f"{local.artifact.unit}/") else ""
        for local in plan.locals
        for file in local.files
        if file.path in sent
    }
    units = {folder: {} for folder in sorted(folders.values(), key=lambda folder: not folder)}
    for path, folder in folders.items():
        units[folder][path] = sent[path]
    return units


@contextmanager
def _naming(destination: Destination) -> Iterator[None]:
    """Say what is there while files have new names and ``MANIFEST.json`` the old ones, where that
    can be."""
    try:
        yield
    except PublishError as error:
        if destination.is_atomic:
            raise
        raise PublishError(
            f"while files were put in their places: {error}. {MANIFEST} names those from before, "
            "and wmtp pull refuses those that changed, until a publication has gone through"
        ) from error


def _require_as_before(destination: Destination, before: Listing | None, remedy: str) -> None:
    """``MANIFEST.json`` must say this still."""
    if read_published(destination) != before:
        raise PublishError(f"{destination.name} was published to by somebody else. {remedy}")


def _write_manifest(
    destination: Destination,
    before: Listing | None,
    listing: Listing,
    sent: Mapping[str, SentFile],
) -> None:
    """Write it where it is as before; then look once more whether all that it names anew is so."""
    with _naming(destination) if sent else nullcontext():
        _require_as_before(destination, before, "Run again")
        destination.write_manifest(listing.render())
    if read_published(destination) != listing:
        raise PublishError(
            f"{destination.name}/{MANIFEST} is not what was written: somebody else publishes "
            "there, or it is damaged. Run again"
        )
    _require_each(
        sent,
        lambda path, file: destination.is_same(path, file, "stated"),
        lambda file: (
            f"{destination.name} any more as {MANIFEST} says since a moment ago: somebody else "
            "publishes there. Run again when that is over"
        ),
    )


def _delete(destination: Destination, plan: Plan, say: Say) -> tuple[str, ...]:
    """Delete what is no longer wanted, where it is what was published; the paths that were."""
    deleted: list[str] = []
    for path, file in plan.extra.items():
        if destination.is_same(path, file, "hash"):
            destination.delete(path)
            deleted.append(path)
        else:
            say(
                f"{path} does not lie at {destination.name} as it was published: what lies there, "
                "if anything does, is kept, and counts as ours no longer"
            )
    return tuple(deleted)


def _listing(plan: Plan, sent: Mapping[str, SentFile], *, downgrade: bool = False) -> Listing:
    """What ``MANIFEST.json`` will say: the same object as before where it says that already.

    What is published with the same content already stays of a newer release that it came from.
    """
    before = plan.before
    there = before.artifacts if before else {}
    files = {**plan.kept, **sent}
    artifacts = {key: there[key] for key in plan.others}
    is_released = any(item.kind == "release" for item in artifacts.values())
    release = before.release if before and is_released else None
    for local in plan.locals:
        old = there.get(local.artifact.key)
        newer = old.release if old and old.content_sha256 == local.content_sha256 else None
        is_kept = newer and not downgrade and is_newer(newer, plan.release)
        artifacts[local.artifact.key] = SentArtifact(
            kind=local.artifact.kind,
            version=local.version,
            content_sha256=local.content_sha256,
            release=newer if is_kept else plan.release,
            files={file.path: files[file.path] for file in local.files},
        )
        if local.artifact.kind == "release":
            release = plan.release
    listing = Listing(
        source=plan.source,
        release=release,
        published_at=timestamp(),
        artifacts={key: artifacts[key] for key in sorted(artifacts)},
        retired={path: plan.extra[path] for path in sorted(plan.extra)},
    )
    if before and listing == before.model_copy(update={"published_at": listing.published_at}):
        return before
    return listing
