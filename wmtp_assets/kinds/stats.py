"""Counts and token distributions of a dataset, one summary per content."""

from __future__ import annotations

from collections.abc import Iterable

from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.stats import build_stats, of_the_conversion
from wmtp_assets.documents import pictures
from wmtp_assets.kinds.registry import Kind, of_dataset
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Store


def draw(
    store: Store, artifact: Artifact[DatasetSpec], document: Document
) -> Iterable[tuple[str, bytes]]:
    """Token lengths, labels and difficulties of the newest summary."""
    summary = parse_object(store.read(artifact, document["summary"]))
    drawn = {
        "token_lengths": pictures.token_lengths(summary),
        "labels": pictures.labels(summary),
        "difficulties": pictures.difficulties(summary),
    }
    return [(name, picture) for name, picture in drawn.items() if picture is not None]


KIND = Kind[DatasetSpec](
    "stats",
    (DatasetSpec,),
    of_dataset("stats", "processed", below="stats"),
    build_stats,
    words="Counts and token distributions, one summary per content.",
    tags=("json",),
    item="Statistics",
    facts=lambda artifact: {"order": [*artifact.spec.processed_splits]},
    taken=of_the_conversion,
    pictures=draw,
)
