"""What this machine remembers of a destination: uploads to resume, and the last rate.

One file per destination below ``<root>/.wmtp/publish/``, with a line for each event, so that a
kill at any moment loses at most the last. It is a memory, no proof: the destination is asked
whether what is recorded here is there. It holds no URL, no credentials and no bytes.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import PublishError, StoreError
from wmtp_assets.base.secrets import redact
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.destinations.destination import STALE
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer.places import last_rate, remember_rate

MAX_SIZE = 64 << 20
"""Bytes of a journal: a part of 16 MiB has a line of 300."""


@dataclass
class Upload:
    """An upload that was begun.

    Attributes:
        sha256, size, part_size: of the file it is of.
        checksum: how the server knows the SHA-256 of its parts.
        touched: seconds since 1970 when it was last resumed.
        parts: number → SHA-256 in hexadecimal and ETag, of those that arrived.
        is_complete: the file was put in its place.
    """

    upload_id: str
    sha256: str
    size: int
    part_size: int
    checksum: str
    touched: float
    parts: dict[int, tuple[str, str]] = field(default_factory=dict)
    is_complete: bool = False

    def is_of(self, *identity: str | int) -> bool:
        """Whether it is of a file with this SHA-256 and size, in parts of this size with such
        checksums."""
        return identity == (self.sha256, self.size, self.part_size, self.checksum)

    def has_all_parts(self) -> bool:
        """Whether every part arrived."""
        return self.parts.keys() == {*range(1, max(-(-self.size // self.part_size), 1) + 1)}


def key_of(key: str) -> str:
    """What a destination is called in names of files: its URL may be of any length."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _place(store: Store, key: str, suffix: str) -> Path:
    return store.internal / "publish" / f"{key_of(key)}{suffix}"


def write_rate(store: Store, key: str, size: int, seconds: float) -> None:
    """Keep the throughput of a publication of ``size`` bytes to the destination ``key``."""
    remember_rate(_place(store, key, ".rate.json"), size, seconds)


def read_rate(store: Store, key: str) -> float | None:
    """Bytes a second of the last publication to ``key``; None: there was none."""
    return last_rate(_place(store, key, ".rate.json"))


class Journal:
    """The uploads to one destination, by path; may be used by several threads.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.load()

    @classmethod
    def of(cls, store: Store, key: str) -> Journal:
        """The journal of the destination ``key``."""
        return cls(_place(store, key, ".jsonl"))

    def load(self) -> None:
        """Read the file again: another process may have written it before this one had the lock."""
        with self._lock:
            self.uploads: dict[str, Upload] = {}
            lines: list[bytes] = []
            with suppress(OSError, ValueError):  # never written, or not by us
                lines = read_small(self._path, MAX_SIZE).splitlines()
            for line in lines:
                # empty, or the process was killed while it wrote this line
                with suppress(ValueError, KeyError, TypeError, RecursionError):
                    self._apply(json.loads(line))

    def stale(self) -> list[str]:
        """The paths of uploads that nobody resumed for :data:`STALE` seconds."""
        return [p for p, upload in self.uploads.items() if time.time() - upload.touched > STALE]

    def _apply(self, event: dict[str, Any]) -> None:
        path = event["path"]
        match event["event"]:
            case "begin":
                self.uploads[path] = Upload(
                    str(event["upload_id"]),
                    str(event["sha256"]),
                    int(event["size"]),
                    int(event["part_size"]),
                    str(event["checksum"]),
                    float(event["at"]),
                )
            case "part":
                upload = self.uploads[path]
                upload.touched = float(event["at"])
                upload.parts[int(event["number"])] = str(event["sha256"]), str(event["etag"])
            case "touch":
                self.uploads[path].touched = float(event["at"])
            case "complete":
                self.uploads[path].is_complete = True
            case "forget":
                self.uploads.pop(path, None)

    def _write(self, event: dict[str, Any]) -> None:
        event["at"] = time.time()
        line = json.dumps(event)
        if redact(line) != line:
            raise PublishError(
                f"the server names the upload of {event['path']} by one of our secrets. Nothing of "
                "that is kept. Do not trust this server, and give yourself other credentials"
            )
        with self._lock:
            self._apply(event)
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab") as file:  # the last line there may have no end
                    file.write(f"\n{line}\n".encode())
            except OSError as error:
                raise StoreError(
                    f"{self._path} cannot be written ({error.strerror}): nobody would know what "
                    "was sent. Make it possible, and run again"
                ) from error

    def begin(
        self,
        path: str,
        upload_id: str,
        sha256: str,
        size: int,
        part_size: int,
        checksum: str = "sha256",
    ) -> None:
        """An upload of a file was begun; one before of the same path is forgotten."""
        self._write(
            {
                "event": "begin",
                "path": path,
                "upload_id": upload_id,
                "sha256": sha256,
                "size": size,
                "part_size": part_size,
                "checksum": checksum,
            }
        )

    def part(self, path: str, number: int, sha256: str, etag: str) -> None:
        """A part arrived."""
        self._write(
            {"event": "part", "path": path, "number": number, "sha256": sha256, "etag": etag}
        )

    def complete(self, path: str) -> None:
        """A file was put in its place."""
        self._write({"event": "complete", "path": path})

    def forget(self, path: str) -> None:
        """The upload is no more."""
        self._write({"event": "forget", "path": path})

    def touch(self, path: str) -> None:
        """An upload is resumed."""
        self._write({"event": "touch", "path": path})

    def forget_all(self, paths: Iterable[str]) -> None:
        """These files are published; what is remembered of others stays."""
        for path in self.uploads.keys() & set(paths):
            self.forget(path)
        with self._lock:
            if not self.uploads:
                self._path.unlink(missing_ok=True)
