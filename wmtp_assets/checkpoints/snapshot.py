"""``configs/defaults.yaml``: the parameters of every model that is there, in one file.

The training repository copies it. Nothing in it is written by hand: each model's parameters are its
``meta_adapter.yaml``, and the rest is its ``metadata.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import SnapshotSpec
from wmtp_assets.checkpoints.configs import files_of, yaml_bytes
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Store

DEFAULTS = "defaults.yaml"

_TAKEN_OVER = ("tokenizer_shared_with", "n_params", "status", "target_device")
"""Keys of ``metadata.json``."""

_HEADING = b"# Made by wmtp_assets from the checkpoints; do not edit, it is made again.\n"


def models_there(store: Store, snapshot: Artifact) -> list[Artifact]:
    """The checkpoints, in the order of the graph, that are committed."""
    upstream = (store.catalogue[key] for key in snapshot.upstream)
    return [item for item in upstream if store.manifest_path(item).is_file()]


def defaults_bytes(
    store: Store, snapshot: Artifact, read: Callable[[Artifact, str], bytes]
) -> bytes:
    """``defaults.yaml``: for each model its path below the root, tokenizer, size and parameters.

    Args:
        read: reads a file of a checkpoint artifact, and checks it.
    """
    models: dict[str, Mapping[str, Any]] = {}
    for model in models_there(store, snapshot):
        document, files = store.manifest(model).document, files_of(model)
        variant = model.base.removeprefix(model.unit).replace("/safetensors", "")
        models[f"{model.spec.folder}{variant}"] = {
            "checkpoint": f"{model.base}/{files.checkpoint}",
            "tokenizer": f"{model.unit}/tokenizer/tokenizer.model",
            **{key: document.get(key) for key in _TAKEN_OVER},
            "parameters": yaml.safe_load(read(model, files.adapter)),
        }
    return _HEADING + yaml_bytes({"models": models})


def build_snapshot(build: Build[SnapshotSpec]) -> Document:
    """Write ``defaults.yaml`` from the checkpoints that are there."""
    store, artifact = build.store, build.artifact
    build.staged.write(DEFAULTS, defaults_bytes(store, artifact, store.read))
    return {
        "name": artifact.key,
        "version": artifact.spec.version,
        "format": "yaml",
        "models": [model.key for model in models_there(store, artifact)],
    }
