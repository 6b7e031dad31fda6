"""Where each file lives: artifacts, the paths they own, and what they are made from.

Nothing here touches the disk. Paths are relative to the storage root, in POSIX form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wmtp_assets.base.errors import SpecError
from wmtp_assets.catalogue.specs import (
    DEFS_FOLDER,
    DOCUMENT_FILES,
    DTYPE_SUFFIXES,
    AnySpec,
    DatasetSpec,
    DocumentSpec,
    DType,
    FamilyName,
    MicroSpec,
    ModelSpec,
    SnapshotSpec,
    TokenizerSpec,
    load_specs,
)

Kind = Literal[
    "raw",
    "tokenizer",
    "safetensors",
    "micro",
    "processed",
    "pairs",
    "small",
    "stats",
    "tests",
    "parameters",
    "card",
    "croissant",
    "document",
    "release",
]

MODELS = "models_v2"
DATASETS = "datasets_v2"
SMALL = "datasets_local_small"
CONFIGS = "configs"
DOCS = "docs"
TOP_FOLDERS = (MODELS, DATASETS, SMALL, CONFIGS, DOCS)

SUMMARIES: tuple[Kind, ...] = ("parameters", "document", "release")
"""Kinds that are made of whatever is there: of optional artifacts only those that are."""

DOCUMENTS: tuple[Kind, ...] = ("document", "release")
"""Kinds that describe the storage as a whole."""

GENERATED: tuple[Kind, ...] = ("card", "croissant", *SUMMARIES)
"""Kinds that say what other artifacts are; a release freezes those, and not what is said."""

VALUE_HEAD = "safetensors/value_head.safetensors"
GUESTS = (VALUE_HEAD,)
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
        dtype: of the tensors, declared; None: it has none.
        optional: made only when it is asked for; whatever needs it does without.
        copied: files of its own that are copied to the root when it is made.
    """

    key: str
    kind: Kind
    spec: AnySpec
    base: str
    manifest: str = "metadata.json"
    owns: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    dtype: DType | None = None
    optional: bool = False
    copied: tuple[str, ...] = ()

    @property
    def pieces(self) -> str:
        """The name, beside the manifest, of the file with the hashes of pieces of large files."""
        return self.manifest.replace("metadata", "pieces")

    @property
    def unit(self) -> str:
        """The folder below ``models_v2/`` and the like: one lock covers all commits in it."""
        return "/".join(self.base.split("/")[:2])

    def is_owner(self, path: str) -> bool:
        """Whether ``path``, relative to ``base``, belongs to this asset."""
        top = path.split("/", 1)[0]
        return not self.owns or top in self.owns or path in (self.manifest, self.pieces)

    def is_carried_over(self, path: str) -> bool:
        """Whether a commit keeps the file at ``path``, relative to ``base``, as it is."""
        return path in self.guests or not self.is_owner(path)

    @property
    def guests(self) -> tuple[str, ...]:
        """Those of :data:`GUESTS` that may lie among this asset's files."""
        return tuple(path for path in GUESTS if path.split("/", 1)[0] in self.owns)

    @property
    def recorded(self) -> tuple[str, ...]:
        """Keys of its manifest that say what people recorded: a commit keeps them."""
        if self.guests:
            return ("value_head",)
        return ("approvals",) if self.kind == "document" else ()


def _card(
    key: str, spec: AnySpec, folder: str, upstream: tuple[str, ...], optional: bool
) -> Artifact:
    """The model card, as the hub has it: ``README.md`` in the model's folder."""
    return Artifact(
        key,
        "card",
        spec,
        folder,
        manifest="README.metadata.json",
        owns=("README.md",),
        upstream=upstream,
        optional=optional,
    )


def _model_artifacts(spec: ModelSpec) -> Iterator[Artifact]:
    base = f"{MODELS}/{spec.folder}"
    raw, tokenizer, safetensors, *variants, card = spec.artifact_names
    optional = spec.status == "optional"
    shared = spec.tokenizer.shared_with
    yield Artifact(
        raw, "raw", spec, base, manifest="raw.metadata.json", owns=("raw",), optional=optional
    )
    yield Artifact(
        tokenizer,
        "tokenizer",
        spec,
        f"{base}/tokenizer",
        upstream=(raw if spec.files.tokenizer else f"{shared}_tokenizer",),
        optional=optional,
    )
    yield Artifact(
        safetensors,
        "safetensors",
        spec,
        base,
        owns=("safetensors", "configs"),
        upstream=(raw, tokenizer),
        dtype=spec.dtype,
        optional=optional,
    )
    for key, dtype in zip(variants, spec.variants, strict=True):
        yield Artifact(
            key,
            "safetensors",
            spec,
            f"{base}/safetensors-{DTYPE_SUFFIXES[dtype]}",
            upstream=(raw, tokenizer),
            dtype=dtype,
            optional=True,
        )
    yield _card(card, spec, base, (raw, tokenizer, safetensors), optional)


def _micro_artifacts(spec: MicroSpec) -> Iterator[Artifact]:
    base = f"{MODELS}/{spec.folder}"
    micro, card = spec.artifact_names
    yield Artifact(
        micro,
        "micro",
        spec,
        base,
        owns=("safetensors", "tokenizer", "configs"),
        upstream=(f"{spec.parent}_safetensors", f"{spec.parent}_tokenizer"),
        dtype=spec.dtype,
    )
    yield _card(card, spec, base, (micro,), optional=False)


def _dataset_artifacts(spec: DatasetSpec) -> Iterator[Artifact]:
    base = f"{DATASETS}/{spec.folder}"
    raw, processed, pairs, small, stats, *tests, croissant = spec.artifact_names
    optional = spec.status == "optional"
    yield Artifact(
        raw, "raw", spec, base, manifest="raw.metadata.json", owns=("raw",), optional=optional
    )
    yield Artifact(
        processed,
        "processed",
        spec,
        base,
        owns=("processed", "index"),
        upstream=(raw, spec.tokenizer),
        optional=optional,
    )
    views: tuple[tuple[Kind, str, str, str], ...] = (
        ("pairs", pairs, f"{base}/pairs", processed),
        ("small", small, f"{SMALL}/{spec.folder}_small", processed),
        ("stats", stats, f"{base}/stats", processed),
        *(("tests", key, f"{base}/tests", raw) for key in tests),
    )
    for kind, key, folder, made_from in views:
        yield Artifact(key, kind, spec, folder, upstream=(made_from,), optional=optional)
    yield Artifact(
        croissant,
        "croissant",
        spec,
        base,
        manifest="croissant.metadata.json",
        owns=("croissant.json",),
        upstream=(processed,),
        optional=optional,
    )


def _document_artifact(spec: DocumentSpec, others: Sequence[Artifact]) -> Artifact:
    """A document about all artifacts that are no documents; the report is about those too."""
    about = [item.key for item in others if spec.document == "report" or item.kind not in DOCUMENTS]
    return Artifact(
        spec.name,
        "release" if spec.document == "release" else "document",
        spec,
        DOCS,
        manifest=f"{spec.file.split('.')[0]}.metadata.json",
        owns=(spec.file,),
        upstream=tuple(about),
        copied=(spec.file,) if spec.document in ("readme", "release") else (),
    )


def artifacts_of(spec: AnySpec, others: Sequence[Artifact] = ()) -> tuple[Artifact, ...]:
    """The artifacts of one family, upstream first.

    Args:
        others: the artifacts that were made before, for what is made of all of them.
    """
    if isinstance(spec, ModelSpec):
        return tuple(_model_artifacts(spec))
    if isinstance(spec, MicroSpec):
        return tuple(_micro_artifacts(spec))
    if isinstance(spec, SnapshotSpec):
        checkpoints = tuple(other.key for other in others if other.dtype is not None)
        return (Artifact(spec.name, "parameters", spec, CONFIGS, upstream=checkpoints),)
    if isinstance(spec, DocumentSpec):
        return (_document_artifact(spec, others),)
    return tuple(_dataset_artifacts(spec))


def _turn(spec: AnySpec) -> tuple[int, int]:
    """When a spec's artifacts are listed: what they are made from comes before them."""
    order = [ModelSpec, MicroSpec, DatasetSpec, SnapshotSpec, DocumentSpec]
    among = [*DOCUMENT_FILES].index(spec.document) if isinstance(spec, DocumentSpec) else 0
    return order.index(type(spec)), among


class Catalogue:
    """Every artifact there is, by asset key, upstream first.

    Raises:
        SpecError: when a spec refers to what no spec declares, to something of the wrong kind, or
            to an optional artifact that may never be there.
    """

    def __init__(self, specs: Sequence[AnySpec]) -> None:
        self.specs = tuple(specs)
        self._models = {spec.name: spec for spec in specs if isinstance(spec, ModelSpec)}
        self._check_models()
        made: list[Artifact] = []
        for spec in sorted(self._sharing_last(), key=_turn):
            made += artifacts_of(spec, made)
        self._by_key = {artifact.key: artifact for artifact in made}
        for artifact in self:
            self._check_upstream(artifact)
        for spec in self.specs:
            if isinstance(spec, DatasetSpec) and self[spec.tokenizer].kind != "tokenizer":
                raise SpecError(
                    f"{spec.name} counts with {spec.tokenizer}, which is no tokenizer; use one of: "
                    + ", ".join(item.key for item in self if item.kind == "tokenizer")
                )

    def _sharing_last(self) -> list[AnySpec]:
        """The specs, a model after the one whose tokenizer it shares."""

        def shares(spec: AnySpec) -> bool:
            return isinstance(spec, ModelSpec) and spec.tokenizer.shared_with is not None

        return sorted(self.specs, key=shares)

    def _check_models(self) -> None:
        for spec in self._models.values():
            shared = spec.tokenizer.shared_with
            owner = self._models.get(shared) if shared is not None else None
            if shared is not None and (owner is None or owner.tokenizer.shared_with is not None):
                raise SpecError(
                    f"{spec.name}: tokenizer.shared_with: {shared} is no model with a tokenizer of "
                    "its own; those are: "
                    + ", ".join(m.name for m in self._models.values() if m.tokenizer.vocab_size)
                )
        for spec in self.specs:
            if isinstance(spec, MicroSpec) and spec.parent not in self._models:
                raise SpecError(
                    f"{spec.name}: parent: no defs.yaml declares the model {spec.parent}; known: "
                    + ", ".join(self._models)
                )

    def _check_upstream(self, artifact: Artifact) -> None:
        for key in artifact.upstream:
            upstream = self._by_key.get(key)
            if upstream is None:
                raise SpecError(
                    f"{artifact.key} is made from {key}, which no defs.yaml declares; known: "
                    + ", ".join(self._by_key)
                )
            if upstream.optional and not artifact.optional and artifact.kind not in SUMMARIES:
                raise SpecError(
                    f"{artifact.key} is made from {key}, which is optional: it may never be there"
                )

    def family(self, spec: ModelSpec | MicroSpec) -> FamilyName:
        """The naming scheme of a model's tensors."""
        return self._models[spec.parent if isinstance(spec, MicroSpec) else spec.name].family

    def tokenizer(self, spec: ModelSpec) -> TokenizerSpec:
        """The facts about a model's tokenizer, its own or those of the one it is shared with."""
        owner = spec.tokenizer.shared_with or spec.name
        return self._models[owner].tokenizer

    def shared_tokenizer(self, spec: ModelSpec | MicroSpec) -> Artifact | None:
        """The tokenizer of another model that a model's tokenizer is identical with."""
        shared = spec.parent if isinstance(spec, MicroSpec) else spec.tokenizer.shared_with
        return self[f"{shared}_tokenizer"] if shared is not None else None

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
            if name in (artifact.spec.folder, artifact.base, artifact.unit.split("/")[-1])
        )
        if not found:
            raise SpecError(
                f"{name!r} is neither an asset nor a folder; known assets: "
                + ", ".join(self._by_key)
            )
        return found
