"""Each step in a process of its own, several at once on one machine.

The processes are forked from one that has loaded the definitions: with ``spawn``, Dagster's own
default, each step would import them again.
"""

from __future__ import annotations

import sys

import dagster as dg

from wmtp_assets.components.engines import Engine

PRELOADED = ["wmtp_assets.preload"]


def _create(context: dg.InitExecutorContext) -> dg.Executor:
    create = dg.multiprocess_executor.executor_creation_fn
    assert create is not None
    config = dict(context.executor_config)
    if "start_method" not in config and sys.platform == "linux":
        config["start_method"] = {"forkserver": {"preload_modules": PRELOADED}}
    return create(context._replace(executor_config=config))


def engine() -> Engine:
    """Dagster's multiprocess executor, with a server to fork from."""
    return Engine(_create, config=dg.multiprocess_executor.config_schema, has_hosts=False)
