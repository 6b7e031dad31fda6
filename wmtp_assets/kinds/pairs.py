"""The view of a dataset that training reads: a prompt and a response per row."""

from __future__ import annotations

from collections.abc import Iterator

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.pairs import build_pairs, pairs_file
from wmtp_assets.kinds.kind import Before, Kind, Rows


def artifacts(spec: DatasetSpec, before: Before) -> Iterator[Artifact[DatasetSpec]]:
    """``<name>_pairs``: ``pairs/``."""
    yield Artifact(
        f"{spec.name}_pairs",
        "pairs",
        spec,
        "datasets",
        f"{spec.unit}/pairs",
        roles={"processed": f"{spec.name}_processed"},
        optional=spec.is_optional,
    )


KIND = Kind[DatasetSpec](
    "pairs",
    (DatasetSpec,),
    artifacts,
    build_pairs,
    words="The view that training reads: prompt, response, is_correct.",
    tags=("json", "jsonl"),
    size=lambda artifact, raw: 2.5 * raw,  # of compressed parquet
    rows=Rows(pairs_file),
)
