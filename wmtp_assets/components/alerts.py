"""Telling a person that a run failed: a sensor that posts to a webhook."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus, RunRecord, RunsFilter

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.secrets import redact
from wmtp_assets.base.settings import WEBHOOK_VARIABLE
from wmtp_assets.base.text import printable
from wmtp_assets.components.storage import StorageResource

TIMEOUT = 10
"""Seconds, until the answer is here whole."""

MAX_CHECKS = 20
MAX_MESSAGE = 1000


@dg.sensor(
    name="failure_alerts",
    description=(
        f"Posts every failed run to the webhook in {WEBHOOK_VARIABLE}: which checks failed, where, "
        "and what to do. Off when that is not set. What could not be posted is posted later."
    ),
    minimum_interval_seconds=30,
    default_status=(
        dg.DefaultSensorStatus.RUNNING
        if WEBHOOK_VARIABLE.read()
        else dg.DefaultSensorStatus.STOPPED
    ),
)
def failure_alerts(
    context: dg.SensorEvaluationContext, storage: dg.ResourceParam[StorageResource]
) -> dg.SkipReason:
    """Post the runs that failed since the last one that was posted, oldest first."""
    url = WEBHOOK_VARIABLE.read()
    if not url:
        return dg.SkipReason(f"{WEBHOOK_VARIABLE} is not set")
    if context.cursor is None:
        context.update_cursor(repr(datetime.now(UTC).timestamp()))
        return dg.SkipReason("watching for failed runs from now on")
    failed = context.instance.get_run_records(
        RunsFilter(
            statuses=[DagsterRunStatus.FAILURE],
            updated_after=datetime.fromtimestamp(float(context.cursor), UTC),
        ),
        order_by="update_timestamp",
        ascending=True,
    )
    posted = 0
    for record in failed:
        problem = _post(url, alert(context.instance, record, storage.root))
        if problem and not posted:
            raise dg.Failure(f"{problem}; it is tried again", allow_retries=False)
        if problem:
            context.log.warning(f"{problem}; the rest is tried again")
            break
        posted += 1
        context.update_cursor(repr(record.update_timestamp.replace(tzinfo=UTC).timestamp()))
    return dg.SkipReason(f"{posted} failed runs posted" if posted else "no run failed")


def alert(instance: dg.DagsterInstance, record: RunRecord, root: str) -> dict[str, Any]:
    """What is posted about a failed run.

    Returns:
        ``text`` for people; ``run_id``, ``job``, ``root``; ``failed_checks``: asset, check and
        problem of each; ``errors``: what steps failed with that no check explains.
    """
    run = record.dagster_run
    checks = [
        {
            "asset": evaluation.asset_key.to_user_string(),
            "check": evaluation.check_name,
            "problem": _short(evaluation.description or "failed"),
        }
        for event in _events(instance, run.run_id, DagsterEventType.ASSET_CHECK_EVALUATION)
        for evaluation in (event.asset_check_evaluation_data,)
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
    ]
    errors = [] if checks else [*_errors(instance, run.run_id)]
    lines = [f"{check['asset']} {check['check']}: {check['problem']}" for check in checks] + errors
    more = f"\n… {len(lines) - MAX_CHECKS} more" if len(lines) > MAX_CHECKS else ""
    return {
        "text": "\n".join(
            [
                f"wmtp_assets: {run.job_name} failed ({root}, run {run.run_id})",
                *lines[:MAX_CHECKS],
            ]
        )
        + more,
        "run_id": run.run_id,
        "job": run.job_name,
        "root": root,
        "failed_checks": checks,
        "errors": errors,
    }


def _events(
    instance: dg.DagsterInstance, run_id: str, kind: DagsterEventType
) -> list[dg.DagsterEvent]:
    return [
        entry.dagster_event
        for entry in instance.all_logs(run_id, of_type=kind)
        if entry.dagster_event is not None
    ]


def _errors(instance: dg.DagsterInstance, run_id: str) -> Iterable[str]:
    """What failed steps say; where none did, what is said of the run as a whole: it could not
    start, or its process was killed."""
    steps = _events(instance, run_id, DagsterEventType.STEP_FAILURE)
    for event in steps:
        data = event.step_failure_data
        said = data.user_failure_data and data.user_failure_data.description
        message = said or (data.error.message if data.error else "failed")
        yield f"{event.step_key}: {_short(message)}"
    for event in () if steps else _events(instance, run_id, DagsterEventType.RUN_FAILURE):
        if event.message:
            yield _short(event.message)


def _short(text: str) -> str:
    line = printable(" ".join(redact(text).split()))
    return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 1]}…"


def _post(url: str, document: dict[str, Any]) -> str:
    """Post a JSON document; say what went wrong, without the address; empty: nothing."""
    import httpx2

    from wmtp_assets.transfer.answers import BoundedClient

    try:
        with BoundedClient(timeout=TIMEOUT, seconds=TIMEOUT) as client:
            answer = client.post(url, json=document)
    except SpecError as error:
        return f"the webhook in {WEBHOOK_VARIABLE} cannot be reached: {error}"
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, TypeError) as error:
        return f"the webhook in {WEBHOOK_VARIABLE} cannot be reached: {type(error).__name__}"
    if not answer.is_success:
        return f"the webhook in {WEBHOOK_VARIABLE} answered {answer.status_code}"
    return ""
