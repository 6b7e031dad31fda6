"""What a step costs with each engine, beyond what it does.

    PYTHONPATH=. .venv-engines/bin/python benchmarks/engines.py [--select SELECTION] [--engines ...]

Makes a part of the sample in one process, and runs it again with each engine: nothing has changed,
so that what is left is the engine. Prints CPU seconds of the run and of all its processes, with
those of Slurm and Ray, what a step takes beyond one of ``in_process``, and seconds of the clock.
Linux only: it waits for processes whose parents ended before them. Ray does not wait for its
workers: their time is missing.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg

from wmtp_assets.base.cpus import usable_cpus
from wmtp_assets_tests.engines import programs
from wmtp_assets_tests.engines.site import Site

PR_SET_CHILD_SUBREAPER = 36
"""Of prctl(2): orphans below this process become its children."""


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
    """Of all processes that ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def have_ended(known: set[int]) -> bool:
    """Whether no process is there but those."""
    cpu_seconds()
    return known >= {*programs.descendants(os.getpid())}


def measure(engine: str, site: Site, select: str) -> tuple[float, float, int]:
    """CPU seconds of a run, those of the clock, and its steps."""
    begin, before = cpu_seconds(), site.runs()
    known = {*programs.descendants(os.getpid())}
    with servers(engine, site) as variables:
        started = time.monotonic()
        process = site.start(select, engine, (), {"poll_seconds": 20}, **variables)
        if process.wait():
            raise SystemExit(site.log.read_text()[-3000:])
        seconds = time.monotonic() - started
    (run,) = site.newest(before)
    programs.eventually(lambda: have_ended(known), "the end of all processes")
    steps = len(site.events(run.run_id, dg.DagsterEventType.STEP_SUCCESS))
    return cpu_seconds() - begin, seconds, steps


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--select", default="*humaneval_small")
    parser.add_argument("--engines", nargs="+", default=["multiprocess", "slurm"])
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
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
