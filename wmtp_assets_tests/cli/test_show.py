"""``wmtp show`` as people and scripts call it."""

from __future__ import annotations

import json
import re

from wmtp_assets.storage.store import Store
from wmtp_assets_tests.cli.conftest import Wmtp
from wmtp_assets_tests.cli.test_wmtp import PARTS
from wmtp_assets_tests.trees import remove_optional


def test_one_artifact(wmtp: Wmtp, store: Store) -> None:
    """Everything that somebody asks who finds the folder."""
    assert wmtp("verify", "gsm8k_processed").returncode == 0
    done = wmtp("show", "gsm8k_processed")
    assert done.returncode == 0, done.stderr
    lines = [re.sub(" +", " ", line).strip() for line in done.stdout.splitlines()]
    said = " ".join(lines)
    document = store.manifest(store.catalogue["gsm8k_processed"]).document
    assert lines[0] == "gsm8k_processed (processed, optional)"
    revision = document["source"]["revision"]
    for line in (
        f"folder: {store.root}/datasets_v2/gsm8k (processed, index, metadata.json)",
        "state: committed",
        "rows: 8,792",
        f"source: openai/gsm8k at {revision} by the sample hub, MIT, "
        "https://huggingface.co/datasets/openai/gsm8k",
        "split test: upstream_rows 1,319, samples 1,319, rows 1,319, problems 1,319, crlf_rows 0, "
        "dropped none",
        "upstream: gsm8k_raw (committed), meta_llama_mtp_tokenizer (committed)",
        "make: dagster asset materialize --select 'gsm8k_processed'",
        "verify: wmtp verify gsm8k_processed",
        "repair: wmtp repair gsm8k_processed",
    ):
        assert line in said
    (row,) = [line for line in lines if line.startswith("processed/test.jsonl ")]
    sha256 = document["manifest"]["files"]["processed/test.jsonl"]["sha256"]
    assert sha256[:12] in row
    assert sha256 not in row
    assert any(re.match(r"contamination \(warns\) (ok|warning) 20..-", line) for line in lines)


def test_warning_is_no_ok(wmtp: Wmtp) -> None:
    """The last result of a rule that warns is a warning, with what it found; the state stays."""
    assert wmtp("verify", "mbpp_processed").returncode == 0
    (shown,) = json.loads(wmtp("show", "mbpp_processed", "--json").stdout)["artifacts"]
    rules = {rule["rule"]: (rule["state"], rule["problem"]) for rule in shown["rules"]}
    assert rules["splits"] == ("ok", "")
    state, problem = rules["text_twins"]
    assert state == "warning"
    assert "expected a text that is not in train" in problem
    assert shown["status"]["state"] == "committed"


def test_json_has_what_is_cut_in_the_table(wmtp: Wmtp, store: Store) -> None:
    """Whole hashes, for scripts."""
    (row,) = json.loads(wmtp("show", "micro_mtp", "--json").stdout)["artifacts"]
    manifest = store.manifest(store.catalogue["micro_mtp"])
    assert {item["sha256"] for item in row["files"]} == {
        record.sha256 for record in manifest.files.values()
    }
    assert row["facts"]["tensors"] == 38


def test_folder_shows_each_artifact(wmtp: Wmtp) -> None:
    """People know folders, not keys."""
    rows = json.loads(wmtp("show", "codecontests", "--json").stdout)["artifacts"]
    assert [row["name"] for row in rows] == [f"codecontests_{part}" for part in PARTS]
    assert wmtp("show", "codecontests").stdout.count("  repair:") == len(PARTS)


def test_absent_optional_artifact(wmtp: Wmtp, store: Store) -> None:
    """What it would be, and the command that makes it with all that is missing upstream."""
    remove_optional(store)
    done = wmtp("show", "starling_rm_safetensors")
    assert done.returncode == 0
    assert "absent: optional, not materialized" in done.stdout
    assert "'starling_rm_raw,starling_rm_tokenizer,starling_rm_safetensors'" in done.stdout


def test_unknown_name(wmtp: Wmtp) -> None:
    """64, as for every command."""
    assert wmtp("show", "nonsense").returncode == 64
    assert wmtp("show").returncode == 64
