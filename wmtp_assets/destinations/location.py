"""Where a storage tree is published: the URLs of ``--to`` and ``--from``, and what they open.

A scheme is the module of this folder that has its name and says a :attr:`Scheme.FORM`; nothing
lists them. docs/adding-a-destination.md adds one.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import unquote, urlsplit

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.model import relative_path
from wmtp_assets.destinations.destination import Destination
from wmtp_assets.storage.store import Store


@dataclass(frozen=True)
class Location:
    """A parsed URL; it holds no secrets.

    Attributes:
        host: what stands before the path: the bucket of ``s3``; may be empty.
        path: without slashes at its ends; may be empty.
    """

    scheme: str
    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}" + f"/{self.path}" * (not self.host or bool(self.path))


class Scheme(Protocol):
    """What a module of this folder that is a destination has.

    Attributes:
        FORM: what its URLs look like, for people.
    """

    FORM: str

    def problem(self, location: Location) -> str:
        """What a URL of this scheme lacks, as in ``names no bucket``; empty: nothing."""
        ...

    def connect(
        self,
        store: Store,
        location: Location,
        endpoint_url: str | None = None,
        *,
        is_read: bool = False,
    ) -> Destination:
        """The destination; nothing is sent or asked yet.

        Args:
            store: of what is published; there it is remembered how far uploads are.
            endpoint_url: of an S3 server; None: the one that the environment or profile names.
            is_read: nothing will be written.
        """
        ...


@cache
def schemes() -> Mapping[str, Scheme]:
    """Scheme → its module."""
    names = sorted(found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = {name: import_module(f"{__package__}.{name}") for name in names}
    return {n: cast("Scheme", module) for n, module in modules.items() if hasattr(module, "FORM")}


def forms() -> str:
    """What the URLs of all schemes look like."""
    return ", ".join(scheme.FORM for scheme in schemes().values())


def parse_url(url: str) -> Location:
    """The location that a URL means.

    Raises:
        SpecError: for an unknown scheme, a malformed host or path, a user name or a query:
            credentials do not belong into a URL, which stands in logs and in the shell's history.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SpecError(f"that is no URL ({error}); use one of: {forms()}") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SpecError(
            "a destination has no user name, password, query or fragment: credentials come from "
            f"the environment or a profile; use one of: {forms()}"
        )
    scheme = schemes().get(parts.scheme)
    if scheme is None:
        shown = f"{parts.scheme}://" if parts.scheme else repr(url)
        raise SpecError(f"{shown} is no destination that is known; use one of: {forms()}")
    path = unquote(parts.path)
    plain = path.strip("/")
    try:
        location = Location(parts.scheme, parts.netloc, relative_path(plain) if plain else "")
    except ValueError as error:
        raise SpecError(f"{url!r}: {error}; use one of: {forms()}") from error
    is_relative = not (location.host or path.startswith("/"))
    if problem := scheme.problem(location) or "names no absolute path" * is_relative:
        raise SpecError(f"{url!r} {problem}; write {scheme.FORM}")
    return location


def open_destination(
    store: Store, url: str, endpoint_url: str | None = None, *, is_read: bool = False
) -> Destination:
    """Open the destination ``url``; nothing is sent or asked yet.

    Args:
        store, endpoint_url, is_read: as :class:`Scheme` has them.

    Raises:
        SpecError: for a URL that is none, a folder in the storage root, or an endpoint that is not
            https.
        PublishError: if there are no credentials, or a library is missing.
    """
    location = parse_url(url)
    return schemes()[location.scheme].connect(store, location, endpoint_url, is_read=is_read)
