"""The process of a run: recorded when the run starts, and missed when it is gone.

A run whose process was killed (``kill -9``, no memory, power) cannot say so: it stays "started"
forever. So each run carries host, pid and start of its process as tags, however it was started, and
the daemon's run monitoring asks :class:`LocalRunLauncher` whether that process still runs. Where
the steps run on other hosts they continue without it, and a new process takes over.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from dagster._core.executor.step_delegating import StepDelegatingExecutor
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import ResumeRunArgs

from wmtp_assets.base.settings import read_settings
from wmtp_assets.components.elsewhere import look_from_elsewhere
from wmtp_assets.components.hosts import ENGINE_TAG, announce, command_of, handed_on

HOST_TAG = ".dagster/wmtp_host"
PROCESS_TAG = ".dagster/wmtp_process"
"""With Dagster's prefix of hidden tags: of others the UI shows each in its list of runs."""

SETTINGS_TAG = ".dagster/wmtp_settings"
"""The settings with which a run of many hosts was started, without secrets: a JSON object. The
process that takes the run over has them too, whatever the daemon has."""

RESUMED_TAG = ".dagster/wmtp_resumed"
"""How often another process took a run over."""

RESUMES = 5
"""How often one may: a run that kills its process must come to an end."""


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


def process_here(run: dg.DagsterRun) -> int | None:
    """The pid of the process that a run recorded, if it is on this host and still there."""
    process = run.tags.get(PROCESS_TAG)
    if not process or run.tags.get(HOST_TAG) != socket.gethostname():
        return None
    pid = int(process.split()[0])
    return pid if process_of(pid) == process else None


class Recorded(dg.Executor):
    """An executor that records the process of the run before its first step, and leaves what steps
    on other hosts look for.

    Args:
        create: makes what runs the steps; an error of it is one of the run, which would otherwise
            stay "not started".
        config: ``execution: config:`` of the run.
        engine: the name of an engine of many hosts; empty: the steps stay on this one.
        elsewhere: tags of a job that is to run on another host; None: none looks.
    """

    def __init__(
        self,
        create: Callable[[], dg.Executor],
        config: Mapping[str, Any],
        engine: str = "",
        elsewhere: Callable[[Any, dg.DagsterRun], Mapping[str, str]] | None = None,
    ) -> None:
        self._create = create
        self._config = config
        self._engine = engine
        self._elsewhere = elsewhere

    @property
    def retries(self) -> RetryMode:
        return RetryMode.from_config(self._config["retries"]) or RetryMode.ENABLED

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return StepDependencyConfig.from_config(self._config.get("step_dependency_config"))

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        inner = self._create()
        tags = {HOST_TAG: socket.gethostname(), PROCESS_TAG: process_of(os.getpid())}
        if self._engine:
            root = read_settings().root
            tags |= announce(root, plan_context.dagster_run, self._engine)
            tags[SETTINGS_TAG] = json.dumps(handed_on())
        plan_context.instance.add_run_tags(plan_context.run_id, tags)
        seconds = self._config.get("look_seconds", 0)
        if self._elsewhere and seconds and not plan_context.resume_from_failure:
            assert isinstance(inner, StepDelegatingExecutor)
            wanted = self._elsewhere(inner, plan_context.dagster_run)
            said = look_from_elsewhere(plan_context, execution_plan, inner, wanted, seconds)
            yield DagsterEvent.engine_event(plan_context, said, EngineEventData())
        yield from inner.execute(plan_context, execution_plan)


class LocalRunLauncher(dg.DefaultRunLauncher):
    """Dagster's default, that also says whether the process of a run of this host still runs.

    Run monitoring asks it about runs of the command line too. A run of another host, and one that
    has not got so far as to record its process, counts as running: ``max_runtime_seconds`` and
    ``start_timeout_seconds`` of ``dagster.yaml`` end those. A run whose steps are on other hosts is
    resumed: Dagster's own ``max_resume_run_attempts`` would also resume a run that was cancelled.
    For the same reason it ends those processes: Dagster itself asks the server that started a run,
    which knows neither a process that took a run over nor one of the command line.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def terminate(self, run_id: str) -> bool:
        """Interrupt the process of a run, as Ctrl-C does: it cancels its jobs, and says so.

        Returns:
            False: the run has ended, or its process is on another host and no server knows it.
        """
        run = self._instance.get_run_by_id(run_id)
        pid = process_here(run) if run and not run.is_finished else None
        if run is None or pid is None:
            return super().terminate(run_id)
        self._instance.report_run_canceling(run)
        os.kill(pid, signal.SIGINT)
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process that the run recorded is there, or another has taken over."""
        process, host = run.tags.get(PROCESS_TAG), run.tags.get(HOST_TAG)
        if process and host == socket.gethostname():
            pid = process.split()[0]
            if process_here(run) is None:
                resumed = int(run.tags.get(RESUMED_TAG, 0))
                if ENGINE_TAG in run.tags and run.job_code_origin and resumed < RESUMES:
                    self._resume(run, pid, resumed + 1)
                    return CheckRunHealthResult(WorkerStatus.RUNNING)
                return CheckRunHealthResult(
                    WorkerStatus.FAILED,
                    f"its process, {pid} on {host}, is gone: it was killed, or the machine was "
                    "restarted. Nothing half-written is left under the storage root; run it again",
                )
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _resume(self, run: dg.DagsterRun, pid: str, attempt: int) -> None:
        """Start a process that takes a run over: it finds the steps that run, and waits."""
        origin = run.job_code_origin
        assert origin is not None
        instance = self._instance
        arguments = ResumeRunArgs(origin, run.run_id, instance.get_ref()).get_command_args()
        log = Path(instance.storage_directory(), run.run_id, f"resumed-{attempt}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as out:
            process = subprocess.Popen(
                command_of(arguments),
                env={**os.environ, **json.loads(run.tags.get(SETTINGS_TAG, "{}"))},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        tags = {PROCESS_TAG: process_of(process.pid), RESUMED_TAG: str(attempt)}
        instance.add_run_tags(run.run_id, tags)
        instance.report_engine_event(
            f"its process, {pid}, is gone; process {process.pid} takes the run over. Output: {log}",
            run,
        )
