"""Small splits for laptops: a seeded sample over problems and labels, not the head of the file.

Every problem and label is a stratum. Strata are taken by turns, in the order of the SHA-256 of
``<seed>:<problem_id>``, the correct rows of a problem before its incorrect ones, but the first of
each label before all others; a turn takes the row with the smallest SHA-256 of ``<seed>:<task_id>``
that is left. So a small split has every label, covers as many problems as it has room for, each
with a right and a wrong solution where it has both, and does not depend on the order of the rows.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.format import format_of
from wmtp_assets.datasets.process import split_file
from wmtp_assets.datasets.random_access import offsets_file, open_jsonl
from wmtp_assets.datasets.records import Record, is_labelled
from wmtp_assets.datasets.twin import read_twin, twin_file
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document

Stratum = tuple[str, bool | None]
"""A problem_id, and is_correct or None where upstream does not say."""

METHOD = (
    "by turns over problems and labels in the order of the SHA-256 of '<seed>:<problem_id>', the "
    "row with the smallest SHA-256 of '<seed>:<task_id>' that is left"
)


def small_file(split: str) -> str:
    """Name of a small split's file."""
    return f"{split}_small.jsonl"


def read_strata(path: Path, record: type[Record]) -> Iterator[tuple[str, Stratum]]:
    """task_id and stratum of each row of a split, from its twin.

    Raises:
        InvalidInput: as :func:`read_twin`.
    """
    columns = ["task_id", "problem_id", *(["is_correct"] if is_labelled(record) else [])]
    for batch in read_twin(path, record, columns):
        values = [batch.column(name).to_pylist() for name in columns]
        if len(columns) == 2:
            values.append([None] * batch.num_rows)
        for task_id, problem_id, label in zip(*values, strict=True):
            yield task_id, (problem_id, label)


def sample(
    rows: Callable[[], Iterable[tuple[str, Stratum]]], limit: int, seed: int
) -> dict[int, Stratum]:
    """Numbers, ascending, and strata of at most ``limit`` rows; see the module's text.

    Memory grows with the number of strata, not of rows.

    Args:
        rows: gives task_id and stratum of each row, from the start at each call.
    """
    quotas = _quotas(Counter(stratum for _, stratum in rows()), limit, seed)
    kept: dict[Stratum, list[tuple[int, int]]] = {stratum: [] for stratum in quotas}
    for number, (task_id, stratum) in enumerate(rows()):
        if stratum not in quotas:
            continue
        heap = kept[stratum]  # of the smallest hashes, the largest first
        item = (-int.from_bytes(_hash(seed, task_id), "big"), number)
        if len(heap) < quotas[stratum]:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)
    return dict(sorted((number, stratum) for stratum in kept for _, number in kept[stratum]))


def _quotas(sizes: Mapping[Stratum, int], limit: int, seed: int) -> dict[Stratum, int]:
    """How many rows of each stratum are taken; those of which none is are left out."""
    order = sorted(sizes, key=lambda stratum: (_hash(seed, stratum[0]), stratum[1] is False))
    firsts = {label: (problem_id, label) for problem_id, label in reversed(order)}
    order.sort(key=lambda stratum: firsts[stratum[1]] != stratum)
    quotas: Counter[Stratum] = Counter()
    left = min(limit, sum(sizes.values()))
    while left:
        for stratum in order:
            if left and quotas[stratum] < sizes[stratum]:
                quotas[stratum] += 1
                left -= 1
    return dict(quotas)


def _hash(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()


def describe_sample(kept: Mapping[int, Stratum], rows: int) -> Document:
    """What the manifest says about a small split; ``rows`` of the split it is taken from."""
    labels = Counter(label for _, label in kept.values() if label is not None)
    found: Document = {
        "rows": len(kept),
        "of": rows,
        "problems": len({problem_id for problem_id, _ in kept.values()}),
    }
    if labels:
        found |= {"correct": labels[True], "incorrect": labels[False]}
    return found


def build_small(build: Build[DatasetSpec]) -> Document:
    """Write the small split of every processed split; lines are taken over byte for byte.

    Raises:
        CorruptArtifact: if a processed file is not the one that was committed.
    """
    spec, store = build.artifact.spec, build.store
    processed = build.upstream("processed")
    splits: Document = {}
    for split in spec.processed_splits:
        store.verify_file(processed, offsets_file(split))
        lines = open_jsonl(store.verify_file(processed, split_file(split)))
        twin = store.verify_file(processed, twin_file(split))
        rows = partial(read_strata, twin, format_of(spec).record)
        kept = sample(rows, spec.small.limit(split), spec.small.seed)
        data = b"".join(lines.line(number) + b"\n" for number in kept)
        build.staged.write(small_file(split), data)
        splits[split] = describe_sample(kept, len(lines))
    document = store.manifest(processed).document
    return {
        "dataset": f"{spec.folder}_small",
        "version": spec.version,
        "format": "alpaca",
        "rows": sum(split["rows"] for split in splits.values()),
        "splits": splits,
        "sample": {"method": METHOD, "seed": spec.small.seed},
        "source": document["source"],
    }
