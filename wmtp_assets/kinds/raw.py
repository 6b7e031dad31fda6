"""The files of a repository on the hub, exactly as upstream has them."""

from __future__ import annotations

from collections.abc import Iterator

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec
from wmtp_assets.hub.download import build_raw
from wmtp_assets.kinds.kind import Before, Kind

Downloaded = ModelSpec | DatasetSpec


def artifacts(spec: Downloaded, before: Before) -> Iterator[Artifact[Downloaded]]:
    """``<name>_raw``: ``raw/``, with its manifest beside it."""
    yield Artifact(
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


KIND = Kind[Downloaded](
    "raw",
    (ModelSpec, DatasetSpec),
    artifacts,
    build_raw,
    words="The files exactly as upstream has them, verified against the hub's hashes.",
    tags=("huggingface",),
    item="Raw files",
    fields=("repository.id", "repository.revision", "files", "splits.*.files"),
    size=lambda artifact, raw: raw,
    is_parsed=False,
)
