"""Bringing manifests of the version before into the form of this one, from the bytes alone.

The version before had the hashes of pieces (of a checkpoint's tensors, of a large file's parts) in
the manifest itself, where the content hash did not cover them. Here every byte is read once more,
compared with what the old manifest says, and hashed in pieces on the way; ``pieces.json`` and the
new manifest are then committed like any artifact. The files themselves are only linked. Nothing is
converted or fetched again; the documents, which are made of manifests alone, are made again.

A new content hash of an upstream artifact replaces the old one in the manifests of what was made
from it, where that is the content it was made from. What made an artifact stays unknown where its
manifest does not prove it: of raw files it does, and a document is made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wmtp_assets.base.child import Run, call
from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, StoreError, WmtpError
from wmtp_assets.base.progress import Progress, Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints.safetensors_file import Header, describe_tensors, read_header
from wmtp_assets.kinds.registry import kind_of
from wmtp_assets.kinds.staleness import made_otherwise
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import is_committed
from wmtp_assets.rules.findings import as_text, differences, stated, stated_as
from wmtp_assets.storage import files, pieces
from wmtp_assets.storage.manifest import Document, FileRecord, Manifest, content_sha256
from wmtp_assets.storage.pieces import Cut, Parts, Tensors
from wmtp_assets.storage.store import Store, materialize_command, repair_command

State = Literal[
    "migrated",
    "made again",
    "to be migrated",
    "to be made again",
    "nothing to migrate",
    "absent",
    "not migrated",
]


@dataclass(frozen=True)
class Migration:
    """What became of one artifact.

    Attributes:
        problem: why it was not migrated, and what to do.
        note: what is still not known, and how it could be.
    """

    artifact: str
    state: State
    problem: str = ""
    note: str = ""


def migrate(
    store: Store,
    artifacts: Iterable[Artifact],
    say: Say = silent,
    run: Run = call,
    *,
    dry_run: bool = False,
) -> Iterator[Migration]:
    """Migrate artifacts, upstream first, and say of each what was done.

    Args:
        run: where documents are made again.
        dry_run: read and compare everything, and write nothing.
    """
    planned: dict[str, str] = {}
    for artifact in artifacts:
        try:
            state = _migrate(store, artifact, planned, say, run, dry_run)
            yield Migration(artifact.key, state, note=_not_known(store, artifact, state))
        except WmtpError as error:
            yield Migration(artifact.key, "not migrated", str(error))


def _not_known(store: Store, artifact: Artifact, state: State) -> str:
    """What a manifest still does not say of the making, and the command that would."""
    manifest = (
        store.find_manifest(artifact) if state in ("migrated", "nothing to migrate") else None
    )
    differing = made_otherwise(store, artifact, manifest) if manifest else ()
    not_said = [place for place, _, old in differing if old is None]
    if not not_said:
        return ""
    again = materialize_command(artifact.key)
    return f"nothing says {', '.join(not_said)}; to be sure, have it made again: {again}"


def _proven(store: Store, artifact: Artifact, manifest: Manifest) -> Document | None:
    """What made an artifact, where its manifest does not say so and proves it nevertheless."""
    kind = kind_of(artifact)
    now = kind.made_with(store, artifact)
    is_proven = {*now["settings"]} <= {*kind.proven(artifact, manifest)}
    return now if manifest.made_with is None and kind.version == 1 and is_proven else None


def _migrate(
    store: Store,
    artifact: Artifact,
    planned: dict[str, str],
    say: Say,
    run: Run,
    dry_run: bool,
) -> State:
    """Migrate one artifact.

    Args:
        planned: content hashes that artifacts would have had this not been a dry run.
    """
    store.recover(artifact, say)
    if not is_committed(store, artifact):
        return "absent"
    try:
        manifest = store.manifest(artifact)
    except CorruptArtifact as error:
        raise CorruptArtifact(f"{error}. Repair it with: {repair_command(artifact.key)}") from error
    upstream = _upstream_now(store, artifact, manifest, planned)
    has_pieces = pieces.described_before(manifest.document) or any(
        record.size > files.PART for record in manifest.files.values()
    )
    is_old = has_pieces and artifact.pieces not in manifest.files
    made_with = _proven(store, artifact, manifest)
    is_unknown = manifest.made_with is None and artifact.is_generated
    is_same = upstream == manifest.document.get("upstream", {})
    if not (is_old or is_unknown or made_with) and is_same:
        return "nothing to migrate"
    if artifact.is_generated:
        if not dry_run:
            materialize(store, artifact, say, run=run)
        return "to be made again" if dry_run else "made again"
    cuts = prove(store, artifact, manifest, say)
    if dry_run:
        if is_old:
            data = pieces.render(cuts)
            record = FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())
            planned[artifact.key] = content_sha256({**manifest.files, artifact.pieces: record})
        return "to be migrated"
    said = {"made_with": made_with} if made_with else {}
    _write(store, artifact, manifest, cuts if is_old else {}, {"upstream": upstream} | said, say)
    return "migrated"


def _upstream_now(
    store: Store, artifact: Artifact, manifest: Manifest, planned: Mapping[str, str]
) -> Any:
    """What the manifest says it was made from, with the content hashes of migrated artifacts.

    One that was made from other content than is there says so still.
    """
    made_from = stated_as(dict, manifest.document, "upstream") or {}
    now = dict(made_from)
    for key in made_from.keys() & {*artifact.upstream}:
        upstream = store.catalogue[key]
        there = store.find_manifest(upstream)  # what is wrong is said where that one is migrated
        if there and made_from[key] == pieces.content_before(there, upstream.pieces):
            now[key] = planned.get(key) or there.content_sha256
    return now


def prove(
    store: Store, artifact: Artifact, manifest: Manifest, say: Say = silent
) -> dict[str, Cut]:
    """Read every byte of an artifact and compare it with a manifest of the version before.

    Returns:
        The files that have several pieces, with the hashes that were found.

    Raises:
        CorruptArtifact: naming the file, if it is not the committed one, or if what the manifest
            says about its pieces is not so; and the command that helps.
    """
    has_checkpoint = stated(manifest.document, "checkpoint", "header_sha256") is not None
    checkpoint = stated(manifest.document, "files", "checkpoint") if has_checkpoint else None
    progress = Progress(f"proving {artifact.key}", manifest.size, say)
    cuts: dict[str, Cut] = {}
    found: Document = {}
    parts: dict[str, list[str]] = {}
    for name, record in manifest.files.items():
        path = store.path(artifact, name)
        try:
            header = read_header(path) if name == checkpoint else None
            sizes = (
                header.piece_sizes
                if header
                else [min(files.PART, record.size - at) for at in range(0, record.size, files.PART)]
            )
            hashes: list[str] = []
            size = path.lstat().st_size
            if size != record.size:  # none of it is read: a sparse file of any size costs nothing
                raise InvalidInput(f"it has {size} bytes, not {record.size}")
            read = files.hash_file(path, progress.advance, hashes, sizes)
        except (OSError, InvalidInput) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise CorruptArtifact(
                f"{path} cannot be read: {reason}. Repair it with: {repair_command(artifact.key)}"
            ) from error
        if read != record:
            raise CorruptArtifact(
                f"{path} is damaged: {read.size} bytes with SHA-256 {read.sha256}, but "
                f"{artifact.key} was committed with {record.size} bytes with SHA-256 "
                f"{record.sha256}. Repair it with: {repair_command(artifact.key)}"
            )
        if header:
            cuts[name], described = _checkpoint_pieces(header, hashes)
            found |= described
        elif len(hashes) > 1:
            cuts[name] = Parts(part_size=files.PART, sha256=hashes)
            parts[name] = hashes
    if has_checkpoint:
        found.setdefault("checkpoint", None)
    if "parts" in manifest.document:
        found["parts"] = {"size": files.PART, "sha256": parts}
    said = {key: manifest.document.get(key) for key in found}
    for place, expected, stated_there in differences(found, said):
        raise CorruptArtifact(
            f"{store.manifest_path(artifact)} says at {place}: {as_text(stated_there)}, but the "
            f"files, which are the committed ones, have {as_text(expected)}. To have a manifest "
            f"that is right: {materialize_command(artifact.key)}"
        )
    return cuts


def _checkpoint_pieces(header: Header, hashes: Sequence[str]) -> tuple[Tensors, Document]:
    """The pieces of a checkpoint, and how the version before described them in the manifest."""
    described = describe_tensors(header.entries)
    rows = [(e.name, e.size, sha256) for e, sha256 in zip(header.entries, hashes[1:], strict=True)]
    for name, _, sha256 in rows:
        described["tensors"][name]["sha256"] = sha256
    return (
        Tensors(header=hashes[0], tensors=rows),
        {"n_params": header.n_params, "checkpoint": {"header_sha256": hashes[0], **described}},
    )


def _write(
    store: Store,
    artifact: Artifact,
    manifest: Manifest,
    cuts: Mapping[str, Cut],
    said: Document,
    say: Say,
) -> None:
    """Commit the same files with their pieces; without any, replace the manifest alone.

    Raises:
        StoreError: if the artifact was committed anew since it was read, or the disk refuses.
    """
    description = manifest.description
    changes = {key: value for key, value in said.items() if key != "upstream" or value}
    description |= changes
    description.pop("parts", None)
    if stated(description, "checkpoint", "header_sha256") is not None:
        description["checkpoint"] = {
            "tensors": {
                name: {"dtype": row["dtype"], "shape": row["shape"]}
                for name, row in description["checkpoint"]["tensors"].items()
            }
        }
    with store.stage(artifact, say) as staged:
        if store.manifest(artifact).files != manifest.files:
            raise StoreError(
                f"{artifact.key} was not migrated: it was committed again while this ran. Run "
                f"again: wmtp migrate {artifact.key}"
            )
        if not cuts:
            store.amend(artifact, changes)
            return
        for name, record in manifest.files.items():
            staged.place(name, store.path(artifact, name), record, [])
        staged.cuts.update(cuts)
        store.commit(artifact, staged, description, say, manifest.document["created_at"])
