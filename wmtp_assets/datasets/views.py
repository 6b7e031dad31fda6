"""What is made from processed rows or raw problems, line by line: pairs, tests, small splits.

The functions that give the lines are those that the rules compare a file with.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.progress import Progress
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.features import SCHEMA_NAME
from wmtp_assets.datasets.jsonl import offsets_file, open_jsonl
from wmtp_assets.datasets.parts import raw_shards
from wmtp_assets.datasets.process import FORMAT, split_file
from wmtp_assets.datasets.records import (
    PROMPT_RULE,
    TEST_KINDS,
    PairRecord,
    Record,
    RowRenderer,
    encode,
    format_of,
    is_labelled,
    schema_document,
)
from wmtp_assets.datasets.shard import MAX_EVALUATION, Shard
from wmtp_assets.datasets.twin import read_twin, twin_file
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document, render

PAIRS = "pairs"
"""The format of pairs, as their schema names it."""


def _write(build: Build[DatasetSpec], name: str, lines: Iterable[bytes]) -> int:
    """Write a file line by line; return how many there are."""
    count = 0
    with build.staged.create(name) as file:
        for line in lines:
            file.write(line)
            count += 1
    return count


# -- pairs -----------------------------------------------------------------------------------------


def pairs_file(split: str) -> str:
    """Name of a split's file in the pairs artifact."""
    return f"{split}.jsonl"


def pair_lines(twin: Path, record: type[Record]) -> Iterator[bytes]:
    """The lines of pairs, in order, that a processed split gives, from its twin.

    Raises:
        InvalidInput: as :func:`read_twin`.
    """
    render = RowRenderer()
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
    """Write the training view, one prompt and response per row, and ``schema.json``.

    Raises:
        CorruptArtifact: if a processed file is not the one that was committed.
    """
    spec, store = build.artifact.spec, build.store
    processed = build.upstream("processed")
    rows: dict[str, int] = {}
    for split in spec.processed_splits:
        twin = store.verify_file(processed, twin_file(split))
        rows[split] = _write(build, pairs_file(split), pair_lines(twin, format_of(spec).record))
    source = store.manifest(processed).document["source"]
    build.staged.write(SCHEMA_NAME, render(schema_document(PairRecord, PAIRS, source)))
    return {
        "dataset": spec.folder,
        "version": spec.version,
        "format": PAIRS,
        "prompt": PROMPT_RULE,
        "rows": sum(rows.values()),
        "splits": {split: {"rows": count} for split, count in rows.items()},
        "source": source,
    }


# -- tests -----------------------------------------------------------------------------------------


def tests_file(split: str) -> str:
    """Name of a split's file in the tests artifact."""
    return f"{split}_tests.json"


def tests_lines(spec: DatasetSpec, shards: Iterable[Shard]) -> Iterator[bytes]:
    """The lines of the tests of every problem of a split, for running what a model wrote.

    ``{problem_id: {"task_name", "public_tests", "private_tests", "generated_tests"}}``, each kind
    ``{"input": […], "output": […]}``: a brace, a problem each, a brace, so that the file can be
    written and compared without holding it.

    Args:
        shards: of the split.

    Raises:
        InvalidInput: naming file and row of a problem that is none.
    """
    yield b"{\n"
    before = b""
    for shard in shards:
        for problem in format_of(spec).evaluations(shard.path, 0, shard.problem_ids):
            if before:
                yield before + b",\n"
            tests = problem.metadata.model_dump(include={*TEST_KINDS})
            entry = {problem.task_id: {"task_name": problem.task_id, **tests}}
            before = encode(entry)[1:-1].encode()
            if len(before) > MAX_EVALUATION:
                raise InvalidInput(
                    f"{shard.path}: {problem.task_id} has {len(before)} bytes of tests; at most "
                    f"{MAX_EVALUATION} can be read again"
                )
    if before:
        yield before + b"\n"
    yield b"}\n"


def build_tests(build: Build[DatasetSpec]) -> Document:
    """Write the tests of every processed split.

    Raises:
        InvalidInput: naming file and row of a problem that is none.
        CorruptArtifact: if a raw file is not the one that was committed.
    """
    spec, store = build.artifact.spec, build.store
    raw = build.upstream("raw")
    progress = Progress(f"verifying {raw.key}", store.manifest(raw).size, build.say)
    shards, _ = raw_shards(store, raw, progress.advance)
    splits: Document = {}
    for split in spec.processed_splits:
        lines = tests_lines(spec, [shard for shard in shards if shard.split == split])
        count = _write(build, tests_file(split), lines) - 2  # the braces
        splits[split] = {"problems": count}
        build.say(f"{build.artifact.key}: {split}: {count} problems")
    return {
        "dataset": spec.folder,
        "version": spec.version,
        "format": "json",
        "rows": sum(split["problems"] for split in splits.values()),
        "splits": splits,
        "source": store.manifest(raw).document["source"],
    }


# -- small splits ----------------------------------------------------------------------------------

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
        values = (batch.column(name).to_pylist() for name in columns)
        for task_id, problem_id, *label in zip(*values, strict=True):
            yield task_id, (problem_id, label[0] if label else None)


def sample(
    rows: Callable[[], Iterable[tuple[str, Stratum]]], limit: int, seed: int
) -> dict[int, Stratum]:
    """Numbers, ascending, and strata of at most ``limit`` rows, over problems and labels.

    Every problem and label is a stratum. Strata are taken in turn, in the order of the SHA-256 of
    ``<seed>:<problem_id>``, the correct rows of a problem before its incorrect ones, but the first
    of each label before all others; a turn takes the row with the smallest SHA-256 of
    ``<seed>:<task_id>`` that is left. So a small split has every label, covers as many problems as
    it has room for, each with a right and a wrong solution where it has both, and does not depend
    on the order of the rows. Memory grows with the number of strata, not of rows.

    Args:
        rows: gives task_id and stratum of each row, from the start at each call.
    """
    quotas = _quotas(Counter(stratum for _, stratum in rows()), limit, seed)
    kept: dict[Stratum, list[tuple[int, int]]] = defaultdict(list)
    for number, (task_id, stratum) in enumerate(rows()):
        if stratum in quotas:
            heap = kept[stratum]  # of the smallest hashes, the largest first
            push = heapq.heappush if len(heap) < quotas[stratum] else heapq.heappushpop
            push(heap, (-int.from_bytes(_hash(seed, task_id), "big"), number))
    return dict(sorted((number, stratum) for stratum in kept for _, number in kept[stratum]))


def _quotas(sizes: Counter[Stratum], limit: int, seed: int) -> Counter[Stratum]:
    """How many rows of each stratum are taken; those of which none is are left out."""
    order = sorted(sizes, key=lambda stratum: (_hash(seed, stratum[0]), stratum[1] is False))
    firsts = {label: (problem_id, label) for problem_id, label in reversed(order)}
    order.sort(key=lambda stratum: firsts[stratum[1]] != stratum)
    quotas: Counter[Stratum] = Counter()
    while quotas.total() < min(limit, sizes.total()):
        round_ = [stratum for stratum in order if quotas[stratum] < sizes[stratum]]
        quotas.update(round_[: limit - quotas.total()])
    return quotas


def _hash(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()


def describe_sample(kept: Mapping[int, Stratum], rows: int) -> Document:
    """What the manifest says about a small split; ``rows`` of the split it is taken from."""
    labels = Counter(label for _, label in kept.values() if label is not None)
    return {
        "rows": len(kept),
        "of": rows,
        "problems": len({problem_id for problem_id, _ in kept.values()}),
        **({"correct": labels[True], "incorrect": labels[False]} if labels else {}),
    }


def build_small(build: Build[DatasetSpec]) -> Document:
    """Write the small split of every processed split, lines taken over byte for byte, and
    ``schema.json``.

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
        _write(build, small_file(split), (lines.line(number) + b"\n" for number in kept))
        splits[split] = describe_sample(kept, len(lines))
    source = store.manifest(processed).document["source"]
    schema = schema_document(format_of(spec).record, FORMAT, source)
    build.staged.write(SCHEMA_NAME, render(schema))
    return {
        "dataset": f"{spec.folder}_small",
        "version": spec.version,
        "format": FORMAT,
        "rows": sum(split["rows"] for split in splits.values()),
        "splits": splits,
        "sample": {"method": METHOD, "seed": spec.small.seed},
        "source": source,
    }
