"""``wmtp`` as people and scripts call it: tables, JSON, exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save

from wmtp_assets.base.child import directly
from wmtp_assets.catalogue.artifact import INTERNAL, VALUE_HEAD
from wmtp_assets.checkpoints.beside import NO_VALUE_HEAD, record_value_head
from wmtp_assets.cli.main import cli
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.cli.conftest import Wmtp, run_wmtp
from wmtp_assets_tests.light import light_environment
from wmtp_assets_tests.quick import full_only, quick, thinned
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, flip, remove_optional, reseal, tree


def test_status_shows_every_artifact(wmtp: Wmtp, root: Path) -> None:
    """By group, one line per artifact with what the issue of a run needs to name; verified or
    not."""
    before = tree(root)
    done = wmtp("status")
    assert done.returncode == 0
    *lines, where, last = done.stdout.splitlines()
    groups = [line.split(":")[0] for line in lines if re.match("[a-z]+: ", line)]
    assert groups == ["models", "micro", "datasets", "small", "reports"]
    micro = next(line for line in lines if line.startswith("  micro_mtp "))
    assert re.fullmatch(r" micro_mtp micro 51.8 MB float16 [0-9a-f]{8} not yet", shortened(micro))
    assert where == f"{root} (sample)"
    assert last.startswith("40 of 40 artifacts, 16 of 16 optional ones, ")
    assert tree(root) == before


def shortened(line: str) -> str:
    """A line of a table, with one space for many."""
    return re.sub(" +", " ", line)


NARROW = [
    ("status",),
    ("status", "--files", "micro-mtp"),
    ("status", "--stale"),
    ("plan", "micro_mtp"),
    ("verify", "micro_mtp", "mbpp_raw", "mbpp_processed"),
    ("doctor",),
    ("show", "mbpp_processed"),
    ("--help",),
    *((name, "--help") for name in ("verify", "publish", "pull", "doctor")),
]
"""Commands with tables and pages of help."""


@pytest.mark.parametrize("arguments", NARROW, ids=" ".join)
def test_tables_fit_a_terminal(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """80 columns, also with problems and one long name; no line ends in padding, and in a pipe
    there is no escape. A path, hash or command that is longer is left whole, to be copied."""
    store.path(store.catalogue["micro_mtp"], "configs/config.json").unlink()
    damage(store.path(store.catalogue["mbpp_raw"], "raw.metadata.json"), flip(20))
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(root))
    monkeypatch.setenv("COLUMNS", "80")
    output = CliRunner().invoke(cli, arguments).output
    assert "\x1b" not in output
    lines = output.splitlines()
    assert lines
    assert [line for line in lines if line != line.rstrip()] == []
    whole = re.compile(r"\S{60}|run: |remedy: |^  (make|verify|repair): ")
    assert [line for line in lines if len(line) > 80 and not whole.search(line)] == []


def test_problems_come_first(wmtp: Wmtp, store: Store) -> None:
    """What is to be done stands above the table, with the command on a line of its own; the row
    points there."""
    store.path(store.catalogue["micro_mtp"], "configs/config.json").unlink()
    done = wmtp("status", "micro-mtp")
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "micro_mtp",
        "  configs/config.json is missing",
        "  run: wmtp verify micro_mtp",
    ]
    row = next(line for line in lines if line.startswith("  micro_mtp "))
    assert row.endswith("see above")
    assert "1 with a problem: see above" in lines
    (wide,) = (
        line
        for line in wmtp("status", "micro_mtp", "--wide").stdout.splitlines()
        if line.startswith("  micro_mtp ")
    )
    assert "facebook/multi-token-prediction" in wide
    assert wide.endswith("configs/config.json is missing")


def test_wider_terminals_show_more(wmtp: Wmtp) -> None:
    """Columns that there is no room for are left out, and not all the others squeezed."""
    narrow, wide = (wmtp("status", "mbpp", COLUMNS=columns).stdout for columns in ("80", "130"))
    assert "google-research-datasets/mbpp" in wide
    assert "google-research-datasets/mbpp" not in narrow


def test_status_and_stale_use_the_same_words(wmtp: Wmtp, store: Store) -> None:
    """Two words for one thing are two things to a reader."""
    without_tests = respec(store, "codecontests", public_tests=0)
    materialize(without_tests, without_tests.catalogue["codecontests_processed"])
    words = "made from another codecontests_processed than is there now"
    for option in ([], ["--stale"]):
        assert words in wmtp("status", "codecontests_pairs", *option).stdout


def test_help_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary that ends in three dots says nothing."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(cli, ["--help"]).output
    listed = [line for line in shown.partition("Commands:")[2].splitlines() if line.strip()]
    assert len(listed) == len(cli.commands)
    assert [line for line in listed if line.endswith("...")] == []


def test_nobody_reads_the_output(root: Path) -> None:
    """``wmtp status | head -1``: no traceback, no broken pipe, and nothing is said."""
    environment = {**os.environ, "WMTP_SOURCE": "", "WMTP_STORAGE_ROOT": str(root)}
    script = f"{sys.executable} -c 'from wmtp_assets.cli.main import main; main()' status | head -1"
    done = subprocess.run(
        ["bash", "-c", f"{script}; echo ${{PIPESTATUS[0]}}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] in ("0", "74")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("show", "micro_mpt"), "'micro_mtp'"),
        (("verify", "micro-mpt"), "'micro-mtp'"),
        (("statsu",), "'status'"),
        (("status", "--wdie"), "--wide"),
    ],
)
def test_typos(wmtp: Wmtp, arguments: tuple[str, ...], meant: str) -> None:
    """The name that was meant is said first, and not fifty others."""
    done = wmtp(*arguments)
    assert done.returncode == 64
    assert "Did you mean" in done.stderr
    assert meant in done.stderr


def test_status_json_is_complete(wmtp: Wmtp) -> None:
    """Scripts read the same facts; names are never cut off."""
    document = json.loads(wmtp("status", "--json").stdout)
    rows = {row["name"]: row for row in document["artifacts"]}
    assert document["source"] == "sample"
    assert rows["humaneval_processed"]["rows"] == 164
    assert rows["codecontests_tests"]["rows"] == 48 + 12 + 12
    assert rows["codecontests_raw"]["source"] == "deepmind/code_contests"
    assert rows["meta_llama_mtp_safetensors"]["dtype"] == "float16"
    assert len(rows["micro_mtp"]["revision"]) == 40


def test_status_after_verify_says_when(wmtp: Wmtp) -> None:
    """People ask when a file was last read, not whether somebody has a schedule."""
    assert wmtp("verify", "humaneval_small").returncode == 0
    (row,) = json.loads(wmtp("status", "humaneval_small", "--json").stdout)["artifacts"]
    assert row["verified_at"].endswith("Z")
    assert (row["state"], row["problem"]) == ("committed", "")


@full_only
def test_verify_good_tree(wmtp: Wmtp, root: Path) -> None:
    """Exit code 0 means that every rule was applied to every byte and holds; nothing is written."""
    before = {path: row for path, row in tree(root).items() if not path.startswith(INTERNAL)}
    done = wmtp("verify")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        "232 rules applied, 0 failed, 4 with warnings",
    )
    assert {p: row for p, row in tree(root).items() if not p.startswith(INTERNAL)} == before


def test_warning_is_told_and_is_no_failure(wmtp: Wmtp) -> None:
    """Scripts stop at an exit code; what upstream itself has is for people to decide about."""
    done = wmtp("verify", "mbpp_processed")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    for rule in ("text_twins", "contamination"):
        assert f"mbpp_processed {rule}: warning" in lines
    assert "mbpp_processed splits: ok" in lines
    assert lines[-1] == "9 rules applied, 0 failed, 2 with warnings"
    assert "FAILED" not in done.stdout
    document = json.loads(wmtp("verify", "mbpp_processed", "--json").stdout)
    assert document["exit_code"] == 0
    assert {item["problem"] for item in document["findings"]} == {"warning"}
    (row,) = json.loads(wmtp("status", "mbpp_processed", "--json").stdout)["artifacts"]
    assert (row["state"], row["problem"], row["rows"]) == ("committed", "", 964)


PARTS = ("raw", "processed", "pairs", "small", "stats", "tests", "card", "croissant")


def test_status_of_codecontests(wmtp: Wmtp, store: Store) -> None:
    """A dataset by its folder: six artifacts of one upstream commit, small split and tests too, and
    two that describe them."""
    lines = wmtp("status", "codecontests").stdout.splitlines()
    rows = [line for line in lines if line.startswith("  codecontests_")]
    order = [*PARTS[:3], *PARTS[4:], PARTS[3]]  # the group of small splits comes last
    assert [row.split()[:2] for row in rows] == [[f"codecontests_{part}", part] for part in order]
    commit = store.manifest(store.catalogue["codecontests_raw"]).document["source"]["revision"]
    described = ("card", "croissant")
    assert all(
        f"  {commit[:8]}  " in row
        for part, row in zip(order, rows, strict=True)
        if part not in described
    )
    counts = {part: row.split()[4].replace(",", "") for part, row in zip(order, rows, strict=True)}
    written = {
        split: store.path(store.catalogue["codecontests_processed"], f"processed/{split}.jsonl")
        .read_bytes()
        .count(b"\n")
        for split in ("train", "valid", "test")
    }
    assert counts == {
        "raw": "-",
        **dict.fromkeys(("processed", "pairs", "stats"), str(sum(written.values()))),
        "small": str(100 + 32 + 32),
        "tests": str(48 + 12 + 12),
        "card": "-",
        "croissant": "-",
    }
    assert lines[-2] == f"{store.root} (sample)"
    assert lines[-1].startswith("8 of 8 artifacts, ")
    assert "optional" not in lines[-1]


def test_verify_codecontests(wmtp: Wmtp) -> None:
    """Every rule that has something to say about it is applied, and named; the twin that upstream
    has in two splits is a warning, with both places."""
    done = wmtp("verify", "codecontests", COLUMNS="300")
    rules = {
        "raw": ["sha256"],
        "processed": [
            *("sha256", "schema", "row_count", "upstream_counts", "index", "token_length"),
            *("splits", "text_twins", "contamination", "problems", "evaluation"),
        ],
        "pairs": ["sha256", "derivation"],
        "small": ["sha256", "schema", "membership"],
        "stats": ["sha256", "recount"],
        "tests": ["sha256", "derivation"],
        "card": ["sha256", "current"],
        "croissant": ["sha256", "current"],
    }
    warnings = {"processed text_twins", "processed problems"}
    verdicts = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert verdicts == [
        *(
            f"codecontests_{part} {rule}: {'warning' if f'{part} {rule}' in warnings else 'ok'}"
            for part in PARTS
            for rule in (*rules[part], "made_with")
        ),
        "33 rules applied, 0 failed, 2 with warnings",
    ]
    finding, _ = (line for line in done.stdout.splitlines() if "expected" in line)
    assert finding.startswith("  datasets_v2/codecontests/processed/valid.jsonl: line ")
    assert "expected a text that is not in train, found that of " in finding
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("key", "file", "names", "rule", "code"),
    quick(
        [
            ("codecontests_tests", "valid_tests.json", ["codecontests_tests"], "sha256", 1),
            ("codecontests_tests", "valid_tests.json", ["codecontests_pairs"], "", 0),
            ("codecontests_processed", "index/train.offsets", ["codecontests"], "index", 1),
            ("codecontests_processed", "index/train.parquet", ["codecontests"], "index", 1),
            ("codecontests_processed", "processed/valid_eval.jsonl", ["codecontests"], "schema", 1),
            ("codecontests_small", "train_small.jsonl", ["codecontests_small"], "schema", 1),
        ],
        lambda row: row[0] != "codecontests_processed",
    ),
)
def test_damaged_codecontests(
    wmtp: Wmtp, store: Store, key: str, file: str, names: list[str], rule: str, code: int
) -> None:
    """The exit code is about what was asked for; the file is named, whatever rule reads it."""
    artifact = store.catalogue[key]
    damage(store.path(artifact, file), flip(-1))
    done = wmtp("verify", *names)
    assert done.returncode == code, done.stdout
    assert (f"  {artifact.base}/{file}: " in done.stdout) == bool(code)
    assert (f"{key} {rule}: FAILED" in done.stdout) == bool(code)
    assert (f"  remedy: wmtp repair {key}" in done.stdout) == bool(code)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("codecontests_tests", "test_tests.json"),
        ("codecontests_processed", "index/valid.offsets"),
        ("codecontests_processed", "processed/test_eval.jsonl"),
        ("codecontests_raw", "raw.metadata.json"),
    ],
)
def test_missing_file_of_codecontests(wmtp: Wmtp, store: Store, key: str, file: str) -> None:
    """2, not 1: nothing is wrong with what is there; status says so too, without reading it."""
    store.path(store.catalogue[key], file).unlink()
    assert wmtp("verify", key).returncode == 2
    (row,) = json.loads(wmtp("status", key, "--json").stdout)["artifacts"]
    assert row["problem"] in (f"{file} is missing", "not materialized")
    assert wmtp("status", key).returncode & 2


def test_made_from_other_rows_is_told(wmtp: Wmtp, store: Store) -> None:
    """After a new conversion pairs, small splits and statistics are of the old one; tests are
    upstream's and stay right."""
    without_tests = respec(store, "codecontests", public_tests=0)
    materialize(without_tests, without_tests.catalogue["codecontests_processed"])
    rows = json.loads(wmtp("status", "codecontests", "--json").stdout)["artifacts"]
    told = {row["name"].partition("_")[2]: row["problem"] for row in rows}
    for part in ("pairs", "small", "stats"):
        assert told[part].startswith("made from another codecontests_processed than is there now")
        assert told[part].endswith(f"--select 'codecontests_{part}'")
    assert told["processed"].startswith("settings changed: public_tests: 0 → 2; run: ")
    assert (told["raw"], told["tests"]) == ("not verified",) * 2


def test_findings_without_end_are_counted(wmtp: Wmtp, store: Store) -> None:
    """A file whose every row is wrong has millions of findings: ten are shown, a thousand are kept
    for scripts, and all are counted."""
    pairs = store.catalogue["codecontests_pairs"]
    path = store.path(pairs, "train.jsonl")
    damage(path, lambda data: data.replace(b'"prompt": "', b'"prompt": "x'))
    reseal(store, pairs)
    wrong = path.read_bytes().count(b"\n")
    assert wrong > 3000
    done = wmtp("verify", "codecontests_pairs")
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert "codecontests_pairs derivation: FAILED" in lines
    assert sum("datasets_v2/codecontests/pairs/train.jsonl: line " in line for line in lines) == 10
    assert f"  … {wrong} findings in all" in lines
    assert lines[-1] == "3 rules applied, 1 failed"
    document = json.loads(wmtp("verify", "codecontests_pairs", "--json").stdout)
    counts = {row["rule"]: row["findings"] for row in document["rules"]}
    assert counts == {"sha256": 0, "derivation": wrong, "made_with": 0}
    assert len(document["findings"]) == 1000
    assert document["exit_code"] == 1


def test_verify_names_what_is_damaged(wmtp: Wmtp, store: Store) -> None:
    """Exit code 1; file, tensor, both hashes and the remedy, as text and as JSON."""
    artifact = store.catalogue["micro_mtp"]
    damage(store.path(artifact, "safetensors/model.safetensors"), flip(-1))
    done = wmtp("verify", "micro-mtp", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    (finding,) = document["findings"]
    assert document["exit_code"] == 1
    assert finding["file"] == "models_v2/micro-mtp/safetensors/model.safetensors"
    assert finding["place"] == "tensor tok_embeddings.weight"
    assert finding["remedy"] == "wmtp repair micro_mtp"
    text = wmtp("verify", "micro_mtp")
    assert text.returncode == 1
    assert "micro_mtp sha256: FAILED" in text.stdout
    assert f"remedy: {finding['remedy']}" in text.stdout


def test_exit_codes_add_up(wmtp: Wmtp, store: Store) -> None:
    """1 corrupt + 2 missing: a script sees both."""
    damage(store.path(store.catalogue["humaneval_raw"], "raw.metadata.json"), flip(20))
    store.path(store.catalogue["micro_mtp"], "configs/config.json").unlink()
    assert wmtp("verify").returncode == 3


@full_only
def test_stray_file_is_found(wmtp: Wmtp, root: Path) -> None:
    """A forgotten copy beside the artifacts is not what anybody verified: exit code 2."""
    (root / "models_v2/micro-mtp/model.old.safetensors").write_bytes(b"x")
    done = wmtp("verify")
    assert done.returncode == 2
    assert "models_v2/micro-mtp/model.old.safetensors" in done.stdout


def test_empty_root(tmp_path: Path) -> None:
    """Nothing there is not «all good»: exit code 2, and status says what is missing."""
    done = run_wmtp(tmp_path, "verify")
    assert done.returncode == 2
    assert "dagster asset materialize --select 'micro_mtp'" in done.stdout
    assert "0 of 40 artifacts, 0 of 16 optional ones, 0 B" in run_wmtp(tmp_path, "status").stdout


@full_only
def test_tree_without_optional_artifacts(wmtp: Wmtp, store: Store) -> None:
    """The ordinary one: all good; the optional ones are shown, and missed by who asks for them."""
    remove_optional(store)
    done = wmtp("verify")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        "174 rules applied, 0 failed, 4 with warnings, 16 skipped",
    )
    absent = "starling_rm_raw committed: skipped: optional, not materialized"
    assert absent in done.stdout.splitlines()
    *rows, last = wmtp("status").stdout.splitlines()
    assert any(row.startswith("optional, not made, 16: ") for row in rows)
    assert " starling_rm_raw," in " ".join(rows)
    assert last.startswith("40 of 40 artifacts, 0 of 16 optional ones, ")
    for names, code in (
        (["starling_rm_raw"], 2),
        (["starling-rm-7b"], 2),
        (["models_v2/meta-llama-mtp/safetensors-bf16"], 2),
        (["meta-llama-mtp"], 0),  # it was asked for the model, of which the variant is not a part
        (["meta-llama-mtp", "meta_llama_mtp_bf16"], 2),
        (["configs"], 0),
    ):
        done = wmtp("verify", *names)
        assert done.returncode == code, done.stdout
        command = "dagster asset materialize --select 'meta_llama_mtp_bf16'"
        assert (command in done.stdout) == (code == 2 and "starling" not in names[0])


@pytest.mark.parametrize("command", ["status", "verify"])
def test_root_of_the_other_source_is_refused(wmtp: Wmtp, command: str) -> None:
    """Sample weights must not be shown as real ones; 1 would mean that they are corrupt."""
    done = wmtp(command, WMTP_SOURCE="hub")
    assert done.returncode == 64
    assert "holds artifacts of the source 'sample'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (("verify", "nonsense"), {}, "neither an asset nor a folder"),
        (("status", "--wrong"), {}, "No such option"),
        (("frobnicate",), {}, "No such command"),
        (("value-head",), {}, "Missing argument"),
        (("value-head", "nonsense"), {}, "neither an asset nor a folder"),
        (("value-head", "humaneval"), {}, "humaneval is not a model that takes a value head"),
        (("value-head", "configs"), {}, "configs is not a model that takes a value head"),
        (("value-head", "meta_llama_mtp_raw"), {}, "is not a model that takes a value head"),
        (("value-head", "meta_llama_mtp_bf16"), {}, "is not a model that takes a value head"),
        (("value-head", "micro_mtp", "micro_ref"), {}, "unexpected extra argument"),
        (("value-head", "micro_mtp"), {"WMTP_SOURCE": "hub"}, "artifacts of the source 'sample'"),
        (("status",), {"WMTP_SOURCE": "huggingface"}, "is not a source"),
        (("verify", "mbpp_raw"), {"WMTP_READ_RATE": "1e9"}, "is not a number of bytes a second"),
        (("verify", "mbpp_raw"), {"WMTP_WORKERS": "abc"}, "is not a number of processes"),
        (("verify", "mbpp_raw"), {"WMTP_VERIFY_AT_ONCE": "0"}, "is not a number of verifications"),
    ],
)
def test_wrong_usage(
    wmtp: Wmtp, arguments: tuple[str, ...], variables: dict[str, str], message: str
) -> None:
    """64, and one sentence on standard error, so that a script can tell it from a bad artifact."""
    done = wmtp(*arguments, **variables)
    assert done.returncode == 64
    assert message in done.stderr
    assert "Traceback" not in done.stderr


# -- value heads -----------------------------------------------------------------------------------

FOLDERS = {
    "meta_llama_mtp_safetensors": ("meta-llama-mtp", 640),
    "starling_rm_safetensors": ("starling-rm-7b", 256),
    "micro_ref": ("micro-ref", 512),
}
"""Asset → folder and hidden size."""


def put_value_head(store: Store, key: str, *shape: int) -> Path:
    """Write a value head beside the checkpoint ``key``, as training does; its path."""
    path = store.path(store.catalogue[key], VALUE_HEAD)
    path.write_bytes(save({"value_head.weight": np.ones(shape, dtype="float32")}))
    return path


@pytest.mark.parametrize("key", thinned(FOLDERS, ["micro_ref"]))
def test_value_head_is_recorded(wmtp: Wmtp, store: Store, key: str) -> None:
    """Before: a finding with the command. After it: its hash is compared as every other one is."""
    folder, width = FOLDERS[key]
    artifact = store.catalogue[key]
    path = put_value_head(store, key, width, 1)
    before = tree(store.folder(artifact))
    manifest = store.manifest(artifact)

    found = json.loads(wmtp("verify", key, "--json").stdout)
    assert [(item["rule"], item["problem"]) for item in found["findings"]] == [
        ("value_head", "corrupt")
    ]
    assert found["findings"][0]["remedy"] == f"check and record it: wmtp value-head {folder}"
    done = wmtp("value-head", folder)
    assert done.returncode == 0, done.stderr
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert done.stdout == f"{path}: recorded with SHA-256 {sha256}\n"
    assert wmtp("verify", key).returncode == 0

    now = store.manifest(artifact)
    assert now.document["value_head"] == {
        "path": VALUE_HEAD,
        "sha256": sha256,
        "stage1_checkpoint_id": None,
    }
    assert (now.files, now.content_sha256) == (manifest.files, manifest.content_sha256)
    assert now.document["created_at"] == manifest.document["created_at"]
    after = tree(store.folder(artifact))
    del before["metadata.json"], after["metadata.json"]
    assert after == before

    damage(path, flip(-1))
    assert wmtp("verify", key).returncode == 1
    path.unlink()
    assert wmtp("verify", key).returncode == 2


def test_value_head_and_where_it_came_from(wmtp: Wmtp, store: Store) -> None:
    """The run that trained it is written down with it, and replaced when it is recorded again."""
    key = "micro_mtp"
    put_value_head(store, key, 512, 1)
    done = wmtp("value-head", key, "--stage1-checkpoint-id", "run-7/step-100", "--json")
    assert done.returncode == 0
    recorded = json.loads(done.stdout)
    assert (recorded.pop("root"), recorded.pop("source")) == (str(store.root), "sample")
    assert recorded["stage1_checkpoint_id"] == "run-7/step-100"
    assert store.manifest(store.catalogue[key]).document["value_head"] == recorded
    assert wmtp("value-head", key).returncode == 0
    again = store.manifest(store.catalogue[key]).document["value_head"]
    assert again == {**recorded, "stage1_checkpoint_id": None}


def test_value_head_is_forgotten_on_request_only(wmtp: Wmtp, store: Store) -> None:
    """One that is gone is a finding, also after the model was made again: training would silently
    initialise a new one. Whoever means that says so."""
    key = "micro_mtp"
    artifact = store.catalogue[key]
    path = put_value_head(store, key, 512, 1)
    assert wmtp("value-head", key).returncode == 0
    path.unlink()
    materialize(store, artifact)
    assert wmtp("verify", key).returncode == 2
    done = wmtp("value-head", key, "--forget")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(path) in done.stdout
    assert store.manifest(artifact).document["value_head"] == NO_VALUE_HEAD
    assert wmtp("verify", key).returncode == 0


def test_value_head_is_recorded_on_request_only(wmtp: Wmtp, store: Store) -> None:
    """Making the model again does not make a file that nobody checked a recorded one."""
    artifact = store.catalogue["micro_mtp"]
    put_value_head(store, "micro_mtp", 1, 512)
    materialize(store, artifact)
    assert store.manifest(artifact).document["value_head"] == NO_VALUE_HEAD
    assert wmtp("verify", "micro_mtp").returncode == 1


def test_value_head_recorded_during_a_run_is_kept(store: Store) -> None:
    """A conversion takes minutes; what was recorded then must not be undone by its commit."""
    artifact = store.catalogue["micro_mtp"]
    put_value_head(store, "micro_mtp", 512, 1)
    commit = store.commit

    def commit_later(*arguments: Any) -> Any:
        record_value_head(store, artifact, 512, "run-7")
        return commit(*arguments)

    store.commit = commit_later
    materialize(store, artifact, run=directly)
    recorded = store.manifest(artifact).document["value_head"]
    assert (recorded["path"], recorded["stage1_checkpoint_id"]) == (VALUE_HEAD, "run-7")


def test_recorded_value_head_survives_a_new_checkpoint(wmtp: Wmtp, store: Store) -> None:
    """The remedy of every finding about a model is to make it again: that must neither lose what
    was trained, nor make a damaged value head a recorded one."""
    key = "micro_mtp"
    artifact = store.catalogue[key]
    path = put_value_head(store, key, 512, 1)
    assert wmtp("value-head", key, "--stage1-checkpoint-id", "run-7").returncode == 0
    before, manifest = tree(path.parent), store.manifest_path(artifact).read_bytes()
    materialize(store, artifact)
    assert tree(path.parent)["value_head.safetensors"] == before["value_head.safetensors"]
    assert store.manifest_path(artifact).read_bytes() == manifest
    assert wmtp("verify", key).returncode == 0
    damage(path, flip(-1))
    materialize(store, artifact)
    assert store.manifest_path(artifact).read_bytes() == manifest
    assert wmtp("verify", key).returncode == 1


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (1, 512),
            "value_head.weight is float32 [1, 512], a value head is floating point [512, 1]",
        ),
        (
            (640, 1),
            "value_head.weight is float32 [640, 1], a value head is floating point [512, 1]",
        ),
        (None, "no safetensors file"),
        ((), "put the trained value head there first"),
    ],
    ids=["turned", "of another model", "another file", "absent"],
)
def test_wrong_value_head_is_refused(
    wmtp: Wmtp, store: Store, shape: tuple[int, ...] | None, message: str
) -> None:
    """1, one sentence that names the file, and metadata.json says what it said before."""
    artifact = store.catalogue["micro_mtp"]
    path = store.path(artifact, VALUE_HEAD)
    if shape is None:
        path.write_bytes(b"torch.save(...)")
    elif shape:
        put_value_head(store, "micro_mtp", *shape)
    before = store.manifest_path(artifact).read_bytes()
    done = wmtp("value-head", "micro-mtp")
    assert done.returncode == 1
    assert message in done.stderr
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert store.manifest_path(artifact).read_bytes() == before


def test_value_head_of_what_is_not_there(wmtp: Wmtp, store: Store, tmp_path: Path) -> None:
    """1, as for every command about a damaged or absent artifact, with what makes it."""
    done = run_wmtp(tmp_path / "empty", "value-head", "micro_mtp")
    assert done.returncode == 1
    assert "dagster asset materialize --select 'micro_mtp'" in done.stderr
    assert not (tmp_path / "empty").exists()
    put_value_head(store, "micro_mtp", 512, 1)
    damage(store.manifest_path(store.catalogue["micro_mtp"]), flip(20))
    done = wmtp("value-head", "micro_mtp")
    assert done.returncode == 1
    assert "metadata.json" in done.stderr


def test_value_head_needs_the_base_package_only(wmtp: Wmtp, store: Store, tmp_path: Path) -> None:
    """It is called where training runs."""
    put_value_head(store, "micro_mtp", 512, 1)
    done = wmtp("value-head", "micro_mtp", **light_environment(tmp_path / "light"))
    assert done.returncode == 0, done.stderr


def test_help_and_version(wmtp: Wmtp) -> None:
    """Asking for help is not an error; the exit codes stand there."""
    assert wmtp("--version").stdout.startswith("wmtp, version ")
    done = wmtp("verify", "-h")
    assert done.returncode == 0
    assert "1 corrupt" in done.stdout


def test_base_package_verifies(wmtp: Wmtp, tmp_path: Path) -> None:
    """On a training machine without Dagster, torch or sentencepiece every file is still verified;
    the rules that count tokens or read columns are skipped, and say what to install.

    Tokens: 3 tokenizers, 8 checkpoints, the tokenizer.json of 7, 4 datasets. Columns: index of 4
    datasets, splits, texts and contamination of the 3 that train, problems of 2, evaluation rows
    and tests of 1, and pairs, small splits and statistics of 4."""
    done = wmtp("verify", **light_environment(tmp_path / "light") | {"COLUMNS": "200"})
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = [line for line in done.stdout.splitlines() if ": skipped" in line]
    needed = Counter(re.sub(".*pip install ", "", line) for line in skipped)
    assert needed == {"sentencepiece": 22, "'wmtp_assets[platform]'": 29}
    assert "micro_mtp sha256: ok" in done.stdout


def test_errors_fit_a_terminal(root: Path) -> None:
    """A long message is broken between words on a terminal, and is one line elsewhere."""
    script = [Path(sys.executable).with_name("wmtp"), "verify", "nope"]
    environment = {**os.environ, "WMTP_STORAGE_ROOT": str(root), "COLUMNS": "80"}
    piped = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    (line,) = piped.stderr.splitlines()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(script, env=environment, stderr=theirs)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # Linux says EIO at the end
        while data := os.read(ours, 1 << 16):
            said += data
    os.close(ours)
    assert process.wait() == piped.returncode == 64
    lines = said.decode().splitlines()
    assert " ".join(" ".join(lines).split()) == line
    assert max(map(len, lines)) <= 80
