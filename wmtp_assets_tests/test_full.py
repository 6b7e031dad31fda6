"""The page about the last full run counts what was run."""

from __future__ import annotations

from pathlib import Path

from wmtp_assets_tests import full

REPORT = """<testsuites><testsuite>
<testcase name="a"><properties><property name="points" value="70"/></properties></testcase>
<testcase name="b"><properties><property name="points" value="7"/></properties><failure/></testcase>
<testcase name="c"><skipped/></testcase>
</testsuite></testsuites>"""


def test_page_counts_what_was_run(tmp_path: Path) -> None:
    """Whoever reads it decides whether the guarantees were seen to hold at that commit."""
    (tmp_path / "report.xml").write_text(REPORT)
    counts = full.result_of(tmp_path / "report.xml")
    assert counts == {"passed": 1, "failure": 1, "skipped": 1, "points": 77}
    page = full.page("0123abc", "2026-01-31T12:00:00Z", 12.4, counts)
    for row in ("commit | `0123abc`", "minutes | 12", "failure | 1", "error | 0", "sweeps | 77"):
        assert f"{row} |\n" in page


def test_committed_page_is_of_this_form() -> None:
    """It is written, never typed."""
    assert full.PAGE.read_text().startswith(full.TEXT.partition("| |")[0])
