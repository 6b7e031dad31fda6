"""Making artifacts: what is upstream is there and sound, and the same bytes come out every time."""

from __future__ import annotations

import errno
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact, StoreError
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import INTERNAL, Artifact, Catalogue
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations import materialize as module
from wmtp_assets.operations.materialize import check_upstream, materialize
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document, Manifest
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.quick import full_only
from wmtp_assets_tests.trees import damage, flip, link_tree, reseal, tree

KEYS = [artifact.key for artifact in load_catalogue()]
MADE_FROM_SOMETHING = [artifact.key for artifact in load_catalogue() if artifact.upstream]


def remove(store: Store, *keys: str) -> None:
    """Take artifacts away: their manifests, without which nothing else counts."""
    for key in keys:
        store.manifest_path(store.catalogue[key]).unlink()


def needed(catalogue: Catalogue, key: str) -> list[str]:
    """What ``key`` cannot be made without: all of its upstream but what is optional beside it."""
    artifact = catalogue[key]
    return [up for up in artifact.upstream if artifact.optional or not catalogue[up].optional]


def told_command(error: BaseException) -> list[str]:
    """The assets that the message's command names."""
    *_, program, _, verb, option, selection = shlex.split(str(error))
    assert (program, verb, option) == ("dagster", "materialize", "--select")
    return selection.split(",")


# -- what is upstream ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", MADE_FROM_SOMETHING)
def test_missing_upstream(empty_store: Store, key: str) -> None:
    """What is missing, where it was looked for, and what to type; and nothing is written."""
    artifact = empty_store.catalogue[key]
    with pytest.raises(MissingArtifact) as error:
        materialize(empty_store, artifact)
    for upstream in artifact.upstream:
        path = empty_store.manifest_path(empty_store.catalogue[upstream])
        is_named = f"{upstream} (looked for {path})" in str(error.value)
        assert is_named == (upstream in needed(empty_store.catalogue, key))
    assert not empty_store.root.exists()


def is_all_wanted(catalogue: Catalogue, key: str, selected: list[str]) -> bool:
    """Whether everything selected is ``key``, or something that it is made from."""
    wanted = {key}
    for item in reversed(KEYS):
        if item in wanted:
            wanted |= {*needed(catalogue, item)}
    return wanted == {*selected}


@pytest.mark.parametrize("key", MADE_FROM_SOMETHING)
def test_told_command_makes_all_that_is_missing(empty_store: Store, key: str) -> None:
    """It once named one layer only: a newcomer's second command failed as the first one had."""
    catalogue = empty_store.catalogue
    with pytest.raises(MissingArtifact) as error:
        check_upstream(empty_store, catalogue[key])
    selected = told_command(error.value)
    assert selected[-1] == key
    for index, item in enumerate(selected):
        assert set(needed(catalogue, item)) <= set(selected[:index])
    assert is_all_wanted(catalogue, key, selected)


def test_told_command_makes_nothing_that_is_there(store: Store) -> None:
    """50 GB are not downloaded again because a tokenizer is missing; and the command works."""
    remove(store, "meta_llama_mtp_tokenizer", "humaneval_processed")
    artifact = store.catalogue["humaneval_stats"]
    with pytest.raises(MissingArtifact) as error:
        materialize(store, artifact)
    assert "meta_llama_mtp_raw" not in str(error.value)
    selected = told_command(error.value)
    assert selected == ["meta_llama_mtp_tokenizer", "humaneval_processed", "humaneval_stats"]
    for key in selected:
        materialize(store, store.catalogue[key])
    assert check_upstream(store, artifact)


def test_dagster_reads_the_told_command_as_meant(empty_store: Store) -> None:
    """Dagster's selection language has changed before; a list of keys means those keys."""
    import dagster as dg

    from wmtp_assets.definitions import defs

    with pytest.raises(MissingArtifact) as error:
        materialize(empty_store, empty_store.catalogue["micro_mtp"])
    selected = told_command(error.value)
    graph = defs().resolve_asset_graph()
    found = dg.AssetSelection.from_coercible(selected).resolve(graph)
    assert {key.to_user_string() for key in found} == set(selected)
    assert selected == [
        "meta_llama_mtp_raw",
        "meta_llama_mtp_tokenizer",
        "meta_llama_mtp_safetensors",
        "micro_mtp",
    ]


def test_optional_artifacts_are_asked_for_by_name_only() -> None:
    """13 GB more for a variant, 27 for a reward model: nothing else may ask for them."""
    catalogue = load_catalogue()
    optional = {item.key for item in catalogue if item.optional}
    assert "meta_llama_mtp_bf16" in optional
    assert {f"starling_rm_{part}" for part in ("raw", "tokenizer", "safetensors")} <= optional
    for item in catalogue:
        if not item.optional:
            assert not optional & {*needed(catalogue, item.key)}


def test_snapshot_is_made_without_what_is_optional(store: Store) -> None:
    """It holds what is there; its lineage names no more than that."""
    artifact = store.catalogue["parameter_snapshot"]
    optional = [key for key in artifact.upstream if store.catalogue[key].optional]
    assert {*optional} == {
        "meta_llama_mtp_bf16",
        "starling_rm_safetensors",
        "micro_mtp_untied",
        "micro_ref_untied",
    }
    before = store.manifest(artifact)
    remove(store, *optional)
    after = materialize(store, artifact)
    assert after.document["upstream"].keys() == {*artifact.upstream} - {*optional}
    assert after.content_sha256 != before.content_sha256
    remove(store, "micro_ref")
    with pytest.raises(MissingArtifact, match=r"made from artifacts that are not there: micro_ref"):
        materialize(store, artifact)


def test_told_command_of_the_tests(empty_store: Store) -> None:
    """They are upstream's own: neither the conversion nor a tokenizer is made for them."""
    with pytest.raises(MissingArtifact) as error:
        materialize(empty_store, empty_store.catalogue["codecontests_tests"])
    assert told_command(error.value) == ["codecontests_raw", "codecontests_tests"]
    with pytest.raises(MissingArtifact) as error:
        materialize(empty_store, empty_store.catalogue["codecontests_stats"])
    assert told_command(error.value) == [
        "meta_llama_mtp_raw",
        "meta_llama_mtp_tokenizer",
        "codecontests_raw",
        "codecontests_processed",
        "codecontests_stats",
    ]


def test_optional_model_is_made_with_all_it_needs(store: Store) -> None:
    """Its tokenizer is another model's, which has to be there first; the command works."""
    remove(store, "starling_rm_raw", "starling_rm_tokenizer", "meta_llama_mtp_tokenizer")
    artifact = store.catalogue["starling_rm_safetensors"]
    with pytest.raises(MissingArtifact) as error:
        materialize(store, artifact)
    assert told_command(error.value) == [
        "meta_llama_mtp_tokenizer",
        "starling_rm_raw",
        "starling_rm_tokenizer",
        "starling_rm_safetensors",
    ]
    for key in told_command(error.value):
        materialize(store, store.catalogue[key])


@pytest.mark.parametrize("offset", [5, -5])
@pytest.mark.parametrize(
    ("key", "upstream"),
    [
        ("meta_llama_mtp_tokenizer", "meta_llama_mtp_raw"),
        ("micro_mtp", "meta_llama_mtp_safetensors"),
        ("micro_ref", "ref_sheared_llama_tokenizer"),
        ("starling_rm_tokenizer", "meta_llama_mtp_tokenizer"),
        ("meta_llama_mtp_bf16", "meta_llama_mtp_raw"),
        ("parameter_snapshot", "starling_rm_safetensors"),
        ("humaneval_small", "humaneval_processed"),
        ("codecontests_stats", "codecontests_processed"),
        ("codecontests_tests", "codecontests_raw"),
    ],
)
def test_damaged_manifest_upstream(store: Store, key: str, upstream: str, offset: int) -> None:
    """A changed manifest vouches for nothing: what hangs on it is not made, what is there stays."""
    artifact = store.catalogue[key]
    path = store.manifest_path(store.catalogue[upstream])
    damage(path, flip(offset))
    before = tree(store.folder(artifact))
    with pytest.raises(CorruptArtifact, match=r"metadata\.json: ") as error:
        materialize(store, artifact)
    assert str(error.value).startswith(str(path))
    assert tree(store.folder(artifact)) == before
    assert not list((store.internal / "staging").glob("*"))


@pytest.mark.parametrize("key", MADE_FROM_SOMETHING)
def test_lineage_is_recorded(store: Store, key: str) -> None:
    """Which version of what it was made from: an artifact tells it without Dagster."""
    artifact = store.catalogue[key]
    document = store.manifest(artifact).document
    assert document["asset"] == key
    assert document["kind"] == artifact.kind
    assert document["upstream"] == {
        upstream: store.manifest(store.catalogue[upstream]).content_sha256
        for upstream in artifact.upstream
    }


def test_upstream_that_changes_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it may have been made from the old version and half from the new one."""
    artifact = store.catalogue["humaneval_small"]
    processed = store.catalogue["humaneval_processed"]
    real = module._build

    def build(build: Build, *others: Any) -> Document:
        document = real(build, *others)
        path = store.path(processed, "processed/test.jsonl")
        damage(path, lambda data: data.replace(b"the", b"THE"))
        reseal(store, processed)
        return document

    before = tree(store.folder(artifact))
    with monkeypatch.context() as patch:
        patch.setattr(module, "_build", build)
        with pytest.raises(StoreError, match="committed again") as error:
            materialize(store, artifact)
    assert told_command(error.value) == ["humaneval_small"]
    assert tree(store.folder(artifact)) == before
    upstream = materialize(store, artifact).document["upstream"]
    assert upstream == {"humaneval_processed": store.manifest(processed).content_sha256}


@pytest.mark.parametrize("key", ["meta_llama_mtp_tokenizer", "humaneval_small"])
def test_swap_of_upstream_that_was_cut_off(store: Store, key: str) -> None:
    """Where folders cannot be exchanged, a killed commit leaves upstream aside, not lost."""
    artifact = store.catalogue[key]
    folder = store.folder(store.catalogue[artifact.upstream[0]])
    before = {name: record for name, (_, record) in tree(folder).items()}
    folder.rename(folder.with_name(f"{folder.name}.wmtp-old"))
    assert not folder.exists()
    materialize(store, artifact)
    assert {name: record for name, (_, record) in tree(folder).items()} == before


@pytest.mark.parametrize("key", ["codecontests_raw", "codecontests_processed"])
def test_neighbours_in_one_folder_are_left_alone(store: Store, key: str) -> None:
    """raw/, processed/ and index/ are exchanged with the folder that pairs/, stats/ and tests/ lie
    in: those stay the files they are, 15 GB of them."""
    artifact = store.catalogue[key]
    before = tree(store.folder(artifact))
    materialize(store, artifact)
    after = tree(store.folder(artifact))
    assert {name: record for name, (_, record) in after.items()} == {
        name: record for name, (_, record) in before.items()
    }
    kept = [name for name in before if not artifact.is_owner(name)]
    folders = {name.split("/")[0] for name in kept}
    assert {"pairs", "stats", "tests"} < folders
    for name in kept:
        assert after[name] == before[name]


# -- what was done before it was cut off ----------------------------------------------------------


def interrupt(build: Build) -> Document:
    raise KeyboardInterrupt


def fill_the_disk(build: Build) -> Document:
    raise OSError(errno.ENOSPC, "No space left on device", "rows")


def find_bad_rows(build: Build) -> Document:
    raise InvalidInput("row 7")


def stage_a_strangers_file(build: Build) -> Document:
    build.staged.write("tests/train_tests.json", b"{}")
    return {}


@pytest.mark.parametrize(
    ("stop", "error"),
    [
        (interrupt, KeyboardInterrupt),
        (fill_the_disk, StoreError),
        (find_bad_rows, InvalidInput),
        (stage_a_strangers_file, ValueError),
    ],
)
def test_scratch_is_kept_until_the_commit(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    stop: Callable[[Build], Document],
    error: type[BaseException],
) -> None:
    """Hours of conversion are not lost with the run, and do not fill the disk once it is done."""
    artifact = store.catalogue["humaneval_processed"]
    scratch = store.scratch(artifact)
    before = tree(store.root / "datasets_v2")

    def build(build: Build, *others: Any) -> Document:
        assert build.scratch == scratch
        (scratch / "part").mkdir(parents=True, exist_ok=True)
        (scratch / "part/rows.jsonl").write_bytes(b"hours of work")
        (scratch / ".DS_Store").write_bytes(b"somebody looked in with a file manager")
        return stop(build)

    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(module, "_build", build)
            materialize(store, artifact)
        assert (scratch / "part/rows.jsonl").read_bytes() == b"hours of work"
        assert not list((store.internal / "staging").iterdir())
    assert tree(store.root / "datasets_v2") == before
    materialize(store, store.catalogue["codecontests_tests"])
    assert (scratch / "part/rows.jsonl").is_file()
    materialize(store, artifact)
    assert not scratch.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.base.settings import Settings
from wmtp_assets.storage.store import Store

def say(line):
    if "shard 3 of 5" in line:
        os.kill(os.getpid(), signal.SIGKILL)

store = Store(Settings("sample", Path(sys.argv[1])), load_catalogue())
materialize(store, store.catalogue["codecontests_processed"], say)
"""


def test_killed_conversion_goes_on(store: Store) -> None:
    """After three of five shards there is nothing of them among the artifacts, and all of them for
    the next run, which commits the same bytes and leaves nothing behind."""
    artifact = store.catalogue["codecontests_processed"]
    before = tree(store.root / "datasets_v2")
    version = store.manifest(artifact).content_sha256
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(store.root)], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert tree(store.root / "datasets_v2") == before
    parts = tree(store.scratch(artifact))
    summaries = [name for name in parts if name.endswith("/summary.json")]
    assert len(summaries) == 3

    kept: list[bool] = []

    def say(line: str) -> None:
        if "shard 5 of 5" in line:
            now = tree(store.scratch(artifact))
            kept.append(all(now.get(name) == record for name, record in parts.items()))

    assert materialize(store, artifact, say).content_sha256 == version
    assert kept == [True]
    assert not store.scratch(artifact).exists()
    assert not list((store.internal / "staging").iterdir())


# -- the same bytes ------------------------------------------------------------------------------


def everything(store: Store) -> dict[str, Manifest]:
    return {artifact.key: store.manifest(artifact) for artifact in store.catalogue}


def manifests(store: Store) -> dict[str, bytes]:
    return {item.key: store.manifest_path(item).read_bytes() for item in store.catalogue}


@full_only
def test_everything_made_twice_is_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A re-run that changes nothing makes nothing downstream stale, on any later day.

    The manifests are the same files byte for byte, ``created_at`` included.
    """
    before = manifests(store)
    versions = {key: item.content_sha256 for key, item in everything(store).items()}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "4102444800")
    for artifact in store.catalogue:
        assert materialize(store, artifact).content_sha256 == versions[artifact.key]
    assert manifests(store) == before
    for artifact in store.catalogue:
        for name in store.manifest(artifact).files:
            store.verify_file(artifact, name)


@pytest.fixture(scope="module")
def dated_root(
    sample_folder: Path, good_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A root made from nothing under ``SOURCE_DATE_EPOCH``."""
    root = tmp_path_factory.mktemp("dated") / "storage"
    link_tree(sample_folder, root / INTERNAL / "hub")
    store = Store(Settings("sample", root), load_catalogue())
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1769860800")
        for artifact in store.catalogue:
            materialize(store, artifact)
    return root


@full_only
@pytest.mark.parametrize("key", KEYS)
def test_everything_made_elsewhere_is_the_same(good_root: Path, dated_root: Path, key: str) -> None:
    """Another machine, another day, an empty root: the version is that of the content alone."""
    artifact = load_catalogue()[key]
    one, two = (
        Store(Settings("sample", root), load_catalogue()).manifest(artifact)
        for root in (good_root, dated_root)
    )
    assert one.document["created_at"] != two.document["created_at"]
    if artifact.kind == "stats":  # its file is named after the day
        assert list(two.files) == ["2026-01-31_summary.json"]
        assert list(one.files.values()) == list(two.files.values())
    elif key == "completion_report":  # it tells the days, and what is approved is their hash too
        first, second = (
            (root / "docs/phase1_completion_report.md").read_bytes().split(b"\n## Approvals\n")[0]
            for root in (good_root, dated_root)
        )
        assert second == first.replace(b"| 2025-11-13 | **", b"| 2026-01-31 | **")
    else:
        assert one.content_sha256 == two.content_sha256
        assert one.files == two.files


@full_only
@pytest.mark.parametrize("key", KEYS)
def test_date_can_be_set(dated_root: Path, key: str) -> None:
    """With ``SOURCE_DATE_EPOCH`` not even the manifest differs between two machines."""
    store = Store(Settings("sample", dated_root), load_catalogue())
    document = store.manifest(store.catalogue[key]).document
    assert document["created_at"] == "2026-01-31T12:00:00Z"


def test_what_is_made_is_said(store: Store) -> None:
    """Long work speaks; the lines come to whoever asked for it."""
    said: list[str] = []
    materialize(store, store.catalogue["humaneval_processed"], said.append)
    assert said[0].startswith("verifying humaneval_raw: ")
    assert said[-1].startswith("humaneval_processed: shard 1 of 1 (test): 164 rows, ")
    assert said[-1].endswith(" rows/s, 0 s left")


def test_artifact_of_the_other_source(store: Store) -> None:
    """A sample's upstream under the hub's name: nothing is made from it, nothing is changed."""
    hub = Store(Settings("hub", store.root), store.catalogue)
    artifact: Artifact = hub.catalogue["humaneval_small"]
    before = tree(store.root)
    with pytest.raises(StoreError, match="holds artifacts of the source 'sample'"):
        materialize(hub, artifact)
    assert tree(store.root) == before
