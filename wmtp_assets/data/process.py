"""From upstream parquet to processed JSONL: convert, count tokens, filter, write; one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wmtp_assets.build import Build
from wmtp_assets.data import humaneval, mbpp
from wmtp_assets.data.parquet import read_rows
from wmtp_assets.data.records import (
    RECORD_OF_CONVERTER,
    AlpacaRecord,
    render_line,
    schema_document,
)
from wmtp_assets.data.tokens import TokenCounter
from wmtp_assets.errors import InvalidInput
from wmtp_assets.manifest import Document, render
from wmtp_assets.specs import DatasetSpec

TOO_LONG = "too_long"
_BATCH = 256


@dataclass(frozen=True)
class Converter:
    """How one dataset's upstream rows become records."""

    columns: Mapping[str, str]
    convert_row: Callable[[dict[str, Any]], AlpacaRecord]


CONVERTERS = {
    "humaneval": Converter(humaneval.COLUMNS, humaneval.convert_row),
    "mbpp": Converter(mbpp.COLUMNS, mbpp.convert_row),
}
FORMAT = "alpaca"


def split_file(split: str) -> str:
    """Name of a split's file in the processed folder."""
    return f"{split}.jsonl"


def count_tokens(counter: TokenCounter, records: list[AlpacaRecord]) -> list[tuple[int, int, int]]:
    """Tokens of instruction, input and output of each record."""
    texts = [
        text for record in records for text in (record.instruction, record.input, record.output)
    ]
    counts = counter.count(texts)
    return [(counts[i], counts[i + 1], counts[i + 2]) for i in range(0, len(counts), 3)]


def convert_file(path: Path, converter: Converter) -> Iterator[tuple[str, AlpacaRecord]]:
    """Place (file and row, for errors) and record of each row of one upstream parquet file.

    Raises:
        InvalidInput: naming file, row and field.
    """
    for number, row in read_rows(path, converter.columns):
        place = f"{path}: row {number}"
        try:
            record = converter.convert_row(row)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise InvalidInput(f"{place}: {field}: {first['msg']}") from error
        yield place, record


def build_processed(build: Build) -> Document:
    """Convert every split and write JSONL and ``schema.json``.

    Raises:
        InvalidInput: naming file and row; also when upstream has another number of rows than the
            spec pins, or none, or two rows share a task_id.
        CorruptArtifact: if a raw file or the tokenizer is not the one that was committed.
    """
    spec = build.artifact.spec
    assert isinstance(spec, DatasetSpec)
    raw, tokenizer = (build.upstream(key) for key in build.artifact.upstream)
    model = build.store.read(tokenizer, "tokenizer.model")
    counter = TokenCounter(model, str(build.store.path(tokenizer, "tokenizer.model")))
    converter = CONVERTERS[spec.converter]
    splits: Document = {}
    for split, split_spec in spec.processed_splits.items():
        paths = [build.store.verify_file(raw, f"raw/{file}") for file in split_spec.files]
        upstream_rows = 0
        written = 0
        seen: set[str] = set()
        dropped: Counter[str] = Counter()
        rows = (row for path in paths for row in convert_file(path, converter))
        with build.staged.create(split_file(split)) as file:
            while batch := list(islice(rows, _BATCH)):
                upstream_rows += len(batch)
                counts = count_tokens(counter, [record for _, record in batch])
                for (place, record), tokens in zip(batch, counts, strict=True):
                    if record.task_id in seen:
                        raise InvalidInput(
                            f"{place}: task_id {record.task_id!r} stands twice in split {split}"
                        )
                    seen.add(record.task_id)
                    if sum(tokens) > spec.max_tokens:
                        dropped[TOO_LONG] += 1
                        continue
                    file.write(render_line(record))
                    written += 1
        _check_upstream_rows(split, paths, upstream_rows, split_spec.rows)
        splits[split] = {
            "upstream_rows": upstream_rows,
            "rows": written,
            "dropped": dict(sorted(dropped.items())),
        }
        build.say(
            f"{spec.name} {split}: {written} of {upstream_rows} rows kept, "
            f"{sum(dropped.values())} over {spec.max_tokens} tokens"
        )
    source = build.store.manifest(raw).document["source"]
    record = RECORD_OF_CONVERTER[spec.converter]
    schema = schema_document(record, FORMAT, source["repo"], source["revision"])
    build.staged.write("schema.json", render(schema))
    return {
        "dataset": spec.folder,
        "version": spec.version,
        "format": FORMAT,
        "rows": sum(split["rows"] for split in splits.values()),
        "splits": splits,
        "max_tokens": spec.max_tokens,
        "tokenizer": {
            "asset": tokenizer.key,
            "sha256": build.store.manifest(tokenizer).files["tokenizer.model"].sha256,
        },
        "source": source,
    }


def _check_upstream_rows(split: str, paths: list[Path], found: int, pinned: int | None) -> None:
    where = f"split {split} in {', '.join(map(str, paths))}"
    if pinned is not None and found != pinned:
        raise InvalidInput(f"{where}: {found} rows, but the spec pins {pinned}")
    if pinned is None and not found:
        raise InvalidInput(f"{where}: no rows")
