"""Errors that are meant for people, as Dagster shows them."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from wmtp_assets.base.errors import WmtpError


@contextmanager
def plain_failures() -> Iterator[None]:
    """Show an error that is meant for people as such, and do not retry it."""
    try:
        yield
    except WmtpError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"error": type(error).__name__},
            allow_retries=False,
        ) from None
