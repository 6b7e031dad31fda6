"""What stands in fenced blocks of Markdown pages, and a copy of the project to do it in.

The word after a block's language says what a test does with it:

- ``bash test``, ``python test``: it is run in the project folder;
- ``LANGUAGE file=PATH``: the file is written;
- ``diff apply``: the patch is applied;
- ``bash client=NAME,…``, ``python client=NAME,…``: it is run in the project folder with each of
  these environments of ``.venv-clients/`` (``make test-clients``).

Every other block is for people only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.catalogue.artifact import SMALL
from wmtp_assets_tests.trees import damage

PROJECT = Path(__file__).parents[1]
COPIED = (
    "Makefile",
    "activate.sh",
    "constraints.txt",
    "dagster.yaml",
    "pyproject.toml",
    "workspace.yaml",
    ".dagster/hub/dagster.yaml",
    ".dagster/hub/wmtp_source",
    ".dagster/sample/dagster.yaml",
)
"""What a project folder has besides the package."""


def copy_project(folder: Path) -> None:
    """Make a project folder without the package."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)


_BLOCK = re.compile(r"^```(?P<language>\w+) ?(?P<mark>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block that a test does something with."""

    language: str
    mark: str
    text: str

    @property
    def file(self) -> str:
        """The file it is; empty: it is none."""
        return self.mark.removeprefix("file=") if self.mark.startswith("file=") else ""

    @property
    def clients(self) -> list[str]:
        """The environments of ``.venv-clients/`` that it is for."""
        return self.mark[7:].split(",") if self.mark.startswith("client=") else []


def blocks_of(page: Path) -> list[Block]:
    """The marked blocks of a page, in order."""
    found = (Block(**match.groupdict()) for match in _BLOCK.finditer(page.read_text()))
    return [block for block in found if block.mark]


def pages() -> list[Path]:
    """Every page that has marked blocks."""
    every = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]
    return sorted(page for page in every if blocks_of(page))


@dataclass(frozen=True)
class Copy:
    """A copy of the project with an environment of its own.

    Attributes:
        folder: of the project.
        root: its storage root.
    """

    folder: Path
    root: Path

    @classmethod
    def make(cls, folder: Path, root: Path) -> Copy:
        """Copy what runs; the environment with the libraries is shared, and ``root`` is moved to
        where the project has the sample."""
        copy_project(folder)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / "wmtp_assets", folder / "wmtp_assets", ignore=ignored)
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "storage").mkdir()
        copy = cls(folder, root.rename(folder / "storage/sample"))
        for path in (copy.root / SMALL).rglob("*.jsonl"):
            damage(path, lambda data: data)  # pages write to them: not to those of the good tree
        copy.run("python -m wmtp_assets.components.instance")
        return copy

    def environment(self) -> dict[str, str]:
        """The variables of a process that runs the copy, and nothing else."""
        hidden = ("DAGSTER_HOME", "WMTP_SOURCE", "WMTP_STORAGE_ROOT", "HF_ENDPOINT")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        return environment | {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script in bash after ``source activate.sh``; what fails ends it."""
        done = subprocess.run(
            ["bash", "-c", f"source activate.sh\nset -euo pipefail\n{script}"],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done

    def apply(self, block: Block, *, reverse: bool = False) -> None:
        """Apply the patch that a block is, or take it back."""
        subprocess.run(
            ["git", "apply", *(["--reverse"] if reverse else []), "-"],
            cwd=self.folder,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(self.folder.parent)},
            input=block.text,
            text=True,
            check=True,
        )

    def run_with(self, client: Path, block: Block) -> str:
        """Run a block with the environment of a client; the output."""
        script = f"export PATH={client}/bin:$PATH HF_HUB_OFFLINE=1\n{_script(block)}"
        return self.run(script).stdout

    def do(self, block: Block) -> str:
        """Do what a block says; the output of what it runs."""
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
            return ""
        if block.language == "diff":
            self.apply(block)
            return ""
        return self.run(_script(block)).stdout


def _script(block: Block) -> str:
    """What bash runs of a block."""
    return f"python - <<'EOF'\n{block.text}EOF" if block.language == "python" else block.text
