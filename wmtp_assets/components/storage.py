"""The storage root as a Dagster resource, and which Dagster instance may write to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
from dagster._core.storage.runs import InMemoryRunStorage, SqliteRunStorage

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.settings import SOURCE_VARIABLE, Settings
from wmtp_assets.catalogue.specs import DEFS_FOLDER
from wmtp_assets.components.hosts import require_same
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
        run: whose step uses it; None: no run does.
    """

    source: str
    root: str
    defs_folder: str = str(DEFS_FOLDER)
    run: dg.DagsterRun | None = None

    def open(self, instance: dg.DagsterInstance) -> Store:
        """The store, for a run of ``instance``.

        Raises:
            StoreError: if the instance keeps the history of the other source, or the run was
                started with other sources, or over another storage root.
        """
        source = "hub" if self.source == "hub" else "sample"
        require_same(self.run, Path(self.root))
        claim_instance(instance, source)
        return Store(Settings(source, Path(self.root)), load_catalogue(Path(self.defs_folder)))


def fixed(value: object) -> dg.ResourceDefinition:
    """A resource of which a run configuration can say nothing; what it says is refused."""

    def create(context: dg.InitResourceContext) -> object:
        return replace(value, run=context.run) if isinstance(value, StorageResource) else value

    return dg.ResourceDefinition(create, config_schema={})


class OptionsResource(dg.ConfigurableResource):
    """How a run is done; in the launchpad: ``resources: {options: {config: {force: true}}}``.

    Attributes:
        force: make what is unchanged too, and read the bytes for every rule.
    """

    force: bool = False


MARKER = "wmtp_source"
"""Where an instance says of which source it is."""

FORCE = {"resources": {"options": {"config": {"force": True}}}}
"""The configuration of a run that leaves nothing out."""


def claim_instance(instance: dg.DagsterInstance, source: str) -> None:
    """Mark the instance as that of ``source``: with a file in its folder, and a database of many
    hosts in itself, since instances with other folders may share it.

    Raises:
        StoreError: if it keeps the history of the other source.
    """
    file = Path(instance.storage_directory()).absolute().parent / MARKER
    owner = file.read_text().strip() if file.is_file() else ""
    _require_owner(owner, source, f"the Dagster instance in {file.parent}")
    if not isinstance(instance.run_storage, SqliteRunStorage | InMemoryRunStorage):
        known = instance.run_storage.get_cursor_values({MARKER})
        _require_owner(known.get(MARKER, ""), source, "the database of the Dagster instance")
        if not known:
            instance.run_storage.set_cursor_values({MARKER: source})
    if not owner:
        replace_file(file, f"{source}\n".encode())


def _require_owner(owner: str, source: str, where: str) -> None:
    """See to it that what says ``owner``, or nothing, is of ``source``."""
    if owner not in ("", source):
        raise StoreError(
            f"{where} keeps the history of the source {owner!r} (says {MARKER} there), but "
            f"{SOURCE_VARIABLE} is {source!r}. Each source has its own instance; enter it with: "
            f"export {SOURCE_VARIABLE}={source}; source activate.sh"
        )
