"""One thing that ``wmtp doctor`` looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Condition:
    """What was looked at, how it is, and what to do.

    Attributes:
        topic: a word.
        state: ``warning``: works, but somebody should know; ``error``: something will not work.
        says: one sentence.
        remedy: the command or step that mends it; empty where it is ok.
    """

    topic: str
    state: State
    says: str
    remedy: str = ""


def exit_code(conditions: Iterable[Condition]) -> int:
    """1 where something will not work, else 0."""
    return int(any(condition.state == "error" for condition in conditions))
