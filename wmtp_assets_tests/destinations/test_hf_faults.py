"""Each fault of the list, played to the hub's own client against a strict hub on loopback."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import pytest

from wmtp_assets.base.errors import PublishError
from wmtp_assets.base.settings import Settings
from wmtp_assets.destinations.destination import open_destination
from wmtp_assets.destinations.sending import Options
from wmtp_assets.operations.publish import publish
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.hub import TOKEN, Hub
from wmtp_assets_tests.destinations.hub_faults import FAULTS, REPOSITORY, SIZE, Fault, table
from wmtp_assets_tests.destinations.trees import CATALOGUE, MODEL, commit, random_bytes
from wmtp_assets_tests.quick import quick, thinned

DOCS = Path(__file__).parents[2] / "docs/publishing-faults.md"
NAME = attrgetter("name")
FILE = "raw/7B_1T_4/consolidated.pth"


def commit_model(root: Path, seed: int) -> Store:
    store = Store(Settings("sample", root), CATALOGUE)
    commit(store, MODEL, {FILE: random_bytes(SIZE, seed)})
    return store


def send(store: Store) -> None:
    destination = open_destination(store, "hf://models/acme/mtp")
    publish(store, [store.catalogue[MODEL]], destination, Options(is_accepted=True))


@pytest.mark.parametrize(
    "fault",
    quick(thinned(FAULTS, [*FAULTS[::2], *FAULTS[1::4]]), FAULTS[::2]),
    ids=lambda fault: fault.name,
)
def test_publishing(fault: Fault, hub: Hub, tmp_path: Path) -> None:
    """The branch is as before or has everything, and the next run needs no more than a sound hub:
    what was sent is not sent again."""
    repository = hub.make(*REPOSITORY)
    send(commit_model(tmp_path / "storage", 1))
    before = repository.main
    store = commit_model(tmp_path / "storage", 2)
    fault.play(hub)
    if fault.error:
        with pytest.raises(PublishError) as raised:
            send(store)
        assert fault.error in str(raised.value)
        assert "\n" not in str(raised.value)
        assert TOKEN not in str(raised.value)
        assert "named" not in str(raised.value)
    else:
        send(store)
    is_new = repository.main[FILE] == random_bytes(SIZE, 2)
    assert fault.state == ("new" if is_new else "as before")
    if not is_new:
        assert repository.main == before
    hub.soundly()
    send(store)
    assert hub.received == fault.again
    assert repository.main[FILE] == random_bytes(SIZE, 2)


def test_the_docs_have_this_table() -> None:
    """A table that is written by hand is true on the day it is written."""
    assert table() in DOCS.read_text()
