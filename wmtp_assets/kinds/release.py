"""``RELEASE.json``: version, size and SHA-256 of every artifact, frozen."""

from __future__ import annotations

from functools import partial

from wmtp_assets.catalogue.specs import DocumentSpec
from wmtp_assets.documents.document import build_document, make_document
from wmtp_assets.kinds.document import artifacts_of_kind
from wmtp_assets.kinds.registry import Kind

KIND = Kind[DocumentSpec](
    "release",
    (DocumentSpec,),
    partial(artifacts_of_kind, "release"),
    build_document,
    words="Version, size and SHA-256 of every artifact, frozen.",
    tags=("json",),
    again=make_document,
    item="Tag",
    fields=("document",),
)
