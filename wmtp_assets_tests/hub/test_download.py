"""Raw files: fetched by the real client, believed by their hashes only."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wmtp_assets.errors import DownloadError, StoreError
from wmtp_assets.files import HashedFile, hash_file
from wmtp_assets.hub.download import check_announced, resolve
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.hub.sample.index import index_repository
from wmtp_assets.hub.sample.server import serve
from wmtp_assets.layout import Catalogue
from wmtp_assets.materialize import materialize
from wmtp_assets.settings import Settings
from wmtp_assets.specs import Repository
from wmtp_assets.store import Store
from wmtp_assets_tests.hub.conftest import write_files
from wmtp_assets_tests.trees import damage, flip, tree

PARQUET = "openai_humaneval/test-00000-of-00001.parquet"
HUMANEVAL = Repository(id="openai/openai_humaneval", type="dataset", license="MIT")
META = Repository(id="facebook/multi-token-prediction", type="model", license="Llama 2", gated=True)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A hub whose one dataset has HumanEval's file names, and a model with Meta's."""
    folder = tmp_path / "hub"
    write_files(folder / "datasets" / HUMANEVAL.id, {PARQUET: b"rows" * 1000, "README.md": b"x"})
    write_files(
        folder / "models" / META.id,
        {
            "7B_1T_4/consolidated.pth": b"weights" * 100_000,
            "7B_1T_4/params.json": b"{}",
            "tokenizer.model": b"pieces",
        },
    )
    return folder


@pytest.fixture
def endpoint(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The hub, served, and named by HF_ENDPOINT."""
    with serve(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url


@pytest.fixture
def hub_store(tmp_path: Path) -> Store:
    """An empty root of the source ``hub``."""
    return Store(Settings("hub", tmp_path / "storage"), Catalogue.load())


def make(store: Store, key: str) -> None:
    materialize(store, store.catalogue[key])


def test_hub_source_downloads_from_hf_endpoint(hub: Path, endpoint: str, hub_store: Store) -> None:
    """``WMTP_SOURCE=hub`` is the same code against another endpoint; the manifest says which."""
    make(hub_store, "meta_llama_mtp_raw")
    raw = hub_store.catalogue["meta_llama_mtp_raw"]
    manifest = hub_store.manifest(raw)
    upstream = hub / "models" / META.id
    for name in ("7B_1T_4/consolidated.pth", "7B_1T_4/params.json", "tokenizer.model"):
        assert hub_store.read(raw, f"raw/{name}") == (upstream / name).read_bytes()
        assert manifest.document["source"]["files"][name] == hash_file(upstream / name).sha256
    source = manifest.document["source"]
    assert source["revision"] == index_repository(upstream).commit
    assert (source["repo"], source["endpoint"], source["pinned"]) == (META.id, "mirror", False)
    assert endpoint not in hub_store.manifest_path(raw).read_text()


def test_progress_and_plan_are_said(endpoint: str, hub_store: Store) -> None:
    """60 GB take hours: the log says what comes, from which commit, and how far it is."""
    said: list[str] = []
    materialize(hub_store, hub_store.catalogue["meta_llama_mtp_raw"], said.append)
    assert "3 files, 700.0 kB" in said[0]
    assert "700.0 kB of 700.0 kB (100 %)" in said[-1]
    assert "left" in said[-1]


@pytest.mark.parametrize("name", [PARQUET, "README.md"], ids=["lfs", "git"])
def test_wrong_bytes_of_the_right_size_are_refused(
    hub: Path, endpoint: str, hub_store: Store, name: str, tmp_path: Path
) -> None:
    """The stock client checks the size only; a bit flipped on the way must not be kept."""
    remote = resolve(Endpoint(endpoint, "mirror"), HUMANEVAL, "main", (name,))
    path = tmp_path / "arrived"
    data = bytearray((hub / "datasets" / HUMANEVAL.id / name).read_bytes())
    path.write_bytes(data)
    check_announced(remote.files[0], hash_file(path), path, "here", "Despair")
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DownloadError, match=r"announced was [0-9a-f]{40,64} .*Despair"):
        check_announced(remote.files[0], hash_file(path), path, "here", "Despair")


def test_file_that_changed_on_the_hub_is_refused(
    hub: Path, endpoint: str, hub_store: Store
) -> None:
    """Announced is one content, served another: nothing is committed, the old raw files stay."""
    make(hub_store, "humaneval_raw")
    before = tree(hub_store.root / "datasets_v2")
    (hub / "datasets" / HUMANEVAL.id / PARQUET).write_bytes(b"sowr" * 1000)
    with pytest.raises(DownloadError, match="do not trust this endpoint"):
        make(hub_store, "humaneval_raw")
    assert tree(hub_store.root / "datasets_v2") == before
    assert not list((hub_store.internal / "staging").iterdir())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("ALL_PROXY", "http://127.0.0.1:9"),
        ("HF_HUB_OFFLINE", "1"),
    ],
)
def test_sample_needs_no_network(tmp_path: Path, variable: str, value: str) -> None:
    """Behind a proxy, or told to stay offline, the client must still reach the loopback server."""
    script = (
        "from pathlib import Path\n"
        "from wmtp_assets.layout import Catalogue\n"
        "from wmtp_assets.materialize import materialize\n"
        "from wmtp_assets.settings import Settings\n"
        "from wmtp_assets.store import Store\n"
        f"store = Store(Settings('sample', Path({str(tmp_path)!r})), Catalogue.load())\n"
        "materialize(store, store.catalogue['humaneval_raw'])\n"
        "import huggingface_hub.utils._http as http\n"
        "assert http._GLOBAL_CLIENT_FACTORY is http.default_client_factory\n"
    )
    environment = {**os.environ, variable: value}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "datasets_v2/humaneval/raw.metadata.json").is_file()


def test_damaged_sample_hub_says_how_to_make_it_anew(store: Store) -> None:
    """A flipped bit among the generated files is nobody's endpoint that cannot be trusted."""
    hub = store.internal / "hub"
    damage(hub / "datasets" / HUMANEVAL.id / PARQUET, flip(7000))
    with pytest.raises(DownloadError, match=f"rm -r '{hub}'"):
        make(store, "humaneval_raw")
    shutil.rmtree(hub)
    make(store, "humaneval_raw")


def test_missing_file_is_named(hub: Path, endpoint: str, hub_store: Store) -> None:
    """Upstream renames files; the message says which one is gone and what there is."""
    with pytest.raises(
        DownloadError, match=r"no file gone.bin; it has README.md, openai_humaneval"
    ):
        resolve(Endpoint(endpoint, "mirror"), HUMANEVAL, "main", ("gone.bin",))


def test_missing_repository_is_named(endpoint: str) -> None:
    """A typing error in a spec, or a private repository: both are possible, both are said."""
    other = Repository(id="owner/none", type="model", license="MIT")
    with pytest.raises(DownloadError, match=r"owner/none does not exist at .* or is private"):
        resolve(Endpoint(endpoint, "mirror"), other, "main", ())


def test_missing_revision_is_named(endpoint: str) -> None:
    """A pinned commit that upstream removed must not become another commit."""
    with pytest.raises(
        DownloadError, match="no revision '0000000000000000000000000000000000000000'"
    ):
        resolve(Endpoint(endpoint, "mirror"), HUMANEVAL, "0" * 40, (PARQUET,))


def test_closed_gate_is_explained(
    hub: Path, hub_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client says '401'; people need the licence page and the name of the token's variable."""
    with serve(hub, gated={META.id: {"hf_good"}}) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(DownloadError, match=r"gated .*huggingface.co/facebook/.*HF_TOKEN"):
            make(hub_store, "meta_llama_mtp_raw")
    assert not (hub_store.root / "models_v2").exists()


def test_unreachable_hub_is_explained(hub_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead line shows as one sentence, not as the client's stack."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"did not answer as a hub does.*Check the network"):
        make(hub_store, "humaneval_raw")


def test_full_disk_is_not_a_network_problem(
    endpoint: str, hub_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local disk's errors pass through the network's explanations."""
    make(hub_store, "humaneval_raw")
    before = tree(hub_store.root / "datasets_v2")

    def no_space(self: HashedFile, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "raw")

    monkeypatch.setattr(HashedFile, "write", no_space)
    with pytest.raises(StoreError, match="no space left for humaneval_raw"):
        make(hub_store, "humaneval_raw")
    assert tree(hub_store.root / "datasets_v2") == before


def test_the_same_repository_gives_the_same_manifest(endpoint: str, hub_store: Store) -> None:
    """Downloading again what did not change makes nothing downstream stale."""
    raw = hub_store.catalogue["humaneval_raw"]
    first = materialize(hub_store, raw)
    assert materialize(hub_store, raw) == first
