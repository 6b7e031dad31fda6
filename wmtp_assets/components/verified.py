"""When the bytes of each artifact were last verified, and a warning where that is overdue.

Dagster's freshness policies look at materializations only, and an artifact that is made once and
kept is none the worse for its age. What ages is the knowledge that its bytes are still right. So
each verification is an observation of the asset, and the check ``sha256`` turns into a warning
when its result is older than :data:`MAX_AGE`: the schedule was off, or the machine.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from wmtp_assets.base.settings import utc_now
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.rules.apply import last_results
from wmtp_assets.storage.store import Store

RULE = "sha256"
"""The rule that reads every byte."""

MAX_AGE = timedelta(hours=36)
"""A night that was left out is overdue by noon."""

VERIFIED_AT = "verified_at"
OVERDUE = "overdue"
"""Names in the metadata: of the time, and of what this module says."""


def verified_at(store: Store, artifact: Artifact[Any]) -> datetime | None:
    """When every byte of it was last read and right, by a check or by ``wmtp verify``."""
    for result in last_results(store, artifact):
        if result.rule == RULE and not result.problem:
            return datetime.fromisoformat(result.at)
    return None


def observation_of(artifact: Artifact[Any]) -> dg.AssetObservation:
    """What a verification that found nothing says of the asset, on its page."""
    return dg.AssetObservation(
        artifact.key, metadata={VERIFIED_AT: dg.MetadataValue.timestamp(utc_now())}
    )


@dg.sensor(
    name="verification_overdue",
    description=(
        f"Turns the check {RULE} of an artifact into a warning when its bytes were last verified "
        f"more than {MAX_AGE // timedelta(hours=1)} hours ago, and back when they were since."
    ),
    minimum_interval_seconds=600,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def verification_overdue(
    context: dg.SensorEvaluationContext, storage: dg.ResourceParam[StorageResource]
) -> dg.SkipReason:
    """Report the checks whose result is older than it may be; a failed one is left alone."""
    store = storage.open(context.instance)
    late = [
        artifact.key
        for artifact in store.catalogue
        if _is_late(context.instance, artifact, verified_at(store, artifact))
    ]
    return dg.SkipReason(f"overdue: {', '.join(late)}" if late else "nothing is overdue")


def _is_late(instance: dg.DagsterInstance, artifact: Artifact[Any], at: datetime | None) -> bool:
    """Whether the verification is overdue; the check says so after this, or does no longer."""
    key = dg.AssetCheckKey(dg.AssetKey(artifact.key), RULE)
    record = instance.get_latest_asset_check_evaluation_record(key)
    last = record.evaluation if record else None
    if record is None or not isinstance(last, dg.AssetCheckEvaluation):
        return False  # it was never applied, or is planned: Dagster's type is then another
    if not (last.passed or OVERDUE in last.metadata):
        return False  # it failed
    at = at or datetime.fromtimestamp(record.create_timestamp, UTC)
    is_late = utc_now() - at > MAX_AGE
    if is_late == last.passed:
        metadata: dict[str, Any] = {VERIFIED_AT: dg.MetadataValue.timestamp(at)}
        if is_late:
            metadata[OVERDUE] = "apply the rules with: dagster job execute -j integrity"
        said = f"last verified at {at:%Y-%m-%d %H:%M} UTC"
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=RULE,
                passed=not is_late,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{said}: overdue, {metadata[OVERDUE]}" if is_late else said,
                metadata=metadata,
                target_materialization_data=last.target_materialization_data,
                blocking=last.blocking,
            )
        )
    return is_late
