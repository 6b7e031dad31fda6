"""What every module of this folder says about its kind of artifact, in ``KIND``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from wmtp_assets.base.model import StrictModel
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, Spec
from wmtp_assets.datasets.records import Record
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Store

S = TypeVar("S", bound=Spec)

Before = Sequence[Artifact[Any]]
"""The artifacts that are made before those of a spec, upstream first."""


@dataclass(frozen=True)
class Rows(Generic[S]):
    """How a kind that holds rows shows them.

    Attributes:
        file: split → its file.
        record: what a row is; None: the columns are not shown.
    """

    file: Callable[[str], str]
    record: Callable[[S], type[Record]] | None = None


@dataclass(frozen=True)
class Kind(Generic[S]):
    """One kind of artifact.

    Attributes:
        name: that of its module; manifests and ``wmtp status`` say it.
        specs: the types of spec that may have artifacts of this kind.
        artifacts: a spec, and what is made before → its artifacts of this kind.
        build: makes one; see :mod:`wmtp_assets.storage.build`.
        version: of the builder; raised when the same upstream content becomes other bytes.
        fields: the fields of the spec that decide about the bytes, with dots into nested ones.
        words: what it is, in one sentence, for the web UI.
        tags: storage kinds as the web UI shows them, at most three.
        item: of the preparation plan, that its artifacts prove in the completion report.
        size: artifact, and bytes of the raw files that its spec names → bytes it takes, about.
        is_bound: ``size`` is an upper bound.
        scratch: bytes beside it while it is made, as a multiple of its own.
        is_parsed: the builder parses files, and so runs in the child process.
        section: the model of its section in a spec's ``sections``; None: it has none.
        rows: how its rows are shown; None: it holds none.
        pictures: store, artifact and manifest → names and SVGs of what is better seen than read.
    """

    name: str
    specs: tuple[type[S], ...]
    artifacts: Callable[[S, Before], Iterator[Artifact[S]]]
    build: Callable[[Build[S]], Document]
    words: str
    tags: tuple[str, ...]
    item: str
    version: int = 1
    fields: tuple[str, ...] = ()
    size: Callable[[Artifact[S], int], float] = lambda artifact, raw: 0
    is_bound: bool = False
    scratch: float = 0.0
    is_parsed: bool = True
    section: type[StrictModel] | None = None
    rows: Rows[S] | None = None
    pictures: Callable[[Store, Artifact[S], Document], Iterable[tuple[str, bytes]]] | None = None

    def made_with(self, spec: S) -> Document:
        """What a manifest says about the making: version of the builder, and settings."""
        said = spec.model_dump(mode="json")
        fields = (field.split(".") for field in self.fields)
        settings = {".".join(path): _at(said, path) for path in fields if path[0] in said}
        if self.section is not None and self.name in said["sections"]:
            settings["section"] = said["sections"][self.name]
        return {"builder": self.version, "settings": settings}


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
