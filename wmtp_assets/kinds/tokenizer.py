"""The tokenizer of a model, its own or another model's."""

from __future__ import annotations

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import ModelSpec
from wmtp_assets.checkpoints.tokenizer import build_tokenizer, tokenizer_of
from wmtp_assets.kinds.registry import Before, Kind
from wmtp_assets.storage.manifest import Document


def artifacts(spec: ModelSpec, before: Before) -> list[Artifact[ModelSpec]]:
    """``<name>_tokenizer``: ``tokenizer/``, from the raw files or another model."""
    return [
        Artifact(
            f"{spec.name}_tokenizer",
            "tokenizer",
            spec,
            "models",
            f"{spec.unit}/tokenizer",
            roles={"raw": f"{spec.name}_raw"}
            if spec.files.tokenizer
            else {"shared": f"{spec.tokenizer.shared_with}_tokenizer"},
            optional=spec.is_optional,
        )
    ]


def decides(artifact: Artifact[ModelSpec]) -> Document:
    """What decides about it where the spec says so: files of upstream's that are kept."""
    kept = artifact.spec.files.tokenizer_beside
    return {"files.tokenizer_beside": [*kept]} if kept else {}


KIND = Kind[ModelSpec](
    "tokenizer",
    (ModelSpec,),
    artifacts,
    build_tokenizer,
    words="The tokenizer, proven by its SHA-256.",
    tags=("sentencepiece",),
    item="Conversions",
    version=2,
    fields=("files.tokenizer",),
    facts=decides,
    taken=tokenizer_of,
)
