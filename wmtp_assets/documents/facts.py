"""What the documents say about an artifact: facts of its manifest, and nothing that has a date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.datasets.stats import newest_summary
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage import manifest
from wmtp_assets.storage.manifest import FileRecord, Manifest
from wmtp_assets.storage.store import Store

Read = Callable[[Artifact, str], bytes]
"""Reads a file of an artifact, and compares it with the manifest."""

SUMMARY = "summary.json"
"""What documents call the newest summary of statistics, whose name has the day it was made."""


@dataclass(frozen=True)
class Fact:
    """A committed artifact."""

    artifact: Artifact
    manifest: Manifest

    @property
    def key(self) -> str:
        return self.artifact.key

    @property
    def version(self) -> Any:
        """The version it was made under."""
        return self.stated("version")

    @property
    def files(self) -> Mapping[str, FileRecord]:
        """Its files under names that do not tell the day; of statistics the newest summary."""
        files = self.manifest.files
        if self.artifact.kind != "stats":
            return files
        newest = newest_summary(files)
        return {SUMMARY: files[newest]} if newest else {}

    @property
    def size(self) -> int:
        """Bytes of :attr:`files`."""
        return sum(record.size for record in self.files.values())

    @property
    def content_sha256(self) -> str:
        """The hash over the hashes of :attr:`files`."""
        return manifest.content_sha256(self.files)

    def stated(self, *keys: str) -> Any:
        """What the manifest says at ``keys``; None where it says nothing."""
        return stated(self.manifest.document, *keys)

    def counted(self, *keys: str) -> int | None:
        """The number that the manifest has at ``keys``."""
        value = self.stated(*keys)
        return value if type(value) is int else None

    def listed(self, *keys: str) -> list[Any]:
        """The members, or the keys, of what the manifest has at ``keys``."""
        value = self.stated(*keys)
        return list(value) if isinstance(value, list | dict) else []

    def file(self, name: str) -> FileRecord | None:
        return self.manifest.files.get(name)


@dataclass(frozen=True)
class Facts:
    """What a document is made from: the artifacts it is about that are there, in their order."""

    store: Store
    about: Artifact
    there: tuple[Fact, ...]
    read: Read

    @property
    def is_sample(self) -> bool:
        return self.store.settings.source == "sample"

    def of(self, *kinds: str) -> list[Fact]:
        """Those of some kinds; of every kind where none is named."""
        return [fact for fact in self.there if not kinds or fact.artifact.kind in kinds]

    def get(self, key: str) -> Fact | None:
        """The fact about an artifact, where it is there."""
        return next((fact for fact in self.there if fact.key == key), None)

    @property
    def absent(self) -> list[Artifact]:
        """What the document would be about if it were there."""
        keys = {fact.key for fact in self.there}
        return [self.store.catalogue[key] for key in self.about.upstream if key not in keys]


def gather(store: Store, about: Artifact, read: Read) -> Facts:
    """The facts for a document.

    Raises:
        CorruptArtifact: if a manifest was changed.
    """
    upstream: Iterable[Artifact] = (store.catalogue[key] for key in about.upstream)
    there = tuple(
        Fact(artifact, store.manifest(artifact))
        for artifact in upstream
        if store.manifest_path(artifact).is_file()
    )
    return Facts(store, about, there, read)


SAMPLE = (
    "Of the sample: small models with random weights and generated problems, "
    "made by the code that makes the real ones."
)


def heading(facts: Facts, title: str) -> list[str]:
    """The first lines of a document."""
    first = [f"> {SAMPLE}", ""] if facts.is_sample else []
    return [
        *first,
        f"# {title}",
        "",
        "Made by wmtp_assets from manifests and specs; do not edit.",
        "",
    ]
