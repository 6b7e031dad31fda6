"""Which repositories the sample hub has, and how they come to be on disk.

``<folder>/models/<owner>/<name>/`` and ``<folder>/datasets/<owner>/<name>/`` hold exactly the files
of a repository; ``<name>.index.json`` beside it is written last and says that it is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import BaseFileLock, FileLock

from wmtp_assets.sample import (
    code_contests,
    gsm8k,
    humaneval,
    mbpp,
    meta_mtp,
    sheared_llama,
    starling_rm,
)
from wmtp_assets.sample.index import index_repository, read_index, write_index

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


REPOSITORIES = (
    SampleRepository("model", "facebook/multi-token-prediction", 2, meta_mtp.build),
    SampleRepository("model", "princeton-nlp/Sheared-LLaMA-2.7B", 1, sheared_llama.build),
    SampleRepository("model", "berkeley-nest/Starling-RM-7B-alpha", 1, starling_rm.build),
    SampleRepository("dataset", "openai/openai_humaneval", 1, humaneval.build),
    SampleRepository("dataset", "google-research-datasets/mbpp", 1, mbpp.build),
    SampleRepository("dataset", "openai/gsm8k", 1, gsm8k.build),
    SampleRepository("dataset", "deepmind/code_contests", 2, code_contests.build),
)


def repository_folder(folder: Path, repo_type: RepoType, repo_id: str) -> Path:
    """Where the files of a repository lie below the hub's ``folder``."""
    return folder / f"{repo_type}s" / repo_id


def index_path(repository: Path) -> Path:
    """Where the index of the repository in the folder ``repository`` lies."""
    return repository.with_name(f"{repository.name}.index.json")


def lock_repositories(folder: Path) -> BaseFileLock:
    """Hold this while repositories below ``folder`` must not change."""
    return FileLock(folder / ".lock")


def build_repositories(
    folder: Path, repositories: Sequence[SampleRepository] = REPOSITORIES
) -> None:
    """Make those of ``repositories`` that are not yet complete below ``folder``.

    Each is built under another name and renamed, then its index is written: a crash leaves a
    repository that counts as missing. Processes that do this at the same time wait for each other.

    Raises:
        CorruptArtifact: if an index is not one.
        OSError: if a file cannot be written.
    """
    if all(_is_complete(folder, repository) for repository in repositories):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with lock_repositories(folder):
        for repository in repositories:
            if not _is_complete(folder, repository):
                _build(folder, repository)


def _is_complete(folder: Path, repository: SampleRepository) -> bool:
    target = repository_folder(folder, repository.repo_type, repository.repo_id)
    found = read_index(index_path(target))
    if found is None:
        return False
    index, recipe = found
    return recipe == repository.recipe and index.find_mismatch(target) is None


def _build(folder: Path, repository: SampleRepository) -> None:
    target = repository_folder(folder, repository.repo_type, repository.repo_id)
    building = target.with_name(f".{target.name}.building")
    if building.exists():
        shutil.rmtree(building)
    building.mkdir(parents=True)
    repository.build(building)
    index = index_repository(building)
    for file in index.files:
        with (building / file.path).open("rb") as written:
            os.fsync(written.fileno())
    index_path(target).unlink(missing_ok=True)
    if target.exists():
        shutil.rmtree(target)
    building.rename(target)
    write_index(index_path(target), index, repository.recipe)
