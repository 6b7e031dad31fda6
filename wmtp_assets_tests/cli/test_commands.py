"""What all commands have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wmtp_assets.cli.common import progress
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.cli.conftest import Wmtp

HELLO = '''\
import click


@click.command("hello-there")
def hello() -> None:
    """Greet."""
    click.echo("hello")
'''


def test_command_is_one_file(tmp_path: Path) -> None:
    """Nobody has to add it to a list."""
    (tmp_path / "hello.py").write_text(HELLO)
    script = (
        "import sys, wmtp_assets.cli\n"
        f"wmtp_assets.cli.__path__.append({str(tmp_path)!r})\n"
        "from wmtp_assets.cli.main import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "hello-there"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "hello\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "humaneval"),
        ("status", "--files", "humaneval"),
        ("show", "humaneval_raw"),
        ("plan", "humaneval_raw"),
        ("verify", "humaneval_raw"),
        ("repair", "humaneval_raw", "--dry-run"),
        ("gc", "--dry-run"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_every_document_begins_with_root_and_source(
    wmtp: Wmtp, store: Store, arguments: tuple[str, ...]
) -> None:
    """A script that reads several must see what they are about."""
    document = json.loads(wmtp(*arguments, "--json").stdout)
    assert list(document)[:2] == ["root", "source"]
    assert (document["root"], document["source"]) == (str(store.root), "sample")


def test_progress_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines go to standard error, where no script reads them, or nowhere."""
    with progress() as say:
        say("one line")
    with progress(in_logs=False) as say:
        say("another")
    assert capsys.readouterr() == ("", "one line\n")
