"""Progress of long work: in a log a line per 5 % (at most one a second) or 10 s, and one at the
end; on a terminal a bar."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from wmtp_assets.base.secrets import redact
from wmtp_assets.base.text import printable

if TYPE_CHECKING:
    from rich.console import Console

Say = Callable[[str], None]
"""Takes one line for the log."""


def silent(line: str) -> None:
    """A :data:`Say` that drops the line."""


def for_log(say: Say) -> Say:
    """A :data:`Say` whose lines hold nothing that a terminal obeys (:func:`printable`), and no
    secret that a server echoes."""
    return lambda line: say(printable(redact(line)))


def human_bytes(size: float) -> str:
    """``size`` bytes in decimal units, as disks are sold: ``49.8 MB``."""
    if size < 999.5:
        return f"{size:.0f} B"
    power = next((power for power in (1, 2, 3) if size < 999.95 * 1000**power), 4)
    return f"{size / 1000**power:.1f} {' kMGT'[power]}B"


def human_seconds(seconds: float) -> str:
    """``seconds`` as ``12 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def human_rows(rows: float) -> str:
    """``rows`` with separators: ``6,038 rows``."""
    return f"{rows:,.0f} rows"


def pace(done: float, share: float, seconds: float, unit: Callable[[float], str]) -> str:
    """``5.0 MB/s, 15 s left``.

    Args:
        done: amount that took ``seconds``.
        share: of all the work, more than 0.
        unit: says an amount.
    """
    seconds = max(seconds, 1e-6)
    return f"{unit(done / seconds)}/s, {human_seconds(max(seconds / share - seconds, 0))} left"


class Terminal:
    """A :data:`Say` for a terminal: prints lines, and shows a bar for each :class:`Progress`, one
    at a time.

    A bar has name, done, total, rate and time left; it vanishes when the work is done, and the next
    one is shown. Print on the same terminal only by :attr:`console`: another console would write
    into the bar.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
        )

        self.console = console
        self._lock = threading.Lock()
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[pace]}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )

    def __call__(self, line: str) -> None:
        self.console.print(printable(redact(line)), markup=False, highlight=False)

    def __enter__(self) -> Terminal:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def bar(self, name: str, total: int) -> Callable[[int, str], None]:
        """Show a bar, and return what is to be told how many bytes are done, and the pace."""
        task = self._bars.add_task(printable(name, keep=""), total=total, visible=False, pace="")
        self._show_first()

        def update(done: int, pace: str) -> None:
            self._bars.update(task, completed=done, pace=pace)
            self._show_first()

        return update

    def _show_first(self) -> None:
        """Have the first bar shown whose work is not done, and no other."""
        with self._lock:
            left = [task for task in self._bars.tasks if task.completed < (task.total or 0)]
            for task in self._bars.tasks:
                is_first = left[:1] == [task]
                if task.visible != is_first:
                    self._bars.update(task.id, visible=is_first)


class Progress:
    """Counts bytes of one piece of work and says how far it is: done, MB/s, time left.

    Rate and time left are those of the bytes that this run moved: see :meth:`found`. May be told by
    several threads.

    Args:
        name: what is being done.
        total: bytes in all.
        say: receives the lines; one that has a ``bar``, as :class:`Terminal`, shows it instead.
        clock: seconds, monotonic.
        quiet: seconds before anything is said, for what is mostly done at once.
    """

    def __init__(
        self,
        name: str,
        total: int,
        say: Say,
        clock: Callable[[], float] = time.monotonic,
        quiet: float = 0.0,
    ) -> None:
        self._lock = threading.Lock()
        self._name, self._total, self._say = name, total, say
        self._clock, self._quiet = clock, quiet
        self._done = self._moved = self._last_step = 0
        self._started = self._last = self._called = clock()
        self._finding = 0.0
        self._is_at_end = False
        bar = getattr(say, "bar", None)
        self._bar: Callable[[int, str], None] | None = bar and bar(name, total)

    def advance(self, size: int) -> None:
        """Count ``size`` more bytes; a negative size takes back what has to be done again."""
        with self._lock:
            self._called = self._clock()
            self._moved += max(size, 0)
            self._count(size)

    def found(self, size: int) -> None:
        """Count ``size`` bytes that an earlier run moved: neither they nor the time since the last
        call, in which they were read, say anything about the rate."""
        with self._lock:
            now = self._clock()
            self._finding += now - self._called
            self._called = now
            self._count(size)

    def _count(self, size: int) -> None:
        was_at_end = self._is_at_end
        self._done += size
        if self._bar is not None:
            self._bar(self._done, self._pace())
            return
        self._is_at_end = self._done >= self._total
        now = self._called
        step = 20 * self._done // self._total if self._total else 20
        is_due = now - self._last >= (10 if step == self._last_step else 1)
        is_quiet = self._done <= 0 or now - self._started < self._quiet
        if is_quiet or not (is_due or (self._is_at_end and not was_at_end)):
            return
        self._last, self._last_step = now, step
        total, said = max(self._total, 1), self._pace()
        self._say(
            f"{self._name}: {human_bytes(self._done)} of {human_bytes(self._total)} "
            f"({100 * self._done // total} %)" + (said and f", {said}")
        )

    def _pace(self) -> str:
        """Empty where nothing was moved yet."""
        if not self._moved:
            return ""
        share = self._moved / (self._moved + max(self._total - self._done, 0))
        seconds = self._called - self._started - self._finding
        return pace(self._moved, share, seconds, human_bytes)


class Told:
    """Tells how many bytes are done, and can take back all that it told.

    Args:
        advance: is told.
    """

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance, self._done = advance, 0

    def __call__(self, size: int) -> None:
        self._done += size
        self._advance(size)

    def take_back(self) -> None:
        """What was told has to be done again."""
        self._advance(-self._done)
        self._done = 0
