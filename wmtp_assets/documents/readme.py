"""``<root>/README.md``: what lies where, how large it is, and how to verify it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.catalogue.artifact import SMALL, Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, Use
from wmtp_assets.documents.facts import SUMMARY, Facts, heading
from wmtp_assets.documents.markdown import code, escape, page, paragraph, shown, table
from wmtp_assets.storage.store import materialize_command

VERIFY = """\
```bash
(cd models_v2/NAME/safetensors && sha256sum -c SHA256SUMS)   # needs nothing but coreutils
wmtp status                                                  # sizes and times; hashes nothing
wmtp verify                                                  # every rule on every byte
wmtp verify --release                                        # is it what was released?
```

Every artifact has a manifest (`metadata.json`, or `NAME.metadata.json` beside what it is about)
with size and SHA-256 of each of its files, and a SHA-256 of the manifest itself.
"""

VALUE_HEAD = """\
### Where is the value head?

Upstream has none. `value_head.path` in the `metadata.json` of a model is null until training has
written `safetensors/value_head.safetensors` and somebody has run `wmtp value-head NAME`: null means
that training initialises one. A recorded value head is kept when the checkpoint is made again.
"""

REPROCESSING = """\
Change its `defs.yaml` (`max_tokens`, `public_tests`, splits), raise `version` there, and run
`{command}`, or that of another dataset: what is downstream is made too. Rows that come out the same
are the same bytes, and nothing downstream of them is stale. What was there before stays in
`.wmtp/previous/` until the next change.
"""


def readme(facts: Facts) -> bytes:
    """The document."""
    command = materialize_command("codecontests_processed*")
    return page(
        [
            *heading(facts, "Storage of the WMTP experiments"),
            *paragraph(
                "Checkpoints, tokenizers and datasets of Weighted Multi-Token Prediction, one "
                "Dagster asset each."
            ),
            "## Layout",
            "",
            *_layout(facts),
            "## Artifacts",
            "",
            *_artifacts(facts),
            "## Verifying",
            "",
            VERIFY,
            "## Versions",
            "",
            *_versions(facts),
            "## Questions",
            "",
            VALUE_HEAD,
            "### How is a dataset processed again?",
            "",
            *paragraph(REPROCESSING.format(command=command)),
            *_uses(facts),
        ]
    )


def _layout(facts: Facts) -> Iterator[str]:
    catalogue = facts.store.catalogue
    folders: dict[str, list[Artifact]] = {}
    for artifact in catalogue:
        folders.setdefault(artifact.unit, []).append(artifact)
    yield from table(
        ("folder", "holds", "assets"),
        (
            (
                code(f"{unit}/"),
                ", ".join(name if name == "all" else code(name) for name in _names(artifacts)),
                ", ".join(code(artifact.key) for artifact in artifacts),
            )
            for unit, artifacts in folders.items()
        ),
    )
    yield from paragraph(
        f"`{SMALL}/` is for laptops. `.wmtp/` holds locks, staging and earlier generations; copy "
        "everything else. `README.md` and `RELEASE.json` here are copies of those in `docs/`."
    )


def _names(artifacts: list[Artifact]) -> list[str]:
    """What lies in a unit's folder, by its first name."""
    names: dict[str, None] = {}
    for artifact in artifacts:
        below = artifact.base.removeprefix(artifact.unit).strip("/")
        owned = artifact.owns or ("",)
        for name in owned:
            path = "/".join(part for part in (below, name) if part)
            names[path if "." in path.rsplit("/", 1)[-1] else f"{path}/" if path else "all"] = None
    return list(names)


def _artifacts(facts: Facts) -> Iterator[str]:
    yield from table(
        ("asset", "kind", "folder", "version", "right:bytes", "dtype", "right:rows", "SHA-256"),
        (
            (
                code(fact.key),
                fact.artifact.kind,
                code(f"{fact.artifact.base}/"),
                shown(fact.version),
                shown(fact.size),
                shown(fact.stated("dtype")),
                shown(fact.counted("rows")),
                code(fact.content_sha256),
            )
            for fact in facts.there
        ),
    )
    size = sum(fact.size for fact in facts.there)
    files = sum(len(fact.files) for fact in facts.there)
    yield from paragraph(f"Together {human_bytes(size)} in {shown(files)} files.")
    if facts.absent:
        names = ", ".join(code(artifact.key) for artifact in facts.absent)
        yield from paragraph(f"Optional, and not there: {names}.")
    yield from paragraph(
        "The SHA-256 is that of what `sha256sum` prints for the asset's files, in the order of "
        "their names (`manifest.content_sha256` in its manifest); for statistics, which keep a "
        "summary per change under the day's name, that of the newest one under the name "
        f"`{SUMMARY}`."
    )


def _versions(facts: Facts) -> Iterator[str]:
    counts = Counter(shown(fact.version) for fact in facts.there)
    said = ", ".join(f"{version}: {count}" for version, count in sorted(counts.items()))
    yield from paragraph(
        f"Artifacts by version: {said}. A version names bytes: `RELEASE.json` freezes size and "
        "SHA-256 of every artifact that is made from upstream under its version, and a check "
        "fails when they change and the version does not. To change one, raise `version` in its "
        "`defs.yaml`."
    )


def _uses(facts: Facts) -> Iterator[str]:
    specs = [spec for spec in facts.store.catalogue.specs if isinstance(spec, DatasetSpec)]
    yield "### Which dataset for which experiment?"
    yield ""
    yield from table(
        ("experiment", "datasets"),
        (
            (
                escape(use.replace("_", " ")),
                ", ".join(code(spec.folder) for spec in specs if use in spec.uses),
            )
            for use in get_args(Use)
        ),
    )
    yield from paragraph(
        "`wmtp_assets.usable_for(EXPERIMENT, DATASET)` is an error for any other pair."
    )
