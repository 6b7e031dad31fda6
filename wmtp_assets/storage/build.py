"""What every builder is given: an artifact, the store it reads from, the staging it writes to.

A builder is a function ``(Build) -> Document``. It reads upstream artifacts through the store,
which checks what it reads against their manifests; writes the new files into ``staged``; and
returns what the manifest will say about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from wmtp_assets.base.progress import Say
from wmtp_assets.catalogue.artifact import Artifact, S
from wmtp_assets.storage.store import Staged, Store


@dataclass(frozen=True)
class InStore(Generic[S]):
    """An artifact and the store that it is in, as builders and rules are given it."""

    store: Store
    artifact: Artifact[S]

    @property
    def spec(self) -> S:
        """The spec of the artifact."""
        return self.artifact.spec

    @property
    def scratch(self) -> Path:
        """A folder for what is done when the materialization is cut off; gone after a commit."""
        return self.store.scratch(self.artifact)

    def upstream(self, role: str) -> Artifact[Any]:
        """What plays a role in making the artifact, such as ``raw``."""
        return self.store.catalogue[self.artifact.roles[role]]


@dataclass(frozen=True)
class Build(InStore[S]):
    """One materialization in progress.

    Attributes:
        others: folders where raw files may be found, under upstream's paths.
        revision: upstream's commit that is wanted; None: the pinned one.
        alone: nothing that is made from it is made in the same run.
    """

    staged: Staged
    say: Say
    revision: str | None = None
    others: Sequence[Path] = ()
    alone: bool = False
