"""What the commands share: arguments, the store, and one frame each for tables, JSON and progress.

A command prints for people as it goes, and returns the document that ``--json`` prints instead.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import click
from pydantic import TypeAdapter
from rich.console import Console
from rich.text import Text

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.progress import Say, Terminal, silent
from wmtp_assets.base.secrets import redact
from wmtp_assets.base.settings import read_settings
from wmtp_assets.base.table import paragraph, table_lines
from wmtp_assets.base.text import json_text, printable
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store

Document = dict[str, Any]
"""What a command says, for JSON: dataclasses are objects; ``exit_code``: its code, if not 0."""


def complete_names(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Asset keys and folder names that begin with what was typed; none where a spec is malformed.

    Names that are on the line already are left out.
    """
    try:
        catalogue = load_catalogue()
    except SpecError:
        return []
    names = {artifact.key: None for artifact in catalogue}
    names |= {artifact.unit.split("/")[-1]: None for artifact in catalogue}
    given = context.params.get(parameter.name or "") or ()
    there = {given} if isinstance(given, str) else {*given}
    return [name for name in names if name.startswith(typed) and name not in there]


one_name = click.argument("name", shell_complete=complete_names)
any_names = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_names)
some_names = click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_names
)
selection_argument = click.argument(
    "selection", nargs=-1, metavar="[SELECTION]...", shell_complete=complete_names
)


def reported(command: Callable[..., Document]) -> Callable[..., None]:
    """Give a command ``--json``, and the exit code that its document names.

    With ``--json`` what the command prints for people is dropped, and its document printed: root
    and source, as far as they can be read, then what the command says.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
    @wraps(command)
    def run(as_json: bool, **arguments: Any) -> None:
        document = command(**arguments)
        if as_json:
            with suppress(SpecError):
                settings = read_settings()
                document = {"root": settings.root, "source": settings.source, **document}
            # pydantic's JSON has no lone surrogates, which names of files may have
            click.echo(redact(json_text(TypeAdapter(Document).dump_python(document))))
        click.get_current_context().exit(document.get("exit_code", 0))

    return run


def over_store(command: Callable[..., Document]) -> Callable[..., None]:
    """As :func:`reported`, for a command that is given the store that the environment names.

    Raises:
        SpecError: for a malformed setting or ``defs.yaml``.
        StoreError: if the root holds artifacts of the other source.
    """

    @wraps(command)
    def run(**arguments: Any) -> Document:
        store = Store(read_settings(), load_catalogue())
        store.check_source()
        return command(store, **arguments)

    return reported(run)


@contextmanager
def interruptible(what: str) -> Iterator[None]:
    """Ctrl-C stops what is under way in good order, and says so; a second one ends at once.

    Args:
        what: is waited for, and is kept.
    """
    before = signal.getsignal(signal.SIGINT)

    def end(number: int, frame: object) -> None:
        os._exit(128 + number)

    def stop(number: int, frame: object) -> None:
        signal.signal(number, end)
        line = f"\nstopping: {what}. Ctrl-C again ends at once\n"
        os.write(2, line.encode())  # a handler may not print: it may have interrupted that
        raise KeyboardInterrupt

    if before is not signal.SIG_IGN:
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
        in_logs: say the lines also where that is not a terminal.
    """
    if sys.stderr.isatty():
        with Terminal(Console(stderr=True)) as say:
            if sys.stdout.isatty():
                _with_bars.append(say.console)
            try:
                yield say
            finally:
                _with_bars.clear()
    else:
        yield (lambda line: click.echo(_shown(line, "\n"), err=True)) if in_logs else silent


def select(store: Store, names: Iterable[str]) -> list[Artifact]:
    """The artifacts that the names mean, each once, upstream first; all for no names.

    Raises:
        SpecError: for an unknown name.
    """
    wanted = {artifact.key for name in names for artifact in store.catalogue.select(name)}
    return [artifact for artifact in store.catalogue if not wanted or artifact.key in wanted]


class _Console(Console):
    """A console that leaves it to its caller that nobody reads it."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled."""
        raise


_with_bars: list[Console] = []
"""The console that shows bars on the terminal that is printed on, while it does."""


def _console(**options: Any) -> Console:
    """A console for people: silent where a JSON document is asked for."""
    if click.get_current_context().params["as_json"]:
        return _Console(quiet=True, **options)
    return _with_bars[0] if _with_bars else _Console(**options)


def _shown(text: str, keep: str = "") -> str:
    """What others wrote, without what a terminal obeys, and without any of our secrets that
    they echo."""
    return printable(redact(text), keep)


def print_line(text: str, *styled: tuple[str, str], on_errors: bool = False) -> None:
    """Print a line, however long, and whatever others wrote into it: see :func:`printable`.

    Args:
        styled: words to print before it, each with its style.
        on_errors: on standard error.
    """
    words = ((_shown(word), style) for word, style in styled)
    line = Text.assemble(*words, _shown(text))
    _console(stderr=on_errors).print(line, soft_wrap=True)


def print_paragraph(text: str, *styled: tuple[str, str], indent: int = 0, hanging: int = 0) -> None:
    """Print a text in lines as wide as the terminal: see
    :func:`wmtp_assets.base.table.paragraph`.

    Args:
        styled: words to print before it, each with its style.
    """
    console = _console()
    whole = "".join(word for word, _ in styled) + text
    for number, line in enumerate(paragraph(_shown(whole), console.width, indent, hanging)):
        shown = Text(line)
        for word, style in styled if number == 0 else ():
            shown.highlight_words([_shown(word)], style)
        console.print(shown, soft_wrap=True)


def print_table(
    titles: Sequence[str],
    rows: Iterable[tuple[Sequence[object], str]],
    *,
    right: Collection[str] = (),
    below: Collection[str] = (),
    spare: Sequence[str] = (),
    indent: int = 0,
    is_wide: bool = False,
) -> None:
    """Print a table as wide as the terminal: see :func:`wmtp_assets.base.table.table_lines`.

    Args:
        is_wide: show every column, and each row as one line, however long.
    """
    console = _console()
    width = None if is_wide else console.width
    for line, style in table_lines(
        titles, rows, width=width, right=right, below=below, spare=spare, indent=indent
    ):
        console.print(Text(line, style), soft_wrap=True)
