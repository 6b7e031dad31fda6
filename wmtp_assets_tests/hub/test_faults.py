"""Each fault of the list, played to the real client: the outcome, the bytes, what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _http

from wmtp_assets.base.errors import DownloadError
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.hub import client, endpoint, remote
from wmtp_assets.hub.remote import Pins, repository_key
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.sample.server import serve
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer import arrival
from wmtp_assets_tests.hub import faults
from wmtp_assets_tests.hub.faults import (
    ANSWER_SECONDS,
    AUTHORIZATION,
    CONTENT,
    FAULTS,
    PARQUET,
    PTH,
    SPECS,
    Fault,
    FaultyHub,
    elsewhere_of,
    faulty_hub,
    soundly,
    write_hub,
)
from wmtp_assets_tests.quick import quick
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import tree

DOCS = Path(__file__).parents[2] / "docs/downloads.md"
MATERIALIZE = """
import sys
from pathlib import Path
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.base.settings import Settings
from wmtp_assets.storage.store import Store
store = Store(Settings("hub", Path(sys.argv[1])), load_catalogue())
materialize(store, store.catalogue[sys.argv[2]])
"""


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client and we would have waited; nobody waits."""
    seconds: list[float] = []
    for module in (_http, file_download, arrival):
        clock = SimpleNamespace(sleep=seconds.append, monotonic=time.monotonic)
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(arrival, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", ANSWER_SECONDS)
    monkeypatch.setattr(remote, "ANSWER_TIMEOUT", ANSWER_SECONDS)
    monkeypatch.setattr(client, "CLIENT_TIMEOUT", ANSWER_SECONDS)
    return seconds


@dataclass
class Stage:
    """Where a fault is played.

    Attributes:
        hub, elsewhere: what the client is sent to, and another host.
        url: HF_ENDPOINT.
    """

    fault: Fault
    store: Store
    artifact: Artifact
    hub: FaultyHub
    elsewhere: FaultyHub
    url: str

    def payload(self) -> int:
        return self.hub.payload + self.elsewhere.payload

    def committed(self) -> dict[str, object]:
        """Inode and content of all files outside ``.wmtp``."""
        files = tree(self.store.root)
        return {name: row for name, row in files.items() if not name.startswith(".wmtp/")}

    def left(self) -> dict[str, int]:
        """Name → size of what lies in ``.wmtp``, beside locks, the source, the generation before
        and what is known of the committed files."""
        internal = self.store.internal
        kept = ("locks", "source", "previous", "verified")
        return {
            path.relative_to(internal).as_posix(): path.stat().st_size
            for path in internal.rglob("*")
            if path.is_file()
            and path.relative_to(internal).parts[0] not in kept
            and path.name != "rate.json"
        }


Play = Callable[[Fault], Stage]


@pytest.fixture
def play(tmp_path: Path, slept: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Set the stage for a fault, with what is there before."""
    with ExitStack() as stack:
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WMTP_TRUSTED_ENDPOINT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "nobody"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "nobody/token"))
        monkeypatch.setenv("WMTP_LOCK", str(tmp_path / "wmtp.lock"))
        upstream = stack.enter_context(serve(write_hub(tmp_path / "hub", CONTENT)))

        def set_stage(fault: Fault) -> Stage:
            store = Store(Settings("hub", tmp_path / "storage"), load_catalogue())
            name = "meta_llama_mtp" if fault.is_gated else "humaneval"
            artifact = store.catalogue[f"{name}_raw"]
            hub = stack.enter_context(faulty_hub(upstream))
            elsewhere = stack.enter_context(faulty_hub(upstream))
            monkeypatch.setenv("HF_ENDPOINT", hub.url)
            if fault.before == "the same commit":
                materialize(store, artifact)
            else:
                with serve(write_hub(tmp_path / "older", b"older")) as older:
                    monkeypatch.setenv("HF_ENDPOINT", older)
                    materialize(store, artifact)
            if fault.before == "a lock file":
                spec = SPECS[name]
                found = remote.resolve(endpoint.Endpoint(hub.url, "mirror"), spec, "main")
                Pins.read().write({repository_key(spec.repository): found})
            url = hub.url
            if fault.kind == "closed port":
                url = "http://127.0.0.1:9"
            if fault.kind == "proxy":
                url = "https://mirror.example"
                monkeypatch.setenv("HTTPS_PROXY", hub.url)
            monkeypatch.setenv("HF_ENDPOINT", url)
            if fault.token:
                monkeypatch.setenv("HF_TOKEN", fault.token)
                monkeypatch.setenv("WMTP_TRUSTED_ENDPOINT", url)
            if fault.pattern:
                split = {"test": {"files": [fault.pattern]}}
                store = respec(store, name, splits=split)
                artifact = store.catalogue[artifact.key]
            hub.change = elsewhere_of(fault.make(), elsewhere.url)
            hub.payload = 0
            hub.requests.clear()
            return Stage(fault, store, artifact, hub, elsewhere, url)

        yield set_stage
        close_session()


def run_killed(stage: Stage) -> None:
    """Materialize in a process, and kill it when the fault's bytes are on disk."""
    command = [sys.executable, "-c", MATERIALIZE, str(stage.store.root), stage.artifact.key]
    partials = stage.store.scratch(stage.artifact) / "partial"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(600):
            sizes = [path.stat().st_size for path in partials.glob("*")]
            if sizes == [stage.fault.left]:
                break
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    stage.hub.released.set()


QUICK = (
    "none",
    "cut once, at byte 1,000,000",
    "cut once, and Range ignored: 200 and the whole file",
    "wrong bytes of the right size",
    "truncated: Content-Length is that of the whole file",
    "longer than announced",
    "content changed under the same commit: against wmtp.lock",
    "401, the token is bad",
    "403, gated, the account has no access",
    "404, the revision",
    "429 with Retry-After, twice",
    "503 forever",
    "redirect to another host, which gets no token",
    "no network",
)


@pytest.mark.parametrize(
    "fault", quick(FAULTS, lambda fault: fault.name in QUICK), ids=lambda fault: fault.name
)
def test_fault(fault: Fault, play: Play, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the table in the docs says is what happens: people decide by it whether to trust a
    mirror and whether to run again; and after every failure a sound hub is all that is needed."""
    stage = play(fault)
    store, artifact = stage.store, stage.artifact
    before = stage.committed()
    assert before
    failed = bool(fault.error) or fault.kind == "killed"
    if fault.kind == "killed":
        run_killed(stage)
    elif fault.error:
        with pytest.raises(DownloadError) as raised:
            materialize(store, artifact)
        assert fault.error.replace("{url}", stage.url) in str(raised.value)
        assert "\n" not in str(raised.value)
    else:
        materialize(store, artifact)
    assert stage.payload() == fault.transferred
    parts = {n: size for n, size in stage.left().items() if n.startswith("scratch/")}
    assert stage.left() == parts
    assert [*parts.values()] == ([] if fault.left is None else [fault.left])
    if failed:
        assert stage.committed() == before
    assert all(AUTHORIZATION not in request.headers for request in stage.elsewhere.requests)
    if fault.token:
        assert any(AUTHORIZATION in request.headers for request in stage.hub.requests)

    if fault.again is not None:
        stage.hub.change = soundly
        stage.hub.payload = 0
        monkeypatch.delenv("HTTPS_PROXY", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", stage.hub.url)
        monkeypatch.setenv("WMTP_TRUSTED_ENDPOINT", "")
        if fault.kind == "killed":
            command = [sys.executable, "-c", MATERIALIZE, str(store.root), artifact.key]
            subprocess.run(command, check=True, env={**os.environ})
        else:
            store = Store(store.settings, load_catalogue())
            materialize(store, store.catalogue[artifact.key])
        assert stage.hub.payload == fault.again
    assert stage.left() == {}
    name = PTH if fault.is_gated else PARQUET
    assert store.read(artifact, f"raw/{name}") == CONTENT


def test_the_docs_have_this_table() -> None:
    """A table that is written by hand is true on the day it is written."""
    assert faults.table() in DOCS.read_text()


def test_list_is_of_different_faults() -> None:
    """Each row of the table means another thing."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert client.CHUNK == faults.CHUNK


def test_retry_after_is_obeyed(play: Play, slept: list[float]) -> None:
    """Who asks again too early is locked out for longer."""
    (fault,) = (item for item in FAULTS if item.name == "429 with Retry-After, twice")
    stage = play(fault)
    materialize(stage.store, stage.artifact)
    assert [seconds for seconds in slept if seconds >= 7] == [8, 8]
    (fault,) = (item for item in FAULTS if item.name == "429 about the repository, twice")
    slept.clear()
    stage.hub.change = fault.make()
    materialize(stage.store, stage.artifact)
    assert [seconds for seconds in slept if seconds >= 7] == [7, 7]
