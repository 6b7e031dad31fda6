"""What others wrote, as it may be shown: on a terminal, in a log, on a page.

A name or a text of somebody else may hold what a terminal obeys (ESC and other control characters),
what shows it in another order than it has (bidirectional overrides), and what is not seen at all.
All of it is shown as an escape, such as ``\\x1b`` and ``\\u202e``. It is applied where output
happens: errors (:mod:`wmtp_assets.base.errors`), findings, what the commands print, what Dagster
logs, and what the documents' templates print. JSON has escapes of its own: :func:`json_text`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import date, datetime
from difflib import get_close_matches
from math import isfinite
from pathlib import PurePath
from typing import Any

_JOINS = frozenset("\u200c\u200d")
"""Joiners that are part of words and emoji, where both neighbours are not ASCII."""


def printable(text: str, keep: str = "\n") -> str:
    """``text`` with an escape for each character that is not printed, or misleads.

    Args:
        keep: characters that are left as they are; a line of a table keeps none.
    """
    if text.isprintable():
        return text
    shown = []
    for place, letter in enumerate(text):
        if letter.isprintable() or letter in keep or _joins(text, place):
            shown.append(letter)
        else:
            shown.append(letter.encode("unicode_escape").decode())
    return "".join(shown)


def _joins(text: str, place: int) -> bool:
    return text[place] in _JOINS and all(
        beside > "\x7f" and beside not in _JOINS
        for beside in (text[place - 1 : place], text[place + 1 : place + 2])
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'micro_mtp'?``; empty: no name that is known is like this one."""
    found = get_close_matches(name, [*known], n=3, cutoff=0.7)
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""


def json_text(value: Any) -> str:
    """A JSON document, indented, in which each character is printed or an escape of JSON.

    A name of a file that is not UTF-8 has a lone surrogate (PEP 383), as a key too: each stays what
    it is, so that no two become one.

    Args:
        value: of the types that JSON has, paths and dates.
    """
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False)
    return _UNSEEN.sub(_escaped, text)


def _plain(value: Any) -> Any:
    """The same in the types that JSON has."""
    match value:
        case dict():
            return {
                key if isinstance(key, str | int | None) else str(key): _plain(inner)
                for key, inner in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_plain(inner) for inner in value]
        case PurePath():
            return str(value)
        case date() | datetime():
            return value.isoformat()
        case float() if not isfinite(value):
            return None
    return value


_UNSEEN = re.compile(r"[^\x20-\x7e\n]")


def _escaped(found: re.Match[str]) -> str:
    letter = found[0]
    return letter if letter.isprintable() else json.dumps(letter)[1:-1]
