"""What the documents say, and how: nothing by hand, nothing that a manifest says is markup."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import wmtp_assets.documents
from wmtp_assets.catalogue.specs import SPEC_OF_COMPONENT
from wmtp_assets.cli.main import cli
from wmtp_assets.destinations.location import parse_url
from wmtp_assets.documents import pictures
from wmtp_assets.documents.build import remember
from wmtp_assets.documents.documents import document_bytes
from wmtp_assets.documents.facts import gather
from wmtp_assets.documents.markdown import code, escape, shown
from wmtp_assets.documents.migration import COMMANDS
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.storage.store import Store

MODULES = sorted(
    {*Path(wmtp_assets.documents.__file__).parent.glob("*.py")} - {Path(pictures.__file__)}
)
"""All but pictures, whose numbers are colours and inches."""

NAMES = re.compile(
    r"SHA-?256|sha256|phase1|models_v2|datasets_v2|md5|rho_1|croissant/1\.0|Croissant 1\.0|^\.0%$|"
    r"llama2|Llama 2|apache-2\.0|cc-by-nc-4\.0|\[0-9\][{]\d[}]|\\\\\d",
    re.IGNORECASE,
)
"""Digits that are part of a name, a licence or a pattern."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_number_is_written_by_hand(path: Path) -> None:
    """A count that somebody typed is right until the next conversion."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        ast.get_docstring(n, clean=False) for n in ast.walk(tree) if isinstance(n, documented)
    }
    texts = [
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]
    for text in set(texts) - docstrings:
        assert not re.search(r"\d", NAMES.sub("", text)), text


HOSTILE = "a|b`c<script>&amp;[x](http://e.vil)*_~#\\\n\x1b[31m www.e.vil me@e.vil"


def test_text_of_a_manifest_is_no_markup() -> None:
    """A repository or a person may have any name; in the report it is text in one cell."""
    text = escape(HOSTILE)
    assert "\n" not in text and "\x1b" not in text
    assert "<" not in text and ">" not in text
    assert not re.search(r"(?<!\\)[|`*_\[\]#~@:]", text)
    assert "www." not in text
    assert code("a`b|c") == r"a\`b\|c"
    assert code("plain_name") == "`plain_name`"
    assert [shown(value) for value in (None, [], 1234567, ["a", "b"], True)] == [
        *("-", "-", "1,234,567", "a, b", "True"),
    ]


def test_same_storage_same_bytes(store: Store) -> None:
    """A document that differs from itself would be out of date for ever."""
    for artifact in store.catalogue:
        if artifact.kind in ("card", "croissant", "document"):
            facts = gather(store, artifact, store.read)
            data = document_bytes(facts, remember(facts))
            assert data == document_bytes(facts, remember(facts))
            assert data == store.read(artifact, artifact.owns[0])
            assert re.search(rb"20\d\d-\d\d-\d\dT", data) is None


def test_copies_at_the_root(store: Store) -> None:
    """People look at the root first."""
    for name in ("README.md", "RELEASE.json"):
        assert (store.root / name).read_bytes() == (store.root / "docs" / name).read_bytes()


def test_readme_lists_every_artifact(store: Store) -> None:
    """Sizes and hashes of all of them, as their manifests have them."""
    text = store.read(store.catalogue["storage_readme"], "README.md").decode()
    for artifact in store.catalogue:
        if artifact.kind in ("document", "release"):
            continue
        manifest = store.manifest(artifact)
        (row,) = (line for line in text.split("\n") if line.startswith(f"| `{artifact.key}` |"))
        if artifact.kind != "stats":
            assert f"| {manifest.size:,} |" in row
            assert f"`{manifest.content_sha256}`" in row


def test_every_command_of_the_migration_notes_exists() -> None:
    """Somebody will type them instead of a script that is gone."""
    catalogue = load_catalogue()
    keys = {artifact.key for artifact in catalogue}
    for commands in COMMANDS.values():
        for command in commands:
            word, *rest = command.split()
            if word == "wmtp":
                options = {o for param in cli.commands[rest[0]].params for o in param.opts}
                for name in rest[1:]:
                    if "://" in name:
                        assert parse_url(name)
                    else:
                        assert name == "PATH" or name in options or catalogue.select(name)
            else:
                assert word == "dagster"
                (selection,) = re.findall(r"--select '([^']*)'", command)
                for part in re.split(r",| or ", selection):
                    assert part in (
                        "group:models",
                        "group:micro",
                        "group:datasets",
                        "group:small",
                    ) or (part.strip("*") in keys)


def test_checklist_is_that_of_the_plan(store: Store) -> None:
    """An item that is left out looks like one that is done; every artifact proves at least one."""
    from wmtp_assets.documents.completion import CHECKLIST

    assert [item.title for item in CHECKLIST] == [
        *("Directories", "Raw files", "Conversions", "Micro models", "Datasets", "Small sets"),
        *("Statistics", "Integrity", "Documents"),
    ]
    for artifact in store.catalogue:
        assert sum(artifact.kind in item.kinds for item in CHECKLIST) == 3
        assert rules_of(artifact)
    assert "wmtp_assets.components.GeneratedDocument" in SPEC_OF_COMPONENT
