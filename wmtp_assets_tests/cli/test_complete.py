"""Completion as a shell asks for it: through the environment, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wmtp_assets.catalogue.artifact import Catalogue
from wmtp_assets.kinds.registry import load_catalogue

KEYS = [artifact.key for artifact in load_catalogue()]
FOLDERS = {artifact.unit.split("/")[-1] for artifact in load_catalogue()}
WMTP = Path(sys.executable).with_name("wmtp")


def ask(shell: str, *words: str) -> list[str]:
    """What ``wmtp`` answers a shell for the last of ``words``."""
    done = subprocess.run(
        [WMTP],
        env={
            **os.environ,
            "_WMTP_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": " ".join(words) if shell != "fish" else " ".join(words[:-1]),
            "COMP_CWORD": str(len(words) - 1) if shell != "fish" else words[-1],
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_commands() -> None:
    """The first TAB: every command."""
    assert ask("bash", "wmtp", "do") == ["plain,doctor"]
    assert {"plain,show", "plain,verify"} <= {*ask("bash", "wmtp", "")}


@pytest.mark.parametrize(
    "command", ["show", "status", "verify", "plan", "repair", "value-head", "publish", "pull"]
)
def test_names(command: str) -> None:
    """Keys and folders, wherever a command takes them."""
    assert ask("bash", "wmtp", command, "micro") == [
        "plain,micro_mtp",
        "plain,micro_mtp_card",
        "plain,micro_mtp_untied",
        "plain,micro_mtp_untied_card",
        "plain,micro_ref",
        "plain,micro_ref_card",
        "plain,micro_ref_untied",
        "plain,micro_ref_untied_card",
        "plain,micro-mtp",
        "plain,micro-mtp-untied",
        "plain,micro-ref",
        "plain,micro-ref-untied",
    ]


def test_every_name_is_offered() -> None:
    """And every one that is offered is known."""
    offered = [line.removeprefix("plain,") for line in ask("bash", "wmtp", "show", "")]
    assert len(offered) == len(set(offered))
    assert {*offered} == {*KEYS} | FOLDERS
    for name in offered:
        assert load_catalogue().select(name)


def test_names_on_the_line_are_not_offered_again() -> None:
    """``wmtp verify micro_mtp micro<TAB>`` means another one."""
    found = ask("bash", "wmtp", "verify", "micro_ref", "micro_ref")
    assert found == [f"plain,micro_ref_{name}" for name in ("card", "untied", "untied_card")]


def test_option_that_takes_a_name() -> None:
    """``wmtp adopt --as`` too."""
    assert "plain,humaneval_raw" in ask("bash", "wmtp", "adopt", "--as", "humaneval_r")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str) -> None:
    """The same names in the form of that shell."""
    assert any("micro_ref" in line for line in ask(shell, "wmtp", "show", "micro_r"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_that_the_docs_tell_to_load(shell: str) -> None:
    """docs/getting-started.md has this line; the script it loads defines a completion."""
    if shell == "bash" and sys.platform == "darwin":
        pytest.skip("macOS ships a bash without what click needs")
    done = subprocess.run(
        [WMTP],
        env={**os.environ, "_WMTP_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_WMTP_COMPLETE" in done.stdout
    page = Path(__file__).parents[2] / "docs/getting-started.md"
    assert f"_WMTP_COMPLETE={shell}_source wmtp" in page.read_text()


def test_real_bash_completes() -> None:
    """The whole way: the script is loaded, and its function fills COMPREPLY."""
    script = (
        'eval "$(_WMTP_COMPLETE=bash_source wmtp)"\n'
        "COMP_WORDS=(wmtp show mbpp_s) COMP_CWORD=2\n"
        '_wmtp_completion wmtp\necho "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{WMTP.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["mbpp_small", "mbpp_stats"], done.stderr


def test_it_is_fast() -> None:
    """A TAB that takes seconds is pressed again; nothing heavy may be imported for it."""
    started = time.monotonic()
    ask("bash", "wmtp", "show", "micro")
    assert time.monotonic() - started < 3
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from wmtp_assets.cli.common import complete_names\n"
        "from wmtp_assets.cli.main import cli\n"
        "from wmtp_assets.kinds.registry import load_catalogue\n"
        "load_catalogue()\n"
        "heavy = ('torch', 'dagster', 'pyarrow', 'sentencepiece', 'numpy', 'huggingface_hub')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_malformed_spec_completes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback in the middle of a command line helps nobody."""
    import click

    from wmtp_assets.base.errors import SpecError
    from wmtp_assets.cli import common
    from wmtp_assets.cli.show import show

    def broken() -> Catalogue:
        raise SpecError("defs.yaml: broken")

    monkeypatch.setattr(common, "load_catalogue", broken)
    assert common.complete_names(click.Context(show), show.params[0], "") == []
