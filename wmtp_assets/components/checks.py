"""A rule as a Dagster asset check: blocking, runnable alone, with its evidence."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.components.artifacts import plain_failures
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.rules.apply import apply_in_child
from wmtp_assets.rules.findings import Outcome, Rule, as_text, is_warning

SHOWN = 10
"""Items of a list that a check's page shows."""


def checks_of(artifact: Artifact) -> list[dg.AssetChecksDefinition]:
    """One check per rule that applies to ``artifact``."""
    return [_check_of(artifact, rule) for rule in rules_of(artifact)]


def _check_of(artifact: Artifact, rule: Rule) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=artifact.key,
        name=rule.name,
        blocking=rule.blocking,
        description=rule.statement,
    )
    def check(
        context: dg.AssetCheckExecutionContext, storage: StorageResource
    ) -> dg.AssetCheckResult:
        with plain_failures():
            store = storage.open(context.instance)
        outcome = apply_in_child(rule, store, artifact, context.log.info)
        log = context.log.warning if is_warning(outcome) else context.log.error
        for finding in outcome.findings[:10]:
            log(f"{rule.name}: {finding}. {finding.remedy}")
        return result_of(outcome)

    return check


def result_of(outcome: Outcome) -> dg.AssetCheckResult:
    """What the UI shows of an outcome."""
    findings = outcome.findings
    metadata: dict[str, dg.MetadataValue] = {
        "read": _read(outcome.evidence),
        "findings": dg.MetadataValue.int(outcome.count),
    }
    if outcome.skipped:
        metadata["skipped"] = dg.MetadataValue.text(outcome.skipped)
    if findings:
        metadata["first_findings"] = dg.MetadataValue.table(
            [dg.TableRecord(dict(finding.as_row())) for finding in findings[:10]]
        )
    return dg.AssetCheckResult(
        passed=not findings,
        severity=dg.AssetCheckSeverity.WARN if is_warning(outcome) else dg.AssetCheckSeverity.ERROR,
        description=str(findings[0]) if findings else outcome.skipped or None,
        metadata=metadata,
    )


def _read(evidence: Mapping[str, Any]) -> dg.MetadataValue:
    """What a rule read, a line each; lists are cut short."""
    records = [dg.TableRecord({"what": name, "value": value}) for name, value in _lines(evidence)]
    return dg.MetadataValue.table(records) if records else dg.MetadataValue.text("nothing")


def _lines(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and (value or not name):
        for key, item in value.items():
            yield from _lines(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        more = f", … {len(value) - SHOWN} more" if len(value) > SHOWN else ""
        yield name, (", ".join(map(as_text, value[:SHOWN])) or "none") + more
    else:
        yield name, "none" if value is None or value == {} else as_text(value)
