"""``facebook/multi-token-prediction``, small: the upstream files with generated weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_assets.sample.pth import write_pth
from wmtp_assets.sample.repository import SampleRepository
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets.sample.weights import generate, rope_frequencies

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARAMS: Mapping[str, int | float] = {
    "dim": 640,
    "ffn_dim_multiplier": 1.0,
    "multiple_of": 256,
    "n_future_tokens": 4,
    "n_heads": 5,
    "n_kv_heads": 5,
    "n_layers": 6,
    "norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "vocab_size": 32000,
}
"""Exactly the keys of upstream's ``params.json``; upstream's heads of 128."""

FEED_FORWARD = 1792


def build(folder: Path) -> None:
    """Write the repository's three files below ``folder``: 286 MB in all.

    Holds one tensor in memory at a time, the largest 32,000 by 640 float32.
    """
    write_model(folder / "7B_1T_4", PARAMS, FEED_FORWARD)
    shutil.copyfile(MODEL_PATH, folder / "tokenizer.model")


def write_model(folder: Path, params: Mapping[str, int | float], feed_forward: int) -> None:
    """Write ``params.json`` and ``consolidated.pth`` (float32) into ``folder``."""
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params), encoding="utf-8")
    shapes = tensor_shapes(params, feed_forward)

    def values(key: str) -> NDArray[np.float32]:
        if key == "rope.freqs":
            return rope_frequencies(shapes[key][0], params["rope_theta"])
        return generate(key, shapes[key])

    write_pth(folder / "consolidated.pth", shapes, values)


def tensor_shapes(
    params: Mapping[str, int | float], feed_forward: int
) -> dict[str, tuple[int, ...]]:
    """Meta's tensor names and their shapes, in the order of the file.

    ``n_layers`` counts ``layers`` and ``extra_heads`` together; there are ``n_future_tokens`` - 1
    extra heads. ``rope.freqs``, one frequency per pair of a head's channels, is the buffer that
    Meta's checkpoints have beside the weights.
    """
    dim, vocab_size = int(params["dim"]), int(params["vocab_size"])
    head_dim = dim // int(params["n_heads"])
    kv_dim = head_dim * int(params["n_kv_heads"])
    extra_heads = int(params["n_future_tokens"]) - 1
    layers = int(params["n_layers"]) - extra_heads
    block = {
        "attention.wq": (dim, dim),
        "attention.wk": (kv_dim, dim),
        "attention.wv": (kv_dim, dim),
        "attention.wo": (dim, dim),
        "feed_forward.w1": (feed_forward, dim),
        "feed_forward.w2": (dim, feed_forward),
        "feed_forward.w3": (feed_forward, dim),
        "attention_norm": (dim,),
        "ffn_norm": (dim,),
    }
    blocks = [f"layers.{i}" for i in range(layers)]
    blocks += [f"extra_heads.{i}" for i in range(extra_heads)]
    return {
        "tok_embeddings.weight": (vocab_size, dim),
        **{f"{b}.{name}.weight": shape for b in blocks for name, shape in block.items()},
        "norm.weight": (dim,),
        "output.weight": (vocab_size, dim),
        "rope.freqs": (head_dim // 2,),
    }


REPOSITORY = SampleRepository("model", "facebook/multi-token-prediction", 2, build)
