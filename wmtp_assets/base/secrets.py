"""Taking secrets out of a text: what a server echoes must not reach a message, log or event.

One function, :func:`redact`, for all of it. It is applied where texts arise or leave: in every
:class:`~wmtp_assets.base.errors.WmtpError`, in Python's log records, in what Dagster stores, in
webhook posts and in tracebacks.
"""

from __future__ import annotations

import configparser
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "[hidden]"
"""What replaces a secret."""

SHORTEST = 6
"""Characters of a known secret: shorter ones would take ordinary words out of texts."""

NAMES = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "VESSL_ACCESS_TOKEN",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_CLIENT_SECRET",
)
"""Environment variables of others that are secrets; the address of our webhook is one too."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
"""Environment variables with URLs that may hold a password; in upper or lower case."""

_KEYS = r"""X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|AWSAccessKeyId|Signature|Policy
|Key-Pair-Id|sig|se_sig|token|access_token|refresh_token|api_key|client_secret|password"""
_END = r"[^\s\"'\\<>&;,)}\]]"
"""A character of a secret: nothing that ends a string in JSON, XML, a header or a URL."""

_PATTERNS = (
    # huggingface.co/docs/hub/security-tokens; docs.aws.amazon.com/IAM: unique identifiers
    (r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}", HIDDEN),
    (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", HIDDEN),
    # access tokens of Google, private keys, connection strings of Azure
    (r"\bya29\.[A-Za-z0-9._-]{16,}", HIDDEN),
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.+?)(?:-----END [A-Z ]*PRIVATE KEY-----|$)", HIDDEN),
    (r"(?i)\b(AccountKey=|SharedAccessSignature=)[^\s\"'\\<>;,]+", rf"\1{HIDDEN}"),
    # URL userinfo, of databases the password alone; queries of presigned URLs (S3, Azure, …)
    (r"(?i)\b((?:https?|ftp|s3|socks[45][ah]?)://)[^/\s@\"'\\<>]+@", rf"\1{HIDDEN}@"),
    (
        r"(?i)\b(postgres(?:ql)?(?:\+\w+)?://[^:/\s\"'\\<>]*:)(?!\d+[/?#])[^\s\"'\\<>]+@",
        rf"\1{HIDDEN}@",
    ),
    (rf"(?ix)((?:[?&;]|&amp;|%26|%3F)(?:{_KEYS})(?:=|%3D)){_END}+", rf"\1{HIDDEN}"),
    # headers, also as JSON, as Python's dict, and in the words of a library
    (r"\b([Bb]earer\s+)[A-Za-z0-9._~+/-]{12,}=*", rf"\1{HIDDEN}"),
    (rf"\b(Signature=|Credential=){_END}+", rf"\1{HIDDEN}"),
    (
        r"(?i)\b((?:(?:proxy-)?authorization|x-amz-security-token|aws_secret_access_key"
        r"|aws_session_token|set-cookie|cookie)(?:\\*[\"'])?\s*[:=]\s*(?:b?\\*[\"'])?"
        rf"(?:(?:Bearer|Basic|Token|Digest|SharedKey)\s+)?)(?!AWS4-HMAC-SHA256){_END}+",
        rf"\1{HIDDEN}",
    ),
)
PATTERNS = tuple((re.compile(pattern), instead) for pattern, instead in _PATTERNS)

_WORD = re.compile(r"[A-Z]?[a-z]+(?:_[a-z]+)*")
"""A known secret that is an ordinary word, such as ``dagster``."""
_LONGEST_WORD = 20
"""Characters; what is longer was made by chance."""


def redact(text: str) -> str:
    """The text without secrets: those that are known here, and what has the form of one.

    Known are the values of :data:`NAMES`, passwords in the URLs of proxies and of the database,
    and what the token files of ``huggingface_hub``, ``boto3``, ``google-auth`` and ``vessl`` hold,
    and what was sent to a server (:func:`remember`); as they are, and as they are in URLs and JSON.
    One that is an ordinary word stays where it is a part of a name or of a path. Nothing is read
    that is not text, and no error is raised.
    """
    for secret in known_secrets():
        if len(secret) <= _LONGEST_WORD and _WORD.fullmatch(secret):
            text = re.sub(rf"(?<![\w/.-]){secret}(?![\w/-]|\.\w)", HIDDEN, text)
        else:
            text = text.replace(secret, HIDDEN)
    for pattern, instead in PATTERNS:
        text = pattern.sub(instead, text)
    return text


_sent = set[str]()
_BEARER = re.compile(r"(?i)\s*Bearer\s+(\S+)\s*")


def remember(headers: Mapping[str, str | bytes]) -> None:
    """What a request says to prove who sends it, which its server may echo: credentials that no
    variable and no file has, as VESSL and a role give them."""
    for name in ("Authorization", "X-Amz-Security-Token"):
        said = headers.get(name) or ""
        text = said.decode("latin-1") if isinstance(said, bytes) else said
        if name == "Authorization":
            bearer = _BEARER.fullmatch(text)
            text = bearer[1] if bearer else ""
        if text:
            _sent.add(text)


def known_secrets(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The secrets that are known here in each form, the longest first."""
    from wmtp_assets.base.settings import (  # which imports our errors
        DATABASE_VARIABLE,
        WEBHOOK_VARIABLE,
    )

    found = {environment.get(name, "") for name in (*NAMES, WEBHOOK_VARIABLE)} | _sent
    for name in (*PROXIES, *map(str.lower, PROXIES), DATABASE_VARIABLE):
        found |= passwords_of(environment.get(name, ""))
    for path in _files(environment):
        found.update(_read(path, _stamp(path)))
    forms = {
        form
        for secret in found
        if len(secret.strip()) >= SHORTEST
        for form in (secret.strip(), quote(secret.strip(), safe=""), _in_json(secret.strip()))
    }
    return tuple(sorted(forms, key=len, reverse=True))


def _in_json(secret: str) -> str:
    return json.dumps(secret)[1:-1]


_USERINFO = re.compile(r"[^:/\s]*:(?!\d+[/?#])(?P<rest>.*)", re.S)
_SETTING = re.compile(r"([^?&;\s=]+)\s*=\s*('[^']*'|[^&;\s]*)")
_SECRET_SETTING = re.compile(r"(?i)passw(?:or)?d|secret|token|signature|^sig$|(?<!ssl)key$")


def passwords_of(url: str) -> set[str]:
    """The passwords in a URL, as they are written and without ``%XX``; none: it has none.

    They are those of its userinfo, wherever that may end (a password may have ``/`` and ``@`` in
    it), and of its query. PostgreSQL's form ``host=… password=…`` is read too.
    """
    userinfo = _USERINFO.fullmatch(url.partition("://")[2] or url)
    behind = userinfo["rest"] if userinfo else ""
    found = {behind[: at.start()] for at in re.finditer("@", behind)}
    for name, value in _SETTING.findall(url):
        if _SECRET_SETTING.search(unquote(name)):
            found.add(value.strip("'"))
    return {form for password in found if password for form in (password, unquote(password))}


def has_secret(value: str) -> bool:
    """Whether the value of a variable has a password, or what has the form of a secret."""
    return bool(passwords_of(value)) or any(pattern.search(value) for pattern, _ in PATTERNS)


_NAMING = re.compile(
    r".+_value|(?:.*_)?(?:id|ids|key|keys|name|names|tags|label|type|kind|handle|module|version"
    r"|partition|partitions|subset|start|end|cursor)"
)
"""Fields of Dagster's objects that name something: a job, a step, an asset, a kind of event."""

_ESCAPE = re.compile(r"\\+(?:u[0-9a-fA-F]{4}|[bfnrt])")
"""A character in JSON that ends with a letter or digit, and is none."""


def redact_serialized(text: str) -> str:
    """Objects that Dagster serialized, as JSON, without secrets in their texts.

    Keys stay, and values that name something: changed, the object could not be read, or would be
    of something else. It is the same text where nothing was hidden.
    """
    apart = _ESCAPE.sub("\n", text)  # in "\\nhf_…" the token begins behind the n
    if redact(text) == text and redact(apart) == apart:
        return text
    document = json.loads(text)
    clean = _redact_values(document)
    return text if clean == document else json.dumps(clean)


def _redact_values(value: Any, key: str = "") -> Any:
    """The same JSON value, without secrets; ``key`` is its key where that may say what it is."""
    if isinstance(value, list):
        return [_redact_values(it, key) for it in value]
    if isinstance(value, dict):
        if "__enum__" in value or value.get("__class__") == "AssetKey":
            return value
        if "__class__" not in value:
            return {name: _redact_values(it, name) for name, it in value.items()}
        return {
            name: it if name == "__class__" or _NAMING.fullmatch(name) else _redact_values(it)
            for name, it in value.items()
        }
    return _redact_text(value, key) if isinstance(value, str) else value


def _redact_text(text: str, key: str) -> str:
    clean = redact(text)
    is_header = clean == text and text not in redact(f"{key}: {text}")  # Authorization: …
    return HIDDEN if is_header else clean


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    """Files with secrets, where the libraries that read them look."""
    home = Path(environment.get("HOME") or "/")
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface"
    hub = Path(environment.get("HF_HOME") or cache)
    yield Path(environment.get("HF_TOKEN_PATH") or hub / "token")
    yield hub / "stored_tokens"
    yield Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws/credentials")
    yield home / ".vessl/config"
    login = home / ".config/gcloud/application_default_credentials.json"
    yield Path(environment.get("GOOGLE_APPLICATION_CREDENTIALS") or login)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return stat.st_mtime_ns, stat.st_size


_SECRET_OPTION = re.compile(r"(?i)(?:token|secret|password|private_key)(?!_uri|_id|_url)")


@lru_cache(maxsize=16)
def _read(path: Path, stamp: tuple[int, int] | None) -> frozenset[str]:
    """Secrets in a file: INI, a JSON object or one line; ``stamp`` says when to read it again."""
    if stamp is None or stamp[1] > 1 << 20:
        return frozenset()
    try:
        text = path.read_text()
    except (OSError, ValueError):
        return frozenset()
    parser = configparser.RawConfigParser()
    try:
        if text.lstrip().startswith("{"):
            return _in_object(json.loads(text))
        parser.read_string(text)
    except (ValueError, RecursionError):
        return frozenset()
    except configparser.Error:
        return frozenset(text.split()) if len(text.split()) == 1 else frozenset()
    return frozenset(
        value
        for section in parser.values()
        for name, value in section.items()
        if value and _SECRET_OPTION.search(name)
    )


def _in_object(document: dict[str, object]) -> frozenset[str]:
    """Secrets among the values of a JSON object."""
    return frozenset(
        value
        for name, value in document.items()
        if isinstance(value, str) and value and _SECRET_OPTION.search(name)
    )


def keep_out_of_logs() -> None:
    """From now on no record of Python's ``logging`` has a secret, of whichever library."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def make_record(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # logging itself says that arguments and message do not fit
        clean = redact(text)
        if clean != text:
            record.msg, record.args = clean, ()
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
            clean = redact(trace)
            if clean != trace:
                record.exc_info, record.exc_text = None, clean
        return record

    make_record.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_record)
