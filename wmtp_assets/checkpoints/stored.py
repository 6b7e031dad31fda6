"""A tensor as it lies in an upstream file of any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from operator import mul
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """A stretch of bytes with a checksum: a record of a zip archive.

    Attributes:
        name: in the archive.
        begin, size: of its data in the file, in bytes.
        crc32: of its data, as the archive's directory says.
    """

    name: str
    begin: int
    size: int
    crc32: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        path: the file.
        name: its key there.
        dtype: torch's name without the prefix, such as ``float32``.
        shape, stride: in elements.
        begin: its first byte in the file.
        item_size: bytes per element.
        record: the record it lies in; None: the format has no checksums.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    begin: int
    item_size: int
    record: Record | None = None

    @property
    def size(self) -> int:
        """Bytes of the tensor's elements."""
        return prod(self.shape) * self.item_size

    @property
    def extent(self) -> int:
        """Bytes from the first element to the end of the last one."""
        if 0 in self.shape:
            return 0
        steps = zip(self.shape, self.stride, strict=True)
        return (1 + sum((size - 1) * step for size, step in steps)) * self.item_size

    @property
    def is_contiguous(self) -> bool:
        return 0 in self.shape or all(
            size == 1 or step == expected
            for size, step, expected in zip(
                self.shape, self.stride, contiguous(self.shape), strict=True
            )
        )

    @property
    def fills_record(self) -> bool:
        """Whether reading the tensor's elements in order reads its record from begin to end."""
        record = self.record
        return (
            record is not None
            and self.is_contiguous
            and (self.begin, self.size) == (record.begin, record.size)
        )

    def is_at(self, other: StoredTensor) -> bool:
        """Whether both are the same bytes of one file, read alike."""
        return (self.path, self.begin, self.dtype, self.shape, self.stride) == (
            other.path,
            other.begin,
            other.dtype,
            other.shape,
            other.stride,
        )


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in elements, of a row-major tensor of ``shape``."""
    steps = list(accumulate(reversed(shape[1:]), mul, initial=1))
    return tuple(reversed(steps[: len(shape)]))
