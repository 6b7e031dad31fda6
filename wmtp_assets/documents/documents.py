"""The bytes of each document, from manifests and specs alone: same storage, same bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DocumentSpec
from wmtp_assets.documents.approvals import Approval, parse_approvals
from wmtp_assets.documents.cards import card
from wmtp_assets.documents.completion import States, completion_report, states_in
from wmtp_assets.documents.croissant import croissant
from wmtp_assets.documents.facts import Facts
from wmtp_assets.documents.inventory import inventory
from wmtp_assets.documents.migration import migration_notes
from wmtp_assets.documents.readme import readme
from wmtp_assets.storage.manifest import Document


@dataclass(frozen=True)
class Remembered:
    """What only the completion report says: what is no fact of any other manifest."""

    states: States = field(default_factory=dict)
    approvals: tuple[Approval, ...] = ()


def remembered_in(document: Document, where: str) -> Remembered:
    """What the manifest of a report remembers.

    Raises:
        InvalidInput: as :func:`parse_approvals`.
    """
    approvals = parse_approvals(document.get("approvals"), where)
    return Remembered(states_in(document.get("states")), tuple(approvals))


def is_report(artifact: Artifact) -> bool:
    """Whether it is the document that has states and approvals."""
    return isinstance(artifact.spec, DocumentSpec) and artifact.spec.document == "report"


def document_bytes(facts: Facts, remembered: Remembered) -> bytes:
    """The bytes of the document that ``facts`` are about; not of a release, which has a history.

    Raises:
        InvalidInput: if a file that it tells of cannot be read.
        MissingArtifact, CorruptArtifact: if one is not as it was committed.
    """
    spec = facts.about.spec
    if facts.about.kind == "card":
        return card(facts)
    if facts.about.kind == "croissant":
        return croissant(facts)
    assert isinstance(spec, DocumentSpec)
    if spec.document == "report":
        return completion_report(facts, remembered.states, remembered.approvals)
    makers = {"readme": readme, "inventory": inventory, "migration": migration_notes}
    return makers[spec.document](facts)
