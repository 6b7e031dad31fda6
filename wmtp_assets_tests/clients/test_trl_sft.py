"""A step of supervised fine-tuning with TRL."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets_tests.clients.environments import run

pytestmark = pytest.mark.clients


def test_a_step_of_trl(good_root: Path) -> None:
    """Pairs of two datasets and a micro model are all that supervised fine-tuning needs."""
    run("current", "-m", "wmtp_assets_tests.clients.trl_sft", good_root)
