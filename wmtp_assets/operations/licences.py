"""Whether what is published may be given on, and what has to come with it: the licences of the
repositories that it was made from, as their ``defs.yaml`` states them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from wmtp_assets.base.errors import PublishError
from wmtp_assets.base.settings import ACCEPT_VARIABLE
from wmtp_assets.catalogue.artifact import Artifact, Catalogue
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, Repository
from wmtp_assets.destinations.destination import Destination
from wmtp_assets.storage.files import open_regular
from wmtp_assets.storage.store import Store

LICENCE_FILES = ("license*", "licence*", "copying*", "notice*")
"""Names of upstream's files that hold a licence, in lower case."""

MAX_LICENCE = 1 << 20
"""Bytes of such a file."""


def sources_of(catalogue: Catalogue, artifacts: Iterable[Artifact]) -> list[Artifact]:
    """The raw artifacts whose content is in the given ones.

    A dataset is counted with a tokenizer, and has nothing of it; a release has names and hashes.
    """
    found: dict[str, Artifact] = {}
    left = list(artifacts)
    while left:
        artifact = left.pop()
        if artifact.key in found:
            continue
        found[artifact.key] = artifact
        is_dataset = isinstance(artifact.spec, DatasetSpec)
        left += [
            catalogue[key]
            for role, key in artifact.roles.items()
            if not (is_dataset and role == "tokenizer") and artifact.kind != "release"
        ]
    return [
        artifact
        for artifact in catalogue
        if artifact.key in found and artifact.is_downloaded and _repository(artifact)
    ]


def _repository(artifact: Artifact) -> Repository | None:
    spec = artifact.spec
    return spec.repository if isinstance(spec, (ModelSpec, DatasetSpec)) else None


def require_permission(
    store: Store, artifacts: Sequence[Artifact], destination: Destination, *, is_accepted: bool
) -> None:
    """Refuse to give on what must not be, where the destination knows who can read it; else let
    LICENSE and NOTICE come with it.

    Args:
        is_accepted: whoever publishes has read the licences and keeps to them.

    Raises:
        PublishError: if a licence forbids it, nobody stated that one permits it, or its conditions
            are not accepted.
    """
    sources = sources_of(store.catalogue, artifacts)
    with_terms = {s.key: r for s in sources if (r := _repository(s)) and r.redistribution != "yes"}
    if not with_terms or (audience := destination.audience()) is None:
        return
    forbidden = [r for r in with_terms.values() if r.redistribution == "no"]
    if forbidden and (audience.is_public or not audience.is_own):
        where = "everybody can read" if audience.is_public else "is not of your own account"
        raise PublishError(
            f"{destination.name} {where}, and the defs.yaml of {forbidden[0].id} "
            f"({forbidden[0].license}) does not say that it may be given on. Nothing was sent. "
            "Publish to a private repository of your own; or, if the licence permits it, state "
            "redistribution: yes or with-notice there"
        )
    conditional = [r for r in with_terms.values() if r.redistribution == "with-notice"]
    if conditional and not is_accepted:
        terms = "; ".join(f"{r.id}: {r.license}, {r.page or r.path}" for r in conditional)
        raise PublishError(
            f"this is made from repositories whose licences have conditions ({terms}). Nothing was "
            "sent. Read them; to keep to them, and to have LICENSE and NOTICE published with it: "
            f"--accept-licence, or in Dagster {ACCEPT_VARIABLE}=1"
        )
    destination.accompany(
        {"LICENSE": _licence(store, sources), "NOTICE": _notice(store, sources, artifacts)}
    )


def _licence(store: Store, sources: Sequence[Artifact]) -> bytes:
    """Upstream's own licence files, or where they are to be read."""
    blocks: list[str] = []
    for source in sources:
        repository = _repository(source)
        if repository is None:
            continue
        texts = _own_files(store, source)
        head = f"{repository.id}: {repository.license}"
        if texts:
            blocks += [f"{head}\nIts file {name}:\n\n{text}" for name, text in texts.items()]
        else:
            blocks.append(f"{head}\nThe licence is at {repository.page or repository.path}\n")
    return f"\n{'-' * 72}\n\n".join(blocks).encode()


def _own_files(store: Store, source: Artifact) -> dict[str, str]:
    """Name → text of the licence files among upstream's files."""
    committed = store.find_manifest(source)
    names = [
        name
        for name, record in (committed.files if committed else {}).items()
        if any(fnmatchcase(name.rpartition("/")[2].lower(), p) for p in LICENCE_FILES)
        and record.size <= MAX_LICENCE
    ]
    texts: dict[str, str] = {}
    for name in names:
        with open_regular(store.path(source, name)) as file:
            texts[name.rpartition("/")[2]] = file.read(MAX_LICENCE).decode(errors="replace")
    return texts


def _notice(store: Store, sources: Sequence[Artifact], artifacts: Sequence[Artifact]) -> bytes:
    """What was made from what, and that it was changed."""
    lines = ["This is made from:", ""]
    for source in sources:
        repository = _repository(source)
        if repository is None:
            continue
        committed = store.find_manifest(source)
        said = committed.document.get("source") if committed else None
        revision = said.get("revision") if isinstance(said, dict) else None
        lines += [
            f"- {repository.id}{f' at {revision}' if revision else ''}",
            f"  {repository.page or repository.path}",
            f"  Licence: {repository.license}",
        ]
        if isinstance(source.spec, DatasetSpec) and source.spec.citation:
            lines.append(f"  Cite: {source.spec.citation}")
    changed = [a.key for a in artifacts if not a.is_downloaded]
    if changed:
        lines += [
            "",
            "It was changed: files were converted, selected, counted or described by wmtp_assets. "
            "Changed or made anew are:",
            "",
            *(f"- {key}" for key in changed),
        ]
    return ("\n".join(lines) + "\n").encode()
