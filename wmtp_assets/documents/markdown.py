"""How values are written in Markdown: nothing that a manifest or a person says is markup."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from wmtp_assets.rules.findings import as_text

NONE = "-"

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$:@])|(?<=www)\.", re.IGNORECASE)


def escape(value: object) -> str:
    """``value`` as literal text on one line: no markup, link, HTML or table cell in it works."""
    text = _MARKUP.sub(lambda found: f"\\{found[0]}", as_text(value))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(value: object) -> str:
    """``value`` as code; what cannot stand in code in a table cell becomes literal text."""
    text = as_text(value)
    return escape(text) if not text or re.search(r"[`|\\]", text) else f"`{text}`"


def shown(value: Any) -> str:
    """A value of a manifest: numbers with separators, a dash for nothing."""
    if value is None or value == []:
        return NONE
    if type(value) is int:
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(escape(item) for item in value)
    return escape(value)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, and an empty one; ``right:title`` aligns a column to the right."""
    rule = ["---:" if title.startswith("right:") else "---" for title in titles]
    names = [title.removeprefix("right:") for title in titles]
    return [_line(names), f"|{'|'.join(rule)}|", *map(_line, rows), ""]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def paragraph(text: str) -> list[str]:
    """The lines of a paragraph, and an empty one."""
    return [*textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False), ""]


def page(lines: Iterable[str]) -> bytes:
    """The bytes of a document."""
    return ("\n".join(lines).rstrip("\n") + "\n").encode()
