"""``wmtp doctor`` as a command: lines, JSON, exit codes, and nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from wmtp_assets_tests.cli.conftest import Wmtp, run_wmtp

TOPICS = (
    "python",
    "torch",
    "sentencepiece",
    "pyarrow",
    "dagster",
    "transformers",
    "endpoint",
    "root",
    "mount",
    "exchange",
    "disk",
    "locks",
    "leftovers",
    "instance",
    "server",
)


def test_good_machine(wmtp: Wmtp) -> None:
    """A line for each thing; warnings do not fail a script."""
    done = wmtp("doctor")
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[1].rstrip(":") for line in lines] == [*TOPICS]
    document = json.loads(wmtp("doctor", "--json").stdout)
    assert document["exit_code"] == 0
    assert [row["topic"] for row in document["conditions"]] == [*TOPICS]


def test_what_will_not_work_is_an_error(wmtp: Wmtp, tmp_path: Path) -> None:
    """1, and what to do about it, where other commands refuse with 64."""
    other = wmtp("doctor", WMTP_SOURCE="hub", HF_HUB_OFFLINE="1")
    assert other.returncode == 1
    assert "error   root: " in other.stdout
    assert "        remedy: set or unset WMTP_STORAGE_ROOT" in other.stdout
    wrong = run_wmtp(tmp_path, "doctor", "--json", WMTP_SOURCE="nonsense")
    assert wrong.returncode == 1
    assert json.loads(wrong.stdout)["conditions"][-1]["topic"] == "settings"


def test_lock_test_alone_proves_nothing(wmtp: Wmtp, root: Path) -> None:
    """2, which a script can tell from locks that do not hold; the same in JSON."""
    done = wmtp("doctor", "--lock-test", "--wait", "0")
    assert done.returncode == 2, done.stderr
    assert "now run on another host" in done.stderr
    assert "nobody else tried the lock within 0 s" in done.stdout
    document = json.loads(wmtp("doctor", "--lock-test", "--wait", "0", "--json").stdout)
    assert document["exit_code"] == 2
    assert [row["topic"] for row in document["conditions"]] == ["mount", "lock"]
    assert wmtp("doctor", "--wait", "1").returncode == 64


def test_token_is_never_shown(wmtp: Wmtp) -> None:
    """Whoever asks for help pastes the whole output."""
    token = "hf_PlantedTokenThatNobodyMaySee"
    for arguments in (("doctor",), ("doctor", "--json")):
        done = wmtp(*arguments, WMTP_SOURCE="hub", HF_TOKEN=token, HF_ENDPOINT="http://127.0.0.1:9")
        assert token not in done.stdout + done.stderr
        assert "is sent no token" in done.stdout


def test_imports_nothing_heavy(root: Path) -> None:
    """torch takes two seconds, and must not be what fails when somebody asks why it fails."""
    script = (
        "import sys\n"
        "from wmtp_assets.operations.doctor.examine import examine\n"
        "list(examine())\n"
        "print([m for m in ('torch', 'dagster', 'pyarrow', 'sentencepiece') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "WMTP_STORAGE_ROOT": str(root)},
    )
    assert done.stdout == "[]\n"
