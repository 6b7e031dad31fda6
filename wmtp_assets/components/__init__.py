"""The Dagster components: a spec in a ``defs.yaml`` becomes assets and their checks."""

from wmtp_assets.components.types import (
    AlpacaDataset,
    CheckpointModel,
    GeneratedDocument,
    MicroModel,
    ParameterSnapshot,
)

__all__ = [
    "AlpacaDataset",
    "CheckpointModel",
    "GeneratedDocument",
    "MicroModel",
    "ParameterSnapshot",
]
