"""The blocks of ``docs/using.md``, run by the clients that they are for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wmtp_assets_tests.clients.environments import PROJECT, environment, names, pins, run
from wmtp_assets_tests.pages import Block, Copy, blocks_of
from wmtp_assets_tests.trees import link_tree

pytestmark = pytest.mark.clients

PAGE = PROJECT / "docs/using.md"
BLOCKS = [
    pytest.param(name, block, id=f"{name}-{block.text.split()[1]}")
    for block in blocks_of(PAGE)
    for name in block.clients
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, good_root: Path) -> Copy:
    """A copy of the project, over a copy of the good tree; blocks only read."""
    folder = tmp_path_factory.mktemp("using")
    link_tree(good_root, folder / "storage")
    return Copy.make(folder / "project", folder / "storage")


@pytest.mark.parametrize(("name", "block"), BLOCKS)
def test_block(copy: Copy, name: str, block: Block) -> None:
    """What the page tells people to type works, with that client and without a network."""
    assert copy.run_with(environment(name), block)


def test_errors_of_a_tied_file(good_root: Path) -> None:
    """People look for the message that they see, and find the file to use instead."""
    found = run("torchtune", "-m", "wmtp_assets_tests.clients.tied_file", good_root)
    said = [*json.loads(found.splitlines()[-1]).values()]
    table = PAGE.read_text().split("| loader | error |\n")[1].split("\n\n")[0]
    rows = [line.rsplit("| `", 1)[1].removesuffix("` |") for line in table.splitlines()[1:]]
    assert len(rows) == len(said) == 4
    for shown, message in zip(rows, said, strict=True):
        assert shown in message


@pytest.mark.parametrize("name", names())
def test_environment_is_what_its_list_says(name: str) -> None:
    """Its own packages come before those of the project, at the versions that are pinned; torch is
    the project's."""
    script = (
        "import importlib.metadata as m, json, sys, torch\n"
        f"print(json.dumps([{{n: m.version(n) for n in {[*pins(name)]}}}, torch.__file__]))"
    )
    found, torch = json.loads(run(name, "-c", script))
    assert found == pins(name)
    assert not Path(torch).is_relative_to(environment(name))
