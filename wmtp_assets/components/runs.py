"""The process of a run: recorded when the run starts, and missed when it is gone.

A run whose process was killed (``kill -9``, no memory, power) cannot say so: it stays "started" for
ever. So each run carries host, pid and start of its process as tags, however it was started, and
the daemon's run monitoring asks :class:`LocalRunLauncher` whether that process still runs.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from dagster._core.definitions.executor_definition import IN_PROC_CONFIG
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

HOST_TAG = ".dagster/wmtp_host"
PROCESS_TAG = ".dagster/wmtp_process"
"""With Dagster's prefix of hidden tags: of others the UI shows each in its list of runs."""


def process_of(pid: int) -> str:
    """A running process as ``pid start``; empty: there is none, or it is a zombie.

    The start tells it from a later process that was given its pid: on Linux the boot and the ticks
    since (``/proc``), elsewhere the second that ``ps`` says.
    """
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:  # proc_pid_stat(5): pid (name) state … and field 22, starttime; a name may hold spaces
            state, *fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        start = f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}+{fields[18]}"
    else:
        command = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
        environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        said = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        ).stdout.split()
        state, start = (said[0], " ".join(said[1:])) if said else ("Z", "")
    return "" if state[0] in "ZX" else f"{pid} {start}"


class _Recorded(dg.Executor):
    """An executor that records the process of the run before its first step."""

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> RetryMode:
        return self._inner.retries

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        plan_context.instance.add_run_tags(
            plan_context.run_id,
            {HOST_TAG: socket.gethostname(), PROCESS_TAG: process_of(os.getpid())},
        )
        yield from self._inner.execute(plan_context, execution_plan)


@dg.executor(name="in_process", config_schema=IN_PROC_CONFIG)
def recorded_in_process_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """Dagster's in-process executor; the process of the run is in its tags."""
    create = dg.in_process_executor.executor_creation_fn
    assert create is not None
    return _Recorded(create(context))


class LocalRunLauncher(dg.DefaultRunLauncher):
    """Dagster's default, that also says whether the process of a run of this host still runs.

    Run monitoring asks it about runs of the command line too. A run of another host, and one that
    has not got so far as to record its process, counts as running: ``max_runtime_seconds`` and
    ``start_timeout_seconds`` of ``dagster.yaml`` end those.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process that the run recorded is there."""
        process, host = run.tags.get(PROCESS_TAG), run.tags.get(HOST_TAG)
        if process and host == socket.gethostname():
            pid = process.split()[0]
            if process_of(int(pid)) != process:
                return CheckRunHealthResult(
                    WorkerStatus.FAILED,
                    f"its process, {pid} on {host}, is gone: it was killed, or the machine was "
                    "restarted. Nothing half-written is left under the storage root; run it again",
                )
        return CheckRunHealthResult(WorkerStatus.RUNNING)
