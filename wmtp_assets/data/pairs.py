"""The training view of a processed dataset: one prompt and response per row, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wmtp_assets.build import Build
from wmtp_assets.data.jsonl import read_jsonl
from wmtp_assets.data.process import split_file
from wmtp_assets.data.records import (
    PROMPT_RULE,
    RECORD_OF_CONVERTER,
    PairRecord,
    pair_of,
    render_line,
    schema_document,
)
from wmtp_assets.manifest import Document, render
from wmtp_assets.specs import DatasetSpec

FORMAT = "pairs"


def pair_lines(path: Path, converter: str) -> Iterator[bytes]:
    """The lines of pairs, in order, that the processed split at ``path`` gives.

    Raises:
        BadLine, pydantic.ValidationError: for a row that is no record.
        OSError: if it cannot be read.
    """
    record = RECORD_OF_CONVERTER[converter]
    for _, row in read_jsonl(path):
        yield render_line(pair_of(record.model_validate(row)))


def build_pairs(build: Build) -> Document:
    """Write the pairs of every processed split, and ``schema.json``.

    Raises:
        CorruptArtifact: if a processed file is not the one that was committed.
    """
    spec, store = build.artifact.spec, build.store
    assert isinstance(spec, DatasetSpec)
    processed = build.upstream(build.artifact.upstream[0])
    rows: dict[str, int] = {}
    for split in spec.processed_splits:
        path = store.verify_file(processed, split_file(split))
        rows[split] = 0
        with build.staged.create(split_file(split)) as file:
            for line in pair_lines(path, spec.converter):
                file.write(line)
                rows[split] += 1
    source = store.manifest(processed).document["source"]
    schema = schema_document(PairRecord, FORMAT, source["repo"], source["revision"])
    build.staged.write("schema.json", render(schema))
    return {
        "dataset": spec.folder,
        "version": spec.version,
        "format": FORMAT,
        "prompt": PROMPT_RULE,
        "rows": sum(rows.values()),
        "splits": {split: {"rows": count} for split, count in rows.items()},
        "source": source,
    }
