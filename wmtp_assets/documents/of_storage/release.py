"""``RELEASE.json``: version, size and hash of every artifact, frozen.

Frozen is what is made from upstream. What only says what other artifacts are (cards, Croissant,
the parameter snapshot, the documents) is not: it changes when an optional artifact appears, or when
this project words it otherwise, and the rule ``current`` compares it with what it describes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact
from wmtp_assets.base.model import AssetName, Sha256, StrictModel, first_problem
from wmtp_assets.base.strict_json import parse_object, read_small
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.documents.document import SAMPLE, DocumentType, Fact, Facts
from wmtp_assets.storage import manifest
from wmtp_assets.storage.manifest import FileRecord, render
from wmtp_assets.storage.pieces import payload
from wmtp_assets.storage.store import Store, materialize_command


class Frozen(StrictModel):
    """An artifact as it was released.

    Attributes:
        size: bytes of its files.
        files: how many they are.
    """

    version: str
    size: int = Field(ge=0, strict=True)
    files: int = Field(ge=0, strict=True)
    content_sha256: Sha256


class Release(StrictModel):
    """``RELEASE.json``."""

    of: str = Field(description="which source it is of")
    name: str
    version: str
    artifacts: dict[AssetName, Frozen]


@dataclass(frozen=True)
class Difference:
    """Where an artifact is not what was released.

    Attributes:
        expected, found: for people.
        remedy: what to do.
        is_frozen: it changed under an unchanged version; False: the release does not know it yet.
    """

    key: str
    expected: str
    found: str
    remedy: str
    is_frozen: bool


def parse_release(data: bytes, where: str) -> Release:
    """Read ``RELEASE.json``.

    Raises:
        InvalidInput: if it is something else; ``where`` names the file.
    """
    try:
        return Release.model_validate(parse_object(data))
    except ValidationError as error:
        raise InvalidInput(f"{where}: {first_problem(error)}") from error
    except ValueError as error:
        raise InvalidInput(f"{where}: {error}") from error


def released(store: Store, artifact: Artifact) -> Release | None:
    """The release that is committed, or its copy at the root where that is damaged; None: none.

    Undamaged is what the manifest knows; without one, two copies that are equal.

    Raises:
        CorruptArtifact: if both were changed: a release that cannot be read must not be replaced
            by another one.
        InvalidInput: as :func:`parse_release`.
    """
    (name,) = artifact.owns
    where = str(store.path(artifact, name))
    try:
        return parse_release(store.read(artifact, name), where)
    except (MissingArtifact, CorruptArtifact) as error:
        copies = [_bytes_at(store.path(artifact, name)), _bytes_at(store.root / name)]
        if not store.manifest_path(artifact).exists() and not any(copies):
            return None
        committed = store.find_manifest(artifact)
        for data in filter(None, copies):
            record = FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())
            is_known = record == committed.files.get(name) if committed else copies[0] == copies[1]
            if is_known:
                return parse_release(data, where)
        raise CorruptArtifact(
            f"{error}. Neither {where} nor {store.root / name} is what was released: put one of "
            f"them back from a copy; to release anew, take both and "
            f"{store.manifest_path(artifact)} away"
        ) from error


def _bytes_at(path: Path) -> bytes | None:
    try:
        return read_small(path)
    except (OSError, ValueError):
        return None


def to_freeze(facts: Facts) -> list[Fact]:
    """The artifacts that a release freezes."""
    return [fact for fact in facts.there if not fact.artifact.is_generated]


def _frozen(fact: Fact, files: Mapping[str, FileRecord]) -> Frozen:
    """What a release says of an artifact with these files."""
    return Frozen(
        version=str(fact.stated("version")),
        size=sum(record.size for record in files.values()),
        files=len(files),
        content_sha256=manifest.content_sha256(files),
    )


def differences(facts: Facts, release: Release) -> Iterator[Difference]:
    """Where the artifacts that are there are not what was released.

    Releases of the version before do not count the file with the hashes of pieces, which follows
    from the others.
    """
    again = materialize_command(facts.about.key)
    for fact in to_freeze(facts):
        was, now = release.artifacts.get(fact.key), _frozen(fact, fact.files)
        if was is None or was.version != now.version:
            yield Difference(
                fact.key,
                f"version {was.version}, as released" if was else "an artifact that was released",
                f"version {now.version}" + ("" if was else ", which was not there then"),
                again,
                is_frozen=False,
            )
        elif was not in (now, _frozen(fact, payload(fact.files, fact.artifact.pieces))):
            name = fact.artifact.spec.name
            yield Difference(
                fact.key,
                f"{_described(was)}, as version {was.version} was released",
                _described(now),
                f"if the change is wanted, raise version in the defs.yaml of {name} and run: "
                + materialize_command(f"{fact.key},{facts.about.key}"),
                is_frozen=True,
            )


def _described(item: Frozen) -> str:
    return f"{item.files} files of {item.size} bytes with SHA-256 {item.content_sha256}"


def freeze(facts: Facts, before: Release | None) -> bytes:
    """The bytes of a release of what is there now.

    What was released and is not there any more stays in it.

    Raises:
        InvalidInput: naming an artifact that changed while its version did not.
    """
    changed = [item for item in differences(facts, before) if item.is_frozen] if before else []
    if changed:
        first = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise InvalidInput(
            f"{facts.about.key} was not made: {first.key}{more} changed under an unchanged "
            f"version: expected {first.expected}, found {first.found}; {first.remedy}"
        )
    entries: Mapping[str, Frozen] = {
        **(before.artifacts if before else {}),
        **{fact.key: _frozen(fact, fact.files) for fact in to_freeze(facts)},
    }
    order = [artifact.key for artifact in facts.store.catalogue]
    release = Release(
        of=SAMPLE if facts.is_sample else "The real sources.",
        name="wmtp-storage",
        version=facts.about.spec.version,
        artifacts={
            key: entries[key]
            for key in sorted(entries, key=lambda key: order.index(key) if key in order else -1)
        },
    )
    return render(release.model_dump())


def release_now(facts: Facts) -> bytes:
    """The document, with what was released before.

    Raises:
        InvalidInput, CorruptArtifact: as :func:`freeze` and :func:`released`.
    """
    return freeze(facts, released(facts.store, facts.about))


DOCUMENT = DocumentType("RELEASE.json", release_now, kind="release", is_copied_to_root=True)
