"""The sample hub as its real clients see it: ``huggingface_hub`` and ``datasets``."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from filelock import Timeout
from huggingface_hub import (
    HfApi,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile, RepoFolder

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.sample import humaneval, server
from wmtp_assets.sample.index import RepositoryIndex, index_repository
from wmtp_assets.sample.repositories import (
    SampleRepository,
    build_repositories,
)
from wmtp_assets.sample.server import serve
from wmtp_assets.storage.locks import make_lock
from wmtp_assets_tests.hub.conftest import SMALL_DATASET, SMALL_MODEL, write_files

WEIGHTS = "deep/er/weights.bin"
LFS_FILES = {WEIGHTS, "deep/tokenizer.model"}


def api(endpoint: str, token: str | bool = False) -> HfApi:
    return HfApi(endpoint=endpoint, token=token)


@pytest.fixture
def connection(small_hub: str) -> Iterator[http.client.HTTPConnection]:
    """One plain connection, for what the client never asks."""
    url = urlsplit(small_hub)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    yield connection
    connection.close()


# -- what is there -------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [None, "main", "commit"])
def test_repo_info_tells_sizes_and_hashes(
    small_hub: str, small_folder: Path, revision: str | None
) -> None:
    """Downloads are verified against these: LFS files by SHA-256, all others by git's SHA-1."""
    index = index_repository(small_folder / "models/owner/tiny")
    info = api(small_hub).model_info(
        "owner/tiny",
        revision=index.commit if revision == "commit" else revision,
        files_metadata=True,
    )
    assert (info.id, info.sha, info.gated) == ("owner/tiny", index.commit, False)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert siblings.keys() == SMALL_MODEL.keys()
    for file in index.files:
        sibling, content = siblings[file.path], SMALL_MODEL[file.path]
        assert sibling.size == len(content)
        assert sibling.blob_id == file.blob_id
        if file.path in LFS_FILES:
            assert sibling.lfs is not None
            assert sibling.lfs.sha256 == hashlib.sha256(content).hexdigest()
            assert sibling.lfs.size == len(content)
            assert sibling.lfs.pointer_size == 125 + len(str(len(content)))
        else:
            assert sibling.lfs is None


def test_repo_info_without_metadata_lists_names_only(small_hub: str) -> None:
    """The real hub leaves sizes out unless asked; code that forgets to ask must notice here."""
    info = api(small_hub).dataset_info("owner/rows")
    assert [(s.rfilename, s.size, s.blob_id) for s in info.siblings or []] == [
        ("rows.csv", None, None)
    ]


def test_model_and_dataset_do_not_mix(small_hub: str) -> None:
    """On the hub they are two name spaces."""
    with pytest.raises(RepositoryNotFoundError):
        api(small_hub).repo_info("owner/rows", repo_type="model")
    with pytest.raises(RepositoryNotFoundError):
        api(small_hub).repo_info("owner/tiny", repo_type="dataset")


@pytest.mark.parametrize(
    ("path", "recursive", "expected"),
    [
        (None, False, ["README.md", "config.json", "deep/", "empty.txt", "with space/"]),
        (None, True, [*SMALL_MODEL, "deep/", "deep/er/", "with space/"]),
        ("deep", False, ["deep/er/", "deep/tokenizer.model"]),
        ("deep", True, ["deep/er/", WEIGHTS, "deep/tokenizer.model"]),
        ("deep/er", False, [WEIGHTS]),
        ("with space", False, ["with space/ü.txt"]),
    ],
)
def test_list_repo_tree(
    small_hub: str, path: str | None, recursive: bool, expected: list[str]
) -> None:
    """``snapshot_download`` and ``datasets`` find files through it, folders marked as such."""
    tree = list(api(small_hub).list_repo_tree("owner/tiny", path, recursive=recursive))
    names = [entry.path + ("/" if isinstance(entry, RepoFolder) else "") for entry in tree]
    assert sorted(names) == sorted(expected)
    for entry in tree:
        if isinstance(entry, RepoFile):
            assert entry.size == len(SMALL_MODEL[entry.path])
            assert (entry.lfs is not None) == (entry.path in LFS_FILES)
        else:
            assert re.fullmatch("[0-9a-f]{40}", entry.tree_id)


@pytest.mark.parametrize("path", ["absent", "README.md", "dee"])
def test_tree_of_what_is_no_folder(small_hub: str, path: str) -> None:
    """A prefix of a name is not a folder, and neither is a file."""
    with pytest.raises(RemoteEntryNotFoundError):
        list(api(small_hub).list_repo_tree("owner/tiny", path))


def test_get_paths_info(small_hub: str) -> None:
    """``HfFileSystem`` asks for single paths; the hub leaves out those it does not have."""
    found = api(small_hub).get_paths_info("owner/tiny", [WEIGHTS, "absent", "deep"])
    assert [(type(entry), entry.path) for entry in found] == [
        (RepoFile, WEIGHTS),
        (RepoFolder, "deep"),
    ]


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SMALL_MODEL))
def test_hf_hub_download(small_hub: str, tmp_path: Path, name: str) -> None:
    """Every kind of file arrives: plain, LFS, empty, with special characters in its name."""
    path = hf_hub_download("owner/tiny", name, cache_dir=tmp_path, endpoint=small_hub, token=False)
    assert Path(path).read_bytes() == SMALL_MODEL[name]


def test_head_announces_what_the_api_says(small_hub: str, small_folder: Path) -> None:
    """The client takes commit, ETag and size from HEAD; an Xet header would lead it elsewhere."""
    index = index_repository(small_folder / "models/owner/tiny")
    for file in index.files:
        url = hf_hub_url("owner/tiny", file.path, endpoint=small_hub)
        metadata = get_hf_file_metadata(url, token=False)
        assert metadata.commit_hash == index.commit
        assert metadata.etag == file.etag
        assert metadata.location == url
        assert metadata.size == file.size
        assert metadata.xet_file_data is None


@pytest.mark.parametrize(
    ("repo_id", "repo_type", "files"),
    [("owner/tiny", "model", SMALL_MODEL), ("owner/rows", "dataset", SMALL_DATASET)],
)
def test_snapshot_download(
    small_hub: str, tmp_path: Path, repo_id: str, repo_type: str, files: dict[str, bytes]
) -> None:
    """What a notebook does: everything at once, in parallel, then again by commit."""
    snapshot = snapshot_download(
        repo_id, repo_type=repo_type, cache_dir=tmp_path, endpoint=small_hub, token=False
    )
    folder = Path(snapshot)
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == files
    assert snapshot == snapshot_download(
        repo_id,
        repo_type=repo_type,
        revision=folder.name,
        cache_dir=tmp_path,
        endpoint=small_hub,
        token=False,
    )


def resume(endpoint: str, have: int) -> bytes:
    """Download ``WEIGHTS`` when the first ``have`` bytes of it are there."""
    content = SMALL_MODEL[WEIGHTS]
    target = io.BytesIO(content[:have])
    target.seek(have)
    url = hf_hub_url("owner/tiny", WEIGHTS, endpoint=endpoint)
    http_get(url, target, resume_size=have, expected_size=len(content))
    return target.getvalue()


@pytest.mark.parametrize("have", [0, 1, 1 << 20, len(SMALL_MODEL[WEIGHTS]) - 1])
def test_http_get_resumes(small_hub: str, have: int) -> None:
    """An interrupted download continues where it stopped; a server that ignores Range breaks it."""
    assert resume(small_hub, have) == SMALL_MODEL[WEIGHTS]


SIZE = len(SMALL_MODEL[WEIGHTS])


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=5-99", (5, 100)),
        ("bytes=5-", (5, SIZE)),
        ("bytes=-7", (SIZE - 7, SIZE)),
        (f"bytes=-{2 * SIZE}", (0, SIZE)),
        (f"bytes=0-{2 * SIZE}", (0, SIZE)),
        (f"bytes={SIZE - 1}-", (SIZE - 1, SIZE)),
        (f"bytes={SIZE}-", 416),
        ("bytes=-0", 416),
        ("bytes=-", 200),
        ("bytes=9-5", 200),
        ("bytes=0-1,3-4", 200),
        ("lines=0-1", 200),
    ],
)
def test_ranges(
    connection: http.client.HTTPConnection, header: str, part: tuple[int, int] | int
) -> None:
    """RFC 9110, section 14: one satisfiable range is sent, nonsense ignored, the rest refused."""
    connection.request("GET", f"/owner/tiny/resolve/main/{WEIGHTS}", headers={"Range": header})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.headers["Content-Length"] == str(len(body))
    if isinstance(part, tuple):
        start, stop = part
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert body == SMALL_MODEL[WEIGHTS][start:stop]
    elif part == 416:
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    else:
        assert answer.status == 200
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert body == SMALL_MODEL[WEIGHTS]


def test_parallel_downloads(small_hub: str) -> None:
    """``snapshot_download`` opens eight connections; each must get its own bytes."""
    with ThreadPoolExecutor(8) as pool:
        for content in pool.map(resume, [small_hub] * 32, range(32)):
            assert content == SMALL_MODEL[WEIGHTS]


def test_connection_survives_errors_and_bodies(connection: http.client.HTTPConnection) -> None:
    """Keep-alive: an unread body or a wrong length would garble the next answer."""
    requests = [
        ("POST", "/api/models/owner/tiny/paths-info/main", "paths=README.md", 200),
        ("POST", "/api/models/owner/absent/paths-info/main", "paths=README.md", 404),
        ("POST", "/api/models/owner/tiny", "x=1", 405),
        ("GET", "/api/models/owner/tiny/paths-info/main", None, 405),
        ("HEAD", "/owner/tiny/resolve/main/README.md", None, 200),
        ("HEAD", "/owner/tiny/resolve/main/absent", None, 404),
        ("HEAD", "/api/models/owner/tiny", None, 200),
        ("GET", "/owner/tiny/resolve/main/empty.txt", None, 200),
        ("GET", "/", None, 404),
        ("GET", "/api/models/owner/tiny/auth-check", None, 200),
    ]
    connection.connect()
    opened = connection.sock
    for method, path, body, status in requests:
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
        assert (path, answer.status) == (path, status)
        assert connection.sock is opened


# -- what is not there ---------------------------------------------------------------------------


def test_missing_repository(small_hub: str, tmp_path: Path) -> None:
    """The usual typo must come out as the client's own exception."""
    with pytest.raises(RepositoryNotFoundError):
        api(small_hub).repo_info("owner/absent")
    with pytest.raises(RepositoryNotFoundError):
        api(small_hub).auth_check("owner/absent")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("owner/absent", "a", cache_dir=tmp_path, endpoint=small_hub, token=False)


def test_missing_revision(small_hub: str, tmp_path: Path) -> None:
    """A pinned commit that was rewritten upstream must not silently become another one."""
    revision = "0" * 40
    with pytest.raises(RevisionNotFoundError):
        api(small_hub).repo_info("owner/tiny", revision=revision)
    with pytest.raises(RevisionNotFoundError):
        list(api(small_hub).list_repo_tree("owner/tiny", revision=revision))
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(
            "owner/tiny",
            "README.md",
            revision=revision,
            cache_dir=tmp_path,
            endpoint=small_hub,
            token=False,
        )


def test_missing_file(small_hub: str, tmp_path: Path) -> None:
    """``transformers`` and ``datasets`` probe for optional files and rely on this error."""
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(
            "owner/tiny", "absent.json", cache_dir=tmp_path, endpoint=small_hub, token=False
        )
    assert not api(small_hub).file_exists("owner/tiny", "absent.json")
    assert api(small_hub).file_exists("owner/tiny", "config.json")


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "../../../secret.txt",
        "%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "..%2f..%2f..%2fsecret.txt",
        "deep/../README.md",
        "./README.md",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "link.txt",
        "",
    ],
)
@pytest.mark.parametrize(
    "prefix", ["/owner/tiny/resolve/main/", "/api/models/owner/tiny/tree/main/"]
)
def test_no_path_leaves_the_repository(small_folder: Path, prefix: str, path: str) -> None:
    """Only listed paths exist, however they are spelled; a symbolic link is not listed."""
    secret = small_folder / "models" / "owner" / "secret.txt"
    secret.write_bytes(b"secret")
    (small_folder / "models/owner/tiny/link.txt").symlink_to(secret)
    with serve(small_folder) as endpoint:
        url = urlsplit(endpoint)
        with socket.create_connection((url.hostname or "", url.port or 0), timeout=10) as raw:
            raw.sendall(f"GET {prefix}{path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: raw.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"secret" not in answer


# -- gates ---------------------------------------------------------------------------------------


@pytest.fixture
def gated_hub(small_folder: Path) -> Iterator[str]:
    with serve(small_folder, gated={"owner/tiny": {"good"}}) as endpoint:
        yield endpoint


@pytest.mark.parametrize(("token", "status"), [(False, 401), ("bad", 403)])
def test_gate_is_closed(gated_hub: str, tmp_path: Path, token: str | bool, status: int) -> None:
    """As on the real hub: without access the files are refused, the description is not."""
    with pytest.raises(GatedRepoError) as refused:
        api(gated_hub, token).auth_check("owner/tiny")
    assert refused.value.response.status_code == status
    with pytest.raises(GatedRepoError):
        hf_hub_download(
            "owner/tiny", "README.md", cache_dir=tmp_path, endpoint=gated_hub, token=token
        )
    info = api(gated_hub, token).model_info("owner/tiny", files_metadata=True)
    assert info.gated == "manual"
    assert len(info.siblings or []) == len(SMALL_MODEL)


def test_gate_opens_with_the_right_token(gated_hub: str, tmp_path: Path) -> None:
    """The accepted token reads, and repositories without a gate need none."""
    api(gated_hub, "good").auth_check("owner/tiny")
    path = hf_hub_download(
        "owner/tiny", "README.md", cache_dir=tmp_path, endpoint=gated_hub, token="good"
    )
    assert Path(path).read_bytes() == SMALL_MODEL["README.md"]
    api(gated_hub).auth_check("owner/rows", repo_type="dataset")


def test_gate_for_an_unknown_repository(small_folder: Path) -> None:
    """A misspelt gate would leave the real repository open, and the test that set it green."""
    with (
        pytest.raises(ValueError, match="owner/tinny"),
        serve(small_folder, {"owner/tinny": {"t"}}),
    ):
        pass


# -- starting and stopping -----------------------------------------------------------------------


def test_stopped_server_is_gone(small_folder: Path) -> None:
    """Afterwards nobody listens, and a connection that was kept alive is closed too."""
    with serve(small_folder) as endpoint:
        url = urlsplit(endpoint)
        assert url.hostname == "127.0.0.1"
        kept = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
        kept.request("GET", "/api/models/owner/tiny")
        kept.getresponse().read()
    assert kept.sock.recv(1) == b""
    kept.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port or 0), timeout=10)


def test_server_stops_when_its_user_fails(small_folder: Path) -> None:
    """An exception in the context must come out as it is, not as a hanging thread."""
    with pytest.raises(ZeroDivisionError), serve(small_folder):
        raise ZeroDivisionError


def test_server_survives_a_client_that_hangs_up(
    small_hub: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """An aborted download is everyday life: no traceback, and the next client is served."""
    url = urlsplit(small_hub)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=10) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset on close
        raw.sendall(f"GET /owner/tiny/resolve/main/{WEIGHTS} HTTP/1.1\r\n\r\n".encode())
        raw.recv(1)
    assert api(small_hub).repo_info("owner/tiny").id == "owner/tiny"
    assert capfd.readouterr().err == ""


def test_file_cut_off_while_serving(small_folder: Path, small_hub: str) -> None:
    """The client must be told by a closed connection, not wait for the missing bytes."""
    (small_folder / "models/owner/tiny" / WEIGHTS).write_bytes(b"short")
    url = urlsplit(small_hub)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    connection.request("GET", f"/owner/tiny/resolve/main/{WEIGHTS}")
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    connection.close()


def test_damaged_repository_is_not_served(tmp_path: Path) -> None:
    """Wrong sizes would show as broken downloads much later; the path is known now."""

    def build(folder: Path) -> None:
        write_files(folder, SMALL_DATASET)

    build_repositories(tmp_path, [SampleRepository("dataset", "owner/rows", 1, build)])
    (tmp_path / "datasets/owner/rows/rows.csv").write_bytes(b"")
    message = r"rows/rows\.csv is not as its index says"
    with pytest.raises(CorruptArtifact, match=message), serve(tmp_path):
        pass


def test_serving_waits_for_a_build(small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may be exchanging a repository: half of it must not be indexed."""

    def index_under_lock(folder: Path) -> RepositoryIndex:
        with pytest.raises(Timeout):
            make_lock(small_folder / ".lock").acquire(timeout=0)
        return index_repository(folder)

    monkeypatch.setattr(server, "index_repository", index_under_lock)
    with serve(small_folder) as endpoint:
        assert api(endpoint).repo_info("owner/tiny").id == "owner/tiny"
    with make_lock(small_folder / ".lock").acquire(timeout=0):
        pass


def test_built_repositories_are_not_hashed_again(tmp_path: Path) -> None:
    """Serving 286 MB starts at once: hashes come from the index written at build time."""

    def build(folder: Path) -> None:
        write_files(folder, {"a.bin": b"before"})

    build_repositories(tmp_path, [SampleRepository("model", "owner/name", 1, build)])
    (tmp_path / "models/owner/name/a.bin").write_bytes(b"after!")
    with serve(tmp_path) as endpoint:
        info = api(endpoint).model_info("owner/name", files_metadata=True)
    (sibling,) = info.siblings or []
    assert sibling.lfs is not None
    assert sibling.lfs.sha256 == hashlib.sha256(b"before").hexdigest()


# -- the sample itself ---------------------------------------------------------------------------


def test_sample_model_downloads_whole(sample_folder: Path, tmp_path: Path) -> None:
    """The real size, through the real client, to the bytes that the API announced."""
    with serve(sample_folder) as endpoint:
        repo_id = "facebook/multi-token-prediction"
        info = api(endpoint).model_info(repo_id, files_metadata=True)
        folder = Path(
            snapshot_download(repo_id, local_dir=tmp_path, endpoint=endpoint, token=False)
        )
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert len(siblings) == 3
    for name in ("7B_1T_4/consolidated.pth", "tokenizer.model"):
        lfs = siblings[name].lfs
        assert lfs is not None
        with (folder / name).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == lfs.sha256
    assert siblings["7B_1T_4/params.json"].lfs is None


LOAD_DATASET = """
import json
from datasets import load_dataset
rows = load_dataset("openai/openai_humaneval", split="test")
print(json.dumps([rows.column_names, len(rows), rows[0]["task_id"], rows[163]["entry_point"]]))
"""


def test_datasets_loads_the_sample(tmp_path: Path) -> None:
    """``datasets`` resolves card, patterns and parquet by itself: the strictest reader we have.

    In a process of its own, because it reads ``HF_ENDPOINT`` and ``HF_HOME`` when imported.
    """
    repository = SampleRepository("dataset", "openai/openai_humaneval", 1, humaneval.build)
    build_repositories(tmp_path / "hub", [repository])
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))
    }
    with serve(tmp_path / "hub") as endpoint:
        done = subprocess.run(
            [sys.executable, "-c", LOAD_DATASET],
            env={
                **environment,
                "HF_ENDPOINT": endpoint,
                "HF_HOME": str(tmp_path / "home"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
            },
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    assert json.loads(done.stdout) == [
        list(humaneval.COLUMNS),
        164,
        "HumanEval/0",
        "generate_integers",
    ]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_until_it_is_stopped(sample_folder: Path, stop: signal.Signals) -> None:
    """What it prints is meant to be pasted into a shell, so the line must work as it stands."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wmtp_assets.sample", str(sample_folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        match = re.fullmatch(r"export HF_ENDPOINT=(http://127\.0\.0\.1:\d+)\n", second)
        assert match is not None, first + second
        assert first == f"{match[1]} serves {sample_folder} until Ctrl-C\n"
        names = api(match[1]).list_repo_files("openai/openai_humaneval", repo_type="dataset")
        assert names == ["README.md", humaneval.PARQUET]
        with pytest.raises(HfHubHTTPError):
            api(match[1]).list_repo_files("openai/absent")
        process.send_signal(stop)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.wait()
