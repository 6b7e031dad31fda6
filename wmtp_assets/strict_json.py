"""What Python's JSON reader lets pass and a file of ours must not hold."""

from __future__ import annotations

from typing import Any


def short(value: Any) -> str:
    """``repr`` of a value that may be of any length, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An ``object_pairs_hook`` for ``json.loads``: a key that stands twice is an error.

    Raises:
        ValueError: naming the key.
    """
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {short(key)} stands twice")
            seen.add(key)
    return result
