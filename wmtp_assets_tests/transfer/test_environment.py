"""Company networks: proxies, certificates and tokens that the environment names. Each has a message
that names the variable, and never its value."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from wmtp_assets.base.errors import DownloadError, WmtpError
from wmtp_assets.base.settings import Settings
from wmtp_assets.components import alerts
from wmtp_assets.hub import client
from wmtp_assets.hub.endpoint import Endpoint, open_endpoint
from wmtp_assets.hub.remote import head_of
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.doctor.examine import _token
from wmtp_assets.transfer.answers import BoundedClient

HUB = Settings("hub", Path("/nowhere"))
SPEC = load_catalogue()["humaneval_raw"].spec
PASSWORD = "pass-word-of-somebody"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_PROXY")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that names none of these."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nobody"))


def ask() -> str:
    """What is said when the hub is asked for a repository."""
    with pytest.raises(WmtpError) as caught, open_endpoint(HUB, SPEC.repository) as endpoint:
        head_of(endpoint, SPEC)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALL_PROXY", f"socks5://me:{PASSWORD}@127.0.0.1:1", "socksio: pip install socksio"),
        ("all_proxy", "socks5h://127.0.0.1:1", "socksio: pip install socksio"),
        ("HTTPS_PROXY", "socks4://127.0.0.1:1", "not the address of a proxy that can be used"),
        ("HTTPS_PROXY", f"http://me:{PASSWORD}@proxy:port", "write it as http://HOST:PORT"),
        ("HTTPS_PROXY", "http://[::1", "write it as http://HOST:PORT"),
        ("SSL_CERT_FILE", "/no/such/file.pem", "certificates cannot be read there"),
        ("SSL_CERT_FILE", __file__, "certificates cannot be read there"),
    ],
)
def test_variable_that_no_client_can_use(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """The library's own errors are of types that nobody expects, or name an extra of another
    package: a traceback for whoever sits behind ``ssh -D``."""
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.invalid")
    monkeypatch.setenv(name, value)
    text = ask()
    assert said in text
    assert name.upper() in text
    assert PASSWORD not in text
    posted = alerts._post("https://hooks.invalid/secret", {})
    assert name.upper() in posted
    assert PASSWORD not in posted
    assert "hooks.invalid" not in posted


def test_other_errors_are_not_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files is no matter of certificates."""

    def fail(*args: object, **options: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("httpx2.Client.__init__", fail)
    with pytest.raises(OSError, match="Too many open files"):
        BoundedClient()


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def company(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A hub whose certificate is of an authority of its own; its URL and the authority's file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "company")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "company.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = tmp_path / "key.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}", pem
    server.shutdown()
    server.server_close()


def test_own_certificate_authority(
    monkeypatch: pytest.MonkeyPatch, company: tuple[str, Path]
) -> None:
    """REQUESTS_CA_BUNDLE, which people have set, is not read: the message names what is."""
    url, authority = company
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    refused = ask()
    assert "set SSL_CERT_FILE to the file with the company's certificates" in refused
    assert "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE are not read" in refused
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert "does not exist at" in ask(), "the hub was asked, and answered"


@pytest.mark.parametrize(
    ("token", "character"),
    [
        ("hf_abcdefgh\u200bijklmnop", "U+200B (ZERO WIDTH SPACE)"),
        ("\u201chf_abcdefghijklmnop\u201d", "U+201C (LEFT DOUBLE QUOTATION MARK)"),
        ("hf_abcdefgh\u00a0ijklmnop", "U+00A0 (NO-BREAK SPACE)"),
        ("hf_abcdefgh ijklmnop", "U+0020 (SPACE)"),
        ("hf_abcdefgh\tijklmnop", "U+0009 (no name)"),
        ("hf_abcdefgh\u0430ijklmnop", "U+0430 (CYRILLIC SMALL LETTER A)"),
    ],
)
def test_token_with_an_odd_character(
    monkeypatch: pytest.MonkeyPatch, token: str, character: str
) -> None:
    """Pasted from a chat or a page: the message says that it is not a token, and shows no piece of
    it; the client's own would say that the hub does not answer as one."""
    monkeypatch.setenv("HF_TOKEN", token)
    endpoint = Endpoint("https://hub.invalid", "huggingface", is_trusted=True)
    with (
        pytest.raises(DownloadError) as caught,
        client.explained(endpoint, SPEC.repository, "main"),
    ):
        pytest.fail("nothing is asked")
    condition = _token(endpoint, [])
    assert condition.state == "error"
    for text in (str(caught.value), condition.says):
        assert f"HF_TOKEN is not a token: it holds the character {character}" in text
        assert "abcdefgh" not in text
        assert "ijklmnop" not in text
    assert str(caught.value).startswith(f"{SPEC.repository.id}: ")


def test_token_is_not_looked_at_where_it_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror gets none, and works all the same."""
    monkeypatch.setenv("HF_TOKEN", "hf_\u200b")
    assert Endpoint("https://mirror.invalid", "mirror").token() is False
