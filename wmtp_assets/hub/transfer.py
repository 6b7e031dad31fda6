"""Moving the bytes of one file, so that what arrived is never fetched again.

A partial file is named after the hash it shall have, lies in the artifact's scratch folder, and is
gone on with by the next process. ``huggingface_hub`` moves the bytes; it retries lost connections
and 429. What it gives up on is retried here: answers of 500 and above, and bodies that end early.
"""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from wmtp_assets.base.errors import DownloadError
from wmtp_assets.base.progress import Say, human_bytes, human_seconds
from wmtp_assets.catalogue.specs import Repository
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.hub.remote import ATTEMPTS, RemoteFile, explained, first_line, wait_after
from wmtp_assets.storage.files import HashedFile, hash_file
from wmtp_assets.storage.manifest import FileRecord

CHUNK = 1 << 16
"""Bytes that are written at a time; of a cut connection so many at most are fetched again. The
client's own 10 MiB would make no progress on a line that is cut before."""


@dataclass(frozen=True)
class Held:
    """A file that is here and is the announced one.

    Attributes:
        path: where it lies.
        record: size and SHA-256.
        parts: SHA-256 of each 16 MiB.
    """

    path: Path
    record: FileRecord
    parts: list[str]


def is_announced(file: RemoteFile, found: FileRecord, path: Path) -> bool:
    """Whether the file at ``path`` is the announced one.

    Args:
        found: its size and SHA-256.
    """
    if found.size != file.size:
        return False
    if file.sha256 is not None:
        return found.sha256 == file.sha256
    return git_sha1(path) == file.blob_id


def git_sha1(path: Path) -> str:
    """The git blob SHA-1 of a small file."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def verify_held(
    file: RemoteFile, path: Path, advance: Callable[[int], None] = lambda size: None
) -> Held | None:
    """The file at ``path``, if it is the announced one; it is only read.

    Raises:
        OSError: if it cannot be read.
    """
    parts: list[str] = []
    record = hash_file(path, advance, parts)
    return Held(path, record, parts) if is_announced(file, record, path) else None


@dataclass(frozen=True)
class Transfer:
    """How the files of one repository at one commit are fetched.

    Attributes:
        folder: of the partial files.
        retry: the command that goes on after a failure.
        advice: what to do when other bytes arrive than were announced.
        sleep: waits so many seconds.
    """

    endpoint: Endpoint
    repository: Repository
    commit: str
    folder: Path
    retry: str
    advice: str
    say: Say
    sleep: Callable[[float], None] = time.sleep

    def partial(self, file: RemoteFile) -> Path:
        """Where what arrived of a file lies."""
        return self.folder / file.key

    def fetch(self, file: RemoteFile, advance: Callable[[int], None]) -> Held:
        """Fetch what is missing of a file, and compare it with what was announced.

        Raises:
            DownloadError: if the transfer fails for good (what arrived is kept), or what arrived is
                not what was announced (it is removed).
            OSError: if the local disk refuses.
        """
        path = self.partial(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unusable(path, file.size)
        parts: list[str] = []
        records: list[FileRecord] = []
        with (
            _gone_if_empty(path),
            _Partial(path, file.size, records.append, advance, parts) as target,
        ):
            if target.tell():
                here = f"{human_bytes(target.tell())} of {human_bytes(file.size)}"
                self.say(f"going on with {file.path}: {here} are here")
            try:
                self._transfer(file, target)
            except _TooLong as error:
                path.unlink()
                raise DownloadError(
                    f"{file.path} of {self._where()} is longer than the announced {file.size} "
                    f"bytes. It was not kept. {self.advice}"
                ) from error
        if not is_announced(file, records[0], path):
            text = self._describe_mismatch(file, records[0], path)
            path.unlink()
            raise DownloadError(text)
        return Held(path, records[0], parts)

    def _transfer(self, file: RemoteFile, target: HashedFile) -> None:
        from httpx2 import HTTPError
        from huggingface_hub.errors import HfHubHTTPError

        failures = 0
        while target.tell() < file.size:
            before = target.tell()
            try:
                self._get(file, target)
                continue
            except HfHubHTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                if status < 500:
                    self._give_up(file, target, error)
                problem: Exception = error
            except (HTTPError, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of the local disk
                problem = error
            except RecursionError:  # the client calls itself for each lost connection
                problem = ConnectionError("the connection is lost again and again")
            failures = 1 if target.tell() > before else failures + 1
            if failures >= ATTEMPTS:
                self._give_up(file, target, problem)
            wait = wait_after(failures)
            self.say(
                f"{file.path}: {_short(problem)}; {human_bytes(target.tell())} of "
                f"{human_bytes(file.size)} are here, going on in {human_seconds(wait)}"
            )
            self.sleep(wait)

    def _get(self, file: RemoteFile, target: HashedFile) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(
            self.repository.id,
            file.path,
            repo_type=self.repository.type,
            revision=self.commit,
            endpoint=self.endpoint.url,
        )
        with _small_chunks():
            http_get(
                url,
                cast("BinaryIO", target),
                resume_size=target.tell(),
                headers=build_hf_headers(token=self.endpoint.token()),
                expected_size=file.size,
                displayed_filename=file.path,
                tqdm_class=_quiet_bar(),
            )

    def _give_up(self, file: RemoteFile, target: HashedFile, error: Exception) -> None:
        try:
            with explained(self.endpoint, self.repository, self.commit, self.retry):
                raise error
        except DownloadError as said:
            raise DownloadError(
                f"{file.path}: {human_bytes(target.tell())} of {human_bytes(file.size)} are here "
                f"and kept. {said}"
            ) from error

    def _describe_mismatch(self, file: RemoteFile, found: FileRecord, path: Path) -> str:
        kind, expected = ("SHA-256", file.sha256) if file.sha256 else ("git SHA-1", file.blob_id)
        actual = found.sha256 if file.sha256 else git_sha1(path)
        return (
            f"{file.path} of {self._where()} arrived with {kind} {actual} ({found.size} bytes), "
            f"announced was {expected} ({file.size} bytes). It was not kept. {self.advice}"
        )

    def _where(self) -> str:
        return f"{self.repository.id} at {self.commit}"


class _TooLong(Exception):
    """More bytes came than were announced."""


class _Partial(HashedFile):
    """What arrived of a file; takes no more bytes than were announced: the disk is not a hub's to
    fill."""

    def __init__(
        self,
        path: Path,
        limit: int,
        done: Callable[[FileRecord], None],
        advance: Callable[[int], None],
        parts: list[str],
    ) -> None:
        super().__init__(path, done, advance, parts, resume=True)
        self._limit = limit

    def write(self, data: bytes | memoryview) -> int:
        if self.tell() + len(data) > self._limit:
            raise _TooLong
        return super().write(data)


def _remove_unusable(path: Path, size: int) -> None:
    """Remove a partial file that is too long, or that is written to only by changing another: one
    that was linked into an artifact, or is a link itself."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if found.st_size > size or found.st_nlink > 1 or not stat.S_ISREG(found.st_mode):
        path.unlink()


@contextmanager
def _gone_if_empty(path: Path) -> Iterator[None]:
    """After a failure, remove a file of which nothing arrived."""
    try:
        yield
    except BaseException:
        if path.exists() and not path.stat().st_size:
            path.unlink()
        raise


@contextmanager
def _small_chunks() -> Iterator[None]:
    """The client writes :data:`CHUNK` bytes at a time meanwhile; it has no other way to say so."""
    from huggingface_hub import constants

    before = constants.DOWNLOAD_CHUNK_SIZE
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    try:
        yield
    finally:
        constants.DOWNLOAD_CHUNK_SIZE = before


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _quiet_bar() -> type[Any]:
    """A progress bar class for the client that shows nothing: progress is said in our own lines."""
    from huggingface_hub.utils import tqdm

    class QuietBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    return QuietBar
