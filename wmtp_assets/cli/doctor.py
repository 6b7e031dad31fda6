"""``wmtp doctor``: will it work here?"""

from __future__ import annotations

import click

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import read_settings
from wmtp_assets.cli.common import json_option, print_json, print_line
from wmtp_assets.operations.doctor.condition import Condition, exit_code
from wmtp_assets.operations.doctor.examine import examine

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
    found = []
    for condition in examine():
        found.append(condition)
        if not as_json:
            _print(condition)
    code = exit_code(found)
    if as_json:
        try:
            settings = read_settings()
        except SpecError:
            settings = None
        print_json(settings, exit_code=code, conditions=found)
    context.exit(code)


def _print(condition: Condition) -> None:
    state = f"{condition.state:<8}", STYLES[condition.state]
    print_line(f"{condition.topic}: {condition.says}", state)
    if condition.remedy:
        print_line(f"        remedy: {condition.remedy}")
