"""Types of what is read from files: names, plain relative paths, hashes, and their strict base."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError


def relative_path(path: str) -> str:
    """Return ``path`` if it is a safe relative POSIX path.

    Raises:
        ValueError: if it is absolute, empty, not normalised, or holds ``..``, a backslash, a
            control character or a lone surrogate. Such a name, in a spec or from a hub, could leave
            its folder.
    """
    pure = PurePosixPath(path)
    if (
        not path
        or pure.is_absolute()
        or str(pure) != path
        or path == "."
        or ".." in pure.parts
        or "\\" in path
        or any(unicodedata.category(c) in ("Cc", "Cs") for c in path)
    ):
        raise ValueError(f"{path!r} is not a plain relative path")
    return path


def check_distinct(paths: Iterable[str]) -> None:
    """Require that no two paths name one file, also where upper and lower case are the same.

    Raises:
        ValueError: naming those that do.
    """
    seen: dict[str, list[str]] = {}
    for path in paths:
        seen.setdefault(path.casefold(), []).append(path)
    twice = [path for same in seen.values() if len(same) > 1 for path in sorted(same)]
    if twice:
        raise ValueError(f"each file plays one part; named twice: {', '.join(twice)}")


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
    return ".".join(map(str, (*above, *problem["loc"]))), problem["msg"]


def first_problem(error: ValidationError, *above: str) -> str:
    """The same as ``place: message``."""
    return ": ".join(first_error(error, *above))


class StrictModel(BaseModel):
    """Base of what is read from files: immutable; unknown fields, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
