"""Reading with nothing but a path: what is handed out is what was hashed.

The manifest that lists a file is found in the folders above it, so that a copied or pulled folder
will do, without the graph. Bytes are read into private memory, hashed there, and handed out from
there: what happens to the file afterwards does not reach them.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.base.settings import read_workers
from wmtp_assets.catalogue.artifact import VALUE_HEAD, is_of_a_tool, pieces_name
from wmtp_assets.storage import manifest as manifests
from wmtp_assets.storage import pieces as pieces_file
from wmtp_assets.storage.files import BLOCK, names_below, open_regular, raise_it
from wmtp_assets.storage.manifest import FileRecord, Manifest
from wmtp_assets.storage.mounts import refresh
from wmtp_assets.storage.pieces import Piece
from wmtp_assets.storage.store import materialize_command, repair_command

TRIES = 3
"""How often a file that is committed anew while it is read is begun again."""
MAX_VALUE_HEAD = 64 << 20
"""Bytes of a value head, of which the manifest records the SHA-256 and not the size."""

T = TypeVar("T")
R = TypeVar("R")


def private(size: int) -> memoryview:
    """Memory of this process alone; the system has it back when nothing refers to it."""
    if size < BLOCK:
        return memoryview(bytearray(size))
    # without these flags it would be shared with the processes that are forked later
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


@dataclass(frozen=True)
class Listed:
    """A file that a manifest lists.

    Attributes:
        path: of the file.
        name: of the file, as the manifest lists it.
        record: its size and SHA-256.
        where: of the manifest.
    """

    path: Path
    name: str
    record: FileRecord
    where: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        """The artifact, for messages."""
        key = self.manifest.document.get("asset")
        if isinstance(key, str) and key.isascii() and key.replace("_", "").isalnum():
            return key
        return self.where.parent.name

    def refused(self, found: str, expected: str, place: str = "") -> CorruptArtifact:
        """The error of a damaged file."""
        return CorruptArtifact(
            f"{self.path}{place and f', {place},'} is damaged: {found}, but {self.key} was "
            f"committed with {expected}. Repair it with: {repair_command(self.key)}"
        )

    def beside(self, name: str) -> Listed | None:
        """Another file of the same manifest; None: it lists no such file."""
        record = self.manifest.files.get(name)
        path = self.where.parent / name
        return record and Listed(path, name, record, self.where, self.manifest)


Found = Manifest | CorruptArtifact


def _read_manifest(path: Path) -> Found:
    """A manifest, or why it is none."""
    try:
        with open_regular(path) as file:
            return manifests.parse(file.read(manifests.MAX_SIZE + 1), str(path))
    except CorruptArtifact as error:
        return error
    except OSError as error:
        return CorruptArtifact(f"{path}: the manifest cannot be read: {error.strerror}")


def _manifests_in(folder: Path) -> dict[Path, Found]:
    """What may be a manifest in a folder: ``metadata.json``, ``raw.metadata.json`` and the like."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return {}
    are = (path for path in paths if f".{path.name}".endswith(".metadata.json"))
    return {path: _read_manifest(path) for path in are}


def _listed_in(where: Path, manifest: Manifest) -> Iterator[Listed]:
    """Every file that a manifest lists, and a value head that it records."""
    for name, record in manifest.files.items():
        yield Listed(where.parent / name, name, record, where, manifest)
    head = manifest.document.get("value_head")
    if isinstance(head, dict) and head.get("path") == VALUE_HEAD:
        path = where.parent / VALUE_HEAD
        size = min(path.lstat().st_size, MAX_VALUE_HEAD) if os.path.lexists(path) else 0
        with suppress(ValueError):  # what was recorded is not a SHA-256
            record = FileRecord(size=size, sha256=head.get("sha256", ""))
            yield Listed(path, VALUE_HEAD, record, where, manifest)


def _agreed(listed: Iterable[Listed]) -> dict[Path, Listed]:
    """Path → the one entry about it.

    Raises:
        CorruptArtifact: where two manifests say different things about one file.
    """
    found: dict[Path, Listed] = {}
    for item in listed:
        other = found.setdefault(item.path, item)
        if other.record != item.record:
            raise CorruptArtifact(
                f"{item.path}: {other.where} and {item.where} contradict each other about it. Find "
                f"out more with: wmtp verify {other.key}"
            )
    return found


def _unlisted(path: Path, found: Mapping[Path, Found]) -> CorruptArtifact | MissingArtifact:
    """The error of a file that no manifest lists."""
    damaged = [error for error in found.values() if isinstance(error, CorruptArtifact)]
    intact = [str(where) for where, item in found.items() if isinstance(item, Manifest)]
    if damaged:
        return CorruptArtifact(
            f"{path} cannot be verified: {damaged[0]}. Repair it with: wmtp repair"
        )
    if intact:
        return CorruptArtifact(
            f"{path} cannot be verified: it is not a file of an artifact; {' and '.join(intact)} "
            "do not list it. Move it elsewhere, or read it without verification"
        )
    return MissingArtifact(
        f"{path} cannot be verified: there is no manifest (metadata.json, raw.metadata.json) in "
        "the folders above it. Copy the artifact's whole folder, or fetch it with: wmtp pull"
    )


def _plain(path: str | Path) -> Path:
    """The absolute path without ``..``; links stay: none may lead to another artifact.

    Links before a ``..`` are followed, as the system does: else the path would be another file's.
    """
    parts = Path(path).absolute().parts
    behind = next((i for i in range(len(parts), 0, -1) if parts[i - 1] == ".."), 0)
    return Path(os.path.realpath(Path(*parts[:behind])) if behind else "", *parts[behind:])


def find(path: str | Path) -> Listed:
    """The entry of the manifest that lists a file; manifests lie in the folders above it.

    Raises:
        MissingArtifact: if there is neither file nor manifest.
        CorruptArtifact: if no manifest lists it, the one that should is damaged, or two contradict
            each other.
    """
    path = _plain(path)
    refresh(path.parent)
    found: dict[Path, Found] = {}
    for folder in path.parents:
        found |= _manifests_in(folder)
    intact = ((where, item) for where, item in found.items() if isinstance(item, Manifest))
    every = (listed for where, item in intact for listed in _listed_in(where, item))
    entries = _agreed(listed for listed in every if listed.path == path)
    if path in entries:
        return entries[path]
    if not os.path.lexists(path):
        raise MissingArtifact(f"{path} does not exist; see what is there with: wmtp status")
    raise _unlisted(path, found)


class VerifiedFile:
    """A file that a manifest lists, open for reading; its pieces are compared as they are read.

    Attributes:
        listed: the manifest's entry.
        pieces: contiguous, all of the file; one where there are no hashes of pieces.
        whole: the file as one piece.
        state: device, inode, size and times that the file had when it was opened.

    Raises:
        MissingArtifact: if the file is not there.
        CorruptArtifact: if it is not a regular file or has another size, or its pieces are damaged.
    """

    def __init__(self, listed: Listed) -> None:
        self.listed = listed
        try:
            file = open_regular(listed.path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingArtifact(
                f"{listed.path} is missing, although {listed.key} is committed; repair it with: "
                f"{repair_command(listed.key)}"
            ) from error
        except OSError as error:
            raise listed.refused(str(error.strerror), "a regular file") from error
        self._descriptor = file.fileno()
        self.close = weakref.finalize(self, file.close)
        with self.closed_by_an_error():
            status = os.fstat(self._descriptor)
            self.state = _state(status)
            if status.st_size != listed.record.size:
                raise listed.refused(f"{status.st_size} bytes", f"{listed.record.size} bytes")
            self.whole = Piece(listed.name, 0, listed.record.size, listed.record.sha256)
            self.pieces = _pieces(listed)

    @contextmanager
    def closed_by_an_error(self) -> Iterator[VerifiedFile]:
        """Close the file if the block raises: the error's traceback would keep it open."""
        try:
            yield self
        except BaseException:
            self.close()
            raise

    def read(self, piece: Piece) -> memoryview:
        """The bytes of a piece, in memory of its own.

        Raises:
            CorruptArtifact: naming the piece, if they are not the committed ones.
        """
        into = private(piece_size(piece))
        self.compare(piece, into)
        return into

    def read_each(self, pieces: Sequence[Piece]) -> list[memoryview]:
        """The bytes of several pieces, in threads; as :meth:`read`."""
        return in_threads(self.read, pieces, piece_size)

    def read_whole(self) -> memoryview:
        """All bytes of the file, as :meth:`read`."""
        into = private(self.listed.record.size)

        def fill(piece: Piece) -> None:
            self.compare(piece, into[piece.begin : piece.end])

        in_threads(fill, self.pieces, piece_size)
        if self.pieces[1:] and (found := hashlib.sha256(into).hexdigest()) != self.whole.sha256:
            raise self._contradicted(found)
        return into

    def compare_whole(self) -> None:
        """Hash the whole file, where it has several pieces: they were compared.

        Raises:
            CorruptArtifact: if it has another SHA-256 than the manifest says, and so the hashes of
                its pieces contradict the manifest.
        """
        if self.pieces[1:] and (found := self._hash(self.whole)) != self.whole.sha256:
            raise self._contradicted(found)

    def _contradicted(self, found: str) -> CorruptArtifact:
        listed = self.listed
        return CorruptArtifact(
            f"{listed.path} has SHA-256 {found}, but {listed.key} was committed with SHA-256 "
            f"{listed.record.sha256}, although each piece is as committed: {listed.where} and the "
            f"hashes of pieces beside it contradict each other. Make them again with: "
            f"{materialize_command(listed.key)}"
        )

    def compare(self, piece: Piece, into: memoryview | None = None) -> None:
        """Hash a piece, in the memory that it is read into.

        Args:
            into: as large as the piece; None: nobody wants the bytes.

        Raises:
            CorruptArtifact: naming the piece, if they are not the committed ones.
        """
        found = self._hash(piece, into)
        if found == piece.sha256:
            return
        listed = self.listed
        if piece.place and self._hash(self.whole) == self.whole.sha256:
            raise CorruptArtifact(
                f"{listed.path} is as it was committed, but the hashes of its pieces beside "
                f"{listed.where} contradict it: {piece.place} has SHA-256 {found}, not "
                f"{piece.sha256}. Make them again with: {materialize_command(listed.key)}"
            )
        raise listed.refused(f"SHA-256 {found}", f"SHA-256 {piece.sha256}", piece.place)

    def _hash(self, piece: Piece, into: memoryview | None = None) -> str:
        digest = hashlib.sha256()
        block = memoryview(bytearray(BLOCK if into is None else 0))
        position = piece.begin
        while position < piece.end:
            done = position - piece.begin
            wanted = min(BLOCK, piece.end - position)
            view = block[:wanted] if into is None else into[done : done + wanted]
            try:
                count = os.preadv(self._descriptor, [view], position)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                raise MissingArtifact(
                    f"{self.listed.path} was removed by another host while it was read; run this "
                    "again"
                ) from error
            if not count:
                raise self.listed.refused(
                    f"{position} bytes, it was cut off while it was read",
                    f"{self.listed.record.size} bytes",
                )
            digest.update(view[:count])
            position += count
        return digest.hexdigest()


def piece_size(piece: Piece) -> int:
    """Bytes of a piece."""
    return piece.end - piece.begin


State = tuple[int, ...]


def _state(status: os.stat_result) -> State:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _pieces(listed: Listed) -> list[Piece]:
    """The pieces of a file."""
    whole = Piece(listed.name, 0, listed.record.size, listed.record.sha256)
    beside = listed.beside(pieces_name(listed.where.name))
    if beside is None or beside.name == listed.name:
        return [whole]
    pieces_file.require_small(beside.record, str(beside.path))
    with closing(VerifiedFile(beside)) as file:
        data = bytes(file.read_whole())
    return pieces_file.parse(data, listed.manifest.files, str(beside.path)).get(
        listed.name, [whole]
    )


def in_threads(do: Callable[[T], R], items: Sequence[T], size: Callable[[T], int]) -> list[R]:
    """What a function returns of each item, in a thread per CPU, the largest first.

    The first error ends it: what has not begun is not done.
    """
    with ThreadPoolExecutor(read_workers()) as pool:
        order = sorted(range(len(items)), key=lambda number: -size(items[number]))
        futures = {number: pool.submit(do, items[number]) for number in order}
        try:
            for done in wait(futures.values(), return_when=FIRST_EXCEPTION).done:
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return [futures[number].result() for number in range(len(items))]


def read_verified(path: str | Path, read: Callable[[VerifiedFile], T]) -> T:
    """What ``read`` returns of a file; begun again if it was committed while it was read.

    Raises:
        MissingArtifact, CorruptArtifact: as :func:`find` and :class:`VerifiedFile`.
    """

    def read_once(listed: Listed) -> T:
        with VerifiedFile(listed).closed_by_an_error() as file:
            return read(file)

    for _ in range(TRIES - 1):
        listed = find(path)
        try:
            return read_once(listed)
        except (MissingArtifact, CorruptArtifact):
            if find(path).manifest.files == listed.manifest.files:
                raise
    return read_once(find(path))


@contextmanager
def verified(path: str | Path) -> Iterator[Path]:
    """A folder of which every byte was verified in this process, for libraries that read files.

    ::

        with wmtp_assets.verified("storage/models_v2/micro-ref/safetensors") as folder:
            model = AutoModelForCausalLM.from_pretrained(folder)

    Every file below the folder is compared with the manifest that lists it, in threads; none may be
    missing, and none may be there that no manifest lists, apart from files of known tools
    (``model.sig``, ``.DS_Store``). At the end of the block the files are looked at once more: one
    that was changed, replaced, added or removed since (another size, time or inode) is hashed
    again.

    The library reads the files itself. So a change that was taken back before the end of the block,
    with the file's times, is not seen; and what the library has mapped into memory, as safetensors
    does, follows changes of the file after the block, too. :func:`wmtp_assets.load_state_dict` and
    :func:`wmtp_assets.open_jsonl` with ``verify=True`` have neither gap: they hand out the memory
    that was hashed.

    Args:
        path: a folder of an artifact, such as ``models_v2/micro-ref`` or its ``safetensors/``; or a
            single file.

    Yields:
        The absolute path.

    Raises:
        MissingArtifact: if there is no such folder, no manifest, or a file is missing.
        CorruptArtifact: naming the file and the piece: a tensor, or a range of bytes; at the end of
            the block, if other bytes lie there than at its beginning.
    """
    path = _plain(path)
    hashes, states = _verify_below(path)
    yield path
    if _states_below(path) == states:
        return
    if _verify_below(path)[0] != hashes:
        raise CorruptArtifact(
            f"{path} was committed anew while it was read: what was loaded may be of two versions. "
            "Load it again"
        )


def _files_below(path: Path) -> set[Path]:
    """Every file below a folder, or the file itself, without those of known tools."""
    below = names_below(path, raise_it) if path.is_dir() else [path]
    return {file for file in below if not is_of_a_tool(file.relative_to(path.parent).as_posix())}


def _states_below(path: Path) -> dict[Path, State]:
    """What the system says of each file below a folder; empty where one vanishes."""
    try:
        return {file: _state(file.lstat()) for file in _files_below(path)}
    except OSError:
        return {}


def _verify_below(path: Path) -> tuple[dict[Path, str], dict[Path, State]]:
    """The SHA-256 of every file below a folder, and its state, after it was compared."""
    for _ in range(TRIES - 1):
        listed = _listed_below(path)
        try:
            return _verify(path, listed)
        except (MissingArtifact, CorruptArtifact):
            if _records(_listed_below(path)) == _records(listed):
                raise
    return _verify(path, _listed_below(path))


def _records(listed: Mapping[Path, Listed]) -> dict[Path, FileRecord]:
    return {path: item.record for path, item in listed.items()}


def _listed_below(path: Path) -> dict[Path, Listed]:
    """What the manifests above and below list of a folder.

    Raises:
        MissingArtifact, CorruptArtifact: as :func:`find`, for a file that none lists.
    """
    refresh(path)
    if not os.path.lexists(path):
        raise MissingArtifact(f"{path} does not exist; see what is there with: wmtp status")
    below = _files_below(path)
    found: dict[Path, Found] = {}
    folders = {*path.parents, *(parent for file in below for parent in file.parents)}
    for folder in sorted(folders, reverse=True):  # the nearest first, as find() does
        found |= _manifests_in(folder)
    intact = {where: item for where, item in found.items() if isinstance(item, Manifest)}
    every = (listed for where, item in intact.items() for listed in _listed_in(where, item))
    entries = _agreed(item for item in every if item.path == path or path in item.path.parents)
    for file in sorted(below - entries.keys() - intact.keys()):
        raise _unlisted(
            file, {where: found[where] for where in found if where.parent in file.parents}
        )
    return entries


def _verify(path: Path, listed: Mapping[Path, Listed]) -> tuple[dict[Path, str], dict[Path, State]]:
    """Compare every listed file below a folder with its manifest."""
    with ExitStack() as opened:
        files = [opened.enter_context(closing(VerifiedFile(item))) for item in listed.values()]
        work = [(file, piece) for file in files for piece in file.pieces]
        in_threads(lambda item: item[0].compare(item[1]), work, lambda item: piece_size(item[1]))
        in_threads(VerifiedFile.compare_whole, files, lambda file: piece_size(file.whole))
        # of a file that was written to while it was hashed, the state is the one from before
        states = _states_below(path) | {file.listed.path: file.state for file in files}
    return {path: item.record.sha256 for path, item in listed.items()}, states
