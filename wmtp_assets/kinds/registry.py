"""What a kind is; the kinds and the rules there are, found by name; the catalogue that they make.

A module of this folder says in ``KIND`` all about its kind of artifact. A module with ``RULES``, in
this folder, in the folder ``rules/`` of the package or of a room, or ``rules.py`` of a room, has
rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.model import StrictModel, first_problem
from wmtp_assets.base.progress import Say
from wmtp_assets.base.settings import Source
from wmtp_assets.catalogue.artifact import Artifact, Catalogue
from wmtp_assets.catalogue.specs import (
    DEFS_FOLDER,
    SPEC_OF_COMPONENT,
    DatasetSpec,
    DocumentSpec,
    MicroSpec,
    ModelSpec,
    Spec,
    bytes_of,
    load_specs,
)
from wmtp_assets.datasets.records import Record
from wmtp_assets.rules.findings import Rule
from wmtp_assets.storage.build import Build, InStore
from wmtp_assets.storage.manifest import Document, Manifest
from wmtp_assets.storage.store import Store

PACKAGE = Path(__file__).parents[1]
S = TypeVar("S", bound=Spec)

Before = Sequence[Artifact[Any]]
"""The artifacts that are made before those of a spec, upstream first."""


@dataclass(frozen=True)
class Rows(Generic[S]):
    """How a kind that holds rows shows them.

    Attributes:
        file: split → its file.
        record: what a row is.
    """

    file: Callable[[str], str]
    record: Callable[[S], type[Record]]


@dataclass(frozen=True)
class Needs:
    """What a step that makes or checks an artifact asks a cluster for.

    Attributes:
        memory: bytes, of all its processes.
        cpus: that it can use.
    """

    memory: int
    cpus: int


LARGE = 10**9
"""Bytes from which several CPUs shorten a step: pieces of a file are hashed side by side."""


def needs_of_size(size: float) -> Needs:
    """What steps need whose memory does not grow with the artifact.

    The process of the run and the one that parses take some 600 MB with their imports (torch, where
    a rule needs it, 400 MB more); the rest is room for files that are being written.

    Args:
        size: of the artifact, in bytes.
    """
    return Needs(4 * 10**9, 4) if size >= LARGE else Needs(2 * 10**9, 1)


@dataclass(frozen=True)
class Sharing(Generic[S]):
    """How several steps, on any hosts, do what the builder then finds done.

    Attributes:
        work: does what no other step does, until nothing is left. Args: artifact, who is told, and
            the run that the step is of: what fails in one step is not tried by the others of it.
        progress: how far the steps are, for people as ``str`` has it; None: nothing was begun.
    """

    work: Callable[[InStore[S], Say, str], None]
    progress: Callable[[Store, Artifact[S]], object | None]


@dataclass(frozen=True)
class Kind(Generic[S]):
    """One kind of artifact.

    Attributes:
        name: that of its module; manifests and ``wmtp status`` say it.
        specs: the types of spec that may have artifacts of this kind.
        artifacts: a spec, and what is made before → its artifacts of this kind. A field of the
            spec that asks for what cannot be is a ``SpecError`` that begins with its name.
        build: makes one; see :mod:`wmtp_assets.storage.build`.
        version: of the builder; raised when the same upstream content becomes other bytes.
        fields: the fields of the spec that decide about the files, or what the manifest says of
            them, with dots into nested ones; ``version`` decides always.
        facts: parts of fields, and the like, that decide too, by a name for people.
        taken: what other specs, or upstream manifests besides their files, say that decides too.
        proven: which of the settings, by name, a manifest that does not say what made it proves.
        edited: a spec → files, which people edit, that decide about the bytes too.
        again: store and artifact → the files and what the manifest says of them, made in memory;
            None: that is too much, and its inputs tell whether it would be the same.
        moved: what it was made from outside the storage, and what it would be made from now; None:
            the same. Args: whether the network may be asked.
        words: what it is, in one sentence, for the web UI.
        tags: storage kinds as the web UI shows them, at most three.
        item: of the preparation plan, that its artifacts prove in the completion report.
        size: artifact, and bytes of the raw files that its spec names → bytes it takes, about.
        is_bound: ``size`` is an upper bound.
        needs: what its steps ask a cluster for; None: what its size says. Args: as of ``size``.
        scratch: bytes beside it while it is made, as a multiple of its own.
        is_parsed: the builder parses files, and so runs in the child process.
        section: the model of its section in a spec's ``sections``; None: it has none.
        rows: how its rows are shown; None: it holds none.
        sharing: how several steps share the work of the builder; None: it is one step.
        pictures: store, artifact and manifest → names and SVGs of what is better seen than read.
    """

    name: str
    specs: tuple[type[S], ...]
    artifacts: Callable[[S, Before], Iterable[Artifact[S]]]
    build: Callable[[Build[S]], Document]
    words: str
    tags: tuple[str, ...]
    item: str
    version: int = 1
    fields: tuple[str, ...] = ()
    facts: Callable[[Artifact[S]], Document] = lambda artifact: {}
    taken: Callable[[Store, Artifact[S]], Document] = lambda store, artifact: {}
    proven: Callable[[Artifact[S], Manifest], Collection[str]] = lambda artifact, manifest: ()
    edited: Callable[[S], Iterable[Path]] = lambda spec: ()
    again: Callable[[Store, Artifact[S], Say], tuple[Mapping[str, bytes], Document]] | None = None
    moved: Callable[[Store, Artifact[S], Manifest, bool], tuple[str, str] | None] | None = None
    size: Callable[[Artifact[S], int], float] = lambda artifact, raw: 0
    is_bound: bool = False
    needs: Callable[[Artifact[S], int], Needs] | None = None
    scratch: float = 0.0
    is_parsed: bool = True
    section: type[StrictModel] | None = None
    rows: Rows[S] | None = None
    sharing: Sharing[S] | None = None
    pictures: Callable[[Store, Artifact[S], Document], Iterable[tuple[str, bytes]]] | None = None

    def made_with(self, store: Store, artifact: Artifact[S]) -> Document:
        """What a manifest says about the making: version of the builder, and settings."""
        settings = {**self.settings(artifact), **self.taken(store, artifact)}
        return {"builder": self.version, "settings": settings}

    def settings(self, artifact: Artifact[S]) -> Document:
        """What the spec of an artifact, and files beside it, decide about it."""
        spec = artifact.spec
        said = spec.model_dump(mode="json")
        fields = (field.split(".") for field in self.fields)
        settings = {".".join(path): _at(said, path) for path in fields if path[0] in said}
        if self.section is not None and self.name in said["sections"]:
            settings["section"] = said["sections"][self.name]
        settings |= self.facts(artifact)
        for path in self.edited(spec):
            data = path.read_bytes() if path.is_file() else b""
            settings[path.name] = hashlib.sha256(data).hexdigest()
        return settings


def of_dataset(
    kind: str,
    *made_from: str,
    below: str = "",
    has: Callable[[DatasetSpec], bool] = lambda spec: True,
    manifest: str = Artifact.manifest,
    owns: tuple[str, ...] = (),
    is_generated: bool = False,
) -> Callable[[DatasetSpec, Before], Iterator[Artifact[DatasetSpec]]]:
    """``<name>_<kind>`` of a dataset, as :attr:`Kind.artifacts` makes it.

    Args:
        made_from: kinds of the same dataset that it is made from, each in the role of its name.
        below: its folder in that of the dataset; empty: that itself.
        has: which datasets have it.
        manifest, owns, is_generated: as :class:`Artifact` has them.
    """

    def artifacts(spec: DatasetSpec, before: Before) -> Iterator[Artifact[DatasetSpec]]:
        if has(spec):
            yield Artifact(
                f"{spec.name}_{kind}",
                kind,
                spec,
                "datasets",
                f"{spec.unit}/{below}".removesuffix("/"),
                manifest=manifest,
                owns=owns,
                roles={role: f"{spec.name}_{role}" for role in made_from},
                optional=spec.is_optional,
                is_generated=is_generated,
            )

    return artifacts


def _at(document: Any, path: Sequence[str]) -> Any:
    """What is at a path of keys; ``*``: of every member; None: nothing is."""
    if not path or not isinstance(document, dict):
        return None if path else document
    key, *rest = path
    if key == "*":
        return {name: _at(value, rest) for name, value in document.items()}
    return _at(document.get(key), rest)


@cache
def all_kinds() -> Mapping[str, Kind[Any]]:
    """Every kind, by name.

    Raises:
        SpecError: if a module's kind has another name than the module.
    """
    modules = [module for module in _modules("kinds/[!_]*.py") if hasattr(module, "KIND")]
    for module in modules:
        name, said = module.__name__.rpartition(".")[2], module.KIND.name
        if said != name:
            raise SpecError(f"{module.__file__}: calls its kind {said!r}, not {name!r}")
    return {module.KIND.name: module.KIND for module in modules}


def kind_of(artifact: Artifact[Any]) -> Kind[Any]:
    """The kind of an artifact."""
    return all_kinds()[artifact.kind]


def needs_of(artifact: Artifact[Any], source: Source) -> Needs:
    """What the steps of an artifact ask a cluster for: what the spec says, else its kind.

    Args:
        source: of the raw bytes; those of the sample are few.
    """
    kind, spec = kind_of(artifact), artifact.spec
    repository = getattr(spec, "repository", None)
    raw = repository.most_bytes if repository is not None and source == "hub" else 0
    found = kind.needs(artifact, raw) if kind.needs else needs_of_size(kind.size(artifact, raw))
    said = spec.needs.get(artifact.kind)
    if said is None:
        return found
    memory = bytes_of(said.memory) if said.memory else found.memory
    return Needs(memory, said.cpus or found.cpus)


@cache
def all_rules() -> tuple[Rule[Any], ...]:
    """Every rule: those about all kinds first, then room by room."""
    places = (["rules/[!_]*.py"], ["*/rules.py", "*/rules/[!_]*.py"], ["kinds/[!_]*.py"])
    return tuple(
        rule
        for patterns in places
        for module in _modules(*patterns)
        for rule in getattr(module, "RULES", ())
    )


def _modules(*patterns: str) -> Iterator[Any]:
    """The modules of the package whose files match, in the order of their names.

    Only the rooms that have some are imported: ``components/`` needs Dagster.
    """
    for path in sorted(path for pattern in patterns for path in PACKAGE.glob(pattern)):
        yield import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))


def kinds_of(rule: Rule[Any]) -> tuple[str, ...]:
    """The kinds that a rule is about."""
    return rule.kinds or tuple(all_kinds())


def rules_of(artifact: Artifact[Any]) -> tuple[Rule[Any], ...]:
    """The rules that apply to ``artifact``."""
    return tuple(rule for rule in all_rules() if rule.is_for(artifact))


def load_catalogue(folder: Path = DEFS_FOLDER) -> Catalogue:
    """The catalogue of the ``defs.yaml`` files below ``folder``.

    Raises:
        SpecError: as :func:`load_specs` and :func:`expand`.
    """
    files = sorted(folder.rglob("defs.yaml"))
    try:
        return _load_catalogue(folder, tuple((path, path.read_bytes()) for path in files))
    except OSError:
        return expand(load_specs(folder))


@lru_cache(maxsize=8)
def _load_catalogue(folder: Path, files: tuple[tuple[Path, bytes], ...]) -> Catalogue:
    """The catalogue of files as they are; a run of Dagster asks for it two hundred times."""
    return expand(load_specs(folder))


def expand(specs: Sequence[Spec]) -> Catalogue:
    """The artifacts that specs stand for, upstream first.

    Raises:
        SpecError: when a spec refers to what no spec declares, to something of the wrong kind, or
            to an optional artifact that may never be there; when two declare one artifact.
    """
    _check_models(specs)
    specs = _with_parents_status(specs)
    made: dict[str, Artifact[Any]] = {}
    for spec in sorted(specs, key=_turn):
        for artifact in _upstream_first(_artifacts_of(spec, [*made.values()])):
            if artifact.key in made:
                first = made[artifact.key].spec.where
                raise SpecError(f"{spec.where}: {artifact.key!r} is already declared by {first}")
            made[artifact.key] = artifact
    catalogue = Catalogue(specs, made.values())
    for artifact in catalogue:
        _check_upstream(catalogue, artifact)
    return catalogue


def _turn(spec: Spec) -> tuple[int, int, bool]:
    """When a spec's artifacts are listed: what they are made from comes before them."""
    return (
        [*SPEC_OF_COMPONENT.values()].index(type(spec)),
        spec.order if isinstance(spec, DocumentSpec) else 0,
        isinstance(spec, ModelSpec) and spec.tokenizer.shared_with is not None,
    )


def _artifacts_of(spec: Spec, before: Sequence[Artifact[Any]]) -> list[Artifact[Any]]:
    known = {name: kind for name, kind in all_kinds().items() if isinstance(spec, kind.specs)}
    sections = _sections(spec, known)
    for name in spec.needs:
        if name not in known:
            raise SpecError(
                f"{spec.where}: needs.{name}: it has no artifact of this kind; known: "
                + ", ".join(known)
            )
    try:
        made = [item for kind in known.values() for item in kind.artifacts(spec, before)]
    except SpecError as error:
        raise SpecError(f"{spec.where}: attributes.{error}") from error
    return [
        replace(artifact, item=known[artifact.kind].item, section=sections.get(artifact.kind))
        for artifact in made
    ]


def _sections(spec: Spec, known: Mapping[str, Kind[Any]]) -> dict[str, Any]:
    """The sections of a spec, parsed by the kinds that they are of."""
    models = {name: kind.section for name, kind in known.items() if kind.section is not None}
    parsed: dict[str, Any] = {}
    for name in {**models, **spec.sections}:
        if name not in models:
            raise SpecError(
                f"{spec.where}: sections.{name}: no kind of artifact has this section; known: "
                + (", ".join(models) or "none")
            )
        try:
            parsed[name] = models[name].model_validate(spec.sections.get(name, {}))
        except ValidationError as error:
            raise SpecError(f"{spec.where}: {first_problem(error, 'sections', name)}") from error
    return parsed


def _upstream_first(artifacts: Iterable[Artifact[Any]]) -> Iterator[Artifact[Any]]:
    """The artifacts of one spec in the order in which they can be made; descriptions last."""
    left = sorted(artifacts, key=lambda artifact: (artifact.is_generated, artifact.kind))
    while left:
        waiting = {artifact.key for artifact in left}
        ready = next((item for item in left if waiting.isdisjoint(item.upstream)), left[0])
        left.remove(ready)
        yield ready


def _check_models(specs: Sequence[Spec]) -> None:
    models = {spec.name: spec.tokenizer for spec in specs if isinstance(spec, ModelSpec)}
    own = [name for name, tokenizer in models.items() if tokenizer.shared_with is None]
    for name, tokenizer in models.items():
        if tokenizer.shared_with not in (None, *own):
            raise SpecError(
                f"{name}: tokenizer.shared_with: {tokenizer.shared_with} is not a model with a "
                f"tokenizer of its own; those are: {', '.join(own)}"
            )
    by_name = {spec.name: spec for spec in specs if isinstance(spec, ModelSpec)}
    for spec in by_name.values():
        owner = by_name.get(spec.tokenizer.shared_with or "", spec)
        if spec.files.tokenizer and spec.files.tokenizer_name != owner.files.tokenizer_name:
            raise SpecError(
                f"{spec.name}: files.tokenizer is a {spec.files.tokenizer_name}, but that of "
                f"{owner.name}, which it is shared with, is a {owner.files.tokenizer_name}"
            )
    for spec in specs:
        if isinstance(spec, MicroSpec) and spec.parent not in models:
            raise SpecError(
                f"{spec.name}: parent: no defs.yaml declares the model {spec.parent}; known: "
                + ", ".join(models)
            )
        if isinstance(spec, MicroSpec):
            _check_parent(spec, by_name[spec.parent])


def _check_parent(spec: MicroSpec, parent: ModelSpec) -> None:
    """Require that something can be cut from a model, as far as its spec tells."""
    shape = spec.shape
    if parent.family == "any":
        raise SpecError(
            f"{spec.where}: parent: {parent.name} is of the family any, which makes no claim about "
            "the parts of the model: nothing can be cut from it"
        )
    if parent.has_params and shape.dim % shape.n_heads:
        raise SpecError(
            f"{spec.where}: shape.dim {shape.dim} is not a multiple of shape.n_heads "
            f"{shape.n_heads}: heads are cut whole"
        )


def _with_parents_status(specs: Sequence[Spec]) -> list[Spec]:
    """Specs, in which a micro model of an optional model is optional too."""
    optional = {spec.name for spec in specs if isinstance(spec, ModelSpec) and spec.is_optional}
    return [
        spec.model_copy(update={"status": "optional"})
        if isinstance(spec, MicroSpec) and spec.parent in optional
        else spec
        for spec in specs
    ]


def _check_upstream(catalogue: Catalogue, artifact: Artifact[Any]) -> None:
    for key in artifact.upstream:
        if key not in catalogue:
            raise SpecError(
                f"{artifact.key} is made from {key}, which no defs.yaml declares; known: "
                + ", ".join(item.key for item in catalogue)
            )
        if catalogue[key].optional and not artifact.optional and not artifact.is_summary:
            raise SpecError(
                f"{artifact.key} is made from {key}, which is optional: it may never be there"
            )
    if isinstance(artifact.spec, DatasetSpec) and "tokenizer" in artifact.roles:
        tokenizer = catalogue[artifact.roles["tokenizer"]]
        if tokenizer.kind != "tokenizer":
            raise SpecError(
                f"{artifact.spec.name} counts with {tokenizer.key}, which is not a tokenizer; use "
                "one of: " + ", ".join(item.key for item in catalogue.of_kind("tokenizer"))
            )
