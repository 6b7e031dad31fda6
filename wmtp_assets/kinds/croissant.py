"""The description of a dataset as Croissant metadata."""

from __future__ import annotations

from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.documents.document import build_document, make_document
from wmtp_assets.kinds.registry import Kind, of_dataset

KIND = Kind[DatasetSpec](
    "croissant",
    (DatasetSpec,),
    of_dataset(
        "croissant",
        "processed",
        manifest="croissant.metadata.json",
        owns=("croissant.json",),
        is_generated=True,
    ),
    build_document,
    words="The dataset's description as Croissant metadata, for tools that read it.",
    tags=("json",),
    again=make_document,
    item="Documents",
    fields=("description", "citation", "repository.id", "repository.license"),
)
