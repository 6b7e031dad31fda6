"""A new destination is one module: docs/adding-a-destination.md, in a copy of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from wmtp_assets.destinations.destination import schemes
from wmtp_assets.destinations.listing import MANIFEST
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.trees import files_below
from wmtp_assets_tests.pages import PROJECT, blocks_of

PAGE = PROJECT / "docs/adding-a-destination.md"


def test_destination_is_added_by_one_module(tree_store: Store, node: Store, tmp_path: Path) -> None:
    """It is published to, pulled from and named in help and errors, and no other file changed."""
    copy, scratch = tmp_path / "copy", tmp_path / "scratch"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "wmtp_assets", copy / "wmtp_assets", ignore=ignored)
    (scratch / "team/tree").mkdir(parents=True)

    def wmtp(*arguments: str, root: Path = tree_store.root) -> subprocess.CompletedProcess[str]:
        program = "from wmtp_assets.cli.main import main; main()"
        names = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "SCRATCH": str(scratch)}
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, **names, "WMTP_SOURCE": "sample", "WMTP_STORAGE_ROOT": str(root)},
            cwd=copy,
            capture_output=True,
            text=True,
        )

    url = "scratch://team/tree"
    before = wmtp("publish", "--to", url)
    assert before.returncode == 64
    assert "scratch:// is not a known destination" in before.stderr

    (block,) = (block for block in blocks_of(PAGE) if block.file)
    (copy / block.file).write_text(block.text)
    done = wmtp("publish", "--to", url)
    assert done.returncode == 0, done.stderr
    there = files_below(scratch / "team/tree")
    there.pop(MANIFEST)
    assert there == files_below(tree_store.root)
    pulled = wmtp("pull", "humaneval", "--from", url, root=node.root)
    assert pulled.returncode == 0, pulled.stderr
    assert files_below(node.root).items() <= there.items()
    assert "scratch://team/folder" in wmtp("publish", "--help").stdout.replace("\n", "")
    wrong = wmtp("publish", "--to", "scratch://team")
    assert wrong.returncode == 64
    assert "names no folder of a team; write scratch://team/folder" in wrong.stderr
    for path in (copy / "wmtp_assets").rglob("*.py"):
        name = path.relative_to(copy)
        assert str(name) == block.file or path.read_bytes() == (PROJECT / name).read_bytes()


def test_modules_that_are_none_are_no_schemes() -> None:
    """What lies beside them is not found for one."""
    assert [*schemes()] == ["az", "file", "gs", "hf", "s3", "vessl"]
