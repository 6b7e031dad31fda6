"""What a release hands out: the package alone works, and all of it is there."""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from wmtp_assets_tests.pages import PROJECT
from wmtp_assets_tests.release import OTHER_PYTHONS, build, install, packed, use, wanted


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source distribution."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.mark.long
def test_builds_at_the_same_time(tmp_path: Path) -> None:
    """A release is checked while the tests run, and they in several processes: a build that wrote
    into the clone took the files of another away."""
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(build, [tmp_path / "one", tmp_path / "other"])
    assert packed(one) == packed(other) == wanted()


@pytest.mark.long
def test_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    """A ``defs.yaml`` or template that is left out is missed by whoever installs it, and by no
    test that runs in the clone; tests and storage are not for them."""
    files = packed(wheel)
    assert files == wanted()
    assert {"wmtp_assets/py.typed", "wmtp_assets/documents/card.jinja"} < files
    assert {"wmtp_assets/defs/models/micro_mtp/defs.yaml"} < files


@pytest.mark.long
def test_wheel_works_without_the_clone(wheel: Path, root: Path, tmp_path: Path) -> None:
    """In a fresh environment that does not see the clone, ``wmtp`` starts and verifies a sample."""
    programs = install(wheel, tmp_path / "environment", is_offline=True)
    assert Path(use(programs, root)).is_relative_to(tmp_path / "environment")


def test_workflow_runs_what_a_clean_checkout_must_pass() -> None:
    """One script, on every Python and system that README names; no second list of commands."""
    (job,) = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == ["3.11", *OTHER_PYTHONS]
    assert {name.split("-")[0] for name in job["strategy"]["matrix"]["os"]} == {"ubuntu", "macos"}
    assert job["steps"][-1] == {"run": ".ci/run"}


def test_hooks_run_what_is_installed() -> None:
    """A hook of another version than CI's refuses what CI passes."""
    (repository,) = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert (PROJECT / shlex.split(hook["entry"])[0]).is_file(), hook["id"]
