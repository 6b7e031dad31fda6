"""The hub's client: all that this room uses of ``huggingface_hub`` and ``httpx2``.

Import it inside functions only: it takes longer to load than most commands to run. Some of what is
used is undocumented and may change with any release of ``huggingface_hub``, so its version has an
upper bound; ``wmtp_assets_tests/hub/test_client.py`` lists it, and says what broke.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO, cast

from httpx2 import (
    Client,
    ConnectError,
    HTTPError,
    ProxyError,
    Request,
    Timeout,
    TimeoutException,
)
from huggingface_hub import (
    HfApi,
    constants,
    get_token,
    hf_hub_url,
    is_offline_mode,
    set_client_factory,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, tqdm
from huggingface_hub.utils._http import default_client_factory

__all__ = [
    "ConnectError",
    "EntryNotFoundError",
    "GatedRepoError",
    "HTTPError",
    "HfApi",
    "HfHubHTTPError",
    "OfflineModeIsEnabled",
    "ProxyError",
    "RepoSibling",
    "RepositoryNotFoundError",
    "Request",
    "RevisionNotFoundError",
    "TimeoutException",
    "careful_connections",
    "direct_connections",
    "download",
    "get_token",
    "is_offline_mode",
    "status_of",
]

CHUNK = 1 << 16
"""Bytes that are written at a time; of a cut connection so many at most are fetched again. The
client's own 10 MiB would make no progress on a line that is cut before."""

CLIENT_TIMEOUT = 30.0
"""Seconds without a byte from the hub, where the client names no other time."""


class _SilentBar(tqdm):
    """Shows nothing: progress is said in our own lines."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})


def status_of(error: HfHubHTTPError) -> int:
    """The HTTP status of the answer; 0: there was none."""
    return error.response.status_code if error.response is not None else 0


def download(
    endpoint: str,
    token: str | bool,
    repository: tuple[str, str],
    revision: str,
    path: str,
    target: Any,
    size: int,
) -> None:
    """Write what is missing of a file, from ``target.tell()`` on.

    Args:
        repository: its type and id.
        target: has ``write``, ``tell``, and for a server that ignores ranges ``seek`` and
            ``truncate``.
        size: of the whole file, in bytes.

    Raises:
        HfHubHTTPError: if the hub refuses.
        HTTPError, OSError, RecursionError: if the connection is lost, and lost again; an OSError
            without an errno if less came than announced.
    """
    kind, name = repository
    url = hf_hub_url(name, path, repo_type=kind, revision=revision, endpoint=endpoint)
    with _constants(DOWNLOAD_CHUNK_SIZE=CHUNK):
        http_get(
            url,
            cast("BinaryIO", target),
            resume_size=target.tell(),
            headers=build_hf_headers(token=token),
            expected_size=size,
            displayed_filename=path,
            tqdm_class=_SilentBar,
        )


def careful_connections(check: Callable[[Request], None]) -> AbstractContextManager[None]:
    """The client shows each request to ``check`` first, and does not wait forever."""

    def make() -> Client:
        client = default_client_factory()
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "request": [*hooks["request"], check]}
        client.timeout = Timeout(CLIENT_TIMEOUT)
        return client

    return _clients(make)


def direct_connections() -> AbstractContextManager[None]:
    """The client connects directly: neither a proxy nor HF_HUB_OFFLINE is in the way."""
    return _clients(lambda: Client(follow_redirects=True, timeout=None, trust_env=False))


@contextmanager
def _clients(make: Callable[[], Client]) -> Iterator[None]:
    """Clients are made by ``make``, and ask nothing of their own (which agent runs this)."""
    with _constants(HF_HUB_DISABLE_TELEMETRY=True):
        set_client_factory(make)
        try:
            yield
        finally:
            set_client_factory(default_client_factory)


@contextmanager
def _constants(**values: object) -> Iterator[None]:
    """The library's constants have other values; it has no other way to say so."""
    before = {name: getattr(constants, name) for name in values}
    constants.__dict__.update(values)
    try:
        yield
    finally:
        constants.__dict__.update(before)
