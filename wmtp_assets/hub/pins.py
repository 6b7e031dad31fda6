"""The pins: which commit of each repository is used, and the hash of each of its files.

They are kept in ``wmtp.lock``, JSON, in the project folder, to be committed: ``{"version": 1,
"repositories": {"models/<id>" | "datasets/<id>": {"revision": <commit>, "files": {path: {"size",
"sha256" | "git_sha1"}}}}}``. A revision in a ``defs.yaml`` comes first. Pins concern the
real hub only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.errors import DownloadError, SpecError
from wmtp_assets.base.settings import LOCK_VARIABLE, Settings, project_folder
from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, Repository
from wmtp_assets.hub.remote import RemoteFile, RemoteRepository, is_commit
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.manifest import Document, render

VERSION = 1


def pins_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the pins are kept: ``WMTP_LOCK``, else ``wmtp.lock`` in the project folder."""
    return project_folder() / (LOCK_VARIABLE.read(environment) or "wmtp.lock")


def repository_key(repository: Repository) -> str:
    """The name of a repository among the pins."""
    return f"{repository.type}s/{repository.id}"


@dataclass(frozen=True)
class Pins:
    """The pins as they are on disk."""

    path: Path
    repositories: Mapping[str, RemoteRepository]

    @classmethod
    def read(cls, path: Path | None = None) -> Pins:
        """Read the pins; a file that is not there pins nothing.

        Raises:
            SpecError: if it is malformed.
        """
        path = path or pins_path()
        try:
            document = parse_object(path.read_bytes())
            if document.get("version") != VERSION or set(document) != {"version", "repositories"}:
                raise ValueError(f"expected version {VERSION} and repositories")
            pinned = {key: _parse(entry) for key, entry in dict(document["repositories"]).items()}
        except FileNotFoundError:
            return cls(path, {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SpecError(
                f"{path}: not a lock file: {error}. Get it back from git, or remove it and run: "
                "wmtp lock"
            ) from error
        return cls(path, pinned)

    def find(self, repository: Repository) -> RemoteRepository | None:
        """What is pinned of a repository."""
        return self.repositories.get(repository_key(repository))

    def write(self, changes: Mapping[str, RemoteRepository]) -> None:
        """Replace some repositories, in one step."""
        merged = {**self.repositories, **changes}
        document: Document = {
            "version": VERSION,
            "repositories": {
                key: {
                    "revision": merged[key].commit,
                    "files": {
                        file.path: file.as_document()
                        for file in sorted(merged[key].files, key=lambda file: file.path)
                    },
                }
                for key in sorted(merged)
            },
        }
        replace_file(self.path, render(document))


def read_pins(settings: Settings) -> Pins:
    """The pins, where they concern the source; the sample has none.

    Raises:
        SpecError: if it is malformed.
    """
    return Pins.read() if settings.source == "hub" else Pins(pins_path(), {})


def _parse(entry: Document) -> RemoteRepository:
    files = tuple(RemoteFile.of_document(path, file) for path, file in entry["files"].items())
    revision = entry["revision"]
    if not isinstance(revision, str) or not is_commit(revision):
        raise ValueError(f"revision is {revision!r}")
    return RemoteRepository(revision, files)


def pin_of(settings: Settings, spec: ModelSpec | DatasetSpec, pins: Pins) -> str | None:
    """The commit that is used; None: unpinned, the head of main. The sample is never pinned."""
    if settings.source != "hub":
        return None
    pinned = pins.find(spec.repository)
    return spec.repository.revision or (pinned.commit if pinned else None)


def check_unchanged(
    repository: Repository, known: RemoteRepository | None, found: RemoteRepository, where: str
) -> None:
    """Require that a commit holds what it held before: a commit never changes.

    Args:
        known: what was known of the repository; of another commit it says nothing.
        where: that knowledge is from.

    Raises:
        DownloadError: naming the file and both hashes.
    """
    if known is None or known.commit != found.commit:
        return
    before = {file.path: file for file in known.files}
    for file in found.files:
        old = before.get(file.path)
        if old is not None and (old.key, old.size) != (file.key, file.size):
            raise DownloadError(
                f"{repository.id} at {found.commit}: {file.path} is announced as {file.key} "
                f"({file.size} bytes), but {where} has {old.key} ({old.size} bytes) for the same "
                "commit. A commit never changes: do not trust this endpoint"
            )
