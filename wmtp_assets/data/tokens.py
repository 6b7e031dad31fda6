"""Counting tokens exactly as the training code's tokenizer does, each piece of text only once.

In a vocabulary like Llama's no token crosses a line break, a tab, or the place before a run of
spaces. The segments between those places are then encoded independently of each other, and the
count of a text is the sum of the counts of its segments, most of which were seen before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from wmtp_assets.checkpoints.tokenizer import load_processor

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SPACE = "\u2581"
"""What sentencepiece makes of a space; a text that holds it itself is encoded alike."""

MAX_SEGMENT = 64
"""Characters of the longest segment that is remembered."""

MAX_SEGMENTS = 400_000
"""Segments that are remembered, some 60 MB; then all are forgotten."""

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
        self._known: dict[str, int] = {}
        self._line_break = len(self._processor.encode("\n"))

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        if not self.is_memoised:
            return [len(ids) for ids in self._processor.encode(list(texts), num_threads=1)]
        split = [segments(text) for text in texts]
        counts = self._count_segments({segment for parts in split for segment in parts})
        return [sum(map(counts.__getitem__, parts)) for parts in split]

    def _count_segments(self, wanted: Iterable[str]) -> dict[str, int]:
        """Tokens of each segment where it stands behind a line break."""
        counts = {}
        unknown = []
        for segment in wanted:
            count = self._known.get(segment)
            if count is None:
                unknown.append(segment)
            else:
                counts[segment] = count
        if unknown:
            encoded = self._processor.encode([f"\n{text}" for text in unknown], num_threads=1)
            new = {
                text: len(ids) - self._line_break
                for text, ids in zip(unknown, encoded, strict=True)
            }
            counts |= new
            if len(self._known) + len(new) > MAX_SEGMENTS:
                self._known = {}
            self._known |= {k: count for k, count in new.items() if len(k) <= MAX_SEGMENT}
        return counts


def segments(text: str) -> list[str]:
    """The parts of a text that no token crosses, as they are behind the tokenizer's dummy prefix.

    The prefix is a space before the text; an empty text gets none.
    """
    return _SEGMENT.findall(f" {text}".replace(SPACE, " ")) if text else []


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
