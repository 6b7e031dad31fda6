"""``wmtp gc``: room is made, and no copy goes that may be the last good one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.operations.gc import ALWAYS, STALE, Garbage, What, collect
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, flip, tree

KEY = "humaneval_processed"
EVERYTHING: tuple[What, ...] = (*ALWAYS, "unfinished", "quarantine")


@pytest.fixture
def two_generations(store: Store) -> Artifact:
    """An artifact with the generation before it."""
    artifact, changed = store.catalogue[KEY], respec(store, "humaneval", max_tokens=200)
    materialize(changed, changed.catalogue[KEY])
    materialize(store, artifact)
    assert store.previous(artifact).is_dir()
    return artifact


def left_behind(store: Store) -> dict[What, Path]:
    """What crashes and repairs leave: a path of each class."""
    old = time.time() - STALE - 60
    temporary = store.internal / "verified" / KEY / ".schema.json.123.0123abcd"
    paths: dict[What, Path] = {
        "staging": store.internal / "staging" / KEY / "humaneval/processed/test.jsonl",
        "unfinished": store.internal / "scratch" / KEY / "part/rows",
        "quarantine": store.internal / "quarantine" / KEY / "2026/processed/test.jsonl",
        "temporary": temporary,
        "trash": store.internal / "trash/0123abcd/processed/test.jsonl",
    }
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    os.utime(temporary, (old, old))
    return paths


def run(store: Store, what: Sequence[What] = ALWAYS, *, dry_run: bool = False) -> list[Garbage]:
    return list(collect(store, what, dry_run=dry_run))


def artifacts_of(store: Store) -> dict[str, object]:
    """Everything that is not internal."""
    tops = [path for path in store.root.iterdir() if path != store.internal]
    return {f"{top.name}/{name}": item for top in tops for name, item in tree(top).items()}


def test_what_is_removed_by_default(store: Store, two_generations: Artifact) -> None:
    """Staging, trash and generations; not what work resumes, nor the evidence of damage."""
    paths, before = left_behind(store), artifacts_of(store)
    found = run(store)
    assert {item.what for item in found} == {"staging", "previous", "temporary", "trash"}
    assert [item.kept for item in found] == [""] * 4
    assert {what for what, path in paths.items() if path.exists()} == {"unfinished", "quarantine"}
    assert not store.previous(two_generations).exists()
    assert artifacts_of(store) == before
    assert run(store) == []


def test_everything_that_can_go(store: Store, two_generations: Artifact) -> None:
    """Asked for, unfinished work and damaged files go too, with the bytes that are freed."""
    paths = left_behind(store)
    found = run(store, EVERYTHING)
    assert {item.what for item in found} == set(EVERYTHING)
    assert {item.size for item in found if item.what != "previous"} == {1000}
    assert not any(path.exists() for path in paths.values())


def test_dry_run_says_the_same_and_removes_nothing(store: Store, two_generations: Artifact) -> None:
    """What is announced is what is done."""
    paths = left_behind(store)
    announced = run(store, EVERYTHING, dry_run=True)
    assert all(path.exists() for path in paths.values())
    assert store.previous(two_generations).is_dir()
    assert run(store, EVERYTHING) == announced


@pytest.mark.parametrize("name", ["processed/test.jsonl", "index/test.parquet", "metadata.json"])
def test_generation_before_a_damaged_one_is_kept(
    store: Store, two_generations: Artifact, name: str
) -> None:
    """It may be the last good copy; that the times of the files are right proves nothing."""
    path = store.path(two_generations, name)
    status = path.stat()
    damage(path, flip(status.st_size // 2))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (item,) = run(store)
    assert item.what == "previous"
    assert item.kept == f"the committed generation is damaged: wmtp repair {KEY}"
    assert store.previous(two_generations).is_dir()


def test_generation_before_nothing_is_kept(store: Store, two_generations: Artifact) -> None:
    """Somebody removed the artifact: what is left of it is the generation before."""
    store.manifest_path(two_generations).unlink()
    (item,) = run(store)
    assert item.kept == "it is the only generation there is"
    assert store.previous(two_generations).is_dir()


def test_generation_of_an_asset_that_no_spec_declares_is_kept(store: Store) -> None:
    """A defs.yaml that was moved away for a moment must cost nobody 13 GB."""
    kept = store.internal / "previous" / "gone_safetensors"
    kept.mkdir(parents=True)
    (item,) = run(store)
    assert "no defs.yaml declares" in item.kept
    assert kept.is_dir()


@contextmanager
def held_by_another_process(store: Store, name: str) -> Iterator[None]:
    script = (
        "import sys; from pathlib import Path;"
        "from wmtp_assets.kinds.registry import load_catalogue;"
        "from wmtp_assets.base.settings import Settings;"
        "from wmtp_assets.storage.store import Store\n"
        "store = Store(Settings('sample', Path(sys.argv[1])), load_catalogue())\n"
        "with store.lock(sys.argv[2]):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(store.root), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.stdin.close()


def test_what_is_being_worked_on_is_left_alone(store: Store) -> None:
    """A staging folder of a run that is still going is not garbage; it is said who holds it."""
    paths = left_behind(store)
    with held_by_another_process(store, KEY):
        found = {item.what: item for item in run(store, EVERYTHING)}
    assert {what for what, item in found.items() if item.kept} == {
        "staging",
        "unfinished",
        "quarantine",
    }
    assert "held by process" in found["staging"].kept
    assert paths["staging"].exists()
    run(store, EVERYTHING)
    assert not paths["staging"].exists()


def test_a_file_that_is_just_being_written_is_left_alone(store: Store) -> None:
    """Another process, on whichever host, may be about to give it its name."""
    path = left_behind(store)["temporary"]
    os.utime(path)
    run(store)
    assert path.exists()


def test_somebodys_file_among_the_folders_is_left_alone(store: Store) -> None:
    """A file manager was there."""
    path = store.internal / "staging/.DS_Store"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    assert run(store, EVERYTHING) == []
    assert path.exists()


def test_run_that_ends_meanwhile_is_no_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It removes its staging folder and its notices while they are looked at."""
    path = left_behind(store)["staging"]
    real = Path.lstat

    def lstat(self: Path) -> os.stat_result:
        if self == path and path.exists():
            shutil.rmtree(store.internal / "staging" / KEY)
        return real(self)

    monkeypatch.setattr(Path, "lstat", lstat)
    found = {item.what: item.size for item in run(store, dry_run=True)}
    assert found["staging"] == 0


def test_draft_of_a_killed_amendment(store: Store) -> None:
    """Nobody resumes it."""
    draft = store.internal / "amended" / "micro_mtp"
    draft.parent.mkdir(exist_ok=True)
    draft.write_bytes(b"{}")
    os.utime(draft, (0, 0))
    (item,) = run(store)
    assert (item.what, item.name) == ("temporary", "amended/micro_mtp")
    assert not draft.exists()


def test_empty_root(empty_store: Store) -> None:
    """Nothing there, nothing said, nothing made."""
    assert run(empty_store, EVERYTHING) == []
    assert not empty_store.root.exists()
