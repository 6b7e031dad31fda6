"""The value head that training puts beside a checkpoint: what it must be, and how it is recorded.

``metadata.json`` says ``value_head: {path, sha256, stage1_checkpoint_id}``. A ``path`` of null
means that there is none, and that training initialises one. What is recorded survives every commit
of the checkpoint, until it is recorded anew or forgotten.
"""

from __future__ import annotations

from pathlib import Path

from wmtp_assets.base.errors import InvalidInput, MissingArtifact
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.checkpoints.safetensors_file import DTYPE_NAMES, read_header
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.manifest import Document, Manifest
from wmtp_assets.storage.store import Store

NO_VALUE_HEAD: Document = {"path": None, "stage1_checkpoint_id": None}


def check_value_head(path: Path, hidden_size: int) -> None:
    """Require one floating-point tensor of shape [hidden_size, 1].

    Raises:
        InvalidInput: naming the file and the tensor.
        OSError: if it cannot be read.
    """
    entries = read_header(path).entries
    names = ", ".join(entry.name for entry in entries[:3]) or "none"
    if len(entries) != 1:
        raise InvalidInput(f"{path}: {len(entries)} tensors ({names}), a value head is one")
    (entry,) = entries
    if entry.shape != (hidden_size, 1) or entry.dtype not in DTYPE_NAMES:
        raise InvalidInput(
            f"{path}: {entry.name} is {DTYPE_NAMES.get(entry.dtype, entry.dtype)} "
            f"{list(entry.shape)}, a value head is floating point [{hidden_size}, 1]"
        )


def record_value_head(
    store: Store, artifact: Artifact, hidden_size: int, stage1_checkpoint_id: str | None
) -> Manifest:
    """Check the value head that lies beside a checkpoint, and write its hash into the manifest.

    Raises:
        MissingArtifact: if the checkpoint, or a value head beside it, is not there.
        InvalidInput: if it is none of this model.
    """
    path = store.path(artifact, VALUE_HEAD)
    store.manifest(artifact)
    if path.is_symlink() or not path.is_file():
        raise MissingArtifact(
            f"{path} is not there, or is a link: put the trained value head there first"
        )
    check_value_head(path, hidden_size)
    recorded = {
        "path": VALUE_HEAD,
        "sha256": hash_file(path).sha256,
        "stage1_checkpoint_id": stage1_checkpoint_id,
    }
    return store.amend(artifact, {"value_head": recorded})


def forget_value_head(store: Store, artifact: Artifact) -> Manifest:
    """Write into the manifest that there is no value head; a file is left where it is.

    Raises:
        MissingArtifact: if the checkpoint is not there.
    """
    return store.amend(artifact, {"value_head": NO_VALUE_HEAD})
