"""Counts are those of sentencepiece itself."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from wmtp_assets.data.tokens import TokenCounter
from wmtp_assets.errors import InvalidInput
from wmtp_assets.hub.sample.tokenizer import MODEL_PATH

PIECES = ["<s>", "</s>", "<unk>", "<0x0A>", "▁", "▁▁", "\t", "\r\n", "\n", "  ", " ", "    "]
PIECES += ["def", "x", "é", "你", "🙂", "\u2028", "\0", "a\u0301", "ﬁ"]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join)


@cache
def counter() -> TokenCounter:
    return TokenCounter(MODEL_PATH.read_bytes(), str(MODEL_PATH))


@cache
def processor() -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(MODEL_PATH))


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=6))
@example(["", " ", "\r\n\r\n", "  <s>  ", "▁▁▁", "\t\tx = 1\r\n"])
def test_counts_are_those_of_encode(texts: list[str]) -> None:
    """The training code truncates by these counts; one token off and a row is cut or lost."""
    expected = [len(processor().encode(text)) for text in texts]
    assert counter().count(texts) == expected
    assert [counter().count([text])[0] for text in texts] == expected


def test_begin_and_end_are_not_counted() -> None:
    """The limit is stated without them; a literal ``<s>`` is text like any other."""
    assert counter().count([""]) == [0]
    assert counter().count(["<s>"])[0] > 1
    assert counter().count([]) == []


@pytest.mark.parametrize(
    "model",
    [b"", b"\0" * 100, b"no model", MODEL_PATH.read_bytes()[:1000]],
    ids=["empty", "zeros", "text", "cut off"],
)
def test_what_is_no_model_is_refused_by_name(model: bytes) -> None:
    """sentencepiece takes empty bytes for 'no model yet' and fails at the first text."""
    with pytest.raises(InvalidInput, match=r"^here/tokenizer\.model: not a sentencepiece model: "):
        TokenCounter(model, "here/tokenizer.model")


def test_damaged_byte_piece_is_refused_by_name() -> None:
    """sentencepiece's own message about it is not UTF-8, and its binding trips over that."""
    data = MODEL_PATH.read_bytes()
    assert data.count(b"<0x7F>") == 1
    with pytest.raises(InvalidInput, match="not a sentencepiece model"):
        TokenCounter(data.replace(b"<0x7F>", b"\xbc0x7F>"), "tokenizer.model")
