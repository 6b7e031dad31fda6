"""How fast a tree is published to S3 and pulled from it, against boto3's own transfers.

    python benchmarks/publishing.py [--gigabytes 2] [--rounds 3]

Commits a raw checkpoint and rows, 9 to 1, applies the rules as making them does, and sends them to
an S3 server in a process of its own on loopback (``s3_server.py``, which does next to nothing). The
recipes of boto3 and ours each get a server with nothing in it, in turn:

- *upload_file*: boto3's, file by file, with SHA-256 checksums. It verifies nothing, and writes no
  manifest. Over plain http it hashes every byte twice: for the checksum, and for the signature.
- *download_file*: boto3's, of the same files, in ten threads.
- *wmtp publish*: applies the rules, which hash every byte, then hashes each part as it is read,
  sends, compares what lies there, and writes ``MANIFEST.json``.
- *of tensors*: the same of a checkpoint whose committed pieces are tensors, as those of safetensors
  files are: the whole is hashed beside the parts.
- *again*: the same command a second time: 0 bytes of payload.
- *wmtp pull*: fetches it into an empty root, hashes every file, flushes it and commits.

CPU is that of the client, with the processes that it starts, and of the server; without imports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limits import print_limits

from wmtp_assets.base.settings import Settings
from wmtp_assets.destinations.destination import Access, Location
from wmtp_assets.destinations.s3 import connect
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.publish import publish, require_rules
from wmtp_assets.operations.pull import pull, read_listing
from wmtp_assets.storage.pieces import Tensors
from wmtp_assets.storage.store import Store

BOTO3 = ("upload_file", "download_file")
WMTP = ("wmtp publish", "of tensors", "again", "wmtp pull")
LIMITS = {
    "wmtp publish": ("upload_file", 1.05),
    "of tensors": ("upload_file", 1.05),
    "wmtp pull": ("download_file", 1.1),
}
"""Recipe → the one that it is compared with, and what it may take of that one's time."""

FILES = {
    "meta_llama_mtp_raw": ("raw/7B_1T_4/consolidated.pth", 0.9),
    "mbpp_raw": ("raw/full/train.parquet", 0.1),
}
PREFIXES = {"of tensors": "tensors"}
BLOCK = 8 << 20
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_DEFAULT_REGION": "us-east-1",
}


def open_store(root: Path) -> Store:
    return Store(Settings("sample", root / "storage"), load_catalogue())


def generate(root: Path, size: int, *, in_tensors: bool = False) -> None:
    """Commit the artifacts, whose rules are then applied; no two blocks are the same.

    Args:
        in_tensors: the pieces of the files are the blocks, as if these were tensors.
    """
    store = open_store(root)
    for key, (name, share) in FILES.items():
        artifact = store.catalogue[key]
        with store.stage(artifact) as staged:
            hashes: list[str] = []
            with staged.create(name, in_parts=not in_tensors) as file:
                for _ in range(max(int(size * share) // BLOCK, 2)):
                    block = os.urandom(BLOCK)
                    hashes.append(hashlib.sha256(block).hexdigest())
                    file.write(block)
            if in_tensors:
                tensors = [(f"tensor {n}", BLOCK, found) for n, found in enumerate(hashes[1:])]
                staged.cuts[name] = Tensors(header=hashes[0], tensors=tensors)
            store.commit(artifact, staged, {"asset": key, "kind": "raw"})
        require_rules(store, [artifact])


@contextmanager
def served() -> Iterator[str]:
    """An S3 server with nothing in it but an empty bucket; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, Path(__file__).with_name("s3_server.py"), str(port)]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                cpu_of_server(url)
                break
            except OSError:
                time.sleep(0.1)
        client(url).create_bucket(Bucket="benchmark")
        yield url
    finally:
        process.kill()
        process.wait()


def cpu_of_server(url: str) -> float:
    """Seconds of CPU that the server took until now."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return float(answer.read())


def cpu_of(who: int) -> float:
    """Seconds of CPU, in Python and in the system."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def client(url: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=url)


def of_boto3(recipe: str, store: Store, root: Path, url: str) -> Callable[[], int]:
    """All files, their manifests too, one after another; returns bytes."""
    s3 = client(url)
    files = [
        (store.path(artifact, name), f"plain/{artifact.base}/{name}")
        for artifact in map(store.catalogue.__getitem__, FILES)
        for name in (*store.manifest(artifact).files, artifact.manifest)
    ]

    def upload(path: Path, key: str) -> int:
        s3.upload_file(str(path), "benchmark", key, ExtraArgs={"ChecksumAlgorithm": "SHA256"})
        return path.stat().st_size

    def download(path: Path, key: str) -> int:
        there = root / "downloaded" / key
        there.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file("benchmark", key, str(there))
        return there.stat().st_size

    work = upload if recipe == "upload_file" else download
    return lambda: sum(work(*item) for item in files)


def of_wmtp(recipe: str, store: Store, root: Path, url: str) -> Callable[[], int]:
    """Both artifacts; returns bytes of payload."""
    if recipe == "wmtp pull":
        store = open_store(root / "pulled")
    destination = connect(
        store, Location("s3", "benchmark", PREFIXES.get(recipe, "tree")), Access(endpoint_url=url)
    )
    artifacts = [store.catalogue[key] for key in FILES]

    def fetch() -> int:
        listing = read_listing(destination)
        pulled = [pull(store, artifact, destination, listing) for artifact in artifacts]
        return sum(item.fetched for item in pulled)

    if recipe == "wmtp pull":
        return fetch
    return lambda: publish(store, artifacts, destination).payload


@dataclass(frozen=True)
class Result:
    """What a recipe took.

    Attributes:
        payload: bytes of files that were sent or fetched.
        peak: MB of memory of its process.
        cpu, server: seconds of CPU.
    """

    seconds: float
    payload: int
    peak: float
    cpu: float
    server: float


def run(recipe: str, root: Path, url: str) -> None:
    """Run one recipe in this process; print seconds, bytes of payload, peak memory in MB, and the
    seconds of CPU before the work."""
    base = root / "tensors" if recipe == "of tensors" else root
    work = (of_boto3 if recipe in BOTO3 else of_wmtp)(recipe, open_store(base), root, url)
    before, started = cpu_of(resource.RUSAGE_SELF), time.perf_counter()
    payload = work()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps([seconds, payload, peak, before]))


def measure(recipe: str, root: Path, url: str) -> Result:
    """Run one recipe in a process of its own."""
    command = [sys.executable, __file__, "--root", root, "--url", url, "--run", recipe]
    environment = {**os.environ, **CREDENTIALS}
    client, server = cpu_of(resource.RUSAGE_CHILDREN), cpu_of_server(url)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    cpu = cpu_of(resource.RUSAGE_CHILDREN) - client
    seconds, payload, peak, before = json.loads(done.stdout)
    return Result(seconds, payload, peak, cpu - before, cpu_of_server(url) - server)


def round_of(root: Path, number: int) -> dict[str, Result]:
    """The recipes, boto3's and ours each against a fresh server; whose turn is first changes."""
    results: dict[str, Result] = {}
    for recipes in (BOTO3, WMTP)[:: 1 if number % 2 else -1]:
        for base in (root, root / "tensors"):
            shutil.rmtree(open_store(base).internal / "publish", ignore_errors=True)
        with served() as url:
            for recipe in recipes:
                results[recipe] = measure(recipe, root, url)
        for made in ("downloaded", "pulled"):
            shutil.rmtree(root / made, ignore_errors=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--run", choices=(*BOTO3, *WMTP), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run, arguments.root, arguments.url)
        return
    os.environ.update(CREDENTIALS)
    with tempfile.TemporaryDirectory(prefix="publishing-", dir=Path.cwd()) as folder:
        root = Path(folder)
        print_limits(root)
        generate(root, int(arguments.gigabytes * 1e9))
        generate(root / "tensors", int(arguments.gigabytes * 1e9), in_tensors=True)
        rounds = [round_of(root, number) for number in range(arguments.rounds)]
    print(f"{rounds[0]['upload_file'].payload / 1e9:.2f} GB, medians of {len(rounds)} rounds")
    print(
        f"{'':<14}{'median':>9}{'MB/s':>7}{'x boto3':>9}{'CPU':>9}{'server':>9}{'payload':>15}"
        f"{'peak RSS':>10}"
    )
    missed = []
    for recipe in (*BOTO3, *WMTP):
        results = [row[recipe] for row in rounds]
        seconds, cpu, server = (
            statistics.median(getattr(result, name) for result in results)
            for name in ("seconds", "cpu", "server")
        )
        payload, peak = max(r.payload for r in results), max(r.peak for r in results)
        ratio = ""
        if recipe in LIMITS:
            other, limit = LIMITS[recipe]
            found = statistics.median(row[recipe].seconds / row[other].seconds for row in rounds)
            ratio = f"{found:.2f}"
            missed += [f"{recipe} took {ratio} of {other}, not {limit}"] if found > limit else []
        print(
            f"{recipe:<14}{seconds:>7.2f} s{payload / 1e6 / seconds:>7.0f}{ratio:>9}{cpu:>7.2f} s"
            f"{server:>7.2f} s{payload:>15,}{peak:>7.0f} MB"
        )
    if payload := max(row["again"].payload for row in rounds):
        missed.append(f"{payload:,} bytes were sent again")
    print(f"NOT HELD: {'; '.join(missed)}" if missed else "held")


if __name__ == "__main__":
    main()
