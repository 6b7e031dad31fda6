"""What README and docs/ tell people to type is typed here, in a copy of the project."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from wmtp_assets.base.settings import Settings
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.clients.environments import names
from wmtp_assets_tests.pages import PROJECT, Block, Copy, blocks_of, pages
from wmtp_assets_tests.trees import damage

DATASET = PROJECT / "docs/adding-a-dataset.md"
MODEL = PROJECT / "docs/adding-a-model.md"
DOCUMENT = PROJECT / "docs/adding-a-document.md"
ONE_PLACE = [PROJECT / f"docs/adding-a-{what}.md" for what in ("rule", "kind")]
"""``kinds/test_one_place.py`` does what they say."""


@pytest.fixture
def copy(tmp_path: Path, root: Path) -> Copy:
    """A copy of the project, over a copy of the good tree."""
    return Copy.make(tmp_path / "project", root)


def test_marks_are_known() -> None:
    """A misspelt mark would be a block that nobody runs."""
    for page in pages():
        for block in blocks_of(page):
            known = {("bash", "test"), ("python", "test"), ("diff", "apply")}
            is_known = block.file or (block.language, block.mark) in known
            is_of_clients = block.clients and {*block.clients} <= {*names()}
            assert is_known or is_of_clients, (page, block)


@pytest.mark.long
@pytest.mark.parametrize(
    "page",
    [page for page in pages() if page not in (DATASET, MODEL, DOCUMENT, *ONE_PLACE)],
    ids=lambda page: page.name,
)
def test_commands_of_a_page(copy: Copy, page: Path) -> None:
    """The first thing a newcomer does is to copy them; the damage that a page makes is found."""
    output = "".join(copy.do(block) for block in blocks_of(page) if not block.clients)
    assert output
    assert ("exit code 1" in output) == ("exit code $?" in page.read_text())


def take_away(copy: Copy, blocks: list[Block], name: str) -> None:
    """Undo what a page adds, and what was made from it."""
    for block in reversed(blocks):
        if block.file:
            path = copy.folder / block.file
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        elif block.language == "diff":
            copy.apply(block, reverse=True)
    left = subprocess.run(
        ["grep", "-ril", name, "wmtp_assets"], cwd=copy.folder, capture_output=True, text=True
    )
    assert left.stdout == ""
    made = (f"*/{name}*", f".wmtp/*/{name}_*", f".wmtp/hub/*/*/{name}*")
    for path in [path for pattern in made for path in copy.root.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.long
def test_adding_a_dataset(copy: Copy) -> None:
    """GSM8K is taken out of a copy, and the page puts it back: its assets are made, every rule
    holds, and the code is the project's own, but for the sample, which is shorter in the page."""
    blocks = blocks_of(DATASET)
    take_away(copy, blocks, "gsm8k")
    listed = copy.run("dagster asset list").stdout
    assert "mbpp_raw" in listed
    assert "gsm8k" not in listed

    (output,) = [text for text in map(copy.do, blocks) if text]
    mine = [item for item in load_catalogue() if item.spec.name == "gsm8k"]
    assert f"{sum(len(rules_of(item)) for item in mine)} rules applied, 0 failed" in output
    assert "7 of 7 optional ones" in output
    assert '"final_answer": "24"' in output.splitlines()[-1]
    assert copy.run("dagster asset list").stdout.count("gsm8k_") == 7
    for block in blocks:
        if block.file and "sample" not in block.file:
            assert block.text == (PROJECT / block.file).read_text()
    for path in (copy.folder / "wmtp_assets").rglob("*.py"):
        name = path.relative_to(copy.folder)
        if "sample/gsm8k" not in str(name):
            assert path.read_bytes() == (PROJECT / name).read_bytes(), name


@pytest.mark.long
def test_adding_a_model(copy: Copy) -> None:
    """A full model with its sample repository, and a micro model from one file: made, verified, and
    in the parameter snapshot."""
    before = {item.key for item in load_catalogue()}
    output = "".join(map(copy.do, blocks_of(MODEL)))
    assert output.count(", 0 failed") == 2
    store = Store(Settings("sample", copy.root), load_catalogue(copy.folder / "wmtp_assets/defs"))
    added = [item for item in store.catalogue if item.key not in before]
    assert [item.key for item in added] == [
        "pocket_llama_raw",
        "pocket_llama_tokenizer",
        "pocket_llama_safetensors",
        "pocket_llama_card",
        "nano_ref",
        "nano_ref_card",
    ]
    for item in added:
        assert store.manifest(item).size
    defaults = (copy.root / "configs/defaults.yaml").read_text()
    assert "pocket-llama:" in defaults
    assert "nano-ref:" in defaults


MAKE_REPORT = """
from wmtp_assets.base.settings import read_settings
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store

store = Store(read_settings(), load_catalogue())
materialize(store, store.catalogue["completion_report"])
"""


@pytest.mark.long
def test_adding_a_document(copy: Copy) -> None:
    """One module with its template and one spec, no other file: the document is made, every rule
    of it holds, and the report lists it. A manifest that changes makes it out of date."""
    blocks = blocks_of(DOCUMENT)
    assert [block.file for block in blocks] == [
        "wmtp_assets/documents/of_storage/licences.jinja",
        "wmtp_assets/documents/of_storage/licences.py",
        "wmtp_assets/defs/reports/licences/defs.yaml",
        "",
    ]
    output = "".join(map(copy.do, blocks))
    assert "3 rules applied, 0 failed" in output
    said = (copy.root / "docs/licences.md").read_text()
    assert output.endswith(said)
    raw = [item for item in load_catalogue() if item.kind == "raw"]
    assert [line.split(" | ")[0] for line in said.split("\n") if line.startswith("| `")] == [
        f"| `{item.key}`" for item in raw
    ]
    assert "| `mbpp_raw` | `google-research-datasets/mbpp` | CC-BY-4.0 | " in said
    copy.run(f"python - <<'EOF'\n{MAKE_REPORT}EOF")
    listed = (copy.root / "docs/phase1_completion_report.md").read_text()
    assert "| `licences` | 1 file, " in listed
    damage(copy.root / "docs/licences.md", lambda data: data.replace(b"CC-BY-4.0", b"MIT", 1))
    found = copy.run("wmtp verify licences || echo exit code $?").stdout
    assert "exit code 1" in found
    assert "licences current: FAILED" in found
    said = " ".join(found.split())  # as verify says it: its lines are wrapped
    assert re.search(r"expected \| `codecontests_raw` .* CC-BY-4\.0 .*, found .* MIT ", said)
