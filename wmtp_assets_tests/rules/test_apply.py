"""What all rules have in common: each is needed, none crashes, none writes, none needs much."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base.child import ChildDied, Other
from wmtp_assets.base.progress import silent
from wmtp_assets.catalogue.artifact import TOP_FOLDERS, Artifact
from wmtp_assets.kinds.registry import all_rules, kinds_of, load_catalogue, rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.status import status_of
from wmtp_assets.operations.verify import Verdict, exit_code
from wmtp_assets.rules import apply as applying
from wmtp_assets.rules.apply import DEFECT, apply_rule, last_results
from wmtp_assets.rules.findings import (
    MAX_FINDINGS,
    MAX_TEXT,
    NEEDS,
    Outcome,
    Problem,
    Report,
    Rule,
    Subject,
    as_text,
    differences,
    is_warning,
)
from wmtp_assets.storage.manifest import parse
from wmtp_assets.storage.store import Store, materialize_command, repair_command
from wmtp_assets_tests.checkpoints.rules import test_checkpoint
from wmtp_assets_tests.datasets.rules import test_processed, test_views
from wmtp_assets_tests.documents import test_parameters_rule
from wmtp_assets_tests.documents import test_rules as test_documents
from wmtp_assets_tests.faults.extent import extent
from wmtp_assets_tests.kinds import test_made_with
from wmtp_assets_tests.light import light_environment
from wmtp_assets_tests.quick import first_of_each, full_only, quick, thinned
from wmtp_assets_tests.rules import test_sha256
from wmtp_assets_tests.rules.cases import (
    KEY,
    apply,
    document_of,
    edit,
    key_of,
    seal_as,
)
from wmtp_assets_tests.trees import damage, flip, tree

REAL_DEFECT = applying.defect
"""Which the tests replace: see ``conftest.no_defects``."""

CASES = [
    *test_sha256.CASES,
    *test_checkpoint.CASES,
    *test_processed.CASES,
    *test_views.CASES,
    *test_parameters_rule.CASES,
    *test_documents.CASES,
    *test_made_with.CASES,
]
PAIRS = [(rule.name, kind) for rule in all_rules() for kind in sorted(kinds_of(rule))]
OPENING = [pair for pair in PAIRS if pair[0] not in ("sha256", "made_with")]
"""``sha256`` looks at each file before it opens it, and ``made_with`` opens none."""
WARNINGS = {
    ("codecontests_processed", "text_twins"): 1,
    ("codecontests_processed", "problems"): 1,
    ("mbpp_processed", "text_twins"): 3,
    ("mbpp_processed", "contamination"): 48,
}
"""Findings on good artifacts: what upstream itself has."""


# -- which rules there are -------------------------------------------------------------------------


def test_every_rule_has_a_damaging_case_for_every_kind() -> None:
    """A rule that was never seen to fail may be one that cannot."""
    assert {(case.rule, case.kind) for case in CASES} == set(PAIRS)
    assert len({str(case) for case in CASES}) == len(CASES)


def test_pairs_are_those_of_the_design() -> None:
    """Taking a kind out of a rule must not go unnoticed."""
    assert {kind: [rule for rule, of in PAIRS if of == kind] for kind in KEY} == {
        "raw": ["sha256", "made_with"],
        "tokenizer": ["sha256", "tokenizer", "fast_tokenizer", "made_with"],
        "safetensors": [
            "sha256",
            "dtype",
            "parameters",
            "tokenizer",
            "model_folder",
            "value_head",
            "made_with",
        ],
        "micro": [
            "sha256",
            "dtype",
            "parameters",
            "tokenizer",
            "fast_tokenizer",
            "model_folder",
            "value_head",
            "micro_size",
            "made_with",
        ],
        "processed": [
            "sha256",
            "schema",
            "row_count",
            "upstream_counts",
            "index",
            "token_length",
            "splits",
            "text_twins",
            "contamination",
            "problems",
            "evaluation",
            "made_with",
        ],
        "pairs": ["sha256", "derivation", "made_with"],
        "small": ["sha256", "schema", "membership", "made_with"],
        "stats": ["sha256", "recount", "made_with"],
        "tests": ["sha256", "derivation", "made_with"],
        "parameters": ["sha256", "current", "made_with"],
        "card": ["sha256", "current", "made_with"],
        "croissant": ["sha256", "current", "made_with"],
        "document": ["sha256", "current", "made_with"],
        "release": ["sha256", "release", "made_with"],
    }


def test_only_what_upstream_itself_has_is_a_warning() -> None:
    """Any other rule that did not block would let damage through."""
    assert [rule.name for rule in all_rules() if not rule.blocking] == [
        "upstream_counts",
        "text_twins",
        "contamination",
    ]


def test_no_artifact_has_two_rules_of_one_name() -> None:
    """The name is the check's in Dagster, and the file's in which the result is remembered."""
    for artifact in load_catalogue():
        names = [rule.name for rule in rules_of(artifact)]
        assert len(names) == len(set(names)) > 0


@full_only
def test_good_artifacts_pass_every_rule(store: Store) -> None:
    """And nothing is written into them: the same files with the same bytes, inode by inode.

    What upstream itself has is warned of, and no more than that.
    """
    before = {top: tree(store.root / top) for top in TOP_FOLDERS}
    for artifact in store.catalogue:
        for rule in rules_of(artifact):
            outcome = apply_rule(rule, store, artifact)
            warnings = WARNINGS.get((artifact.key, rule.name), 0)
            assert len(outcome.findings) == warnings
            assert is_warning(outcome)
            assert outcome.skipped == ""
            assert outcome.evidence != {}
            json.dumps(outcome.evidence)
    assert {top: tree(store.root / top) for top in TOP_FOLDERS} == before


# -- what cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_absent_artifact_is_missing(empty_store: Store, name: str, kind: Any) -> None:
    """Each rule can be run alone; it then says what to make, and writes nothing."""
    artifact = empty_store.catalogue[key_of(name, kind)]
    (finding,) = apply(empty_store, artifact, name).findings
    assert finding.problem == "missing"
    assert finding.file == f"{artifact.base}/{artifact.manifest}"
    assert finding.remedy == materialize_command(artifact.key)
    assert not empty_store.root.exists()


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_damaged_manifest_is_corrupt(store: Store, name: str, kind: Any) -> None:
    """What a damaged manifest says is believed by no rule."""
    artifact = store.catalogue[key_of(name, kind)]
    damage(store.manifest_path(artifact), flip(20))
    (finding,) = apply(store, artifact, name).findings
    assert finding.problem == "corrupt"
    assert finding.file == f"{artifact.base}/{artifact.manifest}"
    assert finding.remedy == repair_command(artifact.key)


@pytest.mark.parametrize(("name", "kind"), OPENING)
@pytest.mark.parametrize(
    "make",
    [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")],
    ids=["pipe", "folder", "endless link"],
)
def test_no_rule_opens_what_is_no_regular_file(
    store: Store, name: str, kind: Any, make: Callable[[Path], None]
) -> None:
    """Opening a pipe waits forever, and /dev/zero never ends."""
    artifact = store.catalogue[key_of(name, kind)]
    if name == "upstream_counts":  # it looks at the rows of the real hub only
        store = test_processed.as_if_real()(store, artifact) or store
        artifact = store.catalogue[artifact.key]
    for file in (*store.manifest(artifact).files, *artifact.guests):
        path = store.path(artifact, file)
        path.unlink(missing_ok=True)
        make(path)
    found = apply(store, artifact, name).findings
    assert found
    assert {finding.problem for finding in found} == {"corrupt"}
    assert any("not a regular file: " in finding.found for finding in found)


SPARSE = ("processed", "pairs", "small", "stats", "tests", "raw", "safetensors", "tokenizer")


@pytest.mark.parametrize(
    "kind", quick(thinned(SPARSE, ["pairs", "small", "raw"]), ["pairs", "small"])
)
def test_no_rule_reads_a_hole(store: Store, kind: str) -> None:
    """A terabyte that takes no room would be read for an hour, by rules of what is made of it
    too."""
    artifact = store.catalogue[KEY[kind]]
    below = [item for item in store.catalogue if artifact.key in item.upstream]
    for name in store.manifest(artifact).files:
        path = store.path(artifact, name)
        good = path.read_bytes()
        damage(path, lambda data: data)
        os.truncate(path, 1 << 40)
        before = bytes_read()
        for item in (artifact, *below):
            for rule in rules_of(item):
                outcome = apply_rule(rule, store, item)
                if rule.name == "sha256" and item == artifact:
                    assert f"{1 << 40} bytes" in outcome.findings[0].found
        assert bytes_read() - before < 2 << 30  # other files, several times
        path.write_bytes(good)


def bytes_read() -> int:
    """By this process, from files."""
    if not Path("/proc/self/io").exists():
        pytest.skip("the system does not say")
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_manifest_that_is_no_regular_file_is_corrupt(
    store: Store, make: Callable[[Path], None]
) -> None:
    """The same for the first file that is read."""
    artifact = store.catalogue["micro_mtp"]
    store.manifest_path(artifact).unlink()
    make(store.manifest_path(artifact))
    assert [finding.problem for finding in apply(store, artifact, "dtype").findings] == ["corrupt"]
    assert status_of(store, artifact).state == "damaged"


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize(
    ("name", "kind", "file"),
    [
        ("dtype", "micro", "configs/config.json"),
        ("parameters", "safetensors", "safetensors/model.safetensors"),
        ("tokenizer", "micro", "tokenizer/tokenizer.model"),
        ("schema", "processed", "processed/schema.json"),
        ("row_count", "processed", "processed/test.jsonl"),
        ("index", "processed", "processed/test.jsonl"),
        ("index", "processed", "processed/test_metadata.json"),
        ("index", "processed", "index/test.offsets"),
        ("index", "processed", "index/test.parquet"),
        ("token_length", "processed", "index/test.parquet"),
        ("splits", "processed", "index/validation.parquet"),
        ("text_twins", "processed", "index/validation.parquet"),
        ("contamination", "processed", "index/train.parquet"),
        ("contamination", "processed", "../humaneval/index/test.parquet"),
        ("problems", "processed", "index/valid.parquet"),
        ("evaluation", "processed", "processed/valid_eval.jsonl"),
        ("membership", "small", "test_small.jsonl"),
        ("membership", "small", "../../datasets_v2/humaneval/processed/test.jsonl"),
        ("membership", "small", "../../datasets_v2/humaneval/index/test.parquet"),
        ("recount", "stats", "../index/test.parquet"),
        ("derivation", "pairs", "test.jsonl"),
        ("derivation", "pairs", "schema.json"),
        ("derivation", "pairs", "../index/test.parquet"),
        ("derivation", "tests", "valid_tests.json"),
    ],
)
def test_unreadable_file_is_unreadable(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, kind: Any, file: str, code: int
) -> None:
    """A disk that fails is not proof that the bytes are wrong: another exit code, the file named.

    As root nothing is refused, so it is made where files are opened; pyarrow gets open ones.
    """
    artifact = store.catalogue[key_of(name, kind)]
    bad = os.path.normpath(store.path(artifact, file))

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def opening(path: Any, *others: Any, **more: Any) -> Any:
            if not isinstance(path, int) and os.path.normpath(os.fspath(path)) == bad:
                raise OSError(code, os.strerror(code))  # without a name, as read(2) does
            return real(path, *others, **more)

        return opening

    monkeypatch.setattr(io, "open", refusing(io.open))
    monkeypatch.setattr(os, "open", refusing(os.open))
    outcome = apply(store, artifact, name)
    (finding,) = (item for item in outcome.findings if item.problem != "warning")
    assert finding.problem == "unreadable"
    assert finding.file == os.path.relpath(bad, store.root)
    assert (finding.expected, finding.found) == ("readable", os.strerror(code))
    assert exit_code([Verdict(artifact.key, name, outcome)]) == 4


def test_manifest_that_cannot_be_read_is_unreadable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not absent: making it anew would be the wrong advice."""
    artifact = store.catalogue["humaneval_small"]
    real = os.open

    def refusing(path: Any, *others: Any, **more: Any) -> int:
        if path == store.manifest_path(artifact):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path, *others, **more)

    monkeypatch.setattr(os, "open", refusing)
    outcome = apply(store, artifact, "schema")
    assert [(item.problem, item.file) for item in outcome.findings] == [
        ("unreadable", f"{artifact.base}/metadata.json")
    ]
    assert status_of(store, artifact).state == "unreadable"


# -- what was committed anew -----------------------------------------------------------------------


class Recommitting:
    """A rule during which its artifact is committed anew, the first ``times`` times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.applied = 0
        self.rule = Rule("racing", "Nothing races.", frozenset({"small"}), self.check)

    def check(self, subject: Subject, report: Report) -> None:
        self.applied += 1
        if self.applied <= self.times:
            materialize(subject.store, subject.artifact)
            report.add("half/old/half/new", expected="one generation", found="two")
        report.note(reading=self.applied)


@pytest.mark.parametrize("times", [0, 1, 2])
def test_artifact_that_was_committed_anew_is_read_again(store: Store, times: int) -> None:
    """What was read of two generations proves nothing about either."""
    artifact = store.catalogue["humaneval_small"]
    racing = Recommitting(times)
    outcome = apply_rule(racing.rule, store, artifact)
    assert outcome.findings == []
    assert outcome.evidence == {"reading": times + 1}
    (remembered,) = last_results(store, artifact)
    assert (remembered.rule, remembered.problem) == ("racing", "")


def test_artifact_that_never_rests_is_changing(store: Store) -> None:
    """Three times, then it is said; no result is remembered, for there is none."""
    artifact = store.catalogue["humaneval_small"]
    racing = Recommitting(99)
    outcome = apply_rule(racing.rule, store, artifact)
    assert racing.applied == 3
    (finding,) = outcome.findings
    assert (finding.rule, finding.artifact, finding.problem) == (
        "racing",
        "humaneval_small",
        "changing",
    )
    assert finding.file == f"{artifact.base}/metadata.json"
    assert finding.remedy == "run again when nobody writes"
    assert exit_code([Verdict(artifact.key, "racing", outcome)]) == 8
    assert last_results(store, artifact) == []


def test_artifact_that_was_removed_meanwhile_is_missing(store: Store) -> None:
    """It was there when the rule began; at the second look it is not."""

    def check(subject: Subject, report: Report) -> None:
        subject.store.manifest_path(subject.artifact).unlink()

    artifact = store.catalogue["humaneval_small"]
    rule = Rule("removing", "Nothing is removed.", frozenset({"small"}), check)
    outcome = apply_rule(rule, store, artifact)
    assert [finding.problem for finding in outcome.findings] == ["missing"]


def test_another_asset_in_the_folder_may_be_committed_meanwhile(store: Store) -> None:
    """raw and safetensors share a folder; a commit of one hard-links the files of the other."""
    applied = 0

    def check(subject: Subject, report: Report) -> None:
        nonlocal applied
        applied += 1
        materialize(subject.store, subject.store.catalogue["humaneval_processed"])

    artifact = store.catalogue["humaneval_raw"]
    rule = Rule("beside", "Others may write.", frozenset({"raw"}), check)
    assert apply_rule(rule, store, artifact).findings == []
    assert applied == 1


# -- hostile and accidental damage -----------------------------------------------------------------


def rules_but_sha256(artifact: Artifact) -> list[Rule]:
    return [rule for rule in rules_of(artifact) if rule.name != "sha256"]


def rules_about(artifact: Artifact, name: str) -> list[Rule]:
    """The rules but sha256, without the slow ones that read nothing but twins for another file."""
    is_twin = name.endswith(".parquet")
    slow = () if is_twin else ("token_length", "contamination")
    return [rule for rule in rules_but_sha256(artifact) if rule.name not in slow]


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that apply hundreds of rules: each result would be made durable."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that change one manifest of eighty again and again, under rules that read all: the
    same bytes are parsed once."""
    monkeypatch.setattr("wmtp_assets.storage.manifest.parse", lru_cache(1000)(parse))


def mangle(data: bytes, chance: random.Random) -> bytes:
    """Overwrite a byte or many, or cut off the end."""
    bad = bytearray(data)
    for _ in range(chance.choice([1, 1, 20])):
        bad[chance.randrange(len(bad))] = chance.randrange(256)
    return bytes(bad[: chance.randrange(len(bad))] if chance.random() < 0.3 else bad)


@pytest.mark.faults
@pytest.mark.usefixtures("no_fsync")
def test_random_damage_never_crashes_a_rule(store: Store) -> None:
    """Whatever the bytes have become, a rule finds something or nothing; it never raises.

    CodeContests is too large for this; a smaller one is damaged in ``test_fuzz.py``.
    """
    chance = random.Random(0)
    every = [it for it in store.catalogue if it.spec.name != "codecontests"]
    for artifact in extent(first_of_each(every, lambda it: it.kind), every):
        manifest = store.manifest(artifact)
        for name in (name for name, file in manifest.files.items() if file.size < 600_000):
            path = store.path(artifact, name)
            good = path.read_bytes()
            for bad in {mangle(good, chance) for _ in range(extent(2, 6))} - {good}:
                damage(path, lambda data, bad=bad: bad)
                for rule in rules_about(artifact, name):
                    apply_rule(rule, store, artifact)
                if manifest.size < 1_000_000:
                    assert apply(store, artifact, "sha256").findings
            damage(path, lambda data, good=good: good)


@pytest.mark.faults
@pytest.mark.usefixtures("no_fsync")
def test_random_damage_upstream_never_crashes_a_rule(store: Store) -> None:
    """Rules also read what an artifact was made from, and that may be damaged as well."""
    chance = random.Random(0)
    every = [*store.catalogue]
    for artifact in extent(first_of_each(every, lambda it: it.kind), every):
        downstream = [item for item in store.catalogue if artifact.key in item.upstream]
        names = [name for name, file in store.manifest(artifact).files.items() if file.size < 9000]
        for name in (*names, artifact.manifest):
            path = store.path(artifact, name)
            good = path.read_bytes()
            for bad in {mangle(good, chance) for _ in range(extent(1, 2))} - {good}:
                damage(path, lambda data, bad=bad: bad)
                for item in downstream:
                    for rule in rules_but_sha256(item):
                        apply_rule(rule, store, item)
            damage(path, lambda data, good=good: good)


@pytest.mark.usefixtures("no_fsync")
def test_random_damage_of_a_header_never_crashes_a_rule(store: Store) -> None:
    """The header decides what all rules of a checkpoint look at."""
    chance = random.Random(0)
    artifact = store.catalogue["micro_mtp"]
    path = store.path(artifact, "safetensors/model.safetensors")
    damage(path, lambda data: data)  # a file of its own, changed in place below
    with path.open("r+b", buffering=0) as file:
        size = 8 + int.from_bytes(file.read(8), "little")
        file.seek(0)
        good = file.read(size)
        for _ in range(100):
            file.seek(0)
            file.write(mangle(good, chance).ljust(size))
            for rule in rules_but_sha256(artifact):
                apply_rule(rule, store, artifact)


ALIKE = 6
"""Entries of a map of texts, such as the content hashes of what is upstream, that are changed."""


QUICK = [KEY[kind] for kind in ("raw", "safetensors", "small", "card", "release")]


@pytest.mark.parametrize("key", thinned(KEY.values(), QUICK))
@pytest.mark.usefixtures("no_fsync", "parsed_once")
def test_manifest_that_says_anything_never_crashes(store: Store, key: str) -> None:
    """A sealed manifest of another version of this project lacks keys, or has them otherwise."""
    artifact = store.catalogue[key]
    good = document_of(store, artifact)
    places: list[tuple[str, ...]] = [(name,) for name in good]
    if artifact.kind != "safetensors":  # the rules are those of the smaller micro model
        for name in (name for name in good if isinstance(good[name], dict)):
            alike = all(isinstance(value, str) for value in good[name].values())
            places += [(name, inner) for inner in [*good[name]][: ALIKE if alike else None]]
    is_small = store.manifest(artifact).size < 1_000_000
    downstream = [item for item in store.catalogue if artifact.key in item.upstream]
    for place in places:
        for value in (..., [7]):
            document = json.loads(json.dumps(good))
            inner = document if len(place) == 1 else document[place[0]]
            edit(inner, {place[-1]: value})
            seal_as(store, artifact, document)
            for rule in rules_of(artifact) if is_small else rules_but_sha256(artifact):
                apply_rule(rule, store, artifact)
            if artifact.kind == "processed":
                for item in downstream:
                    for rule in rules_but_sha256(item):
                        apply_rule(rule, store, item)
            status_of(store, artifact)
    for roles in (None, 7, [], {"checkpoint": None}, {"checkpoint": ["x"]}, {"checkpoint": {}}):
        seal_as(store, artifact, {**good, "files": roles, "sha256": roles})
        apply(store, artifact, "sha256")


@pytest.mark.parametrize("error", [KeyError("rows"), RecursionError("deep"), AssertionError()])
def test_defect_of_a_rule_is_a_failure(
    store: Store, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails, it does not warn, even where the rule's findings do; it says what was raised,
    where, and what to do; the next rule is applied."""

    def check(subject: Subject[Any], report: Report) -> None:
        report.skip("not reached")
        subject.stated("rows")
        raise error

    monkeypatch.setattr(applying, "defect", REAL_DEFECT)
    artifact = store.catalogue["humaneval_small"]
    rule = Rule("broken", "All is well.", (), check, blocking=False)
    outcome = apply_rule(rule, store, artifact)
    (finding,) = outcome.findings
    assert not is_warning(outcome)
    assert not outcome.skipped
    assert exit_code([Verdict(artifact.key, rule.name, outcome)]) == 1
    assert finding.found.startswith(f"{DEFECT}: {type(error).__name__} at ")
    assert "wmtp doctor" in finding.remedy
    assert all(not apply_rule(rule, store, artifact).findings for rule in rules_of(artifact))
    (remembered,) = [item for item in last_results(store, artifact) if item.rule == "broken"]
    assert DEFECT in remembered.problem


def test_library_that_cannot_be_loaded_is_no_damage(store: Store) -> None:
    """With little memory left, a library is not mapped: the file may be right, and so the rule."""

    def check(subject: Subject[Any], report: Report) -> None:
        raise ImportError("libarrow.so: failed to map segment", name="pyarrow.lib")

    artifact = store.catalogue["humaneval_small"]
    outcome = apply_rule(Rule("broken", "All is well.", (), check), store, artifact)
    (finding,) = outcome.findings
    assert (finding.problem, finding.expected) == ("unreadable", "the libraries that read it")
    assert "failed to map segment" in finding.found
    assert "wmtp doctor" in finding.remedy


# -- what is said ----------------------------------------------------------------------------------


def test_text_of_a_finding_is_short_and_printable() -> None:
    """It may come out of a hostile file: no escape sequence and no novel gets through."""
    assert as_text("a\x1b[31mb\nc\ud800") == "a\\x1b[31mb\\nc\\ud800"
    assert as_text("größer ▁") == "größer ▁"
    assert as_text(True) == "True"
    assert len(as_text("x" * 10**6)) == MAX_TEXT + 1
    nested: list[Any] = ["x" * 10**6]
    for _ in range(60):  # 10 to the power of 60 elements
        nested = [nested] * 10
    assert len(as_text(nested)) <= MAX_TEXT + 1
    assert len(as_text({"a": nested})) <= MAX_TEXT + 1


def test_differences_are_named_by_place() -> None:
    """Only what differs, as deep as it differs; nothing is not null, and 1 is not true."""
    expected = {"a": {"b": 1, "c": 2}, "d": None, "e": True, "g": 1}
    found = {"a": {"b": 1, "c": 3}, "e": 1, "f": None, "g": 1.0}
    assert [(place, str(one), str(two)) for place, one, two in differences(expected, found)] == [
        ("a.c", "2", "3"),
        ("d", "None", "nothing"),
        ("e", "True", "1"),
        ("f", "nothing", "None"),
        ("g", "1", "1.0"),
    ]
    assert list(differences(expected, expected)) == []


def test_a_finding_is_a_row_of_a_table() -> None:
    """What the UI and ``wmtp verify --json`` show of it."""
    report = Report("rule", "asset", "repair it")
    report.add("file", place="line 0", expected="good", found="bad")
    (finding,) = report.outcome.findings
    assert finding.as_row() == {
        "rule": "rule",
        "artifact": "asset",
        "problem": "corrupt",
        "file": "file",
        "place": "line 0",
        "expected": "good",
        "found": "bad",
        "remedy": "repair it",
    }
    assert str(finding) == "file: line 0: expected good, found bad"


def test_findings_are_kept_up_to_a_number_and_all_counted(store: Store) -> None:
    """A split of millions of bad rows must not fill the memory; one problem of another class among
    them must still be seen, or its exit code would be lost."""
    rule = Rule("flooding", "Nothing is wrong.", frozenset({"small"}), flood)
    artifact = store.catalogue["humaneval_small"]
    outcome = apply_rule(rule, store, artifact)
    assert outcome.count == 3 * MAX_FINDINGS + 3
    problems = [finding.problem for finding in outcome.findings]
    assert problems == ["corrupt", "missing", *["warning"] * MAX_FINDINGS]
    assert outcome.more == 2 * MAX_FINDINGS + 1
    assert exit_code([Verdict(artifact.key, rule.name, outcome)]) == 1 + 2
    assert not is_warning(outcome)
    (remembered,) = last_results(store, artifact)
    assert "place 2000" in remembered.problem


def flood(subject: Subject, report: Report) -> None:
    problems: dict[int, Problem] = {2000: "corrupt", 2500: "missing", 3000: "corrupt"}
    for number in range(3 * MAX_FINDINGS + 3):
        problem = problems.get(number, "warning")
        report.add("f", place=f"place {number}", expected="a", found="b", problem=problem)


def test_memory_for_findings_is_bounded() -> None:
    """Each as long as a text may be: a thousand of them, whatever is counted."""
    report = Report("rule", "asset", "repair it")
    tracemalloc.start()
    for number in range(20_000):
        text = f"{number} {'x' * 5000}"
        report.add(text, place=text, expected=text, found=text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.outcome.count == 20_000
    assert peak < 3 * 4 * MAX_TEXT * MAX_FINDINGS


# -- what is needed --------------------------------------------------------------------------------

SCRIPT = """
import json, sys
from pathlib import Path

from wmtp_assets_tests.light import HIDDEN
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.operations.status import status_of
from wmtp_assets.operations.verify import exit_code, strays, verify
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.base.settings import Settings
from wmtp_assets.storage.store import Store

store = Store(Settings("sample", Path(sys.argv[1])), load_catalogue())
verdicts = verify(store, store.catalogue, lambda verdict: None)
rows = [
    [verdict.rule, verdict.artifact, len(verdict.outcome.findings), verdict.outcome.skipped]
    for verdict in verdicts
]
states = [status_of(store, artifact).problem for artifact in store.catalogue]
code = exit_code([*verdicts, strays(store)])
print(json.dumps([rows, states, code, sorted({*HIDDEN} & {*sys.modules})]))
"""


def test_rules_need_only_the_light_libraries(store: Store, tmp_path: Path) -> None:
    """A copy on a laptop or a cluster node is verified with ``pip install wmtp_assets`` alone."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(store.root)],
        capture_output=True,
        text=True,
        check=True,
        env=light_environment(tmp_path / "light"),
    )
    rows, states, code, loaded = json.loads(done.stdout)
    warnings = {(artifact, rule): count for rule, artifact, count, _ in rows if count}
    assert loaded == []
    assert code == 0
    needing = {
        "tokenizer": test_checkpoint.NEEDS_SENTENCEPIECE,
        "fast_tokenizer": test_checkpoint.NEEDS_SENTENCEPIECE,
        "token_length": test_checkpoint.NEEDS_SENTENCEPIECE,
        **dict.fromkeys(
            (
                "index",
                "splits",
                "text_twins",
                "contamination",
                "problems",
                "evaluation",
                "derivation",
                "membership",
                "recount",
            ),
            NEEDS["pyarrow"],
        ),
    }
    applied = [(rule, artifact) for rule, artifact, _, skipped in rows if not skipped]
    expected = [
        (rule.name, artifact.key)
        for artifact in store.catalogue
        for rule in rules_of(artifact)
        if rule.name not in needing
    ]
    assert applied == expected
    assert {rule for rule, _ in applied} == {rule.name for rule in all_rules()} - needing.keys()
    assert warnings == {}
    assert {rule: skipped for rule, _, _, skipped in rows if skipped} == needing
    assert set(states) == {"", "not verified"}


def test_nothing_below_the_components_knows_dagster() -> None:
    """The rules are called from notebooks and from the command line, without the platform."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, wmtp_assets.operations.verify, wmtp_assets.operations.status\n"
            "print([name for name in ('dagster', 'torch', 'numpy') if name in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


# -- side by side ----------------------------------------------------------------------------------


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every artifact is large, on a machine with two CPUs."""
    monkeypatch.setattr(applying, "LARGE", 0)
    monkeypatch.setenv("WMTP_WORKERS", "2")


@pytest.mark.usefixtures("large")
def test_rules_side_by_side_are_told_in_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule of hashes comes alone, two others at a time, what is recalled is not applied, and
    only the thread that asks says anything: Dagster's log is not to be written by others."""
    artifact = store.catalogue["mbpp_processed"]
    rules = rules_of(artifact)
    under_way, most, spoke = [0], [0], set[int]()
    both = threading.Barrier(2, timeout=60)

    def apply_slowly(rule: Rule, *args: Any) -> Outcome:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        if rule in rules[1:3]:
            both.wait()
        args[2](rule.name)
        under_way[0] -= 1
        assert rule.name != "sha256" or most[0] == 1
        return Outcome(evidence={"of": rule.name})

    def say(line: str) -> None:
        spoke.add(threading.get_ident())
        said.append(line)

    said: list[str] = []
    monkeypatch.setattr(applying, "apply_in_child", apply_slowly)
    last = Outcome(remembered="before")

    def recalled(rule: Rule) -> Outcome | None:
        return last if rule == rules[-1] else None

    found = [*applying.apply_each(rules, store, artifact, say, recalled)]
    assert [rule for rule, _ in found] == [*rules]
    assert [outcome.evidence["of"] for _, outcome in found[:-1]] == [r.name for r in rules[:-1]]
    assert found[-1][1] is last
    assert sorted(said) == sorted(rule.name for rule in rules[:-1])
    assert most == [2] and spoke == {threading.get_ident()}


@pytest.mark.usefixtures("large")
def test_interrupted_side_by_side(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is interrupted waits for no rule that has not begun, and the error is not lost."""
    artifact = store.catalogue["mbpp_processed"]
    begun: list[str] = []

    def interrupt(rule: Rule, *args: Any) -> Outcome:
        begun.append(rule.name)
        if rule.name == "sha256":
            return Outcome()
        raise KeyboardInterrupt

    monkeypatch.setattr(applying, "apply_in_child", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(applying.apply_each(rules_of(artifact), store, artifact))
    assert "made_with" not in begun


@pytest.mark.usefixtures("large")
def test_a_child_that_is_ended_by_an_interrupt_is_no_finding(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the children at once; that a rule failed must not be remembered then, and one
    whose file ended its child before is still a finding."""
    artifact = store.catalogue["mbpp_processed"]
    begun, ended = threading.Event(), threading.Event()
    remembered: list[str] = []
    died = ChildDied("", "SIGKILL")

    def run(function: Any, rule: Rule, *args: Any, **named: Any) -> Outcome:
        if rule.name == "sha256":
            return Outcome()
        if rule.name == "schema":
            begun.wait(60)
            raise died
        begun.set()
        assert ended.wait(60)
        raise died

    monkeypatch.setattr(applying, "call", run)
    monkeypatch.setattr(Other, "call", lambda self, *args, **named: run(*args, **named))
    monkeypatch.setattr(applying, "stop", ended.set)
    monkeypatch.setattr(applying, "remember", lambda *args, **named: remembered.append(args[3]))
    outcomes = applying.apply_each(rules_of(artifact), store, artifact)
    monkeypatch.setattr(applying.apply_in_child, "__defaults__", (silent, run))
    found = [next(outcomes), next(outcomes)]
    assert [rule.name for rule, _ in found] == ["sha256", "schema"]
    assert "SIGKILL" in str(found[1][1].findings[0])
    outcomes.close()  # type: ignore[attr-defined]
    assert remembered == ["schema"]


@pytest.mark.long
@pytest.mark.usefixtures("large")
def test_side_by_side_finds_the_same(store: Store) -> None:
    """In child processes of their own, two at a time, one of them on damaged columns."""
    artifact = store.catalogue["mbpp_processed"]
    damage(store.path(artifact, "index/train.parquet"), lambda data: data[: len(data) // 2])
    rules = rules_of(artifact)
    found = {rule.name: it for rule, it in applying.apply_each(rules, store, artifact)}
    for rule in rules:
        assert found[rule.name].findings == apply_rule(rule, store, artifact).findings, rule.name
    assert found["index"].findings and not found["row_count"].findings
