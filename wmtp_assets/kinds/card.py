"""The model or dataset card, as the hub has it, and its bill of materials: ``README.md`` and
``bom.cdx.json`` in the folder of either."""

from __future__ import annotations

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, MicroSpec, ModelSpec
from wmtp_assets.documents.document import build_document, make_document
from wmtp_assets.kinds.registry import Before, Kind

Described = ModelSpec | MicroSpec | DatasetSpec


def artifacts(spec: Described, before: Before) -> list[Artifact[Described]]:
    """``<name>_card``."""
    is_micro = isinstance(spec, MicroSpec)
    if isinstance(spec, DatasetSpec):
        group, parts = "datasets", ("processed",)
    else:
        group, parts = "models", ("raw", "tokenizer", "safetensors")
    return [
        Artifact(
            f"{spec.name}_card",
            "card",
            spec,
            "micro" if is_micro else group,
            spec.unit,
            manifest="README.metadata.json",
            owns=("README.md", "bom.cdx.json"),
            roles={"micro": spec.name}
            if is_micro
            else {part: f"{spec.name}_{part}" for part in parts},
            optional=spec.is_optional,
            is_local=is_micro,
            is_generated=True,
        )
    ]


KIND = Kind[Described](
    "card",
    (ModelSpec, MicroSpec, DatasetSpec),
    artifacts,
    build_document,
    words="The card that the hub shows: what is there, licence, lineage, how to load it; and the "
    "same for tools, as a CycloneDX bill of materials.",
    tags=("markdown",),
    again=make_document,
    item="Documents",
    version=4,
    fields=(
        "description",
        "repository.id",
        "repository.license",
        "variants",
        "citation",
        "uses",
        "pretty_name",
        "language",
    ),
)
