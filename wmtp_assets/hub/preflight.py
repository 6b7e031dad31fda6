"""Refusing a model before its large files are fetched: by its small files, and by ranges of the
large ones.

What arrives here is not verified against any hash. So it can only refuse; nothing of it is kept,
and the files are judged again when they are here. Where a hub does not answer with ranges, or does
not answer, nothing is known before the download, which then says what is wrong with the hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmtp_assets.base.child import ChildDied, call
from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.excerpts import Excerpt, Excerpts, Hole
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import Repository
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.hub.folder import read_part
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer.places import ExpectedFile

LARGE = 4 << 20
"""Bytes of a small file, at most: it is fetched whole before anything is judged."""

END = 72 << 10
"""Bytes that are asked for at a time at either end of a file, at least: a header of safetensors, or
the directory of a zip archive and the comment that may follow it."""

MOST = 17 << 20
"""Bytes of a range that is asked for, at most: the longest header of a safetensors file."""

ROUNDS = 6
"""How often a judge may ask for more."""

Judge = Callable[[Store, Artifact[Any], Excerpts, Say], list[Hole]]
"""Judges the files of a raw artifact by excerpts, in the child process: raises ``InvalidInput``, or
returns what must be known besides."""


def is_large(file: ExpectedFile) -> bool:
    """Whether a file is only looked at before the others were judged."""
    return file.size > LARGE


@dataclass(frozen=True)
class Preflight:
    """One repository at one commit, before its large files are fetched.

    Attributes:
        below: the part of the artifact's folder in which files lie under their paths.
        judge: the one for the artifact.
    """

    store: Store
    raw: Artifact[Any]
    below: str
    endpoint: Endpoint
    repository: Repository
    commit: str
    judge: Judge

    def refusal(
        self,
        files: Iterable[ExpectedFile],
        content: Callable[[ExpectedFile], bytes | None],
        say: Say = silent,
    ) -> str:
        """Why a model would be refused once its files are here; empty: nothing is known against it.

        Args:
            files: all that are wanted.
            content: of a small one; None: it cannot be had.
        """
        by_path = {self.store.path(self.raw, self.below + file.path): file for file in files}
        excerpts = Excerpts({path: Excerpt(file.size) for path, file in by_path.items()})
        for path, file in by_path.items():
            if not is_large(file):
                data = content(file)
                if data is None:
                    return ""
                excerpts.add(path, 0, data)
        for _ in range(ROUNDS):
            try:
                holes = self._judged(excerpts, say)
            except (InvalidInput, ChildDied) as error:
                return str(error)
            if not holes:
                return ""
            if not all(self._fill(excerpts, hole, by_path[hole.path], say) for hole in holes):
                return ""
        return ""

    def _judged(self, excerpts: Excerpts, say: Say) -> list[Hole]:
        try:
            return call(self.judge, self.store, self.raw, excerpts, say=say)
        except Hole as hole:
            return [hole]

    def _fill(self, excerpts: Excerpts, hole: Hole, file: ExpectedFile, say: Say) -> bool:
        """Ask for what is missing; whether it came."""
        begin, end = hole.begin, hole.end
        if begin < END:
            begin, end = 0, max(end, END)
        if end > file.size - END:
            begin, end = min(begin, max(file.size - END, 0)), file.size
        if end - begin > MOST:
            return False
        data = self.fetch(file, begin, end, say)
        if data is not None:
            excerpts.add(hole.path, begin, data)
        return data is not None

    def fetch(self, file: ExpectedFile, begin: int, end: int, say: Say = silent) -> bytes | None:
        """A range of a file; None: it cannot be had."""
        from wmtp_assets.hub.client import HfHubHTTPError, HTTPError, first_line, read_range

        if begin == end:
            return b""
        if self.endpoint.kind == "folder":
            return read_part(Path(self.endpoint.url), file.path, begin, end)
        try:
            data = read_range(
                self.endpoint, self.repository, self.commit, file.path, begin, end, file.size
            )
        except (HfHubHTTPError, HTTPError, OSError) as error:
            why = f"{type(error).__name__}: {first_line(error)}"
        else:
            if data is not None:
                return data
            why = f"{self.endpoint.url} does not send a part of a file"
        say(f"{file.path} is not looked at before it is downloaded: {why}")
        return None
