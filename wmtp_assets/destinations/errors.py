"""The error of this room."""

from __future__ import annotations

from wmtp_assets.base.errors import WmtpError


class PublishError(WmtpError):
    """Something could not be sent to a destination, or fetched from it."""
