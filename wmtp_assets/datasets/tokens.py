"""Counting tokens exactly as the training code's tokenizer does, each word only once.

In a vocabulary like Llama's no token crosses a line break, and none has a space behind another
character. Words are then encoded independently of each other, and the count of a text is the sum of
the counts of its words, most of which were seen before. In other vocabularies that holds of lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from wmtp_assets.checkpoints.tokenizer import is_fast, load_fast, load_processor

if TYPE_CHECKING:
    import pyarrow as pa
    from sentencepiece import SentencePieceProcessor

SPACE = "\u2581"
"""What sentencepiece makes of a space; a text that holds it itself is encoded alike."""

BATCH = 128
"""Texts that are encoded at a time."""

MAX_PART = 100
"""Bytes of the longest part of a text that is remembered."""

MAX_PARTS = 400_000
"""Parts that are remembered, some 60 MB; then all are forgotten."""

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
        self.has_words = self.is_memoised and encodes_words_independently(self._processor)
        self._known: dict[bytes, int] = {}
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
        import numpy as np

        encoded = [prefixed(text) for text in texts]
        begins = [*accumulate(map(len, encoded), initial=0)][:-1]
        cuts, found = parts(b"".join(encoded), begins, words=self.has_words)
        distinct = found.dictionary_encode()
        counts = np.array(self._count_parts(distinct.dictionary.to_pylist()), np.int64)
        of_parts = counts[distinct.indices.to_numpy()]
        sums = np.add.reduceat(of_parts, np.searchsorted(cuts, begins)).tolist()
        return [total if text else 0 for text, total in zip(texts, sums, strict=True)]

    def _count_parts(self, parts: Sequence[bytes]) -> list[int]:
        """Tokens of parts of texts, no two of which are the same."""
        known = self._known
        unknown = [part for part in parts if part not in known]
        encode = self._processor.encode  # one by one: a batch starts a thread
        lengths = (len(encode(f"\n{part.decode()}")) - self._line_break for part in unknown)
        known.update(zip(unknown, lengths, strict=True))
        counts = [known[part] for part in parts]
        if len(known) > MAX_PARTS:
            known.clear()
        for part in unknown:
            if len(part) > MAX_PART:
                known.pop(part, None)
        return counts


def prefixed(text: str) -> bytes:
    """A text as it is encoded: behind the tokenizer's dummy prefix, a space."""
    return f" {text}".replace(SPACE, " ").encode()


def parts(data: bytes, begins: Sequence[int], *, words: bool) -> tuple[Any, pa.LargeBinaryArray]:
    """The parts of texts that are encoded independently of each other, and where each begins.

    A line ends with its line break. A word begins with the spaces before it.

    Args:
        data: the texts, one behind the other; none is empty.
        begins: of the texts.
        words: lines are cut into words, too.

    Returns:
        The first is an array of int64.
    """
    import numpy as np
    import pyarrow as pa

    array = np.frombuffer(data, np.uint8)
    is_cut = np.zeros(len(array), bool)
    is_cut[1:] = array[:-1] == ord("\n")
    if words:
        is_space = array == ord(" ")
        is_cut[1:] |= is_space[1:] & ~is_space[:-1]
    is_cut[np.array(begins, np.int64)] = True
    cuts = np.flatnonzero(is_cut)
    buffers = [None, pa.py_buffer(np.append(cuts, len(array))), pa.py_buffer(data)]
    return cuts, pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(cuts), buffers)


def encodes_lines_independently(processor: SentencePieceProcessor) -> bool:
    """Whether the count of a text is the sum of the counts of its lines, with their line breaks.

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


def encodes_words_independently(processor: SentencePieceProcessor) -> bool:
    """Whether the count of a line is the sum of the counts of its words, where those of lines are
    independent.

    That holds where no token of the vocabulary has a space behind another character, and pairs are
    merged by their rank: the scores of a unigram model are sums that are rounded, and what is
    before a word could decide between two that are as good as equal.
    """
    ids = range(processor.vocab_size())
    tokens = (processor.id_to_piece(token).replace(SPACE, " ") for token in ids)
    return all(" " not in token.lstrip(" ") for token in tokens) and all(
        processor.get_score(token).is_integer() for token in ids
    )
