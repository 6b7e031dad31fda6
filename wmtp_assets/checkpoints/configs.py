"""The config files beside a checkpoint, each derived from ``params.json`` and the real tensors."""

from __future__ import annotations

from math import prod
from typing import Any

import yaml

from wmtp_assets.build import Build
from wmtp_assets.checkpoints.params import MAX_POSITION_EMBEDDINGS, MetaParams, is_tied
from wmtp_assets.checkpoints.safetensors_file import DTYPE_NAMES, WrittenCheckpoint
from wmtp_assets.manifest import Document, FileRecord, render

CHECKPOINT = "safetensors/model.safetensors"
PARAMS = "configs/params.json"
ADAPTER = "configs/meta_adapter.yaml"
CONFIG = "configs/config.json"
TOKENIZER = "tokenizer/tokenizer.model"
TOKENIZER_CONFIG = "tokenizer/tokenizer_config.json"


def adapter_document(name: str, params: MetaParams, dtype: str) -> Document:
    """``meta_adapter.yaml``: the one place the training code takes parameters from."""
    return {
        "model_name": name,
        "n_future_tokens": params.n_future_tokens,
        "hidden_size": params.dim,
        "num_hidden_layers": params.n_layers,
        "num_attention_heads": params.n_heads,
        "num_key_value_heads": params.kv_heads,
        "intermediate_size": params.intermediate_size,
        "rope_theta": params.rope_theta,
        "max_position_embeddings": MAX_POSITION_EMBEDDINGS,
        "rms_norm_eps": params.norm_eps,
        "vocab_size": params.vocab_size,
        "cache": {"freqs_cis": True, "causal_mask": True},
        "dtype": dtype,
    }


def config_document(params: MetaParams, dtype: str, tied: bool) -> Document:
    """``config.json`` for Meta's family, which has none: transformers' LlamaConfig field names."""
    return {
        "model_type": "llama",
        "hidden_size": params.dim,
        "intermediate_size": params.intermediate_size,
        "num_hidden_layers": params.n_layers,
        "num_attention_heads": params.n_heads,
        "num_key_value_heads": params.kv_heads,
        "head_dim": params.head_dim,
        "vocab_size": params.vocab_size,
        "max_position_embeddings": MAX_POSITION_EMBEDDINGS,
        "rms_norm_eps": params.norm_eps,
        "rope_theta": params.rope_theta,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
        "n_future_tokens": params.n_future_tokens,
    }


def params_bytes(params: MetaParams) -> bytes:
    """``params.json``: upstream's keys, nothing else."""
    return render(params.model_dump(exclude_unset=True))


def yaml_bytes(document: Document) -> bytes:
    """A YAML file: UTF-8, keys in the order given."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def checkpoint_dtype(dtypes: set[str]) -> str:
    """The one dtype (header codes) of a checkpoint by torch's name, or ``mixed``."""
    return DTYPE_NAMES.get(next(iter(dtypes)), "other") if len(dtypes) == 1 else "mixed"


def write_configs(build: Build, params: MetaParams, written: WrittenCheckpoint) -> None:
    """Stage SHA256SUMS, params.json, meta_adapter.yaml and config.json beside the checkpoint."""
    dtype = checkpoint_dtype({entry.dtype for entry, _ in written.tensors})
    tied = is_tied({entry.name for entry, _ in written.tensors})
    name = build.artifact.spec.folder
    build.staged.write_sha256sums("safetensors")
    build.staged.write(PARAMS, params_bytes(params))
    build.staged.write(ADAPTER, yaml_bytes(adapter_document(name, params, dtype)))
    build.staged.write(CONFIG, render(config_document(params, dtype, tied)))


def model_document(
    build: Build,
    written: WrittenCheckpoint,
    tokenizer: FileRecord,
    *,
    version: str,
    target_device: str,
    shared_with: str | None,
    source: Any,
    conversion: Document,
) -> Document:
    """``metadata.json`` of a model; the keys are the contract with the training code.

    ``n_params`` counts the elements in the file, ``dtype`` is that of its tensors.
    """
    files = build.staged.files
    return {
        "model_name": build.artifact.spec.folder,
        "version": version,
        "n_params": sum(prod(entry.shape) for entry, _ in written.tensors),
        "format": "safetensors",
        "dtype": checkpoint_dtype({entry.dtype for entry, _ in written.tensors}),
        "files": {
            "checkpoint": CHECKPOINT,
            "tokenizer": TOKENIZER,
            "params": PARAMS,
            "adapter": ADAPTER,
            "config": CONFIG,
        },
        "sha256": {
            "checkpoint": files[CHECKPOINT].sha256,
            "tokenizer": tokenizer.sha256,
            "params": files[PARAMS].sha256,
            "adapter": files[ADAPTER].sha256,
            "config": files[CONFIG].sha256,
        },
        "value_head": {"path": None, "stage1_checkpoint_id": None},
        "tokenizer_shared_with": shared_with,
        "target_device": target_device,
        "status": "required",
        "source": source,
        "conversion": conversion,
        "checkpoint": written.describe(),
    }
