"""A model in another dtype beside its own: from the same raw numbers, and in nobody's way."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import MICRO, RAW, SAFETENSORS, TOKENIZER, VARIANT
from wmtp_assets_tests.trees import damage, flip, tree

STATE = tiny.random_tensors(tiny.params())
FOLDER = "safetensors-bf16"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A committed model with its variant and its micro model."""
    store = tiny.make_store(tmp_path_factory.mktemp("made") / "storage")
    tiny.commit_raw(store, STATE)
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO, VARIANT)
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    """A copy of :func:`made`."""
    return tiny.copy_of(made, tmp_path / "storage")


def variant(store: Store) -> Path:
    """The variant's folder."""
    return store.folder(store.catalogue[VARIANT])


def test_numbers_are_rounded_once() -> None:
    """The two ways of rounding below differ, or the next test would prove nothing."""
    assert any(
        not torch.equal(tensor.bfloat16(), tensor.half().bfloat16()) for tensor in STATE.values()
    )


def test_values_are_those_of_the_raw_file(made: Store) -> None:
    """Cast from float32 and not from the float16 that lies beside it."""
    expected = {name: t.bfloat16() for name, t in STATE.items() if name != "rope.freqs"}
    tiny.assert_same_bits(load_file(variant(made) / "model.safetensors"), expected)
    conversion = made.manifest(made.catalogue[VARIANT]).document["conversion"]
    assert (conversion["from_dtype"], conversion["to_dtype"]) == (["float32"], "bfloat16")


def test_numbers_beyond_float16_are_no_obstacle(store: Store) -> None:
    """That is what the variant is for: its range is float32's."""
    tensors = STATE | {"norm.weight": torch.full((32,), 1e6)}
    tiny.commit_raw(store, tensors)
    with pytest.raises(InvalidInput, match=r"norm\.weight: 1e\+06 overflows float16"):
        tiny.make(store, SAFETENSORS)
    tiny.make(store, VARIANT)
    found = load_file(variant(store) / "model.safetensors")["norm.weight"]
    assert torch.equal(found, tensors["norm.weight"].bfloat16())


def test_folder_stands_alone(made: Store) -> None:
    """Everything but the tokenizer is in one folder; the path to that leads there."""
    assert tree(variant(made)).keys() - {"metadata.json", "pieces.json"} == {
        "model.safetensors",
        "SHA256SUMS",
        "params.json",
        "meta_adapter.yaml",
        "config.json",
    }
    document = made.manifest(made.catalogue[VARIANT]).document
    assert document["files"] == {
        "checkpoint": "model.safetensors",
        "tokenizer": "../tokenizer/tokenizer.model",
        "params": "params.json",
        "adapter": "meta_adapter.yaml",
        "config": "config.json",
    }
    tokenizer = variant(made) / document["files"]["tokenizer"]
    owner = made.catalogue[TOKENIZER]
    assert tokenizer.resolve() == made.path(owner, "tokenizer.model").resolve()
    assert document["sha256"]["tokenizer"] == made.manifest(owner).files["tokenizer.model"].sha256
    assert document["status"] == "optional"


def test_files_say_its_dtype(made: Store) -> None:
    """A loader that believes float16 casts once more, and overflows."""
    folder = variant(made)
    assert json.loads((folder / "config.json").read_bytes())["torch_dtype"] == "bfloat16"
    assert yaml.safe_load((folder / "meta_adapter.yaml").read_bytes())["dtype"] == "bfloat16"
    assert json.loads((folder / "metadata.json").read_bytes())["dtype"] == "bfloat16"
    ours = made.folder(made.catalogue[SAFETENSORS])
    assert json.loads((ours / "configs/config.json").read_bytes())["torch_dtype"] == "float16"


def test_sha256sum_covers_every_file(store: Store) -> None:
    """Coreutils must accept the folder, name every file in it but the manifest, and see damage."""
    command = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    done = subprocess.run(command, cwd=variant(store), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = {line.removesuffix(": OK") for line in done.stdout.splitlines()}
    assert listed == tree(variant(store)).keys() - {"metadata.json", "pieces.json", "SHA256SUMS"}
    for name in listed:
        damage(variant(store) / name, flip(-2))
        assert subprocess.run(command, cwd=variant(store), capture_output=True).returncode == 1
        damage(variant(store) / name, flip(-2))


def test_making_it_touches_nothing_else(store: Store) -> None:
    """Not one file of the model, not even its inode; and all are still as committed."""
    folder = tiny.model_folder(store, SAFETENSORS)
    before = {p: found for p, found in tree(folder).items() if not p.startswith(FOLDER)}
    tiny.commit_raw(store, STATE | {"norm.weight": torch.zeros(32)})
    raw = {p: found for p, found in tree(folder).items() if p.startswith("raw")}
    tiny.make(store, VARIANT)
    after = {p: found for p, found in tree(folder).items() if not p.startswith(FOLDER)}
    assert after == before | raw
    found = load_file(variant(store) / "model.safetensors")["norm.weight"]
    assert not found.any()


def test_making_the_model_again_keeps_it(store: Store) -> None:
    """A commit exchanges the model's whole folder, in which the variant lies."""
    before = tree(variant(store))
    tiny.commit_raw(store, STATE | {"norm.weight": torch.zeros(32)})
    tiny.make(store, TOKENIZER, SAFETENSORS)
    assert tree(variant(store)) == before
    assert not load_file(tiny.checkpoint_path(store, SAFETENSORS))["norm.weight"].any()


def test_made_again_is_the_same(store: Store) -> None:
    """Same bytes in, same bytes out."""
    before = store.manifest(store.catalogue[VARIANT]).document
    assert tiny.make(store, VARIANT).document == before


def test_refusal_keeps_the_old_one(store: Store) -> None:
    """Damage upstream, or none: what is there stays, and nothing is left staged."""
    tiny.commit_raw(store, STATE | {"norm.weight": torch.full((32,), float("nan"))})
    message = tiny.assert_refused(store, key=VARIANT)
    assert message == f"{tiny.raw_path(store)}: norm.weight: holds NaN or infinity"
    damage(tiny.raw_path(store), flip(-1))
    assert f"wmtp repair {RAW}" in tiny.assert_refused(store, CorruptArtifact, key=VARIANT)
