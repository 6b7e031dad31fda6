"""Entry point of ``wmtp``: options, exit codes, errors for people."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from pkgutil import iter_modules

import click

from wmtp_assets import __version__
from wmtp_assets import cli as commands
from wmtp_assets.base.errors import SpecError, WmtpError, WrongRoot, is_of_environment
from wmtp_assets.base.secrets import keep_out_of_logs, redact
from wmtp_assets.base.text import printable

NAME = "wmtp: "

USAGE = 64
INTERNAL = 70
REFUSED = 74


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Model and dataset artifacts under the storage root: what is there, and is it right?

    The root is WMTP_STORAGE_ROOT, or storage/sample (storage with WMTP_SOURCE=hub).

    Exit codes of all commands: 64 wrong usage or setting, 70 internal error, 74 the system refused
    something, such as the output, a file, memory or a process.
    """


def add_commands() -> None:
    """Add each ``click.Command`` that a module of this folder has: a new command is a new file."""
    names = [module.name for module in iter_modules(commands.__path__, f"{commands.__name__}.")]
    others = [import_module(name) for name in names if name != __name__]
    for value in (value for module in others for value in vars(module).values()):
        if isinstance(value, click.Command):
            cli.add_command(value)


add_commands()


def main() -> None:
    """Run ``wmtp`` and exit: 0 good, 1 failed, 64 wrong usage or setting, 70 internal error, 74 the
    system refused something.

    Commands have other codes too; 64 is what other arguments or another environment would fix.
    """
    keep_out_of_logs()
    _open_outputs()
    code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or _refused(error)
    with suppress(OSError):
        sys.stderr.flush()
    _drop_outputs()
    sys.exit(code)


def _run() -> int:
    """Run the command; its exit code."""
    output = sys.stdout
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return USAGE
    except WmtpError as error:
        _say(_wrapped(str(error)))
        return USAGE if isinstance(error, SpecError | WrongRoot) else 1
    except (OSError, MemoryError) as error:
        return _refused(error)
    except SystemExit:
        if sys.stdout is output:
            raise
        sys.stdout = output  # click's answer to an output that nobody reads
        return REFUSED
    except Exception as error:
        if is_of_environment(error) or "can't start new thread" in str(error):
            return _refused(error)
        _say(f"this is a defect of the program\n{traceback.format_exc()}")
        return INTERNAL
    return code if isinstance(code, int) else 0


def _refused(error: Exception) -> int:
    """Say what the system refused; of an output that nobody reads, nothing is said."""
    what, where = str(error) or "not enough memory", ""
    if isinstance(error, OSError):
        what, where = error.strerror or what, str(error.filename or "")
    if not isinstance(error, BrokenPipeError):
        _say(f"the system refused: {what}{': ' * bool(where)}{where}. Then run again")
    return REFUSED


def _wrapped(text: str) -> str:
    """A message in lines as wide as the terminal; on one line where a program may read it."""
    if not sys.stderr.isatty():
        return text
    from wmtp_assets.base.table import paragraph

    width = shutil.get_terminal_size().columns
    return "\n".join(
        paragraph(NAME + printable(redact(text), keep=""), width, hanging=2)
    ).removeprefix(NAME)


def _say(text: str) -> None:
    """Print lines on standard error, where there is one."""
    with suppress(OSError):
        print(f"{NAME}{printable(redact(text))}", file=sys.stderr, flush=True)


def _open_outputs() -> None:
    """Have standard input and outputs, also where they were closed: a file that is opened would
    get their numbers. What cannot be encoded there is written as an escape."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free: this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_outputs() -> None:
    """Have the interpreter, which writes what is left as it ends, find no output that fails."""
    for number in (1, 2):
        try:
            (sys.stdout if number == 1 else sys.stderr).flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
