"""When each rule was last applied to an artifact, and whether its files changed since.

One small file per rule under ``<root>/.wmtp/verified/<asset>/``. It is a memory for people, no
proof: a proof is applying the rule again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.integrity.findings import Outcome
from wmtp_assets.layout import Artifact
from wmtp_assets.manifest import Manifest
from wmtp_assets.store import Store, replace_file, timestamp

Signature = dict[str, list[int]]
"""File → size in bytes, mtime in ns, inode."""


@dataclass(frozen=True)
class LastResult:
    """The last result of one rule.

    Attributes:
        at: UTC time.
        content_sha256: the artifact's content it was applied to.
        problem: the first finding; empty: none.
        files: the files as they were then.
    """

    rule: str
    at: str
    content_sha256: str
    problem: str
    files: Signature


def signature(store: Store, artifact: Artifact, manifest: Manifest) -> Signature:
    """The files of an artifact as they are now; those that are missing are left out."""
    found: Signature = {}
    for name in (*manifest.files, artifact.manifest):
        try:
            status = os.lstat(store.path(artifact, name))
        except (FileNotFoundError, NotADirectoryError):
            continue
        found[name] = [status.st_size, status.st_mtime_ns, status.st_ino]
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
    """
    entry = {
        "at": timestamp(),
        "content_sha256": manifest.content_sha256,
        "problem": str(outcome.findings[0]) if outcome.findings else "",
        "files": before,
    }
    replace_file(_folder(store, artifact) / f"{rule}.json", json.dumps(entry).encode())


def last_results(store: Store, artifact: Artifact) -> list[LastResult]:
    """What is remembered about the rules of an artifact."""
    results = []
    for path in sorted(_folder(store, artifact).glob("*.json")):
        try:
            entry = json.loads(path.read_bytes())
            results.append(
                LastResult(
                    path.stem,
                    entry["at"],
                    entry["content_sha256"],
                    entry["problem"],
                    entry["files"],
                )
            )
        except (ValueError, KeyError, TypeError):
            path.unlink()
    return results
