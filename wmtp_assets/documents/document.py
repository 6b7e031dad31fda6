"""What a document is, how its module is found, and how it is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DocumentSpec
from wmtp_assets.documents import of_storage
from wmtp_assets.documents.facts import Facts, gather
from wmtp_assets.rules.findings import Report, Rule, Subject
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Store

RulesOf = Callable[[Artifact[Any]], Iterable[Rule[Any]]]
"""The rules that apply to an artifact."""

_FORMATS = {"md": "markdown", "json": "json"}


def no_rules(artifact: Artifact[Any]) -> tuple[Rule[Any], ...]:
    """Of documents that say nothing about rules."""
    return ()


@dataclass(frozen=True)
class DocumentType:
    """A document: the one object that its module exports, as ``DOCUMENT``.

    Attributes:
        file: its file name.
        make: its bytes, from facts alone: same storage, same bytes. Raises InvalidInput,
            MissingArtifact or CorruptArtifact if a file that it tells of cannot be read.
        kind: of its artifact.
        is_copied_to_root: whether people look for it at the root.
        is_of_documents: whether it is about the documents too that are made before it.
        recorded: keys of its manifest that say what people recorded; a commit keeps them.
        remember: what its manifest says besides, and ``make`` finds in ``facts.remembered``.
        check: more findings of the rule ``current``.
    """

    file: str
    make: Callable[[Facts], bytes]
    kind: str = "document"
    is_copied_to_root: bool = False
    is_of_documents: bool = False
    recorded: tuple[str, ...] = ()
    remember: Callable[[Facts, RulesOf, Say], Document] = lambda facts, rules_of, say: {}
    check: Callable[[Subject, Report, Facts], None] = lambda subject, report, facts: None


def document_names() -> tuple[str, ...]:
    """The documents of the storage that there are."""
    return tuple(sorted(module.name for module in iter_modules(of_storage.__path__)))


def load_document(name: str) -> DocumentType:
    """A document of the storage by its name.

    Raises:
        SpecError: if there is none, naming those there are.
    """
    if name not in document_names():
        known = ", ".join(document_names())
        raise SpecError(f"document: there is no document {name!r}; known are: {known}")
    return import_module(f"{of_storage.__name__}.{name}").DOCUMENT


def document_of(artifact: Artifact[Any]) -> DocumentType:
    """What an artifact that is a document is made by: of the storage by its name, of one model or
    dataset by its kind."""
    if isinstance(artifact.spec, DocumentSpec):
        return load_document(artifact.spec.document)
    return import_module(f"{__package__}.{artifact.kind}").DOCUMENT


def facts_now(
    store: Store, artifact: Artifact[Any], rules_of: RulesOf = no_rules, say: Say = silent
) -> Facts:
    """The facts that a document is made from now.

    Raises:
        CorruptArtifact: if a manifest was changed.
    """
    facts = gather(store, artifact, store.read)
    return replace(facts, remembered=document_of(artifact).remember(facts, rules_of, say))


def build_document(build: Build[Any], rules_of: RulesOf = no_rules) -> Document:
    """Write a document from the manifests of what it is about.

    Raises:
        InvalidInput, MissingArtifact, CorruptArtifact: as :attr:`DocumentType.make`.
    """
    artifact = build.artifact
    facts = facts_now(build.store, artifact, rules_of, build.say)
    (name,) = artifact.owns
    build.staged.write(name, document_of(artifact).make(facts))
    return {
        "name": artifact.key,
        "version": artifact.spec.version,
        "format": _FORMATS[name.rsplit(".", 1)[-1]],
        **facts.remembered,
    }
