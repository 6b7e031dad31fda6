"""Micro models that are cut from what a class of transformers takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from wmtp_assets.base.errors import CorruptArtifact, SpecError
from wmtp_assets.catalogue.specs import MicroSpec
from wmtp_assets.checkpoints.llama_like import llama_like
from wmtp_assets.checkpoints.rules import checkpoint as rules
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.architectures import HEADS, READ, SMALL, Case, make
from wmtp_assets_tests.checkpoints.test_architectures import check_rules, loaded
from wmtp_assets_tests.checkpoints.tiny import MICRO, SAFETENSORS, TOKENIZER
from wmtp_assets_tests.quick import quick
from wmtp_assets_tests.rules.cases import apply
from wmtp_assets_tests.trees import damage, flip, reseal

transformers = pytest.importorskip("transformers")

SHAPE: dict[str, Any] = {
    "dim": 16,
    "n_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 1,
    "multiple_of": 8,
    "ffn_dim_multiplier": 0.5,
}
"""The last of two layers, one group of two heads, 24 of 48 units."""

WHOLE = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "multiple_of": 48,
    "ffn_dim_multiplier": 0.5,
}
"""All of a parent."""

CASES = [case for case in READ if case.family == "transformers"]
CUT = [case for case in CASES if case.is_cut]
REFUSED = [case for case in CASES if not case.is_cut]


def store_of(case: Case, tmp_path: Path, *micros: MicroSpec, **stated: Any) -> Store:
    """A store with the raw files of a case, and micro models of it."""
    made = make(case, tmp_path / "upstream")
    store = tiny.store_of(tmp_path / "storage", made.spec | stated, *micros)
    wanted = store.catalogue["tiny_raw"].spec.files
    names = (*wanted.all(), *(name for name in wanted.extras if name in made.files))
    tiny.commit_files(store, {name: made.files[name] for name in names})
    return store


def named(name: str, **changes: Any) -> MicroSpec:
    """A micro model of another name."""
    spec = tiny.micro_spec(**{**SHAPE, **changes})
    return spec.model_copy(update={"name": name, "folder": name.replace("_", "-")})


def folder(store: Store, key: str) -> Path:
    return store.folder(store.catalogue[key]) / "safetensors"


def trained(model: Any) -> None:
    """One step of training moves every number."""
    model = model.float().train()
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    ids = torch.arange(3, 40)[None]
    logits = model(ids).logits
    assert torch.isfinite(logits).all()
    loss = (
        functional.cross_entropy(logits[0, :-1], ids[0, 1:])
        if logits.ndim == 3
        else logits.square().sum()
    )
    loss.backward()
    torch.optim.AdamW(model.parameters(), lr=1e-2).step()
    assert torch.isfinite(loss)
    still = {name for name, now in model.named_parameters() if torch.equal(now, before[name])}
    # of one key-value head with all the same rotation, a bias of the keys changes no attention
    assert not {name for name in still if "k_proj.bias" not in name}


QUICK_CUT = [case for case in CUT if case.model in ("Qwen 3", "Qwen 2.5, tied")]


@pytest.mark.parametrize("case", quick(CUT, QUICK_CUT), ids=str)
def test_is_cut(case: Case, tmp_path: Path) -> None:
    """Loaded without a missing or unexpected key, finite, trained for a step, by every rule; one
    as large as its parent computes what the parent does."""
    whole = named("whole", **WHOLE)
    store = store_of(
        case, tmp_path, tiny.micro_spec(**SHAPE), whole.model_copy(update={"tied": False})
    )
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO, "whole")
    check_rules(store, MICRO, "whole")
    model_class = getattr(transformers, case.made_by)
    model = loaded(model_class, folder(store, MICRO))
    assert model.dtype == torch.float16
    trained(model)
    document = store.manifest(store.catalogue[MICRO]).document
    parent = store.manifest(store.catalogue[SAFETENSORS]).document
    proof, theirs = document["architecture"], parent["architecture"]
    assert (proof["class"], proof["embedding"]) == (theirs["class"], theirs["embedding"])
    assert proof["keys"] == len(load_file(folder(store, MICRO) / "model.safetensors"))
    assert document["conversion"]["blocks"] == {"model.layers.0": "model.layers.1"}
    names = {path.name for path in (folder(store, MICRO).parent / "configs").iterdir()}
    assert names == {"config.json"}
    if case.dtype == "float16":
        same, its = (loaded(model_class, folder(store, key)) for key in ("whole", SAFETENSORS))
        ids = torch.arange(3, 40)[None]
        with torch.no_grad():
            assert torch.equal(same(ids).logits, its(ids).logits)


@pytest.mark.parametrize("case", quick(REFUSED, REFUSED[:1]), ids=str)
def test_is_refused(case: Case, tmp_path: Path) -> None:
    """What a tensor is for is not guessed; the parent stays."""
    store = store_of(case, tmp_path, tiny.micro_spec(**SHAPE))
    tiny.make(store, TOKENIZER, SAFETENSORS)
    with pytest.raises(SpecError, match=f"nothing can be cut from .'{case.made_by}'") as refused:
        tiny.make(store, MICRO)
    assert not tiny.staged_left(store)
    message = str(refused.value)
    assert "Micro models are cut from" in message


def test_layers_keep_their_kind(tmp_path: Path) -> None:
    """Which layers see a window only is said by number: that of the layer that was taken."""
    case = next(case for case in CUT if case.model == "Qwen 2.5, its window")
    shape = WHOLE | {"n_layers": 1}
    store = store_of(case, tmp_path, tiny.micro_spec(**shape))
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO)
    model = loaded(transformers.Qwen2ForCausalLM, folder(store, MICRO))
    assert model.config.layer_types == ["sliding_attention"]
    config = json.loads((folder(store, MICRO) / "config.json").read_bytes())
    assert config["max_window_layers"] == 0


# -- by the names and shapes of the parent -----------------------------------------------------


GOOD = next(case for case in CUT if case.model == "Qwen 3")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A Qwen 3 and a micro model of it."""
    store = store_of(GOOD, tmp_path_factory.mktemp("made"), tiny.micro_spec(**SHAPE))
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO)
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return tiny.copy_of(made, tmp_path / "storage")


@pytest.fixture(scope="module")
def shapes(made: Store) -> dict[str, tuple[int, ...]]:
    tensors = load_file(folder(made, SAFETENSORS) / "model.safetensors")
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


CONFIG = {"architectures": ["Qwen3ForCausalLM"], "num_attention_heads": 4}


def test_sizes_are_those_of_the_tensors(shapes: dict[str, tuple[int, ...]]) -> None:
    """Defaults of a class, such as eight key-value heads, are not asked for."""
    found = llama_like(CONFIG, shapes, "x")
    assert (found.dim, found.n_heads, found.kv_heads, found.head_dim) == (32, 4, 2, 16)
    assert (found.n_trunk, found.intermediate_size, found.has_output) == (2, 48, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.layers.0.mlp.adapter.weight": (4, 4)}, "what .*adapter.weight is for is not"),
        ({"model.layers.0.mlp.gate_proj.scale": (4, 4)}, "what .*gate_proj.scale is for is not"),
        ({"lm_head.bias": (290,)}, "what lm_head.bias is for"),
        ({"model.norm.weight": None}, "it has no model.norm.weight"),
        ({"model.layers.1.mlp.up_proj.weight": None}, "its blocks are not alike"),
        ({"model.layers.1.mlp.up_proj.weight": (50, 32)}, "its blocks are not alike"),
        ({"model.layers.0.self_attn.q_proj.weight": (63, 32)}, "not alike|num_attention_heads"),
    ],
)
def test_other_tensors_are_refused(
    shapes: dict[str, tuple[int, ...]], changes: dict[str, Any], message: str
) -> None:
    """One that is not cut with the others would make a model of nothing."""
    changed = {name: shape for name, shape in (shapes | changes).items() if shape is not None}
    with pytest.raises(SpecError, match=rf"^x: nothing can be cut from .*{message}"):
        llama_like(CONFIG, changed, "x")


@pytest.mark.parametrize("heads", [None, 0, 3, "4", 128])
def test_number_of_heads(shapes: dict[str, tuple[int, ...]], heads: object) -> None:
    """Tensors do not say it; heads that are cut apart compute nothing."""
    with pytest.raises(SpecError, match="num_attention_heads is"):
        llama_like(CONFIG | {"num_attention_heads": heads}, shapes, "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 48}, "shape.dim is 48, tiny has 32"),
        ({"n_layers": 3}, "shape.n_layers 3 asks for 3 trunk layers, tiny has 2"),
        ({"n_heads": 1}, "shape.n_heads 1 on shape.n_kv_heads 1; tiny has 4 on 2"),
        ({"ffn_dim_multiplier": 4.0}, "make a feed-forward size of 168, tiny has 48"),
    ],
)
def test_impossible_shapes(made: Store, tmp_path: Path, changes: Any, message: str) -> None:
    """The words are those of other micro models."""
    parent = made.catalogue["tiny_raw"].spec
    tiny.copy_of(made, tmp_path / "storage")
    store = tiny.store_of(tmp_path / "storage", parent, tiny.micro_spec(**SHAPE | changes))
    assert message in tiny.assert_refused(store, SpecError, key=MICRO)


def test_width_of_heads_is_the_parents(made: Store) -> None:
    """Two heads of 16 on a hidden size of 16: they need not be as wide together."""
    config = json.loads((folder(made, MICRO) / "config.json").read_bytes())
    assert (config["hidden_size"], config["head_dim"], config["num_attention_heads"]) == (16, 16, 2)
    assert SMALL["hidden_size"] // SMALL["num_attention_heads"] != HEADS["head_dim"]


def test_norms_of_a_head_stay_whole(made: Store) -> None:
    """They are of the channels within a head, none of which is cut."""
    ours, theirs = (load_file(folder(made, k) / "model.safetensors") for k in (MICRO, SAFETENSORS))
    for name in ("q_norm", "k_norm"):
        mine = ours[f"model.layers.0.self_attn.{name}.weight"]
        assert torch.equal(mine, theirs[f"model.layers.1.self_attn.{name}.weight"].half())


# -- rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_transformers", [True, False])
def test_a_changed_config_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch, has_transformers: bool
) -> None:
    """It is what cutting makes of the parent's, also where transformers is not there."""
    if not has_transformers:
        monkeypatch.setattr(rules, "find_spec", lambda name: None)
        monkeypatch.setattr(rules, "prove", None)
    artifact = store.catalogue[MICRO]
    assert not apply(store, artifact, "parameters").findings
    path = store.path(artifact, "configs/config.json")
    damage(path, lambda data: data.replace(b'"rope_theta": 10000.0', b'"rope_theta": 20000.0'))
    reseal(store, artifact)
    found = apply(store, artifact, "parameters").findings
    assert any("20000" in str(f.found) for f in found if f.file.endswith("configs/config.json"))


def test_another_generation_is_found(store: Store) -> None:
    """``generation_config.json`` is the parent's."""
    artifact = store.catalogue[MICRO]
    assert not apply(store, artifact, "model_folder").findings
    path = store.path(artifact, "safetensors/generation_config.json")
    damage(path, lambda data: data.replace(b'"eos_token_id": 2', b'"eos_token_id": 3'))
    reseal(store, artifact)
    assert apply(store, artifact, "model_folder").findings


@pytest.mark.parametrize("name", ["self_attn.q_norm.weight", "mlp.down_proj.weight"])
def test_damaged_parent(store: Store, name: str) -> None:
    """Every tensor is verified as it is read, those that no other family has too."""
    path = folder(store, SAFETENSORS) / "model.safetensors"
    begin = rules.read_header(path).begins[f"model.layers.1.{name}"]
    damage(path, flip(begin))
    assert f"{name} is damaged" in tiny.assert_refused(store, CorruptArtifact, key=MICRO)


def test_of_an_optional_parent(tmp_path: Path) -> None:
    """It is optional too, and says so."""
    micro = tiny.micro_spec(**SHAPE)
    store = store_of(GOOD, tmp_path, micro, status="optional")
    document = tiny.make(store, TOKENIZER, SAFETENSORS, MICRO, "tiny_micro_card").document
    assert document["asset"] == "tiny_micro_card"
    assert store.catalogue[MICRO].optional
    assert store.manifest(store.catalogue[MICRO]).document["status"] == "optional"
    check_rules(store, MICRO, "tiny_micro_card")
    card = store.read(store.catalogue["tiny_micro_card"], "README.md").decode()
    assert "`Qwen3ForCausalLM` of transformers" in card
    assert "cut from" in card
