"""The server in memory that stands in for Google Cloud Storage, asked by Google's own client."""

from __future__ import annotations

import pytest

from wmtp_assets_tests.clients.environments import run

pytestmark = pytest.mark.clients


def test_upload_in_parts() -> None:
    """It takes requests, and gives answers, as they are between Google's client and its servers:
    else it would show only that we agree with ourselves."""
    run("google", "-m", "wmtp_assets_tests.clients.google_client")
