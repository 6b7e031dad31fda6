"""What a step costs with each engine, beyond what it does.

    .venv-engines/bin/python benchmarks/engines.py [--select '*humaneval_small'] [--engines ...]

Makes a part of the sample in one process, and runs it again with each engine: nothing has changed,
so that what is left is the engine. Prints CPU seconds of the run and of all its processes, with
those of Slurm and Ray, and what a step takes beyond one of ``in_process``. Linux only: it waits for
processes whose parents ended before them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg

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


def measure(engine: str, site: Site, select: str) -> tuple[float, int]:
    """CPU seconds of a run, and its steps."""
    begin, before = cpu_seconds(), site.runs()
    known = {*programs.descendants(os.getpid())}
    with servers(engine, site) as variables:
        process = site.start(select, engine, (), {"poll_seconds": 20}, **variables)
        if process.wait():
            raise SystemExit(site.log.read_text()[-3000:])
    (run,) = site.newest(before)
    programs.eventually(lambda: have_ended(known), "the end of all processes")
    return cpu_seconds() - begin, len(site.events(run.run_id, dg.DagsterEventType.STEP_SUCCESS))


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--select", default="*humaneval_small")
    parser.add_argument("--engines", nargs="+", default=["multiprocess", "slurm", "ray"])
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as name, programs.postgres() as database:
        os.environ["WMTP_DATABASE_URL"] = database.url
        site = Site.make(Path(name, "storage"), database.url)
        measure("in_process", site, options.select)
        alone, steps = measure("in_process", site, options.select)
        print(json.dumps({"engine": "in_process", "steps": steps, "cpu_s": round(alone, 1)}))
        for engine in options.engines:
            seconds, steps = measure(engine, site, options.select)
            more = round((seconds - alone) / steps, 2)
            row = {"engine": engine, "steps": steps, "cpu_s": round(seconds, 1), "per_step": more}
            print(json.dumps(row))


if __name__ == "__main__":
    main()
