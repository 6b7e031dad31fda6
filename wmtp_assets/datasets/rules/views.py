"""Rules for what is made from processed rows or raw problems: pairs, small splits, statistics,
tests."""

from __future__ import annotations

from collections import Counter
from functools import partial

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.strict_json import parse_object, read_small
from wmtp_assets.datasets.comparing import (
    DatasetSubject,
    check_schema_file,
    compare_lines,
    compare_with_raw,
)
from wmtp_assets.datasets.features import SCHEMA_NAME
from wmtp_assets.datasets.jsonl import open_jsonl, read_lines
from wmtp_assets.datasets.process import split_file
from wmtp_assets.datasets.records import PairRecord, format_of, problem_of
from wmtp_assets.datasets.stats import OF_THE_CONVERSION, newest_summary, summarize
from wmtp_assets.datasets.twin import twin_file
from wmtp_assets.datasets.views import (
    PAIRS,
    Stratum,
    describe_sample,
    pair_lines,
    pairs_file,
    read_strata,
    sample,
    small_file,
    tests_file,
    tests_lines,
)
from wmtp_assets.rules.findings import Report, Rule, read_document, stated
from wmtp_assets.storage.manifest import Document, render


def check_pairs(subject: DatasetSubject, report: Report) -> None:
    """Every line of the pairs is the one that the processed row at its place gives."""
    spec = subject.spec
    processed = subject.upstream("processed")
    rows: dict[str, int] = {}
    for split in spec.processed_splits:
        twin = report.reads(subject, twin_file(split), processed)
        rows[split] = compare_lines(
            subject,
            report,
            pairs_file(split),
            pair_lines(twin, format_of(spec).record),
            (processed, twin_file(split)),
            "row of the processed split",
        )
    check_schema_file(subject, report, SCHEMA_NAME, PairRecord, PAIRS)
    _check_counts(subject, report, {split: {"rows": count} for split, count in rows.items()})
    report.note(rows=rows)


def _check_counts(subject: DatasetSubject, report: Report, splits: dict[str, Document]) -> None:
    """The manifest says how many rows there are in each split, and in all."""
    file = subject.file(subject.artifact.manifest)
    total = sum(next(iter(split.values())) for split in splits.values())
    report.require(file, expected=splits, found=subject.stated("splits"), place="splits")
    report.require(file, expected=total, found=subject.stated("rows"), place="rows")


def check_tests(subject: DatasetSubject, report: Report) -> None:
    """The tests are those of the raw problems, all of them."""
    splits = subject.spec.processed_splits
    counts = compare_with_raw(subject, report, splits, tests_file, tests_lines)
    problems = {split: max(count - 2, 0) for split, count in counts.items()}
    _check_counts(subject, report, {split: {"problems": n} for split, n in problems.items()})
    report.note(problems=problems)


def check_membership(subject: DatasetSubject, report: Report) -> None:
    """Small splits hold the rows that the seed chooses, and cover the problems and labels."""
    spec = subject.spec
    processed = subject.upstream("processed")
    splits: dict[str, Document] = {}
    for split in spec.processed_splits:
        twin = report.reads(subject, twin_file(split), processed)
        limit = spec.small.limit(split)
        rows = partial(read_strata, twin, format_of(spec).record)
        kept = sample(rows, limit, spec.small.seed)
        strata = Counter(stratum for _, stratum in rows())
        full = open_jsonl(report.reads(subject, split_file(split), processed))
        if strata.total() != len(full):
            raise InvalidInput(f"{len(full)} rows, but its twin has {strata.total()}")
        compare_lines(
            subject,
            report,
            small_file(split),
            (full.line(number) + b"\n" for number in kept),
            (processed, split_file(split)),
            "row of the sample",
        )
        _check_coverage(subject, report, split, strata, limit)
        splits[split] = describe_sample(kept, len(full))
    _check_counts(subject, report, splits)
    report.note(splits=splits)


def _check_coverage(
    subject: DatasetSubject, report: Report, split: str, strata: Counter[Stratum], limit: int
) -> None:
    """As many problems as there is room for, and every label, are in a small split."""
    file = subject.file(small_file(split))
    labels = {label for _, label in strata}
    problems = {problem_id for problem_id, _ in strata}
    found = Counter[Stratum]()
    for _, line in read_lines(report.reads(subject, small_file(split))):
        try:
            row = parse_object(line)
            found[problem_of(row), row.get("is_correct")] += 1
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # said by the rule of schemas
    if found.total() > limit:
        report.add(file, expected=f"at most {limit} rows", found=f"{found.total()} rows")
    covered = {problem_id for problem_id, _ in found}
    found_labels = {label for _, label in found}
    least = min(len(problems), limit // len(labels)) if labels else 0
    if len(covered & problems) < least:
        report.add(
            file,
            expected=f"rows of {least} problems or more",
            found=f"rows of {len(covered & problems)}",
        )
    if len(found_labels & labels) < min(len(labels), limit):
        report.add(
            file,
            place="is_correct",
            expected=f"{sorted(labels, key=str)}",
            found=f"{sorted(found_labels, key=str)}",
        )


def check_recount(subject: DatasetSubject, report: Report) -> None:
    """The newest summary equals one that is computed again from the processed rows."""
    newest = newest_summary(subject.manifest.files)
    if newest is None:
        report.add(
            subject.file("*_summary.json"), expected="a summary", found="none", problem="missing"
        )
        return
    found = read_document(subject, report, newest)
    expected = _recounted(subject, report)
    rows = {split: summary["rows"] for split, summary in expected["splits"].items()}
    report.require(subject.file(newest), expected=expected, found=found)
    data = read_small(report.reads(subject, newest))
    if found == expected and data != render(expected):
        report.add(subject.file(newest), expected="the file as it is made", found="other spelling")
    report.require(
        subject.file(subject.artifact.manifest),
        expected={"summary": newest, "rows": sum(rows.values())},
        found={key: subject.stated(key) for key in ("summary", "rows")},
    )
    report.note(summary=newest, rows=rows)


def _recounted(subject: DatasetSubject, report: Report) -> Document:
    """The summary of the processed rows as they are now.

    Raises:
        InvalidInput: if the processed dataset's manifest does not say what belongs in a summary.
    """
    spec = subject.spec
    processed = subject.upstream("processed")
    report.reads(subject, processed.manifest, processed)
    document = subject.store.manifest(processed).document
    fields = (
        ("max_tokens",),
        ("tokenizer", "sha256"),
        *(("splits", split, key) for split in spec.processed_splits for key in OF_THE_CONVERSION),
    )
    for keys in fields:
        if stated(document, *keys) is None:
            raise InvalidInput(f"no field {'.'.join(keys)}")
    if type(document["max_tokens"]) is not int:
        raise InvalidInput("max_tokens is not a number")
    return summarize(spec, lambda name: report.reads(subject, name, processed), document)


RULES = (
    Rule(
        "derivation",
        "Every row is what the rule makes of the processed row at its place, and none is missing.",
        ("pairs",),
        check_pairs,
        needs=("pyarrow",),
    ),
    Rule(
        "derivation",
        "The tests are those of the raw problems, all of them.",
        ("tests",),
        check_tests,
        needs=("pyarrow",),
    ),
    Rule(
        "membership",
        "Small splits hold the rows that the seed chooses, and cover problems and labels.",
        ("small",),
        check_membership,
        needs=("pyarrow",),
    ),
    Rule(
        "recount",
        "The newest summary equals one computed again from the rows.",
        ("stats",),
        check_recount,
        needs=("pyarrow",),
    ),
)
