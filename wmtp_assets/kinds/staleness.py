"""Why an artifact must be made again, and the rule that it was made as ``defs.yaml`` says now.

An artifact is what would be made now where its files are the committed ones, what it is made from
has the content that its manifest names, and builder and settings are those of the manifest. A
document is small and made of manifests: it is made in memory, and compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact, WmtpError
from wmtp_assets.base.progress import Progress, Say, silent
from wmtp_assets.base.settings import utc_now
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import kind_of
from wmtp_assets.rules.findings import (
    Report,
    Rule,
    Subject,
    as_text,
    differences,
    stated,
)
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.manifest import Document, Manifest
from wmtp_assets.storage.store import Store, materialize_command

Why = Literal[
    "never made",
    "damaged",
    "upstream changed",
    "settings changed",
    "builder changed",
    "made by an earlier version",
    "out of date",
]

EARLIER: Why = "made by an earlier version"


@dataclass(frozen=True)
class Reason:
    """One reason to make an artifact again.

    Attributes:
        what: the file, the upstream artifact, or the field, with what it was and is; for people.
    """

    why: Why
    what: str = ""

    def __str__(self) -> str:
        return f"{self.why}: {self.what}" if self.what else self.why


def reasons(
    store: Store,
    artifact: Artifact[Any],
    say: Say = silent,
    *,
    reads: bool = True,
    makes: bool = True,
) -> list[Reason]:
    """Why an artifact must be made again; empty: it is what would be made now.

    Args:
        reads: hash files that were written since they were last hashed, and ask the hub about a
            repository that is not pinned; False: do neither.
        makes: make a document in memory, which opens small files; False: look at manifests only.

    Raises:
        DownloadError: if the hub has to be asked and does not answer.
    """
    try:
        manifest = store.manifest(artifact)
    except MissingArtifact:
        return [Reason("never made")]
    except (CorruptArtifact, OSError) as error:
        return [Reason("damaged", str(error))]
    found = [
        *_damage(store, artifact, manifest, say, reads),
        *_upstream(store, artifact, manifest),
        *_making(store, artifact, manifest),
    ]
    kind = kind_of(artifact)
    if not found and kind.moved is not None:
        moved = kind.moved(store, artifact, manifest, reads)
        found += [Reason("upstream changed", " → ".join(moved))] if moved else []
    if not found and makes and kind.again is not None:
        found += _otherwise(store, artifact, manifest, say)
    return found


def _damage(
    store: Store, artifact: Artifact[Any], manifest: Manifest, say: Say, reads: bool
) -> Iterator[Reason]:
    """Files that are not the committed ones; without ``reads``, as far as sizes tell."""
    unread = store.unread(artifact, manifest)
    if not unread:
        return
    signed = store.sign(artifact, unread)
    progress = Progress(
        f"hashing {artifact.key}", sum(manifest.files[name].size for name in unread), say
    )
    damaged: dict[str, str] = {}
    for name in unread:
        path, record = store.path(artifact, name), manifest.files[name]
        if name not in signed:
            damaged[name] = f"{name} is missing"
        elif signed[name][0] != record.size:
            damaged[name] = f"{name} has {signed[name][0]} bytes, not {record.size}"
        elif reads:
            try:
                if hash_file(path, progress.advance) != record:
                    damaged[name] = f"{name} has another SHA-256 than it was committed with"
            except OSError as error:
                damaged[name] = f"{name} cannot be read: {error.strerror}"
    if reads:
        store.hashed(artifact, manifest, signed, say, damaged)
    for what in damaged.values():
        yield Reason("damaged", what)


def _upstream(store: Store, artifact: Artifact[Any], manifest: Manifest) -> Iterator[Reason]:
    """Artifacts that are there with other content, or say otherwise where the bytes come from."""
    there = {
        key: found
        for key in artifact.upstream
        if (found := store.find_manifest(store.catalogue[key])) is not None
    }
    for key, found in there.items():
        made_from = stated(manifest.document, "upstream", key)
        if made_from is None:
            yield Reason("upstream changed", f"{key} was not there")
        elif made_from != found.content_sha256:
            yield Reason("upstream changed", key)
    source = manifest.document.get("source")
    said = {
        key: found.document["source"]
        for key, found in there.items()
        if stated(found.document, "source", "repo") == stated(source, "repo") is not None
    }
    if said and source not in said.values():
        key, now = next(iter(said.items()))
        place, new, old = next(differences(now, source, "source"))
        yield Reason("upstream changed", f"{key} says {place}: {as_text(old)} → {as_text(new)}")


def _making(store: Store, artifact: Artifact[Any], manifest: Manifest) -> Iterator[Reason]:
    """Builder and settings that are not those of the manifest."""
    not_said: list[str] = []
    for place, new, old in made_otherwise(store, artifact, manifest):
        if old is None:
            not_said.append(place)
        else:
            why = "builder changed" if place == "builder" else "settings changed"
            is_builder = place == "builder"
            yield Reason(why, f"{old} → {new}" if is_builder else f"{place}: {old} → {new}")
    if not_said:
        yield Reason(EARLIER, f"it does not say {', '.join(not_said)}")


def made_otherwise(
    store: Store, artifact: Artifact[Any], manifest: Manifest
) -> Iterator[tuple[str, str, str | None]]:
    """Where the manifest says another builder or other settings than there are now.

    Yields:
        ``builder``, ``asset``, ``version`` or the field; what it is now; and what it was, None
        where the manifest does not say.
    """
    now: Document = kind_of(artifact).made_with(store, artifact)
    made_with = manifest.made_with
    before = made_with.settings if made_with else {}
    said = {"asset": artifact.key, "version": artifact.spec.version}
    for place, new in said.items():
        old = manifest.document.get(place)
        if old != new:
            yield place, new, None if old is None else as_text(old)
    if made_with is None:
        yield "builder", str(now["builder"]), None
    elif made_with.builder != now["builder"]:
        yield "builder", str(now["builder"]), str(made_with.builder)
    for field, value in now["settings"].items():
        if field not in before:
            yield field, as_text(value), None
        elif before[field] != value:
            for place, new, old in differences(value, before[field], field):
                yield place, as_text(new), as_text(old)


def _otherwise(
    store: Store, artifact: Artifact[Any], manifest: Manifest, say: Say
) -> Iterator[Reason]:
    """What an artifact that is made in memory would be now, where that is something else."""
    again = kind_of(artifact).again
    assert again is not None
    try:
        files, document = again(store, artifact, say)
    except (WmtpError, OSError) as error:
        yield Reason("out of date", f"it cannot be made now: {error}")
        return
    for name, data in files.items():
        record = manifest.files.get(name)
        if record is None or record.sha256 != hashlib.sha256(data).hexdigest():
            yield Reason("out of date", f"{name} would say otherwise")
    for place, new, old in differences(
        document, {key: manifest.document.get(key) for key in document}
    ):
        yield Reason("out of date", f"{place}: {as_text(old)} → {as_text(new)}")
        return


AHEAD = timedelta(days=1)
"""How far the clock of the machine that made an artifact may be ahead of this one."""

_PLACES = {"asset": "asset", "version": "version", "builder": "made_with.builder"}
"""Where the manifest says what is not a setting."""


def is_earlier(found: list[Reason]) -> bool:
    """Whether an artifact only does not say what made it."""
    return bool(found) and all(reason.why == EARLIER for reason in found)


def check_made_with(subject: Subject, report: Report) -> None:
    """Builder and settings of the manifest are those that there are now; a time in the future is a
    warning."""
    differing = [*made_otherwise(subject.store, subject.artifact, subject.manifest)]
    not_said = [place for place, _, old in differing if old is None]
    report.note(made_with=subject.stated("made_with"), not_said=not_said)
    for place, new, old in differing:
        if old is not None:
            report.add(
                subject.file(subject.artifact.manifest),
                expected=new,
                found=old,
                place=_PLACES.get(place, f"made_with.settings.{place}"),
                remedy=materialize_command(subject.artifact.key),
            )
    if not_said and not report.outcome.findings:
        report.add(
            subject.file(subject.artifact.manifest),
            expected="what it was made with",
            found=f"{EARLIER}, which did not say {', '.join(not_said)}",
            problem="warning",
            remedy=f"wmtp migrate {subject.artifact.key}",
        )
    latest = f"{max(utc_now(), datetime.now(UTC)) + AHEAD:%Y-%m-%dT%H:%M:%SZ}"
    created_at = subject.manifest.document["created_at"]
    if created_at > latest:
        report.add(
            subject.file(subject.artifact.manifest),
            expected=f"a time before {latest}",
            found=created_at,
            place="created_at",
            problem="warning",
            remedy="see whose clock is wrong. To date it anew, move the manifest elsewhere, then: "
            + materialize_command(subject.artifact.key),
        )


RULES = (
    Rule(
        "made_with",
        "The artifact was made by the present builder with the present settings; if an earlier "
        "version did not record them, that is a warning.",
        (),
        check_made_with,
    ),
)
