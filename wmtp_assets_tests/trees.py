"""Copies of a good storage tree, and ways to damage a copy.

A copy shares its files with the original through hard links: whoever changes a file must go through
:func:`damage`, which gives the copy a file of its own first.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints.safetensors_file import read_header
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage import files as files_module
from wmtp_assets.storage import manifest, pieces
from wmtp_assets.storage.files import BLOCK, hash_file, hash_range
from wmtp_assets.storage.manifest import FileRecord, Manifest
from wmtp_assets.storage.pieces import Cut, Parts, Tensors
from wmtp_assets.storage.store import Store


def link_tree(source: Path, target: Path) -> None:
    """Copy a tree; files are hard links."""
    for folder, _, files in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in files:
            os.link(Path(folder, name), there / name)


def keep(tree: Path, kept: Path) -> None:
    """Keep a tree for later sessions, and how its files are; it may be kept already."""
    building = kept.with_name(f"{kept.name}.{os.getpid()}")
    link_tree(tree, building / "tree")
    (building / "files.json").write_text(json.dumps(_states(building / "tree")))
    try:
        building.rename(kept)
    except OSError:  # another session was quicker
        shutil.rmtree(building)


def link_kept(kept: Path, target: Path) -> None:
    """Link a tree that was kept.

    Raises:
        AssertionError: if a test wrote to its files, which are those of all copies.
    """
    was, now = json.loads((kept / "files.json").read_text()), _states(kept / "tree")
    changed = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
    assert not changed, f"a test changed the good tree: {changed}. Remove {kept}"
    link_tree(kept / "tree", target)


def _states(tree: Path) -> dict[str, list[int]]:
    """File → size in bytes, mtime in ns."""
    states = {}
    for entry in _entries(tree):
        if not entry.is_dir(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            states[entry.path[len(f"{tree}/") :]] = [status.st_size, status.st_mtime_ns]
    return states


class Copy:
    """A copy of a good tree that is put right after each test, which takes a tenth of the time of
    linking and deleting it: a file whose inode is that of the original is the original."""

    def __init__(self, good: Path, root: Path) -> None:
        self.root = root
        self._good = good
        self._folders = {"": good.stat().st_mode}
        self._files: dict[str, int] = {}
        for entry in _entries(good):
            name = entry.path[len(f"{good}/") :]
            if entry.is_dir(follow_symlinks=False):
                self._folders[name] = entry.stat().st_mode
            else:
                self._files[name] = entry.inode()

    def restore(self) -> None:
        """Make the copy what the original is."""
        if self.root.is_symlink() or not self.root.is_dir():
            self.root.unlink(missing_ok=True)
        self.root.mkdir(parents=True, exist_ok=True)
        missing = dict(self._files)
        folders = {""}
        stack = [self.root]
        while stack:
            folder = stack.pop()
            name = folder.as_posix()[len(f"{self.root}/") :]
            if stat.S_IMODE(folder.stat().st_mode) != stat.S_IMODE(self._folders[name]):
                folder.chmod(self._folders[name])
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.path[len(f"{self.root}/") :]
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if is_folder and name in self._folders:
                        folders.add(name)
                        stack.append(Path(entry.path))
                    elif not is_folder and missing.get(name) == entry.inode():
                        del missing[name]
                    elif is_folder:
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()
        for name in sorted(self._folders.keys() - folders):
            Path(self.root, name).mkdir()
        for name in missing:
            os.link(self._good / name, self.root / name)


def _entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace a file of a copy by ``change(content)``, leaving the original alone."""
    data = change(path.read_bytes())
    path.unlink()
    path.write_bytes(data)


def own(store: Store, artifact: Artifact) -> None:
    """Give the copy files of its own: those of the original get other names, and with them another
    ctime, whenever a test elsewhere links them."""
    for name in store.manifest(artifact).files:
        damage(store.path(artifact, name), lambda data: data)


def flip(offset: int) -> Callable[[bytes], bytes]:
    """A change that flips one bit of the byte at ``offset`` (negative: from the end)."""

    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[offset] ^= 1
        return bytes(changed)

    return change


_HASHES: dict[tuple[int, int, int], FileRecord] = {}


def hash_once(path: Path) -> FileRecord:
    """``hash_file``, but a large file that is linked into many trees is read once.

    One that is written to has another time, size or inode. Small files are written faster than the
    clock of a filesystem ticks.
    """
    status = path.stat()
    if status.st_size < BLOCK:
        return hash_file(path)
    key = (status.st_ino, status.st_mtime_ns, status.st_size)
    if key not in _HASHES:
        _HASHES[key] = hash_file(path)
    return _HASHES[key]


def tree(folder: Path) -> dict[str, tuple[int, FileRecord]]:
    """Path → inode and content of every file below ``folder``: equal trees were not written to."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, hash_once(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def remove_optional(store: Store) -> None:
    """What ``make materialize`` makes: no optional artifact, and no summary that knows of one."""
    for artifact in store.catalogue:
        if artifact.optional or artifact.kind == "release":
            for name in (*store.manifest(artifact).files, artifact.manifest):
                store.path(artifact, name).unlink()
    for artifact in store.catalogue:
        if artifact.kind == "release":
            (store.root / "RELEASE.json").unlink()
        if artifact.is_summary:
            materialize(store, artifact)


def reseal(store: Store, artifact: Artifact, **changes: Any) -> None:
    """Write the manifest of a damaged copy anew, so that all its hashes are right again.

    What then still finds the damage is the rule about the content, not the one about hashes.
    ``changes`` replace keys of the document.
    """
    path = store.manifest_path(artifact)
    rewrite_pieces(store, artifact)
    document = {**store.manifest(artifact).document, **changes}
    del document["self_sha256"]
    names = list(document.pop("manifest")["files"])
    created_at = document.pop("created_at")
    files = {name: hash_file(store.path(artifact, name)) for name in names}
    if "sha256" in document and "sha256" not in changes:
        document["sha256"] = {
            role: files[name].sha256 if name in files else document["sha256"][role]
            for role, name in document["files"].items()
        }
    path.unlink()
    path.write_bytes(manifest.seal(document, files, created_at, None))


def rewrite_pieces(store: Store, artifact: Artifact) -> None:
    """Make ``pieces.json`` right for the files that lie there now; the manifest is not touched."""
    path = store.path(artifact, artifact.pieces)
    if not path.exists():
        return
    cuts: dict[str, Cut] = {}
    committed = store.manifest(artifact).files
    for name, cut in json.loads(path.read_bytes())["files"].items():
        file = store.path(artifact, name)
        if file.is_file() and hash_once(file) == committed[name]:
            cuts[name] = (Tensors if "tensors" in cut else Parts).model_validate(cut)
            continue
        try:
            header = read_header(file)
        except (InvalidInput, OSError):
            if file.is_file() and (parts := part_hashes(file))[1:]:
                cuts[name] = Parts(part_size=files_module.PART, sha256=parts)
            continue
        hashes = hash_range(file, 0, header.piece_sizes)
        pairs = zip(header.entries, hashes[1:], strict=True)
        if rows := [(entry.name, entry.size, sha256) for entry, sha256 in pairs]:
            cuts[name] = Tensors(header=hashes[0], tensors=rows)
    if cuts:
        damage(path, lambda data: pieces.render(cuts))


def part_hashes(path: Path) -> list[str]:
    """The SHA-256 of each part of a file."""
    return hash_range(path, 0, [files_module.PART] * -(-path.stat().st_size // files_module.PART))


def as_the_version_before(store: Store, artifact: Artifact) -> Manifest:
    """Give an artifact the form in which the version before committed it: the inverse of a
    migration. What is made from it must be given that form later.

    The hashes of pieces are in the manifest; there is no ``pieces.json``.
    """
    before = store.manifest(artifact)
    document = json.loads(json.dumps(before.description))
    document.pop("made_with", None)
    for key in document.get("upstream", ()):
        upstream = store.catalogue[key]
        document["upstream"][key] = store.manifest(upstream).content_sha256
    files = pieces.payload(before.files, artifact.pieces)
    if len(files) < len(before.files):
        path = store.path(artifact, artifact.pieces)
        parts = {}
        for name, cut in json.loads(path.read_bytes())["files"].items():
            if "tensors" in cut:
                document["checkpoint"]["header_sha256"] = cut["header"]
                for tensor, _, sha256 in cut["tensors"]:
                    document["checkpoint"]["tensors"][tensor]["sha256"] = sha256
            else:
                parts[name] = cut["sha256"]
        if parts:
            document["parts"] = {"size": files_module.PART, "sha256": parts}
        path.unlink()
    path = store.manifest_path(artifact)
    path.unlink()
    path.write_bytes(manifest.seal(document, files, before.document["created_at"], None))
    return store.manifest(artifact)
