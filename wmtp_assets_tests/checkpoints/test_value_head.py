"""The value head that training leaves beside a checkpoint: recorded, kept, and not believed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact
from wmtp_assets.catalogue.artifact import VALUE_HEAD
from wmtp_assets.checkpoints.beside import (
    NO_VALUE_HEAD,
    check_value_head,
    forget_value_head,
    record_value_head,
)
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import MICRO, SAFETENSORS, TOKENIZER, VARIANT
from wmtp_assets_tests.trees import damage, flip, tree

GOOD = save({"v_head.weight": torch.linspace(-1, 1, 32).reshape(32, 1).half()})
RECORDED = {
    "path": "safetensors/value_head.safetensors",
    "sha256": hashlib.sha256(GOOD).hexdigest(),
    "stage1_checkpoint_id": "run-7/step-1000",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A committed model with its variant and its micro model."""
    store = tiny.make_store(tmp_path_factory.mktemp("made") / "storage")
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO, VARIANT)
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    """A copy of :func:`made`."""
    return tiny.copy_of(made, tmp_path / "storage")


def put(store: Store, data: bytes = GOOD, key: str = SAFETENSORS) -> Path:
    """Lay a value head beside a checkpoint, as training does."""
    path = store.path(store.catalogue[key], VALUE_HEAD)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


def record(store: Store, checkpoint_id: str | None = "run-7/step-1000") -> Document:
    """What the manifest says after the value head was recorded."""
    artifact = store.catalogue[SAFETENSORS]
    manifest = record_value_head(store, artifact, 32, checkpoint_id)
    assert store.manifest(artifact).document == manifest.document
    return manifest.document["value_head"]


def stated(store: Store, key: str = SAFETENSORS) -> Document:
    return json.loads(store.manifest_path(store.catalogue[key]).read_bytes())["value_head"]


def test_path_hash_and_origin_are_recorded(store: Store) -> None:
    """Which stage-1 run a value head is from cannot be seen in its numbers."""
    before = store.manifest(store.catalogue[SAFETENSORS])
    assert stated(store) == NO_VALUE_HEAD == {"path": None, "stage1_checkpoint_id": None}
    path = put(store)
    files = tree(tiny.model_folder(store, SAFETENSORS))
    assert record(store) == RECORDED
    assert path.read_bytes() == GOOD
    after = store.manifest(store.catalogue[SAFETENSORS])
    assert after.files == before.files, "what is downstream must not become stale"
    assert after.content_sha256 == before.content_sha256
    assert {**after.document, "value_head": 0, "self_sha256": 0} == {
        **before.document,
        "value_head": 0,
        "self_sha256": 0,
    }
    changed = {
        p for p, found in tree(tiny.model_folder(store, SAFETENSORS)).items() if files[p] != found
    }
    assert changed == {"metadata.json"}
    assert record(store, None) == RECORDED | {"stage1_checkpoint_id": None}


@pytest.mark.parametrize("key", [SAFETENSORS, MICRO])
def test_new_commit_keeps_it(store: Store, key: str) -> None:
    """Hours of training must survive that the checkpoint is made again, of new weights even."""
    path = put(store, key=key)
    size = 16 if key == MICRO else 32
    if key == MICRO:
        damage(path, lambda data: save({"v_head.weight": torch.ones(16, 1)}))
    artifact = store.catalogue[key]
    recorded = record_value_head(store, artifact, size, "run-7").document["value_head"]
    tensors = tiny.random_tensors(tiny.params(), seed=1)
    tiny.commit_raw(store, tensors)
    data = path.read_bytes()
    before = store.manifest(artifact).content_sha256
    tiny.make(store, SAFETENSORS, MICRO)
    assert store.manifest(artifact).content_sha256 != before
    assert path.read_bytes() == data
    assert stated(store, key) == recorded
    assert VALUE_HEAD not in store.manifest(artifact).files


def test_one_that_was_never_recorded_is_not_claimed(store: Store) -> None:
    """A file that lies there was not checked; it is kept, and recorded when somebody asks."""
    path = put(store)
    tiny.make(store, SAFETENSORS)
    assert stated(store) == NO_VALUE_HEAD
    assert path.read_bytes() == GOOD
    assert record(store) == RECORDED


def test_damaged_one_is_not_recorded_anew(store: Store) -> None:
    """Else making the checkpoint again would turn the damage into the truth."""
    path = put(store)
    record(store)
    damage(path, flip(-1))
    tiny.make(store, SAFETENSORS)
    assert stated(store) == RECORDED
    assert hashlib.sha256(path.read_bytes()).hexdigest() != RECORDED["sha256"]


def test_record_outlives_the_file_until_it_is_forgotten(store: Store) -> None:
    """Making the checkpoint again must not hide that a trained head was lost; saying so does."""
    path = put(store)
    record(store)
    path.unlink()
    tiny.make(store, SAFETENSORS)
    assert stated(store) == RECORDED
    artifact = store.catalogue[SAFETENSORS]
    before = store.manifest(artifact).content_sha256
    assert forget_value_head(store, artifact).document["value_head"] == NO_VALUE_HEAD
    assert stated(store) == NO_VALUE_HEAD
    assert store.manifest(artifact).content_sha256 == before
    tiny.make(store, SAFETENSORS)
    assert stated(store) == NO_VALUE_HEAD


def test_forgetting_leaves_the_file(store: Store) -> None:
    """It is somebody's training; only the record goes, and can be made anew."""
    path = put(store)
    record(store)
    forget_value_head(store, store.catalogue[SAFETENSORS])
    assert path.read_bytes() == GOOD
    assert record(store) == RECORDED


def test_link_is_not_recorded(store: Store, tmp_path: Path) -> None:
    """What it leads to may change, or be gone on the machine the folder is copied to."""
    (tmp_path / "elsewhere").write_bytes(GOOD)
    path = put(store)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MissingArtifact, match="or is a link"):
        record(store)
    assert stated(store) == NO_VALUE_HEAD


def test_variant_has_none(store: Store) -> None:
    """Its folder has no place for one, and the model's is not its own."""
    put(store)
    record(store)
    tiny.make(store, VARIANT)
    assert stated(store, VARIANT) == NO_VALUE_HEAD


def test_missing_value_head(store: Store) -> None:
    """Nothing to record: say where it was looked for, change nothing."""
    before = tree(tiny.model_folder(store, SAFETENSORS))
    path = store.path(store.catalogue[SAFETENSORS], VALUE_HEAD)
    with pytest.raises(MissingArtifact, match="put the trained value head there first") as refused:
        record(store)
    assert str(refused.value).startswith(str(path))
    assert tree(tiny.model_folder(store, SAFETENSORS)) == before


def test_missing_checkpoint(store: Store) -> None:
    """A value head of what? The command that makes the checkpoint is named."""
    put(store)
    store.manifest_path(store.catalogue[SAFETENSORS]).unlink()
    with pytest.raises(MissingArtifact, match=f"--select '{SAFETENSORS}'"):
        record(store)


def test_damaged_manifest_is_not_amended(store: Store) -> None:
    """Written anew it would get a right hash over wrong content."""
    put(store)
    damage(store.manifest_path(store.catalogue[SAFETENSORS]), flip(20))
    before = tree(tiny.model_folder(store, SAFETENSORS))
    with pytest.raises(CorruptArtifact):
        record(store)
    assert tree(tiny.model_folder(store, SAFETENSORS)) == before


def one(tensor: torch.Tensor) -> bytes:
    return save({"v_head.weight": tensor})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (one(torch.ones(1, 32)), "v_head.weight is float32 [1, 32], a value head is floating"),
        (one(torch.ones(32)), "v_head.weight is float32 [32], a value head"),
        (one(torch.ones(33, 1)), "v_head.weight is float32 [33, 1], a value head"),
        (one(torch.ones(32, 2)), "v_head.weight is float32 [32, 2], a value head"),
        (one(torch.ones(32, 1, 1)), "v_head.weight is float32 [32, 1, 1], a value head"),
        (one(torch.ones(32, 1).int()), "v_head.weight is I32 [32, 1], a value head"),
        (one(torch.ones(32, 1).to(torch.float8_e4m3fn)), "v_head.weight is F8_E4M3 [32, 1], a"),
        (save({}), "0 tensors (none), a value head is one"),
        (
            save({"v_head.weight": torch.ones(32, 1), "v_head.bias": torch.ones(1)}),
            "2 tensors (v_head.bias, v_head.weight), a value head is one",
        ),
        (GOOD[:-1], "bad safetensors header"),
        (b"", "no safetensors file"),
        (b"PK\x03\x04" + bytes(100), "no safetensors file"),
    ],
)
def test_other_files_are_refused(store: Store, data: bytes, message: str) -> None:
    """A head of another model fails in the first step of training; it is not recorded."""
    path = put(store, data)
    before = tree(tiny.model_folder(store, SAFETENSORS))
    with pytest.raises(InvalidInput) as refused:
        record(store)
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)
    assert tree(tiny.model_folder(store, SAFETENSORS)) == before
    assert stated(store) == NO_VALUE_HEAD


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_float_will_do(tmp_path: Path, dtype: torch.dtype) -> None:
    """Training keeps the head in the precision it likes."""
    path = tmp_path / "x"
    path.write_bytes(one(torch.ones(32, 1, dtype=dtype)))
    check_value_head(path, 32)
    for wrong in (31, 33, 1):
        with pytest.raises(InvalidInput, match=rf"a value head is floating point \[{wrong}, 1\]"):
            check_value_head(path, wrong)
