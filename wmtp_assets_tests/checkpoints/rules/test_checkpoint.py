"""The rules of checkpoints and tokenizers: what counts is what the tensor headers say."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import save
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor

from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.checkpoints.beside import (
    MODEL_FILES,
    VARIANT_FILES,
    files_of,
    record_value_head,
)
from wmtp_assets.checkpoints.tokenizer import fast_tokenizer
from wmtp_assets.kinds.registry import all_rules, kinds_of
from wmtp_assets.sample.tokenizer import MODEL_PATH, MODEL_SHA256
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints.test_tokenizer import trained
from wmtp_assets_tests.light import hide
from wmtp_assets_tests.quick import first_of_each, quick
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.rules.cases import (
    KEY,
    Case,
    Damage,
    apply,
    edit,
    edit_header,
    edit_json,
    edit_manifest,
    edit_yaml,
    elsewhere,
    put,
    redescribe,
    remove,
    rewrite,
    then,
    uncommit,
)
from wmtp_assets_tests.trees import damage, flip

CHECKPOINT, TOKENIZER = MODEL_FILES.checkpoint, MODEL_FILES.tokenizer
PARAMS, ADAPTER, CONFIG = MODEL_FILES.params, MODEL_FILES.adapter, MODEL_FILES.config
TOKENIZER_CONFIG = "tokenizer/tokenizer_config.json"
NEEDS_SENTENCEPIECE = "sentencepiece is not installed: pip install sentencepiece"
CHECKPOINTS: tuple[str, ...] = ("safetensors", "micro")
WIDTH = {"safetensors": 640, "micro": 512}
EMBEDDING = "tensor tok_embeddings.weight"
TYPE, LABEL = "torch_dtype", "__metadata__.dtype"
RAW_PARAMS, RAW_CONFIG = "raw/7B_1T_4/params.json", "raw/config.json"
STATED = {rule.name: rule.expected for rule in all_rules() if "tokenizer" in kinds_of(rule)}
STATEMENT = {rule.name: rule.expected for rule in all_rules() if {*kinds_of(rule)} & {*CHECKPOINTS}}
SHA256 = "SHA-256 [0-9a-f]{64}"
MICRO_SHAPE = {
    "dim": 512,
    "n_layers": 4,
    "n_heads": 4,
    "n_kv_heads": 4,
    "multiple_of": 64,
    "ffn_dim_multiplier": 0.5,
}


def set_dtype(name: str, dtype: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header[name]["dtype"] = dtype

    return change


def set_shape(name: str, shape: list[int]) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header[name]["shape"] = shape

    return change


def set_every_dtype(dtype: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        for name, entry in header.items():
            if name != "__metadata__":
                entry["dtype"] = dtype

    return change


def label(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        edit(header["__metadata__"], changes)

    return change


def rename(name: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header[new] = header.pop(name)

    return change


def keep_float32(store: Store, artifact: Artifact) -> None:
    """What a recipe does that copies upstream's float32 tensors and writes float16 on the label."""
    path = store.path(artifact, files_of(artifact).checkpoint)
    tensors = {name: tensor.to(torch.float32) for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(tensors, path)
    redescribe(store, artifact)


def bomb(levels: int) -> bytes:
    """YAML of a few hundred bytes that means ten to the power of ``levels`` words."""
    lines = ["a0: &a0 lol"]
    for level in range(1, levels + 1):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines).encode()


# -- dtype -----------------------------------------------------------------------------------------

BOTH: list[Case] = []
"""Cases of both kinds of checkpoint."""

DTYPE = [
    Case(
        "all tensors are float32, the labels say float16",
        "dtype",
        "micro",
        keep_float32,
        CHECKPOINT,
        EMBEDDING,
        "float16",
        "float32",
        findings=39,
    ),
    Case(
        "all tensors are float32, the labels say bfloat16",
        "dtype",
        "safetensors",
        keep_float32,
        VARIANT_FILES.checkpoint,
        EMBEDDING,
        "bfloat16",
        "float32",
        findings=58,
        key="meta_llama_mtp_bf16",
    ),
    Case(
        "all tensors are float16, as the model's own, the labels say bfloat16",
        "dtype",
        "safetensors",
        edit_header(set_every_dtype("F16")),
        VARIANT_FILES.checkpoint,
        EMBEDDING,
        "bfloat16",
        "float16",
        findings=58,
        key="meta_llama_mtp_bf16",
    ),
    *(
        Case(
            f"{label} of the model, not of the variant",
            "dtype",
            "safetensors",
            change,
            file,
            place,
            "bfloat16",
            "float16",
            key="meta_llama_mtp_bf16",
        )
        for label, change, file, place in (
            ("config.json", edit_json("config.json", torch_dtype="float16"), "config.json", TYPE),
            (
                "adapter",
                edit_yaml("meta_adapter.yaml", dtype="float16"),
                "meta_adapter.yaml",
                "dtype",
            ),
            ("metadata.json", edit_manifest(dtype="float16"), "metadata.json", "dtype"),
        )
    ),
    Case(
        "one tensor of transformers' names is bfloat16",
        "dtype",
        "micro",
        edit_header(set_dtype("model.norm.weight", "BF16")),
        CHECKPOINT,
        "tensor model.norm.weight",
        "float16",
        "bfloat16",
        findings=2,
        key="micro_ref",
    ),
    Case(
        "the label in the file says nothing of the dtype",
        "dtype",
        "micro",
        edit_header(label(dtype=...)),
        CHECKPOINT,
        LABEL,
        "float16",
        "None",
        key="micro_ref",
    ),
    Case(
        "the label in the file is the model's, not the variant's",
        "dtype",
        "safetensors",
        edit_header(label(dtype="float16")),
        VARIANT_FILES.checkpoint,
        LABEL,
        "bfloat16",
        "float16",
        key="meta_llama_mtp_bf16",
    ),
]
for _kind in CHECKPOINTS:
    BOTH += [
        Case(
            "one tensor is bfloat16",
            "dtype",
            _kind,
            edit_header(set_dtype("norm.weight", "BF16")),
            CHECKPOINT,
            "tensor norm.weight",
            "float16",
            "bfloat16",
            findings=2,
        ),
        Case(
            "the label in the file says float16, one tensor is bfloat16",
            "dtype",
            _kind,
            edit_header(set_dtype("norm.weight", "BF16")),
            CHECKPOINT,
            LABEL,
            "mixed",
            "float16",
            findings=2,
        ),
        Case(
            "the label in the file",
            "dtype",
            _kind,
            edit_header(label(dtype="float32")),
            CHECKPOINT,
            LABEL,
            "float16",
            "float32",
        ),
        Case(
            "one tensor is of integers",
            "dtype",
            _kind,
            edit_header(set_dtype("norm.weight", "I16")),
            CHECKPOINT,
            "tensor norm.weight",
            "float16",
            "I16",
            findings=2,
        ),
        Case(
            "config.json's label",
            "dtype",
            _kind,
            edit_json(CONFIG, torch_dtype="float32"),
            CONFIG,
            "torch_dtype",
            "float16",
            "float32",
        ),
        Case(
            "no label in config.json",
            "dtype",
            _kind,
            edit_json(CONFIG, torch_dtype=...),
            CONFIG,
            "torch_dtype",
            "float16",
            "None",
        ),
        Case(
            "meta_adapter.yaml's label",
            "dtype",
            _kind,
            edit_yaml(ADAPTER, dtype="bfloat16"),
            ADAPTER,
            "dtype",
            "float16",
            "bfloat16",
        ),
        Case(
            "meta_adapter.yaml is a list",
            "dtype",
            _kind,
            rewrite(ADAPTER, lambda data: b"- float16\n"),
            ADAPTER,
            "dtype",
            "float16",
            "None",
        ),
        Case(
            "metadata.json's label",
            "dtype",
            _kind,
            edit_manifest(dtype="float32"),
            "metadata.json",
            "dtype",
            "float16",
            "float32",
        ),
    ]

# -- parameters ------------------------------------------------------------------------------------


def parameters(
    name: str,
    kind: str,
    damage: Damage,
    file: str,
    place: str,
    expected: str,
    found: str,
    **more: Any,
) -> Case:
    return Case(name, "parameters", kind, damage, file, place, expected, found, **more)


for _kind in CHECKPOINTS:
    _width = WIDTH[_kind]
    BOTH += [
        parameters(
            "params.json, another value; what is derived from it disagrees",
            _kind,
            edit_json(PARAMS, norm_eps=1e-6),
            PARAMS,
            "norm_eps",
            "1e-05",
            "1e-06",
            findings=4,
        ),
        parameters(
            "params.json, a key that the training code would be given too",
            _kind,
            edit_json(PARAMS, max_seq_len=2048),
            PARAMS,
            "max_seq_len",
            "nothing",
            "2048",
        ),
        parameters(
            "params.json, a key that has a default",
            _kind,
            edit_json(PARAMS, rope_theta=...),
            PARAMS,
            "rope_theta",
            "10000.0",
            "nothing",
        ),
        parameters(
            "params.json, a text for a number",
            _kind,
            edit_json(PARAMS, dim=str(_width)),
            PARAMS,
            "",
            STATEMENT["parameters"],
            "configs/params.json: dim: Input should be a valid integer",
        ),
        parameters(
            "params.json, an unknown key",
            _kind,
            edit_json(PARAMS, dropout=0.1),
            PARAMS,
            "",
            STATEMENT["parameters"],
            "configs/params.json: dropout: Extra inputs are not permitted: the training code .*",
        ),
        parameters(
            "params.json is cut off",
            _kind,
            rewrite(PARAMS, lambda data: data[:20]),
            PARAMS,
            "",
            STATEMENT["parameters"],
            "configs/params.json: not JSON: .*",
        ),
        parameters(
            "params.json, infinity",
            _kind,
            edit_json(PARAMS, ffn_dim_multiplier=float("inf")),
            PARAMS,
            "",
            STATEMENT["parameters"],
            "configs/params.json: not JSON: Infinity is not JSON",
        ),
        parameters(
            "params.json, a million layers",
            _kind,
            edit_json(PARAMS, n_layers=10**6),
            PARAMS,
            "",
            STATEMENT["parameters"],
            "configs/params.json: n_layers: .*",
        ),
        parameters(
            "config.json, cut off",
            _kind,
            rewrite(CONFIG, lambda data: data[:30]),
            CONFIG,
            "",
            STATEMENT["parameters"],
            "not JSON: line 3, column 3: Unterminated string starting at",
        ),
        parameters(
            "config.json, a key twice",
            _kind,
            rewrite(CONFIG, lambda data: data[:-3] + b',\n  "head_dim": 1\n}\n'),
            CONFIG,
            "",
            STATEMENT["parameters"],
            "not JSON: duplicate key 'head_dim'",
        ),
        parameters(
            "config.json, nested without end",
            _kind,
            rewrite(CONFIG, lambda data: b'{"a":' * 100_000),
            CONFIG,
            "",
            STATEMENT["parameters"],
            "not JSON: nested more than 32 deep",
        ),
        parameters(
            "config.json is a list",
            _kind,
            rewrite(CONFIG, lambda data: b"[]\n"),
            CONFIG,
            "",
            STATEMENT["parameters"],
            "not JSON: a list, not an object",
        ),
        parameters(
            "meta_adapter.yaml is not YAML",
            _kind,
            rewrite(ADAPTER, lambda data: b"a: [1,\n"),
            ADAPTER,
            "",
            STATEMENT["parameters"],
            "not YAML: while parsing a flow node expected .* line 2, column 1.*",
        ),
        parameters(
            "meta_adapter.yaml is a text",
            _kind,
            rewrite(ADAPTER, lambda data: b"float16\n"),
            ADAPTER,
            "",
            r"\{.*\}",
            "float16",
        ),
        parameters(
            "meta_adapter.yaml grows to gigabytes when it is printed",
            _kind,
            rewrite(ADAPTER, lambda data: bomb(12)),
            ADAPTER,
            "",
            STATEMENT["parameters"],
            "not plain YAML: an anchor, an alias or a tag",
        ),
        parameters(
            "meta_adapter.yaml makes PyYAML raise an IndexError",
            _kind,
            rewrite(ADAPTER, lambda data: b"a: !!int ''\n"),
            ADAPTER,
            "",
            STATEMENT["parameters"],
            "not plain YAML: an anchor, an alias or a tag",
        ),
        parameters(
            "metadata.json, one parameter more",
            _kind,
            edit_manifest(n_params=1),
            "metadata.json",
            "n_params",
            "[0-9]+",
            "1",
        ),
        parameters(
            "metadata.json, no number of parameters",
            _kind,
            edit_manifest(n_params=...),
            "metadata.json",
            "n_params",
            "[0-9]+",
            "None",
        ),
        parameters(
            "metadata.json, a tensor's dtype",
            _kind,
            edit_manifest(**{"checkpoint__tensors__norm.weight__dtype": "float32"}),
            "metadata.json",
            "checkpoint.tensors.norm.weight.dtype",
            "float16",
            "float32",
        ),
        parameters(
            "metadata.json, a tensor's shape",
            _kind,
            edit_manifest(**{"checkpoint__tensors__norm.weight__shape": [1, _width]}),
            "metadata.json",
            "checkpoint.tensors.norm.weight.shape",
            rf"\[{_width}\]",
            rf"\[1, {_width}\]",
        ),
        parameters(
            "metadata.json, a tensor left out",
            _kind,
            edit_manifest(**{"checkpoint__tensors__norm.weight": ...}),
            "metadata.json",
            "checkpoint.tensors.norm.weight",
            r"\{.*\}",
            "nothing",
        ),
        parameters(
            "metadata.json, no description of the checkpoint",
            _kind,
            edit_manifest(checkpoint={}),
            "metadata.json",
            "checkpoint.tensors.extra_heads.0.attention.wk.weight",
            r"\{.*\}",
            "nothing",
            findings={"safetensors": 57, "micro": 38}[_kind],
        ),
        parameters(
            "a tensor is missing, another is there instead",
            _kind,
            edit_header(rename("norm.weight", "norm.weights")),
            CHECKPOINT,
            "tensor norm.weight",
            rf"shape \[{_width}\]",
            "no such tensor",
            findings=2,
        ),
        parameters(
            "a tensor that does not belong there",
            _kind,
            edit_header(rename("norm.weight", "rope.freqs")),
            CHECKPOINT,
            "tensor rope.freqs",
            "no such tensor",
            rf"shape \[{_width}\]",
            findings=2,
        ),
        parameters(
            "a tensor of another shape and as many elements",
            _kind,
            edit_header(set_shape("tok_embeddings.weight", [_width, 32000])),
            CHECKPOINT,
            EMBEDDING,
            rf"shape \[32000, {_width}\]",
            rf"shape \[{_width}, 32000\]",
        ),
        parameters(
            "the checkpoint is cut off",
            _kind,
            rewrite(CHECKPOINT, lambda data: data[:-1]),
            CHECKPOINT,
            "",
            STATEMENT["parameters"],
            ".*: bad safetensors header: the tensors end at byte .*",
        ),
        parameters(
            "the checkpoint is another kind of file",
            _kind,
            rewrite(CHECKPOINT, lambda data: b"PK\x03\x04" * 9),
            CHECKPOINT,
            "",
            STATEMENT["parameters"],
            ".*: no safetensors file: .*",
        ),
    ]
PARAMETERS = [
    parameters(
        "params.json is not the raw one",
        "safetensors",
        elsewhere("meta_llama_mtp_raw", edit_json(RAW_PARAMS, norm_eps=1e-6)),
        PARAMS,
        "norm_eps",
        "1e-06",
        "1e-05",
    ),
    parameters(
        "the raw params.json is damaged: that is what must be repaired",
        "safetensors",
        elsewhere("meta_llama_mtp_raw", rewrite(RAW_PARAMS, lambda data: b"{")),
        RAW_PARAMS,
        "",
        STATEMENT["parameters"],
        "raw/7B_1T_4/params.json: not JSON: .*",
        remedy="meta_llama_mtp_raw",
    ),
    parameters(
        "params.json is not what the spec makes of the parent's",
        "micro",
        lambda store, artifact: respec(
            store, "micro_mtp", shape={**MICRO_SHAPE, "ffn_dim_multiplier": 0.25}
        ),
        PARAMS,
        "ffn_dim_multiplier",
        "0.25",
        "0.5",
    ),
    parameters(
        "params.json is not what is made of this parent's",
        "micro",
        elsewhere("meta_llama_mtp_safetensors", edit_json(PARAMS, rope_theta=5e5)),
        PARAMS,
        "rope_theta",
        "500000.0",
        "10000.0",
    ),
    parameters(
        "the spec asks for what no parent of this size has",
        "micro",
        lambda store, artifact: respec(store, "micro_mtp", shape={**MICRO_SHAPE, "dim": 1024}),
        PARAMS,
        "",
        STATEMENT["parameters"],
        "micro_mtp: shape.dim is 1024, meta_llama_mtp has 640",
    ),
    parameters(
        "params.json is not what upstream's config.json says",
        "safetensors",
        elsewhere("ref_sheared_llama_raw", edit_json(RAW_CONFIG, rms_norm_eps=1e-6)),
        PARAMS,
        "norm_eps",
        "1e-06",
        "1e-05",
        key="ref_sheared_llama_safetensors",
    ),
    parameters(
        "a field of upstream's config.json that no parameter decides",
        "safetensors",
        elsewhere("ref_sheared_llama_raw", edit_json(RAW_CONFIG, pad_token_id=7)),
        CONFIG,
        "pad_token_id",
        "7",
        "0",
        key="ref_sheared_llama_safetensors",
    ),
    parameters(
        "the raw config.json is damaged: that is what must be repaired",
        "safetensors",
        elsewhere("starling_rm_raw", rewrite(RAW_CONFIG, lambda data: data[:9])),
        RAW_CONFIG,
        "",
        STATEMENT["parameters"],
        "raw/config.json: not a JSON object: .*",
        remedy="starling_rm_raw",
        key="starling_rm_safetensors",
    ),
    parameters(
        "the reward head is missing",
        "safetensors",
        edit_header(rename("v_head.weight", "score.weight")),
        CHECKPOINT,
        "tensor v_head.weight",
        r"shape \[1, 256\]",
        "no such tensor",
        findings=2,
        key="starling_rm_safetensors",
    ),
    parameters(
        "the reward head lies the other way",
        "safetensors",
        edit_header(set_shape("v_head.weight", [256, 1])),
        CHECKPOINT,
        "tensor v_head.weight",
        r"shape \[1, 256\]",
        r"shape \[256, 1\]",
        key="starling_rm_safetensors",
    ),
    parameters(
        "meta_adapter.yaml has the default of a context that config.json says otherwise",
        "safetensors",
        edit_yaml(ADAPTER, max_position_embeddings=2048),
        ADAPTER,
        "max_position_embeddings",
        "4096",
        "2048",
        key="ref_sheared_llama_safetensors",
    ),
    parameters(
        "config.json has another context than params.json",
        "micro",
        edit_json(CONFIG, max_position_embeddings=2048),
        CONFIG,
        "max_position_embeddings",
        "4096",
        "2048",
        findings=2,  # and the copy beside the checkpoint
        key="micro_ref",
    ),
    parameters(
        "meta_adapter.yaml, two names of one parameter",
        "micro",
        edit_yaml(ADAPTER, num_layers=3),
        ADAPTER,
        "num_layers",
        "4",
        "3",
    ),
    parameters(
        "meta_adapter.yaml of a variant",
        "safetensors",
        edit_yaml("meta_adapter.yaml", hidden_size=4096),
        "meta_adapter.yaml",
        "hidden_size",
        "640",
        "4096",
        key="meta_llama_mtp_bf16",
    ),
    parameters(
        "params.json of a variant is not the raw one",
        "safetensors",
        elsewhere("meta_llama_mtp_raw", edit_json(RAW_PARAMS, norm_eps=1e-6)),
        "params.json",
        "norm_eps",
        "1e-06",
        "1e-05",
        key="meta_llama_mtp_bf16",
    ),
    parameters(
        "a tensor of a variant is missing, another is there instead",
        "safetensors",
        edit_header(rename("norm.weight", "norm.weights")),
        VARIANT_FILES.checkpoint,
        "tensor norm.weight",
        r"shape \[640\]",
        "no such tensor",
        findings=2,
        key="meta_llama_mtp_bf16",
    ),
    parameters(
        "the config.json that transformers reads says another dtype",
        "micro",
        edit_json(MODEL_FILES.beside, torch_dtype="float32"),
        MODEL_FILES.beside,
        "torch_dtype",
        "float16",
        "float32",
        key="micro_ref",
    ),
    parameters(
        "config.json lacks what is kept of the parent's",
        "micro",
        elsewhere("ref_sheared_llama_safetensors", edit_json(CONFIG, pad_token_id=7)),
        CONFIG,
        "pad_token_id",
        "7",
        "0",
        key="micro_ref",
    ),
    parameters(
        "the parent's config.json is damaged: that is what must be repaired",
        "micro",
        elsewhere("ref_sheared_llama_safetensors", rewrite(CONFIG, lambda data: data[:9])),
        f"../ref-sheared-llama-2.7b/{CONFIG}",
        "",
        STATEMENT["parameters"],
        "not JSON: .*",
        remedy="ref_sheared_llama_safetensors",
        key="micro_ref",
    ),
    parameters(
        "a tied file with an output matrix",
        "micro",
        edit_header(rename("model.norm.weight", "lm_head.weight")),
        CHECKPOINT,
        "tensor lm_head.weight",
        "no such tensor",
        r"shape \[512\]",
        findings=2,
        key="micro_ref",
    ),
    parameters(
        "the parent's params.json is damaged: that is what must be repaired",
        "micro",
        elsewhere("meta_llama_mtp_safetensors", rewrite(PARAMS, lambda data: b"{")),
        f"../meta-llama-mtp/{PARAMS}",
        "",
        STATEMENT["parameters"],
        "configs/params.json: not JSON: .*",
        remedy="meta_llama_mtp_safetensors",
    ),
]

# -- tokenizer -------------------------------------------------------------------------------------


def swapped(name: str) -> Damage:
    """Swap two pieces in a tokenizer, and seal."""
    return rewrite(name, swap_two)


@cache
def swap_two(data: bytes) -> bytes:
    """The same model, with two pieces of one length under each other's number."""
    processor = SentencePieceProcessor(model_proto=data)
    pieces = (processor.id_to_piece(number).encode() for number in range(1000, 32000))
    fields = (b"\n" + bytes([len(piece)]) + piece + b"\x15" for piece in pieces)
    unique = (field for field in fields if len(field) == 8 and data.count(field) == 1)
    one, two = islice(unique, 2)
    begin, end = data.index(one), data.index(two)
    changed = bytearray(data)
    changed[begin : begin + 8], changed[end : end + 8] = two, one
    return bytes(changed)


def replace_by_link(name: str) -> Damage:
    """Put a link that leads nowhere in place of a file."""

    def act(store: Store, artifact: Artifact) -> None:
        store.path(artifact, name).unlink()
        store.path(artifact, name).symlink_to("nowhere")

    return act


def only_file(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change a file and nothing that vouches for it."""
    return lambda store, artifact: damage(store.path(artifact, name), change)


def unpinned(store: Store, artifact: Artifact) -> Store:
    """The store of a hub whose tokenizer is not pinned: no hash is known beforehand."""
    own = respec(store, "meta_llama_mtp", tokenizer={"vocab_size": 32000})
    return Store(Settings("hub", store.root), own.catalogue)


SHARING: list[Case] = [
    case
    for key in ("ref_sheared_llama_tokenizer", "starling_rm_tokenizer")
    for case in (
        Case(
            "as many pieces, and two have changed places",
            "tokenizer",
            "tokenizer",
            swapped("tokenizer.model"),
            "tokenizer.model",
            "",
            f"SHA-256 {MODEL_SHA256}",
            SHA256,
            key=key,
        ),
        Case(
            "as many pieces, two have changed places, and no hash is pinned",
            "tokenizer",
            "tokenizer",
            then(swapped("tokenizer.model"), unpinned),
            "tokenizer.model",
            "",
            f"SHA-256 {MODEL_SHA256}, as meta_llama_mtp_tokenizer",
            SHA256,
            key=key,
        ),
        Case(
            "the other model's was made anew with other pieces, and no hash is pinned",
            "tokenizer",
            "tokenizer",
            then(elsewhere("meta_llama_mtp_tokenizer", swapped("tokenizer.model")), unpinned),
            "tokenizer.model",
            "",
            f"{SHA256}, as meta_llama_mtp_tokenizer",
            f"SHA-256 {MODEL_SHA256}",
            key=key,
        ),
        Case(
            "in place of the other model's is a link",
            "tokenizer",
            "tokenizer",
            elsewhere("meta_llama_mtp_tokenizer", replace_by_link("tokenizer.model")),
            "../../meta-llama-mtp/tokenizer/tokenizer.model",
            "",
            STATED["tokenizer"],
            ".* is not a regular file: lrwxrwxrwx",
            remedy="meta_llama_mtp_tokenizer",
            key=key,
        ),
        *(
            Case(
                f"metadata.json says it is shared with {shared_with}",
                "tokenizer",
                "tokenizer",
                edit_manifest(tokenizer_shared_with=shared_with),
                "metadata.json",
                "tokenizer_shared_with",
                "meta-llama-mtp",
                str(None if shared_with is ... else shared_with),
                key=key,
            )
            for shared_with in (None, "micro-mtp", "meta_llama_mtp", ...)
        ),
    )
]

TOKENIZERS = [
    Case(
        "two pieces have changed places",
        "tokenizer",
        "tokenizer",
        swapped("tokenizer.model"),
        "tokenizer.model",
        "",
        f"SHA-256 {MODEL_SHA256}",
        SHA256,
    ),
    Case(
        "anything but a tokenizer: it is not even parsed",
        "tokenizer",
        "tokenizer",
        rewrite("tokenizer.model", lambda data: b"\xff" * 100),
        "tokenizer.model",
        "",
        f"SHA-256 {MODEL_SHA256}",
        SHA256,
    ),
    Case(
        "another number of pieces than the spec asks for",
        "tokenizer",
        "tokenizer",
        lambda store, artifact: respec(store, "meta_llama_mtp", tokenizer={"vocab_size": 32016}),
        "tokenizer.model",
        "vocabulary",
        "32016",
        "32000",
    ),
    *(
        Case(
            f"tokenizer_config.json, {key}",
            "tokenizer",
            "tokenizer",
            edit_json("tokenizer_config.json", **{key: value}),
            "tokenizer_config.json",
            key,
            expected,
            found,
        )
        for key, value, expected, found in (
            ("vocab_size", 32001, "32000", "32001"),
            ("bos_id", 0, "1", "0"),
            ("eos_id", 2.0, "2", "2.0"),
            ("pad_id", -1, "None", "-1"),
            ("unk_id", ..., "0", "nothing"),
            ("model_type", "bpe", "sentencepiece", "bpe"),
            ("added_tokens", [], "nothing", r"\[\]"),
        )
    ),
    Case(
        "metadata.json, another number of pieces",
        "tokenizer",
        "tokenizer",
        edit_manifest(vocab_size=32016),
        "metadata.json",
        "vocab_size",
        "32000",
        "32016",
    ),
    *(
        Case(
            f"config.json, another {name}",
            "tokenizer",
            kind,
            edit_json(CONFIG, **{name: 0}),
            CONFIG,
            name,
            expected,
            "0",
            key=key,
        )
        for kind, key, name, expected in (
            ("safetensors", "meta_llama_mtp_safetensors", "bos_token_id", "1"),
            ("micro", "micro_ref", "eos_token_id", "2"),
        )
    ),
    Case(
        "metadata.json names the parent, which has the tokenizer from the owner",
        "tokenizer",
        "micro",
        edit_manifest(tokenizer_shared_with="ref-sheared-llama-2.7b"),
        "metadata.json",
        "tokenizer_shared_with",
        "meta-llama-mtp",
        "ref-sheared-llama-2.7b",
        key="micro_ref",
    ),
    Case(
        "the owner's tokenizer was made anew with other pieces",
        "tokenizer",
        "micro",
        elsewhere("meta_llama_mtp_tokenizer", swapped("tokenizer.model")),
        TOKENIZER,
        "",
        f"{SHA256}, as meta_llama_mtp_tokenizer",
        f"SHA-256 {MODEL_SHA256}",
        key="micro_ref",
    ),
    Case(
        "tokenizer_config.json is cut off",
        "tokenizer",
        "tokenizer",
        rewrite("tokenizer_config.json", lambda data: data[:-5]),
        "tokenizer_config.json",
        "",
        STATED["tokenizer"],
        "not JSON: .*",
    ),
    Case(
        "metadata.json says the pinned tokenizer is someone else's",
        "tokenizer",
        "tokenizer",
        edit_manifest(tokenizer_shared_with="ref-sheared-llama-2.7b"),
        "metadata.json",
        "tokenizer_shared_with",
        "None",
        "ref-sheared-llama-2.7b",
    ),
    Case(
        "the tokenizer beside the variant has other pieces",
        "tokenizer",
        "safetensors",
        elsewhere("meta_llama_mtp_tokenizer", swapped("tokenizer.model")),
        VARIANT_FILES.tokenizer,
        "",
        f"SHA-256 {MODEL_SHA256}",
        SHA256,
        key="meta_llama_mtp_bf16",
    ),
    Case(
        "the tokenizer of the other model was made anew with other pieces",
        "tokenizer",
        "safetensors",
        elsewhere("meta_llama_mtp_tokenizer", swapped("tokenizer.model")),
        TOKENIZER,
        "",
        f"{SHA256}, as meta_llama_mtp_tokenizer",
        f"SHA-256 {MODEL_SHA256}",
        key="starling_rm_safetensors",
    ),
    Case(
        "metadata.json does not say whose tokenizer it is",
        "tokenizer",
        "safetensors",
        edit_manifest(tokenizer_shared_with=None),
        "metadata.json",
        "tokenizer_shared_with",
        "meta-llama-mtp",
        "None",
        key="ref_sheared_llama_safetensors",
    ),
    Case(
        "the embedding of transformers' name has half a row per piece",
        "tokenizer",
        "safetensors",
        edit_header(set_shape("model.embed_tokens.weight", [16000, 512])),
        CHECKPOINT,
        "tensor model.embed_tokens.weight",
        "32000 rows, as the tokenizer has pieces",
        "16000 rows",
        key="starling_rm_safetensors",
    ),
    Case(
        "the tokenizer beside the checkpoint has other pieces",
        "tokenizer",
        "safetensors",
        elsewhere("meta_llama_mtp_tokenizer", swapped("tokenizer.model")),
        TOKENIZER,
        "",
        f"SHA-256 {MODEL_SHA256}",
        SHA256,
    ),
    Case(
        "the tokenizer beside the checkpoint is gone",
        "tokenizer",
        "safetensors",
        elsewhere("meta_llama_mtp_tokenizer", remove("tokenizer.model")),
        TOKENIZER,
        "",
        "a file",
        "nothing",
        problem="missing",
        remedy="meta_llama_mtp_tokenizer",
    ),
    Case(
        "metadata.json names another tokenizer",
        "tokenizer",
        "safetensors",
        edit_manifest(sha256__tokenizer="0" * 64),
        TOKENIZER,
        "",
        "SHA-256 0{64}",
        f"SHA-256 {MODEL_SHA256}",
    ),
    Case(
        "metadata.json says the tokenizer is someone else's",
        "tokenizer",
        "safetensors",
        edit_manifest(tokenizer_shared_with="micro-mtp"),
        "metadata.json",
        "tokenizer_shared_with",
        "None",
        "micro-mtp",
    ),
    Case(
        "the shared tokenizer has the parent's size and other pieces",
        "tokenizer",
        "micro",
        swapped(TOKENIZER),
        TOKENIZER,
        "",
        f"SHA-256 {MODEL_SHA256}, as meta_llama_mtp_tokenizer",
        SHA256,
    ),
    Case(
        "the parent's tokenizer was made anew with other pieces",
        "tokenizer",
        "micro",
        elsewhere("meta_llama_mtp_tokenizer", swapped("tokenizer.model")),
        TOKENIZER,
        "",
        f"{SHA256}, as meta_llama_mtp_tokenizer",
        f"SHA-256 {MODEL_SHA256}",
    ),
    Case(
        "the tokenizer is not the one the model was made with",
        "tokenizer",
        "micro",
        only_file(TOKENIZER, swap_two),
        TOKENIZER,
        "",
        f"SHA-256 {MODEL_SHA256}",
        SHA256,
        is_sealed=False,
    ),
    Case(
        "metadata.json does not say whose tokenizer it is",
        "tokenizer",
        "micro",
        edit_manifest(tokenizer_shared_with=None),
        "metadata.json",
        "tokenizer_shared_with",
        "meta-llama-mtp",
        "None",
    ),
    Case(
        "tokenizer_config.json",
        "tokenizer",
        "micro",
        edit_json(TOKENIZER_CONFIG, vocab_size=32016),
        TOKENIZER_CONFIG,
        "vocab_size",
        "32000",
        "32016",
    ),
]
for _kind in CHECKPOINTS:
    _width = WIDTH[_kind]
    BOTH += [
        Case(
            "the embedding has half a row per piece",
            "tokenizer",
            _kind,
            edit_header(set_shape("tok_embeddings.weight", [16000, 2 * _width])),
            CHECKPOINT,
            EMBEDDING,
            "32000 rows, as the tokenizer has pieces",
            "16000 rows",
        ),
        Case(
            "there is no embedding",
            "tokenizer",
            _kind,
            edit_header(rename("tok_embeddings.weight", "token_embedding.weights")),
            CHECKPOINT,
            EMBEDDING,
            "32000 rows, as the tokenizer has pieces",
            "None rows",
        ),
    ]

# -- value head ------------------------------------------------------------------------------------


def head_bytes(*shape: int, dtype: str = "float16", count: int = 1) -> bytes:
    """A safetensors file of ``count`` tensors, as training writes its value head."""
    tensor = np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)
    return save({f"value_head.{number}": tensor for number in range(count)})


def record(store: Store, artifact: Artifact) -> None:
    """As ``wmtp value-head`` does."""
    params = json.loads(store.read(artifact, PARAMS))
    record_value_head(store, artifact, params["dim"], "run-7/step-100")


def say_recorded(store: Store, artifact: Artifact) -> None:
    """Record whatever is there, with its right hash: what a careless script would do."""
    path = store.path(artifact, VALUE_HEAD)
    sha256 = hash_file(path).sha256
    edit_manifest(value_head={"path": VALUE_HEAD, "sha256": sha256})(store, artifact)


def value_head(
    name: str, key: str, damage: Damage, file: str, expected: str, found: str, **more: Any
) -> Case:
    kind: str = "micro" if key.startswith("micro") else "safetensors"
    return Case(name, "value_head", kind, damage, file, "", expected, found, key=key, **more)


VALUE_HEADS: list[Case] = []
for _key, _folder, _width in (
    ("micro_mtp", "micro-mtp", 512),
    ("meta_llama_mtp_safetensors", "meta-llama-mtp", 640),
    ("starling_rm_safetensors", "starling-rm-7b", 256),
):
    _good = head_bytes(_width, 1)
    _replace = f"replace it and record the new one: wmtp value-head {_folder}"
    VALUE_HEADS += [
        Case(
            "there, and not recorded",
            "value_head",
            "micro" if _key == "micro_mtp" else "safetensors",
            put(VALUE_HEAD, _good),
            "metadata.json",
            "value_head",
            "a record of the value head",
            "path None, but the file is there",
            advice=f"check and record it: wmtp value-head {_folder}",
            key=_key,
        ),
        value_head(
            "recorded, and not there",
            _key,
            then(put(VALUE_HEAD, _good), record, remove(VALUE_HEAD)),
            VALUE_HEAD,
            "the recorded value head",
            "nothing",
            problem="missing",
            advice=f"put it back, or: wmtp value-head {_folder} --forget",
        ),
        value_head(
            "trained on since it was recorded",
            _key,
            then(put(VALUE_HEAD, _good), record, only_file(VALUE_HEAD, flip(-1))),
            VALUE_HEAD,
            SHA256,
            SHA256,
            advice=f"put it back, or record the new one: wmtp value-head {_folder}",
        ),
        value_head(
            "overwritten by anything since it was recorded: it is not even parsed",
            _key,
            then(put(VALUE_HEAD, _good), record, only_file(VALUE_HEAD, lambda data: b"\xff")),
            VALUE_HEAD,
            SHA256,
            SHA256,
            advice=f"put it back, or record the new one: wmtp value-head {_folder}",
        ),
        *(
            value_head(
                f"recorded, and {name}",
                _key,
                then(put(VALUE_HEAD, data), say_recorded),
                VALUE_HEAD,
                rf"one tensor of shape \[{_width}, 1\]",
                found,
                advice=_replace,
            )
            for name, data, found in (
                (
                    "it lies the other way",
                    head_bytes(1, _width),
                    rf".* is float16 \[1, {_width}\], .*",
                ),
                (
                    "of another model",
                    head_bytes(768, 1),
                    r".* is float16 \[768, 1\], a value head .*",
                ),
                ("without its second axis", head_bytes(_width), rf".* is float16 \[{_width}\], .*"),
                ("of integers", head_bytes(_width, 1, dtype="int32"), ".* is I32 .*"),
                (
                    "two tensors",
                    head_bytes(_width, 1, count=2),
                    r".*: 2 tensors \(value_head\.0, value_head\.1\), a value head is one",
                ),
                (
                    "no tensor",
                    head_bytes(1, count=0),
                    r".*: 0 tensors \(none\), a value head is one",
                ),
                ("another kind of file", b"PK\x03\x04" * 9, ".*: no safetensors file: .*"),
            )
            if _key == "micro_mtp" or name == "it lies the other way"
        ),
    ]
VALUE_HEADS += [
    value_head(
        "it is a link",
        "micro_ref",
        then(put(VALUE_HEAD, head_bytes(512, 1)), record, replace_by_link(VALUE_HEAD)),
        VALUE_HEAD,
        r"one tensor of shape \[512, 1\]",
        ".* is not a regular file: lrwxrwxrwx",
        advice="replace it and record the new one: wmtp value-head micro-ref",
    ),
    value_head(
        "the embedding has one axis: no hidden size is known",
        "micro_mtp",
        then(
            put(VALUE_HEAD, head_bytes(512, 1)),
            record,
            edit_header(set_shape("tok_embeddings.weight", [32000 * 512])),
        ),
        VALUE_HEAD,
        r"one tensor of shape \[0, 1\]",
        ".*",
        advice="replace it and record the new one: wmtp value-head micro-mtp",
    ),
    Case(
        "another file is recorded",
        "value_head",
        "micro",
        then(
            put(VALUE_HEAD, head_bytes(512, 1)),
            say_recorded,
            edit_manifest(value_head__path="safetensors/head.bin"),
        ),
        "metadata.json",
        "value_head",
        "a record of the value head",
        "path safetensors/head.bin, but the file is there",
        advice="check and record it: wmtp value-head micro-ref",
        key="micro_ref",
    ),
    Case(
        "recorded of a variant, which has no place for it",
        "value_head",
        "safetensors",
        edit_manifest(value_head={"path": VALUE_HEAD, "stage1_checkpoint_id": None}),
        "metadata.json",
        "value_head.path",
        "None",
        VALUE_HEAD,
        key="meta_llama_mtp_bf16",
    ),
    Case(
        "metadata.json does not say whether there is one",
        "value_head",
        "micro",
        edit_manifest(value_head=...),
        "metadata.json",
        "value_head",
        "{'path': None, 'stage1_checkpoint_id': None}",
        "None",
        key="micro_mtp",
    ),
]

# -- size ------------------------------------------------------------------------------------------

MICRO_SIZE = [
    Case(
        "the file has grown",
        "micro_size",
        "micro",
        rewrite(CHECKPOINT, lambda data: data.ljust(50_000_000, b"\0")),
        CHECKPOINT,
        "",
        "under 50000000 bytes",
        "50000000 bytes",
    ),
    Case(
        "the spec allows less",
        "micro_size",
        "micro",
        lambda store, artifact: respec(store, "micro_mtp", max_bytes=49_000_000),
        CHECKPOINT,
        "",
        "under 49000000 bytes",
        "49820520 bytes",
    ),
]

ON_THE_LARGE_ONE_TOO = {
    "one tensor is bfloat16",
    "metadata.json's label",
    "params.json, another value; what is derived from it disagrees",
    "metadata.json, one parameter more",
    "a tensor is missing, another is there instead",
    "the embedding has half a row per piece",
}
"""The others are tried on the smaller checkpoint only: the rule is the same function."""


def other_fast(data: bytes) -> bytes:
    """A ``tokenizer.json`` that reads unknown characters otherwise."""
    assert data.count(b'"fuse_unk":true') == 1
    return data.replace(b'"fuse_unk":true', b'"fuse_unk":false')


def unigram(data: bytes) -> bytes:
    """In the place of a tokenizer one whose algorithm ``tokenizer.json`` has no word for."""
    return trained(100, model_type="unigram", hard_vocab_limit=False, byte_fallback=False)


def without_fast(store: Store, artifact: Artifact) -> None:
    """A tokenizer that no ``tokenizer.json`` is equal to, described as the builder does."""
    data = unigram(b"")
    stated = fast_tokenizer(data, "x").document
    assert stated["reason"] == "it is a unigram model, not BPE"
    rewrite("tokenizer.model", lambda _: data, fast_tokenizer=stated)(store, artifact)


FAST_TOKENIZERS = [
    Case(
        "tokenizer.json says something else",
        "fast_tokenizer",
        "tokenizer",
        rewrite("tokenizer.json", other_fast),
        "tokenizer.json",
        "",
        SHA256,
        SHA256,
    ),
    Case(
        "tokenizer.json of other pieces than tokenizer.model's",
        "fast_tokenizer",
        "tokenizer",
        swapped("tokenizer.model"),
        "tokenizer.json",
        "",
        SHA256,
        SHA256,
    ),
    Case(
        "tokenizer.json is gone, and the manifest says that it is written",
        "fast_tokenizer",
        "tokenizer",
        uncommit("tokenizer.json"),
        "tokenizer.json",
        "",
        "a file",
        "nothing",
        problem="missing",
    ),
    Case(
        "the manifest says that none is written",
        "fast_tokenizer",
        "tokenizer",
        edit_manifest(fast_tokenizer__written=False),
        "metadata.json",
        "fast_tokenizer.written",
        "True",
        "False",
    ),
    Case(
        "no tokenizer.json can be equal, and there is one",
        "fast_tokenizer",
        "tokenizer",
        without_fast,
        "tokenizer.json",
        "",
        "no such file: it is a unigram model.*",
        "a file",
    ),
    Case(
        "no tokenizer.json can be equal, and there is none",
        "fast_tokenizer",
        "tokenizer",
        then(without_fast, uncommit("tokenizer.json")),
        "tokenizer.json",
        "",
        "a tokenizer.json that reads every text as sentencepiece does",
        r"none: it is a unigram model, not BPE; the first text it reads otherwise: '.*'",
        problem="warning",
        advice="read tokenizer.model with sentencepiece; transformers cannot",
    ),
    Case(
        "the version before made no tokenizer.json",
        "fast_tokenizer",
        "tokenizer",
        then(uncommit("tokenizer.json"), edit_manifest(fast_tokenizer=...)),
        "tokenizer.json",
        "",
        "a tokenizer.json, for transformers",
        "none: a version before this one made the artifact",
        problem="warning",
    ),
    Case(
        "tokenizer.json says something else",
        "fast_tokenizer",
        "micro",
        rewrite("tokenizer/tokenizer.json", other_fast),
        "tokenizer/tokenizer.json",
        "",
        SHA256,
        SHA256,
    ),
]

FOLDERS = [
    *(
        Case(
            f"another {name} in safetensors/",
            "model_folder",
            kind,
            rewrite(f"safetensors/{name}", lambda data: data.replace(b"</s>", b"<!s>")),
            f"safetensors/{name}",
            "",
            f"{SHA256}, as {owner}",
            SHA256,
            key=key,
        )
        for kind, key, owner in (
            ("safetensors", "ref_sheared_llama_safetensors", "ref_sheared_llama_tokenizer"),
            ("safetensors", "starling_rm_safetensors", "starling_rm_tokenizer"),
            ("micro", "micro_ref", "micro_ref"),
        )
        for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
    ),
    *(
        Case(
            "no tokenizer.json in safetensors/",
            "model_folder",
            kind,
            uncommit("safetensors/tokenizer.json"),
            "safetensors/tokenizer.json",
            "",
            f"{SHA256}, as .*",
            "nothing",
            problem="missing",
            key=key,
        )
        for kind, key in (("safetensors", ""), ("micro", "micro_ref"))
    ),
    *(
        Case(
            "generation ends with another token",
            "model_folder",
            kind,
            edit_json("safetensors/generation_config.json", eos_token_id=1),
            "safetensors/generation_config.json",
            "eos_token_id",
            "2",
            "1",
            key=key,
        )
        for kind, key in (("safetensors", ""), ("micro", "micro_ref"))
    ),
    Case(
        "the tokenizer of the micro model is not its parent's",
        "model_folder",
        "micro",
        rewrite("tokenizer/tokenizer.json", other_fast),
        "tokenizer/tokenizer.json",
        "",
        f"{SHA256}, as meta_llama_mtp_tokenizer",
        SHA256,
    ),
    Case(
        "the parent's tokenizer was made anew",
        "model_folder",
        "micro",
        elsewhere("ref_sheared_llama_tokenizer", rewrite("tokenizer.json", other_fast)),
        "tokenizer/tokenizer.json",
        "",
        f"{SHA256}, as ref_sheared_llama_tokenizer",
        SHA256,
        key="micro_ref",
    ),
    Case(
        "the tokenizer was made anew, and has no tokenizer.json",
        "model_folder",
        "safetensors",
        elsewhere("ref_sheared_llama_tokenizer", uncommit("tokenizer.json")),
        "safetensors/tokenizer.json",
        "",
        "no such file",
        SHA256,
        findings=3,
    ),
]

CASES = [*DTYPE, *PARAMETERS, *SHARING, *TOKENIZERS, *VALUE_HEADS, *MICRO_SIZE]
CASES += [*FAST_TOKENIZERS, *FOLDERS]
CASES += [case for case in BOTH if case.kind == "micro" or case.name in ON_THE_LARGE_ONE_TOO]


FIRST = first_of_each(CASES, lambda case: (case.rule, case.key))


@pytest.mark.parametrize(
    "case", quick(CASES, lambda case: case.key != "meta_llama_mtp_bf16" or case in FIRST), ids=str
)
def test_damage_is_found(store: Store, case: Case) -> None:
    """Every hash is right, so only the rule about the content can see what is wrong, and where."""
    case.check(store)


def test_the_largest_allowed_size_is_not_reached(store: Store) -> None:
    """'Smaller than': a byte less than the bound is good."""
    size = 49_820_520
    bounded = respec(store, "micro_mtp", max_bytes=size + 1)
    assert apply(bounded, bounded.catalogue["micro_mtp"], "micro_size").findings == []
    bounded = respec(store, "micro_mtp", max_bytes=size)
    assert apply(bounded, bounded.catalogue["micro_mtp"], "micro_size").findings != []


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("name", [CONFIG, ADAPTER])
def test_every_field_of_a_config_is_compared(store: Store, kind: str, name: str) -> None:
    """The training code reads these files; a field that nobody compares is one that drifts."""
    artifact = store.catalogue[KEY[kind]]
    path = store.path(artifact, name)
    load, dump = (json.loads, json.dumps) if name == CONFIG else (yaml.safe_load, yaml.safe_dump)
    document = load(path.read_bytes())
    assert len(document) > 10
    for field, value in document.items():
        for changed in ([value], f"{value}s", {"a": value}, None, ...):
            edited = edit({**document}, {field: changed})
            damage(path, lambda data, edited=edited: dump(edited).encode())
            found = apply(store, artifact, "parameters").findings
            places = [item.place for item in found if item.file == f"{artifact.base}/{name}"]
            assert places
            assert all(place.split(".")[0] == field for place in places)


def test_true_is_not_one(store: Store) -> None:
    """Python holds them for equal; the reader of the file may not."""
    artifact = store.catalogue["micro_mtp"]
    edit_json(CONFIG, tie_word_embeddings=1, head_dim=128.0)(store, artifact)
    found = apply(store, artifact, "parameters").findings
    assert [(item.place, item.expected, item.found) for item in found] == [
        ("head_dim", "128", "128.0"),
        ("tie_word_embeddings", "True", "1"),
    ]


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_model_verifies_without_what_it_was_made_from(store: Store, kind: str) -> None:
    """A model is copied to a laptop without its 13 GB of raw files; the copy describes itself."""
    artifact = store.catalogue[KEY[kind]]
    for path in store.folder(store.catalogue["meta_llama_mtp_raw"]).glob("raw*/**/*"):
        if path.is_file():
            path.unlink()
    if kind == "micro":
        edit = store.folder(store.catalogue["meta_llama_mtp_safetensors"])
        edit.rename(store.root / "models_v2/elsewhere")
    for rule in ("parameters", "tokenizer"):
        outcome = apply(store, artifact, rule)
        assert (outcome.findings, outcome.skipped) == ([], "")
    upstream = artifact.upstream[0]
    assert apply(store, artifact, "parameters").evidence["upstream"] == (
        f"{upstream} is not here: not compared"
    )
    if kind == "micro":
        assert apply(store, artifact, "tokenizer").evidence["shared"] == (
            "meta_llama_mtp_tokenizer is not here: not compared"
        )


def test_swapped_pieces_are_a_valid_tokenizer_of_the_same_size() -> None:
    """The damage the hash is for: everything a count can see is equal, and texts read otherwise."""
    data = MODEL_PATH.read_bytes()
    good = SentencePieceProcessor(model_proto=data)
    bad = SentencePieceProcessor(model_proto=swap_two(data))
    assert len(swap_two(data)) == len(data)
    assert bad.vocab_size() == good.vocab_size()
    pieces = [
        (good.id_to_piece(number), bad.id_to_piece(number)) for number in range(good.vocab_size())
    ]
    moved = [pair for pair in pieces if pair[0] != pair[1]]
    assert len(moved) == 2 and moved[0] == moved[1][::-1]


# -- what was read, and what is skipped ------------------------------------------------------------


def test_evidence_is_what_the_bytes_say(store: Store) -> None:
    """The UI shows it beside 'passed': counts from the headers, not from labels."""
    micro = store.catalogue["micro_mtp"]
    assert apply(store, micro, "dtype").evidence == {
        "declared": "float16",
        "tensors_by_dtype": {"float16": 38},
    }
    evidence = apply(store, micro, "parameters").evidence
    assert (evidence["n_params"], evidence["tensors"]) == (24_908_288, 38)
    assert evidence["params"]["dim"] == 512
    assert apply(store, micro, "tokenizer").evidence == {
        "sha256": MODEL_SHA256,
        "embedding_rows": 32000,
        "shared_with": "meta-llama-mtp",
        "vocab_size": 32000,
    }
    for key, shared_with in (
        ("meta_llama_mtp_tokenizer", None),
        ("starling_rm_tokenizer", "meta-llama-mtp"),
    ):
        assert apply(store, store.catalogue[key], "tokenizer").evidence == {
            "sha256": MODEL_SHA256,
            "pinned": MODEL_SHA256,
            "shared_with": shared_with,
            "vocab_size": 32000,
        }
    assert apply(store, micro, "value_head").evidence == {"recorded": None, "found": None}


@pytest.fixture
def no_sentencepiece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which only the light libraries are installed."""
    hide(monkeypatch, "sentencepiece")


@pytest.mark.parametrize("kind", ["tokenizer", *CHECKPOINTS])
@pytest.mark.usefixtures("no_sentencepiece")
def test_without_sentencepiece_the_rule_is_skipped_and_says_why(store: Store, kind: str) -> None:
    """'Passed' would be a lie, and a traceback no help: the reason names the remedy."""
    artifact = store.catalogue[KEY[kind]]
    outcome = apply(store, artifact, "tokenizer")
    assert outcome.findings == []
    assert outcome.skipped == NEEDS_SENTENCEPIECE


@pytest.mark.parametrize(
    ("key", "name"), [("meta_llama_mtp_tokenizer", "tokenizer.model"), ("micro_mtp", TOKENIZER)]
)
@pytest.mark.usefixtures("no_sentencepiece")
def test_without_sentencepiece_hashes_are_still_compared(store: Store, key: str, name: str) -> None:
    """The bytes can be compared without understanding them, and that is most of the rule."""
    artifact = store.catalogue[key]
    rewrite(name, swap_two)(store, artifact)
    found = apply(store, artifact, "tokenizer").findings
    assert [item.file for item in found] == [f"{artifact.base}/{name}"]


@pytest.mark.parametrize("kind", ["tokenizer", "micro"])
def test_without_tokenizers_the_proof_is_skipped(
    store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes both libraries; that the copies are the same takes none."""
    hide(monkeypatch, "tokenizers")
    artifact = store.catalogue[KEY[kind]]
    assert apply(store, artifact, "fast_tokenizer").skipped.startswith("needs tokenizers: ")
    if kind == "micro":
        rewrite("tokenizer/tokenizer.json", other_fast)(store, artifact)
        assert len(apply(store, artifact, "model_folder").findings) == 1


def test_folder_of_the_version_before_is_not_refused(store: Store) -> None:
    """A model of 27 GB is as good as it was: that it has no tokenizer yet is not damage."""
    artifact = store.catalogue["ref_sheared_llama_safetensors"]
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        uncommit(f"safetensors/{name}")(store, artifact)
    assert len(apply(store, artifact, "model_folder").findings) == 3
    uncommit("safetensors/generation_config.json")(store, artifact)
    edit_manifest(made_with__builder=2)(store, artifact)
    for rule in ("model_folder", "sha256", "parameters", "tokenizer"):
        assert apply(store, artifact, rule).findings == []


def test_folder_is_compared_with_what_is_here(store: Store) -> None:
    """A micro model alone on a laptop: its two copies with each other."""
    micro, tokenizer = (
        store.catalogue[key] for key in ("micro_ref", "ref_sheared_llama_tokenizer")
    )
    store.folder(tokenizer).rename(store.root / "models_v2/elsewhere")
    outcome = apply(store, micro, "model_folder")
    assert outcome.findings == []
    assert outcome.evidence["tokenizer"] == f"{tokenizer.key} is not here: not compared"
    rewrite("safetensors/tokenizer.json", other_fast)(store, micro)
    assert len(apply(store, micro, "model_folder").findings) == 1
