"""Views of storages, as real state dicts hold them: for property tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st

Fill = Callable[[torch.dtype, int], torch.Tensor]
"""Makes a storage: one-dimensional, of a dtype and a number of elements."""


def random_bits(dtype: torch.dtype, count: int) -> torch.Tensor:
    """Any bits at all, NaNs included."""
    data = bytearray(random.Random(count).randbytes(count * dtype.itemsize))
    if dtype is torch.bool:
        data = bytearray(byte & 1 for byte in data)
    return torch.frombuffer(data, dtype=dtype)


@dataclass(frozen=True)
class View:
    """A tensor, and how it lies in its storage."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    spare: int
    is_parameter: bool

    def of(self, storages: dict[torch.dtype, torch.Tensor], fill: Fill) -> torch.Tensor:
        """The view; tensors of one dtype share a storage that is large enough."""
        extent = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        numel = torch.Size(self.shape).numel()
        count = self.offset + max(extent, numel, 1) + self.spare
        storage = storages.get(self.dtype)
        if storage is None or storage.numel() < count:
            storage = storages[self.dtype] = fill(self.dtype, count)
        view = storage.as_strided(self.shape, self.stride, self.offset)
        if self.is_parameter and self.dtype.is_floating_point and self.dtype.itemsize > 1:
            return torch.nn.Parameter(view)
        return view


@st.composite
def views(draw: st.DrawFn, dtypes: Sequence[torch.dtype]) -> View:
    """Any view: contiguous, transposed, sliced, overlapping itself, scalar, empty."""
    rank = draw(st.integers(0, 3))
    sizes = st.lists(st.integers(0, 4), min_size=rank, max_size=rank)
    shape = tuple(draw(sizes))
    is_contiguous = draw(st.booleans())
    stride = torch.empty(shape).stride() if is_contiguous else tuple(draw(sizes))
    return View(
        draw(st.sampled_from(dtypes)),
        shape,
        stride,
        draw(st.integers(0, 3)),
        draw(st.integers(0, 3)),
        draw(st.booleans()),
    )
