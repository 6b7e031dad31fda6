"""Model and dataset artifacts for Weighted Multi-Token Prediction research.

Public functions for code that reads what lies under ``storage/``; importing the package
imports neither Dagster nor torch.
"""

from wmtp_assets.catalogue.specs import usable_for
from wmtp_assets.checkpoints.families import load_state_dict
from wmtp_assets.datasets.features import features
from wmtp_assets.datasets.jsonl import JsonLines, open_jsonl
from wmtp_assets.operations.load_dataset import load_dataset
from wmtp_assets.storage.verified import verified

__all__ = [
    "JsonLines",
    "features",
    "load_dataset",
    "load_state_dict",
    "open_jsonl",
    "usable_for",
    "verified",
]
__version__ = "0.1.0"
