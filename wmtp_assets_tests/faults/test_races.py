"""Readers and writers at the same time, in processes of their own.

What the store promises a reader while an artifact is committed anew:

- the rule of hashes says nothing, or that the artifact is changing; never that it is corrupt;
- :meth:`Store.read` gives the bytes of a committed manifest, and tries again where that changed
  during the call. It refuses only where it changed there and back again;
- whoever opens the folder once and reads beneath it sees one generation, or that a file is gone;
- a path leads to a whole file of the old generation or the new one, and between two equal manifests
  (inode and time) all files are of that generation;
- what others own in the folder does not even change.

Where folders can only be swapped by three renames, all that is in them may also be missing for a
moment, or unreadable where it was just seen.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.catalogue.artifact import INTERNAL, Artifact
from wmtp_assets.rules.apply import apply_rule, sign
from wmtp_assets.storage import exchange, manifest
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.faults.extent import extent
from wmtp_assets_tests.faults.sweep import SHA256
from wmtp_assets_tests.storage.test_store import (
    RAW,
    SAFETENSORS,
    TOKENIZER,
    commit,
    in_fresh_process,
    open_store,
    staging,
)

pytestmark = pytest.mark.faults

READING = extent(3.0, 15.0)
WRITING = extent(1.5, 15.0)
BETWEEN_TRIES = 0.06
"""Seconds; the last is about what a process that waits for a lock sleeps, so that it gets it."""

SIZE = 100_000
PIECES = b"pieces" * SIZE
Work = tuple[Callable[..., Counter[str]], *tuple[object, ...]]


def files_of(generation: int | str) -> dict[str, bytes]:
    """Files that say which generation they are of in every byte, and one that only it has."""
    line = f"{generation}\n".encode()
    names = ("raw/first", "raw/deep/second", f"raw/only-{generation}")
    return {name: line * (SIZE // len(line)) for name in names}


GENERATIONS = [files_of("even"), files_of("odd")]


def at_once(*works: Work) -> list[Counter[str]]:
    """Do each in a process, all at the same time; what they counted."""
    with ProcessPoolExecutor(len(works), mp_context=get_context("fork")) as pool:
        return [future.result() for future in [pool.submit(*work) for work in works]]


def until(seconds: float) -> Iterator[int]:
    """Numbers from 0, until that many seconds have passed."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        yield number
        number += 1


@contextmanager
def swapping(is_native: bool) -> Iterator[None]:
    """Folders are exchanged by the system, or by three renames."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if not is_native:
            monkeypatch.setattr(exchange, "_native", lambda first, second: errno.ENOSYS)
        yield


# -- who reads -------------------------------------------------------------------------------------


def verify_always(root: Path, key: str, seconds: float, allowed: Sequence[str]) -> Counter[str]:
    """Apply the rule of hashes; ``allowed`` are the problems it may find."""
    store = open_store(root)
    counts: Counter[str] = Counter()
    for _ in until(seconds):
        findings = apply_rule(SHA256, store, store.catalogue[key]).findings
        assert {finding.problem for finding in findings} <= {*allowed}, [*map(str, findings)]
        counts[findings[0].problem if findings else "good"] += 1
    return counts


def read_always(root: Path, seconds: float, may_be_absent: bool) -> Counter[str]:
    """Read through the store: the bytes of one generation."""
    store = open_store(root)
    artifact = store.catalogue[RAW]
    path = store.manifest_path(artifact)
    counts: Counter[str] = Counter()
    for number in until(seconds):
        name = ("raw/first", "raw/deep/second")[number % 2]
        before = sign(path)
        try:
            data = store.read(artifact, name)
        except (CorruptArtifact, MissingArtifact) as error:
            is_gone = may_be_absent and isinstance(error, MissingArtifact)
            assert is_gone or sign(path) != before, error
            counts["refused"] += 1
        else:
            counts[_generation(name, data)] += 1
    return counts


def read_paths_always(root: Path, seconds: float) -> Counter[str]:
    """Read manifest and files by their paths, as training does."""
    store = open_store(root)
    artifact = store.catalogue[RAW]
    path = store.manifest_path(artifact)
    counts: Counter[str] = Counter()
    for _ in until(seconds):
        before = sign(path)
        try:
            names = manifest.parse(path.read_bytes(), str(path)).files
            found = {_generation(n, store.path(artifact, n).read_bytes()) for n in names}
        except FileNotFoundError:
            counts["changed"] += 1
            continue
        if before is None or sign(path) != before:
            counts["changed"] += 1
            continue
        (generation,) = found
        counts[generation] += 1
    return counts


def read_beneath_always(root: Path, seconds: float) -> Counter[str]:
    """Open the folder, and read manifest and files beneath it, whatever it is called by then."""
    artifact = open_store(root).catalogue[RAW]
    counts: Counter[str] = Counter()
    for _ in until(seconds):
        try:
            folder = os.open(root / artifact.base, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            counts["absent"] += 1
            continue
        try:
            said = manifest.parse(_read_beneath(folder, artifact.manifest), "it")
            found = {_generation(name, _read_beneath(folder, name)) for name in said.files}
        except FileNotFoundError:
            counts["gone"] += 1
            continue
        finally:
            os.close(folder)
        (generation,) = found
        counts[generation] += 1
    return counts


def recover_always(root: Path, seconds: float) -> Counter[str]:
    """Recover as every run does first: that must not disturb a swap that is under way."""
    store = open_store(root)
    counts: Counter[str] = Counter()
    for _ in until(seconds):
        store.recover(store.catalogue[RAW])
        counts["recovered"] += 1
    return counts


def _read_beneath(folder: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _generation(name: str, data: bytes) -> str:
    """Which generation a file is of; every byte of it."""
    numbers = [n for n, files in enumerate(GENERATIONS) if files.get(name) == data]
    assert numbers, f"{name} is torn: {data[:20]!r} to {data[-20:]!r}"
    return f"generation {numbers[0]}"


# -- who writes ------------------------------------------------------------------------------------


def commit_always(root: Path, seconds: float, is_native: bool, pause: float = 0.0) -> Counter[str]:
    """Commit one generation after the other.

    Args:
        pause: seconds between two, on average: a process that waits for the lock looks for it from
            time to time, and gets it where nobody holds it then.
    """
    store = open_store(root)
    counts: Counter[str] = Counter()
    with swapping(is_native):
        for number in until(seconds):
            commit(store, RAW, GENERATIONS[number % 2])
            counts["commits"] += 1
            time.sleep(random.uniform(0, 2 * pause))
    return counts


def commit_in_turns(root: Path, seconds: float, writer: str, is_native: bool) -> Counter[str]:
    """Commit generations that nobody else does; in between nobody else may stage."""
    store = open_store(root)
    artifact = store.catalogue[RAW]
    alone = store.internal / "alone"
    counts: Counter[str] = Counter()
    said: list[str] = []
    with swapping(is_native):
        for number in until(seconds):
            with store.stage(artifact, said.append) as staged:
                alone.touch(exist_ok=False)
                for name, data in files_of(f"{writer}{number}").items():
                    staged.write(name, data)
                sealed = store.commit(artifact, staged, {"writer": writer}, said.append)
                assert store.manifest(artifact) == sealed
                alone.unlink()
            counts["commits"] += 1
            time.sleep(random.uniform(0, 2 * BETWEEN_TRIES))
    assert all("waiting for " in line for line in said), said
    return counts + Counter(waits=len(said))


def commit_own(root: Path, seconds: float, key: str, name: str) -> Counter[str]:
    """Commit an artifact that nobody else does; whatever they do beside it, it stays."""
    store = open_store(root)
    counts: Counter[str] = Counter()
    for number in until(seconds):
        data = f"{key} {number}\n".encode() * 1000
        commit(store, key, {name: data}, value_head={"path": None})
        time.sleep(0.002)
        assert store.read(store.catalogue[key], name) == data
        counts["commits"] += 1
        time.sleep(random.uniform(0, 2 * BETWEEN_TRIES))
    return counts


def amend_always(root: Path, seconds: float) -> Counter[str]:
    """Record something in an artifact that another process commits: no commit may lose it."""
    store = open_store(root)
    artifact = store.catalogue[SAFETENSORS]
    counts: Counter[str] = Counter()
    for number in until(seconds):
        recorded = {"path": None, "stage1_checkpoint_id": str(number)}
        store.amend(artifact, {"value_head": recorded})
        time.sleep(0.002)
        assert store.manifest(artifact).document["value_head"] == recorded
        counts["amended"] += 1
        time.sleep(random.uniform(0, 2 * BETWEEN_TRIES))
    return counts


# -- the races -------------------------------------------------------------------------------------


def make_committed(folder: Path) -> Store:
    """A model's folder with three artifacts."""
    store = open_store(folder / "storage")
    commit(store, RAW, GENERATIONS[0])
    commit(store, TOKENIZER, {"tokenizer.model": PIECES})
    commit(store, SAFETENSORS, {"safetensors/model.safetensors": b"1"}, value_head={"path": None})
    return store


def check_all(store: Store) -> None:
    """Everything is whole, the previous generation too, and nothing is left over."""
    for key in (RAW, TOKENIZER, SAFETENSORS):
        assert apply_rule(SHA256, store, store.catalogue[key]).findings == []
    previous = store.internal / "previous" / RAW
    said = manifest.parse((previous / "raw.metadata.json").read_bytes(), "previous")
    assert said.files == {name: hash_file(previous / name) for name in said.files}
    assert staging(store) == []
    assert [path.name for path in (store.root / "models_v2").iterdir()] == ["tiny"]
    assert {path.name for path in store.root.iterdir()} == {"models_v2", INTERNAL}


def race_readers(folder: Path, is_native: bool) -> None:
    store = make_committed(folder)
    root, seconds = store.root, READING
    missing = [] if is_native else ["missing", "unreadable"]
    works: list[Work] = [
        (commit_always, root, seconds, is_native),
        (verify_always, root, RAW, seconds, ["changing", *missing]),
        (verify_always, root, TOKENIZER, seconds, missing),
        (read_always, root, seconds, not is_native),
        (read_paths_always, root, seconds),
        (read_beneath_always, root, seconds),
    ]
    if not is_native:
        works.append((recover_always, root, seconds))
    written, verified, neighbour, *readers = at_once(*works)
    print(written, verified, neighbour, *readers)
    assert written["commits"] > 20
    assert verified.total() and neighbour["good"]
    for counts in readers[:3]:
        assert counts["generation 0"] and counts["generation 1"], counts
    assert readers[0]["refused"] < written["commits"] // 4 or not is_native
    check_all(store)


def race_writers(folder: Path, is_native: bool) -> None:
    store = make_committed(folder)
    counts = at_once(
        *((commit_in_turns, store.root, WRITING, writer, is_native) for writer in "ab")
    )
    print(counts)
    assert all(count["commits"] > 5 for count in counts) and sum(counts, Counter())["waits"]
    last = store.manifest(store.catalogue[RAW])
    writer = last.document["writer"]
    number = counts["ab".index(writer)]["commits"] - 1
    for name, data in files_of(f"{writer}{number}").items():
        assert store.read(store.catalogue[RAW], name) == data
    assert len(last.files) == 3
    check_all(store)


def race_neighbours(folder: Path) -> None:
    store = make_committed(folder)
    root, seconds = store.root, 2 * WRITING  # four take turns
    weights = "safetensors/model.safetensors"
    counts = at_once(
        (commit_always, root, seconds, True, BETWEEN_TRIES),
        (commit_own, root, seconds, TOKENIZER, "tokenizer.model"),
        (commit_own, root, seconds, SAFETENSORS, weights),
        (amend_always, root, seconds),
    )
    print(counts)
    assert all(count.total() > 2 for count in counts), counts
    check_all(store)


@pytest.mark.parametrize("is_native", [True, False], ids=["exchange", "three renames"])
def test_readers_during_commits(memory: Path, is_native: bool) -> None:
    """No read is torn, no generation is mixed with another, and nothing is called corrupt."""
    in_fresh_process(f"{_IMPORT}.race_readers(folder, {is_native})", memory)


@pytest.mark.parametrize("is_native", [True, False], ids=["exchange", "three renames"])
def test_two_writers_of_one_artifact(memory: Path, is_native: bool) -> None:
    """Each waits for the other; what is there in the end is the last commit of one of them."""
    in_fresh_process(f"{_IMPORT}.race_writers(folder, {is_native})", memory)


def test_writers_of_artifacts_in_one_folder(memory: Path) -> None:
    """Each exchanges the folder, or one in it, whole: none may take another's commit back."""
    in_fresh_process(f"{_IMPORT}.race_neighbours(folder)", memory)


@pytest.mark.parametrize("read", [Store.read, Store.verify_file])
def test_file_that_is_committed_anew_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Store, Artifact, str], object]
) -> None:
    """It was called damaged, or missing: the manifest was the old one, the file the new one's."""
    store = open_store(tmp_path / "storage")
    artifact = store.catalogue[RAW]
    real = Store._record

    def record(store: Store, artifact: Artifact, name: str) -> FileRecord:
        found = real(store, artifact, name)
        monkeypatch.undo()
        commit(store, RAW, GENERATIONS[1])
        return found

    def start_anew() -> None:
        commit(store, RAW, GENERATIONS[0])
        monkeypatch.setattr(Store, "_record", record)

    start_anew()
    found = read(store, artifact, "raw/first")
    assert found in (GENERATIONS[1]["raw/first"], store.path(artifact, "raw/first"))
    start_anew()
    with pytest.raises(MissingArtifact, match="has no file raw/only-even"):
        read(store, artifact, "raw/only-even")


_IMPORT = "from wmtp_assets_tests.faults import test_races; test_races"
