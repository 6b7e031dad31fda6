"""``file:///mounted/folder``: a mounted folder, which is a second storage root of the same layout.

Payload is staged in its ``.wmtp/staging/`` and fsynced. Then the folder of each model and data set
is exchanged, under its lock, for one that holds the staged files and hard links to those that stay,
as a commit in our own root does. Where that cannot be, files are renamed to their places one by
one. What a killed run staged is compared chunk by chunk, and only what is missing is written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import stat
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

from wmtp_assets.base.errors import LackingFilesystem, LockHeld, PublishError, SpecError, StoreError
from wmtp_assets.base.model import relative_path
from wmtp_assets.base.progress import Say, human_bytes, silent
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.destinations.destination import (
    ORDINARY,
    OURS,
    STALE,
    Access,
    Advance,
    Destination,
    How,
    Location,
    NotThere,
    Stopped,
    Units,
    describing_last,
)
from wmtp_assets.destinations.listing import MANIFEST, Outgoing, Reading, SentFile
from wmtp_assets.storage.exchange import (
    UNSUPPORTED,
    lacking,
    recover,
    replace_linked,
)
from wmtp_assets.storage.files import (
    BLOCK,
    DISK_FULL,
    PART,
    fsync_folder,
    hash_file,
    names_below,
    open_regular,
    raise_it,
    replace_file,
    write_new,
)
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.mounts import clock, has_mounts, mount_points, resolved
from wmtp_assets.storage.store import Store, drop_shared
from wmtp_assets.transfer.arrival import remove_unusable

FORM = "file:///mounted/folder"

NEXT = "next"
"""In a publisher's staging folder: the next folder of an artifact, while it is built."""

_REFUSED = UNSUPPORTED | DISK_FULL | {errno.EACCES, errno.EBUSY, errno.ENAMETOOLONG, errno.ENOENT}
"""Why a folder is not exchanged and its files are renamed, which needs no room: no hard links (to
files of others), a mount point, a folder that would get another owner, a file that is gone."""


class Folder(Destination):
    """A destination on a mounted filesystem.

    Args:
        second: the folder as a storage root; it must be there.
        owner: who publishes; only the same resumes what was staged.
        part_size: bytes of a chunk.
    """

    streams = 1
    largest = sys.maxsize

    def __init__(self, second: Store, owner: str = "", part_size: int = PART) -> None:
        self.root = second.root
        self.name = self.key = f"file://{self.root}"
        publisher = hashlib.sha256(owner.encode()).hexdigest()[:16]
        self.staging = second.internal / "staging" / f"publish-{publisher}"
        self._second, self._part_size = second, part_size
        self._changed: set[Path] = set()
        self._in_place: set[str] = set()
        self._say: Say = silent

    # -- reading ---------------------------------------------------------------------------------

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
                if is_folder and entry.name.casefold() not in OURS:
                    continue
                for path in names_below(entry, unreadable) if is_folder else (entry,):
                    with suppress(FileNotFoundError, PermissionError):
                        found[path.relative_to(self.root).as_posix()] = path.lstat().st_size
        return found

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        self._require_root()
        with self._explained("read", path), open_regular(self._place(path)) as file:
            file.seek(start)
            while block := file.read(BLOCK):
                yield block

    def holds(self, file: Outgoing, advance: Advance = lambda size: None) -> bool:
        return self._is(self._place(file.path), file.record, advance)

    def is_same(
        self, path: str, file: SentFile, how: How, advance: Advance = lambda size: None
    ) -> bool:
        return self._is(self._place(path), file.record, advance, how not in ("size", "stated"))

    def is_staged(self, path: str, file: SentFile, advance: Advance = lambda size: None) -> bool:
        is_read = path not in self._in_place
        place = self._staged(path) if is_read else self._place(path)
        return self._is(place, file.record, advance, is_read)

    def is_placed(
        self, path: str, file: SentFile, how: How, advance: Advance = lambda size: None
    ) -> bool:
        return self.is_same(path, file, "size", advance)  # it was read where it was staged

    def _is(self, path: Path, record: FileRecord, advance: Advance, is_read: bool = True) -> bool:
        """Whether a regular file of this size lies there and, if it is read, with this hash."""
        with self._explained("read"), suppress(FileNotFoundError):
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != record.size:
                return False
            if is_read:
                return hash_file(path, advance) == record
            advance(record.size)
            return True
        return False

    # -- staging ---------------------------------------------------------------------------------

    def prepare(self, size: int, say: Say = silent) -> None:
        self._require_root()
        self._is_stopped, self._say = False, say
        with self._explained("write to", is_staging=True):
            self._require_real_staging()
            try:
                self._second.claim()
            except StoreError as error:
                raise PublishError(f"{self.name} is somebody's storage root: {error}") from error
            self.staging.mkdir(parents=True, exist_ok=True)
            there = self._clear_stale()
            free = shutil.disk_usage(self.root).free
            lacks = lacking(self.staging)
        if size > free + there:
            raise PublishError(
                f"{self.name} has no room: {human_bytes(size)} to send, {human_bytes(free)} free. "
                "Nothing was sent; free some space there and run again"
            )
        if lacks:
            say(
                f"the filesystem of {self.name} has no {' and no '.join(lacks)}: files get their "
                f"names one by one, {MANIFEST} last, and readers may see old and new ones together "
                "until then. Nobody else may publish there at the same time: nothing would notice"
            )

    def _clear_stale(self) -> int:
        """Remove what nobody resumed for :data:`STALE` seconds; bytes that we have staged."""
        now = clock(self.staging)
        for path in self.staging.parent.glob("publish-*/*"):
            with suppress(FileNotFoundError):
                is_unfinished = path == self.staging / NEXT
                is_old = is_unfinished or now - path.lstat().st_mtime > STALE
                if is_old and not path.parent.is_symlink():
                    self._discard(path)
        found = (path.lstat() for path in self.staging.iterdir())
        return sum(status.st_size for status in found if status.st_nlink < 2)

    def stage(self, file: Outgoing, advance: Advance, found: Advance) -> SentFile:
        self._require_going_on(file)
        if (there := self._find(file, found)) is not None:
            return there
        reading = Reading(file, self._part_size)
        with self._explained("write to", is_staging=True):
            staged = self._staged(file.path)
            remove_unusable(staged, file.record.size)  # what is published would be written into
            descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            with os.fdopen(descriptor, "r+b") as target:
                os.utime(descriptor)  # resumed: STALE counts from now
                for number, data, _ in reading.parts():
                    self._require_going_on(file)
                    begin = (number - 1) * reading.part_size
                    if os.pread(descriptor, len(data), begin) == data:
                        found(len(data))
                    else:
                        _write(target, begin, data)
                        self.payload += len(data)
                        advance(len(data))
                os.fsync(descriptor)
        return reading.sent()

    def _require_going_on(self, file: Outgoing) -> None:
        if self._is_stopped:
            raise Stopped(f"{file.path} was not sent whole: another file failed")

    def _find(self, file: Outgoing, found: Advance) -> SentFile | None:
        """The file, if it is in its place already: a publication was cut off in its last step."""
        target = self._place(file.path)
        with suppress(OSError, PublishError):
            if target.lstat().st_size == file.record.size:
                sent = Reading(replace(file, local=target), self._part_size).describe()
                with open_regular(target) as there:
                    os.fsync(there.fileno())
                found(file.record.size)
                self._in_place.add(file.path)
                self._changed.update(target.parents)  # its name may not have been flushed
                return sent
        return None

    # -- names -----------------------------------------------------------------------------------

    def hold(self) -> AbstractContextManager[None]:
        self._require_root()
        self._require_real_staging()
        return self._locked("publishing", wait=False)

    @contextmanager
    def _locked(self, name: str, *, wait: bool) -> Iterator[None]:
        """Hold a lock of the second root; a filesystem without locks does without."""
        with ExitStack() as held:
            with self._explained("write to"):
                try:
                    held.enter_context(self._second.lock(name, self._say, wait=wait))
                except LackingFilesystem:
                    pass
                except LockHeld as error:
                    raise PublishError(
                        f"somebody else gives files their names at {self.name} now ({error}). "
                        "Nothing of this was published; run again in a minute: what was sent is "
                        "kept"
                    ) from None
                except StoreError as error:  # says how to repair our own root
                    raise error.__cause__ or error from None
            yield

    def commit(self, units: Units, ours: Collection[str]) -> None:
        with self._explained("write to"):
            for unit, files in units.items():
                paths = [path for path in files if path not in self._in_place]
                for path in paths:
                    self._require_inside(self._place(path))
                with self._locked(unit, wait=True) if unit else nullcontext():
                    if paths and not (unit and self._replace(unit, paths, ours)):
                        self._rename(paths)

    def _replace(self, unit: str, paths: Collection[str], ours: Collection[str]) -> bool:
        """Give all staged files of a folder their names in one step; False where that cannot be:
        nothing has changed then."""
        current, mine = self._place(unit), {*ours, *paths}
        files = {path.removeprefix(f"{unit}/"): self._staged(path) for path in paths}
        try:
            recover(current, self._discard)
            return replace_linked(self.root, current, self.staging / NEXT, files, mine)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            return False
        finally:
            self._changed.update((current, *current.parents))
            self._keep_late(unit, files)

    def _keep_late(self, unit: str, replaced: Collection[str]) -> None:
        """Remove what an exchange left; what others wrote there is kept, and said."""
        old = self.staging / NEXT
        if not old.is_dir() or has_mounts(old):
            return
        for folder, _, _ in os.walk(old):
            Path(folder).chmod(0o700)
        for name in map(PurePosixPath, replaced):
            with (
                suppress(FileNotFoundError, NotADirectoryError),  # a link was put there
                _through_no_link(old, name.parent, is_made=False) as folder,
            ):
                os.unlink(name.name, dir_fd=folder)
        drop_shared(old, self._place(unit))
        if not any(names_below(old, raise_it)):
            self._second.discard(old)
            return
        kept = self._second.internal / "previous" / f"{PurePosixPath(unit).name}-{uuid.uuid4()}"
        kept.parent.mkdir(exist_ok=True)
        old.rename(kept)
        self._say(f"{unit} was written to while it was exchanged: that is kept in {kept}")

    def _rename(self, paths: Collection[str]) -> None:
        for path in (name for names in describing_last(paths) for name in names):
            target = self._place(path)
            with _through_no_link(resolved(self.root), self._require_inside(target)) as folder:
                os.replace(self._staged(path), target.name, dst_dir_fd=folder)
            self._changed.update(target.parents)

    def write_manifest(self, data: bytes) -> None:
        with self._explained("write to"):
            for folder in sorted(f for f in self._changed if f.is_relative_to(self.root)):
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
        below = self._require_inside(target)
        with (
            self._explained("delete from"),
            suppress(FileNotFoundError),
            _through_no_link(resolved(self.root), below, is_made=False) as folder,
        ):
            os.unlink(target.name, dir_fd=folder)
        with suppress(OSError):  # the first that is not empty ends it
            for parent in target.relative_to(self.root).parents[:-1]:
                (self.root / parent).rmdir()

    def finish(self, paths: Collection[str]) -> None:
        # what cannot be tidied up now is the next publication's to remove
        with suppress(OSError, PublishError):
            if self.staging.is_dir():
                with self.hold():
                    for path in [*map(self._staged, [*paths, MANIFEST]), self.staging / NEXT]:
                        self._discard(path)
                    self.staging.rmdir()  # what is staged of other files stays
            self._require_real_staging()
            self.staging.parent.rmdir()  # also where a killed run emptied it; not if others use it

    def _discard(self, path: Path) -> None:
        """Remove what was staged or exchanged, but no disk that somebody mounted there."""
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        elif not has_mounts(path):
            self._second.discard(path)

    # -- places ----------------------------------------------------------------------------------

    def _place(self, path: str) -> Path:
        return self.root / relative_path(path)

    def _staged(self, path: str) -> Path:
        """Where a file is staged, whatever its content; two places never share one."""
        return self.staging / hashlib.sha256(path.encode()).hexdigest()

    def _require_inside(self, target: Path) -> PurePath:
        """The folder of a place, below this one and without links; one that a link leads out of it
        is refused."""
        found, root = resolved(target.parent), resolved(self.root)
        if not found.is_relative_to(root):
            raise PublishError(
                f"{target} is reached through a link that leads out of {self.name}: take it away"
            )
        return found.relative_to(root)

    def _require_root(self) -> None:
        with self._explained("reach"):
            if not self.root.is_dir():
                raise PublishError(
                    f"{self.name}: there is no such folder. Is the volume mounted? If it is to be "
                    f"new, make it: mkdir -p {self.root}"
                )

    def _require_real_staging(self) -> None:
        """Refuse a link in the place of one of our folders: what it leads to is not ours."""
        internal = self._second.internal
        for folder in (internal, internal / "locks", self.staging.parent, self.staging):
            with self._explained("reach"), suppress(FileNotFoundError):
                if not stat.S_ISDIR(folder.lstat().st_mode):
                    raise PublishError(
                        f"{folder} is a link or a file, and should be a folder that publications "
                        "alone write: files of others could be changed. Nothing was sent; move it "
                        "away, then run again"
                    )

    def _require_one_disk(self, folders: Collection[str]) -> None:
        """Refuse a mount among our folders: no staged file can be renamed into it."""
        with self._explained("reach"):
            root = resolved(self.root)
            places = {resolved(root / folder) for folder in (*folders, INTERNAL)} - {root}
        for mount in mount_points():
            if mount in places and root in mount.parents:
                raise PublishError(
                    f"{mount} is a mount of its own in {self.name}: no file can be renamed into it "
                    "from another disk. Nothing was sent; publish to a folder of one disk, or "
                    "unmount it"
                )

    @contextmanager
    def _explained(self, verb: str, path: str = "", *, is_staging: bool = False) -> Iterator[None]:
        """Say what the filesystem refuses.

        Args:
            path: of a file that may be missing.
            is_staging: no file got its name yet: on a full disk what was staged is removed.

        Raises:
            NotThere: if it is.
        """
        try:
            yield
        except OSError as error:
            if path and isinstance(error, FileNotFoundError):
                raise NotThere(f"{self.name} has no {path}") from error
            if error.errno in DISK_FULL:
                self._is_stopped = True
                free = shutil.disk_usage(self.root).free
                left = "what was staged and has no name yet is kept"
                if is_staging:
                    with suppress(OSError, PublishError):
                        self._require_real_staging()
                        self._discard(self.staging)
                        self.staging.parent.rmdir()  # refused where somebody else's are in there
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


def problem(location: Location) -> str:
    """What a URL of this scheme lacks; empty: nothing."""
    return "" if location.host in ("", "localhost") else "names no absolute folder"


def connect(store: Store, location: Location, access: Access = ORDINARY) -> Folder:
    """The destination ``file:///mounted/folder``.

    Raises:
        SpecError: if it and the storage root lie in each other, and it is written to.
    """
    place = Path("/", location.path)
    folder, root = resolved(place), resolved(store.root)
    if not access.is_read and (folder == root or root in folder.parents or folder in root.parents):
        raise SpecError(
            f"{location} and the storage root {store.root} lie in each other: publish to another "
            "folder"
        )
    second = Store(replace(store.settings, root=place), store.catalogue)
    return Folder(second, "" if access.is_read else _publisher(store))


def _publisher(store: Store) -> str:
    """Who publishes from this root: two containers may have equal names and equal paths."""
    path = store.internal / "publish" / "id"
    with suppress(OSError, ValueError):
        if not path.exists():
            replace_file(path, uuid.uuid4().hex.encode())
        return f"{socket.gethostname()}:{store.root}:{read_small(path).decode()}"
    return f"{socket.gethostname()}:{store.root}"


@contextmanager
def _through_no_link(top: Path, below: PurePath, *, is_made: bool = True) -> Iterator[int]:
    """A descriptor of a folder below ``top``: what is done in it is done there, whatever somebody
    puts in its place or above it at the same time.

    Raises:
        OSError: if it cannot be opened; ENOTDIR for a link on the way.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(top, flags)
    try:
        for name in below.parts:
            if is_made:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=descriptor)
            inner = os.open(name, flags | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _write(target: BinaryIO, begin: int, data: bytes) -> None:
    target.seek(begin)
    target.write(data)
    target.flush()
