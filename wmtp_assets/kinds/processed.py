"""The rows of a dataset in the Alpaca format, with all that finds them."""

from __future__ import annotations

from math import ceil

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import read_conversion_steps
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.parts import VERSION, convert_some, converting
from wmtp_assets.datasets.process import build_processed, split_file, split_files
from wmtp_assets.datasets.records import format_of, is_labelled
from wmtp_assets.kinds.registry import Before, Kind, Needs, Rows, Sharing
from wmtp_assets.storage.manifest import Document


def artifacts(spec: DatasetSpec, before: Before) -> list[Artifact[DatasetSpec]]:
    """``<name>_processed``: ``processed/`` and ``index/``.

    Raises:
        SpecError: if the spec asks for what its format cannot give.
    """
    format_ = format_of(spec)
    if spec.evaluation and format_.read_evaluations is None:
        raise SpecError(f"evaluation: {spec.converter} has no tests of its own to write")
    if any(split.expected for split in spec.splits.values()) and not is_labelled(format_.record):
        raise SpecError(
            f"splits: expected: rows of {spec.converter} do not say if they are correct"
        )
    if "verifiable_critic" in spec.uses and not is_labelled(format_.record):
        raise SpecError(
            f"uses: verifiable_critic: it learns from is_correct, and rows of {spec.converter} do "
            "not say if they are correct"
        )
    training = [use for use in spec.uses if use != "evaluation"]
    if training and spec.processed_splits.keys() == {*spec.held_out}:
        raise SpecError(
            f"uses: {training[0]}: every split of {spec.name} is held_out, so that it is for "
            "evaluation only"
        )
    return [
        Artifact(
            f"{spec.name}_processed",
            "processed",
            spec,
            "datasets",
            spec.unit,
            owns=("processed", "index"),
            roles={"raw": f"{spec.name}_raw", "tokenizer": spec.tokenizer},
            optional=spec.is_optional,
        )
    ]


def decides(artifact: Artifact[DatasetSpec]) -> Document:
    """What decides about the rows besides whole fields: which files a split has, and the public
    tests in ``input``, where the format has some."""
    spec = artifact.spec
    has_tests = format_of(spec).read_evaluations is not None
    return {
        **split_files(artifact),
        **({"public_tests": spec.public_tests} if has_tests else {}),
    }


SHARD = 190 * 10**6
"""Bytes of a shard of CodeContests; other datasets are smaller than one."""

MOST = 16
"""CPUs that one step asks for."""


def needs(artifact: Artifact[DatasetSpec], raw: int) -> Needs:
    """A CPU for each shard that a step takes, within reason; a process of the conversion takes 350
    MB, see docs/measurements.md, and gets twice that."""
    shards = max(ceil(raw / SHARD), 1)
    cpus = min(ceil(shards / max(read_conversion_steps(), 1)), MOST)
    return Needs(2 * 10**9 + cpus * 700 * 10**6, cpus)


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
    fields=("converter", "tokenizer", "max_tokens", "evaluation"),
    facts=decides,
    size=lambda artifact, raw: 3.0 * raw,  # of compressed parquet; CodeContests: 7.6 and 20 GB
    needs=needs,
    scratch=1.0,
    rows=Rows(split_file, lambda spec: format_of(spec).record),
    sharing=Sharing(convert_some, converting),
)
