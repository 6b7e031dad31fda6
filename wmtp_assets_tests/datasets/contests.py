"""Small CodeContests repositories, committed as if they had been downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wmtp_assets.base.child import directly
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.sample.code_contests import Language, schema
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Store

Row = dict[str, Any]
Solution = tuple[int, str]

PY2, CPP, PY3, JAVA = Language.PYTHON, Language.CPP, Language.PYTHON3, Language.JAVA
SPLITS = ("train", "valid", "test")


def examples(*pairs: tuple[str, str]) -> Row:
    """Inputs and outputs as upstream has them."""
    return {"input": [pair[0] for pair in pairs], "output": [pair[1] for pair in pairs]}


def solutions(pairs: Iterable[Solution]) -> Row:
    """Languages and programs as upstream has them."""
    found = list(pairs)
    return {"language": [int(one) for one, _ in found], "solution": [text for _, text in found]}


def problem(
    name: str = "1_A. Sum",
    *,
    right: Sequence[Solution] = ((PY3, "print(1)\n"),),
    wrong: Sequence[Solution] = ((PY3, "print(0)\n"),),
    **changes: Any,
) -> Row:
    """One row of upstream; ``changes`` to its other columns."""
    row = {field.name: None for field in schema()}
    row |= {
        "name": name,
        "description": f"Solve {name}.\n",
        "public_tests": examples(("1 2\n", "3\n")),
        "private_tests": examples(),
        "generated_tests": examples(("5\n", "6\n")),
        "source": 2,
        "difficulty": 7,
        "cf_rating": 800,
        "time_limit": {"seconds": 2, "nanos": 0},
        "memory_limit_bytes": 256_000_000,
        "solutions": solutions(right),
        "incorrect_solutions": solutions(wrong),
    }
    return row | changes


def table(rows: Iterable[Row]) -> pa.Table:
    """Rows with upstream's columns."""
    return pa.Table.from_pylist(list(rows), schema())


def shard_name(split: str, number: int, count: int) -> str:
    """Upstream's name of a shard."""
    return f"data/{split}-{number:05}-of-{count:05}-0123456789abcdef.parquet"


def shards(split: str, *tables: pa.Table) -> dict[str, pa.Table]:
    """Tables under upstream's names of a split's shards."""
    return {shard_name(split, n, len(tables)): part for n, part in enumerate(tables)}


def small_repository() -> dict[str, pa.Table]:
    """Three shards of train with two problems each, one of valid, one of test."""

    def part(*names: str) -> pa.Table:
        return table(problem(name) for name in names)

    return {
        **shards("train", part("a", "b"), part("c", "d"), part("e", "f")),
        **shards("valid", part("v")),
        **shards("test", part("t")),
    }


def commit(
    store: Store, artifact: Artifact, files: Mapping[str, bytes | pa.Table], **options: Any
) -> Manifest:
    """Commit files that were not downloaded; ``options`` for writing tables as parquet."""
    document = {
        "asset": artifact.key,
        "kind": artifact.kind,
        "source": {"repo": "deepmind/code_contests", "revision": "0" * 40},
        "upstream": {},
    }
    with store.stage(artifact) as staged:
        for name, content in files.items():
            if isinstance(content, pa.Table):
                sink = pa.BufferOutputStream()
                pq.write_table(content, sink, **options)
                content = sink.getvalue().to_pybytes()
            staged.write(name, content)
        return store.commit(artifact, staged, document)


def commit_tokenizer(store: Store) -> None:
    """The tokenizer that counts, and nothing else of its model."""
    files = {"tokenizer.model": MODEL_PATH.read_bytes()}
    commit(store, store.catalogue["meta_llama_mtp_tokenizer"], files)


def commit_raw(store: Store, files: Mapping[str, bytes | pa.Table], **options: Any) -> None:
    """Make ``files`` the raw CodeContests."""
    named = {f"raw/{name}": content for name, content in files.items()}
    commit(store, store.catalogue["codecontests_raw"], named, **options)


def make(store: Store, part: str = "processed", say: Say = silent) -> Manifest:
    """Materialize a part of CodeContests."""
    return materialize(store, store.catalogue[f"codecontests_{part}"], say, run=directly)


def raw_path(store: Store, name: str) -> Path:
    return store.path(store.catalogue["codecontests_raw"], f"raw/{name}")


def processed_path(store: Store, name: str) -> Path:
    return store.path(store.catalogue["codecontests_processed"], name)
