"""Settings: what the environment decides."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from wmtp_assets.base import settings
from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import (
    VARIABLES,
    Settings,
    project_folder,
    read_conversion_steps,
    read_rate,
    read_settings,
    read_verify_at_once,
    read_workers,
)
from wmtp_assets.operations.describe_settings import describe_settings


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
    package = tmp_path / "site-packages/wmtp_assets/base/settings.py"
    monkeypatch.setattr(settings, "__file__", str(package))
    monkeypatch.chdir(tmp_path)
    assert read_settings({}).root == tmp_path / "storage/sample"
    package.parent.mkdir(parents=True)
    (tmp_path / "site-packages/workspace.yaml").touch()
    assert read_settings({}).root == tmp_path / "site-packages/storage/sample"


# -- processes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("2", 2), ("08", 8), ("256", 256)])
def test_workers(text: str, count: int) -> None:
    """On a shared machine people say how much of it one conversion may take."""
    assert read_workers({"WMTP_WORKERS": text}) == count


@pytest.mark.parametrize(
    "text", ["0", "257", "-1", "+2", "2.0", "1e2", " 2", "2\n", "all", "٢", "²", "9" * 30]
)
def test_workers_that_are_none(text: str) -> None:
    """No conversion starts with a number that somebody did not mean, be it none or thousands."""
    with pytest.raises(SpecError) as error:
        read_workers({"WMTP_WORKERS": text})
    assert str(error.value) == f"WMTP_WORKERS={text!r} is not a number of processes, 1 to 256"


@pytest.mark.parametrize("environment", [{}, {"WMTP_WORKERS": ""}])
def test_workers_by_default(environment: dict[str, str]) -> None:
    """One for each CPU, and none for those that a container was not given."""
    count = read_workers(environment)
    assert 1 <= count <= 256
    if sys.platform == "linux":
        assert count == min(len(os.sched_getaffinity(0)), 256)


def test_workers_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands pass nothing."""
    monkeypatch.setenv("WMTP_WORKERS", "7")
    assert read_workers() == 7


@pytest.mark.parametrize(
    ("read", "name", "good", "bad"),
    [
        (read_conversion_steps, "WMTP_CONVERSION_STEPS", (0, 1, 64), ("65", "-1", "many", "1.0")),
        (read_verify_at_once, "WMTP_VERIFY_AT_ONCE", (1, 256), ("0", "257", " 1")),
        (read_rate, "WMTP_READ_RATE", (10**6, 10**12), ("999999", "1e9", "100 MB", "9" * 13)),
    ],
)
def test_other_numbers(
    read: Callable[[Mapping[str, str]], int | None],
    name: str,
    good: tuple[int, ...],
    bad: tuple[str, ...],
) -> None:
    """What nobody meant is one error, which names the variable, what it is, and its bounds."""
    assert read({}) == read({name: ""}) == (0 if read is read_conversion_steps else None)
    for number in good:
        assert read({name: str(number)}) == number
    for text in bad:
        with pytest.raises(SpecError, match=re.escape(f"{name}={text!r} is not a number of ")):
            read({name: text})


def test_workers_keep_to_the_cpus_they_are_given() -> None:
    """``taskset`` and the containers of a cluster take CPUs away; more processes only cost."""
    if sys.platform != "linux":
        pytest.skip("only Linux binds a process to CPUs")
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert read_workers({}) == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_page_lists_the_variables_there_are() -> None:
    """Or people set what nobody reads."""
    page = Path(__file__).parents[2] / "docs/settings.md"
    assert page.read_text() == describe_settings()


def test_every_variable_is_declared_once() -> None:
    """A variable that some module reads by its name would be missing on the page."""
    package = project_folder() / "wmtp_assets"
    literal = re.compile(r'"(WMTP_[A-Z0-9_]+)"')
    found = {
        (path.relative_to(package).as_posix(), name)
        for path in package.rglob("*.py")
        for name in literal.findall(path.read_text())
    }
    assert found == {("base/settings.py", str(name)) for name in VARIABLES}


def test_only_the_settings_read_the_environment() -> None:
    """Others hand it on whole, to a child process or as a function's default."""
    package = project_folder() / "wmtp_assets"
    reading = re.compile(r"os\.(environ\[|environ\.get|getenv)")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if reading.search(path.read_text())
    }
    assert found == {"destinations/vessl_helper.py"}  # runs without this package
