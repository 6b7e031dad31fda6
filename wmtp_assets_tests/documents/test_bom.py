"""The bill of materials of each model and dataset: valid CycloneDX, and true."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wmtp_assets.documents.bom import FILE
from wmtp_assets.operations.verify import findings_of, verify
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.trees import damage, reseal


def boms(store: Store) -> dict[str, dict[str, Any]]:
    """Name of a model or dataset → its bill."""
    return {
        card.spec.name: json.loads(store.read(card, FILE))
        for card in store.catalogue.of_kind("card")
    }


def test_valid_by_the_schema(store: Store) -> None:
    """As CycloneDX publishes it, with no field that it does not know."""
    schema = pytest.importorskip("cyclonedx.schema")
    validation = pytest.importorskip("cyclonedx.validation.json")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    found = boms(store)
    assert len(found) == len(store.catalogue.of_kind("card"))
    for name, bom in found.items():
        assert validator.validate_str(json.dumps(bom)) is None, name


def test_every_file_with_its_hash(store: Store) -> None:
    """Of the model or dataset itself and of all that lies in its folder, as the manifests say."""
    for name, bom in boms(store).items():
        components = [bom["metadata"]["component"], *bom["components"]]
        for component in (it for it in components if "components" in it):
            files = store.manifest(store.catalogue[component["bom-ref"]]).files
            found = {it["name"]: it["hashes"][0]["content"] for it in component["components"]}
            assert found == {path: record.sha256 for path, record in files.items()}, name


def test_lineage_and_licence(store: Store) -> None:
    """What it was made from, to the repository and its commit; each reference leads somewhere."""
    found = boms(store)
    for bom in found.values():
        known = {bom["metadata"]["component"]["bom-ref"]}
        known |= {component["bom-ref"] for component in bom["components"]}
        for row in bom["dependencies"]:
            assert {row["ref"], *row.get("dependsOn", ())} <= known
        assert {row["ref"] for row in bom["dependencies"]} == known
    micro = found["micro_mtp"]
    main = micro["metadata"]["component"]
    assert main["type"] == "machine-learning-model"
    assert main["licenses"] == [{"license": {"name": "Llama 2 Community License"}}]
    (ancestor,) = main["pedigree"]["ancestors"]
    source = store.manifest(store.catalogue["micro_mtp"]).document["source"]
    assert (ancestor["name"], ancestor["version"]) == (source["repo"], source["revision"])
    assert "purl" not in ancestor  # the sample's bytes are not those of the hub
    assert micro["dependencies"][0] == {
        "ref": "micro_mtp",
        "dependsOn": ["meta_llama_mtp_safetensors", "meta_llama_mtp_tokenizer"],
    }
    mbpp = found["mbpp"]["metadata"]["component"]
    assert (mbpp["type"], mbpp["data"][0]["type"]) == ("data", "dataset")
    assert mbpp["licenses"] == [{"license": {"id": "CC-BY-4.0"}}]


def test_bill_that_says_otherwise_is_found(store: Store) -> None:
    """By the rule ``current``: it is made again and compared, as the card is."""
    card = store.catalogue["mbpp_card"]
    damage(store.path(card, FILE), lambda data: data.replace(b"CC-BY-4.0", b"MIT"))
    reseal(store, card)
    (finding, *_) = findings_of(verify(store, [card], only=["current"]))
    assert finding.file == f"{card.base}/{FILE}"
