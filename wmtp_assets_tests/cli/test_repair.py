"""``wmtp repair`` and ``wmtp gc`` as people and scripts call them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.cli.conftest import Wmtp, run_wmtp
from wmtp_assets_tests.examples import EPOCH
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, flip, tree

RAW = "raw/openai_humaneval/test-00000-of-00001.parquet"
ROWS = "processed/test.jsonl"


def harm(store: Store, key: str, name: str) -> Path:
    path = store.path(store.catalogue[key], name)
    damage(path, flip(path.stat().st_size // 2))
    return path


def test_from_damage_to_good_again(wmtp: Wmtp, store: Store) -> None:
    """status shows it at once, verify names it and the command, the command repairs it."""
    assert wmtp("verify", "humaneval_processed").returncode == 0
    path = harm(store, "humaneval_processed", ROWS)
    file = f"datasets_v2/humaneval/{ROWS}"
    assert f"{ROWS} was written since" in wmtp("status", "humaneval_processed").stdout
    by_file = wmtp("status", "humaneval_processed", "--files").stdout.splitlines()
    told = by_file.index("      written since it was read")
    assert by_file[told - 1].split()[0] == ROWS
    found = wmtp("verify", "humaneval_processed")
    assert found.returncode == 1
    assert "remedy: wmtp repair humaneval_processed" in found.stdout
    bad = path.read_bytes()
    done = wmtp("repair", "humaneval_processed")
    assert done.returncode == 0, done.stderr
    first, where, kept = done.stdout.splitlines()[:3]
    assert first == "humaneval_processed: repaired"
    assert where.strip() == file
    folder = Path(kept.removeprefix("  what was there is kept in "))
    assert (folder / ROWS).read_bytes() == bad
    assert wmtp("verify", "humaneval_processed").returncode == 0
    assert "written since" not in wmtp("status", "humaneval_processed").stdout


def test_several_are_repaired_upstream_first(wmtp: Wmtp, store: Store) -> None:
    """A folder name means all in it; what is good is read and said to be good."""
    harm(store, "humaneval_processed", ROWS)
    harm(store, "humaneval_raw", RAW)
    alone = wmtp("repair", "humaneval_processed")
    assert alone.returncode == 1
    assert "nothing was touched" in alone.stdout
    assert "wmtp repair humaneval_raw" in alone.stdout
    done = wmtp("repair", "humaneval", "--json")
    assert done.returncode == 0
    states = {row["artifact"]: row["state"] for row in json.loads(done.stdout)["artifacts"]}
    assert states == {
        "humaneval_raw": "repaired",
        "humaneval_processed": "repaired",
        "humaneval_pairs": "nothing to repair",
        "humaneval_small": "nothing to repair",
        "humaneval_stats": "nothing to repair",
        "humaneval_card": "nothing to repair",
        "humaneval_croissant": "nothing to repair",
    }


def test_dry_run_names_the_files_and_touches_nothing(wmtp: Wmtp, store: Store, root: Path) -> None:
    """Exit code 1: there is something to repair."""
    harm(store, "humaneval_processed", ROWS)
    before = tree(root / "datasets_v2")
    done = wmtp("repair", "humaneval_processed", "--dry-run")
    assert done.returncode == 1
    assert f"  datasets_v2/humaneval/{ROWS}" in done.stdout.splitlines()
    assert tree(root / "datasets_v2") == before
    assert not (root / ".wmtp/quarantine").exists()


def test_repair_of_what_is_not_there(tmp_path: Path, wmtp: Wmtp) -> None:
    """1 with the command that makes it; a name is wanted; an unknown one is wrong usage."""
    done = run_wmtp(tmp_path, "repair", "humaneval_raw")
    assert done.returncode == 1
    assert "dagster asset materialize --select 'humaneval_raw'" in done.stdout
    assert "Traceback" not in done.stderr
    assert wmtp("repair").returncode == 64
    assert wmtp("repair", "nonsense").returncode == 64


@pytest.mark.long
def test_gc_says_what_it_would_do_and_does_it(
    wmtp: Wmtp, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generation before goes when the committed one was read whole and is right."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)  # the report tells days
    changed, key = respec(store, "humaneval", max_tokens=200), "humaneval_processed"
    materialize(changed, changed.catalogue[key])
    materialize(store, store.catalogue[key])
    kept = store.previous(store.catalogue[key])
    dry = wmtp("gc", "--dry-run")
    assert dry.returncode == 0
    assert f"previous {key}, " in dry.stdout
    assert "1 would be removed" in dry.stdout
    assert kept.is_dir()
    harm(store, key, ROWS)
    refused = json.loads(wmtp("gc", "--json").stdout)["garbage"]
    assert [(row["name"], row["kept"]) for row in refused] == [
        (key, f"the committed generation is damaged: wmtp repair {key}")
    ]
    assert kept.is_dir()
    assert wmtp("repair", key).returncode == 0
    assert "1 removed" in wmtp("gc").stdout
    assert not kept.exists()
    quarantine = store.internal / "quarantine"
    assert list(quarantine.iterdir()) != []
    assert f"quarantine {key}, " in wmtp("gc", "--quarantine").stdout
    assert list(quarantine.iterdir()) == []
    assert wmtp("verify").returncode == 0
