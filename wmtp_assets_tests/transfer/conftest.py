"""An artifact that nobody made yet, and an origin that does as it is told."""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import Catalogue
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer import arrival
from wmtp_assets.transfer.arrival import Arrival, Interrupted, Partial
from wmtp_assets.transfer.places import ExpectedFile, Places

DATA = bytes(range(256)) * 400
"""102,400 bytes."""


def expected(path: str = "a.bin", data: bytes = DATA) -> ExpectedFile:
    """A file with these bytes."""
    return ExpectedFile(path, len(data), hashlib.sha256(data).hexdigest())


@cache
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Of an artifact of an empty root."""
    store = Store(Settings("hub", tmp_path / "storage"), catalogue())
    store.claim()
    return Places(store, store.catalogue["humaneval_raw"], "raw/")


@dataclass
class Told:
    """An origin that sends ``data``.

    Attributes:
        cuts: bytes after which each attempt in turn breaks off; when they are used up, none does.
        sent: bytes of each attempt.
    """

    data: bytes = DATA
    cuts: list[int] = field(default_factory=list)
    attempts: int = 3
    sent: list[int] = field(default_factory=list)

    def send(self, file: ExpectedFile, target: Partial) -> None:
        rest = self.data[target.tell() :]
        cut = self.cuts.pop(0) if self.cuts else len(rest)
        self.sent.append(len(rest[:cut]))
        target.write(rest[:cut])
        if cut < len(rest):
            raise Interrupted("cut off", WmtpError(f"{file.path} is given up")) from OSError("why")

    def mismatch(self, file: ExpectedFile, found: FileRecord | None, path: Path) -> WmtpError:
        assert path.exists() or found is None
        return WmtpError(f"{file.path}: {'other' if found else 'more'} bytes")


@dataclass
class Log:
    """What was said, how far progress is, and the seconds that were waited."""

    lines: list[str] = field(default_factory=list)
    bytes: int = 0
    here: int = 0
    waits: list[float] = field(default_factory=list)

    def advance(self, size: int) -> None:
        self.bytes += size

    def found(self, size: int) -> None:
        self.here += size
        self.bytes += size


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Nobody waits."""
    log = Log()
    clock = SimpleNamespace(sleep=log.waits.append, monotonic=time.monotonic)
    monkeypatch.setattr(arrival, "time", clock)
    return log


Make = Callable[[Told], Arrival]


@pytest.fixture
def arrive(places: Places, log: Log) -> Make:
    """The arrival of files from an origin."""
    told = log.advance, log.found, log.lines.append
    return lambda origin: Arrival(places, origin, *told, origin.attempts)


def full_disk(*arguments: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")
