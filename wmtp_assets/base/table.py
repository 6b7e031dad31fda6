"""Tables and paragraphs of text as wide as the terminal, and no wider: one frame for everything
that is printed. One long cell widens no column."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence

from rich.cells import cell_len

from wmtp_assets.base.secrets import redact
from wmtp_assets.base.text import printable

NONE = "-"
"""A cell where there is nothing to say."""

GAP = 2
"""Spaces between two columns."""

COMMAND = re.compile(
    r"(?:^|(?<=: ))(?:dagster|export|make (?:install|materialize)|mkdir|pip|rm|wmtp)\b.*"
)
"""A command that is all of a text, or follows its last colon."""


def paragraph(text: str, width: int | None, indent: int = 0, hanging: int = 0) -> list[str]:
    """``text`` in lines of at most ``width`` columns. What is to be copied stays whole: a word that
    is longer, as a path, and a command, which is all of the text or follows its last colon.

    Args:
        width: None: one line, however long.
        indent: spaces before each line.
        hanging: more spaces before each line but the first.
    """
    space = " " * indent
    if width is None:
        return [space + text]
    wrapped = textwrap.wrap(
        COMMAND.sub(lambda command: command[0].replace(" ", "\0"), text),
        max(width, indent + 20),
        initial_indent=space,
        subsequent_indent=space + " " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in wrapped]


def table_lines(
    titles: Sequence[str],
    rows: Iterable[tuple[Sequence[object], str]],
    *,
    width: int | None,
    right: Collection[str] = (),
    below: Collection[str] = (),
    spare: Sequence[str] = (),
    indent: int = 0,
) -> Iterator[tuple[str, str]]:
    """The lines of a table, each with its style; the titles are bold.

    A column about which no row says anything is left out. A first cell that leaves the others no
    room has a line of its own.

    Args:
        rows: the cells, None where there is nothing to say, and the style.
        width: columns of the terminal; None: every column is shown, and every row is one line.
        right: titles of the columns that are aligned to the right.
        below: titles of columns whose text follows on lines of its own, where there is any.
        spare: titles of columns that are left out where there is no room, the last one first.
        indent: spaces before each line.
    """
    shown = [
        ([NONE if cell is None else printable(redact(str(cell)), keep="") for cell in cells], style)
        for cells, style in rows
    ]
    said = [
        number
        for number, _ in enumerate(titles)
        if number == 0 or any(cells[number] not in ("", NONE) for cells, _ in shown)
    ]
    under = [number for number in said if width is not None and titles[number] in below]
    columns = [number for number in said if number not in under]
    left_out = [*spare]
    while True:
        widths = {
            number: max(cell_len(cells[number]) for cells in (titles, *(row for row, _ in shown)))
            for number in columns
        }
        total = indent + sum(widths.values()) + GAP * (len(columns) - 1)
        if width is None or total <= width or not left_out:
            break
        dropped = left_out.pop()
        columns = [number for number in columns if titles[number] != dropped]
    first = columns[0]
    if width is not None and total > width:
        widths[first] = max(widths[first] - (total - width), cell_len(titles[first]), 1)

    def line(cells: Sequence[str]) -> str:
        parts = []
        for number in columns:
            space = " " * (widths[number] - cell_len(cells[number]))
            is_right = titles[number] in right
            parts.append(space + cells[number] if is_right else cells[number] + space)
        return (" " * indent + (" " * GAP).join(parts)).rstrip()

    yield line(titles), "bold"
    for cells, style in shown:
        if cell_len(cells[first]) > widths[first]:
            yield " " * indent + cells[first], style
            cells = [*cells[:first], "", *cells[first + 1 :]]
        yield line(cells), style
        for number in under:
            if cells[number] not in ("", NONE):
                for text in paragraph(cells[number], width, indent + 4):
                    yield text, style
