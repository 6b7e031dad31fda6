"""The checkpoint of a full-size model as one safetensors file, in one dtype or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.catalogue.specs import DTYPE_SUFFIXES, DType, ModelSpec
from wmtp_assets.checkpoints.convert import build_safetensors
from wmtp_assets.kinds import checkpoint
from wmtp_assets.kinds.kind import Before, Kind

BYTES: Mapping[DType, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Of a number."""


def artifacts(spec: ModelSpec, before: Before) -> Iterator[Artifact[ModelSpec]]:
    """``<name>_safetensors``, and for each variant ``<name>_bf16`` or the like, in a folder of its
    own, optional."""
    roles = {"raw": f"{spec.name}_raw", "tokenizer": f"{spec.name}_tokenizer"}
    yield Artifact(
        f"{spec.name}_safetensors",
        "safetensors",
        spec,
        "models",
        spec.unit,
        owns=("safetensors", "configs"),
        roles=roles,
        dtype=spec.dtype,
        optional=spec.is_optional,
        guests=(VALUE_HEAD,),
        recorded=("value_head",),
    )
    for dtype in spec.variants:
        suffix = DTYPE_SUFFIXES[dtype]
        yield Artifact(
            f"{spec.name}_{suffix}",
            "safetensors",
            spec,
            "models",
            f"{spec.unit}/safetensors-{suffix}",
            roles=roles,
            dtype=dtype,
            optional=True,
        )


def _size(artifact: Artifact[ModelSpec], raw: int) -> float:
    """Upstream's checkpoints are float32."""
    return raw * BYTES[artifact.dtype or "float32"] / 4


KIND = Kind[ModelSpec](
    "safetensors",
    (ModelSpec,),
    artifacts,
    build_safetensors,
    words="The checkpoint as one safetensors file, with configs derived from it.",
    tags=("pytorch", "safetensors"),
    item="Conversions",
    fields=("folder", "family", "dtype", "files", "target_device", "status"),
    size=_size,
    pictures=checkpoint.pictures,
)
