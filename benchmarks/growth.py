"""Time and memory of each step, per unit, as data grows: linear time, flat memory, or it is said.

    python benchmarks/growth.py [--gigabytes 2 8 20] [--rows 100000 400000 1600000] [--folder DIR]

The full-size rehearsal, for a machine with 120 GB of disk:

    python benchmarks/growth.py --gigabytes 27 --rows 3700000

Checkpoints are float32 ``.pth`` files of that size, which become float16 and a micro model; rows
are those of CodeContests, generated in upstream's format. Each step is a process of its own, with
the files out of the page cache. Beside the steps are their limits: what each needs at least on
this machine, measured in the same run on the same bytes.

- *adopt*: raw files that lie in another folder are hashed, as a whole and in parts, and committed.
  Its limit is the larger of a plain read and two SHA-256 of the same bytes side by side.
- *verify raw*: the rule ``sha256``, the first time. The same limit.
- *again*: from then on, by pieces. The larger of the read and SHA-256 on all cores.
- *convert*: to safetensors. A plain read of the raw file and a plain write of the result, fsync.
- *micro*: cut from the result. A plain read of that.
- *verify all*: ``sha256`` of all three. As *again*.
- *make*: processed rows, pairs, small splits and statistics. None.
- *check*: every rule on those four artifacts, contamination included. *make*, on the same CPUs.

``NOT LINEAR`` names a step that takes more than 1.25 times as long per unit for the largest size as
for the smallest, ``NOT FLAT`` one that takes more than 1.25 times as much memory.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conversion
import rows as codecontests
from limits import beside, forget, plain_read, print_limits, sha256, write

from wmtp_assets.base.cpus import usable_cpus

TOLERANCE = 1.25
READ, TWO, ALL, COPY, HALF = "plain read", "two SHA-256", "SHA-256, all", "read, write", "read half"
"""Limits of a checkpoint of which raw and result, raw in memory, and the result alone are read."""

LIMITS: dict[str, tuple[str, ...]] = {
    "adopt": (READ, TWO),
    "verify raw": (READ, TWO),
    "again": (READ, ALL),
    "convert": (COPY,),
    "micro": (HALF,),
    "verify all": (READ, ALL),
}
"""Step of a checkpoint → the limits of which it cannot be faster than the largest; in their order,
and those of *verify all* per byte."""

ROW_STEPS = ("make", "check")
Work = Callable[[], object]


@dataclass(frozen=True)
class Measured:
    """One step: seconds of the clock and of the CPU, all processes together, and peak memory of the
    largest process in MB."""

    seconds: float
    cpu: float
    peak: float


# -- the steps -------------------------------------------------------------------------------------


def hash_all(store: Any, *keys: str) -> None:
    """Apply the rule ``sha256``."""
    from wmtp_assets.kinds.registry import rules_of
    from wmtp_assets.rules.apply import apply_rule

    for key in keys:
        artifact = store.catalogue[key]
        (rule,) = (rule for rule in rules_of(artifact) if rule.name == "sha256")
        assert not apply_rule(rule, store, artifact).findings


def adopt(root: Path, store: Any) -> None:
    """What ``wmtp adopt`` does with raw files that it finds."""
    from wmtp_assets.base.progress import silent
    from wmtp_assets.transfer.places import ExpectedFile, Places, ignore

    raw, other = store.catalogue["bench_raw"], conversion.open_store(root / "adopted", "pth")
    places = Places(other, raw, "raw/", [store.folder(raw) / "raw"])
    with other.stage(raw) as staged:
        for name, record in store.manifest(raw).files.items():
            if name.startswith("raw/"):
                file = ExpectedFile(name.removeprefix("raw/"), record.size, record.sha256)
                held = places.find(file, ignore, silent)
                assert held is not None
                places.place(staged, file, held)
        other.commit(raw, staged, {})
    shutil.rmtree(root / "adopted")


def of_checkpoint(root: Path, step: str) -> Work:
    """A step, or a limit, of a checkpoint; imports are done when it is called."""
    import torch

    from wmtp_assets.checkpoints import convert, micro
    from wmtp_assets.operations.materialize import materialize

    assert all((torch, convert, micro))
    store = conversion.open_store(root / "storage", "pth")
    raw, result = conversion.inputs(root, "pth")[0], _result(root)
    size = raw.stat().st_size
    return {
        READ: lambda: plain_read(raw),
        TWO: lambda: beside(sha256, size, 2),
        ALL: lambda: beside(sha256, size // usable_cpus(), usable_cpus()),
        COPY: lambda: (plain_read(raw), write(root / "written", size // 2)),
        HALF: lambda: plain_read(result),
        "adopt": lambda: adopt(root, store),
        "verify raw": lambda: hash_all(store, "bench_raw"),
        "again": lambda: hash_all(store, "bench_raw"),
        "convert": lambda: materialize(store, store.catalogue["bench_safetensors"]),
        "micro": lambda: materialize(store, store.catalogue["micro"]),
        "verify all": lambda: hash_all(store, "bench_raw", "bench_safetensors", "micro"),
    }[step]


def _result(root: Path) -> Path:
    return root / "storage/models_v2/bench/safetensors/model.safetensors"


def of_rows(root: Path, step: str) -> Work:
    """A step of a dataset; imports are done when it is called."""
    if step == "make":
        return codecontests.ours(root, ("processed", *codecontests.DERIVED))
    from wmtp_assets.kinds.registry import rules_of
    from wmtp_assets.rules.apply import apply_each

    store = codecontests.open_store(root)

    def check() -> None:
        for part in ("processed", *codecontests.DERIVED):
            artifact = store.catalogue[f"codecontests_{part}"]
            for _, outcome in apply_each(rules_of(artifact), store, artifact):
                assert all(item.problem == "warning" for item in outcome.findings), outcome

    return check


def run(kind: str, step: str, root: Path) -> None:
    """Run one step in this process, and print what it took."""
    from wmtp_assets.base.child import stop

    work = (of_checkpoint if kind == "checkpoint" else of_rows)(root, step)
    began, before = time.perf_counter(), _cpu()
    work()
    seconds = time.perf_counter() - began
    stop()
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = max(usage.ru_maxrss for usage in usages) * 1024 / 1e6
    print(json.dumps([seconds, _cpu() - before, peak]))


def _cpu() -> float:
    """Seconds of this process, and of its children that ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


# -- measuring -------------------------------------------------------------------------------------


def measure(kind: str, step: str, root: Path) -> Measured:
    """Run a step in a process of its own, with the files out of the page cache."""
    forget(*(path for path in (root / "storage").rglob("*") if path.is_file()))
    command = [sys.executable, __file__, "--run", kind, step, "--root", str(root)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def median(measured: Sequence[Measured]) -> Measured:
    """Medians of seconds, the highest peak."""
    seconds = statistics.median(item.seconds for item in measured)
    cpu = statistics.median(item.cpu for item in measured)
    return Measured(seconds, cpu, max(item.peak for item in measured))


def checkpoint(root: Path, size: float, rounds: int) -> tuple[float, dict[str, Measured]]:
    """Gigabytes of the raw file, and what its steps and limits took."""
    conversion.call("--generate", str(size), "--folder", str(root), "--kind", "pth")
    found: dict[str, list[Measured]] = {}
    for _ in range(rounds):
        for step in (READ, TWO, ALL, "adopt", "verify raw", "again", COPY, "convert", HALF):
            found.setdefault(step, []).append(measure("checkpoint", step, root))
            (root / "written").unlink(missing_ok=True)
        for step in ("micro", "verify all"):
            found.setdefault(step, []).append(measure("checkpoint", step, root))
    gigabytes = conversion.inputs(root, "pth")[0].stat().st_size / 1e9
    return gigabytes, {step: median(items) for step, items in found.items()}


def rows(root: Path, count: int, rounds: int) -> tuple[float, dict[str, Measured]]:
    """Hundred thousands of rows, and what their steps took."""
    codecontests.call(
        "--generate", str(max(count // codecontests.SOLUTIONS, 20)), "--folder", str(root)
    )
    found: dict[str, list[Measured]] = {}
    for _ in range(rounds):
        for step in ROW_STEPS:
            found.setdefault(step, []).append(measure("rows", step, root))
    metadata = root / "storage/datasets_v2/codecontests/metadata.json"
    made = json.loads(metadata.read_bytes())["rows"]
    return made / 1e5, {step: median(items) for step, items in found.items()}


def limit_of(step: str, found: dict[str, Measured]) -> float | None:
    """Seconds that a step needs at least; None: no such is known."""
    if step == "check":
        return found["make"].seconds
    names = LIMITS.get(step)
    if names is None:
        return None
    limit = max(found[name].seconds for name in names)
    return limit * 1.5 if step == "verify all" else limit  # raw, and half of that again


def lines(title: str, unit: str, sizes: dict[float, dict[str, Measured]]) -> Iterator[str]:
    """A table: each step at each size, and which grow worse than the data."""
    yield f"{title}, {usable_cpus()} CPUs"
    header = f"{'step':14}{unit:>10}{'seconds':>10}{'s per unit':>12}{'CPU s':>9}"
    yield header + f"{'peak RSS':>10}{'x limit':>9}"
    for step in next(iter(sizes.values())):
        per_unit: list[float] = []
        peaks: list[float] = []
        for size, found in sizes.items():
            item = found[step]
            per_unit.append(item.seconds / size)
            peaks.append(item.peak)
            limit = limit_of(step, found)
            ratio = f"{item.seconds / limit:.2f}" if limit else ""
            yield (
                f"{step:14}{size:10.2f}{item.seconds:10.1f}{per_unit[-1]:12.2f}{item.cpu:9.1f}"
                f"{item.peak:7.0f} MB{ratio:>9}"
            )
        if per_unit[-1] > TOLERANCE * per_unit[0]:
            yield f"NOT LINEAR: {step}, {per_unit[-1] / per_unit[0]:.2f} times as long per unit"
        if peaks[-1] > TOLERANCE * peaks[0]:
            yield f"NOT FLAT: {step}, {peaks[-1] / peaks[0]:.2f} times as much memory"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--gigabytes", type=float, nargs="*", default=[2.0, 8.0, 20.0])
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 400_000, 1_600_000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: a new one")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        kind, step = arguments.run
        run(kind, step, arguments.root)
        return
    os.environ.setdefault("WMTP_WORKERS", str(usable_cpus()))
    kinds: tuple[tuple[str, str, list[Any], Callable[[Path, Any, int], Any]], ...] = (
        ("checkpoints", "GB", arguments.gigabytes, checkpoint),
        ("CodeContests", "100k rows", arguments.rows, rows),
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print_limits(Path(folder))
    for title, unit, wanted, make in kinds:
        sizes: dict[float, dict[str, Measured]] = {}
        for size in wanted:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                made, found = make(Path(folder), size, arguments.rounds)
            sizes[made] = found
        if sizes:
            print(*lines(title, unit, sizes), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
