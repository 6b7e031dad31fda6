"""What the system refuses a command: one message, and exit code 74."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MAIN = "from wmtp_assets.cli.main import main; main()"
REFUSED = 74
COMMANDS = [("status",), ("status", "--json"), ("--help",), ("show", "humaneval_raw")]


def wmtp(
    root: Path, *arguments: str, code: str = MAIN, closes: tuple[int, ...] = (), **options: object
) -> subprocess.CompletedProcess[str]:
    """``wmtp`` in an interpreter of its own; ``closes``: outputs that it does not have."""

    def prepare() -> None:
        for number in closes:
            os.close(number)

    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "WMTP_SOURCE": "", "WMTP_STORAGE_ROOT": str(root)},
        text=True,
        check=False,
        preexec_fn=prepare,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},  # type: ignore
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_nobody_reads_the_output(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """As with ``| head``: nothing is said."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = wmtp(tmp_path, *arguments, stdout=theirs)
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (REFUSED, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", COMMANDS[:2], ids=" ".join)
def test_output_is_full(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A script must not take half of a document for all of it."""
    with Path("/dev/full").open("w") as full:
        done = wmtp(tmp_path, *arguments, stdout=full)
        assert done.returncode == REFUSED
        assert done.stderr == "wmtp: the system refused: No space left on device. Then run again\n"
        assert wmtp(tmp_path, *arguments, stdout=full, stderr=full).returncode == REFUSED


@pytest.mark.parametrize("closes", [(1,), (2,), (1, 2), (0, 1, 2)], ids=str)
def test_output_was_closed(tmp_path: Path, closes: tuple[int, ...]) -> None:
    """Nobody wanted it: the code is that of the command, and no file gets its number."""
    inherited = {"stdout": None, "stderr": None}
    done = wmtp(tmp_path, "status", "humaneval_raw", closes=closes, **inherited)
    assert done.returncode == 2


@pytest.mark.parametrize("name", ["latin\udcff", "été", "\x1b[31m"])
def test_output_of_another_encoding(tmp_path: Path, name: str) -> None:
    """What it lacks is written as an escape."""
    root = tmp_path / name
    done = wmtp(
        root, "status", code=f"import sys; sys.stdout.reconfigure(encoding='ascii'); {MAIN}"
    )
    assert done.returncode == 2
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout


PATCHES = {
    "no threads": (
        "from wmtp_assets.rules import apply\n"
        'def call(*a, **k): raise RuntimeError("can\'t start new thread")\n'
        "apply.apply_in_child = call\n",
        "can't start new thread",
    ),
    "no processes": (
        "import os, subprocess\n"
        "def start(*a, **k): raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "subprocess.Popen = start\n",
        "Resource temporarily unavailable",
    ),
    "no memory": (
        "from wmtp_assets.rules import apply\n"
        "def call(*a, **k): raise MemoryError\n"
        "apply.apply_in_child = call\n",
        "not enough memory",
    ),
    "no room for a library": (
        "from wmtp_assets.rules import apply\n"
        "def call(*a, **k): raise ImportError('libx.so: cannot map', name='pyarrow.lib')\n"
        "apply.apply_in_child = call\n",
        "libx.so: cannot map",
    ),
}


@pytest.mark.parametrize("name", PATCHES)
def test_nothing_is_left_of_something(root: Path, name: str) -> None:
    """Threads, processes, memory: of the machine, and no defect of the program."""
    code, said = PATCHES[name]
    done = wmtp(root, "verify", "humaneval_stats", code=code + MAIN)
    assert done.returncode == REFUSED
    assert done.stderr == f"wmtp: the system refused: {said}. Then run again\n"


def test_file_that_would_be_too_large(root: Path) -> None:
    """A limit of the size of files (EFBIG): what is committed stays, and no half file is left."""
    limit: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # noqa: E731
    before = sorted(path.name for path in root.iterdir())
    done = subprocess.run(
        [sys.executable, "-B", "-c", MAIN, "repair", "humaneval_card"],
        env={**os.environ, "WMTP_SOURCE": "", "WMTP_STORAGE_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode in (0, 1, REFUSED), done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in root.iterdir()) == before


def test_defect_is_told(tmp_path: Path) -> None:
    """With a traceback, in which what others wrote is an escape too."""
    code = (
        "from wmtp_assets.cli import common\n"
        "def fail(*a): raise KeyError('\\x1b[31m\\u202e')\n"
        "common.load_catalogue = fail\n"
    )
    done = wmtp(tmp_path, "status", code=code + MAIN)
    assert done.returncode == 70
    assert done.stderr.startswith("wmtp: this is a defect of the program\nTraceback")
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr
