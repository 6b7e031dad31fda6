"""The notebook of docs/: what it shows is what it does."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from wmtp_assets_tests.notebook import NOTEBOOK, execute, outputs
from wmtp_assets_tests.pages import Copy


@pytest.mark.long
def test_notebook_is_executed(root: Path, tmp_path: Path) -> None:
    """Every cell, in a copy of the project: what it prints is what stands in the clone, the damage
    is found by name, and repair gives the same tensors."""
    said = outputs(execute(Copy.make(tmp_path / "project", root)))
    assert said == outputs(nbformat.read(NOTEBOOK, as_version=4))
    assert said[-1] == ["exit code 0\nthe same tensors: True\n"]


def test_notebook_is_small_and_of_no_machine() -> None:
    """It is read in a browser, and its differences in a review; a path would be somebody's."""
    text = NOTEBOOK.read_text()
    assert len(text) < 300_000
    pictures = re.sub(r'"image/png": "[^"]*"', "", text)
    assert len(text) - len(pictures) > 5_000
    assert not re.search(r"/(home|root|tmp|work|Users|private)/|\.venv/lib", pictures)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert "execution" not in str([cell.metadata for cell in notebook.cells])
