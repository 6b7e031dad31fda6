"""An environment in which only the libraries of the base package are installed."""

from __future__ import annotations

import os
from pathlib import Path

HIDDEN = (
    "dagster",
    "torch",
    "datasets",
    "matplotlib",
    "pyarrow",
    "numpy",
    "sentencepiece",
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
