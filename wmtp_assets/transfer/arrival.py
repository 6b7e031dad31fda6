"""Fetching the bytes of files, so that what arrived is never fetched again.

A partial file is named by its expected hash, lies in the artifact's scratch folder, and the next
process resumes it. A transfer that breaks off is tried again after growing waits, for as long as
enough arrives in between (:data:`~wmtp_assets.transfer.bounds.SLOWEST`). Bytes are hashed while
they are written, no more of them are taken than are expected, and a file with other bytes is
removed and explained.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, Protocol

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.base.progress import Say, human_bytes, human_seconds, silent
from wmtp_assets.base.text import printable
from wmtp_assets.storage.files import HashedFile
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.transfer.bounds import SLOWEST
from wmtp_assets.transfer.places import Advance, ExpectedFile, Held, Places

ATTEMPTS = 6
"""Attempts in a row that bring nothing before the other side is given up."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds before the second attempt, and at most; doubled each time, and no longer where the other
side asks for more."""


def shortened_wait(host: str, status: int, header: str, said: str) -> str:
    """What is said where a server asks for a longer rest than it gets."""
    return (
        f"{host} answers {status} and asks for a rest ({header}: {printable(said[:60], keep='')}); "
        f"waiting {LONGEST_WAIT:.0f} s"
    )


@dataclass
class Patience:
    """Counts failed attempts.

    Attributes:
        attempts: failures in a row that are too many.
        failures: in a row, since something arrived.
    """

    attempts: int = ATTEMPTS
    failures: int = 0

    def is_at_end(self, *, has_progress: bool = False) -> bool:
        """Count one more failure; whether that is one too many.

        Args:
            has_progress: something arrived before it failed, so that counting starts over.
        """
        self.failures = 1 if has_progress else self.failures + 1
        return self.failures >= self.attempts

    @property
    def wait(self) -> float:
        """Seconds to wait before the next attempt."""
        return min(FIRST_WAIT * 2 ** (self.failures - 1), LONGEST_WAIT)

    def rest(self, least: float = 0.0) -> None:
        """Wait, ``least`` seconds or more."""
        time.sleep(max(self.wait, least))


class Interrupted(Exception):
    """A transfer broke off, and may get further when it is resumed.

    Attributes:
        error: what is raised when patience is at its end.
    """

    def __init__(self, reason: str, error: WmtpError) -> None:
        super().__init__(reason)
        self.error = error


class Partial(HashedFile):
    """What arrived of a file. It takes no more than ``limit`` bytes: the other side must not fill
    the disk."""

    limit: int = 0

    def write(self, data: bytes | memoryview) -> int:
        if self.tell() + len(data) > self.limit:
            raise _TooLong
        return super().write(data)


class _TooLong(Exception):
    """More bytes came than were expected."""


class Origin(Protocol):
    """Where bytes come from."""

    def send(self, file: ExpectedFile, target: Partial) -> None:
        """Write what is missing of a file, from ``target.tell()`` on.

        Raises:
            Interrupted: if it broke off, and trying again may help.
            WmtpError: if it failed for good; what arrived is kept.
            OSError: if the local disk refuses.
        """

    def mismatch(self, file: ExpectedFile, found: FileRecord | None, path: Path) -> WmtpError:
        """The error for other bytes than expected.

        Args:
            found: what arrived at ``path``; None: more bytes than were expected.
        """
        ...


class Arrival:
    """The arrival of one artifact's files.

    Args:
        places: where bytes may lie already, and partial files do.
        origin: where the others come from.
        advance: told the bytes that come from the origin.
        found: told the bytes that are here already, and a negative number for those that are not
            used.
        attempts: in a row that bring nothing before it is given up.

    Attributes:
        fetched: bytes that came from the origin.
        seconds: that this took.
    """

    def __init__(
        self,
        places: Places,
        origin: Origin,
        advance: Advance,
        found: Advance,
        say: Say,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.places, self._origin, self._attempts = places, origin, attempts
        self._advance, self._found, self._say = advance, found, say
        self.fetched, self.seconds = 0, 0.0

    def get(self, file: ExpectedFile) -> Held:
        """A file that is here, or is fetched.

        Raises:
            WmtpError: if the transfer fails for good (what arrived is kept), or what arrived is
                not what is expected (it is removed).
            OSError: if the local disk refuses.
        """
        return self.places.find(file, self._found, self._say) or self._fetch(file)

    def _fetch(self, file: ExpectedFile) -> Held:
        path = self.places.partial(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unusable(path, file.size)
        started, is_left = time.monotonic(), path.exists()
        held = self._receive(file, path)
        if is_left and not file.is_met_by(held.record, path):  # damaged may be what was left here
            path.unlink()
            self._found(-held.record.size)
            held = self._receive(file, path)
        self.seconds += time.monotonic() - started
        if not file.is_met_by(held.record, path):
            self._refuse(file, held.record, path)
        return held

    def _receive(self, file: ExpectedFile, path: Path) -> Held:
        """What the partial file holds when all of it came."""
        parts: list[str] | None = [] if self.places.in_parts else None
        records: list[FileRecord] = []
        try:
            with Partial(path, records.append, self._found, parts, resume=True) as target:
                target.limit, target.advance = file.size, self._advance
                here = target.tell()
                if here:
                    of = human_bytes(file.size)
                    self._say(f"resuming {file.path}: {human_bytes(here)} of {of} are here")
                send = partial(self._origin.send, file, target)
                complete(file.path, file.size, target.tell, send, self._attempts, self._say)
        except _TooLong:
            self._refuse(file, None, path)
        except BaseException:
            if path.exists() and not path.stat().st_size:  # nothing arrived
                path.unlink()
            raise
        self.fetched += file.size - here
        return Held(path, records[0], parts or [])

    def _refuse(self, file: ExpectedFile, found: FileRecord | None, path: Path) -> NoReturn:
        error = self._origin.mismatch(file, found, path)
        path.unlink(missing_ok=True)
        raise error


def complete(
    name: str,
    size: int,
    tell: Callable[[], int],
    send: Callable[[], None],
    attempts: int = ATTEMPTS,
    say: Say = silent,
) -> None:
    """Call ``send`` until all of a file is here.

    Args:
        size: of the file, in bytes.
        tell: how many of them are here.
        attempts: in a row that bring nothing, or too slowly, before ``send`` is given up.

    Raises:
        WmtpError: that of the last :class:`Interrupted`, and whatever else ``send`` raises.
    """
    patience, begin = Patience(attempts), time.monotonic()
    while (before := tell()) < size:
        try:
            send()
        except Interrupted as broken:
            now = time.monotonic()
            least, begin = max(SLOWEST * (now - begin), 1), now
            if patience.is_at_end(has_progress=tell() - before >= least):
                raise broken.error from broken.__cause__
            here = f"{human_bytes(tell())} of {human_bytes(size)} are here"
            say(f"{name}: {broken}; {here}, resuming in {human_seconds(patience.wait)}")
            patience.rest()


def remove_unusable(path: Path, size: int) -> None:
    """Remove a partial file that is too long, or that is written to only by changing another: one
    that was linked into an artifact, or is a link itself."""
    with suppress(FileNotFoundError):
        found = path.lstat()
        if found.st_size > size or found.st_nlink > 1 or not stat.S_ISREG(found.st_mode):
            path.unlink()
