"""Rules for processed datasets, small splits and statistics; they read every row."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count, islice
from typing import Any

from pydantic import ValidationError

from wmtp_assets.data import pairs
from wmtp_assets.data.jsonl import BadLine, read_jsonl, read_lines
from wmtp_assets.data.overlap import NGRAM, ngram_index, ngrams, normalized
from wmtp_assets.data.process import FORMAT, count_tokens, split_file
from wmtp_assets.data.records import (
    RECORD_OF_CONVERTER,
    AlpacaRecord,
    PairRecord,
    Record,
    pair_of,
    render_line,
    schema_document,
)
from wmtp_assets.data.small import small_file
from wmtp_assets.data.stats import newest_summary, summarize
from wmtp_assets.data.tokens import TokenCounter
from wmtp_assets.errors import InvalidInput
from wmtp_assets.integrity.findings import Report, Subject, is_there, stated
from wmtp_assets.integrity.models import NEEDS_SENTENCEPIECE
from wmtp_assets.layout import Artifact
from wmtp_assets.manifest import Document
from wmtp_assets.specs import DatasetSpec
from wmtp_assets.strict_json import parse_object

_BATCH = 256

TRAIN = "train"


def _spec(subject: Subject) -> DatasetSpec:
    spec = subject.artifact.spec
    assert isinstance(spec, DatasetSpec)
    return spec


def _split_files(subject: Subject) -> dict[str, str]:
    """Split → file name in the artifact."""
    name = small_file if subject.artifact.kind == "small" else split_file
    return {split: name(split) for split in _spec(subject).processed_splits}


def _first(error: ValidationError) -> tuple[str, str]:
    """Field and message of the first thing that is wrong with a row."""
    first = error.errors()[0]
    return ".".join(map(str, first["loc"])), first["msg"]


def _document(subject: Subject, report: Report, name: str) -> Document:
    """A JSON file of the artifact.

    Raises:
        InvalidInput: if it is none.
    """
    data = report.reads(subject, name).read_bytes()
    try:
        return parse_object(data)
    except ValueError as error:
        raise InvalidInput(f"not JSON: {error}") from error


def check_schema(subject: Subject, report: Report) -> None:
    """Every row is a record of the dataset's schema, and no task_id stands twice."""
    record = RECORD_OF_CONVERTER[_spec(subject).converter]
    rows = 0
    for name in _split_files(subject).values():
        seen: set[str] = set()
        for number, row in read_jsonl(report.reads(subject, name)):
            rows += 1
            try:
                task_id = record.model_validate(row).task_id
            except ValidationError as error:
                field, problem = _first(error)
                report.add(
                    subject.file(name),
                    place=f"line {number}, field {field}",
                    expected=f"the schema of {record.__name__}",
                    found=problem,
                )
                continue
            if task_id in seen:
                report.add(
                    subject.file(name),
                    place=f"line {number}, field task_id",
                    expected="a task_id that stands once",
                    found=task_id,
                )
            seen.add(task_id)
    report.note(rows=rows)
    if subject.artifact.kind == "processed":
        _check_schema_file(subject, report, record, FORMAT)


def _check_schema_file(
    subject: Subject, report: Report, record: type[Record], format_name: str
) -> None:
    expected = schema_document(
        record,
        format_name,
        subject.stated("source", "repo"),
        subject.stated("source", "revision"),
    )
    found = _document(subject, report, "schema.json")
    report.require(subject.file("schema.json"), expected=expected, found=found)


def check_row_count(subject: Subject, report: Report) -> None:
    """Each split has the rows that upstream pins, less those the manifest says were too long."""
    file = subject.file(subject.artifact.manifest)
    counts = {}
    for split, name in _split_files(subject).items():
        found = sum(1 for _ in read_lines(report.reads(subject, name)))
        counts[split] = found
        dropped = _dropped(subject, report, split)
        upstream = _spec(subject).splits[split].rows
        if upstream is None:
            upstream = found + dropped
        expected = upstream - dropped
        if found != expected:
            report.add(subject.file(name), expected=f"{expected} rows", found=f"{found} rows")
        report.require(
            file,
            expected={"rows": found, "upstream_rows": upstream},
            found={key: subject.stated("splits", split, key) for key in ("rows", "upstream_rows")},
            place=f"splits.{split}",
        )
    report.require(file, expected=sum(counts.values()), found=subject.stated("rows"), place="rows")
    report.note(rows=counts)


def _dropped(subject: Subject, report: Report, split: str) -> int:
    """How many rows the manifest says were left out."""
    reasons = subject.stated("splits", split, "dropped")
    numbers: list[Any] = list(reasons.values()) if isinstance(reasons, dict) else [None]
    if all(type(number) is int and number > 0 for number in numbers):
        return sum(numbers)
    report.add(
        subject.file(subject.artifact.manifest),
        expected="reason and number of rows",
        found=reasons,
        place=f"splits.{split}.dropped",
    )
    return 0


def _records(
    subject: Subject, report: Report, split: str, of: Artifact | None = None
) -> Iterator[tuple[int, AlpacaRecord]]:
    """Line number and record of each row of a processed split.

    Raises:
        BadLine: for a row that is no record.
    """
    spec = (of or subject.artifact).spec
    assert isinstance(spec, DatasetSpec)
    record = RECORD_OF_CONVERTER[spec.converter]
    path = report.reads(subject, split_file(split), of)
    for number, row in read_jsonl(path):
        try:
            yield number, record.model_validate(row)
        except ValidationError as error:
            raise BadLine(path, number, ": ".join(_first(error))) from error


def _counter(subject: Subject, report: Report) -> TokenCounter:
    """The counter of the tokenizer asset the spec names."""
    tokenizer = subject.store.catalogue[_spec(subject).tokenizer]
    path = report.reads(subject, "tokenizer.model", tokenizer)
    return TokenCounter(subject.store.read(tokenizer, "tokenizer.model"), str(path))


def check_token_length(subject: Subject, report: Report) -> None:
    """instruction + input + output of every row, counted again, are within ``max_tokens``."""
    if find_spec("sentencepiece") is None:
        report.skip(NEEDS_SENTENCEPIECE)
        return
    limit = _spec(subject).max_tokens
    counter = _counter(subject, report)
    longest = 0
    for split, name in _split_files(subject).items():
        rows = _records(subject, report, split)
        while batch := list(islice(rows, _BATCH)):
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


def check_splits(subject: Subject, report: Report) -> None:
    """No task_id stands in two splits."""
    split_of: dict[str, str] = {}
    for split, name in _split_files(subject).items():
        for number, record in _records(subject, report, split):
            other = split_of.setdefault(record.task_id, split)
            if other != split:
                report.add(
                    subject.file(name),
                    place=f"line {number}",
                    expected=f"a task_id that is not in {other}",
                    found=record.task_id,
                )
    report.note(task_ids=len(split_of))


def check_text_twins(subject: Subject, report: Report) -> None:
    """No instruction with its input stands in two splits, white space, case and punctuation
    aside."""
    first: dict[str, tuple[str, str]] = {}
    for split, name in _split_files(subject).items():
        for number, record in _records(subject, report, split):
            text = normalized(f"{record.instruction}\n{record.input}")
            other, task = first.setdefault(text, (split, record.task_id))
            if other != split:
                report.add(
                    subject.file(name),
                    place=f"line {number} ({record.task_id})",
                    expected=f"a text that is not in {other}",
                    found=f"that of {task}",
                    problem="warning",
                    remedy="leave one of them out where the splits must be disjoint by text",
                )
    report.note(texts=len(first))


def check_contamination(subject: Subject, report: Report) -> None:
    """No row of ``train`` shares :data:`NGRAM` words in a row with an evaluation problem."""
    names = _split_files(subject)
    if TRAIN not in names:
        report.note(train="there is none")
        return
    evaluated = [
        (artifact, split)
        for artifact in subject.store.catalogue
        if artifact.kind == "processed" and isinstance(artifact.spec, DatasetSpec)
        for split in artifact.spec.contaminates
    ]
    texts: list[tuple[str, str]] = []
    compared = []
    for artifact, split in evaluated:
        if not is_there(subject.store.path(artifact, split_file(split))):
            report.note(**{artifact.key: "is not here: not compared"})
            continue
        compared.append(f"{artifact.key} {split}")
        texts += [
            (f"{artifact.spec.name} {split} {record.task_id}", _words_of(record))
            for _, record in _records(subject, report, split, artifact)
        ]
    index = ngram_index(texts)
    tasks: set[str] = set()
    for number, record in _records(subject, report, TRAIN):
        shared = [ngram for ngram in ngrams(_words_of(record)) if ngram in index]
        tasks.update(task for ngram in shared for task in index[ngram])
        if shared:
            report.add(
                subject.file(names[TRAIN]),
                place=f"line {number} ({record.task_id})",
                expected=f"no {NGRAM} words in a row of {', '.join(index[shared[0]])}",
                found=shared[0],
                problem="warning",
                remedy="leave the row out where it matters",
            )
    report.note(compared_with=compared, tasks=sorted(tasks))


def _words_of(record: AlpacaRecord) -> str:
    return f"{record.instruction}\n{record.output}"


def check_derivation(subject: Subject, report: Report) -> None:
    """Every line of the pairs is the one that the processed row at its place gives."""
    processed = subject.store.catalogue[subject.artifact.upstream[0]]
    rows: dict[str, int] = {}
    for split, name in _split_files(subject).items():
        records = _records(subject, report, split, processed)
        lines = read_lines(report.reads(subject, name))
        rows[split] = 0
        for number in count(1):
            report.goes_on_with(subject, split_file(split), processed)
            record = next(records, None)
            report.goes_on_with(subject, name)
            line = next(lines, None)
            if record is None and line is None:
                break
            if record is None or line is None:
                report.add(
                    subject.file(name),
                    place=f"line {number}",
                    expected="a line per row of the processed split",
                    found="no line" if line is None else "a line more",
                )
                break
            rows[split] = number
            _check_pair(subject, report, name, line, pair_of(record[1]))
    _check_schema_file(subject, report, PairRecord, pairs.FORMAT)
    file = subject.file(subject.artifact.manifest)
    splits = {split: {"rows": count} for split, count in rows.items()}
    report.require(file, expected=splits, found=subject.stated("splits"), place="splits")
    report.require(file, expected=sum(rows.values()), found=subject.stated("rows"), place="rows")
    report.note(rows=rows)


def _check_pair(
    subject: Subject, report: Report, name: str, line: tuple[int, bytes], pair: PairRecord
) -> None:
    number, data = line
    if data + b"\n" == render_line(pair):
        return
    file, place = subject.file(name), f"line {number}"
    try:
        found = parse_object(data)
    except ValueError as error:
        report.add(file, place=place, expected="a JSON object", found=error)
        return
    expected = pair.model_dump()
    if found == expected:
        report.add(file, place=place, expected="the line as it is made", found="other spelling")
    report.require(file, expected=expected, found=found, place=place)


def check_membership(subject: Subject, report: Report) -> None:
    """Small splits are within their limits, and every line stands in the processed split."""
    spec = _spec(subject)
    processed = subject.store.catalogue[subject.artifact.upstream[0]]
    file = subject.file(subject.artifact.manifest)
    counts = {}
    for split, name in _split_files(subject).items():
        path = report.reads(subject, split_file(split), processed)
        full = {line for _, line in read_lines(path)}
        lines = list(read_lines(report.reads(subject, name)))
        counts[split] = len(lines)
        limit = min(spec.small.limit(split), len(full))
        if len(lines) != limit:
            report.add(subject.file(name), expected=f"{limit} rows", found=f"{len(lines)} rows")
        for number, line in lines:
            if line not in full:
                report.add(
                    subject.file(name),
                    place=f"line {number}",
                    expected=f"a line of {processed.base}/{split_file(split)}",
                    found=f"{line[:60].decode(errors='replace')}…",
                )
        report.require(
            file,
            expected={"rows": len(lines), "of": len(full)},
            found=subject.stated("splits", split),
            place=f"splits.{split}",
        )
    report.require(file, expected=sum(counts.values()), found=subject.stated("rows"), place="rows")
    report.note(rows=counts)


def check_recount(subject: Subject, report: Report) -> None:
    """The newest summary equals one that is computed again from the processed rows."""
    if find_spec("sentencepiece") is None:
        report.skip(NEEDS_SENTENCEPIECE)
        return
    newest = newest_summary(subject.manifest.files)
    if newest is None:
        report.add(
            subject.file("*_summary.json"), expected="a summary", found="none", problem="missing"
        )
        return
    found = _document(subject, report, newest)
    expected = _recounted(subject, report)
    rows = {split: summary["rows"] for split, summary in expected["splits"].items()}
    report.require(subject.file(newest), expected=expected, found=found)
    report.require(
        subject.file(subject.artifact.manifest),
        expected={"summary": newest, "rows": sum(rows.values())},
        found={key: subject.stated(key) for key in ("summary", "rows")},
    )
    report.note(summary=newest, rows=rows)


def _recounted(subject: Subject, report: Report) -> Document:
    """The summary of the processed rows as they are now.

    Raises:
        InvalidInput: if the processed dataset's manifest does not say what belongs in a summary.
    """
    spec = _spec(subject)
    counter = _counter(subject, report)
    processed = subject.store.catalogue[subject.artifact.upstream[0]]
    report.reads(subject, processed.manifest, processed)
    document = subject.store.manifest(processed).document
    fields = [("max_tokens",), ("tokenizer", "sha256")]
    fields += [
        ("splits", split, key)
        for split in spec.processed_splits
        for key in ("upstream_rows", "dropped")
    ]
    for keys in fields:
        if stated(document, *keys) is None:
            raise InvalidInput(f"no field {'.'.join(keys)}")
    records = {
        split: [record for _, record in _records(subject, report, split, processed)]
        for split in spec.processed_splits
    }
    return summarize(spec, records, document, counter)
