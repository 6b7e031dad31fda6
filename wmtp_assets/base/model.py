"""Types of what is read from files: names, plain relative paths, hashes, and their strict base."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wmtp_assets.base.strict_json import short

_BIDI = frozenset(("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"))
"""What shows a text in another order than it has: classes of Unicode's bidirectional algorithm."""

MAX_PATH = 1000
MAX_NAME = 255
MAX_DEPTH = 64
"""Characters of a path, bytes of a name in it, folders: with the storage root before it, it must be
one that the system takes."""


def relative_path(path: str) -> str:
    """Return ``path`` if it is a safe relative POSIX path.

    Raises:
        ValueError: if it is absolute, empty, not normalised, or holds ``..``, a backslash, a
            control character, a bidirectional override or a lone surrogate. Such a name, in a spec
            or from a hub, could leave its folder, or show as another. Also if it is longer or
            deeper than filesystems take.
    """
    if len(path) > MAX_PATH or path.count("/") >= MAX_DEPTH:
        raise ValueError(
            f"{short(path)} has more than {MAX_PATH} characters, or {MAX_DEPTH} folders"
        )
    if any(len(part.encode(errors="replace")) > MAX_NAME for part in path.split("/")):
        raise ValueError(f"{short(path)} has a name of more than {MAX_NAME} bytes")
    pure = PurePosixPath(path)
    if (
        not path
        or pure.is_absolute()
        or str(pure) != path
        or path == "."
        or ".." in pure.parts
        or "\\" in path
        or any(unicodedata.category(c) in ("Cc", "Cs") for c in path)
        or any(unicodedata.bidirectional(c) in _BIDI for c in path)
    ):
        raise ValueError(f"{path!r} is not a plain relative path")
    return path


def folded(path: str) -> str:
    """What two paths have in common that are one where upper and lower case, or the ways to write
    an accent (NFC and NFD), are the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path.casefold()).casefold())


def check_distinct(paths: Iterable[str], *, at_once: bool = True) -> None:
    """Require that no two paths name one file, also where upper and lower case, or the ways to
    write an accent, are the same; and that none is a folder that another lies in.

    Args:
        at_once: they are there at the same time; else a file may have become a folder.

    Raises:
        ValueError: naming those that do.
    """
    seen: dict[str, list[str]] = {}
    for path in paths:
        seen.setdefault(folded(path), []).append(path)
    twice = [path for same in seen.values() if len(same) > 1 for path in sorted(same)]
    if twice:
        raise ValueError(f"each file plays one part; named twice: {', '.join(twice)}")
    for path, (inside, *_) in seen.items() if at_once else ():
        for above in PurePosixPath(path).parents:
            if str(above) in seen:
                raise ValueError(f"{seen[str(above)][0]} is a file, and the folder of {inside}")


RelativePath = Annotated[str, AfterValidator(relative_path)]
AssetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
FolderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


def first_error(error: ValidationError, *above: str) -> tuple[str, str]:
    """Place and message of the first thing that a document is refused for.

    Args:
        above: keys that lead to the document.
    """
    problem = error.errors()[0]
    return ".".join(map(str, (*above, *problem["loc"]))), message_of(problem)


def message_of(problem: Mapping[str, Any]) -> str:
    """What one of :meth:`ValidationError.errors` says: our own text without pydantic's prefix."""
    return problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")


def first_problem(error: ValidationError, *above: str) -> str:
    """The same as ``place: message``."""
    return ": ".join(first_error(error, *above))


class StrictModel(BaseModel):
    """Base of what is read from files: immutable; unknown fields, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
