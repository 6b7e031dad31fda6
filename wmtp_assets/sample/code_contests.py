"""``deepmind/code_contests``, generated: upstream's columns and defects, none of its texts.

Problems, tests and solutions follow from a seed, and are the same on every machine. Correct
solutions do solve their problem; incorrect ones are a correct one with a mistake in it.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wmtp_assets.sample.repository import SampleRepository

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

Place = tuple[str, int]
"""A problem: its split and its row there, counted from 0 over all shards."""


class Language(IntEnum):
    """Language of a solution; names and values are upstream's."""

    UNKNOWN_LANGUAGE = 0
    PYTHON = 1  # Python 2
    CPP = 2
    PYTHON3 = 3
    JAVA = 4


PYTHON_LANGUAGES = (Language.PYTHON, Language.PYTHON3)


class Source(IntEnum):
    """Where a problem was set; names and values are upstream's."""

    UNKNOWN_SOURCE = 0
    CODECHEF = 1
    CODEFORCES = 2
    HACKEREARTH = 3
    CODEJAM = 4
    ATCODER = 5
    AIZU = 6


DIFFICULTIES = (
    "UNKNOWN_DIFFICULTY",
    "EASY",
    "MEDIUM",
    "HARD",
    "HARDER",
    "HARDEST",
    "EXTERNAL",
    *"ABCDEFGHIJKLMNOPQRSTUV",
)
"""Names of the difficulties 0, 1, …, as upstream's parquet files number them: L is 18."""

SPLITS = ("train", "valid", "test")

PROBLEMS = {"train": 48, "valid": 12, "test": 12}
SHARDS = {"train": 3, "valid": 1, "test": 1}
SOLUTIONS = 90
"""Python solutions per problem, on average: about 4,000 in train."""

SEED = 20220208

ROW_GROUP = 4
"""Problems in a row group; a shard has several, as upstream's have."""

LONG_TABLE = 4500
"""Characters of the table in a solution of more than 2,048 tokens."""


class Odd(Enum):
    """What is unusual about a problem; :data:`PLACES` says which one."""

    NO_PYTHON = "has solutions, none in Python"
    ONLY_CORRECT = "has no incorrect Python solution"
    ONLY_INCORRECT = "has no correct Python solution"
    DUPLICATES = "has the same Python solution twice among the correct and the incorrect ones"
    CONTRADICTION = "has a Python solution that is both correct and incorrect"
    LONG = "has Python solutions of more than 2,048 tokens"
    ALL_LANGUAGES = "has solutions of every language code"
    TWINS = "two Codeforces problems with the same description under two names"
    SPLIT_TWINS = "the same, in two splits"
    SAME_NAME = "two problems with one name and two descriptions"
    RUSSIAN = "Russian in description and solutions"
    CHINESE = "Chinese in description and solutions"
    EMOJI = "characters beyond the basic plane in description and solutions"
    COMBINING = "decomposed accents in description and solutions"
    CRLF = "description and solutions have CRLF line ends"
    TABS = "tabs in description and solutions"
    TRANSLATED = "description is a translation; the original is there"
    NO_PUBLIC_TESTS = "has private and generated tests only"
    NO_TIME_LIMIT = "the time limit is null"
    UNKNOWN_SOURCE = "the source is unknown"


PLACES: Mapping[Odd, tuple[Place, ...]] = {
    Odd.NO_PYTHON: (("train", 2), ("test", 3)),
    Odd.ONLY_CORRECT: (("train", 3), ("valid", 2)),
    Odd.ONLY_INCORRECT: (("train", 6), ("test", 5)),
    Odd.DUPLICATES: (("train", 10),),
    Odd.CONTRADICTION: (("train", 11),),
    Odd.LONG: (("train", 13), ("test", 8)),
    Odd.ALL_LANGUAGES: (("train", 1),),
    Odd.TWINS: (("train", 8), ("train", 9)),
    Odd.SPLIT_TWINS: (("train", 17), ("valid", 1)),
    Odd.SAME_NAME: (("train", 7), ("train", 23)),
    Odd.RUSSIAN: (("train", 16),),
    Odd.CHINESE: (("train", 20),),
    Odd.EMOJI: (("train", 18),),
    Odd.COMBINING: (("train", 22),),
    Odd.CRLF: (("train", 24), ("valid", 4)),
    Odd.TABS: (("train", 25),),
    Odd.TRANSLATED: (("train", 27),),
    Odd.NO_PUBLIC_TESTS: (("train", 28),),
    Odd.NO_TIME_LIMIT: (("train", 4), ("valid", 6)),
    Odd.UNKNOWN_SOURCE: (("train", 29),),
}
"""Where each odd part is, in every data set that has so many problems."""

FOREIGN_TEXTS: Mapping[Odd, str] = {
    Odd.RUSSIAN: "Гарантируется, что решение существует",
    Odd.CHINESE: "保证答案存在 且不超过给定的范围",
    Odd.EMOJI: "good luck \U0001f600\U0001f680 and have fun \U0001f469\u200d\U0001f4bb",
    Odd.COMBINING: "re\u0301sume\u0301 of the cafe\u0301 owner A\u030angstro\u0308m",
}
"""What stands in the description and in comments of the solutions of these odd problems."""

UNTRANSLATED = """\
Дан массив целых чисел. Требуется найти ответ на вопрос, описанный ниже, и вывести одно число.

Входные данные

Первая строка содержит два целых числа, вторая — элементы массива.

Выходные данные

Выведите одно целое число."""


def build(folder: Path) -> None:
    """Write ``README.md`` and five parquet files below ``folder``: 10 MB, a few seconds."""
    write_dataset(folder, PROBLEMS, SOLUTIONS, SHARDS, SEED)


def write_dataset(
    folder: Path,
    problems: Mapping[str, int],
    solutions: int,
    shards: Mapping[str, int],
    seed: int,
) -> None:
    """Write ``README.md`` and the parquet files, not compressed, below ``folder``.

    Elements of lists are called ``item``, as pyarrow did when upstream was written (July 2022).
    Holds one row group of :data:`ROW_GROUP` problems in memory at a time.

    Args:
        problems: split → number of its problems. 30 of train, 7 of valid and 9 of test have all
            odd parts, 48 of train every source and the difficulties 0 to 18.
        solutions: Python solutions per problem, right and wrong together, on average; there are
            about half as many in other languages.
        shards: split → number of its files, for the same splits as ``problems``.
        seed: what the texts follow from, together with split and row of their problem.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = schema()
    sizes = dict.fromkeys(problems, 0)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split, count in problems.items():
        for shard in range(shards[split]):
            first, end = (count * n // shards[split] for n in (shard, shard + 1))
            path = folder / shard_path(split, shard, shards[split], seed)
            with (
                path.open("wb") as file,
                pq.ParquetWriter(
                    file, columns, compression="none", use_compliant_nested_type=False
                ) as writer,
            ):
                for start in range(first, end, ROW_GROUP):
                    rows = range(start, min(start + ROW_GROUP, end))
                    made = [_problem((split, row), problems, solutions, seed) for row in rows]
                    table = pa.Table.from_pylist(made, columns)
                    writer.write_table(table)
                    sizes[split] += table.nbytes
    (folder / "README.md").write_text(_card(problems, sizes), encoding="utf-8")


def shard_path(split: str, shard: int, shards: int, seed: int = SEED) -> str:
    """Where the repository has a shard; the name ends in 16 hexadecimal digits, as upstream's."""
    digits = hashlib.sha256(f"{seed}/{split}/{shard}".encode()).hexdigest()[:16]
    return f"data/{split}-{shard:05}-of-{shards:05}-{digits}.parquet"


def schema() -> pa.Schema:
    """The columns of each parquet file: structs of lists, and labels as int64."""
    import pyarrow as pa

    texts = pa.list_(pa.string())
    tests = pa.struct([("input", texts), ("output", texts)])
    solutions = pa.struct([("language", pa.list_(pa.int64())), ("solution", texts)])
    return pa.schema(
        [
            ("name", pa.string()),
            ("description", pa.string()),
            ("public_tests", tests),
            ("private_tests", tests),
            ("generated_tests", tests),
            ("source", pa.int64()),
            ("difficulty", pa.int64()),
            ("solutions", solutions),
            ("incorrect_solutions", solutions),
            ("cf_contest_id", pa.int64()),
            ("cf_index", pa.string()),
            ("cf_points", pa.float32()),
            ("cf_rating", pa.int32()),
            ("cf_tags", texts),
            ("is_description_translated", pa.bool_()),
            ("untranslated_description", pa.string()),
            ("time_limit", pa.struct([("seconds", pa.int64()), ("nanos", pa.int64())])),
            ("memory_limit_bytes", pa.int64()),
            ("input_file", pa.string()),
            ("output_file", pa.string()),
        ]
    )


def _card(problems: Mapping[str, int], sizes: Mapping[str, int]) -> str:
    """``README.md``; its features are what ``datasets`` makes of the columns."""
    import yaml

    def label(names: Sequence[str]) -> dict[str, Any]:
        return {"class_label": {"names": {str(value): name for value, name in enumerate(names)}}}

    def tests(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "struct": [{"name": n, "list": "string"} for n in ("input", "output")],
        }

    def solutions(name: str) -> dict[str, Any]:
        languages = {"name": "language", "list": label([language.name for language in Language])}
        return {"name": name, "struct": [languages, {"name": "solution", "list": "string"}]}

    def value(name: str, dtype: Any) -> dict[str, Any]:
        return {"name": name, "dtype": dtype}

    features = [
        value("name", "string"),
        value("description", "string"),
        tests("public_tests"),
        tests("private_tests"),
        tests("generated_tests"),
        value("source", label([source.name for source in Source])),
        value("difficulty", label(DIFFICULTIES)),
        solutions("solutions"),
        solutions("incorrect_solutions"),
        value("cf_contest_id", "int64"),
        value("cf_index", "string"),
        value("cf_points", "float32"),
        value("cf_rating", "int32"),
        {"name": "cf_tags", "list": "string"},
        value("is_description_translated", "bool"),
        value("untranslated_description", "string"),
        {"name": "time_limit", "struct": [value("seconds", "int64"), value("nanos", "int64")]},
        value("memory_limit_bytes", "int64"),
        value("input_file", "string"),
        value("output_file", "string"),
    ]
    splits = [
        {"name": split, "num_bytes": sizes[split], "num_examples": count}
        for split, count in problems.items()
    ]
    data_files = [{"split": split, "path": f"data/{split}-*"} for split in problems]
    head = {
        "license": ["cc-by-4.0"],
        "dataset_info": {"features": features, "splits": splits},
        "configs": [{"config_name": "default", "data_files": data_files}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n{CARD_TEXT}"


CARD_TEXT = """
# CodeContests

Generated problems and solutions in the format of DeepMind's CodeContests, as the sample hub serves
them. Nothing here is from the real data set.
"""


# -- choices ---------------------------------------------------------------------------------------


class _Draws:
    """Choices that follow from a key: numpy keeps the raw output of PCG64 stable."""

    def __init__(self, *key: object) -> None:
        import numpy as np

        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._source = np.random.PCG64(int.from_bytes(digest, "big"))
        self._raw: list[int] = []

    def below(self, end: int) -> int:
        if not self._raw:
            self._raw = self._source.random_raw(512).tolist()
        return self._raw.pop() % end

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """``count`` different ones, in any order."""
        left = list(choices)
        return [left.pop(self.below(len(left))) for _ in range(count)]


_PLACEHOLDER = re.compile(r"\$([a-z])\b")


def _fill(text: str, names: Mapping[str, str]) -> str:
    """Put ``names`` in place of ``$a``, ``$b``, …"""
    return _PLACEHOLDER.sub(lambda match: names[match[1]], text)


def _indented(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]


# -- problems --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A question about ``n`` numbers ``a`` and a number ``k``; ``$c`` is a constant of the problem.

    Attributes:
        goal: the question, as the description has it.
        python: programs that find ``$r``, for both versions; the first makes the tests' outputs.
        clike: the same for C++ and Java; ``@`` marks what differs between them.
    """

    goal: str
    python: tuple[str, ...]
    clike: str


TASKS = (
    Task(
        "Among all blocks of exactly $k$ neighbouring {thing}, find the block with the greatest "
        "total, that is, the maximum of \\sum_{{i=l}}^{{l+k-1}} a_i over all l.",
        (
            """\
$s = sum($a[:$k])
$r = $s
for $i in range($k, $n):
    $s += $a[$i] - $a[$i - $k]
    if $s > $r:
        $r = $s""",
            """\
$t = [0] * ($n + 1)
for $i in range($n):
    $t[$i + 1] = $t[$i] + $a[$i]
$r = $t[$k]
for $j in range($n - $k + 1):
    $r = max($r, $t[$j + $k] - $t[$j])""",
        ),
        """\
@L $s = 0;
for (int $i = 0; $i < $k; $i++) $s += $a[$i];
@L $r = $s;
for (int $i = $k; $i < $n; $i++) {
    $s += $a[$i] - $a[$i - $k];
    $r = @max($r, $s);
}""",
    ),
    Task(
        "A pair (i, j) with i < j is called calm if a_i + a_j is a multiple of $k$. Count the calm "
        "pairs of {thing}.",
        (
            """\
$t = [0] * $k
$r = 0
for $i in $a:
    $r += $t[-$i % $k]
    $t[$i % $k] += 1""",
            """\
$t = {}
for $i in $a:
    $t[$i % $k] = $t.get($i % $k, 0) + 1
$r = 0
for $j in $t:
    $d = ($k - $j) % $k
    if $d == $j:
        $r += $t[$j] * ($t[$j] - 1) // 2
    elif $j < $d and $d in $t:
        $r += $t[$j] * $t[$d]""",
        ),
        """\
@L $r = 0;
@array($t, $k + 1)
for (int $i = 0; $i < $n; $i++) {
    int $j = (int) ($a[$i] % $k);
    $r += $t[($k - $j) % $k];
    $t[$j]++;
}""",
    ),
    Task(
        "Every {one} is painted with the colour $a_i \\bmod k$. How many different colours are "
        "used? Report that number multiplied by $c.",
        (
            """\
$t = set()
for $i in $a:
    $t.add($i % $k)
$r = len($t) * $c""",
            """\
$t = [False] * $k
$r = 0
for $i in range($n):
    $j = $a[$i] % $k
    if not $t[$j]:
        $t[$j] = True
        $r += $c""",
        ),
        """\
@array($t, $k)
@L $r = 0;
for (int $i = 0; $i < $n; $i++) {
    int $j = (int) ($a[$i] % $k);
    if ($t[$j] == 0) $r += $c;
    $t[$j] = 1;
}""",
    ),
    Task(
        "Find the longest run of neighbouring {thing} whose total does not exceed $c \\cdot k$. "
        "The run may be empty.",
        (
            """\
$r = 0
$d = 0
$s = 0
for $i in range($n):
    $s += $a[$i]
    while $s > $c * $k:
        $s -= $a[$d]
        $d += 1
    $r = max($r, $i - $d + 1)""",
            """\
from bisect import bisect_right
$t = [0]
for $i in $a:
    $t.append($t[-1] + $i)
$r = 0
for $j in range($n):
    $e = bisect_right($t, $t[$j] + $c * $k)
    $r = max($r, $e - 1 - $j)""",
        ),
        """\
@L $r = 0, $s = 0;
int $d = 0;
for (int $i = 0; $i < $n; $i++) {
    $s += $a[$i];
    while ($s > (@L) $c * $k) $s -= $a[$d++];
    $r = @max($r, ($i - $d + 1) * (@L) 1);
}""",
    ),
    Task(
        "The {thing} are ordered by value. Take the one at position $k$, from the smallest, "
        "and multiply its value by $c.",
        (
            """\
$t = sorted($a)
$r = $t[$k - 1] * $c""",
            """\
import heapq
$t = $a[:]
heapq.heapify($t)
$r = 0
for $i in range($k):
    $r = heapq.heappop($t)
$r = $r * $c""",
        ),
        """\
@sort($a, $n)
@L $r = $a[$k - 1] * $c;""",
    ),
    Task(
        "Choose some of the {thing} such that the positions of any two chosen ones differ by at "
        "least $k$, and the sum of the chosen values is as large as possible.",
        (
            """\
$t = [0] * ($n + 1)
for $i in range(1, $n + 1):
    $s = $a[$i - 1]
    if $i >= $k:
        $s += $t[$i - $k]
    $t[$i] = max($t[$i - 1], $s)
$r = $t[$n]""",
            """\
$t = []
for $i in range($n):
    $d = $t[$i - $k] if $i - $k >= 0 else 0
    $e = $t[-1] if $t else 0
    $t.append(max($e, $d + $a[$i]))
$r = $t[-1]""",
        ),
        """\
@array($t, $n + 1)
for (int $i = 1; $i <= $n; $i++) {
    @L $s = $a[$i - 1];
    if ($i >= $k) $s += $t[$i - $k];
    $t[$i] = @max($t[$i - 1], $s);
}
@L $r = $t[$n];""",
    ),
    Task(
        "In how many ways can one select a subset of the {thing} with the total exactly $c \\cdot "
        "k$? Print the number of ways modulo $m.",
        (
            """\
$e = $c * $k
$t = [1] + [0] * $e
for $i in $a:
    for $j in range($e, $i - 1, -1):
        $t[$j] = ($t[$j] + $t[$j - $i]) % $m
$r = $t[$e]""",
            """\
$t = {0: 1}
for $i in $a:
    $d = dict($t)
    for $j in $t:
        if $j + $i <= $c * $k:
            $d[$j + $i] = ($d.get($j + $i, 0) + $t[$j]) % $m
    $t = $d
$r = $t.get($c * $k, 0)""",
        ),
        """\
int $e = $c * $k;
@array($t, $e + 1)
$t[0] = 1;
for (int $i = 0; $i < $n; $i++)
    for (int $j = $e; $j >= $a[$i]; $j--)
        $t[$j] = ($t[$j] + $t[$j - (int) $a[$i]]) % $m;
@L $r = $t[$e];""",
    ),
    Task(
        "A cart carries at most two {thing} at once, and at most $k + \\max(a)$ of weight. What is "
        "the least number of trips?",
        (
            """\
$a.sort()
$d, $e = 0, $n - 1
$s = $a[-1] + $k
$r = 0
while $d <= $e:
    if $a[$d] + $a[$e] <= $s:
        $d += 1
    $e -= 1
    $r += 1""",
            """\
from collections import deque
$t = deque(sorted($a))
$s = max($a) + $k
$r = 0
while $t:
    $i = $t.pop()
    if $t and $t[0] + $i <= $s:
        $t.popleft()
    $r += 1""",
        ),
        """\
@sort($a, $n)
int $d = 0, $e = $n - 1;
@L $s = $a[$n - 1] + $k, $r = 0;
while ($d <= $e) {
    if ($a[$d] + $a[$e] <= $s) $d++;
    $e--;
    $r++;
}""",
    ),
    Task(
        "Two {thing} i < j are out of order if a_i > a_j + k. Count the pairs that are out of "
        "order.",
        (
            """\
from bisect import bisect_right, insort
$t = []
$r = 0
for $i in $a:
    $r += len($t) - bisect_right($t, $i + $k)
    insort($t, $i)""",
            """\
$r = 0
for $i in range($n):
    for $j in range($i):
        if $a[$j] > $a[$i] + $k:
            $r += 1""",
        ),
        """\
@L $r = 0;
for (int $i = 0; $i < $n; $i++)
    for (int $j = $i + 1; $j < $n; $j++)
        if ($a[$i] > $a[$j] + $k) $r++;""",
    ),
    Task(
        "The seal of the sequence is \\sum_{{i=1}}^{{n}} a_i \\cdot (k + $c)^{{n-i}}. Print "
        "the seal of the {thing} modulo $m.",
        (
            """\
$r = 0
for $i in $a:
    $r = ($r * ($k + $c) + $i) % $m""",
            """\
$r = 0
$d = 1
for $i in range($n - 1, -1, -1):
    $r = ($r + $a[$i] * $d) % $m
    $d = $d * ($k + $c) % $m""",
        ),
        """\
@L $r = 0;
for (int $i = 0; $i < $n; $i++) {
    $r = ($r * ($k + $c) + $a[$i]) % $m;
}""",
    ),
    Task(
        "Cut the row of {thing} into at most $k$ parts of neighbours such that the heaviest part "
        "is as light as possible, and print its weight.",
        (
            """\
$d, $e = max($a), sum($a)
while $d < $e:
    $s = ($d + $e) // 2
    $t, $j = 1, 0
    for $i in $a:
        if $j + $i > $s:
            $t += 1
            $j = 0
        $j += $i
    if $t <= $k:
        $e = $s
    else:
        $d = $s + 1
$r = $d""",
            """\
def parts($s):
    $j = 0
    $t = 1
    for $i in $a:
        $j += $i
        if $j > $s:
            $t += 1
            $j = $i
    return $t
$d = max($a) - 1
$e = sum($a)
while $e - $d > 1:
    $q = ($d + $e) >> 1
    if parts($q) > $k:
        $d = $q
    else:
        $e = $q
$r = $e""",
        ),
        """\
@L $d = 0, $e = 0;
for (int $i = 0; $i < $n; $i++) {
    $d = @max($d, $a[$i]);
    $e += $a[$i];
}
while ($d < $e) {
    @L $s = ($d + $e) / 2, $t = 1, $j = 0;
    for (int $i = 0; $i < $n; $i++) {
        if ($j + $a[$i] > $s) { $t++; $j = 0; }
        $j += $a[$i];
    }
    if ($t <= $k) $e = $s; else $d = $s + 1;
}
@L $r = $d;""",
    ),
    Task(
        "A {one} is lucky if the number of ones in the binary notation of $a_i \\oplus k$ leaves "
        "the remainder 1 when divided by $c. Count the lucky {thing}.",
        (
            """\
$r = 0
for $i in $a:
    $s = bin($i ^ $k).count("1")
    if $s % $c == 1:
        $r += 1""",
            """\
$r = 0
for $i in range($n):
    $d = $a[$i] ^ $k
    $s = 0
    while $d > 0:
        $s += $d & 1
        $d >>= 1
    $r += $s % $c == 1
$r = int($r)""",
        ),
        """\
@L $r = 0;
for (int $i = 0; $i < $n; $i++) {
    @L $d = $a[$i] ^ $k;
    int $s = 0;
    while ($d > 0) { $s += $d & 1; $d >>= 1; }
    if ($s % $c == 1) $r++;
}""",
    ),
    Task(
        "Count the segments [l, r] for which a_l \\oplus a_{{l+1}} \\oplus … \\oplus a_r is equal "
        "to $k$.",
        (
            """\
$t = {0: 1}
$r = 0
$s = 0
for $i in $a:
    $s ^= $i
    $r += $t.get($s ^ $k, 0)
    $t[$s] = $t.get($s, 0) + 1""",
            """\
$r = 0
for $i in range($n):
    $s = 0
    for $j in range($i, $n):
        $s ^= $a[$j]
        if $s == $k:
            $r += 1""",
        ),
        """\
@L $r = 0;
for (int $i = 0; $i < $n; $i++) {
    @L $s = 0;
    for (int $j = $i; $j < $n; $j++) {
        $s ^= $a[$j];
        if ($s == $k) $r++;
    }
}""",
    ),
    Task(
        "The {thing} stand in a circle. Starting from the first, every $k$-th of those that are "
        "left is removed, until one remains. Print its value plus $c.",
        (
            """\
$d = 0
for $i in range(2, $n + 1):
    $d = ($d + $k) % $i
$r = $a[$d] + $c""",
            """\
$t = list($a)
$s = 0
while len($t) > 1:
    $s = ($s + $k - 1) % len($t)
    del $t[$s]
$r = $t[0] + $c""",
        ),
        """\
int $d = 0;
for (int $i = 2; $i <= $n; $i++) $d = ($d + $k) % $i;
@L $r = $a[$d] + $c;""",
    ),
    Task(
        "Find the maximum of a_j - a_i over all i and j with j - i \\ge k. If there is no such "
        "pair of {thing}, print -$c.",
        (
            """\
$r = None
$d = 10 ** 18
for $i in range($k, $n):
    $d = min($d, $a[$i - $k])
    if $r is None or $a[$i] - $d > $r:
        $r = $a[$i] - $d
if $r is None:
    $r = -$c""",
            """\
$t = [$a[$j] - $a[$i] for $i in range($n) for $j in range($i + $k, $n)]
$r = -$c
if len($t) > 0:
    $r = max($t)""",
        ),
        """\
@L $r = -$c, $d = 1000000007;
for (int $i = $k; $i < $n; $i++) {
    $d = @min($d, $a[$i - $k]);
    if ($i == $k || $a[$i] - $d > $r) $r = $a[$i] - $d;
}""",
    ),
    Task(
        "A {one} with at least $k$ others before it shines if $k \\cdot a_i$ exceeds the sum of "
        "the $k$ values right before it by more than $c. How many {thing} shine?",
        (
            """\
$s = sum($a[:$k])
$r = 0
for $i in range($k, $n):
    if $a[$i] * $k > $s + $c:
        $r += 1
    $s = $s + $a[$i] - $a[$i - $k]""",
            """\
$r = 0
for $i in range($k, $n):
    if $k * $a[$i] - sum($a[$i - $k:$i]) > $c:
        $r += 1""",
        ),
        """\
@L $r = 0, $s = 0;
for (int $i = 0; $i < $n; $i++) {
    if ($i >= $k) {
        if ($a[$i] * $k > $s + $c) $r++;
        $s -= $a[$i - $k];
    }
    $s += $a[$i];
}""",
    ),
)

MODULI = (1000000007, 998244353, 1000003, 104729, 1000000009)

HEROES = (
    "Arvid", "Beata", "Chiyo", "Dunya", "Emeka", "Farrukh", "Gudrun", "Hakim", "Ilse", "Jorun",
    "Katya", "Leif", "Mireille", "Noor", "Oksana", "Paolo", "Quentin", "Rosalind", "Sanjay", "Tuva",
)  # fmt: skip
PLACES_OF_STORIES = (
    "a harbour town", "the old observatory", "an orchard behind the mill", "a museum of clocks",
    "the night market", "a mountain railway", "the city archive", "a lighthouse", "the ice rink",
    "a bakery at the corner", "the botanical garden", "a village of beekeepers",
)  # fmt: skip
THINGS = (
    ("lantern", "lanterns"), ("pebble", "pebbles"), ("ticket", "tickets"), ("barrel", "barrels"),
    ("teacup", "teacups"), ("kite", "kites"), ("gear", "gears"), ("melon", "melons"),
    ("postcard", "postcards"), ("snail", "snails"), ("ribbon", "ribbons"), ("anchor", "anchors"),
)  # fmt: skip
TITLE_WORDS = (
    "Quiet", "Crooked", "Counting", "Balanced", "Lost", "Heavy", "Curious", "Winter", "Two",
    "Broken", "Golden", "Restless", "Hidden", "Greedy",
)  # fmt: skip
STORY = (
    "{hero} has just moved to {place} and found {number} {thing} in the cellar.",
    "Every morning {hero} walks through {place}, looks at the {thing}, and writes a number down.",
    "{friend}, who never trusted numbers, would rather go home.",
    "It is well known in {place} that {thing} bring luck, provided they are counted twice.",
    "The {thing} are arranged in a row, and the row must not be changed by anyone.",
    "Last year, {number} of them were lost during the storm; nobody has explained how.",
    "“There has to be a faster way,” says {friend}, and goes on drinking tea.",
    "Unfortunately {hero} is very bad at arithmetic and asks you to help.",
    "The mayor has promised {number} coins to whoever answers first.",
    "To make it worse, {friend} wants the answer before the train leaves.",
    "A long time ago the {thing} belonged to {friend}, but that is another problem of this round.",
    "Recall that the order matters: swapping two {thing} gives another row.",
    "You do not need to understand why {hero} cares about this; nor does {friend}.",
    "Each {one} has a value, which is carved into its back and does not change.",
    "Legend has it that the builders of {place} knew a solution in linear time.",
    "After {number} failed attempts {hero} gave up and opened a laptop.",
    "Note that some values may coincide, and that this is not a mistake.",
    "In {place} it rains {number} days a year, so there is plenty of time to think.",
    "{hero} and {friend} argued about it for the whole of the holidays.",
    "Only the inspector, a distant cousin of {friend}, is allowed to touch the {thing}.",
)
TAGS = (
    "binary search", "brute force", "data structures", "dp", "greedy", "implementation", "math",
    "number theory", "sortings", "two pointers",
)  # fmt: skip

SOURCE_CYCLE = (
    Source.CODEFORCES,
    Source.CODEFORCES,
    Source.CODECHEF,
    Source.CODEFORCES,
    Source.AIZU,
    Source.CODEFORCES,
    Source.ATCODER,
    Source.HACKEREARTH,
)
"""Of the rows 0, 1, …; in every other cycle CODEJAM stands for HACKEREARTH."""

LETTERS = "ABCDEFGHIJKL"


@dataclass(frozen=True)
class _Statement:
    """What a problem asks; twins share it."""

    task: Task
    constants: Mapping[str, str]
    title: str
    many: bool
    examples: tuple[tuple[str, str], ...]
    description: str


def _problem(
    place: Place, problems: Mapping[str, int], solutions: int, seed: int
) -> dict[str, Any]:
    """One row of the table."""
    odd = _odd_parts(place)
    statement = _statement(_origin(place, problems), seed)
    draws = _Draws(seed, *place, "problem")
    row = {"description": statement.description, **_identity(place, odd, statement, seed, draws)}
    row["public_tests"] = _columns(statement.examples, "input", "output")
    for column, low, high in (("private_tests", 3, 12), ("generated_tests", 6, 40)):
        made = [_test(draws, statement, 60) for _ in range(draws.between(low, high))]
        row[column] = _columns(made, "input", "output")
    if Odd.NO_PUBLIC_TESTS in odd:
        row["public_tests"] = _columns((), "input", "output")
    right, wrong = _solutions(_Draws(seed, *place, "solutions"), statement, odd, solutions)
    row["solutions"] = _columns(right, "language", "solution")
    row["incorrect_solutions"] = _columns(wrong, "language", "solution")
    return row


def _columns(pairs: Sequence[tuple[Any, str]], *names: str) -> dict[str, list[Any]]:
    """Struct of two lists out of pairs."""
    return {name: [pair[i] for pair in pairs] for i, name in enumerate(names)}


def _odd_parts(place: Place) -> frozenset[Odd]:
    return frozenset(odd for odd, places in PLACES.items() if place in places)


def _origin(place: Place, problems: Mapping[str, int]) -> Place:
    """The problem whose description the one at ``place`` has."""
    for odd in (Odd.TWINS, Odd.SPLIT_TWINS):
        first, second = PLACES[odd]
        if place == second and problems.get(first[0], 0) > first[1]:
            return first
    return place


def _identity(
    place: Place, odd: frozenset[Odd], statement: _Statement, seed: int, draws: _Draws
) -> dict[str, Any]:
    """Name, source, difficulty, limits and what only Codeforces has."""
    split, index = place
    cycle, position = divmod(index, len(SOURCE_CYCLE))
    source = SOURCE_CYCLE[position]
    if source is Source.HACKEREARTH and cycle % 2:
        source = Source.CODEJAM
    if Odd.UNKNOWN_SOURCE in odd:
        source = Source.UNKNOWN_SOURCE
    ordinal = len(SPLITS) * index + SPLITS.index(split)  # no two problems have the same one
    title = statement.title
    slug = title.lower().replace(" ", "-")
    translated = Odd.TRANSLATED in odd
    seconds = draws.between(1, 5)
    row: dict[str, Any] = {
        "name": f"{ordinal:05}-{slug}",
        "source": int(source),
        "difficulty": 0,
        "cf_contest_id": 0,
        "cf_index": "",
        "cf_points": 0.0,
        "cf_rating": 0,
        "cf_tags": [""],
        "is_description_translated": translated,
        "untranslated_description": UNTRANSLATED if translated else "",
        "time_limit": {"seconds": seconds, "nanos": 500_000_000 * draws.below(2)},
        "memory_limit_bytes": draws.pick((0, 64_000_000, 134_217_728, 256_000_000)),
        "input_file": "",
        "output_file": "",
    }
    if source is Source.CODEFORCES:
        earlier = SOURCE_CYCLE[:position].count(source)
        letter = LETTERS[(cycle * SOURCE_CYCLE.count(source) + earlier) % len(LETTERS)]
        row["name"] = f"{101 + ordinal}_{letter}. {title}"
        row["difficulty"] = DIFFICULTIES.index(letter)
        row["cf_contest_id"] = 101 + ordinal
        row["cf_index"] = letter
        row["cf_points"] = 250.0 * draws.below(12)
        row["cf_rating"] = draws.pick((0, 100 * draws.between(8, 35)))
        row["cf_tags"] = sorted(draws.some(TAGS, draws.between(1, 4)))
        if draws.chance(10):
            row["input_file"], row["output_file"] = "input.txt", "output.txt"
    elif source is Source.CODECHEF:
        row["name"] = f"{slug.replace('-', '')[:6]}{ordinal}"
        row["difficulty"] = 1 + cycle % 6
    elif source is Source.ATCODER:
        row["name"] = f"p{ordinal:05} Beginner Round {ordinal} - {title}"
    elif source is Source.AIZU:
        row["name"] = f"p{ordinal:05} {title}"
    if Odd.SAME_NAME in odd:
        first = PLACES[Odd.SAME_NAME][0]
        row["name"] = _statement(first, seed).title.lower().replace(" ", "-")
    if Odd.NO_TIME_LIMIT in odd:
        row["time_limit"] = None
    return row


@functools.lru_cache(maxsize=64)
def _statement(place: Place, seed: int) -> _Statement:
    draws = _Draws(seed, *place, "statement")
    odd = _odd_parts(place)
    task = draws.pick(TASKS)
    one, thing = draws.pick(THINGS)
    title = f"{draws.pick(TITLE_WORDS)} {thing.title()}"
    constants = {"c": str(draws.between(2, 97)), "m": str(draws.pick(MODULI))}
    many = draws.chance(30)
    bare = _Statement(task, constants, title, many, (), "")
    examples = tuple(_test(draws, bare, 8) for _ in range(draws.between(1, 3)))

    hero, friend = draws.some(HEROES, 2)
    words = {"hero": hero, "friend": friend, "one": one, "thing": thing}
    words["place"] = draws.pick(PLACES_OF_STORIES)
    paragraphs: list[str] = []
    story = draws.some(STORY, len(STORY))
    for _ in range(draws.pick((1, 2, 2, 3, 4, 5))):
        sentences = [story.pop() for _ in range(draws.between(2, 4))]
        numbers = (str(draws.between(3, 999)) for _ in sentences)
        pairs = zip(sentences, numbers, strict=True)
        paragraphs.append(" ".join(text.format(**words, number=number) for text, number in pairs))
    paragraphs.append(_fill_constants(task.goal.format(**words), constants))
    if foreign := [FOREIGN_TEXTS[part] for part in FOREIGN_TEXTS if part in odd]:
        paragraphs.extend(foreign)
    paragraphs += _sections(draws, many, examples)
    description = "\n\n".join(paragraphs)
    if Odd.TABS in odd:
        description += "\n\nn\tk\tanswer\n5\t2\t7\n9\t4\t1"
    if Odd.CRLF in odd:
        description = description.replace("\n", "\r\n")
    return _Statement(task, constants, title, many, examples, description)


def _fill_constants(text: str, constants: Mapping[str, str]) -> str:
    """Put the constants in place of ``$c`` and ``$m``; ``$k$`` is a formula, and stays."""
    return re.sub(r"\$([cm])\b", lambda match: constants[match[1]], text)


def _sections(draws: _Draws, many: bool, examples: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Input, output and examples, in one of three manners."""
    le = draws.pick(("≤", "\\leq", "<="))
    bound = draws.pick(("2 ⋅ 10^5", "100000", "1000", "10^{5}"))
    yield "Input"
    if many:
        yield (
            f"The first line contains the number of test cases t (1 {le} t {le} 100). Each test "
            "case consists of two lines."
        )
    line = "first line of a test case" if many else "first line"
    yield (
        f"The {line} contains two integers n and k (1 {le} k {le} n {le} {bound}). The next line "
        f"contains n integers a_1, a_2, …, a_n (1 {le} a_i {le} 10^9), separated by spaces."
    )
    yield "Output"
    yield "For each test case print one integer." if many else "Print one integer: the answer."
    if draws.chance(80):
        if draws.chance(50):
            yield "Examples"
            for given, expected in examples:
                yield f"Input\n\n{given}\n\nOutput\n\n{expected}"
        else:
            for number, (given, expected) in enumerate(examples, 1):
                yield f"Sample Input {number}\n\n{given}\nSample Output {number}\n\n{expected}"
    if draws.chance(30):
        yield "Note\n\nIn the first sample the answer can be checked by hand."


def _test(draws: _Draws, statement: _Statement, size: int) -> tuple[str, str]:
    """A test of at most ``size`` numbers a case: its input and output."""
    solve = _reference(statement.task, tuple(statement.constants.items()))
    cases = draws.between(2, 4) if statement.many else 1
    given = [f"{cases}\n"] if statement.many else []
    expected: list[str] = []
    for _ in range(cases):
        n = draws.between(2, size)
        k = draws.between(1, n)
        top = draws.pick((9, 50, 1000, 10**9))
        a = [draws.between(1, top) for _ in range(n)]
        given.append(f"{n} {k}\n{' '.join(map(str, a))}\n")
        expected.append(f"{solve(n, k, a)}\n")
    return "".join(given), "".join(expected)


@functools.lru_cache(maxsize=64)
def _reference(
    task: Task, constants: tuple[tuple[str, str], ...]
) -> Callable[[int, int, list[int]], int]:
    """The task's first Python program as a function of n, k and a."""
    names = {letter: letter for letter in "ademnkrstijq"} | dict(constants)
    lines = _fill(task.python[0], names).split("\n")
    source = "\n".join(["def solve(n, k, a):", *_indented([*lines, "return r"])])
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace["solve"]


# -- solutions -------------------------------------------------------------------------------------

NAMES: Mapping[str, tuple[str, ...]] = {
    "n": ("n", "N", "size", "num", "length"),
    "k": ("k", "K", "m", "lim", "x"),
    "a": ("a", "A", "arr", "v", "values", "lst", "nums"),
    "r": ("ans", "res", "answer", "best", "ret", "result"),
    "i": ("i", "ii", "idx", "p", "u"),
    "j": ("j", "jj", "b", "w", "y"),
    "s": ("s", "cur", "acc", "tot", "now"),
    "t": ("t", "pre", "dp", "table", "memo"),
    "d": ("d", "lo", "l", "left", "z"),
    "e": ("e", "hi", "h", "right", "top"),
    "q": ("q", "mid", "middle", "half"),
    "f": ("solve", "calc", "run", "go", "work", "process", "handle"),
    "g": ("g", "helper", "util", "aux", "func", "proc", "tool"),
}
"""Identifiers by role; no two roles have one in common."""

PYTHON_HELPERS = (
    """\
def $g($a, $k, $q):
    $r = 1
    $a %= $q
    while $k:
        if $k & 1:
            $r = $r * $a % $q
        $a = $a * $a % $q
        $k >>= 1
    return $r""",
    """\
class DSU:
    def __init__(self, $n):
        self.parent = list(range($n))
        self.size = [$c] * $n

    def find(self, $i):
        while self.parent[$i] != $i:
            self.parent[$i] = self.parent[self.parent[$i]]
            $i = self.parent[$i]
        return $i

    def union(self, $i, $j):
        $i, $j = self.find($i), self.find($j)
        if $i == $j:
            return False
        if self.size[$i] < self.size[$j]:
            $i, $j = $j, $i
        self.parent[$j] = $i
        self.size[$i] += self.size[$j]
        return True""",
    """\
def $g($n):
    $t = bytearray([1]) * ($n + $c)
    $t[0] = $t[1] = 0
    for $i in range(2, int($n ** 0.5) + 2):
        if $t[$i]:
            for $j in range($i * $i, $n + 1, $i):
                $t[$j] = 0
    return [$i for $i in range($n + 1) if $t[$i]]""",
    """\
class Fenwick(object):
    def __init__(self, $n):
        self.n = $n + $c
        self.tree = [0] * (self.n + 1)

    def add(self, $i, $s):
        while $i <= self.n:
            self.tree[$i] += $s
            $i += $i & -$i

    def get(self, $i):
        $r = 0
        while $i > 0:
            $r += self.tree[$i]
            $i -= $i & -$i
        return $r""",
    """\
def $g($s, $j):
    # greatest common divisor, twice as slow as it could be
    if $s < $j:
        return $g($j, $s)
    return $s if $j == 0 else $g($j, $s - $s // $j * $j)""",
    """\
def $g($t, $s):
    $d, $e = -1, len($t)
    while $e - $d > 1:
        $q = ($d + $e) // 2
        if $t[$q] < $s - $c:
            $d = $q
        else:
            $e = $q
    return $e""",
    """\
def $g($n, $d):
    $t = [[0] * ($d + 1) for _ in range($n + 1)]
    for $i in range($n + 1):
        $t[$i][0] = 1
        for $j in range(1, min($i, $d) + 1):
            $t[$i][$j] = ($t[$i - 1][$j - 1] + $t[$i - 1][$j]) % $m
    return $t""",
    """\
def $g($t, $s, $d):
    $e = [-1] * len($t)
    $e[$s] = $c
    $q = [$s]
    for $i in $q:
        for $j in $t[$i]:
            if $e[$j] < 0:
                $e[$j] = $e[$i] + 1
                $q.append($j)
    return $e[$d]""",
    """\
def $g($s):
    $t = [0] * len($s)
    for $i in range(1, len($s)):
        $j = $t[$i - 1]
        while $j and $s[$i] != $s[$j]:
            $j = $t[$j - 1]
        $t[$i] = $j + ($s[$i] == $s[$j])
    return max($t) * $c""",
    """\
def $g(*args):
    if DEBUG:
        print(" ".join(str($i) for $i in args))

DEBUG = $c < 0""",
    """\
def $g($i, $j):
    if not (0 <= $i < $c and 0 <= $j < $c):
        return []
    $r = []
    for $d, $e in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        if 0 <= $i + $d < $c and 0 <= $j + $e < $c:
            $r.append(($i + $d, $j + $e))
    return $r""",
    """\
def $g($n):
    $r = []
    $d = 2
    while $d * $d <= $n:
        $s = 0
        while $n % $d == 0:
            $n //= $d
            $s += 1
        if $s:
            $r.append(($d, $s))
        $d += 1
    if $n > 1:
        $r.append(($n, 1))
    return $r""",
)

CPP_HELPERS = (
    """\
long long $g(long long $a, long long $k, long long $q) {
    long long $r = 1;
    for (; $k; $k >>= 1, $a = $a * $a % $q)
        if ($k & 1) $r = $r * $a % $q;
    return $r;
}""",
    """\
int parent[$c + 200005];
int $g(int $i) { return parent[$i] == $i ? $i : parent[$i] = $g(parent[$i]); }""",
    """\
#define rep($i, $n) for (int $i = 0; $i < (int)($n); ++$i)
#define all($a) ($a).begin(), ($a).end()
typedef pair<int, int> pii;""",
    """\
template <typename T> bool chmax(T &$d, const T &$e) {
    if ($d < $e) { $d = $e; return true; }
    return false;
}""",
)

JAVA_HELPERS = (
    """\
static long $g(long $a, long $k, long $q) {
    long $r = 1;
    for (; $k > 0; $k >>= 1, $a = $a * $a % $q)
        if (($k & 1) == 1) $r = $r * $a % $q;
    return $r;
}""",
    """\
static int $g(int[] $t, int $s) {
    int $d = -1, $e = $t.length;
    while ($e - $d > 1) {
        int $q = ($d + $e) >>> 1;
        if ($t[$q] < $s) $d = $q; else $e = $q;
    }
    return $e;
}""",
    """\
static final int MAXN = 200000 + $c;
static long[] memo = new long[MAXN];""",
)

COMMENT_VERBS = (
    "read", "update", "check", "skip", "precompute", "reset", "collect", "fix", "remember", "sort",
    "print", "walk over",
)  # fmt: skip
COMMENT_NOUNS = (
    "the input", "the window", "the prefix sums", "the borders", "the answer", "all the rest",
    "the last element", "the counters", "both ends", "the empty case", "the remainder",
    "the current value",
)  # fmt: skip
HANDLES = ("tern", "hexfold", "mossy_byte", "latenight", "quokka", "o_n_log_n", "drowsy", "segfolk")

MISTAKES = tuple(
    (re.compile(rf"{re.escape(old)}(?![0-9])"), new)
    for old, new in (
        (" > ", " >= "),
        (" <= ", " < "),
        (" + 1", ""),
        (" - 1", ""),
        ("max(", "min("),
        (" == ", " != "),
        (" >= ", " > "),
        (" = 0", " = 1"),
        (" += 1", " += 2"),
        (" % ", " * "),
        (" * ", " + "),
        (" < ", " <= "),
        ("++", "--"),
    )
)
"""What goes wrong in an incorrect solution: one occurrence is replaced."""


def _solutions(
    draws: _Draws, statement: _Statement, odd: frozenset[Odd], mean: int
) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Correct and incorrect solutions of a problem, as pairs of language and text."""
    count = 0 if Odd.NO_PYTHON in odd else max(2, mean * draws.between(30, 170) // 100)
    share = draws.between(25, 75)
    if Odd.ONLY_CORRECT in odd:
        share = 100
    if Odd.ONLY_INCORRECT in odd:
        share = 0
    python = [draws.pick((Language.PYTHON, *[Language.PYTHON3] * 3)) for _ in range(count)]
    others = [
        draws.pick((*[Language.CPP] * 7, *[Language.JAVA] * 3))
        for _ in range(max(4, mean * draws.between(20, 80) // 100))
    ]
    others.extend([Language.UNKNOWN_LANGUAGE] * (draws.chance(25) or Odd.ALL_LANGUAGES in odd))
    order = [*python, *others]
    order = draws.some(order, len(order))

    right: list[tuple[int, str]] = []
    wrong: list[tuple[int, str]] = []
    for language in order:
        is_python = language in PYTHON_LANGUAGES
        is_right = draws.chance(share if is_python else 50)
        made = right if is_right else wrong
        if is_python and draws.chance(2) and (again := _last_python(made)):
            made.append(again)
        else:
            made.append((int(language), _solution(draws, statement, odd, language, is_right)))
    for made in (right, wrong):
        if Odd.DUPLICATES in odd and (again := _last_python(made)):
            made.append(again)
    if Odd.CONTRADICTION in odd and (again := _last_python(right)):
        wrong.append(again)
    return right, wrong


def _last_python(made: Sequence[tuple[int, str]]) -> tuple[int, str] | None:
    return next((pair for pair in reversed(made) if pair[0] in PYTHON_LANGUAGES), None)


def _solution(
    draws: _Draws, statement: _Statement, odd: frozenset[Odd], language: Language, is_right: bool
) -> str:
    names = {role: draws.pick(choices) for role, choices in NAMES.items()}
    names.update(statement.constants)
    foreign = [FOREIGN_TEXTS[part] for part in FOREIGN_TEXTS if part in odd]
    if not foreign and draws.chance(1):
        foreign = [draws.pick(tuple(FOREIGN_TEXTS.values()))]
    if language in PYTHON_LANGUAGES:
        is_long = draws.chance(50 if Odd.LONG in odd else 1)
        lines = _python(draws, statement, names, is_right, is_long)
        if foreign:
            lines[:0] = ["# -*- coding: utf-8 -*-", f"# {draws.pick(foreign)}"]
        if language is Language.PYTHON:
            lines = [_as_python2(line) for line in lines]
    else:
        lines = _clike(draws, statement, names, is_right, is_java=language is Language.JAVA)
        if foreign:
            lines.insert(0, f"// {draws.pick(foreign)}")
    unit = "\t" if Odd.TABS in odd else draws.pick(("    ",) * 7 + ("  ", "  ", "\t"))
    if unit != "    ":
        lines = [_reindented(line, unit) for line in lines]
    end = "\r\n" if Odd.CRLF in odd or draws.chance(3) else "\n"
    return end.join(lines) + draws.pick((end, end, ""))


def _reindented(line: str, unit: str) -> str:
    text = line.lstrip(" ")
    return unit * ((len(line) - len(text)) // 4) + text


def _spoiled(draws: _Draws, text: str, result: str) -> str:
    """``text`` with a mistake in it."""
    mistakes = [(match, new) for old, new in MISTAKES for match in old.finditer(text)]
    if not mistakes:
        return f"{text}\n{result} += {draws.between(1, 9)}"
    match, new = draws.pick(mistakes)
    return text[: match.start()] + new + text[match.end() :]


def _python(
    draws: _Draws, statement: _Statement, names: Mapping[str, str], is_right: bool, is_long: bool
) -> list[str]:
    """Lines of a Python 3 program that :func:`_as_python2` can turn into Python 2."""
    core = _fill(draws.pick(statement.task.python), names)
    n, k, a, result, solve = (names[role] for role in "nkarf")
    if not is_right:
        core = _spoiled(draws, core, result)
    body = core.split("\n")
    imports = [line for line in body if line.startswith(("from ", "import "))]
    body = [line for line in body if line not in imports]
    for _ in range(draws.below(4)):
        _insert_comment(draws, body, "#", names)

    manner = draws.below(5)
    line = "input()"
    count = "int(input())"
    if manner == 0:
        imports.append("import sys")
        read = [f"{n} = int(next(it))", f"{k} = int(next(it))"]
        read.append(f"{a} = [int(next(it)) for _ in range({n})]")
        count = "int(next(it))"
    elif manner == 1:
        imports.append("from sys import stdin")
        line, count = "stdin.readline()", "int(stdin.readline())"
        read = [f"{n}, {k} = [int(c) for c in {line}.split()]"]
        read.append(f"{a} = [int(c) for c in {line}.split()]")
    elif manner == 2:
        read = [f"{n}, {k} = ints()", f"{a} = ints()"]
    else:
        if manner == 3:
            imports.append("import sys")
        read = [f"{n}, {k} = map(int, {line}.split())"]
        read.append(f"{a} = list(map(int, {line}.split()))")
    setup = {
        0: ["it = iter(sys.stdin.read().split())"],
        2: [f"ints = lambda: list(map(int, {line}.split()))"],
        3: ["input = sys.stdin.readline"],
    }.get(manner, [])

    lines: list[str] = []
    if draws.chance(25):
        lines += _python_header(draws, statement.title).split("\n")
    lines += imports
    if draws.chance(30):
        limit = draws.between(10, 400) * 1000
        lines += ["import sys"] * ("import sys" not in lines) + [f"sys.setrecursionlimit({limit})"]
    if draws.chance(30):
        value = draws.pick(
            ("10 ** 18", "float('inf')", "10 ** 9 + 7", str(draws.between(1, 10**7)))
        )
        lines.append(f"{draws.pick(('INF', 'MOD', 'MAXN', 'LIMIT', 'BIG'))} = {value}")
    lines += [""] * draws.below(2)
    if is_long:
        lines += [*_table(draws), ""]
    else:
        few = draws.pick((0, 0, 1, 1, 2, 2, 3, 4, 5, 7))
        for number, helper in enumerate(draws.some(PYTHON_HELPERS, few)):
            own = {role: draws.pick(NAMES[role]) for role in "nkarijstdeqg"}
            own["g"] += str(number) if draws.chance(60) else f"_{names['t']}{number}"
            own.update(c=str(draws.between(1, 99)), m=str(draws.pick(MODULI)))
            lines += [*_fill(helper, own).split("\n"), *[""] * draws.between(1, 2)]
    lines += setup

    emit = [f"print({result})"]
    frame = draws.below(4)
    if frame == 3:
        lines += [f"def {solve}({n}, {k}, {a}):", *_indented([*body, f"return {result}"]), ""]
        body, emit = [], [f"print({solve}({n}, {k}, {a}))"]
    if statement.many and draws.chance(40):
        text = emit[0].removeprefix("print(").removesuffix(")")
        inner = [*read, *body, f"out.append(str({text}))"]
        whole = ["out = []", f"for _ in range({count}):", *_indented(inner)]
        whole.append('print("\\n".join(out))')
    elif statement.many:
        whole = [f"for case in range({count}):", *_indented([*read, *body, *emit])]
    else:
        whole = [*read, *[""] * draws.below(2), *body, *emit]
    if frame == 1:
        lines += ["def main():", *_indented(whole), "", "main()"]
    elif frame == 2:
        lines += [f"def {solve}():", *_indented(whole), ""]
        lines += ['if __name__ == "__main__":', f"    {solve}()"]
    else:
        lines += whole
    while sum(map(len, lines)) < 220:
        lines.append(f"# {_comment(draws, names)}")
    return [line.rstrip(" ") for line in lines]


def _python_header(draws: _Draws, title: str) -> str:
    year = f"20{draws.between(10, 21)}-{draws.between(1, 12):02}-{draws.between(1, 28):02}"
    return draws.pick(
        (
            f"# {title}",
            f"# author: {draws.pick(HANDLES)}{draws.below(999)}",
            f'"""\nCreated on {year}\n\n@author: {draws.pick(HANDLES)}\n"""',
            "#!/usr/bin/env python",
            f"# {draws.pick(HANDLES)}, {year}: {title.lower()}, attempt {draws.between(1, 30)}",
        )
    )


def _insert_comment(draws: _Draws, lines: list[str], mark: str, names: Mapping[str, str]) -> None:
    place = draws.below(len(lines))
    indent = " " * (len(lines[place]) - len(lines[place].lstrip(" ")))
    lines.insert(place, f"{indent}{mark} {_comment(draws, names)}")


def _comment(draws: _Draws, names: Mapping[str, str]) -> str:
    manner = draws.below(4)
    if manner == 0:
        return f"print({names[draws.pick('nkar')]}, {names[draws.pick('nkas')]})"
    if manner == 1:
        return f"note: {draws.pick(COMMENT_VERBS)} {draws.pick(COMMENT_NOUNS)} only once"
    return f"{draws.pick(COMMENT_VERBS)} {draws.pick(COMMENT_NOUNS)}"


def _table(draws: _Draws) -> list[str]:
    """A literal of :data:`LONG_TABLE` characters and a bit."""
    lines = [f"{draws.pick(('TABLE', 'PRE', 'known', 'cache'))} = ["]
    left = LONG_TABLE
    while left > 0:
        line = ", ".join(str(draws.between(1000, 9_999_999)) for _ in range(10))
        lines.append(f"    {line},")
        left -= len(line)
    return [*lines, "]"]


_PRINT = re.compile(r"\bprint\((.*)\)$")


def _as_python2(line: str) -> str:
    """A line of :func:`_python` as a Python 2 program has it."""
    line = line.replace("input()", "raw_input()").replace("in range(", "in xrange(")
    line = line.replace("input = sys", "raw_input = sys")
    return _PRINT.sub(r"print \1", line)


@functools.cache
def _clike_core(task: Task, is_java: bool) -> str:
    """The task's program with C++ or Java in place of what ``@`` marks."""
    if is_java:
        marks = {
            r"@L": "long",
            r"@(max|min)\(": r"Math.\1(",
            r"@sort\((.*), (.*)\)": r"Arrays.sort(\1, 0, \2);",
            r"@array\((.*), (.*)\)": r"long[] \1 = new long[\2];",
        }
    else:
        marks = {
            r"@L": "long long",
            r"@(max|min)\(": r"\1(",
            r"@sort\((.*), (.*)\)": r"sort(\1.begin(), \1.begin() + \2);",
            r"@array\((.*), (.*)\)": r"vector<long long> \1(\2, 0);",
        }
    text = task.clike
    for mark, replacement in marks.items():
        text = re.sub(mark, replacement, text)
    return text


def _clike(
    draws: _Draws, statement: _Statement, names: Mapping[str, str], is_right: bool, is_java: bool
) -> list[str]:
    """Lines of a C++ or Java program."""
    core = _fill(_clike_core(statement.task, is_java), names)
    n, k, a, result, solve = (names[role] for role in "nkarf")
    if not is_right:
        mistaken = _spoiled(draws, core, result)
        core = mistaken if mistaken.endswith((";", "}")) else mistaken + ";"
    body = core.split("\n")
    _insert_comment(draws, body, "//", names)
    own = {role: draws.pick(NAMES[role]) for role in "nkarijstdeqg"}
    own.update(c=str(draws.between(1, 99)), m=str(draws.pick(MODULI)))
    helpers: list[str] = []
    pool = JAVA_HELPERS if is_java else CPP_HELPERS
    for helper in draws.some(pool, draws.below(len(pool))):
        helpers += [*_fill(helper, own).split("\n"), ""]

    if is_java:
        read = [f"int {n} = in.nextInt(), {k} = in.nextInt();", f"long[] {a} = new long[{n}];"]
        read.append(f"for (int c = 0; c < {n}; c++) {a}[c] = in.nextLong();")
        program = [*read, *body, f"System.out.println({result});"]
        method = [f"static void {solve}(Scanner in) {{", *_indented(program), "}", ""]
        loop = "int cases = in.nextInt();" if statement.many else "int cases = 1;"
        main = ["Scanner in = new Scanner(System.in);", loop, f"while (cases-- > 0) {solve}(in);"]
        method += ["public static void main(String[] args) {", *_indented(main), "}"]
        lines = [
            "import java.util.*;",
            "",
            "public class Main {",
            *_indented(helpers + method),
            "}",
        ]
        return [line.rstrip(" ") for line in lines]

    lines = ["#include <bits/stdc++.h>"]
    if draws.chance(40):
        lines = [f"#include <{name}>" for name in ("algorithm", "cstdio", "iostream", "vector")]
    lines += ["using namespace std;", "", *helpers]
    read = [f"int {n}, {k};", f"cin >> {n} >> {k};", f"vector<long long> {a}({n});"]
    read.append(f"for (auto &c : {a}) cin >> c;")
    program = [*read, *body, f"cout << {result} << {draws.pick(('endl', repr(chr(10))))};"]
    lines += [f"void {solve}() {{", *_indented(program), "}", "", "int main() {"]
    if draws.chance(60):
        lines += ["    ios_base::sync_with_stdio(false);", "    cin.tie(nullptr);"]
    lines.append("    int cases = 1;")
    if statement.many:
        lines.append("    cin >> cases;")
    lines += [f"    while (cases--) {solve}();", "    return 0;", "}"]
    return [line.rstrip(" ") for line in lines]


REPOSITORY = SampleRepository("dataset", "deepmind/code_contests", 2, build)
