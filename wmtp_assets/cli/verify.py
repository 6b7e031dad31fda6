"""``wmtp verify``: apply every rule to the bytes on disk."""

from __future__ import annotations

import click

from wmtp_assets.cli.common import (
    Document,
    any_names,
    over_store,
    print_line,
    print_paragraph,
    progress,
    select,
)
from wmtp_assets.operations.derive import derive_all, is_derived
from wmtp_assets.operations.sign import verify_signatures
from wmtp_assets.operations.verify import (
    Verdict,
    exit_code,
    findings_of,
    optional_ones,
    strays,
    to_judge,
    verify_release,
)
from wmtp_assets.operations.verify import verify as apply_rules
from wmtp_assets.rules.findings import is_warning
from wmtp_assets.storage.signatures import Trust, trust_folder
from wmtp_assets.storage.store import Store

SHOWN = 10
"""Findings of a rule that are printed."""


@click.command(short_help="Read every byte of the artifacts, and apply every rule.")
@any_names
@click.option("--release", is_flag=True, help="Only: is it, byte for byte, what was released?")
@click.option("--derived", is_flag=True, help="Only: are the rows of datasets made from raw?")
@click.option(
    "--signed", is_flag=True, help="As --release, and: did somebody whom trust/ names sign it?"
)
@over_store
def verify(
    store: Store, names: tuple[str, ...], release: bool, derived: bool, signed: bool
) -> Document:
    """Read every byte of the artifacts and apply every rule; nothing is repaired.

    NAME is an asset key or a folder name; all by default. An optional artifact that is absent
    counts only when it is named, itself or a folder of optional ones. With --release every byte of
    what docs/RELEASE.json has frozen is read and compared with it, and nothing else is looked at.
    With --derived the verified raw files of datasets are converted again, beside what lies there,
    and compared; that takes as long, and as much of the disk, as making the rows.
    With --signed release and artifacts must be signed too, by somebody whom trust/ names; or only
    those that are named. Under a root that was pulled to, what was not pulled is not missed.

    Exit codes, which add up: 0 all good, 1 corrupt, 2 missing or extra file or artifact,
    4 unreadable, 8 kept changing while it was read; 64 wrong usage, 70 internal error.
    """
    if release and names:
        raise click.UsageError("--release compares all that was released: name no artifact")
    if derived and (release or signed):
        raise click.UsageError(
            "--derived looks at something else than --release and --signed: give one"
        )
    trust = Trust(trust_folder()) if signed else None
    artifacts = select(store, names) if names else to_judge(store)
    if not names and (others := len([*store.catalogue]) - len(artifacts)):
        print_line(f"what was pulled here is verified, and not the {others} other artifacts")
    with progress(in_logs=False) as say:
        if release or (signed and not names):
            verdicts = verify_release(store, _print, say)
        elif derived:
            artifacts = [*filter(is_derived, artifacts)]
            if not artifacts:
                raise click.UsageError("--derived: none of these holds the rows of a dataset")
            verdicts = derive_all(store, artifacts, _print, say)
        else:
            only = ["sha256"] if signed else []
            asked_for = optional_ones(store, names)
            verdicts = apply_rules(store, artifacts, _print, say, asked_for=asked_for, only=only)
        if trust:
            verdicts += verify_signatures(store, artifacts, trust, _print)
            signers = {v.artifact: str(v.outcome.evidence.get("signer", "")) for v in verdicts}
            for signer in sorted({*signers.values()} - {""}):
                signed_by = ", ".join(key for key in sorted(signers) if signers[key] == signer)
                print_line(f"signed by {signer}: {signed_by}")
    if not names and not release and not signed and not derived:
        verdicts.append(strays(store))
        if verdicts[-1].outcome.findings:
            _print(verdicts[-1])
    failed = sum(not is_warning(verdict.outcome) for verdict in verdicts)
    warned = sum(bool(verdict.outcome.findings) for verdict in verdicts) - failed
    skipped = sum(bool(verdict.outcome.skipped) for verdict in verdicts)
    print_line(
        f"{len(verdicts)} rules applied, {failed} failed"
        + (f", {warned} with warnings" * bool(warned))
        + (f", {skipped} skipped" * bool(skipped))
    )
    return {
        "exit_code": exit_code(verdicts),
        "findings": findings_of(verdicts),
        "rules": [
            {
                "artifact": verdict.artifact,
                "rule": verdict.rule,
                "findings": verdict.outcome.count,
                "skipped": verdict.outcome.skipped,
                "read": verdict.outcome.evidence,
            }
            for verdict in verdicts
        ],
    }


def _print(verdict: Verdict) -> None:
    outcome = verdict.outcome
    word, style = ("skipped" if outcome.skipped else "ok"), ""
    if outcome.findings:
        word, style = ("warning", "yellow") if is_warning(outcome) else ("FAILED", "red")
    name = f"{verdict.artifact} {verdict.rule}".strip()
    why = f": {outcome.skipped}" if outcome.skipped else ""
    print_paragraph(why, (f"{name}: ", ""), (word, style), hanging=2)
    for finding in outcome.findings[:SHOWN]:
        print_paragraph(str(finding), indent=2, hanging=2)
    if outcome.count > SHOWN:
        print_line(f"  … {outcome.count} findings in all")
    for remedy in dict.fromkeys(finding.remedy for finding in outcome.findings):
        print_paragraph(f"remedy: {remedy}", indent=2, hanging=2)
