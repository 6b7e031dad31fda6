"""The storage root as a Dagster resource, and which Dagster instance may write to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.settings import SOURCE_VARIABLE, Settings
from wmtp_assets.catalogue.specs import DEFS_FOLDER
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.store import Store


@dataclass(frozen=True)
class StorageResource:
    """Where raw bytes come from and where artifacts are kept.

    The environment decides it, and nothing else: as a field of the run configuration, whoever
    reaches the web UI could name any folder.

    Attributes:
        source: ``sample`` or ``hub``.
        root: the storage root, an absolute path.
        defs_folder: where the ``defs.yaml`` files are.
    """

    source: str
    root: str
    defs_folder: str = str(DEFS_FOLDER)

    def open(self, instance: dg.DagsterInstance) -> Store:
        """The store, for a run of ``instance``.

        Raises:
            StoreError: if the instance keeps the history of the other source.
        """
        source = "hub" if self.source == "hub" else "sample"
        claim_instance(instance, source)
        return Store(Settings(source, Path(self.root)), load_catalogue(Path(self.defs_folder)))


def fixed(value: object) -> dg.ResourceDefinition:
    """A resource of which a run configuration can say nothing; what it says is refused."""
    return dg.ResourceDefinition(lambda context: value, config_schema={})


class OptionsResource(dg.ConfigurableResource):
    """How a run is done; in the launchpad: ``resources: {options: {config: {force: true}}}``.

    Attributes:
        force: make what is unchanged too, and read the bytes for every rule.
    """

    force: bool = False


FORCE = {"resources": {"options": {"config": {"force": True}}}}
"""The configuration of a run that leaves nothing out."""


def claim_instance(instance: dg.DagsterInstance, source: str) -> None:
    """Mark the instance as that of ``source``.

    Raises:
        StoreError: if it keeps the history of the other source.
    """
    marker = Path(instance.storage_directory()).absolute().parent / "wmtp_source"
    owner = marker.read_text().strip() if marker.is_file() else ""
    if not owner:
        replace_file(marker, f"{source}\n".encode())
    elif owner != source:
        raise StoreError(
            f"the Dagster instance in {marker.parent} keeps the history of the source {owner!r} "
            f"(says {marker.name} there), but {SOURCE_VARIABLE} is {source!r}. Each source has its "
            f"own instance; enter it with: export {SOURCE_VARIABLE}={source}; source activate.sh"
        )
