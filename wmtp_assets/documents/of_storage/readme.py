"""``<root>/README.md``: what lies where, what it is for, and how to verify and publish it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import get_args

from wmtp_assets.base.yaml_file import read_model
from wmtp_assets.catalogue.artifact import SMALL, Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, MicroSpec, ModelSpec, Repository, Spec, Use
from wmtp_assets.datasets.features import fields_of
from wmtp_assets.datasets.records import PairRecord, format_of, is_labelled
from wmtp_assets.documents.document import SUMMARY, DocumentType, Fact, Facts
from wmtp_assets.documents.edited import Change, Changelog
from wmtp_assets.documents.markdown import Markdown, code, render, shown


def readme(facts: Facts) -> bytes:
    """The document.

    Raises:
        InvalidInput: if the changelog beside the spec is wrong.
    """
    catalogue = facts.store.catalogue
    folders: dict[str, list[Artifact]] = {}
    for artifact in catalogue:
        folders.setdefault(artifact.unit, []).append(artifact)
    versions = Counter(shown(fact.stated("version")) for fact in facts.there)
    changelog = read_model(facts.about.spec.beside("changelog.yaml"), Changelog).versions
    datasets = [spec for spec in catalogue.specs if isinstance(spec, DatasetSpec)]
    return render(
        "of_storage/readme",
        facts=facts,
        folders=folders,
        names=_names,
        small=SMALL,
        summary=SUMMARY,
        size=sum(fact.size for fact in facts.there),
        files=sum(len(fact.files) for fact in facts.there),
        versions=sorted(versions.items()),
        history=_history(changelog, versions),
        models=_models(facts),
        datasets=[(spec, _of(facts, spec, "processed"), _fields(spec)) for spec in datasets],
        is_labelled=lambda spec: is_labelled(format_of(spec).record),
        link=_link,
        schema=[*fields_of(PairRecord.model_json_schema())],
        uses={
            use.replace("_", " "): [spec for spec in datasets if use in spec.uses]
            for use in get_args(Use)
        },
    )


def _of(facts: Facts, spec: Spec, *kinds: str) -> Fact | None:
    """The first artifact of a spec that is of some kinds, no variant; None: there is none."""
    found = [fact for fact in facts.of(*kinds) if fact.artifact.spec.name == spec.name]
    return found[0] if found else None


def _models(
    facts: Facts,
) -> Iterator[tuple[Spec, ModelSpec, Fact | None, list[Artifact]]]:
    """Each model, the one that its bytes come from, its checkpoint, and those in other dtypes."""
    catalogue = facts.store.catalogue
    for spec in catalogue.specs:
        if isinstance(spec, ModelSpec | MicroSpec):
            variants = [
                artifact
                for artifact in catalogue
                if artifact.spec.name == spec.name and artifact.dtype not in (None, spec.dtype)
            ]
            yield (
                spec,
                catalogue.root_of(spec),
                _of(facts, spec, "safetensors", "micro"),
                variants,
            )


def _link(repository: Repository) -> Markdown:
    """The page of a repository, whose name can hold no markup; a folder has none."""
    if not repository.page:
        return Markdown(f"{code(repository.id)}, a folder on the machine that made it")
    return Markdown(f"[{code(repository.id)}]({repository.page})")


def _fields(spec: DatasetSpec) -> list[str]:
    """The fields of a row of a dataset, those of its metadata with a dot."""
    names = (name for name, _, _ in fields_of(format_of(spec).record.model_json_schema()))
    return [name for name in names if name != "metadata"]


def _history(
    changelog: Iterable[Change], versions: Iterable[str]
) -> list[tuple[str, Change | None]]:
    """Versions with what changed in them; first those that artifacts have and nobody described."""
    said: dict[str, Change | None] = {shown(change.version): change for change in changelog}
    return [*((version, None) for version in sorted({*versions} - {*said})), *said.items()]


def _names(artifacts: list[Artifact]) -> list[str]:
    """What lies in a unit's folder, by its first name."""
    names: dict[str, None] = {}
    for artifact in artifacts:
        below = artifact.base.removeprefix(artifact.unit).strip("/")
        for name in artifact.owns or ("",):
            path = "/".join(part for part in (below, name) if part)
            is_file = "." in path.rsplit("/", 1)[-1]
            names[code(path if is_file else f"{path}/") if path else "all"] = None
    return list(names)


DOCUMENT = DocumentType("README.md", readme, is_copied_to_root=True, edited=("changelog.yaml",))
