"""Azure Blob Storage as a destination.

A file is sent as blocks, which nobody sees before their list is committed, and which the service
removes after a week if it never is. The name of a block says its SHA-256, and its MD5 is compared
when it arrives. The service keeps the names of a blob's blocks for as long as the blob is the one
that was put together from them: so they are the checksum that lies beside it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import chain
from typing import Any

from wmtp_assets.base.errors import PublishError
from wmtp_assets.destinations.az_client import as_damage, code_of, explained, make_client
from wmtp_assets.destinations.destination import (
    ORDINARY,
    Access,
    Advance,
    Location,
    NotThere,
    is_read_as,
)
from wmtp_assets.destinations.in_parts import Gone, InParts
from wmtp_assets.destinations.journal import Journal, Upload
from wmtp_assets.destinations.listing import MANIFEST, MAX_PARTS, Outgoing, Reading, SentFile
from wmtp_assets.storage.files import PART
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer.bounds import paged

FORM = "az://container/prefix"

CONTAINER = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}|\$root")
"""Names of containers."""

_BLOCK = re.compile(r"([0-9]{5})-([A-Za-z0-9_-]{43})")
"""The name of a block: its number, and its SHA-256 in base64; 49 of the 64 characters that it may
have, and equally many for each block of a blob, as the service demands."""


class Azure(InParts):
    """A destination below a prefix of a container.

    Args:
        client: ``azure.storage.blob.ContainerClient``.
        prefix, name, journal, part_size: as :class:`InParts` has them.
    """

    largest = MAX_PARTS * (4000 << 20)

    def __init__(
        self, client: Any, prefix: str, name: str, journal: Journal, part_size: int = PART
    ) -> None:
        place = f"{client.primary_endpoint.partition('?')[0]}/{prefix}"
        super().__init__(prefix, name, place, journal, part_size, "md5")
        self._client = client
        self._condition: dict[str, Any] = {}

    def _asking(self, path: str = "") -> AbstractContextManager[None]:
        return explained(self.name, self._client.container_name, path)

    def _at(self, path: str) -> Any:
        return self._client.get_blob_client(f"{self._prefix}{path}")

    # -- reading -----------------------------------------------------------------------------------

    def _list(self, folder: str, *, is_deep: bool) -> Iterator[tuple[str, int]]:
        walk = self._client.list_blobs if is_deep else self._client.walk_blobs
        stop = {} if is_deep else {"delimiter": "/"}
        below = f"{self._prefix}{folder}" or None
        pages = paged(walk(name_starts_with=below, include=["metadata"], **stop).by_page())
        for item in chain.from_iterable(pages):
            # a folder is a blob too where the account has a hierarchical namespace
            if (getattr(item, "metadata", None) or {}).get("hdi_isfolder") != "true":
                yield item.name.removeprefix(self._prefix), getattr(item, "size", None) or 0

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        from azure.core import MatchConditions
        from azure.core.exceptions import HttpResponseError

        with self._asking(path):
            if path == MANIFEST:
                self._condition = {"overwrite": False}  # unless it is there
            try:
                found = self._at(path).download_blob(offset=start)
            except HttpResponseError as error:
                if code_of(error) in ("InvalidRange", "416"):
                    return  # it ends before
                raise
            if path == MANIFEST:
                self._condition = {
                    "overwrite": True,
                    "etag": found.properties["etag"],
                    "match_condition": MatchConditions.IfNotModified,
                }
            yield from found.chunks()

    def _stated(self, path: str, size: int) -> str | None:
        try:
            with self._asking(path):
                blob = self._at(path)
                found = blob.get_blob_properties()
                if found.size != size:
                    return None
                # one that was sent in one piece, or is none of blocks, has no list of them
                if not size or found.blob_type != "BlockBlob":
                    return _composite([hashlib.sha256().digest()]) if not size else ""
                blocks, _ = blob.get_block_list("committed")
        except NotThere:
            return None
        names = [_BLOCK.fullmatch(block.id) for block in blocks]
        numbers = [int(name[1]) for name in names if name]
        is_ours = bool(numbers) and numbers == [*range(1, len(blocks) + 1)]
        return _composite([_digest(name[2]) for name in names if name]) if is_ours else ""

    def _agrees(self, stated: str, path: str, file: SentFile) -> bool | None:
        return stated == file.composite if stated else None

    def holds(self, file: Outgoing, advance: Advance = lambda size: None) -> bool:
        stated = self._stated(file.path, file.record.size)
        if stated is None:
            return False
        if stated == Reading(file, self._part_size).describe().composite:
            advance(file.record.size)
            return True
        # somebody else's client names blocks otherwise, or none
        return is_read_as(self, file.path, file.record, advance)

    # -- writing -----------------------------------------------------------------------------------

    def _begin(self, path: str) -> str:
        return "blocks"  # they lie beside the blob; an upload has no name

    def _send(self, path: str, upload_id: str, number: int, data: bytes, digest: bytes) -> str:
        name = f"{number:05d}-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
        if data:  # a block cannot be empty: an empty blob has none
            with as_damage(self.name):
                said = self._at(path).stage_block(name, data, len(data), validate_content=True)
            if not said.get("content_md5"):  # another one than ours was damage
                raise PublishError(
                    f"{self.name}: the server does not say back the MD5 of a part, so nobody knows "
                    "whether it compared it. No file got its name. Look at --endpoint-url"
                )
        return name

    def _parts(self, path: str, upload: Upload) -> dict[int, tuple[str, str]]:
        try:
            with self._asking(path):
                _, blocks = self._at(path).get_block_list("uncommitted")
        except NotThere as error:
            raise Gone(str(error), "BlobNotFound") from None
        # one that we do not remember may have arrived damaged
        names = {block.id for block in blocks}
        there = {number: part for number, part in upload.parts.items() if part[1] in names}
        if upload.parts and not there:
            raise Gone(f"{self.name} has no part of {path} any more", "InvalidBlockList")
        return there

    def _put_together(self, path: str, upload: Upload, file: SentFile) -> None:
        from azure.storage.blob import BlobBlock

        names = [name for _, (_, name) in sorted(upload.parts.items())]
        self._at(path).commit_block_list([BlobBlock(name) for name in names if file.size])

    def _give_up(self, path: str, upload_id: str) -> None:
        """Nothing can be: the service removes after a week what was not committed."""

    def _write_if_as_read(self, data: bytes) -> None:
        from azure.storage.blob import ContentSettings

        self._at(MANIFEST).upload_blob(
            data,
            validate_content=True,
            content_settings=ContentSettings(content_type="application/json"),
            **self._condition,
        )

    def _delete(self, path: str) -> None:
        with suppress(NotThere), self._asking(path):
            self._at(path).delete_blob()


def _digest(text: str) -> bytes:
    """A SHA-256 in a block's name; one that is none is compared in vain."""
    return base64.urlsafe_b64decode(f"{text}=")


def _composite(digests: Sequence[bytes]) -> str:
    """As :attr:`SentFile.composite`."""
    digest = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
    return f"{digest}-{len(digests)}"


def problem(location: Location) -> str:
    """What a URL of this scheme lacks; empty: nothing."""
    return "" if CONTAINER.fullmatch(location.host) else "names no container"


def connect(store: Store, location: Location, access: Access = ORDINARY) -> Azure:
    """The destination ``az://container/prefix`` of an account, with the credentials of the
    environment.

    Raises:
        SpecError, PublishError: as :func:`wmtp_assets.destinations.az_client.make_client`.
    """
    client = make_client(location.host, access.endpoint_url)
    key = f"{client.primary_endpoint.partition('?')[0]} {location}"
    return Azure(client, location.path, str(location), Journal.of(store, key))
