"""``openai/gsm8k``, config ``main``, generated: upstream's columns, counts and odd parts, none of
its texts.

Problems follow from their split and row, and are the same on every machine; the answers are right.
The splits share no name and no thing, and every sentence has one of each, so that no 13 words in a
row stand in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TypeVar

from wmtp_assets.sample.repository import SampleRepository

ROWS = {"train": 7473, "test": 1319}
"""Upstream's, as its card says."""


class Odd(Enum):
    """What is unusual about a row; :data:`PLACES` says which one."""

    COMMA = "the final answer has a comma: #### 1,250"
    NEGATIVE = "the final answer is negative"
    DECIMAL = "an annotation, and the final answer, has decimals: <<4*4=16.00>>"
    TRAILING_SPACE = "a space ends the question, and the answer after its number"
    DOUBLE_SPACE = "two spaces stand between sentences"
    APOSTROPHE = "a typographic apostrophe, which is not ASCII"
    NO_ANNOTATION = "no step has an annotation"
    EMOJI = "a character beyond the basic plane"


PLACES: Mapping[Odd, tuple[tuple[str, int], ...]] = {
    Odd.COMMA: (("train", 1), ("test", 1)),
    Odd.NEGATIVE: (("train", 2), ("test", 2)),
    Odd.DECIMAL: (("train", 3), ("test", 3)),
    Odd.TRAILING_SPACE: (("train", 4), ("test", 4)),
    Odd.DOUBLE_SPACE: (("train", 5), ("test", 5)),
    Odd.APOSTROPHE: (("train", 6), ("test", 6)),
    Odd.NO_ANNOTATION: (("train", 7), ("test", 7)),
    Odd.EMOJI: (("train", 8),),
}

CARD = """\
---
license:
- mit
dataset_info:
  config_name: main
  features:
  - name: question
    dtype: string
  - name: answer
    dtype: string
  splits:
  - name: train
    num_bytes: {train}
    num_examples: 7473
  - name: test
    num_bytes: {test}
    num_examples: 1319
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: main/test-*
  default: true
---

# Grade School Math 8K

Generated word problems in the format of OpenAI's GSM8K, as the sample hub serves them: the config
`socratic` is left out. Nothing here is from the real data set.
"""

NAMES = {
    "train": (
        "Ada",
        "Amir",
        "Bela",
        "Carmen",
        "Chidi",
        "Dara",
        "Eiko",
        "Femi",
        "Greta",
        "Hugo",
        "Ines",
        "Jorge",
        "Kofi",
        "Lena",
    ),
    "test": ("Mila", "Nadia", "Omar", "Petra", "Quinn", "Rosa", "Samir", "Tomas", "Uma", "Viktor"),
}
THINGS = {
    "train": (
        "pears",
        "pencils",
        "ribbons",
        "marbles",
        "stickers",
        "candles",
        "buttons",
        "postcards",
        "shells",
    ),
    "test": ("tickets", "lanterns", "walnuts", "tiles", "seedlings", "medals"),
}

T = TypeVar("T")

Problem = tuple[str, list[str], str]
"""Question, steps of the answer, and the final answer."""


def build(folder: Path) -> None:
    """Write ``README.md`` and the two parquet files, not compressed, below ``folder``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("question", pa.string()), ("answer", pa.string())])
    sizes = {}
    for split, count in ROWS.items():
        path = folder / parquet_path(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist([row(split, number) for number in range(count)], schema)
        with path.open("wb") as file:
            pq.write_table(table, file, compression="none")
        sizes[split] = table.nbytes
    (folder / "README.md").write_text(CARD.format(**sizes), encoding="utf-8")


def parquet_path(split: str) -> str:
    """Where the repository has the rows of ``split``."""
    return f"main/{split}-00000-of-00001.parquet"


def row(split: str, number: int) -> dict[str, str]:
    """The row ``number`` of ``split``, with its odd part if it has one."""
    odd = next((odd for odd, places in PLACES.items() if (split, number) in places), None)
    draw = _Draw(split, number)
    templates = {Odd.COMMA: _wages, Odd.NEGATIVE: _debt, Odd.DECIMAL: _price}
    template = templates.get(odd) if odd is not None else None
    question, steps, final = (template or draw.pick(_TEMPLATES))(draw)
    if odd is Odd.COMMA:
        final = f"{int(final):,}"
    elif odd is Odd.TRAILING_SPACE:
        question, final = f"{question} ", f"{final} "
    elif odd is Odd.DOUBLE_SPACE:
        question = question.replace(". ", ".  ")
    elif odd is Odd.APOSTROPHE:
        question = f"It is {draw.name}\u2019s birthday. {question}"
    elif odd is Odd.NO_ANNOTATION:
        steps = [_without_annotation(step) for step in steps]
    elif odd is Odd.EMOJI:
        question = f"{question} \U0001f9ee"
    return {"question": question, "answer": "\n".join([*steps, f"#### {final}"])}


def _without_annotation(step: str) -> str:
    begin, _, rest = step.partition("<<")
    return begin + rest.partition(">>")[2] if rest else step


class _Draw:
    """Choices that follow from split and row; one name and one thing for all of a problem."""

    def __init__(self, split: str, number: int) -> None:
        digest = hashlib.sha256(f"gsm8k/{split}/{number}".encode()).digest()
        self._left = int.from_bytes(digest, "big")
        self.name = self.pick(NAMES[split])
        self.thing = self.pick(THINGS[split])

    def between(self, low: int, high: int) -> int:
        self._left, value = divmod(self._left, high - low + 1)
        return low + value

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.between(0, len(choices) - 1)]


def _boxes(draw: _Draw) -> Problem:
    boxes, each, given = draw.between(3, 40), draw.between(4, 60), draw.between(2, 11)
    total = boxes * each
    name, thing = draw.name, draw.thing
    return (
        f"{name} has {boxes} boxes with {each} {thing} in each. {name} gives {given} {thing} to a "
        f"neighbour. How many {thing} does {name} have left?",
        [
            f"{name} begins with {boxes}*{each} = <<{boxes}*{each}={total}>>{total} {thing}.",
            f"{name} is left with {total}-{given} = <<{total}-{given}={total - given}>>"
            f"{total - given} {thing}.",
        ],
        str(total - given),
    )


def _halves(draw: _Draw) -> Problem:
    half = draw.between(6, 400)
    name, thing = draw.name, draw.thing
    return (
        f"{name} sold {2 * half} {thing} in April, and then half as many {thing} in May. "
        f"How many {thing} did {name} sell altogether?",
        [
            f"{name} sold {2 * half}/2 = <<{2 * half}/2={half}>>{half} {thing} in May.",
            f"{name} sold {2 * half}+{half} = <<{2 * half}+{half}={3 * half}>>{3 * half} {thing} "
            "altogether.",
        ],
        str(3 * half),
    )


def _percent(draw: _Draw) -> Problem:
    hundreds, percent = draw.between(1, 30), draw.between(2, 95)
    all_of_them, kept = 100 * hundreds, hundreds * percent
    name, thing = draw.name, draw.thing
    return (
        f"Of {all_of_them} {thing}, {name} paints {percent}% blue. {name} leaves the other {thing} "
        f"as they are. How many {thing} does {name} not paint?",
        [
            f"{name} paints {all_of_them}*{percent}/100 = "
            f"<<{all_of_them}*{percent}/100={kept}>>{kept} {thing}.",
            f"{name} leaves {all_of_them}-{kept} = <<{all_of_them}-{kept}={all_of_them - kept}>>"
            f"{all_of_them - kept} {thing}.",
        ],
        str(all_of_them - kept),
    )


def _price(draw: _Draw) -> Problem:
    count, quarters = draw.between(3, 30), draw.between(5, 79)
    price, total = f"{quarters / 4:.2f}", f"{count * quarters / 4:.2f}"
    name, thing = draw.name, draw.thing
    return (
        f"{name} buys {count} {thing} at ${price} each. How many dollars does {name} pay for the "
        f"{thing}?",
        [f"{name} pays {count} * ${price} = $<<{count}*{price}={total}>>{total} for the {thing}."],
        total,
    )


def _wages(draw: _Draw) -> Problem:
    weeks, hours, wage = draw.between(20, 50), draw.between(10, 38), draw.between(9, 30)
    week, year = hours * wage, weeks * hours * wage
    name, thing = draw.name, draw.thing
    return (
        f"{name} sorts {thing} for ${wage} an hour, {hours} hours a week. What does {name} earn "
        f"with {thing} in {weeks} weeks?",
        [
            f"Each week {name} earns ${wage}*{hours} = $<<{wage}*{hours}={week}>>{week} "
            f"with {thing}.",
            f"So {name} earns {weeks}*${week} = $<<{weeks}*{week}={year}>>{year:,} with {thing}.",
        ],
        str(year),
    )


def _debt(draw: _Draw) -> Problem:
    income, cost = draw.between(20, 90), draw.between(91, 300)
    name, thing = draw.name, draw.thing
    return (
        f"{name} earns ${income} with {thing} and spends ${cost}. What is {name}'s profit with "
        f"{thing}, in dollars?",
        [
            f"{name} is left with {income}-{cost} = $<<{income}-{cost}={income - cost}>>"
            f"{income - cost} after the {thing}."
        ],
        str(income - cost),
    )


_TEMPLATES: tuple[Callable[[_Draw], Problem], ...] = (_boxes, _halves, _percent, _wages)


REPOSITORY = SampleRepository("dataset", "openai/gsm8k", 1, build)
