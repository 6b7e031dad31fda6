"""``pieces.json``: exactly the pieces of the manifest's files, or nothing is read from it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.storage import pieces
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.pieces import Parts, Piece, Tensors

A, B, C = "a" * 64, "b" * 64, "c" * 64
FILES = {
    "raw/long": FileRecord(size=27, sha256=A),
    "model": FileRecord(size=100, sha256=B),
    "empty": FileRecord(size=0, sha256=C),
    "pieces.json": FileRecord(size=1, sha256=C),
}
PARTS = Parts(part_size=10, sha256=[A, B, C])
TENSORS = Tensors(header=A, tensors=[("one", 60, B), ("none", 0, C), ("two", 30, C)])


def text(files: Any, **changes: Any) -> bytes:
    document = {"format": "wmtp-pieces/1", "files": files, **changes}
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def test_pieces_are_contiguous_and_all_of_the_file() -> None:
    """In file order, each with a name for people."""
    data = pieces.render({"raw/long": PARTS, "model": TENSORS})
    assert pieces.parse(data, FILES, "here") == {
        "model": [
            Piece("model", 0, 10, A, "the header"),
            Piece("model", 10, 70, B, "tensor one"),
            Piece("model", 70, 70, C, "tensor none"),
            Piece("model", 70, 100, C, "tensor two"),
        ],
        "raw/long": [
            Piece("raw/long", 0, 10, A, "bytes 0 to 10"),
            Piece("raw/long", 10, 20, B, "bytes 10 to 20"),
            Piece("raw/long", 20, 27, C, "bytes 20 to 27"),
        ],
    }


LONG = {"part_size": 10, "sha256": [A, B, C]}
MODEL = {"header": A, "tensors": [["one", 90, B]]}
HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "column 1"),
    "no JSON": (b"{", "column"),
    "a list": (b"[]\n", "a list, not an object"),
    "too long": (b" " * (9 << 20), "longer than"),
    "too many values": (text({"model": {"header": A, "tensors": [[]] * 300_000}}), "values"),
    "nested": (b'{"format":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested"),
    "another format": (text({"raw/long": LONG}, format="wmtp-pieces/2"), "format: "),
    "an unknown key": (text({"raw/long": LONG}, more=1), "more: "),
    "no files": (text({}), "files: "),
    "a key twice": (b'{"format":"wmtp-pieces/1","format":"","files":{}}\n', "duplicate key"),
    "a file that is not there": (text({"other": LONG}), "other is not a file of the manifest"),
    "a path that leaves": (text({"../x": LONG}), "files"),
    "a part too few": (text({"raw/long": LONG | {"sha256": [A, B]}}), "2 parts of 10 bytes"),
    "a part too many": (text({"raw/long": LONG | {"sha256": [A, B, C, C]}}), "4 parts of 10"),
    "one part": (text({"raw/long": {"part_size": 27, "sha256": [A]}}), "files.raw/long"),
    "parts of nothing": (text({"raw/long": LONG | {"part_size": 0}}), "files.raw/long"),
    "parts of less": (text({"raw/long": LONG | {"part_size": -1}}), "files.raw/long"),
    "parts of half a byte": (text({"raw/long": LONG | {"part_size": 9.5}}), "files.raw/long"),
    "parts of a text": (text({"raw/long": LONG | {"part_size": "10"}}), "files.raw/long"),
    "no hash": (text({"raw/long": LONG | {"sha256": [A, B, "c"]}}), "files.raw/long"),
    "both": (text({"raw/long": LONG | MODEL}), "files.raw/long"),
    "parts of an empty file": (text({"empty": LONG}), "3 parts of 10 bytes for a file of 0"),
    "no header": (text({"model": MODEL | {"tensors": [["one", 100, B]]}}), "100 bytes of tensors"),
    "too much": (text({"model": MODEL | {"tensors": [["one", 10**30, B]]}}), "bytes of tensors"),
    "less than nothing": (text({"model": MODEL | {"tensors": [["one", -1, B]]}}), "files.model"),
    "no tensors": (text({"model": MODEL | {"tensors": []}}), "files.model"),
    "a tensor twice": (
        text({"model": MODEL | {"tensors": [["one", 1, B], ["one", 1, B]]}}),
        "repeated",
    ),
    "a name that moves the cursor": (
        text({"model": MODEL | {"tensors": [["\u001b[2J", 90, B]]}}),
        "printable",
    ),
    "a long name": (text({"model": MODEL | {"tensors": [["x" * 513, 90, B]]}}), "files.model"),
    "another order": (text({"raw/long": LONG, "model": MODEL}), "another form"),
    "white space": (text({"raw/long": LONG}).replace(b",", b", "), "another form"),
    "no newline": (text({"raw/long": LONG})[:-1], "another form"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pieces_are_refused(name: str) -> None:
    """With the file, and what is wrong with it, in one sentence."""
    data, reason = HOSTILE[name]
    with pytest.raises(CorruptArtifact) as error:
        pieces.parse(data, FILES, "/storage/pieces.json")
    message = str(error.value)
    assert message.startswith("/storage/pieces.json: not the pieces of the artifact's files: ")
    assert reason in message
    assert len(message) < 500


def test_long_pieces_are_refused_before_they_are_read() -> None:
    """A manifest may say that they have a terabyte."""
    pieces.require_small(FileRecord(size=8 << 20, sha256=A), "here")
    with pytest.raises(CorruptArtifact, match=r"here: not the pieces .* longer than"):
        pieces.require_small(FileRecord(size=1 << 40, sha256=A), "here")


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 300))
def test_parts_of_any_file(width: int, size: int) -> None:
    """Whatever the size: no gap, no overlap, and the last one may be shorter."""
    count = -(-size // width)
    cuts = pieces.cut_parts(width, {"file": [A] * count})
    assert bool(cuts) == (count > 1)
    if cuts:
        files = {"file": FileRecord(size=size, sha256=B)}
        found = pieces.parse(pieces.render(cuts), files, "here")["file"]
        assert found[0].begin == 0
        assert found[-1].end == size
        assert all(a.end == b.begin < b.end for a, b in pairwise(found))
