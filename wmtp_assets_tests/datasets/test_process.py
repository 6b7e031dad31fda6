"""From raw parquet to a processed dataset: what is kept, what is refused, what stays as it was.

On HumanEval, whose rows are a problem with one solution each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentencepiece import SentencePieceProcessor

from wmtp_assets.base.child import directly
from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.datasets.records import Options, load_format
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets.storage import manifest
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.rows import read_jsonl
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, flip, reseal, tree

PARQUET = "raw/openai_humaneval/test-00000-of-00001.parquet"

FILES = {
    "index/test.offsets",
    "index/test.parquet",
    "processed/schema.json",
    "processed/test.jsonl",
    "processed/test_metadata.json",
}

Change = Callable[[pa.Table], pa.Table]


def raw_path(store: Store) -> Path:
    return store.path(store.catalogue["humaneval_raw"], PARQUET)


def change_raw(store: Store, change: Change) -> None:
    """Give upstream other rows, as if they had been downloaded so."""
    path = raw_path(store)
    table = change(pq.read_table(path))
    path.unlink()
    pq.write_table(table, path)
    reseal(store, store.catalogue["humaneval_raw"])


def replace(column: str, row: int, value: str | None) -> Change:
    """A change of one value."""

    def change(table: pa.Table) -> pa.Table:
        values = table.column(column).to_pylist()
        values[row] = value
        index = table.schema.get_field_index(column)
        return table.set_column(index, column, pa.array(values, pa.string()))

    return change


def process(store: Store) -> None:
    materialize(store, store.catalogue["humaneval_processed"], run=directly)


def refusal(store: Store) -> str:
    """Why the raw rows are refused; the artifacts and the staging must be as before."""
    before = tree(store.root / "datasets_v2")
    with pytest.raises(InvalidInput) as caught:
        process(store)
    assert tree(store.root / "datasets_v2") == before
    assert tree(store.internal / "staging") == {}
    return str(caught.value)


def test_same_bytes_in_same_bytes_out(good_root: Path, store: Store) -> None:
    """The content hash is the data version: a re-run must not make everything downstream stale."""
    folder = "datasets_v2/humaneval"
    processed = store.catalogue["humaneval_processed"]
    before = store.manifest(processed)
    process(store)
    assert store.manifest(processed) == before
    assert before.files.keys() == FILES
    for name in (*FILES, "metadata.json"):
        path = store.root / folder / name
        assert path.stat().st_ino != (good_root / folder / name).stat().st_ino
        assert path.read_bytes() == (good_root / folder / name).read_bytes()


def test_compression_and_row_groups_do_not_matter(store: Store) -> None:
    """Rows are the input, not how upstream packed them today."""
    before = store.manifest(store.catalogue["humaneval_processed"]).content_sha256
    path = raw_path(store)
    table = pq.read_table(path)
    path.unlink()
    pq.write_table(table, path, compression="zstd", row_group_size=10)
    reseal(store, store.catalogue["humaneval_raw"])
    process(store)
    assert store.manifest(store.catalogue["humaneval_processed"]).content_sha256 == before


def test_too_long_rows_are_dropped_and_counted(store: Store) -> None:
    """The training code cuts silently at its limit; here the loss is a number."""
    processor = SentencePieceProcessor(model_file=str(MODEL_PATH))
    path = store.path(store.catalogue["humaneval_processed"], "processed/test.jsonl")
    everything = [row for _, row in read_jsonl(path)]
    totals = [
        sum(len(processor.encode(row[field])) for field in ("instruction", "input", "output"))
        for row in everything
    ]
    limit = sorted(totals)[100]
    assert any(total == limit for total in totals)

    strict = respec(store, "humaneval", max_tokens=limit)
    process(strict)
    kept = [row for row, total in zip(everything, totals, strict=True) if total <= limit]
    assert [row for _, row in read_jsonl(path)] == kept
    document = strict.manifest(strict.catalogue["humaneval_processed"]).document
    assert document["max_tokens"] == limit
    assert document["rows"] == len(kept)
    assert document["splits"] == {
        "test": {
            "upstream_rows": 164,
            "samples": 164,
            "rows": len(kept),
            "problems": len(kept),
            "dropped": {"too_long": 164 - len(kept)},
            "crlf_rows": 0,
        }
    }


def test_several_files_are_one_split_in_their_order(store: Store) -> None:
    """Large splits come in shards; their order in the spec is the order of the rows."""
    path = raw_path(store)
    table = pq.read_table(path)
    raw = store.catalogue["humaneval_raw"]
    names = ["openai_humaneval/b.parquet", "openai_humaneval/a.parquet"]
    for name, part in zip(names, (table.slice(0, 60), table.slice(60)), strict=True):
        pq.write_table(part, store.path(raw, f"raw/{name}"))
    before = store.manifest(store.catalogue["humaneval_processed"]).files["processed/test.jsonl"]
    sharded = respec(store, "humaneval", splits={"test": {"files": names, "rows": 164}})
    add_raw_files(sharded, [f"raw/{name}" for name in names])
    process(sharded)
    after = sharded.manifest(sharded.catalogue["humaneval_processed"]).files["processed/test.jsonl"]
    assert after == before


def add_raw_files(store: Store, names: list[str]) -> None:
    """Put files that lie in the raw folder into its manifest."""
    raw = store.catalogue["humaneval_raw"]
    document = dict(store.manifest(raw).document)
    del document["self_sha256"], document["manifest"]
    files = {name: hash_file(store.path(raw, name)) for name in names}
    path = store.manifest_path(raw)
    path.unlink()
    path.write_bytes(manifest.seal(document, files, document.pop("created_at"), None))


@pytest.mark.parametrize("rows", [163, 0])
def test_other_number_of_rows_than_pinned_is_refused(store: Store, rows: int) -> None:
    """Upstream changed under the same name, or a download lost its end."""
    change_raw(store, lambda table: table.slice(0, rows))
    expected = f"split test in {raw_path(store)}: {rows} rows, but the spec pins 164"
    assert refusal(store) == expected


def test_empty_split_is_refused_also_where_nothing_is_pinned(store: Store) -> None:
    """A dataset of nothing passes every other rule."""
    change_raw(store, lambda table: table.slice(0, 0))
    files = [PARQUET.removeprefix("raw/")]
    unpinned = respec(store, "humaneval", splits={"test": {"files": files, "rows": None}})
    assert refusal(unpinned) == f"split test in {raw_path(store)}: no rows"


def test_unpinned_number_of_rows_is_free(store: Store) -> None:
    """A dataset whose size nobody pinned is taken as it is."""
    change_raw(store, lambda table: table.slice(0, 3))
    files = [PARQUET.removeprefix("raw/")]
    unpinned = respec(store, "humaneval", splits={"test": {"files": files, "rows": None}})
    process(unpinned)
    assert unpinned.manifest(unpinned.catalogue["humaneval_processed"]).document["rows"] == 3


BAD_ROWS: dict[str, tuple[Change, str]] = {
    "task_id twice": (
        replace("task_id", 120, "HumanEval/7"),
        "row 120: duplicate task_id 'HumanEval/7' in split test",
    ),
    "null": (replace("canonical_solution", 163, None), "row 163: 'canonical_solution' is null"),
    "empty prompt": (
        replace("prompt", 9, ""),
        "row 9: instruction: String should have at least 1 character",
    ),
    "no tests": (
        replace("test", 0, ""),
        "row 0: test: String should have at least 1 character",
    ),
    "another dataset's task_id": (
        replace("task_id", 5, "MBPP/5"),
        "row 5: task_id: String should match pattern '^HumanEval/[0-9]+$'",
    ),
    "missing column": (
        lambda table: table.drop_columns(["entry_point"]),
        "no column 'entry_point'; it has task_id, prompt, canonical_solution, test",
    ),
    "mistyped column": (
        lambda table: table.set_column(1, "prompt", pa.array(range(len(table)))),
        "column 'prompt' is int64, expected string",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_upstream_row_is_refused_with_file_and_row(store: Store, name: str) -> None:
    """A person must find the row without a debugger; what is committed stays as it was."""
    change, problem = BAD_ROWS[name]
    change_raw(store, change)
    assert refusal(store) == f"{raw_path(store)}: {problem}"


@pytest.mark.parametrize(
    "change",
    [lambda data: data[: len(data) // 2], lambda data: b"<html>", lambda data: b""],
    ids=["truncated", "another format", "empty"],
)
def test_what_is_no_parquet_is_refused(store: Store, change: Callable[[bytes], bytes]) -> None:
    """Also when its hash is the announced one: upstream itself can be broken."""
    damage(raw_path(store), change)
    reseal(store, store.catalogue["humaneval_raw"])
    assert refusal(store).startswith(f"{raw_path(store)}: not readable as parquet: ")


def test_raw_bytes_are_verified_before_they_are_parsed(store: Store) -> None:
    """A flipped bit can be a valid file with other rows."""
    damage(raw_path(store), flip(1000))
    before = tree(store.root / "datasets_v2")
    with pytest.raises(CorruptArtifact, match=r"test-00000-of-00001\.parquet is damaged"):
        process(store)
    assert tree(store.root / "datasets_v2") == before


def test_tokenizer_is_verified_before_it_counts(store: Store) -> None:
    """Another vocabulary drops other rows, and nothing would show it."""
    tokenizer = store.catalogue["meta_llama_mtp_tokenizer"]
    damage(store.path(tokenizer, "tokenizer.model"), flip(2000))
    with pytest.raises(CorruptArtifact, match=r"tokenizer\.model is damaged"):
        process(store)


def test_tokenizer_that_is_none_is_refused_by_path(store: Store) -> None:
    """Its hash says it is the committed one; sentencepiece then says why it is not a tokenizer."""
    tokenizer = store.catalogue["meta_llama_mtp_tokenizer"]
    path = store.path(tokenizer, "tokenizer.model")
    damage(path, lambda data: b"")
    reseal(store, tokenizer)
    assert refusal(store).startswith(f"{path}: not a sentencepiece model: ")


def test_converter_is_usable_alone(good_root: Path) -> None:
    """From a notebook: a path, without a store."""
    path = good_root / "datasets_v2/humaneval" / PARQUET
    problems = list(load_format("humaneval").problems(path, Options()))
    ids = [f"HumanEval/{number}" for number in range(164)]
    assert [(problem.row, problem.problem_id) for problem in problems] == [*enumerate(ids)]
    assert [[record.task_id for record in problem.records] for problem in problems] == [
        [task_id] for task_id in ids
    ]
