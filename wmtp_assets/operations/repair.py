"""Putting damaged files of an artifact right, with the bytes they were committed with.

Nothing is touched before the new bytes are there and verified; the damaged file is kept in
``<root>/.wmtp/quarantine/``. What cannot be made again as it was is reported and left alone. Where
the manifest is damaged, nothing says what was committed: it is written anew only if every file
beside it is, byte for byte, what is made now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import Any

from wmtp_assets.base.child import Run, call
from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, WmtpError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.settings import timestamp
from wmtp_assets.base.strict_json import parse_object, read_small
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.checkpoints.beside import hash_value_head
from wmtp_assets.operations.materialize import build_staged
from wmtp_assets.operations.value_head import recorded_heads
from wmtp_assets.operations.verify import exit_code, findings_of, verify
from wmtp_assets.rules.apply import ABSENT, is_committed
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage import manifest as manifests
from wmtp_assets.storage.files import has_content, hash_file
from wmtp_assets.storage.manifest import Document, Manifest
from wmtp_assets.storage.pieces import payload
from wmtp_assets.storage.scratch import remove_scratch
from wmtp_assets.storage.store import Staged, Store, materialize_command


@dataclass(frozen=True)
class Damage:
    """What the rule ``sha256`` says about an artifact.

    Attributes:
        files: the committed files that must be made again, as the manifest names them.
        manifest: None: it is damaged itself, so that nothing says what was committed.
    """

    artifact: Artifact
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
    store.require_own(artifact)
    try:
        manifest = store.manifest(artifact)
    except CorruptArtifact:
        manifest = None
    (verdict,) = verify(store, [artifact], say=say, only=["sha256"])
    own = normpath(f"{artifact.base}/{artifact.manifest}")
    if manifest is None or any(item.file == own for item in verdict.outcome.findings):
        return Damage(artifact)
    damaged = set(verdict.outcome.evidence.get("damaged", manifest.files))
    files = [n for n in manifest.files if n in damaged or store.is_through_link(artifact, n)]
    return Damage(artifact, tuple(files), manifest)


def repair_one(
    store: Store, artifact: Artifact, say: Say = silent, *, dry_run: bool = False
) -> tuple[dict[str, Any], int]:
    """Find the damage of an artifact, repair it, and apply every rule.

    Args:
        dry_run: only find the damage.

    Returns:
        What was done: ``artifact``, ``state``, ``damaged`` (files below the storage root),
        ``quarantine``, and ``findings`` or ``problem``; and the exit code.
    """
    row: dict[str, Any] = {"artifact": artifact.key, "damaged": [], "quarantine": None}
    if artifact.optional and not is_committed(store, artifact):
        return row | {"state": ABSENT}, 0
    try:
        damage = find_damage(store, artifact, say)
        names = [artifact.manifest] if damage.manifest is None else damage.files
        row["damaged"] = [f"{artifact.base}/{name}" for name in names]
        if damage.is_none:
            row["state"] = "nothing to repair"
        elif dry_run:
            return row | {"state": "damaged"}, 1
        else:
            kept = repair(store, damage, say)
            row |= {"state": "repaired", "quarantine": str(kept) if kept else None}
    except WmtpError as error:
        return row | {"state": "not repaired", "problem": str(error)}, 1
    verdicts = verify(store, [artifact], say=say)
    row["findings"] = [finding.as_row() for finding in findings_of(verdicts)]
    return row, exit_code(verdicts)


def repair(store: Store, damage: Damage, say: Say = silent, run: Run = call) -> Path | None:
    """Make damaged files again from verified upstream, or fetch them; swap them in.

    Returns:
        Where the damaged files are kept; None: they were missing.

    Raises:
        CorruptArtifact: if what is made now are other bytes than were committed, or, where the
            manifest is damaged, than lie there.
        WmtpError: if they cannot be made; in either case nothing was touched.
    """
    artifact, manifest = damage.artifact, damage.manifest
    with store.stage(artifact, say) as staged:
        try:
            revision = stated(manifest.document, "source", "revision") if manifest else None
            document = build_staged(store, artifact, staged, say, run=run, revision=revision)
        except CorruptArtifact as error:
            raise CorruptArtifact(
                f"{artifact.key} was not repaired, and nothing was touched: what it is made from "
                f"is damaged too. {error}"
            ) from error
        if manifest is None:
            _require_on_disk(store, artifact, staged)
            pieces = {artifact.pieces} & staged.files.keys()
            names: Sequence[str] = [*pieces, artifact.manifest]
            document |= _recorded(store, artifact)
            data = manifests.seal(document, staged.files, timestamp(), None)
            (staged.folder / artifact.manifest).write_bytes(data)
        else:
            names = damage.files
            _require_same(store, damage, manifest, staged)
        kept = store.replace_files(artifact, staged, names, say)
        remove_scratch(store, artifact, say)
    return kept


def _require_same(store: Store, damage: Damage, manifest: Manifest, staged: Staged) -> None:
    """The staged files have the committed bytes."""
    key = damage.artifact.key
    if store.manifest(damage.artifact).content_sha256 != manifest.content_sha256:
        raise CorruptArtifact(
            f"{key} was not repaired, and nothing was touched: it was committed again while this "
            f"ran. See what is there now: wmtp verify {key}"
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


def _require_on_disk(store: Store, artifact: Artifact, staged: Staged) -> None:
    """The files beside a damaged manifest are those that are made now.

    The hashes of their pieces follow from them, and may be missing: the version before had none.
    """
    for name, record in payload(staged.files, artifact.pieces).items():
        if not has_content(store.path(artifact, name), record):
            raise CorruptArtifact(
                f"{artifact.key} was not repaired, and nothing was touched: its manifest is "
                f"damaged, so that nothing says what was committed, and {name} is not what is made "
                f"now. To have what is made now: {materialize_command(artifact.key)}"
            )


def _recorded(store: Store, artifact: Artifact) -> Document:
    """What people recorded in a damaged manifest, where the file it is about bears it out."""
    try:
        sha256 = hash_value_head(store.path(artifact, VALUE_HEAD))
        said = parse_object(read_small(store.manifest_path(artifact)))
    except (OSError, ValueError, InvalidInput):
        return {}
    if recorded_heads(artifact, said) != {VALUE_HEAD: sha256}:
        return {}
    return {key: said[key] for key in artifact.recorded if key in said}
