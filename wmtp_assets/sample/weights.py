"""The sample's weights: what stands in a tensor follows from its key, on every machine."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WEIGHT_RANGE = 0.03
"""Weights are uniform in ±0.03: a standard deviation of 0.017, about Llama's initial 0.02."""

NORM_RANGE = 0.1
"""Norm weights are uniform in 1 ± 0.1."""


def generate(key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Float32 weights of ``shape``, a function of ``key`` alone and the same on every machine.

    The raw output of PCG64, which numpy keeps stable, scaled by exact or correctly rounded float32
    operations: 24 random bits a number. Seeded per key, so that tensors do not depend on each
    other's sizes.
    """
    import numpy as np

    seed = int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")
    count = math.prod(shape)
    raw = np.random.PCG64(seed).random_raw((count + 1) // 2)
    bits = raw.astype("<u8", copy=False).view("<u4")[:count]
    unit = (bits >> 8).astype("<f4") * np.float32(2**-23) - np.float32(1)
    if "norm" in key:
        unit = unit * np.float32(NORM_RANGE) + np.float32(1)
    else:
        unit *= np.float32(WEIGHT_RANGE)
    return unit.reshape(shape)


def rope_frequencies(pairs: int, theta: float) -> NDArray[np.float32]:
    """Angle per position of each of a head's ``pairs`` of channels, theta^(-i/pairs), in radians.

    Computed in double precision, so that rounding to float32 hides how exactly ``pow`` is done.
    """
    import numpy as np

    return np.array([theta ** (-i / pairs) for i in range(pairs)], dtype="<f4")
