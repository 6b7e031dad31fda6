"""Reading JSON fast refuses exactly what reading it carefully does: another way, the same rule.

``data/test_jsonl.py`` has the attack lines; here the short cuts are compared with the long way.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wmtp_assets.base.strict_json import MAX_DEPTH, MAX_SIZE, parse_object


def depth_byte_by_byte(data: bytes) -> int:
    """How deep brackets are nested, with strings followed from quote to quote."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in data:
        if in_string:
            if escaped:
                escaped = False
            elif byte == ord("\\"):
                escaped = True
            elif byte == ord('"'):
                in_string = False
        elif byte == ord('"'):
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


@pytest.mark.parametrize("quote", [rb"\"", rb"\\\"", rb'"\\"', b'"'])
def test_a_line_full_of_quotes_is_refused_at_once(quote: bytes) -> None:
    """Each may begin a string that does not end: to look for all those ends takes days at 8 MB."""
    data = b'{"a": ' + b"[" * MAX_DEPTH + b'"' + quote * 50_000
    with pytest.raises(ValueError, match=r"nested|column"):
        parse_object(data)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_brackets_inside_strings_do_not_count(opening: bytes, closing: bytes) -> None:
    """Solutions are full of them, with quotes before them that are escaped."""
    texts = ["[" * 200_000, '\\"' + "[" * 40, '"[{' * 40, "\\" * 41 + "[" * 40, "]}" * 40]
    row = {"texts": texts, "[" * 40: "{" * 40}
    assert parse_object(json.dumps(row).encode()) == row
    deep = opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH
    with pytest.raises(ValueError, match=f"nested more than {MAX_DEPTH} deep"):
        parse_object(b'{"text": %s, "a":' % json.dumps(texts[1]).encode() + deep + b"}")


@settings(deadline=None)
@given(st.text(max_size=5), st.integers(0xD800, 0xDFFF), st.text(max_size=5), st.booleans())
def test_lone_surrogates_are_refused_in_any_spelling(
    before: str, surrogate: int, after: str, is_upper: bool
) -> None:
    """\\ud800, \\uD800, in a key or in a value, behind a pair that is sound."""
    escape = f"\\u{surrogate:04X}" if is_upper else f"\\u{surrogate:04x}"
    text = json.dumps(before)[:-1] + escape + json.dumps(f"-{after}")[1:]
    for line in (f'{{"a": {text}}}', f'{{"a": [{{{text}: 1}}]}}', f'{{"\\ud83d\\ude00": {text}}}'):
        with pytest.raises(ValueError, match=r"^a lone surrogate, which no UTF-8 text can hold$"):
            parse_object(line.encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\ud83d\ude00", "😀"),
        (r"\uD83D\uDE00", "😀"),
        (r"\uD83d\udE00\ud83d\ude00", "😀😀"),
        (r"\\ud800", r"\ud800"),
        (r"\\\\uD800", r"\\uD800"),
        (r"\ue000\ud7ff", "\ue000\ud7ff"),
    ],
)
def test_what_only_looks_like_a_lone_surrogate_is_read(text: str, value: str) -> None:
    """Pairs, and a backslash that is itself escaped: solutions print such things."""
    assert parse_object(f'{{"{text}": "{text}"}}'.encode()) == {value: value}


def test_two_halves_the_wrong_way_round_are_lone() -> None:
    """A pair is high before low."""
    with pytest.raises(ValueError, match="a lone surrogate"):
        parse_object(rb'{"a": "\ude00\ud83d"}')


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("number", ["1e999", "1E+309", "1.8e308", "9" * 400 + ".0", "0.1e400"])
@pytest.mark.parametrize("where", ['{"a": %s}', '{"a": [0, %s]}', '{"a": {"b": {"c": %s}}}'])
def test_number_that_would_become_infinity_is_refused(sign: str, number: str, where: str) -> None:
    """Infinity is not JSON, however it is spelled; whoever writes it again would break the file."""
    with pytest.raises(ValueError, match="a number too large for a float"):
        parse_object((where % (sign + number)).encode())


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1.7976931348623157e308)
@example(-1.7976931348623157e308)
@example(5e-324)
@example(-0.0)
def test_finite_numbers_come_back_to_the_last_bit(number: float) -> None:
    """Up to the largest that there is."""
    found = parse_object(f'{{"a": {number!r}}}'.encode())["a"]
    assert found == number and math.copysign(1, found) == math.copysign(1, number)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("where", ['{"a": %s}', '{"a": [%s]}', '{"a": {"b": %s}}'])
def test_constants_are_refused_everywhere(number: str, where: str) -> None:
    """Python reads and writes them; nobody else does."""
    with pytest.raises(ValueError, match=f"^{number} is not JSON$"):
        parse_object((where % number).encode())
    assert parse_object((where % f'"{number}"').encode())


def test_key_twice_is_refused_at_any_depth_and_in_any_spelling() -> None:
    """The last one would win, and the file would say two things."""
    for line in (
        rb'{"a": 1, "a": 1}',
        rb'{"a": 1, "\u0061": 2}',
        rb'{"b": [[{"c": {"a": 1, "b": 2, "a": 3}}]]}',
        rb'{"": 1, "": 2}',
    ):
        with pytest.raises(ValueError, match="duplicate key"):
            parse_object(line)
    assert parse_object(b'{"a": {"a": 1}, "b": {"a": 1}}') == {"a": {"a": 1}, "b": {"a": 1}}


def test_limit_of_size_may_be_another() -> None:
    """A problem with all its tests is longer than a row."""
    row = {"a": "x" * MAX_SIZE}
    data = json.dumps(row).encode()
    with pytest.raises(ValueError, match=f"longer than {MAX_SIZE} bytes"):
        parse_object(data)
    assert parse_object(data, len(data)) == row
    with pytest.raises(ValueError, match=f"longer than {len(data) - 1} bytes"):
        parse_object(data, len(data) - 1)


def the_long_way(data: bytes) -> Any:
    """What is read, or nothing where it is refused: without any short cut."""
    if b"\0" in data or depth_byte_by_byte(data) > MAX_DEPTH:
        return None

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    try:
        value = json.loads(data.decode(), object_pairs_hook=unique)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


PIECES = st.sampled_from(
    [
        *('{"a": ', '"b": ', "{", "}", "[", "]", ",", ":", '"', "\\", " ", "\n"),
        *(r'"\ud800"', r'"\uDC00"', r'"\ud83d\ude00"', r'"\\"', r'"\""', '"é"', '"\t"'),
        *("1e999", "-1e999", "1", "-0.5", "1e5", "NaN", "Infinity", "-Infinity", "true", "null"),
        "\0",
    ]
)


@settings(deadline=None, max_examples=1000)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_what_is_refused_is_what_the_long_way_refuses(text: str) -> None:
    """Out of pieces that each are a trap."""
    data = ('{"a": ' + text + "}").encode()
    expected = the_long_way(data)
    if expected is None:
        with pytest.raises(ValueError, match=r"."):
            parse_object(data)
    else:
        assert parse_object(data) == expected
