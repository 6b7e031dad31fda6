"""Where a storage tree is published: the URLs that ``--to`` and ``--from`` take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.model import relative_path

Scheme = Literal["s3", "file", "vessl"]

FORMS = "s3://bucket/prefix, file:///mounted/folder, vessl://storage/volume/path"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


@dataclass(frozen=True)
class Location:
    """A parsed URL; it holds no secrets.

    Attributes:
        host: bucket of ``s3``, storage of ``vessl``; empty for ``file``.
        volume: of ``vessl``.
        path: folder of ``file``, absolute; else the prefix, without slashes at its ends.
    """

    scheme: Scheme
    host: str
    path: str
    volume: str = ""

    def __str__(self) -> str:
        if self.scheme == "file":
            return f"file://{self.path}"
        return f"{self.scheme}://" + "/".join(filter(None, (self.host, self.volume, self.path)))


def parse_url(url: str) -> Location:
    """The location that a URL means.

    Raises:
        SpecError: for an unknown scheme, a name that is none, a user name or a query: credentials
            do not belong into a URL, which stands in logs and in the shell's history.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise SpecError(f"that is no URL ({error}); use one of: {FORMS}") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SpecError(
            "a destination has no user name, password, query or fragment: credentials come from "
            f"the environment or a profile; use one of: {FORMS}"
        )
    if parts.scheme not in get_args(Scheme):
        shown = f"{parts.scheme}://" if parts.scheme else repr(url)
        raise SpecError(f"{shown} is no destination that is known; use one of: {FORMS}")
    path = unquote(parts.path)
    if parts.scheme == "file":
        if host not in ("", "localhost") or not path.startswith("/"):
            raise SpecError(f"{url!r} names no absolute folder; write file:///mounted/folder")
        return Location("file", "", "/" + _plain(path, url))
    host = parts.netloc
    if not _BUCKET.fullmatch(host):
        raise SpecError(f"{url!r} names no bucket or storage; use one of: {FORMS}")
    if parts.scheme == "s3":
        return Location("s3", host, _plain(path, url))
    volume, _, rest = _plain(path, url).partition("/")
    if not volume:
        raise SpecError(f"{url!r} names no volume; write vessl://storage/volume/path")
    return Location("vessl", host, rest, volume)


def _plain(path: str, url: str) -> str:
    """``path`` without slashes at its ends; empty, or a plain relative path."""
    plain = path.strip("/")
    try:
        return relative_path(plain) if plain else ""
    except ValueError as error:
        raise SpecError(f"{url!r}: {error}; use one of: {FORMS}") from error
