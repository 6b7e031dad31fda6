"""``processed/{split}_metadata.json``: which rows belong to which problem.

As the training code reads it::

    {"problem_index_map": {problem_id: {
         "difficulty": …,                                               a number; 0: unknown
         "correct_indices": […], "incorrect_indices": […],              rows of the JSONL, from 0
         "correct_token_lengths": […], "incorrect_token_lengths": […]   tokens of output
     }, …},
     "metadata": [{"is_correct": …, "difficulty": …}, …],                a row of the JSONL each
     "stats": {"total", "correct", "incorrect", "n_problems", "n_valid_problems",
               "total_possible_pairs", "difficulty_dist"}}

``difficulty`` is upstream's number, by which training draws problems of a range;
``difficulty_dist`` counts the rows of each. A problem is valid when it has correct and incorrect
rows; each such two are a possible pair. ``metadata`` is what a loader reads that draws rows and not
problems. Where upstream does not say what is correct, a problem has ``indices`` and
``token_lengths`` instead, a row only ``difficulty``, and ``stats`` only ``total``, ``n_problems``
and ``difficulty_dist``. There is one problem per line, in ``metadata`` too, so that the file can be
written and compared without holding it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from wmtp_assets.datasets.records import encode


def problem_index_file(split: str) -> str:
    """Name of a split's problem index in the processed artifact."""
    return f"processed/{split}_metadata.json"


class ProblemIndex:
    """The bytes of a problem index, problem by problem.

    Args:
        is_labelled: whether rows say if they are correct.
    """

    def __init__(self, is_labelled: bool) -> None:
        self._is_labelled = is_labelled
        self._before = '{"problem_index_map": {'
        self._stats = Counter(
            {
                "total": 0,
                "correct": 0,
                "incorrect": 0,
                "n_problems": 0,
                "n_valid_problems": 0,
                "total_possible_pairs": 0,
            }
            if is_labelled
            else {"total": 0, "n_problems": 0}
        )
        self._difficulties = Counter[int]()
        self._runs: list[list[tuple[bool | None, int, int]]] = []

    def add(
        self,
        problem_id: str,
        difficulty: int,
        first: int,
        labels: Sequence[bool | None],
        tokens: Sequence[int],
    ) -> bytes:
        """The next problem.

        Args:
            difficulty: upstream's number of it; 0: unknown.
            first: number of its first row; the others follow.
            labels: is_correct of each row.
            tokens: of the output of each row.
        """
        entry: dict[str, object] = {"difficulty": difficulty}
        if self._is_labelled:
            rows = {
                name: [n for n, found in enumerate(labels) if found is label]
                for name, label in (("correct", True), ("incorrect", False))
            }
            entry |= {f"{name}_indices": [first + n for n in rows[name]] for name in rows}
            entry |= {f"{name}_token_lengths": [tokens[n] for n in rows[name]] for name in rows}
            right, wrong = map(len, rows.values())
            self._stats.update(
                correct=right,
                incorrect=wrong,
                n_valid_problems=1 if right and wrong else 0,
                total_possible_pairs=right * wrong,
            )
        else:
            entry["indices"] = list(range(first, first + len(labels)))
            entry["token_lengths"] = list(tokens)
        self._stats.update(total=len(labels), n_problems=1)
        self._difficulties[difficulty] += len(labels)
        # Rows of a problem that are alike are together: memory does not grow with the rows.
        self._runs.append([(key, difficulty, len([*run])) for key, run in groupby(labels)])
        before, self._before = self._before, ","
        line = encode({problem_id: entry})[1:-1]
        return f"{before}\n{line}".encode()

    def rows(self) -> Iterator[bytes]:
        """What follows the last problem: ``metadata``, piece by piece."""
        before = "" if self._stats["n_problems"] else self._before
        yield f'{before}\n}},\n"metadata": ['.encode()
        for number, problem in enumerate(self._runs):
            rows = ", ".join(
                ", ".join([self._row(label, difficulty)] * count)
                for label, difficulty, count in problem
            )
            yield f"{',' if number else ''}\n{rows}".encode()

    def _row(self, label: bool | None, difficulty: int) -> str:
        known: dict[str, object] = {"is_correct": label} if self._is_labelled else {}
        return json.dumps({**known, "difficulty": difficulty})

    def close(self) -> bytes:
        """The end."""
        counts = {str(number): self._difficulties[number] for number in sorted(self._difficulties)}
        stats = json.dumps({**self._stats, "difficulty_dist": counts})
        return f'\n],\n"stats": {stats}}}\n'.encode()
