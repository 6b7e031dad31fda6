"""Model and dataset artifacts for Weighted Multi-Token Prediction research.

Public functions for code that reads what lies under ``storage/``; importing the package
imports neither Dagster nor torch.
"""

from wmtp_assets.checkpoints.load import load_state_dict
from wmtp_assets.uses import usable_for

__all__ = ["load_state_dict", "usable_for"]
__version__ = "0.1.0"
