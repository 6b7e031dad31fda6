"""What the commands share: the store, and one frame each for tables, JSON and progress."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wmtp_assets.base.progress import Say, Terminal, silent
from wmtp_assets.base.settings import Settings, read_settings
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.cli.complete import complete_names
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

one_name = click.argument("name", shell_complete=complete_names)
any_names = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_names)
some_names = click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_names
)
selection_argument = click.argument(
    "selection", nargs=-1, metavar="[SELECTION]...", shell_complete=complete_names
)

NONE = "-"
"""A cell of a table where there is nothing to say."""


@contextmanager
def interruptible(what: str) -> Iterator[None]:
    """Ctrl-C stops what is under way in good order, and says so; a second one ends at once.

    Args:
        what: is waited for, and is kept.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield
        return

    def end(number: int, frame: object) -> None:
        os._exit(128 + number)

    def stop(number: int, frame: object) -> None:
        signal.signal(number, end)
        line = f"\nstopping: {what}. Ctrl-C again ends at once\n"
        os.write(2, line.encode())  # a handler may not print: it may have interrupted that
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is stop:
            signal.signal(signal.SIGINT, before)


@contextmanager
def progress(*, in_logs: bool = True) -> Iterator[Say]:
    """Bars and lines on standard error.

    Args:
        in_logs: say the lines also where that is no terminal.
    """
    if sys.stderr.isatty():
        with Terminal(Console(stderr=True)) as say:
            yield say
    else:
        yield (lambda line: click.echo(line, err=True)) if in_logs else silent


def open_store() -> Store:
    """The store that the environment names.

    Raises:
        SpecError: for a malformed setting or ``defs.yaml``.
        StoreError: if the root holds artifacts of the other source.
    """
    store = Store(read_settings(), load_catalogue())
    store.check_source()
    return store


def select(store: Store, names: Iterable[str]) -> list[Artifact]:
    """The artifacts that the names mean, each once, upstream first; all for no names.

    Raises:
        SpecError: for an unknown name.
    """
    wanted = {artifact.key for name in names for artifact in store.catalogue.select(name)}
    return [artifact for artifact in store.catalogue if not wanted or artifact.key in wanted]


def print_line(text: str, *styled: tuple[str, str]) -> None:
    """Print a line as it is, however long.

    Args:
        styled: words to print before it, each with its style.
    """
    Console().print(Text.assemble(*styled, text), soft_wrap=True)


def print_table(
    titles: Sequence[str],
    rows: Iterable[tuple[Sequence[object], str]],
    *,
    right: Collection[str] = (),
    indent: int = 0,
) -> None:
    """Print a table without cutting its columns to the width of the terminal.

    Args:
        rows: the cells, None where there is nothing to say, and the style.
        right: titles of the columns that are aligned to the right.
        indent: spaces before each line.
    """
    padding = (0, 1, 0, indent or 1)
    table = Table(box=None, padding=padding, pad_edge=bool(indent), header_style="bold")
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", no_wrap=True)
    for cells, style in rows:
        table.add_row(*(Text(NONE if cell is None else str(cell)) for cell in cells), style=style)
    console = Console()
    width = Console(width=10_000).measure(table).maximum
    Console(width=max(width, console.width)).print(table)


def print_json(settings: Settings | None, **document: Any) -> None:
    """Print a JSON document on standard output: root and source, then what the command says.

    Args:
        settings: None: they cannot be read.
    """
    root = {"root": str(settings.root), "source": settings.source} if settings else {}
    click.echo(json.dumps({**root, **document}, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: object) -> object:
    """What JSON does not know: a dataclass is an object, a path its text."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
