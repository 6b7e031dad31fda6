"""Model and dataset artifacts for Weighted Multi-Token Prediction research.

Public functions for code that reads what lies under ``storage/``; importing the package
imports neither Dagster nor torch.
"""

from wmtp_assets.checkpoints.load import load_state_dict
from wmtp_assets.data.load import load_dataset
from wmtp_assets.data.random_access import JsonLines, open_jsonl
from wmtp_assets.uses import usable_for

__all__ = ["JsonLines", "load_dataset", "load_state_dict", "open_jsonl", "usable_for"]
__version__ = "0.1.0"
