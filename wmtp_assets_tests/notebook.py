"""``python -m wmtp_assets_tests.notebook``: write what is printed in ``docs/notebooks/tour.ipynb``.

It runs in a copy of the project, over the sample that ``make materialize`` made here: it damages a
file. What is written holds no path of this machine, no times, and no version of Python.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from wmtp_assets_tests.pages import PROJECT, Copy
from wmtp_assets_tests.trees import damage, link_tree

NOTEBOOK = PROJECT / "docs/notebooks/tour.ipynb"
DAMAGED = "models_v2/micro-mtp/safetensors/model.safetensors"


def execute(copy: Copy) -> NotebookNode:
    """The notebook with what it prints and draws in a copy of the project.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    damage(copy.root / DAMAGED, lambda data: data)  # the notebook writes to it: it may be linked
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(copy.folder / "docs/notebooks")}},
    )
    (copy.folder / "docs/notebooks").mkdir(parents=True)
    client.execute(env=copy.environment())
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def outputs(notebook: NotebookNode) -> list[list[Any]]:
    """What each cell of code says: texts, and the types of what it draws."""
    return [
        [item.get("text", sorted(item.get("data", ()))) for item in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def main() -> None:
    """Write the outputs anew."""
    # Beside the storage root, whose files are linked.
    with tempfile.TemporaryDirectory(dir=PROJECT / "storage", prefix=".notebook-") as temporary:
        root = Path(temporary, "root")
        link_tree(PROJECT / "storage/sample", root)
        notebook = execute(Copy.make(Path(temporary, "project"), root))
    nbformat.write(notebook, NOTEBOOK)
    print(f"{NOTEBOOK.relative_to(PROJECT)}  {NOTEBOOK.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
