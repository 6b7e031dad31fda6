"""The rules of what is made from processed rows or raw problems: everything is made again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.datasets.views import small_file
from wmtp_assets.rules.findings import NEEDS
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.light import hide
from wmtp_assets_tests.quick import first_of_each, quick
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.rules.cases import (
    BAD_LINES,
    KEY,
    STATEMENT,
    Case,
    Damage,
    apply,
    at_third,
    document_of,
    edit_json,
    edit_lines,
    edit_manifest,
    edit_row,
    edit_split,
    edit_split_row,
    edit_twin,
    elsewhere,
    key_of,
    long_line,
    remove,
    rewrite,
    rows_of,
    seal,
    seal_as,
    take_last,
    then,
)
from wmtp_assets_tests.trees import damage

SUMMARY = "*_summary.json"
TWIN = "../index/test.parquet"
NOT_PAIRS = STATEMENT["derivation", "pairs"]
NOT_TESTS = STATEMENT["derivation", "tests"]
NOT_MEMBERS = STATEMENT["membership", "small"]
NOT_COUNTED = STATEMENT["recount", "stats"]
CUT_OFF = "the last line has no newline: the file was cut off"


def pairs_case(name: str, damage: Damage, file: str, *finding: str, **more: Any) -> Case:
    return Case(name, "derivation", "pairs", damage, file, *finding, **more)


def case_of_tests(name: str, damage: Damage, file: str, *finding: str, **more: Any) -> Case:
    return Case(name, "derivation", "tests", damage, file, *finding, **more)


def small_case(name: str, damage: Damage, file: str, *finding: str, **more: Any) -> Case:
    return Case(name, "membership", "small", damage, file, *finding, **more)


def stats_case(name: str, damage: Damage, file: str, *finding: str, **more: Any) -> Case:
    return Case(name, "recount", "stats", damage, file, *finding, **more)


def cut_off(name: str) -> Damage:
    return rewrite(name, lambda data: data[:-9])


def added(table: pa.Table) -> pa.Table:
    """With the last row again."""
    return pa.concat_tables([table, table.slice(table.num_rows - 1)])


# -- pairs -------------------------------------------------------------------------------------


def swap(lines: list[bytes]) -> list[bytes]:
    return [lines[1], lines[0], *lines[2:]]


def reorder(lines: list[bytes]) -> list[bytes]:
    """The first row with its keys in another order."""
    row = json.loads(lines[0])
    keys = reversed(list(row))
    line = json.dumps({key: row[key] for key in keys}, ensure_ascii=False)
    return [f"{line}\n".encode(), *lines[1:]]


PAIRS = [
    *(
        pairs_case(
            f"{place} is {found}",
            edit_row("test.jsonl", 3, **changes),
            "test.jsonl",
            f"line 3.{place}",
            expected,
            found,
        )
        for place, changes, expected, found in (
            ("prompt", {"prompt": "x"}, r"\\n\\ndef truncate_number.*", "x"),
            ("response", {"response": "pass"}, r"    return number % 1\.0.*", "pass"),
            ("is_correct", {"is_correct": True}, "None", "True"),
            ("is_correct", {"is_correct": ...}, "None", "nothing"),
            ("weight", {"weight": 1}, "nothing", "1"),
            (
                "metadata.problem_id",
                {"metadata": {"problem_id": "HumanEval/3", "difficulty": "unknown"}},
                "HumanEval/2",
                "HumanEval/3",
            ),
            (
                "metadata.difficulty",
                {"metadata": {"problem_id": "HumanEval/2", "difficulty": "easy"}},
                "unknown",
                "easy",
            ),
        )
    ),
    pairs_case(
        "CRLF became LF",
        edit_lines("train.jsonl", lambda lines: [lines[0].replace(rb"\r\n", rb"\n"), *lines[1:]]),
        "train.jsonl",
        "line 1.response",
        r"class Pair\(object\): \\r\\n.*",
        r"class Pair\(object\): \\n.*",
        key="mbpp_pairs",
    ),
    pairs_case(
        "a line removed",
        edit_lines("test.jsonl", take_last),
        "test.jsonl",
        "line 164",
        "a line per row of the processed split",
        "no line",
        findings=3,
    ),
    pairs_case(
        "a line removed, and the manifest agrees",
        then(
            edit_lines("validation.jsonl", take_last),
            edit_manifest(rows=963, splits__validation__rows=89),
        ),
        "validation.jsonl",
        "line 90",
        "a line per row of the processed split",
        "no line",
        key="mbpp_pairs",
    ),
    pairs_case(
        "a line added",
        edit_lines("test.jsonl", lambda lines: [*lines, lines[0]]),
        "test.jsonl",
        "line 165",
        "a line per row of the processed split",
        "a line more",
    ),
    pairs_case(
        "two lines swapped",
        edit_lines("test.jsonl", swap),
        "test.jsonl",
        "line 2.metadata.problem_id",
        "HumanEval/1",
        "HumanEval/0",
        findings=6,
    ),
    *(
        pairs_case(
            name,
            edit_lines("test.jsonl", change),
            "test.jsonl",
            "line 1",
            "the line as it is made",
            "other spelling",
        )
        for name, change in (
            ("no blank", lambda lines: [lines[0].replace(b": null", b":null"), *lines[1:]]),
            ("an escape", lambda lines: [lines[0].replace(b"from", rb"\u0066rom", 1), *lines[1:]]),
            ("another order", reorder),
        )
    ),
    *(
        pairs_case(
            f"a line: {name}",
            edit_lines("test.jsonl", at_third(line)),
            "test.jsonl",
            "line 3, column 1" if not line.startswith(b"{") else "line 3, column 3",
            ".+",
            ".+",
        )
        for name, (line, _) in BAD_LINES.items()
        if name not in ("no JSON", "a list")
    ),
    pairs_case(
        "a line of 100 MB",
        edit_lines("test.jsonl", long_line),
        "test.jsonl",
        "line 3",
        NOT_PAIRS,
        "longer than 8388608 bytes",
    ),
    pairs_case(
        "the last line is cut off",
        cut_off("test.jsonl"),
        "test.jsonl",
        "line 164",
        NOT_PAIRS,
        CUT_OFF,
    ),
    *(
        pairs_case(
            f"a label of CodeContests: {name}",
            edit_row("valid.jsonl", line, **changes),
            "valid.jsonl",
            f"line {line}.{place}",
            expected,
            found,
            key="codecontests_pairs",
        )
        for name, line, changes, place, expected, found in (
            ("false", 1, {"is_correct": False}, "is_correct", "True", "False"),
            ("true", 67, {"is_correct": True}, "is_correct", "False", "True"),
            ("null", 1008, {"is_correct": None}, "is_correct", "False", "None"),
            (
                "a difficulty",
                1,
                {"metadata": {"problem_id": "102_A. Curious Snails", "difficulty": "A"}},
                "metadata.difficulty",
                "a",
                "A",
            ),
        )
    ),
    pairs_case(
        "the twin of the processed split is cut off: that is what must be repaired",
        elsewhere("humaneval_processed", cut_off("index/test.parquet")),
        TWIN,
        "",
        NOT_PAIRS,
        ".*not readable as parquet: .*",
        remedy="humaneval_processed",
    ),
    pairs_case(
        "the twin of the processed split is gone",
        elsewhere("humaneval_processed", remove("index/test.parquet")),
        TWIN,
        "",
        "a file",
        "nothing",
        problem="missing",
        remedy="humaneval_processed",
    ),
    pairs_case(
        "the processed rows were made anew and are others",
        elsewhere("humaneval_processed", edit_split_row("test", 1, output="    pass\n")),
        "test.jsonl",
        "line 1.response",
        r"    pass\\n",
        "    for idx, .*",
    ),
    pairs_case(
        "the processed rows were made anew and are more",
        elsewhere("humaneval_processed", edit_split("test", lambda rows: [*rows, rows[0]])),
        "test.jsonl",
        "line 165",
        "a line per row of the processed split",
        "no line",
    ),
    pairs_case(
        "schema.json of another format",
        edit_json("schema.json", format="alpaca"),
        "schema.json",
        "format",
        "pairs",
        "alpaca",
    ),
    *(
        pairs_case(
            f"the manifest's {place} is {value}",
            edit_manifest(**{place.replace(".", "__"): value}),
            "metadata.json",
            place,
            expected,
            found,
        )
        for place, value, expected, found in (
            ("rows", 163, "164", "163"),
            ("splits.test.rows", 165, "164", "165"),
            ("splits.train", {"rows": 1}, "nothing", r"\{.*\}"),
        )
    ),
]


# -- tests -----------------------------------------------------------------------------------------

VALID_TESTS = "valid_tests.json"


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Replace what must be there."""

    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


TESTS = [
    *(
        case_of_tests(
            name,
            rewrite(VALID_TESTS, change),
            VALID_TESTS,
            place,
            ".+",
            ".+",
        )
        for name, change, place in (
            ("an input is another", replaced(rb"2 2\n14 36", rb"2 2\n14 37"), "line 2, column 105"),
            ("an output is another", replaced(rb"576\n752", rb"577\n752"), "line 2, column 332"),
            ("a name is another", replaced(b'\n"102_A', b'\n"103_A'), "line 2, column 4"),
            ("a task_name is another", replaced(b': "102_A', b': "103_A'), "line 2, column 43"),
            ("a comma is missing", replaced(b"},\n", b"}\n"), "line 2, column 18277"),
            ("other spelling", replaced(b'": {', b'":  {'), "line 2, column 26"),
            ("a byte that is not text", replaced(b"102", b"\xff02"), "line 2, column 2"),
        )
    ),
    case_of_tests(
        "an opening brace is missing",
        edit_lines(VALID_TESTS, lambda lines: [b"\n", *lines[1:]]),
        VALID_TESTS,
        "line 1, column 1",
        "'{'",
        "''",
    ),
    *(
        case_of_tests(
            name,
            edit_lines(VALID_TESTS, change),
            VALID_TESTS,
            place,
            "a line per upstream problem",
            found,
            findings=findings,
        )
        for name, change, place, found, findings in (
            ("the last line is missing", take_last, "line 14", "no line", 3),
            ("a line is added", lambda lines: [*lines, b"{}\n"], "line 15", "a line more", 1),
            ("no lines", lambda lines: [], "line 1", "no line", 3),
        )
    ),
    case_of_tests(
        "a problem is missing",
        edit_lines(VALID_TESTS, lambda lines: [lines[0], *lines[2:]]),
        VALID_TESTS,
        "line 2, column 4",
        ".*102_A. Curious Snails.*",
        ".*105_B. Greedy Postcards.*",
        findings=-1,
    ),
    case_of_tests(
        "two problems are swapped",
        edit_lines(VALID_TESTS, lambda lines: [lines[0], lines[2], lines[1], *lines[3:]]),
        VALID_TESTS,
        "line 3, column 4",
        ".*105_B. Greedy Postcards.*",
        ".*102_A. Curious Snails.*",
        findings=2,
    ),
    case_of_tests(
        "the last line is cut off", cut_off(VALID_TESTS), VALID_TESTS, "line 13", NOT_TESTS, CUT_OFF
    ),
    case_of_tests(
        "a line of 100 MB",
        edit_lines("train_tests.json", long_line),
        "train_tests.json",
        "line 3",
        NOT_TESTS,
        "longer than 94371840 bytes",
    ),
    *(
        case_of_tests(
            f"the manifest's {place} is {value}",
            edit_manifest(**{place.replace(".", "__"): value}),
            "metadata.json",
            place,
            expected,
            found,
        )
        for place, value, expected, found in (
            ("rows", 71, "72", "71"),
            ("splits.train.problems", 47, "48", "47"),
            ("splits.test", ..., r"\{.*\}", "nothing"),
        )
    ),
    case_of_tests(
        "the raw problems are gone",
        elsewhere("codecontests_raw", remove("raw.metadata.json")),
        "../raw.metadata.json",
        "",
        "a committed artifact",
        "codecontests_raw has not been materialized: .*",
        problem="missing",
        remedy="codecontests_raw",
    ),
    case_of_tests(
        "the raw problems are damaged",
        lambda store, artifact: damage_shard(store),
        "../raw.metadata.json",
        "",
        NOT_TESTS,
        ".*valid-.*parquet is damaged: .*",
        remedy="codecontests_raw",
    ),
]


def damage_shard(store: Store) -> None:
    raw = store.catalogue["codecontests_raw"]
    name = next(name for name in store.manifest(raw).files if "valid" in name)
    damage(store.path(raw, name), lambda data: data[:-1])


# -- membership ------------------------------------------------------------------------------------


def change_spelling(lines: list[bytes]) -> list[bytes]:
    """The same JSON value, written otherwise."""
    return [lines[0].replace(b'"input": ""', b'"input":""'), *lines[1:]]


MEMBERSHIP = [
    small_case(
        "a row that is not in the processed split",
        edit_row("test_small.jsonl", 4, output="    pass\n"),
        "test_small.jsonl",
        "line 4.output",
        ".+",
        r"    pass\\n",
    ),
    small_case(
        "a row written otherwise",
        edit_lines("test_small.jsonl", change_spelling),
        "test_small.jsonl",
        "line 1",
        "the line as it is made",
        "other spelling",
    ),
    small_case(
        "bytes that are not text",
        edit_lines("test_small.jsonl", lambda lines: [b"\x1b[31m\xff\n", *lines[1:]]),
        "test_small.jsonl",
        "line 1, column 1",
        r"\'\{\"instruction\": .*",
        r".*x1b\[31m\ufffd'",
        findings=2,
    ),
    small_case(
        "a problem twice, and another not at all",
        edit_lines("test_small.jsonl", lambda lines: [*lines[:3], lines[2], *lines[4:]]),
        "test_small.jsonl",
        "",
        "rows of 32 problems or more",
        "rows of 31",
        findings=6,
    ),
    *(
        small_case(
            name,
            edit_lines("test_small.jsonl", change),
            "test_small.jsonl",
            place,
            "a line per row of the sample",
            found,
            findings=findings,
        )
        for name, change, place, found, findings in (
            ("a row too few", take_last, "line 32", "no line", 2),
            ("a row too many", lambda lines: [*lines, lines[0]], "line 33", "a line more", 2),
            ("no row", lambda lines: [], "line 1", "no line", 3),
        )
    ),
    small_case(
        "a row too many is over the limit",
        edit_lines("test_small.jsonl", lambda lines: [*lines, lines[0]]),
        "test_small.jsonl",
        "",
        "at most 32 rows",
        "33 rows",
        findings=2,
    ),
    small_case(
        "the spec asks for fewer",
        lambda store, artifact: respec(store, "humaneval", small={"other": 31}),
        "test_small.jsonl",
        "",
        "at most 31 rows",
        "32 rows",
        findings=-1,
    ),
    small_case(
        "the spec names another seed",
        lambda store, artifact: respec(store, "humaneval", small={"seed": 1}),
        "test_small.jsonl",
        "line 1.task_id",
        "HumanEval/[0-9]+",
        "HumanEval/2",
        findings=-1,
    ),
    small_case(
        "the last line is cut off",
        cut_off("test_small.jsonl"),
        "test_small.jsonl",
        "line 32",
        NOT_MEMBERS,
        CUT_OFF,
    ),
    *(
        small_case(
            f"the manifest's {place} is {value}",
            edit_manifest(**{place.replace(".", "__"): value}),
            "metadata.json",
            place,
            expected,
            found,
            key=key,
        )
        for place, value, expected, found, key in (
            ("rows", 31, "32", "31", ""),
            ("splits.test.rows", 33, "32", "33", ""),
            ("splits.test.of", 165, "164", "165", ""),
            ("splits.test.problems", 1, "32", "1", ""),
            ("splits.test", [], r"\{.*\}", r"\[\]", ""),
            ("splits.valid.correct", 16, "17", "16", "codecontests_small"),
            ("splits.valid.incorrect", 16, "15", "16", "codecontests_small"),
        )
    ),
    small_case(
        "the processed split was made anew without a row of the sample",
        elsewhere(
            "humaneval_processed",
            edit_split("test", lambda rows: [r for r in rows if r["task_id"] != "HumanEval/2"]),
        ),
        "test_small.jsonl",
        "line 1.task_id",
        "HumanEval/[0-9]+",
        "HumanEval/2",
        findings=-1,
    ),
    *(
        small_case(
            f"the processed split {name}: that is what must be repaired",
            elsewhere("humaneval_processed", act),
            f"../../datasets_v2/humaneval/{file}",
            "",
            expected,
            found,
            problem=problem,
            remedy="humaneval_processed",
        )
        for name, act, file, expected, found, problem in (
            (
                "is gone",
                remove("processed/test.jsonl"),
                "processed/test.jsonl",
                "a file",
                "nothing",
                "missing",
            ),
            (
                "is cut off",
                cut_off("processed/test.jsonl"),
                "processed/test.jsonl",
                NOT_MEMBERS,
                ".* they belong to another file.*",
                "corrupt",
            ),
            (
                "has offsets of another file",
                rewrite("index/test.offsets", lambda data: data[8:]),
                "processed/test.jsonl",
                NOT_MEMBERS,
                ".* they belong to another file.*",
                "corrupt",
            ),
            (
                "has offsets that are none",
                cut_off("index/test.offsets"),
                "processed/test.jsonl",
                NOT_MEMBERS,
                ".*not a number of unsigned 64-bit integers.*",
                "corrupt",
            ),
            (
                "has a twin of more rows",
                edit_twin("test", added),
                "processed/test.jsonl",
                NOT_MEMBERS,
                "164 rows, but its twin has 165",
                "corrupt",
            ),
            (
                "has no twin",
                remove("index/test.parquet"),
                "index/test.parquet",
                "a file",
                "nothing",
                "missing",
            ),
            (
                "has a twin that is none",
                cut_off("index/test.parquet"),
                "index/test.parquet",
                NOT_MEMBERS,
                ".*not readable as parquet: .*",
                "corrupt",
            ),
        )
    ),
]


def labels_of(store: Store, artifact: Artifact, split: str) -> list[tuple[str, bool]]:
    data = store.path(artifact, small_file(split)).read_bytes()
    return [
        (row["metadata"]["problem_id"], row["is_correct"])
        for row in map(json.loads, data.split(b"\n")[:-1])
    ]


def places_of_coverage(store: Store, split: str) -> dict[str, tuple[str, str]]:
    """What is said about coverage: place → expected and found."""
    artifact = store.catalogue["codecontests_small"]
    file = f"{artifact.base}/{small_file(split)}"
    return {
        finding.place: (finding.expected, finding.found)
        for finding in apply(store, artifact, "membership").findings
        if finding.file == file and not finding.place.startswith("line ")
    }


@pytest.mark.parametrize("split", ["train", "valid"])
def test_head_of_the_file_is_no_small_split(store: Store, split: str) -> None:
    """100 lines from the beginning cover two problems: nothing can be tried on those."""
    artifact, processed = (store.catalogue[f"codecontests_{x}"] for x in ("small", "processed"))
    limit = 100 if split == "train" else 32
    head = store.path(processed, f"processed/{split}.jsonl").read_bytes().split(b"\n")[:limit]
    rewrite(small_file(split), lambda data: b"".join(line + b"\n" for line in head))(
        store, artifact
    )
    found = apply(store, artifact, "membership").findings
    assert any(item.place.startswith("line ") for item in found)
    expected = {"train": ("47", "2"), "valid": ("12", "1")}[split]
    assert places_of_coverage(store, split)[""] == (
        f"rows of {expected[0]} problems or more",
        f"rows of {expected[1]}",
    )


def test_small_split_without_a_label_is_found(store: Store) -> None:
    """A critic cannot be tried on right solutions alone."""
    artifact = store.catalogue["codecontests_small"]
    edit_lines("valid_small.jsonl", lambda lines: [x for x in lines if b'"is_correct": true' in x])(
        store, artifact
    )
    assert {label for _, label in labels_of(store, artifact, "valid")} == {True}
    assert places_of_coverage(store, "valid")["is_correct"] == ("[False, True]", "[True]")


def test_small_split_without_a_problem_is_found(store: Store) -> None:
    """Other rows in its place do not make up for it."""
    artifact, processed = (store.catalogue[f"codecontests_{x}"] for x in ("small", "processed"))
    gone = "135_G. Lost Kites"
    first = rows_of(store, processed, "valid")[:10]

    def change(lines: list[bytes]) -> list[bytes]:
        kept = [line for line in lines if json.loads(line)["metadata"]["problem_id"] != gone]
        more = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in first]
        return [*more[: len(lines) - len(kept)], *kept]

    edit_lines("valid_small.jsonl", change)(store, artifact)
    assert len(labels_of(store, artifact, "valid")) == 32
    assert places_of_coverage(store, "valid") == {"": ("rows of 12 problems or more", "rows of 11")}


def test_small_splits_cover_problems_and_labels(store: Store) -> None:
    """Counted otherwise than by the rule: every problem, and both labels in equal parts."""
    artifact, processed = (store.catalogue[f"codecontests_{x}"] for x in ("small", "processed"))
    for split in ("train", "valid", "test"):
        labels = labels_of(store, artifact, split)
        problems = {row["metadata"]["problem_id"] for row in rows_of(store, processed, split)}
        assert {problem for problem, _ in labels} == problems
        right = sum(label for _, label in labels)
        assert abs(2 * right - len(labels)) <= 2


# -- recount ---------------------------------------------------------------------------------------


def in_summary(change: Callable[[bytes], bytes], **changes: Any) -> Damage:
    """Change the bytes of the one summary, and seal."""

    def act(store: Store, artifact: Artifact) -> None:
        damage(next(store.folder(artifact).glob(SUMMARY)), change)
        seal(store, artifact, **changes)

    return act


def edit_summary(change: Callable[[dict[str, Any]], None]) -> Damage:
    def apply_to(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return in_summary(apply_to)


def set_number(*keys: str) -> Callable[[dict[str, Any]], None]:
    """Set a number of the train split to 7."""

    def change(document: dict[str, Any]) -> None:
        inner = document["splits"]["train"]
        for key in keys[:-1]:
            inner = inner[key]
        assert keys[-1] in inner
        inner[keys[-1]] = 7

    return change


RECOUNT = [
    stats_case(
        "a number",
        in_summary(lambda data: data.replace(b'"max": 642', b'"max": 641')),
        SUMMARY,
        "splits.test.tokens.total.max",
        "642",
        "641",
    ),
    stats_case(
        "a number written otherwise",
        in_summary(lambda data: data.replace(b'"max": 642', b'"max": 642.0')),
        SUMMARY,
        "splits.test.tokens.total.max",
        "642",
        "642.0",
        findings=2,
    ),
    stats_case(
        "a difficulty that no row has",
        edit_summary(lambda document: document["splits"]["test"]["difficulty"].update(easy=1)),
        SUMMARY,
        "splits.test.difficulty.easy",
        "nothing",
        "1",
    ),
    stats_case(
        "a split left out",
        edit_summary(lambda document: document.update(splits={})),
        SUMMARY,
        "splits.test",
        r"\{.*\}",
        "nothing",
    ),
    stats_case(
        "no JSON",
        in_summary(lambda data: data[:-4]),
        SUMMARY,
        "",
        NOT_COUNTED,
        "not JSON: line .*",
    ),
    stats_case(
        "a list",
        in_summary(lambda data: b"[]\n"),
        SUMMARY,
        "",
        NOT_COUNTED,
        "not JSON: a list, not an object",
    ),
    stats_case(
        "the manifest names another summary",
        edit_manifest(summary="2020-01-01_summary.json"),
        "metadata.json",
        "summary",
        r"[0-9-]{10}_summary\.json",
        r"2020-01-01_summary\.json",
    ),
    stats_case(
        "the manifest's number of rows",
        edit_manifest(rows=0),
        "metadata.json",
        "rows",
        "164",
        "0",
    ),
    stats_case(
        "other white space",
        in_summary(lambda data: data.replace(b"\n  ", b"\n\t", 1)),
        SUMMARY,
        "",
        "the file as it is made",
        "other spelling",
    ),
    stats_case(
        "no line break at the end",
        in_summary(lambda data: data[:-1]),
        SUMMARY,
        "",
        "the file as it is made",
        "other spelling",
    ),
    *(
        stats_case(
            f"another number of {name}",
            edit_summary(change),
            SUMMARY,
            f"splits.train.{place}",
            expected,
            found,
            key="codecontests_stats",
        )
        for name, change, place, expected, found in (
            ("duplicates", set_number("duplicates"), "duplicates", "73", "7"),
            ("contradicted rows", set_number("contradicted"), "contradicted", "2", "7"),
            ("right rows", set_number("is_correct", "true"), "is_correct.true", "1957", "7"),
            ("Python 2", set_number("languages", "python"), "languages.python", "990", "7"),
            ("rows of a difficulty", set_number("difficulty", "a"), "difficulty.a", "146", "7"),
            ("rows too long", set_number("dropped", "too_long"), "dropped.too_long", "59", "7"),
            ("rows near the limit", set_number("near_limit", "rows"), "near_limit.rows", "0", "7"),
        )
    ),
    stats_case(
        "the processed rows were made anew and are others",
        elsewhere("humaneval_processed", edit_split_row("test", 1, output="    pass\n")),
        SUMMARY,
        "splits.test.tokens.output.mean",
        "[0-9.]+",
        "64.62",
        findings=-1,
    ),
    stats_case(
        "a twin of the processed rows is none: that is what must be repaired",
        elsewhere("humaneval_processed", cut_off("index/test.parquet")),
        TWIN,
        "",
        NOT_COUNTED,
        ".*not readable as parquet: .*",
        remedy="humaneval_processed",
    ),
    stats_case(
        "the processed manifest is gone",
        elsewhere("humaneval_processed", remove("metadata.json")),
        "../metadata.json",
        "",
        "a file",
        "nothing",
        problem="missing",
        remedy="humaneval_processed",
    ),
    stats_case(
        "the processed manifest is damaged",
        elsewhere(
            "humaneval_processed",
            lambda store, artifact: damage(
                store.manifest_path(artifact), lambda data: data.replace(b"164", b"163")
            ),
        ),
        "../metadata.json",
        "",
        NOT_COUNTED,
        ".*the manifest was changed after it was written.*",
        remedy="humaneval_processed",
    ),
    stats_case(
        "the processed manifest does not say what was dropped",
        elsewhere("humaneval_processed", edit_manifest(splits__test__dropped=...)),
        "../metadata.json",
        "",
        NOT_COUNTED,
        r"no field splits\.test\.dropped",
        remedy="humaneval_processed",
    ),
    stats_case(
        "the processed manifest says no number",
        elsewhere("humaneval_processed", edit_manifest(max_tokens=[2048])),
        "../metadata.json",
        "",
        NOT_COUNTED,
        "max_tokens is not a number",
        remedy="humaneval_processed",
    ),
]

CASES = [*PAIRS, *TESTS, *MEMBERSHIP, *RECOUNT]


def is_quick(case: Case) -> bool:
    """Not a line of 100 MB; of CodeContests the first case of each file and problem, for it
    has most rows."""
    is_large = "codecontests" in (case.key or key_of(case.rule, case.kind))
    return (not is_large or case in FIRST) and "100 MB" not in case.name


FIRST = first_of_each(CASES, lambda case: (case.rule, case.key, case.file, case.problem))


@pytest.mark.parametrize("case", quick(CASES, is_quick), ids=str)
def test_damage_is_found(store: Store, case: Case) -> None:
    """Every hash is right, so only the rule about the content can see what is wrong, and where."""
    case.check(store)


def leaves(document: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The place of every number and text of a JSON document."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from leaves(value, (*place, key))
    else:
        yield place


def test_every_number_of_a_summary_is_counted_again(store: Store) -> None:
    """Papers quote these numbers; none of them may be taken on trust."""
    artifact = store.catalogue["humaneval_stats"]
    path = next(store.folder(artifact).glob(SUMMARY))
    good = json.loads(path.read_bytes())
    places = list(leaves(good))
    assert len(places) == 39
    for place in places:
        edited = json.loads(json.dumps(good))
        inner = edited
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = "edited"
        damage(path, lambda data, edited=edited: json.dumps(edited).encode())
        found = apply(store, artifact, "recount").findings
        assert [(item.place, item.found) for item in found] == [(".".join(place), "edited")]


def test_earlier_summaries_are_not_recounted(store: Store) -> None:
    """They are history: what they were counted from is gone."""
    artifact = store.catalogue["humaneval_stats"]
    store.path(artifact, "2020-01-01_summary.json").write_bytes(b"{}")
    document = document_of(store, artifact)
    seal_as(store, artifact, document, (path.name for path in store.folder(artifact).glob(SUMMARY)))
    outcome = apply(store, artifact, "recount")
    assert outcome.findings == []
    assert outcome.evidence["summary"] == document["summary"]


def test_statistics_without_a_summary_are_missing_one(store: Store) -> None:
    """An artifact of nothing has right hashes."""
    artifact = store.catalogue["humaneval_stats"]
    next(store.folder(artifact).glob(SUMMARY)).unlink()
    seal_as(store, artifact, document_of(store, artifact), [])
    assert apply(store, artifact, "sha256").findings == []
    found = apply(store, artifact, "recount").findings
    assert [(item.problem, item.expected, item.found) for item in found] == [
        ("missing", "a summary", "none")
    ]


def test_evidence_is_what_was_read(store: Store) -> None:
    """The UI shows it beside 'passed'."""

    def evidence(key: str, rule: str) -> dict[str, Any]:
        return apply(store, store.catalogue[key], rule).evidence

    rows = {"train": 3992, "valid": 1008, "test": 1038}
    assert evidence("humaneval_pairs", "derivation") == {"rows": {"test": 164}}
    assert evidence("codecontests_pairs", "derivation") == {"rows": rows}
    assert evidence("codecontests_tests", "derivation") == {
        "problems": {"train": 48, "valid": 12, "test": 12}
    }
    assert evidence("humaneval_small", "membership") == {
        "splits": {"test": {"rows": 32, "of": 164, "problems": 32}}
    }
    assert evidence("codecontests_stats", "recount")["rows"] == rows


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("derivation", KEY["pairs"]),
        ("derivation", KEY["tests"]),
        ("membership", KEY["small"]),
        ("recount", KEY["stats"]),
    ],
)
def test_without_pyarrow_the_rule_is_skipped_and_says_why(
    store: Store, monkeypatch: pytest.MonkeyPatch, rule: str, key: str
) -> None:
    """'Passed' would be a lie, and a traceback no help: the reason names the remedy."""
    hide(monkeypatch, "pyarrow")
    outcome = apply(store, store.catalogue[key], rule)
    assert outcome.findings == []
    assert outcome.skipped == NEEDS["pyarrow"]


def test_statistics_need_no_tokenizer(store: Store) -> None:
    """The twin holds the counts, and its own rule counts them again."""
    for artifact in store.catalogue:
        if artifact.kind == "stats":
            assert artifact.upstream == (f"{artifact.spec.name}_processed",)
    remove("tokenizer.model")(store, store.catalogue["meta_llama_mtp_tokenizer"])
    assert apply(store, store.catalogue["humaneval_stats"], "recount").findings == []
