"""Entry point of ``wmtp``: options, exit codes, errors for people."""

from __future__ import annotations

import sys
import traceback

import click
from rich.console import Console

from wmtp_assets import __version__
from wmtp_assets.base.errors import SpecError, WmtpError, WrongRoot
from wmtp_assets.cli.adopt import adopt
from wmtp_assets.cli.approve import approve
from wmtp_assets.cli.doctor import doctor
from wmtp_assets.cli.gc import gc
from wmtp_assets.cli.lock import lock
from wmtp_assets.cli.migrate import migrate_command
from wmtp_assets.cli.plan import plan
from wmtp_assets.cli.publish import publish
from wmtp_assets.cli.pull import pull_command
from wmtp_assets.cli.repair import repair_command
from wmtp_assets.cli.show import show
from wmtp_assets.cli.status import status
from wmtp_assets.cli.value_head import value_head
from wmtp_assets.cli.verify import verify

USAGE = 64
INTERNAL = 70


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Model and dataset artifacts under the storage root: what is there, and is it right?

    The root is WMTP_STORAGE_ROOT, or storage/sample (storage with WMTP_SOURCE=hub).
    """


cli.add_command(status)
cli.add_command(plan)
cli.add_command(lock)
cli.add_command(adopt)
cli.add_command(verify)
cli.add_command(repair_command)
cli.add_command(migrate_command)
cli.add_command(gc)
cli.add_command(value_head)
cli.add_command(approve)
cli.add_command(doctor)
cli.add_command(show)
cli.add_command(publish)
cli.add_command(pull_command)


def main() -> None:
    """Run ``wmtp`` and exit: 0 good, 1 failed, 64 wrong usage or setting, 70 internal error.

    Commands have other codes too; 64 is what other arguments or another environment would mend.
    """
    errors = Console(stderr=True, soft_wrap=True)
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = USAGE
    except (SpecError, WrongRoot) as error:
        errors.print(f"wmtp: {error}", markup=False, highlight=False)
        code = USAGE
    except WmtpError as error:
        errors.print(f"wmtp: {error}", markup=False, highlight=False)
        code = 1
    except Exception:
        traceback.print_exc()
        errors.print("wmtp: this is a defect of the program", markup=False, highlight=False)
        code = INTERNAL
    sys.exit(code if isinstance(code, int) else 0)
