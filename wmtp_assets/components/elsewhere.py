"""A look from another host before the first step of a run.

An engine is handed a job, as for a step, that only looks: whether it finds the storage root, the
sources and the history of the run. What it says comes back as a tag of the run. So a root that is
not shared is one error of the run, and not one of each of its first steps.
"""

from __future__ import annotations

import base64
import json
import socket
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import click
from dagster._cli.utils import get_instance_for_cli
from dagster._core.execution.context.system import IStepContext, PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandlerContext
from dagster._core.storage.dagster_run import DagsterRun
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import deserialize_value
from dagster._utils.interrupts import check_captured_interrupt

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.settings import read_settings
from wmtp_assets.components.hosts import PYTHON, require_same

ANSWER_TAG = ".dagster/wmtp_elsewhere"
"""Tag of a run: host and error (empty: none) of the job that looked, as JSON."""

ATTEMPT = 99
"""Jobs are named by run, step and attempt; no step is tried so often."""

ARGUMENTS = "DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS"
"""Variable in which Dagster's step handlers give a job the description of its step."""

POLL_SECONDS = 2.0
"""Between two questions whether the job still runs."""


class _Arguments:
    """Those of a step, with another command."""

    def __init__(self, arguments: ExecuteStepArgs) -> None:
        self._arguments = arguments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arguments, name)

    def get_command_args(self, skip_serialized_namedtuple: bool = False) -> Sequence[str]:
        return [PYTHON, "-m", __name__]


class _Silent:
    """The log of a step that is not run: it keeps nothing."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def log_dagster_event(self, **_: Any) -> None:
        pass


class _Look(StepHandlerContext):
    """What a step handler is told: the first step of the run, with another command and tags."""

    def __init__(
        self, plan_context: PlanOrchestrationContext, plan: ExecutionPlan, tags: Mapping[str, str]
    ) -> None:
        step = plan.get_steps_to_execute_in_topo_order()[0]
        run = plan_context.dagster_run
        instance = plan_context.instance
        arguments = ExecuteStepArgs(
            job_origin=plan_context.reconstructable_job.get_python_origin(),
            run_id=run.run_id,
            step_keys_to_execute=[step.key],
            instance_ref=instance.get_ref(),
            known_state=KnownExecutionState(previous_retry_attempts={step.key: ATTEMPT}),
        )
        plainly: Any = _Arguments(arguments)
        super().__init__(instance, plan_context, [step], plainly, run)
        self._tags = tags

    @property
    def step_tags(self) -> Mapping[str, Mapping[str, str]]:
        return dict.fromkeys(self._steps_by_key, self._tags)

    def get_step_context(self, step_key: str) -> IStepContext:
        context: Any = super().get_step_context(step_key)
        context._log_manager = _Silent(context._log_manager)
        return context


def look_from_elsewhere(
    plan_context: PlanOrchestrationContext,
    plan: ExecutionPlan,
    executor: StepDelegatingExecutor,
    tags: Mapping[str, str],
    seconds: float,
) -> str:
    """Have a job look; a sentence on what it saw.

    Args:
        tags: of an op, that let the engine choose another host than this one where it can.
        seconds: how long it may take: on a cluster that is full, no job starts for hours, and
            each step looks for itself.

    Raises:
        StoreError: if it found another root or other sources, or ended without a word.
    """
    context = _Look(plan_context, plan, tags)
    handler = executor._step_handler
    for event in handler.launch_step(context):
        if event.is_step_failure and (error := event.step_failure_data.error) is not None:
            # such as a cluster or a partition that has no other node
            return f"no other host looks at the storage root, but each step: {error.message}"
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and not check_captured_interrupt():
            time.sleep(POLL_SECONDS)
            if answer := _answer_of(plan_context):
                break
            health = handler.check_step_health(context)
            if not health.is_healthy:
                answer = _answer_of(plan_context) or {"error": _died(health.unhealthy_reason)}
                break
        else:
            return (
                f"no other host looked at the storage root within {seconds:g} s, which each step "
                "does too"
            )
    finally:
        with suppress(Exception):  # the job ended, or ends when it has looked
            list(handler.terminate_step(context))
    if answer["error"]:
        raise StoreError(answer["error"])
    return f"{answer['host']} has the sources, sees the storage root and reaches the history"


def _answer_of(plan_context: PlanOrchestrationContext) -> dict[str, str] | None:
    """What the job said; None: nothing yet."""
    run = plan_context.instance.get_run_by_id(plan_context.run_id)
    said = run.tags.get(ANSWER_TAG) if run else None
    return json.loads(said) if said else None


def _died(reason: str | None) -> str:
    return (
        "the job that was to look at the storage root from another host ended without a word in "
        f"the history of the run: {reason}. Every host needs this Python environment, the sources "
        "and the database"
    )


@click.command()
@click.option("--arguments", envvar=ARGUMENTS, required=True)
def main(arguments: str) -> None:
    """In the job: look, and leave the answer in the tags of the run."""
    described = zlib.decompress(base64.b64decode(arguments)).decode()
    step = deserialize_value(described, ExecuteStepArgs)
    with get_instance_for_cli(instance_ref=step.instance_ref) as instance:
        run = instance.get_run_by_id(step.run_id)
        answer = json.dumps({"host": socket.gethostname(), "error": _error_of(run)})
        instance.add_run_tags(step.run_id, {ANSWER_TAG: answer})


def _error_of(run: DagsterRun | None) -> str:
    """What a step of the run would be refused for on this host; empty: nothing."""
    try:
        require_same(run, read_settings().root)
    except StoreError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main()
