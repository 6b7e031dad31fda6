"""Google Cloud Storage and Azure as destinations: what S3's tests show, shown again where the way
is another. The faults are in test_cloud_faults.py."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from wmtp_assets.base.errors import PublishError, SpecError, WmtpError
from wmtp_assets.base.settings import EMULATOR_VARIABLE
from wmtp_assets.cli.main import cli
from wmtp_assets.destinations import destination, in_parts
from wmtp_assets.destinations.destination import Access, open_destination, parse_url
from wmtp_assets.destinations.in_parts import InParts
from wmtp_assets.destinations.journal import Journal
from wmtp_assets.destinations.listing import MANIFEST, parse_listing
from wmtp_assets.destinations.sending import Options
from wmtp_assets.operations.publish import publish
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.buckets import MISSING
from wmtp_assets_tests.destinations.conftest import ACCOUNT_KEY, Cloud
from wmtp_assets_tests.destinations.faults import cutting, refusing
from wmtp_assets_tests.destinations.front import Answer, Request
from wmtp_assets_tests.destinations.trees import (
    DATASET,
    LARGE,
    MODEL,
    ROWS,
    commit,
    files_below,
    pull_all,
    random_bytes,
)
from wmtp_assets_tests.trees import flip


def send(store: Store, cloud: Cloud, **options: Any) -> InParts:
    """Publish as a new process does."""
    there = cloud.open()
    publish(store, None, there, Options(**options))
    return there


def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run sends the same bytes each time."""
    monkeypatch.setattr(in_parts, "PARTS", 1)
    monkeypatch.setattr(InParts, "streams", 1)
    monkeypatch.setattr(destination, "SIDE_BY_SIDE", 1)


def put(cloud: Cloud, path: str, data: bytes) -> None:
    """Somebody else's client writes an object, in one piece."""
    cloud.kept.put(f"{cloud.bucket}/tree/{path}", data)


def test_there_and_back(tree_store: Store, node: Store, cloud: Cloud) -> None:
    """What is published is byte by byte what is pulled, the empty file too; a second time nothing
    is sent, however it is compared, and nothing is read back unless that is asked for. Pages of a
    listing have two names each."""
    cloud.kept.page_size = 2
    send(tree_store, cloud)
    there = cloud.objects()
    assert {p: d for p, d in there.items() if p != MANIFEST} == files_below(tree_store.root)
    pull_all(node, cloud.open())
    assert files_below(node.root) == files_below(tree_store.root)
    for how in ("size", "hash", "full"):
        cloud.front.soundly()
        assert send(tree_store, cloud, how=how).payload == cloud.front.payload == 0
        assert (cloud.front.fetched > 0) == (how == "full")
    assert cloud.objects() == there


def test_what_somebody_wrote_over_is_sent_again(tree_store: Store, cloud: Cloud) -> None:
    """As many bytes: the checksum that lies beside the object is another, or there is none."""
    send(tree_store, cloud)
    put(cloud, ROWS, random_bytes(50_000, 9))
    assert send(tree_store, cloud, how="size").payload == 0
    assert send(tree_store, cloud).payload == 50_000
    assert cloud.objects()[ROWS] == random_bytes(50_000, 2)


@pytest.mark.parametrize("is_first", [True, False])
def test_manifest_is_written_only_over_the_one_that_was_read(
    tree_store: Store, cloud: Cloud, is_first: bool
) -> None:
    """Two at once: somebody writes it between the last look and the writing. Theirs stays."""
    if not is_first:
        send(tree_store, cloud)
        commit(tree_store, DATASET, {"raw/data.parquet": b"new"})

    def overtaken(request: Request) -> None:
        if request.operation == "PutObject" and request.key.endswith(MANIFEST):
            put(cloud, MANIFEST, b"theirs")

    cloud.front.before = overtaken
    with pytest.raises(PublishError, match="was written by somebody else"):
        send(tree_store, cloud)
    assert cloud.objects()[MANIFEST] == b"theirs"


def test_two_at_once(
    tree_store: Store, node: Store, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another publisher goes through while we send: ours is refused before a name is given, and the
    next run resumes what was sent."""
    monkeypatch.setattr(in_parts, "READ_SECONDS", 30)
    send(tree_store, cloud)
    commit(node, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(3_000_000, 7)})
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(3_000_000, 8)})
    theirs = cloud.open()
    theirs._journal = Journal(tmp_path / "theirs.jsonl")
    done: list[str] = []

    def overtake(request: Request) -> None:
        if request.operation == "UploadPart" and request.key.endswith(LARGE) and not done:
            done.append(request.key)
            publish(node, None, theirs)

    cloud.front.before = overtake
    with pytest.raises(PublishError, match="was published to by somebody else"):
        send(tree_store, cloud)
    assert cloud.objects()[LARGE] == random_bytes(3_000_000, 7)
    cloud.front.soundly()
    send(tree_store, cloud)
    assert cloud.objects()[LARGE] == random_bytes(3_000_000, 8)


def test_answer_to_the_manifest_is_lost(tree_store: Store, cloud: Cloud) -> None:
    """It is sent again, and the condition does not hold any more: because of us."""
    lost: list[str] = []

    def lose(request: Request, answer: Answer) -> None:
        if request.operation == "PutObject" and request.key.endswith(MANIFEST) and not lost:
            lost.append(request.key)
            answer.stop = 0

    cloud.front.after = lose
    send(tree_store, cloud)
    assert lost
    assert parse_listing(cloud.objects()[MANIFEST], "").artifacts.keys() == {MODEL, DATASET}


def test_delete(tree_store: Store, cloud: Cloud) -> None:
    """What is no longer wanted stays until --delete; what is not ours stays forever, and so does
    what somebody wrote over."""
    send(tree_store, cloud)
    put(cloud, "models_v2/run.log", b"x")
    put(cloud, "models_v2/meta-llama-mtp/raw/empty", b"theirs")
    commit(tree_store, DATASET, {"raw/data.parquet": b"new"})
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": b"new"})
    send(tree_store, cloud, delete=True)
    there = cloud.objects()
    assert "datasets_v2/humaneval/raw/LICENSE" not in there
    assert there["models_v2/run.log"] == b"x"
    assert there["models_v2/meta-llama-mtp/raw/empty"] == b"theirs"
    assert parse_listing(there[MANIFEST], "").retired == {}


def test_object_of_somebody_else_in_a_place_of_ours(tree_store: Store, cloud: Cloud) -> None:
    """None of our manifests names it: the same bytes are taken, whoever's client sent them, and
    others are not replaced, unless asked for."""
    put(cloud, ROWS, random_bytes(50_000, 2))
    put(cloud, LARGE, random_bytes(3_000_000, 8))
    before = cloud.objects()
    with pytest.raises(PublishError, match=r"consolidated\.pth at .* with --overwrite"):
        send(tree_store, cloud)
    assert cloud.objects() == before
    send(tree_store, cloud, overwrite=True)
    assert cloud.objects()[LARGE] == random_bytes(3_000_000)


@pytest.mark.parametrize("cloud", ["az"], indirect=True)
def test_unfinished_upload_of_somebody_else(tree_store: Store, cloud: Cloud) -> None:
    """Azure demands names of one length of all blocks of a blob, of others' too."""
    cloud.kept.parts[f"{cloud.bucket}/tree/{ROWS}"] = {"short": b"x"}
    with pytest.raises(PublishError, match="somebody else's unfinished upload"):
        send(tree_store, cloud)


@pytest.mark.parametrize("cloud", ["az"], indirect=True)
def test_folders_of_a_hierarchical_namespace_are_no_files(tree_store: Store, cloud: Cloud) -> None:
    """There a folder is a blob too, and would be in the way of what lies in it."""
    send(tree_store, cloud)

    def as_folder(request: Request, answer: Answer) -> None:
        if request.operation == "ListObjects":
            marked = (
                b"<Blobs><Blob><Name>tree/models_v2/meta-llama-mtp</Name><Properties>"
                b"<Content-Length>0</Content-Length><BlobType>BlockBlob</BlobType></Properties>"
                b"<Metadata><hdi_isfolder>true</hdi_isfolder></Metadata></Blob>"
            )
            answer.body = answer.body.replace(b"<Blobs>", marked)

    cloud.front.after = as_folder
    assert send(tree_store, cloud).payload == 0


# -- fetched ---------------------------------------------------------------------------------------


def test_pull_goes_on_where_it_was_cut(tree_store: Store, node: Store, cloud: Cloud) -> None:
    """A range is asked for, and what arrived is not fetched again."""
    send(tree_store, cloud)
    cloud.front.soundly()
    cutting(1_500_000, 1)(cloud.front)
    pull_all(node, cloud.open(), MODEL)
    assert (node.root / LARGE).read_bytes() == random_bytes(3_000_000)
    assert cloud.front.fetched <= 3_000_000 + 1_500_000


@pytest.mark.parametrize(
    ("change", "problem"),
    [(flip(9), "It was not kept"), (lambda data: data[:-9], "ends at")],
    ids=["flipped", "truncated"],
)
def test_pull_of_other_bytes(
    tree_store: Store, node: Store, cloud: Cloud, change: Any, problem: str
) -> None:
    """Nothing of them gets a name, and a sound server is all that is needed afterwards."""
    send(tree_store, cloud)
    before = files_below(node.root)
    place = f"{cloud.bucket}/tree/{LARGE}"
    sound = cloud.kept.objects[place].data
    cloud.kept.objects[place].data = change(sound)
    with pytest.raises(WmtpError, match=problem):
        pull_all(node, cloud.open(), MODEL)
    assert files_below(node.root) == before
    cloud.kept.objects[place].data = sound
    pull_all(node, cloud.open(), MODEL)
    assert (node.root / LARGE).read_bytes() == random_bytes(3_000_000)


def test_pull_from_a_busy_server(tree_store: Store, node: Store, cloud: Cloud) -> None:
    """It is asked again, and in the end it is said."""
    send(tree_store, cloud)
    refusing("GetObject", 503, "ServerBusy", 5)(cloud.front)
    pull_all(node, cloud.open(), DATASET)
    refusing("GetObject", 503, "ServerBusy")(cloud.front)
    with pytest.raises(PublishError, match=r"busy or broken \(ServerBusy, 6 times\)"):
        pull_all(node, cloud.open(), MODEL)


# -- killed ----------------------------------------------------------------------------------------


def send_killed(store: Store, cloud: Cloud, method: str, after: int) -> None:
    """Publish in a process that is killed when it calls a method once more than ``after`` times."""
    child = os.fork()
    if child == 0:
        try:
            there = cloud.open()
            done, left = getattr(there, method), [after]

            def count(*arguments: Any) -> Any:
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return done(*arguments)

            setattr(there, method, count)
            publish(store, None, there)
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize(
    ("method", "after", "is_untouched"),
    [
        ("_send", 2, True),
        pytest.param("_put_together", 0, True, marks=pytest.mark.long),
        ("_put_together", 3, False),
        pytest.param("_write_if_as_read", 0, False, marks=pytest.mark.long),
    ],
)
def test_killed(
    tree_store: Store,
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    after: int,
    is_untouched: bool,
) -> None:
    """At any step: until names are given nothing there has changed, MANIFEST.json is the one from
    before to the end, and the next process sends what is missing, and nothing twice."""
    send(tree_store, cloud)
    before = cloud.objects()
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(3_500_000, 5)})
    commit(tree_store, DATASET, {"raw/data.parquet": b"newer", "raw/LICENSE": b"MIT\n"})
    cloud.front.soundly()
    one_after_the_other(monkeypatch)
    send_killed(tree_store, cloud, method, after)
    there = cloud.objects()
    assert there[MANIFEST] == before[MANIFEST]
    assert (there == before) == is_untouched

    sent, cloud.front.payload = cloud.front.payload, 0
    send(tree_store, cloud)
    local = files_below(tree_store.root)
    changed = sum(len(data) for path, data in local.items() if before.get(path) != data)
    assert sent == (2_000_000 if method == "_send" else changed)
    assert cloud.front.payload == changed - sent
    there = cloud.objects()
    listing = parse_listing(there.pop(MANIFEST), "")
    assert {path: there[path] for path in local} == local
    assert there.keys() - local.keys() == listing.retired.keys()
    assert not (tmp_path / "journal.jsonl").exists()
    left = [place for place in cloud.kept.parts if place.startswith(f"{cloud.bucket}/")]
    assert left == []


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("gs://", "names no bucket; write gs://bucket/prefix"),
        ("gs://Bucket/x", "names no bucket"),
        ("gs://user@bucket/x", "no user name"),
        ("az://", "names no container; write az://container/prefix"),
        ("az://a--b/x", "names no container"),
        ("az://container/x?sig=planted", "no user name, password, query"),
        ("az://container/../x", "use one of"),
    ],
)
def test_urls_that_are_none(url: str, problem: str) -> None:
    """One message each, and a signature in it is not said again."""
    with pytest.raises(SpecError) as raised:
        parse_url(url)
    assert problem in str(raised.value)
    assert "planted" not in str(raised.value)


def test_bucket_that_is_absent(tree_store: Store, cloud: Cloud) -> None:
    with pytest.raises(PublishError, match=f"there is no (bucket|container) {MISSING}"):
        publish(tree_store, None, open_destination(tree_store, f"{cloud.scheme}://{MISSING}/x"))


def test_endpoints_that_are_refused(
    tree_store: Store, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain http only to this machine; and a token or a signature only to the provider's servers,
    or to whom the user trusts."""
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sig=planted")
    for url, problem in (
        ("http://192.0.2.1:9000", "plain http is only for loopback"),
        ("nonsense", "is not a URL of a server"),
        ("https://a:planted@storage.example", "without a user name"),
        ("https://storage.example", "not trusted with your token"),
        ("https://googleapis.com.example", "not trusted with your token"),
        ("https://core.windows.net.example", "not trusted with your token"),
    ):
        with pytest.raises(SpecError, match=problem) as raised:
            open_destination(tree_store, cloud.url, Access(url))
        assert "planted" not in str(raised.value)


def test_without_credentials(
    tree_store: Store, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message, which says where they are looked for."""
    monkeypatch.delenv(EMULATOR_VARIABLE)
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    asked = {"gs": "gcloud auth application-default login", "az": "AZURE_STORAGE_ACCOUNT"}
    with pytest.raises(PublishError, match=asked[cloud.scheme]):
        open_destination(tree_store, cloud.url)


@pytest.mark.parametrize("cloud", ["az"], indirect=True)
def test_connection_string_that_is_none(
    tree_store: Store, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "planted")
    with pytest.raises(SpecError, match="is not a connection string") as raised:
        open_destination(tree_store, cloud.url)
    assert "planted" not in str(raised.value)


TOKEN = "ya29.planted-access-token"


@pytest.mark.parametrize("cloud", ["gs"], indirect=True)
def test_token_of_an_account(
    tree_store: Store, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credentials of the environment are used, at a server that is trusted with them; they are
    in no error, journal or manifest, and an expired login is one message."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    login = {
        "type": "service_account",
        "client_email": "planted@example.com",
        "private_key": key.decode(),
        "token_uri": f"{cloud.front.url}/token",
    }
    (tmp_path / "login.json").write_text(json.dumps(login))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "login.json"))
    monkeypatch.setenv("WMTP_TRUSTED_ENDPOINT", cloud.front.url)
    cloud.kept.token = TOKEN
    document = json.dumps({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
    refusal = json.dumps({"error": "invalid_grant", "error_description": "planted"})

    def token(request: Request) -> Answer | None:
        said = {"content-type": "application/json"}
        is_meant = request.path == "/token"
        return Answer(status[0], said, status[1].encode()) if is_meant else None

    status: tuple[int, str] = (200, document)
    cloud.front.before = token
    access = Access(cloud.front.url)
    publish(tree_store, None, open_destination(tree_store, cloud.url, access))
    left = [path.read_bytes() for path in tree_store.internal.rglob("*") if path.is_file()]
    for secret in (b"planted", key.splitlines()[3]):
        assert not any(secret in data for data in [*left, cloud.objects()[MANIFEST]])

    status = (400, refusal)
    with pytest.raises(PublishError, match="gives no token for these credentials") as raised:
        publish(tree_store, None, open_destination(tree_store, cloud.url, access))
    assert "planted" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_library_is_missing(
    tree_store: Store, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that installs it is named."""
    for name in ("google.auth.credentials", "azure.storage.blob"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(PublishError, match=rf"'wmtp_assets\[{cloud.scheme}\]'"):
        open_destination(tree_store, cloud.url)


def test_command(
    tree_store: Store, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plan, publication and pull as people type them; and a refusal, with its exit code."""

    def wmtp(root: Path, *arguments: str) -> Any:
        monkeypatch.setenv("WMTP_SOURCE", "sample")
        monkeypatch.setenv("WMTP_STORAGE_ROOT", str(root))
        return CliRunner().invoke(cli, arguments)

    to = ("--to", cloud.url)
    planned = json.loads(wmtp(tree_store.root, "publish", *to, "--dry-run", "--json").stdout)
    done = json.loads(wmtp(tree_store.root, "publish", *to, "--json").stdout)
    assert planned["bytes_to_send"] == done["sent_bytes"] > 3_000_000
    assert done["url"] == cloud.url
    node = tmp_path / "node"
    assert wmtp(node, "pull", MODEL, "--from", cloud.url).exit_code == 0
    assert (node / LARGE).read_bytes() == (tree_store.root / LARGE).read_bytes()
    cloud.front.before = lambda request: Answer.refusal(403, "AuthenticationFailed")
    refused = wmtp(tree_store.root, "publish", *to)
    assert refused.exit_code == 1
    assert ACCOUNT_KEY not in str(refused.exception) + refused.output
