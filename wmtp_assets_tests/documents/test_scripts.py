"""What replaces each script of the plan is typed here, in a copy of the project.

What is published is typed in ``destinations/test_vessl.py``, where there is a volume.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import dagster as dg
import pytest

from wmtp_assets.definitions import defs
from wmtp_assets.documents.of_storage.migration import COMMANDS
from wmtp_assets_tests.pages import Copy
from wmtp_assets_tests.quick import quick, thinned
from wmtp_assets_tests.trees import link_tree

PUBLISH = "wmtp publish "
QUICK = ("wmtp plan",)

TYPED = sorted({command for commands in COMMANDS.values() for command in commands})
MATERIALIZE = "dagster asset materialize --select "
KEPT = [
    *(it for it in TYPED if not it.startswith((MATERIALIZE, PUBLISH, "wmtp verify"))),
    "wmtp verify --release",
    f"{MATERIALIZE}'*micro_mtp'",
]

SCRIPTS = (
    "prepare.py",
    "sync_to_vessl_storage.py",
    "sync_to_vessl_storage.py --include-local-small",
    "verify_mtp_model.py",
    "validate_datasets.py",
    "setup_models.py",
    "setup_datasets.py",
    "convert_sharded_to_safetensors.py",
    "prepare_local_small_model.py",
    "prepare_micro_reference.py",
)
"""Those that the plan and its scripts/README.md name."""


def test_every_script_of_the_plan_has_a_line() -> None:
    """Who looks for one that is gone finds what to type."""
    for script in SCRIPTS:
        assert any(line.startswith(script) for line in COMMANDS), script
    assert all(COMMANDS.values())


@pytest.fixture(scope="module")
def copy(good_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy of the project over one of the good tree: what is typed here damages nothing."""
    folder = tmp_path_factory.mktemp("scripts")
    link_tree(good_root, folder / "storage")
    return Copy.make(folder / "project", folder / "storage")


@pytest.mark.parametrize("command", [it for it in TYPED if it.startswith(MATERIALIZE)])
def test_selection_of_a_script_is_of_assets(command: str) -> None:
    """Dagster takes one that selects nothing, and one that it does not understand, only when it is
    typed."""
    (selection,) = shlex.split(command.removeprefix(MATERIALIZE))
    graph = defs().resolve_asset_graph()
    assert dg.AssetSelection.from_coercible(selection.split(",")).resolve(graph)


@pytest.mark.parametrize(
    "command", quick(thinned([it for it in TYPED if not it.startswith(PUBLISH)], KEPT), QUICK)
)
def test_what_replaces_a_script_works(copy: Copy, command: str) -> None:
    """Somebody types it instead, and gets what the script made, and its checks."""
    place = "storage/sample/datasets_v2/humaneval/raw"
    output = copy.run(command.replace("PATH", place)).stdout
    if command.startswith("wmtp verify"):
        assert ", 0 failed" in output
    elif command.startswith("wmtp"):
        assert "humaneval_raw" in output
