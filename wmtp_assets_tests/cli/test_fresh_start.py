"""``wmtp init`` and ``wmtp clean`` as commands."""

from __future__ import annotations

import json
from pathlib import Path

from wmtp_assets.storage.store import Store
from wmtp_assets_tests.cli.conftest import Wmtp, run_wmtp
from wmtp_assets_tests.operations.test_gc import held_by_another_process
from wmtp_assets_tests.trees import tree


def test_init(tmp_path: Path) -> None:
    """What is made is said once; the JSON says what was there too."""
    root = tmp_path / "storage"
    announced = json.loads(run_wmtp(root, "init", "humaneval", "--dry-run", "--json").stdout)
    assert not root.exists()
    assert {"path": "datasets_v2/humaneval/raw", "is_new": True} in announced["folders"]
    done = run_wmtp(root, "init")
    assert done.returncode == 0, done.stderr
    assert "models_v2/meta-llama-mtp/raw/: made\n" in done.stdout
    assert "starling" not in done.stdout
    assert done.stdout.endswith(" folders made, 0 were there\n")
    again = run_wmtp(root, "init")
    assert again.stdout.startswith(f"{root}: 0 folders made, ")
    assert "starling-rm-7b/raw/: made" in run_wmtp(root, "init", "starling-rm-7b").stdout
    assert run_wmtp(root, "verify").returncode == 2  # nothing is stray, and nothing is there


def test_init_where_it_cannot(tmp_path: Path) -> None:
    """Wrong names and files in the way have codes of their own."""
    root = tmp_path / "storage"
    assert run_wmtp(root, "init", "nonsense").returncode == 64
    root.mkdir()
    (root / "configs").write_text("mine")
    done = run_wmtp(root, "init", "parameter_snapshot")
    assert done.returncode == 1
    assert "in the way of parameter_snapshot" in done.stderr
    for options in ((), ("--dry-run",)):  # nothing was changed, as it says: not what comes before
        done = run_wmtp(root, "init", *options)
        assert (done.returncode, [path.name for path in root.iterdir()]) == (1, ["configs"])


def test_nothing_goes_without_yes(wmtp: Wmtp, store: Store) -> None:
    """A script that forgets it learns so; a dry run wins over it."""
    before = tree(store.root)
    refused = wmtp("clean")
    assert refused.returncode == 64
    assert "nothing was removed: see wmtp clean --dry-run, then give --yes" in refused.stderr
    listed = wmtp("clean", "--dry-run", "--yes")
    assert listed.returncode == 0
    assert ": to be removed\n" in listed.stdout
    assert tree(store.root) == before


def test_clean(wmtp: Wmtp, store: Store) -> None:
    """The list of a dry run, carried out."""
    announced = json.loads(wmtp("clean", "humaneval", "--dry-run", "--json").stdout)
    assert announced["dry_run"]
    done = json.loads(wmtp("clean", "humaneval", "--yes", "--json").stdout)
    assert done["items"] == announced["items"]
    assert {item["name"] for item in done["items"]} >= {"humaneval_raw", "humaneval_croissant"}
    assert not (store.root / "datasets_v2/humaneval").exists()


def test_clean_beside_a_run(wmtp: Wmtp, store: Store) -> None:
    """Not everything went: exit code 1, and who holds it."""
    with held_by_another_process(store, "humaneval_stats"):
        done = wmtp("clean", "humaneval_stats", "--yes")
    assert done.returncode == 1
    assert "kept: humaneval_stats is held by process" in done.stdout
