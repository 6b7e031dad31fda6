"""Turns: no more rules read at the same time on one host than the setting says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.settings import RATE_VARIABLE, VERIFY_VARIABLE
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.verify import verify
from wmtp_assets.rules import sha256, turns
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage.store import Store

READER = """
    import os, sys, time
    from pathlib import Path
    from wmtp_assets.base.settings import Settings
    from wmtp_assets.kinds.registry import load_catalogue, rules_of
    from wmtp_assets.rules import apply
    from wmtp_assets.storage.store import Store

    root, marks, hold = sys.argv[1:]
    inner = apply._apply_once

    def reading(rule, store, artifact, say):
        mark = Path(marks, str(os.getpid()))
        mark.touch()
        print(len(os.listdir(marks)), flush=True)
        time.sleep(float(hold))
        print(len(os.listdir(marks)), flush=True)
        mark.unlink()
        return inner(rule, store, artifact, say)

    apply._apply_once = reading
    store = Store(Settings("sample", Path(root)), load_catalogue())
    artifact = store.catalogue["mbpp_small"]
    (rule,) = [rule for rule in rules_of(artifact) if rule.name == "sha256"]
    for _ in range(2):
        assert not apply.apply_rule(rule, store, artifact).findings
"""


@pytest.fixture(autouse=True)
def own_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder as another host has it."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    tempfile.tempdir = None


def start(store: Store, marks: Path, hold: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(READER), store.root, marks, str(hold)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.long
@pytest.mark.parametrize("most", [1, 2])
def test_no_more_processes_read_at_once_than_there_are_turns(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Four processes of four steps that came to one host; each counts who reads while it does."""
    monkeypatch.setenv(VERIFY_VARIABLE, str(most))
    marks = tmp_path / "marks"
    marks.mkdir()
    readers = [start(store, marks, 0.2) for _ in range(4)]
    seen = [int(line) for reader in readers for line in reader.communicate()[0].splitlines()]
    assert [reader.returncode for reader in readers] == [0] * 4
    assert len(seen) == 16
    assert max(seen) == most


@pytest.mark.long
def test_turn_of_a_killed_process_is_free(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each killed verification would leave a host with a turn less, until a restart."""
    monkeypatch.setenv(VERIFY_VARIABLE, "1")
    (marks := tmp_path / "marks").mkdir()
    reader = start(store, marks, 600)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "1\n"
    os.kill(reader.pid, signal.SIGKILL)
    reader.wait()
    with turns.turn("after it"):
        pass


def test_who_waits_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that does nothing looks as if it hung."""
    monkeypatch.setenv(VERIFY_VARIABLE, "1")
    held = turns.turn("first")
    held.__enter__()
    said: list[str] = []

    def sleep(seconds: float) -> None:
        assert said
        held.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", sleep)
    with turns.turn("mbpp_small sha256", said.append):
        pass
    assert said == [
        "mbpp_small sha256: waiting for one of 1 turns on this host (WMTP_VERIFY_AT_ONCE)"
    ]


def test_without_the_setting_nothing_is_bound(store: Store, own_host: Path) -> None:
    """On one machine everything is as it was: no lock, and no file."""
    artifact = store.catalogue["mbpp_small"]
    assert not any(item.outcome.findings for item in verify(store, [artifact]))
    assert [*own_host.glob("wmtp-verify*")] == []


def test_no_lock_is_one_error(
    store: Store, own_host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading without a bound that somebody asked for could starve what runs beside it."""
    monkeypatch.setenv(VERIFY_VARIABLE, "2")
    turns.folder().write_bytes(b"a file in its place")
    artifact = store.catalogue["mbpp_small"]
    rule = rules_of(artifact)[0]
    with pytest.raises(StoreError, match=r"no lock can be taken in .*Set TMPDIR to a folder"):
        apply_rule(rule, store, artifact)


def test_threads_keep_to_the_rate_together() -> None:
    """Two threads that read a megabyte each in turn, at a megabyte a second: at the end of each,
    as much time has passed as all that was read may take."""
    now = 0.0
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        waited.append(seconds)
        now += seconds

    pace = turns.Pace(10**6, clock=lambda: now, sleep=sleep)
    for _ in range(4):
        pace(10**6)
    assert now == 4
    now = 100.0  # nothing was read for a while: that time is not made up for
    pace(2 * 10**6)
    assert waited[-1] == 2
    turns.Pace(None, clock=lambda: now, sleep=sleep)(10**12)
    assert waited[-1] == 2


def test_sha256_reads_at_the_rate_that_is_set(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte is counted, by whichever thread reads it."""
    counted: list[tuple[int | None, int]] = []

    class Counting(turns.Pace):
        def __init__(self, rate: int | None) -> None:
            super().__init__(rate, sleep=lambda seconds: None)
            self.rate = rate

        def __call__(self, size: int) -> None:
            counted.append((self.rate, size))

    monkeypatch.setattr(sha256, "Pace", Counting)
    monkeypatch.setenv(RATE_VARIABLE, "5000000")
    artifact = store.catalogue["mbpp_small"]
    (rule,) = [rule for rule in rules_of(artifact) if rule.name == "sha256"]
    assert not apply_rule(rule, store, artifact).findings
    assert {rate for rate, _ in counted} == {5_000_000}
    assert sum(size for _, size in counted) == store.manifest(artifact).size
