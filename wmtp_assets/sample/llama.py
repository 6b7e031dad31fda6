"""What the sample's repositories in transformers' Llama format have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json`` into ``folder``, laid out as upstream's."""
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def trunk_shapes(
    config: Mapping[str, Any], prefix: str, *, inv_freq: bool = False
) -> dict[str, tuple[int, ...]]:
    """The names of a Llama's tensors but for its heads, below ``prefix``, and their shapes.

    In the order of transformers' modules; each shape is an object of its own, as torch has it.

    Args:
        config: the content of ``config.json``.
        prefix: of all names, with its final dot.
        inv_freq: whether each layer has the buffer that older transformers saved, one
            frequency per pair of a head's channels.
    """
    hidden, feed_forward = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    kv = head * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (config["vocab_size"], hidden)}
    for i in range(config["num_hidden_layers"]):
        layer = f"layers.{i}"
        shapes[f"{layer}.self_attn.q_proj.weight"] = (hidden, hidden)
        shapes[f"{layer}.self_attn.k_proj.weight"] = (kv, hidden)
        shapes[f"{layer}.self_attn.v_proj.weight"] = (kv, hidden)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (hidden, hidden)
        if inv_freq:
            shapes[f"{layer}.self_attn.rotary_emb.inv_freq"] = (head // 2,)
        shapes[f"{layer}.mlp.gate_proj.weight"] = (feed_forward, hidden)
        shapes[f"{layer}.mlp.up_proj.weight"] = (feed_forward, hidden)
        shapes[f"{layer}.mlp.down_proj.weight"] = (hidden, feed_forward)
        shapes[f"{layer}.input_layernorm.weight"] = (hidden,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
    shapes["norm.weight"] = (hidden,)
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}
