"""The doors of the platform, and the good stores behind them."""

from __future__ import annotations

from pathlib import Path

from wmtp_assets.base.settings import Settings
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.datasets import contests
from wmtp_assets_tests.hostile.corpus import Door, applying, materializing

SAFE = "model.safetensors"
SAFE_FILES = {"checkpoint": SAFE, "config": "config.json", "tokenizer": "tokenizer.model"}


def meta_store(root: Path) -> Store:
    """A model of Meta's family, with a micro model and the snapshot of both."""
    store = tiny.make_store(root)
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    tiny.make(store, tiny.TOKENIZER, tiny.SAFETENSORS, tiny.MICRO, "snapshot")
    return store


def shards_store(root: Path) -> Store:
    """A model of two torch shards with an index."""
    store = tiny.llama_store(root)
    tiny.commit_files(store, tiny.llama_files())
    tiny.make(store, tiny.TOKENIZER, tiny.SAFETENSORS)
    return store


def safetensors_store(root: Path) -> Store:
    """A model whose raw checkpoint is one safetensors file."""
    store = tiny.llama_store(root, files=SAFE_FILES)
    files = tiny.llama_files()
    files = {name: files[name] for name in ("config.json", "tokenizer.model")}
    tensors = {name: tensor.contiguous() for name, tensor in tiny.llama_tensors().items()}
    tiny.commit_files(store, files | {SAFE: tiny.save(tensors)})
    tiny.make(store, tiny.TOKENIZER, tiny.SAFETENSORS)
    return store


def unpinned_store(root: Path) -> Store:
    """A model from the real hub whose tokenizer nobody pinned."""
    store = tiny.make_store(root)
    store = Store(Settings("hub", root), store.catalogue)
    tiny.commit_files(store, {"tokenizer.model": MODEL_PATH.read_bytes()})
    tiny.make(store, tiny.TOKENIZER)
    return store


def contests_store(root: Path) -> Store:
    """A small CodeContests and all that is made of it."""

    store = Store(Settings("sample", root), load_catalogue())
    contests.commit_tokenizer(store)
    contests.commit_raw(store, contests.small_repository())
    for part in ("processed", "pairs", "small", "stats", "tests"):
        contests.make(store, part)
    return store


PTH = Door(
    "torch file", meta_store, tiny.RAW, f"raw/{tiny.CHECKPOINT}", materializing(tiny.SAFETENSORS)
)
PARAMS = PTH.at("raw/7B_1T_4/params.json")
SHARD = Door(
    "shards", shards_store, tiny.RAW, f"raw/{tiny.SHARDS[0]}", materializing(tiny.SAFETENSORS)
)
INDEX = SHARD.at(f"raw/{tiny.INDEX}")
CONFIG = SHARD.at("raw/config.json")
RAW_SAFE = Door(
    "safetensors", safetensors_store, tiny.RAW, f"raw/{SAFE}", materializing(tiny.SAFETENSORS)
)
TOKENIZER = Door(
    "tokenizer", unpinned_store, tiny.RAW, "raw/tokenizer.model", materializing(tiny.TOKENIZER)
)
COMMITTED_TOKENIZER = Door(
    "committed tokenizer",
    unpinned_store,
    tiny.TOKENIZER,
    "tokenizer.model",
    applying(tiny.TOKENIZER),
)

CHECKPOINT = Door(
    "committed model",
    meta_store,
    tiny.SAFETENSORS,
    "safetensors/model.safetensors",
    applying(tiny.SAFETENSORS, "dtype", "parameters", "value_head"),
)
ADAPTER = CHECKPOINT.at("configs/meta_adapter.yaml")
PARAMS_JSON = CHECKPOINT.at("configs/params.json")
CONFIG_JSON = CHECKPOINT.at("configs/config.json")
SUMS = Door(
    "sums",
    meta_store,
    tiny.SAFETENSORS,
    "safetensors/SHA256SUMS",
    applying(tiny.SAFETENSORS, "sha256"),
)
MODEL_MANIFEST = CHECKPOINT.at("metadata.json")
SNAPSHOT = Door("snapshot", meta_store, "snapshot", "defaults.yaml", applying("snapshot"))

RAW_DATA = Door(
    "parquet",
    contests_store,
    "codecontests_raw",
    f"raw/{contests.shard_name('train', 1, 3)}",
    materializing("codecontests_processed"),
)
RAW_TESTS = Door(
    "parquet for tests",
    contests_store,
    "codecontests_raw",
    f"raw/{contests.shard_name('test', 0, 1)}",
    materializing("codecontests_tests"),
)
COUNTED = Door(
    "parquet, counted",
    contests_store,
    "codecontests_raw",
    f"raw/{contests.shard_name('train', 2, 3)}",
    applying("codecontests_processed", "row_count"),
)
ROWS = Door(
    "rows",
    contests_store,
    "codecontests_processed",
    "processed/train.jsonl",
    applying("codecontests_processed"),
)
EVALUATION = ROWS.at("processed/test_eval.jsonl")
OFFSETS = ROWS.at("index/train.offsets")
TWIN = ROWS.at("index/train.parquet")
PROBLEM_INDEX = ROWS.at("processed/train_metadata.json")
SCHEMA = ROWS.at("processed/schema.json")
DATA_MANIFEST = ROWS.at("metadata.json")
PAIRS = Door(
    "pairs", contests_store, "codecontests_pairs", "train.jsonl", applying("codecontests_pairs")
)
TESTS = Door(
    "tests", contests_store, "codecontests_tests", "test_tests.json", applying("codecontests_tests")
)
SMALL = Door(
    "small",
    contests_store,
    "codecontests_small",
    "train_small.jsonl",
    applying("codecontests_small"),
)
