"""Approving the completion report: what is refused, and how an approval is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.model import first_problem
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.settings import timestamp
from wmtp_assets.documents.document import facts_now
from wmtp_assets.documents.of_storage.report import (
    DOCUMENT,
    Approval,
    Role,
    body,
    body_sha256,
    checklist,
    parse_approvals,
)
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store, materialize_command


def approve(
    store: Store, by: str, role: str, note: str = "", say: Say = silent
) -> tuple[Path, Approval]:
    """Record that somebody approved the completion report, and show it there.

    Args:
        role: as what: one of :data:`wmtp_assets.documents.of_storage.report.Role`.

    Returns:
        Where the report is, and what is recorded.

    Raises:
        MissingArtifact: if the report, or what it is about, is not there.
        InvalidInput: for a name or note that is none, for an unknown role, if the report is not the
            one that would be made now, or if an item has not passed and no note says why it is
            approved.
    """
    report = next(item for item in store.catalogue if DOCUMENT.file in item.owns)
    path = store.path(report, DOCUMENT.file)
    if role not in get_args(Role):
        raise InvalidInput(
            f"--role: {role!r} is not a role in which a report is approved; those are: "
            + ", ".join(get_args(Role))
        )
    with store.lock("approve", say):
        facts = facts_now(store, report, rules_of, say)
        if store.read(report, DOCUMENT.file) != DOCUMENT.make(facts):
            raise InvalidInput(
                f"{path} is not the report that is made now: artifacts changed "
                "or rules were applied since. Make it, read it, and approve that: "
                + materialize_command(report.key)
            )
        states = checklist(facts).items()
        open_items = [f"{item} ({state})" for item, state in states if state != "passed"]
        if open_items and not note:
            raise InvalidInput(
                f"{path}: not every item has passed: {', '.join(open_items)}. "
                "Run wmtp verify and make the report again, or say with --note why it is approved"
            )
        try:
            approval = Approval.model_validate(
                {
                    "by": by,
                    "role": role,
                    "at": timestamp(),
                    "sha256": body_sha256(body(facts)),
                    "note": note,
                }
            )
        except ValidationError as error:
            raise InvalidInput(f"--{first_problem(error)}; give plain text on one line") from error
        said = store.manifest(report).document
        before = parse_approvals(said, str(store.manifest_path(report)))
        store.amend(report, {"approvals": [item.model_dump() for item in (*before, approval)]})
        materialize(store, report, say)
    return path, approval
