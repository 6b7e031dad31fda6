"""The destination that a URL means."""

from __future__ import annotations

import socket
from pathlib import Path

from wmtp_assets.errors import SpecError
from wmtp_assets.publish.destination import Destination
from wmtp_assets.publish.folder import Folder
from wmtp_assets.publish.location import parse_url
from wmtp_assets.store import Store


def open_destination(store: Store, url: str, endpoint_url: str | None = None) -> Destination:
    """Open the destination ``url``; nothing is sent or asked yet.

    Args:
        store: where uploads are remembered.
        endpoint_url: of an S3 server; None: the one that the environment or profile names, else
            Amazon's.

    Raises:
        SpecError: for a URL that is none, or an endpoint that is not https.
        PublishError: if there are no credentials, or a library is missing.
    """
    location = parse_url(url)
    if location.scheme == "file":
        return Folder(Path(location.path), f"{socket.gethostname()}:{store.root}")
    raise SpecError(f"{url} cannot be published to yet; use file:///mounted/folder")
