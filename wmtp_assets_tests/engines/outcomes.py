"""What happens when something dies: a table of ``docs/clusters.md``, written from the tests.

``python -m wmtp_assets_tests.engines.outcomes`` writes it. What a row says of the run and of the
attempts is what its test compares.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from wmtp_assets_tests.engines.site import Site

PAGE = Path(__file__).parents[2] / "docs/clusters.md"
BEGIN, END = "<!-- outcomes: generated -->\n", "<!-- outcomes end -->\n"
MODULES = ("test_slurm", "test_ray")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Outcome:
    """A row.

    Attributes:
        what: happens.
        how: it was done: on which engine, by what, on one host or in namespaces.
        run: its status at the end.
        again: how often a step was started again.
        then: what else is so, in words.
    """

    what: str
    how: str
    run: str
    again: int
    then: str

    def holds(self, site: Site, run: str) -> None:
        """Compare the row with a run that has ended."""
        failures = site.events(run, dg.DagsterEventType.STEP_FAILURE)
        assert site.status(run) == self.run, failures + site.events(
            run, dg.DagsterEventType.RUN_FAILURE
        )
        assert len(site.events(run, dg.DagsterEventType.STEP_UP_FOR_RETRY)) == self.again


def outcome(what: str, how: str, run: str, again: int, then: str) -> Callable[[F], F]:
    """Give a test its row; :func:`row_of` has it."""

    def mark(test: F) -> F:
        test.outcome = Outcome(what, how, run, again, then)  # type: ignore[attr-defined]
        return test

    return mark


def rows() -> dict[str, Outcome]:
    """Test → row, in the order of the modules."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(f"wmtp_assets_tests.engines.{name}")
        for test, value in vars(module).items():
            if test.startswith("test_") and hasattr(value, "outcome"):
                found[f"engines/{name}.py::{test}"] = value.outcome
    return found


def table() -> str:
    """The table, in Markdown."""
    lines = [
        "| what happens | how it was done | run | started again | and | test |",
        "|---" * 6 + "|",
    ]
    for test, row in rows().items():
        again = {0: "no", 1: "once"}.get(row.again, f"{row.again} times")
        lines.append(f"| {row.what} | {row.how} | {row.run} | {again} | {row.then} | `{test}` |")
    return "".join(f"{line}\n" for line in lines)


def page_with_table(page: str) -> str:
    """A page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
    print(f"written: {PAGE.name}")
