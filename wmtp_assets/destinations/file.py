"""A mounted folder as a destination.

Payload is written into ``.wmtp-staging/`` there and fsynced. Then the folder of each model and data
set is exchanged for one that has the new files (:mod:`wmtp_assets.destinations.generation`); where
the filesystem cannot do that, they are renamed to their places one by one. A staged file that was
left by a killed run is gone on with: what it holds is compared part by part.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import FileIO
from pathlib import Path, PurePosixPath

from wmtp_assets.base.model import relative_path
from wmtp_assets.base.progress import human_bytes
from wmtp_assets.destinations.destination import (
    STALE,
    Advance,
    How,
    NotThere,
    Stopped,
    Units,
    describing_last,
    may_be_ours,
)
from wmtp_assets.destinations.errors import PublishError
from wmtp_assets.destinations.generation import mount_points, replace_in_one_step, tidy
from wmtp_assets.destinations.listing import MANIFEST, SentFile
from wmtp_assets.destinations.outgoing import Outgoing, Reading
from wmtp_assets.storage.files import (
    BLOCK,
    DISK_FULL,
    PART,
    fsync_folder,
    hash_file,
    names_below,
    open_regular,
    write_new,
)

STAGING = ".wmtp-staging"
"""Beside ``MANIFEST.json``: what is on its way. Readers ignore it."""

LOCK = "lock"
"""In there: held while files get their names."""

NEXT = "next"
"""In the folder of an owner in there: the next generation of a folder, while it is built."""

_OWNER, _STAGED = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{64}")
"""Names of folders in there, one per owner, and of files in those: nothing else is ours."""

_NO_LOCKS = frozenset((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF))


class Folder:
    """A :class:`~wmtp_assets.destinations.destination.Destination` on a mounted filesystem.

    Args:
        root: the folder; it must be there.
        owner: who publishes; what is staged is gone on with by the same only.
        part_size: bytes of a part.
    """

    streams = 1
    largest = sys.maxsize

    def __init__(self, root: Path, owner: str = "", part_size: int = PART) -> None:
        self.name = self.key = f"file://{root}"
        self.root = root
        self.staging = root / STAGING / hashlib.sha256(owner.encode()).hexdigest()[:16]
        self.payload = 0
        self._part_size = part_size
        self._is_stopped = False
        self._changed: set[Path] = set()
        self._in_place: set[str] = set()

    def names(self, paths: Collection[str] = ()) -> Mapping[str, int]:
        self._require_root()
        needed = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
        found: dict[str, int] = {}
        self._require_one_disk(needed)

        def unreadable(error: OSError) -> None:
            place = Path(os.fsdecode(error.filename or "")).relative_to(self.root).as_posix()
            if place in needed:
                raise error

        with self._explained("list"):
            for entry in sorted(self.root.iterdir()):
                is_folder = entry.is_dir() and not entry.is_symlink()
                if is_folder and not may_be_ours(entry.name):
                    continue
                for path in names_below(entry, unreadable) if is_folder else (entry,):
                    with suppress(FileNotFoundError, PermissionError):
                        found[path.relative_to(self.root).as_posix()] = path.lstat().st_size
        return found

    def holds(self, file: Outgoing, advance: Advance = lambda size: None) -> bool:
        target = self._place(file.path)
        with self._explained("read"):
            status = target.lstat()
            is_alike = stat.S_ISREG(status.st_mode) and status.st_size == file.record.size
            return is_alike and hash_file(target, advance) == file.record

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        self._require_root()
        target = self._place(path)
        try:
            with self._explained("read"), open_regular(target) as file:
                file.seek(start)
                while block := file.read(BLOCK):
                    yield block
        except PublishError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotThere(f"{self.name} has no {path}") from error
            raise

    def is_same(
        self, path: str, file: SentFile, how: How, advance: Advance = lambda size: None
    ) -> bool:
        target = self._place(path)
        try:
            status = target.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
                return False
            if how in ("size", "stated"):
                advance(file.size)
                return True
            return hash_file(target, advance) == file.record
        except FileNotFoundError:
            return False
        except OSError as error:
            raise PublishError(f"cannot read {target}: {error.strerror}") from error

    def prepare(self, size: int) -> None:
        self._require_root()
        self._is_stopped = False
        with self._explained("write to", is_staging=True):
            self._require_real_staging()
            self.staging.mkdir(parents=True, exist_ok=True)
            for owner in self._owners():
                self._tidy(owner)
            there = 0
            for path, status in self._staged_files():
                if time.time() - status.st_mtime > STALE:
                    path.unlink(missing_ok=True)
                elif path.parent == self.staging:
                    there += status.st_size
            free = shutil.disk_usage(self.root).free
        if size > free + there:
            raise PublishError(
                f"{self.name} has no room: {human_bytes(size)} to send, {human_bytes(free)} free. "
                "Nothing was sent; free some space there and run again"
            )

    def stage(self, file: Outgoing, advance: Advance) -> SentFile:
        self._require_going_on(file)
        if (found := self._find(file, advance)) is not None:
            return found
        reading = Reading(file, self._part_size)
        with self._explained("write to", is_staging=True):
            staged = self._staged(file.path)
            with suppress(FileNotFoundError):
                if staged.lstat().st_nlink > 1:  # what is published would be written into
                    staged.unlink()
            descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            with FileIO(descriptor, "r+") as target:
                os.utime(descriptor)  # gone on with: STALE counts from now
                there = os.fstat(descriptor).st_size
                for number, data, _ in reading.parts():
                    self._require_going_on(file)
                    begin = (number - 1) * reading.part_size
                    if begin + len(data) > there or os.pread(descriptor, len(data), begin) != data:
                        _write(target, begin, data)
                        self.payload += len(data)
                    advance(len(data))
                target.truncate(file.record.size)
                os.fsync(descriptor)
        return reading.sent()

    def _require_going_on(self, file: Outgoing) -> None:
        if self._is_stopped:
            raise Stopped(f"{file.path} was not sent whole: another file failed")

    def _find(self, file: Outgoing, advance: Advance) -> SentFile | None:
        """The file, if it is in its place already: a publication was cut off in its last step."""
        target = self._place(file.path)
        try:
            if target.lstat().st_size != file.record.size:
                return None
            reading = Reading(replace(file, local=target), self._part_size)
            found = reading.describe()
            with open_regular(target) as there:
                os.fsync(there.fileno())
        except (OSError, PublishError):
            return None
        advance(file.record.size)
        self._in_place.add(file.path)
        self._changed.update(target.parents)  # who was cut off may not have flushed its name
        return found

    def stop(self) -> None:
        self._is_stopped = True

    @contextmanager
    def hold(self) -> Iterator[None]:
        self._require_root()
        self._require_real_staging()
        path = self.root / STAGING / LOCK
        with self._explained("write to"):
            descriptor = self._lock(path)
        try:
            yield
        finally:
            with suppress(OSError):  # the lock ends with its file closed, wherever that lies
                path.unlink()
            with suppress(OSError):
                os.close(descriptor)
            with suppress(OSError):  # something is staged
                path.parent.rmdir()

    def _lock(self, path: Path) -> int:
        """The lock's open file; a filesystem that knows no locks goes without."""
        while True:
            path.parent.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return descriptor
            except FileNotFoundError:
                pass  # whoever held it has removed it: the next one is another file
            except BlockingIOError:
                os.close(descriptor)
                raise PublishError(
                    f"somebody else gives files their names at {self.name} now. Nothing of this "
                    "was published; run again in a minute: what was sent is kept"
                ) from None
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    return descriptor
                os.close(descriptor)
                raise
            os.close(descriptor)

    def is_staged(self, path: str, file: SentFile, advance: Advance = lambda size: None) -> bool:
        if path in self._in_place:
            advance(file.size)
            return True
        with self._explained("read"):
            return hash_file(self._staged(path), advance) == file.record

    def is_placed(
        self, path: str, file: SentFile, how: How, advance: Advance = lambda size: None
    ) -> bool:
        advance(file.size)
        return self.is_same(path, file, "size")  # its bytes were read where they were staged

    def commit(self, units: Units, ours: Collection[str]) -> None:
        with self._explained("write to"):
            for unit, files in units.items():
                paths = [path for path in files if path not in self._in_place]
                for path in paths:
                    self._require_inside(self._place(path))
                if paths and not (unit and self._exchange(unit, paths, ours)):
                    self._rename(paths)

    def _exchange(self, unit: str, paths: Collection[str], ours: Collection[str]) -> bool:
        """Give all staged files of a folder their names in one step; False where that cannot be."""
        staged = {path.removeprefix(f"{unit}/"): self._staged(path) for path in paths}
        try:
            is_done = replace_in_one_step(self.root, unit, self.staging / NEXT, staged, ours)
            for path in staged.values() if is_done else ():
                path.unlink()
            return is_done
        finally:
            tidy(self.staging / NEXT, self.root)
            self._changed.update(self._place(unit).parents)

    def _tidy(self, owner: Path) -> None:
        """Remove what is left of generations; what another builds there now stays."""
        is_left = owner == self.staging
        with suppress(FileNotFoundError):
            is_left = is_left or time.time() - (owner / NEXT).lstat().st_mtime > STALE
        if is_left:
            tidy(owner / NEXT, self.root)

    def _rename(self, paths: Collection[str]) -> None:
        for path in (name for names in describing_last(paths) for name in names):
            target = self._place(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._staged(path).replace(target)
            self._changed.update(target.parents)

    def write_manifest(self, data: bytes) -> None:
        with self._explained("write to"):
            for folder in sorted(self._changed):
                if folder == self.root or self.root in folder.parents:
                    fsync_folder(folder)
            self._changed.clear()
            self.staging.mkdir(parents=True, exist_ok=True)
            draft = self._staged(MANIFEST)  # where a kill leaves nothing beside it
            draft.unlink(missing_ok=True)
            write_new(draft, data)
            draft.replace(self.root / MANIFEST)
            fsync_folder(self.root)

    def delete(self, path: str) -> None:
        target = self._place(path)
        self._require_inside(target)
        with self._explained("delete from"):
            target.unlink(missing_ok=True)
            for parent in target.parents:
                if parent == self.root:
                    break
                try:
                    parent.rmdir()
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                        raise
                    break

    def finish(self, paths: Collection[str]) -> None:
        # what cannot be tidied up now is the next publication's to remove
        with suppress(OSError, PublishError):
            if (self.root / STAGING).is_dir():
                with self.hold():
                    self._tidy(self.staging)
                    self._remove_staging([*paths, MANIFEST])

    def _require_real_staging(self) -> None:
        """Refuse a link in the place of the staging folder: what it leads to is not ours."""
        with self._explained("reach"):
            place = self._link_in_staging()
        if place is not None:
            raise PublishError(
                f"{place} is a link or a file, and should be a folder that publications alone "
                "write: files of others could be changed. Nothing was sent; move it away, then run "
                "again"
            )

    def _link_in_staging(self) -> Path | None:
        for folder in (self.root / STAGING, self.staging):
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(folder.lstat().st_mode):
                    return folder
        return None

    def _owners(self) -> Iterator[Path]:
        """The folders of those who publish here; nothing else that lies beside them."""
        for owner in _listed(self.root / STAGING):
            with suppress(FileNotFoundError):
                if _OWNER.fullmatch(owner.name) and stat.S_ISDIR(owner.lstat().st_mode):
                    yield owner

    def _staged_files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The files that publications staged, by their names; nothing else that lies there."""
        for owner in self._owners():
            for path in _listed(owner):
                with suppress(FileNotFoundError):
                    status = path.lstat()
                    if _STAGED.fullmatch(path.name) and stat.S_ISREG(status.st_mode):
                        yield path, status

    def _remove_staging(self, paths: Collection[str] | None = None) -> None:
        """Remove what we staged of these files; None: of all."""
        names = None if paths is None else {self._staged(path).name for path in paths}
        with suppress(OSError):
            if self._link_in_staging() is not None:
                return
            for path, _ in self._staged_files():
                if path.parent == self.staging and (names is None or path.name in names):
                    path.unlink()
            self.staging.rmdir()
            self.staging.parent.rmdir()  # refused where somebody else's are in there

    def _require_one_disk(self, folders: Collection[str]) -> None:
        """Refuse a mount among folders of ours: no staged file can be renamed into it."""
        with self._explained("reach"):
            root = self.root.resolve()
            places = {(root / folder).resolve() for folder in folders} - {root}
        for mount in mount_points():
            if mount in places and root in mount.parents:
                raise PublishError(
                    f"{mount} is a mount of its own in {self.name}: no file can be renamed into it "
                    f"from {STAGING}. Nothing was sent; publish to a folder of one disk, or "
                    "unmount it"
                )

    def _place(self, path: str) -> Path:
        return self.root / relative_path(path)

    def _require_inside(self, target: Path) -> None:
        """Refuse a place that a link leads out of the folder."""
        if not target.parent.resolve().is_relative_to(self.root.resolve()):
            raise PublishError(
                f"{target} is reached through a link that leads out of {self.name}: take it away"
            )

    def _staged(self, path: str) -> Path:
        """Where a file is staged, whatever its content; two places never share one."""
        return self.staging / hashlib.sha256(path.encode()).hexdigest()

    def _require_root(self) -> None:
        with self._explained("reach"):
            is_there = self.root.is_dir()
        if not is_there:
            raise PublishError(
                f"{self.name}: there is no such folder. Is the volume mounted? If it shall be new, "
                f"make it: mkdir -p {self.root}"
            )

    @contextmanager
    def _explained(self, verb: str, *, is_staging: bool = False) -> Iterator[None]:
        """Say what the filesystem refuses.

        Args:
            is_staging: no file got its name yet: on a full disk what was staged is removed.
        """
        try:
            yield
        except OSError as error:
            if error.errno in DISK_FULL:
                self._is_stopped = True
                free = shutil.disk_usage(self.root).free
                left = "what was staged and has no name yet is kept"
                if is_staging:
                    self._remove_staging()
                    left = "nothing was published, and what was staged is removed"
                raise PublishError(
                    f"{self.name} is full ({error.strerror}, {human_bytes(free)} were free): "
                    f"{left}. Free some space there and run again"
                ) from error
            raise PublishError(
                f"cannot {verb} {self.name}: {error.strerror or error}"
                + (f" ({error.filename})" if error.filename else "")
                + ". Nothing more was published; make it possible and run again"
            ) from error


def _listed(folder: Path) -> list[Path]:
    """What is in a folder; others may remove it meanwhile."""
    with suppress(FileNotFoundError):
        return sorted(folder.iterdir())
    return []


def _write(target: FileIO, begin: int, data: bytes) -> None:
    target.seek(begin)
    view = memoryview(data)
    while view:
        view = view[target.write(view) :]
