"""A repository of the sample: its module has one, as ``REPOSITORY``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RepoType = Literal["model", "dataset"]


@dataclass(frozen=True)
class SampleRepository:
    """One repository of the sample hub.

    Attributes:
        repo_type: as ``huggingface_hub`` has it.
        repo_id: ``owner/name``, the real repository's.
        recipe: version of what ``build`` writes; raise it with every change of the bytes, so that
            folders made by the former recipe are made anew.
        build: writes the repository's files below an existing, empty folder; the same bytes
            every time.
    """

    repo_type: RepoType
    repo_id: str
    recipe: int
    build: Callable[[Path], None]
