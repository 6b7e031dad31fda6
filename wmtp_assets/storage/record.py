"""What the files of an artifact were like when their bytes were last hashed, and were right.

One small file per artifact, ``<root>/.wmtp/verified/<asset>/files.json``. It is written when the
artifact is committed, because its bytes were hashed while they were written, and whenever they are
hashed again. A file of which size, mtime, ctime and inode are those of the record need not be read
to know whether it was written since. That a disk lost bits by itself nothing shows but reading.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from wmtp_assets.base.model import Sha256, StrictModel
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.mounts import is_network

NAME = "files.json"

Sign = tuple[int, int, int, int, int]
"""Size in bytes, mtime in ns, ctime in ns, inode, number of names."""

TICK = 0.02
"""Seconds; no clock of a local filesystem is coarser (Linux: at most 10 ms)."""


class FilesRecord(StrictModel):
    """Files whose bytes were the committed ones.

    Attributes:
        content_sha256: of the artifact's content that they are part of.
        files: name → what the file was like then.
        agrees: for this content, the hashes of files and of their pieces were once compared with
            the same bytes: from then on the pieces say it alone.
    """

    content_sha256: Sha256
    files: dict[str, Sign]
    agrees: bool = False


def sign(path: Path) -> Sign | None:
    """What changes when a file is written, replaced or linked; None: it cannot be seen."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_nlink,
    )


def sign_all(folder: Path, names: Iterable[str]) -> dict[str, Sign]:
    """The files of a folder as they are now; those that cannot be seen are left out.

    Each write from now on changes what is signed: where a file was changed less than a tick of the
    clock ago, this waits for the next one. The clock of a network filesystem is not ours: there it
    waits always.
    """
    names = list(names)
    is_elsewhere = is_network(folder)
    for is_last in (False, True):
        found = {name: sign(folder / name) for name in names}
        signed = {name: item for name, item in found.items() if item is not None}
        newest = max((ctime for _, _, ctime, _, _ in signed.values()), default=0)
        if is_last or not (is_elsewhere or newest >= time.time_ns() - TICK * 1e9):
            break
        time.sleep(TICK)
    return signed


def is_linked_only(before: Sign, now: Sign | None) -> bool:
    """Whether at most the number of names of a file changed, which changes its ctime."""
    return now is not None and (before[0], before[1], before[3]) == (now[0], now[1], now[3])


def is_edited(before: Sign, now: Sign | None) -> bool:
    """Whether a file of one name was written since, and its time put back: only its time of change
    is another. Of a file with several names this is not said: a link that somebody makes and
    removes changes as much."""
    return (
        now is not None
        and is_linked_only(before, now)
        and now[2] != before[2]
        and now[4] == before[4] == 1
    )


def read_record(folder: Path) -> FilesRecord | None:
    """The record in a folder; None: there is none, or it is damaged."""
    try:
        return FilesRecord.model_validate_json(read_small(folder / NAME))
    except (OSError, ValueError):
        return None


def write_record(
    folder: Path, content_sha256: str, files: Mapping[str, Sign], *, agrees: bool = False
) -> None:
    """Replace the record in a folder.

    Raises:
        OSError: if the disk refuses.
    """
    record = FilesRecord(content_sha256=content_sha256, files=dict(files), agrees=agrees)
    replace_file(folder / NAME, record.model_dump_json().encode())
