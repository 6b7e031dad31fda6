"""Creating the Dagster instance's databases once, before anything uses them side by side.

``python -m wmtp_assets.components.instance`` in the project folder. Several processes that open a
fresh SQLite instance at the same moment leave it broken ("alembic_version has more than one head").
"""

from __future__ import annotations

import io
import os
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import dagster as dg

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.base.settings import HOME_VARIABLE, read_settings
from wmtp_assets.components.storage import claim_instance
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.locks import hold


def prepare_instance() -> str:
    """Open the instance that the ``dagster`` commands use here, migrated; return its folder.

    That is ``$DAGSTER_HOME``, or else the one that ``dagster.yaml`` in the working directory
    describes. It is marked as belonging to the source that ``WMTP_SOURCE`` names.

    Raises:
        StoreError: if it belongs to the other source.
    """
    home = HOME_VARIABLE.read() or str(Path.cwd())
    internal = Path(home) / ".dagster"
    internal.mkdir(parents=True, exist_ok=True)
    with hold(internal / "prepare.lock"), dg.DagsterInstance.from_config(home) as instance:
        claim_instance(instance, read_settings().source)
        marker = Path(instance.storage_directory()).parent / "dagster_version"
        if not marker.is_file() or marker.read_text() != dg.__version__:
            with redirect_stdout(io.StringIO()):  # it prints a line for each kind of database
                instance.upgrade()  # opens the database of every run there ever was
            replace_file(marker, dg.__version__.encode())
        instance.get_runs(limit=1)
        instance.all_instigator_state()
        return instance.storage_directory()


LOGS_KEPT = 20
"""Logs of a kind, before a new one, that are kept."""


def new_log(instance: Path, name: str) -> Path:
    """The path of a new log in the folder of an instance; of those of this kind, the oldest are
    removed."""
    folder = instance / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob(f"{name}-*.log"))[:-LOGS_KEPT]:
        old.unlink(missing_ok=True)
    return folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"


def end_of(log: Path, lines: int = 15) -> list[str]:
    """The last lines of a log."""
    return log.read_text(errors="backslashreplace").splitlines()[-lines:]


def typed(path: Path) -> str:
    """A path as it is typed here: below the working directory, relative to it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    try:
        print(f"Dagster instance ready: {prepare_instance()}")
    except WmtpError as error:
        sys.exit(f"Error: {error}")
