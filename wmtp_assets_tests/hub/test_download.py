"""Raw files: fetched by the real client, believed by their hashes only."""

from __future__ import annotations

import errno
import hashlib
import inspect
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from wmtp_assets.base.errors import DownloadError, StoreError
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, Repository, SplitSpec, load_specs
from wmtp_assets.hub.download import RAW, HubOrigin
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.hub.remote import Pins, RemoteFile, repository_key, resolve, wanted_files
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.sample.index import index_repository, read_index
from wmtp_assets.sample.repositories import index_path
from wmtp_assets.sample.server import serve
from wmtp_assets.storage.files import HashedFile, hash_file
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer import arrival as arrivals
from wmtp_assets.transfer.arrival import Arrival
from wmtp_assets.transfer.places import Places, ignore
from wmtp_assets_tests.hub.conftest import write_files
from wmtp_assets_tests.hub.faults import CHUNK, FaultyHub, cut, faulty_hub, files, refuse
from wmtp_assets_tests.quick import quick
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, flip, tree

PARQUET = "openai_humaneval/test-00000-of-00001.parquet"
SPECS = {s.name: s for s in load_specs() if isinstance(s, ModelSpec | DatasetSpec)}
HUMANEVAL = SPECS["humaneval"].repository
META = SPECS["meta_llama_mtp"].repository
CONTESTS = SPECS["codecontests"].repository

SHARDS = {"train": 39, "valid": 1, "test": 1}
"""How many files the real CodeContests has."""


def shards(split: str, count: int) -> list[str]:
    """Names as upstream's, which end in digits that nobody can foresee."""
    return [
        f"data/{split}-{n:05}-of-{count:05}-{hashlib.md5(b'%d' % n).hexdigest()[:16]}.parquet"
        for n in range(count)
    ]


UPSTREAM = [name for split, count in SHARDS.items() for name in shards(split, count)]


def of_files(name: str, **splits: str) -> DatasetSpec:
    """The shipped dataset ``name`` with one file, or pattern, for each of other splits."""
    made = {split: SplitSpec(files=(file,)) for split, file in splits.items()}
    spec = SPECS[name].model_copy(update={"splits": made})
    assert isinstance(spec, DatasetSpec)
    return spec


def at(url: str) -> Endpoint:
    return Endpoint(url, "mirror")


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A hub with the file names of HumanEval, CodeContests and Meta's model."""
    folder = tmp_path / "hub"
    write_files(folder / "datasets" / HUMANEVAL.id, {PARQUET: b"rows" * 1000, "README.md": b"x"})
    write_files(
        folder / "datasets" / CONTESTS.id,
        {name: name.encode() for name in ("README.md", "dataset_infos.json", *UPSTREAM)},
    )
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
    return Store(Settings("hub", tmp_path / "storage"), load_catalogue())


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


def test_extras_that_a_hub_lacks_are_no_error(
    tmp_path: Path, hub_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come with the checkpoint where upstream has them, and whenever upstream gets them."""
    spec = SPECS["ref_sheared_llama"]
    assert isinstance(spec, ModelSpec)
    upstream = tmp_path / "hub/models" / spec.repository.id
    raw = hub_store.catalogue["ref_sheared_llama_raw"]
    names = [*spec.files.all()]
    for name in ("README.md", "generation_config.json"):
        names.append(name)
        write_files(upstream, {**{name: name.encode() for name in names}, "LICENSE": b"x"})
        with serve(tmp_path / "hub") as url:
            monkeypatch.setenv("HF_ENDPOINT", url)
            make(hub_store, raw.key)
        assert hub_store.manifest(raw).document["source"]["files"].keys() == {*names}
        assert {name: hub_store.read(raw, f"raw/{name}").decode() for name in names} == {
            name: name for name in names
        }


def test_progress_and_plan_are_said(endpoint: str, hub_store: Store) -> None:
    """60 GB take hours: the log says what comes, from which commit, and how far it is."""
    said: list[str] = []
    materialize(hub_store, hub_store.catalogue["meta_llama_mtp_raw"], said.append)
    assert "3 files, 700.0 kB" in said[0]
    assert "700.0 kB of 700.0 kB (100 %)" in said[-1]
    assert "left" in said[-1]


@pytest.mark.parametrize("name", [PARQUET, "README.md"], ids=["lfs", "git"])
def test_wrong_bytes_of_the_right_size_are_refused(
    hub: Path, endpoint: str, hub_store: Store, tmp_path: Path, name: str
) -> None:
    """The stock client checks the size only; a bit flipped on the way must not be kept."""
    remote = resolve(at(endpoint), of_files("humaneval", test=name), "main")
    places = Places(hub_store, hub_store.catalogue["humaneval_raw"], RAW)
    path = tmp_path / "arrived"
    data = bytearray((hub / "datasets" / HUMANEVAL.id / name).read_bytes())
    path.write_bytes(data)
    assert places.verify(remote.files[0], path) is not None
    data[-1] ^= 1
    path.write_bytes(data)
    assert places.verify(remote.files[0], path) is None
    assert path.read_bytes() == data


def test_file_that_changed_on_the_hub_is_refused(
    hub: Path, endpoint: str, hub_store: Store
) -> None:
    """Announced is one content, served another: nothing is committed, and nothing is left."""
    (hub / "datasets" / HUMANEVAL.id / PARQUET).write_bytes(b"sowr" * 1000)
    with pytest.raises(DownloadError, match="do not trust this endpoint"):
        make(hub_store, "humaneval_raw")
    assert not (hub_store.root / "datasets_v2").exists()
    assert not list((hub_store.internal / "staging").iterdir())


@pytest.mark.parametrize(
    ("variable", "value"),
    quick(
        [
            ("HTTP_PROXY", "http://127.0.0.1:9"),
            ("ALL_PROXY", "http://127.0.0.1:9"),
            ("HF_HUB_OFFLINE", "1"),
        ],
        [("HF_HUB_OFFLINE", "1")],
    ),
)
def test_sample_needs_no_network(tmp_path: Path, variable: str, value: str) -> None:
    """Behind a proxy, or told to stay offline, the client must still reach the loopback server."""
    script = (
        "from pathlib import Path\n"
        "from wmtp_assets.kinds.registry import load_catalogue\n"
        "from wmtp_assets.operations.materialize import materialize\n"
        "from wmtp_assets.base.settings import Settings\n"
        "from wmtp_assets.storage.store import Store\n"
        f"store = Store(Settings('sample', Path({str(tmp_path)!r})), load_catalogue())\n"
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
    shutil.rmtree(store.folder(store.catalogue["humaneval_raw"]))
    hub = store.internal / "hub"
    damage(hub / "datasets" / HUMANEVAL.id / PARQUET, flip(7000))
    with pytest.raises(DownloadError, match=f"rm -r '{hub}'"):
        make(store, "humaneval_raw")
    shutil.rmtree(hub)
    make(store, "humaneval_raw")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (of_files("humaneval", test="gone.bin"), "gone.bin; it has README.md, openai_humaneval/"),
        (of_files("humaneval", test="gone-*"), "gone-*; it has README.md, openai_humaneval/"),
        (of_files("humaneval", test=PARQUET, train="a.bin"), "a.bin; it has README.md, openai_"),
        (SPECS["ref_sheared_llama"].model_copy(update={"repository": META}), "index.json; it has "),
    ],
)
def test_missing_file_is_named(endpoint: str, spec: ModelSpec | DatasetSpec, message: str) -> None:
    """Upstream renames files; the message says which one is gone and what there is."""
    with pytest.raises(DownloadError) as error:
        resolve(at(endpoint), spec, "main")
    said = str(error.value)
    assert said.startswith(f"{spec.repository.id} at ")
    assert "has no file " in said
    assert message in said
    assert said.endswith("Correct the files in the spec, or its revision")


def test_missing_repository_is_named(endpoint: str) -> None:
    """A typo in a spec, or a private repository: both are possible, both are said."""
    other = Repository(id="owner/none", type="model", license="MIT", size="1 MB")
    spec = SPECS["meta_llama_mtp"].model_copy(update={"repository": other})
    with pytest.raises(DownloadError, match=r"owner/none does not exist at .* or it is private"):
        resolve(at(endpoint), spec, "main")


def test_missing_revision_is_named(endpoint: str) -> None:
    """A pinned commit that upstream removed must not become another commit."""
    with pytest.raises(
        DownloadError, match="no revision '0000000000000000000000000000000000000000'"
    ):
        resolve(at(endpoint), SPECS["humaneval"], "0" * 40)


# -- files by pattern ------------------------------------------------------------------------------


def test_upstreams_shards_are_found(hub: Path, endpoint: str, hub_store: Store) -> None:
    """All 41 files of CodeContests under upstream's own names, and nothing that is no split's."""
    repository = {**CONTESTS.model_dump(), "revision": None}
    store = respec(hub_store, "codecontests", repository=repository)
    said: list[str] = []
    materialize(store, store.catalogue["codecontests_raw"], said.append)
    assert ": 41 files, " in said[0]
    raw = store.catalogue["codecontests_raw"]
    manifest = store.manifest(raw)
    assert list(manifest.document["source"]["files"]) == UPSTREAM
    assert manifest.files.keys() == {f"raw/{name}" for name in UPSTREAM}
    for name in UPSTREAM:
        assert store.read(raw, f"raw/{name}") == name.encode()
    folder = store.folder(raw) / "raw"
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert sorted(path.as_posix() for path in files) == sorted(UPSTREAM)


def test_samples_shards_are_found(sample_folder: Path) -> None:
    """The sample has fewer shards, of other names; the same five patterns' files are announced with
    the hashes of their bytes, in the order of splits and shards."""
    with serve(sample_folder) as url:
        remote = resolve(at(url), SPECS["codecontests"], "main")
    names = [file.path for file in remote.files]
    assert [name.rpartition("-")[0] for name in names] == [
        "data/train-00000-of-00003",
        "data/train-00001-of-00003",
        "data/train-00002-of-00003",
        "data/valid-00000-of-00001",
        "data/test-00000-of-00001",
    ]
    folder = sample_folder / "datasets" / CONTESTS.id
    index = read_index(index_path(folder))
    assert index is not None
    assert remote.commit == index[0].commit
    for file in remote.files:
        found = hash_file(folder / file.path)
        assert (file.size, file.sha256) == (found.size, found.sha256)


def test_committed_raw_files_have_upstreams_names(sample_folder: Path, store: Store) -> None:
    """raw/ is what upstream has, so that anybody can compare it with the hub file by file."""
    for key, spec in SPECS.items():
        raw = store.catalogue[f"{key}_raw"]
        upstream = sample_folder / f"{spec.repository.type}s" / spec.repository.id
        files = {n: r for n, r in store.manifest(raw).files.items() if n != raw.pieces}
        assert files, key
        for name, record in files.items():
            assert hash_file(upstream / name.removeprefix("raw/")) == record, name
        left_out = {
            path.relative_to(upstream).as_posix() for path in upstream.rglob("*") if path.is_file()
        } - {name.removeprefix("raw/") for name in files}
        assert left_out <= {"README.md"}


def test_shards_that_upstream_lacks(
    hub: Path, hub_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that is under way has some shards: rows that are not there yet would be missed by
    nobody."""
    repository = {**CONTESTS.model_dump(), "revision": None}
    store = respec(hub_store, "codecontests", repository=repository)
    for number in (7, 38):
        (hub / "datasets" / CONTESTS.id / shards("train", 39)[number]).unlink()
    with serve(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(DownloadError) as error:
            make(store, "codecontests_raw")
    said = str(error.value)
    assert "has 37 of 39 shards of data/train-*.parquet; missing: 00007, 00038; it has " in said
    assert not (store.root / "datasets_v2").exists()
    assert not list((store.internal / "staging").iterdir())


def test_shards_of_two_uploads(
    hub: Path, hub_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream writes new shards beside the old ones: every problem would be there twice."""
    repository = {**CONTESTS.model_dump(), "revision": None}
    store = respec(hub_store, "codecontests", repository=repository)
    again = "data/valid-00000-of-00001-0123456789abcdef.parquet"
    write_files(hub / "datasets" / CONTESTS.id, {again: b"x"})
    with serve(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(DownloadError, match=r"has 2 of 1 shards of data/valid-.* one upload"):
            make(store, "codecontests_raw")
    assert not (store.root / "datasets_v2").exists()


@pytest.mark.parametrize(
    ("splits", "twice"),
    [
        ({"train": "data/train-*", "test": "data/tr*.parquet"}, shards("train", 39)),
        ({"train": "data/*-of-00001-*.parquet", "test": "data/test-*"}, shards("test", 1)),
        ({"train": "data/*.parquet", "valid": "data/valid-*"}, shards("valid", 1)),
    ],
)
def test_file_of_two_splits(endpoint: str, splits: dict[str, str], twice: list[str]) -> None:
    """Two patterns can differ and mean one file: training on the test split would not be noticed
    by comparing patterns."""
    with pytest.raises(DownloadError) as error:
        resolve(at(endpoint), of_files("codecontests", **splits), "main")
    said = str(error.value)
    assert said.startswith(f"{CONTESTS.id} at ")
    named = said.partition("named twice: ")[2].partition(";")[0]
    assert {*named.split(", ")} == {*twice}


def test_files_whose_names_differ_in_case_only() -> None:
    """On macOS the second download would replace the first."""
    names = ["data/Train.parquet", "data/train.parquet"]
    with pytest.raises(ValueError, match=r"named twice: data/Train.parquet, data/train.parquet"):
        wanted_files(of_files("codecontests", train="data/*.parquet"), names)


def test_wanted_files() -> None:
    """What else a repository has is not downloaded: 27 GB of another format may lie beside."""
    model = SPECS["meta_llama_mtp"]
    files = ["7B_1T_4/consolidated.pth", "7B_1T_4/params.json", "tokenizer.model"]
    assert wanted_files(model, [*files, "7B_200B_1/consolidated.pth", "README.md"]) == tuple(files)
    assert wanted_files(SPECS["codecontests"], (n for n in sorted(UPSTREAM))) == tuple(UPSTREAM)
    with pytest.raises(ValueError, match=r"^has no file 7B_1T_4/params.json$"):
        wanted_files(model, files[::2])


def test_extras_are_taken_where_they_are() -> None:
    """The plan asks for the whole of a small repository; which small files it has changes."""
    spec = SPECS["ref_sheared_llama"]
    assert isinstance(spec, ModelSpec)
    files = spec.files.all()
    assert wanted_files(spec, files) == files
    assert wanted_files(spec, ["README.md", "LICENSE", *files]) == (*files, "README.md")
    assert wanted_files(spec, [*spec.files.extras, *files]) == (*files, *spec.files.extras)
    with pytest.raises(ValueError, match=r"^has no file config.json$"):
        wanted_files(spec, [*spec.files.extras, *(name for name in files if "config" not in name)])


# -- gates, networks, disks ------------------------------------------------------------------------


def test_closed_gate_is_explained(
    hub: Path, hub_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client says '401'; people need the licence page and the name of the token's variable."""
    with serve(hub, gated={META.id: {"hf_good"}}) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(DownloadError, match=r"gated, .*huggingface.co/facebook/.*HF_TOKEN"):
            make(hub_store, "meta_llama_mtp_raw")
    assert not (hub_store.root / "models_v2").exists()


def test_unreachable_hub_is_explained(hub_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead line shows as one sentence, not as the client's stack."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        DownloadError, match=r"no connection to http://127.0.0.1:9.*Check the network"
    ):
        make(hub_store, "humaneval_raw")


def test_full_disk_is_not_a_network_problem(
    hub: Path, hub_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local disk's errors pass through the network's explanations, and are not retried."""
    with serve(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        make(hub_store, "humaneval_raw")
    before = tree(hub_store.root / "datasets_v2")
    write_files(hub / "datasets" / HUMANEVAL.id, {PARQUET: b"newer" * 1000})

    def no_space(self: HashedFile, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "raw")

    monkeypatch.setattr(HashedFile, "write", no_space)
    with serve(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(StoreError, match="no space left for humaneval_raw"):
            make(hub_store, "humaneval_raw")
    assert tree(hub_store.root / "datasets_v2") == before


def test_what_will_not_fit_is_refused_before_the_first_byte(
    hub: Path, hub_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of download that end with a full disk; the message has the three numbers."""
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with serve(hub) as url, faulty_hub(url) as front:
        monkeypatch.setenv("HF_ENDPOINT", front.url)
        with pytest.raises(StoreError, match=r"4.0 kB to download, 0 B here, 1.0 kB free under"):
            make(hub_store, "humaneval_raw")
        assert front.payload == 0


def test_the_same_repository_gives_the_same_manifest(endpoint: str, hub_store: Store) -> None:
    """Downloading again what did not change makes nothing downstream stale."""
    raw = hub_store.catalogue["humaneval_raw"]
    first = materialize(hub_store, raw)
    assert materialize(hub_store, raw) == first


# -- what is here already --------------------------------------------------------------------------

WITHOUT_NETWORK = """
import sys
from pathlib import Path
from wmtp_assets.base.errors import WmtpError
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.base.settings import Settings
from wmtp_assets.storage.store import Store
store = Store(Settings("hub", Path(sys.argv[1])), load_catalogue())
try:
    materialize(store, store.catalogue["humaneval_raw"], print)
except WmtpError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def front(hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultyHub]:
    """The hub, behind a proxy that counts; the lock file pins HumanEval."""
    with serve(hub) as url, faulty_hub(url) as front:
        monkeypatch.setenv("HF_ENDPOINT", front.url)
        monkeypatch.setenv("WMTP_LOCK", str(tmp_path / "wmtp.lock"))
        Pins.read().write({repository_key(HUMANEVAL): resolve(at(url), SPECS["humaneval"], "main")})
        front.requests.clear()
        yield front


def offline(store: Store) -> subprocess.CompletedProcess[str]:
    """Materialize ``humaneval_raw`` in a process that was told to stay offline."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, str(store.root)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def place(store: Store, content: bytes) -> Path:
    """Put a file where the raw one belongs, by hand."""
    path = store.path(store.catalogue["humaneval_raw"], f"raw/{PARQUET}")
    write_files(path.parent, {path.name: content})
    return path


def test_offline_with_everything_here(front: FaultyHub, hub_store: Store) -> None:
    """On a cluster's nodes there is no network: what is committed is verified and used, and what
    verifies needs no question either when somebody placed it there by hand."""
    place(hub_store, b"rows" * 1000)
    done = offline(hub_store)
    assert done.returncode == 0, done.stderr
    assert "all files are here, verifying them" in done.stdout
    first = hub_store.manifest(hub_store.catalogue["humaneval_raw"])
    assert first.document["source"]["endpoint"] == "local"
    assert first.document["source"]["pinned"] is True
    assert offline(hub_store).returncode == 0
    assert hub_store.manifest(hub_store.catalogue["humaneval_raw"]) == first
    assert front.requests == []


def test_offline_and_unpinned_the_committed_files_are_right(
    front: FaultyHub, hub_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody can ask where main is; what was committed is of a commit, and that is verified. It
    stays unpinned, and damage is not passed over."""
    monkeypatch.setenv("WMTP_LOCK", str(tmp_path / "none.lock"))
    make(hub_store, "humaneval_raw")
    raw = hub_store.catalogue["humaneval_raw"]
    first, asked = hub_store.manifest(raw), len(front.requests)
    done = offline(hub_store)
    assert done.returncode == 0, done.stderr
    assert hub_store.manifest(raw) == first
    assert first.document["source"]["pinned"] is False
    damage(hub_store.path(raw, f"raw/{PARQUET}"), flip(0))
    done = offline(hub_store)
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert len(front.requests) == asked


def test_client_asks_nothing_of_its_own(front: FaultyHub, tmp_path: Path) -> None:
    """The client tells the hub which agent runs it, and asks what agents there are; a mirror, and
    the offline sample, are asked for files only."""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "WMTP_LOCK": "/none.lock"}
    command = [sys.executable, "-c", WITHOUT_NETWORK, str(tmp_path / "storage")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    paths = [request.path.partition("?")[0] for request in front.requests]
    commit = Pins.read().repositories[repository_key(HUMANEVAL)].commit
    assert paths == [
        f"/api/datasets/{HUMANEVAL.id}/revision/main",
        f"/datasets/{HUMANEVAL.id}/resolve/{commit}/{PARQUET}",
    ]


def test_offline_with_something_missing(front: FaultyHub, hub_store: Store) -> None:
    """The message says which setting keeps the network out, and what to do with it set."""
    done = offline(hub_store)
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE is set, so nothing is asked for" in done.stderr
    assert "wmtp adopt PATH" in done.stderr
    assert "Traceback" not in done.stderr
    assert front.requests == []


def test_placed_file_is_not_fetched(
    front: FaultyHub, hub_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """27 GB that came on a disk by post: without a lock file the hub is asked what is right, and
    no byte of a file is transferred; the file that was placed is the one that is committed."""
    monkeypatch.setenv("WMTP_LOCK", str(tmp_path / "none.lock"))
    path = place(hub_store, b"rows" * 1000)
    inode = path.stat().st_ino
    make(hub_store, "humaneval_raw")
    assert (path.stat().st_ino, front.payload, len(front.requests)) == (inode, 0, 1)


def test_wrong_placed_file_is_neither_used_nor_destroyed(
    front: FaultyHub, hub_store: Store
) -> None:
    """It may be the only copy of something: it is fetched anew, and the old one is kept aside."""
    path = place(hub_store, b"sowr" * 1000)
    said: list[str] = []
    materialize(hub_store, hub_store.catalogue["humaneval_raw"], said.append)
    assert f"{path} has the size of {PARQUET}, but other bytes: it is not used" in said
    assert path.read_bytes() == b"rows" * 1000
    assert front.payload == 4000
    kept = hub_store.internal / "previous/humaneval_raw" / f"raw/{PARQUET}"
    assert kept.read_bytes() == b"sowr" * 1000


def test_committed_files_are_not_fetched_again(
    front: FaultyHub, hub_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Making it again is how people make sure; it must not cost a download, pinned or not."""
    make(hub_store, "humaneval_raw")
    path = hub_store.path(hub_store.catalogue["humaneval_raw"], f"raw/{PARQUET}")
    inode, asked = path.stat().st_ino, len(front.requests)
    make(hub_store, "humaneval_raw")
    assert len(front.requests) == asked
    monkeypatch.setenv("WMTP_LOCK", str(tmp_path / "none.lock"))
    make(hub_store, "humaneval_raw")
    assert (path.stat().st_ino, front.payload) == (inode, 4000)


def test_only_the_damaged_file_is_fetched_again(
    front: FaultyHub, hub_store: Store, tmp_path: Path
) -> None:
    """A flipped bit in the params must not cost 27 GB of weights; nothing is written into the
    damaged file, which may be linked from elsewhere."""
    make(hub_store, "meta_llama_mtp_raw")
    raw = hub_store.catalogue["meta_llama_mtp_raw"]
    first = hub_store.manifest(raw)
    damaged = hub_store.path(raw, "raw/tokenizer.model")
    damage(damaged, flip(0))
    (tmp_path / "elsewhere").hardlink_to(damaged)
    before = (tmp_path / "elsewhere").read_bytes()
    front.payload = 0
    make(hub_store, "meta_llama_mtp_raw")
    assert front.payload == len(b"pieces")
    assert hub_store.read(raw, "raw/tokenizer.model") == b"pieces"
    assert (tmp_path / "elsewhere").read_bytes() == before
    assert hub_store.manifest(raw) == first
    assert not (hub_store.internal / "previous").exists()


def test_new_commit_keeps_the_generation_before(
    hub: Path, hub_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that did not change are shared between generations and not fetched; one that did is in
    both, each with its own bytes."""
    with serve(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        make(hub_store, "meta_llama_mtp_raw")
    write_files(hub / "models" / META.id, {"7B_1T_4/params.json": b'{"dim": 1}'})
    with serve(hub) as url, faulty_hub(url) as front:
        monkeypatch.setenv("HF_ENDPOINT", front.url)
        make(hub_store, "meta_llama_mtp_raw")
        assert front.payload == len(b'{"dim": 1}')
    before = hub_store.internal / "previous/meta_llama_mtp_raw/raw"
    assert (before / "7B_1T_4/params.json").read_bytes() == b"{}"
    raw = hub_store.catalogue["meta_llama_mtp_raw"]
    assert hub_store.read(raw, "raw/7B_1T_4/params.json") == b'{"dim": 1}'


def no_wait(seconds: float) -> None:
    """Nobody waits."""


def test_connection_that_is_lost_a_thousand_times(
    hub: Path, hub_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client calls itself for every lost connection, and Python allows some hundred calls:
    27 GB over a bad line are more."""
    from huggingface_hub import file_download

    spec, size = SPECS["humaneval"], 150 * CHUNK
    write_files(hub / "datasets" / HUMANEVAL.id, {PARQUET: b"rows" * (size // 4)})
    for module in (file_download, arrivals):
        monkeypatch.setattr(
            module, "time", SimpleNamespace(sleep=no_wait, monotonic=time.monotonic)
        )
    with serve(hub) as url, faulty_hub(url) as front:
        front.change = files(cut(CHUNK))()
        remote = resolve(at(front.url), spec, "main")
        places, said = Places(hub_store, hub_store.catalogue["humaneval_raw"], RAW), []
        origin = HubOrigin(at(front.url), spec.repository, remote.commit, "", "")
        arrival = Arrival(places, origin, ignore, ignore, said.append)
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(150 + len(inspect.stack()))
        try:
            held = arrival.get(remote.files[0])
        finally:
            sys.setrecursionlimit(limit)
    assert held.record.size == size
    assert any("lost again and again" in line for line in said)


def test_partials_of_other_files_are_removed(front: FaultyHub, hub_store: Store) -> None:
    """Half of a file that upstream replaced is 13 GB that nobody will ever finish."""
    raw = hub_store.catalogue["humaneval_raw"]
    partials = Places(hub_store, raw, RAW).partials
    write_files(partials, {"0" * 64: b"of another time"})
    hub_store.claim()
    front.change = files(refuse(404, "EntryNotFound", "Entry not found"))()
    with pytest.raises(DownloadError):
        make(hub_store, "humaneval_raw")
    assert [*partials.iterdir()] == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"size": 1},
        {"size": -1, "sha256": "0" * 64},
        {"size": True, "sha256": "0" * 64},
        {"size": 1, "sha256": "0" * 63},
        {"size": 1, "sha256": "../../etc/passwd"},
        {"size": 1, "git_sha1": ""},
        {"size": 1, "sha256": "0" * 64, "git_sha1": "0" * 40},
    ],
)
def test_announcement_without_size_and_hash_is_none(document: dict[str, object]) -> None:
    """The hash becomes the name of the partial file, and the size what is written at most."""
    with pytest.raises(ValueError, match="needs size, and sha256 or git_sha1"):
        RemoteFile.of_document("a.bin", document)
