"""VESSL's exchange of credentials, against a stub of what the package publishes.

The stub has the names of ``vessl`` 0.1.199: ``vessl.storage.volume_federate`` and the attributes of
its answer. No live account was tried.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base.errors import PublishError, SpecError
from wmtp_assets.base.settings import PYTHON_VARIABLE, Settings
from wmtp_assets.destinations import in_parts, vessl
from wmtp_assets.destinations.destination import Access, open_destination, parse_url
from wmtp_assets.destinations.listing import MANIFEST
from wmtp_assets.destinations.vessl import Volume, ask, connect
from wmtp_assets.documents.of_storage.migration import COMMANDS, VESSL
from wmtp_assets.operations.publish import publish
from wmtp_assets.operations.pull import read_listing
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.cli.conftest import run_wmtp
from wmtp_assets_tests.destinations.conftest import client_of
from wmtp_assets_tests.destinations.front import Answer, Front, Request
from wmtp_assets_tests.destinations.trees import CATALOGUE
from wmtp_assets_tests.quick import quick
from wmtp_assets_tests.trees import link_tree

LOCATION = parse_url("vessl://my-storage/my-volume/tree")

STUB = """
import datetime, os, types
print("noise on standard output")
calls = {calls!r}
def volume_federate(storage_name, volume_name, federation_type, **kwargs):
    with open(calls, "a") as file:
        organization = kwargs.get("organization_name", "")
        said = f"{{storage_name}} {{volume_name}} {{federation_type}} {{organization}}"
        file.write(said.rstrip() + "\\n")
    number = len(open(calls).readlines())
    {action}
    now = datetime.datetime.now(datetime.timezone.utc)
    lives = {lives}[min(number, len({lives})) - 1]
    token = types.SimpleNamespace(
        access_key_id="ASIAPLANTED", secret_access_key="planted/secret",
        session_token=f"planted-token-{{number}}",
        expiration={expiration})
    return types.SimpleNamespace(
        type="s3", s3_token=token, gcs_token=None, bucket_name={bucket!r}, path="volumes/v1",
        region={region!r}, endpoint={endpoint!r}, force_path_style=True)
"""

Stub = Callable[..., Path]


@pytest.fixture
def stub(front: Front, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """An interpreter that has a package ``vessl``; the file that says how it was called."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    def make(action: str = "pass", lives: tuple[int | None, ...] = (3600,), **changes: Any) -> Path:
        package = tmp_path / "site/vessl/storage"
        package.mkdir(parents=True, exist_ok=True)
        (package.parent / "__init__.py").write_text("")
        calls = tmp_path / "calls"
        expires = "lives and now + datetime.timedelta(seconds=lives)"
        fields = {"bucket": bucket, "endpoint": front.url, "region": "us-east-1"}
        fields |= {"expiration": expires, **changes}
        text = STUB.format(calls=str(calls), action=action, lives=lives, **fields)
        (package / "__init__.py").write_text(text)
        python = tmp_path / "python"
        python.write_text(
            f'#!/bin/sh\nshift\nPYTHONPATH={tmp_path}/site exec {sys.executable} -P "$@"\n'
        )
        python.chmod(0o755)
        monkeypatch.setenv(PYTHON_VARIABLE, str(python))
        return calls

    return make


def test_volume_is_published_to(
    tree_store: Store, stub: Stub, front: Front, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the volume's own prefix, with its token and no other credentials; reading asks for the
    right to read only."""
    calls = stub()
    front.soundly()
    destination = open_destination(tree_store, str(LOCATION))
    assert destination.name == "vessl://my-storage/my-volume/tree"
    publish(tree_store, None, destination)
    assert all(r.headers["x-amz-security-token"] == "planted-token-1" for r in front.requests)
    assert calls.read_text() == "my-storage my-volume write\n"
    read_listing(open_destination(tree_store, str(LOCATION), Access(is_read=True)))
    assert calls.read_text().splitlines()[1:] == ["my-storage my-volume read"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    client_of(front.url).head_object(Bucket=bucket, Key=f"volumes/v1/tree/{MANIFEST}")
    left = [path.read_bytes() for path in tree_store.internal.rglob("*") if path.is_file()]
    assert not any(b"planted" in data for data in left)


@pytest.mark.parametrize(
    "command",
    sorted({it for row in COMMANDS.values() for it in row if it.startswith("wmtp publish ")}),
)
def test_what_replaces_the_upload_script_works(
    good_root: Path, tmp_path: Path, stub: Stub, command: str
) -> None:
    """What the migration notes say to type instead, in each form of the script: one dataset, with
    its small split only where that was asked for."""
    stub()
    root = tmp_path / "storage"
    small = "datasets_local_small/humaneval_small"
    for folder in (small, "datasets_v2/humaneval", "models_v2/meta-llama-mtp/tokenizer"):
        link_tree(good_root / folder, root / folder)
    done = run_wmtp(root, *command.split()[1:])
    assert done.returncode == 0, done.stderr
    if "--dry-run" in command:
        assert " 0 B to send" not in done.stdout
        assert f"{VESSL}: " in done.stdout
        assert run_wmtp(root, "pull", "humaneval_raw", "--from", VESSL).returncode != 0
    else:
        listing = read_listing(open_destination(store_of(root), VESSL, Access(is_read=True)))
        assert "humaneval_processed" in listing.artifacts
        assert ("humaneval_small" in listing.artifacts) == ("--include-local-small" in command)


def store_of(root: Path) -> Store:
    return Store(Settings("sample", root), CATALOGUE)


@pytest.mark.long
def test_credentials_are_renewed_before_they_expire(
    tree_store: Store, stub: Stub, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an upload: the server never sees one that has expired."""
    monkeypatch.setattr(in_parts, "PARTS", 1)
    calls = stub(lives=(2, 3600))
    destination = connect(tree_store, LOCATION, part_size=300_000)
    expires = time.monotonic() + 2

    def slowly(request: Request) -> Answer | None:
        if request.operation == "UploadPart":
            time.sleep(0.3)
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
        late = signed.replace(tzinfo=UTC).timestamp() - time.time() + time.monotonic() > expires
        is_expired = late and request.headers["x-amz-security-token"] == "planted-token-1"
        return Answer.refusal(400, "ExpiredToken") if is_expired else None

    front.soundly()
    front.before = slowly
    publish(tree_store, None, destination)
    tokens = [request.headers["x-amz-security-token"] for request in front.requests]
    assert tokens[-1] == "planted-token-2"
    assert {*tokens} == {"planted-token-1", "planted-token-2"}
    assert len(calls.read_text().splitlines()) == 2


def test_credentials_are_renewed_a_quarter_of_an_hour_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked for from then on, while the old ones do; waited for ten minutes before they expire."""
    begin = datetime.now(UTC)
    answers: list[Volume | PublishError] = []

    def renew() -> Volume:
        if isinstance(answer := answers.pop(), PublishError):
            raise answer
        return answer

    def lives(token: str, minutes: int) -> Volume:
        return volume(token=token, expiry_time=(begin + timedelta(minutes=minutes)).isoformat())

    credentials = vessl._credentials(lives("first", 120), renew)

    def token_after(minutes: int) -> str:
        credentials._time_fetcher = lambda: begin + timedelta(minutes=minutes)
        return credentials.get_frozen_credentials().token

    assert token_after(104) == "first"  # nobody asks
    answers.append(PublishError("VESSL is away"))
    assert token_after(106) == "first"  # somebody asks in vain
    assert answers == []
    answers.append(PublishError("VESSL is away"))
    with pytest.raises(PublishError, match="VESSL is away"):
        token_after(111)
    answers.append(lives("second", 240))
    assert token_after(106) == "second"
    assert token_after(224) == "second"


def test_place_of_a_volume(
    tree_store: Store, stub: Stub, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Region, endpoint and addressing are VESSL's to say; where it says none, those of the
    package."""
    config = tmp_path / "config"
    config.write_text("[default]\nregion = eu-west-1\ns3 =\n  addressing_style = virtual\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    for region, expected in (("eu-north-1", "eu-north-1"), (None, "ap-northeast-2")):
        stub(region=region, endpoint=None)
        meta = connect(tree_store, LOCATION)._client.meta
        assert meta.region_name == expected
        assert meta.endpoint_url == f"https://s3.{expected}.amazonaws.com"
        assert meta.config.s3["addressing_style"] == "path"


def test_organization(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable of the package, which it does not read itself."""
    calls = stub()
    monkeypatch.setenv("VESSL_DEFAULT_ORGANIZATION", "my-organization")
    ask(LOCATION)
    assert calls.read_text() == "my-storage my-volume write my-organization\n"


def test_what_the_package_prints_is_not_shown(
    stub: Stub, capfd: pytest.CaptureFixture[str]
) -> None:
    """It may quote a request."""
    stub("import sys; print('planted secret', file=sys.stderr)")
    ask(LOCATION)
    assert capfd.readouterr() == ("", "")


def test_time_without_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is UTC, wherever this machine is."""
    try:
        monkeypatch.setenv("TZ", "KST-9")
        time.tzset()
        found = volume(expiry_time="2030-01-01T00:00:00").expiry_time
        assert found == datetime(2030, 1, 1, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_credentials_that_do_not_expire(tree_store: Store, stub: Stub) -> None:
    """VESSL may say no time."""
    stub(lives=(None,))
    publish(tree_store, None, open_destination(tree_store, str(LOCATION)))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("raise RuntimeError('planted: Authorization: Token x')", "VESSL refuses (RuntimeError)"),
        ("return types.SimpleNamespace(type='gcs', s3_token=None)", "of the type gcs without S3"),
        ("os._exit(3)", "did not answer as vessl_helper.py does"),
        ("os.environ.clear(); import nowhere_to_be_found", "has no package vessl"),
    ],
)
def test_what_vessl_may_refuse(tree_store: Store, stub: Stub, action: str, message: str) -> None:
    """Said with what to do; what the package says itself may quote a request, and is not shown."""
    stub(action)
    with pytest.raises(PublishError) as error:
        open_destination(tree_store, str(LOCATION))
    assert message in str(error.value)
    assert "planted" not in str(error.value)


def test_answer_that_is_none(tree_store: Store, stub: Stub) -> None:
    """Another version of the package may answer otherwise; the secret in it is not shown."""
    stub(bucket="")
    with pytest.raises(PublishError, match=r"has no good bucket: String should have at least 1"):
        open_destination(tree_store, str(LOCATION))


def test_interpreter(tree_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is named; one that is not there; one without the package."""
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    with pytest.raises(SpecError, match=f"{PYTHON_VARIABLE} names no Python with the vessl"):
        open_destination(tree_store, str(LOCATION))
    monkeypatch.setenv(PYTHON_VARIABLE, "/nowhere/python")
    with pytest.raises(PublishError, match="cannot be run: No such file"):
        ask(LOCATION)
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    with pytest.raises(PublishError, match=r"has no package vessl\. It needs an environment of "):
        ask(LOCATION)


def test_plain_http_elsewhere_is_refused(tree_store: Store, stub: Stub) -> None:
    """Whatever endpoint VESSL names."""
    stub(endpoint="http://192.0.2.1")
    with pytest.raises(SpecError, match="plain http is only for loopback"):
        open_destination(tree_store, str(LOCATION))


def test_vessl_that_does_not_answer(
    tree_store: Store, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits forever."""
    stub("import time; time.sleep(5)")
    monkeypatch.setattr(vessl, "SECONDS", 0.5)
    with pytest.raises(PublishError, match="VESSL does not answer within"):
        open_destination(tree_store, str(LOCATION))


def test_vessl_that_answers_without_end(
    tree_store: Store, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is in the way, nobody's memory is filled; nor by what the package itself reads."""
    stub()
    python = Path(os.environ[PYTHON_VARIABLE])
    python.write_text("#!/bin/sh\nexec cat /dev/zero\n")
    monkeypatch.setattr(vessl, "SECONDS", 60)
    with pytest.raises(PublishError, match=r"VESSL does not answer .*more than 1\.0 MB"):
        open_destination(tree_store, str(LOCATION))
    stub("bytes(5 << 30)")
    with pytest.raises(PublishError, match="VESSL refuses \\(MemoryError\\)"):
        open_destination(tree_store, str(LOCATION))


@pytest.mark.parametrize("where", quick(["code", "list", "upload"], ["upload"]))
def test_server_that_echoes_the_token(
    tree_store: Store, stub: Stub, front: Front, tmp_path: Path, where: str
) -> None:
    """It knows what was sent to it. No variable and no file here has it: VESSL gave it."""
    stub()
    root = tree_store.root

    def echo(request: Request) -> Answer | None:
        token = request.headers.get("x-amz-security-token", "")
        if where == "code":
            return Answer.refusal(400, token)
        if where == "list" and request.operation == "ListObjects":
            key = f"volumes/v1/tree/docs/{token}"
            body = f"<Contents><Key>{key}</Key><Size>5</Size></Contents>"
            return Answer(200, {}, f"<ListBucketResult>{body}</ListBucketResult>".encode())
        if where == "upload" and request.operation == "CreateMultipartUpload":
            body = f"<InitiateMultipartUploadResult><UploadId>{token}</UploadId>"
            return Answer(200, {}, f"{body}</InitiateMultipartUploadResult>".encode())
        return None

    front.soundly()
    front.before = echo
    options = ("--dry-run", "--json") if where == "list" else ()
    done = run_wmtp(root, "publish", "--to", str(LOCATION), *options)
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1), said
    left = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert "planted-token" not in said
    assert not any(b"planted-token" in data for data in left)
    if where == "code":
        assert "[hidden]" in said
    if where == "upload":
        assert "names the upload of" in said
        assert "Do not trust this server" in said


def volume(**changes: Any) -> Volume:
    """An answer; it has expired."""
    fields = {"bucket": "bucket-x", "path": "", "region": None, "endpoint": None}
    secrets = {"access_key": "planted", "secret_key": "planted", "token": "planted"}
    rest = {"path_style": False, "expiry_time": "2020-01-01T00:00:00"}
    return Volume.model_validate({**fields, **secrets, **rest, **changes})


def test_volume_that_moves() -> None:
    """Parts of one upload would go to two buckets."""
    credentials = vessl._credentials(volume(), lambda: volume(bucket="bucket-y"))
    with pytest.raises(PublishError, match="the volume is elsewhere; run again"):
        credentials.get_frozen_credentials()


@pytest.mark.parametrize("time_", [None, "2020-01-01T00:00:00"])
def test_renewed_credentials_that_have_expired(time_: str | None) -> None:
    """Said by us, not by a library's error of another kind."""
    credentials = vessl._credentials(volume(), lambda: volume(expiry_time=time_))
    with pytest.raises(PublishError, match="VESSL gives credentials that have expired, or says no"):
        credentials.get_frozen_credentials()


def test_interpreter_that_is_named_no_more() -> None:
    """While something is sent."""

    def renew() -> Volume:
        raise SpecError("names no Python")

    with pytest.raises(PublishError, match="cannot be renewed: names no Python"):
        vessl._credentials(volume(), renew).get_frozen_credentials()


def test_time_that_is_none(tree_store: Store, stub: Stub) -> None:
    """Nor are secrets shown where an answer is."""
    stub(expiration="types.SimpleNamespace(isoformat=lambda: 'soon')")
    with pytest.raises(PublishError, match="has no good expiry_time: Input should be a valid date"):
        open_destination(tree_store, str(LOCATION))
    assert "planted" not in repr(volume())


REAL = os.environ.get(PYTHON_VARIABLE, "")


@pytest.mark.skipif(not REAL, reason=f"{PYTHON_VARIABLE} names no Python with the vessl package")
def test_the_real_package_against_a_stub_of_its_api(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package itself, with the API on loopback: what it sends, and what it makes of the
    answer."""
    asked: list[tuple[str, str, str]] = []
    answer = {
        "type": "s3",
        "bucket_name": "bucket-x",
        "path": "volumes/v1",
        "region": "us-east-1",
        "endpoint": front.url,
        "force_path_style": True,
        "s3_token": {
            "access_key_id": "ASIAPLANTED",
            "secret_access_key": "planted/secret",
            "session_token": "planted-token",
            "expiration": "2099-01-01T00:00:00Z",
        },
    }

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is logged."""

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            asked.append((self.command, self.path, body))
            document = answer if self.path.endswith("/federate") else {"name": "my-organization"}
            data = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VESSL_ACCESS_TOKEN", "planted")
    monkeypatch.setenv("VESSL_DEFAULT_ORGANIZATION", "my-organization")
    monkeypatch.chdir(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("VESSL_API_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv(PYTHON_VARIABLE, REAL)
        volume = ask(LOCATION)
        server.shutdown()
    assert volume.place() == ("bucket-x", "volumes/v1", front.url)
    assert volume.metadata()["expiry_time"] == "2099-01-01T00:00:00+00:00"
    method, path, body = asked[-1]
    volumes = "/api/v1/organizations/my-organization/storages/my-storage/volumes"
    assert (method, path) == ("POST", f"{volumes}/my-volume/federate")
    assert json.loads(body) == {"federation_type": "write"}
