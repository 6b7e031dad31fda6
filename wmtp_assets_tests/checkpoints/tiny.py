"""Tiny real checkpoints of every family, and storage roots around them.

Only the download is left out: :func:`commit_files` puts ``torch.save``'s bytes where it would put
them. Everything else is made by the real builders, through ``wmtp_assets.operations.materialize``.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from wmtp_assets.base.child import directly
from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.specs import MicroShape, MicroSpec, ModelSpec, SnapshotSpec, Spec
from wmtp_assets.checkpoints import convert as convert_module
from wmtp_assets.checkpoints import pipeline, safetensors_file
from wmtp_assets.checkpoints.beside import files_of
from wmtp_assets.checkpoints.families import FAMILIES, META, Family
from wmtp_assets.checkpoints.micro import ReadRows, Rows
from wmtp_assets.checkpoints.params import MetaParams, llama_params
from wmtp_assets.kinds.registry import expand
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.sample.tokenizer import MODEL_PATH, MODEL_SHA256
from wmtp_assets.storage.files import HashedFile
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Staged, Store
from wmtp_assets_tests.trees import link_tree, tree

Tensors = dict[str, torch.Tensor]

PARAMS: dict[str, int | float] = {
    "dim": 32,
    "ffn_dim_multiplier": 1.0,
    "multiple_of": 8,
    "n_future_tokens": 3,
    "n_heads": 4,
    "n_kv_heads": 2,
    "n_layers": 7,
    "norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "vocab_size": 48,
}
"""Five trunk layers and two extra heads; four heads of 8 on two key-value heads; 88 units."""

SHAPE: dict[str, int | float] = {
    "dim": 16,
    "n_layers": 3,
    "n_heads": 2,
    "n_kv_heads": 1,
    "multiple_of": 8,
    "ffn_dim_multiplier": 0.5,
}
"""One trunk layer and both extra heads; one group of two heads; 24 units."""

CONFIG: dict[str, Any] = {
    "_name_or_path": "somewhere/else",
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 88,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": 48,
}
"""A ``config.json`` as upstream's: four layers, four heads of 8 on two, 88 units."""

RAW, TOKENIZER, SAFETENSORS, MICRO = "tiny_raw", "tiny_tokenizer", "tiny_safetensors", "tiny_micro"
VARIANT = "tiny_bf16"
CHECKPOINT = "7B_1T_4/consolidated.pth"

INDEX = "pytorch_model.bin.index.json"
SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
LLAMA_FILES = {
    "checkpoint": INDEX,
    "shards": SHARDS,
    "config": "config.json",
    "tokenizer": "tokenizer.model",
}

META_MODEL: dict[str, Any] = {
    "name": "tiny",
    "folder": "tiny-model",
    "description": "a tiny model",
    "family": "meta_mtp",
    "dtype": "float16",
    "repository": {"id": "owner/tiny", "type": "model", "license": "MIT", "size": "1 MB"},
    "files": {
        "checkpoint": CHECKPOINT,
        "params": "7B_1T_4/params.json",
        "tokenizer": "tokenizer.model",
    },
    "tokenizer": {"vocab_size": 32_000, "sample_sha256": MODEL_SHA256},
}
LLAMA_MODEL = META_MODEL | {"family": "llama", "files": LLAMA_FILES}
REWARD_MODEL = META_MODEL | {
    "name": "reward",
    "folder": "tiny-reward",
    "family": "llama_reward",
    "status": "optional",
    "files": {"checkpoint": "pytorch_model.bin", "config": "config.json"},
    "tokenizer": {"shared_with": "tiny"},
}
SNAPSHOT = SnapshotSpec(name="snapshot", description="of all models")


def params(**changes: Any) -> MetaParams:
    """:data:`PARAMS` with changes, parsed."""
    return MetaParams.model_validate({**PARAMS, **changes})


def micro_spec(max_bytes: int = 1_000_000, **changes: Any) -> MicroSpec:
    """A micro model of :data:`SHAPE` with changes to its shape."""
    return MicroSpec(
        name=MICRO,
        folder="tiny-micro",
        description="cut from tiny",
        parent="tiny",
        dtype="float16",
        shape=MicroShape.model_validate({**SHAPE, **changes}),
        max_bytes=max_bytes,
    )


def weights(
    shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype = torch.float32, seed: int = 0
) -> Tensors:
    """Tensors of these shapes, of random numbers as a trained model's."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(prod(shape), generator=generator) * 0.02).reshape(shape).to(dtype)
        for name, shape in shapes.items()
    }


def random_tensors(
    params: MetaParams, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Tensors:
    """A state dict of Meta's family, with the buffer that upstream's files have."""
    tensors = weights(META.tensor_shapes(params, tied=False), dtype, seed)
    return tensors | {"rope.freqs": torch.arange(params.head_dim // 2, dtype=torch.float32)}


def in_rows(tensors: Mapping[str, torch.Tensor]) -> ReadRows:
    """What reads tensors, three rows at a time."""

    def read(name: str) -> Rows:
        tensor = tensors[name]
        return Rows(tuple(tensor.shape), tensor.dtype, tensor.split(3))

    return read


def shapes_of(family: Family, config: Mapping[str, Any] = CONFIG) -> dict[str, tuple[int, ...]]:
    """Our names and shapes of a model with this ``config.json``."""
    return family.tensor_shapes(llama_params(config, "config.json"), tied=False)


def llama_tensors(
    dtype: torch.dtype = torch.float32, config: Mapping[str, Any] = CONFIG, seed: int = 0
) -> Tensors:
    """A state dict with transformers' names, in their order, with the buffers of old versions."""
    tensors = weights(shapes_of(FAMILIES["llama"], config), dtype, seed)
    for layer in range(config["num_hidden_layers"]):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.arange(4.0)
    return tensors


SHARED = ("embed_tokens.", "layers.0.")
"""What of the reward model's second trunk shares the first one's storage; the rest is copied."""


def reward_tensors(dtype: torch.dtype = torch.float16, seed: int = 0) -> Tensors:
    """A state dict as the reward model's: the trunk twice, one matrix beside it, the value head."""
    ours = weights(shapes_of(FAMILIES["llama_reward"]), dtype, seed)
    trunk = {name.removeprefix("model."): t for name, t in ours.items() if "model." in name}
    return {
        **{f"model.model.{name}": tensor for name, tensor in trunk.items()},
        "model.lm_head.weight": ours["lm_head.weight"],
        **{
            f"transformer.{name}": tensor if name.startswith(SHARED) else tensor.clone()
            for name, tensor in trunk.items()
        },
        "v_head.weight": ours["v_head.weight"],
    }


def split(tensors: Mapping[str, torch.Tensor]) -> tuple[Tensors, Tensors]:
    """Two shards, the second of which begins within layer 2."""
    names = list(tensors)
    cut = names.index("model.layers.2.mlp.gate_proj.weight")
    return {n: tensors[n] for n in names[:cut]}, {n: tensors[n] for n in names[cut:]}


def index_of(shards: Mapping[str, Iterable[str]]) -> bytes:
    """The index of shards that hold these tensors."""
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}).encode()


def llama_files(
    tensors: Mapping[str, torch.Tensor] | None = None, config: Mapping[str, Any] = CONFIG
) -> dict[str, bytes]:
    """The files of a repository of two shards."""
    tensors = llama_tensors(config=config) if tensors is None else tensors
    parts = dict(zip(SHARDS, split(tensors), strict=True))
    return {
        INDEX: index_of(parts),
        **{name: saved(part) for name, part in parts.items()},
        "config.json": json.dumps(config).encode(),
        "tokenizer.model": MODEL_PATH.read_bytes(),
    }


def reward_files(tensors: Mapping[str, torch.Tensor] | None = None) -> dict[str, bytes]:
    """The files of the reward model's repository."""
    tensors = reward_tensors() if tensors is None else tensors
    config = CONFIG | {"architectures": ["LLMForSequenceRegression"], "torch_dtype": "float16"}
    return {
        "pytorch_model.bin": saved(dict(tensors)),
        "config.json": json.dumps(config).encode(),
    }


def saved(value: Any) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def store_of(root: Path, *specs: Mapping[str, Any] | Spec) -> Store:
    """An empty storage root with these specs."""
    parsed = [ModelSpec.model_validate(s) if isinstance(s, Mapping) else s for s in specs]
    return Store(Settings("sample", root), expand(parsed))


def make_store(root: Path, dtype: str = "float16", micro: MicroSpec | None = None) -> Store:
    """An empty storage root: a model of Meta's family with a variant, and a micro model of it."""
    variants = ["bfloat16"] if dtype != "bfloat16" else []
    model = META_MODEL | {"dtype": dtype, "variants": variants}
    return store_of(root, model, micro or micro_spec(), SNAPSHOT)


def llama_store(
    root: Path, dtype: str = "float16", files: Mapping[str, Any] = LLAMA_FILES
) -> Store:
    """An empty storage root: a model with transformers' names, a micro and a reward model."""
    model = LLAMA_MODEL | {"dtype": dtype, "files": files}
    return store_of(root, model, REWARD_MODEL, micro_spec(), SNAPSHOT)


def copy_of(store: Store, root: Path) -> Store:
    """The same artifacts below another root, to be damaged."""
    link_tree(store.root, root)
    return Store(Settings("sample", root), store.catalogue)


def commit_files(
    store: Store, files: Mapping[str, bytes], key: str = RAW, *, in_parts: bool = False
) -> Manifest:
    """Commit raw files as if they had been downloaded, by default without hashes of parts."""
    artifact = store.catalogue[key]
    with store.stage(artifact) as staged:
        for name, data in files.items():
            with staged.create(f"raw/{name}", in_parts=in_parts) as file:
                file.write(data)
        hashes = {name: staged.files[f"raw/{name}"].sha256 for name in files}
        source = {"repo": "owner/tiny", "endpoint": "sample", "files": hashes}
        document = {"asset": key, "source": source}
        return store.commit(artifact, staged, document)


def commit_raw(
    store: Store,
    checkpoint: Mapping[str, torch.Tensor] | bytes,
    params: Mapping[str, Any] | bytes = PARAMS,
    tokenizer: bytes | None = None,
    *,
    in_parts: bool = False,
) -> Manifest:
    """Commit the raw files of Meta's family."""
    files = {
        CHECKPOINT: checkpoint if isinstance(checkpoint, bytes) else saved(dict(checkpoint)),
        "7B_1T_4/params.json": params if isinstance(params, bytes) else json.dumps(params).encode(),
        "tokenizer.model": MODEL_PATH.read_bytes() if tokenizer is None else tokenizer,
    }
    return commit_files(store, files, in_parts=in_parts)


def make(store: Store, *keys: str) -> Manifest:
    """Materialize artifacts in the order given; the manifest of the last one."""
    return [materialize(store, store.catalogue[key], run=directly) for key in keys][-1]


def checkpoint_path(store: Store, key: str) -> Path:
    """Where the ``model.safetensors`` of an artifact lies."""
    artifact = store.catalogue[key]
    return store.folder(artifact) / files_of(artifact).checkpoint


def raw_path(store: Store, name: str = CHECKPOINT, key: str = RAW) -> Path:
    """Where a raw file lies."""
    return store.folder(store.catalogue[key]) / "raw" / name


def staged_left(store: Store) -> list[Path]:
    """Whatever is left in the staging folders."""
    return list((store.internal / "staging").rglob("*"))


def model_folder(store: Store, key: str) -> Path:
    """The folder below ``models_v2`` of an artifact."""
    return store.root / store.catalogue[key].unit


def assert_refused(
    store: Store,
    kind: type[Exception] = InvalidInput,
    match: str | None = None,
    key: str = SAFETENSORS,
) -> str:
    """Making ``key`` fails as told; what was committed is untouched, and nothing is left staged."""
    folder = model_folder(store, key)
    before = tree(folder)
    assert store.manifest_path(store.catalogue[key]).is_file()
    with pytest.raises(kind, match=match) as refused:
        make(store, key)
    assert tree(folder) == before
    assert staged_left(store) == []
    message = str(refused.value)
    assert message.isprintable()
    return message


def new_file(path: Path) -> HashedFile:
    """A file to write to, below a folder that need not exist."""
    return Staged(path.parent).create(path.name)


def bits(tensor: torch.Tensor) -> bytes:
    """The elements of a tensor as they lie in a file, row-major."""
    fresh = tensor.detach().clone(memory_format=torch.contiguous_format)
    return fresh.reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same_bits(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """Names, dtypes, shapes and every bit; the sign of zero counts."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert bits(found[name]) == bits(tensor), name


def save_file_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """What ``safetensors.torch.save_file`` writes, with the metadata in key order."""
    copies = {name: t.detach().clone().contiguous() for name, t in tensors.items()}
    data = save(copies, {**metadata})
    start = 8 + int.from_bytes(data[:8], "little")
    found = json.loads(data[8:start])["__metadata__"]
    text, ordered = (
        json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode()
        for item in (found, dict(sorted(found.items())))
    )
    header = data[8:start]
    assert header.count(text) == 1
    return data[:8] + header.replace(text, ordered) + data[start:]


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    """Files are read in blocks of ``size`` bytes, a multiple of 8, so that seams are crossed."""
    assert size % 8 == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "BLOCK", size)
        patch.setattr(convert_module, "BLOCK", size)
        yield


@contextmanager
def everything_read_ahead() -> Iterator[None]:
    """All is done as early as it may be: the worst that threads can do to reused buffers."""

    def map_eagerly(
        function: Callable[[Any], Any], items: Iterable[Any], width: int
    ) -> Iterator[Any]:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(function(item))
            if len(waiting) > width:
                yield waiting.popleft()
        yield from waiting

    def ahead_eagerly(items: Iterator[Any]) -> Generator[Any, None, None]:
        waiting = deque(islice(items, pipeline.AHEAD))
        while waiting:
            made = waiting.popleft()
            waiting.extend(islice(items, 1))
            yield made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "map_ahead", map_eagerly)
        patch.setattr(safetensors_file, "ahead", ahead_eagerly)
        yield


def storage_at(data: bytes, number: str | int) -> tuple[int, int]:
    """First byte and size of the storage ``data/<number>`` in what ``torch.save`` wrote."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (info,) = (i for i in archive.infolist() if i.filename.endswith(f"/data/{number}"))
    sizes = struct.unpack_from("<HH", data, info.header_offset + 26)
    return info.header_offset + 30 + sum(sizes), info.file_size


def changed(
    data: bytes, offset: int, change: Callable[[int], int] = lambda byte: byte ^ 1
) -> bytes:
    """``data`` with another byte at ``offset``."""
    result = bytearray(data)
    result[offset] = change(result[offset])
    return bytes(result)


def run_python(code: str, *arguments: str) -> str:
    """Run ``code`` in an interpreter of its own, which may crash; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr}"
    return done.stdout
