"""Putting damaged files of an artifact right, with the bytes they were committed with.

Nothing is touched before the new bytes are there and verified; the damaged file is kept in
``<root>/.wmtp/quarantine/``. What cannot be made again as it was is reported and left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.child import Run, call
from wmtp_assets.errors import CorruptArtifact
from wmtp_assets.files import hash_file
from wmtp_assets.integrity.findings import Finding, Subject
from wmtp_assets.integrity.rules import apply_in_child, rules_of
from wmtp_assets.layout import Artifact
from wmtp_assets.manifest import Manifest
from wmtp_assets.materialize import build_staged, materialize
from wmtp_assets.progress import Say, silent
from wmtp_assets.store import Staged, Store, materialize_command


@dataclass(frozen=True)
class Damage:
    """What the rule ``sha256`` says about an artifact.

    Attributes:
        findings: all it found.
        files: the committed files that must be made again, as the manifest names them.
        manifest: None: it is damaged itself, so that nothing says what was committed.
    """

    artifact: Artifact
    findings: Sequence[Finding]
    files: tuple[str, ...] = ()
    manifest: Manifest | None = None

    @property
    def is_none(self) -> bool:
        """Whether there is nothing to repair."""
        return self.manifest is not None and not self.files


def find_damage(store: Store, artifact: Artifact, say: Say = silent) -> Damage:
    """Read every byte of an artifact.

    Raises:
        MissingArtifact: if it was never committed.
    """
    store.recover(artifact, say)
    try:
        manifest = store.manifest(artifact)
    except CorruptArtifact:
        manifest = None
    (rule,) = (rule for rule in rules_of(artifact) if rule.name == "sha256")
    findings = apply_in_child(rule, store, artifact, say).findings
    if manifest is None:
        return Damage(artifact, findings)
    subject = Subject(store, artifact, manifest)
    named = {finding.file for finding in findings}
    if subject.file(artifact.manifest) in named:
        return Damage(artifact, findings)
    files = tuple(name for name in manifest.files if subject.file(name) in named)
    return Damage(artifact, findings, files, manifest)


def repair(store: Store, damage: Damage, say: Say = silent, run: Run = call) -> Path | None:
    """Make damaged files again from verified upstream, or fetch them; swap them in.

    Where the manifest is damaged, the artifact is made and committed as a whole.

    Returns:
        Where the damaged files are kept.

    Raises:
        CorruptArtifact: if what is made now are other bytes than were committed.
        WmtpError: if they cannot be made; in either case nothing was touched.
    """
    artifact, manifest = damage.artifact, damage.manifest
    if manifest is None:
        materialize(store, artifact, say, run=run)
        return store.previous(artifact)
    with store.stage(artifact, say) as staged:
        try:
            build_staged(store, artifact, staged, say, run=run)
        except CorruptArtifact as error:
            raise CorruptArtifact(
                f"{artifact.key} was not repaired, and nothing was touched: what it is made from "
                f"is damaged too. {error}"
            ) from error
        _require_same(store, damage, manifest, staged)
        return store.replace_files(artifact, staged, damage.files, say)


def _require_same(store: Store, damage: Damage, manifest: Manifest, staged: Staged) -> None:
    key = damage.artifact.key
    if store.manifest(damage.artifact).content_sha256 != manifest.content_sha256:
        raise CorruptArtifact(
            f"{key} was not repaired, and nothing was touched: it was committed anew meanwhile. "
            f"See what is there now: wmtp verify {key}"
        )
    for name in damage.files:
        made, committed = staged.files.get(name), manifest.files[name]
        if made == committed:
            made = hash_file(staged.folder / name)
        if made != committed:
            raise CorruptArtifact(
                f"{key} was not repaired, and nothing was touched: {name} was committed with "
                f"SHA-256 {committed.sha256}, but what is made now has "
                f"{made.sha256 if made else 'no such file'}. Upstream or the code changed since; "
                f"to have what is made now: {materialize_command(key)}"
            )
