"""A repository on the hub as a place to write to: what it has at a commit, its files as streams,
large files sent ahead, and one commit for all.

Large files go where the client takes them, LFS or Xet, by their SHA-256: until a commit names them
nobody sees them, and what is there already is not sent again. The hub takes a commit only while the
branch is at the commit that it is said to follow.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wmtp_assets.base.errors import PublishError
from wmtp_assets.hub.endpoint import Endpoint, careful
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.transfer.bounds import listed

RepoType = Literal["model", "dataset"]

READ = 1 << 18
"""Bytes that are read at a time; of a cut connection so many at most are fetched again."""

SENT_KEPT = "what was sent is kept: run again"

_lock = threading.Lock()
_users = 0
_connections = ExitStack()


@contextmanager
def _careful() -> Iterator[None]:
    """The client of the whole process is careful and quiet while anybody here uses it: it is one
    for all threads, and changing it hangs up on the others."""
    global _users
    from wmtp_assets.hub.client import quietly

    with _lock:
        if not _users:
            _connections.enter_context(careful())
            _connections.enter_context(quietly())
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _connections.close()


class Missing(PublishError):
    """There is no such repository, branch or file, or nobody without access may know."""


class Overtaken(PublishError):
    """The branch is at another commit than it was."""


class Lost(PublishError):
    """The connection was lost: nobody knows whether the request arrived."""


@dataclass(frozen=True)
class Head:
    """Where a branch is.

    Attributes:
        commit: its commit.
        is_public: everybody may read the repository.
    """

    commit: str
    is_public: bool


@dataclass(frozen=True)
class Entry:
    """A file at a commit.

    Attributes:
        size: bytes.
        sha256: of a file in LFS or Xet; None: it lies in git.
        blob_id: git's SHA-1 of a file that lies in git.
    """

    size: int
    sha256: str | None
    blob_id: str


class RemoteBranch:
    """A branch of a repository.

    Args:
        endpoint: of the hub.
        name: its URL, for people.
        revision: a branch; for reading a tag or commit too.
    """

    def __init__(
        self, endpoint: Endpoint, repo_type: RepoType, repo_id: str, revision: str, name: str
    ) -> None:
        self.endpoint, self.name, self.revision = endpoint, name, revision
        self.repo_id = repo_id
        self._place: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}
        self._repo_type = repo_type

    def head(self) -> Head:
        """Where it is.

        Raises:
            Missing: if there is no such repository or branch.
        """
        from wmtp_assets.hub.client import patiently

        with self._asking() as api:
            info = patiently(lambda: api.repo_info(**self._place, revision=self.revision))
            return Head(str(info.sha), not info.private)

    def tree(self, commit: str) -> dict[str, Entry]:
        """Path → every file at a commit."""
        with self._asking() as api:
            found = api.list_repo_tree(**self._place, recursive=True, revision=commit)
            return {
                item.path: Entry(
                    item.size, item.lfs.sha256 if item.lfs else None, str(item.blob_id)
                )
                for item in listed(found)
                if hasattr(item, "size") and hasattr(item, "blob_id")
            }

    def read(self, path: str, commit: str, start: int = 0) -> Iterator[bytes]:
        """The bytes of a file at a commit, from ``start`` on.

        Raises:
            Missing: if there is none.
        """
        from wmtp_assets.hub.client import read_stream

        with self._asking():
            yield from read_stream(
                self.endpoint, self._repo_type, self.repo_id, commit, path, start, READ
            )

    def is_own(self) -> bool:
        """Whether the repository is of the account whose token is used."""
        with self._asking() as api:
            return str(api.whoami()["name"]).casefold() == self.repo_id.split("/")[0].casefold()

    def require_write(self) -> None:
        """Refuse an account that may not write.

        Raises:
            PublishError: saying so.
        """
        self.require_token()
        with self._asking() as api:
            api.auth_check(**self._place, write=True)

    def require_token(self) -> None:
        """Refuse to write without a token.

        Raises:
            PublishError: saying why there is none.
        """
        if not self.endpoint.token():
            raise PublishError(
                f"{self.name}: nobody may write without a token: {self.endpoint.why_no_token()}. "
                "It needs the permission to write to this repository"
            )

    def create(self) -> None:
        """Make the repository, private, and the branch, where they are missing; what is there stays
        as public or private as it is."""
        self.require_token()
        with self._asking() as api:
            api.create_repo(**self._place, private=True, exist_ok=True)
            if self.revision != "main":
                api.create_branch(**self._place, branch=self.revision, exist_ok=True)

    def send(self, path: str, local: Path, record: FileRecord) -> Any:
        """Send a file ahead if it is large; else keep its bytes for the commit.

        Args:
            local: the file, whose bytes were compared with ``record``.

        Returns:
            what :meth:`commit` takes.

        Raises:
            PublishError: if the commit would be without it.
        """
        from wmtp_assets.hub.client import CommitOperationAdd

        with self._asking() as api:
            addition = CommitOperationAdd(path, str(local))
            addition.upload_info.sha256 = bytes.fromhex(record.sha256)
            api.preupload_lfs_files(
                **self._place, additions=[addition], revision=self.revision, free_memory=False
            )
        self._require_kept(addition)
        if addition._upload_mode != "lfs":
            addition.path_or_fileobj = local.read_bytes()  # by the commit it may be another
        return addition

    def _require_kept(self, addition: Any) -> None:
        """The client leaves out of a commit what the repository ignores, and says nothing."""
        if addition._should_ignore:
            raise PublishError(
                f"{self.name}: the .gitignore of the repository names {addition.path_in_repo}, and "
                "the commit would be without it. Nothing was published; take the line away, and "
                "run again"
            )

    def commit(
        self,
        additions: Sequence[Any],
        written: Mapping[str, bytes],
        deletions: Sequence[str],
        parent: str,
        message: str,
    ) -> str:
        """Make one commit.

        Args:
            additions: of :meth:`send`.
            written: path → bytes of small files.
            deletions: paths of files.
            parent: the commit that the branch must be at.
            message: of one line.

        Returns:
            the commit.

        Raises:
            Overtaken: if the branch is elsewhere by now.
            Lost: if the connection was lost.
        """
        from wmtp_assets.hub.client import CommitOperationAdd, CommitOperationDelete

        with self._asking() as api, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parquet among a model's files, as small cards have
            ours = [CommitOperationAdd(path, data) for path, data in written.items()]
            api.preupload_lfs_files(
                **self._place, additions=ours, revision=self.revision, free_memory=False
            )
            for addition in ours:
                self._require_kept(addition)
            done = api.create_commit(
                **self._place,
                operations=[
                    *additions,
                    *ours,
                    *(CommitOperationDelete(path, is_folder=False) for path in deletions),
                ],
                commit_message=message,
                revision=self.revision,
                parent_commit=parent,
            )
            return str(done.oid)

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """The client's API; its errors are turned into one message each."""
        from wmtp_assets.hub.client import HfApi

        with _careful():
            try:
                yield HfApi(endpoint=self.endpoint.url, token=self.endpoint.token())
            except PublishError:
                raise
            except Exception as error:
                raise self._explain(error) from error

    def _explain(self, error: Exception) -> PublishError:
        """What an error of the client means, and what to do: a message for each of its kinds.

        Errors that are not of the client, nor of an answer, are raised as they are.
        """
        from wmtp_assets.hub import client

        cause = client.cause_of(error)
        if not client.is_of_client(cause):
            raise error
        has_token, line = bool(self.endpoint.token()), client.first_line(cause)
        untold = f"no token was sent: {self.endpoint.why_no_token()}"
        account = f"the account of {self.endpoint.token_name}" if has_token else untold
        unseen = f"{account} has no access to it" if has_token else untold
        match client.kind_of(cause):
            case "repository":
                return Missing(
                    f"{self.name}: {self.endpoint.url} has no such repository, or it is private "
                    f"and {unseen}. Look at the URL; to make it, private: wmtp publish --create"
                )
            case "revision":
                return Missing(
                    f"{self.name}: the repository has no branch {self.revision}. Look at the URL; "
                    "to make it: wmtp publish --create"
                )
            case "entry":
                return Missing(f"{self.name} does not have this file: {line}")
            case "offline":
                return PublishError(
                    f"{self.name}: HF_HUB_OFFLINE is set, so nothing is asked for or sent. Unset "
                    "it, and run again"
                )
            case "xet":
                return PublishError(
                    f"{self.name}: Xet, the hub's store of large files, takes none: {line}. Check "
                    f"the network and the token; {SENT_KEPT}. To send them by LFS instead: "
                    "HF_HUB_DISABLE_XET=1"
                )
            case "lost":
                return Lost(
                    f"{self.name}: the connection to {self.endpoint.url} was lost "
                    f"({type(cause).__name__}). Check the network; {SENT_KEPT}"
                )
            case int(status):
                known = _STATUSES.get(status)
                if known is None:
                    return PublishError(f"{self.name}: the hub answers {status}: {line}. Run again")
                make, text = known
                return make(f"{self.name}: " + text.format(account=account, line=line))
            case _:
                return PublishError(
                    f"{self.name}: {self.endpoint.url} did not answer as a hub does "
                    f"({type(cause).__name__}: {line}). Look at HF_ENDPOINT; {SENT_KEPT}"
                )


_STATUSES: Mapping[int, tuple[Callable[[str], PublishError], str]] = {
    400: (PublishError, "the hub takes no such commit (400): {line}. Nothing was published"),
    401: (
        PublishError,
        "the hub refuses the token (401), and {account} is not known: the token is wrong or "
        "expired. Set another in HF_TOKEN",
    ),
    402: (
        PublishError,
        "the quota for storage is used up (402): {line}. Nothing was published; free some, or ask "
        "for more at https://huggingface.co/settings/billing, and run again",
    ),
    403: (
        PublishError,
        "{account} may not write there (403): {line}. Nothing was published. The token needs the "
        "permission to write, and a protected branch somebody who may",
    ),
    409: (
        Overtaken,
        "somebody else changes the repository at this moment (409). Nothing was published; run "
        "again",
    ),
    412: (
        Overtaken,
        "somebody committed to it first (412). Nothing was published, and nothing of theirs is "
        f"lost; {SENT_KEPT}",
    ),
    413: (
        PublishError,
        "a file, or all of the small ones together, are over the hub's limits (413): {line}. "
        "Nothing was published",
    ),
    422: (PublishError, "the hub takes no such commit (422): {line}. Nothing was published"),
    429: (
        PublishError,
        f"the hub wants to be left alone for a while (429): {{line}}. {SENT_KEPT} later",
    ),
}
"""Status → what it means, and what to do; as the hub answers them."""
