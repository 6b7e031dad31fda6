"""README and the pages in docs/ say what is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from wmtp_assets import usable_for
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec
from wmtp_assets.cli.main import cli
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets_tests.drawings import drawings, drawn

PROJECT = Path(__file__).parents[1]
GRAPH = PROJECT / "docs/graph.md"


def test_drawings_are_what_is_drawn() -> None:
    """People look there for what is made from what, and for the rooms; it must not be last year's.
    If this fails because the graph or the rooms changed: ``make drawings``."""
    for name, content in drawings().items():
        assert (PROJECT / "docs/pictures" / name).read_text() == content, name


def test_every_asset_is_drawn() -> None:
    """With an arrow from each that it is made from, and dashed if it is optional. What describes
    the others, and is made of nearly all of them, is left out; the text below it says so."""
    catalogue = load_catalogue()
    shown = [item for item in catalogue if not item.is_generated]
    assert [item.key for item in drawn(catalogue)] == [item.key for item in shown]
    picture = (PROJECT / "docs/pictures/graph.svg").read_text()
    assert picture.count("marker-end") == sum(len(item.upstream) for item in shown)
    assert picture.count("stroke-dasharray") == sum(item.optional for item in shown)
    assert all(f">{item.key}</text>" in picture for item in shown)


def test_status_table_names_every_asset() -> None:
    """The output that is shown lists the assets that there are, and counts them."""
    block = GRAPH.read_text().split("## Status")[1].split("```text\n")[1].split("```")[0]
    groups, _, rest = block.partition("\noptional, not made, ")
    optional, _, counted = rest.partition(": ")[2].partition("\n\n")
    rows = [line.split()[0] for line in groups.splitlines() if line.startswith("  ")]
    catalogue = list(load_catalogue())
    made = [item.key for item in catalogue if not item.optional]
    assert sorted(set(rows) - {"name"}) == sorted(made)
    assert optional.replace(",", "").split() == [it.key for it in catalogue if it.optional]
    absent = len(catalogue) - len(made)
    assert f"\n{len(made)} of {len(made)} artifacts, 0 of {absent} optional ones, " in counted


def test_commands_of_make_are_its_targets() -> None:
    """README names what runs the tests; a page does not name a target that is gone."""
    targets = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for page in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]:
        named = set(re.findall(r"(?:`|^)make ([\w-]+)", page.read_text(), flags=re.MULTILINE))
        assert named <= targets, page.name
        assert page.name != "README.md" or {"materialize", "ui", "test", "check"} <= named


def test_architecture_names_what_each_kind_owns() -> None:
    """The storage contract in the docs has a line per kind of artifact."""
    text = (PROJECT / "docs/architecture.md").read_text()
    for artifact in load_catalogue():
        name = artifact.key.removeprefix(f"{artifact.spec.name}_")
        own = {
            "micro": "<micro>",
            **dict.fromkeys(("parameters", "document", "release"), artifact.key),
        }
        pattern = own.get(artifact.kind, f"_{name}")
        assert re.search(rf"^\| `[^`]*{re.escape(pattern)}` \|", text, flags=re.MULTILINE), pattern


def test_uses_of_datasets_are_those_of_the_catalogue() -> None:
    """Training on an evaluation set is a mistake that nobody notices."""
    specs = [spec for spec in load_catalogue().specs if isinstance(spec, DatasetSpec)]
    expected = {spec.name: set(spec.uses) for spec in specs}

    docs = (PROJECT / "docs/datasets.md").read_text().split("| dataset | may be used for |")[1]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", docs.split("\n\n")[0], flags=re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", uses)) for name, uses in rows} == expected
    assert expected["humaneval"] == {"evaluation"}  # so README says
    assert usable_for("verifiable_critic") == ("codecontests",)


def _table(text: str, start: str) -> list[list[str]]:
    """The cells of a Markdown table."""
    table = text[text.index(start) :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_table_of_licences_is_that_of_the_specs() -> None:
    """Somebody accepts, or pays for, what stands there."""
    _, _, *rows = _table((PROJECT / "docs/real-sources.md").read_text(), "| repository | licence |")
    specs = [spec for spec in load_catalogue().specs if isinstance(spec, ModelSpec | DatasetSpec)]
    assert {tuple(row[:4]) for row in rows} == {
        (
            f"[{spec.repository.id}]({spec.repository.page})",
            spec.repository.license,
            "yes" if spec.repository.gated else "no",
            spec.repository.size,
        )
        for spec in specs
    }
    for (_, _, _, _, names), spec in ((row, spec) for row in rows for spec in specs):
        if f"`{spec.name}`" in names:
            assert ("optional" in names) == (spec.status == "optional")


def _texts() -> list[str]:
    """Every string of the package, with … for what is put in."""
    found = []
    for path in sorted((PROJECT / "wmtp_assets").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_troubleshooting_quotes_what_is_printed() -> None:
    """People search for the words on their screen; a heading nobody prints helps nobody."""
    page = (PROJECT / "docs/troubleshooting.md").read_text()
    quoted = re.findall(r"^### `(.*)`$", page, flags=re.MULTILINE)
    assert len(quoted) > 30
    texts = _texts()
    for quote in quoted:
        parts = [part.strip() for part in quote.split("…") if part.strip()]
        assert max(map(len, parts)) > 4, quote
        pattern = re.compile(r".*".join(map(re.escape, parts)), flags=re.DOTALL)
        assert any(pattern.search(text) for text in texts), quote


def test_links_between_pages_lead_somewhere() -> None:
    """To a file that is there, and a heading in it."""
    pages = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]
    for page in pages:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("http"):
                continue
            name, _, anchor = target.partition("#")
            other = (page.parent / name).resolve() if name else page
            assert other.exists(), (page.name, target)
            titles = re.findall(r"^#+ (.*)$", other.read_text() if anchor else "", re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert not anchor or anchor in anchors, (page.name, target)


def test_index_lists_every_page() -> None:
    """A page that nothing leads to is not read."""
    index = PROJECT / "docs/index.md"
    assert "(docs/index.md)" in (PROJECT / "README.md").read_text()
    listed = re.findall(r"\(([\w-]+\.md)(?:#[\w-]+)?\)", index.read_text())
    assert {*listed, index.name} == {page.name for page in PROJECT.glob("docs/*.md")}


def test_every_command_has_json() -> None:
    """The pages say so."""
    for name, command in cli.commands.items():
        assert "--json" in {option for parameter in command.params for option in parameter.opts}, (
            name
        )
