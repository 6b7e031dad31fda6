"""``wmtp doctor``: will it work here?"""

from __future__ import annotations

from collections.abc import Iterable

import click

from wmtp_assets.base.settings import read_settings
from wmtp_assets.cli.common import Document, print_paragraph, progress, reported
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.doctor.examine import examine
from wmtp_assets.operations.doctor.lock_test import lock_test
from wmtp_assets.operations.doctor.machine import Condition
from wmtp_assets.storage.store import Store

WAIT = 600.0
"""Seconds that the first host of a lock test waits for the second."""

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command(short_help="Say what will work on this machine, and what will not.")
@click.option(
    "--lock-test", "is_lock_test", is_flag=True, help="Test the storage root from two hosts."
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="With --lock-test: how long the first host waits for the second; 600 if not given.",
)
@reported
def doctor(is_lock_test: bool, wait: float | None) -> Document:
    """Look at Python, libraries, hub and token, storage root, Dagster and web server.

    Each line says what is so; a warning or an error comes with what to do. The token is never
    shown; its scope is asked of the hub with WMTP_SOURCE=hub only. Nothing is repaired.

    Exits with 1 where something will not work, else with 0.

    With --lock-test, run it on two hosts at the same time, in any order. Both say whether a lock
    that one holds is refused to the other, whether each sees the other's files, how far their
    clocks are apart, and how the root is mounted. Exits with 0 where that is proven, with 1 where
    it does not hold, with 2 where no other host came.
    """
    if is_lock_test:
        store = Store(read_settings(), load_catalogue())
        with progress() as say:
            tested = lock_test(store, say, wait=WAIT if wait is None else wait)
        return {
            "exit_code": tested.exit_code,
            "conditions": _printed(tested.conditions),
        }
    if wait is not None:
        raise click.UsageError("--wait is for --lock-test")
    found = _printed(examine())
    return {
        "exit_code": int(any(condition.state == "error" for condition in found)),
        "conditions": found,
    }


def _printed(conditions: Iterable[Condition]) -> list[Condition]:
    """All conditions, each printed as it comes."""
    found = []
    for condition in conditions:
        found.append(condition)
        state = f"{condition.state:<8}", STYLES[condition.state]
        print_paragraph(f"{condition.topic}: {condition.says}", state, hanging=8)
        if condition.remedy:
            print_paragraph(f"remedy: {condition.remedy}", indent=8, hanging=2)
    return found
