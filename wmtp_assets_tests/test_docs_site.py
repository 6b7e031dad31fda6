"""``make docs`` fails on a link that leads nowhere, and the site loads nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

mkdocs = pytest.importorskip("mkdocs", reason="not installed: pip install -e '.[docs]'")

from mkdocs.commands.build import build  # noqa: E402
from mkdocs.config import load_config  # noqa: E402
from mkdocs.exceptions import Abort  # noqa: E402

from wmtp_assets_tests.docs_site import OUTSIDE  # noqa: E402

PROJECT = Path(__file__).parents[1]
HOOK = "wmtp_assets_tests/docs_site.py"
PAGE = """# A page

[a heading](#the-second-heading), [a file beside docs/](../trust/README.md#keys),
[a source](../source.py), [an address](https://example.org/a), ![a picture](a.svg)

## The second heading

```python file=wmtp_assets/new.py
text = "[no link](nowhere.md)"
```
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one page, with the settings of this one."""
    for folder in ("docs", "trust", "wmtp_assets_tests"):
        (tmp_path / folder).mkdir()
    shutil.copy(PROJECT / HOOK, tmp_path / HOOK)
    shutil.copy(PROJECT / "docs/site.css", tmp_path / "docs")
    settings = (PROJECT / "mkdocs.yml").read_text().partition("\nnav:\n")[0]
    (tmp_path / "mkdocs.yml").write_text(settings)
    for name in OUTSIDE:
        (tmp_path / name).write_text("# Beside\n\n[a page](docs/index.md#the-second-heading)\n")
    (tmp_path / "trust/README.md").write_text("# Trust\n\n## Keys\n\n[back](../docs/index.md)\n")
    (tmp_path / "source.py").write_text("pass\n")
    (tmp_path / "docs/a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>\n')
    (tmp_path / "docs/index.md").write_text(PAGE)
    return tmp_path


def build_site(project: Path) -> None:
    config = load_config(str(project / "mkdocs.yml"))
    try:
        build(config)
    finally:
        config.plugins.on_shutdown()


def test_site_is_whole_without_a_network(project: Path) -> None:
    """Links beside ``docs/`` lead to copies in the site; no script, style, font or picture comes
    from elsewhere: pages are read on machines without a network, and nobody is told who reads."""
    build_site(project)
    site = project / "build/site"
    page = (site / "index.html").read_text()
    assert 'href="project/trust/index.html#keys"' in page
    assert 'href="project/source.py"' in page and (site / "project/source.py").is_file()
    assert '<span class="filename">wmtp_assets/new.py</span>' in page
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="([^"]+)"', page)
    assert loaded and not [it for it in loaded if "//" in it]
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"url\(['\"]?(?:https?:)?//", styles)
    assert (site / "search/search_index.json").is_file()


WRONG = {
    "(#the-second-heading)": "(#the-third-heading)",
    "(../trust/README.md#keys)": "(../trust/README.md#locks) [gone](../trust/GONE.md)",
    "(../source.py)": "(../gone.py) [a folder](../trust/) [from the root](/source.py)",
    "(https://example.org/a)": "(https:/example.org/a) [no name](https://exampleorg)",
    "(a.svg)": "(b.svg)",
}


def test_link_that_leads_nowhere(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One in each form that pages use, also from README, which is read more than any other page:
    each is named, and the build fails."""
    page = project / "docs/index.md"
    for right, wrong in WRONG.items():
        assert right in page.read_text()
        page.write_text(page.read_text().replace(right, wrong))
    (project / "README.md").write_text("# Beside\n\n[a page](docs/gone.md)\n")
    with pytest.raises(Abort):
        build_site(project)
    said = "\n".join(record.getMessage() for record in caplog.records)
    links = re.findall(r"\((.+?)\)", " ".join(WRONG.values()))
    assert len(links) == 9
    names = [link.removeprefix("../") for link in [*links, "docs/gone.md"]]
    assert [name for name in names if name not in said] == []


def test_page_outside_the_navigation(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A page that nothing leads to is not read."""
    with (project / "mkdocs.yml").open("a") as settings:
        settings.write("\nnav: [index.md]\n")
    (project / "docs/other.md").write_text("# Other\n")
    with pytest.raises(Abort):
        build_site(project)
    assert "  - other.md" in caplog.text
