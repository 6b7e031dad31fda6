"""Real artifacts made on a real disk that has too little room for them, by varying amounts.

``test_store.py`` fills a disk with one file; here the builders do it, in whichever phase the room
ends: a lock, a part of the work, a staged file, the manifest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import Table

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import INTERNAL, Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, load_specs
from wmtp_assets.kinds.registry import expand
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.datasets import contests
from wmtp_assets_tests.faults.extent import extent
from wmtp_assets_tests.faults.sweep import SHA256
from wmtp_assets_tests.storage.test_store import bytes_of, in_fresh_process, staging

pytestmark = pytest.mark.faults

AMPLE = 256 << 20
PAGE = 4096
STEPS = extent(3, 30)
"""How many disks are tried between one without any room and one with room for the artifact."""

KEYS = extent(
    (
        "tiny_micro",
        "codecontests_processed",
        "codecontests_stats",
    ),
    (
        "tiny_tokenizer",
        "tiny_safetensors",
        "tiny_bf16",
        "tiny_micro",
        "snapshot",
        "codecontests_processed",
        "codecontests_pairs",
        "codecontests_small",
        "codecontests_stats",
        "codecontests_tests",
    ),
)


def small_store(root: Path) -> Store:
    """An empty root with the specs of a tiny model, its micro model, and CodeContests."""
    (dataset,) = (
        DatasetSpec.model_validate({**spec.model_dump(), "tokenizer": tiny.TOKENIZER})
        for spec in load_specs()
        if isinstance(spec, DatasetSpec) and spec.name == "codecontests"
    )
    model = ModelSpec.model_validate(tiny.META_MODEL)
    specs = [model, tiny.micro_spec(), tiny.SNAPSHOT, dataset]
    return Store(Settings("sample", root), expand(specs))


def commit_upstream(store: Store, generation: int) -> None:
    """Raw files that are others in each generation, so that all made from them is, too."""
    tiny.commit_raw(store, tiny.random_tensors(tiny.params(), seed=generation))
    shards: dict[str, Table] = {}
    for split in contests.SPLITS:
        rows = [problem_of(generation, split, number) for number in range(20)]
        shards |= contests.shards(split, contests.table(rows))
    contests.commit_raw(store, shards)


def problem_of(generation: int, split: str, number: int) -> contests.Row:
    """A problem whose name and solution are those of one generation."""
    program = f"print({generation}, {number})\n" * 20
    return contests.problem(f"{generation}{split}{number}", right=[(contests.PY3, program)])


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def used(disk: Path) -> int:
    return shutil.disk_usage(disk).used


def sizes(store: Store, artifact: Artifact) -> Iterator[int]:
    """Bytes of room: none, then by even steps as much as the artifact has, and on until it fits.

    What is linked to a file of an artifact that it is made from takes none.
    """
    upstream = [store.manifest(store.catalogue[key]).files for key in artifact.upstream]
    linked = {record.sha256 for files in upstream for record in files.values()}
    records = store.manifest(artifact).files.values()
    need = sum(-(-it.size // PAGE) * PAGE for it in records if it.sha256 not in linked) + PAGE
    step = max(need // STEPS // PAGE, 1) * PAGE
    yield from range(0, 10 * need + 100 * PAGE, step)


def make_on_small_disks(store: Store, artifact: Artifact, disk: Path) -> list[str]:
    """Try on disks with more and more room; the messages of those that were too small."""
    before, said = bytes_of(store.folder(artifact)), []
    base = used(disk)
    for room in sizes(store, artifact):
        resize(disk, max(base + room, PAGE))
        try:
            materialize(store, artifact)
        except StoreError as error:
            said.append(str(error))
        else:
            resize(disk, AMPLE)
            assert bytes_of(store.folder(artifact)) != before
            assert apply_rule(SHA256, store, artifact).findings == []
            return said
        assert bytes_of(store.folder(artifact)) == before, room
        assert staging(store) == [], room
        for item in store.catalogue:
            if store.manifest_path(item).exists():
                assert apply_rule(SHA256, store, item).findings == [], room
    raise AssertionError(f"{artifact.key} does not fit on any disk: {said[-1]}")


def fill(disk: Path) -> None:
    """What must hold of each of :data:`KEYS`; run where ``disk`` is one that can be resized."""
    assert shutil.disk_usage(disk).total == AMPLE
    store = small_store(disk / "storage")
    made = [artifact for artifact in store.catalogue if artifact.kind != "raw"]
    commit_upstream(store, 1)
    for artifact in made:
        materialize(store, artifact)
    commit_upstream(store, 2)
    for artifact in made:
        if artifact.key not in KEYS:
            materialize(store, artifact)
            continue
        said = make_on_small_disks(store, artifact, disk)
        print(f"{artifact.key}: {len(said)} disks were too small")
        assert len(said) >= 2, said
        for message in said:
            assert message.startswith(f"no space left for {artifact.key} under {store.root} (")
            assert " free. What is committed is whole; free some space and run again" in message
        assert any(" or more needed for one file: " in message for message in said), said
        assert any(f"{INTERNAL}/" in message for message in said), said


@pytest.fixture
def namespace(tmp_path: Path) -> list[str]:
    """A command before a command: there a filesystem in memory lies at ``disk``, which ends with
    its process."""
    mount = f'mount -t tmpfs -o size={AMPLE} none "$0" && exec "$@"'
    disk = tmp_path / "disk"
    disk.mkdir()
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *own, "--mount", "sh", "-c", mount, str(disk)]
    if shutil.which("unshare") is None:
        pytest.skip("no disk can be mounted here: there is no unshare")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no disk can be mounted here: {tried.stderr.strip()}")
    return command


def test_artifacts_on_disks_that_are_too_small(tmp_path: Path, namespace: list[str]) -> None:
    """The old version stays, whole and verified; the message says what was needed, what is free and
    where; nothing is left staged; and with room enough the same command succeeds."""
    statement = "from wmtp_assets_tests.faults import test_full_disk; test_full_disk.fill(folder)"
    in_fresh_process(statement, tmp_path / "disk", namespace)
