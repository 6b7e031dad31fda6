"""What ``make materialize`` shows of a run, on a terminal and in a pipe."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from wmtp_assets.base.errors import MissingArtifact, SpecError
from wmtp_assets.components import instance
from wmtp_assets.components import materialize as module
from wmtp_assets.components import watch as watching
from wmtp_assets.components.checks import result_of
from wmtp_assets.components.failures import plain_failures
from wmtp_assets.components.materialize import PatientConsole, Screen, command_of, selection_of
from wmtp_assets.components.watch import Watch, artifact_of, line_of
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.rules.findings import Finding, Outcome
from wmtp_assets_tests.components.test_commands import PROJECT, Shell, project, shell

__all__ = ["project", "shell"]

ESCAPE = "\x1b"
REMEDY = "wmtp repair mbpp_small"
MISSING = (
    "micro_mtp is made from artifacts that are not there: meta_llama_mtp_raw. Make them, and "
    "micro_mtp, with: dagster asset materialize --select 'meta_llama_mtp_raw,micro_mtp'"
)


def finding(problem: str) -> Finding:
    file = "datasets_local_small/mbpp_small/test_small.jsonl"
    return Finding(
        "rule",
        "mbpp_small",
        problem,
        file,
        "line 3",
        "a row " * 30,
        "nothing",
        REMEDY,  # type: ignore[arg-type]
    )


def run(*, is_good: bool) -> Iterator[dg.EventLogEntry]:
    """The events of a real run of three artifacts, of which one or two fail."""

    @dg.asset(key="mbpp_raw")
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        context.log.info("downloading: 3 of 4")
        return dg.MaterializeResult(metadata={"dagster/size_bytes": 4_000_000, "made": "made"})

    @dg.asset(key="micro_mtp")
    def fails() -> dg.MaterializeResult:
        with plain_failures():
            if not is_good:
                raise MissingArtifact(MISSING)
        return dg.MaterializeResult(metadata={"dagster/size_bytes": 1})

    @dg.multi_asset(
        name="mbpp_small",
        specs=[dg.AssetSpec("mbpp_small", deps=["mbpp_raw"])],
        check_specs=[
            dg.AssetCheckSpec(name, asset="mbpp_small", blocking=True)
            for name in ("sha256", "twins", "schema")
        ],
    )
    def unchanged() -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        yield dg.MaterializeResult(metadata={"dagster/size_bytes": 5, "made": "unchanged"})
        yield result_of("sha256", Outcome())
        yield result_of("twins", Outcome([finding("warning")]))
        yield result_of("schema", Outcome([] if is_good else [finding("corrupt")] * 2))

    with dg.DagsterInstance.ephemeral() as ephemeral:
        done = dg.materialize([made, unchanged, fails], instance=ephemeral, raise_on_error=False)
        yield from ephemeral.all_logs(done.run_id)


@pytest.fixture(scope="module")
def bad() -> Watch:
    watch = Watch({})
    for entry in run(is_good=False):
        watch.feed(entry)
    return watch


@pytest.fixture(scope="module")
def good() -> Watch:
    watch = Watch({})
    for entry in run(is_good=True):
        watch.feed(entry)
    return watch


def shown(watch: Watch, tmp_path: Path, *, is_terminal: bool = False, good: bool = True) -> str:
    """Everything that is printed about a run that has ended."""
    for item in watch.items.values():
        item.is_told = False
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=is_terminal, _environ={"TERM": "xterm"})
    screen = Screen(console)
    log = tmp_path / "materialize.log"
    log.write_text("the log\n")
    with screen.live(watch):
        for item in watch.told():
            screen.line(*line_of(item))
    again = () if good else (("make materialize", "again"),)
    module._sum_up(watch, load_catalogue(), screen, log, again)
    return file.getvalue()


def test_line_comes_when_the_step_has_ended() -> None:
    """Its last check is not its end, and its time is known at its end only."""
    watch = Watch({})
    told = []
    for entry in run(is_good=True):
        watch.feed(entry)
        for item in watch.told():
            assert item.key not in map(artifact_of, watch.running)
            told.append(item.key)
    assert sorted(told) == ["mbpp_raw", "mbpp_small", "micro_mtp"]


def test_events_are_counted(good: Watch) -> None:
    """What is done of how many, checks, bytes: from events of the instance, not from log lines."""
    assert (good.made, good.planned, good.checks) == (3, 3, 3)
    assert good.counts == (2, 1, 0)
    assert good.size == 4_000_006
    assert (good.end, good.failures, good.running) == ("success", [], {})
    assert good.share == pytest.approx(1)


def test_time_left_is_said_when_something_is_known() -> None:
    """Not from the first second on, when it could only be made up."""
    watch = Watch({})
    entries = [*run(is_good=True)]
    lefts = []
    for entry in entries:
        watch.feed(entry)
        lefts.append(watch.left((watch.started or 0) + 10))
    first = next(number for number, left in enumerate(lefts) if left is not None)
    assert first > 5
    assert all(left is not None for left in lefts[first:])
    assert lefts[-1] == pytest.approx(0)


def test_step_that_runs_says_how_far_it_is() -> None:
    """A download of hours is one step: its own last line is all there is to see."""
    watch = Watch({})
    for entry in run(is_good=True):
        watch.feed(entry)
        if watch.said:
            break
    assert watch.said == {"mbpp_raw": "downloading: 3 of 4"}
    assert [*watch.running] == ["mbpp_raw"]
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, _environ={"TERM": "xterm"})
    console.print(module._View(watch))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "0 of 3 made, 0 of 3 checks passed, 0 B" in text
    assert "mbpp_raw, " in text
    assert "downloading: 3 of 4" in text
    assert max(map(len, text.splitlines())) <= 80


def test_log_is_told_after_a_silence(monkeypatch: pytest.MonkeyPatch, good: Watch) -> None:
    """A download of hours in a CI job: somebody would take it for dead."""
    monkeypatch.setattr(module, "SILENCE", 0)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
    file = io.StringIO()
    with dg.DagsterInstance.ephemeral() as ephemeral:
        module._follow(child, ephemeral, good, Screen(Console(file=file, width=80)))
    assert "3 of 3 made, 2 of 3 checks passed, 1 warned, 4.0 MB, " in file.getvalue()


def test_failure_says_what_where_why_and_the_remedy(bad: Watch, tmp_path: Path) -> None:
    """At the end, where people look, and with commands on lines of their own, to be copied."""
    text = shown(bad, tmp_path, good=False)
    lines = text.splitlines()
    assert "FAILED micro_mtp" in lines
    assert "  remedy   dagster asset materialize --select 'meta_llama_mtp_raw,micro_mtp'" in lines
    assert "are not there: meta_llama_mtp_raw." in " ".join(text.split())
    check = lines.index("FAILED mbpp_small: schema")
    assert lines[check + 1] == "  where    datasets_local_small/mbpp_small/test_small.jsonl: line 3"
    assert lines[check + 2].startswith("  expected a row a row")
    assert "  found    nothing" in lines
    assert "  findings 2 in all; this is the first" in lines
    assert f"  remedy   {REMEDY}" in lines
    assert any(line.startswith("failed after ") and "2 made, 1 not made" in line for line in lines)
    assert lines[-1].split() == ["make", "materialize", "again"]


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        (
            "no connection. Check it. Then run: wmtp lock a",
            "no connection. Check it",
            "wmtp lock a",
        ),
        ("it was overtaken. Run again: wmtp pull a", "it was overtaken", "wmtp pull a"),
        ("it changed; run: wmtp verify a", "it changed", "wmtp verify a"),
        ("it is damaged. Repair it with: wmtp repair a", "it is damaged", "wmtp repair a"),
        ("https: no host. Run again", "https: no host. Run again", ""),
    ],
)
def test_remedy_is_cut_off_with_the_words_before_it(text: str, what: str, remedy: str) -> None:
    """ "Then run" with nothing behind it reads as if the line had been cut off."""
    assert watching._with_remedy(text) == (what, remedy)


@pytest.mark.parametrize("is_good", [True, False])
def test_plain_lines_in_a_pipe(good: Watch, bad: Watch, tmp_path: Path, is_good: bool) -> None:
    """80 columns, no escape, no padding; the end has a table by group, the log, three commands."""
    text = shown(good if is_good else bad, tmp_path, good=is_good)
    assert ESCAPE not in text
    lines = text.splitlines()
    log = f"Log {tmp_path / 'materialize.log'}"  # one word, as long as the path is
    assert [line for line in lines if len(line) > 80 and "remedy" not in line and line != log] == []
    assert [line for line in lines if line != line.rstrip()] == []
    assert sum(line.startswith("  make ") for line in lines) == 3
    title = next(line for line in lines if line.startswith("group "))
    groups = lines[lines.index(title) + 1 :][:4]
    assert [line.split()[0] for line in groups] == ["micro", "datasets", "small", "all"]
    assert log in lines
    assert "Warned: mbpp_small: twins" in lines
    assert "What they found: wmtp verify mbpp_small" in lines


def test_live_view_is_gone_at_the_end(good: Watch, tmp_path: Path) -> None:
    """On a terminal there is a bar while it runs, and what remains are the lines."""
    text = shown(good, tmp_path, is_terminal=True)
    assert ESCAPE in text
    assert "━" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert "━" not in text.rpartition("\x1b[?25h")[2]


@pytest.mark.parametrize(
    ("select", "meant"),
    [("micro_mpt", "'micro_mtp'"), ("+humaneval_smal", "'humaneval_small'"), ("micro-mtp", "")],
)
def test_unknown_name_in_a_selection(select: str, meant: str) -> None:
    """Said before Dagster is started, with the name that was meant."""
    with pytest.raises(SpecError, match=f"is not an asset.*{meant}"):
        selection_of(select, load_catalogue())


@pytest.mark.parametrize("force", [False, True])
def test_command_that_is_run(force: bool) -> None:
    """The literal commands of the pages, whose log is whole; ``stale`` is a job."""
    catalogue = load_catalogue()
    made = command_of("+micro_mtp", catalogue, force=force)
    assert made[:6] == ["-m", "dagster", "asset", "materialize", "--select", "*micro_mtp"]
    stale = command_of("stale", catalogue, force=force)
    assert stale[:6] == ["-m", "dagster", "job", "execute", "-j", "stale"]
    files = [str(PROJECT / f".dagster/{name}.yaml") for name in ("log", *["force"] * force)]
    for command in (made, stale):
        assert [part for part in command if part.endswith(".yaml")] == files


def test_run_that_does_not_begin(tmp_path: Path) -> None:
    """Its exit code is passed on, and the log's end is shown: there is no event to read."""
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    file = io.StringIO()
    screen, watch = Screen(Console(file=file, width=80)), Watch({})
    with dg.DagsterInstance.ephemeral() as ephemeral:
        assert module._follow(child, ephemeral, watch, screen) == 3
    assert "The run did not begin. The log ends:\n  the log\n" in shown(watch, tmp_path, good=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_the_runs(number: signal.Signals) -> None:
    """Ctrl-C reaches the run once, and what it does then is up to it."""
    code = (
        "import signal, sys, time\n"
        f"signal.signal({number.value}, lambda *_: sys.exit(7))\n"
        "print(flush=True)\n"
        "time.sleep(60)"
    )
    before = signal.getsignal(number)
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    with child.stdout, module._passing_on(child) as sent:
        child.stdout.readline()
        os.kill(os.getpid(), number)
        assert child.wait(30) == 7
    assert sent == [number]
    assert signal.getsignal(number) is before


def test_interrupted_run_is_no_failure() -> None:
    """Who pressed Ctrl-C knows why it ended."""

    @dg.asset(key="mbpp_raw")
    def made() -> None:
        raise dg.DagsterExecutionInterruptedError

    watch = Watch({})
    with dg.DagsterInstance.ephemeral() as ephemeral:
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            dg.materialize([made], instance=ephemeral)
        (ended,) = ephemeral.get_runs()
        for entry in ephemeral.all_logs(ended.run_id):
            watch.feed(entry)
    assert (watch.end, watch.failures) == ("interrupted", [])


def test_old_logs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty are kept: a full disk would be a strange end of a log."""
    monkeypatch.setattr(instance, "LOGS_KEPT", 2)
    logs = tmp_path / "logs"
    logs.mkdir()
    for day in range(5):
        (logs / f"materialize-2026010{day}-000000-1.log").touch()
    (logs / "ui-20260101-000000-1.log").touch()
    new = instance.new_log(tmp_path, "materialize")
    assert sorted(path.name for path in logs.iterdir()) == [
        "materialize-20260103-000000-1.log",
        "materialize-20260104-000000-1.log",
        "ui-20260101-000000-1.log",
    ]
    assert not new.exists()


@pytest.mark.long
def test_nobody_reads_it(tmp_path: Path) -> None:
    """``make materialize | head``: the run continues to its end."""
    script = (
        "import time; from wmtp_assets.components.materialize import *\n"
        "screen = Screen(PatientConsole())\n"
        "for number in range(200):\n"
        "    screen.line(str(number)); time.sleep(0.001)\n"
        f"open({str(tmp_path / 'end')!r}, 'w')"
    )
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "$0" | head -1; echo $PIPESTATUS', script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == (["0", "0"], "")
    assert (tmp_path / "end").exists()
    assert issubclass(PatientConsole, Console)


def in_terminal(argv: list[str], environment: dict[str, str], folder: Path) -> tuple[str, int]:
    """Run a program on a pseudo-terminal; what it wrote there, and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        argv, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said, end = b"", time.monotonic() + 300
    while time.monotonic() < end:
        if not select.select([ours], [], [], 1)[0]:
            continue
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        said += piece
    os.close(ours)
    return said.decode(), process.wait(30)


@pytest.mark.long
def test_make_materialize(
    shell: Shell, project: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing, from make to the instance: plain in a pipe, alive on a terminal, and the
    whole log in the file that is named. All of the graph prints one line per artifact more."""
    command = "make -o .venv/installed materialize SELECT=humaneval_small"
    done = shell(command)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) < 20
    assert max(map(len, lines[1:])) <= 80
    assert ESCAPE not in done.stdout
    assert any(re.match(r"humaneval_small +unchanged .* 4 passed", line) for line in lines)
    (log,) = {line.removeprefix("Log ") for line in lines if line.startswith("Log ")}
    text = (project / log).read_text()
    assert "DEBUG" in text
    assert "BetaWarning" not in text

    environment = {**os.environ, "WMTP_STORAGE_ROOT": str(root), "TERM": "xterm"}
    seen, code = in_terminal(["bash", "-c", f"exec {command}"], environment, project)
    assert code == 0
    assert "starting Dagster" in seen
    assert "of 4 checks passed" in seen
    assert "DEBUG" not in seen


@pytest.mark.long
def test_literal_command_is_quiet(shell: Shell) -> None:
    """No line of level DEBUG, and no warning about what is Dagster's own affair."""
    done = shell("source activate.sh && dagster asset materialize --select humaneval_small")
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) <= 10, done.stderr
    assert "Warning" not in done.stderr
    assert "DEBUG" not in done.stderr
