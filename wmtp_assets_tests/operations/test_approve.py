"""Approving: a name, a time, and exactly what was approved."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets.base.errors import InvalidInput, MissingArtifact
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.operations.approve import approve
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.rules.cases import apply
from wmtp_assets_tests.trees import Copy, link_tree, tree

NAME = "phase1_completion_report.md"


@pytest.fixture(scope="module")
def applied_root(good_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root where every rule was applied, and the report made after that."""
    root = tmp_path_factory.mktemp("applied") / "storage"
    link_tree(good_root, root)
    store = Store(Settings("sample", root), load_catalogue())
    report = store.catalogue["completion_report"]
    for key in report.upstream:
        for rule in rules_of(store.catalogue[key]):
            apply_rule(rule, store, store.catalogue[key])
    materialize(store, report)
    return root


@pytest.fixture(scope="module")
def good_copy(applied_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The copy of :func:`applied_root` that is the ``root`` of the tests."""
    return Copy(applied_root, tmp_path_factory.mktemp("copy") / "storage")


@pytest.fixture
def report(store: Store) -> Artifact:
    """The completion report of :func:`root`."""
    return store.catalogue["completion_report"]


def rows(store: Store, report: Artifact) -> list[str]:
    """The approvals that the report shows."""
    section = store.read(report, NAME).decode().split("\n## Approvals\n")[1]
    return [line for line in section.split("\n") if line.startswith("| ")][1:]


def test_approval_is_shown_and_kept(store: Store, report: Artifact) -> None:
    """It names what was approved; the report is as current as before, also made again."""
    _, first = approve(store, "Ada Lovelace")
    approve(store, "Grace", note="seen | on *paper*")
    assert [row.split(" | ")[0] for row in rows(store, report)] == ["| Ada Lovelace", "| Grace"]
    assert all("| this report |" in row for row in rows(store, report))
    assert r"seen \| on \*paper\*" in rows(store, report)[1]
    assert first.sha256 in store.read(report, NAME).decode()
    assert apply(store, report, "current").findings == []
    before = store.read(report, NAME)
    materialize(store, report)
    assert store.read(report, NAME) == before


def test_approval_of_an_earlier_state_says_so(store: Store, report: Artifact) -> None:
    """What was approved is not what is there any more."""
    _, approval = approve(store, "Ada")
    small = store.catalogue["mbpp_small"]
    (store.internal / "verified" / small.key / "sha256.json").unlink()
    materialize(store, report)
    (row,) = rows(store, report)
    assert f"| an earlier state, `{approval.sha256}` |" in row


@pytest.mark.parametrize(
    "name",
    ["", " ", " Ada", "Ada\n", "A\x1b[31mda", "A\u202eda", "A\ud800", "A\u2028da", "A" * 101],
    ids=ascii,
)
def test_name_that_is_none(store: Store, report: Artifact, name: str) -> None:
    """It is shown to people, in a table and in a terminal."""
    before = tree(store.root / "docs")
    with pytest.raises(InvalidInput, match="--by: "):
        approve(store, name)
    assert tree(store.root / "docs") == before


def test_name_is_no_markup(store: Store, report: Artifact) -> None:
    """A name must not become a link, a cell or a heading in what others sign."""
    approve(store, "<b>|[x](http://e.vil)`")
    (row,) = rows(store, report)
    assert row.startswith(r"| &lt;b&gt;\|\[x\]\(http\://e.vil\)\` | ")


def test_report_that_is_not_verified_needs_a_note(good_root: Path, tmp_path: Path) -> None:
    """A signature under 'not verified' is given by mistake, or for a reason."""
    link_tree(good_root, tmp_path / "unverified")
    store = Store(Settings("sample", tmp_path / "unverified"), load_catalogue())
    report = store.catalogue["completion_report"]
    with pytest.raises(
        InvalidInput, match=r"not every item has passed: Directories \(not verified\)"
    ):
        approve(store, "Ada")
    approve(store, "Ada", note="only the layout was looked at")
    assert "only the layout was looked at" in rows(store, report)[0]


def test_report_that_is_out_of_date_is_refused(store: Store, report: Artifact) -> None:
    """Nobody approves what they have not read."""
    small = store.catalogue["mbpp_small"]
    (store.internal / "verified" / small.key / "sha256.json").unlink()
    with pytest.raises(
        InvalidInput, match=r"is not the report that is made now: .*completion_report"
    ):
        approve(store, "Ada", note="in a hurry")
    store.manifest_path(report).unlink()
    with pytest.raises(MissingArtifact, match="completion_report has not been materialized"):
        approve(store, "Ada")
