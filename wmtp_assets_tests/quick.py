"""What ``make test`` runs of a long table of cases: some of each kind; the rest is ``long``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


def quick(cases: Iterable[T], is_quick: Callable[[T], bool] | Collection[T]) -> list[Any]:
    """All cases, as parameters; those that are not quick are marked ``long``.

    Args:
        is_quick: says which are, or lists them: each must be a case.
    """
    cases = list(cases)
    chosen = [case for case in cases if is_quick(case)] if callable(is_quick) else [*is_quick]
    assert chosen and all(case in cases for case in chosen), chosen
    return [case if case in chosen else _long(case) for case in cases]


def first_of_each(cases: Iterable[T], group: Callable[[T], object]) -> list[T]:
    """The first case of each group."""
    return [*{group(case): case for case in reversed([*cases])}.values()]


def _long(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.long)
