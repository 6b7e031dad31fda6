"""Which repositories the sample hub has, and how they come to be on disk.

``<folder>/models/<owner>/<name>/`` and ``<folder>/datasets/<owner>/<name>/`` hold exactly the files
of a repository; ``<name>.index.json`` beside it is written last and says that it is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from wmtp_assets import sample
from wmtp_assets.sample.index import index_repository, read_index, write_index
from wmtp_assets.sample.repository import RepoType, SampleRepository
from wmtp_assets.storage.locks import hold

__all__ = ["RepoType", "SampleRepository", "all_repositories", "build_repositories"]


@cache
def all_repositories() -> tuple[SampleRepository, ...]:
    """The repository of each module of this folder that has one, models first; a new repository is
    a new module."""
    modules = [
        import_module(module.name)
        for module in iter_modules(sample.__path__, f"{sample.__name__}.")
        if not module.name.endswith("__main__")
    ]
    found = [module.REPOSITORY for module in modules if hasattr(module, "REPOSITORY")]
    return tuple(sorted(found, key=lambda repository: repository.repo_type != "model"))


def repository_folder(folder: Path, repo_type: RepoType, repo_id: str) -> Path:
    """Where the files of a repository lie below the hub's ``folder``."""
    return folder / f"{repo_type}s" / repo_id


def index_path(repository: Path) -> Path:
    """Where the index of the repository in the folder ``repository`` lies."""
    return repository.with_name(f"{repository.name}.index.json")


def lock_repositories(folder: Path) -> AbstractContextManager[None]:
    """Hold this while repositories below ``folder`` must not change."""
    return hold(folder / ".lock")


def build_repositories(
    folder: Path, repositories: Sequence[SampleRepository] | None = None
) -> None:
    """Make those of ``repositories``, or of all, that are not yet complete below ``folder``.

    Each is built under another name and renamed, then its index is written: a crash leaves a
    repository that counts as missing. Processes that do this at the same time wait for each other.

    Raises:
        CorruptArtifact: if an index is not one.
        OSError: if a file cannot be written.
    """
    repositories = all_repositories() if repositories is None else repositories
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
