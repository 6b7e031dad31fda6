"""Excerpts read as the whole file does, or say what is missing; never zeros."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest

from wmtp_assets.base.excerpts import Excerpt, Excerpts, Hole, open_whole

PATH = Path("/nowhere/weights.pth")
DATA = random.Random(3).randbytes(1000)


def excerpts(*parts: tuple[int, int]) -> Excerpts:
    """A file of which these ranges are here."""
    held = Excerpts({PATH: Excerpt(len(DATA))})
    for begin, end in parts:
        held.add(PATH, begin, DATA[begin:end])
    return held


def test_reads_as_the_file_does() -> None:
    """Whoever parses it sees no difference where the bytes are: seeks, short reads, the end."""
    numbers = random.Random(4)
    file, whole = excerpts((0, 1000)).open(PATH), io.BytesIO(DATA)
    for _ in range(300):
        whence = numbers.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])
        low = {os.SEEK_SET: 0, os.SEEK_CUR: -whole.tell(), os.SEEK_END: -1000}[whence]
        offset, size = numbers.randint(low, low + 1100), numbers.choice([-1, 0, 7, 200])
        assert file.seek(offset, whence) == whole.seek(offset, whence)
        assert file.read(size) == whole.read(size)
        assert file.tell() == whole.tell()


@pytest.mark.parametrize(
    ("begin", "size"),
    [(0, 1), (99, 2), (150, 60), (199, 10), (900, -1), (995, 50)],
    ids=["front", "over an edge", "over a part", "into another", "rest", "past the end"],
)
def test_hole_is_named(begin: int, size: int) -> None:
    """The bytes that are missing, as they are asked for, and within the file."""
    file = excerpts((100, 150), (200, 300), (990, 1000)).open(PATH)
    file.seek(begin)
    end = 1000 if size < 0 else min(begin + size, 1000)
    if begin >= 990:
        assert file.read(size) == DATA[begin:end]
        return
    with pytest.raises(Hole) as missing:
        file.read(size)
    assert (missing.value.path, missing.value.begin, missing.value.end) == (PATH, begin, end)
    assert file.tell() == begin


def test_a_longer_part_replaces_a_shorter_one() -> None:
    """And never the other way round: what is known stays known."""
    held = excerpts((0, 10), (0, 30), (0, 20))
    assert held.read(PATH, 0, 30) == DATA[:30]


def test_unknown_file() -> None:
    """It is not there, as on disk."""
    with pytest.raises(FileNotFoundError):
        excerpts().open(Path("/other"))


def test_before_the_begin() -> None:
    with pytest.raises(ValueError, match="before its begin"):
        excerpts((0, 1000)).open(PATH).seek(-1)


def test_whole_file(tmp_path: Path) -> None:
    """What is here is read as it is."""
    path = tmp_path / "a"
    path.write_bytes(DATA)
    with open_whole(path) as file:
        assert file.read() == DATA
