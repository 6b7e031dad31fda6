"""The README says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from wmtp_assets.layout import Catalogue

PROJECT = Path(__file__).parents[1]


def test_graph_is_the_graph() -> None:
    """The picture is the first thing people see; it must not be last year's graph."""
    text = (PROJECT / "README.md").read_text()
    drawn = re.findall(r"^    (\w+) --> (\w+)$", text, flags=re.MULTILINE)
    edges = [(key, artifact.key) for artifact in Catalogue.load() for key in artifact.upstream]
    assert sorted(drawn) == sorted(edges)


def test_status_table_names_every_asset() -> None:
    """The output that is shown lists the assets that there are, in order."""
    text = (PROJECT / "README.md").read_text()
    table = text.split("```text\nname ")[1].split("```")[0]
    names = [line.split()[0] for line in table.splitlines()[1:] if not line.startswith("…")]
    assert names == [artifact.key for artifact in Catalogue.load()]


def test_architecture_names_what_each_kind_owns() -> None:
    """The storage contract in the docs has a line per kind of artifact."""
    text = (PROJECT / "docs/architecture.md").read_text()
    for artifact in Catalogue.load():
        name = artifact.key.removeprefix(f"{artifact.spec.name}_")
        own = {"micro": "<micro>", "parameters": artifact.key}
        pattern = own.get(artifact.kind, f"_{name}")
        assert re.search(rf"^\| `[^`]*{re.escape(pattern)}` \|", text, flags=re.MULTILINE), pattern
