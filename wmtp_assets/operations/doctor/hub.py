"""The hub: which one it is, and what it may be sent. The token is used and never shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wmtp_assets.base.errors import DownloadError, SpecError
from wmtp_assets.base.settings import TRUST_VARIABLE
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, Repository
from wmtp_assets.hub.endpoint import OFFICIAL, Endpoint, open_endpoint
from wmtp_assets.operations.doctor.condition import Condition
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage.store import Store

TOKENS_PAGE = "https://huggingface.co/settings/tokens"


def hub(store: Store) -> Iterator[Condition]:
    """The endpoint, and where the source is the hub also the token."""
    if store.settings.source == "sample":
        yield Condition("endpoint", "ok", "the sample: no hub is asked, and no token is needed")
        return
    from wmtp_assets.hub.client import is_offline_mode

    repositories = _repositories(store)
    try:
        with open_endpoint(store.settings, repositories[0]) as endpoint:
            yield _endpoint(endpoint)
            if is_offline_mode():
                yield Condition(
                    "token",
                    "warning",
                    "HF_HUB_OFFLINE is set: nothing is asked or downloaded",
                    "to download: unset HF_HUB_OFFLINE",
                )
            else:
                yield _token(endpoint, [item for item in repositories if item.gated])
    except SpecError as error:
        yield Condition("endpoint", "error", str(error), "unset HF_ENDPOINT, or correct it")


def _repositories(store: Store) -> list[Repository]:
    specs = (spec for spec in store.catalogue.specs if isinstance(spec, ModelSpec | DatasetSpec))
    return [spec.repository for spec in specs]


def _endpoint(endpoint: Endpoint) -> Condition:
    if endpoint.url == OFFICIAL:
        return Condition("endpoint", "ok", OFFICIAL)
    if endpoint.is_trusted:
        return Condition("endpoint", "ok", f"{endpoint.url}, a mirror that may be sent the token")
    return Condition(
        "endpoint",
        "warning",
        f"{endpoint.url}, a mirror that is sent no token: gated repositories are refused there",
        f"if you trust it: export {TRUST_VARIABLE}={endpoint.url}",
    )


def _token(endpoint: Endpoint, gated: list[Repository]) -> Condition:
    token = endpoint.token()
    if not token:
        pages = ", ".join(repository.page for repository in gated)
        return Condition(
            "token",
            "warning",
            f"no token is sent: {endpoint.why_no_token()}; gated: {pages}",
            f"accept the licence there, and set HF_TOKEN to a token from {TOKENS_PAGE}",
        )
    origin = f"a token, from {endpoint.token_name}"
    answer, status = _ask(endpoint, token)
    if status in (401, 403):
        return Condition(
            "token",
            "error",
            f"{endpoint.url} refuses {origin} ({status}): it is wrong or expired",
            f"make a new one: {TOKENS_PAGE}",
        )
    if answer is None:
        return Condition(
            "token",
            "warning",
            f"{origin}; {endpoint.url} could not be asked what it may do",
            "check the network and HTTPS_PROXY",
        )
    role = stated(answer, "auth", "accessToken", "role")
    if role == "write":
        return Condition(
            "token",
            "warning",
            f"{origin}, may write; reading is all that is needed",
            f"make one that may only read: {TOKENS_PAGE}",
        )
    known = role if role in ("read", "fineGrained") else "unknown"
    return Condition("token", "ok", f"{origin}, scope {known}")


def _ask(endpoint: Endpoint, token: str) -> tuple[Any, int]:
    """What the hub says about the token, None if nothing, and the status of its answer, or 0."""
    from wmtp_assets.hub.client import HfApi, HfHubHTTPError, HTTPError, status_of

    try:
        return HfApi(endpoint=endpoint.url).whoami(token=token), 200
    except HfHubHTTPError as error:
        return None, status_of(error)
    except (HTTPError, DownloadError, OSError, ValueError):
        return None, 0
