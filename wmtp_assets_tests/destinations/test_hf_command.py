"""``wmtp publish`` and ``wmtp pull`` with a repository on the hub, and with every rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wmtp_assets.cli.main import cli
from wmtp_assets_tests.destinations.hub import Hub
from wmtp_assets_tests.destinations.trees import files_below


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> Result:
    """In this process: the hub's client is prepared here."""
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(folder))
    return CliRunner().invoke(cli, arguments)


def test_command(root: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, with every rule: a micro model with its card, published and pulled."""
    url = "hf://models/acme/{folder}"
    refused = run(monkeypatch, root, "publish", "micro-mtp", "--to", url)
    assert refused.exit_code == 1
    assert "--create" in str(refused.exception)
    done = run(
        monkeypatch, root, "publish", "micro-mtp", "--to", url, "--create", "--accept-licence"
    )
    assert done.exit_code == 0, done.output
    made = hub.repositories["model", "acme/micro-mtp"]
    assert made.main["README.md"].startswith(b"---\n")
    assert "safetensors/model.safetensors" in made.main
    assert len(made.commits) == 2
    pulled = run(
        monkeypatch, tmp_path / "node", "pull", "micro-mtp", "--from", "hf://models/acme/micro-mtp"
    )
    assert pulled.exit_code == 0, pulled.output
    below = "models_v2/micro-mtp"
    assert files_below(tmp_path / "node" / below) == files_below(root / below)
