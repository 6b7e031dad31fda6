"""``make materialize``: one run of Dagster, shown while it runs.

``python -m wmtp_assets.components.materialize --select SELECTION`` starts ``dagster asset
materialize`` (or ``dagster job execute``) as a process of its own, whose output goes to a file, and
follows the events of its run in the instance. The run is told from others by its process, which
it records (:mod:`wmtp_assets.components.runs`); which engine runs the steps makes no difference.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType

import click
import dagster as dg
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wmtp_assets.base.errors import SpecError, WmtpError
from wmtp_assets.base.progress import human_bytes, human_seconds
from wmtp_assets.base.settings import Settings, project_folder, read_engine, read_settings
from wmtp_assets.base.table import paragraph, table_lines
from wmtp_assets.base.text import did_you_mean, printable
from wmtp_assets.catalogue.artifact import Catalogue
from wmtp_assets.components.engines import require_engine
from wmtp_assets.components.instance import end_of, new_log, prepare_instance, typed
from wmtp_assets.components.published import GROUP, PUBLISHED
from wmtp_assets.components.runs import PROCESS_TAG, process_of
from wmtp_assets.components.watch import Failure, Item, Watch, counted_checks, line_of
from wmtp_assets.kinds.registry import kind_of, load_catalogue

MODULE = "wmtp_assets.definitions"
DEFAULT = "not tag:optional=true"
STALE = "stale"
"""The selection that is a job: what is not what would be made now."""

POLL = 0.3
"""Seconds between two looks at the events of the run."""

SILENCE = 300
"""Seconds after which a log, where there is no terminal, is told what is being done."""

NEXT = (
    ("make ui", "lineage, checks and pictures, in the browser"),
    ("make verify", "read every byte, and apply every rule"),
    ("make status", "what is there, from where, and when it was verified"),
)
"""What may be typed next, and what for."""

AFTER = (
    ("make ui", "the run, its failed step and the lineage, in the browser"),
    ("make status", "what is there; what failed left nothing half-written"),
)
"""What may be typed after a failed run, besides what starts it again."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option("--select", "selection", default=DEFAULT, show_default=True)
@click.option("--force", is_flag=True, help="Make what is unchanged too, and read every byte.")
def main(selection: str, force: bool) -> None:
    """Make the selected artifacts and apply their rules, showing what is done.

    Exit codes: those of the run, 0 good and 1 failed; 64 wrong usage or setting.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(materialize(selection, Screen(PatientConsole(highlight=False)), force=force))
    except WmtpError as error:
        click.echo(f"materialize: {error}", err=True)
        sys.exit(64 if isinstance(error, SpecError) else 1)


def materialize(selection: str, screen: Screen, *, force: bool = False) -> int:
    """Run what is selected, show it, and return the exit code of the run.

    Raises:
        SpecError: for an unknown name, or a malformed setting or ``defs.yaml``.
        StoreError: if the instance is that of another source.
    """
    settings, catalogue = read_settings(), load_catalogue()
    require_engine(read_engine())
    command = command_of(selection, catalogue, force=force)
    log = new_log(Path(prepare_instance()).parent, "materialize")
    screen.line(f"Source {settings.source}, storage root {settings.root}")
    screen.line(f"Log {typed(log)}")
    watch = Watch(_sizes(settings, catalogue))
    with dg.DagsterInstance.get() as instance, log.open("wb") as out:
        out.write(f"$ {' '.join(command)}\n".encode())
        out.flush()
        child = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a signal reaches the run once, from here
        )
        with _passing_on(child) as passed_on, screen.live(watch):
            code = _follow(child, instance, watch, screen)
    if passed_on and not watch.started:
        screen.line("Interrupted before the run began: nothing was made", "red")
    else:
        again = _again(selection, force=force)
        _sum_up(watch, catalogue, screen, log, () if code == 0 else (again,))
    return code if code >= 0 else 128 - code


def command_of(selection: str, catalogue: Catalogue, *, force: bool) -> list[str]:
    """The arguments of Python that run ``dagster`` for a selection.

    Raises:
        SpecError: if it names what is not there.
    """
    names = ["log", *(["force"] if force else [])]
    files = [str(project_folder() / f".dagster/{name}.yaml") for name in names]
    options = ["-m", MODULE, *(part for file in files for part in ("-c", file))]
    if selection == STALE:
        return ["-m", "dagster", "job", "execute", "-j", STALE, *options]
    selected = selection_of(selection, catalogue)
    return ["-m", "dagster", "asset", "materialize", "--select", selected, *options]


def selection_of(text: str, catalogue: Catalogue) -> str:
    """A selection as Dagster takes it: there a bare ``+a`` is a and one layer upstream, and ``*a``
    all of it; here both mean all.

    Raises:
        SpecError: for the name of no asset.
    """
    known = [*(artifact.key for artifact in catalogue), *PUBLISHED]
    parts = []
    for part in text.split(","):
        bare = re.fullmatch(r"([+*]*)([A-Za-z0-9_-]+)([+*]*)", part)
        if bare is None:
            parts.append(part)
            continue
        before, name, after = bare.groups()
        if name not in known:
            raise SpecError(
                f"SELECT: {name!r} is not an asset.{did_you_mean(name, known)} "
                "All of them: wmtp status"
            )
        parts.append("*" * bool(before) + name + "*" * bool(after))
    return ",".join(parts)


def _follow(
    child: subprocess.Popen[bytes], instance: dg.DagsterInstance, watch: Watch, screen: Screen
) -> int:
    """Show the events of the child's run until it has ended; its exit code."""
    process, run_id, cursor = process_of(child.pid), None, None
    said, is_announced = time.monotonic(), False
    while True:
        code = child.poll()  # before the events are read: none is missed
        if run_id is None:
            found = instance.get_runs(dg.RunsFilter(tags={PROCESS_TAG: process}), limit=1)
            run_id = found[0].run_id if found else None
        if run_id is not None:
            events = instance.get_records_for_run(run_id, cursor)
            cursor = events.cursor
            for record in events.records:
                watch.feed(record.event_log_entry)
            if watch.started and not is_announced:
                is_announced = True
                screen.line(f"To be made: {watch.planned}; checks: {watch.checks}")
            for item in watch.told():
                screen.line(*line_of(item))
                said = time.monotonic()
        if not screen.is_alive and watch.started and time.monotonic() - said > SILENCE:
            said = time.monotonic()
            for line in _doing(watch):
                screen.line(line)
        if code is not None:
            return code
        time.sleep(POLL)


class Screen:
    """Where a run is shown: lines, and on a terminal below them what is being done.

    Attributes:
        is_alive: it is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self.is_alive = console.is_terminal and not console.is_dumb_terminal
        self._is_read = True

    @property
    def width(self) -> int:
        """Columns of a line."""
        return self._console.width

    def line(self, text: str, style: str = "") -> None:
        """Print a line; nobody has to read it: the run continues."""
        if not self._is_read:
            return
        try:
            self._console.print(Text(printable(text), style), soft_wrap=True)
        except BrokenPipeError:
            self._is_read = False
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)  # what is left is written as Python ends
            os.close(nowhere)

    @contextmanager
    def live(self, watch: Watch) -> Iterator[None]:
        """Keep what is being done on a terminal's last lines; they are gone at the end."""
        if not self.is_alive:
            yield
            return
        view = _View(watch)
        with Live(view, console=self._console, transient=True, refresh_per_second=4):
            yield


class PatientConsole(Console):
    """A console that leaves it to its caller that nobody reads it."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled."""
        raise


class _View:
    """What a run is doing now: a bar, numbers, and the steps that run."""

    STEPS = 4

    def __init__(self, watch: Watch) -> None:
        self._watch, self._began = watch, time.time()

    def __rich__(self) -> Group:
        watch, now = self._watch, time.time()
        if watch.started is None:
            return Group(Text(f"starting Dagster, {human_seconds(now - self._began)}", "dim"))
        bar = Table.grid()  # a bar alone would not end its line
        bar.add_row(ProgressBar(total=1.0, completed=watch.share, width=60))
        first, *steps = _doing(watch)
        lines: list[RenderableType] = [bar, _cut(first)]
        lines += [_cut(step, "dim") for step in steps[: self.STEPS]]
        return Group(*lines)


def _doing(watch: Watch) -> Iterator[str]:
    """What a run has done so far, and a line for each step that runs."""
    now, (passed, warned, failed) = time.time(), watch.counts
    left = watch.left(now)
    numbers = [
        f"{watch.made} of {watch.planned} made",
        f"{passed} of {watch.checks} checks passed",
        *([f"{warned} warned"] if warned else []),
        *([f"{failed} FAILED"] if failed else []),
        human_bytes(watch.size),
        human_seconds(now - (watch.started or now)),
        *([f"about {human_seconds(left)} left"] if left is not None else []),
    ]
    yield ", ".join(numbers)
    for step, began in [*watch.running.items()]:
        yield f"  {step}, {human_seconds(now - began)}  {watch.said.get(step, '')}".rstrip()


def _cut(text: str, style: str = "") -> Text:
    return Text(printable(text, keep=""), style, no_wrap=True, overflow="ellipsis")


def _again(selection: str, *, force: bool) -> tuple[str, str]:
    """What starts a run again that ended early, and what for."""
    select = f" SELECT={shlex.quote(selection)}" if selection != DEFAULT else ""
    command = f"make materialize{select}{' FORCE=1' * force}"
    return command, "again: what is made is kept"


def _sum_up(
    watch: Watch, catalogue: Catalogue, screen: Screen, log: Path, again: Sequence[tuple[str, str]]
) -> None:
    """The end: what failed and the remedy, a table by group, the log, and what to type next.

    Args:
        again: what starts the run again; empty: it was a good one.
    """
    for failure in watch.failures:
        _print_failure(failure, screen)
    if watch.items:
        screen.line("")
        for line in table_lines(
            ("group", "made", "unchanged", "checks passed", "warned", "failed", "size"),
            [*_groups(watch, catalogue)],
            width=screen.width,
            right=("made", "unchanged", "checks passed", "warned", "failed", "size"),
        ):
            screen.line(*line)
    screen.line("")
    took = human_seconds(time.time() - watch.started) if watch.started else ""
    if watch.started is None:
        screen.line("The run did not begin. The log ends:", "red")
        for line in end_of(log):
            screen.line(f"  {line}")
    elif not again:
        screen.line(
            f"{watch.made} artifact{'s' * (watch.made != 1)}, {counted_checks(*watch.counts)}, "
            f"{human_bytes(watch.size)}, in {took}"
        )
    else:
        end = watch.end or "its process ended without a word"
        missing = watch.planned - watch.made
        screen.line(f"{end} after {took}: {watch.made} made, {missing} not made", "red")
    for text in _warned(watch):
        for line in paragraph(text, screen.width, hanging=2):
            screen.line(line, "yellow")
    screen.line(f"Log {typed(log)}")
    for command, purpose in (*AFTER, *again) if again else NEXT:
        screen.line(f"  {command:<18} {purpose}")


def _warned(watch: Watch) -> Iterator[str]:
    """Which checks warned, and the command that shows what they found."""
    warned = [item for item in watch.items.values() if item.warned]
    for item in warned:
        yield f"Warned: {item.key}: {', '.join(sorted(item.warned))}"
    if warned:
        yield f"What they found: wmtp verify {' '.join(item.key for item in warned)}"


def _print_failure(failure: Failure, screen: Screen) -> None:
    screen.line("")
    screen.line(f"FAILED {failure.name}", "bold red")
    for text in failure.what.splitlines():
        for line in paragraph(text, screen.width, 2):
            screen.line(line)
    for title, text in failure.fields.items():
        first, *others = paragraph(text, screen.width, 11) or [""]
        for line in (f"  {title:<9}{first[11:]}", *others):
            screen.line(line)
    if failure.remedy:
        screen.line(f"  remedy   {failure.remedy}", "bold")


def _groups(watch: Watch, catalogue: Catalogue) -> Iterator[tuple[tuple[object, ...], str]]:
    """The rows of the table at the end, one for each group and one for all."""
    groups: dict[str, list[Item]] = {artifact.group: [] for artifact in catalogue}
    for item in watch.items.values():
        group = catalogue[item.key].group if item.key in catalogue else GROUP
        groups.setdefault(group, []).append(item)
    rows = {group: items for group, items in groups.items() if items}
    if len(rows) > 1:
        rows["all"] = [*watch.items.values()]
    for group, items in rows.items():
        failed = sum(len(item.failed) for item in items)
        yield (
            (
                group,
                sum(item.made == "made" for item in items),
                sum(item.made not in ("", "made") for item in items),
                sum(item.passed for item in items),
                sum(len(item.warned) for item in items),
                failed + sum(item.has_error for item in items),
                human_bytes(sum(item.size for item in items)),
            ),
            "red" * bool(failed),
        )


def _sizes(settings: Settings, catalogue: Catalogue) -> dict[str, int]:
    """Bytes that are expected of the artifacts from the hub; the sample's are all small."""
    if settings.source != "hub":
        return {}
    return {
        artifact.key: round(kind_of(artifact).size(artifact, repository.most_bytes))
        for artifact in catalogue
        for repository in [getattr(artifact.spec, "repository", None)]
        if repository
    }


@contextmanager
def _passing_on(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Send signals on to the run and everything it started, as a terminal sends Ctrl-C; yields a
    list of those that came."""
    sent: list[int] = []

    def send(number: int, frame: FrameType | None) -> None:
        sent.append(number)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    before = {number: signal.signal(number, send) for number in _SIGNALS}
    try:
        yield sent
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
