"""The pictures of README and docs/: ``make pictures``, from what the sample's web UI shows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from wmtp_assets_tests.browser.ui import WIDE, Ui, opened
from wmtp_assets_tests.pages import PROJECT, Copy
from wmtp_assets_tests.trees import link_tree

FOLDER = PROJECT / "docs/pictures"

WIDTH = 1440
"""Pixels of a picture: read on a page, it is scaled down."""


def take(ui: Ui, folder: Path) -> None:
    """Take every picture, of a web UI in which everything was materialized."""
    folder.mkdir(exist_ok=True)
    ui.resize(WIDE, 600)
    ui.upstream_of("micro_mtp")
    ui.sees("micro_mtp", "6 / 6 Passed")
    ui.picture(folder / "lineage.png")
    ui.resize(WIDTH, 1000)
    ui.asset("micro_mtp")
    ui.sees("content_sha256")
    ui.picture(folder / "asset.png")
    ui.resize(WIDTH, 700)
    ui.check("micro_mtp", "dtype")
    ui.sees("tensors_by_dtype.float16")
    ui.picture(folder / "check.png")
    ui.resize(WIDTH, 760)
    ui.asset("codecontests_stats")
    ui.show("token_lengths").locator("img").wait_for()
    ui.picture(folder / "token_lengths.png")


def main() -> None:
    """Materialize everything by a click, in a copy of this project, and take the pictures."""
    # Beside the storage root, whose files are linked.
    with tempfile.TemporaryDirectory(dir=PROJECT / "storage", prefix=".pictures-") as temporary:
        root = Path(temporary, "root")
        link_tree(PROJECT / "storage/sample", root)
        with opened(Copy.make(Path(temporary, "project"), root)) as ui:
            ui.job("everything")
            if ui.launch("Materialize all") != "Success":
                raise SystemExit(f"the run failed: see {ui.page.url}")
            take(ui, FOLDER)
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.relative_to(PROJECT)}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
