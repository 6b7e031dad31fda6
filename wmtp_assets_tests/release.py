"""``make release-check``: what a release would hand out, built, looked at, installed and used.

The wheel is built from the source distribution, installed with the base dependencies into a fresh
environment, and does there what a training node needs: ``wmtp --help`` and ``wmtp verify``. For
the Pythons that are not here, pip resolves it with all extras, and installs nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from collections.abc import Collection
from pathlib import Path

from wmtp_assets_tests.pages import PROJECT

PACKAGE = "wmtp_assets"
OTHER_PYTHONS = ("3.12", "3.13")

SOURCE_ONLY = ("jsonpath-rw",)
"""Pure Python packages that are published without a wheel; mlcroissant needs it, of the extra dev.
They are built first: pip resolves for another Python from wheels alone."""

MADE = ("build", "storage", f"{PACKAGE}.egg-info")
"""What is in the clone besides its source and hidden folders: made by commands."""

VERIFIED = "humaneval_small"
"""An artifact of the sample whose rules need nothing but the base package."""


def build(folder: Path) -> Path:
    """Build both distributions into a folder, without fetching a build backend; the wheel.

    The wheel is made from the unpacked source distribution, so that nothing is in it by accident
    of what lies in the clone, such as an old ``build/``. The source distribution is made in a copy
    of the clone: setuptools puts its files into a folder beside them, and two builds at the same
    time take each other's folder away.
    """

    def ignored(of: str, names: list[str]) -> set[str]:
        is_top = Path(of) == PROJECT
        made = {name for name in names if is_top and (name in MADE or name.startswith("."))}
        return made | {"__pycache__"}

    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary, PACKAGE)
        shutil.copytree(PROJECT, copy, ignore=ignored)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, copy]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def packed(wheel: Path) -> set[str]:
    """The files of a wheel besides those that describe it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def wanted() -> set[str]:
    """The files of the package in the clone, code and data."""
    paths = (PROJECT / PACKAGE).rglob("*")
    files = {path.relative_to(PROJECT) for path in paths if path.is_file()}
    return {file.as_posix() for file in files if "__pycache__" not in file.parts}


def _outside() -> dict[str, str]:
    """The variables of a process that does not know of the clone."""
    hidden = ("PYTHONPATH", "WMTP_SOURCE")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def install(wheel: Path, folder: Path, *, is_offline: bool = False) -> Path:
    """Install the wheel into a fresh environment; its folder of programs.

    Args:
        is_offline: take the dependencies from this environment, and the package from the wheel.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    programs = folder / "bin"
    how = ["--no-deps"] if is_offline else ["-c", PROJECT / "constraints.txt"]
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet"]
    subprocess.run([*pip, *how, wheel], check=True, env=_outside())
    if is_offline:
        # A line of a path file adds a folder, and no path file in it: the clone stays away.
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return programs


def use(programs: Path, root: Path) -> str:
    """Where the package of an environment lies; ``wmtp`` starts, and verifies a sample.

    Args:
        root: a storage root of the sample.

    Raises:
        subprocess.CalledProcessError: with what was said, if a command fails.
    """
    environment = _outside() | {"WMTP_STORAGE_ROOT": str(root)}

    def run(*command: str | Path) -> str:
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, cwd=programs
        ).stdout

    run(programs / "wmtp", "--help")
    run(programs / "wmtp", "verify", VERIFIED)
    where = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    return run(programs / "python", "-c", where).strip()


def resolve(wheel: Path, python: str, extras: Collection[str]) -> list[str]:
    """What pip would install for another Python, the wheel with all its extras: ``name version``.

    Raises:
        subprocess.CalledProcessError: if there is no set of wheels for it.
    """
    constraints = ["--quiet", "-c", PROJECT / "constraints.txt"]
    pip = [sys.executable, "-m", "pip"]
    with tempfile.TemporaryDirectory() as folder:
        built, report = Path(folder, "built"), Path(folder, "report.json")
        command = [*pip, "wheel", *constraints, "--no-deps", "-w", built, *SOURCE_ONLY]
        subprocess.run(command, check=True, env=_outside())
        command = [*pip, "install", *constraints, "--dry-run", "--ignore-installed"]
        command += ["--python-version", python, "--only-binary=:all:", "--find-links", built]
        # pip asks for a target where it resolves for another Python, and writes nothing there.
        command += ["--target", folder, "--report", report, f"{wheel}[{','.join(extras)}]"]
        subprocess.run(command, check=True, env=_outside())
        found = json.loads(report.read_text())["install"]
    return sorted(f"{it['metadata']['name']} {it['metadata']['version']}" for it in found)


def main() -> None:
    """Check a release, as docs/releasing.md says."""
    root = PROJECT / "storage/sample"
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    extras = sorted(pyproject["project"]["optional-dependencies"])
    with tempfile.TemporaryDirectory() as temporary:
        wheel = build(Path(temporary, "dist"))
        files = packed(wheel)
        if files != wanted():
            raise SystemExit(f"not as the clone: {sorted(files ^ wanted())}")
        print(f"{wheel.name}: {len(files)} files, {wheel.stat().st_size:,} bytes")
        programs = install(wheel, Path(temporary, "environment"))
        print(f"wmtp --help, wmtp verify {VERIFIED}: right, from {use(programs, root)}")
        for python in OTHER_PYTHONS:
            found = resolve(wheel, python, extras)
            (torch,) = (package for package in found if package.startswith("torch "))
            print(f"Python {python}: pip resolves {len(found)} packages, with {torch}; not run")


if __name__ == "__main__":
    main()
