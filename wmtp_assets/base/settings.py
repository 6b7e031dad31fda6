"""What the environment decides: the source of raw bytes and the storage root."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from wmtp_assets.base.errors import SpecError

Source = Literal["sample", "hub"]

SOURCE_VARIABLE = "WMTP_SOURCE"
ROOT_VARIABLE = "WMTP_STORAGE_ROOT"
WORKERS_VARIABLE = "WMTP_WORKERS"


@dataclass(frozen=True)
class Settings:
    """Where raw bytes come from, and where artifacts are kept (an absolute path)."""

    source: Source
    root: Path


def project_folder() -> Path:
    """The checkout this package is run from, or the working directory where it is installed."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "workspace.yaml").is_file() else Path.cwd()


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read ``WMTP_SOURCE`` (``sample``, the default, or ``hub``) and ``WMTP_STORAGE_ROOT``.

    The root defaults to ``storage/sample`` for the sample and ``storage`` for the hub; a relative
    one is below the project folder, from wherever the command is called.

    Raises:
        SpecError: for another source.
    """
    source = environment.get(SOURCE_VARIABLE) or "sample"
    if source not in get_args(Source):
        raise SpecError(
            f"{SOURCE_VARIABLE}={source!r} is not a source; use 'sample' (offline, generated) "
            "or 'hub' (the Hugging Face Hub)"
        )
    default = project_folder() / "storage" / ("sample" if source == "sample" else "")
    root = environment.get(ROOT_VARIABLE)
    return Settings(
        source="hub" if source == "hub" else "sample",
        root=project_folder() / Path(root).expanduser() if root else default,
    )


def read_workers(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes one materialization may use: ``WMTP_WORKERS``, else one per CPU.

    Raises:
        SpecError: for what is no number from 1 to 256.
    """
    text = environment.get(WORKERS_VARIABLE, "")
    if not text:
        return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= 256):
        raise SpecError(f"{WORKERS_VARIABLE}={text!r} is no number of processes, 1 to 256")
    return int(text)
