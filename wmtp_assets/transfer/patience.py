"""How long to keep trying: with growing waits, for as long as something arrives in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.base.progress import Say, human_bytes, human_seconds, silent

ATTEMPTS = 6
"""Attempts in a row that bring nothing before the other side is given up."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds before the second attempt, and at most; doubled each time."""


@dataclass
class Patience:
    """Counts failed attempts.

    Attributes:
        attempts: failures in a row that are too many.
        failures: in a row, since something arrived.
    """

    attempts: int = ATTEMPTS
    failures: int = 0

    def is_at_end(self, *, has_progress: bool = False) -> bool:
        """Count one more failure; whether that is one too many.

        Args:
            has_progress: something arrived before it failed, so that counting starts over.
        """
        self.failures = 1 if has_progress else self.failures + 1
        return self.failures >= self.attempts

    @property
    def wait(self) -> float:
        """Seconds to wait before the next attempt."""
        return min(FIRST_WAIT * 2 ** (self.failures - 1), LONGEST_WAIT)

    def rest(self, least: float = 0.0) -> None:
        """Wait, ``least`` seconds or more."""
        time.sleep(max(self.wait, least))


class Interrupted(Exception):
    """A transfer broke off, and may get further when it is resumed.

    Attributes:
        error: what is raised when patience is at its end.
    """

    def __init__(self, reason: str, error: WmtpError) -> None:
        super().__init__(reason)
        self.error = error


def complete(
    name: str,
    size: int,
    tell: Callable[[], int],
    send: Callable[[], None],
    attempts: int = ATTEMPTS,
    say: Say = silent,
) -> None:
    """Call ``send`` until all of a file is here.

    Args:
        size: of the file, in bytes.
        tell: how many of them are here.
        attempts: in a row that bring nothing before ``send`` is given up.

    Raises:
        WmtpError: that of the last :class:`Interrupted`, and whatever else ``send`` raises.
    """
    patience = Patience(attempts)
    while (before := tell()) < size:
        try:
            send()
        except Interrupted as broken:
            if patience.is_at_end(has_progress=tell() > before):
                raise broken.error from broken.__cause__
            here = f"{human_bytes(tell())} of {human_bytes(size)} are here"
            say(f"{name}: {broken}; {here}, resuming in {human_seconds(patience.wait)}")
            patience.rest()
