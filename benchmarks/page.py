"""The tables of ``docs/measurements.md``: what a command printed, between markers, sealed.

    <!-- begin limits -->
    ...
    <!-- end limits 0123456789abcdef -->

The number behind ``end`` is the beginning of the SHA-256 of the lines between: a table that
somebody edits by hand is found by its test. Needs the standard library only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/measurements.md"

_BLOCK = re.compile(
    r"^<!-- begin (?P<name>\w+) -->\n(?P<text>.*?)^<!-- end (?P=name) (?P<seal>\w*) -->\n",
    re.MULTILINE | re.DOTALL,
)
_MEASURED = re.compile(
    r"(?<![\w-])\d[\d.,]*\s?(?:[kMGT]?B(?:/s)?|MiB|GiB|s|ms|min|seconds?|minutes?|times|x|%)(?![\w/])"
)


def seal(text: str) -> str:
    """What is behind ``end`` for these lines."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def put(page: str, name: str, command: str, printed: str, machine: str) -> str:
    """The page with another table.

    Args:
        name: of a marker that the page has.
        command: what printed it.
        machine: where, and when.

    Raises:
        ValueError: if the page has no such marker.
    """
    lines = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
    text = f"```text\n{lines}\n```\n\n`{command}`, {machine}.\n"
    block = f"<!-- begin {name} -->\n{text}<!-- end {name} {seal(text)} -->\n"
    found = [item for item in _BLOCK.finditer(page) if item["name"] == name]
    if len(found) != 1:
        raise ValueError(f"{PAGE}: {len(found)} tables are called {name}, expected one")
    return page[: found[0].start()] + block + page[found[0].end() :]


def names(page: str) -> list[str]:
    """The tables of a page."""
    return [found["name"] for found in _BLOCK.finditer(page)]


def problems(page: str) -> Iterator[str]:
    """What on a page was not printed by a command."""
    for found in _BLOCK.finditer(page):
        if found["seal"] != seal(found["text"]):
            yield f"the table {found['name']} is not as its command printed it"
    written = _BLOCK.sub("", page)
    for line in written.splitlines():
        if _MEASURED.search(re.sub(r"`[^`]*`", "", line)):
            yield f"a number that no command printed: {line}"
    if "```text" in written:
        yield "a table that no command printed"
