"""Recording a trained value head beside a checkpoint, or that there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import SpecError
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.checkpoints.beside import files_of, forget_value_head, record_value_head
from wmtp_assets.checkpoints.params import parse_params
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage.store import Store


def set_value_head(
    store: Store, name: str, stage1_checkpoint_id: str | None, *, forget: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Record the value head of a model, or that it has none.

    Args:
        name: asset key or folder.

    Returns:
        Where it is, and what is recorded.

    Raises:
        SpecError: if no value head lies beside it.
        MissingArtifact, InvalidInput: as
            :func:`wmtp_assets.checkpoints.beside.record_value_head`.
    """
    models = [item for item in store.catalogue.select(name) if VALUE_HEAD in item.guests]
    if not models:
        raise SpecError(f"{name} is not a model that takes a value head")
    (model,) = models
    if forget:
        manifest = forget_value_head(store, model)
    else:
        manifest = record_value_head(store, model, _hidden_size(store, model), stage1_checkpoint_id)
    return store.path(model, VALUE_HEAD), manifest.document["value_head"]


def _hidden_size(store: Store, model: Artifact) -> int:
    """As ``params.json`` says, or the embedding that a class of transformers was proven to take."""
    if store.catalogue.root_of(model.spec).has_params:
        name = files_of(model).params
        return parse_params(store.read(model, name), str(store.path(model, name))).dim
    document = store.manifest(model).document
    embedding = stated(document, "architecture", "embedding")
    shape = stated(document, "checkpoint", "tensors", embedding, "shape") if embedding else None
    if not shape:
        raise SpecError(f"{model.key}: no embedding is known, whose hidden size a value head has")
    return shape[1]


def recorded_heads(artifact: Artifact, document: Any) -> dict[str, Any]:
    """The value head that a manifest records: its name beside the checkpoint, and its SHA-256.

    Args:
        document: what the manifest says; it may be none that a commit wrote.
    """
    record = stated(document, "value_head")
    is_there = VALUE_HEAD in artifact.guests and stated(record, "path") == VALUE_HEAD
    return {VALUE_HEAD: stated(record, "sha256")} if is_there else {}
