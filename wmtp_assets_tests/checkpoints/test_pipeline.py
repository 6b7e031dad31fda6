"""Reading ahead: the same bytes in the same order, no thread or file left, on any filesystem."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.checkpoints import pipeline
from wmtp_assets.checkpoints.pipeline import AHEAD, READS, Extent, ahead, map_ahead, read_extents
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.leaks import leaves_nothing, open_files

PAGE = 4096
DATA = bytes(range(256)) * 150 + b"the end"
"""38,407 bytes: nine pages and a piece of one."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with :data:`DATA`."""
    path = tmp_path_factory.mktemp("pipeline") / "data"
    path.write_bytes(DATA)
    return path


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test may leave a thread or an open file behind."""
    with leaves_nothing():
        yield


# -- ahead ---------------------------------------------------------------------------------------


@given(st.lists(st.integers() | st.none()))
def test_ahead_gives_the_same_items(items: list[int | None]) -> None:
    """In the same order, each once, also items that are false or None."""
    assert list(ahead(iter(items))) == items


def test_ahead_makes_no_more_than_it_says() -> None:
    """Buffers are reused after so many items: one more made early would overwrite one in use."""
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    stream = ahead(items())
    for number in stream:
        assert len(made) <= number + 1 + AHEAD
    assert made == list(range(20))


def test_ahead_works_in_another_thread() -> None:
    """That is its point; and it is one thread, since generators cannot run in two."""
    threads = list(ahead(threading.get_ident() for _ in range(10)))
    assert len({*threads}) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("good", range(5))
def test_ahead_passes_exceptions_on(good: int) -> None:
    """At its place: what came before is delivered, what comes after is not asked for."""

    def items() -> Iterator[int]:
        yield from range(good)
        raise OSError(errno.EIO, "as told")

    found = []
    with pytest.raises(OSError, match="as told"):
        for item in ahead(items()):
            found.append(item)
    assert found == list(range(good))


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_ahead_can_be_left_early(taken: int) -> None:
    """Whoever fails midway closes it; the thread ends, and endless items do not continue."""
    made: list[int] = []

    def items() -> Iterator[int]:
        while True:
            made.append(len(made))
            yield made[-1]

    stream = ahead(items())
    assert list(islice(stream, taken)) == list(range(taken))
    stream.close()
    count = len(made)
    assert count <= taken + AHEAD
    assert len(made) == count


# -- map_ahead -----------------------------------------------------------------------------------


@given(st.lists(st.integers()), st.integers(1, 4))
def test_map_ahead_keeps_the_order(items: list[int], width: int) -> None:
    """However the threads are scheduled; and no more results wait than the width."""
    asked = 0

    def counted() -> Iterator[int]:
        nonlocal asked
        for item in items:
            asked += 1
            yield item

    doubled = map_ahead(lambda item: item * 2, counted(), width)
    for number, (found, item) in enumerate(zip(doubled, items, strict=True)):
        assert found == item * 2
        assert asked <= number + 1 + width


def test_map_ahead_runs_side_by_side() -> None:
    """Each of the first calls waits for the others: in one thread this would never end."""
    together = threading.Barrier(READS, timeout=60)
    assert list(map_ahead(lambda x: together.wait() >= 0, range(READS), READS)) == [True] * READS


def test_map_ahead_passes_exceptions_on() -> None:
    """Of the function at its place, and of the items."""

    def fail_at(bad: int) -> Callable[[int], int]:
        def function(item: int) -> int:
            if item == bad:
                raise ValueError(f"bad {bad}")
            return item

        return function

    for bad in range(6):
        found = []
        with pytest.raises(ValueError, match=f"bad {bad}"):
            for item in map_ahead(fail_at(bad), range(6), 2):
                found.append(item)
        assert found == list(range(bad))
        with pytest.raises(ValueError, match=f"bad {bad}"):
            list(map_ahead(lambda item: item, map(fail_at(bad), range(6)), 2))


# -- extents -------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(0, 300), st.integers(1, 12))
def test_blocks_cover_an_extent(begin: int, size: int, eights: int) -> None:
    """Every byte once, in order, no block larger than allowed or empty."""
    with tiny.blocks_of(8 * eights):
        blocks = list(Extent(Path("x"), begin, size, "w").blocks())
    position = begin
    for block in blocks:
        assert (block.path, block.what, block.begin) == (Path("x"), "w", position)
        assert 0 < block.size <= 8 * eights
        position += block.size
    assert position == begin + size
    assert all(block.size == 8 * eights for block in blocks[:-1])


spans = st.tuples(st.integers(0, len(DATA)), st.integers(0, 3 * PAGE)).map(
    lambda span: (span[0], min(span[1], len(DATA) - span[0]))
)


@settings(deadline=None)
@given(st.lists(spans, max_size=12), st.integers(1, 3), st.booleans())
def test_reads_any_extents(
    path: Path, asked: list[tuple[int, int]], kept: int, is_early: bool
) -> None:
    """Direct reads need whole pages; what is asked for begins and ends anywhere.

    The last ``kept`` views must still hold what they held when they were given out.
    """
    with tiny.blocks_of(3 * PAGE), tiny.everything_read_ahead() if is_early else nullcontext():
        extents = [Extent(path, begin, size, "w") for begin, size in asked]
        views: list[memoryview] = []
        for number, view in enumerate(read_extents(extents, kept)):
            views.append(view)
            for back in range(min(kept, len(views))):
                begin, size = asked[number - back]
                assert views[-1 - back] == DATA[begin : begin + size]
        assert len(views) == len(asked)


def test_reads_from_several_files(path: Path, tmp_path: Path) -> None:
    """Twins in two shards take turns; each file is opened once."""
    other = tmp_path / "other"
    other.write_bytes(DATA[::-1])
    extents = [Extent((path, other)[i % 2], 100 * i, 100, "w") for i in range(20)]
    stream = read_extents(extents)
    for i, view in enumerate(stream):
        assert view == (DATA, DATA[::-1])[i % 2][100 * i : 100 * i + 100]
        assert len({*open_files()} & {str(path), str(other)}) in (0, 2)
        assert open_files().count(str(path)) <= 1


@pytest.mark.parametrize("past", [1, 5000])
def test_file_that_ends_early(path: Path, past: int) -> None:
    """Never zeros for bytes that are not there; what was read before is delivered."""
    extents = [
        Extent(path, 0, 10, "a"),
        Extent(path, len(DATA) - 10, 10, "b"),
        Extent(path, len(DATA) - 10, 10 + past, "layers.0.wq"),
    ]
    found = []
    with pytest.raises(InvalidInput) as refused:
        for view in read_extents(extents):
            found.append(bytes(view))
    assert str(refused.value) == f"{path}: the file ends inside layers.0.wq"
    assert found == [DATA[:10], DATA[-10:]]


def test_missing_file(path: Path) -> None:
    """The system's own error, after what could be read; nothing stays open."""
    extents = [Extent(path, 0, 10, "a"), Extent(path.with_name("none"), 0, 10, "b")]
    with pytest.raises(FileNotFoundError):
        list(read_extents(extents))


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_reading_can_be_left_early(path: Path, taken: int) -> None:
    """A tensor that is refused ends the conversion in the middle of a file."""
    asked: list[int] = []

    def extents() -> Iterator[Extent]:
        for number in range(1000):
            asked.append(number)
            yield Extent(path, number, 10, "w")

    stream = read_extents(extents())
    views = [bytes(view) for view in islice(stream, taken)]
    assert views == [DATA[i : i + 10] for i in range(taken)]
    stream.close()
    assert len(asked) <= taken + READS + 1


# -- what the system does -------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_other_errors_come_out(path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """A broken disk is neither the end of the file nor a defect of the program."""

    def fail(*arguments: object) -> int:
        raise OSError(error, os.strerror(error))

    for name in ("open", "preadv"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match=os.strerror(error)):
                list(read_extents([Extent(path, 0, 10, "w")]))


def test_short_reads_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may give less than was asked for, at any length."""
    real = os.preadv

    def preadv(descriptor: int, buffers: list[memoryview], offset: int, flags: int) -> int:
        return real(descriptor, [buffers[0][: min(len(buffers[0]), 700)]], offset, flags)

    monkeypatch.setattr(os, "preadv", preadv)
    extents = [Extent(path, begin, 9000, "w") for begin in (0, 1, 4095, len(DATA) - 9000)]
    found = [bytes(view) for view in read_extents(extents)]
    assert found == [DATA[e.begin : e.begin + e.size] for e in extents]


def test_default_sizes_fit_each_other() -> None:
    """A block is whole pages and whole elements of any dtype, whatever it is set to."""
    assert pipeline.BLOCK % PAGE == 0
