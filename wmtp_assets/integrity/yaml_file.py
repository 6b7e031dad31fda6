"""Reading a YAML file that may be damaged or hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from wmtp_assets.errors import InvalidInput

_GROWING = b"&*!"
"""What makes YAML anchors, aliases and tags, which can grow without bound; we write none."""


def read_yaml(path: Path) -> Any:
    """The document in a YAML file of ours.

    Raises:
        InvalidInput: saying what is wrong with it.
        OSError: if it cannot be read.
    """
    data = path.read_bytes()
    if set(data) & set(_GROWING):
        raise InvalidInput("not plain YAML: an anchor, an alias or a tag")
    try:
        return yaml.safe_load(data)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"not YAML: {' '.join(str(error).split())}") from error
