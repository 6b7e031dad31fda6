"""How long the definitions take to load, against an empty project with the same loader.

    python benchmarks/start.py [--rounds 5]

The empty project has one asset, and finds it as this one finds its own, by
``load_from_defs_folder``. Each recipe is a process of its own, in turn: imports count, as they are
what takes the time. CPU seconds, as they depend least on what else the machine does; the medians
over the rounds.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[1]
EMPTY = {
    "pyproject.toml": """[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "empty"
defs_module = "empty.defs"
""",
    "empty/__init__.py": "",
    "empty/definitions.py": """from pathlib import Path
import dagster as dg
defs = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
""",
    "empty/defs/__init__.py": "",
    "empty/defs/one.py": "import dagster as dg\n@dg.asset\ndef one() -> None: ...\n",
}
LOAD = (
    "import sys; from importlib import import_module; "
    "defs = import_module(sys.argv[1]).defs; defs = defs() if callable(defs) else defs; "
    "list(defs.resolve_asset_graph().get_all_asset_keys())"
)
RECIPES = ("load", "dagster asset list")


def measure(recipe: str, module: str, folder: Path) -> tuple[float, float]:
    """Seconds of the clock and of the CPU of one process."""
    command = [sys.executable, "-c", LOAD, module]
    if recipe != "load":
        command = [sys.executable, "-m", "dagster", "asset", "list", "-m", module]
    environment = os.environ | {"PYTHONPATH": str(folder), "WMTP_SOURCE": "sample"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, text in EMPTY.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        projects = {"empty": folder, "wmtp_assets": PROJECT}
        print(f"{'':20}{'empty':>10}{'this one':>10}{'x empty':>9}")
        for recipe in RECIPES:
            found: dict[str, list[float]] = {module: [] for module in projects}
            for number in range(rounds + 1):
                for module, where in projects.items():
                    _, cpu = measure(recipe, f"{module}.definitions", where)
                    if number:  # the first one compiles
                        found[module].append(cpu)
            empty, ours = (statistics.median(found[module]) for module in projects)
            pairs = zip(found["wmtp_assets"], found["empty"], strict=True)
            ratio = statistics.median(one / other for one, other in pairs)
            print(f"{recipe:20}{empty:8.2f} s{ours:8.2f} s{ratio:9.2f}", flush=True)


if __name__ == "__main__":
    main()
