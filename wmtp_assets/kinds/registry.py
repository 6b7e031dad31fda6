"""The kinds and the rules there are, found by name; and the catalogue that they make of the specs.

A module of this folder with ``KIND`` is a kind. A module with ``RULES``, in this folder, in the
folder ``rules/`` of the package or of a room, or ``rules.py`` of a room, has rules.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wmtp_assets import kinds
from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.model import first_problem
from wmtp_assets.catalogue.artifact import Artifact, Catalogue
from wmtp_assets.catalogue.specs import (
    DEFS_FOLDER,
    SPEC_OF_COMPONENT,
    DatasetSpec,
    DocumentSpec,
    MicroSpec,
    ModelSpec,
    Spec,
    load_specs,
)
from wmtp_assets.kinds.kind import Kind
from wmtp_assets.rules.findings import Rule

PACKAGE = Path(__file__).parents[1]


@cache
def all_kinds() -> Mapping[str, Kind[Any]]:
    """Every kind, by name.

    Raises:
        SpecError: if a module's kind has another name than the module.
    """
    found: dict[str, Kind[Any]] = {}
    for module in _modules(kinds.__name__):
        kind = getattr(module, "KIND", None)
        if isinstance(kind, Kind):
            name = module.__name__.rpartition(".")[2]
            if kind.name != name:
                raise SpecError(f"{module.__file__}: calls its kind {kind.name!r}, not {name!r}")
            found[name] = kind
    return found


def kind_of(artifact: Artifact[Any]) -> Kind[Any]:
    """The kind of an artifact."""
    return all_kinds()[artifact.kind]


@cache
def all_rules() -> tuple[Rule[Any], ...]:
    """Every rule: those about all kinds first, then room by room."""
    rooms = [room.name for room in pkgutil.iter_modules([str(PACKAGE)]) if room.ispkg]
    places = ["rules", *(f"{room}.rules" for room in rooms), "kinds"]
    return tuple(
        rule
        for place in places
        for module in _modules(f"{PACKAGE.name}.{place}")
        for rule in getattr(module, "RULES", ())
    )


def _modules(name: str) -> Iterator[Any]:
    """The modules of a package, or a single module; none where there is nothing of the name.

    The room above it is not imported for that: ``components/`` needs Dagster.
    """
    _, *folders, last = name.split(".")
    above = str(Path(PACKAGE, *folders))
    if last not in {module.name for module in pkgutil.iter_modules([above])}:
        return
    package = import_module(name)
    yield package
    for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
        yield import_module(f"{name}.{module.name}")


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
    return expand(load_specs(folder))


def expand(specs: Sequence[Spec]) -> Catalogue:
    """The artifacts that specs stand for, upstream first.

    Raises:
        SpecError: when a spec refers to what no spec declares, to something of the wrong kind, or
            to an optional artifact that may never be there; when two declare one artifact.
    """
    _check_models(specs)
    made: dict[str, Artifact[Any]] = {}
    for spec in sorted(specs, key=_turn):
        for artifact in _upstream_first(_artifacts_of(spec, [*made.values()])):
            if artifact.key in made:
                first = made[artifact.key].spec
                raise SpecError(
                    f"{_where(spec)}: {artifact.key!r} is already declared by {_where(first)}"
                )
            made[artifact.key] = artifact
    catalogue = Catalogue(specs, made.values())
    for artifact in catalogue:
        _check_upstream(catalogue, artifact)
    return catalogue


def artifacts_of(spec: Spec) -> tuple[Artifact[Any], ...]:
    """The artifacts of one spec, upstream first, of which the others need not be known."""
    return tuple(_upstream_first(_artifacts_of(spec, ())))


def _where(spec: Spec) -> str:
    return str(spec.declared_in or spec.name)


def _turn(spec: Spec) -> tuple[int, int, bool]:
    """When a spec's artifacts are listed: what they are made from comes before them."""
    shares = isinstance(spec, ModelSpec) and spec.tokenizer.shared_with is not None
    order = spec.order if isinstance(spec, DocumentSpec) else 0
    return [*SPEC_OF_COMPONENT.values()].index(type(spec)), order, shares


def _artifacts_of(spec: Spec, before: Sequence[Artifact[Any]]) -> Iterator[Artifact[Any]]:
    known = {name: kind for name, kind in all_kinds().items() if isinstance(spec, kind.specs)}
    sections = _sections(spec, known)
    for name, kind in known.items():
        for artifact in kind.artifacts(spec, before):
            yield replace(artifact, item=kind.item, section=sections.get(name))


def _sections(spec: Spec, known: Mapping[str, Kind[Any]]) -> dict[str, Any]:
    """The sections of a spec, parsed by the kinds that they are of."""
    models = {name: kind.section for name, kind in known.items() if kind.section is not None}
    parsed: dict[str, Any] = {}
    for name in {**models, **spec.sections}:
        model = models.get(name)
        if model is None:
            raise SpecError(
                f"{_where(spec)}: sections.{name}: no kind of artifact has this section; known: "
                + (", ".join(models) or "none")
            )
        try:
            parsed[name] = model.model_validate(spec.sections.get(name, {}))
        except ValidationError as error:
            problem = first_problem(error, "sections", name)
            raise SpecError(f"{_where(spec)}: {problem}") from error
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
    models = {spec.name: spec for spec in specs if isinstance(spec, ModelSpec)}
    for spec in models.values():
        shared = spec.tokenizer.shared_with
        owner = models.get(shared) if shared is not None else None
        if shared is not None and (owner is None or owner.tokenizer.shared_with is not None):
            raise SpecError(
                f"{spec.name}: tokenizer.shared_with: {shared} is no model with a tokenizer of its "
                "own; those are: "
                + ", ".join(m.name for m in models.values() if m.tokenizer.vocab_size)
            )
    for spec in specs:
        if isinstance(spec, MicroSpec) and spec.parent not in models:
            raise SpecError(
                f"{spec.name}: parent: no defs.yaml declares the model {spec.parent}; known: "
                + ", ".join(models)
            )


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
                f"{artifact.spec.name} counts with {tokenizer.key}, which is no tokenizer; use one "
                "of: " + ", ".join(item.key for item in catalogue.of_kind("tokenizer"))
            )
