"""Each step as a Job of Kubernetes, by ``dagster-k8s``.

An asset's op tag ``dagster-k8s/config`` has the resources of its pods. Secrets come from the
cluster (``env_secrets``), never from here: a Job's variables are shown to whoever may list Jobs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandlerContext,
)

from wmtp_assets.base.errors import StoreError
from wmtp_assets.components.engines import HOSTS_CONFIG, Engine, WordlessJobs
from wmtp_assets.components.hosts import handed_on

SECONDS = 10
"""How long the API server has to answer."""


def _create(context: dg.InitExecutorContext) -> dg.Executor:
    import kubernetes  # pyright: ignore[reportMissingImports]
    import urllib3.exceptions
    from dagster_k8s import (  # pyright: ignore[reportMissingImports]
        K8sRunLauncher,
        k8s_job_executor,
    )

    create = k8s_job_executor.executor_creation_fn
    assert create is not None
    config = dict(context.executor_config)
    config["env_vars"] = config.get("env_vars") or [*handed_on()]
    try:
        if not isinstance(context.instance.run_launcher, K8sRunLauncher):
            raise StoreError(
                "WMTP_ENGINE=k8s takes namespace, image and account of its Jobs from the "
                "K8sRunLauncher of the instance, and the run_launcher of "
                f"{context.instance.root_directory} is "
                f"{type(context.instance.run_launcher).__name__}. Dagster's Helm chart sets it"
            )
        executor = create(context._replace(executor_config=config))
        kubernetes.client.VersionApi().get_code(_request_timeout=SECONDS)
    except (
        kubernetes.config.ConfigException,
        kubernetes.client.ApiException,
        urllib3.exceptions.HTTPError,
    ) as error:
        said = str(error).strip().partition("\n")[0]
        raise StoreError(
            f"the Kubernetes cluster cannot be used: {said}. See: kubectl version"
        ) from None
    assert isinstance(executor, StepDelegatingExecutor)
    _watch(executor._step_handler)
    return executor


def _watch(handler: Any) -> None:
    """Let the step handler of ``dagster-k8s`` also miss Jobs that succeeded without a word."""
    check, wordless = handler.check_step_health, WordlessJobs()

    def check_step_health(step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        health = check(step_handler_context)
        if not health.is_healthy:
            return health
        job = handler._get_k8s_step_job_name(step_handler_context)
        namespace = handler._get_container_context(step_handler_context).namespace
        status = handler._api_client.get_job_status(job_name=job, namespace=namespace)
        return wordless.health_of(job, has_ended=bool(status and status.succeeded))

    handler.check_step_health = check_step_health


def _elsewhere(executor: StepDelegatingExecutor, run: dg.DagsterRun) -> Mapping[str, str]:
    """A node on which no pod of the run is yet, where there is one."""
    others = {
        "labelSelector": {"matchLabels": {"dagster/run-id": run.run_id}},
        "topologyKey": "kubernetes.io/hostname",
    }
    rule = {"weight": 100, "podAffinityTerm": others}
    affinity = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [rule]}}
    needs = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}
    config = {
        "pod_spec_config": {"affinity": affinity},
        "container_config": {"resources": needs},
    }
    return {"dagster-k8s/config": json.dumps(config)}


def engine() -> Engine:
    """The executor of ``dagster-k8s``."""
    from dagster_k8s import k8s_job_executor  # pyright: ignore[reportMissingImports]

    fields = k8s_job_executor.config_schema.config_type.fields
    config = {**fields, **HOSTS_CONFIG}
    return Engine(_create, config=config, has_hosts=True, elsewhere=_elsewhere)
