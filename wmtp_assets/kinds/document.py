"""A document about all artifacts, generated from their manifests."""

from __future__ import annotations

from collections.abc import Iterator

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DocumentSpec
from wmtp_assets.documents.build import build_document
from wmtp_assets.kinds.kind import Before, Kind
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document


def artifact_of(spec: DocumentSpec, kind: str, before: Before) -> Artifact[DocumentSpec]:
    """A document about all artifacts that are no documents; the report is about those too."""
    about = [
        item
        for item in before
        if spec.document == "report" or not isinstance(item.spec, DocumentSpec)
    ]
    return Artifact(
        spec.name,
        kind,
        spec,
        "reports",
        spec.unit,
        manifest=f"{spec.file.split('.')[0]}.metadata.json",
        owns=(spec.file,),
        roles={item.key: item.key for item in about},
        optional=spec.is_optional,
        copied=(spec.file,) if spec.document in ("readme", "release") else (),
        recorded=("approvals",) if kind == "document" else (),
        is_generated=True,
        is_summary=True,
    )


def artifacts(spec: DocumentSpec, before: Before) -> Iterator[Artifact[DocumentSpec]]:
    """``<name>``: one file below ``docs/``; that of the release is a kind of its own."""
    if spec.document != "release":
        yield artifact_of(spec, "document", before)


def build(build: Build[DocumentSpec]) -> Document:
    """Write the document; a report also says which rules held."""
    return build_document(build, rules_of)


KIND = Kind[DocumentSpec](
    "document",
    (DocumentSpec,),
    artifacts,
    build,
    words="Generated from the artifacts' manifests; no number in it is written by hand.",
    tags=("markdown",),
    fields=("document",),
)
