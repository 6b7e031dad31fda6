"""Statistics of a processed dataset: counts and token distributions.

One file per content, named after the UTC day of the run that made it; its body holds no date.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.base.settings import utc_now
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.records import Record, format_of, is_labelled
from wmtp_assets.datasets.twin import TOKENS, read_twin, twin_file
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document, render
from wmtp_assets.storage.store import Store

FIELDS = ("instruction", "input", "output", "total")
SUFFIX = "_summary.json"

OF_THE_CONVERSION = ("upstream_rows", "samples", "dropped", "crlf_rows")
"""What only the conversion saw, and the manifest of the processed dataset says."""

NEAR = 64
"""Tokens below the limit where a prompt template and BOS can make a row too long in training; and
the width of a bar of the histogram."""


def distribution(histogram: Mapping[int, int]) -> dict[str, float]:
    """Mean (rounded to 2 digits), p50, p90, p99 and max, in tokens.

    A percentile p is the smallest value that at least p % of the values do not exceed (nearest
    rank), so it is one of the values. All are 0 for no values.

    Args:
        histogram: value → how often it occurs.
    """
    count = sum(histogram.values())
    if not count:
        return {"mean": 0, "p50": 0, "p90": 0, "p99": 0, "max": 0}
    values = sorted(histogram)
    up_to = list(accumulate(histogram[value] for value in values))
    ranks = {f"p{p}": values[bisect_left(up_to, -(-p * count // 100))] for p in (50, 90, 99)}
    mean = sum(value * number for value, number in histogram.items()) / count
    return {"mean": round(mean, 2), **ranks, "max": values[-1]}


def histogram(values: Mapping[int, int]) -> list[int]:
    """How many values are in each interval of :data:`NEAR` tokens: (0, 64], (64, 128], …; 0 is in
    the first.

    Args:
        values: value → how often it occurs.
    """
    bars = Counter[int]()
    for value, number in values.items():
        bars[max(value - 1, 0) // NEAR] += number
    return [bars[bar] for bar in range(max(bars, default=-1) + 1)]


def summarize_split(path: Path, record: type[Record], max_tokens: int) -> Document:
    """Counts and token distributions of one split, from its twin.

    Raises:
        InvalidInput: as :func:`read_twin`.
    """
    import pyarrow.compute as pc

    labelled = ["is_correct"] if is_labelled(record) else []
    counted = ["problem_id", "language", *labelled, "is_duplicate", "is_contradicted"]
    columns = [*TOKENS, *counted, "metadata.difficulty", "metadata.has_tests"]
    found: defaultdict[str, Counter[Any]] = defaultdict(Counter)
    for batch in read_twin(path, record, columns):
        tokens = [batch.column(name) for name in TOKENS]
        total = pc.call_function("add", [pc.call_function("add", tokens[:2]), tokens[2]])
        metadata = batch.column("metadata")
        values = {
            **dict(zip(FIELDS, (*tokens, total), strict=True)),
            **{name: batch.column(name) for name in counted},
            **{name: metadata.field(name) for name in ("difficulty", "has_tests")},
        }
        for name, column in values.items():
            pairs = pc.call_function("value_counts", [column])
            of_batch = zip(*(pairs.field(n).to_pylist() for n in (0, 1)), strict=True)
            found[name] += Counter(dict(of_batch))
    near = sum(n for value, n in found["total"].items() if value > max_tokens - NEAR)
    labels = found["is_correct"]
    return {
        "rows": found["total"].total(),
        "problems": len(found["problem_id"]),
        "tokens": {name: distribution(found[name]) for name in FIELDS},
        "histogram": {"tokens": NEAR, "rows": histogram(found["total"])},
        "near_limit": {"tokens": NEAR, "rows": near},
        "difficulty": dict(sorted(found["difficulty"].items())),
        "languages": {k or "unknown": n for k, n in sorted(found["language"].items(), key=str)},
        "with_tests": found["has_tests"][True],
        "duplicates": found["is_duplicate"][True],
        "contradicted": found["is_contradicted"][True],
        **({"is_correct": {"true": labels[True], "false": labels[False]}} if labelled else {}),
    }


def of_the_conversion(store: Store, artifact: Artifact[DatasetSpec]) -> Document:
    """What a summary takes from the manifest of the processed dataset, where that is there."""
    processed = store.find_manifest(store.catalogue[artifact.roles["processed"]])
    if processed is None:
        return {}
    said = processed.document.get("splits")
    splits: Document = said if isinstance(said, dict) else {}
    return {
        "max_tokens": processed.document.get("max_tokens"),
        "conversion": {
            split: {key: counts[key] for key in OF_THE_CONVERSION if key in counts}
            for split, counts in splits.items()
            if isinstance(counts, dict)
        },
    }


def summarize(
    spec: DatasetSpec, path_of: Callable[[str], Path], processed: Mapping[str, Any]
) -> Document:
    """The summary of a processed dataset.

    Args:
        path_of: name of a file of the processed dataset → where it lies, verified.
        processed: the manifest document of the processed dataset.
    """
    record, max_tokens = format_of(spec).record, processed["max_tokens"]
    return {
        "dataset": spec.folder,
        "version": spec.version,
        "max_tokens": max_tokens,
        "tokenizer_sha256": processed["tokenizer"]["sha256"],
        "splits": {
            split: {
                **summarize_split(path_of(twin_file(split)), record, max_tokens),
                **{key: processed["splits"][split][key] for key in OF_THE_CONVERSION},
            }
            for split in spec.processed_splits
        },
    }


def newest_summary(names: Iterable[str]) -> str | None:
    """The newest summary among the file names of a stats artifact."""
    return max((name for name in names if name.endswith(SUFFIX)), default=None)


def build_stats(build: Build[DatasetSpec]) -> Document:
    """Summarize the processed dataset; earlier summaries stay, equal content adds none."""
    spec = build.artifact.spec
    processed = build.upstream("processed")
    store = build.store
    document = store.manifest(processed).document
    body = render(summarize(spec, partial(store.verify_file, processed), document))
    earlier = _earlier_summaries(build, body)
    newest = newest_summary(earlier)
    if newest is None or earlier[newest] != body:
        # On a clock that went back, today's file would not be the newest: replace that one.
        newest = max(f"{utc_now():%Y-%m-%d}{SUFFIX}", newest or "")
        earlier[newest] = body
    for name, data in earlier.items():
        build.staged.write(name, data)
    return {
        "dataset": spec.folder,
        "version": spec.version,
        "format": "json",
        "rows": document["rows"],
        "summary": newest,
        "source": document["source"],
    }


def _earlier_summaries(build: Build[DatasetSpec], body: bytes) -> dict[str, bytes]:
    """Committed summaries by name; damaged ones are left out, but those that were ``body``."""
    try:
        files = build.store.manifest(build.artifact).files
    except MissingArtifact:
        return {}
    except CorruptArtifact as error:
        build.say(f"left out, all earlier summaries: {error}")
        return {}
    sha256 = hashlib.sha256(body).hexdigest()
    summaries: dict[str, bytes] = {}
    for name, record in files.items():
        try:
            is_body = record.sha256 == sha256
            summaries[name] = body if is_body else build.store.read(build.artifact, name)
        except (MissingArtifact, CorruptArtifact) as error:
            build.say(f"left out: {error}")
    return summaries
