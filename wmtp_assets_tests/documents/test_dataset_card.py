"""The dataset card, through what reads it: ``datasets`` and the hub's own library."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from huggingface_hub import DatasetCard

from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.documents.document import SAMPLE, document_of, facts_now
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.rows import read_jsonl
from wmtp_assets_tests.respec import respec

NAMES = ("codecontests", "gsm8k", "humaneval", "mbpp")


def splits_of(store: Store, name: str) -> list[str]:
    spec = store.catalogue[f"{name}_card"].spec
    assert isinstance(spec, DatasetSpec)
    return [*spec.processed_splits]


@pytest.mark.parametrize("name", NAMES)
def test_folder_is_loaded_bare(store: Store, tmp_path: Path, name: str) -> None:
    """``load_dataset(folder)`` gives every split under our name for it, with one set of columns,
    and no other file of the folder: without the card it took raw, pairs and tests together."""
    folder = store.root / f"datasets_v2/{name}"
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    assert [*loaded] == splits_of(store, name)
    assert len({str(split.features) for split in loaded.values()}) == 1
    for split, table in loaded.items():
        rows = [row for _, row in read_jsonl(folder / f"processed/{split}.jsonl")]
        assert table.select_columns([*rows[0]]).to_list() == rows


def test_copy_of_the_folder_is_loaded_too(store: Store, tmp_path: Path) -> None:
    """The paths are those inside the folder, as the hub would have them."""
    copy = tmp_path / "copy"
    for name in ("README.md", "index"):
        there = store.root / "datasets_v2/humaneval" / name
        (shutil.copytree if there.is_dir() else shutil.copy)(there, _parent(copy / name))
    (table,) = datasets.load_dataset(str(copy), cache_dir=str(tmp_path / "cache")).values()
    assert len(table) == 164


def _parent(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize(
    ("name", "license", "size"),
    [
        ("codecontests", "cc-by-4.0", "1K<n<10K"),
        ("gsm8k", "mit", "1K<n<10K"),
        ("humaneval", "mit", "n<1K"),
        ("mbpp", "cc-by-4.0", "n<1K"),
    ],
)
def test_hub_reads_the_front_matter(store: Store, name: str, license: str, size: str) -> None:
    """What the hub's page would show and filter by."""
    card = DatasetCard.load(store.root / f"datasets_v2/{name}/README.md")
    spec = store.catalogue[f"{name}_card"].spec
    assert card.data.to_dict() == {
        "license": license,
        "pretty_name": spec.pretty_name,
        "language": ["en"],
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "source_datasets": [spec.repository.id],
        "tags": ["wmtp", "sample"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"index/{split}.parquet"}
                    for split in splits_of(store, name)
                ],
            }
        ],
    }
    assert card.text.lstrip().startswith(f"> {SAMPLE}\n")


def front_matter(store: Store, rows: int) -> dict[str, Any]:
    """What the card of MBPP begins with, if it had as many rows."""
    artifact = store.catalogue["mbpp_card"]
    facts = facts_now(store, artifact, rules_of)
    (fact,) = facts.there
    said = {**fact.manifest.document, "rows": rows}
    fact = replace(fact, manifest=replace(fact.manifest, document=said))
    data = document_of(artifact).make(replace(facts, there=(fact,)))
    return yaml.safe_load(data.decode().split("---\n")[1])


@pytest.mark.parametrize(
    ("rows", "size"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (3_706_557, "1M<n<10M"),
        (10**8, "100M<n<1B"),
        (10**9, "1B<n<10B"),
        (10**12, "n>1T"),
    ],
)
def test_size_is_one_of_the_hubs(store: Store, rows: int, size: str) -> None:
    """The hub refuses a card with a category that it does not know."""
    assert front_matter(store, rows)["size_categories"] == [size]


def test_card_of_a_dataset_of_which_less_is_said(store: Store) -> None:
    """A licence that the hub has no word for has its own name; what nobody said is left out."""
    spec = store.catalogue["mbpp_card"].spec
    repository = {**spec.repository.model_dump(), "license": "House rules 1.0", "gated": True}
    other = respec(
        store, "mbpp", repository=repository, pretty_name=None, language=(), citation=None
    )
    made = front_matter(other, 1)
    assert (made["license"], made["license_name"]) == ("other", "House rules 1.0")
    assert made["pretty_name"] == "mbpp"
    assert "language" not in made
    card = other.catalogue["mbpp_card"]
    text = " ".join(document_of(card).make(facts_now(other, card, rules_of)).decode().split())
    assert "access is given there after its licence is accepted" in text
    assert "Cite:" not in text
