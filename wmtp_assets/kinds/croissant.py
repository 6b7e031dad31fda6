"""The description of a dataset as Croissant metadata."""

from __future__ import annotations

from collections.abc import Iterator

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.documents.document import build_document
from wmtp_assets.kinds.kind import Before, Kind


def artifacts(spec: DatasetSpec, before: Before) -> Iterator[Artifact[DatasetSpec]]:
    """``<name>_croissant``: ``croissant.json`` in the dataset's folder."""
    yield Artifact(
        f"{spec.name}_croissant",
        "croissant",
        spec,
        "datasets",
        spec.unit,
        manifest="croissant.metadata.json",
        owns=("croissant.json",),
        roles={"processed": f"{spec.name}_processed"},
        optional=spec.is_optional,
        is_generated=True,
    )


KIND = Kind[DatasetSpec](
    "croissant",
    (DatasetSpec,),
    artifacts,
    build_document,
    words="The dataset's description as Croissant metadata, for tools that read it.",
    tags=("json",),
    fields=("description", "citation", "uses", "repository"),
)
