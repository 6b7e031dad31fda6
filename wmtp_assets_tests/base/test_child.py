"""The child process: what is said and raised comes through, and its end is an error of one call."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base import child
from wmtp_assets.base.child import ChildDied, Other, call, directly, reading, stop
from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.progress import Say
from wmtp_assets.datasets.jsonl import BadLine


@pytest.fixture(autouse=True)
def new_child() -> Iterator[None]:
    """Each test has its own."""
    stop()
    yield
    stop()


def _unpacked(pid: int) -> None:
    if os.getpid() != pid:
        raise AttributeError("no such class here")


class Unknown:
    """Can be unpacked in the process that packed it only, as what another version declares."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return _unpacked, (os.getpid(),)


def test_request_that_cannot_be_unpacked(capfd: pytest.CaptureFixture[str]) -> None:
    """The child ends, and says why; nobody waits for an answer that cannot come."""
    with pytest.raises(ChildDied, match=r"exit code 1$"):
        call(fail, Unknown())
    assert "no such class here" in capfd.readouterr().err
    assert call(number) != os.getpid()


# -- what is called --------------------------------------------------------------------------------


def number(say: Say) -> int:
    return os.getpid()


def speak(lines: list[str], say: Say) -> int:
    for line in lines:
        say(line)
    return len(lines)


def draw(total: int, say: Any) -> None:
    first, second = say.bar("first", total), say.bar("second", 0)
    for done in range(total + 1):
        first(done, f"{done} B/s")
    second(0, "")


def surroundings(say: Say) -> tuple[str | None, str, str]:
    return os.environ.get("WMTP_TEST"), str(Path("x").absolute().parent), str(Path.cwd())


def fail(error: BaseException, say: Say) -> None:
    raise error


def unpicklable(say: Say) -> Any:
    return lambda: None


def fail_unpicklably(say: Say) -> None:
    error = ValueError("no")
    error.more = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
    raise error


def segfault(path: str, say: Say) -> None:
    reading(path)
    ctypes.string_at(0)


def bus_error(path: str, say: Say) -> None:
    """A mapped file that somebody cuts off."""
    reading(path)
    with Path(path).open("r+b") as file:
        file.truncate(1 << 20)
        mapped = mmap.mmap(file.fileno(), 0)
        file.truncate(0)
        _ = mapped[1 << 19]


def die(code: int, say: Say) -> None:
    os._exit(code)


def hog(path: str, say: Say) -> None:
    reading(path)
    _ = [b"x" * (256 << 20) for _ in range(100)]


def wait(say: Say) -> None:
    say("waiting")
    time.sleep(600)


def pause(say: Say) -> None:
    say("pausing")
    time.sleep(3)


def nested_json(path: str, say: Say) -> None:
    """What pyarrow does with 200 kB of brackets."""
    import pyarrow.json

    reading(path)
    pyarrow.json.read_json(path)


# -- what comes through ----------------------------------------------------------------------------


def test_one_child_serves_many_calls() -> None:
    """Imports are done once; and it is another process."""
    first = call(number)
    assert first != os.getpid()
    assert call(number) == first
    assert directly(number) == os.getpid()


def test_lines_come_in_order_before_the_result() -> None:
    """Progress is shown while it is made."""
    lines = [f"line {n}" for n in range(200)]
    heard: list[str] = []
    assert call(speak, lines, say=heard.append) == 200
    assert heard == lines


class Screen:
    """A terminal: it has bars."""

    def __init__(self) -> None:
        self.bars: dict[str, tuple[int, list[tuple[int, str]]]] = {}

    def __call__(self, line: str) -> None:
        raise AssertionError(line)

    def bar(self, label: str, total: int) -> Callable[[int, str], None]:
        self.bars[label] = total, steps = total, []
        return lambda done, pace: steps.append((done, pace))


def test_bars_are_drawn_by_the_parent() -> None:
    """A hundred steps of each at most, the first and the last among them."""
    screen = Screen()
    call(draw, 5000, say=screen)
    total, steps = screen.bars["first"]
    assert (total, steps[0], steps[-1]) == (5000, (0, "0 B/s"), (5000, "5000 B/s"))
    assert len(steps) <= 101
    assert screen.bars["second"] == (0, [(0, "")])


def test_environment_and_folder_are_those_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child outlives changes to both."""
    call(number)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WMTP_TEST", "one")
    assert call(surroundings) == ("one", str(tmp_path), str(tmp_path))
    monkeypatch.delenv("WMTP_TEST")
    assert call(surroundings)[0] is None


SECRETS = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "WMTP_WEBHOOK_URL",
    "WMTP_PUBLISH_URL",
    "VESSL_ACCESS_TOKEN",
    "HTTPS_PROXY",
    "GITHUB_TOKEN",
    "SOMEBODYS_PASSWORD",
)


def environments(say: Say) -> tuple[bytes, str]:
    """As the child was started, and as it is now."""
    return Path("/proc/self/environ").read_bytes(), repr(dict(os.environ))


@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_in_its_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hostile file could have a parser do there finds none."""
    monkeypatch.setenv(name, "planted-secret")
    started, now = call(environments)
    assert b"planted-secret" not in started
    assert "planted-secret" not in now


def rights(say: Say) -> str:
    return Path("/proc/self/status").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
def test_it_gains_no_rights() -> None:
    """A program with the set-user-ID bit gives it none."""
    assert "NoNewPrivs:\t1" in call(rights)


def spin(path: str, say: Say) -> None:
    reading(path)
    while True:
        pass


def test_cpu_is_bounded() -> None:
    """A file that a parser never ends with is an error of that call; the next one works."""
    assert call(number) == call(number)
    with pytest.raises(ChildDied, match=r"reading a\.pkl ended with more than 1 s of CPU"):
        call(spin, "a.pkl", cpu=1)
    call(number)


def test_cpu_is_counted_by_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """What earlier calls took does not count."""
    pid = call(number)
    for _ in range(4):
        call(spin_for, 0.6, cpu=1)
    assert call(number) == pid


def spin_for(seconds: float, say: Say) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput("x.pth: not a checkpoint"),
        BadLine(Path("a.jsonl"), 3, "nested"),
        ChildDied("x.parquet", "SIGSEGV"),
        OSError(28, "No space left on device", "x"),
        ValueError("no"),
        EOFError("what the end of the child looks like"),
        BrokenPipeError(32, "so does this"),
        SystemExit(3),
    ],
    ids=repr,
)
def test_errors_keep_type_text_and_fields(error: BaseException) -> None:
    """Whoever catches them decides by all three; and the child continues."""
    before = call(number)
    with pytest.raises(type(error)) as raised:
        call(fail, error)
    assert str(raised.value) == str(error)
    assert raised.value.args == error.args
    found = {name: value for name, value in vars(raised.value).items() if name != "__notes__"}
    assert found == vars(error)
    assert call(number) == before


@pytest.mark.parametrize("function", [unpicklable, fail_unpicklably])
def test_what_cannot_be_sent_is_an_error(function: Callable[..., Any]) -> None:
    """And no parent that waits forever."""
    before = call(number)
    with pytest.raises(TypeError, match=f"{function.__name__}: .* of no use here"):
        call(function)
    assert call(number) == before


# -- how it ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "cause"), [(segfault, "SIGSEGV"), (bus_error, "SIGBUS")])
def test_crash_is_an_error_that_names_the_file(
    function: Callable[..., Any], cause: str, tmp_path: Path
) -> None:
    """Real ones; and the next call has a new child."""
    path = tmp_path / "größe.parquet"
    path.touch()
    before = call(number)
    with pytest.raises(ChildDied) as died:
        call(function, str(path))
    assert (died.value.reading, died.value.cause) == (str(path), cause)
    assert call(number) not in (before, os.getpid())


def test_crash_of_a_parser(tmp_path: Path) -> None:
    """The row that ends pyarrow 26; a later one may refuse it, but this process lives."""
    path = tmp_path / "nested.jsonl"
    path.write_bytes(b'{"a": ' + b"[" * 200_000)
    with pytest.raises((ChildDied, OSError, ValueError)) as raised:
        call(nested_json, str(path))
    if isinstance(raised.value, ChildDied):
        assert (raised.value.reading, raised.value.cause) == (str(path), "SIGSEGV")
    assert call(number)


def test_exit_is_told() -> None:
    """A library that calls exit; nothing was read."""
    with pytest.raises(ChildDied, match=r"^reading it ended with exit code 7$"):
        call(die, 7)


def test_what_was_read_before_is_not_blamed(tmp_path: Path) -> None:
    """A file of an earlier call."""
    path = tmp_path / "x"
    path.touch()
    call(reading_only, str(path))
    with pytest.raises(ChildDied) as died:
        call(die, 1)
    assert died.value.reading == ""


def reading_only(path: str, say: Say) -> None:
    reading(path)


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of memory elsewhere")
@pytest.mark.long
def test_too_much_memory_is_told(tmp_path: Path) -> None:
    """A file that asks for 25 GB gets 4, and says so."""
    with pytest.raises(ChildDied, match=r"x\.parquet ended with more than 4"):
        call(hog, "x.parquet")
    assert call(number)


def test_interrupt_ends_the_child() -> None:
    """Ctrl-C in a long call: it does not continue unseen, and the next call works."""
    before = call(number)

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(wait, say=interrupt)
    assert not is_there(before)
    assert call(number) != before


def test_ctrl_c_of_the_terminal(tmp_path: Path) -> None:
    """It reaches both processes: the parent is interrupted, and no child stays."""
    code = (
        "from wmtp_assets.base.child import call\n"
        "from wmtp_assets_tests.base.test_child import number, wait\n"
        "print(call(number), flush=True)\n"
        "call(wait, say=lambda line: print(line, flush=True))\n"
    )
    with started(code) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "waiting\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT
    wait_until(lambda: not is_there(pid))


def test_child_ends_with_its_parent() -> None:
    """Also in the middle of a call, and when the parent is killed."""
    code = (
        "from wmtp_assets.base.child import call\n"
        "from wmtp_assets_tests.base.test_child import number, wait\n"
        "print(call(number), flush=True)\n"
        "call(wait)\n"
    )
    with started(code) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    wait_until(lambda: not is_there(pid))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_has_a_child_of_its_own() -> None:
    """Two processes on one connection would get each other's answers."""
    mine = call(number)
    reader, writer = os.pipe()
    forked = os.fork()
    if not forked:
        os.write(writer, str(call(number)).encode())
        stop()
        os._exit(0)
    os.waitpid(forked, 0)
    theirs = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    assert theirs != mine
    assert call(number) == mine


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_in_the_middle_of_a_call_is_not_stuck() -> None:
    """The thread that would give the lock back is not there in a forked process."""
    said = threading.Event()

    def hear(line: str) -> None:
        said.set()

    thread = threading.Thread(target=lambda: call(pause, say=hear))
    thread.start()
    assert said.wait(60)
    forked = os.fork()
    if not forked:
        signal.alarm(60)
        call(number)
        stop()
        os._exit(0)
    assert os.waitpid(forked, 0)[1] == 0
    thread.join()


def test_threads_take_turns() -> None:
    """One call at a time, each with its own answer."""
    answers: dict[int, int] = {}

    def ask(count: int) -> None:
        answers[count] = call(speak, ["x"] * count)

    threads = [threading.Thread(target=ask, args=(count,)) for count in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {count: count for count in range(20)}


def test_stop_leaves_nothing() -> None:
    """No process, no zombie; and stopping twice, or before the start, is nothing."""
    pid = call(number)
    stop()
    assert child._child is None
    assert not is_there(pid)
    stop()
    assert call(number) != pid


def is_there(pid: int) -> bool:
    """Whether a process is there, be it one of our zombies."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    """For things that happen soon, on a machine that may be busy."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def started(code: str) -> subprocess.Popen[str]:
    """An interpreter of its own, in a group of processes of its own, which Ctrl-C interrupts also
    where the tests themselves run in the background of a script."""
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.Popen(
        [sys.executable, "-c", heard + code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def test_another_child_is_a_process_of_its_own() -> None:
    """Two calls at the same time have two processes; behind it only the first one is left."""
    first = call(number)
    with Other() as another:
        second = another.call(number)
        assert second == another.call(number) != first == call(number)
    assert not is_there(second)
    assert call(number) == first
