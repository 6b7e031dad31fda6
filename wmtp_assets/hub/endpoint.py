"""Which hub the bytes come from: the sample hub, the Hugging Face Hub, or a mirror of it."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from wmtp_assets.base.errors import DownloadError, SpecError
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.catalogue.specs import Repository

if TYPE_CHECKING:
    import httpx2

OFFICIAL = "https://huggingface.co"
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
TRUST_VARIABLE = "WMTP_TRUSTED_ENDPOINT"
"""Names a mirror that may be sent the token."""

CLIENT_TIMEOUT = 30.0
"""Seconds without a byte from the hub, where the client names no other time."""


@dataclass(frozen=True)
class Endpoint:
    """Where the hub's API is.

    Attributes:
        url: without a trailing slash.
        kind: goes into manifests; the URL of a sample hub or a mirror does not.
        is_trusted: whether the user's token may be sent there.
    """

    url: str
    kind: Literal["sample", "huggingface", "mirror"]
    is_trusted: bool = False

    def token(self) -> str | Literal[False]:
        """The user's token for a trusted endpoint, none (``False``) for any other."""
        if not self.is_trusted:
            return False
        from huggingface_hub import get_token

        return get_token() or False

    @property
    def token_name(self) -> str:
        """Where the token comes from, for people."""
        names = [name for name in TOKEN_VARIABLES if os.environ.get(name)]
        return names[0] if names else "the login of huggingface_hub (hf auth login)"

    def why_no_token(self) -> str:
        """Why none is sent, for people."""
        if self.is_trusted:
            return "HF_TOKEN is not set, and nobody is logged in (hf auth login)"
        return f"{self.url} is not trusted with one; to send it there: {TRUST_VARIABLE}={self.url}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def hub_endpoint(environment: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint that ``HF_ENDPOINT`` names, by default the official one.

    Raises:
        SpecError: if it is no https URL; plain http is allowed on loopback only.
    """
    url = (environment.get("HF_ENDPOINT") or OFFICIAL).rstrip("/")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or parts.scheme not in ("http", "https"):
        raise SpecError(f"HF_ENDPOINT={url!r} is not a URL such as {OFFICIAL}")
    if parts.username or parts.password:
        raise SpecError("HF_ENDPOINT must not hold a user name or password; use HF_TOKEN")
    if parts.scheme == "http" and not _is_loopback(host):
        raise SpecError(
            f"HF_ENDPOINT={url!r}: plain http is only for loopback; use https, so that nobody on "
            "the way can read or change what is downloaded"
        )
    if url == OFFICIAL:
        return Endpoint(url, "huggingface", is_trusted=True)
    trusted = (environment.get(TRUST_VARIABLE) or "").rstrip("/")
    return Endpoint(url, "mirror", is_trusted=url == trusted)


@contextmanager
def open_endpoint(settings: Settings, repository: Repository) -> Iterator[Endpoint]:
    """The endpoint for ``repository``; for the sample, a server that runs until the end.

    The sample repository is made first, below ``<root>/.wmtp/hub``, unless it is there.
    """
    if settings.source == "hub":
        with _careful_connections():
            yield hub_endpoint()
        return
    from wmtp_assets.sample.repositories import REPOSITORIES, build_repositories
    from wmtp_assets.sample.server import serve

    wanted = [
        r for r in REPOSITORIES if (r.repo_type, r.repo_id) == (repository.type, repository.id)
    ]
    if not wanted:
        raise SpecError(
            f"the sample hub has no {repository.type} {repository.id}; it has "
            + ", ".join(r.repo_id for r in REPOSITORIES)
            + ". Use WMTP_SOURCE=hub for others"
        )
    folder = settings.root / INTERNAL / "hub"
    build_repositories(folder, wanted)
    with serve(folder) as url, _direct_connections():
        yield Endpoint(url, "sample")


@contextmanager
def _careful_connections() -> Iterator[None]:
    """The hub client follows no redirect to plain http meanwhile, and does not wait for ever."""
    import httpx2
    from huggingface_hub.utils._http import default_client_factory

    def make() -> httpx2.Client:
        client = default_client_factory()
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "request": [*hooks["request"], _refuse_plain_http]}
        client.timeout = httpx2.Timeout(CLIENT_TIMEOUT)
        return client

    with _clients(make):
        yield


def _refuse_plain_http(request: httpx2.Request) -> None:
    if request.url.scheme != "https" and not _is_loopback(request.url.host):
        raise DownloadError(
            f"the hub redirects to {request.url.scheme}://{request.url.host}, which is not https. "
            "Do not trust this endpoint"
        )


@contextmanager
def _direct_connections() -> Iterator[None]:
    """The hub client connects directly meanwhile: no proxy and no HF_HUB_OFFLINE is in the way."""
    import httpx2

    with _clients(lambda: httpx2.Client(follow_redirects=True, timeout=None, trust_env=False)):
        yield


@contextmanager
def _clients(make: Callable[[], httpx2.Client]) -> Iterator[None]:
    """Clients are made so meanwhile, and ask nothing of their own (which agent runs this)."""
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils._http import default_client_factory  # to restore; has no other name

    before = constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_TELEMETRY = True
    set_client_factory(make)
    try:
        yield
    finally:
        set_client_factory(default_client_factory)
        constants.HF_HUB_DISABLE_TELEMETRY = before
