"""``config.json`` to parameters and back: nothing lost, and the feed-forward size exactly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.checkpoints.params import MetaParams, llama_config, llama_params, parse_config
from wmtp_assets.sample import sheared_llama, starling_rm
from wmtp_assets_tests.checkpoints import tiny

SHEARED = dict(sheared_llama.CONFIG) | {
    "hidden_size": 2560,
    "intermediate_size": 6912,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "num_key_value_heads": 20,
}
"""princeton-nlp/Sheared-LLaMA-2.7B."""


def parsed(**changes: Any) -> MetaParams:
    return llama_params(tiny.CONFIG | changes, "config.json")


def test_upstreams_model_is_described() -> None:
    """The published 2.7B model, whose layers the reference losses are computed with."""
    params = llama_params(SHEARED, "config.json")
    assert params.model_dump(exclude_unset=True) == {
        "dim": 2560,
        "n_layers": 32,
        "n_heads": 20,
        "n_kv_heads": 20,
        "vocab_size": 32000,
        "multiple_of": 256,
        "ffn_dim_multiplier": 1.0,
        "norm_eps": 1e-05,
        "n_future_tokens": 1,
        "rope_theta": 10000.0,
        "max_seq_len": 4096,
    }
    assert params.intermediate_size == 6912
    assert params.head_dim == 128
    assert (params.n_trunk, params.n_extra_heads) == (32, 0)


@settings(max_examples=500)
@given(st.integers(1, 1 << 16), st.integers(1, 1 << 18))
@example(5, 15)  # 1.1538461538461537 x 13 is less than 15
@example(4096, 11008)
@example(8192, 28672)
@example(1, 1)
@example(1 << 16, 1)
def test_feed_forward_size_is_exact(dim: int, size: int) -> None:
    """The training code recomputes the size by Meta's formula, in floating point.

    A model with another one loads nowhere: for any two sizes the formula must give this one.
    """
    params = parsed(
        hidden_size=dim, intermediate_size=size, num_attention_heads=1, num_key_value_heads=1
    )
    assert params.intermediate_size == size
    written = json.loads(json.dumps(params.model_dump(exclude_unset=True)))
    assert MetaParams.model_validate(written, strict=True).intermediate_size == size


configs = st.fixed_dictionaries(
    {
        "hidden_size": st.integers(1, 64).map(lambda n: 24 * n),
        "intermediate_size": st.integers(1, 10_000),
        "num_hidden_layers": st.integers(1, 100),
        "num_attention_heads": st.sampled_from([4, 8, 12, 24]),
        "num_key_value_heads": st.sampled_from([1, 2, 4]),
        "vocab_size": st.integers(1, 200_000),
        "rms_norm_eps": st.sampled_from([1e-06, 1e-05]),
        "rope_theta": st.sampled_from([10000.0, 500000.0, 1]),
        "max_position_embeddings": st.sampled_from([2048, 4096]),
        "torch_dtype": st.sampled_from(["float16", "float32"]),
    }
)


@given(configs, st.sampled_from(["float16", "bfloat16"]), st.booleans())
def test_round_trip(config: dict[str, Any], dtype: str, tied: bool) -> None:
    """Read and written again, only what we changed is changed; no field of upstream's gets lost."""
    upstream = tiny.CONFIG | config | {"something_new": {"a": [1]}}
    params = llama_params(upstream, "config.json")
    written = llama_config(params, dtype, tied, upstream)
    assert written == upstream | {"tie_word_embeddings": tied, "torch_dtype": dtype}
    assert list(written) == list(upstream)
    again = written | {"tie_word_embeddings": False}
    assert llama_params(again, "config.json") == params


@pytest.mark.parametrize(
    "name",
    [
        "num_key_value_heads",
        "rope_theta",
        "rms_norm_eps",
        "head_dim",
        "max_position_embeddings",
    ],
)
def test_defaults_are_transformers(name: str) -> None:
    """Old configs leave fields out, or say null: what transformers takes then is taken here."""
    short = {key: value for key, value in tiny.CONFIG.items() if key != name}
    params = llama_params(short, "config.json")
    expected = {
        "num_key_value_heads": (params.kv_heads, 4),
        "rope_theta": (params.rope_theta, 10000.0),
        "rms_norm_eps": (params.norm_eps, 1e-06),
        "head_dim": (params.head_dim, 8),
        "max_position_embeddings": (params.context, 2048),
    }
    assert expected[name][0] == expected[name][1]
    transformers = pytest.importorskip("transformers")
    theirs = transformers.LlamaConfig(**short)
    assert (theirs.num_key_value_heads, theirs.rms_norm_eps, theirs.head_dim) == (
        params.kv_heads,
        params.norm_eps,
        params.head_dim,
    )
    assert theirs.max_position_embeddings == params.context
    assert llama_config(params, "float32", False, short) == short, "what is left out stays so"
    if name in ("num_key_value_heads", "head_dim"):
        assert llama_params(short | {name: None}, "config.json") == params


def test_what_differs_from_the_defaults_is_written() -> None:
    """A micro model is tied: left to the default, its output matrix would be random numbers."""
    short = {key: tiny.CONFIG[key] for key in tiny.CONFIG if key != "tie_word_embeddings"}
    written = llama_config(llama_params(short, "x"), "float16", True, short)
    assert written == short | {"tie_word_embeddings": True, "torch_dtype": "float16"}
    changed = parsed().model_copy(update={"rope_theta": 5e5, "norm_eps": 1e-4, "n_kv_heads": 1})
    bare = {
        key: short[key]
        for key in short
        if key not in ("rope_theta", "rms_norm_eps", "num_key_value_heads")
    }
    written = llama_config(changed, "float16", False, bare)
    assert (written["rope_theta"], written["rms_norm_eps"]) == (5e5, 1e-4)
    assert written["num_key_value_heads"] == 1


def test_dtype_is_rewritten_under_both_names() -> None:
    """transformers 5 writes and prefers ``dtype``: left alone it would load float16 as float32."""
    params = parsed()
    old = llama_config(params, "float16", False, tiny.CONFIG)
    assert old["torch_dtype"] == "float16"
    assert "dtype" not in old
    new = llama_config(params, "float16", False, tiny.CONFIG | {"dtype": "float32"})
    assert (new["torch_dtype"], new["dtype"]) == ("float16", "float16")


@pytest.mark.parametrize(
    ("changes", "theta"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, 5e5),
        ({"rope_parameters": {"rope_theta": 5e5}, "rope_theta": 5e5}, 5e5),
        ({"rope_parameters": {"rope_type": "default"}, "rope_theta": 5e5}, 5e5),
        ({"rope_parameters": {"rope_type": "default"}}, 1e4),
        ({"rope_parameters": {}}, 1e4),
        ({"rope_scaling": {"type": "default"}, "rope_theta": 5e5}, 5e5),
        ({"rope_scaling": {"rope_type": "default", "rope_theta": 5e5}}, 5e5),
        ({"rope_scaling": None, "partial_rotary_factor": 1.0, "rope_theta": 5e5}, 5e5),
    ],
    ids=str,
)
def test_rotary_base_is_transformers(changes: dict[str, Any], theta: float) -> None:
    """Where a release says it, and both; what we write is read as the same by either."""
    upstream = tiny.CONFIG | changes
    params = llama_params(upstream, "config.json")
    assert params.rope_theta == theta
    written = llama_config(params, "float16", False, upstream)
    assert written.get("rope_theta", 10000.0) == theta, "releases up to 4"
    assert llama_params(written, "config.json") == params
    transformers = pytest.importorskip("transformers")
    for config in (upstream, written):
        theirs = transformers.LlamaConfig.from_dict(dict(config))
        assert theirs.rope_parameters["rope_theta"] == theta
        assert theirs.rope_parameters["rope_type"] == "default"


def test_layer_types_are_those_of_the_layers() -> None:
    """A micro model has fewer; a list of another length is an error of transformers."""
    upstream = tiny.CONFIG | {"layer_types": ["full_attention"] * 4}
    params = llama_params(upstream, "config.json").model_copy(update={"n_layers": 2})
    assert llama_config(params, "float16", True, upstream)["layer_types"] == ["full_attention"] * 2


@pytest.mark.parametrize("config", [sheared_llama.CONFIG, starling_rm.CONFIG])
def test_sample_has_the_fields_of_upstream(config: dict[str, Any]) -> None:
    """The sample's configs are accepted for what they are, and keep their own fields."""
    params = llama_params(config, "config.json")
    assert params.intermediate_size == config["intermediate_size"]
    written = llama_config(params, "float16", False, config)
    assert written == dict(config) | {"torch_dtype": "float16"}


def test_unknown_fields_do_not_matter() -> None:
    """Fields that decide nothing about names, shapes and numbers may be anything."""
    assert parsed(quantization=["x"], use_cache="maybe", pretraining_tp=None) == parsed()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(tiny.CONFIG)), json_values, max_size=4))
def test_any_config_is_read_or_refused(changes: dict[str, Any]) -> None:
    """One line that names the file, or parameters that hold together; nothing else."""
    try:
        params = parsed(**changes)
    except InvalidInput as error:
        assert str(error).startswith("config.json: ")
        assert str(error).isprintable()
        assert len(str(error)) < 400
    else:
        merged = tiny.CONFIG | changes
        assert params.intermediate_size == merged["intermediate_size"]
        assert params.dim == merged["hidden_size"]


@given(st.binary(max_size=40))
def test_any_bytes_are_an_object_or_refused(data: bytes) -> None:
    """What a failed download leaves in its place."""
    try:
        assert parse_config(data, "config.json") == json.loads(data)
    except InvalidInput as error:
        assert str(error).startswith("config.json: not a JSON object: ")
