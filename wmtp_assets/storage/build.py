"""What every builder is given: an artifact, the store it reads from, the staging it writes to.

A builder is a function ``(Build) -> Document``. It reads upstream artifacts through the store,
which checks what it reads against their manifests; writes the new files into ``staged``; and
returns what the manifest shall say about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.progress import Say
from wmtp_assets.catalogue.layout import Artifact
from wmtp_assets.storage.store import Staged, Store


@dataclass(frozen=True)
class Build:
    """One materialization in progress.

    Attributes:
        revision: upstream's commit that is wanted; None: the pinned one.
    """

    store: Store
    artifact: Artifact
    staged: Staged
    say: Say
    revision: str | None = None

    @property
    def scratch(self) -> Path:
        """A folder for what is done when the materialization is cut off; gone after a commit."""
        return self.store.scratch(self.artifact)

    def upstream(self, key: str) -> Artifact:
        """An upstream artifact by key."""
        return self.store.catalogue[key]
