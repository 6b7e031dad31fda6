"""The one ``Definitions``: what ``defs/`` declares, plus executor, resources, jobs, a schedule
and a sensor."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from wmtp_assets.components.alerts import failure_alerts
from wmtp_assets.components.artifacts import UPSTREAM
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.errors import SpecError
from wmtp_assets.layout import Catalogue


def build_defs(assets: dg.Definitions, storage: StorageResource) -> dg.Definitions:
    """Join the assets with everything they need to run."""
    integrity = dg.define_asset_job(
        "integrity",
        selection=dg.AssetSelection.all_asset_checks(),
        description="Apply every rule to what is on disk.",
    )
    return dg.Definitions.merge(
        assets,
        dg.Definitions(
            executor=dg.in_process_executor,
            resources={"storage": storage},
            schedules=[
                dg.ScheduleDefinition(
                    name="integrity_daily",
                    job=integrity,
                    cron_schedule="0 3 * * *",
                    description="Every rule, every night at 03:00 UTC, while the daemon runs.",
                    default_status=dg.DefaultScheduleStatus.RUNNING,
                )
            ],
            sensors=[failure_alerts],
            jobs=[
                integrity,
                dg.define_asset_job(
                    "observe_upstream",
                    selection=dg.AssetSelection.groups(UPSTREAM, include_sources=True),
                    description="Ask the hub whether repositories moved past the commits in use.",
                ),
            ],
        ),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The project's definitions.

    Raises:
        dagster.DagsterInvalidDefinitionError: for a malformed setting or ``defs.yaml``, in the
            words of ``wmtp``.
    """
    try:
        Catalogue.load()
        storage = StorageResource.from_environment()
    except SpecError as error:
        raise dg.DagsterInvalidDefinitionError(str(error)) from None
    return build_defs(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
        storage,
    )
