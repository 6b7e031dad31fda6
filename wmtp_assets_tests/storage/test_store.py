"""The store: a commit is old or new, never half.

What happens when it is killed or fails at any of its system calls is seen in
``faults/test_crash_sweep.py``.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_assets.base.errors import (
    CorruptArtifact,
    LockHeld,
    MissingArtifact,
    SpecError,
    StoreError,
    WrongRoot,
)
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.settings import Settings, Source, timestamp, utc_now
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.catalogue.specs import ModelFiles, ModelSpec, Repository, TokenizerSpec
from wmtp_assets.kinds.registry import expand
from wmtp_assets.storage import exchange, manifest
from wmtp_assets.storage import files as files_module
from wmtp_assets.storage import store as store_module
from wmtp_assets.storage.files import BLOCK, HashedFile, Hasher, hash_file, replace_file
from wmtp_assets.storage.manifest import FileRecord, Manifest
from wmtp_assets.storage.store import Staged, Store
from wmtp_assets_tests.trees import as_the_version_before, damage, flip

RAW, TOKENIZER, SAFETENSORS = "tiny_raw", "tiny_tokenizer", "tiny_safetensors"
VARIANT = "tiny_bf16"
SPEC = ModelSpec(
    name="tiny",
    folder="tiny",
    description="four assets that share a folder",
    family="meta_mtp",
    dtype="float16",
    variants=("bfloat16",),
    repository=Repository(id="owner/tiny", type="model", license="MIT", size="1 MB"),
    files=ModelFiles(checkpoint="weights.pth", params="params.json", tokenizer="tokenizer.model"),
    tokenizer=TokenizerSpec(vocab_size=1),
)

Files = Mapping[str, bytes]
OLD: Files = {"raw/7B/weights": b"old weights", "raw/only-old": b"x", "raw/swaps": b"a file"}
NEW: Files = {"raw/7B/weights": b"new weights", "raw/only-new": b"y", "raw/swaps/in": b"a folder"}

CHECK = ["sha256sum", "--strict"] if shutil.which("sha256sum") else ["shasum", "-a", "256"]


def open_store(root: Path, source: Source = "sample") -> Store:
    return Store(Settings(source, root), expand([SPEC]))


def commit(store: Store, key: str, files: Files, say: Say = silent, **document: Any) -> Manifest:
    """Stage ``files`` and commit them."""
    artifact = store.catalogue[key]
    with store.stage(artifact, say) as staged:
        for name, data in files.items():
            staged.write(name, data)
        return store.commit(artifact, staged, document, say)


def contents(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Path → inode and content (of a link: its target) of everything that is not a folder."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            status = path.lstat()
            if path.is_symlink():
                found[path.relative_to(folder).as_posix()] = status.st_ino, str(path.readlink())
            elif path.is_file():
                found[path.relative_to(folder).as_posix()] = status.st_ino, path.read_bytes()
            elif not path.is_dir():
                found[path.relative_to(folder).as_posix()] = status.st_ino, b""
    return found


def bytes_of(folder: Path) -> dict[str, bytes | str]:
    """:func:`contents` without the inodes."""
    return {path: content for path, (_, content) in contents(folder).items()}


def staging(store: Store) -> list[Path]:
    """What is left of staging folders."""
    return list((store.internal / "staging").glob("*"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty root."""
    return open_store(tmp_path / "storage")


@pytest.fixture
def unit(store: Store) -> Path:
    """The model's folder: raw files and tokenizer committed, and things that nobody owns."""
    return furnish(store)


def furnish(store: Store) -> Path:
    commit(store, RAW, OLD)
    commit(store, TOKENIZER, {"tokenizer.model": b"pieces"})
    unit = store.root / "models_v2/tiny"
    (unit / "notes.txt").write_bytes(b"mine")
    (unit / "safetensors-bf16/deep").mkdir(parents=True)
    (unit / "safetensors-bf16/deep/model.safetensors").write_bytes(b"another asset's")
    (unit / "link").symlink_to("raw/7B/weights")
    (unit / "folder-link").symlink_to("raw", target_is_directory=True)
    (unit / "dangling").symlink_to("nowhere")
    return unit


STRANGERS = (
    "notes.txt",
    "safetensors-bf16/deep/model.safetensors",
    "link",
    "folder-link",
    "dangling",
    "tokenizer/tokenizer.model",
    "tokenizer/metadata.json",
)


# -- commits -------------------------------------------------------------------------------------


def test_first_commit(store: Store) -> None:
    """The files, the manifest over them, and nothing else."""
    sealed = commit(store, RAW, OLD, format="upstream")
    unit = store.root / "models_v2/tiny"
    assert bytes_of(unit) == {**OLD, "raw.metadata.json": (unit / "raw.metadata.json").read_bytes()}
    assert store.manifest(store.catalogue[RAW]) == sealed
    assert sealed.document["format"] == "upstream"
    assert sealed.files == {name: hash_file(unit / name) for name in OLD}
    assert [path.name for path in store.root.iterdir()].count("models_v2") == 1
    assert {path.name for path in store.root.iterdir()} == {"models_v2", INTERNAL}
    assert staging(store) == []


def test_scratch_is_nobodys_artifact(store: Store) -> None:
    """Half-done work lies among the internals, a folder for each asset, and is none of the store's
    business: neither staging nor a commit makes or removes it."""
    folders = {artifact.key: store.scratch(artifact) for artifact in store.catalogue}
    assert len({*folders.values()}) == len(folders)
    assert {folder.parent for folder in folders.values()} == {store.internal / "scratch"}
    commit(store, RAW, OLD)
    assert not (store.internal / "scratch").exists()
    folders[RAW].mkdir(parents=True)
    (folders[RAW] / "part").write_bytes(b"done")
    commit(store, RAW, NEW)
    assert bytes_of(store.internal / "scratch") == {f"{RAW}/part": b"done"}
    assert not any("part" in name for name in bytes_of(store.root / "models_v2"))


def test_replacing_commit(store: Store) -> None:
    """The new files and no other: a file that the new version lacks would be trained with."""
    commit(store, RAW, OLD)
    commit(store, RAW, NEW)
    found = bytes_of(store.root / "models_v2/tiny")
    del found["raw.metadata.json"]
    assert found == NEW
    assert staging(store) == []


def test_what_others_own_is_carried_over(store: Store, unit: Path) -> None:
    """The folder is exchanged whole: whatever is in it and not the asset's must come along.

    As a hard link, not a copy: 27 GB are not written again because 1 kB beside them changed.
    """
    before = contents(unit)
    commit(store, RAW, NEW)
    after = contents(unit)
    assert {name: after[name] for name in STRANGERS} == {name: before[name] for name in STRANGERS}
    assert after.keys() == {*STRANGERS, *NEW, "raw.metadata.json"}


def test_named_pipes_are_carried_over(store: Store, unit: Path) -> None:
    """They are not ours and nothing is read from them: that would wait forever."""
    os.mkfifo(unit / "pipe")
    before = contents(unit)["pipe"]
    commit(store, RAW, NEW)
    assert contents(unit)["pipe"] == before


def test_nested_artifact_commits_its_own_folder(store: Store, unit: Path) -> None:
    """The smallest folder that holds all that is owned: nothing around it is even linked anew."""
    before = contents(unit)
    inode = unit.stat().st_ino
    commit(store, TOKENIZER, {"tokenizer.model": b"more pieces"})
    after = contents(unit)
    assert unit.stat().st_ino == inode
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"tokenizer/tokenizer.model", "tokenizer/metadata.json"}


def test_value_head_survives_a_new_checkpoint(store: Store, unit: Path) -> None:
    """Training puts it among the asset's own files; it once was moved away and then deleted."""
    commit(store, SAFETENSORS, {"safetensors/model.safetensors": b"1"})
    head = unit / "safetensors/value_head.safetensors"
    head.write_bytes(b"weeks of training")
    before = contents(unit)["safetensors/value_head.safetensors"]
    for content in (b"2", b"3"):
        commit(store, SAFETENSORS, {"safetensors/model.safetensors": content})
        assert contents(unit)["safetensors/value_head.safetensors"] == before


@pytest.mark.parametrize(
    ("first", "second"), [(SAFETENSORS, VARIANT), (VARIANT, SAFETENSORS)], ids=["variant", "model"]
)
def test_model_and_variant_leave_each_other_alone(store: Store, first: str, second: str) -> None:
    """``safetensors-bf16/`` lies in the folder that the model exchanges whole: a new conversion of
    the one must not cost the other its 13 GB, or even write them again."""
    files: dict[str, Files] = {
        SAFETENSORS: {"safetensors/model.safetensors": b"f16", "configs/config.json": b"{}"},
        VARIANT: {"model.safetensors": b"bf16", "config.json": b"{}"},
    }
    unit = store.root / "models_v2/tiny"
    commit(store, first, files[first])
    folder = {SAFETENSORS: "safetensors/", VARIANT: "safetensors-bf16/"}[first]
    before = {name: row for name, row in contents(unit).items() if name.startswith(folder)}
    assert before
    said: list[str] = []
    for content in (b"1", b"2"):
        commit(store, second, {**files[second], next(iter(files[second])): content}, said.append)
        after = contents(unit)
        assert {name: row for name, row in after.items() if name.startswith(folder)} == before
        assert store.manifest(store.catalogue[first]).files.keys() == files[first].keys()
    assert said == []
    kept = bytes_of(store.internal / "previous" / second)
    assert kept[next(iter(files[second]))] == b"1"
    assert not any(name.startswith(folder) for name in kept)


def test_value_head_has_no_place_in_a_variant(store: Store) -> None:
    """Only where a checkpoint lies in ``safetensors/`` is there a beside; elsewhere the name is
    that of somebody's file, which is kept and said."""
    files = {"model.safetensors": b"bf16"}
    commit(store, VARIANT, files)
    head = store.root / "models_v2/tiny/safetensors-bf16/safetensors/value_head.safetensors"
    head.parent.mkdir()
    head.write_bytes(b"in the wrong place")
    said: list[str] = []
    commit(store, VARIANT, files, said.append)
    assert head.read_bytes() == b"in the wrong place"
    assert said == [
        "kept safetensors/value_head.safetensors, which is not a file of tiny_bf16; move it "
        "elsewhere"
    ]


def test_previous_generation_is_kept(store: Store, unit: Path) -> None:
    """One step back is always possible; what others own is not held twice."""
    before = contents(unit)
    commit(store, RAW, NEW)
    kept = store.internal / "previous" / RAW
    assert contents(kept) == {name: before[name] for name in (*OLD, "raw.metadata.json")}
    commit(store, RAW, OLD)
    found = bytes_of(kept)
    del found["raw.metadata.json"]
    assert found == NEW


def test_previous_generation_survives_an_equal_commit(store: Store) -> None:
    """The remedy of every finding is to make it again: that must not use the one step back up."""
    commit(store, RAW, NEW)
    kept = store.internal / "previous" / RAW
    before = contents(kept)
    commit(store, RAW, NEW)
    assert contents(kept) == before


def test_somebodys_file_in_an_owned_folder_is_kept(store: Store, unit: Path) -> None:
    """A fine-tuned checkpoint put beside ours was moved away, and deleted by the next commit."""
    (unit / "raw/finetuned.bin").write_bytes(b"weeks of work")
    (unit / "raw/only-new").write_bytes(b"in the way of a new file")
    inode = (unit / "raw/finetuned.bin").stat().st_ino
    said: list[str] = []
    for files in (NEW, OLD, NEW):
        commit(store, RAW, files, said.append)
    assert (unit / "raw/finetuned.bin").stat().st_ino == inode
    assert (unit / "raw/only-new").read_bytes() == NEW["raw/only-new"]
    assert set(said) == {f"kept raw/finetuned.bin, which is not a file of {RAW}; move it elsewhere"}


def test_equal_commit_keeps_its_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same content is the same artifact, byte for byte, however often it is made."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    path = store.manifest_path(store.catalogue[RAW])
    commit(store, RAW, OLD)
    first = path.read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "2000")
    commit(store, RAW, OLD)
    assert path.read_bytes() == first
    commit(store, RAW, NEW)
    assert store.manifest(store.catalogue[RAW]).document["created_at"] == "1970-01-01T00:33:20Z"


@pytest.mark.parametrize("change", [flip(40), lambda data: b"", lambda data: b"{}"])
def test_commit_over_a_damaged_manifest(
    store: Store, unit: Path, change: Callable[[bytes], bytes]
) -> None:
    """Making an artifact again is the cure for all damage: it must not stumble over it."""
    damage(unit / "raw.metadata.json", change)
    commit(store, RAW, NEW)
    assert store.manifest(store.catalogue[RAW]).files.keys() == NEW.keys()


def test_files_of_another_asset_are_not_staged(store: Store, unit: Path) -> None:
    """No two assets write the same file; one that tries is stopped before anything changes."""
    before = contents(unit)
    for name in ("tokenizer/tokenizer.model", "metadata.json", "notes.txt"):
        with pytest.raises(ValueError, match=f"tiny_raw does not own {name}"):
            commit(store, RAW, {**NEW, name: b"stolen"})
    assert contents(unit) == before


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a//b", "a\\b", "a\0b", "", "raw/.."])
def test_staged_files_stay_in_the_staging_folder(tmp_path: Path, name: str) -> None:
    """Names come from upstream repositories."""
    staged = Staged(tmp_path / "staging")
    staged.folder.mkdir()
    with pytest.raises(ValueError, match="is not a plain relative path"):
        staged.write(name, b"x")
    assert bytes_of(tmp_path) == {}


def test_a_file_is_staged_once(tmp_path: Path) -> None:
    """Two upstream files on one path: the manifest could be right about one of them only."""
    staged = Staged(tmp_path)
    staged.write("a", b"1")
    with pytest.raises(FileExistsError):
        staged.write("a", b"2")
    assert staged.files == {"a": FileRecord(size=1, sha256=hashlib.sha256(b"1").hexdigest())}


@pytest.mark.parametrize("document", [{"n": {10: "a", 9: "b"}}, {"loss": float("nan")}], ids=repr)
def test_manifest_that_cannot_be_read_back_is_not_committed(
    store: Store, unit: Path, document: dict[str, Any]
) -> None:
    """A builder's mistake must not replace a good artifact by one that nobody can open."""
    before = contents(unit)
    with pytest.raises((ValueError, CorruptArtifact)):
        commit(store, RAW, NEW, silent, **document)
    assert contents(unit) == before
    assert staging(store) == []


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_failing_build_changes_nothing(
    store: Store, unit: Path, failure: type[BaseException]
) -> None:
    """Byte for byte, and inode for inode: whoever has the files open or mapped sees no change."""
    before = contents(unit)
    with pytest.raises(failure), store.stage(store.catalogue[RAW]) as staged:
        staged.write("raw/half", b"half")
        raise failure
    assert contents(unit) == before
    assert staging(store) == []
    commit(store, RAW, NEW)


def test_staging_of_a_killed_run_is_removed(store: Store) -> None:
    """Half a download of a run that was killed would otherwise be committed with the next one."""
    stale = store.internal / "staging" / RAW / "tiny/raw"
    stale.mkdir(parents=True)
    (stale / "half").write_bytes(b"half")
    with store.stage(store.catalogue[RAW]) as staged:
        assert list(staged.folder.iterdir()) == []
    commit(store, RAW, NEW)
    assert "raw/half" not in bytes_of(store.root / "models_v2/tiny")


def run_and_exit(work: Callable[[], None]) -> NoReturn:
    """Do ``work`` in a forked process and end it."""
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def in_child(work: Callable[[], None]) -> int:
    """Do ``work`` in a process of its own; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        run_and_exit(work)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


Tree = dict[str, bytes | str]


@contextmanager
def quick_commits() -> Iterator[None]:
    """Nothing is flushed, as no power is cut here; and all manifests are of one time."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
        yield


def in_fresh_process(statement: str, folder: Path, command: Sequence[str] = ()) -> None:
    """Execute ``statement`` where this module is ``t`` and ``folder`` a path.

    A new interpreter has no threads of other tests, and forks fast. ``command`` runs it.
    """
    body = (
        "import contextlib, pathlib, sys; from wmtp_assets_tests.storage import test_store as t\n"
        f"folder = pathlib.Path(sys.argv[1])\n{statement}"
    )
    done = subprocess.run(
        [*command, sys.executable, "-c", body, str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def raise_error(code: int) -> NoReturn:
    raise OSError(code, os.strerror(code))


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "replacing"])
def test_all_is_durable_before_it_is_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    """A disk writes in its own order: the name must not be there before the bytes are."""
    unit = store.root / "models_v2/tiny"
    if not is_first:
        furnish(store)
    synced: set[int] = set()
    synced_before: set[int] = set()
    real_rename, real_native = os.rename, exchange._native

    def appear(target: Path) -> None:
        if target == unit:
            synced_before.update(synced)
            synced.clear()

    def rename(source: Path, target: Path) -> None:
        appear(target)
        real_rename(source, target)

    def native(first: Path, second: Path) -> int:
        appear(second)
        return real_native(first, second)

    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(exchange, "_native", native)
    commit(store, RAW, NEW)
    after = contents(unit)
    files = {after[name][0] for name in (*NEW, "raw.metadata.json")}
    folders = {Path(folder).stat().st_ino for folder, _, _ in os.walk(unit)}
    assert files | folders <= synced_before
    assert unit.parent.stat().st_ino in synced


def test_cut_off_swap_around_a_nested_artifact(store: Store, unit: Path) -> None:
    """A tokenizer's commit once made the model's folder anew, and recovery then deleted the rest.

    The fallback was killed while the whole folder was aside.
    """
    before = bytes_of(unit)
    unit.rename(unit.with_name("tiny.wmtp-old"))
    commit(store, TOKENIZER, {"tokenizer.model": b"pieces"})
    commit(store, RAW, OLD)
    assert bytes_of(unit) == before
    assert [path.name for path in unit.parent.iterdir()] == ["tiny"]


def test_time_of_a_cut_off_artifact_is_carried_over(
    store: Store, unit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is looked for after the recovery, not before it."""
    before = (unit / "raw.metadata.json").read_bytes()
    unit.rename(unit.with_name("tiny.wmtp-old"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    commit(store, RAW, OLD)
    assert (unit / "raw.metadata.json").read_bytes() == before


def test_recover_touches_nothing_otherwise(store: Store) -> None:
    """It also runs before anything is written, on a root that may not be ours to write to."""
    store.recover(store.catalogue[RAW])
    assert not store.root.exists()


def test_root_on_two_filesystems(store: Store, unit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is a mount of its own cannot be exchanged: say so, and change nothing."""
    before = contents(unit)
    monkeypatch.setattr(exchange, "_native", lambda first, second: errno.EXDEV)
    with pytest.raises(StoreError, match="two filesystems") as error:
        commit(store, RAW, NEW)
    assert str(unit) in str(error.value)
    assert contents(unit) == before
    assert staging(store) == []


# -- locks ---------------------------------------------------------------------------------------


class Other:
    """Another process, stopped in the middle of its work."""

    def __init__(self, pid: int, resume: int) -> None:
        self.pid = pid
        self._resume = resume

    def go_on(self) -> None:
        os.write(self._resume, b".")


@contextmanager
def other_process(work: Callable[[Callable[[], None]], None]) -> Iterator[Other]:
    """Run ``work`` elsewhere until it calls the function it is given; it continues when told to.

    At the end it is told anyway, and must have ended well. Never told, because this process waits
    for it in silence, it gives up after a minute: a failing test rather than a hanging one.
    """
    reached, resume = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(resume[1])

        def pause() -> None:
            os.write(reached[1], b".")
            select.select([resume[0]], [], [], 60)

        run_and_exit(functools.partial(work, pause))
    os.close(reached[1])
    os.close(resume[0])
    try:
        assert os.read(reached[0], 1) == b"."
        yield Other(pid, resume[1])
    finally:
        os.close(resume[1])
        os.close(reached[0])
        status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 0


def test_second_writer_waits_and_says_for_whom(store: Store) -> None:
    """Two runs of one asset: without the lock each would remove the other's staging folder."""
    artifact = store.catalogue[RAW]
    said: list[str] = []

    def write_old(pause: Callable[[], None]) -> None:
        with store.stage(artifact) as staged:
            for name, data in OLD.items():
                staged.write(name, data)
            pause()
            store.commit(artifact, staged, {})

    with other_process(write_old) as other:

        def say(line: str) -> None:
            said.append(line)
            other.go_on()

        commit(store, RAW, NEW, say)

    holder = f"held by process {other.pid} on {socket.gethostname()} since "
    assert [line[: line.index("since ") + 6] for line in said] == [f"waiting for {RAW}: {holder}"]
    found = store.manifest(artifact).files.keys()
    assert found == NEW.keys()
    kept = store.internal / "previous" / RAW
    assert bytes_of(kept).keys() == {*OLD, "raw.metadata.json"}


def test_commits_into_one_folder_wait_for_each_other(store: Store, unit: Path) -> None:
    """Two assets of one model: a commit links what the other one is about to replace."""
    said: list[str] = []

    def hold(pause: Callable[[], None]) -> None:
        with store.lock("models_v2/tiny"):
            pause()

    with other_process(hold) as other:

        def say(line: str) -> None:
            said.append(line)
            other.go_on()

        commit(store, TOKENIZER, {"tokenizer.model": b"more pieces"}, say)
    assert len(said) == 1
    assert said[0].startswith(f"waiting for models_v2/tiny: held by process {other.pid} on ")
    assert bytes_of(unit)["raw/7B/weights"] == OLD["raw/7B/weights"]


def test_lock_of_a_killed_process_is_free(store: Store) -> None:
    """SIGKILL leaves the lock's file behind, but not the lock."""

    def die() -> None:
        with store.lock(RAW):
            kill_self()

    assert in_child(die) == -signal.SIGKILL
    said: list[str] = []
    commit(store, RAW, NEW, said.append)
    assert said == []


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b'{"pid": 1}'])
def test_holder_that_is_unknown(store: Store, content: bytes | None) -> None:
    """Between taking the lock and saying so there is a moment; the message must not fail then."""
    said: list[str] = []

    def hold(pause: Callable[[], None]) -> None:
        with store.lock(RAW):
            pause()

    with other_process(hold) as other:
        holder = store.internal / "locks" / f"{RAW}.json"
        holder.unlink()
        if content is not None:
            holder.write_bytes(content)

        def say(line: str) -> None:
            said.append(line)
            other.go_on()

        with store.lock(RAW, say):
            pass
    assert said == [f"waiting for {RAW}: held by another process"]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_lock_is_given_back_when_its_notice_cannot_be_removed(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Else an I/O error in one step would hang the next one in the same process forever. What was
    done under the lock is done, so that nothing is raised either."""
    holder = store.internal / "locks" / f"{RAW}.json"
    refused: list[Path] = []

    def refuse(path: Path, *args: Any, **kwargs: Any) -> None:
        refused.append(Path(path))
        raise_error(error)

    with monkeypatch.context() as patch:
        with store.lock(RAW):
            patch.setattr(os, "unlink", refuse)
        assert refused == [holder]
    assert holder.exists()
    said: list[str] = []
    with store.lock(RAW, said.append):
        assert said == []
    assert not holder.exists()


def test_lock_is_given_back_when_the_system_refuses_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused again, it says so; nobody waits for a lock that its own process never gives back."""
    real, asked = fcntl.flock, []

    def refuse(times: int) -> Callable[[int, int], None]:
        def flock(descriptor: int, operation: int) -> None:
            if operation == fcntl.LOCK_UN:
                asked.append(operation)
                if len(asked) <= times:
                    raise_error(errno.EIO)
            real(descriptor, operation)

        return flock

    with monkeypatch.context() as patch, store.lock(RAW):
        patch.setattr(fcntl, "flock", refuse(1))
    assert len(asked) == 2
    with store.lock(RAW, wait=False):
        pass
    asked.clear()
    with (
        monkeypatch.context() as patch,
        pytest.raises(StoreError, match=r"tiny_raw\.lock cannot be given back \(Input/"),
        store.lock(RAW),
    ):
        patch.setattr(fcntl, "flock", refuse(2))
    assert len(asked) >= 2


def test_error_under_a_lock_is_the_one_that_is_raised(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not that the notice stays, too."""
    mine = StoreError("of the work")
    with pytest.raises(StoreError) as raised, monkeypatch.context() as patch, store.lock(RAW):
        patch.setattr(os, "unlink", lambda *args, **kwargs: raise_error(errno.EIO))
        raise mine
    assert raised.value is mine


def test_notice_of_who_held_the_lock_before_does_not_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process left it. Where the next holder cannot write its own, nobody is told to end
    a process that is not there."""
    holder = store.internal / "locks" / f"{RAW}.json"
    holder.parent.mkdir(parents=True, exist_ok=True)
    holder.write_text('{"pid": 1, "host": "elsewhere", "since": "yesterday"}')
    monkeypatch.setattr(store_module, "replace_file", lambda *args: raise_error(errno.ENOSPC))
    with (
        store.lock(RAW),
        pytest.raises(LockHeld, match="held by another process"),
        store.lock(RAW, wait=False),
    ):
        pass


# -- a full disk ---------------------------------------------------------------------------------

SMALL = 1 << 20
LARGE = 4 << 20


class SmallDisk(io.FileIO):
    """A file on a disk of :data:`SMALL` bytes."""

    def write(self, data: Any, /) -> int:
        room = SMALL - self.tell()
        return super().write(data[:room]) if room else raise_error(errno.ENOSPC)


@contextmanager
def pretended_small_disk() -> Iterator[None]:
    """Where none can be mounted: new files end at :data:`SMALL` bytes."""
    real = HashedFile.__init__

    def create(file: HashedFile, path: Path, *args: Any) -> None:
        real(file, path, *args)
        file._file.close()
        file._file = SmallDisk(str(path), "w")

    def allocate(descriptor: int, offset: int, size: int) -> None:
        if offset + size > SMALL:
            raise_error(errno.ENOSPC)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(HashedFile, "__init__", create)
        monkeypatch.setattr(os, "posix_fallocate", allocate, raising=False)
        yield


def fill_disk(root: Path) -> None:
    """What must hold on a disk of :data:`SMALL` bytes."""
    store = open_store(root)
    commit(store, RAW, OLD)
    before = contents(root / "models_v2")
    for is_announced in (True, False):
        with pytest.raises(StoreError) as error, store.stage(store.catalogue[RAW]) as staged:
            for part in range(4):
                with staged.create(f"raw/{part}") as file:
                    if is_announced:
                        file.reserve(LARGE)
                    for _ in range(LARGE >> 12):
                        file.write(bytes(1 << 12))
        message = str(error.value)
        assert message.startswith(f"no space left for {RAW} under {root} (")
        assert "4.2 MB or more needed for one file" in message or not is_announced
        assert " or more needed for one file: " in message
        assert f"staging/{RAW}/" in message
        assert "/tiny/raw/0" in message
        assert " free. What is committed is whole; free some space and run again" in message
        assert contents(root / "models_v2") == before
        assert staging(store) == []
    commit(store, RAW, NEW)


def test_full_disk_pretended(tmp_path: Path) -> None:
    """The error names what was needed, what is free and where; the old version stays valid."""
    with pretended_small_disk():
        fill_disk(tmp_path / "storage")


def test_full_disk(tmp_path: Path) -> None:
    """The same on a real small filesystem, in a mount namespace that ends with its process.

    Where the system gives out no namespaces, on a pretended one.
    """
    root = tmp_path / "small"
    root.mkdir()
    mount = f'mount -t tmpfs -o size={SMALL} none "$0" && exec "$@"'
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(root)]
    try:
        is_given = subprocess.run([*namespace, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        is_given = False
    disk = "contextlib.nullcontext" if is_given else "t.pretended_small_disk"
    statement = (
        f"assert {is_given} == (t.shutil.disk_usage(folder).total == t.SMALL)\n"
        f"with {disk}():\n    t.fill_disk(folder)"
    )
    in_fresh_process(statement, root, namespace if is_given else ())


def test_disk_too_full_for_the_root(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The free space is asked of the folder that exists."""
    monkeypatch.setattr(os, "mkdir", lambda *args, **kwargs: raise_error(errno.ENOSPC))
    with pytest.raises(StoreError, match=r"no space left for tiny_raw .* free\."):
        commit(store, RAW, NEW)


# -- one source a root ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_root_that_cannot_be_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A mounted snapshot: said in one line, by every command that wants to write, also by the first
    that ever does."""

    def refuse(*arguments: Any, **others: Any) -> NoReturn:
        raise_error(code)

    monkeypatch.setattr(os, "mkdir", refuse)
    message = f"cannot be written under {store.root} .*set WMTP_STORAGE_ROOT to another folder, and"
    with pytest.raises(StoreError, match=f"tiny {message}"), store.lock("tiny"):
        pass
    store.root.parent.mkdir(exist_ok=True)
    with pytest.raises(StoreError, match=f"tiny_raw {message}"):
        commit(store, RAW, NEW)


@pytest.mark.parametrize("call", ["rename", "link"])
def test_rights_that_are_withdrawn(
    store: Store, unit: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """While something is committed; what was there is as before."""
    before = contents(unit)
    artifact = store.catalogue[RAW]
    monkeypatch.setattr(exchange, "_native", lambda first, second: errno.ENOSYS)
    with (
        pytest.raises(StoreError, match="tiny_raw cannot be written under"),
        store.stage(artifact) as staged,
    ):
        staged.write("raw/7B/weights", b"new")
        with monkeypatch.context() as patch:
            patch.setattr(os, call, lambda *args, **kwargs: raise_error(errno.EPERM))
            store.commit(artifact, staged, {})
    assert contents(unit) == before
    assert staging(store) == []


def test_amending_and_recovering_are_refused_in_words(
    store: Store, unit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording a value head on a full disk; a cut-off commit on one that is read only."""
    artifact = store.catalogue[RAW]
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_new", lambda *args: raise_error(errno.ENOSPC))
        with pytest.raises(StoreError, match=r"no space left for tiny_raw .* free\."):
            store.amend(artifact, {"note": 1})
    unit.rename(unit.with_name("tiny.wmtp-old"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *args: raise_error(errno.EROFS))
        with pytest.raises(StoreError, match="tiny_raw cannot be written under"):
            store.recover(artifact)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "staged"),
        FileExistsError(errno.EEXIST, "File exists"),
        PermissionError(errno.EACCES, "Permission denied", "/somewhere/else"),
    ],
)
def test_errors_that_are_not_of_the_root_pass(store: Store, error: OSError) -> None:
    """A mistake of the program keeps its traceback, and no other disk is taken for the root."""
    with pytest.raises(type(error)) as raised, store.stage(store.catalogue[RAW]):
        raise error
    assert raised.value is error


def test_lock_on_a_full_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds it cannot be noted; it is held all the same."""
    monkeypatch.setattr(store_module, "replace_file", lambda *args: raise_error(errno.ENOSPC))
    with (
        store.lock(RAW),
        pytest.raises(StoreError, match="held by another process"),
        store.lock(RAW, wait=False),
    ):
        pass


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")])
@pytest.mark.parametrize("place", ["", "models_v2", "models_v2/tiny", ".wmtp"])
def test_place_that_is_taken(store: Store, place: str, make: Callable[[Path], None]) -> None:
    """Seen before anything is made; a root that is none is a wrong setting."""
    path = store.root / place
    path.parent.mkdir(exist_ok=True, parents=True)
    make(path)
    with pytest.raises(StoreError) as error:
        commit(store, RAW, NEW)
    assert str(path) in str(error.value)
    assert isinstance(error.value, WrongRoot) == (place == "")
    assert os.path.lexists(path)
    assert staging(store) == []


def test_mark_that_is_none(store: Store) -> None:
    """Whose root it is nobody knows then."""
    mark = store.internal / "source"
    mark.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"source cannot be read \(not a regular file\)"):
        store.check_source()
    mark.rmdir()
    mark.write_bytes(b"\xff\xfe")
    with pytest.raises(WrongRoot, match="holds artifacts of the source"):
        store.check_source()


@pytest.mark.parametrize(("first", "second"), [("sample", "hub"), ("hub", "sample")])
def test_root_of_the_other_source(tmp_path: Path, first: Source, second: Source) -> None:
    """Random sample weights under a real model's name would be trained with."""
    commit(open_store(tmp_path, first), RAW, OLD)
    before = contents(tmp_path)
    with pytest.raises(StoreError) as error:
        commit(open_store(tmp_path, second), RAW, NEW)
    message = str(error.value)
    assert message.startswith(f"{tmp_path} holds artifacts of the source '{first}'")
    assert f"WMTP_SOURCE is '{second}'" in message
    assert "set WMTP_STORAGE_ROOT to another folder" in message
    assert contents(tmp_path) == before


def test_root_is_claimed_once(tmp_path: Path) -> None:
    """The first commit decides; the same source may come again."""
    store = open_store(tmp_path / "storage", "hub")
    store.claim()
    marker = contents(store.root)
    store.claim()
    assert contents(store.root) == marker
    with pytest.raises(StoreError):
        open_store(tmp_path / "storage").claim()


# -- reading -------------------------------------------------------------------------------------

WEIGHTS = "raw/7B/weights"


def replace_by(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def link_to_copy(path: Path) -> None:
    elsewhere = path.parents[4] / "elsewhere"
    elsewhere.write_bytes(OLD[WEIGHTS])
    path.symlink_to(elsewhere)


def replace_parent(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"")


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "flipped bit": lambda path: damage(path, flip(3)),
    "cut off": lambda path: damage(path, lambda data: data[:-1]),
    "longer": lambda path: damage(path, lambda data: data + b"\0"),
    "empty": lambda path: damage(path, lambda data: b""),
    "a link to the right bytes": replace_by(link_to_copy),
    "a link to itself": replace_by(lambda path: path.symlink_to(path)),
    "a folder": replace_by(Path.mkdir),
    "a named pipe": replace_by(os.mkfifo),
}
LOSSES: Mapping[str, Callable[[Path], None]] = {
    "removed": Path.unlink,
    "folder removed": lambda path: shutil.rmtree(path.parent),
    "folder is a file": replace_parent,
}

Read = Callable[[Store, str], object]
READS: Mapping[str, Read] = {
    "read": lambda store, name: store.read(store.catalogue[RAW], name),
    "verify_file": lambda store, name: store.verify_file(store.catalogue[RAW], name),
}
reads = pytest.mark.parametrize("read", READS.values(), ids=READS.keys())


@reads
def test_good_file(store: Store, unit: Path, read: Read) -> None:
    """Both give what was committed: the bytes, or the path after hashing it."""
    assert read(store, WEIGHTS) in (OLD[WEIGHTS], unit / WEIGHTS)


def test_verifying_says_how_far_it_is(store: Store, unit: Path) -> None:
    """27 GB take minutes: every byte that is hashed is counted."""
    sizes: list[int] = []
    store.verify_file(store.catalogue[RAW], WEIGHTS, sizes.append)
    assert sum(sizes) == len(OLD[WEIGHTS])


@reads
@pytest.mark.parametrize("harm", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_file(store: Store, unit: Path, read: Read, harm: Callable[[Path], None]) -> None:
    """Nothing is made from bytes that are not the committed ones; only files are opened."""
    harm(unit / WEIGHTS)
    with pytest.raises(CorruptArtifact) as error:
        read(store, WEIGHTS)
    assert str(error.value).startswith(f"{unit / WEIGHTS} is ")
    assert "wmtp repair tiny_raw" in str(error.value)


@reads
def test_hole_is_not_read(store: Store, unit: Path, read: Read) -> None:
    """A terabyte takes no room on the disk, and an hour to hash: its size says enough."""
    os.truncate(unit / WEIGHTS, 1 << 40)
    with pytest.raises(CorruptArtifact, match=f"is damaged: {1 << 40} bytes, but"):
        read(store, WEIGHTS)


@reads
@pytest.mark.parametrize("harm", LOSSES.values(), ids=LOSSES.keys())
def test_missing_file(store: Store, unit: Path, read: Read, harm: Callable[[Path], None]) -> None:
    """Named with its path and the command that makes it again."""
    harm(unit / WEIGHTS)
    with pytest.raises(MissingArtifact) as error:
        read(store, WEIGHTS)
    assert str(error.value).startswith(f"{unit / WEIGHTS} is missing, although tiny_raw is comm")
    assert "wmtp repair tiny_raw" in str(error.value)


@reads
def test_file_that_is_not_in_the_manifest(store: Store, unit: Path, read: Read) -> None:
    """Whatever lies there was not committed: nothing vouches for it."""
    (unit / "raw/extra").write_bytes(b"extra")
    with pytest.raises(MissingArtifact, match="tiny_raw has no file raw/extra"):
        read(store, "raw/extra")


@reads
def test_other_errors_keep_their_name(
    store: Store, unit: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that may not be read is neither missing nor damaged."""
    real = os.open

    def refuse(path: Any, *args: Any) -> int:
        return raise_error(errno.EACCES) if str(path).endswith(WEIGHTS) else real(path, *args)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError):
        read(store, WEIGHTS)


@pytest.mark.parametrize("harm", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_manifest(store: Store, unit: Path, harm: Callable[[Path], None]) -> None:
    """Without its manifest nothing in the folder is known to be good."""
    harm(unit / "raw.metadata.json")
    with pytest.raises(CorruptArtifact, match=r"raw\.metadata\.json"):
        store.manifest(store.catalogue[RAW])


@pytest.mark.parametrize("is_parent_a_file", [False, True])
def test_missing_manifest(store: Store, is_parent_a_file: bool) -> None:
    """An artifact that was never made: where it was looked for, and how to make it."""
    if is_parent_a_file:
        (store.root / "models_v2").mkdir(parents=True)
        (store.root / "models_v2/tiny").touch()
    with pytest.raises(MissingArtifact) as error:
        store.manifest(store.catalogue[RAW])
    assert str(error.value) == (
        f"tiny_raw has not been materialized: {store.root}/models_v2/tiny/raw.metadata.json does "
        "not exist. Make it with: dagster asset materialize --select 'tiny_raw'"
    )


# -- reading a part --------------------------------------------------------------------------------

WIDTH = 8
LONG = b"part onepart twopart thrend"
"""Three parts of :data:`WIDTH` bytes and a shorter one."""


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of :data:`WIDTH` bytes."""
    monkeypatch.setattr(files_module, "PART", WIDTH)
    monkeypatch.setattr(store_module, "PART", WIDTH)


def commit_in_parts(store: Store, files: Files) -> Manifest:
    """Commit ``files`` of the raw asset, each hashed in parts, as a download is."""
    artifact = store.catalogue[RAW]
    with store.stage(artifact) as staged:
        for name, data in files.items():
            with staged.create(name) as file:
                file.write(data)
        return store.commit(artifact, staged, {})


class Reads:
    """Counts the bytes that the store hashes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        monkeypatch.setattr(Hasher, "record", self._counted(Hasher.record))

    def _counted(self, real: Callable[..., FileRecord]) -> Callable[..., FileRecord]:
        def counted(*args: Any) -> FileRecord:
            record = real(*args)
            self.sizes.append(record.size)
            return record

        return counted


@pytest.mark.usefixtures("small_parts")
def test_parts_of_large_files_are_beside_the_manifest(store: Store) -> None:
    """In a file that the content hash covers. Of a file of one part the whole hash says all there
    is to say."""
    artifact = store.catalogue[RAW]
    one = commit_in_parts(store, {"raw/one": LONG[:WIDTH]})
    assert one.files.keys() == {"raw/one"}
    assert store.pieces(artifact) == {}
    files = {"raw/long": LONG, "raw/one": LONG[:WIDTH], "raw/none": b""}
    both = commit_in_parts(store, files)
    assert both.files.keys() == {*files, "raw.pieces.json"}
    data = (store.folder(artifact) / "raw.pieces.json").read_bytes()
    assert both.files["raw.pieces.json"] == record_of(data)
    hashes = [
        hashlib.sha256(LONG[begin : begin + WIDTH]).hexdigest()
        for begin in range(0, len(LONG), WIDTH)
    ]
    assert json.loads(data) == {
        "format": "wmtp-pieces/1",
        "files": {"raw/long": {"part_size": WIDTH, "sha256": hashes}},
    }
    assert "parts" not in both.document
    commit_in_parts(store, {"raw/one": LONG[:WIDTH]})
    assert not (store.folder(artifact) / "raw.pieces.json").exists()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("begin", "end", "sizes"),
    [
        (0, 1, [8]),
        (0, 8, [8]),
        (7, 9, [8, 8]),
        (8, 16, [8]),
        (9, 10, [8]),
        (24, 27, [3]),
        (23, 27, [8, 3]),
        (0, 27, [8, 8, 8, 3]),
        (5, 5, [8]),
        (8, 8, []),
    ],
)
def test_only_the_parts_that_are_asked_for_are_read(
    store: Store, monkeypatch: pytest.MonkeyPatch, begin: int, end: int, sizes: list[int]
) -> None:
    """To look at the directory of a 27 GB archive is to hash its end, not all of it; and what was
    verified is not read again."""
    commit_in_parts(store, {"raw/long": LONG})
    path, verify = store.open_verified(store.catalogue[RAW], "raw/long")
    assert path == store.root / "models_v2/tiny/raw/long"
    reads = Reads(monkeypatch)
    verify(begin, end)
    verify(begin, end)
    assert reads.sizes == sizes


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("offset", range(len(LONG)))
def test_damage_is_found_in_the_part_that_is_read(store: Store, offset: int) -> None:
    """No byte is used that was not compared, and none is blamed that was not asked for."""
    commit_in_parts(store, {"raw/long": LONG})
    artifact = store.catalogue[RAW]
    damage(store.path(artifact, "raw/long"), flip(offset))
    path, verify = store.open_verified(artifact, "raw/long")
    for begin in range(0, len(LONG), WIDTH):
        end = min(begin + WIDTH, len(LONG))
        if not begin <= offset < end:
            verify(begin, end)
            continue
        for _ in range(2):  # a part that is damaged does not become a verified one
            with pytest.raises(CorruptArtifact) as error:
                verify(begin, end)
            message = str(error.value)
            expected = hashlib.sha256(LONG[begin:end]).hexdigest()
            assert message.startswith(f"{path}, bytes {begin} to {end}, is damaged: SHA-256 ")
            assert f"but tiny_raw was committed with SHA-256 {expected}. Repair" in message


def test_without_parts_the_whole_file_is_read_once(
    store: Store, unit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Artifacts that were committed before there were parts; it takes long, so it is said."""
    reads, said = Reads(monkeypatch), list[str]()
    _, verify = store.open_verified(store.catalogue[RAW], WEIGHTS, said.append)
    assert reads.sizes == []
    for begin, end in ((3, 4), (0, 11), (10, 11)):
        verify(begin, end)
    assert reads.sizes == [len(OLD[WEIGHTS])]
    assert said[-1].startswith(f"verifying {WEIGHTS}: 11 B of 11 B (100 %)")
    damage(unit / WEIGHTS, flip(0))
    _, verify = store.open_verified(store.catalogue[RAW], WEIGHTS)
    with pytest.raises(CorruptArtifact, match=f"^{unit / WEIGHTS} is damaged: SHA-256 "):
        verify(10, 11)


@pytest.mark.usefixtures("small_parts")
def test_parts_in_a_manifest_of_the_version_before_are_not_trusted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content hash does not cover them: the file is hashed as a whole, once."""
    commit_in_parts(store, {"raw/long": LONG})
    artifact = store.catalogue[RAW]
    assert "parts" in as_the_version_before(store, artifact).document
    _, verify = store.open_verified(artifact, "raw/long")
    reads = Reads(monkeypatch)
    verify(26, 27)
    verify(0, 8)
    assert reads.sizes == [len(LONG)]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("change", [lambda parts: parts[:-1], lambda parts: [*parts, "0" * 64]])
def test_a_list_of_another_length_is_no_list_of_the_parts(
    store: Store, change: Callable[[list[str]], list[str]]
) -> None:
    """Pieces that do not cover the file exactly are refused, although the manifest knows them."""
    commit_in_parts(store, {"raw/long": LONG})
    artifact = store.catalogue[RAW]
    path = store.path(artifact, artifact.pieces)
    document = json.loads(path.read_bytes())
    document["files"]["raw/long"]["sha256"] = change(document["files"]["raw/long"]["sha256"])
    data = (json.dumps(document, separators=(",", ":")) + "\n").encode()
    path.write_bytes(data)
    committed = store.manifest(artifact)
    files = {**committed.files, artifact.pieces: record_of(data)}
    sealed = manifest.seal(committed.description, files, "2026-01-01T00:00:00Z", None)
    store.manifest_path(artifact).write_bytes(sealed)
    with pytest.raises(CorruptArtifact, match=r"not the pieces .* parts of 8 bytes"):
        store.open_verified(artifact, "raw/long")


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [0, 1, WIDTH, len(LONG) - 1, len(LONG) + 1, 5 * WIDTH])
def test_file_of_another_size_is_not_opened(store: Store, size: int) -> None:
    """A copy that was cut off at the end of a part has good parts only."""
    commit_in_parts(store, {"raw/long": LONG})
    artifact = store.catalogue[RAW]
    damage(store.path(artifact, "raw/long"), lambda data: (data + b"?" * WIDTH * 2)[:size])
    with pytest.raises(CorruptArtifact, match=f"is damaged: {size} bytes, but .* with 27 bytes"):
        store.open_verified(artifact, "raw/long")


@pytest.mark.usefixtures("small_parts")
def test_file_that_is_cut_off_meanwhile_is_damaged(store: Store) -> None:
    """Its size was right when it was opened; what is no longer there has another hash."""
    commit_in_parts(store, {"raw/long": LONG})
    artifact = store.catalogue[RAW]
    path, verify = store.open_verified(artifact, "raw/long")
    damage(path, lambda data: data[:10])
    verify(0, 8)
    with pytest.raises(CorruptArtifact, match="bytes 8 to 10, is damaged"):
        verify(8, 16)
    path.unlink()
    with pytest.raises(MissingArtifact, match="raw/long is missing, although tiny_raw is commit"):
        verify(16, 24)


@pytest.mark.usefixtures("small_parts")
@settings(deadline=None)
@given(st.lists(st.binary(max_size=3 * WIDTH) | st.none(), max_size=8))
def test_part_hashes_are_those_of_the_slices(steps: list[bytes | None]) -> None:
    """However the bytes arrive: in blocks of any size, and after a download that started over."""
    with tempfile.TemporaryDirectory() as folder:
        staged, data = Staged(Path(folder)), b""
        with staged.create("file") as file:
            for step in steps:
                if step is None:
                    file.seek(0)
                    data = b""
                else:
                    file.write(step)
                    data += step
        assert staged.files["file"] == record_of(data)
    assert staged.parts["file"] == [
        hashlib.sha256(data[begin : begin + WIDTH]).hexdigest()
        for begin in range(0, len(data), WIDTH)
    ]


# -- saying something else about the same files ----------------------------------------------------


def test_amended_manifest_is_about_the_same_files(
    store: Store, unit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is downstream stays as good as it was: version and time are those of the content."""
    artifact = store.catalogue[RAW]
    before, files = commit(store, RAW, OLD, note=None, kept=[1]), contents(unit)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    amended = store.amend(artifact, {"note": {"path": "x"}, "new": 2})
    assert store.manifest(artifact) == amended
    assert (amended.files, amended.content_sha256) == (before.files, before.content_sha256)
    changed = {key for key in amended.document if amended.document[key] != before.document.get(key)}
    assert changed == {"note", "new", "self_sha256"}
    assert amended.document["note"] == {"path": "x"}
    after = contents(unit)
    del files["raw.metadata.json"], after["raw.metadata.json"]
    assert after == files
    assert not (store.internal / "previous" / RAW).exists()
    assert staging(store) == []


@pytest.mark.parametrize("harm", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_manifest_is_not_amended(
    store: Store, unit: Path, harm: Callable[[Path], None]
) -> None:
    """A new hash over damaged words would make them good ones."""
    artifact, path = store.catalogue[RAW], unit / "raw.metadata.json"
    harm(path)
    before = contents(unit)
    with pytest.raises(CorruptArtifact, match=r"raw\.metadata\.json"):
        store.amend(artifact, {"note": 1})
    assert contents(unit) == before


def test_absent_manifest_is_not_amended(store: Store) -> None:
    """There is nothing to say anything about, and none is made."""
    with pytest.raises(MissingArtifact, match="tiny_raw has not been materialized"):
        store.amend(store.catalogue[RAW], {"note": 1})
    assert not (store.root / "models_v2").exists()


@pytest.mark.parametrize("note", [float("nan"), {10: "a", 9: "b"}], ids=repr)
def test_amendment_that_cannot_be_read_back_is_refused(store: Store, unit: Path, note: Any) -> None:
    """As for a commit: a good artifact must not become one that nobody can open."""
    before = contents(unit)
    with pytest.raises((ValueError, CorruptArtifact)):
        store.amend(store.catalogue[RAW], {"note": note})
    assert contents(unit) == before


def test_amending_waits_for_a_commit_into_the_folder(store: Store, unit: Path) -> None:
    """Else it would write into the generation that is just being put away."""
    said: list[str] = []

    def hold(pause: Callable[[], None]) -> None:
        with store.lock("models_v2/tiny"):
            pause()

    with other_process(hold) as other, pytest.MonkeyPatch.context() as monkeypatch:
        real = Store.lock

        def lock(store: Store, name: str, say: Say = silent) -> Any:
            def waiting(line: str) -> None:
                said.append(line)
                other.go_on()

            return real(store, name, waiting)

        monkeypatch.setattr(Store, "lock", lock)
        store.amend(store.catalogue[RAW], {"note": 1})
    assert len(said) == 1
    assert said[0].startswith(f"waiting for models_v2/tiny: held by process {other.pid} on ")


# -- files ---------------------------------------------------------------------------------------


def record_of(data: bytes) -> FileRecord:
    return FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=50) | st.none(), max_size=12),
    st.integers(0, 200) | st.none(),
)
def test_hashed_file(steps: list[bytes | None], reserved: int | None) -> None:
    """Size, hash, progress and bytes on disk agree after any writes and any starting over."""
    told: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        staged = Staged(Path(folder))
        expected = b""
        with staged.create("deep/file", told.append) as file:
            if reserved is not None:
                file.reserve(reserved)
            for data in steps:
                if data is None:
                    assert file.seek(0) == 0
                    assert file.truncate() == 0
                    expected = b""
                else:
                    assert file.write(data) == len(data)
                    expected += data
                assert file.tell() == len(expected) == sum(told)
            assert staged.files == {}
        assert (Path(folder) / "deep/file").read_bytes() == expected
        assert staged.files == {"deep/file": record_of(expected)}


def test_starting_over_leaves_nothing_of_the_first_try(tmp_path: Path) -> None:
    """A download that starts again may be shorter: no byte of the first try may stay behind it."""
    staged = Staged(tmp_path)
    with staged.create("file") as file:
        file.write(b"a long first try")
        file.seek(0)
        file.write(b"short")
    assert (tmp_path / "file").read_bytes() == b"short"
    assert staged.files["file"] == record_of(b"short")


class ShortWrites(io.FileIO):
    """A file that takes three bytes at a time, as a system may at any write."""

    def write(self, data: Any, /) -> int:
        return super().write(data[:3])


def test_short_writes(tmp_path: Path) -> None:
    """A write may take less than it is given; the rest must be written, not only hashed."""
    staged = Staged(tmp_path)
    with staged.create("file") as file:
        file._file.close()
        file._file = ShortWrites(str(tmp_path / "file"), "w")
        assert file.write(b"ten bytes.") == 10
    assert (tmp_path / "file").read_bytes() == b"ten bytes."
    assert staged.files["file"] == record_of(b"ten bytes.")


def test_seek_elsewhere_is_refused(tmp_path: Path) -> None:
    """The hash of what lies before could not be known."""
    with Staged(tmp_path).create("file") as file:
        file.write(b"abc")
        with pytest.raises(ValueError, match="can only start over"):
            file.seek(1)


def test_reserved_space_that_is_not_used_is_cut_off(tmp_path: Path) -> None:
    """Zeros at the end of a file are bytes too: its hash would not be the announced one."""
    staged = Staged(tmp_path)
    with staged.create("file") as file:
        file.reserve(10_000)
        file.write(b"abc")
    assert (tmp_path / "file").read_bytes() == b"abc"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_filesystem_that_cannot_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """ZFS and NFS have no allocation ahead: then a full disk shows later, and that is all."""
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: raise_error(code), raising=False)
    staged = Staged(tmp_path)
    with staged.create("file") as file:
        file.reserve(100)
        file.write(b"abc")
    assert staged.files["file"] == record_of(b"abc")


def test_other_errors_of_reserving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error is not a full disk, and is not passed over."""
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: raise_error(errno.EIO), raising=False)
    with Staged(tmp_path).create("file") as file, pytest.raises(OSError, match="Input/output"):
        file.reserve(100)


def test_system_that_cannot_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has no such call."""
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with Staged(tmp_path).create("file") as file:
        file.reserve(100)


def test_only_a_finished_file_is_recorded(tmp_path: Path) -> None:
    """What is in ``files`` goes into the manifest: half a file must never be."""
    staged = Staged(tmp_path)
    with pytest.raises(RuntimeError), staged.create("half") as file:
        file.write(b"half")
        raise RuntimeError
    assert staged.files == {}


def test_file_that_could_not_be_made_durable_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync the kernel may have dropped the pages: the bytes may not be there."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: raise_error(errno.EIO))
    staged = Staged(tmp_path)
    with pytest.raises(OSError, match="Input/output"):
        staged.write("file", b"abc")
    assert staged.files == {}


def test_items_wider_than_a_byte(tmp_path: Path) -> None:
    """Tensors come as memory of 2- and 4-byte items: sizes count bytes all the same."""
    items = memoryview(bytes(range(8))).cast("I")
    staged = Staged(tmp_path)
    with staged.create("file") as file:
        assert file.write(items) == 8
    assert staged.files["file"] == record_of(bytes(range(8)))


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_hash_file(tmp_path: Path, size: int) -> None:
    """At, below and above the size of a block; the sizes that are told add up."""
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    told: list[int] = []
    assert hash_file(tmp_path / "file", told.append) == record_of(data)
    assert sum(told) == size


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path.symlink_to(__file__), errno.ELOOP),
        (lambda path: path.symlink_to("nowhere"), errno.ELOOP),
        (Path.mkdir, errno.EINVAL),
        (os.mkfifo, errno.EINVAL),
        (lambda path: None, errno.ENOENT),
    ],
    ids=["link", "dangling link", "folder", "named pipe", "nothing"],
)
def test_hash_file_of_something_else(
    tmp_path: Path, make: Callable[[Path], None], code: int
) -> None:
    """Links lead out of the artifact, pipes wait forever; none leaves a file open behind it."""
    make(tmp_path / "it")
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(OSError, match=str(tmp_path / "it")) as error:
        hash_file(tmp_path / "it")
    assert error.value.errno == code
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    """People check a download with coreutils, on machines without this project."""
    staged = Staged(tmp_path)
    names = ("safetensors/model.safetensors", "safetensors/a b/ü.json", "safetensors/-x", "other")
    for name in names:
        staged.write(name, name.encode())
    staged.write_sha256sums("safetensors/")
    folder = tmp_path / "safetensors"
    sums = (folder / "SHA256SUMS").read_bytes()
    assert staged.files["safetensors/SHA256SUMS"] == record_of(sums)
    assert sorted(line[66:] for line in sums.decode().splitlines()) == [
        "-x",
        "a b/ü.json",
        "model.safetensors",
    ]
    good = subprocess.run([*CHECK, "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    assert good.stdout.count("OK") == 3
    damage(folder / "model.safetensors", flip(0))
    assert subprocess.run([*CHECK, "-c", "SHA256SUMS"], cwd=folder).returncode == 1


def test_sums_without_a_folder_are_over_all_files(tmp_path: Path) -> None:
    """A variant has no folder of its own inside its folder; coreutils must check it as well."""
    staged = Staged(tmp_path)
    for name in ("model.safetensors", "config.json", "deep/er"):
        staged.write(name, name.encode())
    staged.write_sha256sums("")
    sums = (tmp_path / "SHA256SUMS").read_text()
    names = [line[66:] for line in sums.splitlines()]
    assert names == ["model.safetensors", "config.json", "deep/er"]  # the largest, then by name
    assert subprocess.run([*CHECK, "-c", "SHA256SUMS"], cwd=tmp_path).returncode == 0
    damage(tmp_path / "config.json", flip(0))
    assert subprocess.run([*CHECK, "-c", "SHA256SUMS"], cwd=tmp_path).returncode == 1


def test_replace_file(tmp_path: Path) -> None:
    """A reader that has the old file open keeps it; the name now means the new one."""
    path = tmp_path / "deep/file"
    replace_file(path, b"old")
    with path.open("rb") as reader:
        replace_file(path, b"new")
        assert reader.read() == b"old"
    assert bytes_of(tmp_path) == {"deep/file": b"new"}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_replace_file_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The old content stays, and no temporary file stays beside it."""
    replace_file(tmp_path / "file", b"old")
    monkeypatch.setattr(os, call, lambda *args: raise_error(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        replace_file(tmp_path / "file", b"new")
    assert bytes_of(tmp_path) == {"file": b"old"}


# -- time ----------------------------------------------------------------------------------------


def test_time_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines of several time zones write into one storage."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    before = datetime.now(UTC)
    assert before <= utc_now() <= datetime.now(UTC)
    shown = datetime.strptime(timestamp(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert before.replace(microsecond=0) <= shown <= datetime.now(UTC)


def test_time_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reproducible builds: https://reproducible-builds.org/specs/source-date-epoch/."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1769860800")
    assert timestamp() == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize("epoch", ["yesterday", "1e9", "1769860800.5", "9" * 30])
def test_time_that_is_none(monkeypatch: pytest.MonkeyPatch, epoch: str) -> None:
    """A wrong setting is told as one, with its name."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(SpecError, match=f"SOURCE_DATE_EPOCH='{epoch}' is not a number of seconds"):
        timestamp()


def test_manifest_module_is_what_reads_it_back(store: Store, unit: Path) -> None:
    """The file on disk is enough to know the artifact: no store, no catalogue is needed."""
    path = unit / "raw.metadata.json"
    assert manifest.parse(path.read_bytes(), "x") == store.manifest(store.catalogue[RAW])


@pytest.mark.usefixtures("small_parts")
def test_file_whose_pieces_agree_is_verified_by_these(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte is still hashed: once, side by side; and what is wrong is said of the file."""
    committed = commit_in_parts(store, {"raw/long": LONG})
    artifact = store.catalogue[RAW]
    signed = store.sign(artifact, committed.files)
    store.hashed(artifact, committed, signed, agrees=True)
    reads = Reads(monkeypatch)
    path = store.verify_file(artifact, "raw/long")
    assert reads.sizes == []  # nothing was hashed as a whole
    for offset in (0, WIDTH, len(LONG) - 1):
        damage(path, flip(offset))
        with pytest.raises(CorruptArtifact, match=r"long is damaged: SHA-256 [0-9a-f]{64}"):
            store.verify_file(artifact, "raw/long")
        damage(path, flip(offset))
    damage(path, lambda data: data + b"x")
    with pytest.raises(CorruptArtifact):
        store.verify_file(artifact, "raw/long")
