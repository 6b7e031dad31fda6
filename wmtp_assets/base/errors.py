"""The errors this project raises on purpose.

Each message says what is wrong, where, and what to do next. Whatever is not one of these is a
defect of the program and keeps its traceback.
"""


class WmtpError(Exception):
    """Base of every error whose message is meant for the person at the terminal."""


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


class StoreError(WmtpError):
    """The storage root refused: disk full, no right to write, no atomic exchange."""


class WrongRoot(StoreError):
    """The storage root that the settings name holds the other source, or is no folder."""


class LockHeld(StoreError):
    """Another process holds a lock that nobody wants to wait for."""


class DamagedRecord(InvalidInput):
    """The bytes of a record have another checksum than the archive says."""
