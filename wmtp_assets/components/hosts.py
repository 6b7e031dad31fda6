"""What a step must find where it runs: the history, the sources and the storage root of its run.

A run with an engine of many hosts leaves two things for its steps: its commit, in its tags, and a
file under the storage root. A step on a host that has other sources, or does not see that file,
is refused before it does anything.
"""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import dagster as dg
from dagster._core.storage.runs import SqliteRunStorage

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.secrets import NAMES, has_secret
from wmtp_assets.base.settings import (
    DATABASE_VARIABLE,
    ENGINE_VARIABLE,
    HONOURED,
    TOKEN_VARIABLES,
    VARIABLES,
    WEBHOOK_VARIABLE,
    project_folder,
)
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.mounts import refresh

ENGINE_TAG = ".dagster/wmtp_engine"
COMMIT_TAG = ".dagster/wmtp_commit"
ROOT_TAG = ".dagster/wmtp_root"
"""Tags of a run whose steps may run on other hosts; hidden in the web UI."""

RUNS = "runs"
"""The folder below ``.wmtp/`` with a file for each run of many hosts."""

KEPT_SECONDS = 30 * 86400
"""After that long none of our runs is running: its file is removed."""

SOURCES = ("*.py", "*.yaml", "*.jinja")


@cache
def commit() -> str:
    """The sources that run here: the git commit where there is one, and a hash over all of them,
    such as ``1a2b3c4d5e6f (sources 0f1e2d3c4b5a)``.

    The hash tells uncommitted changes, and images that have no ``.git``.
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in package.rglob(pattern)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(package).as_posix()} {content}\n".encode())
    git = ["git", "-C", str(project_folder()), "rev-parse", "--verify", "--short=12", "HEAD"]
    try:
        said = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        said = ""
    return f"{said or 'no commit known'} (sources {digest.hexdigest()[:12]})"


def require_shared_database(instance: dg.DagsterInstance, engine: str) -> None:
    """See to it that steps on other hosts can write into the history of the run.

    Raises:
        StoreError: if it is SQLite, which is for the processes of one host.
    """
    if isinstance(instance.run_storage, SqliteRunStorage):
        raise StoreError(
            f"{ENGINE_VARIABLE}={engine} runs steps on other hosts, and the Dagster instance in "
            f"{instance.root_directory} keeps its history in SQLite, which is for one host. Set "
            f"{DATABASE_VARIABLE}=postgresql://user@host:5432/name on every host, then: "
            "source activate.sh"
        )


def announce(root: Path, run: dg.DagsterRun, engine: str) -> dict[str, str]:
    """Leave what the steps of a run look for on their hosts; the tags that say so.

    Raises:
        StoreError: if the run was started with other sources.
    """
    require_same_commit(run.tags, "this process, which was to resume the run,")
    folder = root / INTERNAL / RUNS
    folder.mkdir(parents=True, exist_ok=True)
    left = folder / run.run_id
    replace_file(left, f"{socket.gethostname()}\n".encode())
    now = left.stat().st_mtime  # by the clock of the filesystem, as those of the others are
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < now - KEPT_SECONDS:
                path.unlink()
    return {ENGINE_TAG: engine, COMMIT_TAG: commit(), ROOT_TAG: socket.gethostname()}


def require_same(run: dg.DagsterRun | None, root: Path) -> None:
    """See to it that a step has the sources and the storage root of its run.

    Raises:
        StoreError: if it has not.
    """
    if run is None or ROOT_TAG not in run.tags:
        return
    host = socket.gethostname()
    require_same_commit(run.tags, f"the worker on {host}")
    folder = root / INTERNAL / RUNS
    refresh(folder)
    seen = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if run.run_id not in seen:
        raise StoreError(
            f"the storage root {root} on {host} is not the one of {run.tags[ROOT_TAG]}, where the "
            f"run was started: {folder / run.run_id}, which it wrote, is not there. Mount the same "
            "shared folder on every host, at the same path"
        )


def require_same_commit(tags: Mapping[str, str], who: str) -> None:
    """See to it that a process has the sources with which a run was started.

    Raises:
        StoreError: if it has others; both are named.
    """
    wanted = tags.get(COMMIT_TAG)
    if wanted is not None and wanted != commit():
        raise StoreError(
            f"the run was started with commit {wanted}, and {who} has {commit()}. All hosts must "
            f"have the same sources: check out the same commit in {project_folder()} everywhere, "
            "and start the run again; what is made is kept"
        )


SECRETS = frozenset({WEBHOOK_VARIABLE, *TOKEN_VARIABLES, *NAMES})
"""Variables that must come to a host in another way than in the description of a job, which every
user of the cluster may read."""

_OPEN = re.compile(
    r"postgres(?:ql)?(?:\+psycopg2)?://"
    r"(?:[^:/?#@\s]+@(?:\[[0-9A-Fa-f:.]+\]|[^:/?#@\s]*)(?::\d{1,5})?|[^:/?#@\s]*)"
    r"(?:/[^:/?#@\s]*)?(?:\?[^#@\s]*)?"
)
"""The address of a database in which nothing can be meant as a password."""


def handed_on() -> dict[str, str]:
    """The variables that are set here and that the description of a job has, with their values.

    None of them has a password. The address of the database is one of them where that is certain:
    psycopg2 finds its password in ``~/.pgpass``.
    """
    known = {str(name): name.read() for name in (*VARIABLES, *HONOURED)}
    return {name: value for name, value in known.items() if _is_handed_on(name, value)}


def _is_handed_on(name: str, value: str) -> bool:
    if not value or name in SECRETS or has_secret(value):
        return False
    return name != DATABASE_VARIABLE or _OPEN.fullmatch(value) is not None


PYTHON = "python"
"""The interpreter of a host, in a command that :func:`command_of` takes."""

DAGSTER = "import gc; gc.set_threshold(100_000); from dagster._cli import main; main()"
"""Dagster's command. Loading it and the definitions makes a million objects that stay: a fifth of
that time was the search for garbage among them."""


def command_of(arguments: Sequence[str]) -> list[str]:
    """A command of Dagster's own, such as ``dagster api execute_step …``, or of Python, with this
    interpreter: nobody activates an environment for a job."""
    first, *rest = arguments
    if first == PYTHON:
        return [sys.executable, *rest]
    return [sys.executable, "-c", DAGSTER, *rest] if first == "dagster" else [*arguments]
