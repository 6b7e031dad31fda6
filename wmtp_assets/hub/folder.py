"""A folder on this machine in the place of a repository on the hub.

Its revision is a hash over what is in it: the SHA-256 of the lines ``<sha256>  <path>\\n`` of the
wanted files, in the order of their paths. So it is pinned, planned and observed like a repository.
The folder is only read, and never linked to: whoever owns it may change it in place.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.errors import DownloadError, SpecError
from wmtp_assets.base.settings import Settings
from wmtp_assets.base.strict_json import open_waiting_for_none
from wmtp_assets.catalogue.specs import Repository
from wmtp_assets.storage.files import BLOCK, clone, hash_file
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.mounts import resolved
from wmtp_assets.transfer.arrival import Partial
from wmtp_assets.transfer.places import ExpectedFile, Places

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"


def open_folder(settings: Settings, repository: Repository) -> Path:
    """The folder of a repository that is one.

    Raises:
        SpecError: if it and the storage root lie within one another.
        DownloadError: if it is not there.
    """
    folder, root = Path(repository.path or ""), resolved(settings.root)
    found = resolved(folder)
    if found.is_relative_to(root) or root.is_relative_to(found):
        raise SpecError(
            f"{repository.id}: the folder {folder} and the storage root {root} lie within one "
            "another. Move the folder: what is in the root is written and removed by wmtp"
        )
    if not found.is_dir():
        raise DownloadError(
            f"{repository.id}: {folder} is not a folder. Correct repository.path in the defs.yaml"
        )
    return folder


def names_in(folder: Path) -> list[str]:
    """The paths of the files in a folder; links to folders are not followed."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if ".git" not in path.relative_to(folder).parts and not path.is_dir()
    )


def find_file(folder: Path, name: str) -> Path:
    """A file of a folder, where links lead to.

    Raises:
        DownloadError: if it is not a regular file, or a pointer of Git LFS in the place of one.
    """
    path = folder / name
    try:
        found = path.resolve(strict=True)
        if not stat.S_ISREG(found.stat().st_mode):
            raise DownloadError(f"{path} is not a regular file")
        with open_waiting_for_none(found) as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise DownloadError(
                    f"{path} is a pointer of Git LFS and not the file. Fetch it there: git lfs pull"
                )
    except (OSError, RuntimeError) as error:  # the latter: a loop of links, before Python 3.13
        why = error.strerror if isinstance(error, OSError) else "its links form a loop"
        raise DownloadError(f"{path} cannot be read: {why or error}") from error
    return found


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, FileRecord]:
    """Path → size and SHA-256.

    Raises:
        DownloadError: as :func:`find_file`.
    """
    return {name: hash_file(find_file(folder, name)) for name in names}


def revision_of(files: Mapping[str, str | None]) -> str:
    """The revision of a folder with these files: path → SHA-256."""
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


@dataclass(frozen=True)
class FolderOrigin:
    """A folder as an origin of bytes.

    Attributes:
        advice: what to do when a file is not the expected one.
    """

    folder: Path
    places: Places
    advice: str

    def clone(self, file: ExpectedFile) -> None:
        """Have the filesystem share the bytes of a file with a partial one, where it can; they are
        hashed like those that an interrupted copy left."""
        target = self.places.partial(file)
        source = find_file(self.folder, file.path)
        if not target.exists() and source.stat().st_size == file.size:
            target.parent.mkdir(parents=True, exist_ok=True)
            clone(source, target)

    def send(self, file: ExpectedFile, target: Partial) -> None:
        """Write what is missing of a file.

        Raises:
            DownloadError: if it cannot be read, or ended early.
        """
        with open_waiting_for_none(find_file(self.folder, file.path)) as source:
            source.seek(target.tell())
            while data := source.read(BLOCK):
                target.write(data)
        if target.tell() < file.size:
            raise DownloadError(
                f"{self.folder / file.path} has {target.tell()} bytes, not {file.size}. "
                f"{self.advice}"
            )

    def mismatch(self, file: ExpectedFile, found: FileRecord | None, path: Path) -> DownloadError:
        """Say that the file is another one."""
        actual = f"SHA-256 {found.sha256}" if found else f"more than {file.size} bytes"
        return DownloadError(
            f"{self.folder / file.path} has {actual}, expected was {file.sha256} ({file.size} "
            f"bytes). It was not kept. {self.advice}"
        )


def read_part(folder: Path, name: str, begin: int, end: int) -> bytes | None:
    """A range of a file; None: it cannot be read, or is shorter."""
    with suppress(DownloadError, OSError), open_waiting_for_none(find_file(folder, name)) as file:
        file.seek(begin)
        data = file.read(end - begin)
        return data if len(data) == end - begin else None
    return None
