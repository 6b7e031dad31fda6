"""How fast every byte of a storage root is verified, against one thread of hashlib.

    python benchmarks/verification.py [--gigabytes 2] [--rounds 5]

Commits a float16 checkpoint (tensors of a Llama), a raw checkpoint (parts of 16 MiB) and rows (one
file in parts, many small ones), each a third of the size. All recipes read the same files from the
page cache, in turn, each in a process of its own:

- *hashlib*: one thread, ``hashlib.file_digest`` over every file.
- *sha256sum -c*: coreutils, over the same files.
- *the rule sha256*: what ``wmtp verify`` applies; it also says what is damaged.
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
from pathlib import Path

from limits import print_limits

from wmtp_assets.base.settings import Settings
from wmtp_assets.checkpoints.beside import files_of
from wmtp_assets.checkpoints.safetensors_file import TensorEntry, write_checkpoint
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import Store

RECIPES = ("hashlib", "sha256sum -c", "the rule sha256")
KEYS = ("meta_llama_mtp_raw", "meta_llama_mtp_safetensors", "mbpp_processed")
LISTED = "listed"
BLOCK = 8 << 20


def open_store(root: Path) -> Store:
    return Store(Settings("sample", root / "storage"), load_catalogue())


def generate(root: Path, size: int) -> None:
    """Commit the artifacts, and write the list that ``sha256sum`` checks."""
    store = open_store(root)
    block = os.urandom(BLOCK)
    raw, checkpoint, rows = (store.catalogue[key] for key in KEYS)
    with store.stage(raw) as staged:
        with staged.create("raw/7B_1T_4/consolidated.pth") as file:
            for _ in range(size // 3 // BLOCK):
                file.write(block)
        store.commit(raw, staged, {})
    with store.stage(checkpoint) as staged:
        entries = [TensorEntry("tok_embeddings.weight", "F16", (32000, 4096))]
        entries += [
            TensorEntry(f"layers.{number}.weight", "F16", (4096, 4096))
            for number in range(max(size // 3 - entries[0].size, 0) >> 25)
        ]
        with staged.create(files_of(checkpoint).checkpoint, in_parts=False) as file:
            written = write_checkpoint(file, entries, {}, lambda entry: _data(entry, block))
        staged.cuts[files_of(checkpoint).checkpoint] = written.cut()
        staged.write_sha256sums("safetensors/")
        store.commit(checkpoint, staged, {})
    with store.stage(rows) as staged:
        with staged.create("processed/train.jsonl") as file:
            for _ in range(size // 3 // BLOCK - 200 // 8):
                file.write(block)
        for number in range(200):
            staged.write(f"index/{number}", block[: 1 << 20])
        store.commit(rows, staged, {})
    lines = [f"{record.sha256}  {path}\n" for path, record in _files(store).items()]
    (root / LISTED).write_text("".join(lines))


def _data(entry: TensorEntry, block: bytes) -> Iterator[memoryview]:
    for begin in range(0, entry.size, BLOCK):
        yield memoryview(block)[: min(BLOCK, entry.size - begin)]


def _files(store: Store) -> dict[Path, FileRecord]:
    """Every file with its hash."""
    return {
        store.path(artifact, name): record
        for artifact in map(store.catalogue.__getitem__, KEYS)
        for name, record in store.manifest(artifact).files.items()
    }


def run(recipe: str, root: Path) -> None:
    """Run one recipe in this process; print seconds and peak memory in MB."""
    store = open_store(root)
    files = _files(store)
    started = time.perf_counter()
    if recipe == "hashlib":
        for path, record in files.items():
            with path.open("rb") as file:
                assert hashlib.file_digest(file, "sha256").hexdigest() == record.sha256
    elif recipe == "sha256sum -c":
        subprocess.run(["sha256sum", "--quiet", "-c", root / LISTED], check=True)
    else:
        for key in KEYS:
            artifact = store.catalogue[key]
            (rule,) = (rule for rule in rules_of(artifact) if rule.name == "sha256")
            outcome = apply_rule(rule, store, artifact)
            assert not outcome.findings, outcome.findings[0]
    seconds = time.perf_counter() - started
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps([seconds, max(item.ru_maxrss for item in usage) * 1024 / 1e6]))


def measure(recipe: str, root: Path) -> tuple[float, float]:
    """Run one recipe in a process of its own."""
    command = [sys.executable, __file__, "--root", root, "--run", recipe]
    seconds, peak = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return seconds, peak


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
    with tempfile.TemporaryDirectory(prefix="verification-", dir=Path.cwd()) as folder:
        root = Path(folder)
        print_limits(root)
        generate(root, int(arguments.gigabytes * 1e9))
        sizes = [record.size for record in _files(open_store(root)).values()]
        rounds = [
            {recipe: measure(recipe, root) for recipe in RECIPES} for _ in range(arguments.rounds)
        ]
    print(f"{sum(sizes) / 1e9:.2f} GB in {len(sizes)} files, medians of {len(rounds)} rounds")
    print(f"{'':<18}{'median':>8}{'GB/s':>7}{'x hashlib':>11}{'peak RSS':>10}")
    for recipe in RECIPES:
        seconds = statistics.median(row[recipe][0] for row in rounds)
        faster = statistics.median(row["hashlib"][0] / row[recipe][0] for row in rounds)
        peak = max(row[recipe][1] for row in rounds)
        rate = sum(sizes) / 1e9 / seconds
        print(f"{recipe:<18}{seconds:>6.2f} s{rate:>7.2f}{faster:>11.2f}{peak:>7.0f} MB")


if __name__ == "__main__":
    main()
