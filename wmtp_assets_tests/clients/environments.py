"""The environments of ``.venv-clients/``, which ``make test-clients`` makes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]


def names() -> list[str]:
    """Of every environment: one for each list of packages."""
    return sorted(path.stem for path in HERE.glob("*.txt"))


def pins(name: str) -> dict[str, str]:
    """Package → version, as the list says."""
    lines = HERE.joinpath(f"{name}.txt").read_text().splitlines()
    return {package: version for package, _, version in (line.partition("==") for line in lines)}


def environment(name: str) -> Path:
    """Its folder; the test is skipped where ``make test-clients`` did not make it."""
    folder = PROJECT / ".venv-clients" / name
    if not (folder / "installed").exists():
        pytest.skip(f"{folder} is not there: make test-clients")
    return folder


def run(name: str, *arguments: str | Path) -> str:
    """Run an environment's Python in the project folder; its output. A failure fails the test."""
    command = [environment(name) / "bin/python", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
