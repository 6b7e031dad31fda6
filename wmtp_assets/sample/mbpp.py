"""``google-research-datasets/mbpp``: the real 974 rows, as upstream lays out its config ``full``.

``mbpp.jsonl.gz`` beside this file is ``gzip.compress(rows, 9, mtime=0)`` of upstream's
``mbpp.jsonl`` (https://github.com/google-research/google-research/tree/master/mbpp, CC-BY-4.0),
unchanged.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.sample.repository import SampleRepository

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PATH = Path(__file__).with_name("mbpp.jsonl.gz")

ROWS_SHA256 = "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"
"""Of the uncompressed rows."""

SPLITS = {
    "train": range(601, 975),
    "test": range(11, 511),
    "validation": range(511, 601),
    "prompt": range(1, 11),
}
"""Which ``task_id`` each split holds, in upstream's order of the splits."""

CARD = """\
---
license:
- cc-by-4.0
dataset_info:
  config_name: full
  features:
  - name: task_id
    dtype: int32
  - name: text
    dtype: string
  - name: code
    dtype: string
  - name: test_list
    list: string
  - name: test_setup_code
    dtype: string
  - name: challenge_test_list
    list: string
  splits:
  - name: train
    num_bytes: 176879
    num_examples: 374
  - name: test
    num_bytes: 244104
    num_examples: 500
  - name: validation
    num_bytes: 42405
    num_examples: 90
  - name: prompt
    num_bytes: 4550
    num_examples: 10
configs:
- config_name: full
  data_files:
  - split: train
    path: full/train-*
  - split: test
    path: full/test-*
  - split: validation
    path: full/validation-*
  - split: prompt
    path: full/prompt-*
  default: true
---

# Mostly Basic Python Problems

The 974 problems of MBPP, as the sample hub serves them: the rows are unchanged, the config
`sanitized` is left out.

Jacob Austin, Augustus Odena, Maxwell Nye, Maarten Bosma, Henryk Michalewski, David Dohan, Ellen
Jiang, Carrie Cai, Michael Terry, Quoc Le and Charles Sutton (Google Research): *Program Synthesis
with Large Language Models*, 2021, https://arxiv.org/abs/2108.07732. Licence: Creative Commons
Attribution 4.0 International, https://creativecommons.org/licenses/by/4.0/.
"""


def build(folder: Path) -> None:
    """Write ``README.md`` and the four parquet files, not compressed, below ``folder``.

    Raises:
        CorruptArtifact: if the package's rows are not upstream's.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {row["task_id"]: row for row in read_rows()}
    for split, task_ids in SPLITS.items():
        path = folder / parquet_path(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist([rows[task_id] for task_id in task_ids], schema())
        with path.open("wb") as file:
            pq.write_table(table, file, compression="none")
    (folder / "README.md").write_text(CARD, encoding="utf-8")


def parquet_path(split: str) -> str:
    """Where the repository has the rows of ``split``."""
    return f"full/{split}-00000-of-00001.parquet"


def schema() -> pa.Schema:
    """The columns of each parquet file."""
    import pyarrow as pa

    return pa.schema(
        [
            ("task_id", pa.int32()),
            ("text", pa.string()),
            ("code", pa.string()),
            ("test_list", pa.list_(pa.string())),
            ("test_setup_code", pa.string()),
            ("challenge_test_list", pa.list_(pa.string())),
        ]
    )


def read_rows() -> list[dict[str, Any]]:
    """All rows, by ``task_id``.

    Raises:
        CorruptArtifact: if the package's rows are not upstream's.
    """
    try:
        rows = gzip.decompress(ROWS_PATH.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptArtifact(f"{ROWS_PATH}: {error}; install the package again") from error
    found = hashlib.sha256(rows).hexdigest()
    if found != ROWS_SHA256:
        raise CorruptArtifact(
            f"{ROWS_PATH}: rows have SHA-256 {found}, expected {ROWS_SHA256}; "
            "install the package again"
        )
    return [json.loads(line) for line in rows.splitlines()]


REPOSITORY = SampleRepository("dataset", "google-research-datasets/mbpp", 1, build)
