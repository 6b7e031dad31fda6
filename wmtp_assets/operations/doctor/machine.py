"""Python and the libraries: which are here, in which version. None of them is imported."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from wmtp_assets.operations.doctor.condition import Condition

PYTHON = (3, 11)
FLOORS: Mapping[str, str] = {
    "torch": "2.10",
    "sentencepiece": "0.2",
    "pyarrow": "20",
    "dagster": "1.13.27",
}
"""The lowest version of each library; as ``pyproject.toml`` has them."""

NEEDED_FOR: Mapping[str, str] = {
    "torch": "reading raw checkpoints",
    "sentencepiece": "counting tokens: wmtp verify skips those rules",
    "pyarrow": "reading parquet: wmtp verify skips those rules",
    "dagster": "materializing; wmtp works without it",
}
PLATFORM = "pip install 'wmtp_assets[platform]'; in a clone: make install"


def machine() -> Iterator[Condition]:
    """Python, then each library."""
    yield python(sys.version_info[:2])
    for name in FLOORS:
        yield library(name)


def python(found: tuple[int, ...]) -> Condition:
    """Whether Python is new enough.

    Args:
        found: its version, major and minor.
    """
    if found < PYTHON:
        wanted = ".".join(map(str, PYTHON))
        return Condition(
            "python",
            "error",
            f"Python {'.'.join(map(str, found))} is older than {wanted}",
            f"make install PYTHON=python{wanted}",
        )
    return Condition("python", "ok", f"Python {platform.python_version()}")


def library(name: str) -> Condition:
    """Whether a library is here and new enough."""
    spec = find_spec(name)
    try:
        found = version(name) if spec is not None else None
    except PackageNotFoundError:
        found = None
    if spec is None or found is None:
        return Condition(
            name, "warning", f"{name} is not installed; needed for {NEEDED_FOR[name]}", PLATFORM
        )
    if _numbers(found) < _numbers(FLOORS[name]):
        unsafe = ", and loading a hostile file with it is not safe" if name == "torch" else ""
        says = f"{name} {found} is older than {FLOORS[name]}{unsafe}"
        return Condition(name, "error", says, PLATFORM)
    build = f", {_torch_build(Path(spec.origin))}" if name == "torch" and spec.origin else ""
    return Condition(name, "ok", f"{name} {found}{build}")


def _numbers(text: str) -> tuple[int, ...]:
    """``2.13.0+cpu`` → (2, 13, 0)."""
    return tuple(map(int, re.findall(r"\d+", text.partition("+")[0])))


def _torch_build(module: Path) -> str:
    """What torch was built for, from its ``version.py``; importing torch takes seconds."""
    try:
        text = module.with_name("version.py").read_text()
    except OSError:
        return "build unknown"
    for name in ("cuda", "hip"):
        if found := re.search(rf"^{name}\b[^=]*= *'([^']+)'", text, flags=re.MULTILINE):
            return f"{name.upper()} {found[1]} build"
    return "CPU build"
