"""Pictures of what manifests and summaries say, as SVG.

Each brings its own light ground, so that it is readable on a page of either theme. Same numbers,
same bytes.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.checkpoints.families import Family
from wmtp_assets.storage.manifest import Document

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUND, INK, GRID = "#ffffff", "#1f2328", "#d8dee4"
BLUE, ORANGE, RED = "#0072b2", "#e69f00", "#b22222"
"""Blue and orange are told apart by everybody (Okabe and Ito 2008)."""

WIDTH = 7.2
"""Inches, of 72 points."""

MOST_BARS = 20
"""More values than these are summed up as one bar."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "wmtp_assets",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # a name may have a dollar in it
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": GROUND,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": GROUND,
    "figure.constrained_layout.use": True,
}


def token_lengths(summary: Document) -> bytes:
    """Rows by tokens, for each split of a dataset's summary, with the limit marked.

    Args:
        summary: as :func:`wmtp_assets.datasets.stats.summarize` makes it.
    """
    from matplotlib.ticker import MaxNLocator

    limit = summary["max_tokens"]
    splits = summary["splits"]
    longest = max((len(said["histogram"]["rows"]) for said in splits.values()), default=0)
    with _drawn(len(splits), 1.35) as (axes, data):
        for (split, said), plot in zip(splits.items(), axes, strict=True):
            width, rows = said["histogram"]["tokens"], said["histogram"]["rows"]
            begins = [width * bar for bar in range(len(rows))]
            plot.bar(begins, rows, width * 0.92, align="edge", color=BLUE)
            plot.axvline(limit, color=RED, linestyle="--", linewidth=1.4)
            most = said["tokens"]["total"]["max"]
            plot.set_title(f"{split}: {said['rows']:,} rows, longest {most:,}")
            plot.set_xlim(0, max(limit, width * longest) * 1.18)
            plot.yaxis.set_major_locator(MaxNLocator(3, integer=True))
            plot.grid(axis="y", color=GRID, linewidth=0.6)
            plot.set_axisbelow(True)
        axes[0].annotate(
            f"limit {limit:,}",
            (limit, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(5, 0),
            textcoords="offset points",
            ha="left",
            va="top",
            color=RED,
        )
        axes[-1].set_xlabel("tokens of instruction, input and output")
    return data.getvalue()


def labels(summary: Document) -> bytes | None:
    """Right and wrong rows of each split; None where the dataset has no labels."""
    counts = {
        split: (said["is_correct"]["true"], said["is_correct"]["false"])
        for split, said in summary["splits"].items()
        if "is_correct" in said
    }
    if not counts:
        return None
    with _drawn(1, 0.6 + 0.34 * len(counts)) as ((plot,), data):
        names = [*counts]
        begin = [0.0] * len(names)
        for name, colour, ink, which in (
            ("correct", BLUE, GROUND, 0),
            ("incorrect", ORANGE, INK, 1),
        ):
            numbers = [counts[split][which] for split in names]
            shares = [
                100 * number / max(sum(counts[split]), 1)
                for number, split in zip(numbers, names, strict=True)
            ]
            bars = plot.barh(names, shares, left=begin, color=colour, label=name)
            shown = (f"{n:,}" if s >= 8 else "" for n, s in zip(numbers, shares, strict=True))
            plot.bar_label(bars, [*shown], label_type="center", color=ink)
            begin = shares
        plot.set_title("is_correct, percent of rows")
        plot.invert_yaxis()
        plot.set_xlim(0, 100)
        plot.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return data.getvalue()


def difficulties(summary: Document) -> bytes | None:
    """Rows by difficulty, over all splits; None where all rows have the same."""
    counts = (Counter[str](said["difficulty"]) for said in summary["splits"].values())
    rows = sum(counts, Counter[str]())
    if len(rows) < 2:
        return None
    return _bars("rows by difficulty", _most(rows), lambda number: f"{number:,}")


def parts(family: Family, tensors: Mapping[str, int]) -> bytes:
    """Bytes by part of the model.

    Args:
        tensors: name → bytes.
    """
    sizes = Counter[str]()
    for name, size in tensors.items():
        sizes[family.part_of(name)] += size
    return _bars("bytes by part", sizes.most_common(), human_bytes)


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent values, the rest as one."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) <= MOST_BARS:
        return ranked
    shown, rest = ranked[: MOST_BARS - 1], ranked[MOST_BARS - 1 :]
    return [*shown, (f"{len(rest)} others", sum(number for _, number in rest))]


def _bars(title: str, values: Sequence[tuple[str, int]], say: Callable[[int], str]) -> bytes:
    with _drawn(1, 0.5 + 0.21 * len(values)) as ((plot,), data):
        names = [name for name, _ in values]
        bars = plot.barh(names, [number for _, number in values], color=BLUE, height=0.7)
        total = max(sum(number for _, number in values), 1)
        shown = [f"{say(number)} ({100 * number / total:.1f} %)" for _, number in values]
        plot.bar_label(bars, shown, padding=4)
        plot.set_title(title)
        plot.invert_yaxis()
        plot.margins(x=0.25)
        plot.xaxis.set_visible(False)
        plot.spines["bottom"].set_visible(False)
    return data.getvalue()


@contextmanager
def _drawn(rows: int, height: float) -> Iterator[tuple[Sequence[Axes], io.BytesIO]]:
    """Some plots, one below the other, each ``height`` inches; and what holds the SVG once they are
    drawn."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height * rows + 0.3))
        data = io.BytesIO()
        yield [*figure.subplots(rows, sharex=True, squeeze=False)[:, 0]], data
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
