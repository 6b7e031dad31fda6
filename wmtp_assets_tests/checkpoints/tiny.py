"""Tiny real checkpoints of Meta's family, and storage roots around them.

Only the download is left out: :func:`commit_raw` puts ``torch.save``'s bytes where it would put
them. Everything else is made by the real builders, through ``wmtp_assets.materialize``.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from wmtp_assets.checkpoints.params import MetaParams
from wmtp_assets.files import HashedFile
from wmtp_assets.hub.sample.tokenizer import MODEL_PATH
from wmtp_assets.layout import Catalogue
from wmtp_assets.manifest import Manifest
from wmtp_assets.materialize import materialize
from wmtp_assets.settings import Settings
from wmtp_assets.specs import (
    MicroShape,
    MicroSpec,
    ModelFiles,
    ModelSpec,
    Repository,
    TokenizerSpec,
)
from wmtp_assets.store import Staged, Store

PARAMS: dict[str, int | float] = {
    "dim": 32,
    "ffn_dim_multiplier": 1.0,
    "multiple_of": 8,
    "n_future_tokens": 3,
    "n_heads": 4,
    "n_kv_heads": 2,
    "n_layers": 7,
    "norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "vocab_size": 48,
}
"""Five trunk layers and two extra heads; four heads of 8 on two key-value heads; 88 units."""

SHAPE: dict[str, int | float] = {
    "dim": 16,
    "n_layers": 3,
    "n_heads": 2,
    "n_kv_heads": 1,
    "multiple_of": 8,
    "ffn_dim_multiplier": 0.5,
}
"""One trunk layer and both extra heads; one group of two heads; 24 units."""

RAW, TOKENIZER, SAFETENSORS, MICRO = "tiny_raw", "tiny_tokenizer", "tiny_safetensors", "tiny_micro"
CHECKPOINT = "7B_1T_4/consolidated.pth"


def params(**changes: Any) -> MetaParams:
    """:data:`PARAMS` with changes, parsed."""
    return MetaParams.model_validate({**PARAMS, **changes})


def micro_spec(max_bytes: int = 1_000_000, **changes: Any) -> MicroSpec:
    """A micro model of :data:`SHAPE` with changes to its shape."""
    return MicroSpec(
        name=MICRO,
        folder="tiny-micro",
        description="cut from tiny",
        parent="tiny",
        dtype="float16",
        shape=MicroShape.model_validate({**SHAPE, **changes}),
        max_bytes=max_bytes,
    )


def random_tensors(
    params: MetaParams, dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, torch.Tensor]:
    """A state dict of Meta's family, with the buffer that upstream's files have."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: (torch.randn(prod(shape), generator=generator) * 0.02).reshape(shape).to(dtype)
        for name, shape in params.tensor_shapes(tied=False).items()
    }
    return tensors | {"rope.freqs": torch.arange(params.head_dim // 2, dtype=torch.float32)}


def saved(value: Any) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def make_store(root: Path, dtype: str = "float16", micro: MicroSpec | None = None) -> Store:
    """An empty storage root whose graph is one model, and one micro model cut from it."""
    model = ModelSpec.model_validate(
        {
            "name": "tiny",
            "folder": "tiny-model",
            "description": "a tiny model",
            "family": "meta_mtp",
            "dtype": dtype,
            "repository": Repository(id="owner/tiny", type="model", license="MIT"),
            "files": ModelFiles(
                checkpoint=CHECKPOINT, params="7B_1T_4/params.json", tokenizer="tokenizer.model"
            ),
            "tokenizer": TokenizerSpec(vocab_size=32_000),
        }
    )
    return Store(Settings("sample", root), Catalogue([model, micro or micro_spec()]))


def commit_raw(
    store: Store,
    checkpoint: Mapping[str, torch.Tensor] | bytes,
    params: Mapping[str, Any] | bytes = PARAMS,
    tokenizer: bytes | None = None,
) -> Manifest:
    """Commit raw files as if they had been downloaded."""
    files = {
        CHECKPOINT: checkpoint if isinstance(checkpoint, bytes) else saved(dict(checkpoint)),
        "7B_1T_4/params.json": params if isinstance(params, bytes) else json.dumps(params).encode(),
        "tokenizer.model": MODEL_PATH.read_bytes() if tokenizer is None else tokenizer,
    }
    artifact = store.catalogue[RAW]
    with store.stage(artifact) as staged:
        for name, data in files.items():
            staged.write(f"raw/{name}", data)
        document = {"asset": RAW, "source": {"repo": "owner/tiny", "endpoint": "sample"}}
        return store.commit(artifact, staged, document)


def make(store: Store, *keys: str) -> Manifest:
    """Materialize artifacts in the order given; the manifest of the last one."""
    return [materialize(store, store.catalogue[key]) for key in keys][-1]


def checkpoint_path(store: Store, key: str) -> Path:
    """Where the ``model.safetensors`` of an artifact lies."""
    return store.folder(store.catalogue[key]) / "safetensors/model.safetensors"


def raw_path(store: Store) -> Path:
    """Where the raw checkpoint lies."""
    return store.folder(store.catalogue[RAW]) / "raw" / CHECKPOINT


def staged_left(store: Store) -> list[Path]:
    """Whatever is left in the staging folders."""
    return list((store.internal / "staging").rglob("*"))


def model_folder(store: Store, key: str) -> Path:
    """The folder below ``models_v2`` of an artifact."""
    return store.root / store.catalogue[key].unit


def new_file(path: Path) -> HashedFile:
    """A file to write to, below a folder that need not exist."""
    return Staged(path.parent).create(path.name)


def bits(tensor: torch.Tensor) -> bytes:
    """The elements of a tensor as they lie in a file, row-major."""
    fresh = tensor.detach().clone(memory_format=torch.contiguous_format)
    return fresh.reshape(-1).view(torch.uint8).numpy().tobytes()


def run_python(code: str, *arguments: str) -> str:
    """Run ``code`` in an interpreter of its own, which may crash; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr}"
    return done.stdout
