"""``wmtp repair``: the committed bytes are there again, or nothing was touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from wmtp_assets.base.errors import CorruptArtifact, WmtpError
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.checkpoints.beside import record_value_head
from wmtp_assets.operations import repair as module
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.repair import find_damage, repair
from wmtp_assets.operations.status import status_of
from wmtp_assets.operations.verify import findings_of, verify
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Staged, Store
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.rules.cases import KEY
from wmtp_assets_tests.trees import damage, flip, tree

Harm = Callable[[Path], None]


def cut_off(path: Path) -> None:
    damage(path, lambda data: data[: len(data) // 2])


def link_away(path: Path) -> None:
    path.unlink()
    path.symlink_to(os.devnull)


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "somebody's").write_bytes(b"precious")


def flip_middle(path: Path) -> None:
    damage(path, flip(path.stat().st_size // 2))


HARMS: dict[str, Harm] = {
    "a flipped bit": flip_middle,
    "cut off": cut_off,
    "missing": Path.unlink,
    "a link": link_away,
    "a folder": put_folder,
}


def problems(store: Store, artifact: Artifact) -> list[str]:
    verdicts = verify(store, [artifact], lambda verdict: None)
    return [str(item) for item in findings_of(verdicts) if item.problem != "warning"]


def quarantined(store: Store, artifact: Artifact) -> dict[str, Path]:
    """What is kept of damaged files, by name in the artifact."""
    folder = store.internal / "quarantine" / artifact.key
    kept = sorted(folder.glob("*/**/*")) if folder.is_dir() else []
    return {
        path.relative_to(folder).as_posix().split("/", 1)[1]: path
        for path in kept
        if path.is_symlink() or not path.is_dir()
    }


def one_file_each(store: Store) -> list[tuple[Artifact, str]]:
    """An artifact of each kind, and the largest file of it."""
    artifacts = [store.catalogue[key] for key in KEY.values()]
    return [
        (artifact, max(files := store.manifest(artifact).files, key=lambda n: files[n].size))
        for artifact in artifacts
    ]


@pytest.mark.parametrize("kind", KEY)
def test_a_damaged_file_of_every_kind_is_put_right(store: Store, kind: str) -> None:
    """From the pinned commit, or from verified upstream: the very bytes, and only that file."""
    (pair,) = (pair for pair in one_file_each(store) if pair[0].kind == kind)
    artifact, name = pair
    before, good = tree(store.folder(artifact)), store.path(artifact, name).read_bytes()
    flip_middle(store.path(artifact, name))
    bad = store.path(artifact, name).read_bytes()
    found = find_damage(store, artifact)
    assert found.files == (name,)
    kept = repair(store, found)
    assert store.path(artifact, name).read_bytes() == good
    after = tree(store.folder(artifact))
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == {name}
    assert problems(store, artifact) == []
    assert kept is not None
    assert (kept / name).read_bytes() == bad
    assert not any((store.internal / "staging").glob("*/*"))


@pytest.mark.parametrize("harm", HARMS)
def test_whatever_is_in_the_place_of_a_file_is_kept(store: Store, harm: str) -> None:
    """A link, a folder with somebody's files, half a file: nothing of it is deleted."""
    artifact = store.catalogue["humaneval_pairs"]
    path = store.path(artifact, "test.jsonl")
    good = path.read_bytes()
    HARMS[harm](path)
    was = {} if harm == "missing" else {"test.jsonl": path.lstat().st_ino}
    repair(store, find_damage(store, artifact))
    assert path.read_bytes() == good
    assert not path.is_symlink()
    kept = quarantined(store, artifact)
    if harm == "a folder":
        assert kept["test.jsonl/somebody's"].read_bytes() == b"precious"
    else:
        assert {name: item.lstat().st_ino for name, item in kept.items()} == was
    assert problems(store, artifact) == []


def test_folder_that_became_a_file(store: Store) -> None:
    """Every file below it is missing, and its name is taken."""
    artifact = store.catalogue["micro_ref"]
    folder = store.path(artifact, "configs")
    shutil.rmtree(folder)
    folder.write_bytes(b"a file")
    found = find_damage(store, artifact)
    assert {name.split("/")[0] for name in found.files} == {"configs"}
    repair(store, found)
    assert problems(store, artifact) == []
    assert quarantined(store, artifact)["configs"].read_bytes() == b"a file"


def test_nothing_to_repair(store: Store) -> None:
    """A whole artifact is read and left alone."""
    artifact = store.catalogue["humaneval_small"]
    before = tree(store.folder(artifact))
    assert find_damage(store, artifact).is_none
    assert tree(store.folder(artifact)) == before


def test_extra_file_is_not_touched(store: Store) -> None:
    """It is somebody's; whether it can go is not for a program to say."""
    artifact = store.catalogue["humaneval_small"]
    store.path(artifact, "notes.txt").write_bytes(b"mine")
    assert find_damage(store, artifact).is_none
    assert store.path(artifact, "notes.txt").read_bytes() == b"mine"


def test_damaged_upstream_is_named_and_nothing_is_touched(store: Store) -> None:
    """Bytes made from damaged bytes would be damaged with a right hash."""
    artifact, raw = store.catalogue["humaneval_processed"], store.catalogue["humaneval_raw"]
    (raw_file,) = store.manifest(raw).files
    flip_middle(store.path(raw, raw_file))
    flip_middle(store.path(artifact, "processed/test.jsonl"))
    before = tree(store.folder(artifact))
    with pytest.raises(CorruptArtifact) as error:
        repair(store, find_damage(store, artifact))
    assert "nothing was touched" in str(error.value)
    assert str(store.path(raw, raw_file)) in str(error.value)
    assert "wmtp repair humaneval_raw" in str(error.value)
    assert tree(store.folder(artifact)) == before
    assert quarantined(store, artifact) == {}
    for key in (raw.key, artifact.key):
        repair(store, find_damage(store, store.catalogue[key]))
    assert problems(store, artifact) == problems(store, raw) == []


def test_absent_upstream_is_named_and_nothing_is_touched(store: Store) -> None:
    """The damaged copy is the only one, and stays."""
    artifact, raw = store.catalogue["humaneval_processed"], store.catalogue["humaneval_raw"]
    flip_middle(store.path(artifact, "processed/test.jsonl"))
    store.manifest_path(raw).unlink()
    before = tree(store.folder(artifact))
    with pytest.raises(WmtpError, match="humaneval_raw"):
        repair(store, find_damage(store, artifact))
    assert tree(store.folder(artifact)) == before


def test_other_bytes_than_were_committed_are_not_swapped_in(store: Store) -> None:
    """A changed setting makes other rows: that is a new artifact, and no repair."""
    changed = respec(store, "humaneval", max_tokens=200)
    artifact = changed.catalogue["humaneval_processed"]
    flip_middle(changed.path(artifact, "processed/test.jsonl"))
    before = tree(changed.folder(artifact))
    with pytest.raises(CorruptArtifact) as error:
        repair(changed, find_damage(changed, artifact))
    assert "nothing was touched" in str(error.value)
    assert "dagster asset materialize --select 'humaneval_processed'" in str(error.value)
    assert tree(changed.folder(artifact)) == before
    assert quarantined(changed, artifact) == {}


def test_artifact_that_was_committed_anew_meanwhile_is_left_alone(
    store: Store,
) -> None:
    """What was damaged is gone already."""
    changed = respec(store, "humaneval", max_tokens=200)
    artifact = store.catalogue["humaneval_processed"]
    flip_middle(store.path(artifact, "processed/test.jsonl"))
    found = find_damage(store, artifact)
    materialize(changed, changed.catalogue[artifact.key])
    before = tree(store.folder(artifact))
    with pytest.raises(CorruptArtifact, match="committed again while this ran"):
        repair(store, found)
    assert tree(store.folder(artifact)) == before


@pytest.mark.parametrize("harm", [flip_middle, cut_off], ids=["flipped", "cut off"])
def test_damaged_manifest(store: Store, harm: Harm) -> None:
    """Nothing says any more what was committed: the artifact is made again as a whole."""
    artifact = store.catalogue["humaneval_processed"]
    content = store.manifest(artifact).content_sha256
    harm(store.manifest_path(artifact))
    found = find_damage(store, artifact)
    assert (found.files, found.manifest) == ((), None)
    repair(store, found)
    assert store.manifest(artifact).content_sha256 == content
    assert problems(store, artifact) == []
    for name in ("pairs", "small", "stats"):
        assert status_of(store, store.catalogue[f"humaneval_{name}"]).state == "committed"


def test_damaged_manifest_beside_a_damaged_file(store: Store) -> None:
    """Whether the file is the committed one, nothing can say any more: it is not thrown away."""
    artifact = store.catalogue["humaneval_pairs"]
    flip_middle(store.manifest_path(artifact))
    flip_middle(store.path(artifact, "test.jsonl"))
    before = tree(store.folder(artifact))
    with pytest.raises(CorruptArtifact) as error:
        repair(store, find_damage(store, artifact))
    assert "test.jsonl is not what is made now" in str(error.value)
    assert "dagster asset materialize --select 'humaneval_pairs'" in str(error.value)
    assert tree(store.folder(artifact)) == before


def test_folder_in_place_of_the_manifest(store: Store) -> None:
    """With somebody's file in it, which is kept."""
    artifact = store.catalogue["humaneval_pairs"]
    put_folder(store.manifest_path(artifact))
    repair(store, find_damage(store, artifact))
    assert problems(store, artifact) == []
    assert quarantined(store, artifact)["metadata.json/somebody's"].read_bytes() == b"precious"


def test_recorded_value_head_survives_a_damaged_manifest(store: Store) -> None:
    """The bit was flipped elsewhere: the record is still there, and the file bears it out."""
    artifact = store.catalogue["micro_mtp"]
    path = store.path(artifact, VALUE_HEAD)
    path.write_bytes(save({"weight": np.zeros((512, 1), np.float16)}))
    record_value_head(store, artifact, 512, "run-7")
    recorded = store.manifest(artifact).document["value_head"]
    damage(
        store.manifest_path(artifact), lambda data: data.replace(b'"n_params": 2', b'"n_params": 3')
    )
    repair(store, find_damage(store, artifact))
    assert store.manifest(artifact).document["value_head"] == recorded
    assert problems(store, artifact) == []


def test_folder_that_became_a_link(store: Store, tmp_path: Path) -> None:
    """One file behind it is damaged, but all of them are outside the artifact."""
    artifact = store.catalogue["micro_ref"]
    folder = store.path(artifact, "configs")
    folder.rename(tmp_path / "configs")
    folder.symlink_to(tmp_path / "configs")
    flip_middle(tmp_path / "configs/params.json")
    found = find_damage(store, artifact)
    assert len(found.files) == 3
    repair(store, found)
    assert not folder.is_symlink()
    assert problems(store, artifact) == []
    assert len(list((tmp_path / "configs").iterdir())) == 3


def test_summary_of_another_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name has the day on which it was made; the bytes are the same on any day."""
    artifact = store.catalogue["humaneval_stats"]
    (name,) = store.manifest(artifact).files
    flip_middle(store.path(artifact, name))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "4102444800")
    repair(store, find_damage(store, artifact))
    assert problems(store, artifact) == []


def test_nothing_of_the_work_stays(store: Store) -> None:
    """Converted shards are gigabytes, and a download links what it has to what is committed."""
    for key in ("humaneval_raw", "humaneval_processed"):
        artifact = store.catalogue[key]
        flip_middle(store.path(artifact, next(iter(store.manifest(artifact).files))))
        repair(store, find_damage(store, artifact))
        assert not store.scratch(artifact).exists()


def test_staged_bytes_are_read_again_before_they_are_swapped_in(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that damages what it is given must not take the place of the evidence too."""
    artifact = store.catalogue["humaneval_pairs"]
    flip_middle(store.path(artifact, "test.jsonl"))
    before = tree(store.folder(artifact))
    real = module.build_staged

    def build_badly(
        store: Store, artifact: Artifact, staged: Staged, *more: Any, **others: Any
    ) -> Document:
        document = real(store, artifact, staged, *more, **others)
        flip_middle(staged.folder / "test.jsonl")
        return document

    monkeypatch.setattr(module, "build_staged", build_badly)
    with pytest.raises(CorruptArtifact, match="nothing was touched"):
        repair(store, find_damage(store, artifact))
    assert tree(store.folder(artifact)) == before
