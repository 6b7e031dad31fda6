"""What the documents say, and how: nothing by hand, nothing that a manifest says is markup."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.catalogue.specs import SPEC_OF_COMPONENT
from wmtp_assets.documents import pictures
from wmtp_assets.documents.document import document_of, facts_now
from wmtp_assets.documents.markdown import FOLDER, code, environment, escape, shown
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.storage import manifest
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.trees import damage, remove_optional

MODULES = sorted({*FOLDER.rglob("*.py")} - {Path(pictures.__file__)})
"""All but pictures, whose numbers are colours and inches."""

NAMES = re.compile(
    r"SHA-?256|sha256|phase1|models_v2|datasets_v2|md5|rho_1|croissant/1\.0|Croissant 1\.0|^\.0%$|"
    r"llama2|Llama 2|apache-2\.0|cc-by-(nc-)?4\.0|\[0-9\][{]\d[}]|\\\\\d|phase 2|folders of v1|"
    r"llama-7b-mtp|bom-1\.6\.|^1\.6$",
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


TEMPLATES = sorted(
    str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.jinja")
)


def source_of(template: str) -> str:
    return (FOLDER / f"{template}.jinja").read_text()


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_number_is_written_in_a_template(template: str) -> None:
    """Nor in its text, nor in what it prints."""
    for line, kind, text in environment().lex(source_of(template)):
        if kind in ("data", "string"):
            assert not re.search(r"\d", NAMES.sub("", text)), (line, text)


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_leave_escaping_to_the_filter(template: str) -> None:
    """Markdown put together with raw text would be escaped as HTML, or not at all: texts are only
    joined to become code, and blocks of text are not kept."""
    from jinja2 import nodes

    tree = environment().parse(source_of(template))
    of_code = [item.node for item in tree.find_all(nodes.Filter) if item.name == "code"]
    sliced = [item.node for item in of_code if isinstance(item, nodes.Getitem)]
    for joined in tree.find_all(nodes.Concat):
        assert joined in [*of_code, *sliced]
    kept = (nodes.Macro, nodes.CallBlock, nodes.AssignBlock, nodes.ScopedEvalContextModifier)
    assert [*tree.find_all(kept)] == []


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


def test_value_without_a_filter_is_escaped() -> None:
    """A template cannot forget to; what is not a value, and a filter that would not, are errors."""
    from jinja2 import TemplateAssertionError, UndefinedError

    def printed(source: str) -> str:
        return environment().from_string(source).render(value=HOSTILE, values=[HOSTILE] * 2)

    assert printed("{{ value }}") == printed("{{ value|shown }}") == escape(HOSTILE)
    assert printed("{{ value|code }}") == code(HOSTILE)
    assert printed("{{ values|join }}") == f"{escape(HOSTILE)}, {escape(HOSTILE)}"
    assert printed("{% filter paragraph %}{{ value }}{% endfilter %}") == f"{escape(HOSTILE)}\n"
    for template in ("{{ value|safe }}", "{{ value|e }}"):
        with pytest.raises(TemplateAssertionError, match="No filter named"):
            printed(template)
    with pytest.raises(UndefinedError):
        printed("{{ values.missing }}")


def hostile(value: Any) -> Any:
    """A JSON value with every text in it replaced."""
    if isinstance(value, dict):
        return {f"{key}{HOSTILE}" if key == "train" else key: hostile(value[key]) for key in value}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


def test_no_document_prints_markup_of_a_manifest(store: Store) -> None:
    """Whatever a manifest says: it is on one line, and in its cell."""
    literal = {str(escape(HOSTILE)), str(code(HOSTILE))}
    wrapped = {text.split(" ", 1)[0] for text in literal}
    for artifact in store.catalogue:
        if artifact.kind not in ("card", "document"):
            continue
        facts = facts_now(store, artifact, rules_of)
        there = [
            replace(fact, manifest=replace(fact.manifest, document=hostile(fact.manifest.document)))
            for fact in facts.there
        ]
        text = document_of(artifact).make(replace(facts, there=tuple(there))).decode()
        assert any(item in text for item in wrapped)
        assert "\x1b" not in text
        assert "script>" not in text
        assert not re.search(r"(?<!\\)\[x|[^\\]`c&lt|www\.|me@", text)
        before = document_of(artifact).make(facts).decode()
        columns = [len(re.findall(r"(?<!\\)\|", line)) for line in text.split("\n")]
        assert {*columns} == {len(re.findall(r"(?<!\\)\|", line)) for line in before.split("\n")}, (
            artifact.key
        )


def test_same_storage_same_bytes(store: Store) -> None:
    """A document that differs from itself would be out of date forever."""
    for artifact in store.catalogue:
        if artifact.kind in ("card", "croissant", "document"):
            make = document_of(artifact).make
            data = make(facts_now(store, artifact, rules_of))
            assert data == make(facts_now(store, artifact, rules_of))
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


def test_checklist_is_that_of_the_plan(store: Store) -> None:
    """An item that is left out looks like one that is done; every artifact proves at least one."""
    from wmtp_assets.documents.of_storage.report import items_of

    report = store.catalogue["completion_report"]
    items = items_of(facts_now(store, report, rules_of))
    assert [item.title for item in items] == [
        *("Directories", "Raw files", "Conversions", "Micro models", "Datasets", "Small sets"),
        *("Statistics", "Integrity", "Documents", "Tag", "Backup"),
    ]
    proofs = [fact.key for item in items for fact in item.there]
    proofs += [artifact.key for item in items for artifact in item.absent]
    assert {*report.upstream, report.key} == {artifact.key for artifact in store.catalogue}
    assert Counter(proofs) == dict.fromkeys(report.upstream, 3)
    assert all(map(rules_of, store.catalogue))
    assert "wmtp_assets.components.GeneratedDocument" in SPEC_OF_COMPONENT


def test_checklist_tells_the_days_on_which_content_was_made(store: Store) -> None:
    """The schedule of a phase is read from what was made, not from what somebody remembers."""
    from wmtp_assets.documents.of_storage.report import items_of

    report = store.catalogue["completion_report"]
    items = {item.title: item for item in items_of(facts_now(store, report, rules_of))}
    assert items["Raw files"].days == "2025-11-13"
    assert items["Backup"].days == ""
    edit_manifest(store, "mbpp_raw", created_at="2025-11-15T00:00:00Z")
    items = {item.title: item for item in items_of(facts_now(store, report, rules_of))}
    assert items["Raw files"].days == "2025-11-13 to 2025-11-15"
    assert items["Conversions"].days == "2025-11-13"


def test_readme_tells_of_each_model_and_dataset(store: Store) -> None:
    """A reader new to the storage learns from it what to use for what, and where it is from."""
    text = store.read(store.catalogue["storage_readme"], "README.md").decode()
    section = text.split("\n### micro-ref\n")[1].split("\n### ")[0]
    for line in (
        "| state | required, v2.0.0 |",
        "| format | safetensors, float16; cast from float16 |",
        "| meant for | mps |",
    ):
        assert f"\n{line}\n" in section
    assert "`safetensors/model.safetensors`" in section
    assert "\n| tokenizer | that of `" in section
    assert "](https://huggingface.co/princeton-nlp/Sheared-LLaMA-2.7B)" in section
    section = text.split("\n### humaneval\n")[1].split("\n### ")[0]
    assert "\n| samples | test 164 |\n" in section
    assert "\n| `is_correct` | no, it is null in pairs |\n" in section
    assert "\n| may be used for | evaluation |\n" in section
    assert "| `codecontests` | 2,048 | `meta_llama_mtp_tokenizer` |" in text
    assert "| `datasets_local_small/mbpp_small/` | train 100, validation 32, test 32 |" in text
    assert "\n| v2.0.0 | 2025-11-13 | " in text
    for heading in ("Schema of a row", "Publishing", "Verifying", "Versions", "Cautions"):
        assert f"\n## {heading}\n" in text


def test_optional_model_that_is_not_there_is_said_to_be_so(store: Store) -> None:
    """A reader must not look for files that nobody made."""
    remove_optional(store)
    text = (store.root / "README.md").read_text()
    section = text.split("\n### starling-rm-7b\n")[1].split("\n### ")[0]
    assert "\n| state | optional, not there |\n" in section
    assert "| numbers |" not in section


def test_version_without_an_entry_in_the_changelog_shows(store: Store) -> None:
    """Nobody notices a line that is missing; one that says so is noticed."""
    readme = store.catalogue["storage_readme"]
    edit_manifest(store, "mbpp_small", version="v2.1.0")
    text = document_of(readme).make(facts_now(store, readme, rules_of)).decode()
    assert "\n| v2.1.0 | - | not described yet |\n| v2.0.0 | 2025-11-13 | " in text


def test_migration_notes_quote_what_documents_said(store: Store) -> None:
    """A reader who knows a document's number finds it beside what was counted."""
    text = store.read(store.catalogue["migration_notes"], "migration_notes.md").decode()
    rows = store.manifest(store.catalogue["codecontests_processed"]).document["splits"]
    for split, said in (
        *(("train", "3.2 M"), ("valid", "15 K"), ("test", "8 K")),
        *(("train", "15,000-20,000"), ("train", "10,489"), ("test", "122")),
    ):
        assert f" | {split} | {said} | {rows[split]['rows']:,} |\n" in text
    assert "`vendor/meta_llama/`" in text


def edit_manifest(store: Store, key: str, **changes: Any) -> None:
    """Say something else in the manifest of a copy, and seal it."""
    path = store.manifest_path(store.catalogue[key])
    data = manifest.amend(store.manifest(store.catalogue[key]), changes)
    damage(path, lambda _: data)
