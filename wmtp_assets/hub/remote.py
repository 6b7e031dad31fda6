"""What the hub says about a repository: the commit, and size and hash of each file.

Every way in which it cannot say so has one message, before anything large is transferred.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from wmtp_assets.base.errors import DownloadError
from wmtp_assets.base.model import check_distinct, relative_path
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, Repository
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.transfer.patience import LONGEST_WAIT, Patience
from wmtp_assets.transfer.places import ExpectedFile

if TYPE_CHECKING:
    from wmtp_assets.hub.client import HfHubHTTPError, RepoSibling

T = TypeVar("T")

MAIN = "main"

ANSWER_TIMEOUT = 30.0
"""Seconds without a byte of an answer about a repository."""

TOO_MANY_REQUESTS = 429

_NO_ANSWER = (ValueError, TypeError, KeyError, AttributeError)
"""What the client raises of an answer that is no JSON, or another one than the hub's."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which never changes, and no name of one."""
    return _SHA1.fullmatch(revision) is not None


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
            or size < 0
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

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


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


def head_of(endpoint: Endpoint, repository: Repository) -> str:
    """The commit at the head of main.

    Raises:
        DownloadError: as :func:`resolve`.
    """
    with explained(endpoint, repository, MAIN):
        return _ask(endpoint, repository, MAIN)[0]


def _ask(
    endpoint: Endpoint, repository: Repository, revision: str, *, files_metadata: bool = False
) -> tuple[str, Mapping[str, RepoSibling]]:
    """The commit of a revision, and path → file; with sizes and hashes only if wanted."""
    from wmtp_assets.hub.client import HfApi

    api = HfApi(endpoint=endpoint.url, token=endpoint.token())
    if files_metadata and repository.gated and endpoint.kind != "sample":
        _patiently(lambda: api.auth_check(repository.id, repo_type=repository.type))
    info = _patiently(
        partial(
            api.dataset_info if repository.type == "dataset" else api.model_info,
            repository.id,
            revision=revision,
            timeout=ANSWER_TIMEOUT,
            files_metadata=files_metadata,
        )
    )
    if not info.sha or not is_commit(info.sha):
        raise DownloadError(f"{repository.id}: {endpoint.url} names no commit for {revision!r}")
    return info.sha, {sibling.rfilename: sibling for sibling in info.siblings or []}


def _patiently(ask: Callable[[], T]) -> T:
    """What ``ask`` returns; asked again while the hub says that it is busy or broken."""
    from wmtp_assets.hub.client import HfHubHTTPError, status_of

    patience = Patience()
    while True:
        try:
            return ask()
        except HfHubHTTPError as error:
            status = status_of(error)
            if (status < 500 and status != TOO_MANY_REQUESTS) or patience.is_at_end():
                raise
            patience.rest(_retry_after(error))


def _retry_after(error: HfHubHTTPError) -> float:
    """Seconds that the hub wants to be left alone, at most :data:`LONGEST_WAIT`."""
    said = error.response.headers.get("Retry-After", "") if error.response is not None else ""
    return min(float(said), LONGEST_WAIT) if said.isascii() and said.isdigit() else 0.0


def resolve(
    endpoint: Endpoint, spec: ModelSpec | DatasetSpec, revision: str, retry: str = ""
) -> RemoteRepository:
    """Ask the hub for the commit and for size and hash of each file.

    Args:
        retry: the command to run when what is wrong was mended, for errors.

    Raises:
        DownloadError: if the repository, the revision or a file is not there, access is denied, a
            file has a name that could leave its folder, or the hub cannot be reached.
    """
    repository = spec.repository
    with explained(endpoint, repository, revision, retry):
        commit, siblings = _ask(endpoint, repository, revision, files_metadata=True)
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
            + ", ".join(sorted(siblings)[:10])
            + ". Correct the files in the spec, or its revision"
        ) from error
    return RemoteRepository(commit, files)


def _announced(path: str, sibling: RepoSibling) -> RemoteFile:
    lfs = sibling.lfs
    hashes = {"sha256": lfs.sha256} if lfs is not None else {"git_sha1": sibling.blob_id}
    try:
        return RemoteFile.of_document(path, {"size": sibling.size, **hashes})
    except ValueError as error:
        raise DownloadError(f"the hub announces no size or hash for {path}") from error


@contextmanager
def explained(
    endpoint: Endpoint, repository: Repository, revision: str, retry: str = ""
) -> Iterator[None]:
    """Turn the client's errors into one message each; those of the local disk pass."""
    from wmtp_assets.hub.client import EntryNotFoundError, HTTPError

    try:
        yield
    except (EntryNotFoundError, HTTPError, OSError, *_NO_ANSWER) as error:
        is_of_the_line = isinstance(error, ConnectionError)
        if isinstance(error, OSError) and error.errno is not None and not is_of_the_line:
            raise
        raise DownloadError(explain(endpoint, repository, revision, error, retry)) from error


def explain(
    endpoint: Endpoint, repository: Repository, revision: str, error: Exception, retry: str
) -> str:
    """What an error of the client means, and what to do: a text for each of its kinds.

    Args:
        retry: the command to run when what is wrong was mended.
    """
    from wmtp_assets.hub.client import (
        ConnectError,
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        ProxyError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
        TimeoutException,
        status_of,
    )

    again = f"Then run: {retry}" if retry else "Then run again"
    url, line, has_token = endpoint.url, first_line(error), bool(endpoint.token())
    text = f"{type(error).__name__}: {line}"
    account, untold = endpoint.token_name, f"no token was sent: {endpoint.why_no_token()}"
    status = status_of(error) if isinstance(error, HfHubHTTPError) else 0
    statuses = {
        401: f"{url} refuses the token in {account} (401): it is wrong or expired. Set another in "
        "HF_TOKEN"
        if has_token
        else f"{url} wants a token (401), and none was sent: {endpoint.why_no_token()}",
        407: "the proxy in HTTPS_PROXY or HTTP_PROXY wants a user name and password (407) before "
        f"it lets {url} through",
        416: f"at {revision}, a file ends at {url} before its announced size is reached (416). Do "
        "not trust this endpoint",
    }
    kinds = {
        GatedRepoError: " is gated, and "
        + (f"the account of {account} has no access" if has_token else untold)
        + f". Accept the licence ({repository.license}) at {repository.page}, and set HF_TOKEN to "
        f"a token of that account. {again}",
        RepositoryNotFoundError: f" does not exist at {url}, or "
        + (f"{account} has no access to it" if has_token else f"it is private, and {untold}")
        + f". {again}",
        RevisionNotFoundError: f" has no revision {revision!r} at {url}. Correct revision in the "
        "defs.yaml, or see what upstream has: wmtp lock --update",
        EntryNotFoundError: f" at {revision} announces a file that {url} does not have: {line}",
        OfflineModeIsEnabled: f": HF_HUB_OFFLINE is set, so nothing is asked for at {url}. Unset "
        f"it, or put the files in place: wmtp adopt PATH. {again}",
        HfHubHTTPError: ": "
        + statuses.get(status, f"{url} answers {status or 'with an error'}: {line}")
        + f". {again}",
        ProxyError: ": the proxy in HTTPS_PROXY or HTTP_PROXY does not let "
        f"{url} through: {text}. {again}",
        ConnectError: f": no connection to {url}: {text}. Check the network, HTTPS_PROXY and "
        f"HF_ENDPOINT. {again}",
        TimeoutException: f": {url} does not answer in time: {text}. {again}",
        Exception: f": {url} did not answer as a hub does: {text}. Check the network and "
        f"HF_ENDPOINT. {again}",
    }
    what = next(text for kind, text in kinds.items() if isinstance(error, kind))
    return f"{repository.id}{what}"


def first_line(error: Exception) -> str:
    """What the client says, without the query of a URL: that of a signed one is a secret."""
    line = next(iter(str(error).strip().splitlines()), "no more is known")
    return re.sub(r"\?[^\s'\"]*", "", line) if "://" in line else line
