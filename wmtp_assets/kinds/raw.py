"""The files of a repository on the hub, exactly as upstream has them."""

from __future__ import annotations

from functools import partial

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec
from wmtp_assets.checkpoints.preflight import judge
from wmtp_assets.hub.download import build_raw, moved, proven
from wmtp_assets.kinds.registry import Before, Kind

Downloaded = ModelSpec | DatasetSpec


def artifacts(spec: Downloaded, before: Before) -> list[Artifact[Downloaded]]:
    """``<name>_raw``: ``raw/``, with its manifest beside it."""
    return [
        Artifact(
            f"{spec.name}_raw",
            "raw",
            spec,
            "models" if isinstance(spec, ModelSpec) else "datasets",
            spec.unit,
            manifest="raw.metadata.json",
            owns=("raw",),
            optional=spec.is_optional,
            is_downloaded=True,
        )
    ]


KIND = Kind[Downloaded](
    "raw",
    (ModelSpec, DatasetSpec),
    artifacts,
    partial(build_raw, judge=judge),
    words="The files exactly as upstream has them, verified against the hub's hashes.",
    tags=("huggingface",),
    item="Raw files",
    fields=("repository.id", "repository.type", "repository.license", "files", "splits.*.files"),
    moved=moved,
    proven=proven,
    size=lambda artifact, raw: raw,
    is_parsed=False,
)
