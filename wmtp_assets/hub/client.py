"""The hub's client: all that this room uses of ``huggingface_hub`` and ``httpx2``, and what their
errors mean. Each has one message, before anything large is transferred.

Import it inside functions only: it takes longer to load than most commands to run. Some of what is
used is undocumented and may change with any release of ``huggingface_hub``, so its version has an
upper bound; ``wmtp_assets_tests/hub/test_client.py`` lists it, and says what broke.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO, TypeVar, cast

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
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    close_session,
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
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    build_hf_headers,
    disable_progress_bars,
    enable_progress_bars,
    tqdm,
)
from huggingface_hub.utils._http import (
    default_client_factory,
    hf_raise_for_status,
    http_stream_backoff,
)

from wmtp_assets.base.errors import DownloadError
from wmtp_assets.base.progress import Say
from wmtp_assets.base.secrets import redact
from wmtp_assets.catalogue.specs import Repository
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.transfer.answers import BoundedClient, environment_explained, read_whole
from wmtp_assets.transfer.arrival import Patience

__all__ = [
    "NO_ANSWER",
    "CommitOperationAdd",
    "CommitOperationDelete",
    "HTTPError",
    "HfApi",
    "HfHubHTTPError",
    "RepoSibling",
    "careful_connections",
    "cause_of",
    "direct_connections",
    "download",
    "explain",
    "explained",
    "first_line",
    "get_token",
    "is_of_client",
    "is_offline_mode",
    "kind_of",
    "patiently",
    "quietly",
    "read_range",
    "read_stream",
    "status_of",
]

CHUNK = 1 << 16
"""Bytes that are written at a time; of a cut connection so many at most are fetched again. The
client's own 10 MiB would make no progress on a line that is cut before."""

T = TypeVar("T")

TOO_MANY_REQUESTS = 429
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416

RANGE_RETRIES = 1
"""Of a range whose server is busy or broken: it is only looked at, and the download will wait."""

RANGE_SECONDS = 600.0
"""Until a range is here whole: it has some MiB at most."""

NO_ANSWER = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What the client raises of an answer that is not JSON, or another one than the hub's."""

_VERIFY_FAILED = "CERTIFICATE_VERIFY_FAILED"
_UNTRUSTED = (
    "Its certificate is of an authority that is not known here. Behind a company's proxy, set "
    "SSL_CERT_FILE to the file with the company's certificates, in PEM; REQUESTS_CA_BUNDLE and "
    "CURL_CA_BUNDLE are not read"
)

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
    endpoint: Endpoint,
    repository: Repository,
    revision: str,
    path: str,
    target: Any,
    size: int,
) -> None:
    """Write what is missing of a file, from ``target.tell()`` on.

    Args:
        target: has ``write``, ``tell``, and for a server that ignores ranges ``seek`` and
            ``truncate``.
        size: of the whole file, in bytes.

    Raises:
        HfHubHTTPError: if the hub refuses.
        HTTPError, OSError, RecursionError: if the connection is lost, and lost again; an OSError
            without an errno if less came than announced.
    """
    kind, place = repository.type, endpoint.url
    url = hf_hub_url(repository.id, path, repo_type=kind, revision=revision, endpoint=place)
    with _constants(DOWNLOAD_CHUNK_SIZE=CHUNK):
        http_get(
            url,
            cast("BinaryIO", target),
            resume_size=target.tell(),
            headers=build_hf_headers(token=endpoint.token()),
            expected_size=size,
            displayed_filename=path,
            tqdm_class=_SilentBar,
        )


def read_range(
    endpoint: Endpoint,
    repository: Repository,
    revision: str,
    path: str,
    begin: int,
    end: int,
    size: int,
) -> bytes | None:
    """Bytes ``begin`` to ``end`` (exclusive) of a file of ``size`` bytes.

    Returns:
        None where the hub answers with something else than this range. Such an answer is not read.

    Raises:
        HfHubHTTPError: if the hub refuses.
        HTTPError, OSError: if the connection is lost.
    """
    url = hf_hub_url(
        repository.id, path, repo_type=repository.type, revision=revision, endpoint=endpoint.url
    )
    headers = {
        **build_hf_headers(token=endpoint.token()),
        "Range": f"bytes={begin}-{end - 1}",
        "Accept-Encoding": "identity",
    }
    end_time = time.monotonic() + RANGE_SECONDS
    with http_stream_backoff(
        "GET",
        url,
        headers=headers,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        max_retries=RANGE_RETRIES,
        retry_on_exceptions=(),
    ) as response:
        hf_raise_for_status(response)
        is_range = response.headers.get("Content-Range") == f"bytes {begin}-{end - 1}/{size}"
        if response.status_code != PARTIAL_CONTENT or not is_range:
            return None
        data = read_whole(response, end_time, end - begin)
    return data if len(data) == end - begin else None


def read_stream(
    endpoint: Endpoint, kind: str, name: str, revision: str, path: str, start: int, size: int
) -> Iterator[bytes]:
    """The bytes of a file from ``start`` on, at most ``size`` at a time.

    Raises:
        HfHubHTTPError: if the hub refuses.
        HTTPError, OSError: if the connection is lost.
    """
    url = hf_hub_url(name, path, repo_type=kind, revision=revision, endpoint=endpoint.url)
    headers = {**build_hf_headers(token=endpoint.token()), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with http_stream_backoff(
        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
    ) as response:
        if start and response.status_code == RANGE_NOT_SATISFIABLE:
            return  # it ends before
        hf_raise_for_status(response)
        is_range = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        surplus = 0 if is_range else start  # the range was ignored
        for block in response.iter_bytes(size):
            if surplus < len(block):
                yield block[surplus:]
            surplus = max(surplus - len(block), 0)


def careful_connections(
    check: Callable[[Request], None], timeout: float = CLIENT_TIMEOUT, say: Say | None = None
) -> AbstractContextManager[None]:
    """The client shows each request to ``check`` first, and does not wait forever.

    Args:
        timeout: seconds without a byte.
        say: told where the hub asks for a longer rest than it gets; None: Python's log.
    """

    def make() -> Client:
        with environment_explained():
            hooks = default_client_factory().event_hooks["request"]
        return BoundedClient(
            cut=close_session,
            say=say,
            event_hooks={"request": [*hooks, check]},
            follow_redirects=True,
            timeout=Timeout(timeout),
        )

    return _clients(make)


def direct_connections() -> AbstractContextManager[None]:
    """The client connects directly: neither a proxy nor HF_HUB_OFFLINE is in the way."""
    return _clients(
        lambda: BoundedClient(
            cut=close_session, follow_redirects=True, timeout=None, trust_env=False
        )
    )


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


def patiently(ask: Callable[[], T]) -> T:
    """What ``ask`` returns; asked again while the hub says that it is busy or broken."""
    patience = Patience()
    while True:
        try:
            return ask()
        except HfHubHTTPError as error:
            status = status_of(error)
            if (status < 500 and status != TOO_MANY_REQUESTS) or patience.is_at_end():
                raise
            patience.rest(_retry_after(error))


def _retry_after(error: HfHubHTTPError) -> float:
    """Seconds that the hub wants to be left alone; :class:`BoundedClient` has shortened them."""
    said = error.response.headers.get("Retry-After", "") if error.response is not None else ""
    return float(said) if said.isascii() and said.isdigit() else 0.0


@contextmanager
def explained(
    endpoint: Endpoint, repository: Repository, revision: str, retry: str = ""
) -> Iterator[None]:
    """Turn the client's errors into one message each; those of the local disk pass."""
    try:
        endpoint.token()
    except DownloadError as error:
        raise DownloadError(f"{repository.id}: {error}") from None
    try:
        yield
    except (EntryNotFoundError, HTTPError, OSError, *NO_ANSWER) as error:
        if (
            isinstance(error, OSError)
            and not isinstance(error, ConnectionError)
            and error.errno is not None
        ):
            raise
        raise DownloadError(explain(endpoint, repository, revision, error, retry)) from error


def explain(
    endpoint: Endpoint, repository: Repository, revision: str, error: Exception, retry: str
) -> str:
    """What an error of the client means, and what to do: a text for each of its kinds.

    Args:
        retry: the command to run when what is wrong was fixed.
    """
    again = f"Then run: {retry}" if retry else "Then run again"
    url, line, has_token = endpoint.url, first_line(error), bool(endpoint.token())
    text = f"{type(error).__name__}: {line}"
    account, untold = endpoint.token_name, f"no token was sent: {endpoint.why_no_token()}"
    status = status_of(error) if isinstance(error, HfHubHTTPError) else 0
    if has_token:
        no_access, unseen = (
            f"the account of {account} has no access",
            f"{account} has no access to it",
        )
    else:
        no_access, unseen = untold, f"it is private, and {untold}"
    statuses = {
        401: f"{url} refuses the token in {account} (401): it is wrong or expired. Set another in "
        "HF_TOKEN"
        if has_token
        else f"{url} wants a token (401), and none was sent: {endpoint.why_no_token()}",
        407: "the proxy in HTTPS_PROXY or HTTP_PROXY wants a user name and password (407) before "
        f"it lets {url} through",
        416: f"at {revision}, a file ends at {url} before its announced size is reached (416). Do "
        "not trust this endpoint",
    }
    kinds = {
        GatedRepoError: f" is gated, and {no_access}. Accept the licence ({repository.license}) at "
        f"{repository.page}, and set HF_TOKEN to a token of that account. {again}",
        RepositoryNotFoundError: f" does not exist at {url}, or {unseen}. {again}",
        RevisionNotFoundError: f" has no revision {revision!r} at {url}. Correct revision in the "
        "defs.yaml, or see what upstream has: wmtp lock --update",
        EntryNotFoundError: f" at {revision} announces a file that {url} does not have: {line}",
        OfflineModeIsEnabled: f": HF_HUB_OFFLINE is set, so nothing is asked for at {url}. Unset "
        f"it, or put the files in place: wmtp adopt PATH. {again}",
        HfHubHTTPError: ": "
        + statuses.get(status, f"{url} answers {status or 'with an error'}: {line}")
        + f". {again}",
        ProxyError: ": the proxy in HTTPS_PROXY or HTTP_PROXY does not let "
        f"{url} through: {text}. {again}",
        ConnectError: f": no connection to {url}: {text}. {_UNTRUSTED}. {again}"
        if _VERIFY_FAILED in text
        else f": no connection to {url}: {text}. Check the network, HTTPS_PROXY and "
        f"HF_ENDPOINT. {again}",
        TimeoutException: f": {url} does not answer in time: {text}. {again}",
        Exception: f": {url} did not answer as a hub does: {text}. Check the network and "
        f"HF_ENDPOINT. {again}",
    }
    what = next(text for kind, text in kinds.items() if isinstance(error, kind))
    return f"{repository.id}{what}"


def first_line(error: Exception) -> str:
    """What the hub says, else what the client says of it, without the query of a URL: that of a
    signed one is a secret."""
    said = getattr(error, "server_message", None) or str(error)
    line = redact(next(iter(said.strip().splitlines()), "no more is known"))
    return re.sub(r"\?[^\s'\"]*", "", line) if "://" in line else line


@contextmanager
def quietly() -> Iterator[None]:
    """The client draws no bars: progress is said in our own lines."""
    was_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not was_disabled:
            enable_progress_bars()


def cause_of(error: Exception) -> Exception:
    """What an error of an upload is about: the client wraps it."""
    inner = error.__cause__
    if isinstance(error, RuntimeError) and isinstance(inner, Exception):
        return cause_of(inner)
    return error


def is_of_client(error: Exception) -> bool:
    """Whether an error is one of the client, the connection or an answer; those of the local disk
    are not."""
    if isinstance(error, OSError) and not isinstance(error, (ConnectionError, HfHubHTTPError)):
        return error.errno is None
    return isinstance(error, (HfHubHTTPError, HTTPError, ConnectionError, RuntimeError, *NO_ANSWER))


def kind_of(error: Exception) -> str | int:
    """What an error of the client is about: ``repository``, ``revision`` or ``entry`` that is
    missing, ``offline``, ``xet`` for its store, ``lost`` for a connection, a status; empty: none of
    these."""
    match error:
        case RepositoryNotFoundError():
            return "repository"
        case RevisionNotFoundError():
            return "revision"
        case EntryNotFoundError():
            return "entry"
        case OfflineModeIsEnabled():
            return "offline"
        case HfHubHTTPError():
            return status_of(error) or "lost"
        case _ if type(error) is ConnectionError or type(error).__module__ == "hf_xet":
            return "xet"  # every error of hf_xet; httpx2 wraps those of connections
        case HTTPError() | ConnectionError():
            return "lost"
        case _:
            return ""
