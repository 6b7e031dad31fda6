"""What two texts have in common: words in a row, whatever stands between them."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from wmtp_assets.datasets.comparing import NGRAM, Overlap, ngram_index, ngrams, normalized, words

WORDS = st.lists(st.sampled_from(["a", "b", "return", "x_1", "größe", "12"]), max_size=40)
BETWEEN = [" ", "  ", "\r\n\t", ", ", "(", "): ", " - ", "\u2028", "."]


@settings(deadline=None)
@given(WORDS, st.randoms(use_true_random=False))
@example(["a"] * NGRAM, None)
@example(["a"] * (NGRAM - 1), None)
@example(["a"] * (NGRAM + 1), None)
def test_ngrams_are_exactly_the_windows_of_words(found: list[str], chance: object) -> None:
    """One window less at either end, and a copied problem of 13 words is not found."""
    between = [chance.choice(BETWEEN) if chance else " " for _ in found]  # type: ignore[attr-defined]
    text = "".join(f"{word.upper()}{gap}" for word, gap in zip(found, between, strict=True))
    assert words(text) == [word.upper().lower() for word in found]
    found = words(text)
    expected = [found[i : i + 13] for i in range(len(found)) if i + 13 <= len(found)]
    assert [ngram.split(" ") for ngram in ngrams(text)] == expected


def test_thirteen_words_are_meant() -> None:
    """The number stands in the rule's statement and in what others published."""
    assert NGRAM == 13


def test_normalized_text_keeps_words_and_order() -> None:
    """Case and punctuation are how a text is written; another word or order is another text."""
    assert normalized("  Find: the\r\nMAX(value) of x_1!\n") == "find the max value of x_1"
    assert normalized("a b") != normalized("b a")
    assert normalized("ab") != normalized("a b")
    assert normalized("") == normalized("\n") == ""


def test_index_names_every_task_once() -> None:
    """A run that a text repeats is one overlap, and a run of two tasks is named for both."""
    run = " ".join(f"w{number}" for number in range(NGRAM))
    index = ngram_index([("one", f"{run} {run}"), ("two", f"before {run}"), ("three", run[:-1])])
    assert index[run] == ["one", "two"]
    assert "three" not in {task for tasks in index.values() for task in tasks} - {"three"}
    assert index[f"{run[:-4]} w12"] == ["one", "two"]


FEW = st.lists(st.sampled_from("ab"), max_size=60).map(" ".join)


@given(st.text(st.characters(max_codepoint=300)))
@example("".join(map(chr, range(128))))
def test_words_of_ascii_are_those_of_any_text(text: str) -> None:
    """What is faster for ASCII must separate at the same characters; a letter makes it no ASCII."""
    assert words(text) == re.findall(r"\w+", text.lower())
    assert [*words(text), "é"] == words(f"{text} é")


@settings(deadline=None, max_examples=60)
@given(st.lists(FEW, max_size=4), FEW, st.integers(0, 50), st.integers(0, 30))
def test_overlap_is_exact(texts: list[str], text: str, begin: int, size: int) -> None:
    """Looking up a seventh of the runs, and shorter ones, must find exactly what looking up all
    does; of two words, so that runs are shared, overlap themselves, and end at a text's end."""
    if texts:
        text += " c " * (begin % 8) + " ".join(texts[0].split()[begin : begin + size])
    overlap = Overlap((str(number), item) for number, item in enumerate(texts))
    assert overlap.find(text) == [ngram for ngram in ngrams(text) if ngram in overlap.tasks]


RUN = st.sampled_from(["a b ", "b a(", "c\n", "d.", "x é "])


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.lists(RUN, max_size=14).map("".join), max_size=3),
    st.lists(st.tuples(st.lists(RUN, max_size=5).map("".join), st.integers(0, 3)), max_size=5),
)
@example([], [("", 0)])
@example(["a b " * 7], [("a b " * 3, 3), ("a b " * 4, 3), ("c\n", 0), ("é ", 0)])
def test_many_texts_at_once_are_found_alike(
    texts: list[str], others: list[tuple[str, int]]
) -> None:
    """Hashes of words rule texts out: one that is ruled out wrongly is contamination that nobody
    sees, and no word may be taken for one of the text beside its own."""
    overlap = Overlap((str(number), text) for number, text in enumerate(texts))
    found = [text + "".join(texts[number : number + 1]) for text, number in others]
    assert [*overlap.find_each(found)] == [overlap.find(text) for text in found]


def test_texts_without_a_run_in_common_are_ruled_out() -> None:
    """Otherwise each would be looked through, and finding alike would show nothing."""
    run = " ".join(f"w{number}" for number in range(NGRAM))
    overlap = Overlap([("one", run)])
    assert overlap._may_share([run, f"{run[:8]} {run[:8]}", f"é {run}", ""]) == [
        True,
        False,
        True,
        False,
    ]
