"""What is unchanged is left as it is: not a byte is written below the root but in ``.wmtp/``."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wmtp_assets.base.child import directly
from wmtp_assets.base.settings import Settings
from wmtp_assets.kinds.staleness import reasons
from wmtp_assets.operations import materialize as module
from wmtp_assets.operations.materialize import Updated, materialize, update
from wmtp_assets.operations.status import stale, status_of
from wmtp_assets.storage import store as store_module
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.rules.cases import edit_manifest, untouched
from wmtp_assets_tests.trees import damage, flip, own

KEYS = ("mbpp_raw", "mbpp_processed", "mbpp_pairs", "mbpp_small", "mbpp_stats", "mbpp_croissant")


def test_nothing_changed_and_nothing_is_made(store: Store) -> None:
    """A second run of the graph costs seconds, also on 60 GB."""
    before = untouched(store)
    for artifact in store.catalogue:
        done = update(store, artifact)
        assert done == Updated(store.manifest(artifact), is_made=False)
    assert untouched(store) == before


def test_copy_of_a_root_is_hashed_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times and inodes are others there, and the bytes are the same: read once, and made never."""
    shutil.copytree(store.root, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = Store(Settings("sample", tmp_path / "copy"), store.catalogue)
    before = untouched(copy)
    for key in KEYS:
        assert not update(copy, copy.catalogue[key]).is_made
    assert untouched(copy) == before
    monkeypatch.setattr("wmtp_assets.kinds.staleness.hash_file", None)
    for key in KEYS:
        assert not update(copy, copy.catalogue[key]).is_made


def test_commit_of_a_neighbour_needs_no_reading(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It links all files of the folder, which changes their ctime and nothing else."""
    raw, processed = (store.catalogue[key] for key in ("mbpp_raw", "mbpp_processed"))
    for artifact in (raw, processed):
        own(store, artifact)
        update(store, artifact)
    ctime = store.path(raw, "raw/full/test-00000-of-00001.parquet").stat().st_ctime_ns
    materialize(store, processed, run=directly)
    assert store.path(raw, "raw/full/test-00000-of-00001.parquet").stat().st_ctime_ns > ctime
    monkeypatch.setattr("wmtp_assets.kinds.staleness.hash_file", None)
    for artifact in (raw, processed):
        assert not update(store, artifact).is_made


def test_written_with_its_times_put_back(store: Store) -> None:
    """``cp -p`` and rsync give a file the size and mtime that it had: its ctime they cannot."""
    artifact = store.catalogue["mbpp_pairs"]
    path = store.path(artifact, "test.jsonl")
    own(store, artifact)
    update(store, artifact)
    status = path.stat()
    damage(path, flip(40))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = update(store, artifact, run=directly)
    assert [str(reason) for reason in done.reasons] == [
        "damaged: test.jsonl has another SHA-256 than it was committed with"
    ]
    assert done.is_made and reasons(store, artifact) == []


def test_missing_copy_at_the_root_comes_back_without_a_commit(store: Store) -> None:
    """The document is right, only its copy was removed or edited."""
    readme = store.catalogue["storage_readme"]
    path = store.root / "README.md"
    good = path.read_bytes()
    for change in (path.unlink, lambda: damage(path, flip(3))):
        change()
        assert not update(store, readme).is_made
        assert path.read_bytes() == good


def test_force_makes_it(store: Store) -> None:
    """Somebody who does not believe what is remembered need not."""
    artifact = store.catalogue["mbpp_small"]
    inode = store.manifest_path(artifact).stat().st_ino
    done = update(store, artifact, run=directly, force=True)
    assert (done.is_made, done.reasons) == (True, ())
    assert store.manifest_path(artifact).stat().st_ino != inode


def test_each_reason_is_named(
    store: Store, empty_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The field, with what it was and is; what is downstream waits for the content."""
    small = store.catalogue["mbpp_small"]
    assert [str(reason) for reason in reasons(empty_store, small)] == ["never made"]
    changed = respec(store, "mbpp", max_tokens=300, small={"train": 7})
    found = {row.name: row for row in stale(changed, changed.catalogue)}
    assert [str(reason) for reason in found["mbpp_small"].reasons] == [
        "settings changed: small.train: 100 → 7"
    ]
    assert [str(reason) for reason in found["mbpp_processed"].reasons] == [
        "settings changed: max_tokens: 2048 → 300"
    ]
    assert (found["mbpp_pairs"].reasons, found["mbpp_pairs"].after) == ((), ("mbpp_processed",))
    assert "mbpp_raw" not in found
    said = status_of(changed, changed.catalogue["mbpp_small"])
    assert (said.state, said.code) == ("attention", 16)
    assert "small.train: 100 → 7; run: dagster asset materialize" in said.problem
    kind = module.kind_of(small)
    monkeypatch.setattr(
        type(kind),
        "made_with",
        lambda self, store, artifact: {
            "builder": self.version + 1,
            "settings": self.settings(artifact),
        },
    )
    text = f"builder changed: {kind.version} → {kind.version + 1}"
    assert [str(reason) for reason in reasons(store, small)] == [text]


def test_manifest_of_an_earlier_version_is_said_once(store: Store) -> None:
    """It does not say what made it: one reason, and the command that looks at it."""
    artifact = store.catalogue["mbpp_small"]
    edit_manifest(made_with=None)(store, artifact)
    (reason,) = reasons(store, artifact)
    assert str(reason) == "made by an earlier version: it does not say builder, small"
    assert "run: wmtp migrate mbpp_small" in status_of(store, artifact).problem


def test_written_as_soon_as_it_is_committed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was hashed lay in the staging folder: a write right after the exchange must not be taken
    for it."""
    artifact = store.catalogue["mbpp_pairs"]

    def install(new: Path, current: Path) -> bool:
        done = original(new, current)
        damage(current / "test.jsonl", flip(40))
        return done

    original = store_module.install
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "install", install)
        materialize(store, artifact, run=directly)
    assert store.unread(artifact, store.manifest(artifact)) == ["test.jsonl"]
    assert [str(reason) for reason in reasons(store, artifact)] == [
        "damaged: test.jsonl has another SHA-256 than it was committed with"
    ]


def test_two_at_once_make_it_once(store: Store) -> None:
    """Two runs that want the same checkpoint convert it once: the second waits, and looks again."""
    changed = respec(store, "mbpp", small={"train": 5, "other": 5, "seed": 1})
    small = changed.catalogue["mbpp_small"]
    with ThreadPoolExecutor() as pool:
        with store.lock(small.key):
            told: list[list[str]] = [[], []]
            runs = [pool.submit(update, changed, small, say.append, directly) for say in told]
            while not all(any("waiting" in line for line in say) for say in told):
                time.sleep(0.01)
        made = [run.result() for run in runs]
    assert sorted(one.is_made for one in made) == [False, True]
    assert made[0].manifest == made[1].manifest
