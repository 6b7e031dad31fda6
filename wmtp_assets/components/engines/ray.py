"""Each step as a job of a Ray cluster, by ``dagster-ray``.

The jobs API of Ray asks nobody who they are, and shows the variables of a job to everyone: secrets
must be in the environment in which the nodes were started.
"""

from __future__ import annotations

import logging
import shlex
import socket
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandlerContext,
)

from wmtp_assets.base.errors import StoreError
from wmtp_assets.components.engines import HOSTS_CONFIG, Engine, WordlessJobs
from wmtp_assets.components.hosts import command_of, handed_on

if TYPE_CHECKING:
    from dagster_ray.core.executor import (  # pyright: ignore[reportMissingImports]
        RayStepHandler,
    )

NODE_TAG = "wmtp/ray_node"
"""Op tag: the id of the node on which a job is to run."""


def _watching(handler: RayStepHandler) -> RayStepHandler:
    """The step handler of ``dagster-ray``, that also misses jobs that ended without a word, and
    takes no job for one that is gone because nobody could be asked."""
    from ray.job_submission import JobStatus  # pyright: ignore[reportMissingImports]

    client: Any = handler.client
    submit, wordless = client.submit_job, WordlessJobs()
    launch, check, terminate = (
        handler.launch_step,
        handler.check_step_health,
        handler.terminate_step,
    )

    def launch_step(step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        (tags,) = step_handler_context.step_tags.values()
        chosen = {"ray.io/node-id": tags[NODE_TAG]} if NODE_TAG in tags else None

        def submit_job(*, entrypoint: str, **options: Any) -> str:
            # Ray starts a job that asks for nothing on the head, all of them.
            options["entrypoint_num_cpus"] = options.get("entrypoint_num_cpus") or 1
            if chosen:
                options["entrypoint_label_selector"] = chosen
            return submit(entrypoint=shlex.join(command_of(entrypoint.split())), **options)

        client.submit_job = submit_job
        yield from launch(step_handler_context)

    def check_step_health(step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        job = handler._get_ray_job_submission_id(step_handler_context)
        try:
            status = client.get_job_status(job)
        except (RuntimeError, OSError) as error:
            if "status code 404" in str(error):
                return CheckStepHealthResult.unhealthy(f"Ray knows no job {job}")
            logging.getLogger(__name__).warning("Ray is asked for %s again: %s", job, error)
            return CheckStepHealthResult.healthy()  # as far as anybody knows
        health = check(step_handler_context)
        if not health.is_healthy:
            return health
        return wordless.health_of(
            job,
            has_ended=status in (JobStatus.SUCCEEDED, JobStatus.STOPPED),
            is_wanted=status != JobStatus.STOPPED,
        )

    def terminate_step(step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        try:
            yield from terminate(step_handler_context)
        except (RuntimeError, OSError) as error:
            # Raised, it would leave the jobs of all other steps running too.
            job = handler._get_ray_job_submission_id(step_handler_context)
            (step,) = step_handler_context.execute_step_args.step_keys_to_execute or [""]
            yield DagsterEvent.engine_event(
                step_handler_context.get_step_context(step),
                f"Ray was not reached ({error}): the job may still run. Then: ray job stop {job}",
                EngineEventData(),
            )

    watching: Any = handler
    watching.launch_step, watching.check_step_health = launch_step, check_step_health
    watching.terminate_step = terminate_step
    return handler


def _create(context: dg.InitExecutorContext) -> dg.Executor:
    from dagster_ray import ray_executor  # pyright: ignore[reportMissingImports]

    create = ray_executor.executor_creation_fn
    assert create is not None
    config: dict[str, Any] = dict(context.executor_config)
    ray = dict(config["ray"])
    if not ray.get("env_vars"):
        ray["env_vars"] = [*handed_on(), "PATH"]
    try:
        executor = create(context._replace(executor_config={**config, "ray": ray}))
    except (ConnectionError, RuntimeError) as error:
        said = str(error).strip().partition("\n")[0]
        raise StoreError(
            f"the Ray cluster cannot be used: {said}. Set RAY_ADDRESS=http://head:8265, the "
            "address of its dashboard, and see there: ray status"
        ) from None
    assert isinstance(executor, StepDelegatingExecutor)
    handler: Any = executor._step_handler
    _watching(handler)
    return executor


def _elsewhere(executor: StepDelegatingExecutor, run: dg.DagsterRun) -> Mapping[str, str]:
    """A node of another host, where there is one."""
    handler: Any = executor._step_handler
    answer = handler.client._do_request("GET", "/nodes?view=summary")
    nodes = answer.json()["data"]["summary"] if answer.ok else []
    for node in nodes:
        raylet = node.get("raylet", {})
        is_other = raylet.get("nodeManagerHostname") != socket.gethostname()
        if raylet.get("state") == "ALIVE" and is_other:
            return {NODE_TAG: raylet["nodeId"]}
    return {}


def engine() -> Engine:
    """The executor of ``dagster-ray``."""
    from dagster_ray import ray_executor  # pyright: ignore[reportMissingImports]

    fields = ray_executor.config_schema.config_type.fields
    config = {**fields, **HOSTS_CONFIG}
    return Engine(_create, config=config, has_hosts=True, elsewhere=_elsewhere)
