"""Where each file lives: artifacts, the paths they own, and what they are made from.

Nothing here touches the disk. Paths are relative to the storage root, in POSIX form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wmtp_assets.errors import SpecError
from wmtp_assets.specs import DEFS_FOLDER, AnySpec, DatasetSpec, MicroSpec, ModelSpec, load_specs

Kind = Literal["raw", "tokenizer", "safetensors", "micro", "processed", "small", "stats"]

MODELS = "models_v2"
DATASETS = "datasets_v2"
SMALL = "datasets_local_small"
TOP_FOLDERS = (MODELS, DATASETS, SMALL)

GUESTS = ("safetensors/value_head.safetensors",)
"""Files that training puts beside those of an asset: none writes them, a commit keeps them."""

INTERNAL = ".wmtp"
"""Staging, locks, previous generations, verification times and the sample hub's files."""


@dataclass(frozen=True)
class Artifact:
    """One asset as it lies on disk.

    Attributes:
        key: the Dagster asset key.
        kind: which part of its family it is.
        spec: the family's spec.
        base: folder, relative to the root, that is exchanged as a whole when the asset commits.
            Paths in the manifest are relative to it.
        manifest: the manifest's file name inside ``base``.
        owns: names inside ``base`` that belong to this asset; empty: all of ``base``. Everything
            else in ``base`` belongs to someone else and is carried over.
        upstream: keys of the assets it is made from.
    """

    key: str
    kind: Kind
    spec: AnySpec
    base: str
    manifest: str = "metadata.json"
    owns: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """The folder below ``models_v2/`` and the like: one lock covers all commits in it."""
        return "/".join(self.base.split("/")[:2])

    def is_owner(self, path: str) -> bool:
        """Whether ``path``, relative to ``base``, belongs to this asset."""
        top = path.split("/", 1)[0]
        return not self.owns or top in self.owns or path == self.manifest

    def is_carried_over(self, path: str) -> bool:
        """Whether a commit keeps the file at ``path``, relative to ``base``, as it is."""
        return path in GUESTS or not self.is_owner(path)


def artifacts_of(spec: AnySpec) -> tuple[Artifact, ...]:
    """The artifacts of one family, upstream first."""
    if isinstance(spec, ModelSpec):
        base = f"{MODELS}/{spec.folder}"
        raw, tokenizer, safetensors = spec.artifact_names
        return (
            Artifact(raw, "raw", spec, base, manifest="raw.metadata.json", owns=("raw",)),
            Artifact(tokenizer, "tokenizer", spec, f"{base}/tokenizer", upstream=(raw,)),
            Artifact(
                safetensors,
                "safetensors",
                spec,
                base,
                owns=("safetensors", "configs"),
                upstream=(raw, tokenizer),
            ),
        )
    if isinstance(spec, MicroSpec):
        return (
            Artifact(
                spec.name,
                "micro",
                spec,
                f"{MODELS}/{spec.folder}",
                owns=("safetensors", "tokenizer", "configs"),
                upstream=(f"{spec.parent}_safetensors", f"{spec.parent}_tokenizer"),
            ),
        )
    base = f"{DATASETS}/{spec.folder}"
    raw, processed, small, stats = spec.artifact_names
    return (
        Artifact(raw, "raw", spec, base, manifest="raw.metadata.json", owns=("raw",)),
        Artifact(processed, "processed", spec, f"{base}/processed", upstream=(raw, spec.tokenizer)),
        Artifact(small, "small", spec, f"{SMALL}/{spec.folder}_small", upstream=(processed,)),
        Artifact(stats, "stats", spec, f"{base}/stats", upstream=(processed, spec.tokenizer)),
    )


class Catalogue:
    """Every artifact there is, by asset key, upstream first.

    Raises:
        SpecError: when a spec refers to an asset that no spec declares, or counts with one that is
            no tokenizer.
    """

    def __init__(self, specs: Sequence[AnySpec]) -> None:
        self.specs = tuple(specs)
        order = {ModelSpec: 0, MicroSpec: 1, DatasetSpec: 2}
        ordered = sorted(specs, key=lambda spec: order[type(spec)])
        self._by_key = {
            artifact.key: artifact for spec in ordered for artifact in artifacts_of(spec)
        }
        for artifact in self:
            for key in artifact.upstream:
                if key not in self._by_key:
                    raise SpecError(
                        f"{artifact.key} is made from {key}, which no defs.yaml declares; known: "
                        + ", ".join(self._by_key)
                    )
        for spec in self.specs:
            if isinstance(spec, DatasetSpec) and self[spec.tokenizer].kind != "tokenizer":
                raise SpecError(
                    f"{spec.name} counts with {spec.tokenizer}, which is no tokenizer; use one of: "
                    + ", ".join(item.key for item in self if item.kind == "tokenizer")
                )

    @classmethod
    def load(cls, folder: Path = DEFS_FOLDER) -> Catalogue:
        """The catalogue of the ``defs.yaml`` files below ``folder``."""
        return cls(load_specs(folder))

    def __iter__(self) -> Iterator[Artifact]:
        return iter(self._by_key.values())

    def __getitem__(self, key: str) -> Artifact:
        return self._by_key[key]

    def select(self, name: str) -> tuple[Artifact, ...]:
        """The artifacts that ``name`` means: an asset key, or a folder name with all it holds.

        Raises:
            SpecError: if there is none.
        """
        if name in self._by_key:
            return (self._by_key[name],)
        found = tuple(
            artifact
            for artifact in self
            if name in (artifact.spec.folder, artifact.base, artifact.base.split("/")[1])
        )
        if not found:
            raise SpecError(
                f"{name!r} is neither an asset nor a folder; known assets: "
                + ", ".join(self._by_key)
            )
        return found
