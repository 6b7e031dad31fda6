"""Rules for processed datasets, small splits and statistics; they read every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from pydantic import ValidationError

from wmtp_assets.data.jsonl import parse_line, read_jsonl, read_lines
from wmtp_assets.data.process import count_tokens, split_file
from wmtp_assets.data.records import RECORD_OF_CONVERTER, AlpacaRecord, schema_document
from wmtp_assets.data.small import small_file
from wmtp_assets.data.stats import newest_summary, summarize
from wmtp_assets.data.tokens import TokenCounter
from wmtp_assets.errors import InvalidInput
from wmtp_assets.integrity.findings import Report, Subject
from wmtp_assets.integrity.models import NEEDS_SENTENCEPIECE
from wmtp_assets.manifest import render
from wmtp_assets.specs import DatasetSpec

_BATCH = 256


def _spec(subject: Subject) -> DatasetSpec:
    spec = subject.artifact.spec
    assert isinstance(spec, DatasetSpec)
    return spec


def _split_files(subject: Subject) -> dict[str, str]:
    """Split → file name in the artifact."""
    name = small_file if subject.artifact.kind == "small" else split_file
    return {split: name(split) for split in _spec(subject).splits}


def check_schema(subject: Subject, report: Report) -> None:
    """Every row is a record of the dataset's schema, and no task_id stands twice."""
    spec = _spec(subject)
    record = RECORD_OF_CONVERTER[spec.converter]
    rows = 0
    for name in _split_files(subject).values():
        seen: Counter[str] = Counter()
        for number, row in read_jsonl(subject.store.path(subject.artifact, name)):
            rows += 1
            try:
                task_id = record.model_validate(row).task_id
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"]))
                report.add(
                    subject.file(name),
                    place=f"line {number}, field {field}",
                    expected=f"the schema of {record.__name__}",
                    found=first["msg"],
                )
                continue
            seen[task_id] += 1
            if seen[task_id] > 1:
                report.add(
                    subject.file(name),
                    place=f"line {number}, field task_id",
                    expected="a task_id that stands once",
                    found=task_id,
                )
    if subject.artifact.kind == "processed":
        source = subject.manifest.document["source"]
        expected = render(schema_document(spec.converter, source["repo"], source["revision"]))
        found = subject.store.path(subject.artifact, "schema.json").read_bytes()
        if found != expected:
            report.add(
                subject.file("schema.json"),
                expected=f"the JSON Schema of {record.__name__}",
                found="another document",
            )
    report.note(rows=rows)


def check_row_count(subject: Subject, report: Report) -> None:
    """Each split has as many rows as upstream pins, and as the manifest says."""
    counts = {}
    for split, name in _split_files(subject).items():
        found = sum(1 for _ in read_lines(subject.store.path(subject.artifact, name)))
        counts[split] = found
        pinned = _spec(subject).splits[split].rows
        if pinned is not None:
            report.require(subject.file(name), expected=f"{pinned} rows", found=f"{found} rows")
        report.require(
            subject.file(subject.artifact.manifest),
            expected=found,
            found=subject.manifest.document["splits"][split]["rows"],
            place=f"splits.{split}.rows",
        )
    report.note(rows=counts)


def _records(subject: Subject, path: Path) -> Iterator[tuple[int, AlpacaRecord]]:
    record = RECORD_OF_CONVERTER[_spec(subject).converter]
    for number, row in read_jsonl(path):
        try:
            yield number, record.model_validate(row)
        except ValidationError as error:
            raise InvalidInput(f"{path}:{number}: {error.errors()[0]['msg']}") from error


def _counter(subject: Subject) -> TokenCounter:
    """The counter of the tokenizer asset the spec names."""
    tokenizer = subject.store.catalogue[_spec(subject).tokenizer]
    data = subject.store.read(tokenizer, "tokenizer.model")
    return TokenCounter(data, str(subject.store.path(tokenizer, "tokenizer.model")))


def check_token_length(subject: Subject, report: Report) -> None:
    """instruction + input + output of every row, counted again, are within ``max_tokens``."""
    if find_spec("sentencepiece") is None:
        report.skip(NEEDS_SENTENCEPIECE)
        return
    limit = _spec(subject).max_tokens
    counter = _counter(subject)
    longest = 0
    for name in _split_files(subject).values():
        rows = list(_records(subject, subject.store.path(subject.artifact, name)))
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            counts = count_tokens(counter, [record for _, record in batch])
            for (number, record), tokens in zip(batch, map(sum, counts), strict=True):
                longest = max(longest, tokens)
                if tokens > limit:
                    report.add(
                        subject.file(name),
                        place=f"line {number} ({record.task_id})",
                        expected=f"at most {limit} tokens",
                        found=f"{tokens} tokens",
                    )
    report.note(longest=longest, max_tokens=limit)


def check_membership(subject: Subject, report: Report) -> None:
    """Small splits are within their limits, and every line stands in the processed split."""
    spec = _spec(subject)
    processed = subject.store.catalogue[subject.artifact.upstream[0]]
    counts = {}
    for split, name in _split_files(subject).items():
        full = {line for _, line in read_lines(subject.store.path(processed, split_file(split)))}
        lines = list(read_lines(subject.store.path(subject.artifact, name)))
        counts[split] = len(lines)
        limit = min(spec.small.limit(split), len(full))
        report.require(subject.file(name), expected=f"{limit} rows", found=f"{len(lines)} rows")
        for number, line in lines:
            if line not in full:
                report.add(
                    subject.file(name),
                    place=f"line {number}",
                    expected=f"a line of {processed.base}/{split_file(split)}",
                    found=f"{line[:60].decode(errors='replace')}…",
                )
    report.note(rows=counts)


def check_recount(subject: Subject, report: Report) -> None:
    """The newest summary equals one that is computed again from the processed rows."""
    if find_spec("sentencepiece") is None:
        report.skip(NEEDS_SENTENCEPIECE)
        return
    spec = _spec(subject)
    newest = newest_summary(subject.manifest.files)
    if newest is None:
        report.add(
            subject.file("*_summary.json"), expected="a summary", found="none", problem="missing"
        )
        return
    processed = subject.store.catalogue[subject.artifact.upstream[0]]
    lines = {
        split: [line for _, line in read_lines(subject.store.path(processed, split_file(split)))]
        for split in spec.splits
    }
    document = subject.store.manifest(processed).document
    expected = summarize(spec, lines, document, _counter(subject))
    found = parse_line(subject.store.path(subject.artifact, newest).read_bytes())
    for field in sorted(expected.keys() | found.keys()):
        report.require(
            subject.file(newest),
            expected=expected.get(field),
            found=found.get(field),
            place=field,
        )
    report.note(summary=newest, rows={split: len(rows) for split, rows in lines.items()})
