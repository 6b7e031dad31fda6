"""The config files beside a checkpoint, derived from upstream's parameters and the real tensors."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import yaml

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import MicroSpec, ModelSpec
from wmtp_assets.checkpoints.families import FAMILIES, META
from wmtp_assets.checkpoints.llama_config import llama_config, llama_params, parse_config
from wmtp_assets.checkpoints.params import MAX_POSITION_EMBEDDINGS, MetaParams, parse_params
from wmtp_assets.checkpoints.safetensors_file import DTYPE_NAMES, WrittenCheckpoint
from wmtp_assets.checkpoints.value_head import NO_VALUE_HEAD
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document, render


@dataclass(frozen=True)
class CheckpointFiles:
    """Where the files of a checkpoint lie, relative to the artifact's base.

    Attributes:
        folder: of ``model.safetensors`` and its ``SHA256SUMS``, with a slash; empty: the base.
        tokenizer: may lie in another artifact.
        beside: where transformers looks for ``config.json``; written for the families it can load.
    """

    folder: str
    checkpoint: str
    tokenizer: str
    params: str
    adapter: str
    config: str
    beside: str

    @classmethod
    def within(cls, folder: str, configs: str, tokenizer: str) -> CheckpointFiles:
        """Of the folders of the tensors and of the configs, and the path of the tokenizer."""
        return cls(
            folder=folder,
            checkpoint=f"{folder}model.safetensors",
            tokenizer=tokenizer,
            params=f"{configs}params.json",
            adapter=f"{configs}meta_adapter.yaml",
            config=f"{configs}config.json",
            beside=f"{folder}config.json",
        )

    def by_role(self) -> dict[str, str]:
        """Role in ``metadata.json`` → path."""
        return {
            "checkpoint": self.checkpoint,
            "tokenizer": self.tokenizer,
            "params": self.params,
            "adapter": self.adapter,
            "config": self.config,
        }


MODEL_FILES = CheckpointFiles.within("safetensors/", "configs/", "tokenizer/tokenizer.model")
"""In the folder of a model."""

VARIANT_FILES = CheckpointFiles.within("", "", "../tokenizer/tokenizer.model")
"""In the folder of a variant, which holds nothing else."""

TOKENIZER_CONFIG = "tokenizer/tokenizer_config.json"


def files_of(artifact: Artifact) -> CheckpointFiles:
    """Where the files of a checkpoint artifact lie."""
    return MODEL_FILES if artifact.owns else VARIANT_FILES


def parse_parameters(
    spec: ModelSpec, data: bytes, where: str
) -> tuple[MetaParams, Document | None]:
    """Read the file of a model's upstream parameters.

    Returns:
        The parameters, and ``config.json`` itself where the family has one.

    Raises:
        InvalidInput: naming the file (``where``) and the field that is wrong.
    """
    if spec.family == "meta_mtp":
        return parse_params(data, where), None
    config = parse_config(data, where)
    return llama_params(config, where), config


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


def params_bytes(params: MetaParams) -> bytes:
    """``params.json``: upstream's keys, nothing else."""
    return render(params.model_dump(exclude_unset=True))


def yaml_bytes(document: Document) -> bytes:
    """A YAML file: UTF-8, keys in the order given."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def checkpoint_dtype(dtypes: set[str]) -> str:
    """The one dtype (header codes) of a checkpoint by torch's name, or ``mixed``."""
    return DTYPE_NAMES.get(next(iter(dtypes)), "other") if len(dtypes) == 1 else "mixed"


def write_configs(
    build: Build[ModelSpec | MicroSpec],
    params: MetaParams,
    written: WrittenCheckpoint,
    upstream: Document | None,
) -> None:
    """Stage SHA256SUMS, params.json, meta_adapter.yaml and config.json beside the checkpoint, and
    say which pieces it consists of.

    Args:
        upstream: the ``config.json`` whose other fields are kept; None: the family has none.
    """
    spec, files = build.artifact.spec, files_of(build.artifact)
    family = FAMILIES[build.store.catalogue.family(spec)]
    dtype = checkpoint_dtype({entry.dtype for entry, _ in written.tensors})
    tied = family.is_tied({entry.name for entry, _ in written.tensors})
    build.staged.cuts[files.checkpoint] = written.cut()
    build.staged.write(files.params, params_bytes(params))
    build.staged.write(files.adapter, yaml_bytes(adapter_document(spec.folder, params, dtype)))
    config = render(llama_config(params, dtype, tied, upstream))
    build.staged.write(files.config, config)
    if files.beside != files.config and family is not META:
        build.staged.write(files.beside, config)
    build.staged.write_sha256sums(files.folder)


def model_document(
    build: Build[ModelSpec | MicroSpec],
    written: WrittenCheckpoint,
    *,
    source: Any,
    conversion: Document,
) -> Document:
    """``metadata.json`` of a model; the keys are the contract with the training code.

    ``n_params`` counts the elements in the file, ``dtype`` is that of its tensors.
    """
    artifact, store = build.artifact, build.store
    spec, roles = artifact.spec, files_of(artifact).by_role()
    tokenizer = store.manifest(build.upstream("tokenizer")).files["tokenizer.model"]
    shared = store.catalogue.shared_tokenizer(spec)
    records = {role: build.staged.files.get(path, tokenizer) for role, path in roles.items()}
    shapes = {entry.name: entry.shape for entry, _ in written.tensors}
    return {
        "model_name": spec.folder,
        "version": spec.version,
        "n_params": sum(prod(shape) for shape in shapes.values()),
        "format": "safetensors",
        "dtype": checkpoint_dtype({entry.dtype for entry, _ in written.tensors}),
        "files": roles,
        "sha256": {role: record.sha256 for role, record in records.items()},
        "value_head": NO_VALUE_HEAD,
        "tokenizer_shared_with": shared.spec.folder if shared else None,
        "target_device": spec.target_device,
        "status": "optional" if artifact.optional else "required",
        "source": source,
        "conversion": conversion,
        "checkpoint": written.describe(),
    }
