"""Checkpoints of transformers' families: shards, indexes, twins; and each way they can be wrong.

Through the real builder: a refusal names file and tensor, and changes nothing that is there.
"""

from __future__ import annotations

import errno
import io
import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact, StoreError
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints import pipeline, upstream
from wmtp_assets.checkpoints.families import FAMILIES
from wmtp_assets.storage.files import HashedFile
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import INDEX, RAW, SAFETENSORS, SHARDS, TOKENIZER, Tensors
from wmtp_assets_tests.leaks import leaves_nothing
from wmtp_assets_tests.trees import damage, flip

REWARD_RAW, REWARD_TOKENIZER, REWARD = "reward_raw", "reward_tokenizer", "reward_safetensors"

LLAMA = tiny.llama_tensors()
KEPT = {name: tensor for name, tensor in LLAMA.items() if "inv_freq" not in name}
FILES = tiny.llama_files()
BUFFERS = sorted(LLAMA.keys() - KEPT.keys())

WQ = "model.layers.0.self_attn.q_proj.weight"
LAST = "model.layers.3.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A committed model in two shards, and a committed reward model."""
    store = tiny.llama_store(tmp_path_factory.mktemp("made") / "storage")
    tiny.commit_files(store, FILES)
    tiny.commit_files(store, tiny.reward_files(), REWARD_RAW)
    tiny.make(store, TOKENIZER, SAFETENSORS, REWARD_TOKENIZER, REWARD)
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    """A copy of :func:`made`."""
    return tiny.copy_of(made, tmp_path / "storage")


def refusal(store: Store, files: dict[str, bytes], kind: type[Exception] = InvalidInput) -> str:
    """The message with which the model is refused whose raw files are those, without its folder."""
    tiny.commit_files(store, files)
    folder = tiny.raw_path(store, "")
    message = tiny.assert_refused(store, kind)
    assert len(message) < 1000
    return message.replace(f"{folder}/", "")


def shards(
    first: Callable[[Tensors], object] = lambda tensors: None,
    second: Callable[[Tensors], object] = lambda tensors: None,
) -> tuple[Tensors, Tensors]:
    """The two shards after a change to the tensors of each."""
    parts = tiny.split(tiny.llama_tensors())
    first(parts[0])
    second(parts[1])
    return parts


def packed(parts: tuple[Tensors, Tensors], index: bytes = FILES[INDEX]) -> dict[str, bytes]:
    """The raw files of two shards."""
    return FILES | {INDEX: index} | {n: tiny.saved(p) for n, p in zip(SHARDS, parts, strict=True)}


# -- what is made --------------------------------------------------------------------------------


def test_shards_become_one_file(made: Store) -> None:
    """Every tensor but the buffers, cast as torch does; what was done is recorded."""
    document = made.manifest(made.catalogue[SAFETENSORS]).document
    expected = {name: tensor.half() for name, tensor in KEPT.items()}
    path = tiny.checkpoint_path(made, SAFETENSORS)
    tiny.assert_same_bits(load_file(path), expected)
    metadata = {"dtype": "float16", "format": "pt", "model_name": "tiny-model"}
    assert path.read_bytes() == tiny.save_file_bytes(expected, metadata)
    assert document["conversion"] == {
        "from_dtype": ["float32"],
        "to_dtype": "float16",
        "dropped": BUFFERS,
        "aliased": {},
    }
    assert len(BUFFERS) == 4
    assert document["n_params"] == sum(tensor.numel() for tensor in KEPT.values())


def test_a_layer_straddles_the_shards() -> None:
    """As upstream's layer 30: its first half is in one file and its second in the other."""
    first, second = ({n for n in part if ".layers.2." in n} for part in tiny.split(LLAMA))
    assert first and second and not first & second


SINGLE = {"config": "config.json", "tokenizer": "tokenizer.model"}
ST_SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def as_safetensors() -> dict[str, bytes]:
    """The repository in safetensors format, in one file and in shards."""
    parts = dict(zip(ST_SHARDS, tiny.split(LLAMA), strict=True))
    return FILES | {
        "model.safetensors": save(LLAMA, {"format": "pt"}),
        "model.safetensors.index.json": tiny.index_of(parts),
        **{name: save(part) for name, part in parts.items()},
        "pytorch_model.bin": tiny.saved(LLAMA),
    }


@pytest.mark.parametrize(
    "files",
    [
        {"checkpoint": "pytorch_model.bin"},
        {"checkpoint": "model.safetensors"},
        {"checkpoint": "model.safetensors.index.json", "shards": ST_SHARDS},
    ],
    ids=["bin", "safetensors", "safetensors in shards"],
)
def test_format_does_not_matter(made: Store, tmp_path: Path, files: dict[str, Any]) -> None:
    """The same tensors in another format make the same artifact, byte for byte."""
    store = tiny.llama_store(tmp_path / "storage", files=SINGLE | files)
    tiny.commit_files(store, as_safetensors())
    with tiny.blocks_of(1000):
        manifest = tiny.make(store, TOKENIZER, SAFETENSORS)
    before = made.manifest(made.catalogue[SAFETENSORS])
    assert manifest.files == before.files
    assert manifest.document["conversion"] == before.document["conversion"]


@pytest.mark.parametrize("name", ["model.safetensors", ST_SHARDS[1]])
def test_damaged_safetensors_are_found_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The format has no checksum: the whole file is hashed before its header is parsed."""
    files = {"checkpoint": name}
    if name != "model.safetensors":
        files = {"checkpoint": "model.safetensors.index.json", "shards": ST_SHARDS}
    store = tiny.llama_store(tmp_path / "storage", files=SINGLE | files)
    tiny.commit_files(store, as_safetensors())
    tiny.make(store, TOKENIZER, SAFETENSORS)
    for offset in (3, 100, -1):
        damage(tiny.raw_path(store, name), flip(offset))
        message = tiny.assert_refused(store, CorruptArtifact)
        assert message.startswith(f"{tiny.raw_path(store, name)} is damaged: SHA-256 ")
        damage(tiny.raw_path(store, name), flip(offset))


def test_folder_of_an_index_is_that_of_its_shards(tmp_path: Path) -> None:
    """Names in an index are relative to the index, not to the repository."""
    files = {"checkpoint": f"sub/{INDEX}", "shards": tuple(f"sub/{name}" for name in SHARDS)}
    store = tiny.llama_store(tmp_path / "storage", files=SINGLE | files)
    there = {f"sub/{name}": FILES[name] for name in (INDEX, *SHARDS)}
    tiny.commit_files(store, FILES | there)
    tiny.make(store, TOKENIZER, SAFETENSORS)
    assert load_file(tiny.checkpoint_path(store, SAFETENSORS)).keys() == KEPT.keys()


# -- shards and index ----------------------------------------------------------------------------


def test_missing_shard(store: Store) -> None:
    """The file that is gone is named, and what brings it back."""
    path = tiny.raw_path(store, SHARDS[1])
    path.unlink()
    message = tiny.assert_refused(store, MissingArtifact)
    assert str(path) in message
    assert f"wmtp repair {RAW}" in message


def test_shard_that_was_never_downloaded(store: Store) -> None:
    """After an edit of the spec the raw artifact lacks a file."""
    message = refusal(
        store, {name: data for name, data in FILES.items() if name != SHARDS[0]}, MissingArtifact
    )
    assert SHARDS[0] in message


@pytest.mark.parametrize("name", [INDEX, *SHARDS])
@pytest.mark.parametrize("offset", [0, 70, -1])
def test_damaged_shard_or_index(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, offset: int
) -> None:
    """Verified before it is parsed, each file by itself."""
    seen: list[str] = []
    read_index, load = upstream._read_index, torch.load

    def told(*arguments: Any, **options: Any) -> Any:
        seen.append("index" if isinstance(arguments[0], Path) else "shard")
        return (read_index if seen[-1] == "index" else load)(*arguments, **options)

    monkeypatch.setattr(upstream, "_read_index", told)
    monkeypatch.setattr(torch, "load", told)
    damage(tiny.raw_path(store, name), flip(offset))
    message = tiny.assert_refused(store, CorruptArtifact)
    assert message.startswith(f"{tiny.raw_path(store, name)} is damaged: SHA-256 ")
    assert f"wmtp repair {RAW}" in message
    assert seen == ["index", "shard"][: [INDEX, *SHARDS].index(name)]


def redirected(shard: object) -> bytes:
    """The index with one tensor said to be in another file."""
    index = json.loads(FILES[INDEX])
    index["weight_map"][WQ] = shard
    return json.dumps(index).encode()


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        (
            "pytorch_model-00003-of-00003.bin",
            "is none of the shards of the spec: pytorch_",
        ),
        ("config.json", "is none of the shards of the spec"),
        ("sub/" + SHARDS[0], "is none of the shards of the spec"),
        ("../x.bin", "not an index of shards: '../x.bin' is not a plain relative path"),
        (f"x/../{SHARDS[0]}", "is not a plain relative path"),
        ("/etc/passwd", "'/etc/passwd' is not a plain relative path"),
        (f"./{SHARDS[0]}", "is not a plain relative path"),
        ("..\\x.bin", "is not a plain relative path"),
        ("", "is not a plain relative path"),
        ("\x1b[2J", "is not a plain relative path"),
        (None, "not an index of shards: 'model.layers.0.self_attn.q_proj.weight' is in None"),
        (["a"], "not in a file"),
        (1, "not in a file"),
        ("../" * 100_000, "not in a file"),
    ],
)
def test_index_that_names_another_file(store: Store, shard: object, message: str) -> None:
    """Such a name could leave the folder; only the files of the spec were downloaded anyway."""
    found = refusal(store, FILES | {INDEX: redirected(shard)})
    assert found.startswith(f"{INDEX}: ")
    assert message in found


def test_index_that_names_a_tensor_its_shard_does_not_have(store: Store) -> None:
    """In another shard, or nowhere at all."""
    found = refusal(store, FILES | {INDEX: redirected(SHARDS[1])})
    assert found == f"{INDEX}: {WQ!r} is not in {SHARDS[1]}, where it should be"
    found = refusal(store, packed(shards(lambda tensors: tensors.pop(WQ))))
    assert found == f"{INDEX}: {WQ!r} is not in {SHARDS[0]}, where it should be"


def test_shard_with_a_tensor_the_index_does_not_name(store: Store) -> None:
    """It would be left out in silence."""
    extra = {"model.layers.9.mlp.up_proj.weight": torch.ones(2)}
    found = refusal(store, packed(shards(second=lambda tensors: tensors.update(extra))))
    assert found == f"{INDEX}: does not name {next(iter(extra))}, which is in {SHARDS[1]}"


def test_shard_that_the_index_does_not_name(store: Store) -> None:
    """An index of one file and a spec of two: one of them is of another revision."""
    index = tiny.index_of({SHARDS[0]: LLAMA})
    found = refusal(store, FILES | {INDEX: index})
    assert found == f"{INDEX}: names no tensor of {SHARDS[1]}, a shard of the spec"


def test_tensor_in_two_shards(store: Store) -> None:
    """The same bytes twice are harmless, and recorded; which of two others counts, nobody knows."""
    parts = shards(second=lambda tensors: tensors.update({WQ: LLAMA[WQ].clone()}))
    tiny.commit_files(store, packed(parts))
    before = tiny.checkpoint_path(store, SAFETENSORS).read_bytes()
    with tiny.blocks_of(1000):
        document = tiny.make(store, SAFETENSORS).document
    assert document["conversion"]["aliased"] == {f"{SHARDS[1]}: {WQ}": WQ}
    assert tiny.checkpoint_path(store, SAFETENSORS).read_bytes() == before

    parts[1][WQ][31, 31] += 1
    with tiny.blocks_of(1000):
        found = refusal(store, packed(parts))
    assert found == (
        f"{SHARDS[1]}: {WQ} is not the same as {WQ} in {SHARDS[0]}: they differ within elements "
        "1000 to 1024"
    )


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"", "column 1: Expecting value"),
        (b"{", "column 2: "),
        (b"<!DOCTYPE html>", "column 1: Expecting value"),
        (b"[]", "a list, not an object"),
        (b"null", "a NoneType, not an object"),
        (b"{}", "it has no weight_map"),
        (b'{"weight_map": {}}', "it has no weight_map"),
        (b'{"weight_map": []}', "it has no weight_map"),
        (b'{"weight_map": "x"}', "it has no weight_map"),
        (b'{"weight_map": {"a": "x", "a": "y"}}', "duplicate key 'a'"),
        (b'{"weight_map": {"a": "x"}, "weight_map": {}}', "duplicate key 'weight_map'"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested more than 32 deep"),
        (b'{"a": ' + b"[" * 100_000, "nested more than 32 deep"),
        (b'{"weight_map": {"a": "\xff"}}', "not UTF-8"),
        (b'{"weight_map": {"a": "\\ud800"}}', "a lone surrogate"),
        (b'{"weight_map": {"a": NaN}}', "NaN is not JSON"),
        (b"\0", "a NUL byte"),
        (b" " * (9 << 20), "longer than 8388608 bytes"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_index_that_is_none(store: Store, index: bytes, message: str) -> None:
    """Hostile ones must end in one line, quickly: nesting crashes parsers, a key twice is two."""
    found = refusal(store, FILES | {INDEX: index})
    assert found.startswith(f"{INDEX}: not an index of shards: ")
    assert message in found


# -- tensors of a shard --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [WQ, LAST])
@pytest.mark.parametrize(
    ("number", "why"),
    [
        (65520.0, "65520 overflows float16 (largest 65504)"),
        (float("inf"), "holds NaN or infinity"),
        (float("nan"), "holds NaN or infinity"),
    ],
)
def test_overflow_names_shard_and_tensor(store: Store, name: str, number: float, why: str) -> None:
    """Of two files of 5 GB, the one to look at."""
    tensors = tiny.llama_tensors()
    tensors[name].view(-1)[-1] = number
    shard = SHARDS[name == LAST]
    with tiny.blocks_of(256):
        assert refusal(store, packed(tiny.split(tensors))) == f"{shard}: {name}: {why}"


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float8_e4m3fn], ids=str)
def test_unknown_dtype_names_shard_and_tensor(store: Store, dtype: torch.dtype) -> None:
    """Quantised shards look like any other until their numbers are used."""
    tensors = tiny.llama_tensors()
    tensors[LAST] = tensors[LAST].to(dtype)
    found = refusal(store, packed(tiny.split(tensors)))
    assert found.startswith(f"{SHARDS[1]}: {LAST} is {str(dtype).removeprefix('torch.')}; expected")


def test_unknown_dtype_in_safetensors(tmp_path: Path) -> None:
    """The same from the header of the other format."""
    store = tiny.llama_store(
        tmp_path / "storage", files=SINGLE | {"checkpoint": "model.safetensors"}
    )
    tiny.commit_files(store, as_safetensors())
    tiny.make(store, TOKENIZER, SAFETENSORS)
    tensors = LLAMA | {WQ: LLAMA[WQ].to(torch.float8_e5m2)}
    found = refusal(store, FILES | {"model.safetensors": save(tensors)})
    assert found.startswith(f"model.safetensors: {WQ} is F8_E5M2; expected one of ")
    header = b'{"w":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}'
    bad = struct.pack("<Q", len(header)) + header + b"\0"
    found = refusal(store, FILES | {"model.safetensors": bad})
    assert found.startswith("model.safetensors: bad safetensors header: w: unknown dtype 'F4'")


def legacy(tensors: Tensors) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensors, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def script(tensors: Tensors) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (legacy, "a legacy (non-zip) torch file. Rewrite it where it was made: torch.save("),
        (script, "a TorchScript archive, not a checkpoint. Save the state dict instead: "),
        (lambda tensors: b"<html>", "not a torch checkpoint, or cut off: "),
        (lambda tensors: tiny.saved({"model": tensors}), "model is a dict, not a tensor"),
    ],
    ids=["legacy", "script", "html", "nested"],
)
def test_shard_of_another_format(
    store: Store, make: Callable[[Tensors], bytes], message: str
) -> None:
    """Old repositories have legacy .bin files; the remedy must come out of the builder."""
    files = FILES | {SHARDS[1]: make(tiny.split(LLAMA)[1])}
    assert refusal(store, files).startswith(f"{SHARDS[1]}: {message}")


def test_tensors_that_the_config_does_not_ask_for(store: Store) -> None:
    """Names and shapes are those of config.json, or no loader takes the file."""
    config = tiny.CONFIG | {"num_hidden_layers": 5}
    found = refusal(store, FILES | {"config.json": json.dumps(config).encode()})
    assert found.startswith(f"{INDEX}: missing tensors: model.layers.4.")
    config = tiny.CONFIG | {"intermediate_size": 96}
    found = refusal(store, FILES | {"config.json": json.dumps(config).encode()})
    assert "mlp.gate_proj.weight has shape [88, 32], config.json asks for [96, 32]" in found
    tensors = LLAMA | {LAST: LLAMA[LAST].t()}
    found = refusal(store, packed(tiny.split(tensors)))
    assert found == f"{INDEX}: {LAST} has shape [88, 32], config.json asks for [32, 88]"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mistral"}, "model_type is 'mistral'; a model of this family has 'llama'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling is {'type': 'linear',"),
        ({"rope_scaling": ["x" * 100_000]}, "rope_scaling is ['xxx"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_parameters is {'rope_type': 'llama3'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "knows rope_theta only"),
        ({"rope_parameters": {"full_attention": {}}}, "rope_parameters is {'full_attention': {}}"),
        ({"rope_parameters": {"rope_theta": "1e4"}}, "rope_parameters is {'rope_theta': '1e4'}"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "has the default rotary embedding"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; a model of this family"),
        (
            {"rope_theta": 3.0, "rope_scaling": {"rope_type": "default", "rope_theta": 4.0}},
            "rope_theta is 3, and rope_scaling says 4: transformers 4 takes the one and 5 the",
        ),
        ({"layer_types": ["sliding_attention"] * 4}, "layer_types is ['sliding_attention'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}"),
        ({"attention_bias": True}, "attention_bias is True; a model of this family has False"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"head_dim": 16}, "head_dim is 16; a model of this family has 8"),
        ({"hidden_size": "32"}, "hidden_size: Input should be a valid integer"),
        ({"hidden_size": 32.0}, "hidden_size: Input should be a valid integer"),
        ({"hidden_size": True}, "hidden_size: Input should be a valid integer"),
        ({"hidden_size": None}, "hidden_size: Input should be a valid integer"),
        ({"hidden_size": 0}, "hidden_size: Input should be greater than 0"),
        ({"hidden_size": 10**400}, "hidden_size: Input should be less than"),
        ({"intermediate_size": 10**400}, "intermediate_size: Input should be less than"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: Input should be less than"),
        ({"num_attention_heads": 3}, "dim 32 is not a multiple of n_heads 3"),
        ({"num_attention_heads": 64}, "dim 32 is not a multiple of n_heads 64"),
        ({"num_key_value_heads": 3}, "n_heads 4 is not a multiple of n_kv_heads 3"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps: Input should be a valid number"),
        ({"rope_theta": 0}, "rope_theta: Input should be greater than 0"),
        ({"attention_bias": "false"}, "attention_bias: Input should be a valid boolean"),
        ({"model_type": ["llama"]}, "model_type: Input should be a valid string"),
    ],
)
def test_config_that_is_no_plain_llamas(
    store: Store, changes: dict[str, Any], message: str
) -> None:
    """A model that computes something else with the same shapes gives wrong losses, silently."""
    config = json.dumps(tiny.CONFIG | changes).encode()
    found = refusal(store, FILES | {"config.json": config})
    assert found.startswith("config.json: ")
    assert message in found


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"", "column 1"),
        (b"[]", "a list, not an object"),
        (b'{"hidden_size": 1, "hidden_size": 2}', "duplicate key 'hidden_size'"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested more than 32 deep"),
        (b'{"rope_theta": Infinity}', "Infinity is not JSON"),
        (b'{"rope_theta": 1e999}', "too large for a float"),
        (b'{"hidden_size": ' + b"9" * 5000 + b"}", "config.json: not a JSON object: "),
        (b"{}", "model_type: Field required"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_config_that_is_none(store: Store, config: bytes, message: str) -> None:
    """Whatever stands there, one line that names the file."""
    found = refusal(store, FILES | {"config.json": config})
    assert found.startswith("config.json: ")
    assert message in found


# -- the reward model ----------------------------------------------------------------------------


def trunk_twins(tensors: Tensors) -> dict[str, str]:
    """Second name in the file → our name."""
    prefix = "transformer."
    return {n: f"model.{n.removeprefix(prefix)}" for n in tensors if n.startswith(prefix)}


def test_trunk_is_kept_once(made: Store) -> None:
    """Half of 26 GB is there twice: kept once, under the names that transformers loads.

    Both heads stay; each second name is recorded.
    """
    tensors = tiny.reward_tensors()
    expected = {
        name.removeprefix("model.") if name.startswith("model.") else name: tensor
        for name, tensor in tensors.items()
        if not name.startswith("transformer.")
    }
    found = load_file(tiny.checkpoint_path(made, REWARD))
    tiny.assert_same_bits(found, expected)
    assert {"lm_head.weight", "v_head.weight", "model.norm.weight"} <= found.keys()
    assert found["v_head.weight"].shape == (1, 32)
    document = made.manifest(made.catalogue[REWARD]).document
    assert document["conversion"]["aliased"] == trunk_twins(tensors)
    assert len(trunk_twins(tensors)) == 4 * 9 + 2
    assert document["status"] == "optional"
    assert document["tokenizer_shared_with"] == "tiny-model"


def test_shared_twins_are_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies have to be compared; names for the same bytes do not."""
    sizes: dict[Path, int] = {}
    read = tiny.raw_path(store, "pytorch_model.bin", REWARD_RAW)
    real = pipeline.map_ahead

    def count(function: Any, extents: Any, width: int) -> Any:
        def told() -> Any:
            for descriptor, view, extent in extents:
                sizes[extent.path] = sizes.get(extent.path, 0) + extent.size
                yield descriptor, view, extent

        return real(function, told(), width)

    monkeypatch.setattr(pipeline, "map_ahead", count)
    tiny.make(store, REWARD)
    tensors = tiny.reward_tensors()
    unique = {tensor.data_ptr(): tensor.nbytes for tensor in tensors.values()}
    assert len(unique) < len(tensors)
    assert sizes == {read: sum(unique.values())}


TWIN_SHARED = "transformer.layers.0.mlp.up_proj.weight"
TWIN_COPIED = "transformer.layers.3.mlp.up_proj.weight"


def reward_refusal(store: Store, change: Callable[[Tensors], object]) -> str:
    """The message with which a changed reward model is refused."""
    tensors = tiny.reward_tensors()
    change(tensors)
    tiny.commit_files(store, tiny.reward_files(tensors), REWARD_RAW)
    with tiny.blocks_of(1000):
        message = tiny.assert_refused(store, key=REWARD)
    folder = tiny.raw_path(store, "", REWARD_RAW)
    assert message.startswith(f"{folder}/pytorch_model.bin: ")
    return message.replace(f"{folder}/", "")


@pytest.mark.parametrize("name", [TWIN_SHARED, TWIN_COPIED])
@pytest.mark.parametrize(("at", "block"), [(0, "0 to 500"), (-1, "2500 to 2816")])
def test_twin_that_differs_in_one_bit(store: Store, name: str, at: int, block: str) -> None:
    """Which of the two was trained cannot be told; in the first block as in the last."""

    def change(tensors: Tensors) -> None:
        copy = tensors[name].clone()
        copy.view(-1).view(torch.int16)[at] ^= 1
        tensors[name] = copy

    original = name.replace("transformer.", "model.model.")
    assert reward_refusal(store, change) == (
        f"pytorch_model.bin: {name} is not the same as {original} in pytorch_model.bin: they "
        f"differ within elements {block}"
    )


def test_twin_that_was_damaged_here(store: Store) -> None:
    """Not upstream's contradiction: the file changed after it was downloaded."""
    path = tiny.raw_path(store, "pytorch_model.bin", REWARD_RAW)
    data = path.read_bytes()
    number = len({t.data_ptr() for t in tiny.reward_tensors().values()}) - 3
    damage(path, flip(tiny.storage_at(data, number)[0] + 1))
    message = tiny.assert_refused(store, CorruptArtifact, key=REWARD)
    assert message.startswith(f"{path} is damaged: SHA-256 ")
    assert f"wmtp repair {REWARD_RAW}" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor.reshape(32, 88), "is float16 [32, 88], but model.model.layers.3."),
        (
            lambda tensor: tensor.float(),
            "is float32 [88, 32], but model.model.",
        ),
        (lambda tensor: tensor[:-1].clone(), "is float16 [87, 32], but model.model.layers.3."),
        (lambda tensor: tensor.bfloat16(), "is bfloat16 [88, 32], but model.model.layers.3."),
    ],
    ids=["reshaped", "float32", "shorter", "bfloat16"],
)
def test_twin_of_another_kind(
    store: Store, change: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    """Equal bytes read as another shape or dtype are another tensor."""
    found = reward_refusal(
        store, lambda tensors: tensors.update({TWIN_COPIED: change(tensors[TWIN_COPIED])})
    )
    assert found.startswith(f"pytorch_model.bin: {TWIN_COPIED} {message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("v_head.weight"), "missing tensors: v_head.weight"),
        (
            lambda tensors: tensors.update({"v_head.weight": torch.ones(32, 1).half()}),
            "v_head.weight has shape [32, 1], config.json asks for [1, 32]",
        ),
        (lambda tensors: tensors.pop("model.lm_head.weight"), "missing tensors: lm_head.weight"),
        (
            lambda tensors: tensors.update({"v_head.bias": torch.ones(1).half()}),
            "unexpected tensors: v_head.bias",
        ),
    ],
)
def test_heads_of_the_reward_model(
    store: Store, change: Callable[[Tensors], object], message: str
) -> None:
    """Without its value head it is not a reward model."""
    assert reward_refusal(store, change) == f"pytorch_model.bin: {message}"


def test_one_trunk_is_enough(store: Store) -> None:
    """Whichever copy a repository leaves out, the same file is made, and no alias claimed."""
    before = tiny.checkpoint_path(store, REWARD).read_bytes()
    for prefix in ("transformer.", "model.model."):
        tensors = {
            n: tensor for n, tensor in tiny.reward_tensors().items() if not n.startswith(prefix)
        }
        tiny.commit_files(store, tiny.reward_files(tensors), REWARD_RAW)
        document = tiny.make(store, REWARD).document
        assert document["conversion"]["aliased"] == {}
        assert tiny.checkpoint_path(store, REWARD).read_bytes() == before


def test_buffers_of_both_trunks_are_dropped(store: Store) -> None:
    """Older versions of transformers saved them, once for each name of the trunk."""
    names = [
        f"{trunk}.layers.{layer}.self_attn.rotary_emb.inv_freq"
        for trunk in ("model.model", "transformer")
        for layer in range(4)
    ]
    tensors = tiny.reward_tensors() | {name: torch.ones(4) for name in names}
    before = tiny.checkpoint_path(store, REWARD).read_bytes()
    tiny.commit_files(store, tiny.reward_files(tensors), REWARD_RAW)
    document = tiny.make(store, REWARD).document
    assert document["conversion"]["dropped"] == sorted(names)
    assert tiny.checkpoint_path(store, REWARD).read_bytes() == before


def test_names_that_only_look_like_buffers_are_kept_apart() -> None:
    """A pattern that matches too much would drop weights in silence."""
    for family in FAMILIES.values():
        assert not any(family.buffers.fullmatch(name) for name in (*KEPT, *tiny.reward_tensors()))
        assert not family.buffers.fullmatch("model.layers.0.self_attn.rotary_emb.inv_freq.weight")
        assert not family.buffers.fullmatch("xmodel.layers.0.self_attn.rotary_emb.inv_freq")


def test_tokenizer_is_shared(made: Store) -> None:
    """The same bytes as the model's whose tokenizer it is, and the manifest says whose."""
    owner, sharer = (made.catalogue[key] for key in (TOKENIZER, REWARD_TOKENIZER))
    assert made.read(sharer, "tokenizer.model") == made.read(owner, "tokenizer.model")
    document = made.manifest(sharer).document
    assert document["tokenizer_shared_with"] == "tiny-model"
    assert document["from_upstream"] is False
    assert document["upstream"].keys() == {TOKENIZER}


def test_disk_that_fills(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the space could not be reserved: midway, with reads in flight."""
    real = HashedFile.write

    def write(self: HashedFile, data: bytes | memoryview) -> int:
        if self.tell() > 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    with leaves_nothing(), monkeypatch.context() as patch, tiny.blocks_of(1000):
        patch.setattr(HashedFile, "write", write)
        message = tiny.assert_refused(store, StoreError)
    assert message.startswith(f"no space left for {SAFETENSORS} under {store.root} (")


def test_what_is_made_again_is_the_same(store: Store) -> None:
    """Same bytes in, same bytes out, for shards and twins too."""

    def manifests() -> dict[str, dict[str, Any]]:
        artifacts: list[Artifact] = [store.catalogue[key] for key in (SAFETENSORS, REWARD)]
        return {artifact.key: store.manifest(artifact).document for artifact in artifacts}

    before = manifests()
    with tiny.blocks_of(1000):
        tiny.make(store, SAFETENSORS, REWARD)
    assert manifests() == before
