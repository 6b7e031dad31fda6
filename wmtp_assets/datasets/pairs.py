"""The training view of a processed dataset: one prompt and response per row, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.format import format_of
from wmtp_assets.datasets.records import (
    PROMPT_RULE,
    PairRecord,
    Record,
    RowRenderer,
    is_labelled,
    schema_document,
)
from wmtp_assets.datasets.twin import read_twin, twin_file
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document, render

FORMAT = "pairs"


def pairs_file(split: str) -> str:
    """Name of a split's file in the pairs artifact."""
    return f"{split}.jsonl"


def pair_lines(twin: Path, record: type[Record]) -> Iterator[bytes]:
    """The lines of pairs, in order, that a processed split gives, from its twin.

    Raises:
        InvalidInput: as :func:`read_twin`.
    """
    render = RowRenderer("prompt")
    labels = ["is_correct"] if is_labelled(record) else []
    names = ["instruction", "input", "output", "problem_id", *labels]
    for batch in read_twin(twin, record, [*names, "metadata.difficulty"]):
        columns = [batch.column(name).to_pylist() for name in names]
        columns.append(batch.column("metadata").field("difficulty").to_pylist())
        for row in zip(*columns, strict=True):
            instruction, given, output, problem_id, *label, difficulty = row
            yield render(
                {
                    "prompt": f"{instruction}\n\n{given}" if given else instruction,
                    "response": output,
                    "is_correct": label[0] if label else None,
                    "metadata": {"problem_id": problem_id, "difficulty": difficulty},
                }
            )


def build_pairs(build: Build[DatasetSpec]) -> Document:
    """Write the pairs of every processed split, and ``schema.json``.

    Raises:
        CorruptArtifact: if a processed file is not the one that was committed.
    """
    spec, store = build.artifact.spec, build.store
    processed = build.upstream("processed")
    rows: dict[str, int] = {}
    for split in spec.processed_splits:
        twin = store.verify_file(processed, twin_file(split))
        rows[split] = 0
        with build.staged.create(pairs_file(split)) as file:
            for line in pair_lines(twin, format_of(spec).record):
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
