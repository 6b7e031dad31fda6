"""The rows of a dataset in the Alpaca format, with all that finds them."""

from __future__ import annotations

from collections.abc import Iterator

from wmtp_assets.base.errors import SpecError
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.format import format_of
from wmtp_assets.datasets.process import VERSION, build_processed, split_file
from wmtp_assets.datasets.records import is_labelled
from wmtp_assets.kinds.kind import Before, Kind, Rows


def artifacts(spec: DatasetSpec, before: Before) -> Iterator[Artifact[DatasetSpec]]:
    """``<name>_processed``: ``processed/`` and ``index/``.

    Raises:
        SpecError: if the spec asks for what its format cannot give.
    """
    _check_format(spec)
    yield Artifact(
        f"{spec.name}_processed",
        "processed",
        spec,
        "datasets",
        spec.unit,
        owns=("processed", "index"),
        roles={"raw": f"{spec.name}_raw", "tokenizer": spec.tokenizer},
        optional=spec.is_optional,
    )


def _check_format(spec: DatasetSpec) -> None:
    where = spec.declared_in or spec.name
    try:
        format_ = format_of(spec)
    except SpecError as error:
        raise SpecError(f"{where}: attributes.{error}") from error
    if spec.evaluation and format_.read_evaluations is None:
        raise SpecError(
            f"{where}: attributes.evaluation: {spec.converter} has no tests of its own to write"
        )
    counts = any(split.expected for split in spec.splits.values())
    if counts and not is_labelled(format_.record):
        raise SpecError(
            f"{where}: attributes.splits: expected: rows of {spec.converter} do not say if they "
            "are correct"
        )


KIND = Kind[DatasetSpec](
    "processed",
    (DatasetSpec,),
    artifacts,
    build_processed,
    words="Rows in the Alpaca format as JSON Lines, with schema, problem index, offsets and "
    "Parquet twin.",
    tags=("json", "jsonl", "parquet"),
    item="Datasets",
    version=VERSION,
    fields=("converter", "splits", "tokenizer", "max_tokens", "public_tests", "evaluation"),
    size=lambda artifact, raw: 3.0 * raw,  # of compressed parquet; CodeContests: 7.6 and 20 GB
    scratch=1.0,
    rows=Rows(split_file, lambda spec: format_of(spec).record),
)
