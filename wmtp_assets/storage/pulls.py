"""What this machine remembers of artifacts that were pulled: one small file per artifact below
``<root>/.wmtp/pulled/``.

So it is known which release an artifact came from, and that a root holds what was pulled and need
not hold the rest. It is a memory, no proof.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from wmtp_assets.base.model import Sha256, StrictModel
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.store import Store


class Pull(StrictModel):
    """How an artifact came here.

    Attributes:
        source: URL, without secrets.
        at: UTC time.
        content_sha256: of the content that came.
        release: which one it came from; None: nothing was released there.
        signer: who signed it, as ``trust/`` calls them; empty: that was not looked at.
    """

    source: str = Field(max_length=1000)
    at: str
    content_sha256: Sha256
    release: str | None = Field(default=None, max_length=100)
    signer: str = ""


def remember_pull(store: Store, key: str, pull: Pull) -> None:
    """Keep how an artifact came here.

    Raises:
        OSError: if it cannot be written.
    """
    replace_file(store.internal / "pulled" / f"{key}.json", pull.model_dump_json().encode())


def pulls(store: Store) -> dict[str, Pull]:
    """Asset key → how it came here; damaged records are left out."""
    found = {path.stem: _read(path) for path in (store.internal / "pulled").glob("*.json")}
    return {key: pull for key, pull in found.items() if pull and key in store.catalogue}


def _read(path: Path) -> Pull | None:
    try:
        return Pull.model_validate_json(read_small(path))
    except (OSError, ValueError):
        return None
