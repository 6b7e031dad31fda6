"""Large files by Xet: the hub's client gives them to ``hf_xet``, which has ways of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("hf_xet")

from huggingface_hub.utils import _runtime
from huggingface_hub.utils._xet import abort_xet_session

from wmtp_assets.base.errors import PublishError
from wmtp_assets.destinations.destination import Access, open_destination
from wmtp_assets.destinations.sending import Options
from wmtp_assets.hub import client as hub_client
from wmtp_assets.operations.publish import named, publish
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.hub import TOKEN, Hub, Repository
from wmtp_assets_tests.destinations.hub_faults import cutting, hanging_up, refusing
from wmtp_assets_tests.destinations.trees import MODEL, commit, files_below, pull_all, random_bytes
from wmtp_assets_tests.quick import quick, thinned

URL = "hf://models/acme/mtp"
FILE = "raw/7B_1T_4/consolidated.pth"


@pytest.fixture
def models(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Repository:
    """A repository of a hub with Xet; nothing is remembered of another test."""
    monkeypatch.setattr(hub_client.constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "2")
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_BASE_DELAY", "1ms")
    abort_xet_session()
    return hub.make("model", "acme/mtp")


@pytest.fixture(autouse=True)
def without_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The artifacts here are random bytes, of which no rule but the hash would hold."""
    monkeypatch.setattr("wmtp_assets.operations.publish.require_rules", lambda *args: None)


def send(store: Store) -> None:
    publish(store, named(store, [MODEL]), open_destination(store, URL), Options(is_accepted=True))


def test_published_and_pulled(tree_store: Store, node: Store, hub: Hub, models: Repository) -> None:
    """By Xet and no other way, whole, and once."""
    send(tree_store)
    assert hub.sent() == 0
    assert hub.xet.received > 3_000_000
    assert len(models.commits) == 2
    received = hub.xet.received
    send(tree_store)
    assert (hub.xet.received, len(models.commits)) == (received, 2)
    pull_all(node, open_destination(node, URL, Access(is_read=True)), MODEL)
    below = "models_v2/meta-llama-mtp"
    assert files_below(node.root / below) == files_below(tree_store.root / below)


def damaging(hub: Hub) -> None:
    """A bit of a chunk flips where it is kept."""

    def flip(request: str, body: bytes) -> None:
        if request == "POST /v1/shards":
            for name, xorb in hub.xet.xorbs.items():
                hub.xet.xorbs[name] = xorb[:99] + bytes([xorb[99] ^ 1]) + xorb[100:]

    hub.fault = flip


FAULTS = {
    "500": refusing("POST /v1/xorbs", 500),
    "403": refusing("POST /v1/xorbs", 403),
    "401": refusing("POST /v1/xorbs", 401),
    "cut": cutting("POST /v1/xorbs"),
    "the connection ends": hanging_up("POST /v1/xorbs"),
    "500 to the end": refusing("POST /v1/shards", 500),
    "the connection ends at the end": hanging_up("POST /v1/shards"),
    "damaged": damaging,
    "no Xet there": refusing("GET /api/models/acme/mtp/xet-write-token", 404),
    "no token for it": refusing("GET /api/models/acme/mtp/xet-write-token", 401),
}


KEPT = ["cut", "damaged", "no Xet there", "401", "the connection ends at the end"]


@pytest.mark.parametrize("fault", quick(thinned(FAULTS, KEPT), KEPT[:3]))
def test_what_fails_leaves_all_as_before(
    tree_store: Store, hub: Hub, models: Repository, fault: str
) -> None:
    """One message without a secret, nothing of the new generation, and the next run has all."""
    send(tree_store)
    before = models.main
    commit(tree_store, MODEL, {FILE: random_bytes(3_000_000, 9), "raw/empty": b""})
    FAULTS[fault](hub)
    with pytest.raises(PublishError) as raised:
        send(tree_store)
    assert "\n" not in str(raised.value)
    assert "HF_HUB_DISABLE_XET=1" in str(raised.value)
    assert TOKEN not in str(raised.value)
    assert models.main == before
    hub.soundly()
    send(tree_store)
    assert models.main[FILE] == random_bytes(3_000_000, 9)


@pytest.mark.parametrize("how", ["not installed", "not wanted"])
def test_without_xet(
    tree_store: Store, hub: Hub, models: Repository, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Also where the hub has it: LFS stays."""
    if how == "not wanted":
        monkeypatch.setattr(hub_client.constants, "HF_HUB_DISABLE_XET", True)
    else:
        monkeypatch.setitem(_runtime._package_versions, "hf_xet", "N/A")
    send(tree_store)
    assert hub.sent() == 1
    assert hub.xet.received == 0
    assert FILE in models.main
