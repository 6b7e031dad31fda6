"""The artifact as data: where its files lie, which of them it owns, and what it is made from.

Nothing here touches the disk, and nothing asks for the kind of an artifact: what follows from it,
``kinds/`` writes into the artifact. Paths are relative to the storage root, in POSIX form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Generic, TypeVar

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.text import did_you_mean
from wmtp_assets.catalogue.specs import (
    DType,
    FamilyName,
    MicroSpec,
    ModelSpec,
    Spec,
    TokenizerSpec,
)

SMALL = "datasets_local_small"
TOP_FOLDERS = ("models_v2", "datasets_v2", SMALL, "configs", "docs")

VALUE_HEAD = "safetensors/value_head.safetensors"
"""What training puts beside the files of a checkpoint: nobody here writes it, a commit keeps it."""

FIRST_VERSION = ("models", "datasets")
"""Folders below the root that the project's version 1 used: kept as originals."""

SIGNATURES = "signatures"
"""Signatures of artifacts, one file each; see :mod:`wmtp_assets.storage.signatures`."""

INTERNAL = ".wmtp"
"""Staging, locks, previous generations, verification times and the sample hub's files."""

_TOOL_FILES = ("model.sig", "*.sigstore", ".DS_Store")


def is_of_a_tool(path: str) -> bool:
    """Whether a file is one that known tools put beside a model or dataset: a signature of
    model-signing or sigstore, what the hub's client knows of a folder that it downloaded to
    (``.cache/huggingface/``), and how macOS shows a folder (``.DS_Store``)."""
    folder, _, name = f"/{path}".rpartition("/")
    return "/.cache/huggingface/" in f"{folder}/" or any(
        fnmatchcase(name, pattern) for pattern in _TOOL_FILES
    )


def pieces_name(manifest: str) -> str:
    """What the file with the hashes of pieces is called, beside the manifest of this name."""
    return manifest.replace("metadata", "pieces")


S = TypeVar("S", bound=Spec, covariant=True)


@dataclass(frozen=True)
class Artifact(Generic[S]):
    """One asset as it lies on disk.

    Attributes:
        key: the Dagster asset key.
        kind: name of its module in ``kinds/``.
        spec: what its ``defs.yaml`` says.
        group: of the asset in the web UI.
        base: folder, relative to the root, that is exchanged as a whole when the asset commits.
            Paths in the manifest are relative to it.
        manifest: the manifest's file name inside ``base``.
        owns: names inside ``base`` that belong to this asset; empty: all of ``base``. Everything
            else in ``base`` belongs to someone else and is carried over.
        roles: what it is made from: role → asset key, such as ``raw`` → ``mbpp_raw``.
        dtype: of the tensors, declared; None: it has none.
        optional: made only when it is asked for; whatever needs it does without.
        copied: files of its own that are copied to the root when it is made.
        guests: files that training may put among its own; a commit keeps them.
        recorded: keys of its manifest that say what people recorded; a commit keeps them.
        is_downloaded: its files are upstream's.
        is_local: it exists for tests on one machine, and is published only when asked for.
        is_generated: it says what other artifacts are; a release freezes those, and not it.
        is_summary: it is made of whatever is there: of optional artifacts only those that are.
        item: of the preparation plan, that it proves.
        section: what ``sections`` of the spec say for its kind, parsed; None: the kind has none.
    """

    key: str
    kind: str
    spec: S
    group: str
    base: str
    manifest: str = "metadata.json"
    owns: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict, hash=False)
    dtype: DType | None = None
    optional: bool = False
    copied: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    recorded: tuple[str, ...] = ()
    is_downloaded: bool = False
    is_local: bool = False
    is_generated: bool = False
    is_summary: bool = False
    item: str = ""
    section: Any = field(default=None, hash=False)

    @property
    def upstream(self) -> tuple[str, ...]:
        """Keys of the assets it is made from."""
        return tuple(self.roles.values())

    @property
    def pieces(self) -> str:
        """The name, beside the manifest, of the file with the hashes of pieces of large files."""
        return pieces_name(self.manifest)

    @property
    def signature(self) -> str:
        """Where its signature lies, below the root."""
        return f"{SIGNATURES}/{self.key}.sig"

    @property
    def unit(self) -> str:
        """The folder below ``models_v2/`` and the like: one lock covers all commits in it."""
        return "/".join(self.base.split("/")[:2])

    def is_owner(self, path: str) -> bool:
        """Whether ``path``, relative to ``base``, belongs to this asset."""
        return (
            not self.owns
            or path.split("/", 1)[0] in self.owns
            or path in (self.manifest, self.pieces)
        )

    def is_guest(self, path: str) -> bool:
        """Whether ``path``, relative to ``base``, may lie among its files though it is none of
        them: what training puts there, or a known tool."""
        return path in self.guests or is_of_a_tool(path)

    def is_carried_over(self, path: str) -> bool:
        """Whether a commit keeps the file at ``path``, relative to ``base``, as it is."""
        return path in self.guests or not self.is_owner(path)


class Catalogue:
    """Every artifact there is, by asset key, upstream first.

    Args:
        specs: what is declared.
        artifacts: what ``kinds/`` made of it.
    """

    def __init__(self, specs: Sequence[Spec], artifacts: Iterable[Artifact[Any]]) -> None:
        self.specs = tuple(specs)
        self._models = {spec.name: spec for spec in specs if isinstance(spec, ModelSpec)}
        self._by_key = {artifact.key: artifact for artifact in artifacts}

    def __iter__(self) -> Iterator[Artifact[Any]]:
        return iter(self._by_key.values())

    def __getitem__(self, key: str) -> Artifact[Any]:
        return self._by_key[key]

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def of_kind(self, kind: str) -> list[Artifact[Any]]:
        """The artifacts of a kind."""
        return [artifact for artifact in self if artifact.kind == kind]

    def root_of(self, spec: ModelSpec | MicroSpec) -> ModelSpec:
        """The full-size model that a model's bytes come from: its parent's, or itself."""
        return self._models[spec.parent] if isinstance(spec, MicroSpec) else spec

    def family(self, spec: ModelSpec | MicroSpec) -> FamilyName:
        """The naming scheme of a model's tensors."""
        return self.root_of(spec).family

    def tokenizer(self, spec: ModelSpec) -> TokenizerSpec:
        """The facts about a model's tokenizer, its own or those of the one it is shared with."""
        return self._models[spec.tokenizer.shared_with or spec.name].tokenizer

    def tokenizer_name(self, spec: ModelSpec | MicroSpec) -> str:
        """What the file of a model's tokenizer is called: ``tokenizer.model``, or
        ``tokenizer.json`` where upstream has no other."""
        root = self.root_of(spec)
        return self._models[root.tokenizer.shared_with or root.name].files.tokenizer_name

    def shared_tokenizer(self, spec: ModelSpec | MicroSpec) -> Artifact[ModelSpec] | None:
        """The tokenizer of another model that a model's tokenizer is identical with.

        It is that of the owner, the model with a tokenizer of its own: a micro model has the
        tokenizer of its parent, which may have it from the owner.
        """
        root = self.root_of(spec)
        owner = root.tokenizer.shared_with or root.name
        return self[f"{owner}_tokenizer"] if owner != spec.name else None

    def select(self, name: str) -> tuple[Artifact[Any], ...]:
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
            folders = (artifact.unit.split("/")[-1] for artifact in self)
            meant = did_you_mean(name, dict.fromkeys([*self._by_key, *folders]))
            raise SpecError(
                f"{name!r} is neither an asset nor a folder.{meant} All of them: wmtp status"
            )
        return found
