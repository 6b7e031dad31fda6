"""Repositories on the hub as observable source assets: the data version is upstream's revision."""

from typing import Any

import dagster as dg

from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec
from wmtp_assets.components.artifacts import UPSTREAM, plain_failures, upstream_key
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.hub.endpoint import open_endpoint
from wmtp_assets.hub.remote import head_of, pin_of, read_pins


def source_of(spec: ModelSpec | DatasetSpec) -> dg.SourceAsset:
    """The observable source asset of a spec's repository.

    Observing asks the hub for the head of main, and says whether that is the commit that is used.
    """
    repository = spec.repository

    @dg.observable_source_asset(
        key=upstream_key(repository),
        group_name=UPSTREAM,
        description=(
            f"{repository.id} on the Hugging Face Hub ({repository.license}"
            f"{', gated' if repository.gated else ''}). Observing it shows whether upstream moved "
            "past the commit that is used; nothing is downloaded."
        ),
        metadata={"repository": dg.MetadataValue.url(repository.page)},
        tags={"dagster/kind/huggingface": ""},
    )
    def observe(context: dg.OpExecutionContext, storage: StorageResource) -> dg.ObserveResult:
        with plain_failures():
            store = storage.open(context.instance)
            with open_endpoint(store.settings, repository) as endpoint:
                head = head_of(endpoint, repository)
            pin = pin_of(store.settings, spec, read_pins(store.settings))
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
