"""When each rule was last applied to an artifact, and whether its files changed since.

One small file per rule under ``<root>/.wmtp/verified/<asset>/``. It is a memory for people, no
proof: a proof is applying the rule again.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from wmtp_assets.base.model import StrictModel
from wmtp_assets.base.settings import timestamp
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.rules.findings import Outcome, is_warning
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Store

Signature = dict[str, list[int]]
"""File → size in bytes, mtime in ns, inode."""


class LastResult(StrictModel):
    """The last result of one rule.

    Attributes:
        at: UTC time.
        content_sha256: the artifact's content it was applied to.
        problem: the first finding; empty: none, or warnings only.
        files: the files as they were then.
        damaged: those whose bytes were not the committed ones, for the rule that reads all bytes.
    """

    rule: str
    at: str
    content_sha256: str
    problem: str
    files: Signature
    damaged: tuple[str, ...] = ()


def sign(path: Path) -> list[int]:
    """What changes when a file is written: size, mtime, inode.

    Raises:
        OSError: if it is not there.
    """
    status = os.lstat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def signature(store: Store, artifact: Artifact, manifest: Manifest) -> Signature:
    """The files of an artifact as they are now; those that cannot be seen are left out."""
    found: Signature = {}
    for name in (*manifest.files, artifact.manifest):
        try:
            found[name] = sign(store.path(artifact, name))
        except OSError:
            continue
    return found


def _folder(store: Store, artifact: Artifact) -> Path:
    return store.internal / "verified" / artifact.key


def remember(
    store: Store,
    artifact: Artifact,
    manifest: Manifest,
    rule: str,
    outcome: Outcome,
    before: Signature,
) -> None:
    """Keep the result of a rule.

    Args:
        before: the files' signature taken before they were read.

    Raises:
        OSError: if it cannot be written.
    """
    result = LastResult(
        rule=rule,
        at=timestamp(),
        content_sha256=manifest.content_sha256,
        problem="" if is_warning(outcome) else str(outcome.findings[0]),
        files=before,
        damaged=tuple(outcome.evidence.get("damaged", ())),
    )
    replace_file(_folder(store, artifact) / f"{rule}.json", result.model_dump_json().encode())


def last_results(store: Store, artifact: Artifact) -> list[LastResult]:
    """What is remembered about the rules of an artifact; damaged records are left out."""
    results = []
    for path in sorted(_folder(store, artifact).glob("*.json")):
        try:
            results.append(LastResult.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError):
            continue
    return results
