"""What the commands share."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from wmtp_assets.base.settings import read_settings
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


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


def print_wide(table: Table) -> None:
    """Print a table without cutting its columns to the width of the terminal."""
    console = Console()
    width = Console(width=10_000).measure(table).maximum
    Console(width=max(width, console.width)).print(table)


def print_json(document: Any) -> None:
    """Print a JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
