"""``<root>/README.md``: what lies where, how large it is, and how to verify it."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from wmtp_assets.catalogue.artifact import SMALL, Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, Use
from wmtp_assets.documents.document import SUMMARY, DocumentType, Facts
from wmtp_assets.documents.markdown import code, render, shown


def readme(facts: Facts) -> bytes:
    """The document."""
    catalogue = facts.store.catalogue
    folders: dict[str, list[Artifact]] = {}
    for artifact in catalogue:
        folders.setdefault(artifact.unit, []).append(artifact)
    return render(
        "of_storage/readme",
        facts=facts,
        folders=folders,
        names=_names,
        small=SMALL,
        summary=SUMMARY,
        size=sum(fact.size for fact in facts.there),
        files=sum(len(fact.files) for fact in facts.there),
        versions=sorted(Counter(shown(fact.stated("version")) for fact in facts.there).items()),
        uses={
            use.replace("_", " "): [
                spec
                for spec in catalogue.specs
                if isinstance(spec, DatasetSpec) and use in spec.uses
            ]
            for use in get_args(Use)
        },
    )


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


DOCUMENT = DocumentType("README.md", readme, is_copied_to_root=True)
