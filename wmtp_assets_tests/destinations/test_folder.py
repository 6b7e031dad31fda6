"""A mounted folder: what is published there, and what is left when it fails."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from io import FileIO
from pathlib import Path, PurePath
from typing import Any, NoReturn

import pytest

from wmtp_assets.base.errors import PublishError, WrongRoot
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.destinations import destination as destinations
from wmtp_assets.destinations import file as module
from wmtp_assets.destinations import sending as publishing
from wmtp_assets.destinations.changes import is_newer
from wmtp_assets.destinations.destination import Stopped, open_destination
from wmtp_assets.destinations.file import NEXT, Folder
from wmtp_assets.destinations.listing import MANIFEST, Outgoing, SentFile, parse_listing
from wmtp_assets.destinations.s3 import S3
from wmtp_assets.kinds.registry import expand
from wmtp_assets.operations import publish as selection
from wmtp_assets.operations.publish import Options, plan_publication, publish
from wmtp_assets.storage import exchange as exchange_module
from wmtp_assets.storage import mounts
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.publications import publications
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.base.test_child import wait_until
from wmtp_assets_tests.destinations.conftest import PART
from wmtp_assets_tests.destinations.trees import (
    CATALOGUE,
    DATASET,
    LARGE,
    MODEL,
    OTHER,
    RELEASE,
    ROWS,
    STAGING,
    at,
    commit,
    files_below,
    make_store,
    random_bytes,
    release,
)
from wmtp_assets_tests.storage.filesystems import Lack, play
from wmtp_assets_tests.storage.test_linked import REFUSALS, Refuse, refuse_exchange, refuse_links
from wmtp_assets_tests.trees import damage, flip, tree

FILE = SentFile(size=1, sha256="0" * 64, part_size=1, composite=f"{'A' * 43}=-1")


def publish_all(store: Store, mounted: Path, owner: str = "", **options: Any) -> Folder:
    """Publish to a folder; the destination, which says how much was sent."""
    destination = at(mounted, owner, PART)
    publish(store, None, destination, Options(**options))
    return destination


def states(store: Store, mounted: Path) -> dict[str, int]:
    """State → number of files of a plan."""
    plan = plan_publication(store, None, at(mounted, part_size=PART))
    return {state: count["files"] for state, count in plan.count().items() if count["files"]}


def test_same_layout_and_a_manifest(tree_store: Store, mounted: Path) -> None:
    """The cluster mounts the folder and opens the paths that it opens everywhere."""
    publish_all(tree_store, mounted)
    there = files_below(mounted)
    data = there.pop(MANIFEST)
    assert there == files_below(tree_store.root)
    listing = parse_listing(data, "")
    assert listing.files.keys() == there.keys()
    assert {path: file.record for path, file in listing.files.items()} == {
        path: hash_file(tree_store.root / path) for path in there
    }
    assert listing.files[LARGE].composite.endswith("=-3")
    assert listing.artifacts.keys() == {MODEL, DATASET}
    assert not (mounted / STAGING).exists()


def test_second_publication_sends_and_writes_nothing(tree_store: Store, mounted: Path) -> None:
    """Not even MANIFEST.json: who watches it sees a publication only where there is one."""
    publish_all(tree_store, mounted)
    before = tree(mounted)
    again = publish_all(tree_store, mounted, how="full")
    assert again.payload == 0
    assert tree(mounted) == before


def test_only_what_changed_is_sent(tree_store: Store, mounted: Path) -> None:
    """A new generation of one artifact costs its own bytes, not those of all."""
    publish_all(tree_store, mounted)
    commit(tree_store, DATASET, {"raw/data.parquet": b"new", "raw/LICENSE": b"MIT\n"})
    assert states(tree_store, mounted) == {"same": 4, "changed": 2}
    again = publish_all(tree_store, mounted)
    manifest = tree_store.manifest_path(tree_store.catalogue[DATASET])
    assert again.payload == 3 + manifest.stat().st_size
    assert (mounted / ROWS).read_bytes() == b"new"


def test_nothing_is_deleted_unless_asked_for(tree_store: Store, mounted: Path) -> None:
    """Another experiment may still read it; and files of others are never ours to delete, with
    --delete either."""
    publish_all(tree_store, mounted)
    (mounted / "models_v2/notes.txt").write_text("somebody's")
    commit(tree_store, DATASET, {"raw/data.parquet": b"new"})
    licence = mounted / "datasets_v2/humaneval/raw/LICENSE"
    publish_all(tree_store, mounted)
    assert licence.read_bytes() == b"MIT\n"
    listing = parse_listing((mounted / MANIFEST).read_bytes(), "")
    assert listing.retired.keys() == {"datasets_v2/humaneval/raw/LICENSE"}
    publish_all(tree_store, mounted, delete=True)
    assert not licence.exists()
    assert (mounted / "models_v2/notes.txt").exists()
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").retired == {}


def without(store: Store, key: str) -> Store:
    """The store of a checkout whose catalogue does not have an artifact any more."""
    gone = store.catalogue[key].spec
    return Store(store.settings, expand([s for s in CATALOGUE.specs if s is not gone]))


def test_what_this_checkout_does_not_know_stays_published(tree_store: Store, mounted: Path) -> None:
    """Somebody with an older checkout published, and the model that a colleague had added was no
    longer published; with --delete its only copy there was removed. It is said, and stays."""
    publish_all(tree_store, mounted)
    older = without(tree_store, DATASET)
    said: list[str] = []
    done = publish(older, None, at(mounted), Options(delete=True), say=said.append)
    assert done.deleted == ()
    assert any(f"and kept as it is: {DATASET}. To publish it no longer" in line for line in said)
    assert torn(mounted) == []
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").artifacts.keys() == {MODEL, DATASET}


def test_what_is_dropped_lies_there_until_it_is_deleted(tree_store: Store, mounted: Path) -> None:
    """By its key only, known here or not; with what else is published, or alone."""
    publish_all(tree_store, mounted)
    older = without(tree_store, DATASET)
    refused(older, mounted, "nobody cannot be dropped: it is not published at", drop=("nobody",))
    publish(older, [], at(mounted), Options(drop=(DATASET,)))
    assert (mounted / ROWS).exists()
    listing = parse_listing((mounted / MANIFEST).read_bytes(), "")
    assert listing.artifacts.keys() == {MODEL}
    assert ROWS in listing.retired
    publish(tree_store, None, at(mounted))
    done = publish(tree_store, None, at(mounted), Options(drop=(DATASET,), delete=True))
    assert ROWS in done.as_json()["deleted"]
    assert done.as_json()["dropped"] == [DATASET]
    assert not (mounted / "datasets_v2").exists()
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").artifacts.keys() == {MODEL}


def test_what_is_not_here_stays_published(tree_store: Store, mounted: Path, tmp_path: Path) -> None:
    """A machine that has less publishes what it has, and unpublishes nothing, with --delete
    either; it says what it kept."""
    publish_all(tree_store, mounted)
    less = Store(Settings("sample", tmp_path / "less"), CATALOGUE)
    commit(less, OTHER, {"raw/rows": b"rows"})
    said: list[str] = []
    done = publish(less, None, at(mounted), Options(delete=True), say=said.append)
    assert done.deleted == ()
    assert any(f"kept as it is: {DATASET}, {MODEL}" in line for line in said), said
    there = parse_listing((mounted / MANIFEST).read_bytes(), "")
    assert there.artifacts.keys() == {MODEL, DATASET, OTHER}
    assert there.retired == {}
    assert torn(mounted) == []


def test_what_somebody_wrote_over_is_not_deleted(tree_store: Store, mounted: Path) -> None:
    """It is not the file that was published; nor is it counted as ours from then on."""
    publish_all(tree_store, mounted)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": b"x"})
    written = mounted / "models_v2/meta-llama-mtp/raw/empty"
    written.write_bytes(b"written later by a person")
    said: list[str] = []
    done = publish(tree_store, None, at(mounted), Options(delete=True), say=said.append)
    assert done.deleted == ()
    assert written.read_bytes() == b"written later by a person"
    assert any("counts as ours no longer" in line for line in said)
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").retired == {}


def test_local_small_only_when_asked_for(tree_store: Store, mounted: Path) -> None:
    """Small splits and micro models are for tests on one machine."""
    commit(tree_store, "mbpp_small", {"train.jsonl": b""})
    commit(tree_store, "micro_mtp", {"safetensors/model.safetensors": b"x"})
    keys = {local.artifact.key for local in plan_publication(tree_store, None, at(mounted)).locals}
    assert keys == {MODEL, DATASET}
    plan = plan_publication(tree_store, None, at(mounted), Options(include_local_small=True))
    assert {local.artifact.key for local in plan.locals} - keys == {"mbpp_small", "micro_mtp"}


def test_damaged_file_there_is_sent_again(tree_store: Store, mounted: Path) -> None:
    """The manifest alone is not a reason to skip a file; nor is its size."""
    publish_all(tree_store, mounted)
    damage(mounted / LARGE, flip(1_500_000))
    assert states(tree_store, mounted) == {"same": 5, "damaged": 1}
    assert publish_all(tree_store, mounted).payload == 3_000_000
    assert (mounted / LARGE).read_bytes() == (tree_store.root / LARGE).read_bytes()


def test_by_size_a_flipped_bit_is_not_seen(tree_store: Store, mounted: Path) -> None:
    """What --verify=size buys and costs; a shorter file is seen."""
    publish_all(tree_store, mounted)
    damage(mounted / LARGE, flip(1))
    assert publish_all(tree_store, mounted, how="size").payload == 0
    damage(mounted / LARGE, lambda data: data[:-1])
    assert publish_all(tree_store, mounted, how="size").payload == 3_000_000


# -- refused before the first byte -----------------------------------------------------------------


def refused(store: Store, mounted: Path, message: str, **options: Any) -> None:
    """The publication is refused with a message on one line, and nothing there was touched."""

    def theirs() -> object:
        return {name: row for name, row in tree(mounted).items() if not name.startswith(".wmtp/")}

    before = theirs()
    with pytest.raises(PublishError) as error:
        publish_all(store, mounted, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert theirs() == before


def test_artifact_that_fails_a_rule(tree_store: Store, mounted: Path) -> None:
    """The rule is applied now, whatever is remembered of it."""
    damage(tree_store.root / ROWS, flip(5))
    refused(tree_store, mounted, f"{DATASET} does not pass the rule sha256: ")
    assert files_below(mounted) == {}


def test_older_release_does_not_replace_a_newer_one(tree_store: Store, mounted: Path) -> None:
    """Two machines publish to one place; the one that was forgotten must not win."""
    publish_all(release(tree_store, "v2.10.0"), mounted)
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").release == "v2.10.0"
    older = release(tree_store, "v2.9.1")
    refused(older, mounted, "holds release v2.10.0, and here is release v2.9.1: it would go back")
    publish_all(older, mounted, downgrade=True)
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").release == "v2.9.1"


def test_newer_artifact_of_a_tree_that_was_not_released_anew(
    tree_store: Store, mounted: Path, tmp_path: Path
) -> None:
    """One artifact of release 3 was published into a tree of release 1: the machine that has 1 put
    its older one in that place, as the tree's release was still 1."""
    older = release(tree_store, "v1.0.0")
    publish_all(older, mounted)
    newer = make_store(tmp_path / "newer")
    commit(newer, DATASET, {"raw/data.parquet": b"newer", "raw/LICENSE": b"MIT\n"})
    newer = release(newer, "v3.0.0")
    publish(newer, [newer.catalogue[DATASET]], at(mounted))
    listing = parse_listing((mounted / MANIFEST).read_bytes(), "")
    assert listing.release == "v1.0.0"
    assert {key: item.release for key, item in listing.artifacts.items()} == {
        MODEL: "v1.0.0",
        DATASET: "v3.0.0",
        RELEASE: "v1.0.0",
    }
    refused(older, mounted, "holds release v3.0.0, and here is release v1.0.0: it would go back")
    publish(older, [older.catalogue[MODEL]], at(mounted))
    publish_all(older, mounted, downgrade=True)
    assert publish_all(older, mounted).payload == 0


def test_equal_content_stays_of_the_newer_release(
    tree_store: Store, mounted: Path, tmp_path: Path
) -> None:
    """A machine with an older release and the same bytes lowers nothing, unless it is told to."""
    older = release(tree_store, "v1.0.0")
    newer = release(make_store(tmp_path / "newer"), "v3.0.0")

    def of(store: Store, **options: Any) -> str | None:
        publish(store, [store.catalogue[DATASET]], at(mounted), Options(**options))
        listing = parse_listing((mounted / MANIFEST).read_bytes(), "")
        return listing.artifacts[DATASET].release

    assert of(older) == "v1.0.0"
    assert of(newer) == "v3.0.0"
    assert of(older) == "v3.0.0"
    assert of(older, downgrade=True) == "v1.0.0"


def test_release_is_published_only_with_its_document(tree_store: Store, mounted: Path) -> None:
    """A selection of a released tree is not a release: another machine was refused because of one
    of which no RELEASE.json was there. When the document is dropped, nor is it one any more."""
    released = release(tree_store, "v2.0.0")
    publish(released, [released.catalogue[DATASET]], at(mounted))
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").release is None
    publish_all(released, mounted)
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").release == "v2.0.0"
    publish(released, [], at(mounted), Options(drop=(RELEASE,)))
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").release is None


def test_release_after_its_candidates(tree_store: Store, mounted: Path) -> None:
    """A suffix leads to a release, it is not one more number."""
    publish_all(release(tree_store, "v2.0.0-rc9"), mounted)
    publish_all(release(tree_store, "v2.0.0-rc10"), mounted)
    publish_all(release(tree_store, "v2.0.0"), mounted)
    refused(release(tree_store, "v2.0.0-rc11"), mounted, "here is release v2.0.0-rc11")


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("v2.9.1", "v2.10.0"),
        ("v2.0.0-rc9", "v2.0.0-rc10"),
        ("v2.0.0-alpha.2", "v2.0.0-beta.1"),
        ("v2.0.0-rc1", "v2.0.0"),
        ("v2.0.0", "v2.0.1-rc1"),
        ("v2.0", "v2.0.1"),
    ],
)
def test_order_of_versions(older: str, newer: str) -> None:
    """Numbers as numbers, candidates before what they lead to."""
    assert is_newer(newer, older)
    assert not is_newer(older, newer)
    assert not is_newer(newer, newer)
    assert not is_newer(f"{newer}+build.7", newer)


def test_file_that_is_too_large_for_the_destination(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 takes 5 TiB: said before the first byte, not behind them."""
    monkeypatch.setattr(Folder, "largest", 2_999_999)
    refused(tree_store, mounted, "takes no file of more than 3.0 MB. Nothing was sent")
    assert S3.largest == 5 * 2**40


def test_nothing_released_does_not_replace_a_release(
    tree_store: Store, mounted: Path, tmp_path: Path
) -> None:
    """Nor does a tree that never was released."""
    publish_all(release(tree_store, "v2.0.0"), mounted)
    refused(make_store(tmp_path / "other", 10), mounted, "here is nothing released")


def test_other_source(tree_store: Store, mounted: Path) -> None:
    """The sample must never be taken for the real models."""
    publish_all(tree_store, mounted)
    document = parse_listing((mounted / MANIFEST).read_bytes(), "")
    data = document.model_copy(update={"source": "hub"}).render()
    (mounted / MANIFEST).write_bytes(data)
    refused(tree_store, mounted, "holds artifacts of the source 'hub'")


@pytest.mark.parametrize(
    "name",
    [
        "models_v2/Meta-Llama-MTP/raw/empty",
        "MODELS_V2",
        "models_v2/meta-llama-mtp/raw/empty/file",
        "models_v2/meta-llama-mtp/raw.METADATA.json",
        "manifest.json",
    ],
)
def test_name_that_differs_in_case_only(tree_store: Store, mounted: Path, name: str) -> None:
    """On a filesystem that takes both for one, one file would be overwritten by the other."""
    (mounted / name).parent.mkdir(parents=True, exist_ok=True)
    (mounted / name).write_bytes(b"somebody's")
    refused(tree_store, mounted, "would be one file, or one inside the other")


def test_name_that_another_published_artifact_has(tree_store: Store, mounted: Path) -> None:
    """It need not lie there any more to be in the way: the other artifact is published."""
    publish(tree_store, [tree_store.catalogue[MODEL]], at(mounted))
    listing = parse_listing((mounted / MANIFEST).read_bytes(), "")
    theirs = listing.artifacts[MODEL].model_copy(update={"files": {ROWS.upper(): FILE}})
    changed = listing.model_copy(update={"artifacts": {**listing.artifacts, "their_raw": theirs}})
    (mounted / MANIFEST).write_bytes(changed.render())
    refused(tree_store, mounted, "would be one file, or one inside the other")


def test_names_of_others_are_shown_as_text(tree_store: Store, mounted: Path) -> None:
    """Whoever may write there names files as he likes: a terminal gets no commands of his."""
    folder = mounted / "models_v2/meta-llama-mtp/raw/empty"
    folder.mkdir(parents=True)
    (folder / "x\x1b[31m\nwmtp: all is well").write_bytes(b"")
    with pytest.raises(PublishError, match="would be one file, or one inside the other") as error:
        publish_all(tree_store, mounted)
    assert "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)


def test_file_of_somebody_else_in_a_place_of_ours(tree_store: Store, mounted: Path) -> None:
    """None of our manifests names it: it is not replaced, unless asked for; one that is the same is
    taken as it is."""
    store = release(tree_store, "v2.0.0")
    (mounted / ROWS).parent.mkdir(parents=True)
    (mounted / ROWS).write_bytes(random_bytes(50_000, 2))
    (mounted / "RELEASE.json").write_text("somebody's")
    refused(store, mounted, "RELEASE.json at file://")
    refused(store, mounted, "or replace what lies there with --overwrite")
    size = sum(map(len, files_below(store.root).values()))
    assert publish_all(store, mounted, overwrite=True).payload == size - 50_000
    assert torn(mounted) == []


@pytest.mark.parametrize("above", [0, 1, 2])
def test_staging_folder_that_is_a_link(
    tree_store: Store, mounted: Path, tmp_path: Path, above: int
) -> None:
    """What it leads to is not ours to write, nor to tidy up."""
    thesis = tmp_path / "home/sub/thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("x")
    os.utime(thesis, (1, 1))
    staging = at(mounted).staging
    place = (staging, *staging.parents)[above]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(tmp_path / "home")
    with pytest.raises(PublishError, match="is a link or a file, and should be a folder"):
        publish_all(tree_store, mounted)
    assert files_below(tmp_path / "home") == {"sub/thesis.tex": b"x"}
    assert MANIFEST not in files_below(mounted)


def test_only_what_was_staged_is_tidied_up(tree_store: Store, mounted: Path) -> None:
    """A commit in that root stages beside publications, and a link leads elsewhere: both stay."""
    old = at(mounted, "another").staging / ("a" * 64)
    commits = at(mounted).staging.parent / "meta_llama_mtp_raw/1/raw/weights"
    elsewhere = mounted / "theirs" / ("b" * 64)
    for path in (old, commits, elsewhere):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    (commits.parents[3] / "publish-0").symlink_to(elsewhere.parent)
    publish_all(tree_store, mounted)
    assert not old.exists()
    assert commits.read_bytes() == elsewhere.read_bytes() == b"x"


def test_what_is_not_on_our_way_need_not_be_readable(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other teams have folders on the volume, beside ours and in them; root may read everything,
    so the system says so here."""
    (mounted / "lost+found").mkdir()
    (mounted / "models_v2/other-team").mkdir(parents=True)
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if not isinstance(path, int) and Path(os.fsdecode(path)).name in closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    closed = {"lost+found", "other-team"}
    monkeypatch.setattr(os, "scandir", refuse)
    publish_all(tree_store, mounted)
    assert torn(mounted) == []
    closed.add("meta-llama-mtp")
    with pytest.raises(PublishError, match=r"cannot list file://.*meta-llama-mtp"):
        publish_all(tree_store, mounted)


def test_link_in_the_place_of_a_folder(tree_store: Store, mounted: Path, tmp_path: Path) -> None:
    """Through it files would be written that are not ours."""
    (tmp_path / "elsewhere").mkdir()
    (mounted / "models_v2").symlink_to(tmp_path / "elsewhere")
    refused(tree_store, mounted, "would be one file, or one inside the other")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "name", [".wmtp", ".wmtp/locks", "models_v2", "models_v2/meta-llama-mtp/raw", "MANIFEST.json"]
)
def test_link_to_itself(tree_store: Store, mounted: Path, name: str) -> None:
    """Python's ``Path.resolve()`` raises an error of its own kind for it, before 3.13."""
    (mounted / name).parent.mkdir(parents=True, exist_ok=True)
    (mounted / name).symlink_to(Path(name).name)
    with pytest.raises(PublishError):
        publish_all(tree_store, mounted)
    assert (mounted / name).is_symlink()


@pytest.mark.parametrize("is_deleted", [False, True])
def test_folder_that_becomes_a_link_after_it_was_looked_at(
    tree_store: Store,
    mounted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_deleted: bool,
) -> None:
    """Somebody with fewer rights than we have swaps it in between: nothing is written, replaced or
    deleted where the link leads."""
    folder, elsewhere = mounted / "datasets_v2/humaneval/raw", tmp_path / "elsewhere"
    publish_all(tree_store, mounted)
    elsewhere.mkdir()
    (elsewhere / "data.parquet").write_text("theirs")
    look = Folder._require_inside

    def swap(self: Folder, target: Path) -> PurePath:
        found = look(self, target)
        if target.parent == folder and not folder.is_symlink():
            folder.rename(tmp_path / "away")
            folder.symlink_to(elsewhere)
        return found

    monkeypatch.setattr(Folder, "_require_inside", swap)
    there = at(mounted)
    path = "datasets_v2/humaneval/raw/data.parquet"
    there.staging.mkdir(parents=True)
    there._staged(path).write_text("ours")
    with pytest.raises((PublishError, NotADirectoryError)):
        there.delete(path) if is_deleted else there._rename([path])
    assert files_below(elsewhere) == {"data.parquet": b"theirs"}


def test_locks_that_lead_elsewhere(tree_store: Store, mounted: Path, tmp_path: Path) -> None:
    """Lock files would be made among what is not ours."""
    (tmp_path / "elsewhere").mkdir()
    (mounted / ".wmtp").mkdir()
    (mounted / ".wmtp/locks").symlink_to(tmp_path / "elsewhere")
    refused(tree_store, mounted, "is a link or a file, and should be a folder")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_link_is_not_followed_to_delete(tree_store: Store, mounted: Path, tmp_path: Path) -> None:
    """A folder that somebody moved away and linked: what lies there is not ours to remove."""
    publish_all(tree_store, mounted)
    (mounted / "datasets_v2").rename(tmp_path / "elsewhere")
    (mounted / "datasets_v2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PublishError, match="through a link that leads out of file://"):
        publish_all(tree_store, mounted, drop=(DATASET,), delete=True)
    assert (tmp_path / "elsewhere/humaneval/raw/data.parquet").exists()


def test_folder_that_is_not_mounted(tree_store: Store, tmp_path: Path) -> None:
    """It is not made: on an unmounted mount point it would fill the wrong disk."""
    with pytest.raises(PublishError, match=r"there is no such folder\. Is the volume mounted"):
        publish_all(tree_store, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_damaged_manifest_there(tree_store: Store, mounted: Path) -> None:
    """It is the truth about what is published; nothing is guessed where it was changed."""
    publish_all(tree_store, mounted)
    damage(mounted / MANIFEST, lambda data: data.replace(b'"sample"', b'"hub"'))
    refused(tree_store, mounted, "was changed after it was written")
    damage(mounted / MANIFEST, lambda data: b"{}" + data)
    refused(tree_store, mounted, "is not a wmtp_assets manifest")


def test_nothing_to_publish(tmp_path: Path, mounted: Path) -> None:
    """An empty root must not become an empty publication."""
    store = make_store(tmp_path / "storage", 10)
    for key in (MODEL, DATASET):
        store.manifest_path(store.catalogue[key]).unlink()
    refused(store, mounted, "there is nothing to publish")


def test_read_only_folder(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount without the right to write; root may write everywhere, so the system says so here."""
    real = Path.mkdir

    def mkdir(self: Path, *args: object, **kwargs: object) -> None:
        if self.name == INTERNAL:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", mkdir)
    refused(tree_store, mounted, "cannot write to file://")


# -- interrupted -----------------------------------------------------------------------------------


def test_file_that_changes_while_it_is_sent(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the rules passed: what is published is what passed, or nothing is."""
    publish_all(tree_store, mounted)
    commit(tree_store, DATASET, {"raw/data.parquet": random_bytes(2_500_000, 9)})
    write = module._write

    def overtaken(target: FileIO, begin: int, data: bytes) -> None:
        write(target, begin, data)
        with (tree_store.root / ROWS).open("r+b") as file:  # behind what was read
            file.seek(-1, os.SEEK_END)
            file.write(b"?")

    monkeypatch.setattr(module, "_write", overtaken)
    refused(tree_store, mounted, "changed while it was read, or is damaged: SHA-256")


def test_part_that_changes_while_it_is_sent(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of a file whose parts the rules compared: each is compared with its own hash."""
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes((16 << 20) + 5)})
    apply = selection.require_rules

    def overtaken(store: Store, *arguments: Any) -> None:
        apply(store, *arguments)
        damage(store.root / LARGE, flip(-1))

    monkeypatch.setattr(selection, "require_rules", overtaken)
    with pytest.raises(PublishError, match="is damaged: part 2 of 2 has SHA-256"):
        publish(tree_store, [tree_store.catalogue[MODEL]], at(mounted))
    assert files_below(mounted) == {}


def test_commit_between_the_rules_and_the_sending(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another content, whose parts are all right, is not the one that was planned: also where
    nothing but the large file is sent."""

    def commit_large(seed: int) -> None:
        data = random_bytes((16 << 20) + 5, seed)
        commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": data})

    commit_large(1)
    publish(tree_store, [tree_store.catalogue[MODEL]], at(mounted))
    (mounted / LARGE).unlink()
    before = files_below(mounted)
    apply = selection.require_rules

    def overtaken(*arguments: Any) -> None:
        apply(*arguments)
        commit_large(9)
        apply(*arguments)

    monkeypatch.setattr(selection, "require_rules", overtaken)
    with pytest.raises(PublishError, match="changed while it was read, or is damaged: SHA-256"):
        publish(tree_store, [tree_store.catalogue[MODEL]], at(mounted))
    assert files_below(mounted) == before


@pytest.mark.parametrize("agrees", [True, False])
def test_parts_are_known_where_they_agree(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    """With the hash of the whole file, of which they were not yet found to be, they prove
    nothing."""
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes((16 << 20) + 5)})
    monkeypatch.setattr(Store, "agrees", lambda *arguments: agrees)
    seen: dict[str, int] = {}
    stage = Folder.stage

    def watched(folder: Folder, file: Outgoing, *told: Any) -> SentFile:
        seen[file.path] = len(file.parts)
        return stage(folder, file, *told)

    monkeypatch.setattr(Folder, "stage", watched)
    publish(tree_store, [tree_store.catalogue[MODEL]], at(mounted))
    assert seen.pop(LARGE) == (2 if agrees else 0)
    assert {*seen.values()} == {0}
    assert (mounted / LARGE).read_bytes() == (tree_store.root / LARGE).read_bytes()


KILLED = """
import os, sys
from pathlib import Path
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.base.settings import Settings
from wmtp_assets.destinations import file as module
from wmtp_assets.operations.publish import publish
from wmtp_assets.storage.store import Store
store = Store(Settings("sample", Path(sys.argv[1])), load_catalogue())
left = [int(sys.argv[3])]
def count(what):
    def call(*args):
        if not left[0]:
            os.kill(os.getpid(), 9)
        left[0] -= 1
        return what(*args)
    return call
if sys.argv[4] == "exchange":
    module.replace_linked = count(module.replace_linked)
else:
    module._write = count(module._write)
second = Store(Settings("sample", Path(sys.argv[2])), store.catalogue)
publish(store, None, module.Folder(second, part_size=1_000_000))
"""


PATHS_OF_MODEL = {
    "models_v2/meta-llama-mtp/raw.metadata.json",
    LARGE,
    "models_v2/meta-llama-mtp/raw/empty",
}


@pytest.mark.parametrize(("phase", "after"), [("write", 2), ("exchange", 1)])
def test_killed(tree_store: Store, mounted: Path, phase: str, after: int) -> None:
    """While payload is sent the folder is as before, then each artifact is there or not; a re-run
    sends what is missing, no more."""
    command = [sys.executable, "-c", KILLED, str(tree_store.root), str(mounted), str(after), phase]
    assert subprocess.run(command, check=False).returncode == -9
    assert not (mounted / MANIFEST).exists()
    there = files_below(mounted)
    placed = {name for name in there if not name.startswith(".wmtp")}
    assert placed == (set() if phase == "write" else PATHS_OF_MODEL)
    again = publish_all(tree_store, mounted)
    sizes = sum(map(len, files_below(tree_store.root).values()))
    sent = 2_000_000 if phase == "write" else sizes
    assert again.payload == sizes - sent
    there = files_below(mounted)
    there.pop(MANIFEST)
    assert there == files_below(tree_store.root)


def test_what_was_sent_before_is_not_in_the_rate(tree_store: Store, mounted: Path) -> None:
    """A publication that is resumed showed the rate of what it did not send."""
    command = [sys.executable, "-c", KILLED, str(tree_store.root), str(mounted), "2", "write"]
    subprocess.run(command, check=False)
    sent, found, destination = [], [], at(mounted, part_size=PART)
    plan = plan_publication(tree_store, None, destination)
    destination.prepare(plan.size)
    for file in plan.outgoing:
        destination.stage(file, sent.append, found.append)
    assert sum(found) == 2_000_000
    assert sum(sent) == destination.payload == plan.size - 2_000_000


def test_another_selection_forgets_nothing(tree_store: Store, mounted: Path) -> None:
    """What is half sent of a model is resumed after a data set was published."""
    command = [sys.executable, "-c", KILLED, str(tree_store.root), str(mounted), "2", "write"]
    subprocess.run(command, check=False)
    publish(tree_store, [tree_store.catalogue[DATASET]], at(mounted, part_size=PART))
    destination = at(mounted, part_size=PART)
    publish(tree_store, [tree_store.catalogue[MODEL]], destination)
    manifest = tree_store.manifest_path(tree_store.catalogue[MODEL])
    assert destination.payload == 1_000_000 + manifest.stat().st_size
    assert not (mounted / STAGING).exists()


def test_another_generation_takes_the_room_of_the_staged_one(
    tree_store: Store, mounted: Path
) -> None:
    """And nothing of the old one is in it, which was longer."""
    command = [sys.executable, "-c", KILLED, str(tree_store.root), str(mounted), "2", "write"]
    subprocess.run(command, check=False)
    data = random_bytes(1_500_000, 7)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": data, "raw/empty": b""})
    publish_all(tree_store, mounted)
    assert (mounted / LARGE).read_bytes() == data
    assert not (mounted / STAGING).exists()


def test_damaged_staged_part_is_sent_again(tree_store: Store, mounted: Path) -> None:
    """What a killed run left is compared, not believed."""
    command = [sys.executable, "-c", KILLED, str(tree_store.root), str(mounted), "2", "write"]
    subprocess.run(command, check=False)
    (staged,) = (path for path in (mounted / STAGING).rglob("*") if path.is_file())
    damage(staged, flip(10))
    sizes = sum(map(len, files_below(tree_store.root).values()))
    assert publish_all(tree_store, mounted).payload == sizes - 1_000_000
    assert (mounted / LARGE).read_bytes() == (tree_store.root / LARGE).read_bytes()


def test_what_was_staged_long_ago_is_removed(tree_store: Store, mounted: Path) -> None:
    """A publication that nobody resumed does not take room forever."""
    command = [sys.executable, "-c", KILLED, str(tree_store.root), str(mounted), "2", "write"]
    subprocess.run(command, check=False)
    (staged,) = (path for path in (mounted / STAGING).rglob("*") if path.is_file())
    week = time.time() - 8 * 24 * 3600
    os.utime(staged, (week, week))
    at(mounted).prepare(0)
    assert not staged.exists()


def test_somebody_else_publishes_meanwhile(
    tree_store: Store, mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is told, instead of naming files that the first has replaced."""
    other = make_store(tmp_path / "other", 10)
    stage = Folder.stage

    def overtaken(self: Folder, *args: object) -> object:
        monkeypatch.setattr(Folder, "stage", stage)
        publish_all(other, mounted, "another machine")
        return stage(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Folder, "stage", overtaken)
    with pytest.raises(PublishError, match="was published to by somebody else"):
        publish_all(tree_store, mounted)
    there = files_below(mounted)
    assert (mounted / LARGE).read_bytes() == random_bytes(10)
    assert parse_listing(there[MANIFEST], "").files[LARGE].size == 10


def test_artifact_that_was_added(tree_store: Store, mounted: Path) -> None:
    """A selection adds to what is published, and changes nothing else."""
    publish(tree_store, [tree_store.catalogue[MODEL]], at(mounted))
    commit(tree_store, OTHER, {"raw/rows": b"rows"})
    publish(tree_store, [tree_store.catalogue[OTHER]], at(mounted))
    assert parse_listing((mounted / MANIFEST).read_bytes(), "").artifacts.keys() == {MODEL, OTHER}


# -- a second store --------------------------------------------------------------------------------


def test_it_is_a_storage_root(tree_store: Store, mounted: Path) -> None:
    """Whoever mounts it can verify it as he verifies his own."""
    publish_all(tree_store, mounted)
    second = Store(Settings("sample", mounted), CATALOGUE)
    assert second.check_source()
    for key in (MODEL, DATASET):
        artifact = second.catalogue[key]
        assert second.manifest(artifact) == tree_store.manifest(artifact)
        for name in second.manifest(artifact).files:
            second.verify_file(artifact, name)
    with pytest.raises(WrongRoot, match="holds artifacts of the source 'sample'"):
        Store(Settings("hub", mounted), CATALOGUE).claim()


def test_root_of_the_other_source(tree_store: Store, mounted: Path) -> None:
    """Also one of which nothing is published, or not any more."""
    Store(Settings("hub", mounted), CATALOGUE).claim()
    refused(tree_store, mounted, "is somebody's storage root: ")


def test_commit_there_is_waited_for(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root that is published to can be somebody's own: its folders have one lock."""
    said: list[str] = []
    second = Store(Settings("sample", mounted), CATALOGUE)
    unit = second.catalogue[MODEL].unit
    with second.lock(unit):
        thread = threading.Thread(
            target=lambda: publish(tree_store, None, at(mounted), say=said.append), daemon=True
        )
        thread.start()
        wait_until(lambda: any(f"waiting for {unit}: held by" in line for line in said))
        assert not (mounted / unit).exists()
    thread.join(30)
    assert torn(mounted) == []


LACKS: list[tuple[Lack, str]] = [
    ("flock", "file locks (flock)"),
    ("link", "hard links"),
    ("rename", "renames of folders"),
]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize(("lack", "what"), LACKS)
def test_mount_that_lacks_something(
    tree_store: Store,
    mounted: Path,
    monkeypatch: pytest.MonkeyPatch,
    lack: Lack,
    what: str,
    code: int,
) -> None:
    """Object-store mounts and FUSE: new, changed and unchanged files are published all the same,
    nothing twice, and it is said what is lost, and who must see to it now."""
    said: list[str] = []
    play(monkeypatch, lack, code, mounted)
    publish(tree_store, None, at(mounted), say=said.append)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": b"newer", "raw/empty": b""})
    destination = at(mounted)
    publish(tree_store, None, destination, say=said.append)
    manifest = tree_store.manifest_path(tree_store.catalogue[MODEL])
    assert destination.payload == 5 + manifest.stat().st_size
    assert torn(mounted) == []
    assert not (mounted / STAGING).exists()
    lost = [line for line in said if "the filesystem of file://" in line]
    assert len(lost) == 2
    assert f"has no {what}: files get their names one by one, MANIFEST.json last" in lost[0]
    assert "Nobody else may publish there at the same time" in lost[0]
    publish_all(tree_store, mounted, delete=True)


@pytest.mark.parametrize(("refuse", "code"), REFUSALS)
def test_what_cannot_be_exchanged_gets_its_names_one_by_one(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch, refuse: Refuse, code: int
) -> None:
    """Publishing needs no more of a folder than renames of files."""
    publish_all(tree_store, mounted)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(3_000_000, 5)})
    with monkeypatch.context() as patch:
        patch.setattr(module, "lacking", lambda folder: [])
        refuse(patch, code)
        publish_all(tree_store, mounted)
    assert torn(mounted) == []
    assert (mounted / LARGE).read_bytes() == (tree_store.root / LARGE).read_bytes()
    assert not (mounted / STAGING).exists()


def test_failing_disk_is_no_reason_to_go_another_way(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "lacking", lambda folder: [])
    refuse_links(monkeypatch, errno.EIO)
    with pytest.raises(PublishError, match="Input/output error"):
        publish_all(tree_store, mounted)


def test_what_somebody_wrote_during_an_exchange_is_kept(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that training put there, and a published file that it wrote anew, in those
    milliseconds: they lose their names, are kept in ``.wmtp/previous/``, and that is said."""
    publish_all(tree_store, mounted)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": b"newer", "raw/empty": b""})
    exchange = exchange_module.exchange_at_once
    said: list[str] = []

    def late(new: Path, current: Path) -> bool:
        (current / "raw/late").write_bytes(b"checkpoint")
        (current / "anew").write_bytes(b"written anew")
        (current / "anew").replace(current / "raw/empty")
        return exchange(new, current)

    monkeypatch.setattr(exchange_module, "exchange_at_once", late)
    publish(tree_store, None, at(mounted), say=said.append)
    (kept,) = (mounted / ".wmtp/previous").iterdir()
    assert files_below_all(kept) == {"raw/late": b"checkpoint", "raw/empty": b"written anew"}
    assert any(
        "was written to while it was exchanged" in line and str(kept) in line for line in said
    )
    assert torn(mounted) == []
    assert not (mounted / STAGING).exists()


def files_below_all(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class Killed(BaseException):
    """Stands for SIGKILL: no ``except`` clause of the program runs."""


def kill(*args: object) -> NoReturn:
    raise Killed


def test_what_never_came_to_its_place_is_not_published(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run was killed before the exchange: its new files have no names, and the next run, which
    may have another generation, does not give them any."""
    publish_all(tree_store, mounted)
    before = files_below(mounted)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": b"newer", "raw/added": b"added"})
    unfinished = at(mounted).staging / NEXT
    with monkeypatch.context() as patch:
        patch.setattr(exchange_module, "exchange_at_once", kill)
        patch.setattr(Folder, "_keep_late", lambda *args: None)
        with pytest.raises(Killed):
            publish_all(tree_store, mounted)
    assert (unfinished / "raw/added").exists()
    assert files_below(mounted) == before
    at(mounted).prepare(0)
    assert not unfinished.exists()
    assert files_below(mounted) == before
    publish_all(tree_store, mounted)
    assert torn(mounted) == []
    added = "models_v2/meta-llama-mtp/raw/added"
    assert (mounted / added).read_bytes() == b"added"
    assert files_below(mounted).keys() == before.keys() | {added}


def test_published_file_is_not_written_into(tree_store: Store, mounted: Path) -> None:
    """A killed run can leave a staged name of it: the next generation was written through that
    name into what readers read."""
    publish_all(tree_store, mounted)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(2_000_000, 5)})
    destination = at(mounted)
    destination.prepare(0)
    before = (mounted / LARGE).read_bytes()
    destination._staged(LARGE).hardlink_to(mounted / LARGE)
    with (mounted / LARGE).open("rb") as reader:
        publish_all(tree_store, mounted)
        assert reader.read() == before
    assert torn(mounted) == []


@pytest.mark.parametrize("is_exchanged", [True, False])
def test_staged_names_are_gone_when_it_is_published(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch, is_exchanged: bool
) -> None:
    """Killed behind MANIFEST.json: the next run has nothing to send, and tidies up all the same."""
    finish = Folder.finish
    monkeypatch.setattr(Folder, "finish", lambda self, paths: None)
    if not is_exchanged:
        refuse_exchange(monkeypatch, errno.EINVAL)
    publish_all(tree_store, mounted)
    assert (mounted / STAGING).exists()
    monkeypatch.setattr(Folder, "finish", finish)
    assert publish_all(tree_store, mounted).payload == 0
    assert not (mounted / STAGING).exists()


def leftover(mounted: Path, owner: str, age: float = 0.0) -> Path:
    """What another publisher is building, or left, that long ago."""
    new = at(mounted, owner).staging / NEXT
    (new / "raw").mkdir(parents=True)
    (new / "raw/added").write_bytes(b"never published")
    os.utime(new, (time.time() - age, time.time() - age))
    return new


def test_what_another_builds_now_is_left(tree_store: Store, mounted: Path) -> None:
    """Only what nobody resumed for a week is removed, and nothing of it gets a name."""
    fresh, old = leftover(mounted, "a"), leftover(mounted, "b", 8 * 24 * 3600)
    publish_all(tree_store, mounted, "another machine")
    assert fresh.exists()
    assert not old.exists()
    assert not list(mounted.rglob("models_v2/**/added"))


def test_next_folder_of_a_killed_run_is_removed_by_a_run_that_sends_nothing(
    tree_store: Store, mounted: Path
) -> None:
    """Nor does it hold up anybody that its folders may not be written to."""
    publish_all(tree_store, mounted)
    leftover(mounted, "")
    publish_all(tree_store, mounted)
    assert not (mounted / STAGING).exists()
    destination, late = at(mounted), leftover(mounted, "")
    (late / "raw").chmod(0o500)
    destination._keep_late("models_v2/meta-llama-mtp", ["raw/added"])
    assert not late.exists()


def test_empty_folder_of_a_killed_run_is_removed(tree_store: Store, mounted: Path) -> None:
    """It was killed in its very last step. What others staged there stays, and so does what a link
    leads to."""
    publish_all(tree_store, mounted)
    staging = mounted / STAGING
    staging.mkdir()
    publish_all(tree_store, mounted)
    assert not staging.exists()
    (staging / "x").mkdir(parents=True)
    publish_all(tree_store, mounted)
    assert (staging / "x").exists()
    others = mounted.with_name("others")
    (others / "staging").mkdir(parents=True)
    shutil.rmtree(mounted / ".wmtp")
    (mounted / ".wmtp").symlink_to(others)
    at(mounted).finish([])
    assert (others / "staging").exists()


def test_names_are_durable_before_the_manifest(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that a run gave that was cut off: its folders may not have been flushed."""
    flushed: list[Path] = []
    monkeypatch.setattr(module, "fsync_folder", flushed.append)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write_manifest", kill)
        with pytest.raises(Killed):
            publish_all(tree_store, mounted)
    assert flushed == []
    assert publish_all(tree_store, mounted).payload == 0
    assert {mounted, mounted / "models_v2", (mounted / LARGE).parent} <= set(flushed)
    assert flushed[-1] == mounted


# -- two at once -----------------------------------------------------------------------------------


def torn(mounted: Path) -> list[str]:
    """Files that do not lie there as MANIFEST.json says."""
    listing = parse_listing((mounted / MANIFEST).read_bytes(), "")
    return [p for p, f in listing.files.items() if not at(mounted).is_same(p, f, "hash")]


def test_two_that_give_names_at_once(
    tree_store: Store, mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused before it names anything, and continues when the first is done."""
    other, exchange = make_store(tmp_path / "other", 10), Folder._replace
    said: list[str] = []

    def overtaken(self: Folder, *args: Any) -> bool:
        if not said:
            said.append("")
            with pytest.raises(PublishError) as error:
                publish_all(other, mounted, "another machine")
            said[0] = str(error.value)
        return exchange(self, *args)

    monkeypatch.setattr(Folder, "_replace", overtaken)
    publish_all(tree_store, mounted)
    assert "somebody else gives files their names" in said[0]
    assert torn(mounted) == []
    publish_all(other, mounted, "another machine", how="full")
    assert torn(mounted) == []
    assert not (mounted / STAGING).exists()


def test_from_one_root_the_second_waits(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would write one journal, and stage into one place; it is said what is waited for."""
    said: list[str] = []
    seconds: list[threading.Thread] = []
    send = publishing._send

    def overlapping(*args: Any) -> object:
        monkeypatch.setattr(publishing, "_send", send)
        other = at(mounted, part_size=PART)
        second = threading.Thread(
            target=lambda: publish(tree_store, None, other, say=said.append), daemon=True
        )
        second.start()
        seconds.append(second)
        wait_until(lambda: bool(said))
        time.sleep(0.2)
        assert len(said) == 1
        return send(*args)

    monkeypatch.setattr(publishing, "_send", overlapping)
    first = publish_all(tree_store, mounted)
    seconds[0].join(30)
    assert said[0].startswith(f"file://{mounted}: waiting for publish-")
    assert "held by process" in said[0]
    assert first.payload == sum(map(len, files_below(tree_store.root).values()))
    assert torn(mounted) == []


def test_lock_of_a_killed_run_is_no_obstacle(tree_store: Store, mounted: Path) -> None:
    """The file alone holds nothing."""
    (mounted / ".wmtp/locks").mkdir(parents=True)
    (mounted / ".wmtp/locks/publishing.lock").touch()
    publish_all(tree_store, mounted)
    assert not (mounted / STAGING).exists()


def test_where_there_are_no_locks_the_manifest_decides(
    tree_store: Store, mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compared directly before it is written: nobody succeeds with files of another."""
    publish_all(tree_store, mounted)
    commit(tree_store, DATASET, {"raw/data.parquet": b"new"})
    other, write = make_store(tmp_path / "other", 10), publishing._write_manifest

    def overtaken(*args: Any) -> None:
        monkeypatch.setattr(publishing, "_write_manifest", write)
        publish_all(other, mounted, "another machine")
        write(*args)

    play(monkeypatch, "flock", errno.ENOLCK, mounted)
    monkeypatch.setattr(publishing, "_write_manifest", overtaken)
    with pytest.raises(PublishError, match=r"while files were put.*by somebody else"):
        publish_all(tree_store, mounted)
    publish_all(tree_store, mounted)
    assert torn(mounted) == []


def test_somebody_publishes_while_a_damaged_file_is_sent_again(
    tree_store: Store, mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then no manifest is written, and it is compared all the same."""
    publish_all(tree_store, mounted)
    damage(mounted / LARGE, flip(7))
    other, commit_all = make_store(tmp_path / "other", 10), publishing._commit

    def late(*args: Any) -> None:
        monkeypatch.setattr(publishing, "_commit", commit_all)
        commit_all(*args)
        publish_all(other, mounted, "another machine")

    play(monkeypatch, "flock", errno.ENOLCK, mounted)
    monkeypatch.setattr(publishing, "_commit", late)
    with pytest.raises(PublishError, match=r"by somebody else\. Run again"):
        publish_all(tree_store, mounted)


def test_nothing_is_deleted_by_an_old_plan(
    tree_store: Store, mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody published the file again that this plan wants away."""
    publish_all(tree_store, mounted)
    commit(tree_store, DATASET, {"raw/data.parquet": random_bytes(50_000, 2)})
    publish_all(tree_store, mounted)
    other, send = make_store(tmp_path / "other"), publishing._send

    def overtaken(*args: Any) -> object:
        monkeypatch.setattr(publishing, "_send", send)
        publish_all(other, mounted, "another machine")
        return send(*args)

    monkeypatch.setattr(publishing, "_send", overtaken)
    with pytest.raises(PublishError, match=r"somebody else\. Nothing was deleted; run again"):
        publish_all(tree_store, mounted, delete=True)
    assert torn(mounted) == []


# -- what is read back, and what is said -----------------------------------------------------------


@pytest.mark.parametrize("how", ["size", "hash"])
def test_staged_files_are_read_before_any_gets_its_name(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A disk that keeps other bytes than were written: everything is as before, also with
    --verify=size, which is about what was published earlier."""
    publish_all(tree_store, mounted)
    commit(tree_store, DATASET, {"raw/data.parquet": b"newer", "raw/LICENSE": b"MIT 2\n"})
    write = module._write

    def rot(target: FileIO, begin: int, data: bytes) -> None:
        write(target, begin, b"?" + data[1:] if data == b"newer" else data)

    monkeypatch.setattr(module, "_write", rot)
    refused(tree_store, mounted, f"{ROWS} does not lie at file://", how=how)
    monkeypatch.undo()
    publish_all(tree_store, mounted)
    assert torn(mounted) == []


def test_full_when_the_manifest_is_written(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then files have new names: nobody is told that nothing was published."""
    publish_all(tree_store, mounted)
    commit(tree_store, DATASET, {"raw/data.parquet": b"new"})

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "write_new", full)
    with pytest.raises(PublishError) as error:
        publish_all(tree_store, mounted)
    assert str(error.value).startswith("while files were put in their places: file://")
    assert "is full (No space left on device" in str(error.value)
    assert "what was staged and has no name yet is kept" in str(error.value)
    assert "nothing was published" not in str(error.value)
    assert (mounted / ROWS).read_bytes() == b"new"
    monkeypatch.undo()
    assert publish_all(tree_store, mounted).payload == 0


def test_reason_is_not_lost(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was stopped because of another says so; the other says why, and later."""

    def stage(self: Folder, file: Any, *told: object) -> None:
        if file.path == LARGE:
            time.sleep(0.3)
            raise PublishError("the reason")
        raise Stopped("another file failed")

    monkeypatch.setattr(Folder, "stage", stage)
    monkeypatch.setattr(Folder, "streams", 8)
    with pytest.raises(PublishError, match="the reason"):
        publish_all(tree_store, mounted)


@pytest.mark.parametrize("how", ["hash", "full"])
def test_comparing_says_how_far_it_is(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Reading back what is published, and what was staged, took minutes in silence."""
    said: list[str] = []
    monkeypatch.setattr(destinations, "QUIET", 0.0)

    def send() -> list[str]:
        said.clear()
        publish(tree_store, None, at(mounted, part_size=PART), Options(how), say=said.append)  # type: ignore[arg-type]
        return [line for line in said if line.startswith("comparing")]

    assert [line.split(":")[0] for line in send()] == [
        "comparing what was sent",
        "comparing what is in its place",
    ]
    (line,) = send()
    assert line.startswith(f"comparing with file://{mounted}: 3.1 MB of 3.1 MB (100 %)")
    (mounted / MANIFEST).unlink()
    (line, *_) = send()
    assert line.startswith(f"comparing what nobody published at file://{mounted}: 3.1 MB of 3.1 MB")


def test_equal_host_and_path_are_not_one_publisher(
    tmp_path: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two containers, each with its root at the same path, resumed each other's staged files:
    one wrote into what the other had published."""
    monkeypatch.setattr("socket.gethostname", lambda: "trainer")
    url = mounted.as_uri()
    places = []
    for name in ("one", "two"):
        store = make_store(tmp_path / "root", 10)
        first, again = open_destination(store, url), open_destination(store, url)
        assert isinstance(first, Folder)
        assert isinstance(again, Folder)
        assert first.staging == again.staging
        places.append(first.staging)
        store.root.rename(tmp_path / f"{name}-done")
    assert places[0] != places[1]


def test_folder_of_ours_that_is_a_mount(
    tree_store: Store, mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found when files got their names: an invalid cross-device link, and no remedy. What is
    mounted elsewhere is no obstacle, nor that the folder itself is a mount."""
    listed = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "MOUNTS", listed)

    def mount(*places: Path) -> None:
        lines = [f"36 35 98:0 / {place} rw - ext4 /dev/x rw\n" for place in places]
        listed.write_text("".join(lines))

    mount(mounted, mounted / "models_v2")
    refused(tree_store, mounted, "is a mount of its own in file://")
    mount(mounted, mounted.parent, mounted / "elsewhere", mounted / "models_v2/another")
    publish_all(tree_store, mounted)
    assert torn(mounted) == []


def test_ctrl_c_stops_what_is_under_way(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 13 GB was sent to its end first: the threads heard of it from nobody."""
    stop, stopped = Folder.stop, []

    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    def told(self: Folder) -> None:
        stopped.append(self)
        stop(self)

    monkeypatch.setattr(publishing, "wait", interrupted)
    monkeypatch.setattr(Folder, "stop", told)
    with pytest.raises(KeyboardInterrupt):
        publish_all(tree_store, mounted)
    assert stopped
    assert not (mounted / MANIFEST).exists()


def test_publication_of_a_whole_release_is_remembered(tree_store: Store, mounted: Path) -> None:
    """The completion report calls it a backup: all of it, compared by its hash at least; the same
    release again is no other one."""
    publish_all(tree_store, mounted)
    released = release(tree_store, "v1.0.0")
    publish(released, [released.catalogue[RELEASE]], at(mounted))
    assert publications(released) == []  # nothing was released; a selection was sent
    publish_all(released, mounted, how="size")
    assert publications(released) == []  # a size proves nothing
    publish_all(released, mounted)
    (first,) = publications(released)
    assert (first.to, first.version) == (f"file://{mounted}", "v1.0.0")
    assert first.release == released.manifest(released.catalogue[RELEASE]).content_sha256
    (path,) = (released.internal / "published").iterdir()
    damage(path, lambda data: data.replace(first.at.encode(), b"2025-01-01T00:00:00Z"))
    publish_all(released, mounted)
    assert [it.at for it in publications(released)] == ["2025-01-01T00:00:00Z"]
    path.write_bytes(b"{")
    assert publications(released) == []
