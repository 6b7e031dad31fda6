"""All rules over all artifacts: what is told, what it adds up to, what belongs to nobody."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, get_args

import pytest

from wmtp_assets.catalogue.specs import DocumentSpec
from wmtp_assets.checkpoints.beside import files_of
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.init import init
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.show import details_of
from wmtp_assets.operations.verify import (
    EXIT_CODES,
    Verdict,
    exit_code,
    findings_of,
    strays,
    verify,
)
from wmtp_assets.rules import apply
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.rules.findings import Problem, Report
from wmtp_assets.storage.store import Store, materialize_command
from wmtp_assets_tests.quick import full_only
from wmtp_assets_tests.rules.cases import untouched
from wmtp_assets_tests.trees import damage, flip, remove_optional


def run(store: Store, *keys: str) -> list[Verdict]:
    """Verify some artifacts, or all; each verdict must be told at once and in order."""
    artifacts = [store.catalogue[key] for key in keys] or list(store.catalogue)
    told: list[Verdict] = []
    verdicts = verify(store, artifacts, told.append)
    assert told == verdicts
    return verdicts


def found(verdicts: list[Verdict]) -> set[tuple[str, str, str]]:
    return {(item.artifact, item.rule, item.problem) for item in findings_of(verdicts)}


def test_good_tree_is_good(store: Store) -> None:
    """Every rule on every artifact, nothing but upstream's own, nothing stray or written: 0."""
    before = untouched(store)
    verdicts = run(store)
    assert [(item.artifact, item.rule) for item in verdicts] == [
        (artifact.key, rule.name) for artifact in store.catalogue for rule in rules_of(artifact)
    ]
    assert [item.outcome.skipped for item in verdicts] == [""] * len(verdicts)
    assert found(verdicts) == {
        ("codecontests_processed", "text_twins", "warning"),
        ("codecontests_processed", "problems", "warning"),
        ("mbpp_processed", "text_twins", "warning"),
        ("mbpp_processed", "contamination", "warning"),
    }
    assert exit_code([*verdicts, strays(store)]) == 0
    assert untouched(store) == before


def test_codes_are_those_of_the_manual() -> None:
    """Scripts depend on them; each class of problem has one, and they are bits."""
    assert dict(EXIT_CODES) == {
        "corrupt": 1,
        "missing": 2,
        "extra": 2,
        "unreadable": 4,
        "changing": 8,
        "warning": 0,
    }
    assert EXIT_CODES.keys() == set(get_args(Problem))


@pytest.mark.parametrize(
    ("problems", "code"),
    [
        ([], 0),
        (["corrupt"], 1),
        (["corrupt", "corrupt", "corrupt"], 1),
        (["missing", "extra"], 2),
        (["corrupt", "missing"], 3),
        (["unreadable"], 4),
        (["warning"], 0),
        (["warning", "corrupt", "warning"], 1),
        (["changing", "unreadable"], 12),
        (["corrupt", "missing", "extra", "unreadable", "changing"], 15),
    ],
)
def test_codes_add_up(problems: list[Problem], code: int) -> None:
    """Each kind of problem is in the sum once, however often it was found."""
    verdicts = []
    for problem in problems:
        report = Report("rule", "asset", "")
        report.add("file", expected="a", found="b", problem=problem)
        verdicts.append(Verdict("asset", "rule", report.outcome))
    assert exit_code(verdicts) == code


def test_absent_artifacts_are_missing_with_the_command_that_makes_them(
    empty_store: Store,
) -> None:
    """One verdict each: the rules have nothing to look at."""
    verdicts = run(empty_store)
    assert [(item.artifact, item.rule) for item in verdicts] == [
        (artifact.key, "committed") for artifact in empty_store.catalogue
    ]
    required = [artifact for artifact in empty_store.catalogue if not artifact.optional]
    for finding, artifact in zip(findings_of(verdicts), required, strict=True):
        assert finding.problem == "missing"
        assert finding.file == f"{artifact.base}/{artifact.manifest}"
        assert finding.remedy == materialize_command(artifact.key)
    assert exit_code(verdicts) == 2
    assert strays(empty_store).outcome.findings == []
    assert not empty_store.root.exists()


def test_absent_optional_artifacts_count_only_when_asked_for(empty_store: Store) -> None:
    """'Nothing missing' is said of what everybody needs; whoever asks for more gets an answer."""
    told: list[Verdict] = []
    optional = [artifact for artifact in empty_store.catalogue if artifact.optional]
    assert len(optional) == 16
    verdicts = verify(empty_store, optional, told.append)
    assert told == verdicts
    assert [(item.artifact, item.rule, item.outcome.skipped) for item in verdicts] == [
        (artifact.key, "committed", "optional, not materialized") for artifact in optional
    ]
    assert exit_code(verdicts) == 0
    key = "starling_rm_raw"
    verdicts = verify(empty_store, optional, told.append, asked_for={key, "humaneval_raw"})
    (finding,) = findings_of(verdicts)
    assert (finding.artifact, finding.problem) == (key, "missing")
    assert finding.file == "models_v2/starling-rm-7b/raw.metadata.json"
    assert finding.remedy == materialize_command(key)
    assert exit_code(verdicts) == 2


@full_only
def test_good_tree_without_optional_artifacts_is_good(store: Store) -> None:
    """What ``make materialize`` makes is whole, and leaves nothing that belongs to nobody."""
    remove_optional(store)
    verdicts = run(store)
    skipped = {item.artifact for item in verdicts if item.outcome.skipped}
    assert skipped == {artifact.key for artifact in store.catalogue if artifact.optional}
    assert exit_code([*verdicts, strays(store)]) == 0


def test_optional_artifact_that_is_there_is_verified(store: Store) -> None:
    """Optional is whether it is made, not whether its bytes are right."""
    for key in ("starling_rm_safetensors", "meta_llama_mtp_bf16"):
        artifact = store.catalogue[key]
        damage(store.path(artifact, files_of(artifact).config), flip(20))
        assert exit_code(run(store, key)) == 1
        store.path(artifact, files_of(artifact).config).unlink()
        assert exit_code(run(store, key)) == 2


def test_named_artifacts_only(store: Store) -> None:
    """What was not named is not looked at, and not missed."""
    store.manifest_path(store.catalogue["humaneval_stats"]).unlink()
    assert exit_code(run(store, "humaneval_small", "humaneval_processed")) == 0
    assert exit_code(run(store, "humaneval_small", "humaneval_stats")) == 2


@full_only
def test_different_damages_add_up(store: Store) -> None:
    """One run tells everything that is wrong, in every artifact."""
    small, stats = store.catalogue["humaneval_small"], store.catalogue["humaneval_stats"]
    damage(store.path(small, "test_small.jsonl"), flip(3))
    store.path(stats, "notes.txt").write_bytes(b"")
    verdicts = run(store)
    assert exit_code(verdicts) == 1 + 2
    assert {("humaneval_small", "sha256", "corrupt"), ("humaneval_stats", "sha256", "extra")} <= (
        found(verdicts)
    )


@full_only
def test_damage_stays_in_its_artifact(store: Store) -> None:
    """The others can still be used; saying that all is bad would cost a day of downloads. Only what
    tells of all of them cannot be believed."""
    damage(store.path(store.catalogue["humaneval_stats"], "metadata.json"), flip(20))
    wrong = {artifact for artifact, _, problem in found(run(store)) if problem != "warning"}
    summaries = {
        artifact.key for artifact in store.catalogue if isinstance(artifact.spec, DocumentSpec)
    }
    assert wrong == {"humaneval_stats", *summaries}


def test_link_in_place_of_a_manifest_is_corrupt_not_absent(store: Store, tmp_path: Path) -> None:
    """'Absent' would hide that somebody moved things."""
    path = store.manifest_path(store.catalogue["humaneval_stats"])
    path.rename(tmp_path / "moved.json")
    path.symlink_to(tmp_path / "moved.json")
    assert exit_code(run(store, "humaneval_stats")) == 1
    (tmp_path / "moved.json").unlink()
    assert exit_code(run(store, "humaneval_stats")) == 1


def test_folder_that_cannot_be_entered_is_unreadable_not_absent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making it anew would be the wrong advice to somebody who lacks a permission."""
    folder = store.folder(store.catalogue["humaneval_stats"])
    real_lstat, real_open = os.lstat, os.open

    def refuse(path: Any) -> None:
        if not isinstance(path, int) and Path(os.fspath(path)).is_relative_to(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def lstat(path: Any, *others: Any, **more: Any) -> os.stat_result:
        refuse(path)
        return real_lstat(path, *others, **more)

    def opening(path: Any, *others: Any, **more: Any) -> int:
        refuse(path)
        return real_open(path, *others, **more)

    monkeypatch.setattr(apply, "apply_in_child", apply_rule)  # or it would not be refused there
    monkeypatch.setattr(Path, "lstat", lambda path: lstat(path))
    monkeypatch.setattr(os, "lstat", lstat)
    monkeypatch.setattr(os, "open", opening)
    verdicts = run(store, "humaneval_stats")
    assert [item.rule for item in verdicts] == ["sha256", "recount", "made_with"]
    assert {item.problem for item in findings_of(verdicts)} == {"unreadable"}
    assert exit_code(verdicts) == 4


# -- strays ----------------------------------------------------------------------------------------


STRAYS = [
    "models_v2/notes.txt",
    "models_v2/my-model/model.bin",
    "models_v2/meta-llama-mtp/training.log",
    "models_v2/meta-llama-mtp/safetensors-old/model.safetensors",
    "models_v2/meta-llama-mtp/safetensors-fp32/model.safetensors",
    "models_v2/micro-mtp/raw/params.json",
    "datasets_v2/humaneval/README.txt",
    "datasets_v2/mbpp/pairs-old/train.jsonl",
    "datasets_v2/code_contests/raw/a.parquet",
    "datasets_v2/codecontests/index.parquet",
    "datasets_v2/codecontests/evaluation/valid_eval.jsonl",
    "datasets_v2/mbpp/tests-old/test_tests.json",
    "datasets_local_small/humaneval/test_small.jsonl",
]


@pytest.mark.parametrize("name", STRAYS)
def test_file_of_no_artifact_is_a_stray(store: Store, name: str) -> None:
    """No rule vouches for it, and whoever lists the folder takes it for one of ours."""
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    verdict = strays(store)
    (finding,) = verdict.outcome.findings
    assert (verdict.rule, finding.rule, finding.artifact) == ("strays", "strays", "")
    assert (finding.file, finding.problem) == (name, "extra")
    assert (finding.expected, finding.found) == ("only files of artifacts", "a file of none")
    assert finding.remedy == "move it elsewhere"
    assert exit_code([verdict]) == 2
    assert path.exists()


@pytest.mark.parametrize(
    "name",
    [
        "models_v2/micro-mtp/model.sig",
        "models_v2/micro-mtp/safetensors/model.safetensors.sigstore",
        "models_v2/micro-mtp/.cache/huggingface/download/config.json.metadata",
        "datasets_v2/humaneval/pairs/.DS_Store",
        "models_v2/.DS_Store",
    ],
)
def test_file_of_a_known_tool_is_a_guest(store: Store, name: str) -> None:
    """Whoever signs a model with model-signing must not be told that it is damaged; a commit keeps
    the signature, and ``wmtp show`` lists it."""
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"signed")
    assert strays(store).outcome.findings == []
    for artifact in store.catalogue.select("micro_mtp") + store.catalogue.select("humaneval_pairs"):
        rest = name.removeprefix(f"{artifact.base}/")
        is_its = name.startswith(f"{artifact.base}/")
        assert verify(store, [artifact], only=["sha256"])[0].outcome.findings == []
        assert details_of(store, artifact).guests == [rest] * is_its
    materialize(store, store.catalogue["humaneval_pairs"])
    assert path.read_bytes() == b"signed"


def test_links_and_pipes_are_strays_too(store: Store, tmp_path: Path) -> None:
    """A linked folder is named once and not walked: it may lead round in circles."""
    (store.root / "models_v2/again").symlink_to(store.root)
    os.mkfifo(store.root / "datasets_v2/pipe")
    found = {item.file for item in strays(store).outcome.findings}
    assert found == {"models_v2/again", "datasets_v2/pipe"}


@full_only
def test_files_inside_an_artifact_are_left_to_its_rule(store: Store) -> None:
    """Or they would be counted twice, with two remedies."""
    for key, name in (
        ("humaneval_processed", "processed/notes.txt"),
        ("codecontests_processed", "index/notes.txt"),
        ("codecontests_tests", "notes.txt"),
        ("mbpp_pairs", "prompt.jsonl"),
        ("micro_mtp", "configs/notes.txt"),
        ("meta_llama_mtp_raw", "raw/notes.txt"),
        ("meta_llama_mtp_tokenizer", "notes.txt"),
        ("meta_llama_mtp_bf16", "notes.txt"),
        ("parameter_snapshot", "mine.yaml"),
    ):
        store.path(store.catalogue[key], name).write_bytes(b"")
    assert strays(store).outcome.findings == []
    assert {artifact for artifact, _, problem in found(run(store)) if problem == "extra"} == {
        "humaneval_processed",
        "codecontests_processed",
        "codecontests_tests",
        "mbpp_pairs",
        "micro_mtp",
        "meta_llama_mtp_raw",
        "meta_llama_mtp_tokenizer",
        "meta_llama_mtp_bf16",
        "parameter_snapshot",
    }


LEGAL = [
    "models/llama/model.bin",
    "datasets/mbpp/train.jsonl",
    ".wmtp/anything",
    "sample/models_v2/micro-mtp/metadata.json",
    "MANIFEST.json",
    ".gitkeep",
    "lost+found/#1234",
    "models_v2/lost+found/#1234",
    ".snapshot/daily/file",
    ".DS_Store",
    "signatures/micro_mtp.sig",
]


@pytest.mark.parametrize("name", LEGAL)
def test_what_belongs_at_the_root_is_no_stray(store: Store, name: str) -> None:
    """The first version's folders, our own workshop, the sample's root below that of the hub, what
    a publication, git or a filesystem puts there."""
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    assert strays(store).outcome.findings == []


PLANTED = {
    "NOTES.md": "a file of nobody",
    "models_v3/x/model.bin": "a folder of nobody",
    "README.md.bak": "a file of nobody",
    ".hidden": "a file of nobody",
    "signatures/other.sig": "a file of none",
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_at_the_root_is_a_stray(store: Store, name: str) -> None:
    """Whoever lists the root takes it for a part of the storage; a folder is named once."""
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    (finding,) = strays(store).outcome.findings
    shown = name if name.startswith("signatures/") else name.split("/")[0]
    assert (finding.file, finding.found, finding.problem) == (shown, PLANTED[name], "extra")


def test_files_in_the_place_of_what_was_never_made(store: Store) -> None:
    """An optional artifact that is not there has no files: its folder is one that people open."""
    artifact = store.catalogue["meta_llama_mtp_bf16"]
    manifest = store.manifest(artifact)
    for name in (*manifest.files, artifact.manifest):
        store.path(artifact, name).unlink()
    assert strays(store).outcome.findings == []  # empty folders, as wmtp init makes them
    planted = store.path(artifact, "model.safetensors")
    planted.write_bytes(b"planted")
    (finding,) = strays(store).outcome.findings
    assert finding.file == f"{artifact.base}/model.safetensors"
    assert finding.expected == "nothing: meta_llama_mtp_bf16 is not there"
    planted.rename(store.path(artifact, "model.sig"))
    assert strays(store).outcome.findings == []


@pytest.mark.parametrize("name", ["models_v2/other", "datasets_v2/mbpp/more/inside", "docs/old"])
def test_empty_folder_of_nobody_is_a_stray(store: Store, name: str) -> None:
    """Nothing is in it yet."""
    (store.root / name).mkdir(parents=True)
    (finding,) = strays(store).outcome.findings
    assert (finding.file, finding.found) == (name, "an empty folder of none")


def test_what_init_makes_is_no_stray(empty_store: Store) -> None:
    """Empty folders of the contract, those of optional artifacts too."""
    assert [*init(empty_store, empty_store.catalogue)]
    assert strays(empty_store).outcome.findings == []


@pytest.mark.parametrize("name", ["models_v2", "datasets_local_small", "docs", ".wmtp"])
@pytest.mark.parametrize("link", [True, False])
def test_link_or_file_in_the_place_of_a_folder(
    store: Store, tmp_path: Path, name: str, link: bool
) -> None:
    """What is read through it may lie anywhere, and no commit is one step there."""
    (store.root / name).rename(tmp_path / "moved")
    if link:
        (store.root / name).symlink_to(tmp_path / "moved")
    else:
        (store.root / name).write_bytes(b"")
    (finding,) = strays(store).outcome.findings
    assert (finding.file, finding.expected) == (name, "a folder")
    assert finding.found == ("a link" if link else "a file")
    (store.root / name).unlink()
    (tmp_path / "moved").rename(store.root / name)


def test_folder_that_cannot_be_listed_is_unreadable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """os.walk passes over it in silence."""
    locked = store.root / "models_v2/locked"
    locked.mkdir()
    real = os.scandir

    def refusing(path: Any) -> Any:
        if os.fspath(path) == str(locked):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    verdict = strays(store)
    assert [(item.file, item.problem) for item in verdict.outcome.findings] == [
        ("models_v2/locked", "unreadable")
    ]
    assert exit_code([verdict]) == 4
