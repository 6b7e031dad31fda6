"""An artifact as a Dagster asset: builds and commits it, and says what it is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.base.progress import human_bytes
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DocumentSpec, Repository
from wmtp_assets.components.metadata import describe
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.kinds.registry import kind_of, rules_of
from wmtp_assets.operations.materialize import materialize

OWNERS = ["team:wmtp"]

MUCH = 10**6
"""Bytes from which a description says how many; ``size`` in the metadata says it of each."""

OPTIONAL_TAG = {"optional": "true"}
"""Not selected by ``make materialize``: made only when it is asked for."""


UPSTREAM = "upstream"
"""Group and key prefix of the repositories."""


def upstream_key(repository: Repository) -> dg.AssetKey:
    """The key of a repository in the graph."""
    return dg.AssetKey([UPSTREAM, *repository.id.split("/")])


def upstream_of(artifact: Artifact[Any]) -> list[dg.AssetKey]:
    """The repositories that an artifact is downloaded from."""
    return [upstream_key(artifact.spec.repository)] if artifact.is_downloaded else []


@contextmanager
def plain_failures() -> Iterator[None]:
    """Show an error that is meant for people as such, and do not retry it."""
    try:
        yield
    except WmtpError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"error": type(error).__name__},
            allow_retries=False,
        ) from None


DERIVED = (
    dg.AutomationCondition.eager().replace(
        dg.AutomationCondition.any_deps_updated(),
        dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed()),
    )
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
)
"""Made again when the content of what it is made from changed, and that passed its checks. Plain
``eager()`` would fire after each materialization, whether the bytes changed or not."""


def description_of(artifact: Artifact[Any]) -> str:
    """What the artifact is for, how large it is, and the rules that hold for it; Markdown."""
    spec = artifact.spec
    optional = "Optional: made only when it is asked for. " if artifact.optional else ""
    dtype = f" All tensors are {artifact.dtype}." if artifact.dtype is not None else ""
    size = _size_of(artifact)
    about = [f"{kind_of(artifact).words}{dtype}{size}", spec.description]
    if isinstance(spec, DocumentSpec):
        about.reverse()
    rules = ", ".join(f"`{rule.name}`" for rule in rules_of(artifact))
    return (
        f"{optional}{about[0]}\n\n{about[1]}\n\n"
        f"Rules: {rules}. Each is a check of this asset, and docs/rules.md lists them."
    )


def _size_of(artifact: Artifact[Any]) -> str:
    """A sentence on how much it takes, made from the real source where that is much."""
    kind = kind_of(artifact)
    repository = getattr(artifact.spec, "repository", None)
    if artifact.is_downloaded:
        return f" About {artifact.spec.repository.size} on the hub."
    size = kind.size(artifact, repository.most_bytes if repository else 0)
    if size < MUCH:
        return " Less than 1 MB."
    if kind.is_bound:
        return f" At most {human_bytes(size)}."
    return f" About {human_bytes(size)} from the real source."


def asset_of(artifact: Artifact[Any]) -> dg.AssetsDefinition:
    """The asset that materializes ``artifact``."""

    @dg.asset(
        key=artifact.key,
        deps=[*artifact.upstream, *upstream_of(artifact)],
        group_name=artifact.group,
        kinds={*kind_of(artifact).tags},
        owners=OWNERS,
        tags=OPTIONAL_TAG if artifact.optional else None,
        description=description_of(artifact),
        metadata={"path": f"{artifact.base}/"},
        automation_condition=DERIVED if artifact.upstream and not artifact.optional else None,
    )
    def build(context: dg.AssetExecutionContext, storage: StorageResource) -> dg.MaterializeResult:
        started = time.monotonic()
        with plain_failures():
            store = storage.open(context.instance)
            manifest = materialize(store, artifact, context.log.info)
        return dg.MaterializeResult(
            metadata=describe(store, artifact, manifest, time.monotonic() - started),
            data_version=dg.DataVersion(manifest.content_sha256),
        )

    return build
