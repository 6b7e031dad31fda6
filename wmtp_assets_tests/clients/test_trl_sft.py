"""TRL, where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets_tests.clients import trl_sft


def test_a_step_of_trl(good_root: Path) -> None:
    """Pairs of two datasets and a micro model are all that supervised fine-tuning needs."""
    pytest.importorskip("trl", reason="trl is not installed")
    trl_sft.main(good_root)
