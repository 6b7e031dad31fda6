"""The S3 client: how it is made, and what its errors mean.

An error of the client may quote a URL with a signed query, or the request; so its text goes into
none of our errors, and the error itself into no chain.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from wmtp_assets.base.errors import PublishError, SpecError
from wmtp_assets.base.loopback import is_loopback
from wmtp_assets.base.settings import CHECKSUM_VARIABLE
from wmtp_assets.destinations import in_parts
from wmtp_assets.destinations.destination import NotThere
from wmtp_assets.destinations.in_parts import ATTEMPTS, KEPT, Damaged, Gone, Refused
from wmtp_assets.rules.findings import as_text
from wmtp_assets.transfer.bounds import Unbounded

_ABSENT = frozenset(("NoSuchKey", "404", "NotFound"))
_UNSUPPORTED = frozenset(("NotImplemented", "InvalidRequest", "InvalidArgument", "501"))
DAMAGED = frozenset(
    ("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch")
)
"""Codes of an answer that says that other bytes arrived than were sent: they may be sent again."""

_UNREADABLE = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What the library raises of fields that are missing, or hold no number or no time."""

Checksum = Literal["sha256", "signature"]
"""How the server knows the SHA-256 of a body: see ``WMTP_S3_CHECKSUM``."""

CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
REGION = "AWS_DEFAULT_REGION, or the region of the profile in ~/.aws/config"
ENDPOINT = "--endpoint-url, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile"


_HEAD = "400 Head"
"""Stands for the code 400 of a request that is answered without a body."""

_EXPLANATIONS = {
    code: text
    for codes, text in (
        (
            ("NoSuchBucket", *_ABSENT),
            "there is no bucket {bucket}. Look at the name and the endpoint, or make it",
        ),
        (
            (
                *("301", "302", "303", "307", "308"),
                *("PermanentRedirect", "TemporaryRedirect", "Redirect"),
            ),
            "this endpoint redirects ({code}); is it an S3 server? Look at "
            f"{ENDPOINT}, and at {REGION}",
        ),
        (
            ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"),
            f"the credentials have expired ({{code}}). {KEPT}: renew them, and run again",
        ),
        (
            ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"),
            f"the server does not accept the credentials ({{code}}): look at {CREDENTIALS}",
        ),
        (
            ("AuthorizationHeaderMalformed",),
            "the server does not accept the signature ({code}); mostly because the bucket is in "
            f"another region. Look at {REGION}, then at {CREDENTIALS}",
        ),
        (
            ("RequestTimeTooSkewed",),
            "this machine's clock and the server's differ too much ({code}). "
            f"{KEPT}: set the clock, and run again",
        ),
        (
            (_HEAD,),
            "the server refuses {operation} (400), and cannot say why. Mostly the credentials have "
            f"expired, or the bucket is in another region. {KEPT}: renew them, look at {REGION}, "
            "and run again",
        ),
        (
            ("AccessDenied", "403", "Forbidden", "AllAccessDisabled"),
            "the credentials do not permit {operation} ({code}). Ask for the right to list, read, "
            "write and delete below it, and to abort multipart uploads",
        ),
        (
            (
                *("SlowDown", "ServiceUnavailable", "InternalError", "Throttling"),
                *("500", "502", "503", "504"),
            ),
            in_parts.BUSY,
        ),
        (
            DAMAGED,
            in_parts.DAMAGE,
        ),
    )
    for code in codes
}
"""What a code means, and what to do; every other is a refusal that nobody knows."""


def import_boto3() -> Any:
    """The library.

    Raises:
        PublishError: if it is not installed.
    """
    try:
        import boto3
    except ImportError as error:
        raise in_parts.no_library("boto3", "s3") from error
    return boto3


def read_checksum(environment: Mapping[str, str] = os.environ) -> Checksum:
    """What :data:`CHECKSUM_VARIABLE` says; by default ``sha256``.

    Raises:
        SpecError: for another word.
    """
    word = CHECKSUM_VARIABLE.read(environment) or "sha256"
    if word not in get_args(Checksum):
        raise SpecError(
            f"{CHECKSUM_VARIABLE}={word!r} is not known; use 'sha256', or 'signature' for servers "
            "that keep no checksums"
        )
    return "signature" if word == "signature" else "sha256"


def make_client(
    session: Any,
    endpoint_url: str | None,
    checksum: Checksum = "sha256",
    *,
    region: str | None = None,
    path_style: bool = False,
) -> Any:
    """A client that says the SHA-256 of each body, and only over https or to this machine.

    Args:
        session: a ``boto3.Session``.
        checksum: where it says it.
        path_style: put the bucket into the path of URLs, not into the host's name.

    Raises:
        SpecError: for an endpoint that is none, or plain http beyond loopback.
        PublishError: if there are no credentials.
    """
    from botocore.config import Config
    from botocore.exceptions import InvalidRegionError

    from wmtp_assets.destinations.s3_session import bound

    with _configured():
        credentials = session.get_credentials()
        config = Config(
            connect_timeout=in_parts.CONNECT_SECONDS,
            read_timeout=in_parts.READ_SECONDS,
            max_pool_connections=in_parts.CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                # elsewhere it is in x-amz-checksum-sha256, which is signed
                "payload_signing_enabled": checksum == "signature",
                **({"addressing_style": "path"} if path_style else {}),
            },
        )
        try:
            client = session.client(
                "s3", endpoint_url=endpoint_url, region_name=region, config=config
            )
        except InvalidRegionError:
            raise
        except ValueError:
            raise _bad_endpoint(endpoint_url or "") from None
    bound(client)
    client.meta.events.register("needs-retry.s3.HeadBucket", _ask_once)
    if credentials is None:
        raise PublishError(f"there are no credentials for S3: set {CREDENTIALS}")
    url = urlsplit(client.meta.endpoint_url)
    if "@" in url.netloc:
        raise _bad_endpoint(client.meta.endpoint_url)
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise SpecError(
            f"{url.scheme}://{url.hostname}: plain http is only for loopback; use https, so that "
            "nobody on the way can read or change what is sent"
        )
    return client


def open_session() -> Any:
    """A session of the library, as the environment and the profile say.

    Raises:
        PublishError: if there is no such profile.
    """
    boto3 = import_boto3()
    with _configured():
        return boto3.Session()


@contextmanager
def _configured() -> Iterator[None]:
    """Say what is wrong with variables and profiles."""
    from botocore.exceptions import BotoCoreError, InvalidRegionError, ProfileNotFound

    try:
        yield
    except ProfileNotFound as error:
        raise PublishError(
            f"AWS_PROFILE names the profile {as_text(error.kwargs['profile'])}, which does not "
            "exist: look into ~/.aws/config and ~/.aws/credentials, or unset AWS_PROFILE and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    except InvalidRegionError as error:
        raise SpecError(
            f"{as_text(error.kwargs['region_name'])} is not a region name: look at {REGION}"
        ) from None
    except (BotoCoreError, OSError, *_UNREADABLE) as error:
        raise PublishError(
            f"the S3 client cannot be made ({type(error).__name__}): look at ~/.aws/config and the "
            f"variables {CREDENTIALS}"
        ) from None


def _bad_endpoint(url: str) -> SpecError:
    host = _host(url)  # no more: it may hold a password
    return SpecError(
        f"the endpoint{f' at {host}' if host else ''} is not a URL of an S3 server: write "
        f"https://host[:port], without a user name. It comes from {ENDPOINT}"
    )


def _ask_once(response: Any, operation: Any, **_: Any) -> None:
    """Let the client ask a server that redirects for the bucket's region once; one that redirects
    this too would be asked until the stack is full."""
    from botocore.exceptions import ClientError

    if response is not None and response[0].status_code in (301, 302, 307):
        raise ClientError(response[1], operation.name)


def _host(url: str) -> str:
    """Host and port of a URL, and nothing else of it."""
    try:
        parts = urlsplit(url)
        return as_text(parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return ""


def code_of(error: BaseException) -> str:
    """The code of an answer that refuses; empty: there was no answer."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or "")


@contextmanager
def explained(name: str, bucket: str, path: str = "") -> Iterator[None]:
    """Say what the server refuses.

    Args:
        name: the destination's URL.
        path: the file that is asked for.

    Raises:
        NotThere: if there is no such file.
        Refused: for every other answer that refuses.
        PublishError: for every other error of the client.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if code in _ABSENT and path:
            raise NotThere(f"{name} has no {path}") from None
        said = code or str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        kind = Damaged if code in DAMAGED else Gone if code == "NoSuchUpload" else Refused
        raise kind(_explain(name, bucket, as_text(said), error.operation_name), code) from None
    except (BotoCoreError, ResponseParserError, HTTPError, Unbounded, *_UNREADABLE) as error:
        host = _host(getattr(error, "kwargs", {}).get("endpoint_url", ""))
        raise in_parts.no_answer(name, error, path, host) from None


def _explain(name: str, bucket: str, code: str, operation: str) -> str:
    unknown = f"the server refuses {{operation}} ({{code}}). {KEPT}: run again"
    if code in _UNSUPPORTED and CHECKSUM_VARIABLE.read() != "signature":
        unknown += f", with {CHECKSUM_VARIABLE}=signature"
    known = _HEAD if code == "400" and operation.startswith("Head") else code
    return f"{name}: " + _EXPLANATIONS.get(known, unknown).format(
        bucket=bucket, code=code or "no code", operation=operation
    )
