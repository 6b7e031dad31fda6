"""Hostile files: what they are, and through which door of the platform each comes in.

A hostile file is a function that writes it; its docstring says what it attacks. The file is never
committed: the hashes of the manifest around it are right, so that only the parser stands before it.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_in_child
from wmtp_assets.storage import manifest
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import Store

HASHED = 256 << 20
"""Bytes of a file that is hashed for its manifest; a sparse one may be of terabytes."""


@dataclass(frozen=True)
class Door:
    """A way in.

    Attributes:
        name: for people.
        make: makes a good store below a folder.
        key: artifact that the file belongs to.
        file: its name there.
        enter: reads it in the child process, in one step or more; what each says against it.
    """

    name: str
    make: Callable[[Path], Store]
    key: str
    file: str
    enter: Callable[[Store], Iterator[list[str]]]

    def path(self, store: Store) -> Path:
        """Where the file lies."""
        return store.path(store.catalogue[self.key], self.file)

    def at(self, file: str) -> Door:
        """The same door for another file."""
        return Door(f"{self.name} {file}", self.make, self.key, file, self.enter)


Write = Callable[[Path], None]
"""Puts something hostile in the place of a good file, a copy of which is there."""


@dataclass(frozen=True)
class Hostile:
    """A hostile file.

    Attributes:
        door: where it comes in.
        write: makes it.
        said: a regular expression that is found in what is said about it.
    """

    door: Door
    write: Write
    said: str

    def __str__(self) -> str:
        return f"{self.door.name}: {self.write.__name__}"


CORPUS: list[Hostile] = []


def hostile(
    door: Door, said: str
) -> Callable[[Callable[[bytes], bytes]], Callable[[bytes], bytes]]:
    """Add a file to the corpus; what is decorated takes the good file's bytes."""

    def add(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        def write(path: Path) -> None:
            path.write_bytes(change(path.read_bytes()))

        write.__name__ = change.__name__
        CORPUS.append(Hostile(door, write, said))
        return change

    return add


def hostile_node(*doors: Door, said: str) -> Callable[[Write], Write]:
    """Add something to the corpus that is more or less than bytes; it takes the path."""

    def add(write: Write) -> Write:
        CORPUS.extend(Hostile(door, write, said) for door in doors)
        return write

    return add


def seal(store: Store, artifact: Artifact, name: str) -> None:
    """Give the manifest the size and hash that a file has now."""
    status = store.path(artifact, name).lstat()
    if name == artifact.manifest or not stat.S_ISREG(status.st_mode):
        return
    old = store.manifest(artifact)
    record = FileRecord(size=status.st_size, sha256="0" * 64)
    if status.st_size < HASHED:
        record = hash_file(store.path(artifact, name))
    document = {**old.document}
    for key in ("manifest", "self_sha256", "created_at"):
        del document[key]
    roles = [role for role, path in document.get("files", {}).items() if path == name]
    if roles:
        document["sha256"] = {**document["sha256"], **dict.fromkeys(roles, record.sha256)}
    path = store.manifest_path(artifact)
    path.unlink()
    files = {**old.files, name: record}
    path.write_bytes(manifest.seal(document, files, old.document["created_at"], None))


def materializing(*keys: str) -> Callable[[Store], Iterator[list[str]]]:
    """Make artifacts from what may be hostile."""

    def enter(store: Store) -> Iterator[list[str]]:
        for key in keys:
            try:
                materialize(store, store.catalogue[key])
            except WmtpError as error:
                yield [str(error)]
            else:
                yield []

    return enter


def applying(key: str, *rules: str) -> Callable[[Store], Iterator[list[str]]]:
    """Apply rules to an artifact; none named: all but that of hashes."""

    def enter(store: Store) -> Iterator[list[str]]:
        artifact = store.catalogue[key]
        for rule in rules_of(artifact):
            if rule.name in rules or (not rules and rule.name != "sha256"):
                outcome = apply_in_child(rule, store, artifact)
                yield [str(item) for item in outcome.findings if item.problem != "warning"]

    return enter
