"""Loading the definitions, the command and the package: complete and cheap."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

import wmtp_assets
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec
from wmtp_assets.components import types
from wmtp_assets.components.artifacts import asset_of
from wmtp_assets.components.published import PUBLISHED
from wmtp_assets.definitions import declared_defs, defs
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.trees import remove_optional

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


def test_components_make_the_artifacts_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that Dagster made from specs of its own lacked what ``wmtp verify`` found in those of
    the catalogue, with the same ``defs.yaml`` under both."""
    made: list[Artifact] = []

    def collect(artifact: Artifact) -> dg.AssetsDefinition:
        made.append(artifact)
        return asset_of(artifact)

    monkeypatch.setattr(types, "asset_of", collect)
    declared_defs.cache_clear()
    defs()
    there = load_catalogue()
    assert {artifact.key: artifact for artifact in made} == {item.key: item for item in there}
    assert len(made) == len(list(there))


def test_definitions_are_built_once_until_something_changes(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster asks six times in one run, a third of a second each; a definition that was kept
    although a setting or what is there changed would make the wrong thing."""
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(store.root))
    first = defs()
    assert defs() is first
    remove_optional(store)
    without = defs()
    assert without is not first
    monkeypatch.setenv("WMTP_AUTOMATION", "1")
    automatic = defs()
    assert automatic is not without
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(tmp_path))
    resources = defs().resources
    assert resources is not None
    storage = resources["storage"].resource_fn(dg.build_init_resource_context())
    assert storage.root == str(tmp_path)


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
    """A typo in a defs.yaml must not be a field that is quietly ignored.

    ``dg`` compares only one file of each component type with its schema, and then names the line
    too. In the others the typo is found when the definitions are loaded.
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


LOADED = """
import sys
{first}
print("\\n", [name for name in {names} if name in sys.modules], {more})
"""


def loaded_by(first: str, more: str = "''") -> str:
    """Which heavy modules a new interpreter has when it did ``first``; and what ``more`` is."""
    script = LOADED.format(
        first=first, names=["dagster", "jinja2", "markupsafe", *HEAVY], more=more
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].strip()


@pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"], ["status"]], ids=" ".join)
def test_wmtp_loads_without_dagster_and_heavy_libraries(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command runs on training machines that have the base package only, and answers fast; what
    makes documents is loaded to make one."""
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(tmp_path))
    command = f"from wmtp_assets.cli.main import cli; cli({arguments}, standalone_mode=False)"
    assert loaded_by(command) == "[]"


def test_package_imports_nothing_heavy() -> None:
    """Training code and notebooks import it for one function; each pays for what it calls only."""
    names = ["JsonLines", "features", "load_dataset", "load_state_dict", "open_jsonl"]
    names += ["usable_for", "verified"]
    assert loaded_by("import wmtp_assets", "sorted(wmtp_assets.__all__)") == f"[] {names}"
    assert all(hasattr(wmtp_assets, name) for name in names)
