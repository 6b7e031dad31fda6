"""The documents of the sample in ``docs/examples/``.

``python -m wmtp_assets_tests.examples`` makes the sample in a temporary folder, on the day of
:data:`EPOCH`, applies every rule, and writes them; ``test_examples.py`` compares.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.sample.repositories import build_repositories
from wmtp_assets.storage.store import Store

EPOCH = "1763035200"
"""``SOURCE_DATE_EPOCH`` of the samples that tests read: 2025-11-13, noon. Reports tell the day."""

FOLDER = Path(__file__).parents[1] / "docs/examples"
KEYS = (
    "storage_readme",
    "asset_inventory",
    "migration_notes",
    "storage_release",
    "micro_mtp_card",
    "mbpp_croissant",
    "completion_report",
)


def examples_of(store: Store) -> dict[str, bytes]:
    """Path below ``docs/examples/`` → document, with every rule applied before the report."""
    report = store.catalogue["completion_report"]
    for key in report.upstream:
        for rule in rules_of(store.catalogue[key]):
            apply_rule(rule, store, store.catalogue[key])
    materialize(store, report)
    documents = {}
    for artifact in (store.catalogue[key] for key in KEYS):
        folder = "" if artifact.base == "docs" else f"{artifact.spec.folder}/"
        documents |= {f"{folder}{name}": store.read(artifact, name) for name in artifact.owns}
    return documents


def line_in(name: str, text: str) -> int:
    """The number of the line of an example that has ``text`` in it."""
    lines = (FOLDER / name).read_text().split("\n")
    return next(number for number, line in enumerate(lines, 1) if text in line)


def main() -> None:
    """Write the examples anew."""
    os.environ["SOURCE_DATE_EPOCH"] = EPOCH
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "storage"
        build_repositories(root / INTERNAL / "hub")
        store = Store(Settings("sample", root), load_catalogue())
        for artifact in store.catalogue:
            materialize(store, artifact)
        for name, data in examples_of(store).items():
            path = FOLDER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    main()
