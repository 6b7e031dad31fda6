"""A document about all artifacts, generated from their manifests."""

from __future__ import annotations

from functools import partial

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DocumentSpec
from wmtp_assets.documents.document import build_document, load_document, make_document
from wmtp_assets.kinds.registry import Before, Kind, rules_of


def artifacts_of_kind(
    kind: str, spec: DocumentSpec, before: Before
) -> list[Artifact[DocumentSpec]]:
    """``<name>``: one file below ``docs/``, about all artifacts before it, if it is of a kind.

    Raises:
        SpecError: if there is no document of the name.
    """
    document = load_document(spec.document)
    one = Artifact(
        spec.name,
        kind,
        spec,
        "reports",
        spec.unit,
        manifest=f"{document.file.split('.')[0]}.metadata.json",
        owns=(document.file,),
        roles={
            item.key: item.key
            for item in before
            if document.is_of_documents or not isinstance(item.spec, DocumentSpec)
        },
        optional=spec.is_optional,
        copied=(document.file,) if document.is_copied_to_root else (),
        recorded=document.recorded,
        is_generated=True,
        is_summary=True,
    )
    return [one] if document.kind == kind else []


KIND = Kind[DocumentSpec](
    "document",
    (DocumentSpec,),
    partial(artifacts_of_kind, "document"),  # that of the release is a kind of its own
    partial(build_document, rules_of=rules_of),  # a report also says which rules held
    words="Generated from the artifacts' manifests; no number in it is written by hand.",
    tags=("markdown",),
    item="Documents",
    version=4,
    fields=("document",),
    again=partial(make_document, rules_of=rules_of),
    edited=lambda spec: map(spec.beside, load_document(spec.document).edited),
)
