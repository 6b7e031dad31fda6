"""How fast a raw checkpoint becomes safetensors, and in how much memory.

    python benchmarks/conversion.py [--sizes 2 6] [--rounds 3] [--folder DIR]

Generates checkpoints of about each size (GB, float32, in upstream's formats), commits them as raw
artifacts, and runs in turn, each in a process of its own and with the input out of the page cache:

- a plain read of the input, in blocks of 1 MiB: the baseline of the ratios;
- ``torch.load`` → ``save_file`` → ``sha256sum``, as it is, and with ``.half()``;
- the artifact ``<name>_safetensors``: cast to float16, overflow check, CRC-32 of every record,
  SHA-256 of file and tensors, configs, fsync, commit.

For Linux. Imports are not timed. Printed are the medians over the rounds, the medians of the ratios
within a round, and the peak resident memory of the process. Only the last recipe waits until what
it wrote is on the disk (fsync); the ratios are given with and without that.
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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limits import forget, plain_read, print_limits

RECIPES = ("plain read", "torch.load, save_file, sha256sum", "the same with .half()", "materialize")
FORMATS = ("pth", "shards")
DIM, HEADS, FEED_FORWARD, VOCABULARY = 2048, 16, 5632, 32_000
LAYER_BYTES = 4 * (4 * DIM * DIM + 3 * DIM * FEED_FORWARD + 2 * DIM)
OTHER_BYTES = 4 * (2 * VOCABULARY * DIM + DIM)
PTH = "7B_1T_4/consolidated.pth"


def layers(size: float) -> int:
    """Transformer blocks of a checkpoint of about ``size`` GB."""
    return max(round((size * 1e9 - OTHER_BYTES) / LAYER_BYTES), 4)


def open_store(root: Path, kind: str) -> Any:
    """A storage root whose graph is one model, and a micro model of it."""
    from wmtp_assets.base.settings import Settings
    from wmtp_assets.catalogue.specs import MicroSpec, ModelSpec
    from wmtp_assets.kinds.registry import expand
    from wmtp_assets.storage.store import Store

    files: dict[str, Any]
    if kind == "pth":
        family = "meta_mtp"
        files = {"checkpoint": PTH, "params": "7B_1T_4/params.json"}
    else:
        from wmtp_assets.sample.sheared_llama import INDEX, SHARDS

        family, files = "llama", {"checkpoint": INDEX, "shards": SHARDS, "config": "config.json"}
    spec = ModelSpec.model_validate(
        {
            "name": "bench",
            "folder": "bench",
            "description": "generated",
            "family": family,
            "dtype": "float16",
            "repository": {"id": "owner/bench", "type": "model", "license": "MIT", "size": "1 MB"},
            "files": {**files, "tokenizer": "tokenizer.model"},
            "tokenizer": {"vocab_size": VOCABULARY},
        }
    )
    micro = MicroSpec.model_validate(
        {
            "name": "micro",
            "folder": "micro",
            "description": "cut from it",
            "parent": "bench",
            "dtype": "float16",
            "shape": {
                "dim": 512,
                "n_layers": 4,
                "n_heads": 4,
                "n_kv_heads": 4,
                "multiple_of": 64,
                "ffn_dim_multiplier": 0.5,
            },
            "max_bytes": 50_000_000,
        }
    )
    return Store(Settings("sample", root), expand([spec, micro]))


def generate(root: Path, kind: str, size: float) -> None:
    """Commit a raw checkpoint and its tokenizer below ``root``."""
    from wmtp_assets.operations.materialize import materialize
    from wmtp_assets.sample import meta_mtp, sheared_llama
    from wmtp_assets.sample.tokenizer import MODEL_PATH

    upstream = root / "upstream"
    if kind == "pth":
        params = {**meta_mtp.PARAMS, "dim": DIM, "n_heads": HEADS, "n_kv_heads": HEADS}
        meta_mtp.write_model(
            upstream / "7B_1T_4", params | {"n_layers": layers(size)}, FEED_FORWARD
        )
    else:
        config = {
            **sheared_llama.CONFIG,
            "hidden_size": DIM,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "num_hidden_layers": layers(size),
            "intermediate_size": FEED_FORWARD,
        }
        sheared_llama.write_model(upstream, config)
    shutil.copyfile(MODEL_PATH, upstream / "tokenizer.model")
    store = open_store(root / "storage", kind)
    raw, tokenizer = store.catalogue["bench_raw"], store.catalogue["bench_tokenizer"]
    with store.stage(raw) as staged:
        for path in sorted(upstream.rglob("*")):
            if path.is_file():
                name = f"raw/{path.relative_to(upstream).as_posix()}"
                with path.open("rb") as source, staged.create(name) as target:
                    while block := source.read(8 << 20):
                        target.write(block)
        source_of = {"repo": "owner/bench", "endpoint": "sample"}
        store.commit(raw, staged, {"source": source_of})
    shutil.rmtree(upstream)
    materialize(store, tokenizer)


def inputs(root: Path, kind: str) -> list[Path]:
    """The files with the tensors."""
    raw = root / "storage/models_v2/bench/raw"
    return [raw / PTH] if kind == "pth" else sorted(raw.glob("*.bin"))


def run(recipe: str, root: Path, kind: str) -> None:
    """Run one recipe in this process; print seconds, those in fsync, and peak memory in MB."""
    work = _prepare(recipe, root, kind)
    waited = 0.0
    fsync = os.fsync

    def timed_fsync(descriptor: int) -> None:
        nonlocal waited
        begun = time.perf_counter()
        fsync(descriptor)
        waited += time.perf_counter() - begun

    os.fsync = timed_fsync
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([seconds, waited, peak * 1024 / 1e6]))


def _prepare(recipe: str, root: Path, kind: str) -> Callable[[], object]:
    paths = inputs(root, kind)
    if recipe == "plain read":
        return lambda: [plain_read(path) for path in paths]
    if recipe == "materialize":
        import torch  # noqa: F401

        from wmtp_assets.checkpoints import convert  # noqa: F401
        from wmtp_assets.operations.materialize import materialize

        store = open_store(root / "storage", kind)
        return lambda: materialize(store, store.catalogue["bench_safetensors"])
    return _described_recipe(paths, root / "out.safetensors", half="half" in recipe)


def _described_recipe(paths: list[Path], out: Path, half: bool) -> Callable[[], None]:
    import torch
    from safetensors.torch import save_file

    def work() -> None:
        tensors: dict[str, Any] = {}
        for path in paths:
            tensors |= torch.load(path, map_location="cpu", weights_only=True)
        kept = {
            name: tensor.half() if half else tensor
            for name, tensor in tensors.items()
            if not name.endswith((".inv_freq", "rope.freqs"))
        }
        save_file(kept, out)
        subprocess.run(["sha256sum", out], check=True, stdout=subprocess.DEVNULL)

    return work


def call(*arguments: str) -> str:
    """Run this script with ``arguments`` in a process of its own; what it printed last."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


@dataclass(frozen=True)
class Round:
    """One run of a recipe: seconds, those of them in fsync, and peak memory in MB."""

    seconds: float
    fsync: float
    peak: float

    @property
    def busy(self) -> float:
        """Seconds without fsync."""
        return self.seconds - self.fsync


def measure(root: Path, kind: str, rounds: int) -> dict[str, list[Round]]:
    """Recipe → its rounds; the recipes take turns."""
    results: dict[str, list[Round]] = {recipe: [] for recipe in RECIPES}
    for _ in range(rounds):
        for recipe in RECIPES:
            (root / "out.safetensors").unlink(missing_ok=True)
            shutil.rmtree(root / "storage/models_v2/bench/safetensors", ignore_errors=True)
            (root / "storage/models_v2/bench/metadata.json").unlink(missing_ok=True)
            os.sync()
            forget(*inputs(root, kind))
            output = call("--run", recipe, "--folder", str(root), "--kind", kind)
            results[recipe].append(Round(*json.loads(output)))
    return results


def ratio(numerators: Iterable[float], denominators: Iterable[float]) -> float:
    """The median over the rounds."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def report(kind: str, size: int, results: dict[str, list[Round]], layer_count: int) -> None:
    """Print one table."""
    plain = [row.seconds for row in results["plain read"]]
    print(f"\n{kind}, {size / 1e9:.2f} GB float32, {layer_count} blocks, {len(plain)} rounds")
    print(f"{'':36}{'median':>9}{'x plain read':>14}{'without fsync':>15}{'peak RSS':>10}")
    for recipe, rows in results.items():
        seconds = statistics.median(row.seconds for row in rows)
        whole = ratio((row.seconds for row in rows), plain)
        busy = ratio((row.busy for row in rows), plain)
        peak = max(row.peak for row in rows)
        print(f"{recipe:36}{seconds:7.1f} s{whole:14.2f}{busy:15.2f}{peak:7.0f} MB")
    for recipe in RECIPES[1:3]:
        theirs = [row.busy for row in results[recipe]]
        faster = ratio(theirs, (row.busy for row in results["materialize"]))
        print(f"materialize, without fsync, is {faster:.1f} times as fast as {recipe}")


def main() -> None:
    """Parse the arguments; ``--run`` and ``--generate`` are for this script's own processes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[2.0, 6.0], metavar="GB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: a new one")
    parser.add_argument("--kind", choices=FORMATS, help="default: both")
    parser.add_argument("--run", choices=RECIPES, help=argparse.SUPPRESS)
    parser.add_argument("--generate", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run, arguments.folder, arguments.kind)
        return
    if arguments.generate:
        generate(arguments.folder, arguments.kind, arguments.generate)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print_limits(Path(folder))
        for kind in [arguments.kind] if arguments.kind else FORMATS:
            for size in arguments.sizes:
                root = Path(folder) / f"{kind}-{size:g}"
                root.mkdir()
                call("--generate", str(size), "--folder", str(root), "--kind", kind)
                results = measure(root, kind, arguments.rounds)
                bytes_in = sum(path.stat().st_size for path in inputs(root, kind))
                report(kind, bytes_in, results, layers(size))
                shutil.rmtree(root)


if __name__ == "__main__":
    main()
