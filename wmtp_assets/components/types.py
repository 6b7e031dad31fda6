"""The component types: one per kind of spec. Adding a model or a dataset is one ``defs.yaml``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import dagster as dg
from pydantic import BaseModel

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import (
    DatasetSpec,
    DocumentSpec,
    MicroSpec,
    ModelSpec,
    SnapshotSpec,
    Spec,
)
from wmtp_assets.components.artifacts import asset_of, checks_of, is_shared, source_of
from wmtp_assets.kinds.registry import load_catalogue


def definitions_of(artifacts: Iterable[Artifact]) -> dg.Definitions:
    """The assets and checks of some artifacts."""
    artifacts = list(artifacts)
    sources = {
        artifact.spec.repository.id: source_of(artifact.spec)
        for artifact in artifacts
        if artifact.is_downloaded
    }
    return dg.Definitions(
        assets=[*sources.values(), *(asset_of(artifact) for artifact in artifacts)],
        asset_checks=[checks_of(artifact) for artifact in artifacts if is_shared(artifact)],
    )


class _Declared(dg.Component):
    """A component whose attributes are a spec; its artifacts are those of the catalogue."""

    spec_class: ClassVar[type[Spec]]

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return cls.spec_class

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Any:
        return cls(cls.spec_class.model_validate(attributes))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        catalogue = load_catalogue(context.defs_module_path)
        return definitions_of(item for item in catalogue if item.spec.name == self.spec.name)


class CheckpointModel(_Declared):
    """A full-size model on the hub: assets <name>_raw, <name>_tokenizer, <name>_safetensors,
    one per variant, such as <name>_bf16, and <name>_card."""

    spec_class = ModelSpec


class MicroModel(_Declared):
    """A micro model cut from a full-size one: assets <name> and <name>_card."""

    spec_class = MicroSpec


class AlpacaDataset(_Declared):
    """A dataset on the hub: assets <name>_raw, <name>_processed, <name>_pairs, <name>_small,
    <name>_stats, <name>_tests where splits are for evaluation, <name>_card and
    <name>_croissant."""

    spec_class = DatasetSpec


class ParameterSnapshot(_Declared):
    """The parameters of every model in one file: asset <name>."""

    spec_class = SnapshotSpec


class GeneratedDocument(_Declared):
    """A document that is generated from the artifacts: asset <name>."""

    spec_class = DocumentSpec
