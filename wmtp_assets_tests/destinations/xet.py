"""As much of a Xet store as its client ``hf_xet`` 1.8 speaks to upload, on loopback.

Files come as xorbs (chunks, one behind the other) and shards, which say of which chunks a file
consists, and its SHA-256. Only chunks that are not compressed are understood, as those of random
bytes are. The layout is that of https://huggingface.co/docs/xet.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

TOKEN = "xet-token"
"""What the hub gives for its own token: that one is for the hub alone."""

_RECORD = 48
_HAS_PROOFS, _HAS_SHA256 = 1 << 31, 1 << 30
_END = b"\xff" * 32


@dataclass
class Xet:
    """What the store keeps.

    Attributes:
        xorbs: hash → what was sent.
        received: bytes of xorbs that were sent.
    """

    xorbs: dict[str, bytes] = field(default_factory=dict)
    received: int = 0

    def keep(self, name: str, body: bytes) -> None:
        """Keep a xorb; its own hash is BLAKE3, which is not compared."""
        self.xorbs[name] = body
        self.received += len(body)

    def files(self, shard: bytes) -> Iterator[tuple[str, bytes]]:
        """SHA-256 as it is said, and content, of each file in a shard."""
        assert shard.startswith(b"HFRepoMetaData"), shard[:32]
        at = _RECORD
        while shard[at : at + 32] != _END:
            flags, count = struct.unpack_from("<II", shard, at + 32)
            content = b""
            for number in range(1, count + 1):
                entry = shard[at + number * _RECORD :][:_RECORD]
                size, first, last = struct.unpack_from("<III", entry, 36)
                chunks = [*_chunks(self.xorbs[_hex(entry)])][first:last]
                assert size == sum(map(len, chunks))
                content += b"".join(chunks)
            at += _RECORD * (1 + count * (2 if flags & _HAS_PROOFS else 1))
            assert flags & _HAS_SHA256, "the hub knows a file by its SHA-256"
            yield _hex(shard[at:]), content
            at += _RECORD


def is_whole(sha256: str, content: bytes) -> bool:
    """Whether a file is what is said of it."""
    return hashlib.sha256(content).hexdigest() == sha256


def _hex(data: bytes) -> str:
    """A hash as it is written: four numbers, each little-endian."""
    return "".join(f"{number:016x}" for number in struct.unpack_from("<4Q", data))


def _chunks(xorb: bytes) -> Iterator[bytes]:
    """The chunks of a xorb, which may end with a footer."""
    at = 0
    while at + 8 <= len(xorb) and xorb[at] == 0:
        size, whole = (int.from_bytes(xorb[at + i : at + i + 3], "little") for i in (1, 5))
        assert xorb[at + 4] == 0 and size == whole, "a chunk is compressed"
        yield xorb[at + 8 : at + 8 + size]
        at += 8 + size
