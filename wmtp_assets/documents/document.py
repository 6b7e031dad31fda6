"""What a document is, the facts that it is made from, how its module is found, and how it is built.

Facts of an artifact are what its manifest says. Its day is told by the completion report only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from wmtp_assets.base.errors import MissingArtifact, SpecError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DocumentSpec
from wmtp_assets.checkpoints.beside import files_of
from wmtp_assets.datasets.stats import newest_summary
from wmtp_assets.documents import of_storage
from wmtp_assets.rules.findings import Report, Rule, Subject, stated
from wmtp_assets.storage import manifest
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document, FileRecord, Manifest
from wmtp_assets.storage.store import Store, materialize_command

Read = Callable[[Artifact, str], bytes]
"""Reads a file of an artifact, and compares it with the manifest."""

SAMPLE = (
    "Of the sample: small models with random weights and generated problems, "
    "made by the code that makes the real ones."
)

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
    def files(self) -> Mapping[str, FileRecord]:
        """Its files under names that do not tell the day; of statistics the newest summary."""
        newest = newest_summary(self.manifest.files)
        return {SUMMARY: self.manifest.files[newest]} if newest else self.manifest.files

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

    def one(self, *kinds: str) -> Fact:
        """The one of some kinds, without which there is no document.

        Raises:
            MissingArtifact: naming it, with the command that makes it.
        """
        for fact in self.of(*kinds):
            return fact
        key = next(item.key for item in self.absent if item.kind in kinds)
        raise MissingArtifact(
            f"{self.about.key} is about {key}, which has not been materialized. Make it with: "
            f"{materialize_command(key)}"
        )

    def upstream(self, fact: Fact, role: str) -> Fact | None:
        """What an artifact is made from in a role, where it is there."""
        there = {item.key: item for item in self.there}
        return there.get(fact.artifact.roles.get(role, ""))

    @property
    def absent(self) -> list[Artifact]:
        """What the document would be about if it were there."""
        keys = {fact.key for fact in self.there}
        return [self.store.catalogue[key] for key in self.about.upstream if key not in keys]


def gather(
    store: Store,
    about: Artifact,
    read: Read,
    manifest_of: Callable[[Artifact], Manifest],
    remembered: Document | None = None,
) -> Facts:
    """The facts for a document.

    Args:
        manifest_of: reads the manifest of an artifact that is there, as ``store.manifest`` does.

    Raises:
        CorruptArtifact: if a manifest was changed.
    """
    there = tuple(
        Fact(artifact, manifest_of(artifact))
        for artifact in map(store.catalogue.__getitem__, about.upstream)
        if store.manifest_path(artifact).is_file()
    )
    return Facts(store, about, there, read, remembered or {})


RulesOf = Callable[[Artifact[Any]], Iterable[Rule[Any]]]
"""The rules that apply to an artifact."""


@dataclass(frozen=True)
class DocumentType:
    """A document: the one object that its module exports, as ``DOCUMENT``.

    Attributes:
        file: its file name.
        make: its bytes, from facts alone: same storage, same bytes. Raises InvalidInput,
            MissingArtifact or CorruptArtifact if a file that it tells of cannot be read.
        beside: other files of the same facts: name → what makes its bytes.
        kind: of its artifact.
        is_copied_to_root: whether people look for it at the root.
        is_of_documents: whether it is about the documents too that are made before it.
        edited: YAML files beside its ``defs.yaml`` that it is made from too.
        recorded: keys of its manifest that say what people recorded; a commit keeps them.
        remember: what its manifest says besides, and ``make`` finds in ``facts.remembered``.
        check: more findings of the rule ``current``.
    """

    file: str
    make: Callable[[Facts], bytes]
    beside: Mapping[str, Callable[[Facts], bytes]] = field(default_factory=dict)
    kind: str = "document"
    is_copied_to_root: bool = False
    is_of_documents: bool = False
    edited: tuple[str, ...] = ()
    recorded: tuple[str, ...] = ()
    remember: Callable[[Facts, RulesOf, Say], Document] = lambda facts, rules_of, say: {}
    check: Callable[[Subject, Report, Facts], None] = lambda subject, report, facts: None

    def files(self, facts: Facts) -> dict[str, bytes]:
        """The bytes of each of its files, as :attr:`make` makes them."""
        return {name: make(facts) for name, make in {self.file: self.make, **self.beside}.items()}


def load_document(name: str) -> DocumentType:
    """A document of the storage by its name.

    Raises:
        SpecError: if there is none, naming those there are.
    """
    known = sorted(module.name for module in iter_modules(of_storage.__path__))
    if name not in known:
        raise SpecError(f"document: there is no document {name!r}; known are: {', '.join(known)}")
    return import_module(f"{of_storage.__name__}.{name}").DOCUMENT


def document_of(artifact: Artifact[Any]) -> DocumentType:
    """What an artifact that is a document is made by: of the storage by its name, of one model or
    dataset by its kind."""
    if isinstance(artifact.spec, DocumentSpec):
        return load_document(artifact.spec.document)
    return import_module(f"{__package__}.{artifact.kind}").DOCUMENT


def facts_now(store: Store, artifact: Artifact[Any], rules_of: RulesOf, say: Say = silent) -> Facts:
    """The facts that a document is made from now.

    Raises:
        CorruptArtifact: if a manifest was changed.
    """
    facts = gather(store, artifact, store.read, store.manifest)
    return replace(facts, remembered=document_of(artifact).remember(facts, rules_of, say))


def make_document(
    store: Store,
    artifact: Artifact[Any],
    say: Say = silent,
    rules_of: RulesOf = lambda artifact: (),
) -> tuple[Mapping[str, bytes], Document]:
    """The files of a document, by their names, and what its manifest says of it.

    Args:
        rules_of: for a document that says something about rules.

    Raises:
        InvalidInput, MissingArtifact, CorruptArtifact: as :attr:`DocumentType.make`.
    """
    facts = facts_now(store, artifact, rules_of, say)
    document = document_of(artifact)
    suffix = document.file.rsplit(".", 1)[-1]
    return document.files(facts), {
        "name": artifact.key,
        "version": artifact.spec.version,
        "format": "markdown" if suffix == "md" else suffix,
        **facts.remembered,
    }


def build_document(build: Build[Any], rules_of: RulesOf = lambda artifact: ()) -> Document:
    """Write a document from the manifests of what it is about.

    Args, Raises: as :func:`make_document`.
    """
    files, document = make_document(build.store, build.artifact, build.say, rules_of)
    for name, data in files.items():
        build.staged.write(name, data)
    return document
