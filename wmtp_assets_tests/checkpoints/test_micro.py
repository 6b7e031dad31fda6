"""Micro models: the size that was promised, a cut that leaves a model, verified parents."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from wmtp_assets import load_state_dict
from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, SpecError, WmtpError
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.specs import MicroShape, MicroSpec
from wmtp_assets.checkpoints import micro as micro_module
from wmtp_assets.checkpoints.families import META
from wmtp_assets.checkpoints.micro import (
    cut,
    largest,
    magnitude,
    micro_params,
    source_blocks,
)
from wmtp_assets.checkpoints.params import MetaParams
from wmtp_assets.kinds.registry import expand
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import MICRO, SAFETENSORS, TOKENIZER
from wmtp_assets_tests.trees import damage, flip, tree

Tensors = dict[str, torch.Tensor]

PARENT = "models_v2/meta-llama-mtp"
SAMPLE_MICRO = "models_v2/micro-mtp"
CHECKPOINT = "safetensors/model.safetensors"
BLOCKS = ("layers.0", "extra_heads.0", "extra_heads.1", "extra_heads.2")
HEAD = 128


# -- the sample's micro model --------------------------------------------------------------------


@pytest.fixture(scope="module")
def parent(good_root: Path) -> Tensors:
    """The tensors of the sample's full-size model."""
    return load_file(good_root / PARENT / CHECKPOINT)


@pytest.fixture(scope="module")
def micro(good_root: Path) -> Tensors:
    """The tensors of the sample's micro model."""
    return load_file(good_root / SAMPLE_MICRO / CHECKPOINT)


def ranked(scores: list[float], count: int) -> list[int]:
    """Indices of the largest scores, of equal ones the first, in ascending order."""
    return sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count])


def columns(weight: torch.Tensor) -> list[float]:
    """Sum of absolute values per column; exact: 16-bit numbers are multiples of 2^-24."""
    return weight.double().abs().sum(0).tolist()


def rows(weight: torch.Tensor) -> list[float]:
    """Sum of absolute values per row."""
    return weight.double().abs().sum(1).tolist()


@pytest.fixture(scope="module")
def channels(parent: Tensors) -> list[int]:
    """The hidden channels that are kept."""
    return ranked(columns(parent["tok_embeddings.weight"]), 512)


def test_size_is_what_was_promised(good_root: Path, micro: Tensors) -> None:
    """Under 50 MB, with 4 layers, 512 channels and the whole vocabulary, is only just possible."""
    path = good_root / SAMPLE_MICRO / CHECKPOINT
    assert path.stat().st_size == 49_820_520 < 50_000_000
    assert sum(tensor.numel() for tensor in micro.values()) == 24_908_288
    assert {tensor.dtype for tensor in micro.values()} == {torch.float16}
    document = json.loads((good_root / SAMPLE_MICRO / "metadata.json").read_bytes())
    assert (document["n_params"], document["dtype"]) == (24_908_288, "float16")
    assert document["target_device"] == "mps"
    assert document["tokenizer_shared_with"] == "meta-llama-mtp"


def test_names_and_shapes_are_metas(micro: Tensors) -> None:
    """The training code builds its modules from params.json and loads strictly by name."""
    block = {
        "attention.wq": (512, 512),
        "attention.wk": (512, 512),
        "attention.wv": (512, 512),
        "attention.wo": (512, 512),
        "feed_forward.w1": (704, 512),
        "feed_forward.w2": (512, 704),
        "feed_forward.w3": (704, 512),
        "attention_norm": (512,),
        "ffn_norm": (512,),
    }
    expected = {f"{b}.{name}.weight": shape for b in BLOCKS for name, shape in block.items()}
    expected |= {"tok_embeddings.weight": (32000, 512), "norm.weight": (512,)}
    assert {name: tuple(tensor.shape) for name, tensor in micro.items()} == expected


def test_loads_with_an_output_matrix(good_root: Path, micro: Tensors) -> None:
    """Tied in the file, 33 MB of it; the strict loader wants both names."""
    loaded = load_state_dict(good_root / SAMPLE_MICRO / CHECKPOINT)
    assert loaded.keys() == micro.keys() | {"output.weight"}
    assert loaded["output.weight"].data_ptr() == loaded["tok_embeddings.weight"].data_ptr()
    with safe_open(good_root / SAMPLE_MICRO / CHECKPOINT, "pt") as file:
        assert file.metadata() == {
            "dtype": "float16",
            "format": "pt",
            "model_name": "micro-mtp",
        }


def test_same_channels_everywhere(parent: Tensors, micro: Tensors, channels: list[int]) -> None:
    """The residual stream adds all blocks' outputs: channel i must be the same one in each."""
    assert torch.equal(micro["tok_embeddings.weight"], parent["tok_embeddings.weight"][:, channels])
    assert torch.equal(micro["norm.weight"], parent["norm.weight"][channels])
    for target, source in source_of(parent).items():
        for name in ("attention_norm", "ffn_norm"):
            whole = parent[f"{source}.{name}.weight"]
            assert torch.equal(micro[f"{target}.{name}.weight"], whole[channels])


def source_of(parent: Tensors) -> dict[str, str]:
    """Micro block → parent block: the trunk's one layer is the parent's last."""
    trunk = {int(name.split(".")[1]) for name in parent if name.startswith("layers.")}
    return dict(zip(BLOCKS, (f"layers.{max(trunk)}", *BLOCKS[1:]), strict=True))


@pytest.mark.parametrize("target", BLOCKS)
def test_block_is_cut_as_described(
    parent: Tensors, micro: Tensors, channels: list[int], target: str
) -> None:
    """Recomputed in another way: which heads, units and channels are kept, and every bit of them.

    ``layers.0`` comes from the last trunk layer, which is the next-token head; rotary embeddings
    pair the channels of a head, so a head stays whole, with its query, key, value and output.
    """
    source = source_of(parent)[target]
    old = {name: parent[f"{source}.{name}.weight"] for name in WEIGHTS}
    new = {name: micro[f"{target}.{name}.weight"] for name in WEIGHTS}

    scores = [0.0] * 5
    for name in ("attention.wq", "attention.wk", "attention.wv"):
        for row, score in enumerate(rows(old[name])):
            scores[row // HEAD] += score
    for column, score in enumerate(columns(old["attention.wo"])):
        scores[column // HEAD] += score
    heads = ranked(scores, 4)
    kept = [head * HEAD + i for head in heads for i in range(HEAD)]
    for name in ("attention.wq", "attention.wk", "attention.wv"):
        assert torch.equal(new[name], old[name][kept][:, channels])
        for number, head in enumerate(heads):
            mine = new[name][number * HEAD : (number + 1) * HEAD]
            assert torch.equal(mine, old[name][head * HEAD : (head + 1) * HEAD, channels])
    assert torch.equal(new["attention.wo"], old["attention.wo"][channels][:, kept])

    up, gate = rows(old["feed_forward.w3"]), rows(old["feed_forward.w1"])
    down = columns(old["feed_forward.w2"])
    units = ranked([sum(parts) for parts in zip(up, gate, down, strict=True)], 704)
    for name in ("feed_forward.w1", "feed_forward.w3"):
        assert torch.equal(new[name], old[name][units][:, channels])
    assert torch.equal(new["feed_forward.w2"], old["feed_forward.w2"][channels][:, units])


WEIGHTS = (
    *(f"attention.{name}" for name in ("wq", "wk", "wv", "wo")),
    *(f"feed_forward.{name}" for name in ("w1", "w2", "w3")),
)


@pytest.mark.parametrize("threads", [1, 2])
def test_two_runs_make_the_same_bytes(store: Store, threads: int) -> None:
    """Same bytes in, same bytes out, also on a machine with another number of cores."""
    artifact = store.catalogue["micro_mtp"]
    before = store.manifest(artifact)
    was = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        again = tiny.make(store, "micro_mtp")
    finally:
        torch.set_num_threads(was)
    assert again.files == before.files
    assert again.document == before.document


def test_damaged_parent_of_the_sample_is_named(store: Store) -> None:
    """The same for a file of real size: one bit, in the middle of one of 57 tensors."""
    artifact = store.catalogue["micro_mtp"]
    path = store.root / PARENT / CHECKPOINT
    name = "extra_heads.1.feed_forward.w2.weight"
    header = micro_module.read_header(path)
    damage(path, flip(header.begins[name] + 1_000_001))
    before = tree(store.folder(artifact))
    with pytest.raises(CorruptArtifact, match=rf"tensor {name} is damaged"):
        tiny.make(store, "micro_mtp")
    assert tree(store.folder(artifact)) == before


# -- a forward pass ------------------------------------------------------------------------------


def rotate(x: torch.Tensor, theta: float) -> torch.Tensor:
    """Rotary embeddings in Meta's layout: neighbouring channels are a pair."""
    _, length, _, size = x.shape
    frequencies = theta ** (-torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(length), frequencies)
    turns = torch.polar(torch.ones_like(angles), angles)[None, :, None]
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2)


def normalise(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def run_block(x: torch.Tensor, state: Tensors, name: str, params: MetaParams) -> torch.Tensor:
    def weight(part: str) -> torch.Tensor:
        return state[f"{name}.{part}.weight"]

    batch, length, _ = x.shape
    h = normalise(x, weight("attention_norm"), params.norm_eps)
    q, k, v = (
        (h @ weight(f"attention.{part}").T).view(batch, length, -1, params.head_dim)
        for part in ("wq", "wk", "wv")
    )
    q, k = rotate(q, params.rope_theta), rotate(k, params.rope_theta)
    k, v = (part.repeat_interleave(params.n_heads // params.kv_heads, 2) for part in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(params.head_dim)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, -math.inf).softmax(-1)
    attended = torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)
    x = x + attended @ weight("attention.wo").T
    h = normalise(x, weight("ffn_norm"), params.norm_eps)
    gated = torch.nn.functional.silu(h @ weight("feed_forward.w1").T)
    return x + (gated * (h @ weight("feed_forward.w3").T)) @ weight("feed_forward.w2").T


def forward(tokens: torch.Tensor, state: Tensors, params: MetaParams) -> torch.Tensor:
    """Logits [batch, position, head, vocabulary], as in Meta's ``llama/model.py``.

    The last trunk layer is the next-token head: it and the extra heads all see the trunk before it.
    """
    x = state["tok_embeddings.weight"][tokens]
    for number in range(params.n_trunk - 1):
        x = run_block(x, state, f"layers.{number}", params)
    heads = (f"layers.{params.n_trunk - 1}", *META.blocks(params)[params.n_trunk :])
    latents = torch.stack([run_block(x, state, head, params) for head in heads], dim=2)
    return normalise(latents, state["norm.weight"], params.norm_eps) @ state["output.weight"].T


def test_micro_model_predicts(good_root: Path) -> None:
    """A file of right shapes is not yet a model: four heads must give finite, causal logits.

    With nothing but the shipped files, as the training code would: params.json and the checkpoint.
    """
    folder = good_root / SAMPLE_MICRO
    params = MetaParams.model_validate_json((folder / "configs/params.json").read_bytes())
    state = {name: t.float() for name, t in load_state_dict(folder / CHECKPOINT).items()}
    tokens = torch.randint(0, 32000, (2, 9), generator=torch.Generator().manual_seed(0))
    logits = forward(tokens, state, params)
    assert logits.shape == (2, 9, 4, 32000)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0.01
    assert all(
        not torch.allclose(logits[:, :, a], logits[:, :, b]) for a in range(4) for b in range(a)
    )
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 32000
    other = forward(changed, state, params)
    assert torch.allclose(other[:, :-1], logits[:, :-1], atol=1e-5)
    assert not torch.allclose(other[:, -1], logits[:, -1])


# -- ranking -------------------------------------------------------------------------------------


def exact(weight: torch.Tensor, dim: int) -> list[int]:
    """Sums of absolute values in units of 2^-24, by Python's integers."""
    values = weight if dim == 1 else weight.T
    return [
        sum(numerator * 2**24 // denominator for numerator, denominator in row)
        for row in ([abs(x).as_integer_ratio() for x in line] for line in values.tolist())
    ]


halves = st.integers(0, 0xFFFF).filter(lambda bits: bits & 0x7C00 != 0x7C00)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 7).flatmap(
        lambda n: st.lists(st.lists(halves, min_size=n, max_size=n), min_size=1, max_size=7)
    )
)
def test_sums_are_exact(lines: list[list[int]]) -> None:
    """A rounded sum depends on its order, and with it which head survives depends on the machine.

    Any finite float16, the smallest and the largest together.
    """
    weight = torch.tensor(lines, dtype=torch.int32).to(torch.uint16).view(torch.float16)
    assert magnitude(weight, 0).tolist() == exact(weight, 0)
    assert magnitude(weight, 1).tolist() == exact(weight, 1)


def test_sums_do_not_depend_on_threads_or_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough for torch to split the work, and cut into parts of another size."""
    weight = torch.randn(3000, 70, generator=torch.Generator().manual_seed(0)).half()
    weight[0] = 65504
    weight[1] = 2**-24
    expected = magnitude(weight, 0), magnitude(weight, 1)
    assert expected[0].tolist() == exact(weight, 0)
    shuffled = torch.randperm(3000, generator=torch.Generator().manual_seed(1))
    was = torch.get_num_threads()
    for threads, part in ((1, 4096), (2, 4096), (2, 7), (1, 2999)):
        monkeypatch.setattr(micro_module, "_ROWS", part)
        torch.set_num_threads(threads)
        try:
            assert torch.equal(magnitude(weight, 0), expected[0])
            assert torch.equal(magnitude(weight, 1), expected[1])
            assert torch.equal(magnitude(weight[shuffled], 0), expected[0])
        finally:
            torch.set_num_threads(was)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
def test_ties_go_to_the_first(scores: list[int], data: st.DataObject) -> None:
    """Sorting libraries differ in what they do with equal scores; ours must not."""
    count = data.draw(st.integers(0, len(scores)))
    found = largest(torch.tensor(scores), count).tolist()
    assert found == ranked([float(score) for score in scores], count)


# -- which blocks --------------------------------------------------------------------------------


def shaped(n_layers: int, n_future_tokens: int = 3) -> MetaParams:
    return tiny.params(n_layers=n_layers, n_future_tokens=n_future_tokens)


def test_one_trunk_layer_is_the_last() -> None:
    """The last of ``layers`` is the next-token head: any other has never seen the output."""
    assert source_blocks(META, shaped(31), shaped(3)) == {
        "layers.0": "layers.28",
        "extra_heads.0": "extra_heads.0",
        "extra_heads.1": "extra_heads.1",
    }


@pytest.mark.parametrize("parent", [1, 2, 5, 29, 32])
def test_several_trunk_layers_are_evenly_spaced(parent: int) -> None:
    """First and last included, each once, in order, gaps that differ by at most one."""
    for micro in range(2, parent + 1):
        blocks = source_blocks(META, shaped(parent, 1), shaped(micro, 1))
        assert list(blocks) == [f"layers.{i}" for i in range(micro)]
        numbers = [int(source.removeprefix("layers.")) for source in blocks.values()]
        gaps = {after - before for before, after in pairwise(numbers)}
        assert (numbers[0], numbers[-1]) == (0, parent - 1)
        assert min(gaps) >= 1
        assert max(gaps) - min(gaps) <= 1


# -- shapes that cannot be cut -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 64, "n_heads": 8}, "shape.dim is 64, tiny has 32"),
        ({"n_heads": 8, "dim": 32}, "shape.n_heads is 8, tiny has 4"),
        ({"n_kv_heads": 4}, "shape.n_kv_heads is 4, tiny has 2"),
        ({"n_heads": 4}, "shape.dim 16 with shape.n_heads 4 cuts heads apart"),
        ({"n_heads": 1}, "shape.dim 16 with shape.n_heads 1 cuts heads apart"),
        ({"dim": 17}, "shape.dim 17 with shape.n_heads 2 cuts heads apart"),
        ({"dim": 8, "n_heads": 1}, "shape.n_heads 1 on shape.n_kv_heads 1; tiny has 4 on 2"),
        ({"n_kv_heads": 2}, "shape.n_heads 2 on shape.n_kv_heads 2; tiny has 4 on 2"),
        ({"n_layers": 2}, "shape.n_layers 2 asks for 0 trunk layers, tiny has 5"),
        ({"n_layers": 8}, "shape.n_layers 8 asks for 6 trunk layers, tiny has 5"),
        ({"ffn_dim_multiplier": 3.0}, "shape.ffn_dim_multiplier make a feed-forward size of 128,"),
        ({"ffn_dim_multiplier": 1e308}, "shape.ffn_dim_multiplier is 1e+308"),
        ({"ffn_dim_multiplier": math.inf}, "shape.ffn_dim_multiplier is inf"),
        ({"multiple_of": 96}, "shape.multiple_of and shape.ffn_dim_multiplier make a feed-forward"),
    ],
)
def test_impossible_shape_names_the_field(changes: dict[str, Any], message: str) -> None:
    """Cutting must never split a head or invent a layer; the message says which line to edit."""
    shape = MicroShape.model_construct(**{**tiny.SHAPE, **changes})
    with pytest.raises(SpecError) as refused:
        micro_params(tiny.params(), tiny.micro_spec().model_copy(update={"shape": shape}))
    assert str(refused.value).startswith(f"{MICRO}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_layers": 7},
        {"dim": 32, "n_heads": 4, "n_kv_heads": 2, "ffn_dim_multiplier": 1.0},
        {"ffn_dim_multiplier": 2.0},
    ],
)
def test_possible_shapes_are_cut(changes: dict[str, Any]) -> None:
    """The limits themselves are allowed, up to a micro model that is as large as its parent."""
    spec = tiny.micro_spec(**changes)
    params = micro_params(tiny.params(), spec)
    assert params.model_dump(include=set(tiny.SHAPE)) == spec.shape.model_dump()
    parent = tiny.random_tensors(tiny.params())
    tensors = cut(tiny.in_rows(parent), META, tiny.params(), params)
    assert {name: tuple(t.shape) for name, t in tensors.items()} == META.tensor_shapes(
        params, tied=True
    )


def test_a_cut_to_the_same_size_is_the_parent() -> None:
    """Keeping everything in source order changes nothing: no permutation slips in."""
    parent = tiny.random_tensors(tiny.params())
    params = micro_params(
        tiny.params(),
        tiny.micro_spec(dim=32, n_heads=4, n_kv_heads=2, n_layers=7, ffn_dim_multiplier=1.0),
    )
    tensors = cut(tiny.in_rows(parent), META, tiny.params(), params)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, parent[name]), name
    assert parent.keys() - tensors.keys() == {"output.weight", "rope.freqs"}


@pytest.mark.parametrize("favoured", [0, 1])
@pytest.mark.parametrize("decisive", ["wq", "wk", "wv", "wo"])
def test_grouped_queries_are_cut_by_groups(decisive: str, favoured: int) -> None:
    """Two query heads share a key head: cut apart they would attend with another head's keys.

    One row (of the output matrix: one column) in any of the four decides for the whole group.
    """
    parent = tiny.random_tensors(tiny.params())
    params = micro_params(tiny.params(), tiny.micro_spec())
    queries, keys = (slice(favoured * size, (favoured + 1) * size) for size in (16, 8))
    weights = {
        name: parent[f"layers.4.attention.{name}.weight"] for name in ("wq", "wk", "wv", "wo")
    }
    last = (keys if decisive in ("wk", "wv") else queries).stop - 1
    weights[decisive][(slice(None), last) if decisive == "wo" else last] *= 100
    tensors = cut(tiny.in_rows(parent), META, tiny.params(), params)
    channels = ranked(columns(parent["tok_embeddings.weight"]), 16)
    for name, kept in (("wq", queries), ("wk", keys), ("wv", keys)):
        found = tensors[f"layers.0.attention.{name}.weight"]
        assert torch.equal(found, weights[name][kept][:, channels])
    found = tensors["layers.0.attention.wo.weight"]
    assert torch.equal(found, weights["wo"][channels][:, queries])


@pytest.mark.parametrize("decisive", ["w1", "w2", "w3"])
def test_units_are_cut_from_all_three(decisive: str) -> None:
    """Unit i of w1 is multiplied with unit i of w3 and read by column i of w2.

    A unit that is large in any of them is kept, in all of them.
    """
    parent = tiny.random_tensors(tiny.params())
    params = micro_params(tiny.params(), tiny.micro_spec())
    weights = {name: parent[f"layers.4.feed_forward.{name}.weight"] for name in ("w1", "w2", "w3")}
    units = list(range(5, 53, 2))
    weights[decisive][(slice(None), units) if decisive == "w2" else units] *= 100
    tensors = cut(tiny.in_rows(parent), META, tiny.params(), params)
    channels = ranked(columns(parent["tok_embeddings.weight"]), 16)
    for name in ("w1", "w3"):
        found = tensors[f"layers.0.feed_forward.{name}.weight"]
        assert torch.equal(found, weights[name][units][:, channels])
    found = tensors["layers.0.feed_forward.w2.weight"]
    assert torch.equal(found, weights["w2"][channels][:, units])


# -- the builder ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A committed tiny model and its micro model."""
    store = tiny.make_store(tmp_path_factory.mktemp("made") / "storage")
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO)
    return store


@pytest.fixture
def tiny_store(made: Store, tmp_path: Path) -> Store:
    """A copy of :func:`made`."""
    return tiny.copy_of(made, tmp_path / "storage")


def assert_refused(store: Store, kind: type[WmtpError]) -> str:
    """The micro model is refused; the old one is untouched, and nothing is left staged."""
    return tiny.assert_refused(store, kind, key=MICRO)


def used_tensors() -> Iterator[str]:
    """The parent's tensors that the tiny micro model is cut from."""
    for name in META.tensor_shapes(tiny.params(), tied=True):
        if not name.startswith("layers.") or name.startswith("layers.4."):
            yield name


@pytest.mark.parametrize("name", list(used_tensors()))
def test_one_flipped_bit_in_a_used_tensor(tiny_store: Store, name: str) -> None:
    """A damaged weight must not be cut into a model that looks like new."""
    path = tiny.checkpoint_path(tiny_store, SAFETENSORS)
    good = path.read_bytes()
    header = micro_module.read_header(path)
    begin = header.begins[name]
    size = next(entry.size for entry in header.entries if entry.name == name)
    for offset in (begin, begin + size // 2, begin + size - 1):
        damage(path, flip(offset))
        message = assert_refused(tiny_store, CorruptArtifact)
        assert message.startswith(f"{path}: tensor {name} is damaged: SHA-256 ")
        assert f"wmtp repair {SAFETENSORS}" in message
        damage(path, lambda data: good)
    tiny.make(tiny_store, MICRO)


def test_flipped_bits_in_the_header(tiny_store: Store) -> None:
    """The header says where each tensor lies; a bit there moves or renames one."""
    path = tiny.checkpoint_path(tiny_store, SAFETENSORS)
    good = path.read_bytes()
    end = micro_module.read_header(path).data_start
    for offset in (*range(40), *range(40, end, 97), end - 1):
        damage(path, flip(offset))
        assert str(path) in assert_refused(tiny_store, CorruptArtifact)
        damage(path, lambda data: good)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_truncated_parent(tiny_store: Store, kept: int) -> None:
    """Also where the missing bytes belong to a tensor that is not used."""
    path = tiny.checkpoint_path(tiny_store, SAFETENSORS)
    damage(path, lambda data: data[:kept])
    assert str(path) in assert_refused(tiny_store, CorruptArtifact)


def test_missing_parent_file(tiny_store: Store) -> None:
    """Its manifest is there and the file is not: damage, with the command that repairs it."""
    path = tiny.checkpoint_path(tiny_store, SAFETENSORS)
    path.unlink()
    message = assert_refused(tiny_store, CorruptArtifact)
    assert str(path) in message
    assert f"wmtp repair {SAFETENSORS}" in message


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (SAFETENSORS, "configs/params.json"),
        (TOKENIZER, "tokenizer.model"),
        (TOKENIZER, "tokenizer_config.json"),
    ],
)
@pytest.mark.parametrize("offset", [0, 30, -1])
def test_changed_files_of_the_parent(tiny_store: Store, key: str, name: str, offset: int) -> None:
    """Another head count in params.json would cut the same bytes into other heads."""
    path = tiny_store.path(tiny_store.catalogue[key], name)
    damage(path, flip(offset))
    message = assert_refused(tiny_store, CorruptArtifact)
    assert str(path) in message
    assert f"wmtp repair {key}" in message


@pytest.mark.parametrize("name", ["output.weight", "layers.0.attention.wq.weight"])
def test_one_flipped_bit_in_an_unused_tensor(tiny_store: Store, name: str) -> None:
    """A micro model says which parent it was cut from; that parent must be whole."""
    path = tiny.checkpoint_path(tiny_store, SAFETENSORS)
    damage(path, flip(micro_module.read_header(path).begins[name]))
    assert f"tensor {name} is damaged" in assert_refused(tiny_store, CorruptArtifact)


def with_micro(store: Store, spec: MicroSpec) -> Store:
    """The same root after an edit of the micro model's spec."""
    others = [other for other in store.catalogue.specs if other.name != spec.name]
    return Store(Settings("sample", store.root), expand([*others, spec]))


def test_impossible_shape_is_refused_by_the_builder(tiny_store: Store) -> None:
    """The message must come out of the builder, and the old model stay."""
    store = with_micro(tiny_store, tiny.micro_spec(n_heads=4))
    assert "shape.n_heads 4 cuts heads apart" in assert_refused(store, SpecError)


def test_too_large_is_refused(tiny_store: Store) -> None:
    """The bound is on the file, header included, and "under" means under."""
    size = tiny.checkpoint_path(tiny_store, MICRO).stat().st_size
    store = with_micro(tiny_store, tiny.micro_spec(max_bytes=size))
    assert assert_refused(store, InvalidInput) == (
        f"{MICRO}: model.safetensors is {size} bytes, not under {size}"
    )
    tiny.make(with_micro(tiny_store, tiny.micro_spec(max_bytes=size + 1)), MICRO)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parents_of_other_dtypes(tmp_path: Path, dtype: str) -> None:
    """Ranked in the parent's numbers, rounded once at the end; both dtypes are recorded."""
    store = tiny.make_store(tmp_path / "storage", dtype)
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    document = tiny.make(store, TOKENIZER, SAFETENSORS, MICRO).document
    parent = load_file(tiny.checkpoint_path(store, SAFETENSORS))
    micro = micro_params(tiny.params(), tiny.micro_spec())
    expected = cut(tiny.in_rows(parent), META, tiny.params(), micro)
    found = load_file(tiny.checkpoint_path(store, MICRO))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor.half()) for name, tensor in expected.items())
    assert document["conversion"]["from_dtype"] == [dtype]
    assert document["conversion"]["to_dtype"] == "float16"


def test_overflow_in_the_parent_is_refused(tmp_path: Path) -> None:
    """A bfloat16 parent may hold what float16 cannot: an error that names the tensor."""
    store = tiny.make_store(tmp_path / "storage", "bfloat16")
    tensors = tiny.random_tensors(tiny.params())
    tensors["norm.weight"].fill_(1e6)
    tiny.commit_raw(store, tensors)
    tiny.make(store, TOKENIZER, SAFETENSORS)
    with pytest.raises(InvalidInput, match=r"norm\.weight: .* overflows float16"):
        tiny.make(store, MICRO)
    assert not tiny.model_folder(store, MICRO).exists()
    assert tiny.staged_left(store) == []


def test_metadata_says_what_was_cut(tiny_store: Store) -> None:
    """Which block came from which cannot be seen in the file."""
    document = tiny_store.manifest(tiny_store.catalogue[MICRO]).document
    assert document["conversion"] == {
        "from_dtype": ["float16"],
        "to_dtype": "float16",
        "dropped": ["output.weight"],
        "aliased": {"output.weight": "tok_embeddings.weight"},
        "blocks": {
            "layers.0": "layers.4",
            "extra_heads.0": "extra_heads.0",
            "extra_heads.1": "extra_heads.1",
        },
    }
    parent = tiny_store.manifest(tiny_store.catalogue[SAFETENSORS])
    assert document["upstream"][SAFETENSORS] == parent.content_sha256


def test_folder_stands_alone(tiny_store: Store) -> None:
    """A micro model is copied to a laptop as one folder: tokenizer and configs are in it."""
    folder = tiny.model_folder(tiny_store, MICRO)
    assert {path for path in tree(folder) if path not in ("metadata.json", "pieces.json")} == {
        "safetensors/model.safetensors",
        "safetensors/SHA256SUMS",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer.model",
        "tokenizer/tokenizer_config.json",
        "configs/params.json",
        "configs/meta_adapter.yaml",
        "configs/config.json",
    }
    params = json.loads((folder / "configs/params.json").read_bytes())
    assert params == {**tiny.PARAMS, **tiny.SHAPE}
    tokenizer = tiny_store.path(tiny_store.catalogue[TOKENIZER], "tokenizer.model").read_bytes()
    assert (folder / "tokenizer/tokenizer.model").read_bytes() == tokenizer
    document = tiny_store.manifest(tiny_store.catalogue[MICRO]).document
    assert document["sha256"]["tokenizer"] == hashlib.sha256(tokenizer).hexdigest()


def test_shape_has_the_fields_of_params() -> None:
    """Every field of a shape replaces one of the parent's parameters; a typo would add a key."""
    assert MicroShape.model_fields.keys() <= MetaParams.model_fields.keys()
