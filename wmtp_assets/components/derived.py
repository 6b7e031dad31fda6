"""The check ``derived`` of processed rows, and the job that applies it.

It converts everything again, so it is not a part of what follows each materialization: a run that
makes assets leaves it out. It is applied by the job ``derived``, weekly and on demand, and where
somebody runs the check by itself in the web UI.
"""

from typing import Any

import dagster as dg

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.operations.derive import NAME, STATEMENT

JOB = NAME
SCHEDULE = "derived_weekly"


def is_asked_for(run: dg.DagsterRun) -> bool:
    """Whether a run is of checks that somebody named, and makes nothing."""
    return run.job_name == JOB or bool(run.asset_check_selection and not run.asset_selection)


def is_left_out(run: dg.DagsterRun | None, check: str) -> bool:
    """Whether a check is planned in a run and will not be applied there."""
    return check == NAME and run is not None and not is_asked_for(run)


def derived_checks(defs: dg.Definitions) -> dg.AssetSelection | None:
    """Those among some definitions, and no asset; None: there are none."""
    keys = [
        key
        for made in (*(defs.assets or ()), *(defs.asset_checks or ()))
        if isinstance(made, dg.AssetsDefinition)
        for key in made.check_keys
        if key.name == NAME
    ]
    return dg.AssetSelection.checks(*keys) if keys else None


def check_spec(artifact: Artifact[Any]) -> dg.AssetCheckSpec:
    """The check of an artifact whose rows are compared."""
    return dg.AssetCheckSpec(
        NAME,
        asset=artifact.key,
        description=f"{STATEMENT} Applied weekly by the job {JOB}, or by: "
        f"dagster job execute -j {JOB}",
    )
