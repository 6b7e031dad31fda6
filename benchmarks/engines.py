"""What a step costs with each engine, beyond what it does.

    PYTHONPATH=. .venv-engines/bin/python benchmarks/engines.py [--select SELECTION] [--engines ...]

Makes a part of the sample in one process, and runs it again with each engine: nothing has changed,
so that what is left is the engine. Prints CPU seconds of the machine during the run, what a step
takes beyond one of ``in_process``, and seconds of the clock. The servers of Slurm and Ray were
started before, and work during the run. Linux only, on a machine that has no other work: Ray starts
workers that belong to no process of the run, so that what counts is the whole machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from wmtp_assets.base.cpus import usable_cpus
from wmtp_assets_tests.engines import programs
from wmtp_assets_tests.engines.site import Site

IDLE = slice(3, 5)
"""Fields of ``cpu`` in ``/proc/stat`` that are no work: idle, iowait (proc_stat(5))."""


@contextmanager
def servers(engine: str, site: Site) -> Iterator[Mapping[str, str]]:
    """What an engine needs, and the variables that find it."""
    if engine == "slurm":
        with programs.slurm() as slurm:
            yield slurm.environment
    elif engine == "ray":
        with programs.ray(site.variables) as ray:
            yield {"RAY_ADDRESS": ray.address}
    else:
        yield {}


def cpu_seconds() -> float:
    """Of all processes of the machine, since it was started."""
    times = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    return (sum(times) - sum(times[IDLE])) / os.sysconf("SC_CLK_TCK")


def measure(engine: str, site: Site, select: str) -> tuple[float, float, int]:
    """CPU seconds of a run, those of the clock, and its steps."""
    before = site.runs()
    with servers(engine, site) as variables:
        begin, started = cpu_seconds(), time.monotonic()
        process = site.start(select, engine, (), {"poll_seconds": 20}, **variables)
        if process.wait():
            raise SystemExit(site.log.read_text()[-3000:])
        seconds, cpu = time.monotonic() - started, cpu_seconds() - begin
    (run,) = site.newest(before)
    return cpu, seconds, len(site.events(run.run_id, dg.DagsterEventType.STEP_SUCCESS))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--select", default="*humaneval_small")
    parser.add_argument("--engines", nargs="+", default=["multiprocess", "slurm", "ray"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, programs.postgres() as database:
        os.environ["WMTP_DATABASE_URL"] = database.url
        site = Site.make(Path(name, "storage"), database.url)
        measure("in_process", site, options.select)
        alone, seconds, steps = measure("in_process", site, options.select)
        print(f"{steps} steps in which nothing changed, {usable_cpus()} CPUs")
        print(f"{'engine':<14}{'CPU s':>8}{'beyond it, per step':>21}{'wall':>9}")
        print(f"{'in_process':<14}{alone:>8.1f}{'':>21}{seconds:>7.1f} s", flush=True)
        for engine in options.engines:
            cpu, seconds, steps = measure(engine, site, options.select)
            more = (cpu - alone) / steps
            print(f"{engine:<14}{cpu:>8.1f}{more:>21.2f}{seconds:>7.1f} s", flush=True)


if __name__ == "__main__":
    main()
