"""The checkpoint of a full-size model as one safetensors file, in one dtype or several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.catalogue.specs import DTYPE_SUFFIXES, ModelSpec
from wmtp_assets.checkpoints.beside import decides, taken
from wmtp_assets.checkpoints.convert import build_safetensors
from wmtp_assets.checkpoints.families import FAMILIES
from wmtp_assets.checkpoints.safetensors_file import DTYPE_CODES, ITEM_SIZE, TensorEntry
from wmtp_assets.documents.pictures import parts
from wmtp_assets.kinds.registry import Before, Kind
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Store


def artifacts(spec: ModelSpec, before: Before) -> list[Artifact[ModelSpec]]:
    """``<name>_safetensors``, and for each variant ``<name>_bf16`` or the like, in a folder of its
    own, optional."""
    roles = {"raw": f"{spec.name}_raw", "tokenizer": f"{spec.name}_tokenizer"}
    return [
        Artifact(
            f"{spec.name}_safetensors",
            "safetensors",
            spec,
            "models",
            spec.unit,
            owns=("safetensors", "configs"),
            roles=roles,
            dtype=spec.dtype,
            optional=spec.is_optional,
            # of what makes no claim the hidden size is unknown
            guests=(VALUE_HEAD,) if spec.family != "any" else (),
            recorded=("value_head",),
        ),
        *(
            Artifact(
                f"{spec.name}_{DTYPE_SUFFIXES[dtype]}",
                "safetensors",
                spec,
                "models",
                f"{spec.unit}/safetensors-{DTYPE_SUFFIXES[dtype]}",
                roles=roles,
                dtype=dtype,
                optional=True,
            )
            for dtype in spec.variants
        ),
    ]


def facts(artifact: Artifact[ModelSpec]) -> Document:
    """What decides about a checkpoint besides fields of its spec that all have."""
    spec = artifact.spec
    link = {"checkpoint.link": spec.checkpoint.link} if spec.is_one_safetensors else {}
    return decides(artifact) | link


def pictures(
    store: Store, artifact: Artifact[Any], document: Document
) -> Iterable[tuple[str, bytes]]:
    """Bytes by part of the model, which may be a micro model; none where no parts are known."""
    sizes = {
        name: TensorEntry(name, DTYPE_CODES[tensor["dtype"]], tuple(tensor["shape"])).size
        for name, tensor in document["checkpoint"]["tensors"].items()
    }
    family = FAMILIES.get(store.catalogue.family(artifact.spec))
    if family is not None:
        yield "size_by_part", parts(family, sizes)


KIND = Kind[ModelSpec](
    "safetensors",
    (ModelSpec,),
    artifacts,
    build_safetensors,
    words="The checkpoint as one safetensors file, with configs derived from it.",
    tags=("pytorch", "safetensors"),
    item="Conversions",
    version=3,
    fields=(
        "folder",
        "files.checkpoint",
        "files.shards",
        "files.params",
        "files.config",
        "checkpoint.select",
        "checkpoint.strip_prefix",
        "overrides",
    ),
    facts=facts,
    taken=taken,
    # upstream's checkpoints are float32
    size=lambda artifact, raw: raw * ITEM_SIZE[DTYPE_CODES[artifact.dtype or "float32"]] / 4,
    pictures=pictures,
)
