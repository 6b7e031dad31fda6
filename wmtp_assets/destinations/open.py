"""The destination that a URL means."""

from __future__ import annotations

from wmtp_assets.destinations.destination import Destination
from wmtp_assets.destinations.location import parse_url, schemes
from wmtp_assets.storage.store import Store


def open_destination(
    store: Store, url: str, endpoint_url: str | None = None, *, is_read: bool = False
) -> Destination:
    """Open the destination ``url``; nothing is sent or asked yet.

    Args:
        store, endpoint_url, is_read: as :class:`wmtp_assets.destinations.location.Scheme` has them.

    Raises:
        SpecError: for a URL that is none, a folder in the storage root, or an endpoint that is not
            https.
        PublishError: if there are no credentials, or a library is missing.
    """
    location = parse_url(url)
    scheme = schemes()[location.scheme]
    return scheme.connect(store, location, endpoint_url, is_read=is_read)
