"""Run the benchmarks and write their tables into ``docs/measurements.md``.

    python benchmarks/all.py [--full] [--folder DIR] [NAME ...]

Without names all of them, in a short form of about 15 minutes on two idle cores. ``--full`` takes
hours, and 120 GB of disk: what the short form measures at sizes that fit into memory is measured
at full size, the checkpoint of 27 GB and 3.7 million rows. A benchmark that fails leaves its table
as it was, and the exit code is 1. That of engines runs in `.venv-engines`, with Slurm and
PostgreSQL; without them it is left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from page import PAGE, put

from wmtp_assets.base.cpus import usable_cpus

SHORT = {
    "limits": "limits.py --gigabytes 1",
    "conversion": "conversion.py --sizes 2 --rounds 1 --kind pth",
    "rows": "rows.py --problems 250 --rounds 1",
    "sharing": "sharing.py --problems 120 --shards 16 --rounds 1",
    "verification": "verification.py --gigabytes 1 --rounds 3",
    "loading": "loading.py --gigabytes 1 --rounds 3",
    "transfer": "transfer.py 256",
    "publishing": "publishing.py --gigabytes 1 --rounds 2",
    "start": "start.py --rounds 3",
    "second_run": "second_run.py --rounds 1",
    "growth": "growth.py --gigabytes 1.4 3 --rows 10000 40000",
    "engines": "engines.py",
}
"""Name of a table → what prints it."""

FULL = SHORT | {
    "limits": "limits.py --gigabytes 8",
    "conversion": "conversion.py --sizes 2 6 --rounds 3",
    "rows": "rows.py --problems 500 1000 --rounds 3",
    "sharing": "sharing.py --problems 600 --shards 18 --rounds 3",
    "verification": "verification.py --gigabytes 4 --rounds 5",
    "loading": "loading.py --gigabytes 2 --rounds 5",
    "transfer": "transfer.py 2048",
    "publishing": "publishing.py --gigabytes 2 --rounds 5",
    "second_run": "second_run.py --rounds 3",
    "growth": "growth.py --gigabytes 2 8 27 --rows 100000 400000 1000000 3700000",
}
"""The same at full size."""

ENGINES = Path(__file__).parents[1] / ".venv-engines/bin/python"


def machine() -> str:
    """Where and when a table was printed."""
    system = f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}"
    busy = os.getloadavg()[0] / usable_cpus()
    others = "" if busy < 1.5 else f", busy with other work too (load {busy:.0f} a CPU)"
    return f"{usable_cpus()} CPUs, {system}, {datetime.now(UTC):%Y-%m-%d}{others}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHORT)}")
    parser.add_argument("--full", action="store_true", help="at full size")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: this one")
    arguments = parser.parse_args()
    commands = FULL if arguments.full else SHORT
    if unknown := {*arguments.names} - {*commands}:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    environment = os.environ | {"PYTHONPATH": str(ENGINES.parents[2])}
    environment |= {"TMPDIR": str(arguments.folder)} if arguments.folder else {}
    failed = []
    for name in arguments.names or commands:
        if name == "engines" and not (ENGINES.exists() and shutil.which("sbatch")):
            print("engines: left out: needs make .venv-engines/installed, and Slurm", flush=True)
            continue
        command, where = commands[name], machine()
        print(f"{name}: python benchmarks/{command}", flush=True)
        script, *options = shlex.split(command)
        python = str(ENGINES) if name == "engines" else sys.executable
        done = subprocess.run(
            [python, Path(__file__).with_name(script), *options],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        print(done.stdout, flush=True)
        if done.returncode:
            failed.append(name)
            continue
        page = put(PAGE.read_text(), name, f"python benchmarks/{command}", done.stdout, where)
        PAGE.write_text(page)
    if failed:
        sys.exit(f"failed, their tables are as they were: {', '.join(failed)}")


if __name__ == "__main__":
    main()
