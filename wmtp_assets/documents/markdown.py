"""How values are written in Markdown: nothing that a manifest or a person says is markup.

Documents are jinja2 templates. A value that one prints is escaped, unless a filter of this module
made it Markdown; other filters than these and :data:`_BUILTIN` are errors.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.documents.document import SAMPLE
from wmtp_assets.rules.findings import as_text
from wmtp_assets.storage.store import materialize_command

if TYPE_CHECKING:
    from jinja2 import Environment

NONE = "-"

FOLDER = Path(__file__).parent
"""Where the templates are, each beside its module."""

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$:@])|(?<=www)\.", re.IGNORECASE)


class Markdown(str):
    """Text that is Markdown already: printing it changes nothing."""

    __slots__ = ()

    def __html__(self) -> str:
        """What jinja2 asks a string for that is not to be escaped."""
        return self


def escape(value: object) -> Markdown:
    """``value`` as literal text on one line: no markup, link, HTML or table cell in it works."""
    if hasattr(value, "__html__"):
        return Markdown(value)
    text = _MARKUP.sub(lambda found: f"\\{found[0]}", as_text(value))
    return Markdown(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def code(value: object) -> Markdown:
    """``value`` as code; what cannot be in code in a table cell becomes literal text."""
    text = as_text(value)
    return escape(text) if not text or re.search(r"[`|\\]", text) else Markdown(f"`{text}`")


def shown(value: Any) -> Markdown:
    """A value of a manifest: numbers with separators, a dash for nothing."""
    if value is None or value == []:
        return Markdown(NONE)
    if type(value) is int:
        return Markdown(f"{value:,}")
    return join(value) if isinstance(value, list) else escape(value)


def join(values: Iterable[object], separator: str = ", ") -> Markdown:
    """Values, each escaped, with a separator that is Markdown."""
    return Markdown(separator.join(map(escape, values)))


def share(part: float, whole: float) -> Markdown:
    """``part`` in percent of ``whole``, of which there may be none."""
    return Markdown(f"{part / whole:.0%}" if whole else NONE)


def paragraph(text: str) -> Markdown:
    """The Markdown ``text`` in lines of 100 characters."""
    lines = textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)
    return Markdown("\n".join(lines) + "\n")


_BUILTIN = ("length", "map")
FILTERS = {
    "bytes": human_bytes,
    "code": code,
    "join": join,
    "paragraph": paragraph,
    "share": share,
    "shown": shown,
}


@cache
def environment() -> Environment:
    """What reads the templates. jinja2 is imported here, as making documents is all it is for."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters = {name: made.filters[name] for name in _BUILTIN} | FILTERS
    made.globals |= {"materialize": materialize_command, "sample": Markdown(SAMPLE)}
    return made


def render(template: str, **values: Any) -> bytes:
    """The bytes of a document: a template of :data:`FOLDER`, without its suffix, with values."""
    text = environment().get_template(f"{template}.jinja").render(values)
    return (text.rstrip("\n") + "\n").encode()
