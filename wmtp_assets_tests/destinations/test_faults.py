"""Each fault of the lists, played to the real client against a strict server on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets.base.errors import PublishError
from wmtp_assets.base.settings import Settings
from wmtp_assets.destinations import destination, in_parts, s3
from wmtp_assets.destinations.listing import MANIFEST
from wmtp_assets.operations.publish import publish
from wmtp_assets.operations.pull import pull, read_listing
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer import arrival
from wmtp_assets_tests.destinations import faults
from wmtp_assets_tests.destinations.conftest import OpenS3
from wmtp_assets_tests.destinations.faults import FETCHING, PUBLISHING, SIZE, Fault
from wmtp_assets_tests.destinations.front import Front
from wmtp_assets_tests.destinations.test_s3 import objects
from wmtp_assets_tests.destinations.trees import CATALOGUE, MODEL, commit, files_below, random_bytes
from wmtp_assets_tests.quick import quick, thinned

DOCS = Path(__file__).parents[2] / "docs/publishing-faults.md"


@pytest.fixture(autouse=True)
def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the bytes of a run are always the same."""
    monkeypatch.setattr(in_parts, "PARTS", 1)
    monkeypatch.setattr(s3.S3, "streams", 1)
    monkeypatch.setattr(destination, "SIDE_BY_SIDE", 1)
    monkeypatch.setattr(arrival, "FIRST_WAIT", 0.0)


def sent(front: Front) -> int:
    """Bytes of the large file that arrived."""
    return sum(
        len(request.body)
        for request in front.requests
        if request.is_payload and request.key.endswith(".pth")
    )


def commit_model(root: Path, seed: int) -> Store:
    """A store with a model of this generation."""
    store = Store(Settings("sample", root), CATALOGUE)
    commit(store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(SIZE, seed)})
    return store


def state_of(there: dict[str, bytes], before: dict[str, bytes], local: dict[str, bytes]) -> str:
    if there == before:
        return "as before"
    if {path: there.get(path) for path in local} != local:
        return "some names new" if there[MANIFEST] == before[MANIFEST] else "broken"
    return "new" if there[MANIFEST] != before[MANIFEST] else "some names new"


@pytest.mark.parametrize(
    "fault",
    quick(thinned(PUBLISHING, [*PUBLISHING[::3], *PUBLISHING[1::3]]), PUBLISHING[::3]),
    ids=lambda fault: fault.name,
)
def test_publishing(
    fault: Fault, front: Front, open_s3: OpenS3, bucket: str, tmp_path: Path
) -> None:
    """What the table in the docs says is what happens: people decide by it whether to trust a line,
    and whether to run again; and after every fault a sound server is all that is needed."""
    publish(commit_model(tmp_path / "storage", 1), None, open_s3())
    before = objects(front, bucket)
    store = commit_model(tmp_path / "storage", 2)
    local = files_below(store.root)
    front.soundly()
    fault.play(front)
    if fault.error:
        with pytest.raises(PublishError) as raised:
            publish(store, None, open_s3())
        text = str(raised.value)
        assert fault.error.replace("BUCKET", bucket) in text
        assert "\n" not in text
        assert "X-Amz" not in text
        assert "secret" not in text
    else:
        publish(store, None, open_s3())
    moved = sent(front)
    front.soundly()
    assert (moved, state_of(objects(front, bucket), before, local)) == (fault.moved, fault.state)

    publish(store, None, open_s3())
    assert sent(front) == fault.again
    assert state_of(objects(front, bucket), before, local) == "new"


@pytest.mark.parametrize("fault", quick(FETCHING, FETCHING[::3]), ids=lambda fault: fault.name)
def test_fetching(fault: Fault, front: Front, open_s3: OpenS3, tmp_path: Path) -> None:
    """The same, on the way back; an older generation is on the node."""
    node = commit_model(tmp_path / "node", 1)
    before = files_below(node.root)
    store = commit_model(tmp_path / "storage", 2)
    publish(store, None, open_s3())
    artifact = node.catalogue[MODEL]

    def fetch() -> int:
        front.fetched = 0
        destination = open_s3()
        pull(node, artifact, destination, read_listing(destination))
        return front.fetched

    front.soundly()
    fault.play(front)
    if fault.error:
        with pytest.raises(PublishError) as raised:
            fetch()
        assert fault.error in str(raised.value)
        assert "\n" not in str(raised.value)
    else:
        fetch()
    there = files_below(node.root)
    state = "as before" if there == before else "new"
    assert (front.fetched, state) == (fault.moved, fault.state)
    front.soundly()
    assert fetch() == fault.again
    assert files_below(node.root) == files_below(store.root)


def test_the_docs_have_these_tables() -> None:
    """A table that is written by hand is true on the day it is written."""
    for table in faults.tables():
        assert table in DOCS.read_text()


def test_lists_are_of_different_faults() -> None:
    """Each row means another thing; the attempts that errors name are those that are made."""
    for listed in (PUBLISHING, FETCHING):
        assert len({fault.name for fault in listed}) == len(listed)
    assert in_parts.ATTEMPTS == 6
