"""Making one artifact: check that upstream is there, stage, build, commit. No Dagster."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from wmtp_assets.build import Build
from wmtp_assets.errors import MissingArtifact, StoreError
from wmtp_assets.layout import Artifact
from wmtp_assets.manifest import Document, Manifest
from wmtp_assets.progress import Say, silent
from wmtp_assets.store import Store, materialize_command


def _build(build: Build, others: Sequence[Path]) -> Document:
    match build.artifact.kind:
        case "raw":
            from wmtp_assets.hub.download import build_raw

            return build_raw(build, others)
        case "tokenizer":
            from wmtp_assets.checkpoints.tokenizer import build_tokenizer as builder
        case "safetensors":
            from wmtp_assets.checkpoints.convert import build_safetensors as builder
        case "micro":
            from wmtp_assets.checkpoints.micro import build_micro as builder
        case "processed":
            from wmtp_assets.data.process import build_processed as builder
        case "pairs":
            from wmtp_assets.data.pairs import build_pairs as builder
        case "small":
            from wmtp_assets.data.small import build_small as builder
        case "stats":
            from wmtp_assets.data.stats import build_stats as builder
        case "tests":
            from wmtp_assets.data.tests import build_tests as builder
        case "parameters":
            from wmtp_assets.checkpoints.snapshot import build_snapshot as builder
    return builder(build)


def _absent(store: Store, artifact: Artifact) -> list[Artifact]:
    """What ``artifact`` is made from and is not there."""
    upstream = [store.catalogue[key] for key in artifact.upstream]
    return [item for item in upstream if not store.manifest_path(item).is_file()]


def _missing(store: Store, artifact: Artifact) -> list[Artifact]:
    """What ``artifact`` cannot be made without and is not there."""
    absent = _absent(store, artifact)
    return [item for item in absent if artifact.optional or not item.optional]


def check_upstream(store: Store, artifact: Artifact) -> dict[str, str]:
    """Content hash of each upstream artifact that is there, by key.

    Raises:
        MissingArtifact: naming what is missing, where it was looked for, and the command that
            makes it.
        CorruptArtifact: if a manifest was changed.
    """
    missing = _missing(store, artifact)
    if missing:
        looked = "; ".join(
            f"{item.key} (looked for {store.manifest_path(item)})" for item in missing
        )
        raise MissingArtifact(
            f"{artifact.key} is made from artifacts that are not there: {looked}. "
            f"Make them, and {artifact.key}, with: "
            + materialize_command(",".join(_to_be_made(store, artifact)))
        )
    absent = {item.key for item in _absent(store, artifact)}
    return {
        key: store.manifest(store.catalogue[key]).content_sha256
        for key in artifact.upstream
        if key not in absent
    }


def _to_be_made(store: Store, artifact: Artifact) -> list[str]:
    """Keys of ``artifact`` and of everything missing that it is made from, upstream first."""
    wanted = {artifact.key}
    for item in reversed([*store.catalogue]):
        if item.key in wanted:
            wanted |= {missing.key for missing in _missing(store, item)}
    return [item.key for item in store.catalogue if item.key in wanted]


def materialize(
    store: Store, artifact: Artifact, say: Say = silent, others: Sequence[Path] = ()
) -> Manifest:
    """Make ``artifact`` from what is upstream of it, and commit it.

    Args:
        others: folders where raw files may be found, under upstream's paths.

    Raises:
        WmtpError: what is wrong, where, and what to do; the committed artifact is as before.
    """
    for item in (*(store.catalogue[key] for key in artifact.upstream), artifact):
        store.recover(item, say)
    check_upstream(store, artifact)
    with store.stage(artifact, say) as staged:
        upstream = check_upstream(store, artifact)
        document = _build(Build(store, artifact, staged, say), others)
        if check_upstream(store, artifact) != upstream:
            raise StoreError(
                f"{artifact.key} was not committed: what it is made from was committed anew "
                f"meanwhile. Run again: {materialize_command(artifact.key)}"
            )
        description = {
            "asset": artifact.key,
            "kind": artifact.kind,
            **document,
            "upstream": upstream,
        }
        manifest = store.commit(artifact, staged, description, say)
        shutil.rmtree(store.scratch(artifact), ignore_errors=True)
    return manifest
