"""Each step as a Job of Kubernetes, by ``dagster-k8s``.

An asset's op tag ``dagster-k8s/config`` has the resources of its pods. Secrets come from the
cluster (``env_secrets``), never from here: a Job's variables are shown to whoever may list Jobs.
"""

from __future__ import annotations

import dagster as dg

from wmtp_assets.base.errors import StoreError
from wmtp_assets.components.engines import POLL, Engine
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
    config["env_vars"] = config.get("env_vars") or handed_on()
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
    return executor


def engine() -> Engine:
    """The executor of ``dagster-k8s``."""
    from dagster_k8s import k8s_job_executor  # pyright: ignore[reportMissingImports]

    fields = k8s_job_executor.config_schema.config_type.fields
    return Engine(_create, config={**fields, "poll_seconds": POLL}, has_hosts=True)
