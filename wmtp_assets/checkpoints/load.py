"""The reader of our checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_assets.checkpoints.families import LLAMA, META

if TYPE_CHECKING:
    import torch


def load_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Load a checkpoint and untie it: a tied file gets its ``output.weight``.

    The semantics are those of ``safetensors.torch.load_file``: tensors on the CPU, in the file's
    dtype. In a tied file, one that has ``tok_embeddings.weight`` and no ``output.weight`` (Meta's
    names), or ``model.embed_tokens.weight`` and no ``lm_head.weight`` (transformers' names of a
    Llama), the latter becomes the same tensor (shared memory, shape [vocab, hidden]), because the
    training code's loader is strict about names.

    Args:
        path: a ``model.safetensors``.

    Raises:
        safetensors.SafetensorError: if the file is no safetensors file.
        OSError: if it cannot be read.
    """
    from safetensors.torch import load_file

    tensors = load_file(path)
    for family in (META, LLAMA):
        if family.is_tied(tensors):
            tensors[family.output] = tensors[family.embedding]
    return tensors
