"""Micro models with an output matrix: for strict loaders, and for saving after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from wmtp_assets.catalogue.specs import MicroSpec
from wmtp_assets.checkpoints.families import FAMILIES, LLAMA, META, Family
from wmtp_assets.checkpoints.micro import cut, micro_params
from wmtp_assets.checkpoints.params import parse_params
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.rules.cases import apply

TIED = {"micro_mtp_untied": ("micro_mtp", META), "micro_ref_untied": ("micro_ref", LLAMA)}


def checkpoint(root: Path, key: str) -> Path:
    return root / "models_v2" / key.replace("_", "-") / "safetensors/model.safetensors"


# -- the cut ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_output_matrix_is_the_parents_in_the_same_channels(family: Family) -> None:
    """Every row, since a row is a piece; of the channels those of all other tensors."""
    params = tiny.params(n_layers=4, n_future_tokens=3 if family is META else 1)
    parent = tiny.weights(family.tensor_shapes(params, tied=False))
    micro = micro_params(params, tiny.micro_spec(n_layers=3))
    tied, untied = (
        cut(tiny.in_rows(parent), family, params, micro, tied=tied) for tied in (True, False)
    )
    channels = parent[family.embedding].abs().sum(0).topk(micro.dim).indices.sort().values
    expected = {**tied, family.output: parent[family.output][:, channels]}
    tiny.assert_same_bits(untied, expected)
    shapes = {name: tuple(tensor.shape) for name, tensor in untied.items()}
    assert shapes == family.tensor_shapes(micro, tied=False)


@pytest.mark.parametrize("key", TIED)
def test_siblings_differ_in_the_output_matrix_only(good_root: Path, key: str) -> None:
    """What was measured on one holds for the other."""
    tied, family = TIED[key]
    ours, theirs = (load_file(checkpoint(good_root, name)) for name in (key, tied))
    output = ours.pop(family.output)
    tiny.assert_same_bits(ours, theirs)
    assert output.shape == theirs[family.embedding].shape
    assert not torch.equal(output, theirs[family.embedding])
    assert 82_000_000 < checkpoint(good_root, key).stat().st_size < 83_000_000


def test_rules_know_which_is_which(store: Store) -> None:
    """A tied file under an untied spec, and the other way round, is not what was asked for."""
    for key, (tied, family) in TIED.items():
        paths = {name: checkpoint(store.root, name) for name in (key, tied)}
        data = {name: path.read_bytes() for name, path in paths.items()}
        for mine, other in ((key, tied), (tied, key)):
            artifact = store.catalogue[mine]
            assert isinstance(artifact.spec, MicroSpec)
            assert apply(store, artifact, "parameters").findings == []
            paths[mine].unlink()
            paths[mine].write_bytes(data[other])
            places = {item.place for item in apply(store, artifact, "parameters").findings}
            assert f"tensor {family.output}" in places


# -- training --------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Causal attention without rotary embeddings."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, dim] → the same shape."""
        q, k, v = (
            weight(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for weight in (self.wq, self.wk, self.wv)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, dim: int, units: int) -> None:
        super().__init__()
        self.w1, self.w3 = (nn.Linear(dim, units, bias=False) for _ in range(2))
        self.w2 = nn.Linear(units, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(functional.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, units: int) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(dim, heads), FeedForward(dim, units)
        self.attention_norm, self.ffn_norm = nn.RMSNorm(dim), nn.RMSNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Predictor(nn.Module):
    """Predicts several tokens at once; its tensors have Meta's names."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        params = parse_params(path.read_bytes(), str(path))
        dim, size = params.dim, (params.dim, params.n_heads, params.intermediate_size)
        self.tok_embeddings = nn.Embedding(params.vocab_size, dim)
        self.layers = nn.ModuleList(Block(*size) for _ in range(params.n_trunk))
        self.extra_heads = nn.ModuleList(Block(*size) for _ in range(params.n_extra_heads))
        self.norm = nn.RMSNorm(dim)
        self.output = nn.Linear(dim, params.vocab_size, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[batch, tokens] → logits [batch, tokens, heads, vocab]."""
        x = self.tok_embeddings(tokens)
        *trunk, last = self.layers
        for block in trunk:
            x = block(x)
        heads = [head(x) for head in (last, *self.extra_heads)]
        return self.output(self.norm(torch.stack(heads, dim=2)))


TOKENS = torch.randint(0, 32000, (2, 9), generator=torch.Generator().manual_seed(0))


def trained(model: Any, logits: Any) -> dict[str, torch.Tensor]:
    """The state after one step of training, each tensor of which has moved."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss = functional.cross_entropy(logits(TOKENS[:, :-1]).flatten(0, 1), TOKENS[:, 1:].flatten())
    loss.backward()
    optimizer.step()
    after = model.state_dict()
    assert torch.isfinite(loss)
    assert any(not torch.equal(after[name], before[name]) for name in before)
    return after


def test_meta_naming_loads_strictly_and_is_saved(good_root: Path, tmp_path: Path) -> None:
    """A loader that does not know ties: the tied file lacks a name there."""
    configs = good_root / "models_v2/micro-mtp-untied/configs"
    model = Predictor(configs / "params.json").float()
    model.load_state_dict(load_file(checkpoint(good_root, "micro_mtp_untied")), strict=True)
    state = trained(model, lambda tokens: model(tokens)[:, :, 0])
    save_file(state, tmp_path / "model.safetensors")
    tiny.assert_same_bits(load_file(tmp_path / "model.safetensors"), state)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "output\.weight"'):
        model.load_state_dict(load_file(checkpoint(good_root, "micro_mtp")), strict=True)


def test_transformers_naming_loads_strictly_and_is_saved(good_root: Path, tmp_path: Path) -> None:
    """Of a tied model two names share their memory, which ``save_file`` refuses."""
    transformers = pytest.importorskip("transformers")
    for key, is_tied in (("micro_ref_untied", False), ("micro_ref", True)):
        folder = checkpoint(good_root, key).parent
        config = transformers.LlamaConfig.from_pretrained(folder)
        assert config.tie_word_embeddings == is_tied
        model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        assert (model.lm_head.weight is model.model.embed_tokens.weight) == is_tied
        state = trained(model, lambda tokens, model=model: model(tokens).logits)
        if is_tied:
            with pytest.raises(RuntimeError, match="share memory"):
                save_file(state, tmp_path / "model.safetensors")
            continue
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        save_file(state, tmp_path / "model.safetensors")
        assert load_file(tmp_path / "model.safetensors").keys() == state.keys()
