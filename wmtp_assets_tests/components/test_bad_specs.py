"""A ``defs.yaml`` that ``wmtp`` refuses, ``dg check`` refuses too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wmtp_assets
from wmtp_assets_tests.quick import quick, thinned

PACKAGE = Path(wmtp_assets.__file__).parent
BIN = Path(sys.executable).parent

BAD: dict[str, tuple[str, str, str, str]] = {
    "unlabelled rows for the critic": (
        "datasets/mbpp",
        "uses: [",
        "uses: [verifiable_critic, ",
        "uses: verifiable_critic: it learns from is_correct",
    ),
    "training on a benchmark": (
        "datasets/humaneval",
        "uses: [",
        "uses: [baseline, ",
        "uses: baseline: every split of humaneval is held_out",
    ),
    "a use that is none": ("datasets/mbpp", "uses: [", "uses: [training, ", "uses"),
    "a field that is none": ("models/micro_ref", "  name:", "  colour: blue\n  name:", "colour"),
    "a dtype that is none": ("models/micro_ref", "dtype: float16", "dtype: int8", "dtype"),
    "a number that is text": ("datasets/mbpp", "max_tokens: 2048", "max_tokens: many", "max_tok"),
    "a format that is none": ("datasets/mbpp", "converter: mbpp", "converter: mbbp", "converter"),
    "tests that upstream has not": (
        "datasets/mbpp",
        "  max_tokens:",
        "  evaluation: [test]\n  max_tokens:",
        "evaluation: mbpp has no tests of its own",
    ),
    "a parent that is none": ("models/micro_mtp", "parent: meta_llama_mtp", "parent: meta", "meta"),
    "a tokenizer that is none": (
        "datasets/mbpp",
        "tokenizer: meta_llama_mtp_tokenizer",
        "tokenizer: meta_llama_mtp_raw",
        "not a tokenizer",
    ),
    "a name that is taken": ("models/micro_ref", "name: micro_ref", "name: micro_mtp", "declared"),
    "a document that is none": (
        "reports/storage_readme",
        "document: ",
        "document: no_",
        "document",
    ),
    "a section that is none": (
        "datasets/mbpp",
        "  max_tokens:",
        "  sections: {tiny: {rows: 3}}\n  max_tokens:",
        "sections.tiny",
    ),
    "a template": ("datasets/mbpp", "folder: mbpp", "folder: '{{ env.X }}'", "templating"),
    "a third key": ("datasets/mbpp", "attributes:", "requirements: {}\nattributes:", "two keys"),
    "a component that is none": ("datasets/mbpp", "AlpacaDataset", "Alpaca", "Alpaca"),
}
"""What is wrong: the family, what is replaced, by what, and words of the error."""

KEPT = (
    "unlabelled rows for the critic",
    "a field that is none",
    "a parent that is none",
    "a component that is none",
)
"""One of each place that refuses: a model, its fields, the catalogue, the file."""


def damaged(project: Path, what: str) -> str:
    """Make a copy of the project with what is wrong; the words of the error, without spaces."""
    family, old, new, said = BAD[what]
    shutil.copytree(PACKAGE, project / "wmtp_assets", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("pyproject.toml", "dagster.yaml"):
        shutil.copy(PACKAGE.parent / name, project / name)
    spec = project / f"wmtp_assets/defs/{family}/defs.yaml"
    assert old in spec.read_text()
    spec.write_text(spec.read_text().replace(old, new, 1))
    return "".join(said.split())


def refuses(project: Path, *command: str) -> str:
    """What a command says that fails, without spaces; empty: it does not."""
    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), "WMTP_STORAGE_ROOT": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    return "".join((done.stdout + done.stderr).split()) if done.returncode else ""


@pytest.mark.parametrize("what", quick(thinned(BAD, KEPT), KEPT[:1]))
def test_dagster_refuses_what_wmtp_refuses(tmp_path: Path, what: str) -> None:
    """CI runs ``dg check``; a spec that passed there must not stop the command of a person. In a
    project, ``dg check defs`` is ``dg check yaml`` first."""
    words = damaged(tmp_path / "project", what)
    assert words in refuses(tmp_path / "project", "wmtp", "status")
    assert words in refuses(tmp_path / "project", "dg", "check", "defs")


@pytest.mark.long
def test_schema_refuses_too(tmp_path: Path) -> None:
    """Editors show what is in the schema, and ``dg check yaml`` says it alone."""
    words = damaged(tmp_path / "project", "a dtype that is none")
    assert words in refuses(tmp_path / "project", "dg", "check", "yaml")
