"""How fast CodeContests becomes what the training code reads, and in how much memory.

    python benchmarks/rows.py [--problems 500 1000] [--rounds 3] [--folder DIR]

Generates CodeContests in upstream's format (about 95 Python solutions a problem, six shards of
train), commits it as a raw artifact, and runs in turn, each in a process of its own:

- the straightforward converter: a list of dicts, written as JSONL; then a pass over that for the
  problem index; then one for the statistics; each tokenising with sentencepiece. The baseline;
- the artifacts ``codecontests_processed`` and ``_stats`` in one process, and in two: the same rows,
  byte for byte, the same problem index and the same counts (compared here), and besides them the
  offsets, Parquet twin, evaluation rows, hashes, fsync and commit;
- in one process, with ``_pairs`` and ``_small`` too; then every rule on those four artifacts,
  contamination aside; then contamination alone.

Imports are not timed. Printed are medians over the rounds, and the peak resident memory of the
largest process.
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
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limits import print_limits

STRAIGHT = "straightforward"
ALL_FOUR = "and pairs, small"
RECIPES = (STRAIGHT, "one process", "two processes", ALL_FOUR, "checks", "contamination")
SHARDS = {"train": 6, "valid": 1, "test": 1}
SOLUTIONS = 95
"""Rows of a problem, about."""
MAX_TOKENS = 2048
DERIVED = ("pairs", "small", "stats")


def open_store(root: Path) -> Any:
    """The storage root with its whole graph."""
    from wmtp_assets.base.settings import Settings
    from wmtp_assets.kinds.registry import load_catalogue
    from wmtp_assets.storage.store import Store

    return Store(Settings("sample", root / "storage"), load_catalogue())


def generate(root: Path, problems: int, shards: int = SHARDS["train"]) -> int:
    """Commit raw CodeContests and the tokenizer below ``root``; bytes of the raw files."""
    from wmtp_assets.sample.code_contests import SEED, write_dataset
    from wmtp_assets.sample.tokenizer import MODEL_PATH

    store = open_store(root)
    upstream = root / "upstream"
    counts = {"train": problems, "valid": max(problems // 100, 12), "test": max(problems // 80, 12)}
    write_dataset(upstream, counts, SOLUTIONS, SHARDS | {"train": shards}, SEED)
    raw, tokenizer = (
        store.catalogue[key] for key in ("codecontests_raw", "meta_llama_mtp_tokenizer")
    )
    with store.stage(raw) as staged:
        for path in sorted((upstream / "data").iterdir()):
            staged.write(f"raw/data/{path.name}", path.read_bytes())
        source = {"repo": "deepmind/code_contests", "revision": "0" * 40, "endpoint": "sample"}
        store.commit(raw, staged, {"source": source})
    with store.stage(tokenizer) as staged:
        staged.write("tokenizer.model", MODEL_PATH.read_bytes())
        store.commit(tokenizer, staged, {})
    return store.manifest(raw).size


def shards(root: Path, split: str) -> list[Path]:
    """The raw files of a split."""
    folder = root / "storage/datasets_v2/codecontests/raw/data"
    return sorted(folder.glob(f"{split}-*.parquet"))


# -- the straightforward converter -----------------------------------------------------------------


def straightforward(root: Path) -> Callable[[], None]:
    """As one writes it first; imports are done when it is called."""
    import pyarrow.parquet as pq
    from sentencepiece import SentencePieceProcessor

    from wmtp_assets.datasets.formats.codecontests import DIFFICULTIES, SOURCES, problem_ids

    tokenizer = root / "storage/models_v2/meta-llama-mtp/tokenizer/tokenizer.model"
    processor = SentencePieceProcessor(model_file=str(tokenizer))
    columns = [
        "description", "public_tests", "private_tests", "generated_tests", "source", "difficulty",
        "solutions", "incorrect_solutions",
    ]  # fmt: skip
    out = root / STRAIGHT
    out.mkdir(exist_ok=True)

    def tokens(text: str) -> int:
        return len(processor.encode(text))

    def convert(paths: list[Path], ids: list[list[str]]) -> list[dict[str, Any]]:
        samples = []
        for path, names in zip(paths, ids, strict=True):
            for name, row in zip(
                names, pq.read_table(path, columns=columns).to_pylist(), strict=True
            ):
                samples += convert_problem(name, row)
        return samples

    def convert_problem(name: str, row: dict[str, Any]) -> list[dict[str, Any]]:
        samples = []
        kinds = ("public_tests", "private_tests", "generated_tests")
        tests = list(zip(row["public_tests"]["input"], row["public_tests"]["output"], strict=True))
        text = "\n\n".join(f"Input:\n{a.rstrip()}\nOutput:\n{b.rstrip()}" for a, b in tests[:2])
        for label, key in (("correct", "solutions"), ("incorrect", "incorrect_solutions")):
            pairs = zip(row[key]["language"], row[key]["solution"], strict=True)
            for number, (language, solution) in enumerate(pairs):
                if language not in (1, 3):
                    continue
                count = tokens(row["description"]) + tokens(text) + tokens(solution)
                if count > MAX_TOKENS:
                    continue
                samples.append(
                    {
                        "instruction": row["description"],
                        "input": text,
                        "output": solution,
                        "task_id": f"{name}_{label}_{number}",
                        "is_correct": label == "correct",
                        "metadata": {
                            "source": SOURCES[row["source"]],
                            "difficulty": DIFFICULTIES[row["difficulty"]],
                            "has_tests": any(row[kind]["input"] for kind in kinds),
                            "problem_id": name,
                            "language": "python" if language == 1 else "python3",
                        },
                    }
                )
        return samples

    def index(path: Path) -> dict[str, Any]:
        problems: dict[str, Any] = {}
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                row = json.loads(line)
                problem = problems.setdefault(
                    row["metadata"]["problem_id"],
                    {
                        "difficulty": row["metadata"]["difficulty"],
                        "correct_indices": [],
                        "incorrect_indices": [],
                        "correct_token_lengths": [],
                        "incorrect_token_lengths": [],
                    },
                )
                label = "correct" if row["is_correct"] else "incorrect"
                problem[f"{label}_indices"].append(number)
                problem[f"{label}_token_lengths"].append(tokens(row["output"]))
        return problems

    def summarize(path: Path) -> dict[str, Any]:
        totals, labels = [], Counter()
        with path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                totals.append(sum(tokens(row[key]) for key in ("instruction", "input", "output")))
                labels[row["is_correct"]] += 1
        ranks = {f"p{p}": sorted(totals)[-(-p * len(totals) // 100) - 1] for p in (50, 90, 99)}
        return {"rows": len(totals), "max": max(totals), **ranks, "correct": labels[True]}

    def work() -> None:
        splits = {split: shards(root, split) for split in SHARDS}
        ids, _ = problem_ids((split, path) for split, paths in splits.items() for path in paths)
        stats = {}
        for split, paths in splits.items():
            samples = convert(paths, ids[: len(paths)])
            ids = ids[len(paths) :]
            path = out / f"{split}.jsonl"
            with path.open("w", encoding="utf-8") as file:
                for sample in samples:
                    file.write(json.dumps(sample, ensure_ascii=False) + "\n")
            (out / f"{split}_metadata.json").write_text(json.dumps(index(path)))
            stats[split] = summarize(path)
        (out / "stats.json").write_text(json.dumps(stats))

    return work


def check_equal(root: Path) -> None:
    """Both converters made the same rows, index and counts."""
    folder = root / "storage/datasets_v2/codecontests"
    (summary,) = (folder / "stats").glob("*_summary.json")
    found = json.loads(summary.read_bytes())["splits"]
    for split, expected in json.loads((root / STRAIGHT / "stats.json").read_bytes()).items():
        ours = found[split]
        total = ours["tokens"]["total"]
        made = {key: total[key] for key in ("max", "p50", "p90", "p99")}
        made |= {"rows": ours["rows"], "correct": ours["is_correct"]["true"]}
        assert made == expected, (split, made, expected)
        for name, convert in ((f"{split}.jsonl", digest), (f"{split}_metadata.json", load_index)):
            one, other = root / STRAIGHT / name, folder / "processed" / name
            assert convert(one) == convert(other), name


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_index(path: Path) -> dict[str, Any]:
    index = json.loads(path.read_bytes())
    return index.get("problem_index_map", index)


# -- ours ------------------------------------------------------------------------------------------


def ours(root: Path, parts: tuple[str, ...]) -> Callable[[], None]:
    from wmtp_assets.operations.materialize import materialize

    store = open_store(root)
    preload()

    def work() -> None:
        for part in parts:
            materialize(store, store.catalogue[f"codecontests_{part}"])

    return work


def checks(root: Path, is_contamination: bool) -> Callable[[], None]:
    from wmtp_assets.kinds.registry import rules_of
    from wmtp_assets.operations.materialize import materialize
    from wmtp_assets.rules.apply import apply_rule

    store = open_store(root)
    preload()
    artifacts = [store.catalogue[f"codecontests_{part}"] for part in ("processed", *DERIVED)]
    for artifact in artifacts[1:]:
        materialize(store, artifact)

    def work() -> None:
        for artifact in artifacts:
            for rule in rules_of(artifact):
                if (rule.name == "contamination") == is_contamination:
                    outcome = apply_rule(rule, store, artifact)
                    assert all(item.problem == "warning" for item in outcome.findings), outcome

    return work


def preload() -> None:
    """Import what the work imports."""
    import pyarrow.parquet
    import sentencepiece

    from wmtp_assets.datasets import process, stats, views

    assert all((pyarrow.parquet, sentencepiece, process, stats, views))


# -- measuring -------------------------------------------------------------------------------------


def run(recipe: str, root: Path) -> None:
    """Run one recipe in this process; print seconds and peak memory in MB."""
    if recipe == STRAIGHT:
        work = straightforward(root)
    elif recipe in ("checks", "contamination"):
        work = checks(root, recipe == "contamination")
    else:
        os.environ["WMTP_WORKERS"] = "2" if recipe == "two processes" else "1"
        work = ours(root, ("processed", *(DERIVED if recipe == ALL_FOUR else ("stats",))))
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps([seconds, max(item.ru_maxrss for item in usage) * 1024 / 1e6]))


def call(*arguments: str) -> None:
    """Run this script with ``arguments`` in a process of its own."""
    subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.DEVNULL, check=True)


def measure(recipe: str, root: Path) -> tuple[float, float]:
    """Run one recipe in a process of its own."""
    command = [sys.executable, __file__, "--run", recipe, "--folder", str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def report(root: Path, problems: int, rounds: int) -> None:
    """Measure every recipe on one size and print a table."""
    generate(root, problems)
    results: dict[str, list[tuple[float, float]]] = {recipe: [] for recipe in RECIPES}
    for number in range(rounds):
        for recipe in RECIPES:
            results[recipe].append(measure(recipe, root))
        if not number:
            check_equal(root)
    document = json.loads((root / "storage/datasets_v2/codecontests/metadata.json").read_bytes())
    samples = sum(
        s["samples"] - s["dropped"]["other_language"] for s in document["splits"].values()
    )
    raw = sum(path.stat().st_size for split in SHARDS for path in shards(root, split))
    print(f"{samples:,} Python solutions, {raw / 1e6:.0f} MB of parquet, {document['rows']:,} rows")
    print(f"{'':18}{'median':>9}{'samples/s':>11}{'x straightforward':>19}{'peak RSS':>10}")
    baseline = [seconds for seconds, _ in results[STRAIGHT]]
    for recipe, measured in results.items():
        seconds = statistics.median(item[0] for item in measured)
        ratio = statistics.median(b / item[0] for b, item in zip(baseline, measured, strict=True))
        peak = max(item[1] for item in measured)
        rate = samples / seconds
        print(f"{recipe:18}{seconds:7.1f} s{rate:11,.0f}{ratio:19.2f}{peak:7.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--problems", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--run", choices=RECIPES, help=argparse.SUPPRESS)
    parser.add_argument("--generate", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.generate:
        generate(arguments.folder, arguments.generate)
        return
    if arguments.run:
        run(arguments.run, arguments.folder)
        return
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print_limits(Path(folder))
    for problems in arguments.problems:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            report(Path(folder), problems, arguments.rounds)


if __name__ == "__main__":
    main()
