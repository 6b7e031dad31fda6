"""A rule whose parser takes the process down is a failed rule; those behind it are applied."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from wmtp_assets.base import child
from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_in_child
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.hostile.doors import meta_store

PATCH = "WMTP_TEST_CRASH"
SITE = f"""
import os
if os.environ.get({PATCH!r}):
    from wmtp_assets_tests.hostile.test_crashes import crash_on_headers
    crash_on_headers()
"""


def crash_on_headers() -> None:
    """In the child: reading the header of a checkpoint is a real SIGSEGV."""
    from wmtp_assets.checkpoints import torch_zip
    from wmtp_assets.checkpoints.rules import checkpoint as models

    def crash(*arguments: object) -> None:
        ctypes.string_at(0)

    models.read_header = crash  # pyright: ignore[reportAttributeAccessIssue]
    torch_zip._check_pickle = crash


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A good store, and a child whose parser crashes."""
    made = meta_store(tmp_path / "store")
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv(PATCH, "1")
    child.stop()
    yield made
    child.stop()


def checkpoint(store: Store) -> Artifact:
    return store.catalogue[tiny.SAFETENSORS]


@pytest.mark.long
def test_crash_is_a_finding_and_the_other_rules_are_applied(store: Store) -> None:
    """It names the file, the signal and the remedy."""
    artifact = checkpoint(store)
    outcomes = {rule.name: apply_in_child(rule, store, artifact) for rule in rules_of(artifact)}
    (finding,) = outcomes["dtype"].findings
    assert finding.file == f"{artifact.base}/safetensors/model.safetensors"
    assert finding.found == "reading it ended with SIGSEGV"
    assert finding.remedy
    assert outcomes["parameters"].findings[0].found == "reading it ended with SIGSEGV"
    assert outcomes["sha256"].findings == []
    assert outcomes["value_head"].findings == []


def test_crash_of_a_builder_names_the_file(store: Store) -> None:
    """What was committed is as before, and nothing is left staged."""
    artifact = checkpoint(store)
    before = store.manifest_path(artifact).read_bytes()
    with pytest.raises(InvalidInput, match=r"consolidated\.pth ended with SIGSEGV"):
        materialize(store, artifact)
    assert store.manifest_path(artifact).read_bytes() == before
    assert tiny.staged_left(store) == []
