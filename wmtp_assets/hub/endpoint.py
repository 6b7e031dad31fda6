"""Which hub the bytes come from: the sample hub, the Hugging Face Hub, or a mirror of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal
from unicodedata import name as name_of
from urllib.parse import urlsplit

from wmtp_assets.base.errors import DownloadError, SpecError
from wmtp_assets.base.loopback import is_loopback
from wmtp_assets.base.progress import Say
from wmtp_assets.base.settings import (
    ENDPOINT_VARIABLE,
    TOKEN_VARIABLES,
    TRUST_VARIABLE,
    Settings,
)
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.catalogue.specs import Repository
from wmtp_assets.hub.folder import open_folder

if TYPE_CHECKING:
    from wmtp_assets.hub.client import Request

OFFICIAL = "https://huggingface.co"

TOKENS_PAGE = f"{OFFICIAL}/settings/tokens"

WRITE_TIMEOUT = 120.0
"""Seconds without a byte of an answer, where the hub may have a commit to make."""


@dataclass(frozen=True)
class Endpoint:
    """Where the hub's API is.

    Attributes:
        url: without a trailing slash; of a folder on this machine, its path.
        kind: goes into manifests; the URL of a sample hub or a mirror does not.
        is_trusted: whether the user's token may be sent there.
    """

    url: str
    kind: Literal["sample", "huggingface", "mirror", "folder"]
    is_trusted: bool = False

    def token(self) -> str | Literal[False]:
        """The user's token for a trusted endpoint, none (``False``) for any other.

        Raises:
            DownloadError: if it holds a character that no header can.
        """
        from wmtp_assets.hub.client import get_token

        token = (self.is_trusted and get_token()) or ""
        odd = next((letter for letter in token if not "!" <= letter <= "~"), "")
        if odd:
            raise DownloadError(
                f"{self.token_name} is not a token: it holds the character U+{ord(odd):04X} "
                f"({name_of(odd, 'no name')}), which no token has and pasted text may. Copy the "
                f"token again from {TOKENS_PAGE}"
            )
        return token or False

    @property
    def token_name(self) -> str:
        """Where the token comes from, for people."""
        login = "the login of huggingface_hub (hf auth login)"
        return next((name for name in TOKEN_VARIABLES if name.read()), login)

    def why_no_token(self) -> str:
        """Why none is sent, for people."""
        if self.is_trusted:
            return "HF_TOKEN is not set, and nobody is logged in (hf auth login)"
        return f"{self.url} is not trusted with one; to send it there: {TRUST_VARIABLE}={self.url}"


def hub_endpoint(environment: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint that ``HF_ENDPOINT`` names, by default the official one.

    Raises:
        SpecError: if it is not an https URL; plain http is allowed on loopback only.
    """
    url = (ENDPOINT_VARIABLE.read(environment) or OFFICIAL).rstrip("/")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or parts.scheme not in ("http", "https"):
        raise SpecError(f"HF_ENDPOINT={url!r} is not a URL such as {OFFICIAL}")
    if parts.username or parts.password:
        raise SpecError("HF_ENDPOINT must not hold a user name or password; use HF_TOKEN")
    if parts.scheme == "http" and not is_loopback(host):
        raise SpecError(
            f"HF_ENDPOINT={url!r}: plain http is only for loopback; use https, so that nobody on "
            "the way can read or change what is downloaded"
        )
    trusted = (OFFICIAL, TRUST_VARIABLE.read(environment).rstrip("/"))
    return Endpoint(url, "huggingface" if url == OFFICIAL else "mirror", url in trusted)


@contextmanager
def open_endpoint(
    settings: Settings, repository: Repository, say: Say | None = None
) -> Iterator[Endpoint]:
    """The endpoint for ``repository``; for the sample, a server that runs until the end.

    A folder is the same for both sources. The sample repository is made first, below
    ``<root>/.wmtp/hub``, unless it is there.

    Args:
        say: told where a hub asks for a longer rest than it gets; None: Python's log.
    """
    from wmtp_assets.hub.client import careful_connections, direct_connections

    if repository.is_folder:
        yield Endpoint(str(open_folder(settings, repository)), "folder")
        return
    if settings.source == "hub":
        with careful_connections(_refuse_plain_http, say=say):
            yield hub_endpoint()
        return
    # By name: the sample imitates what this room talks to, and no code here depends on it.
    repositories = import_module("wmtp_assets.sample.repositories")
    server = import_module("wmtp_assets.sample.server")
    wanted = [
        r
        for r in repositories.all_repositories()
        if (r.repo_type, r.repo_id) == (repository.type, repository.id)
    ]
    if not wanted:
        raise SpecError(
            f"the sample hub has no {repository.type} {repository.id}; it has "
            + ", ".join(r.repo_id for r in repositories.all_repositories())
            + ". Use WMTP_SOURCE=hub for others"
        )
    folder = settings.root / INTERNAL / "hub"
    repositories.build_repositories(folder, wanted)
    with server.serve(folder) as url, direct_connections():
        yield Endpoint(url, "sample")


def careful() -> AbstractContextManager[None]:
    """The client refuses plain http beyond loopback, and does not wait forever for an answer."""
    from wmtp_assets.hub.client import careful_connections

    return careful_connections(_refuse_plain_http, WRITE_TIMEOUT)


def _refuse_plain_http(request: Request) -> None:
    if request.url.scheme != "https" and not is_loopback(request.url.host):
        raise DownloadError(
            f"the hub redirects to {request.url.scheme}://{request.url.host}, which is not https. "
            "Do not trust this endpoint"
        )
