"""The view of a dataset that training reads: a prompt and a response per row."""

from __future__ import annotations

from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.records import PairRecord
from wmtp_assets.datasets.views import build_pairs, pairs_file
from wmtp_assets.kinds.registry import Kind, Rows, of_dataset

KIND = Kind[DatasetSpec](
    "pairs",
    (DatasetSpec,),
    of_dataset("pairs", "processed", below="pairs"),
    build_pairs,
    words="The view that training reads: prompt, response, is_correct.",
    tags=("json", "jsonl"),
    item="Datasets",
    version=2,
    size=lambda artifact, raw: 2.5 * raw,  # of compressed parquet
    rows=Rows(pairs_file, lambda spec: PairRecord),
)
