"""The Parquet twin: the same rows, in the same order, whatever way they arrive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.datasets import twin
from wmtp_assets.datasets.formats.codecontests import CodeContestsRecord
from wmtp_assets.datasets.formats.humaneval import HumanEvalRecord
from wmtp_assets.datasets.formats.mbpp import MbppRecord
from wmtp_assets.datasets.jsonl import read_jsonl
from wmtp_assets.datasets.twin import ROW_GROUP, TwinWriter, read_twin, twin_rows, twin_schema
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets.storage.files import HashedFile, hash_file
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets_tests.trees import damage

Row = dict[str, Any]

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string())])


@pytest.mark.parametrize(
    ("name", "split"),
    [("humaneval", "test"), ("mbpp", "train"), ("mbpp", "validation"), ("mbpp", "test")],
)
def test_rows_are_those_of_the_jsonl(good_root: Path, name: str, split: str) -> None:
    """Where upstream has a solution a problem, nothing is labelled, repeated or contradicted."""
    encode = SentencePieceProcessor(model_file=str(MODEL_PATH)).encode
    folder = good_root / f"datasets_v2/{name}"
    rows = [row for _, row in read_jsonl(folder / f"processed/{split}.jsonl")]
    assert pq.read_table(folder / f"index/{split}.parquet").to_pylist() == [
        {
            **row,
            "tokens_instruction": len(encode(row["instruction"])),
            "tokens_input": 0,
            "tokens_output": len(encode(row["output"])),
            "problem_id": row["task_id"],
            "language": None,
            "is_duplicate": False,
            "is_contradicted": False,
        }
        for row in rows
    ]


def test_file_is_compressed_in_row_groups(good_root: Path) -> None:
    """A check of one column of 3.7 million rows holds two thousand of them, and reads a tenth."""
    path = good_root / "datasets_v2/codecontests/index/train.parquet"
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups[:-1]] == [ROW_GROUP] * (len(groups) - 1)
    assert len(groups) > 1 and 0 < groups[-1].num_rows <= ROW_GROUP
    columns = [groups[0].column(number) for number in range(groups[0].num_columns)]
    assert {column.compression for column in columns} == {"ZSTD"}
    jsonl = path.parent.parent / "processed/train.jsonl"
    assert path.stat().st_size * 5 < jsonl.stat().st_size


EXTRA = {
    "tokens_instruction": pa.int32(),
    "tokens_input": pa.int32(),
    "tokens_output": pa.int32(),
    "problem_id": pa.string(),
    "language": pa.string(),
    "is_duplicate": pa.bool_(),
    "is_contradicted": pa.bool_(),
}


@pytest.mark.parametrize("record", [HumanEvalRecord, MbppRecord, CodeContestsRecord])
def test_schema_has_every_field_of_the_record(record: type) -> None:
    """Under its own name and in its order, nested as there; a field left out is a column lost."""
    schema = twin_schema(record)
    assert schema.names == [*record.model_fields, *EXTRA]
    assert {name: schema.field(name).type for name in EXTRA} == EXTRA
    metadata = schema.field("metadata").type
    fields = record.model_fields["metadata"].annotation.model_fields
    assert [field.name for field in metadata] == [*fields]
    if record is MbppRecord:
        assert metadata.field("test_list").type == pa.list_(pa.string())
    if record is CodeContestsRecord:
        assert schema.field("is_correct").type == pa.bool_()
        assert metadata.field("language").type == pa.string()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, True, False]))))
def test_flags_are_those_of_the_definition(found: list[tuple[str, bool | None]]) -> None:
    """Repeated solutions weigh more, contradicted ones teach nothing: both must be countable."""
    rows = [
        {"output": output, "task_id": str(number), "metadata": {}}
        | ({} if label is None else {"is_correct": label})
        for number, (output, label) in enumerate(found)
    ]
    made = list(twin_rows(rows, [(1, 2, number) for number in range(len(rows))]))
    assert len(made) == len(rows)
    for number, row in enumerate(made):
        assert row.items() >= rows[number].items()
        others = [label for output, label in found if output == found[number][0]]
        assert row["is_duplicate"] == (found[number] in found[:number])
        assert row["is_contradicted"] == (len(set(others)) > 1)
        assert (row["tokens_input"], row["tokens_output"]) == (2, number)
        assert row["problem_id"] == str(number)


def write(path: Path, parts: list[list[Row]], end: Callable[[TwinWriter], None]) -> FileRecord:
    """A twin of batches, and what the hash over what was written says."""
    records: list[FileRecord] = []
    with HashedFile(path, records.append, lambda size: None) as file:
        writer = TwinWriter(file, SCHEMA)
        for part in parts:
            writer.write(pa.RecordBatch.from_pylist(part, SCHEMA))
        end(writer)
    return records[0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 9), max_size=8))
def test_row_groups_do_not_depend_on_how_rows_arrive(sizes: list[int]) -> None:
    """The bytes are the version of the dataset; how many shards there are is not."""
    rows = [{"number": number, "text": f"é{number}"} for number in range(sum(sizes))]
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    parts = [rows[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(twin, "ROW_GROUP", 4)
        path = Path(folder, "twin.parquet")
        record = write(path, parts, TwinWriter.close)
        assert record == hash_file(path)
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        assert groups == [min(4, len(rows) - begin) for begin in range(0, len(rows), 4)]
        assert pq.read_table(path).to_pylist() == rows
        path.unlink()
        assert write(path, [[row] for row in rows], TwinWriter.close) == record


def test_abandoned_twin_is_not_ended(tmp_path: Path) -> None:
    """A file with a footer would look whole, and pyarrow writes one when it is let go."""
    path = tmp_path / "twin.parquet"
    write(path, [[{"number": 1, "text": "a"}]], TwinWriter.abandon)
    with pytest.raises(InvalidInput, match="not readable as parquet"):
        list(read_twin(path, HumanEvalRecord, ["output"]))


def test_columns_are_read_some_rows_at_a_time(good_root: Path) -> None:
    """Only what is asked for, in order; a field of a struct comes in its struct."""
    folder = good_root / "datasets_v2/mbpp"
    columns = ["task_id", "metadata.difficulty"]
    batches = list(read_twin(folder / "index/train.parquet", MbppRecord, columns, 100))
    assert [batch.num_rows for batch in batches] == [100, 100, 100, 74]
    found = [row for batch in batches for row in batch.to_pylist()]
    assert found == [
        {"task_id": row["task_id"], "metadata": {"difficulty": "unknown"}}
        for _, row in read_jsonl(folder / "processed/train.jsonl")
    ]


def test_twin_of_another_dataset_is_refused(good_root: Path, tmp_path: Path) -> None:
    """Also one whose pages are damaged: by path, not with a traceback of pyarrow."""
    path = tmp_path / "test.parquet"
    path.write_bytes((good_root / "datasets_v2/humaneval/index/test.parquet").read_bytes())
    with pytest.raises(InvalidInput) as caught:
        list(read_twin(path, CodeContestsRecord, ["output"]))
    assert str(caught.value).startswith(f"{path}: no column 'is_correct'; it has instruction, ")
    with pytest.raises(InvalidInput, match="column 'metadata' is struct<"):
        list(read_twin(path, MbppRecord, ["output"]))
    damage(path, lambda data: data[:100] + bytes(1000) + data[1100:])
    with pytest.raises(InvalidInput) as caught:
        list(read_twin(path, HumanEvalRecord, ["instruction", "output"]))
    assert str(caught.value).startswith(f"{path}: not readable as parquet: ")
