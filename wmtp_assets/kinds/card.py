"""The model card, as the hub has it: ``README.md`` in the model's folder."""

from __future__ import annotations

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import MicroSpec, ModelSpec
from wmtp_assets.documents.document import build_document, make_document
from wmtp_assets.kinds.registry import Before, Kind

Model = ModelSpec | MicroSpec


def artifacts(spec: Model, before: Before) -> list[Artifact[Model]]:
    """``<name>_card``."""
    is_micro = isinstance(spec, MicroSpec)
    return [
        Artifact(
            f"{spec.name}_card",
            "card",
            spec,
            "micro" if is_micro else "models",
            spec.unit,
            manifest="README.metadata.json",
            owns=("README.md",),
            roles={"micro": spec.name}
            if is_micro
            else {part: f"{spec.name}_{part}" for part in ("raw", "tokenizer", "safetensors")},
            optional=spec.is_optional,
            is_local=is_micro,
            is_generated=True,
        )
    ]


KIND = Kind[Model](
    "card",
    (ModelSpec, MicroSpec),
    artifacts,
    build_document,
    words="The model card: tensors, parameters, licence and lineage.",
    tags=("markdown",),
    again=make_document,
    item="Documents",
    fields=("description", "repository.id", "repository.license", "variants"),
)
