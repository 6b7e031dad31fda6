"""Statistics of a processed dataset: counts and token distributions.

One file per content, named after the UTC day of the run that made it; its body holds no date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wmtp_assets.build import Build
from wmtp_assets.clock import utc_now
from wmtp_assets.data.process import count_tokens, split_file
from wmtp_assets.data.records import RECORD_OF_CONVERTER, AlpacaRecord
from wmtp_assets.data.tokens import TokenCounter
from wmtp_assets.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.manifest import Document, render
from wmtp_assets.specs import DatasetSpec
from wmtp_assets.strict_json import parse_object

FIELDS = ("instruction", "input", "output", "total")
SUFFIX = "_summary.json"


def distribution(values: Sequence[int]) -> dict[str, float]:
    """Mean (rounded to 2 digits), p50, p90, p99 and max, in tokens.

    A percentile p is the smallest value that at least p % of the values do not exceed (nearest
    rank), so it is one of the values. All are 0 for no values.
    """
    if not values:
        return {"mean": 0, "p50": 0, "p90": 0, "p99": 0, "max": 0}
    ordered = sorted(values)
    ranks = {f"p{p}": ordered[-(-p * len(ordered) // 100) - 1] for p in (50, 90, 99)}
    return {"mean": round(sum(ordered) / len(ordered), 2), **ranks, "max": ordered[-1]}


def summarize_split(records: Iterable[AlpacaRecord], counter: TokenCounter) -> Document:
    """Counts and token distributions of one split."""
    rows = list(records)
    counts = count_tokens(counter, rows)
    columns = [
        [c[0] for c in counts],
        [c[1] for c in counts],
        [c[2] for c in counts],
        [sum(c) for c in counts],
    ]
    difficulty = Counter(record.metadata.difficulty for record in rows)
    return {
        "rows": len(rows),
        "problems": len({record.task_id for record in rows}),
        "tokens": {
            field: distribution(column) for field, column in zip(FIELDS, columns, strict=True)
        },
        "difficulty": dict(sorted(difficulty.items())),
        "with_tests": sum(record.metadata.has_tests for record in rows),
    }


def summarize(
    spec: DatasetSpec,
    records: Mapping[str, Iterable[AlpacaRecord]],
    processed: Any,
    counter: TokenCounter,
) -> Document:
    """The summary of a processed dataset.

    Args:
        records: split → the records of its JSONL.
        processed: the manifest document of the processed dataset.
    """
    return {
        "dataset": spec.folder,
        "version": spec.version,
        "max_tokens": processed["max_tokens"],
        "tokenizer_sha256": processed["tokenizer"]["sha256"],
        "splits": {
            split: {
                **summarize_split(records[split], counter),
                "upstream_rows": processed["splits"][split]["upstream_rows"],
                "dropped": processed["splits"][split]["dropped"],
            }
            for split in spec.processed_splits
        },
    }


def newest_summary(names: Iterable[str]) -> str | None:
    """The newest summary among the file names of a stats artifact."""
    return max((name for name in names if name.endswith(SUFFIX)), default=None)


def build_stats(build: Build) -> Document:
    """Summarize the processed dataset; earlier summaries stay, equal content adds none."""
    spec = build.artifact.spec
    assert isinstance(spec, DatasetSpec)
    processed, tokenizer = (build.upstream(key) for key in build.artifact.upstream)
    store = build.store
    record = RECORD_OF_CONVERTER[spec.converter]
    records = {
        split: [
            record.model_validate(parse_object(line))
            for line in store.read(processed, split_file(split)).splitlines()
        ]
        for split in spec.processed_splits
    }
    counter = TokenCounter(
        store.read(tokenizer, "tokenizer.model"), str(store.path(tokenizer, "tokenizer.model"))
    )
    document = store.manifest(processed).document
    body = render(summarize(spec, records, document, counter))
    earlier = _earlier_summaries(build)
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


def _earlier_summaries(build: Build) -> dict[str, bytes]:
    """Committed summaries by name; damaged ones are left out, they are made again."""
    try:
        names = build.store.manifest(build.artifact).files
    except MissingArtifact:
        return {}
    except CorruptArtifact as error:
        build.say(f"left out, all earlier summaries: {error}")
        return {}
    summaries = {}
    for name in names:
        try:
            summaries[name] = build.store.read(build.artifact, name)
        except (MissingArtifact, CorruptArtifact) as error:
            build.say(f"left out: {error}")
    return summaries
