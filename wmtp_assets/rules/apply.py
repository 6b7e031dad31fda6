"""The rules there are, and how one is applied to an artifact.

The same rules serve Dagster's asset checks, ``wmtp verify`` and the tests.
"""

from __future__ import annotations

from typing import get_args

from wmtp_assets.base.child import ChildDied, call
from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact, SpecError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.layout import Artifact, Kind
from wmtp_assets.checkpoints.rules import checkpoint as models
from wmtp_assets.checkpoints.rules import snapshot as parameters
from wmtp_assets.datasets.jsonl import BadLine
from wmtp_assets.datasets.rules import derived
from wmtp_assets.datasets.rules import processed as datasets
from wmtp_assets.documents import rules as documents
from wmtp_assets.rules import sha256 as files
from wmtp_assets.rules.findings import Finding, Outcome, Report, Rule, Subject, is_there
from wmtp_assets.rules.results import Signature, remember, sign, signature
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Store, materialize_command, repair_command

_ALL: frozenset[Kind] = frozenset(get_args(Kind))
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
        "The tokenizer is the pinned one, byte for byte, and a shared one is the other model's.",
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
        "value_head",
        "A value head is recorded in metadata.json with its hash, and has shape [hidden_size, 1].",
        _CHECKPOINTS,
        models.check_recorded_value_head,
    ),
    Rule(
        "micro_size",
        "model.safetensors is smaller than the declared maximum.",
        frozenset(("micro",)),
        models.check_micro_size,
    ),
    Rule(
        "schema",
        "Every row is a record of the dataset's schema, its task_id agrees with problem and label, "
        "and no task_id stands twice.",
        frozenset(("processed", "small")),
        datasets.check_schema,
    ),
    Rule(
        "row_count",
        "Upstream has the pinned number of rows, and each split those that were not dropped.",
        frozenset(("processed",)),
        datasets.check_row_count,
    ),
    Rule(
        "upstream_counts",
        "Problems, and correct and incorrect rows, are as many as upstream had when it was counted "
        "(with no public tests in input).",
        frozenset(("processed",)),
        datasets.check_upstream_counts,
        blocking=False,
        applies=datasets.has_expected_counts,
    ),
    Rule(
        "index",
        "Offsets, Parquet twin and problem index say what the JSONL says, row by row.",
        frozenset(("processed",)),
        datasets.check_index,
    ),
    Rule(
        "token_length",
        "No row is longer than max_tokens, counted again, and the twin has the same counts.",
        frozenset(("processed",)),
        datasets.check_token_length,
    ),
    Rule(
        "splits",
        "No task_id and no problem stands in two splits.",
        frozenset(("processed",)),
        datasets.check_splits,
        applies=datasets.has_several_splits,
    ),
    Rule(
        "text_twins",
        "No text stands in two splits, upper and lower case and punctuation aside.",
        frozenset(("processed",)),
        datasets.check_text_twins,
        blocking=False,
        applies=datasets.has_several_splits,
    ),
    Rule(
        "contamination",
        "No row of train shares 13 words in a row with a problem that is held out.",
        frozenset(("processed",)),
        datasets.check_contamination,
        blocking=False,
        applies=datasets.has_train_split,
    ),
    Rule(
        "problems",
        "Every problem is one of the raw split; that two have the same name upstream is a warning.",
        frozenset(("processed",)),
        datasets.check_problems,
        applies=datasets.has_upstream_names,
    ),
    Rule(
        "evaluation",
        "The evaluation rows are what the raw problems give, one a problem.",
        frozenset(("processed",)),
        datasets.check_evaluation,
        applies=datasets.has_evaluation,
    ),
    Rule(
        "derivation",
        "Every row is what the rule makes of the processed row at its place, and none is missing.",
        frozenset(("pairs",)),
        derived.check_pairs,
    ),
    Rule(
        "derivation",
        "The tests are those of the raw problems, all of them.",
        frozenset(("tests",)),
        derived.check_tests,
    ),
    Rule(
        "membership",
        "Small splits hold the rows that the seed chooses, and cover problems and labels.",
        frozenset(("small",)),
        derived.check_membership,
    ),
    Rule(
        "recount",
        "The newest summary equals one computed again from the rows.",
        frozenset(("stats",)),
        derived.check_recount,
    ),
    Rule(
        "current",
        "The snapshot holds the parameters of every model that is there, as they are now.",
        frozenset(("parameters",)),
        parameters.check_current,
    ),
    Rule(
        "current",
        "The document is what is made of the artifacts as they are now, its copy at the root is "
        "the same, and it hides no failed rule.",
        frozenset(("card", "croissant", "document")),
        documents.check_current,
    ),
    Rule(
        "release",
        "Every artifact that is there has the content that was released under its version.",
        frozenset(("release",)),
        documents.check_release,
    ),
)


ABSENT = "absent: it is optional, and was not materialized"


def rules_of(artifact: Artifact) -> tuple[Rule, ...]:
    """The rules that apply to ``artifact``."""
    return tuple(rule for rule in RULES if artifact.kind in rule.kinds and rule.applies(artifact))


def apply_rule(rule: Rule, store: Store, artifact: Artifact, say: Say = silent) -> Outcome:
    """Apply one rule and remember the result. What cannot be read is a finding too.

    An artifact that was committed anew while the rule read it is read again, three times at most.
    An optional one that is absent is skipped.
    """
    if artifact.optional and not is_committed(store, artifact):
        return Outcome(skipped=ABSENT)
    for _ in range(3):
        try:
            before = signature(store, artifact, store.manifest(artifact))
        except (MissingArtifact, CorruptArtifact, OSError):
            before = {}
        outcome, manifest = _apply_once(rule, store, artifact, say)
        if manifest is None and not before:
            return outcome
        if _is_at_rest(store, artifact, before):
            if manifest is not None and (outcome.findings or not outcome.skipped):
                _remember(store, artifact, manifest, rule, outcome, before, say)
            return outcome
    report = Report(rule.name, artifact.key, "run again when nobody writes")
    report.add(
        f"{artifact.base}/{artifact.manifest}",
        expected="an artifact at rest",
        found="it was committed anew during each of three readings",
        problem="changing",
    )
    return report.outcome


def apply_in_child(rule: Rule, store: Store, artifact: Artifact, say: Say = silent) -> Outcome:
    """:func:`apply_rule` in the child process: a file that ends it is a finding."""
    try:
        return call(_apply_named, rule.name, store, artifact, say=say)
    except ChildDied as error:
        file = error.reading.removeprefix(f"{store.root}/")
        report = Report(rule.name, artifact.key, repair_command(_owner(store, file, artifact).key))
        report.add(
            file or f"{artifact.base}/{artifact.manifest}",
            expected="a file that can be read",
            found=f"reading it ended with {error.cause}",
        )
        try:
            manifest = store.manifest(artifact)
        except (MissingArtifact, CorruptArtifact, OSError):
            return report.outcome
        _remember(store, artifact, manifest, rule, report.outcome, {}, say)
        return report.outcome


def _owner(store: Store, file: str, artifact: Artifact) -> Artifact:
    """Whose file lies at a path below the root; ``artifact`` where that is nobody's."""
    for other in (artifact, *store.catalogue):
        name = file.removeprefix(f"{other.base}/")
        if name != file and other.is_owner(name):
            return other
    return artifact


def _apply_named(name: str, store: Store, artifact: Artifact, say: Say) -> Outcome:
    (rule,) = (rule for rule in rules_of(artifact) if rule.name == name)
    return apply_rule(rule, store, artifact, say)


def is_committed(store: Store, artifact: Artifact) -> bool:
    """Whether there is a manifest; where that cannot be seen, the rules say why."""
    try:
        return is_there(store.manifest_path(artifact))
    except OSError:
        return True


def _is_at_rest(store: Store, artifact: Artifact, before: Signature) -> bool:
    """Whether the manifest is the one that was there ``before``."""
    try:
        return before.get(artifact.manifest) == sign(store.manifest_path(artifact))
    except OSError:
        return False


def _remember(
    store: Store,
    artifact: Artifact,
    manifest: Manifest,
    rule: Rule,
    outcome: Outcome,
    before: Signature,
    say: Say,
) -> None:
    try:
        remember(store, artifact, manifest, rule.name, outcome, before)
    except OSError as error:  # storage may be mounted for reading only
        say(f"{artifact.key} {rule.name}: the result is not remembered: {error}")


def _apply_once(
    rule: Rule, store: Store, artifact: Artifact, say: Say
) -> tuple[Outcome, Manifest | None]:
    """The outcome, and the manifest it is about; None: it could not be read."""
    remedy = materialize_command(artifact.key)
    report = Report(rule.name, artifact.key, remedy, f"{artifact.base}/{artifact.manifest}")
    statement = rule.statement.removesuffix(".")
    manifest = None
    try:
        manifest = store.manifest(artifact)
        rule.check(Subject(store, artifact, manifest, say), report)
    except MissingArtifact as error:
        report.interrupted(expected="a committed artifact", found=error, problem="missing")
    except BadLine as error:
        report.interrupted(place=f"line {error.line}", expected=statement, found=error.problem)
    except CorruptArtifact as error:
        report.interrupted(expected=statement, found=error, is_committed=False)
    except (InvalidInput, SpecError) as error:
        report.interrupted(expected=statement, found=error)
    except (FileNotFoundError, NotADirectoryError):
        report.interrupted(
            expected="a file", found="nothing", problem="missing", is_committed=False
        )
    except OSError as error:
        report.interrupted(
            expected="readable", found=error.strerror, problem="unreadable", is_committed=False
        )
    # the first finding is the one that is remembered, and the first ten are shown
    report.outcome.findings.sort(key=lambda finding: finding.problem == "warning")
    return report.outcome, manifest


def first_findings(findings: list[Finding], count: int = 10) -> list[dict[str, str]]:
    """The first findings as rows of a table."""
    return [finding.as_row() for finding in findings[:count]]
