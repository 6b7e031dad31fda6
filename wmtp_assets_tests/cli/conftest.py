"""``wmtp`` as a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from wmtp_assets_tests import command

Wmtp = Callable[..., subprocess.CompletedProcess[str]]


def run_wmtp(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``wmtp`` over a storage root of the sample."""
    environment = {**os.environ, "WMTP_SOURCE": "", **variables}
    environment["WMTP_STORAGE_ROOT"] = str(root)
    return command.run_wmtp(arguments, environment)


@pytest.fixture
def wmtp(root: Path) -> Wmtp:
    """Run ``wmtp`` over a copy of the good tree."""
    return lambda *arguments, **variables: run_wmtp(root, *arguments, **variables)
