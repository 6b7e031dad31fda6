"""Checkpoints as training leaves them, and upstream's own odd values: read, or named as such.

Through the real builder, except for what no builder should be given.
"""

from __future__ import annotations

import json
import pickle
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.catalogue.specs import ModelSpec
from wmtp_assets.checkpoints.pipeline import Wanted
from wmtp_assets.checkpoints.torch_zip import MAX_COPIES, read_tensors
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import INDEX, MICRO, SAFETENSORS, SHARDS, TOKENIZER, Tensors
from wmtp_assets_tests.checkpoints.torch_files import Call, records, zipped
from wmtp_assets_tests.rules.cases import apply
from wmtp_assets_tests.trees import damage, flip

LLAMA = tiny.llama_tensors()
KEPT = {name: tensor for name, tensor in LLAMA.items() if "inv_freq" not in name}
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
ONE = {"checkpoint": "pytorch_model.bin", "config": "config.json", "tokenizer": "tokenizer.model"}
SAFE = ONE | {"checkpoint": "model.safetensors"}


def llama(root: Path, files: Mapping[str, Any] = ONE, **fields: Any) -> Store:
    """An empty root with a Llama whose spec has these fields, and a micro model of it."""
    store = tiny.store_of(
        root / "storage", tiny.LLAMA_MODEL | {"files": files, **fields}, tiny.micro_spec()
    )
    tiny.commit_files(store, {"tokenizer.model": tiny.MODEL_PATH.read_bytes()})
    tiny.make(store, TOKENIZER)
    return store


def give(
    store: Store, checkpoint: bytes | Mapping[str, Any], config: Mapping[str, Any] = tiny.CONFIG
) -> Store:
    """The same store with this checkpoint, and ``config.json``, downloaded."""
    data = checkpoint if isinstance(checkpoint, bytes) else tiny.saved(checkpoint)
    spec = store.catalogue[SAFETENSORS].spec
    files = {spec.files.checkpoint: data, "config.json": json.dumps(config).encode()}
    tiny.commit_files(store, files | {"tokenizer.model": tiny.MODEL_PATH.read_bytes()})
    return store


def refusal(store: Store) -> str:
    """Why the model is refused."""
    with pytest.raises(InvalidInput) as refused:
        tiny.make(store, SAFETENSORS)
    assert tiny.staged_left(store) == []
    message = str(refused.value)
    assert message.isprintable()
    assert len(message) < 600
    return message


def assert_is(store: Store, expected: Tensors) -> dict[str, Any]:
    """The model is made of these tensors as float16, and its rules find it good but for the
    vocabulary, which is smaller here than the tokenizer's; what the manifest says of it."""
    document = tiny.make(store, SAFETENSORS).document
    half = {name: tensor.half() for name, tensor in expected.items()}
    tiny.assert_same_bits(load_file(tiny.checkpoint_path(store, SAFETENSORS)), half)
    assert findings(store, "parameters", "dtype") == []
    return document["conversion"]


def findings(store: Store, *names: str, key: str = SAFETENSORS) -> list[str]:
    """What rules find in an artifact."""
    outcomes = [apply(store, store.catalogue[key], name) for name in names]
    assert [outcome.skipped for outcome in outcomes] == [""] * len(names)
    return [str(finding) for outcome in outcomes for finding in outcome.findings]


# -- nested, prefixed ----------------------------------------------------------------------------


def trained(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What a training loop saves beside the weights, by torch's own classes."""
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5, 5])
    return {
        "epoch": 3,
        "loss": 0.5,
        "name": "run 1",
        "nothing": None,
        "model": dict(state),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "rng": [torch.get_rng_state(), (3, tuple(range(625)), None)],
        "sparse_tensor_module_names": set(),
        "steps": {1, 2},
        "counts": Counter("aab"),
        "dtype": torch.bfloat16,
    }


LEFT_OUT = {
    "epoch": 0,
    "loss": 0,
    "name": 0,
    "nothing": 0,
    "optimizer": 6,  # step, exp_avg and exp_avg_sq of weight and bias
    "scheduler": 0,
    "rng": 1,
    "sparse_tensor_module_names": 0,
    "steps": 0,
    "counts": 0,
    "dtype": 0,
}


def test_state_dict_is_selected(tmp_path: Path) -> None:
    """A training loop saves the weights under a key; the rest is dropped, counted, never read."""
    store = give(llama(tmp_path, checkpoint={"select": "model"}), trained(LLAMA))
    conversion = assert_is(store, KEPT)
    assert conversion["select"] == "model"
    assert conversion["left_out"] == LEFT_OUT
    assert len(conversion["dropped"]) == 4
    made_with = store.manifest(store.catalogue[SAFETENSORS]).made_with
    assert made_with is not None
    assert made_with.settings["checkpoint.select"] == "model"


def test_selection_goes_deeper_and_strips(tmp_path: Path) -> None:
    """DeepSpeed and FSDP nest it further; DDP and torch.compile put words before each name."""
    state = {f"module._orig_mod.{name}": tensor for name, tensor in LLAMA.items()}
    part = {"select": "state.module", "strip_prefix": "module._orig_mod."}
    beside = {"module": state, "ema": [state]}
    store = give(llama(tmp_path, checkpoint=part), {"state": beside, "step": torch.ones(())})
    conversion = assert_is(store, KEPT)
    assert conversion["left_out"] == {"step": 1, "state.ema": len(LLAMA)}
    assert conversion["strip_prefix"] == part["strip_prefix"]
    assert len(conversion["dropped"]) == 4
    assert conversion["aliased"] == {}


def test_prefix_in_safetensors_and_its_shards(tmp_path: Path) -> None:
    """The same names in the other format, and in an index."""
    names = ("model-1.safetensors", "model-2.safetensors")
    parts = [{f"module.{n}": t for n, t in part.items()} for part in tiny.split(LLAMA)]
    files = SAFE | {"checkpoint": "model.safetensors.index.json", "shards": names}
    store = llama(tmp_path, files, checkpoint={"strip_prefix": "module."})
    there = dict(zip(names, map(save, parts), strict=True))
    index = {files["checkpoint"]: tiny.index_of(dict(zip(names, parts, strict=True)))}
    tiny.commit_files(store, {**tiny.llama_files(), **there, **index})
    assert_is(store, KEPT)


def test_shards_are_selected_from(tmp_path: Path) -> None:
    """Each shard of a torch checkpoint has its own surroundings."""
    files = ONE | {"checkpoint": INDEX, "shards": SHARDS}
    store = llama(tmp_path, files, checkpoint={"select": "model"})
    parts = zip(SHARDS, tiny.split(LLAMA), strict=True)
    nested = {name: tiny.saved({"model": part, "step": 1}) for name, part in parts}
    tiny.commit_files(store, tiny.llama_files() | nested)
    conversion = assert_is(store, KEPT)
    assert conversion["left_out"] == {f"{shard}: step": 0 for shard in SHARDS}


@pytest.mark.parametrize(
    ("part", "state", "message"),
    [
        ({}, {"model": LLAMA, "step": 1}, "checkpoint: {select: model}, in the spec"),
        ({}, {"a": {"b": LLAMA}}, "checkpoint: {select: a.b}, in the spec"),
        (
            {"select": "model"},
            {"state_dict": LLAMA, "step": 1},
            "has no model, the checkpoint.select of the spec; it has 'state_dict', 'step'. In "
            "state_dict there is one: checkpoint: {select: state_dict}, in the spec",
        ),
        ({"select": "model"}, {"model": [LLAMA]}, "model is a list, not a state dict"),
        ({"select": "model"}, {"model": {}}, "holds no tensors in model"),
        ({"select": "model.x"}, {"model": [1]}, "has no model.x, the checkpoint.select of"),
        ({"select": "model"}, {"model": {"w": 1}}, "w is a int, not a tensor"),
        (
            {},
            {f"module.{n}": t for n, t in LLAMA.items()},
            "every name begins with 'module.', as module.lm_head.weight. Write "
            'checkpoint: {strip_prefix: "module."} into the spec',
        ),
        (
            {},
            {f"module._orig_mod.{n}": t for n, t in LLAMA.items()},
            'checkpoint: {strip_prefix: "module._orig_mod."}',
        ),
        (
            {"strip_prefix": "module."},
            {f"module.{n}": t for n, t in LLAMA.items()} | {"extra": torch.ones(1)},
            "'extra' does not begin with 'module.', the checkpoint.strip_prefix of the spec",
        ),
        ({"strip_prefix": "module."}, LLAMA, "does not begin with 'module.'"),
        (
            {},
            {n: torch.empty(0) for n in LLAMA},
            f"{OUTPUT} has shape [0]: a placeholder of DeepSpeed ZeRO-3",
        ),
        (
            {"select": "model"},
            {"model": LLAMA, "args": Call(print, "x")},
            "it asks for builtins.print, which weights do not need. Save the weights alone",
        ),
    ],
)
def test_form_of_a_training_run_is_named(
    tmp_path: Path, part: dict[str, str], state: dict[str, Any], message: str
) -> None:
    """What stands in the way, and the line of the spec, or of code, that removes it."""
    found = refusal(give(llama(tmp_path, checkpoint=part), state))
    assert "pytorch_model.bin: " in found
    assert message.removeprefix("it asks for builtins") in found


def test_select_is_of_torch_files() -> None:
    """safetensors cannot nest: a spec that says so is wrong before anything is downloaded."""
    model = tiny.LLAMA_MODEL | {"files": SAFE, "checkpoint": {"select": "model"}}
    with pytest.raises(ValueError, match=r"checkpoint\.select is of torch files"):
        ModelSpec.model_validate(model)


@pytest.mark.parametrize(
    "part",
    [{"select": ""}, {"select": "a..b"}, {"strip_prefix": "module"}, {"embedding_rows": 0}],
    ids=str,
)
def test_spec_of_a_part(part: dict[str, Any]) -> None:
    """A prefix ends with its dot: without, every name would begin with one."""
    with pytest.raises(ValueError, match="checkpoint"):
        ModelSpec.model_validate(tiny.LLAMA_MODEL | {"checkpoint": part})


def test_counting_visits_a_container_once(tmp_path: Path) -> None:
    """Lists that hold one list twice, forty times over: 2^40 paths to one tensor."""
    value: Any = [torch.ones(1)]
    for _ in range(40):
        value = [value, value]
    path = tmp_path / "x.pth"
    torch.save({"model": {"w": torch.ones(2)}, "beside": value}, path)
    begin = time.process_time()
    contents = read_tensors(path, wanted=Wanted(("model",)))
    assert time.process_time() - begin < 5
    assert contents.left_out == {"beside": 1}


def test_sets_are_few(tmp_path: Path) -> None:
    """A set copies what it is made of: a pickle that makes thousands of one list is a bomb."""
    path = tmp_path / "x.pth"
    state = {"model": {"w": torch.ones(2)}, "sets": [{n} for n in range(MAX_COPIES)]}
    torch.save(state, path)
    assert read_tensors(path, wanted=Wanted(("model",))).left_out == {"sets": 0}
    state["sets"] = [{n} for n in range(MAX_COPIES + 1)]
    torch.save(state, path)
    with pytest.raises(InvalidInput, match=f"more than {MAX_COPIES} sets or the like"):
        read_tensors(path, wanted=Wanted(("model",)))


# -- without checksums ---------------------------------------------------------------------------


def without_sums(data: bytes) -> bytes:
    """A file with the CRC-32 of every record in its directory zero."""
    result, at = bytearray(data), data.find(b"PK\x01\x02")
    while at >= 0:
        result[at + 16 : at + 20] = bytes(4)
        at = data.find(b"PK\x01\x02", at + 1)
    return bytes(result)


def test_file_without_checksums_is_hashed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch can leave CRC-32 out; then the file's SHA-256 is the witness, before any byte is used.

    With hashes of parts, those of parts that no tensor lies in are compared too.
    """
    monkeypatch.setattr("wmtp_assets.storage.files.PART", 4096)
    monkeypatch.setattr("wmtp_assets.storage.store.PART", 4096)
    store = llama(tmp_path)
    torch.serialization.set_crc32_options(False)
    try:
        data = tiny.saved(LLAMA)
    finally:
        torch.serialization.set_crc32_options(True)
    assert data == without_sums(data)
    files = {"config.json": json.dumps(tiny.CONFIG).encode(), "pytorch_model.bin": data}
    tiny.commit_files(store, files | {"tokenizer.model": b""}, in_parts=True)
    assert_is(store, KEPT)
    begin, size = tiny.storage_at(data, 0)
    for offset in (100, begin + size // 2, len(data) // 2, len(data) - 1):
        path = tiny.raw_path(store, "pytorch_model.bin")
        damage(path, flip(offset))
        monkeypatch.setattr(torch, "load", None)
        message = tiny.assert_refused(store, CorruptArtifact)
        monkeypatch.undo()
        monkeypatch.setattr("wmtp_assets.storage.files.PART", 4096)
        monkeypatch.setattr("wmtp_assets.storage.store.PART", 4096)
        assert str(path) in message
        damage(path, flip(offset))


def test_one_checksum_of_zero_is_damage(tmp_path: Path) -> None:
    """Absent throughout is a way of writing; absent once is a record that is not what it was."""
    data = tiny.saved(LLAMA)
    at = data.rindex(b"archive/data/0") - 46  # of the embedding
    assert data[at : at + 4] == b"PK\x01\x02"
    one = bytearray(data)
    one[at + 16 : at + 20] = bytes(4)
    message = refusal(give(llama(tmp_path), bytes(one)))
    assert "CRC-32" in message
    assert "upstream's own copy is damaged" in message


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_protocol_is_named(tmp_path: Path) -> None:
    """Torch reads protocols 2 and 3 safely; the others are refused with the remedy."""
    path = tmp_path / "x.pth"
    state = {"w": torch.arange(6.0).reshape(2, 3)}
    for protocol in range(6):
        torch.save(state, path, pickle_protocol=protocol)
        if protocol in (2, 3):
            assert read_tensors(path).tensors.keys() == state.keys()
            continue
        with pytest.raises(pickle.UnpicklingError, match="Weights only"):
            torch.load(path, weights_only=True)
        with pytest.raises(InvalidInput) as refused:
            read_tensors(path)
        named = protocol if protocol > 1 else "0 or 1"
        assert f"it is pickled with protocol {named}; torch reads 2 and 3" in str(refused.value)
        assert str(refused.value).endswith("without pickle_protocol: torch.save(state, new)")


# -- what only a buffer has ----------------------------------------------------------------------

FREQS = "model.layers.1.self_attn.rotary_emb.inv_freq"
ODD: dict[str, Any] = {
    "complex": torch.zeros(2, dtype=torch.complex64),
    "conjugate": torch.zeros(2, dtype=torch.complex64).conj(),
    "integers": torch.zeros(2, dtype=torch.int64),
    "bits": torch.zeros(2, dtype=torch.bool),
    "float8": torch.zeros(2, dtype=torch.float8_e5m2fnuz),
    "sparse": torch.eye(2).to_sparse(),
    "meta": torch.empty(2, device="meta"),
    "none": None,
    "nan": torch.full((2,), float("nan")),
}


@pytest.mark.parametrize("name", ODD)
def test_buffer_may_be_anything(tmp_path: Path, name: str) -> None:
    """Nothing reads it: no reason to refuse the model."""
    conversion = assert_is(give(llama(tmp_path), LLAMA | {FREQS: ODD[name]}), KEPT)
    assert FREQS in conversion["dropped"]


@pytest.mark.parametrize("name", ["complex", "integers", "bits", "float8", "nan"])
def test_buffer_in_safetensors_may_be_anything(tmp_path: Path, name: str) -> None:
    """The same in the other format, which has most of these dtypes."""
    data = save(LLAMA | {FREQS: ODD[name]})
    conversion = assert_is(give(llama(tmp_path, SAFE), data), KEPT)
    assert FREQS in conversion["dropped"]


OTHER = "pytorch_model-00003-of-00003.bin"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({FREQS: None}, {}),
        ({}, {FREQS: None}),
        ({FREQS: SHARDS[1]}, {}),
        ({FREQS: OTHER}, {}),
        ({FREQS: OTHER}, {FREQS: None}),
        ({FREQS.replace(".1.", ".99."): SHARDS[0]}, {}),
        ({}, {FREQS.replace(".1.", ".99."): torch.ones(1)}),
    ],
    ids=["not listed", "not there", "elsewhere", "other file", "only there", "listed", "there"],
)
def test_index_may_be_wrong_about_a_buffer(
    tmp_path: Path, changes: dict[str, str | None], parts: dict[str, torch.Tensor | None]
) -> None:
    """transformers stopped writing them while indexes still named them, and the other way round."""
    store = llama(tmp_path, ONE | {"checkpoint": INDEX, "shards": SHARDS})
    first, second = tiny.split(LLAMA)
    first = {n: t for n, t in {**first, **parts}.items() if t is not None}
    weight_map = json.loads(tiny.llama_files()[INDEX])["weight_map"] | changes
    index = {"weight_map": {n: s for n, s in weight_map.items() if s is not None}}
    shards = dict(zip(SHARDS, map(tiny.saved, (first, second)), strict=True))
    tiny.commit_files(store, tiny.llama_files() | shards | {INDEX: json.dumps(index).encode()})
    assert_is(store, KEPT)


# -- tied, larger, corrected ---------------------------------------------------------------------

TIED = tiny.CONFIG | {"tie_word_embeddings": True}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("files", [ONE, SAFE], ids=["torch", "safetensors"])
def test_tied_model_stays_tied(tmp_path: Path, stored: bool, files: dict[str, str]) -> None:
    """Whether upstream stored the output matrix or not: the file has one, its config says so."""
    state = {name: tensor for name, tensor in LLAMA.items() if name != OUTPUT}
    expected = {name: tensor for name, tensor in KEPT.items() if name != OUTPUT}
    if stored:
        state[OUTPUT] = state[EMBEDDING].clone()
    data = save(state) if files is SAFE else tiny.saved(state)
    store = give(llama(tmp_path, files), data, TIED)
    conversion = assert_is(store, expected)
    assert conversion["aliased"] == ({OUTPUT: EMBEDDING} if stored else {})
    folder = tiny.model_folder(store, SAFETENSORS)
    config = json.loads((folder / "configs/config.json").read_bytes())
    assert config == TIED | {"torch_dtype": "float16"}
    document = tiny.make(store, MICRO).document
    assert document["conversion"]["dropped"] == []
    assert findings(store, "parameters", "dtype", key=MICRO) == []


def test_output_matrix_of_a_tied_model_is_compared(tmp_path: Path) -> None:
    """A config that says tied beside two matrices: which of them upstream means, nobody knows."""
    message = refusal(give(llama(tmp_path), LLAMA, TIED))
    assert f"{OUTPUT} is not the same as {EMBEDDING}" in message
    state = {name: tensor for name, tensor in LLAMA.items() if name != OUTPUT}
    message = refusal(give(llama(tmp_path / "untied"), state))
    assert f"missing tensors: {OUTPUT}" in message


def test_rule_knows_which_models_are_tied(tmp_path: Path) -> None:
    """An output matrix that is gone is not a tied model, whatever our own config says."""
    store = give(llama(tmp_path), LLAMA)
    tiny.make(store, SAFETENSORS)
    state = {n: t.half() for n, t in KEPT.items() if n != OUTPUT}
    path = tiny.checkpoint_path(store, SAFETENSORS)
    path.write_bytes(save(state, {"dtype": "float16", "format": "pt"}))
    for name in ("configs/config.json", "safetensors/config.json"):
        config = store.path(store.catalogue[SAFETENSORS], name)
        said = json.loads(config.read_bytes()) | {"tie_word_embeddings": True}
        config.write_bytes(json.dumps(said).encode())
    found = findings(store, "parameters")
    assert any(OUTPUT in text for text in found)
    assert any("tie_word_embeddings" in text for text in found)


def vocabulary(rows: int) -> tuple[Tensors, dict[str, Any]]:
    """A Llama with that many rows, as narrow as can be."""
    config = tiny.CONFIG | {"hidden_size": 8, "num_attention_heads": 4, "vocab_size": rows}
    return tiny.weights(tiny.shapes_of(tiny.FAMILIES["llama"], config)), config


def test_rows_beyond_the_tokenizer_are_stated(tmp_path: Path) -> None:
    """32,001 rows, one for a pad token, are common; not meant, they are another tokenizer's.

    So the spec says how many; and the refusal comes before the conversion.
    """
    state, config = vocabulary(32_001)
    message = refusal(give(llama(tmp_path / "a"), state, config))
    assert "the embedding has 32001 rows, and the tokenizer has 32000 pieces" in message
    assert "write checkpoint: {embedding_rows: 32001} into the spec" in message
    part = {"embedding_rows": 32_001}
    store = give(llama(tmp_path / "b", checkpoint=part), state, config)
    assert_is(store, state)
    assert findings(store, "tokenizer") == []
    part = {"embedding_rows": 32_002}
    store = give(llama(tmp_path / "c", checkpoint=part), state, config)
    assert "32001 rows, and the spec says 32002" in refusal(store)


def test_rows_are_the_stated_ones(tmp_path: Path) -> None:
    """The rule, too: neither more nor fewer, and never fewer than pieces."""
    state, config = vocabulary(32_001)
    store = give(llama(tmp_path, checkpoint={"embedding_rows": 32_001}), state, config)
    tiny.make(store, SAFETENSORS)
    path = tiny.checkpoint_path(store, SAFETENSORS)
    path.write_bytes(save({n: t[:32_000].clone().half() for n, t in state.items()}))
    (found,) = findings(store, "tokenizer")
    assert "32000 rows, as the tokenizer has pieces, or 32001, as the spec says" in found


META_FILES = ("7B_1T_4/consolidated.pth", "7B_1T_4/params.json")


def metas(root: Path, params: Mapping[str, Any], **fields: Any) -> Store:
    """A model of Meta's family with these upstream parameters."""
    store = tiny.store_of(root / "storage", tiny.META_MODEL | fields, tiny.micro_spec())
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()), params)
    tiny.make(store, TOKENIZER)
    return store


def test_vocabulary_of_minus_one_is_the_embeddings(tmp_path: Path) -> None:
    """Meta's Llama 1 and 2 leave it to the tokenizer: the rows decide, and that is recorded."""
    store = metas(tmp_path, tiny.PARAMS | {"vocab_size": -1})
    conversion = tiny.make(store, SAFETENSORS).document["conversion"]
    assert conversion["derived"] == {"vocab_size": 48}
    path = store.path(store.catalogue[SAFETENSORS], "configs/params.json")
    assert json.loads(path.read_bytes()) == tiny.PARAMS
    assert findings(store, "parameters") == []
    tiny.make(store, MICRO)
    assert findings(store, "parameters", key=MICRO) == []
    store = metas(tmp_path / "b", tiny.PARAMS | {"vocab_size": -2})
    with pytest.raises(InvalidInput, match="vocab_size: Input should be greater than 0"):
        tiny.make(store, SAFETENSORS)


def test_overrides_are_read_instead_and_recorded(tmp_path: Path) -> None:
    """A pinned file stays as it is; its correction has a place that a reader finds."""
    wrong = tiny.PARAMS | {"norm_eps": 0, "use_scaled_rope": False}
    with pytest.raises(InvalidInput, match=r"use_scaled_rope: .*: the training code takes no such"):
        tiny.make(metas(tmp_path / "a", wrong | {"norm_eps": 1e-05}), SAFETENSORS)
    overrides = {"norm_eps": 1e-05, "use_scaled_rope": None}
    store = metas(tmp_path / "b", wrong, overrides=overrides)
    manifest = tiny.make(store, SAFETENSORS)
    assert manifest.document["conversion"]["overrides"] == overrides
    assert manifest.made_with is not None
    assert manifest.made_with.settings["overrides"] == overrides
    path = store.path(store.catalogue[SAFETENSORS], "configs/params.json")
    assert json.loads(path.read_bytes()) == tiny.PARAMS
    assert findings(store, "parameters") == []


def test_overrides_of_a_config(tmp_path: Path) -> None:
    """What is corrected is passed on corrected."""
    config = tiny.CONFIG | {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}}
    message = refusal(give(llama(tmp_path / "a"), LLAMA, config))
    assert "rope_theta is 10000, and rope_parameters says 500000" in message
    overrides = {"rope_theta": 5e5, "rope_parameters": None}
    store = give(llama(tmp_path / "b", overrides=overrides), LLAMA, config)
    assert_is(store, KEPT)
    path = store.path(store.catalogue[SAFETENSORS], "configs/config.json")
    assert json.loads(path.read_bytes()) == tiny.CONFIG | {
        "rope_theta": 5e5,
        "torch_dtype": "float16",
    }


def test_nothing_is_recorded_of_what_is_plain(tmp_path: Path) -> None:
    """Manifests of models that need none of this are what they were."""
    conversion = assert_is(give(llama(tmp_path), LLAMA), KEPT)
    assert conversion.keys() == {"from_dtype", "to_dtype", "dropped", "aliased"}


def test_records_of_other_tensors_are_not_read(tmp_path: Path) -> None:
    """Three quarters of a training checkpoint are the optimiser's: none of it is read."""
    store = llama(tmp_path, checkpoint={"select": "model"})
    held = records(tiny.saved(trained(LLAMA)))
    last = max((name for name in held if name.startswith("data/")), key=lambda n: int(n[5:]))
    data = zipped(held)
    begin, _ = tiny.storage_at(data, last.removeprefix("data/"))
    assert_is(give(store, tiny.changed(data, begin)), KEPT)
