"""What is here already: found by its hash, wherever it lies, and counted before the first byte."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from wmtp_assets.base.errors import DownloadError, StoreError
from wmtp_assets.transfer import places as module
from wmtp_assets.transfer.places import (
    LEAST,
    Places,
    ignore,
    last_rate,
    remember_rate,
    require_space,
)
from wmtp_assets_tests.transfer.conftest import DATA, Log, expected

OTHER = DATA[::-1]


def put(path: Path, data: bytes = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def commit(places: Places, data: bytes) -> None:
    with places.store.stage(places.artifact) as staged:
        staged.write("raw/a.bin", data)
        places.store.commit(places.artifact, staged, {"asset": places.artifact.key})


@pytest.fixture
def elsewhere(places: Places, tmp_path: Path) -> Places:
    """With a folder that somebody named."""
    return replace(places, others=[tmp_path / "elsewhere"])


def test_all_places(elsewhere: Places, tmp_path: Path, log: Log) -> None:
    """The committed file first; one with other bytes is neither used nor removed, but for what was
    left of a transfer. Links are followed where somebody named a folder, and nowhere else."""
    places, file = elsewhere, expected()
    assert places.find(file, log.advance, log.lines.append) is None
    named = put(tmp_path / "cache/blob")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.bin").symlink_to(named)
    partial = put(places.partial(file), OTHER)
    places.committed(file).parent.mkdir(parents=True)
    places.committed(file).symlink_to(named)
    held = places.find(file, log.advance, log.lines.append)
    assert held is not None
    assert (held.path, log.bytes) == (named, len(DATA))
    assert log.lines == [f"{partial} has the size of a.bin, but other bytes: it is not used"]
    assert not partial.exists()
    put(partial)
    held = places.find(file, log.advance, log.lines.append)
    assert held is not None and held.path == partial
    places.committed(file).unlink()
    committed = put(places.committed(file), OTHER)
    held = places.find(file, log.advance, log.lines.append)
    assert held is not None and held.path == partial
    assert committed.read_bytes() == OTHER


def test_what_cannot_be_read_is_not_here(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe, a folder, a disk that fails: the file is fetched."""
    file = expected()
    path = places.committed(file)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert places.missing([file]) == len(DATA)
    path.unlink()
    path.mkdir()
    assert places.missing([file]) == len(DATA)
    path.rmdir()
    put(path)

    def fails(path: Path, *others: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module, "hash_file", fails)
    assert places.find(file, ignore, lambda line: None) is None


def test_missing_bytes(places: Places) -> None:
    """The same bytes under two names are fetched once, and what was left is not fetched again."""
    one, two, empty = expected("a.bin"), expected("b.bin"), expected("c.bin", b"")
    assert places.missing([one, two, empty]) == len(DATA)
    partial = put(places.partial(one), DATA[:1000])
    assert places.missing([one, two]) == len(DATA) - 1000
    put(partial, DATA + b"x")
    assert places.missing([one]) == len(DATA)
    put(partial)
    assert places.missing([one, two]) == 0


def test_missing_bytes_of_what_is_committed(places: Places) -> None:
    """What the manifest records is believed; of what none records the size is, where nobody asks
    for more: 27 GB are not hashed to plan."""
    file = expected()
    commit(places, DATA)
    assert places.missing([file], is_hashed=True) == 0
    commit(places, OTHER)
    assert places.missing([file]) == len(DATA)
    places.store.manifest_path(places.artifact).unlink()
    assert places.missing([file]) == 0
    assert places.missing([file], is_hashed=True) == len(DATA)


def test_copy_where_no_link_can_be(elsewhere: Places, tmp_path: Path) -> None:
    """From another filesystem, and of a file that has as many links as it may."""
    places, file = elsewhere, expected()
    put(tmp_path / "elsewhere/a.bin")
    held = places.find(file, ignore, lambda line: None)
    assert held is not None

    def stage(error: int) -> SimpleNamespace:
        placed: list[Path] = []

        def place(name: str, source: Path, record: object, parts: object) -> None:
            if source == held.path:
                raise OSError(error, os.strerror(error))
            placed.append(source)

        return SimpleNamespace(place=place, placed=placed)

    for error in (errno.EXDEV, errno.EMLINK, errno.EPERM):
        staged = stage(error)
        places.place(staged, file, held)  # type: ignore[arg-type]
        assert staged.placed == [places.partial(file)]
        assert places.partial(file).read_bytes() == DATA
    with pytest.raises(OSError, match="No space left"):
        places.place(stage(errno.ENOSPC), file, held)  # type: ignore[arg-type]
    held.path.write_bytes(OTHER)
    with pytest.raises(DownloadError, match="changed while it was copied; run again"):
        places.place(stage(errno.EXDEV), file, held)  # type: ignore[arg-type]
    assert not places.partial(file).exists()


def test_no_space(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said with what is needed, what there is, and what to do; also before the root is there."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    shutil.rmtree(places.store.root)
    require_space(places.store, "a_raw", 1000, "1.0 kB to fetch")
    with pytest.raises(StoreError) as error:
        require_space(places.store, "a_raw", 1001, "1.0 kB to fetch")
    assert str(error.value) == (
        f"a_raw will not fit: 1.0 kB to fetch, 1.0 kB free under {places.store.root}. Free some "
        "space, or move the root with WMTP_STORAGE_ROOT"
    )


def test_rate(tmp_path: Path) -> None:
    """A transfer of some bytes says nothing about the line; what is not a rate is none."""
    path = tmp_path / "rate.json"
    remember_rate(path, LEAST - 1, 1)
    remember_rate(path, LEAST, 0)
    assert last_rate(path) is None
    remember_rate(path, 4 * LEAST, 2)
    assert last_rate(path) == 2 * LEAST
    for data in (b"", b"[]", b'{"bytes_per_second": "x"}', b'{"bytes_per_second": -1}'):
        path.write_bytes(data)
        assert last_rate(path) is None
