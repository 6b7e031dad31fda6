"""What the documents say about an artifact: facts of its manifest, and nothing that has a date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints.configs import files_of
from wmtp_assets.datasets.stats import newest_summary
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage import manifest
from wmtp_assets.storage.manifest import Document, FileRecord, Manifest
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

    def pairs(self, *keys: str) -> list[tuple[str, Any]]:
        """The keys of the object that the manifest has at ``keys``, with what is there."""
        value = self.stated(*keys)
        return list(value.items()) if isinstance(value, dict) else []

    def file(self, name: str) -> FileRecord | None:
        return self.manifest.files.get(name)

    @property
    def checkpoint(self) -> FileRecord | None:
        """The file with the tensors, of a model."""
        return self.file(files_of(self.artifact).checkpoint)


@dataclass(frozen=True)
class Facts:
    """What a document is made from.

    Attributes:
        about: the document.
        there: the artifacts it is about that are there, in their order.
        remembered: what its manifest says besides, and no other manifest.
    """

    store: Store
    about: Artifact
    there: tuple[Fact, ...]
    read: Read
    remembered: Document = field(default_factory=dict)

    @property
    def is_sample(self) -> bool:
        return self.store.settings.source == "sample"

    def of(self, *kinds: str) -> list[Fact]:
        """Those of some kinds."""
        return [fact for fact in self.there if fact.artifact.kind in kinds]

    def upstream(self, fact: Fact, role: str) -> Fact | None:
        """What an artifact is made from in a role, where it is there."""
        key = fact.artifact.roles.get(role)
        return next((item for item in self.there if item.key == key), None)

    @property
    def absent(self) -> list[Artifact]:
        """What the document would be about if it were there."""
        keys = {fact.key for fact in self.there}
        return [self.store.catalogue[key] for key in self.about.upstream if key not in keys]


def gather(store: Store, about: Artifact, read: Read, remembered: Document | None = None) -> Facts:
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
    return Facts(store, about, there, read, remembered or {})


SAMPLE = (
    "Of the sample: small models with random weights and generated problems, "
    "made by the code that makes the real ones."
)
