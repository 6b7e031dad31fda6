"""How fast a checkpoint is loaded with every byte verified, and how much memory that takes.

    python benchmarks/loading.py [--gigabytes 2] [--rounds 5]

Commits a float16 checkpoint (tensors of a Llama). All recipes read the same file from the page
cache, in turn, each in a process of its own:

- *SHA-256 on all cores*: every byte is hashed in blocks of 1 MiB, by a thread per CPU; nothing is
  kept.
- *one copy*: one thread reads the file into memory (``Path.read_bytes``); nothing is hashed.
- *verify, load_file*: the rule of hashes on the file, then ``safetensors.torch.load_file`` and a
  copy of each tensor: two passes, and between them the file may change.
- *verify=True*: ``wmtp_assets.load_state_dict``.

The ratio is to the larger of the first two, in the same round. Memory is what the process has at
its peak more than when it began to load, after the imports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wmtp_assets.base.settings import Settings, read_workers
from wmtp_assets.checkpoints.beside import files_of
from wmtp_assets.checkpoints.families import load_state_dict
from wmtp_assets.checkpoints.safetensors_file import TensorEntry, write_checkpoint
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage.store import Store

RECIPES = ("SHA-256 on all cores", "one copy", "verify, load_file", "verify=True")
BASELINES = RECIPES[:2]
KEY = "meta_llama_mtp_safetensors"
BLOCK = 1 << 20


def open_store(root: Path) -> Store:
    return Store(Settings("sample", root), load_catalogue())


def checkpoint(root: Path) -> Path:
    store = open_store(root)
    return store.path(store.catalogue[KEY], files_of(store.catalogue[KEY]).checkpoint)


def generate(root: Path, size: int) -> None:
    """Commit a checkpoint of about ``size`` bytes, of a Llama of 7B's width."""
    store = open_store(root)
    artifact = store.catalogue[KEY]
    shapes = {"tok_embeddings.weight": (32000, 4096), "output.weight": (32000, 4096)}
    shapes |= {
        f"layers.{number}.{part}.weight": shape
        for number in range(max(size - 2 * 32000 * 4096 * 2, 0) // 404_766_720 + 1)
        for part, shape in {
            **dict.fromkeys(("wq", "wk", "wv", "wo"), (4096, 4096)),
            **dict.fromkeys(("w1", "w3"), (11008, 4096)),
            "w2": (4096, 11008),
            "norm": (4096,),
        }.items()
    }
    block = os.urandom(8 * BLOCK)
    with store.stage(artifact) as staged:
        with staged.create(files_of(artifact).checkpoint, in_parts=False) as file:
            entries = [TensorEntry(name, "F16", shape) for name, shape in shapes.items()]
            written = write_checkpoint(file, entries, {}, lambda entry: _data(entry, block))
        staged.cuts[files_of(artifact).checkpoint] = written.cut()
        store.commit(artifact, staged, {"asset": KEY})


def _data(entry: TensorEntry, block: bytes) -> Iterator[memoryview]:
    for begin in range(0, entry.size, len(block)):
        yield memoryview(block)[: min(len(block), entry.size - begin)]


def hash_on_all_cores(path: Path) -> None:
    size = path.stat().st_size
    part = 16 * BLOCK

    def hash_part(begin: int) -> str:
        buffer, digest = memoryview(bytearray(BLOCK)), hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            file.seek(begin)
            left = min(part, size - begin)
            while left and (count := file.readinto(buffer[:left])):
                digest.update(buffer[:count])
                left -= count
        return digest.hexdigest()

    with ThreadPoolExecutor(read_workers()) as pool:
        list(pool.map(hash_part, range(0, size, part)))


def verify_and_load(root: Path, path: Path) -> object:
    from safetensors.torch import load_file

    store = open_store(root)
    artifact = store.catalogue[KEY]
    (rule,) = (rule for rule in rules_of(artifact) if rule.name == "sha256")
    outcome = apply_rule(rule, store, artifact)
    assert not outcome.findings, outcome.findings[0]
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def peak() -> int:
    """Bytes; Linux counts in units of 1024."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run(recipe: str, root: Path) -> None:
    """Run one recipe in this process; print seconds, and bytes of memory beyond the imports."""
    import safetensors.torch
    import torch

    assert torch and safetensors
    path = checkpoint(root)
    before = peak()
    started = time.perf_counter()
    if recipe == RECIPES[0]:
        held = hash_on_all_cores(path)
    elif recipe == RECIPES[1]:
        held = path.read_bytes()
    elif recipe == RECIPES[2]:
        held = verify_and_load(root, path)
    else:
        held = load_state_dict(path, verify=True)
    seconds = time.perf_counter() - started
    print(json.dumps([seconds, peak() - before]))
    del held


def measure(recipe: str, root: Path) -> tuple[float, int]:
    """Run one recipe in a process of its own."""
    command = [sys.executable, __file__, "--root", root, "--run", recipe]
    seconds, memory = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return seconds, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", choices=RECIPES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run, arguments.root)
        return
    with tempfile.TemporaryDirectory(prefix="loading-", dir=Path.cwd()) as folder:
        root = Path(folder)
        generate(root, int(arguments.gigabytes * 1e9))
        size = checkpoint(root).stat().st_size
        rounds = [
            {recipe: measure(recipe, root) for recipe in RECIPES} for _ in range(arguments.rounds)
        ]
    print(f"{size / 1e9:.2f} GB, medians of {len(rounds)} rounds")
    print(f"{'':<22}{'median':>8}{'GB/s':>7}{'x larger':>10}{'memory beyond the file':>24}")
    for recipe in RECIPES:
        seconds = statistics.median(row[recipe][0] for row in rounds)
        larger = [max(row[name][0] for name in BASELINES) for row in rounds]
        ratio = statistics.median(
            row[recipe][0] / baseline for row, baseline in zip(rounds, larger, strict=True)
        )
        memory = max(row[recipe][1] for row in rounds) - size * (recipe != RECIPES[0])
        print(
            f"{recipe:<22}{seconds:>6.2f} s{size / 1e9 / seconds:>7.2f}{ratio:>10.2f}"
            f"{memory / (1 << 20):>20.0f} MiB"
        )


if __name__ == "__main__":
    main()
