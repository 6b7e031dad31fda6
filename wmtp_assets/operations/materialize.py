"""Making one artifact: check that upstream is there, stage, build, commit. No Dagster."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmtp_assets.base.child import ChildDied, Run, allowance, call
from wmtp_assets.base.errors import InvalidInput, MissingArtifact, StoreError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact, Catalogue
from wmtp_assets.kinds.registry import kind_of
from wmtp_assets.kinds.staleness import Reason, reasons
from wmtp_assets.storage.build import Build, InStore
from wmtp_assets.storage.files import open_regular, replace_file
from wmtp_assets.storage.manifest import Document, FileRecord, Manifest
from wmtp_assets.storage.record import sign
from wmtp_assets.storage.scratch import remove_scratch
from wmtp_assets.storage.store import Staged, Store, materialize_command


def _build(build: Build[Any], run: Run) -> Document:
    """Build what is downloaded in this process, and what parses files where ``run`` says."""
    kind, staged = kind_of(build.artifact), build.staged
    if not kind.is_parsed:
        return kind.build(build)
    try:
        document, files = run(
            _parse_and_build,
            build.store,
            build.artifact,
            staged.folder,
            say=build.say,
            cpu=allowance(build.store.size_with_upstream(build.artifact)),
        )
    except ChildDied as error:
        raise InvalidInput(
            f"{build.artifact.key} was not made: {error}. {_hostile(build.artifact)}"
        ) from error
    staged.files.update(files)
    return document


def _hostile(artifact: Artifact[Any]) -> str:
    """What a dead child process says about a file."""
    return (
        "If nothing else took the process's memory, that file is hostile or damaged: wmtp verify "
        f"{artifact.spec.folder}"
    )


def _parse_and_build(
    store: Store, artifact: Artifact[Any], folder: Path, say: Say
) -> tuple[Document, dict[str, FileRecord]]:
    """Build into a staging folder; what the manifest will say, and the files with their hashes."""
    staged = Staged(folder)
    document = kind_of(artifact).build(Build(store, artifact, staged, say))
    staged.write_pieces(artifact.pieces)
    return document, staged.files


def _missing(store: Store, artifact: Artifact) -> list[Artifact]:
    """What ``artifact`` cannot be made without and is not there."""
    upstream = [store.catalogue[key] for key in artifact.upstream]
    needed = [item for item in upstream if artifact.optional or not item.optional]
    return [item for item in needed if not store.manifest_path(item).is_file()]


def check_upstream(store: Store, artifact: Artifact, say: Say = silent) -> dict[str, str]:
    """Content hash of each upstream artifact that is there, by key.

    One whose commit was cut off is completed first.

    Raises:
        MissingArtifact: naming what is missing, where it was looked for, and the command that
            makes it.
        CorruptArtifact: if a manifest was changed.
    """
    for key in artifact.upstream:
        store.recover(store.catalogue[key], say)
    missing = _missing(store, artifact)
    if missing:
        looked = [f"{item.key} (looked for {store.manifest_path(item)})" for item in missing]
        raise MissingArtifact(
            f"{artifact.key} is made from artifacts that are not there: {'; '.join(looked)}. "
            f"Make them, and {artifact.key}, with: "
            + materialize_command(",".join(to_be_made(store, artifact)))
        )
    return {
        key: store.manifest(store.catalogue[key]).content_sha256
        for key in artifact.upstream
        if store.manifest_path(store.catalogue[key]).is_file()
    }


def is_alone(catalogue: Catalogue, artifact: Artifact, wanted: Collection[str]) -> bool:
    """Whether nothing is wanted that is made from ``artifact``, among the keys ``wanted``."""
    return not any(artifact.key in catalogue[key].upstream for key in wanted if key in catalogue)


def to_be_made(store: Store, artifact: Artifact) -> list[str]:
    """Keys of ``artifact`` and of everything missing that it is made from, upstream first."""
    wanted = {artifact.key}
    for item in reversed([*store.catalogue]):
        if item.key in wanted:
            wanted |= {missing.key for missing in _missing(store, item)}
    return [item.key for item in store.catalogue if item.key in wanted]


def materialize(
    store: Store,
    artifact: Artifact,
    say: Say = silent,
    others: Sequence[Path] = (),
    run: Run = call,
    *,
    alone: bool = False,
) -> Manifest:
    """Make ``artifact`` from what is upstream of it, and commit it.

    Args:
        others: folders where raw files may be found, under upstream's paths.
        run: where builders run that parse files: in the child process, or ``directly``.
        alone: nothing that is made from it is wanted now: raw files are downloaded also where that
            would be refused.

    Raises:
        WmtpError: what is wrong, where, and what to do; the committed artifact is as before.
    """
    store.recover(artifact, say)
    check_upstream(store, artifact, say)
    with store.stage(artifact, say) as staged:
        return _make(store, artifact, staged, say, others, run, alone)


def _make(
    store: Store,
    artifact: Artifact,
    staged: Staged,
    say: Say,
    others: Sequence[Path],
    run: Run,
    alone: bool,
) -> Manifest:
    """Build into a staging folder, and commit."""
    description = build_staged(store, artifact, staged, say, others, run, alone=alone)
    manifest = store.commit(artifact, staged, description, say)
    copy_to_root(store, artifact)
    with store.linking([artifact], say):
        remove_scratch(store, artifact, say)
    return manifest


@dataclass(frozen=True)
class Updated:
    """What became of an artifact that was wanted.

    Attributes:
        is_made: False: it is what would have been made, and was left as it is.
        reasons: why it was made; empty where it was not, or nobody asked for a reason.
    """

    manifest: Manifest
    is_made: bool
    reasons: tuple[Reason, ...] = ()


def update(
    store: Store,
    artifact: Artifact,
    say: Say = silent,
    run: Run = call,
    *,
    force: bool = False,
    alone: bool = False,
) -> Updated:
    """Make ``artifact``, unless it is what would be made now: then nothing below the root is
    written but what is remembered in ``.wmtp/``, and copies at the root that are not right.

    Where another process makes it at the same time, it is not made a second time.

    Args:
        run, alone: as :func:`materialize`.
        force: make it in any case.

    Raises:
        WmtpError: as :func:`materialize`.
    """
    for key in (*artifact.upstream, artifact.key):
        store.recover(store.catalogue[key], say)
    if force:
        return Updated(materialize(store, artifact, say, run=run, alone=alone), is_made=True)
    before = sign(store.manifest_path(artifact))
    found = reasons(store, artifact, say)
    if found:
        check_upstream(store, artifact, say)
        with store.stage(artifact, say) as staged:
            if sign(store.manifest_path(artifact)) != before:  # while the lock was waited for
                found = reasons(store, artifact, say)
            if found:
                for reason in found:
                    say(f"{artifact.key}: {reason}")
                made = _make(store, artifact, staged, say, (), run, alone)
                return Updated(made, is_made=True, reasons=(*found,))
    copy_to_root(store, artifact)
    if kind_of(artifact).sharing is not None:  # steps of this run may have begun before the other's
        remove_scratch(store, artifact, say)
    return Updated(store.manifest(artifact), is_made=False)


def share(
    store: Store,
    artifact: Artifact,
    say: Say = silent,
    run: Run = call,
    *,
    force: bool = False,
    of_run: str = "",
) -> None:
    """Do of the work of making ``artifact`` what no other process does; :func:`update` then finds
    it done. Nothing is done where the artifact is what would be made now.

    Args:
        run, force: as :func:`update`.
        of_run: names the run that the step is of: what failed in another step of it is left.

    Raises:
        WmtpError: as :func:`materialize`.
        ValueError: if artifacts of its kind are made in one step.
    """
    sharing = kind_of(artifact).sharing
    if sharing is None:
        raise ValueError(f"{artifact.key} is made in one step")
    for key in (*artifact.upstream, artifact.key):
        store.recover(store.catalogue[key], say)
    with store.lock(f"{artifact.key}/reasons", say):  # the first hashes what must be
        found = force or reasons(store, artifact, say)
    if not found:
        say(f"{artifact.key}: it is what would be made now")
        return
    check_upstream(store, artifact, say)
    store.require_place(artifact)
    store.claim()
    try:
        run(_parse_and_share, store, artifact, of_run, say=say)
    except ChildDied as error:
        raise InvalidInput(f"{artifact.key} was not made: {error}. {_hostile(artifact)}") from error


def _parse_and_share(store: Store, artifact: Artifact[Any], of_run: str, say: Say) -> None:
    sharing = kind_of(artifact).sharing
    assert sharing is not None
    sharing.work(InStore(store, artifact), say, of_run)


def copy_to_root(store: Store, artifact: Artifact) -> None:
    """Copy the files that people look for at the root, where the copies there are others.

    Raises:
        StoreError: naming what is in the way.
        MissingArtifact, CorruptArtifact: as :meth:`Store.read`.
    """
    for name in artifact.copied:
        data, path = store.read(artifact, name), store.root / name
        try:
            with open_regular(path) as file:
                is_same = file.read(len(data) + 1) == data
        except OSError:
            is_same = False
        if not is_same:
            store.require_place(artifact)
            replace_file(path, data)


def build_staged(
    store: Store,
    artifact: Artifact,
    staged: Staged,
    say: Say = silent,
    others: Sequence[Path] = (),
    run: Run = call,
    revision: str | None = None,
    *,
    alone: bool = False,
) -> Document:
    """Build ``artifact`` into a staging folder; return what its manifest will say.

    Args, Raises: as :func:`materialize`.
        revision: upstream's commit, where it must not be the one that the pin says now.
    """
    upstream = check_upstream(store, artifact, say)
    document = _build(Build(store, artifact, staged, say, revision, others, alone), run)
    staged.write_pieces(artifact.pieces)
    if check_upstream(store, artifact, say) != upstream:
        raise StoreError(
            f"{artifact.key} was not committed: what it is made from was committed again "
            f"while this ran. Run again: {materialize_command(artifact.key)}"
        )
    return {
        "asset": artifact.key,
        "kind": artifact.kind,
        **document,
        "made_with": kind_of(artifact).made_with(store, artifact),
        "upstream": upstream,
    }
