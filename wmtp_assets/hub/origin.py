"""The hub as an origin of bytes: one repository at one commit.

``huggingface_hub`` moves the bytes, and retries lost connections and 429. What it gives up on is
tried again by the arrival: answers of 500 and above, and bodies that end early.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.errors import DownloadError
from wmtp_assets.base.progress import human_bytes
from wmtp_assets.catalogue.specs import Repository
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.hub.remote import explained, first_line
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.transfer.arrival import Partial
from wmtp_assets.transfer.patience import ATTEMPTS, Interrupted
from wmtp_assets.transfer.places import ExpectedFile, git_sha1


@dataclass(frozen=True)
class HubOrigin:
    """Where the files of one repository at one commit come from.

    Attributes:
        retry: the command that resumes after a failure.
        advice: what to do when other bytes arrive than were announced.
    """

    endpoint: Endpoint
    repository: Repository
    commit: str
    retry: str
    advice: str
    attempts: int = ATTEMPTS

    def send(self, file: ExpectedFile, target: Partial) -> None:
        """Write what is missing of a file.

        Raises:
            Interrupted: if the connection is lost, or the hub is broken.
            DownloadError: if it fails for good; what arrived is kept.
            OSError: if the local disk refuses.
        """
        from wmtp_assets.hub.client import HfHubHTTPError, HTTPError, download, status_of

        where, what = self.endpoint, (self.repository.type, self.repository.id)
        try:
            download(where.url, where.token(), what, self.commit, file.path, target, file.size)
        except (HTTPError, OSError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the local disk
            problem: Exception = error
            if isinstance(error, RecursionError):  # the client calls itself when a line is lost
                problem = ConnectionError("the connection is lost again and again")
            failure = self._failure(file, target, problem)
            if isinstance(error, HfHubHTTPError) and status_of(error) < 500:
                raise failure from error
            reason = f"{type(problem).__name__}: {first_line(problem)}"
            raise Interrupted(reason, failure) from error

    def _failure(self, file: ExpectedFile, target: Partial, error: Exception) -> DownloadError:
        here = f"{human_bytes(target.tell())} of {human_bytes(file.size)} are here and kept"
        try:
            with explained(self.endpoint, self.repository, self.commit, self.retry):
                raise error
        except DownloadError as said:
            return DownloadError(f"{file.path}: {here}. {said}")

    def mismatch(self, file: ExpectedFile, found: FileRecord | None, path: Path) -> DownloadError:
        """Say that other bytes arrived than were announced."""
        which = f"{file.path} of {self.repository.id} at {self.commit}"
        if found is None:
            return DownloadError(
                f"{which} is longer than the announced {file.size} bytes. It was not kept. "
                f"{self.advice}"
            )
        kind, expected = ("SHA-256", file.sha256) if file.sha256 else ("git SHA-1", file.blob_id)
        actual = found.sha256 if file.sha256 else git_sha1(path)
        return DownloadError(
            f"{which} arrived with {kind} {actual} ({found.size} bytes), announced was {expected} "
            f"({file.size} bytes). It was not kept. {self.advice}"
        )
