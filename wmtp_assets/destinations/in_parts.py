"""What S3, Google Cloud Storage and Azure have in common: a file is sent in parts that no reader
sees, and putting them together moves no payload.

The journal remembers the parts that arrived, and the server is asked which of them it has.
``MANIFEST.json`` is written under a condition: a store of objects has no locks.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from typing import TypeVar

from wmtp_assets.base.errors import PublishError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.destinations.destination import (
    OURS,
    Advance,
    Destination,
    How,
    NotThere,
    Stopped,
    Units,
    describing_last,
    each,
    is_read_as,
)
from wmtp_assets.destinations.journal import Journal, Upload
from wmtp_assets.destinations.listing import MANIFEST, Outgoing, Reading, SentFile
from wmtp_assets.storage.files import PART
from wmtp_assets.transfer.arrival import Patience
from wmtp_assets.transfer.bounds import listed

T = TypeVar("T")

ATTEMPTS = 6
"""Times a request is sent before it is given up: 5xx, throttling and lost connections are tried
again with growing pauses, and so is a part of which other bytes arrived."""

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
CONNECTIONS = 32

PARTS = 8
"""Parts that are on their way at the same time: so many times 16 MiB are in memory."""

READ = 1 << 18
"""Bytes that are read at a time; of a cut connection so many at most are fetched again."""

KEPT = "What was sent or fetched is kept"
"""Publications and pulls resume it."""


BUSY = f"the server is busy or broken ({{code}}, {ATTEMPTS} times). {KEPT}: run again"
DAMAGE = (
    f"other bytes arrive than are sent ({{code}}, {ATTEMPTS} times). {KEPT}, but for those: do not "
    "trust this line, or what is in between"
)
"""What a server's answers mean, whoever it is."""


def no_library(libraries: str, extra: str) -> PublishError:
    """Said where a library of a destination is missing."""
    return PublishError(
        f"{libraries} is not installed: pip install 'wmtp_assets[{extra}]', from the project "
        f"folder pip install -c constraints.txt '.[{extra}]'"
    )


def no_answer(name: str, error: Exception, path: str, host: str = "") -> PublishError:
    """The message for a client error that is not a refusal; the error text may hold secrets.

    Args:
        name: the destination's URL.
        path: the file that was asked for; empty: none.
    """
    return PublishError(
        f"{name} does not answer as a server does ({type(error).__name__}"
        f"{f' at {host}' if host else ''}{f', about {path}' if path else ''}). {KEPT}: "
        "check the network and the endpoint, and run again"
    )


class Refused(PublishError):
    """The server refuses.

    Attributes:
        code: of its answer; empty: it has none.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Damaged(Refused):
    """Other bytes arrived than were sent: they may be sent again."""


class Gone(Refused):
    """The server does not know the upload or a part of it: it was put together, or given up."""


class Overtaken(Refused):
    """The condition of a request does not hold."""


class InParts(Destination):
    """A destination below a prefix of a bucket, or of what is called otherwise and is the same.

    Args:
        prefix: without slashes at its ends; may be empty.
        name: URL for people.
        key: as :attr:`Destination.key`.
        journal: what is remembered of uploads.
        part_size: bytes of a part.
        checksum: how the server knows that a part is right; an upload begun otherwise is not gone
            on with.
    """

    streams = 4

    def __init__(
        self,
        prefix: str,
        name: str,
        key: str,
        journal: Journal,
        part_size: int = PART,
        checksum: str = "sha256",
    ) -> None:
        self.name, self.key = name, key
        self._prefix = f"{prefix}/" if prefix else ""
        self._journal, self._part_size, self._mode = journal, part_size, checksum
        self._pool = ThreadPoolExecutor(PARTS)
        self._slots = threading.BoundedSemaphore(PARTS)
        self._lock = threading.Lock()

    # -- what each store does its own way ----------------------------------------------------------

    @abstractmethod
    def _asking(self, path: str = "") -> AbstractContextManager[None]:
        """Say in one message what the server refuses.

        Raises:
            NotThere: if there is no file ``path``.
            Refused: for every other answer that refuses.
            PublishError: if it does not answer, or not as a server does.
        """

    @abstractmethod
    def _list(self, folder: str, *, is_deep: bool) -> Iterator[tuple[str, int]]:
        """Path and bytes of what lies in a folder (with a slash, or empty), and below it where
        ``is_deep``; else the folders in it, with a slash."""

    @abstractmethod
    def _begin(self, path: str) -> str:
        """Begin an upload; what the server calls it."""

    @abstractmethod
    def _send(self, path: str, upload_id: str, number: int, data: bytes, digest: bytes) -> str:
        """Send a part that has this SHA-256, and let the server compare a checksum; what it calls
        the part.

        Raises:
            Damaged: if other bytes arrived.
        """

    @abstractmethod
    def _parts(self, path: str, upload: Upload) -> dict[int, tuple[str, str]]:
        """Number → SHA-256 in hexadecimal, and what the server calls it, of the parts that it has.

        Raises:
            Gone: if it does not know the upload.
        """

    @abstractmethod
    def _put_together(self, path: str, upload: Upload, file: SentFile) -> None:
        """Let the parts be the file.

        Raises:
            Gone: if the server does not know the upload.
            PublishError: if it says another checksum than the file has.
        """

    @abstractmethod
    def _give_up(self, path: str, upload_id: str) -> None:
        """Remove the parts of an upload.

        Raises:
            Gone: if the server does not know it.
        """

    @abstractmethod
    def _write_if_as_read(self, data: bytes) -> None:
        """Write ``MANIFEST.json`` if it is still the one that was read last.

        Raises:
            Overtaken: if it is not.
        """

    @abstractmethod
    def _delete(self, path: str) -> None:
        """Remove a file."""

    @abstractmethod
    def _stated(self, path: str, size: int) -> str | None:
        """The checksum that the server keeps beside a file of this size; empty: it keeps none;
        None: there is no such file."""

    @abstractmethod
    def _agrees(self, stated: str, path: str, file: SentFile) -> bool | None:
        """Whether a stated checksum is the file's; None: nobody knows that without reading it."""

    def _reading(self, file: Outgoing) -> Reading:
        """The pass in which a file is read for sending."""
        return Reading(file, self._part_size)

    # -- reading -----------------------------------------------------------------------------------

    def names(self, paths: Collection[str] = ()) -> Mapping[str, int]:
        with self._asking():
            found = dict(listed(self._list("", is_deep=False)))
            for folder in [name for name in found if name.endswith("/")]:
                if folder.rstrip("/").casefold() in OURS:
                    found |= listed(self._list(folder, is_deep=True))
        # what ends with a slash is a folder, or a console's mark for an empty one
        return {name: size for name, size in found.items() if name and not name.endswith("/")}

    def is_same(
        self, path: str, file: SentFile, how: How, advance: Advance = lambda size: None
    ) -> bool:
        stated = self._stated(path, file.size)
        if stated is None:
            return False
        agrees = None if how in ("size", "full") else self._agrees(stated, path, file)
        if how == "full" or (how == "hash" and agrees is None):
            return is_read_as(self, path, file.record, advance)
        advance(file.size)
        return agrees is not False

    # -- writing -----------------------------------------------------------------------------------

    def prepare(self, size: int, say: Say = silent) -> None:
        self._is_stopped = False
        # what cannot be tidied up now is the next publication's to abort
        with suppress(PublishError):
            self._tidy_up(())
            with self._asking():
                self._give_up(MANIFEST, self._begin(MANIFEST))

    def _tidy_up(self, paths: Collection[str]) -> None:
        """Abort uploads that we began, to these paths or to others that we did not resume;
        those of others are not ours to know.

        One that cannot be aborted is remembered, and tried again the next time. What is remembered
        is read first: another process may have written it before this one had the lock.
        """
        self._journal.load()
        self._journal.forget_all(filter(self._is_aborted, [*self._journal.stale(), *paths]))

    def _is_aborted(self, path: str) -> bool:
        """Abort what we began for a path, if anything; whether nothing of it is left."""
        upload = self._journal.uploads.get(path)
        if upload is not None and not upload.is_complete:
            try:
                self._abort(path, upload)
            except Refused:
                return False
        return True

    def _abort(self, path: str, upload: Upload) -> None:
        self._unless_gone(lambda: self._give_up(path, upload.upload_id))

    def _unless_gone(self, ask: Callable[[], T]) -> T | None:
        """What the server answers about an upload; None: it has no such upload."""
        try:
            with self._asking():
                return ask()
        except Gone:
            return None

    def stage(self, file: Outgoing, advance: Advance, found: Advance) -> SentFile:
        reading = self._reading(file)
        upload = self._go_on(file, reading.part_size)
        # it may have been completed, also where we were cut off before we knew
        if upload is None and (there := self._find(file, reading.part_size, found)) is not None:
            return there
        upload = upload or self._begin_anew(file, reading.part_size)
        running: list[Future[None]] = []
        try:
            for number, data, digest in reading.parts():
                if upload.parts.get(number, ("",))[0] == digest.hex():
                    found(len(data))
                    continue
                self._slots.acquire()
                if self._is_stopped:
                    self._slots.release()
                    raise Stopped(f"{file.path} was not sent whole: another part failed")
                running.append(
                    self._pool.submit(
                        self._send_part, file.path, upload.upload_id, number, data, digest, advance
                    )
                )
        finally:  # the first part that failed says why the others stopped
            wait(running)
            for task in running:
                task.result()
        return reading.sent()

    def _find(self, file: Outgoing, part_size: int, found: Advance) -> SentFile | None:
        """The file, if the journal and the object say that it was put in its place."""
        upload = self._journal.uploads.get(file.path)
        if upload is None or not upload.is_complete:
            return None
        digests = [bytes.fromhex(upload.parts[number][0]) for number in sorted(upload.parts)]
        if upload.is_of(file.record.sha256, file.record.size, part_size, self._mode) and digests:
            sent = SentFile.of_parts(file.record, part_size, digests)
            if self.is_same(file.path, sent, "hash"):
                found(file.record.size)
                return sent
        self._journal.forget(file.path)
        return None

    def _go_on(self, file: Outgoing, part_size: int) -> Upload | None:
        """An upload that was begun, with those of its parts that the server has; None: none was, it
        was completed, or the server does not know it any more."""
        upload = self._journal.uploads.get(file.path)
        if upload is None or upload.is_complete:
            return None
        if not upload.is_of(file.record.sha256, file.record.size, part_size, self._mode):
            self._abort(file.path, upload)
            self._journal.forget(file.path)
            return None
        there = self._unless_gone(lambda: self._parts(file.path, upload))
        if there is None:
            if upload.has_all_parts():
                self._journal.complete(file.path)  # if it was: _find asks
            return None
        self._journal.touch(file.path)
        known = upload.parts
        for number in [number for number in there if there[number] != known.get(number)]:
            self._journal.part(file.path, number, *there[number])
        upload.parts = there
        return upload

    def _begin_anew(self, file: Outgoing, part_size: int) -> Upload:
        with self._asking():
            identity = self._begin(file.path), file.record.sha256, file.record.size
        self._journal.begin(file.path, *identity, part_size, self._mode)
        return self._journal.uploads[file.path]

    def _send_part(
        self, path: str, upload_id: str, number: int, data: bytes, digest: bytes, advance: Advance
    ) -> None:
        """Send a part, again where other bytes arrived, and remember that it is there."""
        patience = Patience(ATTEMPTS)
        try:
            while True:
                with self._lock:
                    self.payload += len(data)
                try:
                    with self._asking():
                        called = self._send(path, upload_id, number, data, digest)
                    break
                except Damaged:
                    if patience.is_at_end():
                        raise
            self._journal.part(path, number, digest.hex(), called)
            advance(len(data))
        except BaseException:
            self._is_stopped = True
            raise
        finally:
            self._slots.release()

    def commit(self, units: Units, ours: Collection[str]) -> None:
        files = {path: file for unit in units.values() for path, file in unit.items()}
        for paths in describing_last(files):
            each(lambda path: self._complete(path, files[path]), paths)

    def _complete(self, path: str, file: SentFile) -> None:
        """Complete the upload of a file: from then on it lies in its place."""
        upload = self._journal.uploads[path]
        if upload.is_complete:
            return
        try:
            with self._asking():
                self._put_together(path, upload, file)
        except Gone:
            # it was completed, and the answer was lost
            if not self.is_same(path, file, "hash"):
                raise
        self._journal.complete(path)

    def write_manifest(self, data: bytes) -> None:
        try:
            with self._asking():
                self._write_if_as_read(data)
        except Overtaken:
            if not self._has_manifest(data):  # else it was written, and asked again
                raise PublishError(
                    f"{self.name}/{MANIFEST} was written by somebody else. Run again"
                ) from None

    def _has_manifest(self, data: bytes) -> bool:
        try:
            return b"".join(self.read(MANIFEST)) == data
        except NotThere:
            return False

    def delete(self, path: str) -> None:
        with self._asking():
            self._delete(path)

    def finish(self, paths: Collection[str]) -> None:
        # what cannot be tidied up now is the next publication's to abort
        with suppress(PublishError):
            self._tidy_up(paths)
