"""The tests that judge a solution, of every problem of a dataset that has some."""

from __future__ import annotations

from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.process import split_files
from wmtp_assets.datasets.views import build_tests
from wmtp_assets.kinds.registry import Kind, of_dataset

KIND = Kind[DatasetSpec](
    "tests",
    (DatasetSpec,),
    of_dataset("tests", "raw", below="tests", has=lambda spec: bool(spec.evaluation)),
    build_tests,
    words="The inputs and outputs that judge a solution, of every problem of a split.",
    tags=("json",),
    item="Datasets",
    version=2,
    fields=("converter",),
    facts=split_files,
    size=lambda artifact, raw: 1.5 * raw,  # of compressed parquet
)
