"""How fast CodeContests is converted in one step, and in several that share its shards.

    python benchmarks/sharing.py [--problems 600] [--shards 12] [--steps 1 2 4] [--rounds 3]

Generates CodeContests in upstream's format (about 95 Python solutions a problem), commits it as a
raw artifact, and makes ``codecontests_processed`` from it: in one step, as by default; then in
1, 2, 4 steps, each a process of its own as on a host of its own, with one worker, and the join
behind them. All commit the same bytes (compared here). On a machine with fewer CPUs than steps the
wall time says nothing about hosts: look at the CPU time of the busiest step and of the join, which
is what hosts of their own would take. ``x default`` compares their sum.

Imports are not timed: the steps begin when all of them are ready.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import generate, open_store

KEY = "codecontests_processed"
ALONE = "default"


def work(root: Path, what: str) -> None:
    """One step, or the join, in this process: begins at a line on stdin; prints seconds, CPU
    seconds, and shards that it converted."""
    import pyarrow.parquet
    import sentencepiece

    from wmtp_assets.base.child import directly
    from wmtp_assets.operations.materialize import share, update

    assert all((pyarrow.parquet, sentencepiece))
    store = open_store(root)
    said: list[str] = []
    print("ready", flush=True)
    sys.stdin.readline()
    started, cpu = time.perf_counter(), time.process_time()
    if what == "join":
        update(store, store.catalogue[KEY], said.append, directly)
    else:
        share(store, store.catalogue[KEY], said.append, directly, of_run="benchmark")
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    converted = sum(" is converted: " in line for line in said)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps([seconds, cpu, converted, peak]))


def together(root: Path, *whats: str) -> tuple[float, list[tuple[float, float, int, float]]]:
    """Run processes side by side; seconds until the last one ended, and what each printed."""
    environment = os.environ | {"WMTP_WORKERS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", what, "--folder", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for what in whats
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    started = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    return time.perf_counter() - started, printed


def measure(root: Path, steps: int) -> tuple[str, list[float], list[int]]:
    """Content hash; wall seconds, CPU seconds of the busiest step, of the join and of all, peak in
    MB; shards of each step."""
    store = open_store(root)
    shutil.rmtree(store.folder(store.catalogue[KEY]) / "processed", ignore_errors=True)
    store.manifest_path(store.catalogue[KEY]).unlink(missing_ok=True)
    shared, printed = together(root, *["step"] * steps) if steps else (0.0, [])
    joined, ended = together(root, "join")
    every = [*printed, *ended]
    content = store.manifest(store.catalogue[KEY]).content_sha256
    return (
        content,
        [
            shared + joined,
            max((item[1] for item in printed), default=0.0),
            ended[0][1],
            sum(item[1] for item in every),
            max(item[3] for item in every),
        ],
        [item[2] for item in printed],
    )


def report(root: Path, arguments: argparse.Namespace) -> None:
    """Measure, and print a table."""
    size = generate(root, arguments.problems, arguments.shards)
    counts = [0, *arguments.steps]
    found: dict[int, list[list[float]]] = {steps: [] for steps in counts}
    shards: dict[int, list[int]] = {}
    contents: set[str] = set()
    for _ in range(arguments.rounds):
        for steps in counts:
            content, measured, taken = measure(root, steps)
            contents.add(content)
            found[steps].append(measured)
            shards[steps] = sorted(taken)
    assert len(contents) == 1, contents
    document = json.loads((root / "storage/datasets_v2/codecontests/metadata.json").read_bytes())
    print(
        f"{size / 1e6:.0f} MB of parquet in {arguments.shards + 2} shards, {document['rows']:,} "
        f"rows, medians of {arguments.rounds} rounds, {os.cpu_count()} CPUs"
    )
    print(
        f"{'':9}{'wall':>9}{'busiest step':>14}{'join':>9}{'x default':>11}{'all CPU':>10}"
        f"{'peak RSS':>10}  shards a step"
    )
    alone = [row[2] for row in found[0]]
    for steps, rounds in found.items():
        wall, busiest, joined, cpu, peak = (
            statistics.median(row) for row in zip(*rounds, strict=True)
        )
        ratios = [one / (row[1] + row[2]) for one, row in zip(alone, rounds, strict=True)]
        taken = ", ".join(map(str, shards[steps]))
        name = f"{steps} steps" if steps > 1 else ALONE if not steps else "1 step"
        print(
            f"{name:9}{wall:7.1f} s{busiest:12.1f} s{joined:7.1f} s"
            f"{statistics.median(ratios):11.2f}{cpu:8.1f} s{peak:7.0f} MB  {taken}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--work", choices=("step", "join"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.folder, arguments.work)
        return
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        report(Path(folder), arguments)


if __name__ == "__main__":
    main()
