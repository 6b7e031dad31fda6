"""What two sets of rows have in common: the same text written otherwise, and runs of words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

NGRAM = 13
"""Words in a row that two texts do not share by chance."""

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text, in lower case; punctuation and white space only separate them."""
    return _WORD.findall(text.lower())


def normalized(text: str) -> str:
    """A text without what does not change its meaning: case, punctuation, white space."""
    return " ".join(words(text))


def ngrams(text: str) -> Iterator[str]:
    """Every run of :data:`NGRAM` words of a text."""
    found = words(text)
    for begin in range(len(found) - NGRAM + 1):
        yield " ".join(found[begin : begin + NGRAM])


def ngram_index(texts: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    """Run of words → the tasks whose texts have it.

    Args:
        texts: task and text.
    """
    index: dict[str, list[str]] = {}
    for task, text in texts:
        for ngram in set(ngrams(text)):
            index.setdefault(ngram, []).append(task)
    return index
