"""Parts of a model: which tensor belongs to which."""

from __future__ import annotations

from collections import Counter
from math import prod

import pytest

from wmtp_assets.catalogue.specs import FamilyName
from wmtp_assets.checkpoints.families import FAMILIES
from wmtp_assets.checkpoints.params import MetaParams

PARAMS = MetaParams(
    dim=4,
    n_layers=5,
    n_heads=2,
    n_kv_heads=1,
    vocab_size=10,
    multiple_of=3,
    ffn_dim_multiplier=None,
    norm_eps=1e-5,
    n_future_tokens=3,
    rope_theta=1e4,
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tensor_has_its_part(name: FamilyName) -> None:
    """Two kv heads are half as large as the queries, an extra head is a whole block, and nothing is
    counted with something else."""
    family = FAMILIES[name]
    params = PARAMS if family.extra_heads else PARAMS.model_copy(update={"n_future_tokens": 1})
    sizes = Counter[str]()
    for tensor, shape in family.tensor_shapes(params, tied=False).items():
        sizes[family.part_of(tensor)] += prod(shape)
    attention, feed_forward, norms = 16 + 8 + 8 + 16, 3 * 4 * params.intermediate_size, 8
    trunk, extra = params.n_trunk, params.n_extra_heads
    expected = {
        "embedding": 40,
        "output": 40,
        "attention": attention * trunk,
        "feed-forward": feed_forward * trunk,
        "norms": norms * trunk + 4,
        "extra heads": (attention + feed_forward + norms) * extra,
        "value head": 4 if family.value_head else 0,
    }
    assert sizes == {part: size for part, size in expected.items() if size}
