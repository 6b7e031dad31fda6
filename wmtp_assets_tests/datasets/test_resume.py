"""Shards: in any number, in any process, cut off anywhere, the result is the same bytes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.settings import WORKERS_VARIABLE
from wmtp_assets.datasets import parts
from wmtp_assets.datasets.formats import codecontests
from wmtp_assets.datasets.records import load_format
from wmtp_assets.datasets.shard import read_summary
from wmtp_assets.sample.repositories import repository_folder
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.contests import (
    SPLITS,
    commit_raw,
    make,
    problem,
    shard_name,
    shards,
    small_repository,
    table,
)
from wmtp_assets_tests.quick import quick
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, tree

SHARDS = 5
"""Of the small repository."""


# -- however the rows are packed -------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample_tables(sample_folder: Path) -> dict[str, pa.Table]:
    """The rows of each split of the sample."""
    folder = repository_folder(sample_folder, "dataset", "deepmind/code_contests") / "data"
    return {
        split: pa.concat_tables(map(pq.read_table, sorted(folder.glob(f"{split}-*"))))
        for split in SPLITS
    }


def in_shards(tables: dict[str, pa.Table], count: int) -> dict[str, pa.Table]:
    """The rows of train in ``count`` shards, of the other splits in one."""
    train = tables["train"]
    ends = [len(train) * number // count for number in range(count + 1)]
    parts = [train.slice(a, b - a) for a, b in pairwise(ends)]
    return (
        shards("train", *parts) | shards("valid", tables["valid"]) | shards("test", tables["test"])
    )


PACKED: dict[str, tuple[int, int, dict[str, Any]]] = {
    "one shard, one row group": (1, 16, {"compression": "zstd", "row_group_size": 10_000}),
    "seven shards, a row at a time": (7, 1, {"compression": "none", "row_group_size": 1}),
    "odd batches over row groups": (2, 3, {"compression": "gzip", "row_group_size": 5}),
}


@pytest.fixture
def formats_anew() -> Iterator[None]:
    """What a test made of a format is forgotten behind it."""
    yield
    load_format.cache_clear()


@pytest.mark.parametrize("name", quick(PACKED, ["one shard, one row group"]))
@pytest.mark.usefixtures("formats_anew")
def test_bytes_do_not_depend_on_how_upstream_packs_its_rows(
    good_root: Path,
    sample_tables: dict[str, pa.Table],
    bare_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Rows are the input; in other shards tomorrow, they must not become another version.

    The reference has three shards of train, in row groups of four; train is more than one row group
    of the twin.
    """
    count, batch, options = PACKED[name]
    converter = replace(load_format("codecontests"), batch=batch)
    monkeypatch.setattr(codecontests, "FORMAT", converter)
    load_format.cache_clear()
    commit_raw(bare_store, in_shards(sample_tables, count), **options)
    made = make(bare_store)
    reference = Store(replace(bare_store.settings, root=good_root), bare_store.catalogue)
    wanted = reference.manifest(reference.catalogue["codecontests_processed"])
    assert said_of_files(made) == said_of_files(wanted)
    assert made.document["splits"] == wanted.document["splits"]


def said_of_files(manifest: Manifest) -> dict[str, Any]:
    """The files without the schemas, which name the revision."""
    return {name: record for name, record in manifest.files.items() if "schema" not in name}


@pytest.fixture
def side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, however small the shards are."""
    monkeypatch.setattr(parts, "SIDE_BY_SIDE", 0)
    monkeypatch.setenv(WORKERS_VARIABLE, "2")


@pytest.fixture(scope="module")
def wanted(small_store: Store) -> Manifest:
    """What a conversion of the small repository makes that nothing happens to."""
    return small_store.manifest(small_store.catalogue["codecontests_processed"])


@pytest.mark.usefixtures("side_by_side")
def test_two_processes_make_the_same_bytes(contests: Store, wanted: Manifest) -> None:
    """Otherwise the version of a dataset would depend on the machine that made it."""
    said: list[str] = []
    made = make(contests, say=said.append)
    assert f"converting {SHARDS} shards in 2 processes" in said
    assert made.files == wanted.files
    assert multiprocessing.active_children() == []


def test_small_shards_start_no_processes(contests: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two interpreters that import pyarrow take longer than a megabyte of rows."""
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    said: list[str] = []
    make(contests, say=said.append)
    assert not any("processes" in line for line in said)


# -- cut off ---------------------------------------------------------------------------------------

CHILD = """
    import multiprocessing, os, signal, sys
    from pathlib import Path
    from wmtp_assets.base.child import directly
    from wmtp_assets.datasets import parts
    from wmtp_assets.kinds.registry import load_catalogue
    from wmtp_assets.operations.materialize import materialize
    from wmtp_assets.base.settings import Settings
    from wmtp_assets.storage.store import Store

    root, last, side_by_side = sys.argv[1:]
    parts.SIDE_BY_SIDE = int(side_by_side)

    def say(text):
        if f"shard {last} of" in text:
            for child in multiprocessing.active_children():
                print(child.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    store = Store(Settings("sample", Path(root)), load_catalogue())
    materialize(store, store.catalogue["codecontests_processed"], say, run=directly)
"""


def convert_and_die(contests: Store, last: int, *, workers: int = 1) -> str:
    """Convert in another process, which is killed after shard ``last``; gives what it printed.

    Returns when all processes that the killed one had started have ended, too: they hold its
    standard output.
    """
    side_by_side = "0" if workers > 1 else str(1 << 60)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), contests.root, str(last), side_by_side],
        env={**os.environ, WORKERS_VARIABLE: str(workers)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    return done.stdout


def scratch(contests: Store) -> Path:
    return contests.scratch(contests.catalogue["codecontests_processed"])


class Watch:
    """What is in the scratch folder when the last shard has been converted."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.said: list[str] = []
        self.parts: dict[str, Any] = {}

    def __call__(self, text: str) -> None:
        self.said.append(text)
        if f"shard {SHARDS} of {SHARDS}" in text:
            self.parts = tree(scratch(self.store))


def test_killed_conversion_goes_on_with_the_shards_it_lacks(
    contests: Store, wanted: Manifest
) -> None:
    """At full size a conversion takes ten minutes; what is done is not done again.

    A part that was not written again is the same file: inode and content.
    """
    convert_and_die(contests, 2)
    done = tree(scratch(contests))
    assert sum(name.endswith("/summary.json") for name in done) == 2
    watch = Watch(contests)
    made = make(contests, say=watch)
    assert watch.parts.items() >= done.items()
    assert sum(name.endswith("/summary.json") for name in watch.parts) == SHARDS
    assert made.files == wanted.files
    assert not scratch(contests).exists()
    assert tree(contests.internal / "staging") == {}


def truncated(folder: Path) -> None:
    damage(folder / "rows.jsonl", lambda data: data[:-1])


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def rewritten(content: bytes) -> Callable[[Path], None]:
    return lambda folder: damage(folder / "summary.json", lambda data: content)


@pytest.mark.parametrize(
    "change",
    [
        truncated,
        without("lengths"),
        without("rows.arrow"),
        without("summary.json"),
        rewritten(b""),
        rewritten(b"[]"),
        rewritten(b'{"rows": 1}'),
    ],
    ids=["truncated", "a file less", "another", "no summary", "empty", "a list", "of another kind"],
)
def test_part_that_is_not_whole_is_made_again(
    contests: Store, wanted: Manifest, change: Callable[[Path], None]
) -> None:
    """The computer itself went down: what was written last need not have reached the disk."""
    convert_and_die_here(contests, 2)
    first, second = sorted(scratch(contests).iterdir(), key=lambda path: path.stat().st_mtime_ns)
    change(first)
    assert read_summary(first) is None
    good = {name: found for name, found in tree(scratch(contests)).items() if second.name in name}
    watch = Watch(contests)
    assert make(contests, say=watch).files == wanted.files
    assert watch.parts.items() >= good.items()


class _CutOff(Exception):
    pass


def convert_and_die_here(contests: Store, last: int, **spec: Any) -> None:
    """As :func:`convert_and_die`, by an exception: quicker, where it is not about the kill."""

    def say(text: str) -> None:
        if f"shard {last} of" in text:
            raise _CutOff

    with pytest.raises(_CutOff):
        make(respec(contests, "codecontests", **spec), say=say)


def part_names(contests: Store) -> set[str]:
    return {path.name for path in scratch(contests).iterdir()}


@pytest.mark.parametrize("change", [{"max_tokens": 30}, {"public_tests": 0}], ids=str)
def test_parts_of_other_settings_are_not_used(
    contests: Store, wanted: Manifest, change: dict[str, int]
) -> None:
    """They have other rows; and kept forever, they would fill the disk."""
    convert_and_die_here(contests, 2, **change)
    others = part_names(contests)
    watch = Watch(contests)
    assert make(contests, say=watch).files == wanted.files
    assert not {name.split("/")[0] for name in watch.parts} & others


def test_parts_of_other_bytes_are_not_used(contests: Store) -> None:
    """Upstream changed one shard: that one is converted again, the other is not."""
    convert_and_die_here(contests, 2)
    before = tree(scratch(contests))
    name = shard_name("train", 0, 3)
    changed = small_repository() | {
        name: table([problem("a", right=[(3, "print(2)\n")]), problem("b")])
    }
    commit_raw(contests, changed)
    watch = Watch(contests)
    make(contests, say=watch)
    kept = before.items() & watch.parts.items()
    assert len(kept) == len(before) // 2
    rows = contests.path(contests.catalogue["codecontests_processed"], "processed/train.jsonl")
    assert b"print(2)" in rows.read_bytes().splitlines()[0]


def test_parts_with_other_names_are_not_used(contests: Store) -> None:
    """A problem is renamed for what stands in another shard; its own bytes are as before."""
    convert_and_die_here(contests, 2)
    first = table([problem("c", description="Another."), problem("b")])
    commit_raw(contests, small_repository() | {shard_name("train", 0, 3): first})
    assert make(contests).document["renamed_problems"] == ["c#2"]
    rows = contests.path(contests.catalogue["codecontests_processed"], "processed/train.jsonl")
    ids = [json.loads(line)["metadata"]["problem_id"] for line in rows.read_bytes().splitlines()]
    assert [*dict.fromkeys(ids)] == ["c", "b", "c#2", "d", "e", "f"]


def test_file_of_somebody_else_among_the_parts_is_no_obstacle(
    contests: Store, wanted: Manifest
) -> None:
    """A backup program or an editor leaves one there; nothing of it is for keeping."""
    convert_and_die_here(contests, 2)
    (scratch(contests) / ".DS_Store").write_bytes(b"x")
    assert make(contests).files == wanted.files


def test_progress_says_rows_and_time_left_after_each_shard(contests: Store) -> None:
    """Whoever waits for ten minutes wants to know for what."""
    said: list[str] = []
    make(contests, say=said.append)
    lines = [line for line in said if ": shard " in line]
    assert len(lines) == SHARDS
    for number, (line, rows) in enumerate(zip(lines, (4, 8, 12, 14, 16), strict=True), 1):
        begin, rate = line.split(f"): {rows} rows, ")
        split = "train" if number < 4 else SPLITS[number - 3]
        assert begin == f"codecontests_processed: shard {number} of {SHARDS} ({split}"
        assert rate.endswith(" left") and " rows/s, " in rate


# -- several processes -----------------------------------------------------------------------------


@pytest.fixture
def killer() -> Iterator[threading.Thread]:
    """Kills a process of the pool as soon as there are two, which is before they convert."""
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.002):
            children = multiprocessing.active_children()
            if len(children) == 2:
                children[0].kill()
                return

    thread = threading.Thread(target=kill)
    thread.start()
    yield thread
    stop.set()
    thread.join()


@pytest.mark.usefixtures("side_by_side", "killer")
def test_killed_worker_is_an_error_that_says_what_to_do(
    contests: Store, wanted: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel kills the process that is out of memory; waiting for it would last forever."""
    before = tree(contests.root / "datasets_v2")
    with pytest.raises(StoreError) as caught:
        make(contests)
    text = str(caught.value)
    assert ".parquet or a later shard was killed (out of memory?). Run again: " in text
    assert text.endswith(f"{WORKERS_VARIABLE}=1 needs less memory")
    assert multiprocessing.active_children() == []
    assert tree(contests.root / "datasets_v2") == before
    assert tree(contests.internal / "staging") == {}
    monkeypatch.setenv(WORKERS_VARIABLE, "1")
    assert make(contests).files == wanted.files


def test_workers_end_when_their_parent_is_killed(contests: Store, wanted: Manifest) -> None:
    """Orphans would wait for work forever, each with the memory of an interpreter."""
    workers = convert_and_die(contests, 1, workers=2).split()
    assert len(workers) == 2
    assert make(contests).files == wanted.files
