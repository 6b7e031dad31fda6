"""``wmtp doctor --lock-test``: do two hosts share the storage root, and do locks hold between them?

The same command runs on both. Who gets the lock first is the holder: it says so in a file, and
waits. The other one tries the same lock. It must be refused, read what the holder wrote, answer by
a file, and get the lock when the holder, who must see that answer, lets go. If it gets the lock at
once, it asks by a file whether a holder is alive: if one answers, locks do not hold.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout
from pydantic import ValidationError

from wmtp_assets.base.errors import LackingFilesystem
from wmtp_assets.base.model import StrictModel
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.settings import ROOT_VARIABLE
from wmtp_assets.operations.doctor.machine import Condition
from wmtp_assets.operations.doctor.mount_options import weaknesses
from wmtp_assets.storage.exchange import LOCKS
from wmtp_assets.storage.files import open_regular, replace_file
from wmtp_assets.storage.locks import NO_LOCKS, make_lock
from wmtp_assets.storage.mounts import clock, mount_of, refresh
from wmtp_assets.storage.store import Store

COMMAND = "wmtp doctor --lock-test"

PROVEN, BROKEN, NOTHING = 0, 1, 2
"""Exit codes: locks hold between two hosts; something does not hold; nothing was proven."""

POLL = 0.2
"""Seconds between two looks at the folder."""
ANSWER = 30.0
"""Seconds within which a host that is there answers; a client of NFS may see a new file late."""
APART = 5.0
"""Seconds that the clocks of two hosts may differ."""

_MAX = 4096
"""Bytes of a message; it has some 300."""


class Message(StrictModel):
    """What one host writes for the other.

    Attributes:
        run: of the command, random.
        to: the run that it is for; empty: whoever comes.
        machine: equal for processes that share a kernel.
        ahead: seconds that the host's clock is ahead of the filesystem's.
        is_locked_out: whether the writer was refused the lock.
    """

    run: str
    to: str = ""
    host: str
    pid: int
    machine: str
    ahead: float
    is_locked_out: bool = False


@dataclass(frozen=True)
class LockTestResult:
    """What came out.

    Attributes:
        exit_code: see :data:`PROVEN`.
    """

    conditions: list[Condition]
    exit_code: int


def machine_id() -> str:
    """Equal for all processes, containers too, that run on one kernel: their locks always hold."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def lock_test(
    store: Store, say: Say = silent, *, wait: float = 600, machine: str | None = None
) -> LockTestResult:
    """Hold a lock until another host came, or find out about the one that is held.

    Args:
        wait: seconds that the first host waits for the second.
        machine: that this runs on; None: :func:`machine_id`.

    Raises:
        StoreError: if the root cannot be written, or is of the other source.
        OSError: if the disk refuses.
    """
    store.claim()
    folder = store.internal / "lock-test"
    folder.mkdir(exist_ok=True)
    conditions = [_options(store)]
    test = _Test(folder, say, machine or machine_id())
    try:
        conditions += test.run(wait)
    except LackingFilesystem as error:
        conditions.append(
            Condition("lock", "error", str(error), "mount it with locks (Lustre: -o flock)")
        )
        return LockTestResult(conditions, BROKEN)
    if any(condition.state == "error" for condition in conditions):
        return LockTestResult(conditions, BROKEN)
    return LockTestResult(conditions, PROVEN if test.is_proven else NOTHING)


def _options(store: Store) -> Condition:
    """The filesystem and its mount options; those that several hosts cannot do with are errors."""
    mount = mount_of(store.root)
    if mount is None:
        return Condition("mount", "ok", "this system does not say what is mounted where")
    options = ",".join(sorted(mount.options))
    says = f"{mount.kind}, {mount.origin} at {mount.point}, options {options}"
    weak = weaknesses(mount)
    if not weak:
        return Condition("mount", "ok", says)
    return Condition(
        "mount",
        "error" if any(it.is_refused for it in weak) else "warning",
        "; ".join([*(it.sentence for it in weak), says]),
        "; ".join(dict.fromkeys(it.remedy for it in weak)),
    )


class _Test:
    """One run of the command.

    Attributes:
        is_proven: whether the lock was seen to hold between two hosts.
    """

    def __init__(self, folder: Path, say: Say, machine: str) -> None:
        self.folder, self.say, self.machine = folder, say, machine
        self.run_id = uuid.uuid4().hex
        self.held = folder / "holder.json"
        before, there = time.time(), clock(folder)
        self.ahead = (before + time.time()) / 2 - there
        self.is_proven = False

    # -- the two sides ---------------------------------------------------------------------------

    def run(self, wait: float) -> list[Condition]:
        lock = make_lock(self.folder / "test.lock")
        with self._explained():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return self._second(lock.acquire, lock.release)
        before = self._read(self.held)
        self._write(self.held)
        try:
            if before and (answer := self._ask(before)):
                return self._both_have_it(answer)
            return self._first(lock.release, wait)
        finally:
            if (mine := self._read(self.held)) and mine.run == self.run_id:
                self.held.unlink(missing_ok=True)
            lock.release()

    def _first(self, release: Callable[[], None], wait: float) -> list[Condition]:
        """Hold the lock until somebody says that it was refused to them."""
        self.say(
            f"holding a lock in {self.folder}; now run on another host, with the same storage "
            f"root, within {wait:.0f} s: {COMMAND}"
        )
        answer = self._wait_for(self._to_me, wait)
        if answer is None:
            return [self._nobody(wait)]
        self._write(self.folder / f"{answer.run}.seen.json", to=answer.run)
        if not answer.is_locked_out:
            return self._both_have_it(answer)
        release()
        return self._report(
            answer, f"{answer.host} was refused the lock while {self._me()} held it"
        )

    def _second(
        self, acquire: Callable[..., object], release: Callable[[], None]
    ) -> list[Condition]:
        """The lock is refused: say so to the holder, and get the lock from it."""
        other = self._wait_for(lambda: self._read(self.held), ANSWER)
        if other is None:
            return [
                Condition(
                    "file",
                    "error",
                    f"the lock is held, but what its holder wrote is not seen after {ANSWER:.0f} s",
                    "mount it without nocto, and with lookupcache=all or none",
                )
            ]
        asked, seen = self._mine(), self.folder / f"{self.run_id}.seen.json"
        self._write(asked, to=other.run, is_locked_out=True)
        try:
            # the holder may be waiting for an answer itself
            if self._wait_for(lambda: self._read(seen), 2 * ANSWER) is None:
                return [
                    Condition(
                        "file",
                        "error",
                        f"{other.host} does not answer: it does not see what {self._me()} wrote",
                        "mount it without nocto; if that process is stopped, end it",
                    )
                ]
            with self._explained():
                try:
                    acquire(timeout=ANSWER)
                except Timeout:
                    return [
                        Condition(
                            "lock",
                            "error",
                            f"{other.host} let go, but the lock is still refused after "
                            f"{ANSWER:.0f} s",
                            "look at the lock service of the file server",
                        )
                    ]
            release()
            return self._report(
                other, f"{self._me()} was refused the lock while {other.host} held it, then got it"
            )
        finally:
            asked.unlink(missing_ok=True)
            seen.unlink(missing_ok=True)

    def _ask(self, other: Message) -> Message | None:
        """What a holder says that is alive although this run has the lock, too; None: none is."""
        self.say(f"asking {other.host}, which held the lock before, whether it still does")
        seen = self.folder / f"{self.run_id}.seen.json"
        self._write(self._mine(), to=other.run)
        try:
            return self._wait_for(lambda: self._read(seen), ANSWER)
        finally:
            self._mine().unlink(missing_ok=True)
            seen.unlink(missing_ok=True)

    # -- what to say -----------------------------------------------------------------------------

    def _report(self, other: Message, says: str) -> list[Condition]:
        if other.machine == self.machine:
            return [
                Condition(
                    "lock",
                    "warning",
                    f"both commands ran on one machine ({other.host}), where locks always hold",
                    f"run the second one on another host: {COMMAND}",
                )
            ]
        self.is_proven = True
        apart = abs(self.ahead - other.ahead)
        clocks = (
            f"{self._me()} and {other.host} are {apart:.1f} s apart; the filesystem's clock is "
            f"{-self.ahead:+.1f} s from this host's"
        )
        return [
            Condition("lock", "ok", says),
            Condition("file", "ok", f"{self._me()} and {other.host} see each other's files"),
            Condition("clock", "ok", clocks)
            if apart <= APART
            else Condition("clock", "warning", clocks, "synchronise the clocks, with NTP"),
        ]

    def _both_have_it(self, other: Message) -> list[Condition]:
        return [
            Condition(
                "lock",
                "error",
                f"{self._me()} and {other.host} hold the same lock at the same time: locks do not "
                "hold between hosts there, and two writers would mix their files",
                "mount it with locks of all hosts (NFS: without nolock and local_lock; Lustre: -o "
                "flock; BeeGFS: tuneUseGlobalFileLocks = true), or let one host alone write",
            )
        ]

    def _nobody(self, wait: float) -> Condition:
        return Condition(
            "lock",
            "warning",
            f"nobody else tried the lock within {wait:.0f} s: nothing is proven",
            f"run {COMMAND} on another host at the same time; if you did, it sees another folder "
            f"at {self.folder}: let {ROOT_VARIABLE} be one mounted folder on both",
        )

    def _me(self) -> str:
        return socket.gethostname()

    # -- messages --------------------------------------------------------------------------------

    def _mine(self) -> Path:
        return self.folder / f"{self.run_id}.tried.json"

    def _write(self, path: Path, to: str = "", *, is_locked_out: bool = False) -> None:
        message = Message(
            run=self.run_id,
            to=to,
            host=self._me(),
            pid=os.getpid(),
            machine=self.machine,
            ahead=self.ahead,
            is_locked_out=is_locked_out,
        )
        replace_file(path, message.model_dump_json().encode())

    def _read(self, path: Path) -> Message | None:
        with suppress(OSError, ValidationError), open_regular(path) as file:
            return Message.model_validate_json(file.read(_MAX))
        return None

    def _to_me(self) -> Message | None:
        messages = map(self._read, self.folder.glob("*.tried.json"))
        return next((it for it in messages if it is not None and it.to == self.run_id), None)

    def _wait_for(self, find: Callable[[], Message | None], seconds: float) -> Message | None:
        """What is found within so many seconds."""
        end = time.monotonic() + seconds
        while True:
            refresh(self.folder)
            if (found := find()) is not None or time.monotonic() > end:
                return found
            time.sleep(POLL)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise LackingFilesystem(
                    f"the filesystem of {self.folder} has no {LOCKS} ({error.strerror})"
                ) from error
            raise
