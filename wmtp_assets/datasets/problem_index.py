"""``processed/{split}_metadata.json``: which rows belong to which problem.

As the training code reads it::

    {"problem_index_map": {problem_id: {
         "difficulty": …,
         "correct_indices": […], "incorrect_indices": […],              rows of the JSONL, from 0
         "correct_token_lengths": […], "incorrect_token_lengths": […]   tokens of output
     }, …},
     "stats": {"total", "correct", "incorrect", "n_problems", "n_valid_problems",
               "total_possible_pairs"}}

A problem is valid when it has correct and incorrect rows; each such two are a possible pair. Where
upstream does not say what is correct, a problem has ``indices`` and ``token_lengths`` instead, and
``stats`` only ``total`` and ``n_problems``. There is a problem a line, so that the file can be
written and compared without holding it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence


def problem_index_file(split: str) -> str:
    """Name of a split's problem index in the processed artifact."""
    return f"processed/{split}_metadata.json"


class ProblemIndex:
    """Writes a problem index, problem by problem.

    Args:
        write: takes the bytes.
        is_labelled: whether rows say if they are correct.
    """

    def __init__(self, write: Callable[[bytes], object], is_labelled: bool) -> None:
        self._write, self._is_labelled = write, is_labelled
        self._problems = self._valid = self._pairs = 0
        self._correct = self._total = 0
        write(b'{"problem_index_map": {')

    def add(
        self,
        problem_id: str,
        difficulty: str,
        first: int,
        labels: Sequence[bool | None],
        tokens: Sequence[int],
    ) -> None:
        """Write the next problem.

        Args:
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
            self._correct += right
            self._pairs += right * wrong
            self._valid += bool(right and wrong)
        else:
            entry["indices"] = list(range(first, first + len(labels)))
            entry["token_lengths"] = list(tokens)
        comma = b"," if self._problems else b""
        key = json.dumps(problem_id, ensure_ascii=False)
        self._write(comma + f"\n{key}: {json.dumps(entry, ensure_ascii=False)}".encode())
        self._problems += 1
        self._total += len(labels)

    def close(self) -> None:
        """Write the end."""
        stats: dict[str, int] = {"total": self._total, "n_problems": self._problems}
        if self._is_labelled:
            stats = {
                "total": self._total,
                "correct": self._correct,
                "incorrect": self._total - self._correct,
                "n_problems": self._problems,
                "n_valid_problems": self._valid,
                "total_possible_pairs": self._pairs,
            }
        self._write(f'\n}},\n"stats": {json.dumps(stats)}}}\n'.encode())
