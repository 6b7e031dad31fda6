"""How fast the last transfer was, for the estimate of the next."""

from __future__ import annotations

import json
from pathlib import Path

from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.store import Store

LEAST = 1 << 20
"""Bytes of a transfer that says something about the line."""


def download_rate(store: Store) -> Path:
    """Where the rate of downloads from the hub is kept."""
    return store.internal / "rate.json"


def remember_rate(path: Path, size: int, seconds: float) -> None:
    """Keep the throughput of a transfer of ``size`` bytes."""
    if size >= LEAST and seconds > 0:
        replace_file(path, json.dumps({"bytes_per_second": round(size / seconds)}).encode())


def last_rate(path: Path) -> float | None:
    """Bytes per second of the last transfer; None: there was none."""
    try:
        rate = json.loads(path.read_bytes())["bytes_per_second"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None
