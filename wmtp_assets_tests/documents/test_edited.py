"""The YAML files that people edit: what is wrong in one is said with its line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.yaml_file import read_model
from wmtp_assets.catalogue.specs import DEFS_FOLDER, DocumentSpec
from wmtp_assets.documents.edited import ActionItems, Changelog, Notes
from wmtp_assets.documents.of_storage import migration, readme, report
from wmtp_assets.kinds.registry import kind_of, load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.examples import EPOCH
from wmtp_assets_tests.rules.cases import apply

ITEM = """\
action_items:
  - title: Move it
    owner: somebody
    state: open
    opened: 2025-11-13
"""

CHANGE = """\
versions:
  - version: v2.0.0
    date: 2025-11-13
    changes: [first]
"""

WRONG = {
    "alias, of which a few lines can stand for gigabytes": (
        "x: &a [1]\naction_items: *a\n",
        ActionItems,
        r":2: not YAML: an alias$",
    ),
    "a list as key": ("? [a, b]\n: c\n", ActionItems, r":1: not YAML: a key that is a list"),
    "a map as key": ("{a: 1}: c\n", ActionItems, r":1: not YAML: a key that is a list or a map$"),
    "unknown field": (
        ITEM + "    priority: high\n",
        ActionItems,
        r":6: action_items\.0\.priority: unknown field; known fields: title, owner, "
        r"state, opened, closed, blocks_next_phase$",
    ),
    "unknown field above": (
        ITEM + "todo: []\n",
        ActionItems,
        r":6: todo: unknown field; known fields: action_items$",
    ),
    "unknown state": (
        ITEM.replace("state: open", "state: maybe"),
        ActionItems,
        r":4: action_items\.0\.state: Input should be \'open\' or \'closed\'",
    ),
    "no owner": (
        ITEM.replace("    owner: somebody\n", ""),
        ActionItems,
        r":2: action_items\.0\.owner: Field required",
    ),
    "no day": (
        ITEM.replace("2025-11-13", "2025-13-13"),
        ActionItems,
        r":5: action_items\.0\.opened: .*month",
    ),
    "closed without its day": (
        ITEM.replace("state: open", "state: closed"),
        ActionItems,
        r":2: action_items\.0: .*a closed item says when it was closed",
    ),
    "closed before it was opened": (
        ITEM.replace("state: open", "state: closed") + "    closed: 2025-11-12\n",
        ActionItems,
        r":2: action_items\.0: .*closed before it was opened",
    ),
    "duplicate key": (
        ITEM + "    owner: another\n",
        ActionItems,
        r":6: not YAML: duplicate key \'owner\'",
    ),
    "several lines": (
        ITEM.replace("Move it", "|\n      Move\n      it"),
        ActionItems,
        r":2: action_items\.0\.title: ",
    ),
    "no YAML": (ITEM + "  - [\n", ActionItems, r":7: not YAML: "),
    "empty": ("", ActionItems, r":1: Input should be a valid dictionary"),
    "unknown field of a version": (
        CHANGE + "    author: me\n",
        Changelog,
        r":5: versions\.0\.author: unknown field; known fields: version, date",
    ),
    "no version": (
        CHANGE.replace("v2.0.0", "2.0"),
        Changelog,
        r":2: versions\.0\.version: String should match pattern",
    ),
    "version twice": (
        CHANGE + CHANGE.split("\n", 1)[1],
        Changelog,
        r":1: .*each once, the newest first",
    ),
    "unknown field of a risk": (
        "quoted_counts: []\nrisks:\n  - {risk: a, effect: b, met_by: c, odds: d}\n",
        Notes,
        r":3: risks\.0\.odds: unknown field; known fields: risk, effect, met_by$",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, name: str) -> None:
    """Whoever edits the file does not know the program."""
    text, model, message = WRONG[name]
    path = tmp_path / "edited.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as raised:
        read_model(path, model)
    assert str(raised.value).startswith(str(path))
    assert re.search(message, str(raised.value)), raised.value


def test_missing_file(tmp_path: Path) -> None:
    """It is not taken for one without items."""
    with pytest.raises(InvalidInput, match=r"none\.yaml cannot be read: No such file"):
        read_model(tmp_path / "none.yaml", ActionItems)


def test_words_are_words(tmp_path: Path) -> None:
    """In YAML ``no`` and ``2.0`` are not texts."""
    path = tmp_path / "edited.yaml"
    path.write_text(ITEM.replace("Move it", "no").replace("somebody", "2.0"))
    (item,) = read_model(path, ActionItems).action_items
    assert (item.title, item.owner) == ("no", "2.0")


@pytest.fixture
def edited(store: Store, tmp_path: Path) -> tuple[Store, Path]:
    """The same root, declared by a copy of the specs, and their folder."""
    folder = tmp_path / "defs"
    shutil.copytree(DEFS_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return Store(store.settings, load_catalogue(folder)), folder


def test_document_is_out_of_date_when_its_file_changes(
    edited: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item that was closed must not stay open in what people read; what a document was made
    with says which file it was."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    store, folder = edited
    notes, report_ = store.catalogue["migration_notes"], store.catalogue["completion_report"]
    assert apply(store, notes, "current").findings == []
    before = store.manifest(notes).document["made_with"]
    assert before == kind_of(notes).made_with(store, notes)
    path = folder / "reports/migration_notes/action_items.yaml"
    path.write_text(path.read_text().replace("Copy configs", "Fetch configs"))
    assert before != kind_of(notes).made_with(store, notes)
    for artifact in (notes, report_):
        (finding,) = apply(store, artifact, "current").findings
        assert str(finding.expected).startswith("| Fetch configs/")
        materialize(store, artifact)
        assert apply(store, artifact, "current").findings == []
    assert b"| Fetch configs/" in store.read(report_, report.DOCUMENT.file)


def test_wrong_file_stops_the_document_and_is_a_finding(edited: tuple[Store, Path]) -> None:
    """Nothing is made of half of it."""
    store, folder = edited
    path = folder / "reports/storage_readme/changelog.yaml"
    path.write_text(path.read_text() + "author: me\n")
    artifact = store.catalogue["storage_readme"]
    before = store.read(artifact, "README.md")
    with pytest.raises(InvalidInput, match=r"changelog\.yaml:\d+: author: unknown field"):
        materialize(store, artifact)
    assert store.read(artifact, "README.md") == before
    (finding,) = apply(store, artifact, "current").findings
    assert "changelog.yaml" in finding.found


def test_files_lie_where_documents_look_for_them() -> None:
    """And each is one that a document names."""
    named = {
        "migration_notes": migration.DOCUMENT.edited,
        "storage_readme": readme.DOCUMENT.edited,
        "completion_report": report.DOCUMENT.edited,
    }
    for spec in load_catalogue().specs:
        if isinstance(spec, DocumentSpec):
            there = {path.name for path in spec.beside("x").parent.glob("*.yaml")}
            assert there - {"defs.yaml"} == {*named.get(spec.name, ())}
