"""Each step as a job of Slurm.

A job is named after run, step and attempt, so that a process that resumes the run finds it. Slurm's
own programs are asked: ``sbatch``, ``squeue``, ``scontrol``, ``scancel``, and ``sacct`` where there
is accounting. sbatch(1) has the options of an asset's op tag ``slurm/sbatch``, and the states of
jobs are in squeue(1), "JOB STATE CODES".
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.execution.retries import RetryMode, get_retries_config
from dagster._core.execution.tags import get_tag_concurrency_limits_config
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)
from dagster._utils.error import (
    SerializableErrorInfo,  # pyright: ignore[reportPrivateImportUsage]
)

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.settings import SBATCH_VARIABLE
from wmtp_assets.components.engines import HOSTS_CONFIG, NOT_AGAIN, Engine
from wmtp_assets.components.hosts import command_of

SBATCH_TAG = "slurm/sbatch"
"""Op tag of an asset: options of sbatch, such as ``--mem=32G --time=4:00:00``."""

ENDED_BADLY = {"BOOT_FAIL", "FAILED", "NODE_FAIL", "PREEMPTED"}
"""States of a job that may go well when it is started again, on another node."""

ENDED_FOR_GOOD = {"CANCELLED", "DEADLINE", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT"}
"""States of a job that a person ended, or that would end so again."""

ENDED = ENDED_BADLY | ENDED_FOR_GOOD | {"COMPLETED"}

NEVER = {"BadConstraints", "PartitionConfig", "AccountNotAllowed", "QOSNotAllowed"}
"""Reasons for which no node will ever take a job as it asks to be run; squeue(1), "JOB REASONS"."""

PROGRAMS = ("sbatch", "squeue", "scontrol", "scancel", "sinfo")

SECONDS = 300
"""How long one of Slurm's programs may take: they ask again themselves for as long as that."""

OUT_OF_REACH = (
    "unable to contact",
    "timed out",
    "connection",
    "communication",
    "standby mode",
    "transmitted or received",
    "message receive failure",
    "endpoint is not connected",
    "authentication",
    "munge",
    "temporarily",
    "try again",
)
"""What is in the errors that are about the way to the controller (slurm_errno.c), and not about the
job."""


class SlurmError(Exception):
    """A program of Slurm ended with an error; its words."""


@dataclass(frozen=True)
class Job:
    """What Slurm says of a job."""

    number: str
    state: str
    reason: str
    nodes: str
    exit_code: str = ""


def _ask(*command: str, input: str = "", env: Mapping[str, str] = os.environ) -> str:
    """Run a program of Slurm; its output.

    Raises:
        SlurmError: if it ended with an error, or did not end.
    """
    try:
        done = subprocess.run(
            command,
            input=input,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} timed out after {SECONDS} s") from None
    if done.returncode:
        raise SlurmError(done.stderr.strip() or f"{command[0]}: exit code {done.returncode}")
    return done.stdout


def require_slurm() -> None:
    """See to it that Slurm's programs are here, and its controller answers.

    Raises:
        StoreError: if not.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise StoreError(
            f"WMTP_ENGINE=slurm needs {', '.join(missing)}, not found in PATH: start the run on a "
            "node that submits jobs, or load Slurm's module there"
        )
    try:
        _ask("squeue", "--noheader", "--me", "--format=%i")
    except SlurmError as error:
        raise StoreError(
            f"the controller of Slurm does not answer ({error}). See: scontrol ping"
        ) from None


class SlurmStepHandler(StepHandler):
    """Submits, watches and cancels the jobs of steps."""

    def __init__(self) -> None:
        self._ended: set[str] = set()
        self._waiting: set[str] = set()
        """Jobs that are not submitted yet, because the controller is out of reach: a restart or an
        upgrade of it is not a reason to end a run of days."""

    @property
    def name(self) -> str:
        return "SlurmStepHandler"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Submit the job of a step, unless it is there: a process before this one submitted it."""
        context = step_handler_context
        step_key, name = _step_of(context), _name_of(context)
        step = context.get_step_context(step_key)
        self._ended.discard(name)
        log = _log_of(context)
        yield DagsterEvent.step_worker_starting(
            step,
            message=f'Executing step "{step_key}" in Slurm job {name}.',
            metadata={"job": dg.MetadataValue.text(name), "output": dg.MetadataValue.path(log)},
        )
        try:
            number = self._submit(context, name, log)
        except (SlurmError, ValueError) as error:
            yield DagsterEvent.step_failure_event(
                step,
                StepFailureData(
                    error=SerializableErrorInfo(
                        message=f"Slurm did not take the job of step {step_key}: {error}",
                        stack=[],
                        cls_name="SlurmError",
                    ),
                    user_failure_data=None,
                ),
            )
        else:
            said = f"Slurm job {number}" if number else f"{self._away}, which is asked again"
            yield DagsterEvent.engine_event(step, said, EngineEventData())

    def _submit(self, context: StepHandlerContext, name: str, log: Path) -> str:
        """Hand a job to Slurm; its number, or nothing while the controller is out of reach.

        Raises:
            SlurmError: if Slurm does not take it.
        """
        arguments = context.execute_step_args
        options = shlex.split(SBATCH_VARIABLE.read())
        options += shlex.split(context.step_tags[_step_of(context)].get(SBATCH_TAG, ""))
        log.parent.mkdir(parents=True, exist_ok=True)
        # A node that does not see the folder of the log would fail the job without a word.
        words = command_of(arguments.get_command_args(skip_serialized_namedtuple=True))
        script = (
            f"#!/bin/sh\n[ ! -w {shlex.quote(str(log.parent))} ] "
            f"|| exec >>{shlex.quote(str(log))} 2>&1\n"
            f"exec {shlex.join(words)}\n"
        )
        command = [
            "sbatch",
            "--parsable",
            "--no-requeue",
            "--export=ALL",
            f"--job-name={name}",
            "--output=/dev/null",
            *options,
        ]
        environment = _environment(arguments.get_command_env())
        try:
            job = job_of(name)  # an answer to an earlier submission may have been lost
            if job is None or job.state in ENDED:
                said = _ask(*command, input=script, env=environment)
                job = Job(said.strip().partition(";")[0], "PENDING", "", "")
        except SlurmError as error:
            if not any(text in str(error).lower() for text in OUT_OF_REACH):
                raise
            self._waiting.add(name)
            self._away = f"the controller of Slurm does not answer ({error})"
            return ""
        self._waiting.discard(name)
        return job.number

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Whether the job of a step is there. One that ended is given one more poll: the last
        events of its step may not have been read yet."""
        name = _name_of(step_handler_context)
        if name in self._waiting:
            return self._submit_again(step_handler_context, name)
        job = job_of(name)
        if job is not None and job.state not in ENDED:
            self._ended.discard(name)
            return CheckStepHealthResult.healthy()
        if name not in self._ended:
            self._ended.add(name)
            return CheckStepHealthResult.healthy()
        if job is None:
            return CheckStepHealthResult.unhealthy(
                f"Slurm knows no job {name}, and the step did not say that it ended"
            )
        where = f" on {job.nodes}" if job.nodes else ""
        said = f"Slurm job {job.number} ended{where} as {job.state}"
        if job.state == "COMPLETED":
            said += ", and the step did not say that it ended"
        if job.exit_code not in ("", "0:0"):
            code, _, number = job.exit_code.partition(":")
            said += f", by signal {number}" if number not in ("", "0") else f", exit code {code}"
        if job.reason in NEVER:
            said += f" ({job.reason}: no node is what it asks for)"
        if job.state in ENDED_FOR_GOOD or job.reason in NEVER:
            said += f". {NOT_AGAIN}: see {SBATCH_TAG} of the asset, and {SBATCH_VARIABLE}"
        elif tail := _tail_of(_log_of(step_handler_context)):
            said += f". Its last words: {tail}"
        return CheckStepHealthResult.unhealthy(said)

    def _submit_again(self, context: StepHandlerContext, name: str) -> CheckStepHealthResult:
        """Submit what could not be; a step that waits for that is healthy."""
        try:
            self._submit(context, name, _log_of(context))
        except SlurmError as error:
            self._waiting.discard(name)
            return CheckStepHealthResult.unhealthy(
                f"Slurm did not take its job: {error}. {NOT_AGAIN}"
            )
        return CheckStepHealthResult.healthy()

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Cancel the job of a step; it is sent SIGTERM, and SIGKILL after ``KillWait``."""
        name = _name_of(step_handler_context)
        step = step_handler_context.get_step_context(_step_of(step_handler_context))
        yield DagsterEvent.engine_event(step, f"Cancelling Slurm job {name}", EngineEventData())
        self._waiting.discard(name)
        _ask("scancel", "--me", f"--name={name}")


def job_of(name: str) -> Job | None:
    """The newest job of that name; None: there is none, or Slurm has forgotten it.

    ``slurmctld`` forgets jobs ``MinJobAge`` seconds after their end; accounting does not.

    Raises:
        SlurmError: if Slurm does not answer.
    """
    said = _ask(
        "squeue", "--noheader", "--me", "--states=all", f"--name={name}", "--format=%A|%T|%r|%N"
    )
    jobs = [Job(*line.split("|")) for line in said.splitlines()]
    if not jobs:
        return _accounted(name)
    newest = max(jobs, key=lambda job: int(job.number))
    if newest.state not in ENDED:
        return newest
    try:
        shown = _ask("scontrol", "show", "job", "--oneliner", newest.number)
    except SlurmError:
        return newest  # forgotten between the two questions
    code = re.search(r" ExitCode=(\d+:\d+)", shown)
    return Job(newest.number, newest.state, newest.reason, newest.nodes, code[1] if code else "")


def _accounted(name: str) -> Job | None:
    """What accounting knows of the newest job of that name; None: nothing, or there is none."""
    if shutil.which("sacct") is None:
        return None
    columns = "--format=JobIDRaw,State,Reason,NodeList,ExitCode"
    try:
        said = _ask(
            "sacct",
            "--noheader",
            "--parsable2",
            "--allocations",
            "--starttime=now-30days",
            f"--name={name}",
            columns,
        )
    except SlurmError:  # "Slurm accounting storage is disabled"
        return None
    jobs = [Job(*line.split("|")) for line in said.splitlines() if line.count("|") == 4]
    if not jobs:
        return None
    newest = max(jobs, key=lambda job: int(job.number))
    state = newest.state.partition(" ")[0]  # "CANCELLED by 1000"
    return Job(newest.number, state, newest.reason, newest.nodes, newest.exit_code)


def _step_of(context: StepHandlerContext) -> str:
    (key,) = context.execute_step_args.step_keys_to_execute or [""]
    return key


def _attempt_of(context: StepHandlerContext) -> int:
    known = context.execute_step_args.known_state
    return known.get_retry_state().get_attempt_count(_step_of(context)) if known else 0


def _name_of(context: StepHandlerContext) -> str:
    """The name of the job: of that run, step and attempt and no other."""
    key, run = _step_of(context), context.execute_step_args.run_id
    digest = hashlib.sha256(f"{run}/{key}/{_attempt_of(context)}".encode()).hexdigest()
    return f"{re.sub('[^a-z0-9_]', '_', key)[:60]}-{digest[:16]}"


def _log_of(context: StepHandlerContext) -> Path:
    """Where the job's output goes: what a step says before it can say it to Dagster."""
    folder = Path(context.instance.storage_directory(), context.execute_step_args.run_id, "slurm")
    return folder / f"{_name_of(context)}.log"


def _tail_of(log: Path) -> str:
    """The last line of a log that is not empty."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 2000))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _environment(added: Iterable[Mapping[str, str]]) -> Mapping[str, str]:
    """The variables of a job: those of this process, but for what Slurm told it of its own job."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM_", "SBATCH_")) or name == "SLURM_CONF"
    }
    return ours | {item["name"]: item["value"] for item in added}


def _create(context: dg.InitExecutorContext) -> dg.Executor:
    require_slurm()
    config: Any = context.executor_config
    return StepDelegatingExecutor(
        SlurmStepHandler(),
        retries=RetryMode.from_config(config["retries"]) or RetryMode.ENABLED,
        max_concurrent=config.get("max_concurrent"),
        tag_concurrency_limits=config.get("tag_concurrency_limits"),
    )


def _elsewhere(executor: StepDelegatingExecutor, run: dg.DagsterRun) -> Mapping[str, str]:
    """Another node than this one, where this is one."""
    here = socket.gethostname().partition(".")[0]
    nodes = {*_ask("sinfo", "--noheader", "--Node", "--format=%N").split()}
    where = f" --exclude={here}" if here in nodes and len(nodes) > 1 else ""
    return {SBATCH_TAG: f"--mem=1G --time=5 --cpus-per-task=1{where}"}


def engine() -> Engine:
    """Dagster's executor for steps that run elsewhere, with the handler above."""
    config = {
        "retries": get_retries_config(),
        "max_concurrent": dg.Field(
            dg.IntSource, is_required=False, description="Jobs of a run at a time."
        ),
        "tag_concurrency_limits": get_tag_concurrency_limits_config(),
        **HOSTS_CONFIG,
    }
    return Engine(_create, config=config, has_hosts=True, elsewhere=_elsewhere)
