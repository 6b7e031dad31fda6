"""The destination that a URL means."""

from __future__ import annotations

import socket
import uuid
from contextlib import suppress
from pathlib import Path

from wmtp_assets.base.errors import SpecError
from wmtp_assets.destinations.destination import Destination
from wmtp_assets.destinations.folder import Folder
from wmtp_assets.destinations.location import parse_url
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.store import Store


def open_destination(
    store: Store, url: str, endpoint_url: str | None = None, *, is_read: bool = False
) -> Destination:
    """Open the destination ``url``; nothing is sent or asked yet.

    Args:
        store: where uploads are remembered.
        endpoint_url: of an S3 server; None: the one that the environment or profile names, else
            Amazon's.
        is_read: nothing will be written.

    Raises:
        SpecError: for a URL that is none, a folder in the storage root, or an endpoint that is not
            https.
        PublishError: if there are no credentials, or a library is missing.
    """
    location = parse_url(url)
    if location.scheme == "file":
        folder, root = Path(location.path).resolve(), store.root.resolve()
        if not is_read and (folder == root or root in folder.parents or folder in root.parents):
            raise SpecError(
                f"{location} and the storage root {store.root} lie in each other: publish to "
                "another folder"
            )
        return Folder(Path(location.path), "" if is_read else _owner(store))
    if location.scheme == "s3":
        from wmtp_assets.destinations.s3 import open_s3

        return open_s3(store, location, endpoint_url)
    from wmtp_assets.destinations.vessl import open_vessl

    return open_vessl(store, location, "read" if is_read else "write")


def _owner(store: Store) -> str:
    """Who publishes from this root: two containers may have equal names and equal paths."""
    path = store.internal / "publish" / "id"
    with suppress(OSError):
        if not path.exists():
            replace_file(path, uuid.uuid4().hex.encode())
        return f"{socket.gethostname()}:{store.root}:{path.read_text()}"
    return f"{socket.gethostname()}:{store.root}"
