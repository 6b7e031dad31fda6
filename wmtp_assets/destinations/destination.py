"""Where a storage tree is published: the URLs of ``--to`` and ``--from``, and what each can do.

A scheme is the module of this folder that has its name and says a :attr:`Scheme.FORM`; nothing
lists them. docs/adding-a-destination.md adds one.

A publication has two phases. While it is *staged*, payload is sent to where no reader sees it;
what fails then leaves the destination as it was. When all of it is there, the files are *committed*
to their places, which moves no payload, and ``MANIFEST.json`` last.
"""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast
from urllib.parse import unquote, urlsplit

from wmtp_assets.base.errors import PublishError, SpecError
from wmtp_assets.base.model import relative_path
from wmtp_assets.base.progress import Progress, Say, silent
from wmtp_assets.catalogue.artifact import SIGNATURES, TOP_FOLDERS
from wmtp_assets.destinations.listing import MANIFEST, Outgoing, SentFile
from wmtp_assets.storage.files import Hasher
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer.arrival import Interrupted, complete
from wmtp_assets.transfer.places import Advance

How = Literal["size", "stated", "hash", "full"]
"""How a published file is compared: by its size; by the hash too that the destination keeps, if it
does; by that, else by its bytes; by its bytes."""

STALE = 7 * 24 * 3600
"""Seconds after which what an interrupted publication left, and nobody resumed, is removed by
the next one."""


READINGS = 3
"""Readings of a file in a row that brought nothing new, before it is given up."""

QUIET = 2.0
"""Seconds of a comparison before it says how far it is."""

FOLDER = "{folder}"
"""Stands in a URL for the name of each folder that is published."""

SIDE_BY_SIDE = 8
"""Files that are put in their places, or compared, at the same time."""

OURS = frozenset(
    name.casefold() for name in (*TOP_FOLDERS, SIGNATURES, MANIFEST, "README.md", "RELEASE.json")
)

"""Folders and files at the root of a destination that are ours, or differ from ours only in case;
what is in other folders, however much that is, need not be listed."""

Units = Mapping[str, Mapping[str, SentFile]]
"""Folder whose files belong together → path → file of it that was staged; the folder ``""`` has
those that lie at the root."""


@dataclass(frozen=True)
class Audience:
    """Who can read what is published, where that is known.

    Attributes:
        is_public: everybody.
        is_own: the place is of the account that publishes.
    """

    is_public: bool
    is_own: bool


class NotThere(PublishError):
    """The destination has no file of this name."""


class Stopped(PublishError):
    """Another file, or another part, failed; that error says why."""


class Destination(ABC):
    """Where a tree is published; what is one inherits from it.

    All methods raise :class:`PublishError` where the destination refuses.

    Attributes:
        name: its URL, for people; no secrets.
        key: what it is, in full: equal ones are one place.
        streams: files that are staged side by side.
        payload: bytes of files that were sent.
        largest: bytes of one file that it takes.
        is_atomic: ``MANIFEST.json`` and the files get their names in one step.
    """

    name: str
    key: str
    streams: int
    payload: int = 0
    largest: int
    is_atomic: bool = False
    _is_stopped = False

    def expect(self, files: Mapping[str, Outgoing], staying: Collection[str]) -> None:
        """Told before anything is compared what will lie there.

        Args:
            files: path → file that is published now.
            staying: paths of all files that will be published.

        Raises:
            PublishError: if they cannot be published there together.
        """
        return

    def audience(self) -> Audience | None:
        """Who can read what is published; None: the destination cannot tell."""
        return None

    def accompany(self, files: Mapping[str, bytes]) -> None:
        """Told which small files, of no artifact, come with what is published: path → bytes."""
        return

    @abstractmethod
    def names(self, paths: Collection[str] = ()) -> Mapping[str, int]:
        """Path → bytes of what lies there, published or not, ours or not, that may be in our
        way.

        Args:
            paths: ours; what lies on the way to them must be readable.
        """

    @abstractmethod
    def holds(self, file: Outgoing, advance: Advance = lambda size: None) -> bool:
        """Whether exactly these bytes lie in the file's place, whoever put them there.

        Args:
            advance: as of :meth:`is_same`.
        """

    @abstractmethod
    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The bytes of a file from ``start`` on.

        Raises:
            NotThere: if there is none.
        """

    @abstractmethod
    def is_same(
        self, path: str, file: SentFile, how: How, advance: Advance = lambda size: None
    ) -> bool:
        """Whether the file that is at ``path`` is the given one.

        Args:
            advance: told the bytes as they are compared, all at once where they are not read; in
                sum the file's size if it is the same.
        """

    @abstractmethod
    def prepare(self, size: int, say: Say = silent) -> None:
        """Require that ``size`` bytes more may be written, before the first of them is sent; remove
        what we left more than :data:`STALE` seconds ago. Called under the lock of the destination:
        what is remembered of it is read here.

        Args:
            say: told what the destination lacks of what is promised.
        """

    @abstractmethod
    def stage(self, file: Outgoing, advance: Advance, found: Advance) -> SentFile:
        """Send what is missing of a file to where no reader sees it; may run in several threads.

        Args:
            advance: told the bytes that were sent.
            found: told the bytes that were there already.
        """

    def stop(self) -> None:
        """Let the calls of :meth:`stage` that run elsewhere end soon."""
        self._is_stopped = True

    def hold(self) -> AbstractContextManager[None]:
        """Keep others from giving names at the same time, where the destination can; raises
        :class:`PublishError` where somebody else does so now."""
        return nullcontext()

    def is_staged(self, path: str, file: SentFile, advance: Advance = lambda size: None) -> bool:
        """Whether what was staged is the given file, before any file gets its name; True where the
        destination compared every part with its hash. May run in several threads."""
        advance(file.size)
        return True

    @abstractmethod
    def commit(self, units: Units, ours: Collection[str]) -> None:
        """Put the staged files in their places: those of a unit in one step where the destination
        can, else what describes others behind the others.

        Args:
            ours: paths of all files that are ours: published, or not any longer.
        """

    def is_placed(
        self, path: str, file: SentFile, how: How, advance: Advance = lambda size: None
    ) -> bool:
        """Whether a file that was just put in its place is the given one; where naming moves what
        :meth:`is_staged` read, that is compared by its size, else by its hash at least."""
        return self.is_same(path, file, "full" if how == "full" else "hash", advance)

    @abstractmethod
    def write_manifest(self, data: bytes) -> None:
        """Put ``MANIFEST.json`` in its place, and make all before it durable; where the destination
        can tell, only if it is still the one that was read last."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def finish(self, paths: Collection[str]) -> None:
        """Forget what was kept to resume these files: they are published. What cannot be
        tidied up now is left to the next publication."""


def read_rest(destination: Destination, path: str, start: int, size: int) -> Iterator[bytes]:
    """The bytes of a file of ``size`` bytes from ``start`` on, and none behind them.

    Raises:
        NotThere: if there is none.
        Interrupted: if the reading is cut off.
    """
    try:
        for block in destination.read(path, start):
            taken = block[: size - start]
            start += len(taken)
            yield taken
            if start == size:
                return
        raise PublishError(f"{path} ends at {destination.name} after {start} of {size} bytes")
    except NotThere:
        raise
    except PublishError as error:
        raise Interrupted(str(error), error) from error


def is_read_as(
    destination: Destination, path: str, record: FileRecord, advance: Advance = lambda size: None
) -> bool:
    """Whether a file of this size, read back, has these bytes; False where there is none.

    Args:
        advance: told the bytes as they are read.
    """
    hasher = Hasher()

    def read() -> None:
        for block in read_rest(destination, path, hasher.size, record.size):
            hasher.update(memoryview(block))
            advance(len(block))

    try:
        complete(path, record.size, lambda: hasher.size, read, READINGS)
    except NotThere:
        return False
    return hasher.record() == record


def comparing(name: str, files: Iterable[FileRecord], say: Say) -> Advance:
    """What is told the bytes that were compared, and says how far that is where it takes long."""
    return Progress(name, sum(file.size for file in files), say, quiet=QUIET).advance


def describing_last(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """The files that hold something, and those that describe them: manifests, cards, documents."""
    describing = {path for path in paths if path.endswith(".json") or "/" not in path}
    return sorted(set(paths) - describing), sorted(describing)


def each(one: Callable[[str], None], paths: Iterable[str]) -> None:
    """Call ``one`` with every path, :data:`SIDE_BY_SIDE` at a time; raise what the first raises."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        list(pool.map(one, sorted(paths)))


@dataclass(frozen=True)
class Location:
    """A parsed URL; it holds no secrets.

    Attributes:
        host: what is before the path: the bucket of ``s3``; may be empty.
        path: without slashes at its ends; may be empty.
    """

    scheme: str
    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}" + f"/{self.path}" * (not self.host or bool(self.path))


@dataclass(frozen=True)
class Access:
    """How a destination is opened.

    Attributes:
        endpoint_url: of a server of objects; None: the one that the environment or profile names.
        is_read: nothing will be written.
        create: what the URL names may be made, where it is a repository or branch that is missing.
    """

    endpoint_url: str | None = None
    is_read: bool = False
    create: bool = False


ORDINARY = Access()


class Scheme(Protocol):
    """What a module of this folder that is a destination has.

    Attributes:
        FORM: what its URLs look like, for people.
    """

    FORM: str

    def problem(self, location: Location) -> str:
        """What a URL of this scheme lacks, as in ``names no bucket``; empty: nothing."""
        ...

    def connect(
        self,
        store: Store,
        location: Location,
        access: Access = ORDINARY,
    ) -> Destination:
        """The destination; nothing is sent or asked yet.

        Args:
            store: of what is published; there it is remembered how far uploads are.
        """
        ...


@cache
def schemes() -> Mapping[str, Scheme]:
    """Scheme → its module."""
    names = sorted(found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = {name: import_module(f"{__package__}.{name}") for name in names}
    return {n: cast("Scheme", module) for n, module in modules.items() if hasattr(module, "FORM")}


def forms() -> str:
    """What the URLs of all schemes look like."""
    return ", ".join(scheme.FORM for scheme in schemes().values())


def parse_url(url: str) -> Location:
    """The location that a URL means.

    Raises:
        SpecError: for an unknown scheme, a malformed host or path, a user name or a query:
            credentials do not belong into a URL, which is shown in logs and in the shell's history.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SpecError(f"that is not a URL ({error}); use one of: {forms()}") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SpecError(
            "a destination has no user name, password, query or fragment: credentials come from "
            f"the environment or a profile; use one of: {forms()}"
        )
    scheme = schemes().get(parts.scheme)
    if scheme is None:
        shown = f"{parts.scheme}://" if parts.scheme else repr(url)
        raise SpecError(f"{shown} is not a known destination; use one of: {forms()}")
    path = unquote(parts.path)
    plain = path.strip("/")
    try:
        location = Location(parts.scheme, parts.netloc, relative_path(plain) if plain else "")
    except ValueError as error:
        raise SpecError(f"{url!r}: {error}; use one of: {forms()}") from error
    is_relative = not (location.host or path.startswith("/"))
    if problem := scheme.problem(location) or "names no absolute path" * is_relative:
        raise SpecError(f"{url!r} {problem}; write {scheme.FORM}")
    return location


def open_destination(store: Store, url: str, access: Access = ORDINARY) -> Destination:
    """Open the destination ``url``; nothing is sent or asked yet.

    Args:
        store: of what is published.

    Raises:
        SpecError: for a URL that is none, a folder in the storage root, or an endpoint that is not
            https.
        PublishError: if there are no credentials, or a library is missing.
    """
    location = parse_url(url)
    return schemes()[location.scheme].connect(store, location, access)
