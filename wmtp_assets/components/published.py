"""What lies where training reads it, as assets: made only when somebody asks for it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.progress import for_log, human_bytes
from wmtp_assets.base.settings import ACCEPT_VARIABLE, CREATE_VARIABLE, PUBLISH_VARIABLE
from wmtp_assets.catalogue.artifact import Artifact, Catalogue
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, Spec
from wmtp_assets.components.artifacts import OWNERS
from wmtp_assets.components.automation import OPTIONAL_TAG
from wmtp_assets.components.failures import plain_failures
from wmtp_assets.components.metadata import table
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.destinations.changes import STATES
from wmtp_assets.destinations.destination import Access, forms, open_destination, schemes
from wmtp_assets.operations.publish import DEFAULT, Done, addressed, publish
from wmtp_assets.rules.apply import is_committed
from wmtp_assets.storage.store import materialize_command

GROUP = "published"


@dataclass(frozen=True)
class PublishResource:
    """Where artifacts are published; like the storage root, no run can say it.

    Attributes:
        url: as ``wmtp publish --to`` takes it; it holds no secrets. Empty: nowhere.
        create, accept_licence: as the options of that command.
    """

    url: str = ""
    create: bool = False
    accept_licence: bool = False

    @classmethod
    def of_environment(cls) -> "PublishResource":
        """As the variables say; only ``1`` is consent."""
        return cls(
            PUBLISH_VARIABLE.read(), CREATE_VARIABLE.read() == "1", ACCEPT_VARIABLE.read() == "1"
        )


def _is_shared(artifact: Artifact[Any], spec: type[Spec]) -> bool:
    """Whether it is about everything, or of such a spec and no artifact for local tests."""
    return artifact.is_summary or (isinstance(artifact.spec, spec) and not artifact.is_local)


PUBLISHED: Mapping[str, tuple[Callable[[Artifact[Any]], bool], str]] = {
    "published_models": (
        lambda artifact: _is_shared(artifact, ModelSpec),
        "The full-size models, with snapshot, documents and release.",
    ),
    "published_datasets": (
        lambda artifact: _is_shared(artifact, DatasetSpec),
        "The datasets, with snapshot, documents and release.",
    ),
    "published_small": (
        lambda artifact: artifact.is_local,
        "Micro models and small splits, for tests over there.",
    ),
}
"""Asset → which artifacts it sends, and its description."""


def published_assets(catalogue: Catalogue, url: str = "") -> list[dg.AssetsDefinition]:
    """The assets that send artifacts to the destination of the resource ``destination``.

    Args:
        url: of that destination, whose scheme the UI shows; empty: none.
    """
    scheme = url.partition("://")[0]
    kinds = {scheme} & schemes().keys()
    return [
        _asset_of(name, [item for item in catalogue if is_sent(item)], description, kinds)
        for name, (is_sent, description) in PUBLISHED.items()
    ]


def _asset_of(
    name: str, artifacts: list[Artifact], description: str, kinds: set[str]
) -> dg.AssetsDefinition:
    @dg.asset(
        key=name,
        deps=[artifact.key for artifact in artifacts],
        group_name=GROUP,
        kinds=kinds,
        owners=OWNERS,
        tags=OPTIONAL_TAG,
        output_required=False,
        description=(
            f"{description} Sent only in a run of its own, and only what is not there yet, to "
            f"{PUBLISH_VARIABLE}. Every rule is applied first to what is sent; bytes are hashed as "
            "they are read; the destination's MANIFEST.json is written last, and nothing is "
            "deleted. Optional artifacts are sent where they were made. The same as "
            "`wmtp publish`, which docs/publishing.md describes."
        ),
    )
    def send(
        context: dg.AssetExecutionContext,
        storage: dg.ResourceParam[StorageResource],
        destination: dg.ResourceParam[PublishResource],
    ) -> Iterator[dg.MaterializeResult]:
        # --select 'a*' asks for all that is downstream, and must not send what nobody named
        chosen = context.run.asset_selection or context.job_def.asset_layer.executable_asset_keys
        others = sorted({key.to_user_string() for key in chosen} - PUBLISHED.keys())
        if others:
            context.log.warning(
                f"{name} is left out: it is sent in a run of its own, and this one is of "
                f"{', '.join(others[:3])}{', …' if len(others) > 3 else ''} too. Send it with: "
                f"{materialize_command(name)}"
            )
            return
        with plain_failures():
            if not destination.url:
                raise SpecError(
                    f"{PUBLISH_VARIABLE} is not set: where to publish is not known. Set it to one "
                    f"of {forms()} before make ui or dagster asset materialize is started; or, "
                    "without Dagster: wmtp publish --to URL"
                )
            store = storage.open(context.instance)
            # optional ones only where they were made
            here = [item for item in artifacts if not item.optional or is_committed(store, item)]
            options = replace(DEFAULT, is_accepted=destination.accept_licence)
            access = Access(create=destination.create)
            say = for_log(context.log.info)
            every = [
                publish(store, members, open_destination(store, place, access), options, say)
                for place, members in addressed(store, destination.url, here, options, say)
            ]
        lines = sorted(
            f"{item.content_sha256}  {item.artifact.key}\n"
            for done in every
            for item in done.plan.locals
        )
        content = hashlib.sha256("".join(lines).encode()).hexdigest()
        yield dg.MaterializeResult(
            metadata=_describe(destination.url, every), data_version=dg.DataVersion(content)
        )

    return send


def _describe(url: str, every: Sequence[Done]) -> dict[str, Any]:
    """Materialization metadata."""
    counts = {
        state: {
            what: sum(done.plan.count()[state][what] for done in every)
            for what in ("files", "bytes")
        }
        for state in STATES
    }
    locals_ = [local for done in every for local in done.plan.locals]
    size = sum(file.record.size for local in locals_ for file in local.files)
    payload, seconds = (sum(getattr(d, what) for d in every) for what in ("payload", "seconds"))
    return {
        "destination": url,
        "dagster/size_bytes": size,
        "size": human_bytes(size),
        "release": every[0].listing.release or "none",
        "bytes_sent": payload,
        "bytes_skipped": counts["same"]["bytes"],
        "verified": DEFAULT.how,
        "seconds": round(seconds, 2),
        "megabytes_per_second": round(payload / 1e6 / max(seconds, 1e-3), 2),
        "files": table(
            {"state": state, "files": count["files"], "bytes": count["bytes"]}
            for state, count in counts.items()
        ),
        "artifacts": table(
            {
                "artifact": local.artifact.key,
                "version": local.version,
                "content_sha256": local.content_sha256,
            }
            for local in locals_
        ),
    }
