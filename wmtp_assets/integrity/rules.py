"""The rules there are, and how one is applied to an artifact.

The same rules serve Dagster's asset checks, ``wmtp verify`` and the tests.
"""

from __future__ import annotations

from wmtp_assets.errors import CorruptArtifact, InvalidInput, MissingArtifact, SpecError
from wmtp_assets.integrity import datasets, files, models
from wmtp_assets.integrity.findings import Finding, Outcome, Report, Rule, Subject
from wmtp_assets.integrity.record import remember, signature
from wmtp_assets.layout import Artifact, Kind
from wmtp_assets.progress import Say, silent
from wmtp_assets.store import Store, materialize_command

_ALL: frozenset[Kind] = frozenset(
    ("raw", "tokenizer", "safetensors", "micro", "processed", "small", "stats")
)
_CHECKPOINTS: frozenset[Kind] = frozenset(("safetensors", "micro"))

RULES = (
    Rule(
        "sha256",
        "Every file has the size and SHA-256 it was committed with, and there is no other file.",
        _ALL,
        files.check_sha256,
    ),
    Rule(
        "dtype",
        "Every tensor has the declared dtype, read from the tensor headers.",
        _CHECKPOINTS,
        models.check_dtype,
    ),
    Rule(
        "parameters",
        "params.json, meta_adapter.yaml, config.json, metadata.json and the tensor shapes agree.",
        _CHECKPOINTS,
        models.check_parameters,
    ),
    Rule(
        "tokenizer",
        "The tokenizer is the pinned one, byte for byte.",
        frozenset(("tokenizer",)),
        models.check_tokenizer,
    ),
    Rule(
        "tokenizer",
        "The tokenizer is the one the checkpoint was made with, shared ones are identical, and "
        "the embedding has a row per piece.",
        _CHECKPOINTS,
        models.check_tokenizer_fits,
    ),
    Rule(
        "micro_size",
        "model.safetensors is smaller than the declared maximum.",
        frozenset(("micro",)),
        models.check_micro_size,
    ),
    Rule(
        "schema",
        "Every row is a record of the dataset's schema, and no task_id stands twice.",
        frozenset(("processed", "small")),
        datasets.check_schema,
    ),
    Rule(
        "row_count",
        "Each split has the pinned number of rows.",
        frozenset(("processed",)),
        datasets.check_row_count,
    ),
    Rule(
        "token_length",
        "No row is longer than max_tokens, counted again.",
        frozenset(("processed",)),
        datasets.check_token_length,
    ),
    Rule(
        "membership",
        "Small splits have their size, and every line stands in the processed split.",
        frozenset(("small",)),
        datasets.check_membership,
    ),
    Rule(
        "recount",
        "The newest summary equals one computed again from the rows.",
        frozenset(("stats",)),
        datasets.check_recount,
    ),
)


def rules_of(artifact: Artifact) -> tuple[Rule, ...]:
    """The rules that apply to ``artifact``."""
    return tuple(rule for rule in RULES if artifact.kind in rule.kinds)


def apply_rule(rule: Rule, store: Store, artifact: Artifact, say: Say = silent) -> Outcome:
    """Apply one rule and remember the result. What cannot be read is a finding too.

    An artifact that was committed anew while the rule read it is read again, three times at most.
    """
    path = store.manifest_path(artifact)
    for _ in range(3):
        try:
            manifest = store.manifest(artifact)
        except (MissingArtifact, CorruptArtifact, OSError):
            return _apply_once(rule, store, artifact, say)
        before = signature(store, artifact, manifest)
        outcome = _apply_once(rule, store, artifact, say)
        if path.is_file() and path.stat().st_ino == before[artifact.manifest][2]:
            if not outcome.skipped:
                remember(store, artifact, manifest, rule.name, outcome, before)
            return outcome
    report = Report(rule.name, artifact.key, "run again when nobody writes")
    report.add(
        f"{artifact.base}/{artifact.manifest}",
        expected="an artifact at rest",
        found="it was committed anew during each of three readings",
        problem="changing",
    )
    return report.outcome


def _apply_once(rule: Rule, store: Store, artifact: Artifact, say: Say) -> Outcome:
    report = Report(rule.name, artifact.key, materialize_command(artifact.key))
    file = f"{artifact.base}/{artifact.manifest}"
    try:
        rule.check(Subject(store, artifact, store.manifest(artifact), say), report)
    except MissingArtifact as error:
        report.add(file, expected="a committed artifact", found=error, problem="missing")
    except (CorruptArtifact, InvalidInput, SpecError) as error:
        report.add(file, expected=rule.statement, found=error)
    except FileNotFoundError as error:
        report.add(str(error.filename), expected="a file", found="nothing", problem="missing")
    except OSError as error:
        report.add(
            str(error.filename), expected="readable", found=error.strerror, problem="unreadable"
        )
    return report.outcome


def first_findings(findings: list[Finding], count: int = 10) -> list[dict[str, str]]:
    """The first findings as rows of a table."""
    return [finding.as_row() for finding in findings[:count]]
