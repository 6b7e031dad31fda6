"""A micro model cut from a full-size one: checkpoint, configs and the parent's tokenizer."""

from __future__ import annotations

from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.catalogue.specs import MicroSpec
from wmtp_assets.checkpoints.beside import decides, taken
from wmtp_assets.checkpoints.micro import build_micro
from wmtp_assets.kinds.registry import Before, Kind
from wmtp_assets.kinds.safetensors import pictures


def artifacts(spec: MicroSpec, before: Before) -> list[Artifact[MicroSpec]]:
    """``<name>``, which owns its whole folder but the card."""
    return [
        Artifact(
            spec.name,
            "micro",
            spec,
            "micro",
            spec.unit,
            owns=("safetensors", "tokenizer", "configs"),
            roles={
                "safetensors": f"{spec.parent}_safetensors",
                "tokenizer": f"{spec.parent}_tokenizer",
            },
            dtype=spec.dtype,
            optional=spec.is_optional,
            guests=(VALUE_HEAD,),
            recorded=("value_head",),
            is_local=True,
        )
    ]


KIND = Kind[MicroSpec](
    "micro",
    (MicroSpec,),
    artifacts,
    build_micro,
    words="A micro model: checkpoint, configs and the parent's tokenizer.",
    tags=("pytorch", "safetensors"),
    item="Micro models",
    version=3,
    fields=("folder", "parent", "shape", "tied"),
    facts=decides,
    taken=taken,
    size=lambda artifact, raw: artifact.spec.max_bytes,
    is_bound=True,
    pictures=pictures,
)
