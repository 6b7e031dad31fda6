"""A storage tree to publish, folders and an S3 server to publish it to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wmtp_assets.base.settings import EMULATOR_VARIABLE, Settings
from wmtp_assets.destinations import az_client, gs_client, in_parts
from wmtp_assets.destinations.az import Azure
from wmtp_assets.destinations.file import Folder
from wmtp_assets.destinations.gs import GoogleStorage
from wmtp_assets.destinations.in_parts import InParts
from wmtp_assets.destinations.journal import Journal
from wmtp_assets.destinations.s3 import S3
from wmtp_assets.destinations.s3_client import make_client
from wmtp_assets.hub import client as hub_client
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer import arrival
from wmtp_assets_tests.destinations.buckets import (
    Objects,
    azure,
    check_azure,
    check_google,
    google,
)
from wmtp_assets_tests.destinations.front import Front, serve, serve_front
from wmtp_assets_tests.destinations.hub import TOKEN, Hub, serve_hub
from wmtp_assets_tests.destinations.trees import (
    CATALOGUE,
    at,
    make_store,
)

PART = 1_000_000
"""Bytes of a part in these tests: a file of 3,000,000 bytes has three."""

KEY, SECRET = "AKIAPLANTED000000000", "planted/secret+0123456789"
_NUMBERS = count(1)


@pytest.fixture
def tree_store(tmp_path: Path) -> Store:
    """The store of :func:`make_store`."""
    return make_store(tmp_path / "storage")


@pytest.fixture
def node(tmp_path: Path) -> Store:
    """The store of a training node: an empty root."""
    return Store(Settings("sample", tmp_path / "node"), CATALOGUE)


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """An empty folder, as a volume is mounted."""
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


@pytest.fixture
def folder(mounted: Path) -> Folder:
    """The same as a destination."""
    return at(mounted, part_size=PART)


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """An S3 server on loopback; it takes parts of any size."""
    os.environ["S3_UPLOAD_PART_MIN_SIZE"] = "1"
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def served_front(s3_url: str) -> Iterator[Front]:
    """The proxy before it; take :func:`front`."""
    with serve_front(s3_url) as front:
        yield front


@pytest.fixture
def front(served_front: Front, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """A proxy before it that enforces checksums, counts, and plays faults; nobody waits long, and
    nobody's credentials are used."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(in_parts, "READ_SECONDS", 0.5)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)
    served_front.soundly()
    yield served_front
    served_front.soundly()


def credentials() -> dict[str, str]:
    """Variables of somebody who may do everything; nobody's files are read."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@cache
def client_of(url: str) -> Any:
    """A client as the command makes it; there is one of each, for it takes long to make."""
    import boto3

    return make_client(boto3.Session(), url)


@pytest.fixture
def bucket(front: Front) -> str:
    """An empty bucket."""
    name = f"bucket-{next(_NUMBERS)}"
    client_of(front.url).create_bucket(Bucket=name)
    return name


OpenS3 = Callable[[], S3]


@pytest.fixture
def open_s3(front: Front, bucket: str, tmp_path: Path) -> OpenS3:
    """Open the bucket as a new process does: with what the journal remembers."""
    path = tmp_path / "journal.jsonl"
    return lambda: S3(
        client_of(front.url), bucket, "tree", f"s3://{bucket}/tree", Journal(path), PART
    )


@pytest.fixture(scope="session")
def served_hub() -> Iterator[Hub]:
    """The server of :func:`hub`."""
    with serve_hub() as hub:
        yield hub


@pytest.fixture
def hub(served_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty hub that is trusted with the token of an account; nobody waits long, and large files
    go to LFS; by Xet in test_xet.py."""
    served_hub.__init__(served_hub.url)
    monkeypatch.setenv("HF_ENDPOINT", served_hub.url)
    monkeypatch.setenv("WMTP_TRUSTED_ENDPOINT", served_hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_client.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return served_hub


ACCOUNT_KEY = "cGxhbnRlZC9zZWNyZXQrMDEyMzQ1Njc4OQ=="
"""Of an account of Azure, planted."""


@dataclass
class Cloud:
    """A server of Google or Azure on loopback.

    Attributes:
        open: open the destination as a new process does: with what the journal remembers.
    """

    scheme: str
    front: Front
    kept: Objects
    bucket: str
    open: Callable[[], InParts]

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.bucket}/tree"

    def objects(self) -> dict[str, bytes]:
        """Path → bytes of what everybody sees."""
        return self.kept.below(self.bucket, "tree")


@pytest.fixture(scope="session")
def served_google() -> Iterator[tuple[Front, Objects]]:
    """The server; take :func:`cloud`."""
    kept = Objects()
    with serve(google(kept), check_google) as front:
        yield front, kept


@pytest.fixture(scope="session")
def served_azure() -> Iterator[tuple[Front, Objects]]:
    """The server; take :func:`cloud`."""
    kept = Objects()
    with serve(azure(kept), check_azure) as front:
        yield front, kept


@pytest.fixture(params=["gs", "az"])
def cloud(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    """An empty bucket of Google's, then one of Azure's; nobody waits long, and nobody's credentials
    are used."""
    scheme: str = request.param
    front, kept = request.getfixturevalue({"gs": "served_google", "az": "served_azure"}[scheme])
    monkeypatch.setattr(arrival, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(az_client, "WAITS", dict.fromkeys(az_client.WAITS, 0))
    monkeypatch.setattr(in_parts, "READ_SECONDS", 0.5)
    for name in [name for name in os.environ if name.startswith(("AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(EMULATOR_VARIABLE, front.url)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure_account(front.url))
    bucket, path = f"bucket-{next(_NUMBERS)}", tmp_path / "journal.jsonl"

    def open_again() -> InParts:
        journal, url = Journal(path), f"{scheme}://{bucket}/tree"
        if scheme == "gs":
            return GoogleStorage(gs_client.make_client(bucket, None), "tree", url, journal, PART)
        return Azure(az_client.make_client(bucket, None), "tree", url, journal, PART)

    front.soundly()
    yield Cloud(scheme, front, kept, bucket, open_again)
    front.soundly()
    kept.page_size, kept.token = 1000, ""


def azure_account(url: str) -> str:
    """A connection string of the account that has the server."""
    return f"BlobEndpoint={url};AccountName=planted;AccountKey={ACCOUNT_KEY}"
