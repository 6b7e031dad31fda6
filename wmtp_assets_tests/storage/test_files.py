"""Large files: read ahead, hashed side by side, past the page cache; the bytes are the same."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_assets.storage import files
from wmtp_assets.storage.files import (
    BLOCK,
    HashedFile,
    PageCache,
    hash_file,
    hash_range,
    is_made_of,
    open_regular,
    read_ahead,
)
from wmtp_assets.storage.manifest import FileRecord

DATA = b"".join(hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(90_000))
"""Almost three blocks, and no two parts of it are alike."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refuse_flags(name: str) -> Callable[..., int]:
    """A call of the system on a kernel, or a filesystem, that does not know the flag."""
    real = getattr(os, name)

    def call(descriptor: int, views: list[memoryview], begin: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(descriptor, views, begin)

    return call


@pytest.mark.parametrize("system", ["in the cache", "past it", "by advice"])
def test_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    """How a file passes by the page cache must not decide about a byte of it."""
    monkeypatch.setattr(files, "SMALL", 0)
    monkeypatch.setattr(files, "UNCACHED", 1 if system == "in the cache" else 0)
    if system == "by advice":
        monkeypatch.setattr(os, "preadv", refuse_flags("preadv"))
        monkeypatch.setattr(os, "pwritev", refuse_flags("pwritev"))
    records: list[FileRecord] = []
    path = tmp_path / "large"
    with HashedFile(path, records.append, lambda size: None) as file:
        file.reserve(len(DATA))
        for begin in range(0, len(DATA), 700_000):
            file.write(DATA[begin : begin + 700_000])
    assert path.read_bytes() == DATA
    parts: list[str] = []
    assert hash_file(path, parts=parts, sizes=[5, 0, BLOCK, len(DATA)]) == records[0]
    ends = [0, 5, 5, 5 + BLOCK, len(DATA)]
    assert parts == [sha256(DATA[one:other]) for one, other in pairwise(ends)]
    assert records[0] == FileRecord(size=len(DATA), sha256=sha256(DATA))


def test_flag_that_is_refused_to_several_readers_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conversions read in several threads: where a second one heard the refusal, it was an error,
    now and then, on every kernel before 6.14 and on tmpfs."""
    path, refuse = tmp_path / "file", refuse_flags("preadv")
    path.write_bytes(DATA)
    both = Barrier(2)

    def refuse_both(descriptor: int, views: list[memoryview], begin: int, flags: int = 0) -> int:
        try:
            return refuse(descriptor, views, begin, flags)
        except OSError:
            both.wait(timeout=60)  # each has asked with the flag
            raise

    monkeypatch.setattr(os, "preadv", refuse_both)
    cache = PageCache(is_passed=True)
    with path.open("rb") as file, ThreadPoolExecutor(2) as readers:
        views = [memoryview(bytearray(100)) for _ in range(2)]
        counts = readers.map(lambda view: cache.read(file.fileno(), view, 7), views)
        assert [*counts] == [100, 100]
    assert [bytes(view) for view in views] == [DATA[7:107]] * 2


def test_read_ahead_ends_with_its_reader(tmp_path: Path) -> None:
    """Whoever finds damage reads no further, and no thread stays; nor does one read past the end
    of what was asked for, or of the file."""
    path = tmp_path / "large"
    path.write_bytes(DATA * 3)
    with open_regular(path) as file:
        blocks = read_ahead(file)
        assert bytes(next(blocks)) == DATA[:BLOCK]
        blocks.close()
        assert (
            b"".join(map(bytes, read_ahead(file, 7, 7 + 5 * BLOCK)))
            == (DATA * 3)[7 : 7 + 5 * BLOCK]
        )
        assert b"".join(map(bytes, read_ahead(file, len(DATA), length=1000))) == DATA * 2
        assert list(read_ahead(file, len(DATA) * 3)) == list(read_ahead(file, 5, 5)) == []


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=40), st.lists(st.integers(0, 12), max_size=6), st.integers(0, 50))
def test_ranges_are_hashed_as_slices(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, sizes: list[int], begin: int
) -> None:
    """Each piece has a hash, also an empty one, and one that the file ended before."""
    path = tmp_path_factory.getbasetemp() / "range"
    path.write_bytes(data)
    ends = [*accumulate(sizes, initial=begin)]
    hashes = hash_range(path, begin, sizes)
    assert hashes == [sha256(data[one:other]) for one, other in pairwise(ends)]


def test_empty_pieces_in_any_number(tmp_path: Path) -> None:
    """A checkpoint may have any number of tensors of no bytes, one behind the other."""
    path = tmp_path / "few"
    path.write_bytes(b"ab")
    assert hash_range(path, 0, [1, *[0] * 5000, 1]) == [
        sha256(b"a"),
        *[sha256(b"")] * 5000,
        sha256(b"b"),
    ]


def test_file_is_made_of_its_pieces_only(tmp_path: Path) -> None:
    """A flipped bit, and a byte more than the pieces have."""
    path = tmp_path / "large"
    path.write_bytes(DATA)
    begins = [0, 10, BLOCK, len(DATA)]
    hashes = [sha256(DATA[one:other]) for one, other in pairwise(begins)]
    assert is_made_of(path, begins, hashes, 2)
    for wrong in (DATA[:-1] + b"x", DATA + b"x", DATA[:-1]):
        path.write_bytes(wrong)
        assert not is_made_of(path, begins, hashes, 2)
