"""All steps in the process of the run: the default, and the quickest on one machine."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.executor_definition import IN_PROC_CONFIG

from wmtp_assets.components.engines import Engine


def _create(context: dg.InitExecutorContext) -> dg.Executor:
    create = dg.in_process_executor.executor_creation_fn
    assert create is not None
    return create(context)


def engine() -> Engine:
    """Dagster's in-process executor."""
    return Engine(_create, config=IN_PROC_CONFIG, has_hosts=False)
