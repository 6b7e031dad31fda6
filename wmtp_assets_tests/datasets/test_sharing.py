"""Steps that share a conversion: any number of processes, the same bytes, no shard twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base.child import directly
from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, LockHeld
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.datasets import parts
from wmtp_assets.datasets.parts import Converting, converting
from wmtp_assets.datasets.shard import read_summary
from wmtp_assets.operations.clean import clean
from wmtp_assets.operations.gc import collect
from wmtp_assets.operations.materialize import materialize, share, update
from wmtp_assets.operations.status import status_of
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.scratch import at_rest
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.contests import (
    commit_raw,
    make,
    problem,
    raw_path,
    shard_name,
    small_repository,
    table,
)
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, flip, tree

SHARDS = 5
"""Of the small repository."""

KEY = "codecontests_processed"
LOCK = f"{KEY}/train-00001"


@pytest.fixture
def raw_store(bare_store: Store) -> Store:
    """The small repository and the tokenizer, and nothing made of them."""
    commit_raw(bare_store, small_repository())
    return bare_store


@pytest.fixture(scope="module")
def wanted(small_store: Store) -> Manifest:
    """What one step makes of it."""
    return small_store.manifest(small_store.catalogue[KEY])


def step(store: Store, say: Say = silent, run: str = "run", *, force: bool = False) -> None:
    """One step in this process."""
    share(store, store.catalogue[KEY], say, directly, force=force, of_run=run)


def join(store: Store, say: Say = silent) -> Manifest:
    """The materialization behind the steps."""
    return update(store, store.catalogue[KEY], say, directly).manifest


def files_of(found: list[Path]) -> dict[str, Any]:
    """The files of parts, to be compared: one that was written again is another."""
    return {f"{path.name}/{name}": file for path in found for name, file in tree(path).items()}


def done(store: Store) -> list[Path]:
    """The parts that are made."""
    folder = store.scratch(store.catalogue[KEY])
    return sorted(path for path in folder.glob("*.*") if read_summary(path) is not None)


# -- processes -------------------------------------------------------------------------------------

STEP = """
    import os, sys, time
    from pathlib import Path
    from wmtp_assets.base.child import directly
    from wmtp_assets.base.settings import Settings
    from wmtp_assets.datasets import parts, shard
    from wmtp_assets.kinds.registry import load_catalogue
    from wmtp_assets.operations.materialize import share
    from wmtp_assets.storage.store import Store

    root, log, number, slow = sys.argv[1:]
    add = shard._Part.add

    def note(what, job):
        with open(log, "a") as file:
            file.write(f"{what} {job.name} {number}\\n")

    def counted(part, problem):
        note("row", part._job)
        add(part, problem)
        time.sleep(600 if part._job.name == slow else 0.05)

    def convert(job):
        note("begin", job)
        summary = shard.convert_shard(job)
        note("end", job)
        return summary

    shard._Part.add = counted
    parts.convert_shard = convert
    store = Store(Settings("sample", Path(root)), load_catalogue())
    print("ready", flush=True)
    sys.stdin.readline()
    share(store, store.catalogue["codecontests_processed"], print, directly, of_run="run")
"""


class Steps:
    """Steps in processes of their own, which begin together."""

    def __init__(self, store: Store, log: Path, slow: dict[int, str], count: int) -> None:
        self._log = log
        command = [sys.executable, "-u", "-c", textwrap.dedent(STEP), store.root, log]
        self.processes = [
            subprocess.Popen(
                [*command, str(number), slow.get(number, "")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def begin(self, *numbers: int) -> None:
        for number in numbers:
            stdin = self.processes[number].stdin
            assert stdin is not None
            stdin.write("\n")
            stdin.flush()

    def end(self, *numbers: int) -> list[str]:
        """What the steps say until they end well."""
        said = [self.processes[number].communicate(timeout=120)[0] for number in numbers]
        assert [self.processes[number].returncode for number in numbers] == [0] * len(numbers)
        return said

    def lines(self, what: str) -> list[tuple[str, int]]:
        """The parts that something was noted of, and by which step."""
        rows = (line.split() for line in self._log.read_text().splitlines())
        return [(part, int(number)) for found, part, number in rows if found == what]

    def until(self, is_so: Callable[[], bool]) -> None:
        for _ in range(1200):
            if self._log.exists() and is_so():
                return
            time.sleep(0.05)
        raise AssertionError(self._log.read_text())


@pytest.mark.long
def test_steps_never_convert_a_shard_twice(
    raw_store: Store, wanted: Manifest, tmp_path: Path
) -> None:
    """Three hosts: each shard is converted by one of them, and more than one of them converts. The
    join converts none, and commits what one step would have."""
    with Steps(raw_store, tmp_path / "log", {}, 3) as steps:
        steps.begin(0, 1, 2)
        said = steps.end(0, 1, 2)
    count = Counter(part for part, _ in steps.lines("begin"))
    assert len(count) == SHARDS
    assert {*count.values()} == {1}
    assert len({number for _, number in steps.lines("end")}) > 1
    assert any(f"{SHARDS} of {SHARDS} shards are done on all hosts" in text for text in said)
    lines: list[str] = []
    made = join(raw_store, lines.append)
    assert f"{KEY}: {SHARDS} of {SHARDS} shards are done already" in lines
    assert made.files == wanted.files
    assert made.content_sha256 == wanted.content_sha256
    assert made.document["splits"] == wanted.document["splits"]
    assert not raw_store.scratch(raw_store.catalogue[KEY]).exists()


@pytest.mark.long
def test_shard_of_a_killed_step_is_taken_by_another(
    raw_store: Store, wanted: Manifest, tmp_path: Path
) -> None:
    """The host of one step goes down in the middle of a shard. The others wait for it, take its
    shard when the kernel has released the lock, and leave all that is finished as it is."""
    with Steps(raw_store, tmp_path / "log", {0: "train-00001"}, 2) as steps:
        steps.begin(0)
        steps.until(lambda: ("train-00001", 0) in steps.lines("row"))
        steps.begin(1)
        steps.until(lambda: len(steps.lines("end")) == SHARDS - 1)
        finished = files_of(done(raw_store))
        os.kill(steps.processes[0].pid, signal.SIGKILL)
        steps.processes[0].wait()
        (said,) = steps.end(1)
    assert "waiting for 1 shards that others convert (1 by " in said
    count = Counter(part for part, _ in steps.lines("begin"))
    assert count == {**dict.fromkeys(count, 1), "train-00001": 2}
    assert len(steps.lines("end")) == SHARDS
    assert finished.items() <= files_of(done(raw_store)).items()
    assert join(raw_store).files == wanted.files


@pytest.mark.long
def test_several_processes_of_a_step_make_the_same_bytes(
    raw_store: Store, wanted: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step uses the CPUs of its host, as the one step does."""
    monkeypatch.setattr(parts, "SIDE_BY_SIDE", 0)
    monkeypatch.setenv("WMTP_WORKERS", "2")
    said: list[str] = []
    step(raw_store, said.append)
    assert f"converting {SHARDS} shards in 2 processes" in said
    assert len(done(raw_store)) == SHARDS
    assert join(raw_store).files == wanted.files


# -- what fails ------------------------------------------------------------------------------------


def with_bad_shard(store: Store) -> Path:
    """One shard of five has a row that is refused."""
    name = shard_name("train", 1, 3)
    rows = table([problem("c"), problem("d", source=99)])
    commit_raw(store, small_repository() | {name: rows})
    return raw_path(store, name)


def test_error_is_reported_once_in_a_run(bare_store: Store) -> None:
    """One step fails, with file and row; the others convert the rest. The next run tries again."""
    path = with_bad_shard(bare_store)
    with pytest.raises(InvalidInput, match="row 1") as caught:
        step(bare_store, run="first")
    assert str(caught.value).startswith(str(path))
    said: list[str] = []
    for _ in range(2):
        step(bare_store, said.append, run="first")
    assert said[-1] == f"{KEY}: 1 shards are left: another step of this run failed at them"
    assert len(done(bare_store)) == SHARDS - 1
    with pytest.raises(InvalidInput, match="row 1"):
        step(bare_store, run="second")
    commit_raw(bare_store, small_repository())
    step(bare_store, run="second")
    assert len(done(bare_store)) == SHARDS


def test_join_does_what_no_step_did(bare_store: Store) -> None:
    """A step that died after it noted an error is started again by the engine, and passes: the join
    must not commit without the shard."""
    path = with_bad_shard(bare_store)
    with pytest.raises(InvalidInput):
        step(bare_store)
    step(bare_store)
    with pytest.raises(InvalidInput) as caught:
        join(bare_store)
    assert str(caught.value).startswith(str(path))
    assert not bare_store.manifest_path(bare_store.catalogue[KEY]).exists()


def test_damaged_shard_is_found_by_the_step_that_takes_it(raw_store: Store) -> None:
    """Bytes are verified before they are parsed, in every step."""
    step(raw_store)
    (first, *_) = done(raw_store)
    (first / "summary.json").unlink()
    path = raw_path(raw_store, shard_name("test", 0, 1))
    damage(path, flip(-9))
    with pytest.raises(CorruptArtifact, match="wmtp repair codecontests_raw") as caught:
        step(raw_store, run="second")
    assert str(caught.value).startswith(str(path))


# -- what is not done twice ------------------------------------------------------------------------


class Hashed:
    """Counts the files that a store hashes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        inner = Store.verify_file

        def verify_file(store: Store, artifact: Artifact, name: str, *args: Any) -> Path:
            self.names.append(name)
            return inner(store, artifact, name, *args)

        monkeypatch.setattr(Store, "verify_file", verify_file)


def test_each_step_verifies_only_what_it_takes(
    raw_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 8 GB, eight steps that hash everything would read 64 GB from shared storage. The names of
    the problems are read once; the join reads nothing raw."""
    step(raw_store)
    (raw_store.scratch(raw_store.catalogue[KEY]) / done(raw_store)[0].name / "lengths").unlink()
    hashed = Hashed(monkeypatch)
    step(raw_store)
    assert hashed.names == ["tokenizer.model", f"raw/{shard_name('test', 0, 1)}"]
    hashed.names.clear()
    join(raw_store)
    assert hashed.names == ["tokenizer.model"]


def test_step_leaves_what_would_be_made_now(contests: Store) -> None:
    """The asset is up to date: N steps must not convert it for nobody."""
    before = tree(contests.root / "datasets_v2")
    said: list[str] = []
    step(contests, said.append)
    assert said[-1:] == [f"{KEY}: it is what would be made now"]
    assert done(contests) == []
    assert tree(contests.root / "datasets_v2") == before


def test_force_makes_it_again(contests: Store, wanted: Manifest) -> None:
    """What ``options.force`` asks for."""
    step(contests, force=True)
    assert len(done(contests)) == SHARDS
    assert make(contests).files == wanted.files
    assert done(contests) == []


def test_step_ends_when_another_run_commits(raw_store: Store, wanted: Manifest) -> None:
    """Two runs of one asset: what is committed is not converted a second time, and nothing is left
    of the second run's parts."""
    second = Store(raw_store.settings, raw_store.catalogue)

    def say(line: str) -> None:
        if "shards are done already" in line:
            make(second)

    step(raw_store, say)
    assert done(raw_store) == []
    assert join(raw_store).files == wanted.files
    assert not raw_store.scratch(raw_store.catalogue[KEY]).exists()


# -- whose parts they are --------------------------------------------------------------------------


def test_parts_of_a_running_conversion_are_never_removed(
    raw_store: Store, wanted: Manifest
) -> None:
    """Another run, with other settings, while a step converts; and what people clear by hand."""
    step(raw_store)
    before = tree(raw_store.scratch(raw_store.catalogue[KEY]))
    other = respec(raw_store, "codecontests", max_tokens=30)
    with raw_store.lock(LOCK):
        begin(other)
        assert before.items() <= tree(raw_store.scratch(raw_store.catalogue[KEY])).items()
        with pytest.raises(LockHeld), at_rest(raw_store, KEY):
            pass
        (item,) = [found for found in collect(raw_store, ["unfinished"]) if found.name == KEY]
        assert "is held by process" in item.kept
        kept = [
            found
            for found in clean(raw_store, [raw_store.catalogue[KEY]], dry_run=False)
            if found.kept
        ]
        assert kept
        assert before.items() <= tree(raw_store.scratch(raw_store.catalogue[KEY])).items()
    assert join(raw_store).files == wanted.files
    assert done(raw_store) == []


def begin(store: Store) -> None:
    """Convert up to the shard that somebody holds."""

    class Stop(Exception):
        pass

    def say(line: str) -> None:
        if ": shard 1 of" in line:
            raise Stop

    with pytest.raises(Stop):
        materialize(store, store.catalogue[KEY], say, run=directly)


def test_lock_of_a_part_has_one_name_whatever_it_is_made_from(raw_store: Store) -> None:
    """Lock files stay: their number must not grow with each change of settings."""
    step(raw_store)
    for tokens in (30, 40):
        make(respec(raw_store, "codecontests", max_tokens=tokens))
    locks = sorted(path.stem for path in (raw_store.internal / "locks").glob(f"{KEY}--*.lock"))
    splits = ["test-00000", "train-00000", "train-00001", "train-00002", "valid-00000"]
    assert locks == sorted(f"{KEY}--{name}" for name in ("plan", "reasons", *splits))


# -- how far it is ---------------------------------------------------------------------------------


def test_status_says_how_far_all_hosts_are(raw_store: Store) -> None:
    """From any host: shards that are done, and who took the others."""
    artifact = raw_store.catalogue[KEY]
    assert converting(raw_store, artifact) is None
    assert status_of(raw_store, artifact).problem == "not materialized"
    step(raw_store)
    for part in done(raw_store)[1:3]:
        (part / "summary.json").unlink()
    with raw_store.lock(f"{KEY}/train-00000"):
        host = os.uname().nodename
        assert converting(raw_store, artifact) == Converting(3, SHARDS, {host: 1})
        status = status_of(raw_store, artifact)
        how_far = f"3 of {SHARDS} shards converted (taken: 1 by {host})"
        assert status.problem == f"not materialized; being made: {how_far}"
        assert str(status.making) == how_far
    step(raw_store)
    assert str(converting(raw_store, artifact)) == f"{SHARDS} of {SHARDS} shards converted"
    join(raw_store)
    assert converting(raw_store, artifact) is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"key": 1}', b'{"key": "other", "parts": []}'])
def test_damaged_plan_is_made_again(raw_store: Store, wanted: Manifest, content: bytes) -> None:
    """A host lost power while it wrote it."""
    step(raw_store)
    plan = raw_store.scratch(raw_store.catalogue[KEY]) / parts.PLAN
    good = json.loads(plan.read_bytes())
    plan.write_bytes(content)
    step(raw_store)
    assert json.loads(plan.read_bytes()) == good
    assert join(raw_store).files == wanted.files
