"""What checkpoints of both kinds show in the web UI; no kind of its own."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints.families import FAMILIES
from wmtp_assets.checkpoints.safetensors_file import DTYPE_CODES, ITEM_SIZE
from wmtp_assets.documents.pictures import parts
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Store


def tensor_bytes(tensor: Document) -> int:
    """Bytes of a tensor that a manifest describes."""
    return prod(tensor["shape"]) * ITEM_SIZE[DTYPE_CODES[tensor["dtype"]]]


def pictures(
    store: Store, artifact: Artifact[Any], document: Document
) -> Iterable[tuple[str, bytes]]:
    """Bytes by part of the model."""
    family = FAMILIES[store.catalogue.family(artifact.spec)]
    tensors = document["checkpoint"]["tensors"]
    yield "size_by_part", parts(family, {name: tensor_bytes(tensors[name]) for name in tensors})
