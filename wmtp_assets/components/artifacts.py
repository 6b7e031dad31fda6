"""An artifact as a Dagster asset: builds and commits it, and says what it is."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.base.progress import human_bytes
from wmtp_assets.catalogue.layout import SUMMARIES, Artifact, Kind
from wmtp_assets.catalogue.specs import DatasetSpec, DocumentSpec, MicroSpec, ModelSpec, Repository
from wmtp_assets.components.metadata import describe
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.plan import estimate
from wmtp_assets.rules.apply import rules_of

OWNERS = ["team:wmtp"]

MUCH = 10**6
"""Bytes from which a description says how many; ``size`` in the metadata says it of each."""

_KINDS: Mapping[Kind, tuple[str, ...]] = {
    "raw": ("huggingface",),
    "tokenizer": ("sentencepiece",),
    "safetensors": ("pytorch", "safetensors"),
    "micro": ("pytorch", "safetensors"),
    "processed": ("json", "jsonl", "parquet"),
    "pairs": ("json", "jsonl"),
    "small": ("json", "jsonl"),
    "stats": ("json",),
    "tests": ("json",),
    "parameters": ("yaml",),
    "card": ("markdown",),
    "croissant": ("json",),
    "document": ("markdown",),
    "release": ("json",),
}

_PARTS: Mapping[Kind, str] = {
    "raw": "The files exactly as upstream has them, verified against the hub's hashes.",
    "tokenizer": "The sentencepiece tokenizer, proven by its SHA-256.",
    "safetensors": "The checkpoint as one safetensors file, with configs derived from it.",
    "micro": "A micro model: checkpoint, configs and the parent's tokenizer.",
    "processed": "Rows in the Alpaca format as JSON Lines, with schema, problem index, offsets and "
    "Parquet twin.",
    "pairs": "The view that training reads: prompt, response, is_correct.",
    "small": "A seeded sample over problems and labels, not the head of the file.",
    "stats": "Counts and token distributions, one summary per content.",
    "tests": "The inputs and outputs that judge a solution, of every problem of a split.",
    "parameters": "The parameters of every model that is there, derived from the checkpoints.",
    "card": "The model card: tensors, parameters, licence and lineage.",
    "croissant": "The dataset's description as Croissant metadata, for tools that read it.",
    "document": "Generated from the artifacts' manifests; no number in it is written by hand.",
    "release": "Version, size and SHA-256 of every artifact, frozen.",
}

OPTIONAL_TAG = {"optional": "true"}
"""Not selected by ``make materialize``: made only when it is asked for."""


UPSTREAM = "upstream"
"""Group and key prefix of the repositories."""


def upstream_key(repository: Repository) -> dg.AssetKey:
    """The key of a repository in the graph."""
    return dg.AssetKey([UPSTREAM, *repository.id.split("/")])


def upstream_of(artifact: Artifact) -> list[dg.AssetKey]:
    """The repositories that an artifact is downloaded from."""
    spec = artifact.spec
    if artifact.kind != "raw" or not isinstance(spec, ModelSpec | DatasetSpec):
        return []
    return [upstream_key(spec.repository)]


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


def group_of(artifact: Artifact) -> str:
    """The group of the asset in the UI."""
    if artifact.kind == "small":
        return "small"
    if artifact.kind in SUMMARIES:
        return "reports"
    if isinstance(artifact.spec, MicroSpec):
        return "micro"
    return "datasets" if isinstance(artifact.spec, DatasetSpec) else "models"


DERIVED = (
    dg.AutomationCondition.eager().replace(
        dg.AutomationCondition.any_deps_updated(),
        dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed()),
    )
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
)
"""Made again when the content of what it is made from changed, and that passed its checks. Plain
``eager()`` would fire after each materialization, whether the bytes changed or not."""


def description_of(artifact: Artifact) -> str:
    """What the artifact is for, how large it is, and the rules that hold for it; Markdown."""
    spec = artifact.spec
    optional = "Optional: made only when it is asked for. " if artifact.optional else ""
    dtype = f" All tensors are {artifact.dtype}." if artifact.dtype is not None else ""
    size = _size_of(artifact)
    about = [f"{_PARTS[artifact.kind]}{dtype}{size}", spec.description]
    if isinstance(spec, DocumentSpec):
        about.reverse()
    rules = ", ".join(f"`{rule.name}`" for rule in rules_of(artifact))
    return (
        f"{optional}{about[0]}\n\n{about[1]}\n\n"
        f"Rules: {rules}. Each is a check of this asset, and docs/rules.md lists them."
    )


def _size_of(artifact: Artifact) -> str:
    """A sentence on how much it takes, made from the real source where that is much."""
    spec = artifact.spec
    if artifact.kind == "raw" and isinstance(spec, ModelSpec | DatasetSpec):
        return f" About {spec.repository.size} on the hub."
    if artifact.kind == "micro" and isinstance(spec, MicroSpec):
        return f" At most {human_bytes(spec.max_bytes)}."
    if isinstance(spec, ModelSpec | DatasetSpec):
        size = estimate(artifact, spec.repository.most_bytes)
        if size >= MUCH:
            return f" About {human_bytes(size)} from the real source."
    return " Less than 1 MB."


def asset_of(artifact: Artifact) -> dg.AssetsDefinition:
    """The asset that materializes ``artifact``."""

    @dg.asset(
        key=artifact.key,
        deps=[*artifact.upstream, *upstream_of(artifact)],
        group_name=group_of(artifact),
        kinds={*_KINDS[artifact.kind]},
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
