"""Lines that the rule ``schema`` takes for good without parsing them strictly."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.datasets.formats.codecontests import CodeContestsRecord
from wmtp_assets.datasets.records import render_line
from wmtp_assets.datasets.rules.processed import _Canonical


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "instruction": 'Add "a"\nand b',
        "input": "",
        "output": f"print({number})\n",
        "task_id": f"sum_correct_{number}",
        "is_correct": True,
        "metadata": {
            "source": "codeforces",
            "difficulty": "a",
            "difficulty_number": 7,
            "has_tests": True,
            "problem_id": "sum",
            "language": "python3",
        },
        **changes,
    }


LINES = [
    render_line(CodeContestsRecord.model_validate(row(number, **changes)))[:-1]
    for number, changes in enumerate([{}, {}, {"input": "é"}, {"output": "\x85\0"}])
]
EDITS = [
    b"",
    b"1",
    b"true",
    b"null",
    b"NaN",
    b"\\ud800",
    b"\\u0041",
    b"\0",
    b"\xff",
    b" ",
    b",",
    b'"',
]
EDITS += [b'"input": "", ', b'"instruction": "x", ', b"{", b"}", b"[" * 9, b"1e999", b"-0"]
LINE = st.sampled_from(LINES)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    line = draw(LINE)
    marks = [at for at, byte in enumerate(line) if byte in b'" :,{}']
    begin = draw(st.sampled_from(marks) | st.integers(0, len(line)))
    end = draw(st.sampled_from([at for at in [*marks, len(line)] if at >= begin] or [begin]))
    return line[:begin] + draw(st.sampled_from(EDITS) | LINE) + line[end:]


@settings(deadline=None, max_examples=300)
@given(st.lists(LINE | damaged(), min_size=1, max_size=4))
@example([LINES[0], LINES[0].replace(b'"output"', b'"input": "", "output"')])
@example([LINES[0], LINES[0].replace(b'"output"', b'"instruction": "x", "output"')])
@example([LINES[0], LINES[0].replace(b"true", b"1")])
@example([LINES[0], LINES[0][: LINES[0].index(b'"output"')]])
def test_what_is_taken_for_good_is_what_the_strict_parser_reads(lines: list[bytes]) -> None:
    """A line that is let pass is looked at by nobody else; one that follows another of its problem
    is parsed from behind the texts that both begin with."""
    canonical = _Canonical(CodeContestsRecord)
    for line in lines:
        found = canonical.row(line)
        if found is not None:
            assert parse_object(line) == found
            assert CodeContestsRecord.model_validate(found).model_dump() == json.loads(line)


def test_good_lines_are_taken_for_good() -> None:
    """Otherwise all would be parsed twice, and the test above would show nothing."""
    canonical = _Canonical(CodeContestsRecord)
    assert all(canonical.row(line) == json.loads(line) for line in [*LINES, *LINES])
