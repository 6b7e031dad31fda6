"""What ``make test`` runs of a long table of cases: some of each kind; the rest is ``long``, and of
a very long table most is run by ``make test-full`` only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, ParamSpec, TypeVar

import pytest

from wmtp_assets_tests.faults.extent import IS_FULL

P = ParamSpec("P")
T = TypeVar("T")


def quick(cases: Iterable[T], is_quick: Callable[[T], bool] | Collection[T]) -> list[Any]:
    """All cases, as parameters; those that are not quick are marked ``long``.

    Args:
        is_quick: says which are, or lists them: each must be a case. It is not asked about those
            that have a mark already.
    """
    cases = list(cases)
    if callable(is_quick):
        chosen = [case for case in cases if not _is_marked(case) and is_quick(case)]
    else:
        chosen = [*is_quick]
    assert chosen and all(case in cases for case in chosen), chosen
    return [case if case in chosen else _long(case) for case in cases]


def thinned(cases: Iterable[T], kept: Collection[T]) -> list[Any]:
    """Cases as parameters: those that are kept; and the others where the full form is asked for,
    marked ``faults``, as ``make test-full`` runs what is so marked."""
    return [
        case if case in kept else pytest.param(*_values(case), marks=pytest.mark.faults)
        for case in cases
        if IS_FULL or case in kept
    ]


def full_only(test: Callable[P, None]) -> Callable[P, None] | None:
    """A test that ``make test-full`` runs, and nobody else: none is there otherwise."""
    return pytest.mark.faults(test) if IS_FULL else None


def first_of_each(cases: Iterable[T], group: Callable[[T], object]) -> list[T]:
    """The first case of each group."""
    return [*{group(case): case for case in reversed([*cases])}.values()]


def _long(case: Any) -> Any:
    return case if _is_marked(case) else pytest.param(*_values(case), marks=pytest.mark.long)


def _is_marked(case: Any) -> bool:
    return bool(getattr(case, "marks", ()))


def _values(case: Any) -> tuple[Any, ...]:
    return case if isinstance(case, tuple) else (case,)
