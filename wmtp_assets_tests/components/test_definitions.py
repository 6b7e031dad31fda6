"""Loading the definitions: complete, cheap, and on the right floor."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wmtp_assets
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec
from wmtp_assets.components.published import PUBLISHED
from wmtp_assets.kinds.registry import load_catalogue

PACKAGE = Path(wmtp_assets.__file__).parent
MODULE = ["-m", "wmtp_assets.definitions"]
HEAVY = [
    "jinja2",
    "torch",
    "datasets",
    "matplotlib",
    "pyarrow",
    "transformers",
    "sentencepiece",
    "safetensors",
    "numpy",
]

FLOOR = {
    "definitions": 6,
    "components": 4,
    "cli": 3,
    "checkpoints": 2,
    "data": 2,
    "health": 2,
    "hub": 2,
    "integrity": 2,
    "materialize": 2,
    "publish": 2,
    "reports": 2,
}
"""As docs/architecture.md has it; modules that are not named are on floor 1."""


def test_definitions_load_without_heavy_libraries() -> None:
    """Every CLI call and the code server load them; torch alone costs seconds and 300 MB."""
    script = (
        "import json, sys\n"
        "from wmtp_assets.definitions import defs\n"
        "repository = defs().get_repository_def()\n"
        "keys = [key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()]\n"
        f"print(json.dumps([keys, [name for name in {HEAVY} if name in sys.modules]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    keys, heavy = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    repositories = {
        f"upstream/{spec.repository.id}"
        for spec in load_catalogue().specs
        if isinstance(spec, ModelSpec | DatasetSpec)
    }
    artifacts = {artifact.key for artifact in load_catalogue()}
    assert sorted(keys) == sorted(artifacts | repositories | PUBLISHED.keys())


@pytest.mark.parametrize(
    ("family", "component"),
    [
        ("reports/parameter_snapshot", "ParameterSnapshot"),
        pytest.param("models/micro_mtp", None, marks=pytest.mark.long),
    ],
    ids=["the only one of its type", "one of several"],
)
def test_unknown_field_is_named_with_its_file(
    tmp_path: Path, family: str, component: str | None
) -> None:
    """A typing error in a defs.yaml must not be a field that is quietly ignored.

    ``dg`` compares only one file of each component type with its schema, and then names the line
    too. In the others the typing error is found when the definitions are loaded.
    """
    project = tmp_path / "project"
    shutil.copytree(PACKAGE, project / "wmtp_assets", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("pyproject.toml", "dagster.yaml"):
        shutil.copy(PACKAGE.parent / name, project / name)
    spec = project / f"wmtp_assets/defs/{family}/defs.yaml"
    spec.write_text(spec.read_text().replace("attributes:\n", "attributes:\n  colour: blue\n"))
    line = spec.read_text().splitlines().index("  colour: blue") + 1
    by_dg = f"{line}-wmtp_assets.components.{component}" if component else ""
    for command, place in (
        (["dg", "check", "defs"], f"{family}/defs.yaml:{by_dg}"),
        (["dagster", "asset", "list", *MODULE], f"{family}/defs.yaml:"),
    ):
        done = subprocess.run(
            [Path(sys.executable).with_name(command[0]), *command[1:]],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        output = "".join((done.stdout + done.stderr).split())
        assert f"{place}attributes.colour" in output


def test_wmtp_loads_without_dagster() -> None:
    """The command runs on training machines that have the base package only; what makes documents
    is loaded to make one."""
    script = (
        "import sys, wmtp_assets.cli.main\n"
        "print([m for m in sys.modules if 'dagster' in m or m in ('jinja2', 'markupsafe')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


LIGHT = """
import sys, wmtp_assets
heavy = [name for name in {heavy} if name in sys.modules]
print(heavy, sorted(wmtp_assets.__all__))
"""


def test_package_imports_nothing_heavy() -> None:
    """Training code and notebooks import it for one function; each pays for what it calls only."""
    script = LIGHT.format(heavy=["dagster", *HEAVY])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    names = ["JsonLines", "load_dataset", "load_state_dict", "open_jsonl", "usable_for"]
    assert done.stdout == f"[] {names}\n"
    assert all(hasattr(wmtp_assets, name) for name in names)


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _floor(module: str) -> int:
    parts = module.split(".")
    return FLOOR.get(parts[1], 1) if len(parts) > 1 else 1


@pytest.mark.parametrize("path", _modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_only_go_down(path: Path) -> None:
    """Pure functions stay usable from a notebook only as long as nothing pulls Dagster in."""
    module = "wmtp_assets." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
    if path.parent == PACKAGE and path.name == "__init__.py":
        return
    floor = _floor(module)
    imports = _imports(path)
    if floor < 4:
        assert not {name for name in imports if name.split(".")[0] == "dagster"}
    above = {name for name in imports if name.startswith("wmtp_assets.") and _floor(name) > floor}
    assert not above
