"""The one ``Definitions``: what ``defs/`` declares, plus executor, resources, jobs, schedules
and sensors."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import click
import dagster as dg

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import (
    VARIABLES,
    Settings,
    read_engine,
    read_settings,
    require_numbers,
)
from wmtp_assets.catalogue.artifact import Catalogue
from wmtp_assets.components.alerts import failure_alerts
from wmtp_assets.components.artifacts import UPSTREAM
from wmtp_assets.components.automation import automation
from wmtp_assets.components.derived import JOB, SCHEDULE, derived_checks
from wmtp_assets.components.engines import executor_of, require_engine
from wmtp_assets.components.published import PublishResource, published_assets
from wmtp_assets.components.storage import FORCE, OptionsResource, StorageResource, fixed
from wmtp_assets.components.verified import verification_overdue
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.rules.apply import is_committed
from wmtp_assets.storage.store import Store

for _category in (dg.BetaWarning, dg.SupersessionWarning):
    warnings.filterwarnings("ignore", category=_category)
"""Each command would print one for each parameter that we chose knowing that it is beta, and for
those that Dagster uses itself."""

GROUPS = {
    "models": ("models", "micro", "Every model that is not optional, and the micro models."),
    "datasets": ("datasets", "small", "Every dataset, with its small splits."),
    "small": ("small", "micro", "What a laptop needs: micro models and small splits."),
}
"""Job → the groups whose assets it makes, and its description."""


def selection_jobs(
    optional: Collection[str] = (), without: dg.AssetSelection | None = None
) -> list[dg.UnresolvedAssetJobDefinition]:
    """Jobs that make what belongs together; nothing optional, and nothing that is upstream.

    Args:
        optional: keys of the optional assets that were made: the job ``stale`` keeps them right.
        without: checks that no job applies after it made something.
    """
    required = dg.AssetSelection.all() - dg.AssetSelection.tag("optional", "true")
    jobs: dict[str, tuple[dg.AssetSelection, str]] = {
        name: (dg.AssetSelection.groups(*groups) & required, description)
        for name, (*groups, description) in GROUPS.items()
    }
    jobs["everything"] = required, "Every asset that is not optional, with all checks."
    jobs["stale"] = (
        required | dg.AssetSelection.assets(*optional) if optional else required,
        "What is not what would be made now, upstream first; what is unchanged is left as it is. "
        "Of optional assets those that were there when the definitions were loaded.",
    )
    return [
        dg.define_asset_job(
            name, selection=selection - without if without else selection, description=description
        )
        for name, (selection, description) in jobs.items()
    ]


def build_defs(
    assets: dg.Definitions,
    storage: StorageResource,
    destination: PublishResource | None = None,
    optional: Collection[str] = (),
    engine: str = "in_process",
) -> dg.Definitions:
    """Join the assets with everything they need to run; without a ``destination`` none is known.

    Args:
        optional: keys of the optional assets that were made.
        engine: what runs the steps.

    Raises:
        SpecError: if there is no such engine here.
    """
    every, derived = dg.AssetSelection.all_asset_checks(), derived_checks(assets)
    integrity = dg.define_asset_job(
        "integrity",
        selection=every - derived if derived else every,
        description="Apply every rule to the bytes on disk.",
        config=FORCE,
    )
    observe = dg.define_asset_job(
        "observe_upstream",
        selection=dg.AssetSelection.groups(UPSTREAM, include_sources=True),
        description="Ask the hub whether repositories moved past the commits in use.",
    )
    return dg.Definitions.merge(
        assets,
        dg.Definitions(
            executor=executor_of(engine),
            resources={
                "storage": fixed(storage),
                "options": OptionsResource(),
                "destination": fixed(destination or PublishResource()),
            },
            schedules=[
                dg.ScheduleDefinition(
                    name="integrity_daily",
                    job=integrity,
                    cron_schedule="0 3 * * *",
                    description="Every rule, every night at 03:00 UTC, while the daemon runs.",
                    default_status=dg.DefaultScheduleStatus.RUNNING,
                ),
                dg.ScheduleDefinition(
                    name="observe_upstream_weekly",
                    job=observe,
                    cron_schedule="0 4 * * 1",
                    description="The job observe_upstream, on Mondays at 04:00 UTC. Off until "
                    "turned on: it asks the hub.",
                ),
            ],
            sensors=[failure_alerts, verification_overdue, automation()],
            jobs=[integrity, *selection_jobs(optional, derived), observe],
        ),
        dg.Definitions(
            jobs=[
                derived_job := dg.define_asset_job(
                    JOB,
                    selection=derived,
                    description="Convert raw files again, and compare with the processed rows.",
                )
            ],
            schedules=[
                dg.ScheduleDefinition(
                    name=SCHEDULE,
                    job=derived_job,
                    cron_schedule="0 5 * * 0",
                    description="The job derived, on Sundays at 05:00 UTC, while the daemon runs.",
                    default_status=dg.DefaultScheduleStatus.RUNNING,
                )
            ],
        )
        if derived
        else dg.Definitions(),
    )


class MalformedDefinitions(dg.DagsterInvalidDefinitionError, click.ClickException):
    """A setting or a ``defs.yaml`` is malformed. Commands say it, without a traceback."""


@dg.definitions
def defs() -> dg.Definitions:
    """The project's definitions.

    Dagster asks six times for them in one run; they are built anew where a setting, a ``defs.yaml``
    or an optional artifact is another than before.

    Raises:
        MalformedDefinitions: for a malformed setting or ``defs.yaml``, in the words of ``wmtp``.
    """
    try:
        catalogue = load_catalogue()
        settings = read_settings()
        require_numbers()
        engine = read_engine()
        require_engine(engine)
    except SpecError as error:
        raise MalformedDefinitions(str(error)) from None
    store = Store(settings, catalogue)
    optional = tuple(a.key for a in catalogue if a.optional and is_committed(store, a))
    said = tuple(variable.read() for variable in VARIABLES)
    return declared_defs(catalogue, settings, engine, said, optional)


@lru_cache(maxsize=1)
def declared_defs(
    catalogue: Catalogue,
    settings: Settings,
    engine: str,
    said: tuple[str, ...],
    optional: tuple[str, ...],
) -> dg.Definitions:
    """What :func:`defs` builds, of which the last is kept.

    Args:
        said: the values of all variables of the environment: components read them too.
        optional: as :func:`build_defs`.
    """
    destination = PublishResource.of_environment()
    return build_defs(
        dg.Definitions.merge(
            dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
            dg.Definitions(assets=published_assets(catalogue, destination.url)),
        ),
        StorageResource(source=settings.source, root=str(settings.root)),
        destination,
        optional,
        engine,
    )
