"""``wmtp doctor``: will it work here?"""

from __future__ import annotations

import click

from wmtp_assets.cli.common import Document, print_line, reported
from wmtp_assets.operations.doctor.examine import examine

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command()
@reported
def doctor() -> Document:
    """Look at Python, libraries, hub and token, storage root, Dagster and web server.

    Each line says what is so; a warning or an error comes with what to do. The token is never
    shown; its scope is asked of the hub with WMTP_SOURCE=hub only. Nothing is repaired.

    Exits with 1 where something will not work, else with 0.
    """
    found = []
    for condition in examine():
        found.append(condition)
        state = f"{condition.state:<8}", STYLES[condition.state]
        print_line(f"{condition.topic}: {condition.says}", state)
        if condition.remedy:
            print_line(f"        remedy: {condition.remedy}")
    return {
        "exit_code": int(any(condition.state == "error" for condition in found)),
        "conditions": found,
    }
