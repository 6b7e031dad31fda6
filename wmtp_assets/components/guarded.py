"""The class of our Dagster instances, which each ``dagster.yaml`` names.

So the web UI has its guard however it is started: by ``make ui``, ``dagster dev``, ``dg dev`` or
``dagster-webserver``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef


class GuardedInstance(dg.DagsterInstance):
    """Dagster's own, with a guard in front of its web server."""

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """No settings besides Dagster's; asked for by Dagster."""
        return {}

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, Any]:
        """Dagster's; asked for by Dagster."""
        return InstanceRef.config_defaults(base_dir)

    def optimize_for_webserver(
        self, statement_timeout: int, pool_recycle: int, max_overflow: int
    ) -> None:
        """What a web server calls before it starts, and nobody else."""
        from wmtp_assets.components.guard import guard_web_servers

        guard_web_servers()
        super().optimize_for_webserver(statement_timeout, pool_recycle, max_overflow)
