"""The drawings in ``docs/pictures/``: ``make drawings``, as SVG.

The rooms are those of the import contract in ``pyproject.toml``, the lineage is the catalogue's,
and a test compares the files with what is drawn here. Each drawing has its own background, so that
it can be read on a light page and on a dark one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

from wmtp_assets.catalogue.artifact import Artifact, Catalogue
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets_tests.pages import PROJECT

FOLDER = PROJECT / "docs/pictures"

INK, FAINT, PAPER, FRAME = "#1f2328", "#57606a", "#ffffff", "#d0d7de"
BLUE, GREEN, YELLOW, RED, GREY, VIOLET = (
    ("#ddf4ff", "#54aeff"),
    ("#dafbe1", "#4ac26b"),
    ("#fff8c5", "#d4a72c"),
    ("#ffebe9", "#ff8182"),
    ("#f6f8fa", "#afb8c1"),
    ("#fbefff", "#c297ff"),
)
"""Fill and border of boxes."""


@dataclass(frozen=True)
class Box:
    """A rectangle with lines of text: the first in bold.

    Attributes:
        x: left edge, in pixels, as all lengths here.
        y: upper edge.
    """

    x: float
    y: float
    width: float
    height: float
    lines: Sequence[str]
    colour: tuple[str, str] = GREY
    is_dashed: bool = False

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2

    def svg(self) -> Iterator[str]:
        fill, stroke = self.colour
        dashes = ' stroke-dasharray="5 4"' if self.is_dashed else ""
        yield (
            f'<rect x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" height="{self.height:g}"'
            f' rx="6" fill="{fill}" stroke="{stroke}"{dashes}/>'
        )
        x, middle = self.middle
        first = middle - (len(self.lines) - 1) * 8 + 4.5
        for number, line in enumerate(self.lines):
            yield text(x, first + 16 * number, line, is_bold=not number and len(self.lines) > 1)


def text(x: float, y: float, line: str, *, is_bold: bool = False, is_faint: bool = False) -> str:
    """A line of text, centred at ``x``."""
    weight = ' font-weight="600"' if is_bold else ""
    colour = f' fill="{FAINT}" font-size="12"' if is_faint else ""
    return f'<text x="{x:g}" y="{y:g}"{weight}{colour}>{escape(line)}</text>'


def arrow(*points: tuple[float, float], words: str = "", is_curved: bool = False) -> str:
    """An arrow through points, and words above the middle of it."""
    (x1, y1), (x2, y2) = points[0], points[-1]
    if is_curved:
        bend = max(40, (x2 - x1) / 2)
        path = f"M{x1:g} {y1:g} C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
    else:
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
    line = f'<path d="{path}" fill="none" stroke="{FAINT}" marker-end="url(#head)"/>'
    label = text((x1 + x2) / 2, (y1 + y2) / 2 - 6, words, is_faint=True) if words else ""
    return f"{line}{label}"


@dataclass
class Drawing:
    """What is drawn, in order: what comes later hides what came before."""

    width: float
    height: float
    title: str
    parts: list[str] = field(default_factory=list)

    def add(self, *parts: str | Box) -> None:
        """Draw something more."""
        for part in parts:
            self.parts.extend(part.svg() if isinstance(part, Box) else [part])

    def svg(self) -> str:
        """The file."""
        size = f'width="{self.width:g}" height="{self.height:g}"'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}'
            f' viewBox="0 0 {self.width:g} {self.height:g}" role="img"'
            ' font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"'
            f' font-size="13" fill="{INK}" text-anchor="middle">'
        )
        marker = (
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
            f' markerHeight="7" orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{FAINT}"/>'
            "</marker></defs>"
        )
        paper = (
            f'<rect x="0.5" y="0.5" width="{self.width - 1:g}" height="{self.height - 1:g}"'
            f' rx="10" fill="{PAPER}" stroke="{FRAME}"/>'
        )
        title = f"<title>{escape(self.title)}</title>"
        return "\n".join([head, title, marker, paper, *self.parts, "</svg>", ""])


# -- the rooms -------------------------------------------------------------------------------------

ROOMS = {
    "definitions": "what Dagster loads",
    "components": "Dagster, and nobody else",
    "cli": "one thin file per command",
    "operations": "one file per verb: materialize, verify, repair, publish, …",
    "kinds": "one module per kind of artifact: what it owns, its builder, its rules",
    "documents": "README, cards, reports",
    "datasets": "rows, formats, rules",
    "destinations": "where to publish",
    "checkpoints": "tensors, conversion, rules",
    "hub": "Hugging Face",
    "rules": "the engine of rules",
    "transfer": "bytes arrive: resume, verify",
    "storage": "manifest, staging, exchange, locks",
    "catalogue": "what defs.yaml files declare",
    "base": "errors, settings, progress, strict JSON, child process",
}
"""Room → what is in it."""


def architecture() -> str:
    """The rooms, in the layers of the import contract: a room imports from those below it only."""
    project: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    (contract,) = (
        it for it in project["tool"]["importlinter"]["contracts"] if it["type"] == "layers"
    )
    layers = [
        [name.strip().removeprefix("wmtp_assets.") for name in layer.replace("|", ":").split(":")]
        for layer in contract["layers"]
    ]
    height, gap, left, width = 46, 10, 60, 720
    drawing = Drawing(820, 60 + (height + gap) * len(layers) + 64, "The rooms of wmtp_assets")
    drawing.add(text(left + width / 2, 30, "A room imports only from rooms below it", is_bold=True))
    colours = [VIOLET, BLUE, BLUE, BLUE, GREEN, GREEN, GREEN, YELLOW, YELLOW, YELLOW, GREY]
    y = 48.0
    for rooms, colour in zip(layers, colours, strict=True):
        share = (width - gap * (len(rooms) - 1)) / len(rooms)
        for number, room in enumerate(rooms):
            x = left + number * (share + gap)
            name = "definitions.py" if room == "definitions" else f"{room}/"
            drawing.add(Box(x, y, share, height, (name, ROOMS[room]), colour))
        y += height + gap
    drawing.add(arrow((30, 56), (30, y - gap)))
    half = (width - gap) / 2
    drawing.add(
        Box(left, y + 4, half, height, ("defs/**/defs.yaml", "what exists"), GREY, True),
        Box(
            left + half + gap,
            y + 4,
            half,
            height,
            ("sample/", "imitated upstream, for work without a network"),
            GREY,
            True,
        ),
    )
    return drawing.svg()


# -- the life of an artifact -----------------------------------------------------------------------


def life() -> str:
    """From upstream to a committed artifact, its checks, and what can happen to it."""
    drawing = Drawing(980, 432, "The life of an artifact")
    width, height, top = 164, 76, 52
    xs = [22 + 193 * number for number in range(5)]
    made = [
        Box(
            xs[0], top, width, height, ("Upstream", "hub, folder or artifacts;", "compared as read")
        ),
        Box(xs[1], top, width, height, ("Build", "in a child process,", "into staging"), BLUE),
        Box(
            xs[2],
            top,
            width,
            height,
            ("Manifest", "size and SHA-256 of all", "files; then fsync"),
            BLUE,
        ),
        Box(xs[3], top, width, height, ("Exchange", "one step swaps the", "whole folder in"), BLUE),
        Box(
            xs[4],
            top,
            width,
            height,
            ("Committed", "the old artifact or the", "new one, never half"),
            GREEN,
        ),
    ]
    drawing.add(text(490, 30, "From upstream to a training node", is_bold=True), *made)
    for one, other in pairwise(made):
        drawing.add(arrow((one.right, one.middle[1]), (other.x, other.middle[1])))
    second = 200
    previous = Box(
        xs[3], second, width, height, ("Previous", "one generation back,", "in .wmtp/previous/")
    )
    checks = Box(
        xs[4], second, width, height, ("Checks", "every rule reads the", "committed bytes"), YELLOW
    )
    failed = Box(
        xs[2], second, width, height, ("A check failed", "downstream assets", "are not made"), RED
    )
    repair = Box(
        xs[0],
        second,
        width,
        height,
        ("wmtp repair", "the same bytes again,", "or nothing is touched"),
        BLUE,
    )
    drawing.add(previous, checks, failed, repair)
    exchange, committed = made[3], made[4]
    drawing.add(
        arrow((exchange.middle[0], exchange.bottom), (previous.middle[0], previous.y)),
        arrow((committed.middle[0], committed.bottom), (checks.middle[0], checks.y)),
        arrow(
            (failed.x, failed.middle[1]), (repair.right, repair.middle[1]), words="damaged bytes"
        ),
    )
    third = 336
    downstream = Box(
        xs[4], third, width, height, ("Passed", "downstream assets", "may be made"), GREEN
    )
    publish = Box(
        xs[2],
        third,
        width,
        height,
        ("wmtp publish", "rules applied again,", "MANIFEST.json last"),
        BLUE,
    )
    node = Box(
        xs[0],
        third,
        width,
        height,
        ("wmtp pull", "on a training node,", "verified as it arrives"),
        BLUE,
    )
    drawing.add(downstream, publish, node)
    drawing.add(
        arrow((checks.middle[0], checks.bottom), (downstream.middle[0], downstream.y)),
        arrow((downstream.x, downstream.middle[1]), (publish.right, publish.middle[1])),
        arrow((publish.x, publish.middle[1]), (node.right, node.middle[1])),
        arrow(
            (checks.x, checks.bottom - 8),
            (checks.x - 12, checks.bottom - 8),
            (checks.x - 12, checks.bottom + 18),
            (failed.middle[0], checks.bottom + 18),
            (failed.middle[0], failed.bottom),
        ),
        arrow(
            (repair.middle[0], repair.y),
            (repair.middle[0], repair.y - 36),
            (committed.x + 30, repair.y - 36),
            (committed.x + 30, committed.bottom),
        ),
        text(repair.right + 100, repair.y - 42, "back in place", is_faint=True),
    )
    return drawing.svg()


# -- lineage ---------------------------------------------------------------------------------------

COLUMNS = {
    "raw": (0, "upstream's files", GREY),
    "tokenizer": (1, "tokenizer", YELLOW),
    "safetensors": (2, "checkpoint, rows", BLUE),
    "processed": (2, "checkpoint, rows", GREEN),
    "micro": (3, "made from these", BLUE),
    "pairs": (3, "made from these", GREEN),
    "small": (3, "made from these", GREEN),
    "stats": (3, "made from these", GREEN),
    "tests": (3, "made from these", GREEN),
}
"""Kind → its column, the title of that column, and the colour. Kinds that are made of nearly all
others are not drawn."""

ROW, COLUMN, WIDTH, HEIGHT, TOP = 40, 268, 216, 30, 46


def drawn(catalogue: Catalogue) -> list[Artifact]:
    """The artifacts of the drawing."""
    return [item for item in catalogue if item.kind in COLUMNS]


def lineage(catalogue: Catalogue) -> str:
    """Every artifact that is made from upstream, and what it is made from; dashed: optional."""
    boxes = _placed(drawn(catalogue))
    bottom = max(box.bottom for box in boxes.values())
    drawing = Drawing(COLUMN * 4 - 24, bottom + 20, "What is made from what")
    for number, title in {(number, title) for number, title, _ in COLUMNS.values()}:
        drawing.parts.append(text(16 + number * COLUMN + WIDTH / 2, 30, title, is_faint=True))
    drawing.parts.sort()
    for item in drawn(catalogue):
        for key in item.upstream:
            one, other = boxes[key], boxes[item.key]
            if one.x == other.x:
                ends = (one.middle[0], one.bottom), (other.middle[0], other.y)
                drawing.add(arrow(*ends))
            else:
                ends = (one.right, one.middle[1]), (other.x, other.middle[1])
                drawing.add(arrow(*ends, is_curved=True))
    drawing.add(*boxes.values())
    return drawing.svg()


def _placed(artifacts: Sequence[Artifact]) -> dict[str, Box]:
    """Asset → its box: the artifacts of a spec lie beside one another, below what came before in
    their columns, and no higher than what they are made from. The second column begins one row
    down, so that an arrow from the first passes above it."""
    free = dict.fromkeys(range(4), 0)
    boxes = {}
    for names in _in_order(artifacts):
        mine = [item for item in artifacts if item.spec.name == names]
        columns = {COLUMNS[item.kind][0] for item in mine}
        across = range(min(columns), max(columns) + 1)
        model = (boxes[key] for item in mine if item.kind == "micro" for key in item.upstream)
        above = [round((box.y - TOP) / ROW) for box in model]
        top = max(*(free[number] for number in across), min(above, default=0), 0)
        rows = {number: top + (number == 1) for number in columns}
        for item in mine:
            number, _, colour = COLUMNS[item.kind]
            x, y = 16 + number * COLUMN, TOP + rows[number] * ROW
            boxes[item.key] = Box(x, y, WIDTH, HEIGHT, (item.key,), colour, item.optional)
            rows[number] += 1
        end = max(rows.values())
        free |= dict.fromkeys(across, end)
    return boxes


def _in_order(artifacts: Sequence[Artifact]) -> list[str]:
    """Names of specs: each model, then the models that are made from it; then datasets."""
    owner = {item.key: item.spec.name for item in artifacts}
    parents: dict[str, set[str]] = {item.spec.name: set() for item in artifacts}
    for item in artifacts:
        parents[item.spec.name] |= {owner[key] for key in item.upstream} - {item.spec.name}
    datasets = {item.spec.name for item in artifacts if item.kind == "processed"}
    names: list[str] = []

    def take(name: str) -> None:
        names.append(name)
        for child, its in parents.items():
            if name in its and child not in datasets and child not in names:
                take(child)

    for name, its in parents.items():
        if not its and name not in datasets:
            take(name)
    return [*names, *(name for name in parents if name in datasets)]


def drawings() -> dict[str, str]:
    """Name of the file → what is in it."""
    return {
        "architecture.svg": architecture(),
        "life.svg": life(),
        "graph.svg": lineage(load_catalogue()),
    }


def main() -> None:
    """Write every drawing."""
    for name, content in drawings().items():
        (FOLDER / name).write_text(content)
        print(f"docs/pictures/{name}  {len(content):,} bytes")


if __name__ == "__main__":
    main()
