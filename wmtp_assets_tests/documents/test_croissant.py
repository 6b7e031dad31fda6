"""Croissant metadata, through the library that others read it with."""

from __future__ import annotations

import itertools
import json

import pytest

from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.storage.store import Store

mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")

RECOMMENDED = 'Property "https://schema.org/datePublished" is recommended, but does not exist.'
"""The one warning: nobody knows the day."""


@pytest.mark.parametrize("name", ["codecontests", "gsm8k", "humaneval", "mbpp"])
def test_validates_and_reads_the_rows(store: Store, name: str) -> None:
    """It names fields and files of the real JSONL: rows read through it are the rows."""
    artifact = store.catalogue[f"{name}_croissant"]
    assert isinstance(artifact.spec, DatasetSpec)
    dataset = mlcroissant.Dataset(jsonld=store.path(artifact, "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    warnings = dataset.metadata.ctx.issues.warnings
    assert all(RECOMMENDED in warning for warning in warnings), warnings
    for split in artifact.spec.processed_splits:
        path = store.path(store.catalogue[f"{name}_processed"], f"processed/{split}.jsonl")
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in itertools.islice(file, 3)]
        records = list(itertools.islice(dataset.records(record_set=split), 3))
        for row, record in zip(rows, records, strict=True):
            assert {key: _text(value) for key, value in record.items()} == {
                f"{split}/{key}": value for key, value in _flat(row)
            }


def test_hash_of_every_file_is_that_of_the_manifest(store: Store) -> None:
    """The library compares it when it downloads."""
    document = json.loads(store.read(store.catalogue["mbpp_croissant"], "croissant.json"))
    files = store.manifest(store.catalogue["mbpp_processed"]).files
    assert document["isLiveDataset"] is False
    for item in document["distribution"]:
        assert item["sha256"] == files[item["contentUrl"]].sha256


def _flat(row: dict[str, object]) -> list[tuple[str, object]]:
    pairs = []
    for key, value in row.items():
        if isinstance(value, dict):
            pairs += [(f"{key}/{inner}", item) for inner, item in value.items()]
        else:
            pairs.append((key, value))
    return pairs


def _text(value: object) -> object:
    if isinstance(value, list):
        return [_text(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value
