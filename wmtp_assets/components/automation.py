"""When derived assets are made again by themselves, and the sensor that asks for it."""

from __future__ import annotations

from functools import lru_cache

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus

from wmtp_assets.base.settings import AUTOMATION_VARIABLE

OPTIONAL_TAG = {"optional": "true"}
"""Not selected by ``make materialize``: made only when it is asked for."""

AC = dg.AutomationCondition


@lru_cache(maxsize=1)
def _resolver_of(view: AssetGraphView) -> CachingStaleStatusResolver:
    """Dagster's own, which is no public API: no public condition tells it. One a tick."""
    return CachingStaleStatusResolver(view.instance, view.asset_graph, view)


class IsStale(AC[dg.AssetKey]):
    """An asset was made of other content, or by another builder or settings, than there are now.

    It is what the UI calls stale; an asset that was never made is missing, and not stale.
    """

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        resolver = _resolver_of(context.asset_graph_view)
        is_stale = resolver.get_status(context.key) == StaleStatus.STALE
        return dg.AutomationResult(
            context, context.candidate_subset if is_stale else context.get_empty_subset()
        )


class HasWarned(AC[dg.AssetCheckKey]):
    """The last evaluation of a check has the severity WARN."""

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        record = context.asset_graph_view.instance.get_latest_asset_check_evaluation_record(
            context.key
        )
        event = record.event.dagster_event if record and record.event else None
        has_warned = (
            event is not None
            and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
            and event.asset_check_evaluation_data.severity == dg.AssetCheckSeverity.WARN
        )
        return dg.AutomationResult(
            context, context.candidate_subset if has_warned else context.get_empty_subset()
        )


_OPTIONAL = dg.AssetSelection.tag("optional", "true")
"""An asset made from optional ones does without those that are not there."""

DERIVED = (
    (AC.any_deps_match(AC.data_version_changed()) | IsStale().newly_true()).since(
        AC.newly_requested()
    )
    & IsStale()
    & ~AC.any_deps_missing().ignore(_OPTIONAL)
    & ~AC.any_deps_match(AC.in_progress() | AC.will_be_requested())
    & ~AC.in_progress()
    & AC.all_deps_match(
        AC.missing()
        | AC.all_checks_match(
            AC.check_passed() | (AC.check_failed() & HasWarned()), blocking_only=True
        )
    )
)
"""Made again when it is stale and what it is made from is at rest and passed its blocking checks,
or only warns. It is asked for once: where that fails, a person looks at it, or content changes
again. ``eager()`` would fire after each materialization, whether the bytes changed or not, and
``all_deps_blocking_checks_passed()`` does not count a warning as passed."""


def automation() -> dg.AutomationConditionSensorDefinition:
    """Makes derived assets again when they are stale; off by default."""
    is_on = AUTOMATION_VARIABLE.read() not in ("", "0")
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        use_user_code_server=True,  # conditions of our own are evaluated there only
        description=(
            "Makes a derived asset again when it is stale: the content of what it is made from "
            "changed, and passed its blocking checks or only warns; or its settings or builder "
            "changed. Optional assets, and what was never made, are left alone. Off until turned "
            f"on here, or by {AUTOMATION_VARIABLE}=1."
        ),
        default_status=(
            dg.DefaultSensorStatus.RUNNING if is_on else dg.DefaultSensorStatus.STOPPED
        ),
    )
