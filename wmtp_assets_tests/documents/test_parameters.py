"""``configs/defaults.yaml``: what the checkpoints say, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.base.settings import Settings
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import MICRO, SAFETENSORS, TOKENIZER, VARIANT
from wmtp_assets_tests.trees import damage, flip, tree

SNAPSHOT = "snapshot"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A committed model and its micro model; the variant was not asked for."""
    store = tiny.make_store(tmp_path_factory.mktemp("made") / "storage")
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO, SNAPSHOT)
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    """A copy of :func:`made`."""
    return tiny.copy_of(made, tmp_path / "storage")


def content(store: Store) -> bytes:
    return (store.root / "configs/defaults.yaml").read_bytes()


def models(store: Store) -> dict[str, Any]:
    document = yaml.safe_load(content(store))
    assert list(document) == ["models"]
    return document["models"]


def test_holds_the_models_that_are_there(store: Store) -> None:
    """The training repository takes sizes and paths from here; one that is not there has none."""
    assert list(models(store)) == ["tiny-model", "tiny-micro"]
    tiny.make(store, VARIANT, SNAPSHOT)
    assert list(models(store)) == ["tiny-model", "tiny-model-bf16", "tiny-micro"]
    document = store.manifest(store.catalogue[SNAPSHOT]).document
    assert document["models"] == [SAFETENSORS, VARIANT, MICRO]
    assert document["upstream"].keys() == {SAFETENSORS, VARIANT, MICRO}
    store.manifest_path(store.catalogue[VARIANT]).unlink()
    tiny.make(store, SNAPSHOT)
    assert list(models(store)) == ["tiny-model", "tiny-micro"]


@pytest.mark.parametrize("key", [SAFETENSORS, MICRO, VARIANT])
def test_says_what_the_checkpoint_says(store: Store, key: str) -> None:
    """Each fact is read from the model's own files; each path leads to its file."""
    tiny.make(store, VARIANT, SNAPSHOT)
    artifact = store.catalogue[key]
    document, folder = store.manifest(artifact).document, store.folder(artifact)
    name = {SAFETENSORS: "tiny-model", MICRO: "tiny-micro", VARIANT: "tiny-model-bf16"}[key]
    found = models(store)[name]
    assert store.root / found["checkpoint"] == tiny.checkpoint_path(store, key)
    assert (store.root / found["tokenizer"]).is_file()
    assert (store.root / found["tokenizer"]).samefile(folder / document["files"]["tokenizer"])
    adapter = yaml.safe_load((folder / document["files"]["adapter"]).read_bytes())
    assert found["parameters"] == adapter
    assert found == {
        "checkpoint": found["checkpoint"],
        "tokenizer": found["tokenizer"],
        "parameters": adapter,
    } | {
        field: document[field]
        for field in ("tokenizer_shared_with", "n_params", "status", "target_device")
    }
    assert found["parameters"]["dtype"] == ("bfloat16" if key == VARIANT else "float16")


def test_bytes_are_deterministic(store: Store, made: Store, tmp_path: Path) -> None:
    """It is committed to another repository: no diff without a difference."""
    before = store.manifest(store.catalogue[SNAPSHOT]).document
    assert tiny.make(store, SNAPSHOT).document == before
    other = tiny.make_store(tmp_path / "elsewhere")
    tiny.commit_raw(other, tiny.random_tensors(tiny.params()))
    tiny.make(other, TOKENIZER, SAFETENSORS, MICRO, SNAPSHOT)
    assert content(other) == content(made)
    assert str(made.root).encode() not in content(made)
    assert content(made).startswith(b"# Made by wmtp_assets from the checkpoints; do not edit")


def test_changes_with_the_parameters(store: Store) -> None:
    """One model has another size, and only its lines change."""
    before = models(store)
    params = tiny.PARAMS | {"rope_theta": 500000.0, "multiple_of": 16}
    tensors = tiny.random_tensors(tiny.params(rope_theta=500000.0, multiple_of=16))
    tiny.commit_raw(store, tensors, params)
    tiny.make(store, SAFETENSORS, SNAPSHOT)
    after = models(store)
    assert after["tiny-model"]["parameters"]["rope_theta"] == 500000.0
    assert after["tiny-model"]["parameters"]["intermediate_size"] == 96
    assert after["tiny-model"]["n_params"] > before["tiny-model"]["n_params"]
    assert after["tiny-micro"] == before["tiny-micro"]


def test_new_weights_alone_change_nothing(store: Store) -> None:
    """Other numbers of the same shape: the parameters are the same, byte for byte."""
    before = content(store)
    tiny.commit_raw(store, tiny.random_tensors(tiny.params(), seed=1))
    tiny.make(store, SAFETENSORS, MICRO, SNAPSHOT)
    assert content(store) == before


@pytest.mark.parametrize("name", ["configs/meta_adapter.yaml", "metadata.json"])
def test_damaged_model_is_not_copied(store: Store, name: str) -> None:
    """A changed head count would be carried into another repository, under a right hash."""
    before = tree(store.root / "configs")
    path = store.path(store.catalogue[MICRO], name)
    damage(path, flip(-10))
    with pytest.raises(CorruptArtifact) as refused:
        tiny.make(store, SNAPSHOT)
    assert str(path) in str(refused.value)
    assert tree(store.root / "configs") == before
    assert tiny.staged_left(store) == []


def test_required_model_that_is_missing(store: Store) -> None:
    """Only what is optional may be left out in silence."""
    store.manifest_path(store.catalogue[MICRO]).unlink()
    with pytest.raises(MissingArtifact, match=f"{MICRO} \\(looked for "):
        tiny.make(store, SNAPSHOT)


def test_families_are_together(tmp_path: Path) -> None:
    """Optional models appear as soon as they are made, whatever their family."""
    store = tiny.llama_store(tmp_path / "storage")
    tiny.commit_files(store, tiny.llama_files())
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO, SNAPSHOT)
    assert list(models(store)) == ["tiny-model", "tiny-micro"]
    tiny.commit_files(store, tiny.reward_files(), "reward_raw")
    tiny.make(store, "reward_tokenizer", "reward_safetensors", SNAPSHOT)
    assert list(models(store)) == ["tiny-model", "tiny-reward", "tiny-micro"]
    reward = models(store)["tiny-reward"]
    assert (reward["status"], reward["tokenizer_shared_with"]) == ("optional", "tiny-model")
    assert reward["parameters"]["n_future_tokens"] == 1


def test_sample_holds_every_model(good_root: Path) -> None:
    """The whole graph: as many models as there are checkpoints."""
    store = Store(Settings("sample", good_root), load_catalogue())
    checkpoints = [artifact.key for artifact in store.catalogue if artifact.dtype is not None]
    assert len(models(store)) == len(checkpoints) == 8
    owner = "meta-llama-mtp"  # micro-ref has the tokenizer of its parent, which has it from there
    assert {name: found["tokenizer_shared_with"] for name, found in models(store).items()} == {
        owner: None,
        f"{owner}-bf16": None,
        "ref-sheared-llama-2.7b": owner,
        "starling-rm-7b": owner,
        "micro-mtp": owner,
        "micro-mtp-untied": owner,
        "micro-ref": owner,
        "micro-ref-untied": owner,
    }
