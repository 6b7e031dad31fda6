"""What lies beside a checkpoint: config files, and the value head that training puts there.

The config files are derived from upstream's parameters and the real tensors. ``metadata.json`` says
``value_head: {path, sha256, stage1_checkpoint_id}``. A ``path`` of null means that there is none,
and that training initialises one. What is recorded survives every commit of the checkpoint, until
it is recorded anew or forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from wmtp_assets.base.errors import InvalidInput, MissingArtifact
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact, Catalogue
from wmtp_assets.catalogue.specs import MicroSpec, ModelSpec
from wmtp_assets.checkpoints.architecture import Proof, architecture_config
from wmtp_assets.checkpoints.families import FAMILIES
from wmtp_assets.checkpoints.params import PARAMETERS, MetaParams, llama_config, parse_config
from wmtp_assets.checkpoints.safetensors_file import (
    DTYPE_NAMES,
    WrittenCheckpoint,
    describe_tensors,
    read_header,
)
from wmtp_assets.checkpoints.tokenizer import CONFIG, FAST, place_tokenizer, tokenizer_of
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.manifest import Document, Manifest, render
from wmtp_assets.storage.store import Store

NO_VALUE_HEAD: Document = {"path": None, "stage1_checkpoint_id": None}


@dataclass(frozen=True)
class CheckpointFiles:
    """Where the files of a checkpoint lie, relative to the artifact's base.

    Attributes:
        folder: of ``model.safetensors`` and its ``SHA256SUMS``, with a slash; empty: the base.
        tokenizer: may lie in another artifact.
        beside: where transformers looks for ``config.json``. For the families it can load, the
            folder also gets ``generation_config.json`` and the files of the tokenizer.
    """

    folder: str
    checkpoint: str
    tokenizer: str
    params: str
    adapter: str
    config: str
    beside: str
    generation: str

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
            generation=f"{folder}generation_config.json",
        )


MODEL_FILES = CheckpointFiles.within("safetensors/", "configs/", "tokenizer/tokenizer.model")
"""In the folder of a model."""

GENERATION = PurePosixPath(MODEL_FILES.generation).name

VARIANT_FILES = CheckpointFiles.within("", "", "../tokenizer/tokenizer.model")
"""In the folder of a variant, which holds nothing else."""

TOKENIZER_FOLDER = "tokenizer/"
"""In the folder of a micro model."""

COMPLETE_SINCE = 3
"""Version of the builders of checkpoints that put the tokenizer beside what transformers loads."""


def files_of(artifact: Artifact) -> CheckpointFiles:
    """Where the files of a checkpoint artifact lie."""
    return MODEL_FILES if artifact.owns else VARIANT_FILES


def roles_of(catalogue: Catalogue, artifact: Artifact[ModelSpec | MicroSpec]) -> dict[str, str]:
    """The files of a checkpoint artifact that there are, by the part they play."""
    root, files = catalogue.root_of(artifact.spec), files_of(artifact)
    folder = PurePosixPath(files.tokenizer).parent
    roles = {
        "checkpoint": files.checkpoint,
        "tokenizer": str(folder / catalogue.tokenizer_name(artifact.spec)),
    }
    if root.has_params:
        roles |= {"params": files.params, "adapter": files.adapter}
    if root.has_params or root.files.config is not None:
        roles["config"] = files.config
    return roles


def adapter_document(name: str, params: MetaParams, dtype: str) -> Document:
    """``meta_adapter.yaml``: the one place the training code takes parameters from.

    Every parameter is under each of its names: the plan's, Meta's and transformers'.
    """
    return {
        "model_name": name,
        **{name: row.value(params) for row in PARAMETERS for name in row.names},
        "cache": {"freqs_cis": True, "causal_mask": True},
        "dtype": dtype,
    }


def checkpoint_metadata(name: str, dtype: str) -> dict[str, str]:
    """``__metadata__`` of ``model.safetensors``; transformers asks for ``format``, and the
    preparation plan for ``dtype``."""
    return {"dtype": dtype, "format": "pt", "model_name": name}


def generation_config(facts: Document, named: str = "{}_id") -> Document:
    """``generation_config.json``: the ids of the tokenizer with which generation begins and ends.

    Args:
        facts: of the tokenizer, or a ``config.json``; null or negative: it has no such token. There
            may be a list of tokens that end it.
        named: how an id is called in them.
    """
    ids = {f"{name}_token_id": facts.get(named.format(name)) for name in ("bos", "eos", "pad")}
    return {
        name: number
        for name, number in ids.items()
        if isinstance(number, list) or (isinstance(number, int) and number >= 0)
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


def said_of_model(artifact: Artifact[ModelSpec | MicroSpec]) -> Document:
    """What ``metadata.json`` says of a model that neither its bytes nor its upstream tell."""
    return {
        "target_device": artifact.spec.target_device,
        "status": "optional" if artifact.optional else "required",
    }


def decides(artifact: Artifact[ModelSpec | MicroSpec]) -> Document:
    """What decides about a checkpoint and its configs besides fields of its spec."""
    return {"dtype": artifact.dtype, **said_of_model(artifact)}


def taken(store: Store, artifact: Artifact[ModelSpec | MicroSpec]) -> Document:
    """What decides about them in the specs of other models."""
    return {"family": store.catalogue.family(artifact.spec), **tokenizer_of(store, artifact)}


def describe(
    build: Build[ModelSpec | MicroSpec],
    params: MetaParams | None,
    written: WrittenCheckpoint,
    upstream: Document | None,
    *,
    source: Any,
    conversion: Document,
    proof: Proof | None = None,
) -> Document:
    """Stage SHA256SUMS, params.json, meta_adapter.yaml, config.json and, for the families that
    transformers loads, its other files beside the checkpoint; say which pieces that consists of.

    Args:
        params: None: the family cannot say them, and has no params.json and no meta_adapter.yaml.
        upstream: the ``config.json`` whose other fields are kept; None: the family has none.
        proof: that transformers takes the tensors, where that is what proves their names.

    Returns:
        ``metadata.json`` of the model; the keys are the contract with the training code.
        ``n_params`` counts the elements in the file, ``dtype`` is that of its tensors.
    """
    artifact, store = build.artifact, build.store
    spec, files = artifact.spec, files_of(artifact)
    root, tokenizer = store.catalogue.root_of(spec), build.upstream("tokenizer")
    dtype = checkpoint_dtype({entry.dtype for entry, _ in written.tensors})
    build.staged.cuts[files.checkpoint] = written.cut()
    config: Document | None = None
    if params is not None:
        build.staged.write(files.params, params_bytes(params))
        build.staged.write(files.adapter, yaml_bytes(adapter_document(spec.folder, params, dtype)))
        tied = FAMILIES[root.family].is_tied({entry.name for entry, _ in written.tensors})
        config = llama_config(params, dtype, tied, upstream)
    elif upstream is not None:
        config = architecture_config(upstream, dtype, proof.tied if proof else None)
    if config is not None:
        build.staged.write(files.config, render(config))
    if config is not None and root.is_loaded:
        if files.beside != files.config:
            build.staged.write(files.beside, render(config))
        build.staged.write(files.generation, _generation_bytes(build, root, config))
        if FAST in store.manifest(tokenizer).files:
            place_tokenizer(build, files.folder)
    build.staged.write_sha256sums(files.folder)
    roles = roles_of(store.catalogue, artifact)
    its = store.manifest(tokenizer).files[store.catalogue.tokenizer_name(spec)]
    records = {role: build.staged.files.get(path, its) for role, path in roles.items()}
    return {
        "model_name": spec.folder,
        "version": spec.version,
        "n_params": sum(prod(entry.shape) for entry, _ in written.tensors),
        "format": "safetensors",
        "dtype": dtype,
        "files": roles,
        "sha256": {role: record.sha256 for role, record in records.items()},
        "value_head": NO_VALUE_HEAD,
        **tokenizer_of(store, artifact),
        **said_of_model(artifact),
        "source": source,
        "conversion": conversion,
        "checkpoint": describe_tensors(entry for entry, _ in written.tensors),
        **({"architecture": proof.document} if proof else {}),
    }


def _generation_bytes(
    build: Build[ModelSpec | MicroSpec], root: ModelSpec, config: Document
) -> bytes:
    """``generation_config.json``: upstream's, as it is, of a family without code here; else made of
    the ids of the tokenizer, or of ``config.json`` where the tokenizer does not say them. A micro
    model of the former has its parent's."""
    store = build.store
    if not root.has_params:
        if isinstance(build.spec, MicroSpec):
            return store.read(build.upstream("safetensors"), MODEL_FILES.generation)
        raw = build.upstream("raw")
        kept = upstreams_generation(store, raw)
        if kept is not None:
            return store.read(raw, kept)
        return render(generation_config(config, "{}_token_id"))
    said = parse_config(store.read(build.upstream("tokenizer"), CONFIG), CONFIG)
    if "bos_id" not in said:
        return render(generation_config(config, "{}_token_id"))
    return render(generation_config(said))


def upstreams_generation(store: Store, raw: Artifact[ModelSpec]) -> str | None:
    """The ``generation_config.json`` among raw files that are there: its name in the artifact."""
    listed = store.manifest(raw).files
    names = (f"raw/{name}" for name in raw.spec.files.extras)
    return next((n for n in names if PurePosixPath(n).name == GENERATION and n in listed), None)


MAX_VALUE_HEAD = 64 << 20
"""Bytes of a value head: a number for each channel, and a header of at most 16 MiB."""


def hash_value_head(path: Path) -> str:
    """The SHA-256 of a value head.

    Raises:
        InvalidInput: if it is larger than any; nothing of it is read.
        OSError: if it cannot be read.
    """
    size = path.lstat().st_size
    if size > MAX_VALUE_HEAD:
        raise InvalidInput(f"{path} has {size} bytes, a value head at most {MAX_VALUE_HEAD}")
    return hash_file(path).sha256


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
    return store.amend(
        artifact,
        {
            "value_head": {
                "path": VALUE_HEAD,
                "sha256": hash_value_head(path),
                "stage1_checkpoint_id": stage1_checkpoint_id,
            }
        },
    )


def forget_value_head(store: Store, artifact: Artifact) -> Manifest:
    """Write into the manifest that there is no value head; a file is left where it is.

    Raises:
        MissingArtifact: if the checkpoint is not there.
    """
    return store.amend(artifact, {"value_head": NO_VALUE_HEAD})
