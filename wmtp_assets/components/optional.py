"""Optional artifacts are made where somebody chose them, and never by "Materialize all" alone.

The button of the web UI takes whatever is on the page, and from the real source some of that is
27 GB that nobody wanted. So a run that would make an optional artifact for the first time, and
other things that have nothing to do with it, is refused before it starts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import dagster as dg

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import read_settings
from wmtp_assets.catalogue.artifact import Artifact, Catalogue
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.rules.apply import is_committed
from wmtp_assets.storage.store import Store, materialize_command

SHOWN = 3
"""Optional artifacts that a refusal names: downloads first."""


def require_chosen(selection: Collection[dg.AssetKey] | None) -> None:
    """Refuse a selection of assets that has optional artifacts by accident.

    Those that are on disk are kept right like any other. In the sample everything is small.

    Args:
        selection: of the assets of a run; None: those of a job, which has nothing by accident.

    Raises:
        SpecError: naming the optional artifacts, and how to start what was meant.
    """
    settings = read_settings()
    if selection is None or settings.source != "hub":
        return
    store = Store(settings, load_catalogue())
    keys = {key.to_user_string() for key in selection}
    made = [artifact for artifact in store.catalogue if artifact.key in keys]
    absent = [item for item in made if item.optional and not is_committed(store, item)]
    others = _unrelated(store.catalogue, absent, made)
    if not absent or not others:
        return
    first = sorted(absent, key=lambda item: not item.is_downloaded)
    named = ", ".join(map(_named, first[:SHOWN]))
    more = f" and {len(first) - SHOWN} more" if len(first) > SHOWN else ""
    raise SpecError(
        f"nothing was started: {named}{more} are optional, and this run would make them beside "
        f"{len(others)} assets that have nothing to do with them, such as {others[0].key}. "
        'For all that is not optional: Jobs, everything, "Materialize all"; or make materialize. '
        "To make an optional one, select it without the others, or type, after source activate.sh: "
        f"{materialize_command(first[0].key)}"
    )


def _named(artifact: Artifact) -> str:
    size = f" ({artifact.spec.repository.size} on the hub)" if artifact.is_downloaded else ""
    return f"{artifact.key}{size}"


def _unrelated(
    catalogue: Catalogue, optional: Iterable[Artifact], made: Iterable[Artifact]
) -> list[Artifact]:
    """What is made that is not optional, and neither upstream nor downstream of what is."""
    above = {artifact.key for artifact in optional}
    below = set(above)
    for artifact in reversed([*catalogue]):
        if artifact.key in above:
            above.update(artifact.upstream)
    for artifact in catalogue:
        if below.intersection(artifact.upstream):
            below.add(artifact.key)
    return [item for item in made if not item.optional and item.key not in above | below]
