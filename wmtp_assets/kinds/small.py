"""The small splits of a dataset, for laptops."""

from __future__ import annotations

from wmtp_assets.catalogue.artifact import SMALL, Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.records import format_of
from wmtp_assets.datasets.views import build_small, small_file
from wmtp_assets.kinds.registry import Before, Kind, Rows
from wmtp_assets.storage.manifest import Document


def artifacts(spec: DatasetSpec, before: Before) -> list[Artifact[DatasetSpec]]:
    """``<name>_small``: a folder of its own below ``datasets_local_small/``."""
    return [
        Artifact(
            f"{spec.name}_small",
            "small",
            spec,
            "small",
            f"{SMALL}/{spec.folder}_small",
            roles={"processed": f"{spec.name}_processed"},
            optional=spec.is_optional,
            is_local=True,
        )
    ]


def decides(artifact: Artifact[DatasetSpec]) -> Document:
    """The seed, and the most rows of each small split that there is."""
    spec = artifact.spec
    limits = {split: spec.small.limit(split) for split in spec.processed_splits}
    return {"small": {"seed": spec.small.seed, **limits}}


KIND = Kind[DatasetSpec](
    "small",
    (DatasetSpec,),
    artifacts,
    build_small,
    words="A seeded sample over problems and labels, not the head of the file.",
    tags=("json", "jsonl"),
    item="Small sets",
    version=3,
    facts=decides,
    rows=Rows(small_file, lambda spec: format_of(spec).record),
)
