"""The client of Azure Blob Storage: how it is made, and what its errors mean.

An error of the client may quote a URL with a signature, or the request; so its text goes into none
of our errors, and the error itself into no chain.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wmtp_assets.base.errors import PublishError, SpecError
from wmtp_assets.base.settings import AZURE_VARIABLES, TRUST_VARIABLE
from wmtp_assets.destinations import in_parts
from wmtp_assets.destinations.destination import NotThere
from wmtp_assets.destinations.endpoints import is_trusted, require_endpoint
from wmtp_assets.destinations.in_parts import ATTEMPTS, KEPT, Damaged, Gone, Overtaken, Refused
from wmtp_assets.rules.findings import as_text
from wmtp_assets.transfer import bounds
from wmtp_assets.transfer.bounds import Unbounded

CHUNK = 4 << 20
"""Bytes that are fetched at a time."""

WAITS = {"initial_backoff": 1, "increment_base": 2, "random_jitter_range": 1}
"""Seconds before the second attempt: 1 and 2, then 1 and 4, 1 and 8, ...; give or take 1."""

DOMAINS = (
    "core.windows.net",
    "core.chinacloudapi.cn",
    "core.usgovcloudapi.net",
    "storage.azure.net",
)
"""Of Azure's clouds: tokens and signatures are sent there."""

CREDENTIALS = (
    "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY, "
    "AZURE_STORAGE_SAS_TOKEN, or a login (az login)"
)

_ABSENT = frozenset(("BlobNotFound", "404"))
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What the library raises of answers that lack fields, or hold no number or no time."""

_KINDS: dict[str, type[Refused]] = {
    "Md5Mismatch": Damaged,
    "Crc64Mismatch": Damaged,
    "InvalidBlockList": Gone,
    "ConditionNotMet": Overtaken,
    "BlobAlreadyExists": Overtaken,
    "412": Overtaken,
}

_BUSY = frozenset((408, 500, 502, 503, 504))


def make_client(container: str, endpoint_url: str | None) -> Any:
    """A client of a container, with the credentials of the environment.

    Raises:
        SpecError: for an endpoint that is none, plain http beyond loopback, or one that nobody
            trusts with a token or signature.
        PublishError: if there are no credentials, or a library is missing.
    """
    try:
        from azure.core.pipeline.transport import RequestsTransport
        from azure.identity import DefaultAzureCredential
        from azure.storage.blob import ContainerClient, ExponentialRetry

        from wmtp_assets.transfer.sessions import bounded_session
    except ImportError as error:
        raise in_parts.no_library("azure-storage-blob or azure-identity", "az") from error
    logging.getLogger("azure").addHandler(logging.NullHandler())  # it warns on the terminal
    attempts = dict.fromkeys(
        ("retry_total", "retry_connect", "retry_read", "retry_status"), ATTEMPTS - 1
    )

    def transport(connections: int) -> Any:
        return RequestsTransport(
            # a body is asked for and kept in chunks
            session=bounded_session(connections, bounds.MAX_SIZE),
            session_owner=False,
            connection_timeout=in_parts.CONNECT_SECONDS,
            read_timeout=in_parts.READ_SECONDS,
            connection_data_block_size=in_parts.READ,
        )

    options: dict[str, Any] = {
        "retry_policy": ExponentialRetry(**WAITS, **attempts),
        "transport": transport(in_parts.CONNECTIONS),
        "permit_redirects": False,  # a signature is for one server
        "max_single_get_size": CHUNK,
        "max_chunk_get_size": CHUNK,
    }
    said = {name: variable.read() for name, variable in AZURE_VARIABLES.items()}
    if said["CONNECTION_STRING"] and not endpoint_url:
        try:
            client = ContainerClient.from_connection_string(
                said["CONNECTION_STRING"], container, **options
            )
        except _UNREADABLE:
            raise SpecError(
                "AZURE_STORAGE_CONNECTION_STRING is not a connection string: copy it again from "
                "the keys of the account"
            ) from None
        require_endpoint(client.primary_endpoint, "AZURE_STORAGE_CONNECTION_STRING")
        return client
    account = said["ACCOUNT"]
    if not account and not endpoint_url:
        raise PublishError(f"nobody says which account of Azure is meant: set {CREDENTIALS}")
    endpoint = (endpoint_url or f"https://{account}.blob.core.windows.net").rstrip("/")
    host = require_endpoint(endpoint, "--endpoint-url or AZURE_STORAGE_ACCOUNT")
    credential: Any = said["SAS_TOKEN"] or None
    if said["KEY"]:  # it signs, and is sent nowhere
        credential = {"account_name": account or host.split(".")[0], "account_key": said["KEY"]}
    elif not is_trusted(endpoint, host, DOMAINS):
        raise SpecError(
            f"{as_text(endpoint)} is not Azure's, and not trusted with your token. To send it "
            f"there: {TRUST_VARIABLE}={as_text(endpoint)}"
        )
    try:
        if not credential:
            credential = DefaultAzureCredential(transport=transport(1))
        return ContainerClient(endpoint, container, credential=credential, **options)
    except _UNREADABLE:
        raise SpecError(f"the credentials of Azure cannot be read: look at {CREDENTIALS}") from None


def code_of(error: Any) -> str:
    """The code of an answer that refuses, else its status."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or getattr(error, "status_code", None) or "")


@contextmanager
def as_damage(name: str) -> Iterator[None]:
    """Say so where the client finds, each time it tries, that the server says another MD5 than was
    sent.

    Raises:
        Refused: if it does.
    """
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as error:
        if type(error) is not AzureError:  # the client has no class of its own for it
            raise
        code = "Md5Mismatch"
        raise Refused(f"{name}: {_explain(code, 400, '')}", code) from None


@contextmanager
def explained(name: str, container: str, path: str = "") -> Iterator[None]:
    """Say what the server refuses.

    Args:
        name: the destination's URL.
        path: the file that is asked for.

    Raises:
        NotThere: if there is no such file.
        Refused: for every other answer that refuses.
        PublishError: for every other error of the client.
    """
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

    try:
        yield
    except HttpResponseError as error:
        code, status = code_of(error), error.status_code or 0
        if path and code in _ABSENT:
            raise NotThere(f"{name} has no {path}") from None
        if isinstance(error, ClientAuthenticationError) and not status:
            text = f"there are no good credentials for Azure: set {CREDENTIALS}"
        else:
            text = _explain(as_text(code), status, container)
        raise _KINDS.get(code, Refused)(f"{name}: {text}", code) from None
    except (AzureError, Unbounded, *_UNREADABLE) as error:
        raise in_parts.no_answer(name, error, path) from None


def _explain(code: str, status: int, container: str) -> str:
    known = _TEXTS.get(code)
    if known is None and status == 429:  # the client does not ask again then
        known = f"the server is busy ({{code}}). {KEPT}: run again later"
    elif known is None and status in _BUSY:
        known = in_parts.BUSY
    elif known is None and status < 300:
        known = f"the answer is none of Azure's ({{code}}). {KEPT}: check the endpoint"
    elif known is None and status == 403:
        known = (
            "the credentials do not permit this ({code}). Ask for the role Storage Blob Data "
            "Contributor on the container, or a signature with read, write, delete and list"
        )
    elif known is None and status == 401:
        known = _TEXTS["AuthenticationFailed"]
    elif known is None and 300 <= status < 400:
        known = "this endpoint redirects ({code}); is it Azure's? Look at --endpoint-url"
    return (known or f"the server refuses ({{code}}). {KEPT}: run again").format(
        code=code or status, container=container
    )


_TEXTS = {
    code: text
    for codes, text in (
        (
            ("ContainerNotFound", *_ABSENT),
            "there is no container {container}. Look at the name and the account, or make it",
        ),
        (
            ("AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"),
            "the server does not accept the credentials ({code}): they are wrong, or have expired, "
            f"or this machine's clock is. {KEPT}: look at {CREDENTIALS}",
        ),
        (
            ("Md5Mismatch", "Crc64Mismatch"),
            in_parts.DAMAGE,
        ),
        (
            ("LeaseIdMissing",),
            "somebody holds a lease on one of our files ({code}). "
            f"{KEPT}: run again when it is given back",
        ),
        (
            ("InvalidBlobOrBlock",),
            "somebody else's unfinished upload, or a blob of another kind, is where our file "
            "belongs ({code}). Move it away; an unfinished upload goes away after a week",
        ),
        (
            ("BlobImmutableDueToPolicy",),
            "a policy of the container keeps files from being replaced or deleted ({code}). "
            "Publish to another place",
        ),
    )
    for code in codes
}
"""What a code means, and what to do; every other is told by its status."""
