"""The class of our Dagster instances, which each ``dagster.yaml`` names.

So the web UI has its guard however it is started: by ``make ui``, ``dagster dev``, ``dg dev`` or
``dagster-webserver``. Runs of the command line are shown beside those of the web UI, and a click on
"Materialize all" starts no large download that nobody chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.instance.ref import InstanceRef
from dagster._core.origin import JobPythonOrigin
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorTick, TickData
from dagster._serdes import deserialize_value, serialize_value

from wmtp_assets.base.secrets import keep_out_of_logs, redact_serialized

if TYPE_CHECKING:
    from dagster._core.events import DagsterEventBatchMetadata

T = TypeVar("T", dg.EventLogEntry, TickData, InstigatorTick)

LOCATION = "wmtp_assets"
"""The code location, as ``workspace.yaml`` names it."""


class GuardedInstance(dg.DagsterInstance):
    """Dagster's own, with a guard in front of its web server, that stores no secret.

    Errors of others keep the texts of servers; Dagster stores them in events, and in the ticks of
    sensors and schedules.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keep_out_of_logs()

    def create_run(self, **run: Any) -> dg.DagsterRun:
        """What the web UI and the daemon create a run with.

        Raises:
            SpecError: as :func:`require_chosen`; nothing is started.
        """
        from wmtp_assets.components.optional import require_chosen

        require_chosen(run["asset_selection"])
        return super().create_run(**run)

    def create_run_for_job(
        self,
        job_def: dg.JobDefinition,
        *args: Any,
        remote_job_origin: RemoteJobOrigin | None = None,
        job_code_origin: JobPythonOrigin | None = None,
        **run: Any,
    ) -> dg.DagsterRun:
        """What a command creates its run with: it says nothing of a code location, without which
        the timeline and the pages of jobs leave a run out."""
        if remote_job_origin is None and job_code_origin is not None:
            remote_job_origin = RemoteRepositoryOrigin(
                RegisteredCodeLocationOrigin(LOCATION), SINGLETON_REPOSITORY_NAME
            ).get_job_origin(job_def.name)
        return super().create_run_for_job(
            job_def,
            *args,
            remote_job_origin=remote_job_origin,
            job_code_origin=job_code_origin,
            **run,
        )

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store an event without the secrets in it."""
        super().store_event(_redacted(event))

    def handle_new_event(
        self,
        event: dg.EventLogEntry,
        *,
        batch_metadata: DagsterEventBatchMetadata | None = None,
    ) -> None:
        """Store an event without the secrets in it, and tell subscribers.

        That a check is planned is not stored where it will not be applied: the web UI would show it
        as skipped, and not its last result.
        """
        kind = event.dagster_event_type
        if kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
            from wmtp_assets.components.derived import is_left_out

            name = event.get_dagster_event().asset_check_planned_data.check_name
            if is_left_out(self.get_run_by_id(event.run_id), name):
                return
        super().handle_new_event(_redacted(event), batch_metadata=batch_metadata)

    def run_will_resume(self, run_id: str) -> bool:
        """Whether a process that is told to end leaves its jobs to one that takes over: not where
        the run itself is to end."""
        run = self.get_run_by_id(run_id)
        is_wanted = run is not None and run.status != dg.DagsterRunStatus.CANCELING
        return is_wanted and super().run_will_resume(run_id)

    def create_tick(self, tick_data: TickData) -> InstigatorTick:
        """Store the beginning of a tick without the secrets in it."""
        return super().create_tick(_redacted(tick_data))

    def update_tick(self, tick: InstigatorTick) -> Any:
        """Store a tick without the secrets in it."""
        return super().update_tick(_redacted(tick))

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


def _redacted(value: T) -> T:
    """The same, without secrets in any of its texts; mostly it is the value itself."""
    text = serialize_value(value)
    clean = redact_serialized(text)
    return value if clean == text else deserialize_value(clean, type(value))
