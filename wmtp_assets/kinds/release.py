"""``RELEASE.json``: version, size and SHA-256 of every artifact, frozen."""

from __future__ import annotations

from collections.abc import Iterator

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DocumentSpec
from wmtp_assets.documents.document import build_document
from wmtp_assets.kinds.document import artifacts_of_kind
from wmtp_assets.kinds.kind import Before, Kind


def artifacts(spec: DocumentSpec, before: Before) -> Iterator[Artifact[DocumentSpec]]:
    """``<name>``: ``docs/RELEASE.json``, and its copy at the root."""
    yield from artifacts_of_kind("release", spec, before)


KIND = Kind[DocumentSpec](
    "release",
    (DocumentSpec,),
    artifacts,
    build_document,
    words="Version, size and SHA-256 of every artifact, frozen.",
    tags=("json",),
    fields=("document",),
)
