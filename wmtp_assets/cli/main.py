"""Entry point of ``wmtp``: options, exit codes, errors for people."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from pkgutil import iter_modules

import click
from rich.console import Console

from wmtp_assets import __version__
from wmtp_assets import cli as commands
from wmtp_assets.base.errors import SpecError, WmtpError, WrongRoot
from wmtp_assets.base.secrets import keep_out_of_logs, redact

USAGE = 64
INTERNAL = 70


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Model and dataset artifacts under the storage root: what is there, and is it right?

    The root is WMTP_STORAGE_ROOT, or storage/sample (storage with WMTP_SOURCE=hub).
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
    """Run ``wmtp`` and exit: 0 good, 1 failed, 64 wrong usage or setting, 70 internal error.

    Commands have other codes too; 64 is what other arguments or another environment would mend.
    """
    keep_out_of_logs()
    errors = Console(stderr=True, soft_wrap=True)
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = USAGE
    except WmtpError as error:
        errors.print(f"wmtp: {error}", markup=False, highlight=False)
        code = USAGE if isinstance(error, SpecError | WrongRoot) else 1
    except Exception:
        print(redact(traceback.format_exc()), end="", file=sys.stderr)
        errors.print("wmtp: this is a defect of the program", markup=False, highlight=False)
        code = INTERNAL
    sys.exit(code if isinstance(code, int) else 0)
