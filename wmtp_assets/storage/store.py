"""How an artifact is read, staged, hashed, locked and committed.

A commit is old or new, never half: files are written and fsynced in a staging folder on the same
filesystem, hashed while they are written; the manifest comes last; then the staging folder and the
artifact's folder are exchanged in one step. The previous generation is kept until the next commit.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import stat
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path, PurePosixPath

from filelock import Timeout

from wmtp_assets.base.child import reading
from wmtp_assets.base.errors import (
    CorruptArtifact,
    LackingFilesystem,
    LockHeld,
    MissingArtifact,
    StoreError,
    WrongRoot,
)
from wmtp_assets.base.model import relative_path
from wmtp_assets.base.progress import Progress, Say, Told, human_bytes, silent
from wmtp_assets.base.settings import (
    ROOT_VARIABLE,
    SOURCE_VARIABLE,
    Settings,
    read_workers,
    timestamp,
)
from wmtp_assets.base.strict_json import parse_object, read_small
from wmtp_assets.catalogue.artifact import INTERNAL, Artifact, Catalogue
from wmtp_assets.storage import manifest, pieces
from wmtp_assets.storage.exchange import LOCKS, install, is_cut_off, lacking, recover
from wmtp_assets.storage.files import (
    DISK_FULL,
    PART,
    HashedFile,
    Hasher,
    clone,
    fsync_folder,
    hash_file,
    is_made_of,
    names_below,
    open_regular,
    raise_it,
    replace_file,
    write_new,
)
from wmtp_assets.storage.locks import NO_LOCKS, give_back, make_lock
from wmtp_assets.storage.manifest import Document, FileRecord, Manifest
from wmtp_assets.storage.pieces import Cut, Piece, cut_parts
from wmtp_assets.storage.record import (
    Sign,
    is_edited,
    is_linked_only,
    read_record,
    sign,
    sign_all,
    write_record,
)

_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_REFUSED = {*_READ_ONLY, *DISK_FULL, errno.EXDEV, errno.EIO, errno.ENOTDIR}
"""What a disk says, and no mistake of the program."""
_MAX_MARK = 256
"""Bytes of the file that says of which source a root is."""

_NOT_REGULAR = {errno.ELOOP, errno.EINVAL, errno.ENXIO}

_OF_ARTIFACTS = ("previous", "quarantine", "scratch", "staging")
"""Folders below ``.wmtp/`` in which an artifact has one of its own."""
_INSIDE = (*_OF_ARTIFACTS, "amended", "drawn", "locks", "publish", "published", "pulled", "trash")
"""Folders below ``.wmtp/`` in which files are made and removed."""

REPLACED = ".replaced"
"""Beside a staging folder: the manifest that lies in it once it was exchanged."""

_is_folder = os.path.isdir
"""Whether a folder, or a link to one, is there and can be looked at."""


class Staged:
    """The staging copy of an artifact: what is written here becomes the artifact on commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, FileRecord] = {}
        self.parts: dict[str, list[str]] = {}
        self.cuts: dict[str, Cut] = {}

    def create(
        self,
        path: str,
        advance: Callable[[int], None] = lambda size: None,
        *,
        in_parts: bool = True,
    ) -> HashedFile:
        """Open a new file at ``path``, relative to the artifact's base, for writing.

        Args:
            advance: told the bytes of each write, and a negative number when it starts over.
            in_parts: hash each :data:`PART` bytes of it too; False: :attr:`cuts` will have other
                pieces of it.
        """
        target = self.folder / relative_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)

        parts = self.parts.setdefault(path, []) if in_parts else None
        return HashedFile(target, partial(self.files.__setitem__, path), advance, parts)

    def take_over(
        self, path: str, source: Path, advance: Callable[[int], None], *, link: bool
    ) -> tuple[HashedFile, Path]:
        """Open a new file at ``path`` to write what ``source`` holds, of which the disk keeps one
        copy where the filesystem can share it.

        Args:
            advance: as :meth:`create`.
            link: make it a second name of ``source``.

        Returns:
            The file, and where its bytes are to be read: where they are shared, from itself.

        Raises:
            OSError: if a link is wanted, and the filesystem has none.
        """
        target = self.folder / relative_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            os.link(source, target)
        shared = link or clone(source, target)
        done = partial(self.files.__setitem__, path)
        return HashedFile(target, done, advance, shared=shared), target if shared else source

    def place(self, path: str, source: Path, record: FileRecord, parts: list[str]) -> None:
        """Take over a file that was hashed, by a hard link: ``source`` keeps its name too.

        Args:
            parts: the hashes of its :data:`PART` bytes each.
        """
        target = self.folder / relative_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
        self.files[path] = record
        self.parts[path] = parts

    def write_pieces(self, name: str) -> None:
        """Write the hashes of pieces, where some file has several and ``name`` is not staged."""
        cuts = {**cut_parts(PART, self.parts), **self.cuts}
        if cuts and name not in self.files:
            self.write(name, pieces.render(cuts))

    def write(self, path: str, data: bytes) -> None:
        """Write a small file whole."""
        with self.create(path) as file:
            file.write(data)

    def write_sha256sums(self, prefix: str) -> None:
        """Write ``SHA256SUMS`` over the files staged below a folder.

        Args:
            prefix: the folder with its slash; empty: all files.
        """
        self.write(f"{prefix}SHA256SUMS", manifest.sha256sums(self.files, prefix))


class Store:
    """The artifacts below one storage root."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.root = settings.root
        self.internal = settings.root / INTERNAL

    # -- reading ---------------------------------------------------------------------------------

    def folder(self, artifact: Artifact) -> Path:
        """The folder that the manifest's paths are relative to."""
        return self.root / artifact.base

    def manifest_path(self, artifact: Artifact) -> Path:
        return self.folder(artifact) / artifact.manifest

    def manifest(self, artifact: Artifact) -> Manifest:
        """Read the manifest of a committed artifact.

        Raises:
            MissingArtifact: if there is none.
            CorruptArtifact: if it was changed after the commit.
        """
        path = self.manifest_path(artifact)
        missing = (
            f"{artifact.key} has not been materialized: {path} does not exist. Make it with: "
            f"{materialize_command(artifact.key)}"
        )
        with self._explained(artifact, path, missing), open_regular(path) as file:
            data = file.read(manifest.MAX_SIZE + 1)
        return manifest.parse(data, str(path))

    def find_manifest(self, artifact: Artifact) -> Manifest | None:
        """As :meth:`manifest`; None where it is missing, damaged or cannot be read."""
        try:
            return self.manifest(artifact)
        except (MissingArtifact, CorruptArtifact, OSError):
            return None

    def size_with_upstream(self, artifact: Artifact) -> int:
        """Bytes of an artifact's files, and of those that it is made from, as far as they are
        committed."""
        there = (artifact, *map(self.catalogue.__getitem__, artifact.upstream))
        return sum(found.size for found in map(self.find_manifest, there) if found)

    def path(self, artifact: Artifact, name: str) -> Path:
        """Where the file ``name`` of the artifact lies."""
        return self.folder(artifact) / name

    def read(self, artifact: Artifact, name: str) -> bytes:
        """Read a small file of a committed artifact and check it against the manifest.

        One that is committed again while it is read is read once more: it is not damaged.

        Raises:
            MissingArtifact: if the artifact or the file is not there.
            CorruptArtifact: if the bytes are not the committed ones.
        """
        record = self._record(artifact, name)
        path = self.path(artifact, name)
        reading(path)
        try:
            with self._explained(artifact, path), open_regular(path) as file:
                self._compare(
                    artifact,
                    path,
                    f"{record.size} bytes",
                    f"{os.fstat(file.fileno()).st_size} bytes",
                )
                data = file.read(record.size)
            found = hashlib.sha256(data).hexdigest()
            self._compare(artifact, path, f"SHA-256 {record.sha256}", f"SHA-256 {found}")
        except (MissingArtifact, CorruptArtifact):
            if self._record(artifact, name) == record:
                raise
            return self.read(artifact, name)
        return data

    def verify_file(
        self, artifact: Artifact, name: str, advance: Callable[[int], None] = lambda size: None
    ) -> Path:
        """Hash a large file of a committed artifact against the manifest and return its path.

        One whose pieces are known to agree with the whole is hashed by these, side by side.

        Raises:
            MissingArtifact, CorruptArtifact: as :meth:`read`.
        """
        record = self._record(artifact, name)
        path = self.path(artifact, name)
        reading(path)
        try:
            with self._explained(artifact, path):
                size = path.lstat().st_size  # of another size, none of it is read
                if stat.S_ISREG(path.lstat().st_mode):
                    self._compare(artifact, path, f"{record.size} bytes", f"{size} bytes")
                told = Told(advance)
                if self.is_in_pieces(artifact, name, told):
                    return path
                told.take_back()
                found = hash_file(path, advance)
            self._compare(artifact, path, f"SHA-256 {record.sha256}", f"SHA-256 {found.sha256}")
        except (MissingArtifact, CorruptArtifact):
            if self._record(artifact, name) == record:
                raise
            return self.verify_file(artifact, name, advance)
        return path

    def is_in_pieces(
        self, artifact: Artifact, name: str, advance: Callable[[int], None] = lambda size: None
    ) -> bool:
        """Whether a large file has all the pieces that it was committed with, each hashed now; they
        must be known to agree with the whole (:meth:`agrees`). False: not, or that is not known.

        Raises:
            MissingArtifact, CorruptArtifact: as :meth:`pieces`.
            OSError: if it cannot be read.
        """
        if not self.agrees(artifact, self.manifest(artifact)):
            return False
        there = self.pieces(artifact).get(name)
        if not there:
            return False
        begins = [*(piece.begin for piece in there), there[-1].end]
        hashes = [piece.sha256 for piece in there]
        return is_made_of(self.path(artifact, name), begins, hashes, read_workers(), advance)

    def open_verified(
        self, artifact: Artifact, name: str, say: Say = silent
    ) -> tuple[Path, Callable[[int, int], None]]:
        """A large file of a committed artifact, and a function that verifies a part of it.

        The function takes the first byte and the end of what is about to be read. It hashes the
        pieces that hold it, where there are hashes of them, else the whole file, each once, and
        raises as :meth:`read` does.

        Raises:
            MissingArtifact, CorruptArtifact: as :meth:`read`.
        """
        record = self._record(artifact, name)
        path = self.path(artifact, name)
        reading(path)
        with self._explained(artifact, path), open_regular(path) as file:
            self._compare(
                artifact, path, f"{record.size} bytes", f"{os.fstat(file.fileno()).st_size} bytes"
            )
        there = self.pieces(artifact).get(name) or [Piece(name, 0, record.size, record.sha256)]
        begins, ends = [piece.begin for piece in there], [piece.end for piece in there]

        @cache
        def verify_once(piece: Piece) -> None:
            if not piece.place:
                self.verify_file(
                    artifact, name, Progress(f"verifying {name}", record.size, say).advance
                )
                return
            with self._explained(artifact, path), open_regular(path) as file:
                file.seek(piece.begin)
                found = Hasher().take(file, piece.end - piece.begin).record()
            what = f"{path}, bytes {piece.begin} to {piece.begin + found.size},"
            self._compare(artifact, what, f"SHA-256 {piece.sha256}", f"SHA-256 {found.sha256}")

        def verify(begin: int, end: int) -> None:
            for piece in there[bisect_right(ends, begin) : bisect_left(begins, end)]:
                verify_once(piece)

        return path, verify

    def pieces(self, artifact: Artifact) -> dict[str, list[Piece]]:
        """The pieces of each large file of a committed artifact, and their hashes.

        Empty where there are none, or where the manifest itself has them, as the version before
        wrote it: such a file is trusted after it was hashed as a whole.

        Raises:
            MissingArtifact, CorruptArtifact: as :meth:`read`, or where the pieces are not those of
                the artifact's files.
        """
        committed = self.manifest(artifact)
        record = committed.files.get(artifact.pieces)
        if record is None:
            return {}
        where = str(self.path(artifact, artifact.pieces))
        pieces.require_small(record, where)
        try:
            return pieces.parse(self.read(artifact, artifact.pieces), committed.files, where)
        except (MissingArtifact, CorruptArtifact):
            if self.manifest(artifact).files == committed.files:
                raise
            return self.pieces(artifact)

    def unread(self, artifact: Artifact, manifest: Manifest) -> list[str]:
        """The files that were written, replaced or linked since their bytes were last hashed, or
        are not there; see :mod:`wmtp_assets.storage.record`."""
        known = self._known(artifact, manifest)
        return [
            name
            for name in manifest.files
            if name not in known or sign(self.path(artifact, name)) != known[name]
        ]

    def edited(self, artifact: Artifact, manifest: Manifest) -> list[str]:
        """The files, the manifest too, that were edited in place since they were last read."""
        known = self._known(artifact, manifest)
        return [n for n, then in known.items() if is_edited(then, sign(self.path(artifact, n)))]

    def strays(
        self,
        artifact: Artifact,
        manifest: Manifest,
        unreadable: Callable[[OSError], None] = raise_it,
    ) -> list[str]:
        """Files among an artifact's own that neither the manifest knows nor training put there.

        Args:
            unreadable: gets the errors of folders that cannot be listed.
        """
        base = self.folder(artifact)
        there = sorted(path.relative_to(base).as_posix() for path in names_below(base, unreadable))
        return [
            name
            for name in there
            if artifact.is_owner(name)
            and name not in manifest.files
            and name != artifact.manifest
            and not artifact.is_guest(name)
        ]

    def sign(self, artifact: Artifact, names: Iterable[str]) -> dict[str, Sign]:
        """What files are like now; call it before they are hashed."""
        return sign_all(self.folder(artifact), names)

    def hashed(
        self,
        artifact: Artifact,
        manifest: Manifest,
        signed: Mapping[str, Sign],
        say: Say = silent,
        damaged: Collection[str] = (),
        *,
        agrees: bool = False,
    ) -> None:
        """Note that files have the committed bytes; say why where that cannot be written.

        Args:
            signed: what they were like before they were hashed, by :meth:`sign`.
            damaged: files that have other bytes, or are not there.
            agrees: as :meth:`agrees`, from now on.
        """
        agrees = agrees or self.agrees(artifact, manifest)
        known = {**self._known(artifact, manifest), **signed}
        names = (*manifest.files, artifact.manifest)
        right = (name for name in names if name in known and name not in damaged)
        files = {name: known[name] for name in right}
        try:
            content = manifest.content_sha256
            write_record(self._verified(artifact), content, files, agrees=agrees)
        except OSError as error:  # storage may be mounted for reading only
            say(f"{artifact.key}: that its files were read is not noted: {error}")

    def agrees(self, artifact: Artifact, manifest: Manifest) -> bool:
        """Whether the hashes of whole files and of their pieces were found to be of the same bytes,
        for exactly this content."""
        record = read_record(self._verified(artifact))
        return (
            record is not None
            and record.agrees
            and record.content_sha256 == manifest.content_sha256
        )

    def _known(self, artifact: Artifact, manifest: Manifest) -> Mapping[str, Sign]:
        record = read_record(self._verified(artifact))
        is_of_it = record is not None and record.content_sha256 == manifest.content_sha256
        return record.files if record is not None and is_of_it else {}

    def _verified(self, artifact: Artifact) -> Path:
        """Where what is known of verified bytes and rules is kept."""
        return self.settings.root / INTERNAL / "verified" / artifact.key

    def _record(self, artifact: Artifact, name: str) -> FileRecord:
        record = self.manifest(artifact).files.get(name)
        if record is None:
            raise MissingArtifact(
                f"{artifact.key} has no file {name}; make it again with: "
                f"{materialize_command(artifact.key)}"
            )
        return record

    def _compare(self, artifact: Artifact, what: object, expected: str, found: str) -> None:
        if found != expected:
            raise CorruptArtifact(
                f"{what} is damaged: {found}, but {artifact.key} was committed with "
                f"{expected}. Repair it with: {repair_command(artifact.key)}"
            )

    @contextmanager
    def _explained(self, artifact: Artifact, path: Path, missing: str = "") -> Iterator[None]:
        """Say what is wrong when the committed file at ``path`` is none; other errors pass."""
        again = f"repair it with: {repair_command(artifact.key)}"
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingArtifact(
                missing or f"{path} is missing, although {artifact.key} is committed; {again}"
            ) from error
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise MissingArtifact(
                    f"{path} was removed by another host while it was read; run this again"
                ) from error
            if error.errno not in _NOT_REGULAR:
                raise
            raise CorruptArtifact(
                f"{path} is a link, folder or device, but {artifact.key} was committed with a "
                f"regular file; {again}"
            ) from error

    # -- writing ---------------------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str, say: Say = silent, *, wait: bool = True) -> Iterator[None]:
        """Hold the lock ``name``; while another process holds it, say who, and wait.

        Args:
            wait: False: do not wait.

        Raises:
            LockHeld: if another process holds it and ``wait`` is False.
            LackingFilesystem: if the filesystem has no locks.
            StoreError: if the root cannot be written, or the lock not be given back.
            OSError: if the disk is full.
        """
        path = self.internal / "locks" / f"{name.replace('/', '--')}.lock"
        holder = path.with_suffix(".json")
        lock = make_lock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise LockHeld(f"{name} is {_describe_holder(holder)}") from None
            say(f"waiting for {name}: {_describe_holder(holder)}")
            lock.acquire()
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            if error.errno in NO_LOCKS:
                raise self._lacks([LOCKS]) from error
            raise self._refused(name, error) from error
        with ExitStack() as at_end:
            at_end.callback(give_back, lock)
            at_end.callback(_remove_if_possible, holder)
            who = {"pid": os.getpid(), "host": socket.gethostname(), "since": timestamp()}
            # it is for people; what cannot continue without a disk will say so
            try:
                replace_file(holder, json.dumps(who).encode())
            except OSError:
                _remove_if_possible(holder)  # it may name who held it before
            yield

    def claim(self) -> None:
        """Mark the root as belonging to the current source.

        Raises:
            StoreError: as :meth:`check_source`.
        """
        if not self.check_source():
            replace_file(self.internal / "source", f"{self.settings.source}\n".encode())

    def check_source(self) -> bool:
        """Whether the root is marked as belonging to the current source.

        Raises:
            WrongRoot: if it holds artifacts of the other source, or cannot be a folder.
            StoreError: if its mark cannot be read.
        """
        mark = self.internal / "source"
        try:
            owner = read_small(mark, _MAX_MARK).decode(errors="replace").strip()
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            if not _is_folder(self.root):
                raise WrongRoot(
                    f"{self.root} cannot be the storage root: {why}. Set "
                    f"{ROOT_VARIABLE} to a folder, or unset it"
                ) from error
            raise StoreError(
                f"{mark} cannot be read ({why}), so nobody knows which source {self.root} is of. "
                f"Mend it, or set {ROOT_VARIABLE} to another folder"
            ) from error
        if owner and owner != self.settings.source:
            raise WrongRoot(
                f"{self.root} holds artifacts of the source {owner!r}, but {SOURCE_VARIABLE} is "
                f"{self.settings.source!r}. The two never share a root: set {ROOT_VARIABLE} to "
                f"another folder, or unset it"
            )
        return bool(owner)

    def require_place(self, artifact: Artifact) -> None:
        """See that a commit of ``artifact`` may put its folder there, and that nothing else lies
        there: no link either, through which files would be made and removed elsewhere.

        Raises:
            WrongRoot: as :meth:`check_source`, or if the root is a link that leads nowhere.
            StoreError: naming what is in the way, or cannot be written.
        """
        self.check_source()
        above = self._above(artifact)
        inside = [self.internal / name / artifact.key for name in _OF_ARTIFACTS]
        ours = (*above, *self._internals(), *inside)
        taken = [(path, what, "") for path in ours if (what := self._is_no_folder(path))]
        copies = (self.root / name for name in artifact.copied)
        files = [(path, "a folder", "a file of ") for path in copies if _is_folder(path)]
        for path, what, part in [*taken, *files]:
            if path == self.root:
                raise WrongRoot(
                    f"{path} cannot be the storage root: it is {what}. Set {ROOT_VARIABLE} to a "
                    "folder, or unset it"
                )
            raise StoreError(
                f"{path} is {what}, and is in the way of {part}{artifact.key}. Nothing was "
                "changed; move it away, then run this again"
            )
        there = [path for path in above[:-1] if _is_folder(path)]
        if there and not os.access(there[-1], os.W_OK | os.X_OK):
            refusal = errno.EACCES, os.strerror(errno.EACCES), str(there[-1])
            raise self._refused(artifact.key, OSError(*refusal))

    def _internals(self) -> list[Path]:
        return [self.internal, *(self.internal / name for name in _INSIDE)]

    def _is_no_folder(self, path: Path) -> str:
        """What is in the place of a folder of the store; empty: one, or nothing."""
        if path.is_symlink():
            if not _is_folder(path):
                return "a link that leads to no folder"
            return "" if path == self.root else "a link"
        return "not a folder" if os.path.lexists(path) and not _is_folder(path) else ""

    def require_internals(self) -> None:
        """Refuse a link or a file in the place of ``.wmtp/`` and of the folders in it: what lies
        behind it is not ours.

        Raises:
            StoreError: naming it.
        """
        self._require_folders(self._internals())

    def require_own(self, artifact: Artifact) -> None:
        """Refuse a link or a file in the place of the artifact's folder, or of one above it.

        Raises:
            StoreError: naming it.
        """
        self._require_folders(self._above(artifact))

    def _above(self, artifact: Artifact) -> list[Path]:
        """The root, and what leads from there to the artifact's folder."""
        folder = PurePosixPath(artifact.base)
        return [self.root / path for path in reversed((folder, *folder.parents))]

    def write_at_root(self, name: str, data: bytes) -> None:
        """Write a small file that is in no artifact's folder, old or new.

        Args:
            name: relative to the root.

        Raises:
            StoreError: if one of its folders is a link or a file.
        """
        self._require_folders([self.root / path for path in PurePosixPath(name).parents])
        replace_file(self.root / name, data)

    def _require_folders(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if what := self._is_no_folder(path):
                raise StoreError(
                    f"{path} is {what}, and must be a folder: what lies behind it is not of this "
                    "storage root. Nothing was changed; move it away, then run this again"
                )

    def is_through_link(self, artifact: Artifact, name: str) -> bool:
        """Whether a folder below the artifact's, that a file should be in, is somewhere else."""
        folder = self.folder(artifact)
        return any((folder / parent).is_symlink() for parent in PurePosixPath(name).parents[:-1])

    def make_folder(self, artifact: Artifact, path: str) -> None:
        """Make an empty folder, relative to the root, that files of ``artifact`` will lie in.

        Raises:
            StoreError: as :meth:`require_place`, or if something else than a folder lies there.
        """
        with self._explained_refusal(artifact):
            self.require_place(artifact)
            self.claim()
            try:
                (self.root / path).mkdir(parents=True, exist_ok=True)
            except FileExistsError as error:
                raise StoreError(
                    f"{self.root / path} is not a folder, and is in the way of {artifact.key}; "
                    "move it away, then run this again"
                ) from error

    @contextmanager
    def stage(self, artifact: Artifact, say: Say = silent) -> Iterator[Staged]:
        """An empty staging folder for ``artifact``, under the artifact's lock.

        Whatever is still there at the end is removed: call :meth:`commit` inside.

        Raises:
            StoreError: if the disk is full or refuses (what is committed stays), something lies
                where a folder must be, the root belongs to the other source, it spreads over two
                filesystems, or the filesystem lacks what a commit needs.
        """
        with self._explained_refusal(artifact):
            self.require_place(artifact)
            self.claim()
            if lacks := lacking(self.internal):
                raise self._lacks(lacks)
            with self.lock(artifact.key, say):
                parent = self._staging(artifact)
                self.keep_replaced(artifact)
                self.discard(parent)
                # A name of its own: what is left of a killed run may still write for a moment.
                folder = parent / str(os.getpid()) / PurePosixPath(artifact.base).name
                try:
                    folder.mkdir(parents=True)
                    yield Staged(folder)
                finally:
                    self.keep_replaced(artifact)
                    self.discard(parent)

    def _staging(self, artifact: Artifact) -> Path:
        return self.internal / "staging" / artifact.key

    def keep_replaced(self, artifact: Artifact) -> None:
        """Keep what a commit replaced that was cut off before it could.

        Whoever calls this holds the lock of the artifact.

        Raises:
            OSError: if the disk refuses.
        """
        for mark in self._staging(artifact).glob(f"*/{REPLACED}"):
            old = mark.parent / PurePosixPath(artifact.base).name
            try:
                data = read_small(old / artifact.manifest)
                was = manifest.parse(data, str(old)) if data == read_small(mark) else None
            except (OSError, ValueError, CorruptArtifact):
                continue
            if was is not None and (committed := self.find_manifest(artifact)) is not None:
                is_same = was.content_sha256 == committed.content_sha256
                self._keep_previous(artifact, old, is_same)

    @contextmanager
    def _explained_refusal(self, artifact: Artifact) -> Iterator[None]:
        """Say what the disk refuses below the root; errors of another kind pass."""
        try:
            yield
        except OSError as error:
            where = error.filename
            is_elsewhere = isinstance(where, str | os.PathLike) and not Path(where).is_relative_to(
                self.root
            )
            if error.errno not in ({*DISK_FULL, errno.EXDEV} if is_elsewhere else _REFUSED):
                raise
            if error.errno == errno.EXDEV:
                raise StoreError(
                    f"{self.folder(artifact)} and {self.internal} are on two filesystems, so that "
                    f"no commit is atomic ({error}). Keep the storage root on one filesystem"
                ) from error
            raise self._refused(artifact.key, error) from error

    def _lacks(self, what: Collection[str]) -> LackingFilesystem:
        """The error for a root on a filesystem that lacks something."""
        return LackingFilesystem(
            f"the filesystem of {self.root} has no {' and no '.join(what)}, so no commit there is "
            "safe. Nothing was changed; keep the storage root on a local disk (ext4, xfs, btrfs "
            f"or APFS): export {ROOT_VARIABLE}=/path/on/it, and run this again. A folder there can "
            "still be published to: wmtp publish --to file://FOLDER"
        )

    def _refused(self, what: str, error: OSError) -> StoreError:
        """The error for a person whose disk refuses something."""
        if error.errno in DISK_FULL:
            there = next(path for path in (self.root, *self.root.parents) if path.exists())
            free = shutil.disk_usage(there).free
            return StoreError(
                f"no space left for {what} under {self.root} ({error}); {human_bytes(free)} free. "
                "What is committed is whole; free some space and run again"
            )
        return StoreError(
            f"{what} cannot be written under {self.root} ({error}). What is committed is as it "
            f"was; fix that, or set {ROOT_VARIABLE} to another folder, and run again"
        )

    def discard(self, folder: Path) -> None:
        """Remove a folder below the root, if it is there; of a link, the link.

        A client of NFS cannot remove a file that a process of its host has open, nor the folder
        that holds it. What cannot be removed is put into ``.wmtp/trash/``, until ``wmtp gc`` clears
        that.

        Raises:
            OSError: if the disk refuses that, too.
        """
        if folder.is_symlink():
            folder.unlink()
        if not folder.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            place = self.internal / "trash" / uuid.uuid4().hex
            place.parent.mkdir(exist_ok=True)
            folder.rename(place)

    def previous(self, artifact: Artifact) -> Path:
        """Where what an artifact was before its last commit is kept."""
        return self.internal / "previous" / artifact.key

    def scratch(self, artifact: Artifact) -> Path:
        """Where a builder keeps what it has done, for the next one if it is cut off."""
        return self.internal / "scratch" / artifact.key

    def commit(
        self,
        artifact: Artifact,
        staged: Staged,
        description: Document,
        say: Say = silent,
        created_at: str = "",
    ) -> Manifest:
        """Write the manifest and exchange the staging folder with the committed one.

        Args:
            created_at: when the content was first made; empty: now.

        Raises:
            ValueError: if a file was staged that belongs to another asset.
        """
        staged.write_pieces(artifact.pieces)
        for name in staged.files:
            if artifact.is_carried_over(name):
                raise ValueError(f"{artifact.key} does not own {name}")
        target = self.folder(artifact)
        with self._in_unit(artifact, say):
            try:
                previous = self.manifest(artifact)
            except (MissingArtifact, CorruptArtifact):
                previous = None
            before = previous.document if previous else {}
            kept = {
                key: before[key] for key in artifact.recorded if key in before.keys() & description
            }
            data = manifest.seal(
                {**description, **kept}, staged.files, created_at or timestamp(), previous
            )
            sealed = manifest.parse(data, str(self.manifest_path(artifact)))
            beside = (it for it in self.catalogue if it != artifact and _is_within(it, artifact))
            with self.linking(beside, say):
                if target.is_dir():
                    _carry_over(
                        artifact, target, staged.folder, previous.files if previous else (), say
                    )
                write_new(staged.folder / artifact.manifest, data)
                if previous is not None:
                    write_new(staged.folder.with_name(REPLACED), manifest.render(before))
                # here, where nobody else writes: a write to what is installed will show
                signed = sign_all(staged.folder, (*sealed.files, artifact.manifest))
                install(staged.folder, target)
                if staged.folder.is_dir():
                    is_same = previous is not None and (
                        previous.content_sha256 == sealed.content_sha256
                    )
                    self._keep_previous(artifact, staged.folder, is_same)
            now = self.sign(artifact, signed)
            linked = {name: it for name, it in now.items() if is_linked_only(signed[name], it)}
            self.hashed(artifact, sealed, linked, say)
        return sealed

    @contextmanager
    def linking(self, artifacts: Iterable[Artifact], say: Say = silent) -> Iterator[None]:
        """Inside, files of artifacts get and lose names, and none is written: what is known of
        their bytes stays known."""
        before: list[tuple[Artifact, Manifest, Mapping[str, Sign]]] = []
        for artifact in artifacts:
            if manifest := self.find_manifest(artifact):
                known = self._known(artifact, manifest)
                as_known = {n: it for n, it in known.items() if sign(self.path(artifact, n)) == it}
                before.append((artifact, manifest, as_known))
        yield
        for artifact, manifest, known in before:
            now = self.sign(artifact, known)
            linked = {name: it for name, it in now.items() if is_linked_only(known[name], it)}
            if linked != known:
                self.hashed(artifact, manifest, linked, say)

    def amend(self, artifact: Artifact, changes: Document) -> Manifest:
        """Replace keys of a committed manifest; the files stay as they are.

        Raises:
            MissingArtifact, CorruptArtifact: as :meth:`manifest`.
            StoreError: as :meth:`require_place`, or if the disk is full or refuses.
        """
        self.require_place(artifact)
        with self._explained_refusal(artifact), self._in_unit(artifact):
            data = manifest.amend(self.manifest(artifact), changes)
            amended = manifest.parse(data, str(self.manifest_path(artifact)))
            # not beside the manifest: there it would stay forever if this process were killed
            draft = self.internal / "amended" / artifact.key
            draft.parent.mkdir(exist_ok=True)
            draft.unlink(missing_ok=True)
            write_new(draft, data)
            draft.replace(self.manifest_path(artifact))
            fsync_folder(self.folder(artifact))
            self.hashed(artifact, amended, self.sign(artifact, [artifact.manifest]))
        return amended

    def replace_files(
        self, artifact: Artifact, staged: Staged, names: Collection[str], say: Say = silent
    ) -> Path | None:
        """Put staged files in the place of damaged ones; return where those are kept.

        A reader sees the damaged file or the whole one.

        Args:
            names: of staged files.

        Returns:
            None where nothing was in their places.
        """
        moment = timestamp().replace(":", "")
        kept = self.internal / "quarantine" / artifact.key / f"{moment}-{os.getpid()}"
        base = self.folder(artifact)
        with self._in_unit(artifact, say):
            for name in sorted(names):
                for parent in reversed(PurePosixPath(name).parents[:-1]):
                    if (base / parent).is_symlink() or not (base / parent).is_dir():
                        _set_aside(base / parent, kept / parent)
                        (base / parent).mkdir()
                _set_aside(base / name, kept / name, is_replaced=True)
                (staged.folder / name).replace(base / name)
                fsync_folder((base / name).parent)
        return kept if kept.exists() else None

    def remove(self, artifact: Artifact, files: Iterable[Path], folders: Iterable[Path]) -> None:
        """Remove what is of an artifact, in this order, and the folders that are empty then.

        Whoever calls this holds the locks of the artifact and of its unit.

        Args:
            files: below the root.
            folders: below ``.wmtp/``, with all that is in them.

        Raises:
            StoreError: if the disk refuses.
        """
        with self._explained_refusal(artifact):
            for folder in folders:
                self.discard(folder)
            for path in files:
                path.unlink(missing_ok=True)
                for parent in path.relative_to(self.root).parents[:-1]:
                    with suppress(OSError):
                        (self.root / parent).rmdir()

    def recover(self, artifact: Artifact, say: Say = silent) -> None:
        """Complete a commit in the artifact's unit that was cut off between two renames.

        Raises:
            StoreError: if the disk refuses.
        """
        with self._explained_refusal(artifact):
            if any(is_cut_off(folder) for folder in self._exchanged(artifact)):
                with self._in_unit(artifact, say):
                    pass

    @contextmanager
    def _in_unit(self, artifact: Artifact, say: Say = silent) -> Iterator[None]:
        """The lock of the artifact's unit, after a commit there that was cut off is completed."""
        with self.lock(artifact.unit, say):
            for folder in self._exchanged(artifact):
                recover(folder, self.discard)
            yield

    def _exchanged(self, artifact: Artifact) -> tuple[Path, Path]:
        """The folders whose exchange can take ``artifact`` away, outermost first."""
        return self.root / artifact.unit, self.folder(artifact)

    def _keep_previous(self, artifact: Artifact, old: Path, is_same: bool) -> None:
        """Keep what the artifact was; of the same content the committed copy is enough."""
        if is_same:
            shutil.rmtree(old, ignore_errors=True)  # what is left of it goes with the staging
            return
        drop_shared(old, self.folder(artifact))
        if not old.exists():
            return
        kept = self.previous(artifact)
        kept.parent.mkdir(parents=True, exist_ok=True)
        if kept.exists():
            kept.rename(old.with_name(f"{old.name}.before"))  # staging is removed at the end
        old.rename(kept)


def materialize_command(selection: str) -> str:
    """The command that makes ``selection``, to be shown to a person."""
    return f"dagster asset materialize --select '{selection}'"


def repair_command(selection: str) -> str:
    """The command that puts damaged files of ``selection`` right, to be shown to a person."""
    return f"wmtp repair {selection}"


def _remove_if_possible(path: Path) -> None:
    """Remove a note for people: what was done under the lock is done, whether it stays or not."""
    with suppress(OSError):
        path.unlink()


def _describe_holder(path: Path) -> str:
    try:
        who = parse_object(read_small(path))
        return f"held by process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "held by another process"


def _set_aside(path: Path, kept: Path, *, is_replaced: bool = False) -> None:
    """Keep what is at ``path``, if anything is, under another name.

    Args:
        is_replaced: a file's name stays, too, until another file takes it.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    if is_replaced and stat.S_ISREG(mode):
        os.link(path, kept)
    else:
        path.rename(kept)
    fsync_folder(kept.parent)


def _is_within(artifact: Artifact, other: Artifact) -> bool:
    """Whether the folder of an artifact is that of another one, or in it."""
    return artifact.base == other.base or artifact.base.startswith(f"{other.base}/")


def _files_below(folder: Path) -> Iterator[PurePosixPath]:
    """What :func:`names_below` finds, relative to ``folder``."""
    return (
        PurePosixPath(path.relative_to(folder).as_posix()) for path in names_below(folder, raise_it)
    )


def _carry_over(
    artifact: Artifact, source: Path, target: Path, made: Collection[str], say: Say
) -> None:
    """Hard-link everything in ``source`` that ``artifact`` did not make into ``target``.

    Folders of others are made there too.

    Args:
        made: the files of its last commit. What else lies in its own folders is somebody's file: it
            is kept and said, unless a new file has its name.
    """
    for folder, _, _ in os.walk(source):  # those of others too that are empty still
        path = PurePosixPath(Path(folder).relative_to(source).as_posix())
        if path.parts and path.parts[0] != artifact.manifest and not artifact.is_owner(str(path)):
            (target / path).mkdir(parents=True, exist_ok=True)
    for path in _files_below(source):
        is_foreign = artifact.is_carried_over(str(path))
        # below a folder in the manifest's place: that stays in what was before
        if path.parts[0] == artifact.manifest or (not is_foreign and str(path) in made):
            continue
        try:
            (target / path.parent).mkdir(parents=True, exist_ok=True)
            os.link(source / path, target / path, follow_symlinks=False)
        except (FileExistsError, NotADirectoryError):
            if is_foreign:
                raise
        else:
            if not is_foreign and not artifact.is_guest(str(path)):
                say(f"kept {path}, which is not a file of {artifact.key}; move it elsewhere")


def drop_shared(old: Path, current: Path) -> None:
    """Remove from ``old`` the names of files that ``current`` holds too, and empty folders."""
    for path in list(_files_below(old)):
        with suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat((old / path).lstat(), (current / path).lstat()):
                (old / path).unlink()
    for folder, _, _ in os.walk(old, topdown=False):
        if not any(Path(folder).iterdir()):
            Path(folder).rmdir()
