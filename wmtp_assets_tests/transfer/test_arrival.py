"""Bytes arrive once, and no others than are expected, whatever the origin and the disk do."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.storage.files import PART, HashedFile, hash_file
from wmtp_assets.transfer import arrival as module
from wmtp_assets.transfer.arrival import FIRST_WAIT, LONGEST_WAIT, Patience
from wmtp_assets.transfer.places import ExpectedFile, Places, git_sha1
from wmtp_assets_tests.transfer.conftest import DATA, Log, Make, Told, expected, full_disk


def test_file_that_is_sent_whole(arrive: Make, places: Places, log: Log) -> None:
    """It is hashed while it is written, and lies under its hash."""
    file = expected()
    arrival = arrive(Told())
    held = arrival.get(file)
    assert held.path == places.partial(file)
    assert held.path.read_bytes() == DATA
    assert held.record == hash_file(held.path)
    assert (arrival.fetched, log.bytes, log.lines) == (len(DATA), len(DATA), [])
    assert arrival.get(file) == held
    assert arrival.fetched == len(DATA)


def test_hashes_of_parts(arrive: Make, places: Places) -> None:
    """Those of what was here before too."""
    data = bytes(PART + 5)
    file = expected(data=data)
    places.partials.mkdir(parents=True)
    places.partial(file).write_bytes(data[:100])
    held = arrive(Told(data)).get(file)
    parts: list[str] = []
    hash_file(held.path, parts=parts)
    assert held.parts == parts
    assert len(parts) == 2


def test_waits_grow_while_nothing_comes(arrive: Make, places: Places, log: Log) -> None:
    """What arrived is kept, and the next process resumes it; the error is the origin's own."""
    file, origin = expected(), Told(cuts=[1000, 0, 0, 0])
    with pytest.raises(WmtpError, match=r"^a.bin is given up$") as raised:
        arrive(origin).get(file)
    assert isinstance(raised.value.__cause__, OSError)
    assert log.waits == [1, 2]
    assert log.lines == [
        "a.bin: cut off; 1.0 kB of 102.4 kB are here, resuming in 1 s",
        "a.bin: cut off; 1.0 kB of 102.4 kB are here, resuming in 2 s",
    ]
    assert places.partial(file).read_bytes() == DATA[:1000]
    log.lines.clear()
    arrival = arrive(Told())
    assert arrival.get(file).path.read_bytes() == DATA
    assert arrival.fetched == len(DATA) - 1000
    assert log.lines == ["resuming a.bin: 1.0 kB of 102.4 kB are here"]
    assert (log.here, log.bytes) == (1000, 1000 + len(DATA)), "only what came now is in the rate"


def test_line_that_is_cut_again_and_again(arrive: Make, log: Log) -> None:
    """However often: while something comes each time, nothing is given up and the wait is short."""
    origin = Told(cuts=[100] * 50)
    assert arrive(origin).get(expected()).path.read_bytes() == DATA
    assert log.waits == [FIRST_WAIT] * 50
    assert (sum(origin.sent), log.bytes) == (len(DATA), len(DATA))


def test_trickle_is_no_progress(
    arrive: Make, places: Places, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten bytes a minute would hold 25 GB forever; the next process resumes what came."""
    clock = itertools.count(step=60)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    file, origin = expected(), Told(cuts=[10] * 50)
    with pytest.raises(WmtpError, match=r"^a.bin is given up$"):
        arrive(origin).get(file)
    assert len(origin.sent) == origin.attempts
    assert places.partial(file).stat().st_size == 10 * origin.attempts


def test_wait_has_an_end() -> None:
    """Half a minute at most, also where the other side wants less or more."""
    patience = Patience(attempts=100)
    waits = []
    for _ in range(8):
        assert not patience.is_at_end()
        waits.append(patience.wait)
    assert waits == [1, 2, 4, 8, 16, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


def test_nothing_is_left_of_nothing(arrive: Make, places: Places) -> None:
    """A failure before the first byte leaves no empty file."""
    with pytest.raises(WmtpError):
        arrive(Told(cuts=[0, 0, 0])).get(expected())
    assert [*places.partials.iterdir()] == []


@pytest.mark.parametrize(
    ("sent", "message"), [(DATA[:-1] + b"x", "other bytes"), (DATA + b"x", "more bytes")]
)
def test_other_bytes_are_not_kept(arrive: Make, places: Places, sent: bytes, message: str) -> None:
    """Neither where their number is right nor where it is not: no more of them are written than
    are expected."""
    with pytest.raises(WmtpError, match=message):
        arrive(Told(sent)).get(expected())
    assert [*places.partials.iterdir()] == []


@pytest.mark.parametrize("size", [100, len(DATA)])
def test_what_was_left_is_damaged(arrive: Make, places: Places, log: Log, size: int) -> None:
    """It costs a second transfer, and no error: the origin did nothing wrong."""
    file = expected()
    places.partials.mkdir(parents=True)
    places.partial(file).write_bytes(bytes(size))
    arrival = arrive(Told())
    assert arrival.get(file).path.read_bytes() == DATA
    assert log.bytes == len(DATA)


@pytest.mark.parametrize("kind", ["linked elsewhere", "a symbolic link", "too long"])
def test_partial_file_that_is_another_file_is_not_written_to(
    arrive: Make, places: Places, tmp_path: Path, kind: str
) -> None:
    """A partial is resumed by writing into it; one that shares its bytes with a committed file (the
    process was killed right after the commit) would take that file with it."""
    file, other = expected(), tmp_path / "other"
    other.write_bytes(DATA[:1000] if kind != "too long" else DATA + b"x")
    path = places.partial(file)
    path.parent.mkdir(parents=True)
    if kind == "a symbolic link":
        path.symlink_to(other)
    elif kind == "linked elsewhere":
        path.hardlink_to(other)
    else:
        path.write_bytes(other.read_bytes())
    before = other.read_bytes()
    held = arrive(Told()).get(file)
    assert held.path.read_bytes() == DATA
    assert not held.path.is_symlink()
    assert other.read_bytes() == before


def test_full_disk_is_not_tried_again(
    arrive: Make, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be as full the next time."""
    monkeypatch.setattr(HashedFile, "write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        arrive(Told()).get(expected())
    assert log.waits == []


def test_small_file_with_a_git_hash(arrive: Make, tmp_path: Path) -> None:
    """The hub knows no other hash of a file that is not kept in LFS."""
    small = tmp_path / "small"
    small.write_bytes(DATA)
    file = ExpectedFile("a.txt", len(DATA), None, git_sha1(small.read_bytes()))
    assert arrive(Told()).get(file).path.name == f"git-{file.blob_id}"
    with pytest.raises(WmtpError, match="other bytes"):
        arrive(Told()).get(ExpectedFile("b.txt", len(DATA), None, "0" * 40))
