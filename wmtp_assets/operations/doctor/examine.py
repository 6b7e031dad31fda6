"""Everything that ``wmtp doctor`` looks at, in its order."""

from __future__ import annotations

from collections.abc import Iterator

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import read_settings
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.doctor.condition import Condition
from wmtp_assets.operations.doctor.hub import hub
from wmtp_assets.operations.doctor.machine import machine
from wmtp_assets.operations.doctor.orchestrator import instance, server
from wmtp_assets.operations.doctor.storage import storage
from wmtp_assets.storage.store import Store


def examine() -> Iterator[Condition]:
    """Look at one thing after the other; where a setting or spec is malformed, no further."""
    yield from machine()
    try:
        settings = read_settings()
        store = Store(settings, load_catalogue())
    except SpecError as error:
        yield Condition("settings", "error", str(error), "correct the setting or the file it names")
        return
    yield from hub(store)
    yield from storage(store)
    yield instance(settings)
    yield server()
