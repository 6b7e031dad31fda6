"""What runs the steps of a run: one module per engine, found by its name in ``WMTP_ENGINE``.

A module has a function ``engine``. What all engines of many hosts need (a database that every host
reaches, a storage root that every host sees, the same sources, retries of steps that died) is here
and in :mod:`wmtp_assets.components.hosts`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import IStepContext
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
)
from dagster._utils.error import (
    SerializableErrorInfo,  # pyright: ignore[reportPrivateImportUsage]
)

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import ENGINE_VARIABLE
from wmtp_assets.components.hosts import require_shared_database
from wmtp_assets.components.runs import Recorded

RETRIES = 2
"""How often a step that died is started again."""

NOT_AGAIN = "It is not started again"
"""What an engine says of a dead step that would die again, or that a person ended."""

HOSTS_CONFIG = {
    "poll_seconds": dg.Field(
        dg.IntSource,
        is_required=False,
        default_value=20,
        description="Seconds between two questions whether the steps still run.",
    ),
    "look_seconds": dg.Field(
        dg.IntSource,
        is_required=False,
        default_value=60,
        description="Before the first step, how long to wait for another host to look at the "
        "storage root; 0: none does.",
    ),
}
"""Fields of ``execution: config:`` of every engine of many hosts."""


@dataclass(frozen=True)
class Engine:
    """What runs steps.

    Attributes:
        create: makes Dagster's executor; raises a :class:`StoreError` if the controller is out of
            reach.
        config: the schema of ``execution: config:`` in a run's configuration.
        has_hosts: whether a step may run on another host than the run.
        elsewhere: op tags of a small job that is to run on another host than this one, if it can
            be said; given the executor and the run.
    """

    create: Callable[[dg.InitExecutorContext], dg.Executor]
    config: Any
    has_hosts: bool
    elsewhere: Callable[[StepDelegatingExecutor, dg.DagsterRun], Mapping[str, str]] | None = None


LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "ray": ("ray", "dagster_ray"),
    "k8s": ("kubernetes", "dagster_k8s"),
    "postgres": ("psycopg2", "dagster_postgres"),
}
"""Extra → what it must have brought."""


def require_extra(extra: str, where: str) -> None:
    """See to it that the libraries of an extra are there.

    Raises:
        SpecError: if one is not, with the command that installs it.
    """
    missing = [name for name in LIBRARIES.get(extra, ()) if find_spec(name) is None]
    if missing:
        raise SpecError(
            f"{where} needs {' and '.join(missing)}, not installed here. Install the extra: "
            f"pip install -c constraints.txt -e '.[platform,{extra}]'"
        )


def engine_names() -> list[str]:
    """Of every engine: the modules of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def require_engine(name: str) -> None:
    """See to it that there is an engine of that name.

    Raises:
        SpecError: if there is none, or its extra is not installed.
    """
    if name not in engine_names():
        raise SpecError(
            f"{ENGINE_VARIABLE}={name!r} is not an engine; use one of {', '.join(engine_names())}"
        )
    require_extra(name, f"{ENGINE_VARIABLE}={name}")


def executor_of(name: str) -> dg.ExecutorDefinition:
    """The executor of every job, with the engine of that name.

    Raises:
        SpecError: if there is none of that name, or its extra is not installed.
    """
    require_engine(name)
    engine: Engine = importlib.import_module(f"{__name__}.{name}").engine()
    needed = [] if name == "in_process" else multiple_process_executor_requirements()

    @dg.executor(name=name, config_schema=engine.config, requirements=needed)
    def create(context: dg.InitExecutorContext) -> dg.Executor:
        def inner() -> dg.Executor:
            if engine.has_hosts:
                require_shared_database(context.instance, name)
            made = engine.create(context)
            config: Any = context.executor_config
            if needed:
                # Dagster's executors with processes ask this method of theirs what becomes of a
                # step that ended without a word. The policy of an op would retry errors too.
                made.log_failure_or_retry_event_after_error = after_death
            if isinstance(made, StepDelegatingExecutor):
                made._check_step_health_interval_seconds = config["poll_seconds"]
            return made

        return Recorded(
            inner,
            context.executor_config,
            name if engine.has_hosts else "",
            engine.elsewhere,
        )

    return create


class WordlessJobs:
    """Jobs that ended well, or were stopped, and whose steps did not say so.

    Step handlers of others take such a job for one that runs, forever. It is given one more poll:
    the last event of its step may be on its way.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def health_of(self, job: str, has_ended: bool, is_wanted: bool = True) -> CheckStepHealthResult:
        """What is said of a job that did not fail.

        Args:
            has_ended: whether it did.
            is_wanted: False: a person stopped it.
        """
        if not has_ended:
            self._seen.discard(job)
        elif job in self._seen:
            said = f"the job {job} ended, and the step did not say that it did"
            return CheckStepHealthResult.unhealthy(
                said if is_wanted else f"the job {job} was stopped. {NOT_AGAIN}"
            )
        else:
            self._seen.add(job)
        return CheckStepHealthResult.healthy()


def after_death(
    step_context: IStepContext, err_info: SerializableErrorInfo, known_state: KnownExecutionState
) -> DagsterEvent:
    """Start a step again that died, and not one that failed; the event that says which.

    A step that died has no exception of its own: the executor missed it.
    """
    step, error = step_context, err_info
    has_died = error.cls_name in (None, "ChildProcessCrashException")
    attempts = known_state.get_retry_state().get_attempt_count(step.step.key)
    if (
        has_died
        and NOT_AGAIN not in error.message
        and attempts < RETRIES
        and not step.retry_mode.disabled
    ):
        return DagsterEvent.step_retry_event(step, StepRetryData(error=error, seconds_to_wait=1))
    return DagsterEvent.step_failure_event(
        step_context=step, step_failure_data=StepFailureData(error=error, user_failure_data=None)
    )
