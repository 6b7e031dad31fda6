"""Fetching the raw files of a repository, and believing only their hashes.

The commit and the expected hashes come from the hub's API; the bytes move through
``huggingface_hub``'s own transfer function, are hashed as they are written, and must match: the
SHA-256 of a file kept in LFS, the git blob SHA-1 of any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from wmtp_assets.build import Build
from wmtp_assets.errors import DownloadError
from wmtp_assets.files import HashedFile
from wmtp_assets.hub.endpoint import Endpoint, open_endpoint
from wmtp_assets.layout import INTERNAL
from wmtp_assets.manifest import Document, FileRecord
from wmtp_assets.progress import Progress, human_bytes
from wmtp_assets.specs import DatasetSpec, ModelSpec, Repository, check_distinct

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

MAIN = "main"


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub announces it.

    Attributes:
        path: inside the repository.
        size: bytes.
        sha256: of a file kept in LFS, else None.
        blob_id: git blob SHA-1 of any other file, else None.
    """

    path: str
    size: int
    sha256: str | None
    blob_id: str | None


@dataclass(frozen=True)
class RemoteRepository:
    """The wanted files of a repository at one commit."""

    commit: str
    files: tuple[RemoteFile, ...]


def wanted_files(spec: ModelSpec | DatasetSpec, names: Iterable[str]) -> tuple[str, ...]:
    """The upstream files of a spec among those that the repository has; paths inside it.

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
    return spec.files.all()


def resolve(endpoint: Endpoint, spec: ModelSpec | DatasetSpec, revision: str) -> RemoteRepository:
    """Ask the hub for the commit and for size and hash of each file.

    Raises:
        DownloadError: if the repository, the revision or a file is not there, access is denied, or
            the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    repository = spec.repository
    api = HfApi(endpoint=endpoint.url, token=endpoint.token())
    with _explained(endpoint, repository, revision):
        if repository.gated and endpoint.kind != "sample":
            api.auth_check(repository.id, repo_type=repository.type)
        ask = api.dataset_info if repository.type == "dataset" else api.model_info
        info = ask(repository.id, revision=revision, files_metadata=True)
    commit = info.sha
    if not commit:
        raise DownloadError(f"{repository.id}: {endpoint.url} names no commit for {revision!r}")
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    try:
        paths = wanted_files(spec, siblings)
    except ValueError as error:
        raise DownloadError(
            f"{repository.id} at {commit} {error}; it has "
            + ", ".join(sorted(siblings)[:10])
            + ". Correct the files in the spec, or its revision"
        ) from error
    return RemoteRepository(commit, tuple(_announced(siblings[path]) for path in paths))


def _announced(sibling: RepoSibling) -> RemoteFile:
    if sibling.size is None or (sibling.lfs is None and sibling.blob_id is None):
        raise DownloadError(f"the hub announces no size or hash for {sibling.rfilename}")
    if sibling.lfs is not None:
        return RemoteFile(sibling.rfilename, sibling.size, sibling.lfs.sha256, None)
    return RemoteFile(sibling.rfilename, sibling.size, None, sibling.blob_id)


@contextmanager
def _explained(endpoint: Endpoint, repository: Repository, revision: str) -> Iterator[None]:
    """Turn the client's errors into one message each; those of the local disk pass."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    url = endpoint.url
    try:
        yield
    except GatedRepoError as error:
        raise DownloadError(
            f"{repository.id} is gated and this account has no access. Accept the licence "
            f"({repository.license}) at {repository.page}, set HF_TOKEN, and run again"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{repository.id} does not exist at {url}, or is private and HF_TOKEN is not set or "
            "has no access"
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(f"{repository.id} has no revision {revision!r} at {url}") from error
    except EntryNotFoundError as error:
        raise DownloadError(
            f"{repository.id} at {revision} announces a file that {url} does not have: {error}"
        ) from error
    except (HTTPError, OSError) as error:
        is_local = isinstance(error, OSError) and error.errno is not None
        if is_local and not isinstance(error, ConnectionError):
            raise
        raise DownloadError(
            f"{repository.id}: {url} did not answer as a hub does: "
            f"{type(error).__name__}: {error}. Check the network and HF_ENDPOINT, and run again"
        ) from error


def fetch(
    endpoint: Endpoint, repository: Repository, commit: str, file: RemoteFile, to: HashedFile
) -> None:
    """Transfer one file at a commit into ``to``.

    Raises:
        DownloadError: if the transfer fails for good or has another size than announced.
        OSError: if the local disk refuses.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(
        repository.id,
        file.path,
        repo_type=repository.type,
        revision=commit,
        endpoint=endpoint.url,
    )
    with _explained(endpoint, repository, commit):
        http_get(
            url,
            cast("BinaryIO", to),
            headers=build_hf_headers(token=endpoint.token()),
            expected_size=file.size,
            displayed_filename=file.path,
            tqdm_class=_quiet_bar(),
        )


def _quiet_bar() -> type[Any]:
    """A progress bar class for the client that shows nothing: progress is said in our own lines."""
    from huggingface_hub.utils import tqdm

    class QuietBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    return QuietBar


def check_announced(
    file: RemoteFile, found: FileRecord, path: Path, where: str, remedy: str
) -> None:
    """Compare what arrived with what was announced.

    Args:
        found: size and SHA-256 of the file at ``path``.
        where: names repository and commit in the error.
        remedy: what to do, for the error.

    Raises:
        DownloadError: with both hashes.
    """
    if file.sha256 is not None:
        kind, expected, actual = "SHA-256", file.sha256, found.sha256
    else:
        data = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
        kind, expected, actual = "git SHA-1", file.blob_id, blob.hexdigest()
    if found.size != file.size or actual != expected:
        raise DownloadError(
            f"{file.path} of {where} arrived with {kind} {actual} ({found.size} bytes), announced "
            f"was {expected} ({file.size} bytes). It was not kept. {remedy}"
        )


def build_raw(build: Build) -> Document:
    """Download the raw files of a model or dataset, exactly as upstream has them.

    Raises:
        DownloadError: if a file cannot be had, or is not what the hub announced.
    """
    spec = build.artifact.spec
    assert isinstance(spec, ModelSpec | DatasetSpec)
    repository = spec.repository
    settings = build.store.settings
    pinned = repository.revision if settings.source == "hub" else None
    remedy = (
        "Run again, and if it happens again, do not trust this endpoint"
        if settings.source == "hub"
        else f"The sample hub's files were changed; have them made anew: rm -r "
        f"'{settings.root / INTERNAL / 'hub'}'"
    )
    with open_endpoint(settings, repository) as endpoint:
        remote = resolve(endpoint, spec, pinned or MAIN)
        total = sum(file.size for file in remote.files)
        build.say(
            f"{repository.id} at {remote.commit}: "
            f"{len(remote.files)} file{'s' * (len(remote.files) != 1)}, {human_bytes(total)}"
        )
        progress = Progress(f"downloading {repository.id}", total, build.say)
        for file in remote.files:
            name = f"raw/{file.path}"
            with build.staged.create(name, progress.advance, in_parts=True) as target:
                target.reserve(file.size)
                fetch(endpoint, repository, remote.commit, file, target)
            check_announced(
                file,
                build.staged.files[name],
                build.staged.folder / name,
                f"{repository.id} at {remote.commit}",
                remedy,
            )
    return {
        "name": spec.folder,
        "version": spec.version,
        "format": "upstream",
        "source": {
            "repo": repository.id,
            "type": repository.type,
            "revision": remote.commit,
            "pinned": pinned is not None,
            "endpoint": endpoint.kind,
            "license": repository.license,
            "files": {
                file.path: build.staged.files[f"raw/{file.path}"].sha256 for file in remote.files
            },
        },
        **build.staged.describe_parts(),
    }
