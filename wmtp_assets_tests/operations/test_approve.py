"""Approving: a name, a time, and exactly what was approved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from wmtp_assets.base.errors import InvalidInput, MissingArtifact
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.operations.approve import approve
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage.publications import Publication, remember_publication
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.rules.cases import apply
from wmtp_assets_tests.trees import Copy, damage, flip, link_tree, tree

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
    backed_up(store)
    materialize(store, report)
    return root


def backed_up(store: Store) -> Publication:
    """Remember that the release that is there was published."""
    release = store.manifest(store.catalogue["storage_release"])
    publication = Publication(
        to="s3://bucket/tree",
        at="2025-11-14T00:00:00Z",
        version=release.document["version"],
        release=release.content_sha256,
    )
    remember_publication(store, "0" * 32, publication)
    return publication


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
    section = store.read(report, NAME).decode().split("\n## Approvals\n")[1].split("\n## ")[0]
    return [line for line in section.split("\n") if line.startswith("| ")][1:]


def test_approval_is_shown_and_kept(store: Store, report: Artifact) -> None:
    """It names what was approved; the report is as current as before, also made again."""
    _, first = approve(store, "Ada Lovelace", "reviewer")
    approve(store, "Grace", "product-owner", note="seen | on *paper*")
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
    _, approval = approve(store, "Ada", "reviewer")
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
        approve(store, name, "reviewer")
    assert tree(store.root / "docs") == before


def test_name_is_no_markup(store: Store, report: Artifact) -> None:
    """A name must not become a link, a cell or a heading in what others sign."""
    approve(store, "<b>|[x](http://e.vil)`", "reviewer")
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
        approve(store, "Ada", "reviewer")
    approve(store, "Ada", "reviewer", note="only the layout was looked at")
    assert "only the layout was looked at" in rows(store, report)[0]


def test_report_that_is_out_of_date_is_refused(store: Store, report: Artifact) -> None:
    """Nobody approves what they have not read."""
    small = store.catalogue["mbpp_small"]
    (store.internal / "verified" / small.key / "sha256.json").unlink()
    with pytest.raises(
        InvalidInput, match=r"is not the report that is made now: .*completion_report"
    ):
        approve(store, "Ada", "reviewer", note="in a hurry")
    store.manifest_path(report).unlink()
    with pytest.raises(MissingArtifact, match="completion_report has not been materialized"):
        approve(store, "Ada", "reviewer")


def conditions(store: Store, report: Artifact) -> dict[str, str]:
    """The conditions for phase 2 that the report shows, and their states."""
    section = store.read(report, NAME).decode().split("\n## Conditions for phase 2\n")[1]
    rows = [line.split(" | ") for line in section.split("\n") if line.startswith("| ")][1:]
    return {left.removeprefix("| "): right.strip("* |") for left, right in rows}


def test_conditions_are_met_one_by_one(store: Store, report: Artifact) -> None:
    """Phase 2 may begin when each is: what was verified, backed up and released, both approvals."""
    before = conditions(store, report)
    assert [name for name, state in before.items() if state == "open"] == [
        "This report is approved as reviewer",
        "This report is approved as product-owner",
    ]
    approve(store, "Ada", "reviewer")
    assert conditions(store, report)["This report is approved as reviewer"] == "met"
    assert b"Not approved yet as: `product-owner`." in store.read(report, NAME)
    approve(store, "Grace", "product-owner")
    assert {*conditions(store, report).values()} == {"met"}


def test_unknown_role(store: Store, report: Artifact) -> None:
    """A signature in a role that nobody asked for would look like one that counts."""
    before = tree(store.root / "docs")
    with pytest.raises(
        InvalidInput, match=r"--role: 'boss' is not a role .*: reviewer, product-owner"
    ):
        approve(store, "Ada", "boss")
    assert tree(store.root / "docs") == before


def test_approval_without_a_role_is_of_the_version_before(store: Store, report: Artifact) -> None:
    """It stays, and counts for no role."""
    _, approval = approve(store, "Ada", "reviewer")
    old = {key: value for key, value in approval.model_dump().items() if key != "role"}
    store.amend(report, {"approvals": [old]})
    materialize(store, report)
    (row,) = rows(store, report)
    assert row.startswith("| Ada | - | ")
    assert conditions(store, report)["This report is approved as reviewer"] == "open"


def test_backup_of_an_earlier_release_is_none(store: Store, report: Artifact) -> None:
    """What was published before an artifact changed would not bring it back."""
    assert b"| Backup | s3\\://bucket/tree on 2025-11-14, release v2.0.0 | - | **passed** |" in (
        store.read(report, NAME)
    )
    earlier = backed_up(store).model_copy(update={"release": "0" * 64})
    remember_publication(store, "0" * 32, earlier)
    materialize(store, report)
    assert conditions(store, report)["The item Backup of the checklist has passed"] == "open"
    assert b"| Backup | none of this release: `wmtp publish --to URL`" in store.read(report, NAME)


def test_publishing_the_same_release_again_leaves_the_report_as_it_is(
    store: Store, report: Artifact
) -> None:
    """Or an approval would be one of an earlier state as soon as the report was published too."""
    approve(store, "Ada", "reviewer")
    before = store.read(report, NAME)
    later = backed_up(store).model_copy(update={"at": "2026-01-01T00:00:00Z"})
    remember_publication(store, "0" * 32, later)
    materialize(store, report)
    assert store.read(report, NAME) == before


def test_failure_that_was_put_right_stays_in_the_report(store: Store, report: Artifact) -> None:
    """With what was found and how it ended, also where the memory of rules is gone."""
    small = store.catalogue["mbpp_small"]
    path = store.path(small, "test_small.jsonl")
    good = path.read_bytes()
    damage(path, flip(9))
    apply(store, small, "sha256")
    damage(path, lambda data: good)
    apply(store, small, "sha256")
    materialize(store, report)
    (row,) = issues(store, report)
    assert row.startswith("| `mbpp_small` | `sha256` | ")
    assert "test\\_small.jsonl" in row
    assert "| the committed bytes were restored |" in row
    shutil.rmtree(store.internal / "verified")
    materialize(store, report)
    assert issues(store, report) == [row]
    assert apply(store, report, "current").findings == []


def issues(store: Store, report: Artifact) -> list[str]:
    """The failures that the report tells of."""
    section = store.read(report, NAME).decode().split("\n## Issues met\n")[1].split("\n## ")[0]
    return [line for line in section.split("\n") if line.startswith("| ")][1:]
