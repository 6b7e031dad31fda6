"""Dagster's instance and web server, from outside."""

from __future__ import annotations

import socket
from pathlib import Path

import dagster as dg
import pytest

from wmtp_assets.base.settings import Settings, Source
from wmtp_assets.components.storage import claim_instance
from wmtp_assets.operations.doctor import machine
from wmtp_assets.operations.doctor.machine import instance, server

PROJECT = Path(__file__).parents[3]


def home(folder: Path, source: Source | None) -> Path:
    """An instance as ``make install`` makes it; None: not made yet."""
    (folder / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    if source is not None:
        with dg.DagsterInstance.from_config(str(folder)) as made:
            claim_instance(made, source)
    return folder


def look(folder: Path, source: Source) -> tuple[str, str]:
    found = instance(Settings(source, folder), {"DAGSTER_HOME": str(folder)})
    assert (found.state == "ok") == (not found.remedy)
    return found.state, found.says


def test_instance_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found where Dagster itself put it, without importing Dagster."""
    monkeypatch.chdir(tmp_path)
    home(tmp_path, "sample")
    assert look(tmp_path, "sample") == ("ok", f"{tmp_path / '.dagster/sample'}, source sample")


def test_instance_of_the_other_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WMTP_SOURCE was set after activate.sh: every run would be refused."""
    monkeypatch.chdir(tmp_path)
    home(tmp_path, "sample")
    state, says = look(tmp_path, "hub")
    assert state == "error"
    assert "keeps the history of the source 'sample', but WMTP_SOURCE is 'hub'" in says
    found = instance(Settings("hub", tmp_path), {"DAGSTER_HOME": str(tmp_path)})
    assert found.remedy == "export WMTP_SOURCE=hub; source activate.sh"


def test_instance_that_was_not_made(tmp_path: Path) -> None:
    """The first two runs at once would break it: make install makes it ready."""
    state, says = look(home(tmp_path, None), "sample")
    assert state == "warning"
    assert says == f"no Dagster instance in {tmp_path / '.dagster/sample'}"
    assert look(tmp_path / "nowhere", "sample")[0] == "warning"


def test_instance_of_the_real_source_is_committed() -> None:
    """activate.sh sets DAGSTER_HOME to it."""
    folder = PROJECT / ".dagster/hub"
    assert look(folder, "hub") == ("ok", f"{folder}, source hub")


def test_without_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training machine needs none."""
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    assert look(tmp_path, "sample") == ("ok", "Dagster is not installed")


def listen(address: str, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    listening = socket.socket(family)
    listening.bind((address, 0))
    listening.listen()
    return listening


@pytest.mark.parametrize(
    ("address", "family"), [("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)]
)
def test_server_that_others_can_reach(address: str, family: socket.AddressFamily) -> None:
    """Whoever reaches it can start runs, and there is no password."""
    try:
        listening = listen(address, family)
    except OSError:
        pytest.skip("no such addresses here")
    with listening:
        found = server(listening.getsockname()[1])
    assert found.state == "warning"
    assert found.says.startswith(f"something listens on {address}:")
    assert "no authentication" in found.says
    assert found.remedy.endswith("make ui (it binds 127.0.0.1)")


@pytest.mark.parametrize("table", [True, False], ids=["proc", "probe"])
def test_server_on_loopback(monkeypatch: pytest.MonkeyPatch, table: bool) -> None:
    """As make ui starts it; also found where the system has no /proc."""
    if not table:
        monkeypatch.setattr(machine.Path, "exists", lambda self: False)
    with listen("127.0.0.1") as listening:
        port = listening.getsockname()[1]
        found = server(port)
    assert (found.state, found.says) == ("ok", f"127.0.0.1:{port} only")
    assert server(port).says == f"nothing listens on port {port}"
