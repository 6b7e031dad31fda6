"""Model and dataset artifacts for Weighted Multi-Token Prediction research.

Public functions for code that reads what lies under ``storage/``; importing the package
imports neither Dagster nor torch.
"""

from wmtp_assets.checkpoints.load import load_state_dict

__all__ = ["load_state_dict"]
__version__ = "0.1.0"
