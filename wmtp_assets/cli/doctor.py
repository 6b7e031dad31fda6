"""``wmtp doctor``: will it work here?"""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.console import Console
from rich.markup import escape

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import read_settings
from wmtp_assets.cli.common import json_option, print_json
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.doctor.condition import Condition, exit_code
from wmtp_assets.operations.doctor.hub import hub
from wmtp_assets.operations.doctor.machine import machine
from wmtp_assets.operations.doctor.orchestrator import instance, server
from wmtp_assets.operations.doctor.storage import storage
from wmtp_assets.storage.store import Store

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look at Python, libraries, hub and token, storage root, Dagster and web server.

    Each line says what is so; a warning or an error comes with what to do. The token is never
    shown; its scope is asked of the hub with WMTP_SOURCE=hub only. Nothing is repaired.

    Exits with 1 where something will not work, else with 0.
    """
    console = Console(soft_wrap=True)
    found = []
    for condition in _conditions():
        found.append(condition)
        if not as_json:
            _print(console, condition)
    code = exit_code(found)
    if as_json:
        print_json({"exit_code": code, "conditions": [item.as_row() for item in found]})
    context.exit(code)


def _conditions() -> Iterator[Condition]:
    yield from machine()
    try:
        settings = read_settings()
        store = Store(settings, load_catalogue())
    except SpecError as error:
        yield Condition("settings", "error", str(error), "correct the setting or the file it names")
        return
    yield from hub(store)
    yield from storage(store)
    yield instance(settings)
    yield server()


def _print(console: Console, condition: Condition) -> None:
    style = STYLES[condition.state]
    console.print(
        f"[{style}]{condition.state:<8}[/]{condition.topic}: {escape(condition.says)}",
        highlight=False,
    )
    if condition.remedy:
        console.print(f"        remedy: {escape(condition.remedy)}", highlight=False)
