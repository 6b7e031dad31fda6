"""``princeton-nlp/Sheared-LLaMA-2.7B``, small: the upstream files with generated weights."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.sample.llama import trunk_shapes, write_config
from wmtp_assets.sample.pth import write_pth
from wmtp_assets.sample.repository import SampleRepository
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets.sample.weights import generate, rope_frequencies

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIG: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 640,
    "initializer_range": 0.02,
    "intermediate_size": 1792,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 5,
    "num_hidden_layers": 5,
    "num_key_value_heads": 5,
    "pad_token_id": 0,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.31.0",
    "use_cache": True,
    "vocab_size": 32000,
}
"""Exactly the keys of upstream's ``config.json``; upstream's heads of 128."""

ROPE_THETA = 10000.0
"""What transformers takes where the config, as this one, does not say."""

SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")

SPECIAL_TOKENS: Mapping[str, Any] = {
    name: {
        "content": content,
        "lstrip": False,
        "normalized": True,
        "rstrip": False,
        "single_word": False,
    }
    for name, content in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))
}

EXTRAS: Mapping[str, Mapping[str, Any]] = {
    "generation_config.json": {
        "_from_model_config": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "transformers_version": "4.31.0",
    },
    "special_tokens_map.json": SPECIAL_TOKENS,
    "tokenizer_config.json": {
        "add_bos_token": True,
        "add_eos_token": False,
        **{name: {"__type": "AddedToken", **token} for name, token in SPECIAL_TOKENS.items()},
        "model_max_length": 4096,
        "pad_token": None,
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
    },
}
"""The small JSON files beside the checkpoint; the keys are transformers'. There is no
``tokenizer.json``."""

README = """\
---
license: apache-2.0
---

A sample with generated weights, in the format of princeton-nlp/Sheared-LLaMA-2.7B.
"""

INDEX = "pytorch_model.bin.index.json"


def build(folder: Path) -> None:
    """Write the repository's nine files below ``folder``: 266 MB in all.

    Holds one tensor in memory at a time, the largest 32,000 by 640 float32.
    """
    write_model(folder, CONFIG)
    shutil.copyfile(MODEL_PATH, folder / "tokenizer.model")
    for name, document in EXTRAS.items():
        (folder / name).write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    (folder / "README.md").write_text(README, "utf-8")


def write_model(folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json``, the two shards (float32) and their index into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    shapes = tensor_shapes(config)

    def values(key: str) -> NDArray[np.float32]:
        if key.endswith(".inv_freq"):
            return rope_frequencies(shapes[key][0], ROPE_THETA)
        return generate(key, shapes[key])

    weight_map = assign_shards(config)
    for shard in SHARDS:
        part = {key: shape for key, shape in shapes.items() if weight_map[key] == shard}
        write_pth(folder / shard, part, values)
    total_size = 4 * sum(math.prod(shape) for shape in shapes.values())
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")


def tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Transformers' tensor names and their shapes, in the order of the shards."""
    return {
        **trunk_shapes(config, "model.", inv_freq=True),
        "lm_head.weight": (config["vocab_size"], config["hidden_size"]),
    }


def assign_shards(config: Mapping[str, Any]) -> dict[str, str]:
    """Key → file: the second begins with the feed-forward part of the last layer but one.

    That is upstream's layer 30 of 32, whose attention is in the first.
    """
    keys = list(tensor_shapes(config))
    cut = keys.index(f"model.layers.{config['num_hidden_layers'] - 2}.mlp.gate_proj.weight")
    return {key: SHARDS[place >= cut] for place, key in enumerate(keys)}


REPOSITORY = SampleRepository("model", "princeton-nlp/Sheared-LLaMA-2.7B", 2, build)
