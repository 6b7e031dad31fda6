"""Each step as a job of a Ray cluster, by ``dagster-ray``.

The jobs API of Ray asks nobody who they are, and shows the variables of a job to everyone: secrets
must be in the environment in which the nodes were started.
"""

from __future__ import annotations

import shlex
from typing import Any

import dagster as dg
from dagster._core.executor.step_delegating import StepDelegatingExecutor

from wmtp_assets.base.errors import StoreError
from wmtp_assets.components.engines import POLL, Engine
from wmtp_assets.components.hosts import command_of, handed_on


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
    client: Any = executor._step_handler.client  # type: ignore[attr-defined]
    submit = client.submit_job

    def submit_job(*, entrypoint: str, **options: Any) -> str:
        # Ray starts a job that asks for nothing on the head, all of them.
        options["entrypoint_num_cpus"] = options.get("entrypoint_num_cpus") or 1
        return submit(entrypoint=shlex.join(command_of(entrypoint.split())), **options)

    client.submit_job = submit_job
    return executor


def engine() -> Engine:
    """The executor of ``dagster-ray``."""
    from dagster_ray import ray_executor  # pyright: ignore[reportMissingImports]

    fields = ray_executor.config_schema.config_type.fields
    return Engine(_create, config={**fields, "poll_seconds": POLL}, has_hosts=True)
