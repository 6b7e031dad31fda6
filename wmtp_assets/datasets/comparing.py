"""How the rules for datasets read rows: JSONL as bytes, the Parquet twin as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.progress import Progress, silent
from wmtp_assets.base.strict_json import MAX_SIZE, parse_object, short
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, Spec
from wmtp_assets.datasets.evaluation_tests import RawProblems
from wmtp_assets.datasets.format import format_of
from wmtp_assets.datasets.jsonl import read_lines
from wmtp_assets.datasets.random_access import offsets_file
from wmtp_assets.datasets.records import Record, schema_document
from wmtp_assets.datasets.twin import read_twin, twin_file
from wmtp_assets.rules.findings import Report, Subject, read_document

if TYPE_CHECKING:
    import pyarrow as pa

DatasetSubject = Subject[DatasetSpec]

LONG = 64 << 20
"""Bytes whose reading is worth lines of progress."""


def columns_of(
    subject: DatasetSubject,
    report: Report,
    split: str,
    columns: Sequence[str],
    of: Artifact[DatasetSpec] | None = None,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Line number of the first row, and columns of some rows, of a processed split's twin."""
    artifact = of or subject.artifact
    record = format_of(artifact.spec).record
    total = max(count_rows(subject, report, split, of), 1)
    path = report.reads(subject, twin_file(split), of)
    size = path.stat().st_size
    progress = progress_of(subject, f"reading {artifact.key} {split}", size)
    line = 1
    for batch in read_twin(path, record, columns):
        yield line, batch
        progress.advance(size * batch.num_rows // total)
        line += batch.num_rows


def rows_of_split(
    subject: DatasetSubject,
    report: Report,
    split: str,
    columns: Sequence[str],
    of: Artifact[DatasetSpec] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Line number and values of each row of a processed split, from its twin."""
    for line, batch in columns_of(subject, report, split, columns, of):
        values = [batch.column(name).to_pylist() for name in columns]
        yield from zip(range(line, line + batch.num_rows), *values, strict=True)


def progress_of(subject: Subject[Spec], doing: str, size: int) -> Progress:
    """Says how far the reading of ``size`` bytes is, where that takes long enough to be asked."""
    return Progress(doing, size, subject.say if size >= LONG else silent)


def raw_problems(subject: DatasetSubject, report: Report) -> RawProblems:
    """The problems of the raw dataset that the subject is made from, hashed.

    Raises:
        MissingArtifact, CorruptArtifact, InvalidInput: if they are not as they were committed.
    """
    store = subject.store
    raw = subject.upstream("raw")
    report.goes_on_with(subject, raw.manifest, raw)
    total = store.manifest(raw).size
    return RawProblems(store, raw, progress_of(subject, f"reading {raw.key}", total))


def count_rows(
    subject: DatasetSubject,
    report: Report,
    split: str,
    of: Artifact[DatasetSpec] | None = None,
) -> int:
    """The rows of a split, from the size of its offsets."""
    return report.reads(subject, offsets_file(split), of).stat().st_size // 8 - 1


def check_schema_file(
    subject: DatasetSubject, report: Report, name: str, record: type[Record], format_name: str
) -> None:
    """A schema file is the one that the record gives."""
    source = (subject.stated("source", "repo"), subject.stated("source", "revision"))
    expected = schema_document(record, format_name, *source)
    found = read_document(subject, report, name)
    report.require(subject.file(name), expected=expected, found=found)


_END = (0, None)


def compare_lines(
    subject: DatasetSubject,
    report: Report,
    name: str,
    expected: Iterable[bytes],
    source: tuple[Artifact[Spec], str],
    origin: str,
    max_size: int = MAX_SIZE,
) -> int:
    """Compare the lines of a file with those that another file gives; return how many there are.

    Args:
        name: of the file.
        expected: its lines, with their newlines.
        source: artifact and file that ``expected`` reads, for what goes wrong there.
        origin: what gives a line, for people.
        max_size: bytes of a line, at most.
    """
    file = subject.file(name)
    lines = iter(expected)
    found = read_lines(report.reads(subject, name), max_size)
    count = 0
    while True:
        report.goes_on_with(subject, source[1], source[0])
        wanted = next(lines, None)
        report.goes_on_with(subject, name)
        number, line = next(found, _END)
        if wanted is None and line is None:
            return count
        if wanted is None or line is None:
            report.add(
                file,
                place=f"line {count + 1}",
                expected=f"a line per {origin}",
                found="no line" if line is None else "a line more",
            )
            return count
        count += 1
        if line + b"\n" != wanted:
            _tell_difference(report, file, f"line {number}", wanted[:-1], line)


def _tell_difference(report: Report, file: str, place: str, wanted: bytes, line: bytes) -> None:
    try:
        expected, found = parse_object(wanted), parse_object(line)
    except ValueError:
        column = next(
            (n for n, (a, b) in enumerate(zip(wanted, line, strict=False)) if a != b),
            min(len(wanted), len(line)),
        )
        around = slice(max(column - 20, 0), column + 40)
        report.add(
            file,
            place=f"{place}, column {column + 1}",
            expected=short(wanted[around].decode(errors="replace")),
            found=short(line[around].decode(errors="replace")),
        )
        return
    if found == expected:
        report.add(file, place=place, expected="the line as it is made", found="other spelling")
    report.require(file, expected=expected, found=found, place=place)
