"""Counting tokens exactly as the training code's tokenizer does, each piece of text only once.

In a vocabulary like Llama's no token crosses a line break, a tab, or the place before a run of
spaces. The segments between those places are then encoded independently of each other, and the
count of a text is the sum of the counts of its segments. Most of those were seen before, and so
were many whole lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from wmtp_assets.checkpoints.tokenizer import load_processor

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SPACE = "\u2581"
"""What sentencepiece makes of a space; a text that holds it itself is encoded alike."""

MAX_LENGTH = 100
"""Characters of the longest line or segment that is remembered."""

MAX_KNOWN = 300_000
"""Lines, and as many segments, that are remembered, some 100 MB; then all are forgotten."""

_SEGMENT = re.compile(r"[\n\t]| +[^ \n\t]*|[^ \n\t]+")

_PROBES = (
    " \t two  spaces\r\n\n\ttabs ",
    "ﬁ Å Å A\u030a ① \uff21 ½ \u00a0 \u3000 \u200b \u2028 e\u0301 ᄀ\u1161 \u0000 \ufeff 🙂",
)
"""Texts that come back changed from a tokenizer that normalizes, or drops or adds spaces."""


class TokenCounter:
    """Counts sentencepiece tokens, without BOS and EOS.

    Args:
        model: the bytes of a ``tokenizer.model``.
        where: its path, for errors.

    Raises:
        InvalidInput: if ``model`` is no sentencepiece model.
    """

    def __init__(self, model: bytes, where: str) -> None:
        self._processor = load_processor(model, where)
        self.is_memoised = encodes_segments_independently(self._processor)
        self._lines: dict[str, int] = {}
        self._segments: dict[str, int] = {}
        self._line_break = len(self._processor.encode("\n"))

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        if not self.is_memoised:
            return [len(ids) for ids in self._processor.encode(list(texts), num_threads=1)]
        split = [lines(text) for text in texts]
        (line_break,) = _sums(self._segments, ["\n"], self._encode)
        counts = _sums(self._lines, split, self._count_lines)
        return [
            tokens + line_break * max(len(parts) - 1, 0)
            for tokens, parts in zip(counts, split, strict=True)
        ]

    def _count_lines(self, unknown: Sequence[str]) -> list[int]:
        """Tokens of each line."""
        return _sums(self._segments, [_SEGMENT.findall(line) for line in unknown], self._encode)

    def _encode(self, unknown: Sequence[str]) -> list[int]:
        """Tokens of each segment where it stands behind a line break."""
        encoded = self._processor.encode([f"\n{text}" for text in unknown], num_threads=1)
        return [len(ids) - self._line_break for ids in encoded]


def _sums(
    known: dict[str, int],
    split: Iterable[Sequence[str]],
    count: Callable[[Sequence[str]], list[int]],
) -> list[int]:
    """Tokens of each sequence of parts; those that are not ``known`` are counted and put there."""
    split = list(split)
    unknown = list({part for parts in split for part in parts if part not in known})
    if unknown:
        known.update(zip(unknown, count(unknown), strict=True))
    sums = [sum(map(known.__getitem__, parts)) for parts in split]
    if len(known) > MAX_KNOWN:
        known.clear()
    else:
        for part in unknown:
            if len(part) > MAX_LENGTH:
                del known[part]
    return sums


def lines(text: str) -> list[str]:
    """The lines of a text as they are behind the tokenizer's dummy prefix, a space before the text.

    An empty text gets none, and has no lines.
    """
    return f" {text}".replace(SPACE, " ").split("\n") if text else []


def segments(text: str) -> list[str]:
    """The parts of a text that no token crosses; a line break is one."""
    return _SEGMENT.findall("\n".join(lines(text)))


def encodes_segments_independently(processor: SentencePieceProcessor) -> bool:
    """Whether the count of a text is the sum of the counts of its :func:`segments`.

    That holds where no token of the vocabulary crosses a boundary of segments, every text can be
    encoded (bytes stand in for unknown characters), spaces are kept, one is put before the text,
    and nothing is normalized.
    """
    ids = range(processor.vocab_size())
    if not any(map(processor.is_byte, ids)) or any(map(processor.is_unused, ids)):
        return False
    for token in ids:
        if processor.is_byte(token) or processor.is_control(token) or processor.is_unknown(token):
            continue
        text = processor.id_to_piece(token).replace(SPACE, " ")
        if len(_SEGMENT.findall(text)) > 1:
            return False
    if processor.encode("x y", out_type=str)[0][:1] != SPACE:
        return False
    return all(processor.decode(processor.encode(probe)) == probe for probe in _PROBES)
