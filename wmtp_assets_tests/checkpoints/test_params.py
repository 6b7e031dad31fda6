"""``params.json``: the formulas that everything else is derived from, and what is refused."""

from __future__ import annotations

import json
from math import prod
from typing import Any

import pytest

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.checkpoints.families import META
from wmtp_assets.checkpoints.params import MetaParams, check_tensor_shapes, parse_params
from wmtp_assets_tests.checkpoints import tiny

UPSTREAM: dict[str, Any] = {
    "dim": 4096,
    "ffn_dim_multiplier": 1.0,
    "multiple_of": 256,
    "n_future_tokens": 4,
    "n_heads": 32,
    "n_kv_heads": 32,
    "n_layers": 32,
    "norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "vocab_size": 32000,
}
"""facebook/multi-token-prediction, 7B_1T_4/params.json, complete."""

MICRO = UPSTREAM | {
    "dim": 512,
    "n_heads": 4,
    "n_kv_heads": 4,
    "n_layers": 4,
    "multiple_of": 64,
    "ffn_dim_multiplier": 0.5,
}


def parse(document: object) -> MetaParams:
    return parse_params(json.dumps(document).encode(), "some/params.json")


def count(params: MetaParams, tied: bool) -> int:
    return sum(prod(shape) for shape in META.tensor_shapes(params, tied).values())


def test_upstreams_model_has_upstreams_size() -> None:
    """The published 7B model is the one fixed point these formulas can be held against."""
    params = parse(UPSTREAM)
    assert params.intermediate_size == 11008
    assert (params.n_trunk, params.n_extra_heads, params.head_dim) == (29, 3, 128)
    assert META.blocks(params) == (
        *(f"layers.{i}" for i in range(29)),
        *(f"extra_heads.{i}" for i in range(3)),
    )
    assert count(params, tied=False) == 6_738_415_616


def test_micro_model_has_the_size_that_fits() -> None:
    """Under 50 MB in float16 is only reached by these numbers; a formula off by one misses it."""
    params = parse(MICRO)
    assert params.intermediate_size == 704
    assert count(params, tied=True) == 24_908_288
    assert META.blocks(params) == ("layers.0", "extra_heads.0", "extra_heads.1", "extra_heads.2")


@pytest.mark.parametrize(
    ("dim", "multiplier", "multiple_of", "expected"),
    [
        (4096, None, 256, 11008),
        (8192, 1.3, 4096, 28672),  # Llama 2 70B
        (640, 1.0, 256, 1792),
        (3, 1.0, 1, 8),
        (3, 1.0, 8, 8),
        (4, 1.0, 1, 10),  # 32 / 3, cut off twice
        (4, 0.99, 1, 9),
    ],
)
def test_feed_forward_size(
    dim: int, multiplier: float | None, multiple_of: int, expected: int
) -> None:
    """The training code recomputes this number and fails to load a file that has another."""
    document = UPSTREAM | {"dim": dim, "n_heads": 1, "n_kv_heads": 1, "multiple_of": multiple_of}
    assert parse(document | {"ffn_dim_multiplier": multiplier}).intermediate_size == expected


def test_defaults_are_the_training_codes() -> None:
    """Keys that Meta's own class has defaults for may be absent; the others may not."""
    optional = ("n_kv_heads", "ffn_dim_multiplier", "n_future_tokens", "rope_theta")
    document = {key: value for key, value in UPSTREAM.items() if key not in optional}
    params = parse(document)
    assert (params.kv_heads, params.n_future_tokens, params.rope_theta) == (32, 1, 10000.0)
    assert params.n_trunk == 32
    for key in document:
        with pytest.raises(InvalidInput, match=rf"^some/params\.json: {key}: Field required$"):
            parse({other: value for other, value in document.items() if other != key})


def test_grouped_queries_have_narrow_keys() -> None:
    """wk and wv have n_kv_heads heads; every model so far had as many as n_heads."""
    shapes = META.tensor_shapes(tiny.params(), tied=False)
    assert shapes["layers.0.attention.wq.weight"] == (32, 32)
    assert shapes["layers.0.attention.wk.weight"] == (16, 32)
    assert shapes["layers.0.attention.wv.weight"] == (16, 32)
    assert shapes["extra_heads.1.feed_forward.w2.weight"] == (32, 88)
    assert shapes["output.weight"] == (48, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 128}, r"head_dim: Extra inputs are not permitted"),
        ({"dim": 4096.5}, r"dim: .*integer"),
        ({"dim": 4096.0}, r"dim: .*integer"),
        ({"dim": "4096"}, r"dim: .*integer"),
        ({"dim": True}, r"dim: .*integer"),
        ({"dim": None}, r"dim: .*integer"),
        ({"n_layers": 0}, r"n_layers: .*greater than 0"),
        ({"n_kv_heads": -1}, r"n_kv_heads: .*greater than 0"),
        ({"norm_eps": "1e-5"}, r"norm_eps: .*number"),
        ({"norm_eps": 0}, r"norm_eps: .*greater than 0"),
        ({"norm_eps": float("nan")}, r"NaN is not JSON"),
        ({"rope_theta": float("inf")}, r"Infinity is not JSON"),
        ({"ffn_dim_multiplier": float("inf")}, r"Infinity is not JSON"),
        ({"ffn_dim_multiplier": 1e308}, r"ffn_dim_multiplier: .*less than"),
        ({"n_layers": 10**12}, r"n_layers: .*less than"),
        ({"dim": 10**400}, r"dim: .*less than"),
        ({"n_heads": 30}, r"dim 4096 is not a multiple of n_heads 30"),
        ({"n_kv_heads": 12}, r"n_heads 32 is not a multiple of n_kv_heads 12"),
        ({"n_kv_heads": 64}, r"n_heads 32 is not a multiple of n_kv_heads 64"),
        ({"n_future_tokens": 33}, r"n_layers 32 leaves no layer beside 32 extra heads"),
    ],
)
def test_bad_field_is_named(changes: dict[str, Any], message: str) -> None:
    """Such a file makes a model that the training code cannot build, hours later.

    An unknown key is a TypeError there. A number as text, or a boolean, is none there. Infinity and
    numbers that only a program writes must end here and not in an OverflowError, or in a list of a
    trillion names.
    """
    with pytest.raises(InvalidInput, match=rf"^some/params\.json: .*{message}") as refused:
        parse(UPSTREAM | changes)
    assert "\n" not in str(refused.value)


def test_largest_number_of_extra_heads_is_allowed() -> None:
    """One layer beside the extra heads is what the micro model has."""
    params = parse(UPSTREAM | {"n_future_tokens": 32})
    assert params.n_trunk == 1
    assert len(META.blocks(params)) == 32


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"4096",
        b'"dim"',
        b"[" * 100_000,
        b"9" * 5000,
        b'{"dim": 1, "dim": 2}',
        b'{"dim": 1e999}',
    ],
)
def test_other_documents_are_refused(data: bytes) -> None:
    """A truncated download or an HTML page must not end in a traceback."""
    with pytest.raises(InvalidInput, match=r"^some/params\.json: "):
        parse_params(data, "some/params.json")


def test_hostile_key_stays_on_one_line() -> None:
    """The key comes from the file and goes to a terminal."""
    with pytest.raises(InvalidInput) as refused:
        parse(UPSTREAM | {"\x1b[2J\n" + "x" * 10_000: 1})
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


def test_missing_unexpected_and_misshapen_are_named() -> None:
    """One message must be enough to see which model a file really is; each kind alone counts."""
    expected = META.tensor_shapes(tiny.params(), tied=False)
    check_tensor_shapes(expected, dict(expected), "x.pth", "params.json")

    found = dict(expected)
    del found["norm.weight"]
    found["layers.5.attention.wq.weight"] = (32, 32)
    found["output.weight"] = (32, 48)
    with pytest.raises(InvalidInput) as refused:
        check_tensor_shapes(expected, found, "x.pth", "params.json")
    assert str(refused.value) == (
        "x.pth: missing tensors: norm.weight; unexpected tensors: layers.5.attention.wq.weight; "
        "output.weight has shape [32, 48], params.json asks for [48, 32]"
    )


@pytest.mark.parametrize("name", ["tok_embeddings.weight", "extra_heads.1.ffn_norm.weight"])
def test_one_wrong_tensor_is_enough(name: str) -> None:
    """A transposed matrix has the right number of elements, and an empty one the right name."""
    expected = META.tensor_shapes(tiny.params(), tied=False)
    shape = expected[name]
    for wrong in ((*shape, 1), (1, *shape), shape[:-1], (*shape[:-1], shape[-1] + 1), ()):
        with pytest.raises(InvalidInput, match=rf"x\.pth: {name} has shape"):
            check_tensor_shapes(expected, expected | {name: wrong}, "x.pth", "params.json")


def test_long_lists_are_cut() -> None:
    """A file of another family misses every tensor; hundreds of names hide the point."""
    expected = META.tensor_shapes(tiny.params(), tied=False)
    with pytest.raises(InvalidInput) as refused:
        check_tensor_shapes(expected, {"model.embed_tokens.weight": (48, 32)}, "x.pth", "x.json")
    assert f"and {len(expected) - 3} more; unexpected tensors: model.embed" in str(refused.value)
