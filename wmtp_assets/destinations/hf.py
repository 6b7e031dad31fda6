"""A repository on the Hugging Face Hub as a destination: one folder of the storage, one commit.

The files lie at the root of the repository, without the two folders that they have below the
storage root, so that the hub shows the card and finds what it describes. ``MANIFEST.json`` is part
of the commit, and names them as everywhere; so are signatures, and the release where it is named.
The branch is looked up once: everything is read at that commit, and what is published follows it or
is refused.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from wmtp_assets.base.errors import PublishError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import SIGNATURES, SMALL
from wmtp_assets.destinations.destination import (
    FOLDER,
    ORDINARY,
    Access,
    Advance,
    Audience,
    Destination,
    How,
    Location,
    NotThere,
    Units,
    is_read_as,
)
from wmtp_assets.destinations.listing import MANIFEST, Outgoing, Reading, SentFile
from wmtp_assets.hub.commits import Entry, Head, Lost, Missing, RemoteBranch, RepoType
from wmtp_assets.hub.endpoint import hub_endpoint
from wmtp_assets.hub.remote import MAIN, is_commit
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.record import is_linked_only, sign
from wmtp_assets.storage.store import Store

FORM = "hf://models/owner/name[@branch]"

REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")
"""Owner and name, and a branch, tag or commit."""

FOLDERS = {"models_v2": ("models",), "datasets_v2": ("datasets",), SMALL: ("models", "datasets")}
"""Folder below the storage root → the types of repository that its folders may be published to."""


AT_ROOT = (MANIFEST, f"{SIGNATURES}/", "RELEASE.json", "docs/RELEASE.")
"""How paths begin that are the same below the storage root and in a repository."""


class HuggingFace(Destination):
    """A branch of a repository. Nothing is visible before the commit, which names everything.

    Args:
        remote: the branch.
        create: it may be made, private.
    """

    streams = 4
    largest = 500 * 10**9
    is_atomic = True

    def __init__(self, remote: RemoteBranch, types: str, *, create: bool = False) -> None:
        self.name = remote.name
        self.key = f"{remote.endpoint.url} {remote.name}"
        self._remote, self._types, self._create = remote, types, create
        self._outgoing: dict[str, Outgoing] = {}
        self._staged: dict[str, Any] = {}
        self._accompanying: dict[str, bytes] = {}
        self._deleted: list[str] = []
        self._unit = ""
        self._lock = threading.Lock()
        self._seen: tuple[Head | None, Mapping[str, Entry]] | None = None

    def _look(self) -> tuple[Head | None, Mapping[str, Entry]]:
        """Where the branch was when it was asked for first, None if it will be made; and what lies
        there, by its path in the repository."""
        with self._lock:
            if self._seen is None:
                self._seen = self._ask()
            return self._seen

    def _ask(self) -> tuple[Head | None, Mapping[str, Entry]]:
        try:
            head = self._remote.head()
        except Missing:
            if self._create:
                return None, {}
            raise
        return head, self._remote.tree(head.commit)

    def expect(self, files: Mapping[str, Outgoing], staying: Collection[str]) -> None:
        inside = [path for path in staying if not _is_at_root(path)]
        units = {"/".join(path.split("/")[:2]) if path.count("/") > 1 else "" for path in inside}
        units = units or {""}
        tops = {unit.split("/")[0] for unit in units}
        if len(units) != 1 or not tops <= FOLDERS.keys():
            found = ", ".join(sorted(unit or "files at the root" for unit in units))
            raise PublishError(
                f"{self.name} is one repository, and takes one folder of the storage, such as "
                f"micro-mtp or mbpp; these are {found}. Nothing was sent. Name one, or publish "
                f"each to a repository of its own: --to 'hf://{self._types}/owner/{FOLDER}'"
            )
        (top,) = tops
        if self._types not in FOLDERS[top]:
            raise PublishError(
                f"{self.name} is a repository of {self._types}, and these are files of {top}/. "
                f"Nothing was sent; publish them to hf://{FOLDERS[top][0]}/{self._remote.repo_id}"
            )
        (self._unit,) = units
        self._outgoing = dict(files)

    @staticmethod
    def _inside(path: str) -> str:
        """The path in the repository of a file."""
        return path if _is_at_root(path) else "/".join(path.split("/")[2:])

    def audience(self) -> Audience:
        head, _ = self._look()
        return Audience(head is not None and head.is_public, self._remote.is_own())

    def accompany(self, files: Mapping[str, bytes]) -> None:
        self._accompanying = dict(files)

    # -- reading -----------------------------------------------------------------------------------

    def names(self, paths: Collection[str] = ()) -> Mapping[str, int]:
        with_folder = {
            path if _is_at_root(path) else f"{self._unit}/{path}": entry.size
            for path, entry in self._look()[1].items()
        }
        # a file that only accompanies ours is written anew with each commit
        return {p: size for p, size in with_folder.items() if self._inside(p) not in ACCOMPANYING}

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        (head, entries), inside = self._look(), self._inside(path)
        if head is None or inside not in entries:
            raise NotThere(f"{self.name} has no {inside}")
        try:
            yield from self._remote.read(inside, head.commit, start)
        except Missing as error:
            raise NotThere(str(error)) from error

    def is_same(
        self, path: str, file: SentFile, how: How, advance: Advance = lambda size: None
    ) -> bool:
        return self._is(path, file.record, how, advance)

    def holds(self, file: Outgoing, advance: Advance = lambda size: None) -> bool:
        return self._is(file.path, file.record, "hash", advance)

    def _is(self, path: str, record: FileRecord, how: How, advance: Advance) -> bool:
        entry = self._look()[1].get(self._inside(path))
        if entry is None or entry.size != record.size:
            return False
        local = self._outgoing.get(path)
        if how == "full" or (how != "size" and not entry.sha256 and local is None):
            return is_read_as(self, path, record, advance)
        advance(record.size)
        if how == "size":
            return True
        if entry.sha256:
            return entry.sha256 == record.sha256
        return local is not None and local.record == record and entry.blob_id == _blob_id(local)

    # -- writing -----------------------------------------------------------------------------------

    def prepare(self, size: int, say: Say = silent) -> None:
        if is_commit(self._remote.revision):
            raise PublishError(
                f"{self.name} names a commit, which never changes: name a branch, or none"
            )
        if self._look()[0] is None:
            self._remote.create()
            say(f"{self.name}: there is such a repository now, and it is private if it is new")
            self._seen = self._ask()
        self._remote.require_write()

    def stage(self, file: Outgoing, advance: Advance, found: Advance) -> SentFile:
        before = sign(file.local)
        sent = Reading(file).describe()
        try:
            self._staged[file.path] = self._remote.send(
                self._inside(file.path), file.local, file.record
            )
        finally:
            now = sign(file.local)
            if before is None or not is_linked_only(before, now):
                raise PublishError(
                    f"{file.local} was written to while it was sent. Nothing was published; run "
                    "again"
                )
            if now != before:  # it was linked or unlinked, or written and its time put back
                Reading(file).describe()
        self.payload += file.record.size
        advance(file.record.size)
        return sent

    def commit(self, units: Units, ours: Collection[str]) -> None:
        """Nothing yet: :meth:`write_manifest` makes the commit."""

    def is_placed(
        self, path: str, file: SentFile, how: How, advance: Advance = lambda size: None
    ) -> bool:
        """True: the file gets its name with ``MANIFEST.json``, and is compared then."""
        advance(file.size)
        return True

    def write_manifest(self, data: bytes) -> None:
        head, _ = self._look()
        if head is None:
            raise PublishError(f"{self.name}: there is no such repository. Run again")
        written = {**self._accompanying, MANIFEST: data}
        try:
            commit = self._remote.commit(
                [*self._staged.values()],
                written,
                [self._inside(path) for path in self._deleted],
                head.commit,
                f"wmtp publish: {self._unit.rpartition('/')[2] or 'no file'}",
            )
        except Lost:
            commit = self._committed(data)
        self._staged, self._deleted = {}, []
        self._seen = Head(commit, head.is_public), self._remote.tree(commit)

    def _committed(self, data: bytes) -> str:
        """The commit whose answer was lost.

        Raises:
            PublishError: if it was not made.
        """
        head = self._remote.head()
        try:
            is_ours = b"".join(self._remote.read(MANIFEST, head.commit)) == data
        except Missing:
            is_ours = False
        if not is_ours:
            raise PublishError(
                f"{self.name}: the connection was lost while the commit was made, and it was not. "
                "Nothing was published; what was sent is kept: run again"
            )
        return head.commit

    def delete(self, path: str) -> None:
        self._deleted.append(path)

    def finish(self, paths: Collection[str]) -> None:
        """Nothing is kept here."""


ACCOMPANYING = ("LICENSE", "NOTICE", ".gitattributes")
"""Files of the repository that are no artifact's: written with each commit, or the hub's."""


def _is_at_root(path: str) -> bool:
    """Whether a file has the same path in the storage and in the repository: no folder of a model
    or dataset has one of these names."""
    return path.startswith(AT_ROOT)


def _blob_id(file: Outgoing) -> str:
    """Git's SHA-1 of a file that the hub keeps in git, which is small.

    Raises:
        PublishError: if the bytes are others than were committed.
    """
    hasher = hashlib.sha1(b"blob %d\0" % file.record.size, usedforsecurity=False)
    for _, data, _ in Reading(file).parts():
        hasher.update(data)
    return hasher.hexdigest()


def problem(location: Location) -> str:
    """What a URL of this scheme lacks; empty: nothing."""
    if location.host not in ("models", "datasets"):
        return "names neither models nor datasets"
    return "" if REPOSITORY.fullmatch(location.path) else "names no repository as owner/name"


def connect(store: Store, location: Location, access: Access = ORDINARY) -> HuggingFace:
    """The destination ``hf://models/owner/name`` or ``hf://datasets/owner/name``, at the hub that
    ``HF_ENDPOINT`` names, with the token of the environment or of ``hf auth login``.

    Raises:
        SpecError: as :func:`wmtp_assets.hub.endpoint.hub_endpoint`.
    """
    match = REPOSITORY.fullmatch(location.path)
    assert match, location
    types: dict[str, RepoType] = {f"{name}s": name for name in get_args(RepoType)}
    remote = RemoteBranch(
        hub_endpoint(), types[location.host], match[1], match[2] or MAIN, str(location)
    )
    return HuggingFace(remote, location.host, create=access.create)
