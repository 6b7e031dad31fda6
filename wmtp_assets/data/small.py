"""Small splits for laptops: a seeded sample, not the head of the file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from wmtp_assets.build import Build
from wmtp_assets.data.process import split_file
from wmtp_assets.manifest import Document
from wmtp_assets.specs import DatasetSpec
from wmtp_assets.strict_json import parse_object


def small_file(split: str) -> str:
    """Name of a small split's file."""
    return f"{split}_small.jsonl"


def sample(task_ids: Sequence[str], limit: int, seed: int) -> list[int]:
    """Indices of at most ``limit`` rows, ascending.

    The rows with the smallest SHA-256 of ``<seed>:<task_id>``: the same on every machine, and
    independent of the order of the rows.
    """

    def key(index: int) -> bytes:
        return hashlib.sha256(f"{seed}:{task_ids[index]}".encode()).digest()

    return sorted(sorted(range(len(task_ids)), key=key)[:limit])


def build_small(build: Build) -> Document:
    """Write the small split of every processed split; lines are taken over byte for byte."""
    spec = build.artifact.spec
    assert isinstance(spec, DatasetSpec)
    processed = build.upstream(build.artifact.upstream[0])
    splits: Document = {}
    for split in spec.processed_splits:
        lines = build.store.read(processed, split_file(split)).splitlines(keepends=True)
        task_ids = [parse_object(line)["task_id"] for line in lines]
        kept = sample(task_ids, spec.small.limit(split), spec.small.seed)
        build.staged.write(small_file(split), b"".join(lines[index] for index in kept))
        splits[split] = {"rows": len(kept), "of": len(lines)}
    document = build.store.manifest(processed).document
    return {
        "dataset": f"{spec.folder}_small",
        "version": spec.version,
        "format": "alpaca",
        "rows": sum(split["rows"] for split in splits.values()),
        "splits": splits,
        "sample": {
            "method": "rows with the smallest SHA-256 of '<seed>:<task_id>'",
            "seed": spec.small.seed,
        },
        "source": document["source"],
    }
