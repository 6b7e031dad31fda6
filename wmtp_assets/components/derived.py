"""The check ``derived`` of processed rows, and the job that applies it.

It converts everything again, so it is not a part of what follows each materialization: its step
does nothing in a run that makes assets. It is applied by the job ``derived``, weekly and on demand,
and where somebody runs the check by itself in the web UI.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg

from wmtp_assets.base.progress import for_log
from wmtp_assets.base.settings import utc_now
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.components.artifacts import plain_failures, result_of
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.components.verified import VERIFIED_AT
from wmtp_assets.operations.derive import NAME, STATEMENT, derive
from wmtp_assets.rules.findings import is_warning

JOB = NAME
SCHEDULE = "derived_weekly"


def is_asked_for(run: dg.DagsterRun) -> bool:
    """Whether a run is of checks that somebody named, and makes nothing."""
    return run.job_name == JOB or bool(run.asset_check_selection and not run.asset_selection)


def is_left_out(run: dg.DagsterRun | None, check: str) -> bool:
    """Whether a check is planned in a run and will not be applied there."""
    return check == NAME and run is not None and not is_asked_for(run)


def derived_checks(checks: Iterable[dg.AssetsDefinition]) -> dg.AssetSelection | None:
    """Those among some checks, and no asset; None: there are none."""
    keys = [key for check in checks for key in check.check_keys if key.name == NAME]
    return dg.AssetSelection.checks(*keys) if keys else None


def derived_check_of(artifact: Artifact[Any]) -> dg.AssetChecksDefinition:
    """The check of an artifact whose rows are compared: a step of its own."""

    @dg.multi_asset_check(
        name=f"{artifact.key}_{NAME}",
        specs=[
            dg.AssetCheckSpec(
                NAME,
                asset=artifact.key,
                description=f"{STATEMENT} Applied weekly by the job {JOB}, or by: "
                f"dagster job execute -j {JOB}",
            )
        ],
        can_subset=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext, storage: dg.ResourceParam[StorageResource]
    ) -> Iterator[dg.AssetCheckResult]:
        if not is_asked_for(context.run):
            context.log.debug(f"{NAME} is left out of runs that make assets")
            return
        started = time.monotonic()
        with plain_failures():
            outcome = derive(storage.open(context.instance), artifact, for_log(context.log.info))
        for finding in outcome.findings:
            log = context.log.warning if is_warning(outcome) else context.log.error
            log(f"{NAME}: {finding}. {finding.remedy}")
        result = result_of(NAME, outcome)
        yield result._replace(
            metadata={
                **result.metadata,
                VERIFIED_AT: dg.MetadataValue.timestamp(utc_now()),
                "seconds": dg.MetadataValue.float(round(time.monotonic() - started, 2)),
            }
        )
        if outcome.findings and not is_warning(outcome):
            raise dg.Failure(str(outcome.findings[0]), allow_retries=False)

    return check
