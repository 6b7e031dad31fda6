"""Reading a YAML file that may be damaged or hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.strict_json import read_small

MAX_SIZE = 32 << 10
"""Bytes: PyYAML needs a second for 100 kB; ours have a few."""

MAX_NESTED = 100
"""Lists and maps in brackets; we write none but empty ones."""


def read_yaml(path: Path) -> Any:
    """The document in a YAML file of ours.

    Raises:
        InvalidInput: saying what is wrong with it.
        OSError: if it cannot be read.
    """
    try:
        data = read_small(path, MAX_SIZE)
    except ValueError as error:
        raise InvalidInput(f"not YAML: {error}") from error
    if data.count(b"[") + data.count(b"{") > MAX_NESTED:
        raise InvalidInput(f"not YAML: more than {MAX_NESTED} brackets")
    if set(data) & set(b"&*!"):  # they can grow without bound; we write none
        raise InvalidInput("not plain YAML: an anchor, an alias or a tag")
    try:
        return yaml.safe_load(data)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"not YAML: {' '.join(str(error).split())}") from error
