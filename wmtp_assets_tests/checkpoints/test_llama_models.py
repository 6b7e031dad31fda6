"""Models with transformers' names: cut as Meta's are, and loaded by transformers as they are."""

from __future__ import annotations

import json
import socket
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from wmtp_assets import load_state_dict
from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, SpecError
from wmtp_assets.checkpoints import architecture
from wmtp_assets.checkpoints.families import FAMILIES, LLAMA, LLAMA_REWARD, META, Family
from wmtp_assets.checkpoints.micro import cut, micro_params, source_blocks
from wmtp_assets.checkpoints.params import MetaParams, llama_params, parse_params
from wmtp_assets.storage.store import Store, materialize_command
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import MICRO, SAFETENSORS, TOKENIZER, Tensors
from wmtp_assets_tests.quick import quick, thinned
from wmtp_assets_tests.rules.cases import apply
from wmtp_assets_tests.trees import damage, flip, tree

# -- names ---------------------------------------------------------------------------------------

SHEARED = {
    "hidden_size": 2560,
    "intermediate_size": 6912,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "num_key_value_heads": 20,
    "vocab_size": 32000,
}


def count(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def test_published_model_has_its_published_size() -> None:
    """323 keys of which 32 are buffers, 10,806,249,472 bytes of float32: upstream's own index."""
    shapes = tiny.shapes_of(LLAMA, tiny.CONFIG | SHEARED)
    assert len(shapes) == 323 - 32
    assert 4 * (count(shapes) + 32 * 64) == 10_806_249_472


def test_published_reward_model_has_its_published_size() -> None:
    """13,345,763,328 numbers in the file: the trunk twice, and both heads once."""
    seven = {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
    }
    shapes = tiny.shapes_of(LLAMA_REWARD, tiny.CONFIG | seven)
    trunk = {name: shape for name, shape in shapes.items() if name.startswith("model.")}
    heads = {name: shape for name, shape in shapes.items() if name not in trunk}
    assert heads == {"lm_head.weight": (32000, 4096), "v_head.weight": (1, 4096)}
    assert 2 * count(trunk) + count(heads) == 13_345_763_328


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_tied_means_no_output_matrix(family: Family) -> None:
    """The name decides: a file may hold an output matrix that happens to equal the embedding."""
    params = tiny.params(n_layers=4, n_future_tokens=3 if family is META else 1)
    tied, untied = (family.tensor_shapes(params, tied) for tied in (True, False))
    assert family.is_tied(tied)
    assert not family.is_tied(untied)
    assert untied.keys() - tied.keys() == {family.output}
    assert not family.is_tied({"something.else"})


def test_names_are_transformers() -> None:
    """Checked against the class itself: its state dict, name by name and shape by shape."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(**tiny.CONFIG)
    with torch.device("meta"):
        theirs = transformers.LlamaForCausalLM(config).state_dict()
    assert {name: tuple(t.shape) for name, t in theirs.items()} == tiny.shapes_of(LLAMA)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("model.model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("transformer.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("model.lm_head.weight", "lm_head.weight"),
        ("v_head.weight", "v_head.weight"),
        ("transformers.x", "transformers.x"),
        ("model.norm.weight", "model.norm.weight"),
    ],
)
def test_names_in_the_reward_model(name: str, ours: str) -> None:
    """A prefix is a whole path: what only begins alike keeps its name."""
    assert LLAMA_REWARD.name_of(name) == ours
    assert LLAMA.name_of(name) == META.name_of(name) == name


# -- the cut -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A committed model in two shards and its micro model."""
    store = tiny.llama_store(tmp_path_factory.mktemp("made") / "storage")
    tiny.commit_files(store, tiny.llama_files())
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO)
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    """A copy of :func:`made`."""
    return tiny.copy_of(made, tmp_path / "storage")


def metas_name(name: str) -> str:
    """What a Llama's tensor is called in Meta's family."""
    names = {LLAMA.embedding: META.embedding, LLAMA.norm: META.norm, LLAMA.output: META.output}
    if name in names:
        return names[name]
    number, _, part = name.removeprefix("model.layers.").partition(".")
    parts = dict(zip(vars(LLAMA.block).values(), vars(META.block).values(), strict=True))
    return f"layers.{number}.{parts[part.removesuffix('.weight')]}.weight"


def test_cut_is_that_of_the_other_family(made: Store) -> None:
    """Same numbers under other names: the same channels, heads and units are kept.

    Meta's cut is checked number by number; a swapped pair of names would show here.
    """
    parent = load_file(tiny.checkpoint_path(made, SAFETENSORS))
    params = llama_params(tiny.CONFIG, "config.json")
    micro = micro_params(params, tiny.micro_spec())
    renamed = {metas_name(name): tensor for name, tensor in parent.items()}
    expected = cut(tiny.in_rows(renamed), META, params, micro)
    found = load_file(tiny.checkpoint_path(made, MICRO))
    tiny.assert_same_bits({metas_name(name): t for name, t in found.items()}, expected)


def test_layers_are_evenly_spaced(made: Store) -> None:
    """First and last included: three of four; no layer is a next-token head here."""
    conversion = made.manifest(made.catalogue[MICRO]).document["conversion"]
    assert conversion["blocks"] == {
        "model.layers.0": "model.layers.0",
        "model.layers.1": "model.layers.1",
        "model.layers.2": "model.layers.3",
    }
    assert conversion["dropped"] == ["lm_head.weight"]
    assert conversion["aliased"] == {"lm_head.weight": "model.embed_tokens.weight"}


def test_sample_layers_are_evenly_spaced() -> None:
    """Four of thirty-two, as for the published model."""
    parent, micro = (tiny.params(n_layers=n, n_future_tokens=1) for n in (32, 4))
    assert list(source_blocks(LLAMA, parent, micro).values()) == [
        f"model.layers.{i}" for i in (0, 10, 20, 31)
    ]


def test_configs_of_the_micro_model(made: Store) -> None:
    """config.json for transformers with upstream's other fields, params.json for the trainer."""
    folder = tiny.model_folder(made, MICRO)
    config = json.loads((folder / "configs/config.json").read_bytes())
    assert config == tiny.CONFIG | {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
    }
    params = parse_params((folder / "configs/params.json").read_bytes(), "params.json")
    assert params.n_future_tokens == 1
    found = load_file(tiny.checkpoint_path(made, MICRO))
    assert {n: tuple(t.shape) for n, t in found.items()} == LLAMA.tensor_shapes(params, tied=True)


@pytest.mark.parametrize("name", ["configs/config.json", "configs/params.json"])
@pytest.mark.parametrize("offset", [5, -5])
def test_changed_configs_of_the_parent(store: Store, name: str, offset: int) -> None:
    """Fields are passed on from there: they must be the committed ones."""
    path = store.path(store.catalogue[SAFETENSORS], name)
    damage(path, flip(offset))
    before = tree(tiny.model_folder(store, MICRO))
    with pytest.raises(CorruptArtifact) as refused:
        tiny.make(store, MICRO)
    assert str(path) in str(refused.value)
    assert tree(tiny.model_folder(store, MICRO)) == before


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.2.mlp.up_proj.weight"])
def test_damaged_tensor_of_the_parent(store: Store, name: str) -> None:
    """Also one that is not used: the parent must be whole."""
    path = tiny.checkpoint_path(store, SAFETENSORS)
    data = path.read_bytes()
    needle = load_file(path)[name].numpy().tobytes()
    damage(path, flip(data.index(needle) + 1))
    message = tiny.assert_refused(store, CorruptArtifact, key=MICRO)
    assert f"tensor {name} is damaged" in message


@pytest.mark.parametrize(
    ("family", "lacking"),
    [("llama_reward", LLAMA_REWARD.value_head), ("meta_mtp", META.embedding)],
)
def test_parent_that_was_made_as_another_family(store: Store, family: str, lacking: str) -> None:
    """Its spec was edited since: the tensors have other names, or one is not there."""
    files = tiny.LLAMA_FILES | {"params": "params.json"}
    model = tiny.LLAMA_MODEL | {"family": family, "files": files}
    edited = tiny.store_of(store.root, model, tiny.micro_spec(), tiny.SNAPSHOT)
    message = tiny.assert_refused(edited, SpecError, key=MICRO)
    assert message == (
        f"{tiny.checkpoint_path(store, SAFETENSORS)}: it has no tensor {lacking}, which a model of "
        f"the family {family} has: nothing can be cut from it. If the spec of tiny says the right "
        f"family, make the model again with: {materialize_command(SAFETENSORS)}"
    )


@pytest.mark.parametrize("family", ["llama", "transformers"])
def test_parent_of_metas_that_is_said_to_be_another(tmp_path: Path, family: str) -> None:
    """The other way round; what a class of transformers takes is known by its tensors."""
    made = tiny.make_store(tmp_path / "storage")
    tiny.commit_raw(made, tiny.random_tensors(tiny.params()))
    tiny.make(made, TOKENIZER, SAFETENSORS, MICRO)
    model = tiny.META_MODEL | {"family": family, "variants": ["bfloat16"]}
    model["files"] = model["files"] | {"config": "config.json"}
    edited = tiny.store_of(made.root, model, tiny.micro_spec(), tiny.SNAPSHOT)
    message = tiny.assert_refused(edited, SpecError, key=MICRO)
    assert message.startswith(f"{tiny.checkpoint_path(made, SAFETENSORS)}: ")
    assert "nothing can be cut from" in message


def test_micro_model_of_a_reward_model(tmp_path: Path) -> None:
    """Its value head is cut along, in the same channels."""
    spec = tiny.micro_spec().model_copy(update={"parent": "reward"})
    parent = tiny.weights(tiny.shapes_of(LLAMA_REWARD))
    params = llama_params(tiny.CONFIG, "config.json")
    micro = micro_params(params, spec)
    tensors = cut(tiny.in_rows(parent), LLAMA_REWARD, params, micro)
    channels = parent["model.embed_tokens.weight"].abs().sum(0).topk(16).indices.sort().values
    assert torch.equal(tensors["v_head.weight"], parent["v_head.weight"][:, channels])


# -- transformers --------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched: what is not in the folder is not there."""

    def connect(*arguments: object) -> None:
        raise AssertionError(f"connected: {arguments}")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", connect)


def loaded(folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """What transformers makes of the weights' folder, and what it says about it."""
    transformers = pytest.importorskip("transformers")
    return transformers.LlamaForCausalLM.from_pretrained(
        folder / "safetensors", output_loading_info=True, **options
    )


def rebuilt(folder: Path) -> Any:
    """The same model built from :func:`wmtp_assets.load_state_dict`, strictly."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig.from_pretrained(folder / "configs/config.json")
    model = transformers.LlamaForCausalLM(config).eval()
    state = load_state_dict(folder / "safetensors/model.safetensors")
    model.load_state_dict(state, strict=True, assign=True)
    return model


TOKENS = torch.randint(0, 32000, (2, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("name", "tied"), [("micro-ref", True), ("ref-sheared-llama-2.7b", False)])
def test_transformers_loads_it_whole(good_root: Path, name: str, tied: bool) -> None:
    """No key missing, none unexpected, in the file's dtype; and it predicts.

    The same logits as from the tensors that our own reader gives.
    """
    folder = good_root / "models_v2" / name
    named, told = loaded(folder, config=str(folder / "configs/config.json"))
    assert not list(chain.from_iterable(told.values())), told
    model, told = loaded(folder)
    tiny.assert_same_bits(named.state_dict(), model.state_dict())
    assert not list(chain.from_iterable(told.values())), told
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    with torch.no_grad():
        logits = model(TOKENS).logits
        expected = rebuilt(folder)(TOKENS).logits
    assert logits.shape == (2, 7, 32000)
    assert torch.isfinite(logits).all()
    assert logits.float().std() > 0.01
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("key", [SAFETENSORS, MICRO])
def test_config_lies_beside_the_weights(made: Store, key: str) -> None:
    """Where transformers 5 looks for it, whatever it is told; the same bytes, and listed."""
    folder = tiny.model_folder(made, key)
    beside = folder / "safetensors/config.json"
    assert beside.read_bytes() == (folder / "configs/config.json").read_bytes()
    assert "safetensors/config.json" in made.manifest(made.catalogue[key]).files
    assert "  config.json\n" in (folder / "safetensors/SHA256SUMS").read_text()


@pytest.mark.usefixtures("no_network")
def test_transformers_loads_the_reward_models_trunk(good_root: Path) -> None:
    """Under the names it knows; the value head is what a reward model adds."""
    _, told = loaded(good_root / "models_v2/starling-rm-7b")
    unexpected = told.pop("unexpected_keys")
    assert {*unexpected} == {"v_head.weight"}
    assert not list(chain.from_iterable(told.values())), told


def test_micro_ref_has_the_size_that_was_promised(good_root: Path) -> None:
    """As large as the other micro model: the same shape under other names."""
    path = good_root / "models_v2/micro-ref/safetensors/model.safetensors"
    tensors = load_file(path)
    assert path.stat().st_size < 50_000_000
    assert sum(tensor.numel() for tensor in tensors.values()) == 24_908_288
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


THEIRS = st.fixed_dictionaries(
    {
        "hidden_size": st.sampled_from([32, 48]),
        "intermediate_size": st.sampled_from([40, 88]),
        "num_hidden_layers": st.integers(1, 3),
        "num_attention_heads": st.sampled_from([2, 4]),
        "num_key_value_heads": st.sampled_from([1, 2]),
        "vocab_size": st.sampled_from([48, 51]),
        "rope_theta": st.sampled_from([10000.0, 500000.0, 123.5]),
        "tie_word_embeddings": st.booleans(),
        "rms_norm_eps": st.sampled_from([1e-05, 1e-06]),
        "pad_token_id": st.sampled_from([None, 0, 7]),
        "max_position_embeddings": st.sampled_from([2048, 4096]),
    }
)
"""Llamas, as small as can be."""


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("count", quick(thinned([6, 25, 100], [6, 25]), [6]))
def test_takes_what_transformers_saved(
    tmp_path_factory: pytest.TempPathFactory, count: int
) -> None:
    """The release that is installed writes ``rope_parameters`` and ``dtype``, and shards as asked.

    What we make of it loads again as the same model, with the same rotary base: by this release,
    and by those up to 4, which read ``rope_theta`` and ``torch_dtype``.
    """
    transformers = pytest.importorskip("transformers")

    @settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(
        config=THEIRS,
        dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
        shard=st.sampled_from(["1GB", "20KB"]),
        old=st.booleans(),
    )
    def check(config: dict[str, Any], dtype: str, shard: str, old: bool) -> None:
        folder = tmp_path_factory.mktemp("theirs")
        theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
        theirs = theirs.to(getattr(torch, dtype))
        theirs.save_pretrained(folder, max_shard_size=shard)
        if old:
            said = json.loads((folder / "config.json").read_bytes())
            said["rope_theta"] = said.pop("rope_parameters")["rope_theta"]
            said |= {"torch_dtype": said.pop("dtype"), "rope_scaling": None}
            (folder / "config.json").write_text(json.dumps(said))
        names = sorted(path.name for path in folder.glob("model*"))
        index = [name for name in names if name.endswith(".index.json")]
        shards = [name for name in names if name not in index] if index else []
        files = {"checkpoint": (index or names)[0], "shards": shards}
        there = {path.name: path.read_bytes() for path in folder.iterdir()}
        store = tiny.llama_store(
            folder / "storage",
            files=tiny.LLAMA_FILES | files,
        )
        tiny.commit_files(store, there | {"tokenizer.model": tiny.MODEL_PATH.read_bytes()})
        tiny.make(store, TOKENIZER, SAFETENSORS)
        for rule in ("parameters", "dtype"):
            assert apply(store, store.catalogue[SAFETENSORS], rule).findings == []
        ours, told = loaded(tiny.model_folder(store, SAFETENSORS))
        assert not list(chain.from_iterable(told.values())), told
        tiny.assert_same_bits(ours.state_dict(), theirs.half().state_dict())
        assert ours.config.rope_parameters["rope_theta"] == config["rope_theta"]
        assert ours.config.dtype == torch.float16
        written = json.loads(
            (tiny.model_folder(store, SAFETENSORS) / "configs/config.json").read_bytes()
        )
        assert written.get("rope_theta", 10000.0) == config["rope_theta"]
        assert written["torch_dtype"] == "float16"
        assert not written.get("rope_scaling")

    check()


def test_class_of_transformers_is_asked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, shapes and parameters are a Llama's, and ``from_pretrained`` would refuse it: its
    padding is not a row of the embedding. A node without transformers cannot tell."""
    store = tiny.llama_store(tmp_path)
    config = tiny.CONFIG | {"pad_token_id": tiny.CONFIG["vocab_size"]}
    tiny.commit_files(store, tiny.llama_files(config=config))
    tiny.make(store, TOKENIZER)
    with pytest.raises(InvalidInput, match=r"config.json: transformers does not take it: "):
        tiny.make(store, SAFETENSORS)
    monkeypatch.setattr(architecture, "find_spec", lambda name: None)
    tiny.make(store, SAFETENSORS)


# -- our reader ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("micro-ref", {"lm_head.weight": "model.embed_tokens.weight"}),
        ("micro-mtp", {"output.weight": "tok_embeddings.weight"}),
        ("starling-rm-7b", {}),
    ],
)
def test_reader_unties_and_changes_nothing_else(
    good_root: Path, name: str, added: dict[str, str]
) -> None:
    """On the files that are shipped: the library's tensors, and the one name that is missing."""
    path = good_root / "models_v2" / name / "safetensors/model.safetensors"
    found, expected = load_state_dict(path), load_file(path)
    aliases: Tensors = {alias: expected[of] for alias, of in added.items()}
    assert not aliases.keys() & expected.keys()
    tiny.assert_same_bits(found, expected | aliases)
    assert all(found[alias].data_ptr() == found[of].data_ptr() for alias, of in added.items())


def test_params_describe_both_families(good_root: Path) -> None:
    """One reader of params.json for all of them: the feed-forward size is the real one."""
    for name in ("micro-ref", "ref-sheared-llama-2.7b", "starling-rm-7b"):
        folder = good_root / "models_v2" / name / "configs"
        params = MetaParams.model_validate_json((folder / "params.json").read_bytes())
        config = json.loads((folder / "config.json").read_bytes())
        assert params.intermediate_size == config["intermediate_size"]
        assert (params.n_layers, params.n_trunk) == (config["num_hidden_layers"],) * 2
