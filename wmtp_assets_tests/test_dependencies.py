"""Everything that is imported is declared, and where only the base package is installed, nothing
else is needed."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "wmtp_assets"

PLATFORM = (
    "checkpoints/",
    "components/",
    "datasets/",
    "definitions.py",
    "documents/pictures.py",
    "operations/derive.py",
    "operations/load_dataset.py",
    "sample/",
)
"""Where libraries of the extra ``platform`` may be imported."""

AT_THE_TOP = ("components/", "definitions.py")
"""Where they may be imported at the top of a module: Dagster loads these first."""

STORES = {
    "s3": {
        "destinations/s3.py",
        "destinations/s3_client.py",
        "destinations/s3_session.py",
        "destinations/vessl.py",
    },
    "gs": {"destinations/gs.py", "destinations/gs_client.py", "transfer/sessions.py"},
    "az": {"destinations/az.py", "destinations/az_client.py", "transfer/sessions.py"},
}
"""Extra → where its libraries may be imported, inside functions."""

LATE = {"destinations/s3_session.py", "transfer/sessions.py"}
"""Modules that inherit from a library's classes, and so import it at their top: they are imported
inside functions themselves."""

SIGNING = ("storage/signatures.py",)
"""Where the library of the extra ``signing`` may be imported, inside functions."""

ELSEWHERE = {("destinations/vessl_helper.py", "vessl")}
"""Imported by another Python, which VESSL's library was installed for."""

ENGINES = {
    "components/database.py": {"dagster_postgres", "sqlalchemy"},
    "components/engines/k8s.py": {"dagster_k8s", "kubernetes", "urllib3"},
    "components/engines/ray.py": {"dagster_ray", "ray"},
}
"""Libraries of the extras ``postgres``, ``k8s`` and ``ray``, and what comes with them: imported
inside functions of these modules, and not installed with the platform."""

ONE_PLACE = {
    "huggingface_hub": {"hub/client.py"},
    "model_signing": {"storage/signatures.py"},
    "httpx2": {"hub/client.py", "components/alerts.py", "transfer/answers.py"},
}
"""Libraries that one module stands for."""


@dataclass(frozen=True)
class Import:
    """An import of a library.

    Attributes:
        where: path below the package.
        is_top: whether it runs when the module is loaded.
    """

    where: str
    library: str
    is_top: bool


@cache
def imports() -> tuple[Import, ...]:
    """All imports of libraries in the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        top = set(_at_load(tree))
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for library in {name.partition(".")[0] for name in names}:
                if library not in (*sys.stdlib_module_names, "wmtp_assets"):
                    where = path.relative_to(PACKAGE).as_posix()
                    found.append(Import(where, library, node in top))
    return tuple(found)


def _at_load(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is loaded: all but functions and ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _at_load(node)


@cache
def pyproject() -> Mapping[str, Any]:
    """What ``pyproject.toml`` says."""
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


@cache
def installed() -> Mapping[str, list[str]]:
    """Library → the distributions that it may come from."""
    return packages_distributions()


@cache
def declared(extra: str = "") -> frozenset[str]:
    """The libraries that ``pyproject.toml`` declares as base dependencies, or in an extra."""
    project = pyproject()["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    names = {_normal(re.split(r"[\[<>=!~ ;]", item)[0]) for item in wanted}
    return frozenset(
        library
        for library, distributions in installed().items()
        if names & {_normal(item) for item in distributions}
    )


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def test_every_import_is_declared() -> None:
    """What comes along with another library today may not tomorrow."""
    extras = ("signing", "platform", *STORES)
    known = declared().union(*(declared(extra) for extra in extras))
    unknown = {
        (item.where, item.library)
        for item in imports()
        if item.library not in known
        and (item.where, item.library) not in ELSEWHERE
        and item.library not in ENGINES.get(item.where, ())
    }
    assert not unknown, f"imported and not declared in pyproject.toml: {sorted(unknown)}"


def test_base_modules_import_base_libraries() -> None:
    """``wmtp pull`` and ``wmtp verify`` run on nodes that have no Dagster and no torch."""
    wrong = []
    for item in imports():
        if item.library in declared() or (item.where, item.library) in ELSEWHERE:
            continue
        if item.library in ENGINES.get(item.where, ()):
            if item.is_top:
                wrong.append(item)
            continue
        if of := [extra for extra in STORES if item.library in declared(extra)]:
            is_late = not item.is_top or item.where in LATE
            is_allowed = is_late and any(item.where in STORES[extra] for extra in of)
        elif item.library in declared("signing"):
            is_allowed = item.where in SIGNING and not item.is_top
        else:
            is_allowed = item.where.startswith(AT_THE_TOP if item.is_top else PLATFORM)
        if not is_allowed:
            wrong.append(item)
    assert not wrong, f"libraries of an extra, imported in base modules: {wrong}"


def test_late_modules_are_imported_inside_functions() -> None:
    """Else their libraries would be needed wherever the module that imports them is."""
    late = {f"wmtp_assets.{where.removesuffix('.py').replace('/', '.')}" for where in LATE}
    asked: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        top = set(_at_load(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in late:
                asked.add(node.module)
                assert node not in top, path
    assert asked == late


@pytest.mark.parametrize("library", ONE_PLACE)
def test_one_module_stands_for_a_library(library: str) -> None:
    """A new version of it is one module's concern."""
    assert {item.where for item in imports() if item.library == library} == ONE_PLACE[library]


def test_imports_are_found() -> None:
    """Those inside functions and classes, and those for types too."""
    found = {(item.where, item.library): item.is_top for item in imports()}
    assert found["components/artifacts.py", "dagster"] is True
    assert found["checkpoints/families.py", "torch"] is False
    assert found["base/progress.py", "rich"] is False
    assert {"yaml", "pydantic", "click"} <= declared()
    assert "torch" not in declared()


def test_uv_takes_the_versions_that_pip_takes() -> None:
    """``uv sync`` reads no constraints.txt: both lists are the versions that are tested."""
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pyproject()["tool"]["uv"]["constraint-dependencies"] == pins


def test_uv_installs_what_make_installs() -> None:
    """``uv sync`` installs the default groups; pip, and whoever depends on the package, none."""
    groups = pyproject()["tool"]["uv"]["default-groups"]
    wanted = [item for group in groups for item in pyproject()["dependency-groups"][group]]
    assert wanted == ["wmtp_assets[platform,dev]"]
    assert "-c constraints.txt -e '.[platform,dev]'" in (PROJECT / "Makefile").read_text()


def test_no_lock_file_of_uv() -> None:
    """It would hold the addresses of one machine's package registries."""
    assert "/uv.lock" in (PROJECT / ".gitignore").read_text().splitlines()
