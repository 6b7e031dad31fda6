"""The tests that judge a solution, of every problem of a dataset that has some."""

from __future__ import annotations

from collections.abc import Iterator

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.evaluation_tests import build_tests
from wmtp_assets.kinds.kind import Before, Kind


def artifacts(spec: DatasetSpec, before: Before) -> Iterator[Artifact[DatasetSpec]]:
    """``<name>_tests``: ``tests/``, where splits are for evaluation."""
    if spec.evaluation:
        yield Artifact(
            f"{spec.name}_tests",
            "tests",
            spec,
            "datasets",
            f"{spec.unit}/tests",
            roles={"raw": f"{spec.name}_raw"},
            optional=spec.is_optional,
        )


KIND = Kind[DatasetSpec](
    "tests",
    (DatasetSpec,),
    artifacts,
    build_tests,
    words="The inputs and outputs that judge a solution, of every problem of a split.",
    tags=("json",),
    fields=("converter", "splits"),
    size=lambda artifact, raw: 1.5 * raw,  # of compressed parquet
)
