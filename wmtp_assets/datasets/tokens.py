"""Counting tokens exactly as the training code's tokenizer does, each line of text only once.

In a vocabulary like Llama's no token crosses a line break. Lines are then encoded independently of
each other, and the count of a text is the sum of the counts of its lines, most of which were seen
before: solutions of a problem resemble each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, filterfalse
from typing import TYPE_CHECKING, Protocol

from wmtp_assets.checkpoints.tokenizer import is_fast, load_fast, load_processor

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SPACE = "\u2581"
"""What sentencepiece makes of a space; a text that holds it itself is encoded alike."""

BATCH = 128
"""Texts that are encoded at a time."""

MAX_LINE = 100
"""Characters of the longest line that is remembered."""

MAX_LINES = 400_000
"""Lines that are remembered, some 60 MB; then all are forgotten."""

_PROBES = (
    " \t two  spaces\r\n\n\ttabs ",
    "ﬁ Å Å A\u030a ① \uff21 ½ \u00a0 \u3000 \u200b \u2028 e\u0301 ᄀ\u1161 \u0000 \ufeff 🙂",
)
"""Texts that come back changed from a tokenizer that normalizes, or drops or adds spaces."""


class TextCounter(Protocol):
    """Counts tokens, without those that begin and end a text."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        ...


def counter_of(data: bytes, where: str) -> TextCounter:
    """The counter of a tokenizer: ``tokenizer.json`` by its name, else a sentencepiece model.

    Raises:
        InvalidInput: naming the file (``where``), if it is none.
    """
    return FastTokenCounter(data, where) if is_fast(where) else TokenCounter(data, where)


class FastTokenCounter:
    """Counts the tokens of a ``tokenizer.json`` with ``tokenizers``, without special tokens of its
    template; one that is written in a text counts, as it is read.

    Args:
        data: the bytes of the file.
        where: its path, for errors.

    Raises:
        InvalidInput: if ``tokenizers`` does not take it.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self._tokenizer = load_fast(data, where)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        encode = self._tokenizer.encode  # one by one: a batch uses threads of every process's own
        return [len(encode(text, add_special_tokens=False)) for text in texts]


class TokenCounter:
    """Counts sentencepiece tokens, without BOS and EOS.

    Args:
        model: the bytes of a ``tokenizer.model``.
        where: its path, for errors.

    Raises:
        InvalidInput: if ``model`` is not a sentencepiece model.
    """

    def __init__(self, model: bytes, where: str) -> None:
        self._processor = load_processor(model, where)
        self.is_memoised = encodes_lines_independently(self._processor)
        self._known: dict[str, int] = {}
        self._line_break = len(self._processor.encode("\n"))

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; memory is bound by :data:`BATCH` of them."""
        return [
            count
            for begin in range(0, len(texts), BATCH)
            for count in self._count(texts[begin : begin + BATCH])
        ]

    def _count(self, texts: Sequence[str]) -> list[int]:
        if not self.is_memoised:
            return [len(ids) for ids in self._processor.encode(list(texts), num_threads=1)]
        known = self._known
        split = [lines(text) for text in texts]
        unknown = list(set(filterfalse(known.__contains__, chain.from_iterable(split))))
        behind_breaks = self._processor.encode([f"\n{line}" for line in unknown], num_threads=1)
        lengths = (len(ids) - self._line_break for ids in behind_breaks)
        known.update(zip(unknown, lengths, strict=True))
        breaks = self._line_break - 1  # without the dummy prefix
        counts = [
            sum(map(known.__getitem__, parts)) + breaks * max(len(parts) - 1, 0) for parts in split
        ]
        if len(known) > MAX_LINES:
            known.clear()
        for line in unknown:
            if len(line) > MAX_LINE:
                known.pop(line, None)
        return counts


def lines(text: str) -> list[str]:
    """The lines of a text as they are behind the tokenizer's dummy prefix, a space before the text.

    An empty text gets none, and has no lines.
    """
    return f" {text}".replace(SPACE, " ").split("\n") if text else []


def encodes_lines_independently(processor: SentencePieceProcessor) -> bool:
    """Whether the count of a text is the sum of the counts of its :func:`lines` and line breaks.

    That holds where no token of the vocabulary has a line break in it, every text can be encoded
    (bytes stand in for unknown characters), spaces are kept, one is put before the text, and
    nothing is normalized.
    """
    ids = range(processor.vocab_size())
    return (
        any(map(processor.is_byte, ids))
        and not any(map(processor.is_unused, ids))
        and not any("\n" in processor.id_to_piece(token) for token in ids)
        and processor.encode("x y", out_type=str)[0][:1] == SPACE
        and all(processor.decode(processor.encode(probe)) == probe for probe in _PROBES)
    )
