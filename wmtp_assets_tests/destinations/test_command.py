"""``wmtp publish`` and ``wmtp pull`` as people type them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wmtp_assets.base.errors import PublishError, SpecError
from wmtp_assets.base.settings import Settings
from wmtp_assets.cli.main import cli
from wmtp_assets.destinations.listing import MANIFEST, parse_listing
from wmtp_assets.operations.publish import named
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.trees import (
    CATALOGUE,
    DATASET,
    MODEL,
    ROWS,
    commit,
    files_below,
)
from wmtp_assets_tests.trees import damage, flip


@pytest.fixture
def root(tree_store: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment names the store."""
    monkeypatch.setenv("WMTP_SOURCE", "sample")
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(tree_store.root))
    return tree_store.root


def wmtp(*arguments: str) -> Result:
    """Run the command in this process; its errors pass."""
    return CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)


def test_plan_then_publication(tree_store: Store, root: Path, mounted: Path) -> None:
    """What --dry-run says is what happens, and --dry-run touches nothing."""
    to = ("--to", f"file://{mounted}")
    planned = wmtp("publish", *to, "--dry-run")
    assert f"  new {ROWS} (50.0 kB)\n" in planned.stdout
    assert "not materialized here, and so not sent: meta_llama_mtp_tokenizer, " in planned.stderr
    assert "6 new (3.1 MB), 0 same (0 B), 0 changed (0 B)\n" in planned.stdout
    assert "3.1 MB to send, time ? (nothing was sent there yet)\n" in planned.stdout
    assert [*mounted.iterdir()] == []
    done = wmtp("publish", *to)
    assert f"file://{mounted}: 2 artifacts published, 3.1 MB sent in " in done.stdout
    assert "publishing: 3.1 MB of 3.1 MB (100 %), " in done.stderr
    again = json.loads(wmtp("publish", *to, "--dry-run", "--json").stdout)
    assert again["bytes_to_send"] == 0
    assert again["states"]["same"]["files"] == 6
    assert again["seconds"] == 0

    commit(tree_store, DATASET, {"raw/data.parquet": b"new"})
    planned = wmtp("publish", *to, "--dry-run")
    assert f"  changed {ROWS} (3 B)\n" in planned.stdout
    assert "  extra datasets_v2/humaneval/raw/LICENSE (4 B)\n" in planned.stdout
    assert "1 files are no longer wanted, and left; --delete removes them" in planned.stdout
    assert ", time 0 s" in planned.stdout  # the rate of the last one is remembered
    assert "1 files deleted" in wmtp("publish", *to, "--delete").stdout


def test_it_was_all_there_only_if_nothing_was_sent(root: Path, mounted: Path) -> None:
    """A damaged file is sent again, and the manifest stays as it is."""
    to = ("--to", f"file://{mounted}")
    wmtp("publish", *to)
    assert "; it was all there\n" in wmtp("publish", *to).stdout
    damage(mounted / ROWS, flip(3))
    done = wmtp("publish", *to)
    assert "50.0 kB sent in " in done.stdout
    assert "it was all there" not in done.stdout


def test_overwrite(root: Path, mounted: Path) -> None:
    """What nobody published is replaced only when that is said."""
    (mounted / ROWS).parent.mkdir(parents=True)
    (mounted / ROWS).write_bytes(b"somebody's")
    with pytest.raises(PublishError, match="or replace what lies there with --overwrite"):
        wmtp("publish", "--to", f"file://{mounted}", "--dry-run")
    wmtp("publish", "--to", f"file://{mounted}", "--overwrite")
    assert (mounted / ROWS).read_bytes() == (root / ROWS).read_bytes()


def test_selection(root: Path, mounted: Path) -> None:
    """By key and by folder; of a folder, optional artifacts only where they are there."""
    wmtp("publish", MODEL, "--to", f"file://{mounted}")
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").artifacts.keys() == {MODEL}
    with pytest.raises(
        SpecError, match=r"neither an asset nor a folder\. All of them: wmtp status"
    ):
        wmtp("publish", "nobody", "--to", f"file://{mounted}")


def test_small_splits_of_a_folder_only_when_asked_for(
    tree_store: Store, root: Path, mounted: Path
) -> None:
    """``humaneval`` meant its small split too, which exists for tests on one machine."""
    commit(tree_store, "humaneval_small", {"train.jsonl": b""})
    commit(tree_store, "micro_mtp", {"safetensors/model.safetensors": b"x"})

    def keys(*arguments: str) -> set[str]:
        store = tree_store
        chosen = named(store, arguments, include_local_small="--include-local-small" in arguments)
        return {artifact.key for artifact in chosen}

    assert "humaneval_small" not in keys("humaneval")
    assert "humaneval_processed" in keys("humaneval")
    assert keys("humaneval_small") == {"humaneval_small"}
    assert keys("micro-mtp") == {"micro_mtp", "micro_mtp_card"}


def test_ctrl_c_says_what_is_waited_for_and_the_second_ends_at_once(
    root: Path, mounted: Path
) -> None:
    """Nothing was said, and a server that does not answer held the command for minutes."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "publish", "--to", f"file://{mounted}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = process.stdout
    assert said is not None
    line = next(line for line in said if line == "a part is on its way\n")
    process.send_signal(signal.SIGINT)
    line = next(line for line in said if line.startswith("stopping: "))
    assert "what was sent is kept: run again to resume. Ctrl-C again ends at once" in line
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert not (mounted / MANIFEST).exists()
    assert wmtp("publish", "--to", f"file://{mounted}").exit_code == 0


SLOW = """
import signal, sys, time
from wmtp_assets.destinations import file as folder
from wmtp_assets.cli.main import main
write = folder._write
def slow(*args):
    print("a part is on its way", flush=True)
    time.sleep(600)
folder._write = slow
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.mark.parametrize(
    ("key", "remedy"),
    [("micro_mtp", "wmtp publish --include-local-small"), (None, "make materialize")],
)
def test_nothing_to_publish(
    tmp_path: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, remedy: str
) -> None:
    """Where only a micro model is there, "nothing is materialized" is not true."""
    store = Store(Settings("sample", tmp_path / "empty"), CATALOGUE)
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(store.root))
    if key:
        commit(store, key, {"safetensors/model.safetensors": b"x"})
    with pytest.raises(PublishError, match=remedy):
        wmtp("publish", "--to", f"file://{mounted}")


def test_into_the_root_itself(root: Path) -> None:
    """It would be a tree in a tree."""
    for place in (root, root / "models_v2", root.parent):
        with pytest.raises(SpecError, match="lie in each other: publish to another folder"):
            wmtp("publish", "--to", f"file://{place}")
    assert MANIFEST not in files_below(root)


def test_pull(root: Path, mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line per artifact, or JSON."""
    published = files_below(root)
    wmtp("publish", "--to", f"file://{mounted}")
    monkeypatch.setitem(os.environ, "WMTP_STORAGE_ROOT", str(tmp_path / "node"))
    done = wmtp("pull", MODEL, "humaneval", "--from", f"file://{mounted}")
    checked = "every byte hashed; of no release; no signature was asked for"
    assert f"{MODEL}: 2 files, 3.0 MB, 3.0 MB fetched; {checked}\n" in done.stdout
    assert files_below(tmp_path / "node") == published
    document = json.loads(wmtp("pull", MODEL, "--from", f"file://{mounted}", "--json").stdout)
    assert document["artifacts"][0]["fetched"] == 0
