"""What a second run of the sample costs, where nothing changed.

    python benchmarks/second_run.py [--rounds 3]

Runs ``dagster asset materialize --select 'not tag:optional=true'`` in a new root and instance, and
then again. Prints seconds of the clock and of the CPU, bytes written below the root outside
``.wmtp/``, and the ratio to the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from wmtp_assets.catalogue.artifact import INTERNAL

PROJECT = Path(__file__).parents[1]
COMMAND = ("asset", "materialize", "--select", "not tag:optional=true")


def run(root: Path, instance: Path) -> tuple[float, float]:
    """Seconds of the clock and of the CPU of one run."""
    environment = {
        **os.environ,
        "WMTP_SOURCE": "sample",
        "WMTP_STORAGE_ROOT": str(root),
        "DAGSTER_HOME": str(instance),
        "PYTHONPATH": str(PROJECT),
    }
    command = [sys.executable, "-m", "dagster", *COMMAND, "-m", "wmtp_assets.definitions"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, env=environment, cwd=PROJECT, capture_output=True)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def state(root: Path) -> dict[str, tuple[int, int, int]]:
    """Size, mtime and inode of every file below a root but those of ``.wmtp/``."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ino)
        for path in files
        if path.relative_to(root).parts[0] != INTERNAL
    }


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    with tempfile.TemporaryDirectory(prefix="wmtp-second-") as name:
        root, instance = Path(name, "storage"), Path(name, "instance")
        instance.mkdir()
        settings = PROJECT / ".dagster" / "sample" / "dagster.yaml"
        (instance / "dagster.yaml").write_bytes(settings.read_bytes())
        first = run(root, instance)
        before = state(root)
        again = [run(root, instance) for _ in range(parser.parse_args().rounds)]
        after = state(root)
    second = tuple(statistics.median(column) for column in zip(*again, strict=True))
    written = sum(after[path][0] for path in after if before.get(path) != after[path])
    print(
        json.dumps(
            {
                "first": {"seconds": round(first[0], 1), "cpu_seconds": round(first[1], 1)},
                "second": {"seconds": round(second[0], 1), "cpu_seconds": round(second[1], 1)},
                "ratio": round(second[0] / first[0], 2),
                "cpu_ratio": round(second[1] / first[1], 2),
                "bytes_written": written,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
