"""Which servers may be asked, and which may be sent a token."""

from __future__ import annotations

from urllib.parse import urlsplit

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.loopback import is_loopback
from wmtp_assets.base.settings import TRUST_VARIABLE
from wmtp_assets.rules.findings import as_text


def require_endpoint(url: str, origin: str) -> str:
    """The host of an endpoint.

    Args:
        origin: where the endpoint comes from, for people.

    Raises:
        SpecError: if it is not a URL of a server, or plain http beyond loopback.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or parts.query:
        raise SpecError(  # no more of it: it may hold a password
            f"the endpoint{f' at {as_text(host)}' if host else ''} is not a URL of a server: write "
            f"https://host[:port], without a user name. It comes from {origin}"
        )
    if parts.scheme != "https" and not is_loopback(host):
        raise SpecError(
            f"{parts.scheme}://{as_text(host)}: plain http is only for loopback; use https, so "
            "that nobody on the way can read or change what is sent"
        )
    return host


def is_trusted(endpoint: str, host: str, domains: tuple[str, ...]) -> bool:
    """Whether a token may be sent to an endpoint: it lies in one of the provider's domains, or the
    user says so."""
    return (
        any(host == domain or host.endswith(f".{domain}") for domain in domains)
        or TRUST_VARIABLE.read().rstrip("/") == endpoint
    )
