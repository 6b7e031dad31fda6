"""What a repository has at a commit, and size and hash of each file: as the hub says, and as it is
pinned.

The pins are kept in ``wmtp.lock``, JSON, in the project folder, to be committed: ``{"version": 1,
"repositories": {"models/<id>" | "datasets/<id>": {"revision": <commit>, "files": {path: {"size",
"sha256" | "git_sha1"}}}}}``. A revision in a ``defs.yaml`` comes first. Pins concern the real hub,
and folders on this machine (``folders/<id>``, whose revision is a hash over their files), not the
sample.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_assets.base.errors import DownloadError, SpecError
from wmtp_assets.base.model import check_distinct, relative_path
from wmtp_assets.base.settings import LOCK_VARIABLE, Settings, project_folder
from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.base.text import printable
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, Repository
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.hub.folder import hash_files, names_in, revision_of
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.manifest import Document, render
from wmtp_assets.transfer.places import ExpectedFile

if TYPE_CHECKING:
    from wmtp_assets.hub.client import RepoSibling

MAIN = "main"

VERSION = 1

ANSWER_TIMEOUT = 30.0
"""Seconds without a byte of an answer about a repository."""

MAX_FILE = 1 << 50
"""Bytes that a file may be announced with: more than a disk has."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""A git SHA-1, or the hash over a folder's files."""


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which never changes, and no name of one."""
    return _COMMIT.fullmatch(revision) is not None


class RemoteFile(ExpectedFile):
    """A file as the hub announces it: with the SHA-256 if it is kept in LFS, else the git blob
    SHA-1."""

    def as_document(self) -> dict[str, str | int]:
        """As the pins or a manifest have it."""
        hashes = {"sha256": self.sha256, "git_sha1": self.blob_id}
        return {"size": self.size, **{k: v for k, v in hashes.items() if v is not None}}

    @classmethod
    def of_document(cls, path: str, document: Mapping[str, object]) -> RemoteFile:
        """The inverse of :meth:`as_document`.

        Raises:
            ValueError: if it is none.
        """
        size, sha256, blob_id = (document.get(key) for key in ("size", "sha256", "git_sha1"))
        if (
            not isinstance(size, int)
            or isinstance(size, bool)
            or not 0 <= size < MAX_FILE
            or (sha256 is None) == (blob_id is None)
            or (sha256 is not None and not _SHA256.fullmatch(str(sha256)))
            or (blob_id is not None and not _SHA1.fullmatch(str(blob_id)))
        ):
            raise ValueError(f"{path}: needs size, and sha256 or git_sha1")
        return cls(
            relative_path(path),
            size,
            str(sha256) if sha256 is not None else None,
            str(blob_id) if blob_id is not None else None,
        )


@dataclass(frozen=True)
class RemoteRepository:
    """The wanted files of a repository at one commit."""

    commit: str
    files: tuple[RemoteFile, ...]

    @classmethod
    def of_document(cls, revision: object, files: Document) -> RemoteRepository:
        """As the pins or a manifest have it: the commit, and path → file.

        Raises:
            ValueError, AttributeError: if it is none.
        """
        if not isinstance(revision, str) or not is_commit(revision):
            raise ValueError(f"revision is {revision!r}")
        return cls(revision, tuple(RemoteFile.of_document(p, file) for p, file in files.items()))

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def wanted_files(spec: ModelSpec | DatasetSpec, names: Iterable[str]) -> tuple[str, ...]:
    """The upstream files of a spec among those that the repository has; paths inside it.

    Extras that it does not have are left out.

    Raises:
        ValueError: naming a file, or shards, that it does not have, or a file of two splits.
    """
    names = list(names)
    if isinstance(spec, DatasetSpec):
        files = tuple(file for split in spec.splits.values() for file in split.select(names))
        check_distinct(files)
        return files
    missing = [path for path in spec.files.all() if path not in names]
    if missing:
        raise ValueError(f"has no file {missing[0]}")
    return (*spec.files.all(), *(path for path in spec.files.extras if path in names))


def head_of(endpoint: Endpoint, spec: ModelSpec | DatasetSpec) -> str:
    """The commit at the head of main; of a folder, the hash over its files as they are.

    Raises:
        DownloadError: as :func:`resolve`.
    """
    repository = spec.repository
    if endpoint.kind == "folder":
        return resolve(endpoint, spec, MAIN).commit
    return _ask(endpoint, repository, MAIN)[0]


def _ask(
    endpoint: Endpoint,
    repository: Repository,
    revision: str,
    retry: str = "",
    *,
    files_metadata: bool = False,
) -> tuple[str, Mapping[str, RepoSibling]]:
    """The commit of a revision, and path → file; with sizes and hashes only if wanted."""
    from wmtp_assets.hub.client import HfApi, explained, patiently

    with explained(endpoint, repository, revision, retry):
        api = HfApi(endpoint=endpoint.url, token=endpoint.token())
        if files_metadata and repository.gated and endpoint.kind != "sample":
            patiently(lambda: api.auth_check(repository.id, repo_type=repository.type))
        info = patiently(
            partial(
                api.dataset_info if repository.type == "dataset" else api.model_info,
                repository.id,
                revision=revision,
                timeout=ANSWER_TIMEOUT,
                files_metadata=files_metadata,
            )
        )
        # what the answer holds is of any type: what it is not said to be is not an answer of a hub
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
        if not all(isinstance(name, str) for name in siblings):
            raise TypeError("a file without a name")
        is_named = isinstance(info.sha, str) and is_commit(info.sha)
    if not is_named or info.sha is None:
        raise DownloadError(f"{repository.id}: {endpoint.url} names no commit for {revision!r}")
    return info.sha, siblings


def resolve(
    endpoint: Endpoint, spec: ModelSpec | DatasetSpec, revision: str, retry: str = ""
) -> RemoteRepository:
    """Ask the hub for the commit and for size and hash of each file.

    Args:
        retry: the command to run when what is wrong was fixed, for errors.

    Raises:
        DownloadError: if the repository, the revision or a file is not there, access is denied, a
            file has a name that could leave its folder, or the hub cannot be reached.
    """
    repository = spec.repository
    if endpoint.kind == "folder":
        return _read_folder(endpoint, spec, revision)
    commit, siblings = _ask(endpoint, repository, revision, retry, files_metadata=True)
    if is_commit(revision) and commit != revision:
        raise DownloadError(
            f"{repository.id}: {endpoint.url} answers for commit {commit} where {revision} was "
            "asked for. Do not trust this endpoint"
        )
    try:
        paths = wanted_files(spec, siblings)
        files = tuple(_announced(relative_path(path), siblings[path]) for path in paths)
        check_distinct(paths)
    except ValueError as error:
        raise DownloadError(
            f"{repository.id} at {commit} {error}; it has "
            + _named(sorted(siblings))
            + ". Correct the files in the spec, or its revision"
        ) from error
    return RemoteRepository(commit, files)


def _read_folder(
    endpoint: Endpoint, spec: ModelSpec | DatasetSpec, revision: str
) -> RemoteRepository:
    """As :func:`resolve`, of a folder: every wanted file is hashed."""
    folder, name = Path(endpoint.url), spec.repository.id
    names = names_in(folder)
    try:
        paths = [relative_path(path) for path in wanted_files(spec, names)]
        check_distinct(paths)
    except ValueError as error:
        raise DownloadError(
            f"{name}: {folder} {error}; it has {_named(names) or 'no files'}. Correct the files in "
            "the spec, or repository.path"
        ) from error
    found = hash_files(folder, paths)
    commit = revision_of({path: record.sha256 for path, record in found.items()})
    if is_commit(revision) and commit != revision:
        raise DownloadError(
            f"{name}: {folder} holds other files than are pinned: {commit}, not {revision}. To "
            f"see what changed, and use it: wmtp lock --update {spec.name}_raw"
        )
    files = (RemoteFile(path, record.size, record.sha256) for path, record in found.items())
    return RemoteRepository(commit, tuple(files))


def _named(names: Sequence[str]) -> str:
    """The first of some names, each on the same line, whatever is in it."""
    return ", ".join(printable(name, keep="") for name in names[:10])


def _announced(path: str, sibling: RepoSibling) -> RemoteFile:
    try:
        lfs = sibling.lfs
        hashes = {"sha256": lfs.sha256} if lfs is not None else {"git_sha1": sibling.blob_id}
        return RemoteFile.of_document(path, {"size": sibling.size, **hashes})
    except (ValueError, AttributeError) as error:
        raise DownloadError(f"the hub announces no size or hash for {path}") from error


def pins_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the pins are kept: ``WMTP_LOCK``, else ``wmtp.lock`` in the project folder."""
    return project_folder() / (LOCK_VARIABLE.read(environment) or "wmtp.lock")


def repository_key(repository: Repository) -> str:
    """The name of a repository among the pins."""
    return f"{'folder' if repository.is_folder else repository.type}s/{repository.id}"


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
            pinned = {
                key: RemoteRepository.of_document(entry["revision"], entry["files"])
                for key, entry in dict(document["repositories"]).items()
            }
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


def read_pins(settings: Settings, repository: Repository) -> Pins:
    """The pins, where they concern a repository; the sample's are none.

    Raises:
        SpecError: if it is malformed.
    """
    return Pins.read() if _is_pinned(settings, repository) else Pins(pins_path(), {})


def _is_pinned(settings: Settings, repository: Repository) -> bool:
    return settings.source == "hub" or repository.is_folder


def pin_of(settings: Settings, spec: ModelSpec | DatasetSpec, pins: Pins) -> str | None:
    """The commit that is used; None: unpinned, the head of main. The sample is never pinned."""
    if not _is_pinned(settings, spec.repository):
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
