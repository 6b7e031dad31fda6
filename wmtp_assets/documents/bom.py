"""``bom.cdx.json`` beside a card: what a model or dataset consists of and comes from, as a
CycloneDX ML-BOM, for tools that read one.

Source: https://cyclonedx.org/docs/1.6/json/. It has no time and no random number: the same
manifests give the same bytes, and its serial number follows from their content hashes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from wmtp_assets.base.text import json_text
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.documents.document import SAMPLE, Fact, Facts
from wmtp_assets.storage.manifest import Document

FILE = "bom.cdx.json"

_SPDX = ("Apache-2.0", "CC-BY-4.0", "CC-BY-NC-4.0", "MIT")
"""Licences that CycloneDX knows by their SPDX identifier; others are named."""

_OF_A_KIND = {"processed": "data", "raw": "data", "tokenizer": "data"}
"""What CycloneDX calls an artifact; a model otherwise."""


def bom(facts: Facts) -> bytes:
    """The bill of materials of a model or dataset."""
    (main,) = facts.of("safetensors", "micro", "processed")
    parts = [fact for fact in facts.there if fact.key != main.key]
    there = {fact.key for fact in facts.there}
    made_from = {fact.key: dict(fact.pairs("upstream")) for fact in facts.there}
    others = {
        key: sha256
        for upstream in made_from.values()
        for key, sha256 in sorted(upstream.items())
        if key not in there
    }
    serial = "".join(fact.content_sha256 for fact in facts.there)
    document = json_text(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, serial)}",
            "version": 1,
            "metadata": {
                "tools": {"components": [{"type": "application", "name": "wmtp_assets"}]},
                "component": _main(facts, main),
            },
            "components": [
                *(_component(fact) for fact in parts),
                *(_elsewhere(key, sha256) for key, sha256 in others.items()),
            ],
            "dependencies": [
                *({"ref": key, "dependsOn": sorted(made_from[key])} for key in sorted(made_from)),
                *({"ref": key} for key in sorted(others)),
            ],
        }
    )
    return f"{document}\n".encode()


def _main(facts: Facts, fact: Fact) -> Document:
    """The model or dataset itself, with what CycloneDX has for either."""
    spec = facts.about.spec
    sample = f"{SAMPLE} " if facts.is_sample else ""
    component = {
        **_component(fact),
        "description": f"{sample}{spec.description}",
        "licenses": [_license(str(fact.stated("source", "license")))],
        "pedigree": {"ancestors": [_origin(facts, fact)]},
    }
    if isinstance(spec, DatasetSpec):
        splits = _properties(
            (f"wmtp:rows:{name}", fact.counted("splits", name, "rows"))
            for name in map(str, fact.listed("splits"))
        )
        contents = {"properties": splits} if splits else {}
        return component | {"data": [{"type": "dataset", "name": spec.name, "contents": contents}]}
    origin = facts.store.catalogue.root_of(spec)
    name = fact.stated("architecture", "class")
    return component | {
        "modelCard": {
            "modelParameters": {
                "task": "text-generation",
                "architectureFamily": origin.family,
                **({"modelArchitecture": str(name)} if name else {}),
            },
            "properties": _properties(
                (f"wmtp:{key}", fact.stated(key)) for key in ("n_params", "dtype")
            ),
        }
    }


def _component(fact: Fact) -> Document:
    """An artifact, with its files and their hashes."""
    return {
        "type": _OF_A_KIND.get(fact.artifact.kind, "machine-learning-model"),
        "bom-ref": fact.key,
        "name": fact.key,
        "version": str(fact.stated("version")),
        "properties": _properties([("wmtp:content_sha256", fact.content_sha256)]),
        "components": [
            {
                "type": "file",
                "bom-ref": f"{fact.key}/{name}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": record.sha256}],
                "properties": _properties([("wmtp:bytes", record.size)]),
            }
            for name, record in sorted(fact.files.items())
        ],
    }


def _elsewhere(key: str, sha256: Any) -> Document:
    """An artifact that this one was made from and that has a bill of its own."""
    return {
        "type": "data",
        "bom-ref": key,
        "name": key,
        "properties": _properties([("wmtp:content_sha256", sha256)]),
    }


def _origin(facts: Facts, fact: Fact) -> Document:
    """The repository that the bytes come from, at its commit, with the files that were taken."""
    repo, revision = str(fact.stated("source", "repo")), str(fact.stated("source", "revision"))
    is_model = fact.stated("source", "type") == "model"
    spec = facts.about.spec
    named = spec if isinstance(spec, DatasetSpec) else facts.store.catalogue.root_of(spec)
    is_of_hub = not facts.is_sample and not named.repository.is_folder
    return {
        "type": "machine-learning-model" if is_model else "data",
        "name": repo,
        "version": revision,
        **({"purl": f"pkg:huggingface/{repo}@{revision}"} if is_of_hub and is_model else {}),
        "licenses": [_license(str(fact.stated("source", "license")))],
        "components": [
            {
                "type": "file",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": str(sha256)}],
            }
            for name, sha256 in fact.pairs("source", "files")
        ],
        "properties": _properties([("wmtp:endpoint", fact.stated("source", "endpoint"))]),
    }


def _license(name: str) -> Document:
    return {"license": {"id": name} if name in _SPDX else {"name": name}}


def _properties(pairs: Iterable[tuple[str, Any]]) -> list[Document]:
    """Names with values, without those that are not known."""
    return [{"name": name, "value": str(it)} for name, it in pairs if it is not None]
