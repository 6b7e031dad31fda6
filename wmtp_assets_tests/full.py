"""The full form of the injected faults, and the page that says how it went.

Run as a program by ``make test-full``. It takes too long for CI, so that the page is committed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from wmtp_assets.base.settings import timestamp

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs/long-tests.md"

OUTCOMES = ("failure", "error", "skipped")
TEXT = """# Long tests

`make test-full` injects every fault and tries every case of the long tables; CI runs some of them.
The full form takes too long for that, so this page is what it wrote when it was last run.

| | |
|---|---|
"""


def result_of(report: Path) -> dict[str, int]:
    """What a JUnit report counts: tests by outcome, and the points of the sweeps."""
    counts: Counter[str] = Counter()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        counts[next((part.tag for part in case if part.tag in OUTCOMES), "passed")] += 1
        for item in case.iter("property"):
            if item.get("name") == "points":
                counts["points"] += int(item.get("value", 0))
    return dict(counts)


def page(commit: str, date: str, minutes: float, counts: dict[str, int]) -> str:
    """The page about one run."""
    rows = {
        "commit": f"`{commit}`",
        "date": date,
        "CPUs": str(os.cpu_count()),
        "minutes": f"{minutes:.0f}",
        **{name: str(counts.get(name, 0)) for name in ("passed", *OUTCOMES)},
        "points of the crash sweeps": str(counts.get("points", 0)),
    }
    return TEXT + "".join(f"| {name} | {value} |\n" for name, value in rows.items())


def main() -> int:
    """Run them, and write the page."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    commit = subprocess.run(git, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        options = ["-rs", "-n", "auto", "--dist", "worksteal", "-m", "faults"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, f"--junitxml={report}"],
            cwd=PROJECT,
            env={**os.environ, "WMTP_FAULTS": "full"},
            check=False,
        )
        counts = result_of(report)
    minutes = (time.monotonic() - begin) / 60
    PAGE.write_text(page(commit.strip(), timestamp(), minutes, counts))
    print(f"written: {PAGE.relative_to(PROJECT)}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
