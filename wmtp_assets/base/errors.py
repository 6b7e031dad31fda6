"""The errors this project raises on purpose.

Each message says what is wrong, where, and what to do next. Whatever is not one of these is a
defect of the program and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path

from wmtp_assets.base.secrets import redact
from wmtp_assets.base.text import printable


class WmtpError(Exception):
    """Base of every error whose message is meant for the person at the terminal.

    What others wrote and the message repeats, such as a file name, is shown with escapes, and a
    secret in it is taken out.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(redact(it) if isinstance(it, str) else it for it in args))

    def __str__(self) -> str:
        return printable(super().__str__())


class SpecError(WmtpError):
    """A ``defs.yaml`` or a setting is malformed or contradicts another."""


class MissingArtifact(WmtpError):
    """An artifact that is needed has not been materialized."""


class CorruptArtifact(WmtpError):
    """Bytes on disk are not the bytes that were committed."""


class InvalidInput(WmtpError):
    """An upstream file cannot be what it is declared to be."""


class DownloadError(WmtpError):
    """A file could not be fetched, or what arrived is not what the hub announced."""


class PublishError(WmtpError):
    """Something could not be sent to a destination, or fetched from it."""


class StoreError(WmtpError):
    """The storage root refused: disk full, no right to write, no atomic exchange."""


class WrongRoot(StoreError):
    """The storage root that the settings name holds the other source, or is not a folder."""


class LockHeld(StoreError):
    """Another process holds a lock that nobody wants to wait for."""


class LackingFilesystem(StoreError):
    """The filesystem of a storage root has no file locks, hard links or renames of folders."""


class DamagedRecord(InvalidInput):
    """The bytes of a record have another checksum than the archive says."""


class BadLine(InvalidInput):
    """A line that is not a JSON object within the limits.

    Attributes:
        path: the file.
        line: its number, from 1.
        problem: what is wrong with it.
    """

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path, self.line, self.problem = path, line, problem

    def __reduce__(self) -> tuple[type[BadLine], tuple[Path, int, str]]:
        return BadLine, (self.path, self.line, self.problem)


def is_of_environment(error: Exception) -> bool:
    """Whether an error says that a library is missing, broken, or larger than the memory that is
    left: that is neither a defect of the program nor damage of what it reads."""
    return isinstance(error, ImportError) and not (error.name or "").startswith("wmtp_assets")
