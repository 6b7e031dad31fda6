"""Progress: enough lines to see that it moves, few enough to read, and the right numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from wmtp_assets.base.progress import Progress, Terminal, human_bytes, human_seconds, silent

MB = 1_000_000


class Clock:
    """Stands still until it is told to continue."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """Lines, and when each was said."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lines: list[str] = []
        self.times: list[float] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self.times.append(self.clock.now)


def run(total: int, steps: list[tuple[float, int]]) -> Log:
    """Progress over ``total`` bytes: each step is seconds that pass and bytes that are done."""
    clock = Clock()
    log = Log(clock)
    progress = Progress("hashing", total, log, clock)
    for seconds, size in steps:
        clock.now += seconds
        progress.advance(size)
    return log


# -- when ----------------------------------------------------------------------------------------


def test_a_line_per_five_percent() -> None:
    """Work of minutes: twenty lines and no more."""
    log = run(100 * MB, [(2, MB)] * 100)
    assert len(log.lines) == 20
    assert [line.split("(")[1].split(" %")[0] for line in log.lines] == [
        str(percent) for percent in range(5, 101, 5)
    ]


def test_at_most_one_line_a_second() -> None:
    """Work of seconds must not flood the log: 100 steps in 3 s are three lines."""
    log = run(100 * MB, [(0.03, MB)] * 100)
    assert len(log.lines) == 3
    assert log.lines[-1].startswith("hashing: 100.0 MB of 100.0 MB (100 %)")


def test_a_line_per_ten_seconds() -> None:
    """5 % of a large checkpoint on a slow line takes an hour: silence looks like a hang."""
    log = run(10_000 * MB, [(1, MB)] * 60)
    assert [time - 1000 for time in log.times] == [10, 20, 30, 40, 50, 60]


def test_final_line_always_comes() -> None:
    """The last line says that it is done, however short the work was."""
    assert run(MB, [(0.0, MB)]).lines == ["hashing: 1.0 MB of 1.0 MB (100 %), 1.0 TB/s, 0 s left"]
    assert len(run(MB, [(0.0, MB - 1), (0.0, 1)]).lines) == 1


def test_more_bytes_than_announced_do_not_flood() -> None:
    """A total that was announced too small must not give a line for every block from there on."""
    log = run(MB, [(0.01, MB)] * 100)
    assert len(log.lines) == 1
    assert log.lines[0].startswith("hashing: 1.0 MB of 1.0 MB (100 %)")


def test_starting_over() -> None:
    """A download that starts again is at 0 % again, and ends at 100 %, not at 150 %."""
    log = run(100 * MB, [(5, 50 * MB), (5, -50 * MB), (5, 50 * MB), (5, 50 * MB)])
    percents = [re.search(r"\((\d+) %\)", line) for line in log.lines]
    assert [found and found[1] for found in percents] == ["50", "50", "100"]


def test_nothing_to_do() -> None:
    """Empty files exist: no line, no division by zero."""
    assert run(0, [(0, 0), (20, 0)]).lines == []
    assert run(MB, [(20, 0)]).lines == []


@settings(deadline=None)
@given(
    st.integers(1, 2000),
    st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0, 12.0]), st.integers(0, 300))),
)
def test_rhythm_of_lines(total: int, steps: list[tuple[float, int]]) -> None:
    """Whatever the pace: two lines are a second apart (not the final one), and at most 10."""
    clock = Clock()
    log = Log(clock)
    progress = Progress("hashing", total, log, clock)
    done, last, count = 0, clock.now, 0
    for seconds, size in steps:
        clock.now += seconds
        progress.advance(size)
        waited = clock.now - last
        ends = done < total <= done + size
        done += size
        said = len(log.lines) - count
        assert said <= 1
        assert said or not (ends or (done and waited >= 10))
        if said:
            assert ends or waited >= 1
            assert f"({100 * done // total} %)" in log.lines[-1]
            last, count = clock.now, len(log.lines)


# -- what ----------------------------------------------------------------------------------------


def test_rate_and_time_left() -> None:
    """People decide by these numbers whether to wait: 25 MB in 5 s leave 15 s for 75 MB."""
    log = run(100 * MB, [(5, 25 * MB), (5, 5 * MB), (70, 70 * MB)])
    assert log.lines == [
        "hashing: 25.0 MB of 100.0 MB (25 %), 5.0 MB/s, 15 s left",
        "hashing: 30.0 MB of 100.0 MB (30 %), 3.0 MB/s, 23 s left",
        "hashing: 100.0 MB of 100.0 MB (100 %), 1.2 MB/s, 0 s left",
    ]


def test_what_is_resumed_counts_as_done_and_not_in_the_rate() -> None:
    """Half of a download that is here already made the rate of the other half many times too high:
    25 MB that came in 5 s, after 50 MB were read in 10 s, are 5 MB/s and leave 5 s for 25 MB."""
    clock = Clock()
    log = Log(clock)
    progress = Progress("downloading", 100 * MB, log, clock)
    for count, move, size, seconds in (
        (2, progress.found, 25 * MB, 5),
        (1, progress.advance, 25 * MB, 5),
        (1, progress.found, -75 * MB, 0),  # other bytes than expected: all of it is fetched again
        (1, progress.advance, 25 * MB, 5),
    ):
        for _ in range(count):
            clock.now += seconds
            move(size)
    assert log.lines == [
        "downloading: 25.0 MB of 100.0 MB (25 %)",
        "downloading: 50.0 MB of 100.0 MB (50 %)",
        "downloading: 75.0 MB of 100.0 MB (75 %), 5.0 MB/s, 5 s left",
        "downloading: 25.0 MB of 100.0 MB (25 %), 5.0 MB/s, 15 s left",
    ]


def test_bar_shows_the_rate_of_what_was_moved(screen: Screen) -> None:
    """The same numbers as in a log; none before anything was moved."""
    clock = Clock()
    progress = Progress("downloading", 100 * MB, screen.terminal, clock)
    clock.now += 1
    progress.found(50 * MB)
    assert "/s" not in screen.drawn()
    clock.now += 5
    progress.advance(25 * MB)
    assert "75.0/100.0 MB 5.0 MB/s, 5 s left" in screen.drawn()


def test_real_clock_is_monotonic() -> None:
    """Without a clock of its own it works all the same."""
    lines: list[str] = []
    Progress("hashing", 10, lines.append).advance(10)
    assert len(lines) == 1
    Progress("hashing", 10, silent).advance(10)


# -- bars ----------------------------------------------------------------------------------------


class Screen:
    """A terminal of 100 columns; what was drawn on it, without the control sequences."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.terminal = Terminal(
            Console(file=self.file, force_terminal=True, width=100, color_system=None, _environ={})
        )

    def drawn(self) -> str:
        """Everything since the last call, with the bars as they are now."""
        self.terminal._bars.refresh()
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.file.getvalue())
        self.file.seek(0)
        self.file.truncate()
        return text.replace("\r", "\n")


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    with screen.terminal:
        yield screen


def test_bar_shows_name_and_sizes(screen: Screen) -> None:
    """What is being done, how much of it is done, in the units of everything else."""
    progress = Progress("hashing model.safetensors", 100 * MB, screen.terminal)
    assert re.search(r"hashing model\.safetensors .*0/100\.0 MB", screen.drawn())
    progress.advance(25 * MB)
    assert re.search(r"hashing model\.safetensors .*25\.0/100\.0 MB", screen.drawn())
    progress.advance(-5 * MB)
    assert re.search(r"hashing model\.safetensors .*20\.0/100\.0 MB", screen.drawn())


def test_bar_grows(screen: Screen) -> None:
    """Its full part is as long as the work that is done."""
    progress = Progress("hashing", 100 * MB, screen.terminal)
    lengths = []
    for _ in range(4):
        lengths.append(screen.drawn().splitlines()[-1].count("━"))
        progress.advance(30 * MB)
    assert lengths[0] == 0
    assert lengths[1] > 0
    assert lengths[2] == pytest.approx(2 * lengths[1], abs=1)
    assert lengths[3] == pytest.approx(3 * lengths[1], abs=2)


def test_bar_vanishes_when_it_is_full(screen: Screen) -> None:
    """A hundred files must not leave a hundred bars; and it comes back when it starts over."""
    progress = Progress("hashing", MB, screen.terminal)
    assert "hashing" in screen.drawn()
    progress.advance(MB)
    screen.drawn()
    assert "hashing" not in screen.drawn()
    progress.advance(-1)
    assert "hashing" in screen.drawn()


def test_bar_says_no_lines(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines between the redrawn bars are what the bar is there to replace."""
    said: list[str] = []
    monkeypatch.setattr(Terminal, "__call__", lambda self, line: said.append(line))
    clock = Clock()
    progress = Progress("hashing", 100 * MB, screen.terminal, clock)
    for _ in range(100):
        clock.now += 15
        progress.advance(MB)
    assert said == []
    assert "100 %" not in screen.file.getvalue()


def test_one_bar_at_a_time(screen: Screen) -> None:
    """Artifacts are verified side by side: the first bar that is not full is shown, and then the
    next one with what was done so far."""
    one = Progress("first", 100 * MB, screen.terminal)
    two = Progress("second", 200 * MB, screen.terminal)
    one.advance(10 * MB)
    two.advance(50 * MB)
    drawn = screen.drawn()
    assert re.search(r"first .*10\.0/100\.0 MB", drawn)
    assert "second" not in drawn
    one.advance(90 * MB)
    screen.drawn()
    drawn = screen.drawn()
    assert re.search(r"second .*50\.0/200\.0 MB", drawn)
    assert "first" not in drawn


def test_nothing_to_do_shows_nothing_for_long(screen: Screen) -> None:
    """An empty file: no division by zero, and no bar that stays."""
    progress = Progress("hashing", 0, screen.terminal)
    progress.advance(0)
    screen.drawn()
    assert "hashing" not in screen.drawn()


def test_terminal_prints_lines_as_they_are(screen: Screen) -> None:
    """Paths with brackets are not markup, in a line as in a bar's name."""
    screen.terminal("kept [bold]x[/bold] in [1/2]")
    Progress("hashing [red]x", 10, screen.terminal)
    drawn = screen.drawn()
    assert "kept [bold]x[/bold] in [1/2]" in drawn
    assert "hashing [red]x" in drawn


def test_terminal_leaves_the_lines_and_no_bar() -> None:
    """What remains on the screen is what was said; the bars were only for the time being."""
    screen = Screen()
    with screen.terminal:
        screen.terminal("said")
        Progress("hashing", MB, screen.terminal).advance(10)
    raw = screen.file.getvalue()
    assert "said" in raw
    assert "\x1b[2K" in raw[raw.rindex("hashing") :], "the line of the bar is erased"
    assert raw.index("\x1b[?25l") < raw.index("\x1b[?25h"), "the cursor is shown again"


# -- numbers for people --------------------------------------------------------------------------

UNITS = ("B", "kB", "MB", "GB", "TB")


def bytes_of(text: str) -> float:
    number, unit = text.split(" ")
    return float(number) * 1000 ** UNITS.index(unit)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (999.4, "999 B"),
        (999.5, "1.0 kB"),
        (999.7, "1.0 kB"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (49_800_000, "49.8 MB"),
        (999_949_999, "999.9 MB"),
        (999_950_000, "1.0 GB"),
        (999_950_000_000, "1.0 TB"),
        (50_357_726, "50.4 MB"),
        (26_951_000_000, "27.0 GB"),
        (2_500_000_000_000_000, "2500.0 TB"),
    ],
)
def test_human_bytes(size: float, text: str) -> None:
    """Decimal units, as disks are sold and the hub counts."""
    assert human_bytes(size) == text


@settings(deadline=None)
@given(st.floats(0, 1e15) | st.integers(0, 10**15), st.floats(0, 1e15) | st.integers(0, 10**15))
@example(999.4, 999.6)
@example(999.94, 999.96)
@example(999_949.9, 999_950)
def test_human_bytes_is_monotone(one: float, two: float) -> None:
    """More bytes never read as fewer, and nothing reads ``1000.0 MB``."""
    less, more = sorted((one, two))
    assert bytes_of(human_bytes(less)) <= bytes_of(human_bytes(more))
    for size in (less, more):
        text = human_bytes(size)
        number, unit = text.split(" ")
        assert float(number) < 1000 or unit == "TB"
        assert abs(bytes_of(text) - size) <= max(0.5, 0.05 * 1000 ** UNITS.index(unit)) * 1.001


def seconds_of(text: str) -> int:
    units = {"h": 3600, "min": 60, "s": 1}
    parts = text.split(" ")
    return sum(
        int(number) * units[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True)
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.5, "1 min 00 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.5, "1 h 00 min"),
        (3600, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_human_seconds(seconds: float, text: str) -> None:
    """Two units at most: nobody plans by the seconds of an hour."""
    assert human_seconds(seconds) == text


@settings(deadline=None)
@given(st.floats(0, 1e7), st.floats(0, 1e7))
@example(59.4, 59.6)
@example(3599.4, 3599.6)
def test_human_seconds_is_monotone(one: float, two: float) -> None:
    """A longer time never reads as a shorter one, and nothing reads ``60 s`` or ``60 min``."""
    less, more = sorted((one, two))
    assert seconds_of(human_seconds(less)) <= seconds_of(human_seconds(more))
    for seconds in (less, more):
        text = human_seconds(seconds)
        assert "60" not in re.findall(r"(\d+) (?:s|min)", text)
        assert abs(seconds_of(text) - seconds) <= (60 if "h" in text else 0.5)


def test_quiet_at_first() -> None:
    """What a server answers without reading is done at once: no line, with a rate of nothing."""
    clock = Clock()
    log = Log(clock)
    Progress("comparing", 100, log, clock, quiet=2.0).advance(100)
    assert log.lines == []
    progress = Progress("comparing", 100, log, clock, quiet=2.0)
    clock.now += 3
    progress.advance(50)
    clock.now += 3
    progress.advance(50)
    assert [line.split(",")[0] for line in log.lines] == [
        "comparing: 50 B of 100 B (50 %)",
        "comparing: 100 B of 100 B (100 %)",
    ]
