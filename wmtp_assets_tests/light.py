"""An environment in which only the libraries of the base package are installed."""

from __future__ import annotations

import importlib.util
import os
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from wmtp_assets.datasets.rules import processed
from wmtp_assets.rules import apply, findings

HIDDEN = (
    "dagster",
    "torch",
    "datasets",
    "matplotlib",
    "pyarrow",
    "numpy",
    "sentencepiece",
    "tokenizers",
    "safetensors",
)

SITE = f"""
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *others):
        if name.partition(".")[0] in {HIDDEN}:
            return None
        return self.finder.find_spec(name, *others)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


def light_environment(folder: Path) -> dict[str, str]:
    """The environment of a process, and of those it starts, that find no other libraries."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def hide(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """Rules see a machine on which these are not installed."""

    def find(name: str) -> ModuleSpec | None:
        return None if name in libraries else importlib.util.find_spec(name)

    for module in (apply, findings, processed):
        monkeypatch.setattr(module, "find_spec", find)
