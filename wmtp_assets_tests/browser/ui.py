"""What a person does in the web UI, by what stands on its buttons and links."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Locator, Page, ViewportSize, expect, sync_playwright

from wmtp_assets_tests.pages import Copy
from wmtp_assets_tests.webserver import serving

CHROMIUM = shutil.which("chromium")
"""Debian's; Playwright's own browser is a download."""

ARGUMENTS = [
    "--no-sandbox",  # Chromium's needs what a container does not give, and only localhost is opened
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

VIEWPORT: ViewportSize = {"width": 1280, "height": 900}
"""The window of a small laptop."""

WIDE = 1900
"""Pixels that show the names in a lineage of five assets."""

PATIENCE = 60_000
"""Milliseconds until something that a person waits for is there."""

RUN = 300_000
"""Milliseconds that a run may take."""


@dataclass(frozen=True)
class Ui:
    """The web UI of a project.

    Attributes:
        page: the browser's.
        url: of the web server.
        project: the copy of the project that is served.
    """

    page: Page
    url: str
    project: Copy

    def open(self, path: str) -> None:
        """Open a page by its path."""
        self.page.goto(f"{self.url}/{path}", wait_until="domcontentloaded")

    def lineage(self, selection: str) -> None:
        """Open the lineage of a selection of assets."""
        self.open(f"asset-groups~{quote(selection)}/")

    def upstream_of(self, key: str) -> None:
        """Open the lineage of all that an asset is made from."""
        self.open(f"assets/{key}?view=lineage&lineageScope=upstream&lineageDepth=5")

    def asset(self, key: str) -> None:
        """Open the page of an asset."""
        self.open(f"assets/{key}")

    def check(self, key: str, rule: str) -> None:
        """Open the page of an asset check."""
        self.open(f"assets/{key}?view=checks&checkDetail={rule}")

    def schedule(self, name: str) -> None:
        """Open the page of a schedule."""
        self.open(f"locations/wmtp_assets/schedules/{name}")

    def job(self, name: str) -> None:
        """Open the page of a job."""
        self.open(f"locations/wmtp_assets/jobs/{name}")

    def sees(self, *texts: str) -> None:
        """Wait until each text is to be seen on the page."""
        for text in texts:
            expect(self.text(text)).to_be_visible()

    def text(self, text: str) -> Locator:
        """The first place where a text stands that is to be seen."""
        return self.page.get_by_text(text).filter(visible=True).first

    def launch(self, button: str) -> str:
        """Press a button that starts a run, confirm, and wait for its end.

        Returns:
            ``Success`` or ``Failure``, as the list of runs has it; the run's page is then open.
        """
        self.page.locator("button:enabled", has_text=button).first.click()
        confirm = self.page.locator("button", has_text="Confirm")
        launched = self.page.locator("a[href*='/runs/']", has_text="View")
        confirm.or_(launched).first.wait_for()
        if confirm.count():
            confirm.click()
        launched.first.click()
        ended = self.page.get_by_text("Success", exact=True).or_(
            self.page.get_by_text("Failure", exact=True)
        )
        expect(ended.first).to_be_visible(timeout=RUN)
        return ended.first.inner_text()

    def show(self, name: str) -> Locator:
        """Unfold the Markdown of a metadata entry; what is then shown over the page."""
        row = self.page.locator("tr", has=self.page.get_by_text(name, exact=True))
        row.get_by_text("[Show Markdown]").last.click()
        return self.page.get_by_role("dialog")

    def close(self) -> None:
        """Close what is shown over the page."""
        self.page.keyboard.press("Escape")
        expect(self.page.get_by_role("dialog")).to_have_count(0)

    def resize(self, width: int, height: int = VIEWPORT["height"]) -> None:
        """Give the window another size; a lineage is laid out for the one it is opened in."""
        self.page.set_viewport_size({"width": width, "height": height})

    def fits(self, *texts: str) -> None:
        """Wait for each text, and require that all of it is in the window, without scrolling."""
        self.sees(*texts)
        window = self.page.viewport_size
        assert window is not None
        for text in texts:
            box = self.text(text).bounding_box()
            assert box is not None
            assert box["x"] >= 0 and box["x"] + box["width"] <= window["width"], (text, box)
            assert box["y"] >= 0 and box["y"] + box["height"] <= window["height"], (text, box)

    def picture(self, path: Path) -> None:
        """A PNG of what is to be seen."""
        self.page.wait_for_timeout(1500)  # the graph moves to its place
        self.page.screenshot(path=path)


@contextmanager
def opened(project: Copy) -> Iterator[Ui]:
    """The web UI of a project in a browser, served by ``dagster dev`` with its daemon."""
    command = "source activate.sh && dagster dev"
    with (
        serving(command, project.folder, project.environment()) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport=VIEWPORT, color_scheme="light")
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        try:
            yield Ui(page, url, project)
        finally:
            browser.close()
