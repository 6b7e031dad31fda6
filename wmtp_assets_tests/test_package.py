"""What a program that depends on this package sees: types, a version, six functions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

import wmtp_assets
from wmtp_assets.base.settings import project_folder
from wmtp_assets.cli.main import cli

PYPROJECT = tomllib.loads((project_folder() / "pyproject.toml").read_text())

CLIENT = """\
from wmtp_assets import JsonLines, load_dataset, load_state_dict, open_jsonl, usable_for, verified

rows: JsonLines = open_jsonl("x.jsonl")
load_dataset(1, "train")
load_state_dict("x", nonsense=True)
usable: int = usable_for("x")
with verified("x") as folder:
    folder.nonsense()
"""
WRONG = {
    4: "reportArgumentType",
    5: "reportCallIssue",
    6: "reportAssignmentType",
    8: "reportAttributeAccessIssue",
}
"""Line → what a type checker that sees the types says about it."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the package, as it would be installed."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    shutil.copytree(Path(wmtp_assets.__file__).parent, packages / "wmtp_assets")
    return folder


def test_type_checker_sees_the_types(environment: Path, tmp_path: Path) -> None:
    """A client's mistakes are found before a training run is."""
    client = tmp_path / "client.py"
    client.write_text(CLIENT)
    pyright = Path(sys.executable).with_name("pyright")
    done = subprocess.run(
        [pyright, "--outputjson", "--pythonpath", environment / "bin/python", client],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    found = {
        item["range"]["start"]["line"] + 1: item["rule"]
        for item in json.loads(done.stdout)["generalDiagnostics"]
    }
    assert found == WRONG, done.stdout


def test_types_are_announced() -> None:
    """Without the marker, in the package and in what is installed, checkers ignore the types."""
    assert Path(wmtp_assets.__file__).with_name("py.typed").is_file()
    assert "py.typed" in PYPROJECT["tool"]["setuptools"]["package-data"]["wmtp_assets"]


def test_one_version() -> None:
    """A bug report names it; it is written down in one place."""
    assert "version" not in PYPROJECT["project"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "wmtp_assets.__version__"
    }
    assert version("wmtp_assets") == wmtp_assets.__version__
    said = CliRunner().invoke(cli, ["--version"], prog_name="wmtp").output
    assert said == f"wmtp, version {wmtp_assets.__version__}\n"


def test_seven_names() -> None:
    """What other code may rely on; the rest is the project's own."""
    assert wmtp_assets.__all__ == [
        "JsonLines",
        "features",
        "load_dataset",
        "load_state_dict",
        "open_jsonl",
        "usable_for",
        "verified",
    ]
    assert all(hasattr(wmtp_assets, name) for name in wmtp_assets.__all__)
