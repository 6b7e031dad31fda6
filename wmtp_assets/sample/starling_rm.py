"""``berkeley-nest/Starling-RM-7B-alpha``, small: the upstream files with generated weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.sample.llama import trunk_shapes, write_config
from wmtp_assets.sample.pth import write_pth
from wmtp_assets.sample.repository import SampleRepository
from wmtp_assets.sample.weights import generate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIG: Mapping[str, Any] = {
    "_name_or_path": "meta-llama/Llama-2-7b-chat-hf",
    "architectures": ["LLMForSequenceRegression"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 768,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.35.0",
    "use_cache": True,
    "vocab_size": 32000,
}
"""Exactly the keys of upstream's ``config.json``; upstream's heads of 128."""

TRUNK = "model.model."

TWIN = "transformer."
"""Prefix under which the trunk stands in the file a second time."""

SHARING = ("embed_tokens.", "layers.0.")
"""The parts of the trunk whose twins use one storage; the others' twins are copies."""


def build(folder: Path) -> None:
    """Write the repository's two files below ``folder``: 38 MB in all.

    Holds one tensor in memory at a time, the largest 32,000 by 256.
    """
    write_model(folder, CONFIG)


def write_model(folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json`` and ``pytorch_model.bin`` (float16) into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    shapes = tensor_shapes(config)

    def values(key: str) -> NDArray[np.float16]:
        return generate(original(key), shapes[key]).astype("<f2")

    shared_prefixes = tuple(TWIN + part for part in SHARING)
    shared = {key: original(key) for key in shapes if key.startswith(shared_prefixes)}
    write_pth(
        folder / "pytorch_model.bin",
        shapes,
        values,
        dtype="float16",
        shared=shared,
        state_dict=True,
    )


def tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The state dict's names and their shapes, in its order: the trunk is in it twice."""
    hidden = config["hidden_size"]
    return {
        **trunk_shapes(config, TRUNK),
        "model.lm_head.weight": (config["vocab_size"], hidden),
        **trunk_shapes(config, TWIN),
        "v_head.weight": (1, hidden),
    }


def original(key: str) -> str:
    """The key under which the tensor stands in the file for the first time."""
    return TRUNK + key.removeprefix(TWIN) if key.startswith(TWIN) else key


REPOSITORY = SampleRepository("model", "berkeley-nest/Starling-RM-7B-alpha", 1, build)
