"""What the hub tells about a repository's files: sizes, git and LFS hashes, the commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.storage.files import replace_file

LFS_SUFFIXES = frozenset({".bin", ".gz", ".model", ".parquet", ".pth", ".safetensors"})
"""Stored with LFS whatever their size, as the hub's default ``.gitattributes`` has it."""

LFS_MIN_BYTES = 10_000_000
"""Larger files are stored with LFS whatever they are called; the hub refuses them otherwise."""


@dataclass(frozen=True)
class IndexedFile:
    """One file of a repository.

    Attributes:
        path: POSIX path inside the repository.
        size: bytes.
        blob_id: git's SHA-1 of what git stores: the file, or its LFS pointer.
        sha256: of the content, for a file stored with LFS; otherwise ``None``.
    """

    path: str
    size: int
    blob_id: str
    sha256: str | None

    @property
    def etag(self) -> str:
        """What the hub sends as (linked) ETag, unquoted."""
        return self.sha256 or self.blob_id


@dataclass(frozen=True)
class RepositoryIndex:
    """The files of one revision of a repository, in path order."""

    files: tuple[IndexedFile, ...]

    @property
    def commit(self) -> str:
        """The revision's 40 hexadecimal digits; a function of paths and contents alone."""
        return tree_id(self.files)

    def find_mismatch(self, folder: Path) -> str | None:
        """Path of the first file that is missing below ``folder`` or has another size."""
        for file in self.files:
            path = folder / file.path
            if not path.is_file() or path.stat().st_size != file.size:
                return file.path
        return None


def tree_id(files: Iterable[IndexedFile]) -> str:
    """SHA-1 over the path and blob id of each file, in the order given: 40 hexadecimal digits."""
    lines = "".join(f"{file.blob_id} {file.path}\n" for file in files)
    return hashlib.sha1(lines.encode(), usedforsecurity=False).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The text that git stores in place of a file of ``size`` bytes (git-lfs specification, v1)."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    ).encode()


def index_repository(folder: Path) -> RepositoryIndex:
    """Hash every regular file below ``folder``; symbolic links are left out.

    Raises:
        OSError: if a file cannot be read.
    """
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    return RepositoryIndex(tuple(_index_file(name, paths[name]) for name in sorted(paths)))


def write_index(path: Path, index: RepositoryIndex, recipe: int) -> None:
    """Write ``index`` beside its repository, as the last step of making it by ``recipe``."""
    document = {"recipe": recipe, "files": [asdict(file) for file in index.files]}
    replace_file(path, json.dumps(document, indent=1).encode() + b"\n")


def read_index(path: Path) -> tuple[RepositoryIndex, int] | None:
    """The index at ``path`` and the recipe's version, or ``None`` if there is none.

    Raises:
        CorruptArtifact: if the file is not what :func:`write_index` writes.
    """
    try:
        document = json.loads(path.read_bytes())
        files = tuple(IndexedFile(**file) for file in document["files"])
        return RepositoryIndex(files), document["recipe"]
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptArtifact(
            f"{path} is not the index of a sample repository; delete it"
        ) from error


def _index_file(name: str, path: Path) -> IndexedFile:
    size = path.stat().st_size
    if path.suffix in LFS_SUFFIXES or size > LFS_MIN_BYTES:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return IndexedFile(name, size, _blob_id(lfs_pointer(sha256, size)), sha256)
    return IndexedFile(name, size, _blob_id(path.read_bytes()), None)


def _blob_id(content: bytes) -> str:
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
