"""``wmtp approve``: record that somebody approved the completion report."""

from __future__ import annotations

from typing import get_args

import click

from wmtp_assets.cli.common import Document, over_store, print_line
from wmtp_assets.documents.of_storage.report import Role
from wmtp_assets.operations.approve import approve as record_approval
from wmtp_assets.storage.store import Store


@click.command()
@click.option("--by", required=True, metavar="NAME", help="Who approves it.")
@click.option(
    "--role",
    required=True,
    metavar="ROLE",
    type=click.Choice(get_args(Role)),
    help=f"As what: {' or '.join(get_args(Role))}.",
)
@click.option("--note", default="", help="Why it is approved although not every item has passed.")
@over_store
def approve(store: Store, by: str, role: str, note: str) -> Document:
    """Approve docs/phase1_completion_report.md as it is now.

    Name, role, UTC time and the SHA-256 of the report without its approvals are recorded, and shown
    in the report. When it changes later, they are shown as those of an earlier state. It is refused
    when the report is not the one that would be made now, and, without a note, when an item of the
    checklist failed or was not verified.
    """
    path, approval = record_approval(store, by, role, note)
    print_line(
        f"{path}: approved by {approval.by} as {approval.role} at {approval.at}, "
        f"SHA-256 {approval.sha256}"
    )
    return approval.model_dump()
