"""Rows by number: those of a scan, or an error; never half a row, or another one."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wmtp_assets
from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.datasets.jsonl import open_jsonl, pack_offsets
from wmtp_assets.storage.store import Store
from wmtp_assets.storage.verified import VerifiedFile
from wmtp_assets_tests.datasets.rows import read_jsonl
from wmtp_assets_tests.trees import damage, flip

Row = dict[str, Any]

ROWS: list[Row] = [{"n": number, "text": "é\r\n\u2028" * number} for number in range(5)]
OBJECTS = st.dictionaries(st.text(max_size=5), st.none() | st.text() | st.integers(), max_size=3)


def write(folder: Path, rows: list[Row], *, offsets: bool = True) -> Path:
    """A split as a processed dataset has it."""
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    path = folder / "processed/train.jsonl"
    for part in ("processed", "index"):
        (folder / part).mkdir(exist_ok=True)
    path.write_bytes(b"".join(lines))
    if offsets:
        ends = accumulate(map(len, lines), initial=0)
        (folder / "index/train.offsets").write_bytes(pack_offsets(ends))
    return path


@settings(deadline=None)
@given(st.lists(OBJECTS, max_size=8), st.booleans(), st.data())
@example([], True, None)
@example([], False, None)
def test_rows_are_those_of_a_scan(rows: list[Row], offsets: bool, data: st.DataObject) -> None:
    """With or without offsets, a sequence as any other: what ``list`` answers, it answers."""
    with TemporaryDirectory() as folder:
        path = write(Path(folder), rows, offsets=offsets)
        lines = open_jsonl(path)
        assert (len(lines), list(lines)) == (len(rows), rows)
        assert [lines[number] for number in range(len(rows))] == rows
        assert [lines[-number] for number in range(1, len(rows) + 1)] == rows[::-1]
        assert [lines.line(number) for number in range(len(rows))] == path.read_bytes().splitlines()
        assert list(reversed(lines)) == rows[::-1]
        if data is not None:
            chosen = data.draw(st.slices(len(rows)))
            assert lines[chosen] == rows[chosen]
        for row in (len(rows), -len(rows) - 1):
            with pytest.raises(IndexError, match=f"has {len(rows)} rows: there is no row {row}$"):
                lines[row]


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_offsets_are_little_endian_on_every_machine(numbers: list[int]) -> None:
    """The file is copied from one machine to another."""
    assert pack_offsets(numbers) == struct.pack(f"<{len(numbers)}Q", *numbers)


def test_large_file_is_read_where_asked(good_root: Path) -> None:
    """The rows of a real split, through the offsets that were written with it."""
    path = good_root / "datasets_v2/codecontests/processed/train.jsonl"
    rows = wmtp_assets.open_jsonl(str(path))
    every = [row for _, row in read_jsonl(path)]
    assert len(rows) == len(every)
    assert [rows[number] for number in range(0, len(rows), 97)] == every[::97]


def test_data_loaders_may_send_it_to_their_workers(tmp_path: Path) -> None:
    """A map of a file cannot be pickled, so the worker opens the file again."""
    lines = open_jsonl(write(tmp_path, ROWS))
    there = pickle.loads(pickle.dumps(lines))
    assert list(there) == ROWS
    assert there.path == lines.path


def test_open_file_stays_what_it_was_when_another_is_committed(tmp_path: Path) -> None:
    """A training that runs reads on in the generation that it opened."""
    path = write(tmp_path, ROWS)
    lines = open_jsonl(path)
    other = tmp_path / "other"
    other.mkdir()
    write(other, ROWS[:2])
    for name in ("processed/train.jsonl", "index/train.offsets"):
        (other / name).replace(tmp_path / name)
    assert list(lines) == ROWS
    assert list(open_jsonl(path)) == ROWS[:2]


def test_offsets_are_used_for_their_own_file_only(tmp_path: Path) -> None:
    """``index/`` is beside ``processed/``; a file of another folder or name is scanned."""
    path = write(tmp_path, ROWS)
    for name in ("small/train.jsonl", "processed/train_eval.jsonl"):
        other = tmp_path / name
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(b'{"a": 1}\n')
        assert list(open_jsonl(other)) == [{"a": 1}]
    assert list(open_jsonl(path)) == ROWS


def test_missing_file_is_named(tmp_path: Path) -> None:
    """With what shows which files are there."""
    path = tmp_path / "train.jsonl"
    with pytest.raises(MissingArtifact) as caught:
        open_jsonl(path)
    assert str(caught.value) == f"{path} does not exist; see what is there with: wmtp status"


BAD_OFFSETS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "has 0 bytes: not a number of unsigned 64-bit integers"),
    "cut off": (lambda data: data[:-3], "has 45 bytes: not a number of unsigned 64-bit"),
    "a number less": (lambda data: data[:-8], "they belong to another file"),
    "a number more": (lambda data: data + bytes(8), "they belong to another file"),
    "another begin": (lambda data: b"\1" + data[1:], "they belong to another file"),
}


@pytest.mark.parametrize("name", BAD_OFFSETS)
def test_offsets_that_are_none_of_the_file_are_refused(tmp_path: Path, name: str) -> None:
    """When it is opened, not at the row that a training reaches tomorrow."""
    change, text = BAD_OFFSETS[name]
    path = write(tmp_path, ROWS)
    damage(tmp_path / "index/train.offsets", change)
    with pytest.raises(CorruptArtifact) as caught:
        open_jsonl(path)
    assert text in str(caught.value)
    assert "wmtp verify" in str(caught.value)


def test_file_of_another_size_is_refused(tmp_path: Path) -> None:
    """The rows were made anew and the offsets were not."""
    path = write(tmp_path, ROWS)
    damage(path, lambda data: data + b"{}\n")
    with pytest.raises(CorruptArtifact, match=r"has \d+ bytes, but its offsets go from 0 to \d+: "):
        open_jsonl(path)


@pytest.mark.parametrize("bit", [0, 1, 7])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_shifted_offset_gives_no_half_row(tmp_path: Path, number: int, bit: int) -> None:
    """Half a row can be valid JSON, and two rows can be taken for one."""
    path = write(tmp_path, ROWS)
    damage(tmp_path / "index/train.offsets", flip(8 * number + bit))
    lines = open_jsonl(path)
    for row in range(len(ROWS)):
        if row in (number - 1, number):
            with pytest.raises(CorruptArtifact, match=f": row {row} is not a line: "):
                lines[row]
        else:
            assert lines[row] == ROWS[row]


@pytest.mark.parametrize(
    "line",
    [b'{"n": 2', b'{"n": "\xff"}', b"", b'{"n":' + b"[" * 200_000 + b"]" * 200_000 + b"}"],
    ids=["cut off", "not UTF-8", "empty", "deep"],
)
def test_row_that_is_no_json_is_named(tmp_path: Path, line: bytes) -> None:
    """The other rows can be read; the interpreter survives."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n' + line + b'\n{"n": 3}\n')
    lines = open_jsonl(path)
    with pytest.raises(CorruptArtifact) as caught:
        lines[1]
    assert str(caught.value).startswith(f"{path}: row 1: not JSON: ")
    assert [lines[0], lines[2]] == [{"n": 1}, {"n": 3}]


def test_last_line_without_newline_is_no_row(tmp_path: Path) -> None:
    """Such a file was cut off; the row may be half of what it was."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}')
    lines = open_jsonl(path)
    assert lines[0] == {"n": 1}
    with pytest.raises(CorruptArtifact, match="row 1 is not a line"):
        lines[1]


# -- verified --------------------------------------------------------------------------------------

KEY = "mbpp_processed"
SPLIT = "processed/train.jsonl"
PAIRS = "processed/train_eval.jsonl"
PART = 256
MANY: list[Row] = [{"n": number, "text": "x" * (number * 7 % 90)} for number in range(60)]


def commit(store: Store, rows: list[Row] = MANY) -> Path:
    """Commit a split with its offsets, and rows that have none."""
    artifact = store.catalogue[KEY]
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    with store.stage(artifact) as staged:
        staged.write(SPLIT, b"".join(lines))
        staged.write(PAIRS, b"".join(lines))
        staged.write("processed/empty_eval.jsonl", b"")
        staged.write("index/train.offsets", pack_offsets(accumulate(map(len, lines), initial=0)))
        store.commit(artifact, staged, {"asset": KEY})
    return store.path(artifact, SPLIT)


@pytest.fixture
def store(empty_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose large files are those of some hundred bytes."""
    monkeypatch.setattr("wmtp_assets.storage.files.PART", PART)
    monkeypatch.setattr("wmtp_assets.storage.store.PART", PART)
    return empty_store


@pytest.mark.parametrize("name", [SPLIT, PAIRS])
def test_verified_rows_are_the_rows(store: Store, name: str) -> None:
    """In several parts, lines across their seams, with stored offsets or none."""
    path = commit(store).parents[1] / name
    assert path.stat().st_size > 8 * PART
    rows = open_jsonl(path, verify=True)
    assert len(rows) == len(MANY)
    assert [rows[number] for number in reversed(range(len(MANY)))] == MANY[::-1]
    assert rows[3:9] == MANY[3:9]
    assert list(open_jsonl(path.with_name("empty_eval.jsonl"), verify=True)) == []
    for number in (len(MANY), -len(MANY) - 1):
        with pytest.raises(IndexError):
            rows[number]


def parts_of_rows(path: Path) -> list[range]:
    """The parts that each row lies in; that of the newline before it, which is looked at, too."""
    ends = [*accumulate(map(len, path.read_bytes().splitlines(keepends=True)), initial=0)]
    return [
        range(max(begin - 1, 0) // PART, (end - 1) // PART + 1) for begin, end in pairwise(ends)
    ]


def test_flipped_bit_in_each_part(store: Store) -> None:
    """Rows of the damaged part are refused, by its name; all others are handed out."""
    path = commit(store)
    rows_in, size = parts_of_rows(path), path.stat().st_size
    for part in range(-(-size // PART)):
        begin, end = part * PART, min((part + 1) * PART, size)
        for at in (begin, end - 1):
            damage(path, flip(at))
            rows = open_jsonl(path, verify=True)
            for number, row in enumerate(MANY):
                if part not in rows_in[number]:
                    assert rows[number] == row
                    continue
                with pytest.raises(CorruptArtifact) as caught:
                    rows[number]
                said = str(caught.value)
                assert said.startswith(f"{path}, bytes {begin} to {end}, is damaged: SHA-256 ")
                assert said.endswith(f"Repair it with: wmtp repair {KEY}")
            damage(path, flip(at))


def test_each_part_is_read_once_and_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look at a row hands out the memory that was hashed, whatever the file is by then."""
    path = commit(store)
    read: list[int] = []
    real = VerifiedFile.read
    monkeypatch.setattr(
        VerifiedFile, "read", lambda self, piece: read.append(piece.begin) or real(self, piece)
    )
    rows = open_jsonl(path, verify=True)
    assert read == []
    assert rows[0] == MANY[0]
    assert read == [0]
    assert list(rows) == MANY
    assert sorted(read) == list(range(0, path.stat().st_size, PART))
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert list(rows) == MANY
    with pytest.raises(CorruptArtifact):
        list(open_jsonl(path, verify=True))


def test_file_that_is_overwritten_after_it_was_opened(store: Store) -> None:
    """What was not read by then is compared when it is; a mapping would hand out the new bytes."""
    path = commit(store)
    rows, mapped = open_jsonl(path, verify=True), open_jsonl(path)
    assert rows[0] == mapped[0] == MANY[0]
    with path.open("r+b") as file:
        file.write(path.read_bytes().replace(b'"x', b'"y'))
    assert rows[0] == MANY[0]
    assert mapped[59] != MANY[59]
    with pytest.raises(CorruptArtifact, match=r"bytes \d+ to \d+, is damaged: SHA-256"):
        rows[59]


def test_commit_after_it_was_opened(store: Store) -> None:
    """The rows stay those of the version that was opened; a worker refuses to read another one."""
    path = commit(store)
    rows, pickled = open_jsonl(path, verify=True), pickle.dumps(open_jsonl(path, verify=True))
    again = pickle.loads(pickled)
    assert again[7] == MANY[7]
    commit(store, MANY[::-1])
    assert list(rows) == MANY
    assert list(open_jsonl(path, verify=True)) == MANY[::-1]
    with pytest.raises(CorruptArtifact, match="two processes would read two versions of it"):
        pickle.loads(pickled)
    damage(path, flip(0))
    with pytest.raises(CorruptArtifact, match="is damaged"):
        open_jsonl(path, verify=True)[0]


def test_damaged_offsets(store: Store) -> None:
    """They say where a row begins: one flipped bit hands out another one."""
    path = commit(store)
    damage(path.parents[1] / "index/train.offsets", flip(PART))
    with pytest.raises(CorruptArtifact, match=rf"offsets, bytes {PART} to .*, is damaged: SHA-256"):
        open_jsonl(path, verify=True)


def test_pieces_of_rows_that_were_removed(store: Store) -> None:
    """The manifest lists them."""
    path = commit(store)
    (path.parents[1] / "pieces.json").unlink()
    with pytest.raises(
        MissingArtifact, match=r"pieces.json is missing, although mbpp_processed is"
    ):
        open_jsonl(path, verify=True)


def test_cut_off_and_unlisted(store: Store, tmp_path: Path) -> None:
    """As for every file."""
    path = commit(store)
    damage(path, lambda data: data[:-1])
    with pytest.raises(CorruptArtifact, match=r"train.jsonl is damaged: \d+ bytes, but mbpp_proc"):
        open_jsonl(path, verify=True)
    with pytest.raises(MissingArtifact, match="there is no manifest"):
        open_jsonl(write(tmp_path, ROWS), verify=True)


def test_real_rows_are_verified(good_root: Path) -> None:
    """Every JSONL file of the sample, under every manifest."""
    paths = list(good_root.glob("datasets*/**/*.jsonl"))
    assert len(paths) > 20
    for path in paths:
        if "raw" not in path.parts:
            lines = [line for line in path.read_bytes().split(b"\n") if line]
            rows = open_jsonl(path, verify=True)
            assert [rows.line(number) for number in range(len(rows))] == lines
