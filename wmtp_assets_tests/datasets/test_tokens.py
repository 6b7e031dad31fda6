"""Counts are those of sentencepiece itself."""

from __future__ import annotations

import io
import re
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.datasets import tokens
from wmtp_assets.datasets.tokens import MAX_PART, TokenCounter, parts, prefixed
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets_tests.datasets.rows import read_jsonl

PIECES = ["<s>", "</s>", "<unk>", "<0x0A>", "▁", "▁▁", "\t", "\r\n", "\n", "  ", " ", "    "]
PIECES += ["def", "x", "é", "你", "🙂", "\u2028", "\0", "a\u0301", "ﬁ", "\r", "x▁y", "</s"]
PIECES += [" " * (MAX_PART + 30), "long_name_" * 15]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join)


@cache
def counter() -> TokenCounter:
    return TokenCounter(MODEL_PATH.read_bytes(), str(MODEL_PATH))


@cache
def processor() -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(MODEL_PATH))


@settings(deadline=None, max_examples=1000)
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


@given(st.lists(TEXTS, min_size=1, max_size=4), st.booleans())
@example(["a  b\n\n\t c ▁▁d ", "", "x"], True)
def test_parts_are_the_texts(texts: list[str], words: bool) -> None:
    """A character that is in no part, or in two, is counted wrongly; the rest is arithmetic."""
    encoded = [prefixed(text) for text in texts]
    begins = [*accumulate(map(len, encoded), initial=0)][:-1]
    cuts, found = parts(b"".join(encoded), begins, words=words)
    split = [
        part
        for text in texts
        for part in re.findall(
            r" *[^ \n]*\n| *[^ \n]+| +" if words else r"[^\n]*\n|[^\n]+",
            f" {text}".replace("▁", " "),
        )
    ]
    assert found.to_pylist() == [part.encode() for part in split]
    assert [*cuts] == [*accumulate(map(len, found.to_pylist()), initial=0)][:-1]
    assert {*begins} <= {*cuts}


@pytest.mark.parametrize(("longest", "most"), [(4, 100), (100, 3), (0, 0)])
def test_forgetting_changes_no_count(
    monkeypatch: pytest.MonkeyPatch, longest: int, most: int
) -> None:
    """The memory is bounded; a count must not depend on what was counted before."""
    monkeypatch.setattr(tokens, "MAX_PART", longest)
    monkeypatch.setattr(tokens, "MAX_PARTS", most)
    small = TokenCounter(MODEL_PATH.read_bytes(), "tokenizer.model")
    texts = [f"def f{i}(a, b):\n    return {'x' * i} + {i}" for i in range(20)] * 2
    for begin in range(0, len(texts), 7):
        some = texts[begin : begin + 7]
        assert small.count(some) == [len(processor().encode(text)) for text in some]
    assert small.has_words


@pytest.mark.long
def test_thousands_of_texts_at_once_are_counted_alike(good_root: Path) -> None:
    """Real solutions share most of their words, and each must count in each of them."""
    path = good_root / "datasets_v2/codecontests/processed/train.jsonl"
    texts = [row["output"] for _, row in read_jsonl(path)]
    assert len(texts) > 3000
    fresh = TokenCounter(MODEL_PATH.read_bytes(), "tokenizer.model")
    assert fresh.count(texts) == [len(ids) for ids in processor().encode(texts)]


LLAMA_LIKE: dict[str, Any] = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "add_dummy_prefix": True,
    "remove_extra_whitespaces": False,
    "allow_whitespace_only_pieces": True,
}


@cache
def trained(**changes: Any) -> bytes:
    """A small tokenizer; ``changes`` to what makes it like Llama's."""
    model = io.BytesIO()
    lines = [f"for item in list_{i}: the sum of the numbers = x_{i} + {i % 7}" for i in range(300)]
    options = {**LLAMA_LIKE, "vocab_size": 400, **changes}
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, minloglevel=2, **options
    )
    return model.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        {"normalization_rule_name": "nfkc"},
        {"remove_extra_whitespaces": True},
        {"add_dummy_prefix": False},
        {"byte_fallback": False},
        {"user_defined_symbols": "of\nthe"},
        {"user_defined_symbols": "\n"},
        {"treat_whitespace_as_suffix": True},
    ],
    ids=str,
)
def test_other_vocabularies_are_counted_whole(change: dict[str, Any]) -> None:
    """Where a token can cross a line break, or the text is changed, sums of parts are wrong."""
    model = trained(**change)
    other = TokenCounter(model, "tokenizer.model")
    assert not other.is_memoised
    texts = ["the sum of the numbers", " ﬁ  é\n of\nthe\tsum ", "x_1 + 3", ""]
    encode = SentencePieceProcessor(model_proto=model).encode
    assert other.count(texts) == [len(encode(text)) for text in texts]


@pytest.mark.parametrize(
    ("change", "has_words"),
    [
        ({"model_type": "bpe"}, True),
        ({"model_type": "unigram"}, False),
        ({"split_by_whitespace": False}, False),
        ({"user_defined_symbols": "of the,\t"}, False),
        ({"user_defined_symbols": "  the,   ,\t"}, True),
    ],
    ids=str,
)
def test_a_vocabulary_without_line_breaks_is_memoised(
    change: dict[str, Any], has_words: bool
) -> None:
    """The fast path must be taken where it is right, or nobody would notice that it is not."""
    model = trained(**change)
    similar = TokenCounter(model, "tokenizer.model")
    assert similar.is_memoised
    assert similar.has_words == has_words
    encode = SentencePieceProcessor(model_proto=model).encode
    of_training = st.sampled_from(["the sum of the numbers", " = x_1", "list_2:", "item", " in "])

    @settings(deadline=None, max_examples=50)
    @given(st.lists(of_training | TEXTS, max_size=8).map("".join))
    def counts_are_those_of_encode(text: str) -> None:
        assert similar.count([text]) == [len(encode(text))]

    counts_are_those_of_encode()
