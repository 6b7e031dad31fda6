"""An artifact in Dagster: the asset that makes it, with its checks, and its repository.

An artifact is one step. A repository on the hub is an observable source asset, whose data version
is upstream's revision.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.tags import KIND_PREFIX

from wmtp_assets.base.progress import for_log, human_bytes
from wmtp_assets.base.settings import read_conversion_steps, read_settings
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, DocumentSpec, ModelSpec, Repository
from wmtp_assets.components.automation import DERIVED, OPTIONAL_TAG
from wmtp_assets.components.checks import check_specs_of, checked
from wmtp_assets.components.failures import plain_failures
from wmtp_assets.components.metadata import describe
from wmtp_assets.components.needs import tags_of
from wmtp_assets.components.storage import OptionsResource, StorageResource
from wmtp_assets.components.watch import CHECKS
from wmtp_assets.hub.endpoint import open_endpoint
from wmtp_assets.hub.remote import head_of, pin_of, read_pins
from wmtp_assets.kinds.registry import kind_of, rules_of
from wmtp_assets.operations.materialize import is_alone, share, update
from wmtp_assets.storage.store import Store

OWNERS = ["team:wmtp"]

MUCH = 10**6
"""Bytes from which a description says how many; ``size`` in the metadata says it of each."""

UPSTREAM = "upstream"
"""Group and key prefix of the repositories."""


def upstream_key(repository: Repository) -> dg.AssetKey:
    """The key of a repository in the graph."""
    return dg.AssetKey([UPSTREAM, *repository.id.split("/")])


def description_of(artifact: Artifact[Any]) -> str:
    """What the artifact is for, how large it is, and the rules that hold for it; Markdown."""
    optional = "Optional: made only when it is asked for. " if artifact.optional else ""
    dtype = f" All tensors are {artifact.dtype}." if artifact.dtype is not None else ""
    about = [f"{kind_of(artifact).words}{dtype}{_size_of(artifact)}", artifact.spec.description]
    if isinstance(artifact.spec, DocumentSpec):
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
    if repository is not None and repository.is_folder:
        return ""
    if artifact.is_downloaded:
        return f" About {artifact.spec.repository.size} on the hub."
    size = kind.size(artifact, repository.most_bytes if repository else 0)
    if size < MUCH:
        return " Less than 1 MB."
    about = f" About {human_bytes(size)} from the real source."
    return f" At most {human_bytes(size)}." if kind.is_bound else about


def code_version_of(artifact: Artifact[Any]) -> str:
    """Settings and version of the builder, hashed: with another one the asset is stale."""
    kind = kind_of(artifact)
    made_with = {"builder": kind.version, "settings": kind.settings(artifact)}
    return hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:12]


def asset_of(artifact: Artifact[Any]) -> dg.AssetsDefinition:
    """The asset that materializes ``artifact`` and then applies its checks, in one step; any of
    them can be run alone. With several conversion steps: :func:`shared_asset_of`.

    Raises:
        SpecError: if a setting is malformed.
    """
    if is_shared(artifact):
        return shared_asset_of(artifact, read_conversion_steps())
    repositories = [upstream_key(artifact.spec.repository)] if artifact.is_downloaded else []
    description = description_of(artifact)

    @dg.multi_asset(
        name=artifact.key,
        description=description,
        specs=[
            dg.AssetSpec(
                artifact.key,
                deps=[*artifact.upstream, *repositories],
                group_name=artifact.group,
                kinds={*kind_of(artifact).tags},
                owners=OWNERS,
                tags=OPTIONAL_TAG if artifact.optional else None,
                description=description,
                metadata={"path": f"{artifact.base}/"},
                code_version=code_version_of(artifact),
                automation_condition=_automation_of(artifact),
            )
        ],
        check_specs=check_specs_of(artifact),
        can_subset=True,
        op_tags=tags_of(artifact),
    )
    def build(
        context: dg.AssetExecutionContext,
        storage: dg.ResourceParam[StorageResource],
        options: OptionsResource,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        with plain_failures():
            store = storage.open(context.instance)
        if context.selected_asset_keys:
            yield dg.MaterializeResult(**_materialized(artifact, context, store, options))
        yield from checked(artifact, context, store, options)

    return build


def is_shared(artifact: Artifact[Any]) -> bool:
    """Whether several steps make it, and its checks are a step of their own.

    Raises:
        SpecError: if the setting is malformed.
    """
    return read_conversion_steps() > 0 and kind_of(artifact).sharing is not None


def _automation_of(artifact: Artifact[Any]) -> dg.AutomationCondition | None:
    return DERIVED if artifact.upstream and not artifact.optional else None


def _materialized(
    artifact: Artifact[Any],
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    store: Store,
    options: OptionsResource,
) -> dict[str, Any]:
    """Make an artifact; what Dagster is told about it: metadata and data version.

    A step that died after it had said that is started again. It says the same, and makes nothing.
    """
    started = time.monotonic()
    with plain_failures():
        said = _said_in_this_run(artifact, context)
        found = store.find_manifest(artifact) if said else None
        if said and found and found.content_sha256 == said["data_version"].value:
            return said
        wanted = {key.to_user_string() for key in context.run.asset_selection or ()}
        done = update(
            store,
            artifact,
            for_log(context.log.info),
            force=options.force,
            alone=bool(wanted) and is_alone(store.catalogue, artifact, wanted),
        )
    seconds = time.monotonic() - started if done.is_made else None
    made = {"made": "made" if done.is_made else "unchanged"}
    if done.reasons:
        made["why"] = "; ".join(map(str, done.reasons))
    return {
        "metadata": describe(store, artifact, done.manifest, seconds) | made,
        "data_version": dg.DataVersion(done.manifest.content_sha256),
    }


def _said_in_this_run(
    artifact: Artifact[Any], context: dg.AssetExecutionContext | dg.OpExecutionContext
) -> dict[str, Any] | None:
    last = context.instance.get_latest_materialization_event(dg.AssetKey(artifact.key))
    if last is None or last.run_id != context.run.run_id or last.asset_materialization is None:
        return None
    said = last.asset_materialization
    version = (said.tags or {}).get(DATA_VERSION_TAG)
    return {"metadata": said.metadata, "data_version": dg.DataVersion(version)} if version else None


def shared_asset_of(artifact: Artifact[Any], steps: int) -> dg.AssetsDefinition:
    """The asset that materializes ``artifact`` in several steps.

    ``convert_0``, ``convert_1``, … share the work: each does what no other one does. Then ``join``
    materializes it, and finds that done. Assets meet on disk, so that nothing is handed over.
    """
    upstream = {key: dg.In(dg.Nothing) for key in artifact.upstream}

    @dg.op(
        name=f"{artifact.key}_convert",
        description="Convert shards that no other step converts, until none is left.",
        ins=upstream,
        out={"part": dg.Out(dg.Nothing)},
        tags=tags_of(artifact),
    )
    def convert(
        context: dg.OpExecutionContext,
        storage: dg.ResourceParam[StorageResource],
        options: OptionsResource,
    ) -> None:
        with plain_failures():
            share(
                storage.open(context.instance),
                artifact,
                for_log(context.log.info),
                force=options.force,
                of_run=context.run_id,
            )

    @dg.op(
        name=f"{artifact.key}_join",
        description="Join what the steps made, and commit it.",
        ins={**upstream, "parts": dg.In(dg.Nothing)},
        out={"result": dg.Out(dg.Nothing)},
        tags=tags_of(artifact),
        code_version=code_version_of(artifact),
    )
    def join(
        context: dg.OpExecutionContext,
        storage: dg.ResourceParam[StorageResource],
        options: OptionsResource,
    ) -> Iterator[dg.Output]:
        with plain_failures():
            store = storage.open(context.instance)
        done = _materialized(artifact, context, store, options)
        yield dg.Output(None, output_name="result", **done)

    names = [f"convert_{number}" for number in range(steps)]
    graph = dg.GraphDefinition(
        name=artifact.key,
        node_defs=[convert, join],
        dependencies={
            **{dg.NodeInvocation(convert.name, alias=name): {} for name in names},
            dg.NodeInvocation(join.name, alias="join"): {
                "parts": dg.MultiDependencyDefinition(
                    [dg.DependencyDefinition(name, "part") for name in names]
                )
            },
        },
        input_mappings=[
            dg.InputMapping(graph_input_name=key, mapped_node_name=name, mapped_node_input_name=key)
            for key in upstream
            for name in (*names, "join")
        ],
        output_mappings=[
            dg.OutputMapping(
                graph_output_name="result",
                mapped_node_name="join",
                mapped_node_output_name="result",
            )
        ],
    )
    condition = _automation_of(artifact)
    return dg.AssetsDefinition.from_graph(
        graph,
        keys_by_input_name={key: dg.AssetKey(key) for key in upstream},
        keys_by_output_name={"result": dg.AssetKey(artifact.key)},
        group_name=artifact.group,
        tags_by_output_name={
            "result": {
                **{f"{KIND_PREFIX}{tag}": "" for tag in kind_of(artifact).tags},
                **(OPTIONAL_TAG if artifact.optional else {}),
            }
        },
        owners_by_output_name={"result": OWNERS},
        descriptions_by_output_name={"result": description_of(artifact)},
        metadata_by_output_name={"result": {"path": f"{artifact.base}/"}},
        code_versions_by_output_name={"result": code_version_of(artifact)},
        automation_conditions_by_output_name={"result": condition} if condition else None,
    )


def checks_of(artifact: Artifact[Any]) -> dg.AssetChecksDefinition:
    """The checks of an asset that several steps make: Dagster runs no single check of a graph."""

    @dg.multi_asset_check(
        name=f"{artifact.key}{CHECKS}",
        specs=check_specs_of(artifact),
        can_subset=True,
        op_tags=tags_of(artifact),
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        storage: dg.ResourceParam[StorageResource],
        options: OptionsResource,
    ) -> Iterator[dg.AssetCheckResult]:
        with plain_failures():
            store = storage.open(context.instance)
        yield from checked(artifact, context, store, options)

    return check


def source_of(spec: ModelSpec | DatasetSpec) -> dg.SourceAsset:
    """The observable source asset of a spec's repository.

    Observing asks the hub for the head of main, and says whether that is the commit that is used.
    """
    repository = spec.repository
    is_sample = read_settings().source == "sample" and not repository.is_folder
    place = (
        "in a folder on this machine"
        if repository.is_folder
        else "as the sample imitates it"
        if is_sample
        else "on the Hugging Face Hub"
    )
    page = dg.MetadataValue.url(repository.page) if repository.page and not is_sample else None

    @dg.observable_source_asset(
        key=upstream_key(repository),
        group_name=UPSTREAM,
        description=(
            f"{repository.id} {place} ({repository.license}"
            f"{', gated' if repository.gated else ''}). Observing it shows whether upstream moved "
            "past the commit that is used; nothing is downloaded."
        ),
        metadata={"repository": page or repository.id},
        tags={} if repository.is_folder else {"dagster/kind/huggingface": ""},
    )
    def observe(
        context: dg.OpExecutionContext, storage: dg.ResourceParam[StorageResource]
    ) -> dg.ObserveResult:
        with plain_failures():
            store = storage.open(context.instance)
            with open_endpoint(store.settings, repository) as endpoint:
                head = head_of(endpoint, spec)
            pin = pin_of(store.settings, spec, read_pins(store.settings, repository))
        metadata: dict[str, Any] = {"head": head, "used": pin or "unpinned: the head of main"}
        if pin is not None:
            metadata["moved_past_the_pin"] = pin != head
            if pin != head:
                how = (
                    f"set repository.revision in the defs.yaml of {spec.name}"
                    if repository.revision
                    else f"see what changed, and use it, with: wmtp lock --update {spec.name}_raw"
                )
                context.log.warning(f"{repository.id} is at {head}; {pin} is used. To move: {how}")
        return dg.ObserveResult(data_version=dg.DataVersion(head), metadata=metadata)

    return observe
