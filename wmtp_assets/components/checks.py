"""The rules of an artifact as checks of its asset.

A check is blocking where its rule is, can be run alone, and shows its evidence. They are a part of
the step that makes the artifact: on a cluster, where a step is a job, that is half as many jobs,
and what was just written is still in the memory of that host.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from wmtp_assets.base.progress import for_log
from wmtp_assets.base.settings import utc_now
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.components.derived import check_spec as derived_spec
from wmtp_assets.components.derived import is_asked_for
from wmtp_assets.components.failures import plain_failures
from wmtp_assets.components.metadata import table, unfolded
from wmtp_assets.components.storage import OptionsResource
from wmtp_assets.components.verified import RULE, VERIFIED_AT, observation_of
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.derive import NAME as DERIVED
from wmtp_assets.operations.derive import derive, is_derived
from wmtp_assets.rules.apply import apply_each, recall
from wmtp_assets.rules.findings import Outcome, Rule, as_text, is_warning
from wmtp_assets.storage.store import Store

Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext

SHOWN = 10
"""Items of a list that a check's page shows."""


def check_specs_of(artifact: Artifact[Any]) -> list[dg.AssetCheckSpec]:
    """A check for each rule, and ``derived`` where rows are compared with their raw files."""
    specs = [
        dg.AssetCheckSpec(
            rule.name, asset=artifact.key, blocking=rule.blocking, description=rule.statement
        )
        for rule in rules_of(artifact)
    ]
    return [*specs, derived_spec(artifact)] if is_derived(artifact) else specs


def checked(
    artifact: Artifact[Any], context: Context, store: Store, options: OptionsResource
) -> Iterator[dg.AssetCheckResult]:
    """Apply the selected rules, each also after another one failed.

    Raises:
        dagster.Failure: if rows are not what their raw files give.
    """
    selected = {key.name for key in context.selected_asset_check_keys}
    rules = [rule for rule in rules_of(artifact) if rule.name in selected]
    say = for_log(context.log.info)

    def recalled(rule: Rule) -> Outcome | None:
        return None if options.force else recall(rule, store, artifact)

    for rule, outcome in apply_each(rules, store, artifact, say, recalled):
        _log_findings(context, rule.name, outcome)
        was_read = not outcome.skipped and not outcome.remembered
        if rule.name == RULE and not outcome.findings and was_read:
            context.op_execution_context.log_event(observation_of(artifact))
        yield result_of(rule.name, outcome)
    if DERIVED in selected and is_asked_for(context.run):
        yield from _derived(artifact, context, store)


def _derived(
    artifact: Artifact[Any], context: Context, store: Store
) -> Iterator[dg.AssetCheckResult]:
    started = time.monotonic()
    with plain_failures():
        outcome = derive(store, artifact, for_log(context.log.info))
    _log_findings(context, DERIVED, outcome)
    result = result_of(DERIVED, outcome)
    yield result._replace(
        metadata={
            **result.metadata,
            VERIFIED_AT: dg.MetadataValue.timestamp(utc_now()),
            "seconds": dg.MetadataValue.float(round(time.monotonic() - started, 2)),
        }
    )
    if outcome.findings and not is_warning(outcome):
        raise dg.Failure(str(outcome.findings[0]), allow_retries=False)


def _log_findings(context: Context, name: str, outcome: Outcome) -> None:
    log = context.log.warning if is_warning(outcome) else context.log.error
    for finding in outcome.findings[:SHOWN]:
        log(f"{name}: {finding}. {finding.remedy}")


def result_of(check: str, outcome: Outcome) -> dg.AssetCheckResult:
    """What the UI shows of an outcome: its first finding, and behind a link the others."""
    findings = outcome.findings
    lines = [{"what": name, "value": value} for name, value in _lines(outcome.evidence)]
    metadata: dict[str, dg.MetadataValue] = {
        "read": unfolded(lines) if lines and findings else table(lines, "nothing"),
        "findings": dg.MetadataValue.int(outcome.count),
    }
    if outcome.remembered:
        metadata["remembered"] = dg.MetadataValue.bool(True)
        at = datetime.fromisoformat(outcome.remembered)
        metadata[VERIFIED_AT] = dg.MetadataValue.timestamp(at)
    if outcome.skipped:
        metadata["skipped"] = dg.MetadataValue.text(outcome.skipped)
    description = outcome.skipped or None
    if findings:
        first = findings[0]
        description = f"{first}. Remedy: {first.remedy}"
        place = f"{first.file}: {first.place}" if first.place else first.file
        said = {"place": place, "expected": first.expected, "found": first.found}
        for name, text in {**said, "remedy": first.remedy}.items():
            metadata[name] = dg.MetadataValue.text(text)
    if findings[1:]:
        metadata["first_findings"] = unfolded([finding.as_row() for finding in findings[:SHOWN]])
    return dg.AssetCheckResult(
        check_name=check,
        passed=not findings,
        severity=dg.AssetCheckSeverity.WARN if is_warning(outcome) else dg.AssetCheckSeverity.ERROR,
        description=description,
        metadata=metadata,
    )


def _lines(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """What a rule read, a line each; lists are cut short."""
    if isinstance(value, Mapping) and (value or not name):
        for key, item in value.items():
            yield from _lines(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        more = f", … {len(value) - SHOWN} more" if len(value) > SHOWN else ""
        yield name, (", ".join(map(as_text, value[:SHOWN])) or "none") + more
    else:
        yield name, "none" if value is None or value == {} else as_text(value)
