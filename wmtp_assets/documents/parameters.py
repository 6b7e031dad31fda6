"""``configs/defaults.yaml``: the parameters of every model that is there, in one file.

The training repository copies it. Nothing in it is written by hand: each model's parameters are its
``meta_adapter.yaml``, and the rest is its ``metadata.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wmtp_assets.base.yaml_file import read_yaml
from wmtp_assets.checkpoints.beside import files_of, yaml_bytes
from wmtp_assets.documents.document import DocumentType, Facts

_TAKEN_OVER = ("tokenizer_shared_with", "n_params", "status", "target_device")
"""Keys of ``metadata.json``."""

_HEADING = b"# Made by wmtp_assets from the checkpoints; do not edit, it is made again.\n"


def parameters(facts: Facts) -> bytes:
    """The document: for each model its path below the root, tokenizer, size and parameters."""
    models: dict[str, Mapping[str, Any]] = {}
    for fact in facts.there:
        model, files = fact.artifact, files_of(fact.artifact)
        catalogue = facts.store.catalogue
        if not catalogue.root_of(model.spec).has_params:  # it has no meta_adapter.yaml
            continue
        variant = model.base.removeprefix(model.unit).replace("/safetensors", "")
        facts.read(model, files.adapter)  # verified, before it is parsed
        models[f"{model.spec.folder}{variant}"] = {
            "checkpoint": f"{model.base}/{files.checkpoint}",
            "tokenizer": f"{model.unit}/tokenizer/{catalogue.tokenizer_name(model.spec)}",
            **{key: fact.stated(key) for key in _TAKEN_OVER},
            "parameters": read_yaml(facts.store.path(model, files.adapter)),
        }
    return _HEADING + yaml_bytes({"models": models})


DOCUMENT = DocumentType(
    "defaults.yaml",
    parameters,
    kind="parameters",
    remember=lambda facts, rules_of, say: {"models": [fact.key for fact in facts.there]},
)
