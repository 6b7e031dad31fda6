"""One place for each: what is added to a copy of the project as new files works, and no file of the
copy is changed. A destination and a document have such a test of their own, beside their pages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import wmtp_assets
from wmtp_assets_tests.pages import blocks_of

PACKAGE = Path(wmtp_assets.__file__).parent

Added = dict[str, str]
"""Path below the package → text of a new file."""


def added_by(page: str) -> Added:
    """The files that a page of docs/ says to write."""
    blocks = blocks_of(PACKAGE.parent / "docs" / page)
    return {block.file.removeprefix("wmtp_assets/"): block.text for block in blocks if block.file}


MODEL: Added = {
    "defs/models/pocket/defs.yaml": """
        type: wmtp_assets.components.CheckpointModel
        attributes:
          name: pocket
          folder: pocket-llama
          description: A model of a family that the project knows, from a repository that is there.
          family: llama
          dtype: bfloat16
          repository:
            id: princeton-nlp/Sheared-LLaMA-2.7B
            type: model
            license: Apache-2.0
            size: 11 GB
          files:
            checkpoint: pytorch_model.bin.index.json
            shards: [pytorch_model-00001-of-00002.bin, pytorch_model-00002-of-00002.bin]
            config: config.json
            tokenizer: tokenizer.model
          tokenizer:
            shared_with: meta_llama_mtp
        """
}

DATASET: Added = {
    "defs/datasets/judged/defs.yaml": """
        type: wmtp_assets.components.AlpacaDataset
        attributes:
          name: judged
          folder: judged
          description: Right and wrong solutions, judged upstream.
          converter: judged
          repository: {id: openai/openai_humaneval, type: dataset, license: MIT, size: 84 kB}
          splits:
            solutions: {files: [openai_humaneval/test-00000-of-00001.parquet], rows: 164}
          uses: [verifiable_critic]
        """,
    "datasets/formats/judged.py": '''
        """A dataset that says which of its rows are right."""

        from __future__ import annotations

        from collections.abc import Iterator
        from pathlib import Path
        from typing import Any

        from wmtp_assets.datasets.records import Format
        from wmtp_assets.datasets.parquet import count_parquet_rows, rows_of
        from wmtp_assets.datasets.records import Options, Problem
        from wmtp_assets.datasets.records import AlpacaRecord, Record

        COLUMNS = {"task_id": "string", "prompt": "string", "canonical_solution": "string"}


        class JudgedMetadata(Record):
            """Which problem a solution is of."""

            source: str
            difficulty: str
            difficulty_number: int
            has_tests: bool
            problem_id: str


        class JudgedRecord(AlpacaRecord):
            """A solution, right or wrong."""

            instruction: str
            input: str
            output: str
            task_id: str
            is_correct: bool
            metadata: JudgedMetadata


        def convert_batch(
            path: Path, first: int, batch: Any, options: Options
        ) -> Iterator[Problem]:
            for number, row in enumerate(rows_of(path, first, batch), first):
                problem = row["task_id"]
                metadata = JudgedMetadata(
                    source="judged",
                    difficulty="unknown",
                    difficulty_number=0,
                    has_tests=False,
                    problem_id=problem,
                )
                solutions = {True: row["canonical_solution"], False: "    return None\\n"}
                records = [
                    JudgedRecord(
                        instruction=row["prompt"],
                        input="",
                        output=solution,
                        task_id=f"{problem}_{'correct' if is_correct else 'incorrect'}_0",
                        is_correct=is_correct,
                        metadata=metadata,
                    )
                    for is_correct, solution in solutions.items()
                ]
                yield Problem(number, problem, records)


        def count_samples(path: Path) -> tuple[int, int]:
            """Two solutions a row, none in another language."""
            return 2 * count_parquet_rows(path), 0


        FORMAT = Format(JudgedRecord, COLUMNS, convert_batch, count_samples=count_samples)
        ''',
}

RULE: Added = added_by("adding-a-rule.md")
KIND: Added = added_by("adding-a-kind.md")

MAKE = """
import json, sys
from pathlib import Path
from wmtp_assets.base.settings import Settings
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage.store import Store

store = Store(Settings("sample", Path(sys.argv[1])), load_catalogue())
said = {}
for key in sys.argv[2:]:
    artifact = store.catalogue[key]
    if not store.manifest_path(artifact).exists():
        materialize(store, artifact)
    outcomes = {rule.name: apply_rule(rule, store, artifact) for rule in rules_of(artifact)}
    said[key] = {name: [str(f) for f in outcome.findings] for name, outcome in outcomes.items()}
print(json.dumps(said))
"""


class Copy:
    """A copy of the project to which files may be added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / PACKAGE.name
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "workspace.yaml"):
            shutil.copy(PACKAGE.parent / name, folder)

    def add(self, files: Added) -> None:
        """Write files that are not there yet."""
        for name, text in files.items():
            path = self.package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x") as file:
                file.write(dedent(text).lstrip())

    def run(self, script: str, *arguments: object) -> Any:
        """Run Python with the copy in the place of the package; return the JSON that it prints."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """The project as it is."""
    (tmp_path / "project").mkdir()
    return Copy(tmp_path / "project")


@pytest.mark.parametrize(
    ("added", "keys", "rule"),
    [
        pytest.param(
            MODEL,
            ["pocket_raw", "pocket_tokenizer", "pocket_safetensors", "pocket_card"],
            "dtype",
            marks=pytest.mark.long,
        ),
        pytest.param(
            DATASET,
            ["judged_raw", "judged_processed", "judged_pairs", "judged_small", "judged_stats"],
            "index",
            marks=pytest.mark.long,
        ),
        (RULE, ["mbpp_stats"], "blank"),
        (KIND, ["mbpp_titles"], "titles"),
    ],
    ids=["model", "dataset with labels", "rule", "kind"],
)
def test_what_is_added_works(
    copy: Copy, root: Path, added: Added, keys: list[str], rule: str
) -> None:
    """A change that has to be made in many places is forgotten in one of them."""
    copy.add(added)
    said = copy.run(MAKE, root, *keys)
    assert {(key, name): found for key in said for name, found in said[key].items() if found} == {}
    assert any(rule in names for names in said.values())


@pytest.mark.long
def test_added_kind_is_in_the_graph_and_in_the_command(copy: Copy, root: Path) -> None:
    """Dagster and ``wmtp`` know it without being told; its section reaches the builder."""
    copy.add(KIND)
    defs = copy.package / "defs/datasets/mbpp/defs.yaml"
    script = """
import json
from wmtp_assets.definitions import defs
graph = defs().get_repository_def().asset_graph
key = next(key for key in graph.get_all_asset_keys() if key.path == ["mbpp_titles"])
checks = sorted(check.name for check in graph.asset_check_keys if check.asset_key == key)
print(json.dumps([checks, graph.get(key).group_name]))
"""
    assert copy.run(script) == [["made_with", "sha256", "titles"], "datasets"]
    listed = """
import json
from wmtp_assets.kinds.registry import load_catalogue
catalogue = load_catalogue()
print(json.dumps([catalogue["mbpp_titles"].section.words, catalogue["gsm8k_titles"].optional]))
"""
    assert copy.run(listed) == [3, True]
    with defs.open("a") as file:
        file.write("  sections: {titles: {words: 1}}\n")
    assert copy.run(listed) == [1, True]
    copy.run(MAKE, root, "mbpp_titles")
    titles = (root / "datasets_v2/mbpp/titles/test.txt").read_text().splitlines()
    assert titles
    assert all(" " not in title for title in titles)


@pytest.mark.long
def test_rule_that_is_added_finds_damage(copy: Copy, root: Path) -> None:
    """It is applied to the bytes, and not only listed."""
    copy.add(RULE)
    (path,) = root.glob("datasets_v2/mbpp/stats/*_summary.json")
    path.unlink()
    path.write_bytes(b" \n")
    said = copy.run(MAKE, root, "mbpp_stats")
    assert said["mbpp_stats"]["blank"]
