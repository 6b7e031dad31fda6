"""Libraries that are not here, too old, or built for something else."""

from __future__ import annotations

import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from wmtp_assets.operations.doctor import machine
from wmtp_assets.operations.doctor.machine import Condition

PROJECT = Path(__file__).parents[3]


def test_floors_are_those_of_the_package() -> None:
    """Two lists of versions would soon be two opinions."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    needed = project["optional-dependencies"]["platform"]
    for name, floor in machine.FLOORS.items():
        (requirement,) = [item for item in needed if item.startswith(f"{name}>")]
        assert requirement.removeprefix(f"{name}>=").partition(",")[0] == floor
        ceiling = machine.CEILINGS.get(name)
        assert ceiling is None or requirement.endswith(f",<{ceiling}")
    assert project["requires-python"] == f">={'.'.join(map(str, machine.PYTHON))}"


def test_here_all_is_well() -> None:
    """Tests run where everything is installed."""
    found = list(machine.machine())
    assert [item.topic for item in found] == ["python", *machine.FLOORS]
    assert {item.state for item in found} == {"ok"}


def test_old_python_does_not_work() -> None:
    """Syntax errors somewhere in the middle would say less."""
    found = machine.python((3, 10))
    assert (found.state, found.remedy) == ("error", "make install PYTHON=python3.11")
    assert machine.python((3, 11)).state == machine.python((4, 0)).state == "ok"


@pytest.mark.parametrize("name", machine.FLOORS)
def test_missing_library_is_a_warning(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The base package is enough for verifying files; people must know what is skipped then."""
    monkeypatch.setattr(machine, "find_spec", lambda wanted: None)
    found = machine.library(name)
    assert (found.state, found.remedy) == ("warning", machine.PLATFORM)
    assert f"{name} is not installed; needed for " in found.says


def fake_torch(
    monkeypatch: pytest.MonkeyPatch, folder: Path, version: str, build: str
) -> Condition:
    (folder / "version.py").write_text(
        f"__version__ = '{version}'\ncuda: Optional[str] = {build}\n"
    )
    spec = ModuleSpec("torch", None, origin=str(folder / "__init__.py"))
    monkeypatch.setattr(machine, "find_spec", lambda wanted: spec)
    monkeypatch.setattr(machine, "version", lambda wanted: version)
    return machine.library("torch")


@pytest.mark.parametrize(
    ("version", "build", "says"),
    [
        ("2.13.0+cpu", "None", "torch 2.13.0+cpu, CPU build"),
        ("2.10.0", "'12.8'", "torch 2.10.0, CUDA 12.8 build"),
        ("2.13.0", "None\nhip: Optional[str] = '6.4'", "torch 2.13.0, HIP 6.4 build"),
    ],
)
def test_build_of_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, build: str, says: str
) -> None:
    """A CUDA wheel of gigabytes where nobody computes is worth knowing about."""
    found = fake_torch(monkeypatch, tmp_path, version, build)
    assert (found.state, found.says) == ("ok", says)


@pytest.mark.parametrize("version", ["2.9.1+cpu", "2.9.1", "1.13.1"])
def test_torch_below_the_floor_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    """Below it torch.load runs code of hostile files (CVE-2025-32434, CVE-2026-24747)."""
    found = fake_torch(monkeypatch, tmp_path, version, "None")
    assert found.state == "error"
    assert "older than 2.10" in found.says
    assert "not safe" in found.says
    assert found.remedy == machine.PLATFORM


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("5.19.1", "error"),
        ("5.20", "ok"),
        ("5.24.9", "ok"),
        ("5.25.0", "warning"),
        ("6.0", "warning"),
    ],
)
def test_range_of_transformers(monkeypatch: pytest.MonkeyPatch, version: str, state: str) -> None:
    """Parts of it are used that nobody promises: another version may prove otherwise."""
    monkeypatch.setattr(machine, "version", lambda wanted: version)
    found = machine.library("transformers")
    assert found.state == state
    assert f"transformers {version}" in found.says


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training node need not have it, and must know what is not done there."""
    monkeypatch.setattr(machine, "find_spec", lambda wanted: None)
    found = machine.library("transformers")
    assert found.state == "warning"
    assert "wmtp verify compares only what was recorded of a proof" in found.says
