"""No secret is left in a text, and no ordinary word is taken out of it."""

from __future__ import annotations

import io
import json
import logging
import pickle
from pathlib import Path
from urllib.parse import quote

import pytest

from wmtp_assets.base.errors import BadLine, DownloadError
from wmtp_assets.base.secrets import (
    HIDDEN,
    has_secret,
    keep_out_of_logs,
    known_secrets,
    passwords_of,
    redact,
    redact_serialized,
)

KNOWN = 'planted/secret+value="quoted"'
HF = "hf_" + "aB3" * 11
AWS = "AKIA" + "Q7" * 8
SIGNATURE = "5f" * 32


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without files of tokens."""
    for name in ("HF_HOME", "HF_TOKEN", "HF_TOKEN_PATH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "VESSL_ACCESS_TOKEN",
        "AZURE_STORAGE_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_CLIENT_SECRET",
        "WMTP_WEBHOOK_URL",
    ],
)
def test_value_that_is_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its form, and however a server writes it back."""
    monkeypatch.setenv(name, KNOWN)
    for text in (KNOWN, json.dumps(KNOWN), quote(KNOWN, safe=""), f"x{KNOWN}y{KNOWN}"):
        clean = redact(text)
        assert "secret" not in clean
        assert HIDDEN in clean


def test_password_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries put the proxy's URL into their errors, and servers the password."""
    monkeypatch.setenv("https_proxy", "http://user:pass-w0rd@proxy.example:3128")
    assert redact("ProxyError: pass-w0rd") == f"ProxyError: {HIDDEN}"


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql://u:sekret99@h/d", "sekret99"),
        ("postgresql://u:s%40kret99@h/d", "s%40kret99"),
        ("postgresql://u:s%40kret99@h/d", "s@kret99"),
        ("postgresql://u:se/kret99@h/d", "se/kret99"),
        ("postgresql://u:se?kr#et@99@h/d", "se?kr#et@99"),
        ("postgresql://u:p[w-sekret@h/d", "p[w-sekret"),
        ("postgresql://me@corp:sekret99@h/d", "sekret99"),
        ("postgresql://u@h/d?sslmode=require&password=s%40kret99", "s@kret99"),
        ("postgresql:///d?sslpassword=sekret99", "sekret99"),
        ("host=db password='sekret 99' dbname=x", "sekret 99"),
        ("u:sekret99@proxy:3128", "sekret99"),
    ],
)
def test_password_of_a_url(url: str, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is in it and whatever is in it: as it is written, and as a server knows it."""
    assert password in passwords_of(url)
    assert has_secret(url)
    monkeypatch.setenv("WMTP_DATABASE_URL", url)
    assert redact(f"<{password}>") == f"<{HIDDEN}>"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "postgresql://wmtp@db.example.org:5432/wmtp?sslmode=require&passfile=/a/b",
        "postgresql://host:5432/a@b",
        "postgresql://u@[::1]:5432/d",
        "http://127.0.0.1:8080/a@b?x=1",
        "http://[::1]:8080/",
        "/shared/a:b@c",
        "hf://org/name@main",
        "s3://bucket/prefix?sslkey=/a",
    ],
)
def test_url_without_a_password(url: str) -> None:
    """A job that is not told its endpoint or its root does nothing."""
    assert passwords_of(url) == set()
    assert not has_secret(url)


def test_user_of_a_database_stays() -> None:
    """The remedy of an error is an address; only a password is taken out of it."""
    remedy = "Set WMTP_DATABASE_URL=postgresql://user@host:5432/name on every host"
    assert redact(remedy) == remedy
    for scheme in ("postgres", "postgresql", "postgresql+psycopg2"):
        clean = f"{scheme}://wmtp:{HIDDEN}@host/d"
        assert redact(f"{scheme}://wmtp:p/w@x:9@host/d") == clean == redact(clean)
        assert redact(f"{scheme}://:pw@h") == f"{scheme}://:{HIDDEN}@h"
    assert redact("https://user@host") == f"https://{HIDDEN}@host"


def test_password_that_is_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken out of texts, and not out of names and paths: a traceback stays readable."""
    monkeypatch.setenv("WMTP_DATABASE_URL", "postgresql://wmtp:dagster@h/d")
    for name in ("site-packages/dagster/_core", "dagster_postgres", "dagster.yaml", "x/dagster"):
        assert redact(name) == name
    assert redact("it says dagster.") == f"it says {HIDDEN}."
    assert redact("password='dagster'") == f"password='{HIDDEN}'"


def test_serialized_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets are taken out of texts, JSON in a text stays JSON, and what names things stays."""
    monkeypatch.setenv("HF_TOKEN", "message")

    def clean(document: object) -> object:
        return json.loads(redact_serialized(json.dumps(document)))

    named = {"__class__": "message", "message": 1, "step_key": "message", "tags": {"a": "message"}}
    assert clean(named) == named
    assert clean({"__enum__": "message"}) == {"__enum__": "message"}
    assert clean({"message": {"__class__": "Error", "message": ["a message"]}}) == {
        "message": {"__class__": "Error", "message": [f"a {HIDDEN}"]}
    }
    assert clean([json.dumps({"a": "message"})]) == [json.dumps({"a": HIDDEN})]
    assert clean([json.dumps({"__class__": "a", "name": HF, HF: 1})]) == [
        json.dumps({"__class__": "a", "name": HIDDEN, HIDDEN: 1})
    ]
    assert clean(f"line\n{HF}") == f"line\n{HIDDEN}"
    assert clean(f"\u2014{HF}") == f"\u2014{HIDDEN}"
    assert clean({"headers": {"Authorization": "Basic abcdef"}}) == {
        "headers": {"Authorization": HIDDEN}
    }
    unchanged = '{"a":  "b"}'
    assert redact_serialized(unchanged) is unchanged


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (".cache/huggingface/token", f"{KNOWN}\n"),
        (".cache/huggingface/stored_tokens", f"[me]\nhf_token = {KNOWN}\n"),
        (".aws/credentials", f"[default]\naws_secret_access_key = {KNOWN}\n"),
        (".vessl/config", f"[user]\naccess_token = {KNOWN}\n"),
        (
            ".config/gcloud/application_default_credentials.json",
            json.dumps({"refresh_token": KNOWN, "token_uri": "https://host/token", "n": 1}),
        ),
    ],
)
def test_file_that_a_library_reads(home: Path, file: str, content: str) -> None:
    """Also one that was written after the first text was looked at."""
    assert redact(KNOWN) == KNOWN
    path = home / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert redact(f"<{KNOWN}>") == f"<{HIDDEN}>"


def test_files_that_cannot_be_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error about a secret must not hide the one that is being told."""
    (home / ".cache/huggingface/token").mkdir(parents=True)
    (home / ".aws").mkdir()
    (home / ".aws/credentials").write_bytes(b"\xff\x00" * 9)
    monkeypatch.setenv("HF_TOKEN_PATH", "x" * 5000)
    assert redact("text") == "text"
    monkeypatch.delenv("HOME")
    assert redact("text") == "text"


def test_short_values_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token ``a`` would take every a out of every message."""
    monkeypatch.setenv("HF_TOKEN", "a")
    assert known_secrets() == ()
    assert redact("a token") == "a token"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"401 for {HF} at the hub", HF),
        (f"key {AWS}.", AWS),
        (f"Authorization: Bearer {SIGNATURE}", SIGNATURE),
        (f"{{'authorization': 'Basic {SIGNATURE}'}}", SIGNATURE),
        (json.dumps({"Authorization": f"Token {SIGNATURE}"}), SIGNATURE),
        (json.dumps(json.dumps({"Authorization": SIGNATURE})), SIGNATURE),
        (f"Proxy-Authorization: {SIGNATURE}", SIGNATURE),
        (f"X-Amz-Security-Token: {SIGNATURE}", SIGNATURE),
        (f"Set-Cookie: {SIGNATURE}; Path=/", SIGNATURE),
        (f"sent bearer {SIGNATURE}", SIGNATURE),
        (f"AWS4-HMAC-SHA256 Credential=x/y, SignedHeaders=h, Signature={SIGNATURE}", SIGNATURE),
        (f"https://user:{SIGNATURE}@host/path", SIGNATURE),
        (f"https://{SIGNATURE}@host/path", SIGNATURE),
        (f"socks5h://me:{SIGNATURE}@host", SIGNATURE),
        (f"https://host/x?a=1&X-Amz-Signature={SIGNATURE}&b=2", SIGNATURE),
        (f"https://host/x?X-Amz-Credential={SIGNATURE}", SIGNATURE),
        (f"https://host/x?Policy=p&amp;Signature={SIGNATURE}&amp;b", SIGNATURE),
        (f"next=https%3A%2F%2Fhost%3Ftoken%3D{SIGNATURE}", SIGNATURE),
        (f"https://host/x?sv=1&sig={SIGNATURE}", SIGNATURE),
        (f"aws_secret_access_key = {SIGNATURE}", SIGNATURE),
        (f"token ya29.{SIGNATURE}", SIGNATURE),
        (f"AccountName=a;AccountKey={SIGNATURE}==;BlobEndpoint=b", SIGNATURE),
        (f"SharedAccessSignature=sv=1&sig={SIGNATURE}", SIGNATURE),
        (f"Authorization: SharedKey account:{SIGNATURE}", SIGNATURE),
        (f"-----BEGIN PRIVATE KEY-----\n{SIGNATURE}\n-----END PRIVATE KEY-----", SIGNATURE),
    ],
)
def test_form_of_a_secret(text: str, secret: str) -> None:
    """Also of somebody else's, which a server tells: nobody here knows it by its value."""
    assert secret not in redact(text)
    assert redact(json.dumps({"x": text})) != json.dumps({"x": text})
    json.loads(redact(json.dumps({"x": text})))  # what Dagster stores is still JSON


@pytest.mark.parametrize(
    "text",
    [
        "hf_hub_download, hf_hub_url and hf_transfer are functions",
        "https://huggingface.co/facebook/multi-token-prediction/resolve/main/params.json?download=1",
        "SHA-256 5f5f5f5f, token sequences and basic information",
        "the token in HF_TOKEN is wrong or expired. Set another in HF_TOKEN",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        "s3://bucket/prefix and file:///a/b@c and hf://org/name@main",
        "tokens_output=12 max_tokens=2048&x",
        "Authorization",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    """A message without its words helps nobody."""
    assert redact(text) == text


def test_every_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is raised, and after it came back from the child process."""
    monkeypatch.setenv("HF_TOKEN", KNOWN)
    for error in (DownloadError(f"the hub says {KNOWN}"), BadLine(Path("x"), 3, f"has {KNOWN}")):
        assert "planted" not in str(error)
        assert "planted" not in str(pickle.loads(pickle.dumps(error)))
        assert "planted" not in repr(error)


def test_every_log_of_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of arguments and tracebacks too; what was fine is as it was."""
    monkeypatch.setenv("HF_TOKEN", KNOWN)
    factory = logging.getLogRecordFactory()
    try:
        keep_out_of_logs()
        keep_out_of_logs()
        stream = io.StringIO()
        log = logging.Logger("library")
        log.addHandler(logging.StreamHandler(stream))
        log.warning("asking %s for %d", f"https://u:{KNOWN}@host", 3)
        log.warning({"not": "a text"})
        try:
            raise RuntimeError(f"server said {KNOWN}")
        except RuntimeError:
            log.exception("failed")
        log.warning("%s of %s", 1, 2)
    finally:
        logging.setLogRecordFactory(factory)
    said = stream.getvalue()
    assert "planted" not in said
    assert "RuntimeError: server said" in said
    assert "1 of 2" in said
