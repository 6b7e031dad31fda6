"""The files beside a checkpoint: exactly the keys the training code takes, from one source each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from wmtp_assets.base.settings import Settings
from wmtp_assets.checkpoints.beside import (
    adapter_document,
    checkpoint_dtype,
    files_of,
    params_bytes,
    yaml_bytes,
)
from wmtp_assets.checkpoints.families import META
from wmtp_assets.checkpoints.params import PARAMETERS, llama_config, parse_params
from wmtp_assets.checkpoints.safetensors_file import read_header
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import MICRO, RAW, SAFETENSORS, TOKENIZER

TRAINING_PARAMS = {
    "dim",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "vocab_size",
    "multiple_of",
    "ffn_dim_multiplier",
    "norm_eps",
    "n_future_tokens",
    "rope_theta",
    "max_batch_size",
    "max_seq_len",
}
"""Any other key of params.json is a TypeError in the training code."""

ADAPTER = {
    "model_name": "tiny-model",
    "n_future_tokens": 3,
    "dim": 32,
    "hidden_size": 32,
    "num_layers": 7,
    "n_layers": 7,
    "num_hidden_layers": 7,
    "n_heads": 4,
    "num_attention_heads": 4,
    "n_kv_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 88,
    "multiple_of": 8,
    "ffn_dim_multiplier": 1.0,
    "rope_theta": 10000.0,
    "max_seq_len": 2048,
    "max_position_embeddings": 2048,
    "norm_eps": 1e-05,
    "rms_norm_eps": 1e-05,
    "vocab_size": 48,
    "cache": {"freqs_cis": True, "causal_mask": True},
    "dtype": "float16",
}

PLAN = {"dim", "num_layers", "n_future_tokens", "intermediate_size", "rope_theta", "dtype"}
"""The keys of meta_adapter.yaml in the preparation plan."""

METADATA = {
    "model_name",
    "version",
    "n_params",
    "format",
    "dtype",
    "files",
    "sha256",
    "value_head",
    "tokenizer_shared_with",
    "target_device",
    "status",
    "source",
    "conversion",
}
"""The keys of metadata.json that are the contract with the training code."""

ROLES = {"checkpoint", "tokenizer", "params", "adapter", "config"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A committed tiny model and its micro model, for reading only."""
    store = tiny.make_store(tmp_path_factory.mktemp("configs") / "storage")
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO)
    return store


def read(store: Store, key: str, name: str) -> bytes:
    return (tiny.model_folder(store, key) / name).read_bytes()


# -- documents -----------------------------------------------------------------------------------


def test_adapter_has_every_parameter_under_every_name() -> None:
    """It is the one place parameters are taken from: by the training code, and by readers that
    follow the plan or params.json; each value from params.json."""
    assert ADAPTER.keys() >= PLAN
    assert ADAPTER.keys() >= tiny.PARAMS.keys()
    assert adapter_document("tiny-model", tiny.params(), "float16") == ADAPTER
    assert adapter_document("x", tiny.params(n_kv_heads=None), "x")["num_key_value_heads"] == 4


def test_context_is_that_of_params() -> None:
    """An adapter that says 2048 where config.json says 4096 makes a trainer cut rows."""
    params = tiny.params(max_seq_len=4096)
    adapter = adapter_document("x", params, "float16")
    assert (adapter["max_seq_len"], adapter["max_position_embeddings"]) == (4096, 4096)
    assert llama_config(params, "float16", False, None)["max_position_embeddings"] == 4096


def test_yaml_is_read_back_as_it_was(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-05 as text unless it is written with a point: then norm_eps is a string."""
    document = adapter_document("größe", tiny.params(norm_eps=1e-05, rope_theta=1e6), "bfloat16")
    found = yaml.safe_load(yaml_bytes(document).decode("utf-8"))
    assert found == document
    assert list(found) == list(document)
    assert type(found["rms_norm_eps"]) is float
    assert type(found["rope_theta"]) is float
    assert "größe" in yaml_bytes(document).decode()


def test_config_has_transformers_names() -> None:
    """Meta's family has no config.json; tools expect one, with LlamaConfig's field names."""
    document = llama_config(tiny.params(), "float16", True, None)
    assert document == {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 88,
        "num_hidden_layers": 7,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 48,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "n_future_tokens": 3,
    }
    assert llama_config(tiny.params(), "float16", False, None)["tie_word_embeddings"] is False


@pytest.mark.parametrize(
    "changes", [{}, {"n_kv_heads": None}, {"max_seq_len": 2048, "max_batch_size": 1}]
)
def test_params_round_trip(changes: dict[str, Any]) -> None:
    """Upstream's keys and no others: defaults that upstream did not write are not written here."""
    params = tiny.params(**changes)
    document = json.loads(params_bytes(params))
    assert document == {**tiny.PARAMS, **changes}
    assert document.keys() <= TRAINING_PARAMS
    assert parse_params(params_bytes(params), "x") == params
    short = {key: value for key, value in tiny.PARAMS.items() if key != "rope_theta"}
    parsed = parse_params(json.dumps(short).encode(), "x")
    assert json.loads(params_bytes(parsed)) == short


@pytest.mark.parametrize(
    ("dtypes", "name"),
    [
        ({"F16"}, "float16"),
        ({"BF16"}, "bfloat16"),
        ({"F32"}, "float32"),
        ({"F64"}, "float64"),
        ({"I8"}, "other"),
        ({"F16", "F32"}, "mixed"),
    ],
)
def test_dtype_is_that_of_the_tensors(dtypes: set[str], name: str) -> None:
    """A file that is partly float32 is not a float16 file, whatever it was meant to be."""
    assert checkpoint_dtype(dtypes) == name


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "tied"), [(SAFETENSORS, False), (MICRO, True)])
def test_files_agree_with_the_checkpoint(store: Store, key: str, tied: bool) -> None:
    """One source for each fact: the files are derived from params.json and the real tensors."""
    params = parse_params(read(store, key, "configs/params.json"), "x")
    header = read_header(tiny.checkpoint_path(store, key))
    assert META.tensor_shapes(params, tied) == header.shapes
    name = tiny.model_folder(store, key).name
    adapter = yaml.safe_load(read(store, key, "configs/meta_adapter.yaml"))
    assert adapter == adapter_document(name, params, "float16")
    config = json.loads(read(store, key, "configs/config.json"))
    assert config == llama_config(params, "float16", tied, None)


def test_each_parameter_is_one_value_in_all_files(good_root: Path) -> None:
    """For each model of the sample, and each name in each file; config.json of the reference model
    leaves rope_theta to transformers' default."""
    store = Store(Settings("sample", good_root), load_catalogue())
    for artifact in (artifact for artifact in store.catalogue if artifact.dtype is not None):
        files = files_of(artifact)
        params = json.loads(store.read(artifact, files.params))
        config = json.loads(store.read(artifact, files.config))
        adapter = yaml.safe_load(store.read(artifact, files.adapter))
        metadata = store.manifest(artifact).document
        labels = read_header(store.path(artifact, files.checkpoint)).metadata
        for row in PARAMETERS:
            said = [adapter[name] for name in row.names]
            said += [
                file[name]
                for file, name in ((params, row.meta), (config, row.llama))
                if name in file
            ]
            assert said == said[:1] * len(said), (artifact.key, row)
        dtypes = (adapter["dtype"], config["torch_dtype"], metadata["dtype"], labels["dtype"])
        assert {*dtypes} == {artifact.dtype}
        names = (adapter["model_name"], metadata["model_name"], labels["model_name"])
        assert {*names} == {artifact.spec.folder}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype_is_the_same_everywhere(tmp_path: Path, dtype: str) -> None:
    """transformers loads a float16 file as float32 when config.json says so, or says nothing."""
    store = tiny.make_store(tmp_path / "storage", dtype)
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    document = tiny.make(store, TOKENIZER, SAFETENSORS).document
    assert document["dtype"] == dtype
    assert json.loads(read(store, SAFETENSORS, "configs/config.json"))["torch_dtype"] == dtype
    assert yaml.safe_load(read(store, SAFETENSORS, "configs/meta_adapter.yaml"))["dtype"] == dtype
    found = {entry.dtype for entry in read_header(tiny.checkpoint_path(store, SAFETENSORS)).entries}
    assert checkpoint_dtype(found) == dtype


@pytest.mark.parametrize(
    ("key", "shared", "device"),
    [(SAFETENSORS, None, "cuda"), (MICRO, "tiny-model", "mps")],
)
def test_metadata_keeps_the_contract(
    store: Store, key: str, shared: str | None, device: str
) -> None:
    """The training code indexes these keys; one that is missing is a KeyError in its first line."""
    document = json.loads(read(store, key, "metadata.json"))
    folder = tiny.model_folder(store, key)
    header = read_header(tiny.checkpoint_path(store, key))
    assert document.keys() >= METADATA
    assert document["model_name"] == folder.name
    assert (document["version"], document["format"]) == ("v2.0.0", "safetensors")
    assert document["n_params"] == header.n_params
    assert document["tokenizer_shared_with"] == shared
    assert document["target_device"] == device
    assert document["status"] == "required"
    assert document["value_head"] == {"path": None, "stage1_checkpoint_id": None}
    assert document["source"] == store.manifest(store.catalogue[RAW]).document["source"]
    assert document["files"].keys() == document["sha256"].keys() == ROLES
    for role, name in document["files"].items():
        assert document["sha256"][role] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert document["checkpoint"]["tensors"].keys() == header.shapes.keys()


def test_n_params_counts_the_file(store: Store) -> None:
    """A tied model has the output matrix once: that is what is stored, downloaded and loaded."""
    tied = store.manifest(store.catalogue[MICRO]).document["n_params"]
    params = parse_params(read(store, MICRO, "configs/params.json"), "x")
    expected = META.tensor_shapes(params, tied=True).values()
    assert tied == sum(torch.Size(shape).numel() for shape in expected)
