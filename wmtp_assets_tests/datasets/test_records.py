"""The record of a processed dataset: what it refuses, how it is written, how it is described."""

from __future__ import annotations

import json
from pkgutil import iter_modules
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.datasets import formats
from wmtp_assets.datasets.formats.codecontests import CodeContestsRecord
from wmtp_assets.datasets.formats.humaneval import HumanEvalMetadata, HumanEvalRecord
from wmtp_assets.datasets.records import (
    AlpacaRecord,
    EvaluationRecord,
    Record,
    RowRenderer,
    encode,
    encode_text,
    load_format,
    render_line,
    render_row,
    schema_document,
)

GOOD: dict[str, Any] = {
    "instruction": "def one():\n",
    "input": "",
    "output": "    return 1\n",
    "task_id": "HumanEval/7",
    "metadata": {
        "source": "humaneval",
        "difficulty": "unknown",
        "difficulty_number": 0,
        "has_tests": True,
        "entry_point": "one",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    },
}

BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown field": ("hint", {**GOOD, "hint": ""}),
    "missing field": ("input", {key: value for key, value in GOOD.items() if key != "input"}),
    "no metadata": ("metadata", {**GOOD, "metadata": None}),
    "unknown field of metadata": (
        "metadata.rating",
        {**GOOD, "metadata": {**GOOD["metadata"], "rating": 1}},
    ),
    "a number for a text": ("output", {**GOOD, "output": 1}),
    "a number for a truth value": (
        "metadata.has_tests",
        {**GOOD, "metadata": {**GOOD["metadata"], "has_tests": 1}},
    ),
    "empty instruction": ("instruction", {**GOOD, "instruction": ""}),
    "empty output": ("output", {**GOOD, "output": ""}),
    "empty test": ("metadata.test", {**GOOD, "metadata": {**GOOD["metadata"], "test": ""}}),
    "non-empty input": ("input", {**GOOD, "input": " "}),
    "task_id of another dataset": ("task_id", {**GOOD, "task_id": "MBPP/7"}),
    "task_id without number": ("task_id", {**GOOD, "task_id": "HumanEval/"}),
    "task_id in other digits": ("task_id", {**GOOD, "task_id": "HumanEval/\u0667"}),
}

VALIDATOR = Draft202012Validator(
    schema_document(HumanEvalRecord, "alpaca", {"repo": "owner/name", "revision": "0" * 40})
)


def test_good_row_is_good_for_both() -> None:
    """The rows below differ from this one in a single thing."""
    assert HumanEvalRecord.model_validate(GOOD).model_dump() == GOOD
    assert not list(VALIDATOR.iter_errors(GOOD))


@pytest.mark.parametrize("name", BAD)
def test_bad_row_is_refused_with_its_field(name: str) -> None:
    """The field is what a person looks for in the line."""
    field, row = BAD[name]
    with pytest.raises(ValidationError) as caught:
        HumanEvalRecord.model_validate(row)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == field


@pytest.mark.parametrize("name", BAD)
def test_schema_refuses_what_the_record_refuses(name: str) -> None:
    """Whoever has only schema.json must come to the same verdict as this project."""
    assert list(VALIDATOR.iter_errors(BAD[name][1]))


CONTEST: dict[str, Any] = {
    "instruction": "Add.",
    "input": "",
    "output": "print(1)",
    "task_id": "a_correct_b_incorrect_0",
    "is_correct": False,
    "metadata": {
        "source": "codeforces",
        "difficulty": "a",
        "difficulty_number": 7,
        "has_tests": True,
        "problem_id": "a_correct_b",
        "language": "python3",
    },
}
TASK: dict[str, Any] = {
    "task_id": "a",
    "instruction": "Add.",
    "input": "",
    "metadata": {
        "source": "codeforces",
        "difficulty": "a",
        "cf_rating": 800,
        "time_limit": None,
        "memory_limit_bytes": 0,
        "public_tests": {"input": [], "output": []},
        "private_tests": {"input": ["1"], "output": ["2"]},
        "generated_tests": {"input": [], "output": []},
    },
}
RECORDS = {CodeContestsRecord: CONTEST, EvaluationRecord: TASK}


def replaced(row: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A row with another value of a field, ``a.b`` for one of a nested object; ...: without it."""
    first, _, rest = field.partition(".")
    value = replaced(row[first], rest, value) if rest else value
    return {key: found for key, found in {**row, first: value}.items() if found is not ...}


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (CodeContestsRecord, "is_correct", ...),
        (CodeContestsRecord, "is_correct", None),
        (CodeContestsRecord, "is_correct", 1),
        (CodeContestsRecord, "is_correct", "false"),
        (CodeContestsRecord, "task_id", "a_correct_b"),
        (CodeContestsRecord, "task_id", "a_correct_b_incorrect_"),
        (CodeContestsRecord, "task_id", "_incorrect_0"),
        (CodeContestsRecord, "task_id", "a_correct_b_wrong_0"),
        (CodeContestsRecord, "instruction", ""),
        (CodeContestsRecord, "output", ""),
        (CodeContestsRecord, "metadata.problem_id", ...),
        (CodeContestsRecord, "metadata.language", "cpp"),
        (CodeContestsRecord, "metadata.language", 3),
        (CodeContestsRecord, "metadata.source", ""),
        (CodeContestsRecord, "metadata.rating", 800),
        (EvaluationRecord, "is_correct", True),
        (EvaluationRecord, "metadata.time_limit", ...),
        (EvaluationRecord, "metadata.time_limit", "2 s"),
        (EvaluationRecord, "metadata.cf_rating", None),
        (EvaluationRecord, "metadata.public_tests", None),
        (EvaluationRecord, "metadata.private_tests.output", ...),
        (EvaluationRecord, "metadata.generated_tests.input", [1]),
    ],
)
def test_bad_contest_is_refused_by_record_and_schema(
    record: type[Record], field: str, value: Any
) -> None:
    """By field; and whoever has only the schema comes to the same verdict."""
    good = RECORDS[record]
    validator = Draft202012Validator(
        schema_document(record, "alpaca", {"repo": "o/n", "revision": "0" * 40})
    )
    assert record.model_validate(good).model_dump() == good
    assert not list(validator.iter_errors(good))
    row = replaced(good, field, value)
    with pytest.raises(ValidationError) as caught:
        record.model_validate(row)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])).startswith(field)
    assert list(validator.iter_errors(row))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("is_correct", True, "is_correct"),
        ("task_id", "a_correct_b_correct_0", "is_correct"),
        ("task_id", "a_correct_incorrect_0", "metadata"),
        ("metadata.problem_id", "a", "metadata"),
    ],
)
def test_label_and_problem_agree_with_the_task_id(field: str, value: Any, named: str) -> None:
    """A JSON Schema cannot say so; a name may itself look like a label, and the last one counts."""
    with pytest.raises(ValidationError) as caught:
        CodeContestsRecord.model_validate(replaced(CONTEST, field, value))
    assert [error["loc"] for error in caught.value.errors()] == [(named,)]


def test_schema_is_a_json_schema_that_says_where_rows_come_from() -> None:
    """Others read it without this project: required_fields, format and source are its contract."""
    schema = schema_document(
        HumanEvalRecord, "alpaca", {"repo": "owner/name", "revision": "0" * 40}
    )
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert schema["required_fields"] == ["instruction", "input", "output", "task_id", "metadata"]
    assert schema["required_fields"] == schema["required"]
    assert schema["format"] == "alpaca"
    assert schema["source"] == {"repository": "owner/name", "revision": "0" * 40}


@pytest.mark.parametrize("name", [module.name for module in iter_modules(formats.__path__)])
def test_every_format_has_a_record(name: str) -> None:
    """A format without one would fail only when its rows are verified."""
    record = load_format(name).record
    assert issubclass(record, AlpacaRecord)
    assert [*record.model_fields][:4] == ["instruction", "input", "output", "task_id"]
    assert {"difficulty", "has_tests"} <= record.model_fields[
        "metadata"
    ].annotation.model_fields.keys()


@settings(deadline=None)
@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1), st.booleans())
def test_line_holds_the_record_exactly(
    instruction: str, output: str, test: str, has_tests: bool
) -> None:
    """Whatever the texts hold (CRLF, tabs, U+2028, NUL), a record is one line and comes back."""
    record = HumanEvalRecord(
        instruction=instruction,
        input="",
        output=output,
        task_id="HumanEval/0",
        metadata=HumanEvalMetadata(
            source="humaneval",
            difficulty="unknown",
            has_tests=has_tests,
            entry_point="f",
            test=test,
        ),
    )
    line = render_line(record)
    assert line.endswith(b"\n")
    assert len(line.splitlines()) == 1
    assert len(line.decode().splitlines()) == 1
    assert HumanEvalRecord.model_validate(parse_object(line)) == record


def test_every_splitter_of_lines_counts_as_wc_does() -> None:
    """``str.splitlines`` ends a line at U+0085, U+2028 and U+2029 too, which JSON leaves as they
    are: programs that use it saw more rows than there are."""
    text = "a\x85b\u2028c\u2029d\x0be"
    line = render_line(HumanEvalRecord.model_validate({**GOOD, "output": text}))
    assert line.decode().splitlines(True) == [line.decode()]
    assert b"a\\u0085b\\u2028c\\u2029d\\u000be" in line
    assert json.loads(line)["output"] == text


def test_line_is_utf8_in_the_order_of_fields() -> None:
    """The bytes are the version of the dataset: order and escapes must not depend on anything."""
    record = HumanEvalRecord.model_validate({**GOOD, "instruction": "größer ▁"})
    line = render_line(record)
    assert line.startswith('{"instruction": "größer ▁", "input": "", "output": '.encode())
    assert list(json.loads(line)) == list(GOOD)
    reordered = {**dict(reversed(GOOD.items())), "instruction": "größer ▁"}
    assert line == render_line(HumanEvalRecord.model_validate(reordered))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", '"\u2028']), VALUES), max_size=5))
@example([{"a": 1}, {"a": True}, {"a": 1.0}, {"a": "1"}, {"a": {"a": 0}}, {"a": {"a": False}}])
@example([{"a": -0.0}, {"a": 0}, {"a": None}, {"a": ""}, {"a": 10**30}, {"a": [1]}, {"a": [True]}])
def test_rows_in_a_row_are_rendered_as_each_alone(rows: list[dict[str, Any]]) -> None:
    """What a row has in common with the one before is not rendered again: values that are equal and
    written otherwise must not be taken for each other."""
    render = RowRenderer()
    for row in [*rows, *rows]:
        assert render(row) == render_row(row)


@given(st.text())
@example("".join(chr(n) for n in range(0x3000)))
def test_texts_are_encoded_as_json_does(text: str) -> None:
    """The bytes of every artifact depend on it, and so does which lines a rule takes for good."""
    assert encode_text(text) == encode(text).encode()


def test_lone_surrogate_is_no_text() -> None:
    """UTF-8 cannot hold it; written anyhow, nobody could read the file."""
    with pytest.raises(ValueError, match="surrogate"):
        encode_text("\ud800")
