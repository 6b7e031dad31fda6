"""Stores whose specs were changed, to see what a spec decides."""

from __future__ import annotations

from typing import Any

from wmtp_assets.kinds.registry import expand
from wmtp_assets.storage.store import Store


def respec(store: Store, name: str, **changes: Any) -> Store:
    """The same root with fields of the spec ``name`` replaced."""
    specs = [
        type(spec).model_validate({**spec.model_dump(), **changes}) if spec.name == name else spec
        for spec in store.catalogue.specs
    ]
    return Store(store.settings, expand(specs))
