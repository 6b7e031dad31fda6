"""A commit that is killed or fails at any of its system calls: the old artifact or the new one.

Faults are injected at every system call, not at random: random ones almost never hit the two or
three that matter. strace does it, so that what libraries do, and what nobody thought of wrapping,
is hit too; ``make test`` does it where Python calls the system, which is quick and works anywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets_tests.faults import publish_sweep
from wmtp_assets_tests.faults.extent import IS_FULL, extent
from wmtp_assets_tests.faults.sweep import CHANGED, PATHS, SWAPPING
from wmtp_assets_tests.quick import thinned
from wmtp_assets_tests.storage.test_store import (
    SAFETENSORS,
    bytes_of,
    commit,
    in_child,
    kill_self,
    open_store,
)

LEAST_CHANGING = {
    "first": 50,
    "replacing": 90,
    "replacing, three renames": 90,
    "equal": 80,
    "nested": 45,
    "nested, three renames": 45,
    "amend": 15,
    "migrate": 80,
    "repair": 60,
    "recover the old": 10,
    "recover the new": 20,
}
"""Calls of each path that change something; fewer, and the sweep has lost sight of them."""

STRIDE = extent(50, 1)


def sweep(
    name: str, folder: Path, module: str = "sweep", *, stride: int = STRIDE, by: str = "strace"
) -> dict[str, Any]:
    """Run :mod:`sweep`, or another that is like it, in a process of its own."""
    program = [sys.executable, "-m", f"wmtp_assets_tests.faults.{module}", name, str(folder)]
    done = subprocess.run(
        [*program, str(stride), by],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    swept = json.loads(done.stdout)
    if "skipped" in swept:
        pytest.skip(f"strace cannot attach to a process here: {swept['skipped']}")
    return swept


@pytest.mark.parametrize(
    "stride", thinned([10, 1], [10]), ids=lambda stride: "all" if stride == 1 else "some"
)
@pytest.mark.parametrize("name", ["replacing", "replacing, three renames"])
def test_fault_where_python_calls_the_system(memory: Path, name: str, stride: int) -> None:
    """SIGKILL, a full and a failing disk, also in the middle of a file: the old artifact or the new
    one, where strace is and where it is not."""
    swept = sweep(name, memory, stride=stride, by="python")
    points = sum(swept["points"].values())
    print(f"{name}: {points} faults at {swept['calls']} calls; {swept['states']}")
    assert swept["problems"] == []
    assert swept["changing"] > 60
    assert points == swept["possible"] or stride > 1
    assert swept["states"].keys() == {"old", "new"}


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.mark.faults
@needs_strace
@pytest.mark.parametrize("name", PATHS)
def test_fault_at_every_system_call(
    name: str, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """Killed before it, a full disk, a failing disk: at each call that changes something; and a
    failing disk at each that reads.

    What others own in the folder is there, no rule of hashes finds anything, a full disk is said in
    words, and the next run needs no help and leaves nothing behind.
    """
    swept = sweep(name, memory)
    points = sum(swept["points"].values())
    record_property("points", points)
    print(f"{name}: {points} faults at {swept['calls']} system calls; {swept['states']}")
    assert swept["problems"] == []
    assert swept["changing"] >= LEAST_CHANGING[name]
    assert points == swept["possible"] or not IS_FULL
    if name != "recover the new":
        swaps = {f"{call} {fault}" for call in SWAPPING for fault in CHANGED}
        assert len(swaps & swept["points"].keys()) >= len(CHANGED)


@pytest.mark.faults
@needs_strace
@pytest.mark.parametrize("name", publish_sweep.PATHS)
def test_fault_at_every_system_call_of_a_publication(
    name: str, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """When the files of a mounted folder get their names: each model's and data set's folder is the
    old one or the new one (each file, where folders are not exchanged), MANIFEST.json is new only
    where all are, files of others stay, and the next run sends no payload and leaves nothing."""
    swept = sweep(name, memory, "publish_sweep")
    points = sum(swept["points"].values())
    record_property("points", points)
    print(f"{name}: {points} faults at {swept['calls']} system calls; {swept['states']}")
    assert swept["problems"] == []
    assert swept["changing"] >= 80
    assert points == swept["possible"] or not IS_FULL
    assert {"old", "between", "new"} == swept["states"].keys()


def test_killed_amendment_leaves_nothing_beside_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A draft was written there, which stayed forever: every commit of the model carried it on."""
    store = open_store(tmp_path / "storage")
    commit(store, SAFETENSORS, {"safetensors/model.safetensors": b"1"})
    before = bytes_of(store.root / "models_v2")

    def amend_and_die() -> None:
        real_replace = os.replace

        def replace(source: Path, target: Path) -> None:
            if Path(target).name == "metadata.json":
                kill_self()
            real_replace(source, target)

        monkeypatch.setattr(os, "replace", replace)
        store.amend(store.catalogue[SAFETENSORS], {"value_head": {"path": None}})

    assert in_child(amend_and_die) < 0
    assert bytes_of(store.root / "models_v2") == before
    store.amend(store.catalogue[SAFETENSORS], {"value_head": {"path": None}})
    assert bytes_of(store.root / "models_v2").keys() == before.keys()
