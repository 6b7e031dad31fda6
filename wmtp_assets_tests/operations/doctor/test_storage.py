"""Roots that are full, foreign, not writable, locked, or littered."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from wmtp_assets.base.settings import Settings
from wmtp_assets.hub.remote import Pins
from wmtp_assets.kinds.registry import expand, load_catalogue
from wmtp_assets.operations.doctor import examine
from wmtp_assets.operations.doctor.machine import Condition
from wmtp_assets.storage import exchange
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.storage.filesystems import mounted_as


def conditions(store: Store) -> dict[str, Condition]:
    found = {item.topic: item for item in examine.storage(store)}
    for item in found.values():
        assert (item.state == "ok") == (not item.remedy)
    return found


def test_good_root(store: Store) -> None:
    """Everything ok; and nothing is left there by looking."""
    before = sorted(path for path in store.root.rglob("*") if path.suffix != ".lock")
    found = conditions(store)
    assert [*found] == ["root", "mount", "exchange", "disk", "locks", "leftovers"]
    assert {item.state for item in found.values()} == {"ok"}
    assert sorted(path for path in store.root.rglob("*") if path.suffix != ".lock") == before


def test_root_that_is_not_there_yet(empty_store: Store) -> None:
    """A fresh clone is ok, and asking makes no folder."""
    found = conditions(empty_store)
    assert {item.state for item in found.values()} == {"ok"}
    assert "is not there yet" in found["root"].says
    assert not empty_store.root.exists()


def test_root_of_the_other_source(store: Store) -> None:
    """Every other command is refused there; this one says why."""
    (found,) = conditions(Store(Settings("hub", store.root), store.catalogue)).values()
    assert (found.topic, found.state) == ("root", "error")
    assert "holds artifacts of the source 'sample'" in found.says


def test_root_that_is_a_file(tmp_path: Path) -> None:
    """A typo in WMTP_STORAGE_ROOT."""
    (tmp_path / "file").write_text("x")
    found = examine.filesystem(Store(Settings("sample", tmp_path / "file"), load_catalogue()))
    assert (found.state, found.says) == ("error", f"{tmp_path / 'file'} is not a folder")


def test_root_that_cannot_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that is mounted for reading only."""
    monkeypatch.setattr(examine.os, "access", lambda path, mode: False)
    found = examine.filesystem(store)
    assert found.state == "error"
    assert "cannot be written" in found.says


def test_root_on_two_filesystems(tmp_path: Path) -> None:
    """A link to another disk: the first commit would fail. /dev/shm is one wherever it exists."""
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one filesystem only")
    (tmp_path / "models_v2").symlink_to(other)
    found = examine.filesystem(Store(Settings("sample", tmp_path), load_catalogue()))
    assert found.state == "error"
    assert f"{tmp_path / 'models_v2'} is on another filesystem" in found.says


def test_mount_with_an_option_that_harms(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning: one host alone may use it so. What is mounted well is said, too."""
    mounted_as(monkeypatch, store.root, "nfs4", "rw,vers=4.2,nocto,local_lock=all")
    found = examine.mount_options(store)
    assert found.state == "warning"
    assert "local_lock=all: locks hold on this host alone" in found.says
    assert "nocto: folders that another host has exchanged are seen late" in found.says
    assert "mount it without nocto" in found.remedy
    mounted_as(monkeypatch, store.root, "nfs4", "rw,vers=4.2,local_lock=none")
    assert examine.mount_options(store).state == "ok"
    mounted_as(monkeypatch, store.root, "ext4", "rw,local_lock=all")
    assert "of this host alone" in examine.mount_options(store).says


def test_filesystem_without_exchange(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works, with a moment in which there is no folder."""
    monkeypatch.setattr(exchange, "_native", lambda first, second: errno.EINVAL)
    found = examine.atomic(store)
    assert found.state == "warning"
    assert "three renames" in found.says


def test_disk_that_is_too_small(empty_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before the first byte."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    found = examine.disk(empty_store)
    assert (found.state, found.says) == ("error", "1.0 GB free, 1.7 GB more needed")


def test_whole_sample_needs_nothing_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it was enough, whatever is free now."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    assert examine.disk(store).says == "10 B free, 0 B more needed"


def test_sample_is_as_large_as_is_said(store: Store, sample_folder: Path) -> None:
    """The number in the code is a measurement; it must stay one."""
    size = sum(store.manifest(item).size for item in store.catalogue if not item.optional)
    hub = sum(path.stat().st_size for path in sample_folder.rglob("*") if path.is_file())
    assert 0.8 * examine.SAMPLE < size + hub < examine.SAMPLE


def test_real_source_needs_what_the_hub_says(tmp_path: Path) -> None:
    """Doctor does not ask it: that is what plan is for."""
    found = examine.disk(Store(Settings("hub", tmp_path), load_catalogue()))
    assert found.state == "ok"
    assert found.says.endswith("wmtp plan asks it")


def test_real_source_that_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """wmtp.lock knows the sizes of all files: what is needed is known without a network."""
    from wmtp_assets.hub.download import committed_files
    from wmtp_assets.hub.remote import repository_key

    known = {}
    for item in store.catalogue:
        if item.kind == "raw":
            files = committed_files(store, item)
            assert files is not None
            known[repository_key(item.spec.repository)] = files
    # CodeContests is pinned to upstream's commit, of which the sample knows nothing.
    specs = [
        type(spec).model_validate(
            {**spec.model_dump(), "repository": {**spec.repository.model_dump(), "revision": None}}
        )
        if spec.name == "codecontests"
        else spec
        for spec in store.catalogue.specs
    ]
    real = Store(Settings("hub", tmp_path / "real"), expand(specs))
    for module in ("doctor.examine", "plan"):
        monkeypatch.setattr(
            f"wmtp_assets.operations.{module}.read_pins",
            lambda settings, repository: Pins(tmp_path / "lock", known),
        )
    found = examine.disk(real)
    assert found.state == "ok"
    assert "GB more needed" in found.says


HOLD = """
import sys
from pathlib import Path
from wmtp_assets.base.settings import Settings
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
with Store(Settings("sample", Path(sys.argv[1])), load_catalogue()).lock(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["micro_mtp", "models_v2/micro-mtp"])
def test_lock_that_somebody_holds(store: Store, name: str) -> None:
    """Who, where and since when; and nobody waits for it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.root), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        (found,) = examine.locks(store)
        assert found.state == "warning"
        assert found.says.startswith(f"{name} is held by process {process.pid} on ")
        process.stdin.close()
        process.wait()
    (found,) = examine.locks(store)
    assert (found.state, found.says) == ("ok", "no artifact is locked")


def test_what_a_crash_left(store: Store) -> None:
    """The first folder a person sees who looks where the disk went."""
    folder = store.internal / "staging/micro_mtp/micro-mtp"
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(b"x" * 5000)
    (found,) = examine.leftovers(store)
    assert (found.state, found.says, found.remedy) == (
        "warning",
        "5.0 kB of crashed runs: micro_mtp",
        "wmtp gc",
    )
    assert (folder / "half").is_file()


def test_what_an_interrupted_run_goes_on_with(store: Store) -> None:
    """No garbage: hours of downloading may be in it."""
    folder = store.internal / "scratch/codecontests_raw/partial"
    folder.mkdir(parents=True)
    (folder / "x").write_bytes(b"x" * 5000)
    (found,) = examine.leftovers(store)
    assert found.state == "warning"
    assert found.remedy == "materialize again; if you never will: wmtp gc --unfinished"
    shutil.rmtree(store.internal / "scratch")
    assert json.dumps([asdict(item) for item in examine.leftovers(store)])
