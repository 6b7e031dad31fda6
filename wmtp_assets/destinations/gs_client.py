"""Google Cloud Storage's XML API: requests with the credentials of ``google-auth``, and what its
answers mean.

The XML API is the one of the two in which parts are sent that nobody sees until they are put
together (https://cloud.google.com/storage/docs/multipart-uploads). The text of an answer or an
error goes into none of our errors: it may quote the request.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any, TypedDict, Unpack
from urllib.parse import quote
from xml.etree import ElementTree

from wmtp_assets.base.errors import PublishError, SpecError
from wmtp_assets.base.settings import EMULATOR_VARIABLE, TRUST_VARIABLE
from wmtp_assets.destinations import in_parts
from wmtp_assets.destinations.destination import NotThere
from wmtp_assets.destinations.endpoints import is_trusted, require_endpoint
from wmtp_assets.destinations.in_parts import ATTEMPTS, KEPT, Damaged, Gone, Overtaken, Refused
from wmtp_assets.rules.findings import as_text
from wmtp_assets.transfer.arrival import Patience
from wmtp_assets.transfer.bounds import Unbounded

OFFICIAL = "https://storage.googleapis.com"

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"

LOG_IN = (
    "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=FILE of a service "
    "account"
)

_RETRIED = frozenset((408, 429, 500, 502, 503, 504))
"""Statuses of an answer after which Google asks to try again."""

_UNREADABLE = (ArithmeticError, LookupError, TypeError, ValueError, ElementTree.ParseError)
"""What is raised of answers that are not XML, lack fields, or hold no number."""

_KINDS: Mapping[str, type[Refused]] = {
    "BadDigest": Damaged,
    "InvalidDigest": Damaged,
    "CrcMismatch": Damaged,
    "NoSuchUpload": Gone,
    "PreconditionFailed": Overtaken,
    "412": Overtaken,
}


class Answered(Exception):
    """An answer that refuses.

    Attributes:
        code: of its text, else its status.
        right: to do what the request asks for.
    """

    def __init__(self, status: int, code: str, right: str) -> None:
        self.status, self.code, self.right = status, code, right


class Content(TypedDict, total=False):
    """What a request has beside its URL."""

    query: Mapping[str, str | int]
    headers: Mapping[str, str]
    data: bytes


class Client:
    """Requests about a bucket.

    Args:
        session: ``google.auth.transport.requests.AuthorizedSession``.
        endpoint: URL, without a slash at its end.
    """

    def __init__(self, session: Any, endpoint: str, bucket: str) -> None:
        self.endpoint, self.bucket = endpoint, bucket
        self._session = session

    @contextmanager
    def open(
        self,
        right: str,
        method: str,
        key: str = "",
        **content: Unpack[Content],
    ) -> Iterator[Any]:
        """The answer to a request, whose body is not read yet; it is asked for again where Google
        asks for that, or the connection was lost.

        Args:
            right: what the request needs, as in ``storage.objects.get``.
            key: of the object; empty: about the bucket.
        """
        from requests.exceptions import ConnectionError as Disconnected
        from requests.exceptions import Timeout

        patience = Patience(ATTEMPTS)
        while True:
            try:
                answer = self._session.request(
                    method,
                    f"{self.endpoint}/{self.bucket}" + (f"/{quote(key)}" if key else ""),
                    params=content.get("query"),
                    headers={"Accept-Encoding": "gzip", **content.get("headers", {})},
                    data=content.get("data", b""),
                    timeout=(in_parts.CONNECT_SECONDS, in_parts.READ_SECONDS),
                    allow_redirects=False,
                    stream=True,
                )
            except (Disconnected, Timeout):
                if patience.is_at_end():
                    raise
            else:
                with closing(answer):
                    if answer.status_code not in _RETRIED or patience.is_at_end():
                        if not 200 <= answer.status_code < 300:
                            raise Answered(answer.status_code, _code_of(answer), right)
                        yield answer
                        return
            patience.rest()

    def ask(
        self, right: str, method: str, key: str = "", **content: Unpack[Content]
    ) -> Mapping[str, str]:
        """The headers of an answer; arguments as of :meth:`open`."""
        with self.open(right, method, key, **content) as answer:
            answer.raw.read()
            return answer.headers

    def document(
        self, right: str, method: str, key: str = "", **content: Unpack[Content]
    ) -> tuple[ElementTree.Element, Mapping[str, str]]:
        """The XML document of an answer, without namespaces, and its headers; arguments as of
        :meth:`open`."""
        with self.open(right, method, key, **content) as answer:
            root = _parse(answer)
            if root.tag == "Error":  # what took long may fail behind the status
                raise Answered(500, root.findtext("Code", ""), right)
            return root, answer.headers


def _parse(answer: Any) -> ElementTree.Element:
    root = ElementTree.fromstring(answer.raw.read(decode_content=True))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _code_of(answer: Any) -> str:
    from urllib3.exceptions import HTTPError

    with suppress(HTTPError, *_UNREADABLE):
        return _parse(answer).findtext("Code") or str(answer.status_code)
    return str(answer.status_code)


def make_client(bucket: str, endpoint_url: str | None) -> Client:
    """A client with the credentials of the environment; an emulator is sent none.

    Raises:
        SpecError: for an endpoint that is none, plain http beyond loopback, or one that nobody
            trusts with a token.
        PublishError: if there are no credentials, or a library is missing.
    """
    try:
        import google_crc32c
        from google.auth.credentials import AnonymousCredentials
        from google.auth.transport.requests import AuthorizedSession, Request

        from wmtp_assets.transfer.sessions import bound, bounded_session
    except ImportError as error:
        raise in_parts.no_library("google-auth, google-crc32c or requests", "gs") from error
    assert google_crc32c
    logging.getLogger("google").addHandler(logging.NullHandler())  # it warns on the terminal
    emulator = EMULATOR_VARIABLE.read()
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    endpoint = (endpoint_url or emulator or OFFICIAL).rstrip("/")
    host = require_endpoint(endpoint, f"--endpoint-url or {EMULATOR_VARIABLE}")
    asking = Request(bounded_session(1))
    if emulator and not endpoint_url:
        credentials: Any = AnonymousCredentials()
    else:
        if not is_trusted(endpoint, host, ("googleapis.com",)):
            raise SpecError(
                f"{as_text(endpoint)} is not Google's, and not trusted with your token. To send it "
                f"there: {TRUST_VARIABLE}={as_text(endpoint)}"
            )
        credentials = _credentials(asking)
    session = AuthorizedSession(credentials, auth_request=asking)
    return Client(bound(session, in_parts.CONNECTIONS), endpoint, bucket)


def _credentials(asking: Any) -> Any:
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a login of a person has no quota project
            return google.auth.default(scopes=[SCOPE], request=asking)[0]
    except (GoogleAuthError, Unbounded):
        raise PublishError(
            f"there are no credentials for Google Cloud Storage, or no good ones: {LOG_IN}"
        ) from None


@contextmanager
def explained(name: str, bucket: str, path: str = "") -> Iterator[None]:
    """Say what the server refuses.

    Args:
        name: the destination's URL.
        path: the file that is asked for.

    Raises:
        NotThere: if there is no such file.
        Refused: for every other answer that refuses.
        PublishError: for every other error.
    """
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except Answered as answer:
        if path and answer.code in ("NoSuchKey", "404"):
            raise NotThere(f"{name} has no {path}") from None
        kind = _KINDS.get(answer.code, Refused)
        raise kind(f"{name}: {_explain(answer, bucket)}", answer.code) from None
    except GoogleAuthError as error:
        raise PublishError(
            f"{name}: Google gives no token for these credentials ({type(error).__name__}): they "
            f"have expired, were withdrawn, or its server was not reached. {KEPT}: {LOG_IN}, and "
            "run again"
        ) from None
    except (RequestException, HTTPError, Unbounded, *_UNREADABLE) as error:
        raise in_parts.no_answer(name, error, path) from None


def _explain(answer: Answered, bucket: str) -> str:
    code, status = as_text(answer.code), answer.status
    if answer.code in ("NoSuchBucket", "404"):
        return f"there is no bucket {bucket}. Look at the name, or make it"
    if answer.code in _KINDS and _KINDS[answer.code] is Damaged:
        return in_parts.DAMAGE.format(code=code)
    if status == 401:
        return f"the server does not accept the credentials ({code}). {KEPT}: {LOG_IN}"
    if status == 403:
        return (
            f"the credentials do not permit {answer.right} ({code}). Ask for the role Storage "
            "Object User (roles/storage.objectUser) on the bucket"
        )
    if 300 <= status < 400:
        return f"this endpoint redirects ({status}); is it Google's? Look at --endpoint-url"
    if status in _RETRIED:
        return in_parts.BUSY.format(code=code)
    return f"the server refuses {answer.right} ({code}). {KEPT}: run again"
