"""How fast the last download was, for the estimate of the next."""

from __future__ import annotations

import json

from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.store import Store

LEAST = 1 << 20
"""Bytes of a download that says something about the line."""


def remember_rate(store: Store, size: int, seconds: float) -> None:
    """Keep the throughput of a download of ``size`` bytes."""
    if size >= LEAST and seconds > 0:
        data = json.dumps({"bytes_per_second": round(size / seconds)})
        replace_file(store.internal / "rate.json", data.encode())


def last_rate(store: Store) -> float | None:
    """Bytes a second of the last download; None: there was none."""
    try:
        rate = json.loads((store.internal / "rate.json").read_bytes())["bytes_per_second"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None
