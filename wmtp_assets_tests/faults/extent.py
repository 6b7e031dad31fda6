"""How much of the fault injection is run: ``WMTP_FAULTS=full`` all of it, anything else a part.

CI runs the part; the whole takes minutes.
"""

from __future__ import annotations

from typing import TypeVar

from wmtp_assets.base.settings import FAULTS_VARIABLE

T = TypeVar("T")

IS_FULL = FAULTS_VARIABLE.read() == "full"


def extent(short: T, full: T) -> T:
    """Whichever of the two is asked for."""
    return full if IS_FULL else short
