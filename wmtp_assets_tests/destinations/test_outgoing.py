"""Reading what is sent: in parts, once, and only what was committed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from wmtp_assets.base.errors import PublishError
from wmtp_assets.destinations import listing
from wmtp_assets.destinations.listing import MAX_PARTS, Outgoing, Reading
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets_tests.destinations.trees import random_bytes
from wmtp_assets_tests.trees import damage, flip


def outgoing(path: Path, data: bytes) -> Outgoing:
    """A file that was committed with these bytes."""
    path.write_bytes(data)
    return Outgoing("asset", "folder/file", path, hash_file(path))


def with_parts(file: Outgoing, size: int = 10) -> Outgoing:
    """The same, with the hashes of parts of this size."""
    data = file.local.read_bytes()
    pieces = [data[begin : begin + size] for begin in range(0, len(data), size)]
    return replace(file, parts=tuple(hashlib.sha256(piece).hexdigest() for piece in pieces))


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 30, 35])
def test_parts_are_the_file(tmp_path: Path, size: int) -> None:
    """Also of an empty one, and where the last part is full."""
    data = random_bytes(size)
    reading = Reading(outgoing(tmp_path / "file", data), 10)
    parts = list(reading.parts())
    assert b"".join(part for _, part, _ in parts) == data
    assert [number for number, _, _ in parts] == list(range(1, max(-(-size // 10), 1) + 1))
    assert all(hashlib.sha256(part).digest() == digest for _, part, digest in parts)
    whole = hashlib.sha256(b"".join(digest for _, _, digest in parts)).digest()
    assert reading.sent().composite == f"{base64.b64encode(whole).decode()}-{len(parts)}"


@pytest.mark.parametrize("size", [0, 9, 10, 11, 30, 35])
def test_known_parts_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The file is described the same, whatever it is compared with."""
    monkeypatch.setattr(listing, "PART", 10)
    file = outgoing(tmp_path / "file", random_bytes(size))
    assert Reading(with_parts(file), 10).describe() == Reading(file, 10).describe()


def test_parts_of_another_size_are_not_compared(tmp_path: Path) -> None:
    """A file too large for 10,000 parts of the usual size is sent in others than are known."""
    file = outgoing(tmp_path / "file", random_bytes(25))
    assert Reading(with_parts(file, 7), 10).describe() == Reading(file, 10).describe()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_part_that_is_another_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where parts are known, the first that is another one is refused; nobody gets its bytes."""
    monkeypatch.setattr(listing, "PART", 10)
    file = with_parts(outgoing(tmp_path / "file", random_bytes(25)))
    damage(file.local, flip(10 * number - 6))
    given = []
    with pytest.raises(PublishError, match=f"is damaged: part {number} of 3 has SHA-256 ") as error:
        given.extend(Reading(file, 10).parts())
    assert len(given) < number
    assert str(error.value).endswith("Nothing was published. Run: wmtp repair asset")


def test_no_file_has_more_parts_than_s3_takes() -> None:
    """A checkpoint of 400 GB has larger ones."""
    file = Outgoing("asset", "file", Path("file"), FileRecord(size=400 << 30, sha256="0" * 64))
    assert file.part_size() % (16 << 20) == 0
    assert file.record.size / file.part_size() <= MAX_PARTS


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (cut, "it ends 1 bytes early"),
        (lengthen, "it is longer than 25 bytes"),
        (lambda path: path.write_bytes(random_bytes(25, 9)), ""),
        (Path.unlink, "it cannot be read (No such file or directory)"),
        (link, "it cannot be read (Too many levels of symbolic links)"),
    ],
)
def test_other_bytes_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], object],
    found: str,
    is_known: bool,
) -> None:
    """With what was found, and what puts it right."""
    monkeypatch.setattr(listing, "PART", 10)
    file = outgoing(tmp_path / "file", random_bytes(25))
    file = with_parts(file) if is_known else file
    found = found or ("part 1 of 3 has SHA-256 " if is_known else "SHA-256 ")
    change(file.local)
    with pytest.raises(PublishError) as error:
        list(Reading(file, 10).parts())
    assert f"changed while it was read, or is damaged: {found}" in str(error.value)
    assert str(error.value).endswith("Nothing was published. Run: wmtp repair asset")
