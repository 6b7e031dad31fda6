"""Settings: what the environment decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets import settings
from wmtp_assets.errors import SpecError
from wmtp_assets.settings import Settings, project_folder, read_settings


def test_defaults_are_the_offline_sample() -> None:
    """Whoever sets nothing gets what works offline in seconds."""
    assert read_settings({}) == Settings("sample", project_folder() / "storage/sample")


def test_hub_has_a_root_of_its_own() -> None:
    """``storage/`` is what the training code reads: the sample must never lie there."""
    assert read_settings({"WMTP_SOURCE": "hub"}) == Settings("hub", project_folder() / "storage")


@pytest.mark.parametrize("source", ["sample", "hub"])
def test_root_is_taken_as_it_is(source: str, tmp_path: Path) -> None:
    """Set, it is the root itself: nothing is appended for the source."""
    environment = {"WMTP_SOURCE": source, "WMTP_STORAGE_ROOT": str(tmp_path)}
    assert read_settings(environment) == Settings(source, tmp_path)  # type: ignore[arg-type]


def test_root_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands run from other working directories: a relative root would be several."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read_settings({"WMTP_STORAGE_ROOT": "here/it"}).root == project_folder() / "here/it"
    assert read_settings({"WMTP_STORAGE_ROOT": "~/it"}).root == tmp_path / "home/it"


def test_empty_variables_are_unset_ones() -> None:
    """``export WMTP_SOURCE=`` is how shells and compose files unset a variable."""
    assert read_settings({"WMTP_SOURCE": "", "WMTP_STORAGE_ROOT": ""}) == read_settings({})


@pytest.mark.parametrize("source", ["Hub", "huggingface", "hub ", "sample,hub"])
def test_unknown_source(source: str) -> None:
    """A misspelt source must not fall back to the sample: one would train on noise."""
    with pytest.raises(SpecError, match="is not a source; use 'sample'") as error:
        read_settings({"WMTP_SOURCE": source})
    assert str(error.value).startswith(f"WMTP_SOURCE={source!r} ")


def test_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The commands pass nothing."""
    monkeypatch.setenv("WMTP_SOURCE", "hub")
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(tmp_path))
    assert read_settings() == Settings("hub", tmp_path)


def test_installed_package_uses_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Artifacts must not land in site-packages; a checkout is known by its ``workspace.yaml``."""
    package = tmp_path / "site-packages/wmtp_assets/settings.py"
    monkeypatch.setattr(settings, "__file__", str(package))
    monkeypatch.chdir(tmp_path)
    assert read_settings({}).root == tmp_path / "storage/sample"
    package.parent.mkdir(parents=True)
    (tmp_path / "site-packages/workspace.yaml").touch()
    assert read_settings({}).root == tmp_path / "site-packages/storage/sample"
