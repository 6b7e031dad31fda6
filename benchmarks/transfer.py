"""Downloads and pulls: how many times as long as hashing the same bytes takes.

``python benchmarks/transfer.py [MB]``. A hub on loopback serves a repository of one large file;
what was downloaded is published to a folder and pulled from there. Each is timed three times, and
the fastest counts, as other processes only add. The source is the disk's cache.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from wmtp_assets.base.settings import Settings
from wmtp_assets.destinations.destination import open_destination
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.publish import publish
from wmtp_assets.operations.pull import pull, read_listing
from wmtp_assets.sample.server import serve
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.store import Store

KEY = "meta_llama_mtp_raw"
REPOSITORY = "models/facebook/multi-token-prediction"


def fastest(work: Callable[[Path], object], folder: Path) -> float:
    """Seconds of the fastest of three runs, each with an empty folder."""
    seconds = []
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        os.sync()
        started = time.perf_counter()
        work(folder)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main(size: int) -> None:
    """Print seconds, and the ratio to hashing."""
    catalogue = load_catalogue()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        upstream = base / "hub" / REPOSITORY
        large = upstream / "7B_1T_4/consolidated.pth"
        large.parent.mkdir(parents=True)
        large.write_bytes(os.urandom(1 << 20) * size)
        (large.parent / "params.json").write_bytes(b"{}")
        (upstream / "tokenizer.model").write_bytes(b"pieces")

        def store_at(root: Path) -> Store:
            return Store(Settings("hub", root), catalogue)

        def download(root: Path) -> None:
            store = store_at(root)
            materialize(store, store.catalogue[KEY], alone=True)

        hashing = fastest(lambda folder: hash_file(large), base / "nothing")
        print(f"hashing {size} MiB: {hashing:.2f} s")
        with serve(base / "hub") as url:
            os.environ["HF_ENDPOINT"] = url
            os.environ["WMTP_LOCK"] = str(base / "wmtp.lock")
            took = fastest(download, base / "storage")
            print(f"download: {took:.2f} s, {took / hashing:.2f} times hashing")
        store = store_at(base / "storage")
        (base / "mounted").mkdir()
        destination = open_destination(store, f"file://{base / 'mounted'}")
        publish(store, [store.catalogue[KEY]], destination)
        listing = read_listing(destination)

        def fetch(root: Path) -> None:
            node = store_at(root)
            pull(node, node.catalogue[KEY], destination, listing)

        took = fastest(fetch, base / "node")
        print(f"pull: {took:.2f} s, {took / hashing:.2f} times hashing")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
