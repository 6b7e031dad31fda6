"""Names of files: what is refused before anything is written under them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError, model_validator

from wmtp_assets.base.model import (
    MAX_DEPTH,
    StrictModel,
    check_distinct,
    first_problem,
    relative_path,
)
from wmtp_assets.transfer.places import git_sha1, git_sha1_of


@pytest.mark.parametrize(
    "names",
    [
        ("a", "A"),
        ("caf\u00e9", "cafe\u0301"),
        ("CAF\u00c9/x", "cafe\u0301/x"),
        ("straße", "STRASSE"),
        ("\u1e9b\u0323", "\u1e9b\u0323".upper()),
        ("a", "a/b"),
        ("A", "a/b/c"),
        ("caf\u00e9", "cafe\u0301/x"),
    ],
)
def test_paths_that_may_be_one(names: tuple[str, str]) -> None:
    """On a filesystem that folds case or normalises accents, as macOS has them, one of them would
    be lost; and no file is a folder."""
    for paths in (names, names[::-1]):
        with pytest.raises(ValueError, match=r"named twice|is a file, and the folder"):
            check_distinct(["other", *paths])


def test_paths_that_are_two() -> None:
    """Names that look alike are two everywhere."""
    check_distinct(["a", "a.b", "ab/c", "ab/d", "e", "é", "\u0430"])
    check_distinct(["a", "a/b"], at_once=False)


@pytest.mark.parametrize(
    "path",
    ["a/" * MAX_DEPTH + "a", "a/" * 1500 + "a", "x" * 256, "é" * 128, "a" * 1001, "a/" + "b" * 300],
    ids=len,
)
def test_path_that_no_filesystem_takes(path: str) -> None:
    """A short message, and not an error of the system later."""
    with pytest.raises(ValueError, match="more than") as error:
        relative_path(path)
    assert len(str(error.value)) < 200


def test_long_paths_are_taken() -> None:
    """As long as they fit."""
    for path in ("é" * 127, "x" * 255, "a/" * (MAX_DEPTH - 1) + "a"):
        assert relative_path(path) == path


class Odd(StrictModel):
    """Refuses everything."""

    a: int

    @model_validator(mode="after")
    def _refuse(self) -> Odd:
        raise ValueError("it is odd")


def test_message_is_ours() -> None:
    """People need not know which library checks."""
    with pytest.raises(ValidationError) as error:
        Odd.model_validate({"a": 1})
    assert first_problem(error.value, "x") == "x: it is odd"


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (3 << 20) + 5])
def test_git_sha1_of_a_file(tmp_path: Path, size: int) -> None:
    """It is read piece by piece, however large somebody announces it."""
    data = bytes(range(251)) * (size // 251 + 1)
    path = tmp_path / "x"
    path.write_bytes(data[:size])
    assert git_sha1_of(path) == git_sha1(data[:size])
