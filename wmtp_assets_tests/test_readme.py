"""The README says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from wmtp_assets import usable_for
from wmtp_assets.layout import DOCUMENTS, GENERATED, Catalogue
from wmtp_assets.specs import DatasetSpec

PROJECT = Path(__file__).parents[1]


def test_graph_is_the_graph() -> None:
    """The picture is the first thing people see; it must not be last year's graph. What describes
    the others, and is made of nearly all of them, is left out; the text below says so."""
    text = (PROJECT / "README.md").read_text()
    drawn = re.findall(r"^    (\w+) --> (\w+)$", text, flags=re.MULTILINE)
    edges = [
        (key, artifact.key)
        for artifact in Catalogue.load()
        for key in artifact.upstream
        if artifact.kind == "parameters" or artifact.kind not in GENERATED
    ]
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
        own = {"micro": "<micro>", **dict.fromkeys(("parameters", *DOCUMENTS), artifact.key)}
        pattern = own.get(artifact.kind, f"_{name}")
        assert re.search(rf"^\| `[^`]*{re.escape(pattern)}` \|", text, flags=re.MULTILINE), pattern


def test_uses_of_datasets_are_those_of_the_catalogue() -> None:
    """Training on an evaluation set is a mistake that nobody notices."""
    specs = [spec for spec in Catalogue.load().specs if isinstance(spec, DatasetSpec)]
    expected = {spec.name: set(spec.uses) for spec in specs}

    docs = (PROJECT / "docs/datasets.md").read_text().split("| dataset | may be used for |")[1]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", docs.split("\n\n")[0], flags=re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", uses)) for name, uses in rows} == expected

    header, _, *lines = _table((PROJECT / "README.md").read_text(), "| dataset | verifiable_critic")
    for name, *cells in lines:
        used = [use for use, cell in zip(header[1:], cells, strict=True) if cell.startswith("yes")]
        assert {use for uses in used for use in uses.split(", ")} == expected.pop(name.strip("`"))
    assert expected == {}
    assert usable_for("verifiable_critic") == ("codecontests",)


def _table(text: str, start: str) -> list[list[str]]:
    """The cells of a Markdown table."""
    table = text[text.index(start) :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
