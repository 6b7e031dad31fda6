"""Each step as a job of Slurm.

A job is named after run, step and attempt, so that a process that resumes the run finds it. Slurm's
own programs are asked: ``sbatch``, ``squeue``, ``scontrol``, ``scancel``, and ``sacct`` where there
is accounting. sbatch(1) has the options of an asset's op tag ``slurm/sbatch``, and the states of
jobs are in squeue(1), "JOB STATE CODES".
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.execution.plan.plan import ExecutionPlan
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

from wmtp_assets.base.errors import SpecError, StoreError
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
    "can't be reached",
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

CANCEL_SECONDS = 300.0
"""How long the end of a run asks a controller that is out of reach to cancel its jobs, all of them
together."""

CANCEL_PAUSE = 5.0
"""Seconds between two such questions."""

WAY = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS"}
"""Variables that say to all programs alike which controller to ask, and who asks."""

HIDDEN = re.compile(
    r"SLURM_\w+|(SQUEUE|SCANCEL|SACCT|SINFO|SCONTROL)_\w+"
    r"|SBATCH_((CPU|MEM)_BIND\w*|ARRAY_INX|CLUSTERS|EXPORT|JOB_NAME|WAIT)"
)
"""Other variables that Slurm's programs are not shown.

``SLURM_*`` and ``SBATCH_*_BIND*`` are what Slurm says to the job in which the run may be. The rest
are a person's defaults: with ``SQUEUE_PARTITION`` the jobs of other partitions look as if they were
not there, and with ``SBATCH_ARRAY_INX`` a name would be that of many jobs.
"""

RESERVED = ("array", "clusters", "job-name", "quiet", "test-only", "wait", "wrap")
"""Options of sbatch with which the job of a step is not found again, or runs something else."""

RESERVED_LETTERS = re.compile("-[HOksv]*[aJMQW]")
"""The same options in one letter, also behind others that have no value."""


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


def _ask(
    *command: str, input: str = "", env: Mapping[str, str] | None = None, seconds: float = SECONDS
) -> str:
    """Run a program of Slurm; its output.

    Raises:
        SlurmError: if it cannot be run, ended with an error, or did not end.
    """
    try:
        done = subprocess.run(
            command,
            input=input,
            env=_environment() if env is None else env,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} timed out after {seconds:.0f} s") from None
    except OSError as error:
        raise SlurmError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise SlurmError(done.stderr.strip() or f"{command[0]}: exit code {done.returncode}")
    return done.stdout


def _is_away(error: SlurmError) -> bool:
    """Whether an error is about the way to the controller."""
    return any(text in str(error).lower() for text in OUT_OF_REACH)


def require_programs() -> None:
    """See to it that Slurm's programs are here.

    Raises:
        StoreError: if not.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise StoreError(
            f"WMTP_ENGINE=slurm needs {', '.join(missing)}, not found in PATH: start the run on a "
            "node that submits jobs, or load Slurm's module there"
        )


def require_slurm() -> None:
    """See to it that Slurm's programs are here, its controller answers, and the options of the
    site can be used.

    Raises:
        StoreError: if not.
        SpecError: if the options are wrong.
    """
    require_programs()
    options_of(SBATCH_VARIABLE.read(), SBATCH_VARIABLE)
    try:
        _ask("squeue", "--noheader", "--me", "--format=%i")
    except SlurmError as error:
        raise StoreError(
            f"the controller of Slurm does not answer ({error}). See: scontrol ping"
        ) from None


def options_of(text: str, setting: str) -> list[str]:
    """The options of sbatch in a setting.

    Raises:
        SpecError: if a quote is not closed, or one of them is :data:`RESERVED`.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SpecError(f"{setting} is not a list of options ({error}): {text}") from None
    for word in words:
        if _is_reserved(word):
            raise SpecError(
                f"{setting} has {word}, with which the job of a step would not be found again, or "
                f"not run it. Leave out: {', '.join(f'--{name}' for name in RESERVED)}. A cluster "
                "is chosen with SLURM_CLUSTERS"
            )
    return words


def _is_reserved(word: str) -> bool:
    """Whether a word is an option that is reserved; sbatch takes beginnings of long names too."""
    if word.startswith("--"):
        given = word[2:].partition("=")[0]
        return any(name.startswith(given) for name in RESERVED)
    return RESERVED_LETTERS.match(word) is not None


class SlurmStepHandler(StepHandler):
    """Submits, watches and cancels the jobs of steps."""

    def __init__(self) -> None:
        self._ended: set[str] = set()
        self._waiting: set[str] = set()
        """Jobs that are not submitted yet, because the controller is out of reach: a restart or an
        upgrade of it is not a reason to end a run of days."""
        self._cancel_until: float | None = None
        """When the cancellation that found the controller out of reach asks no more."""

    @property
    def name(self) -> str:
        return "SlurmStepHandler"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Submit the job of a step, unless it is there: a process before this one submitted it."""
        context = step_handler_context
        step_key, name = _step_of(context), _name_of(context)
        step = context.get_step_context(step_key)
        self._ended.discard(name)
        self._cancel_until = None
        log = _log_of(context)
        yield DagsterEvent.step_worker_starting(
            step,
            message=f'Executing step "{step_key}" in Slurm job {name}.',
            metadata={"job": dg.MetadataValue.text(name), "output": dg.MetadataValue.path(log)},
        )
        try:
            number = self._submit(context, name, log)
        except (SlurmError, SpecError) as error:
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
            SpecError: if the options of sbatch are wrong.
        """
        arguments, step_key = context.execute_step_args, _step_of(context)
        tag = context.step_tags[step_key].get(SBATCH_TAG, "")
        options = options_of(SBATCH_VARIABLE.read(), SBATCH_VARIABLE)
        options += options_of(tag, f"the op tag {SBATCH_TAG} of {step_key}")
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
            job = job_of(name)  # submitted by a process before this one, or its answer was lost
            if job is None:
                said = _ask(*command, input=script, env=environment)
                job = Job(said.strip().partition(";")[0], "PENDING", "", "")
        except SlurmError as error:
            if not _is_away(error):
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
        except (SlurmError, SpecError) as error:
            self._waiting.discard(name)
            return CheckStepHealthResult.unhealthy(
                f"Slurm did not take its job: {error}. {NOT_AGAIN}"
            )
        return CheckStepHealthResult.healthy()

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Cancel the job of a step; it is sent SIGTERM, and SIGKILL after ``KillWait``.

        Nothing is raised: Dagster would not cancel the jobs of the other steps then.
        """
        name = _name_of(step_handler_context)
        step = step_handler_context.get_step_context(_step_of(step_handler_context))
        self._waiting.discard(name)
        for said in self._cancel(name):
            yield DagsterEvent.engine_event(step, said, EngineEventData())

    def _cancel(self, name: str) -> Iterator[str]:
        """Cancel a job, and ask again for a while where the controller is away; what is to be
        said."""
        yield f"Cancelling Slurm job {name}"
        command = ("scancel", "--me", f"--name={name}")
        has_said = False
        while True:
            left = (self._cancel_until or math.inf) - time.monotonic()
            try:
                _ask(*command, seconds=min(CANCEL_SECONDS, max(CANCEL_PAUSE, left)))
            except SlurmError as error:
                problem = error
            else:
                self._cancel_until = None
                return
            if not _is_away(problem) or left <= 0:
                todo = " ".join(command)
                yield f"Slurm job {name} may still run ({problem}). To cancel it: {todo}"
                return
            if self._cancel_until is None:
                self._cancel_until = time.monotonic() + CANCEL_SECONDS
            if not has_said:
                yield f"the controller of Slurm does not answer ({problem}), and is asked again"
                has_said = True
            time.sleep(CANCEL_PAUSE)


def job_of(name: str) -> Job | None:
    """The newest job of that name; None: there is none, or Slurm has forgotten it.

    ``slurmctld`` forgets jobs ``MinJobAge`` seconds after their end; accounting does not.

    Raises:
        SlurmError: if Slurm does not answer.
    """
    said = _ask(
        "squeue", "--noheader", "--me", "--states=all", f"--name={name}", "--format=%A|%T|%r|%N"
    )
    jobs = _jobs(said, columns=4)
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


def _jobs(said: str, columns: int) -> list[Job]:
    """The jobs in an answer, but not its other lines, such as ``CLUSTER: c1``."""
    rows = (line.split("|") for line in said.splitlines())
    return [Job(*row) for row in rows if len(row) == columns and row[0].isdigit()]


def _accounted(name: str) -> Job | None:
    """What accounting knows of the newest job of that name; None: nothing, or there is none."""
    if shutil.which("sacct") is None:
        return None
    columns = "--format=JobIDRaw,State,Reason,NodeList,ExitCode"
    clusters = _environment().get("SLURM_CLUSTERS")  # the only program that does not read it
    try:
        said = _ask(
            "sacct",
            "--noheader",
            "--parsable2",
            "--allocations",
            "--starttime=now-30days",
            f"--name={name}",
            columns,
            *([f"--clusters={clusters}"] if clusters else []),
        )
    except SlurmError:  # "Slurm accounting storage is disabled"
        return None
    jobs = _jobs(said, columns=5)
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


def _environment(added: Iterable[Mapping[str, str]] = ()) -> Mapping[str, str]:
    """The variables of Slurm's programs and so of a job: those of this process, but for those that
    are :data:`HIDDEN`."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if name in WAY or not HIDDEN.fullmatch(name)
    }
    return ours | {item["name"]: item["value"] for item in added}


class SlurmExecutor(StepDelegatingExecutor):
    """Dagster's, for which a new run needs a controller that answers.

    A process that takes a run over waits for one: the jobs of the run continue meanwhile.
    """

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Generator[DagsterEvent]:
        if not plan_context.resume_from_failure:
            require_slurm()
        yield from super().execute(plan_context, execution_plan)


def _create(context: dg.InitExecutorContext) -> dg.Executor:
    require_programs()
    config: Any = context.executor_config
    return SlurmExecutor(
        SlurmStepHandler(),
        retries=RetryMode.from_config(config["retries"]) or RetryMode.ENABLED,
        max_concurrent=config.get("max_concurrent"),
        tag_concurrency_limits=config.get("tag_concurrency_limits"),
    )


def _elsewhere(executor: StepDelegatingExecutor, run: dg.DagsterRun) -> Mapping[str, str]:
    """Another node than this one, where this is one."""
    require_slurm()
    here = socket.gethostname().partition(".")[0]
    said = _ask("sinfo", "--noheader", "--Node", "--format=%N")
    nodes = {line.strip() for line in said.splitlines() if not line.startswith("CLUSTER:")} - {""}
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
