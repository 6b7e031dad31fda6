"""The parameters of every model that is there, in one file."""

from __future__ import annotations

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import SnapshotSpec
from wmtp_assets.documents.document import build_document, make_document
from wmtp_assets.kinds.registry import Before, Kind


def artifacts(spec: SnapshotSpec, before: Before) -> list[Artifact[SnapshotSpec]]:
    """``<name>``: ``configs/``, from every checkpoint; each plays the role of its own name."""
    return [
        Artifact(
            spec.name,
            "parameters",
            spec,
            "reports",
            spec.unit,
            roles={other.key: other.key for other in before if other.dtype is not None},
            optional=spec.is_optional,
            is_generated=True,
            is_summary=True,
        )
    ]


KIND = Kind[SnapshotSpec](
    "parameters",
    (SnapshotSpec,),
    artifacts,
    build_document,
    words="The parameters of every model that is there, derived from the checkpoints.",
    tags=("yaml",),
    again=make_document,
    item="Documents",
)
