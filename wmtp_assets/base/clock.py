"""The time that goes into manifests and file names."""

from __future__ import annotations

from datetime import UTC, datetime

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import EPOCH_VARIABLE


def utc_now() -> datetime:
    """Now, or ``SOURCE_DATE_EPOCH`` (seconds since 1970) when that is set.

    Raises:
        SpecError: if it is set to something else.
    """
    epoch = EPOCH_VARIABLE.read()
    if not epoch:
        return datetime.now(UTC)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise SpecError(f"SOURCE_DATE_EPOCH={epoch!r} is no number of seconds: {error}") from error


def timestamp() -> str:
    """:func:`utc_now` in whole seconds, ISO 8601: ``2026-01-31T12:00:00Z``."""
    return utc_now().strftime("%Y-%m-%dT%H:%M:%SZ")
