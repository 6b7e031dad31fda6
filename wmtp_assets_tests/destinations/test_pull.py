"""Pulling: what lands on a training node, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base.errors import PublishError, SpecError, StoreError
from wmtp_assets.base.settings import Settings
from wmtp_assets.cli.main import main
from wmtp_assets.destinations.file import Folder
from wmtp_assets.destinations.listing import MANIFEST
from wmtp_assets.operations.publish import publish
from wmtp_assets.operations.pull import choose, pull, read_listing, require_forward
from wmtp_assets.operations.verify import exit_code, strays, to_judge, verify, verify_release
from wmtp_assets.storage.manifest import amend, parse, render
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer import arrival
from wmtp_assets.transfer.places import Places
from wmtp_assets_tests.destinations.trees import (
    CATALOGUE,
    DATASET,
    LARGE,
    MODEL,
    OTHER,
    RELEASE,
    ROWS,
    at,
    commit,
    files_below,
    pull_all,
    random_bytes,
    release,
)
from wmtp_assets_tests.light import light_environment
from wmtp_assets_tests.trees import damage, flip, tree


@pytest.fixture
def published(tree_store: Store, folder: Folder) -> Folder:
    """A destination with a model and a data set."""
    publish(tree_store, None, folder)
    return folder


def test_the_same_tree(tree_store: Store, node: Store, folder: Folder) -> None:
    """Byte for byte, the artifacts' own manifests and the copies at the root too; every rule
    holds, and nothing is left of the transfer."""
    publish(release(tree_store, "v2.0.0"), None, folder)
    pulled = pull_all(node, folder)
    assert files_below(node.root) == files_below(tree_store.root)
    assert sum(item.fetched for item in pulled) == sum(
        size for path, size in folder.names().items() if path not in (MANIFEST, "RELEASE.json")
    )
    artifacts = [node.catalogue[key] for key in (MODEL, DATASET)]
    assert exit_code(verify(node, artifacts, lambda verdict: None)) == 0
    assert list((node.internal / "scratch").iterdir()) == []
    assert not [*(node.internal / "staging").rglob("*.*")]


def test_what_is_here_is_not_fetched(node: Store, published: Folder) -> None:
    """A second pull reads what is here, and touches nothing."""
    pull_all(node, published)
    before = tree(node.root / "models_v2")
    assert [item.fetched for item in pull_all(node, published)] == [0, 0]
    assert tree(node.root / "models_v2") == before


def test_damaged_file_is_fetched_again(node: Store, published: Folder) -> None:
    """And no other."""
    pull_all(node, published)
    damage(node.root / LARGE, flip(7))
    assert [item.fetched for item in pull_all(node, published)] == [3_000_000, 0]
    assert (node.root / LARGE).read_bytes() == random_bytes(3_000_000)


def test_by_folder_name(node: Store, published: Folder) -> None:
    """Of a folder, what is published of it."""
    assert [item.key for item in pull_all(node, published, "meta-llama-mtp")] == [MODEL]


def test_killed_and_gone_on_with(
    node: Store, published: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrived is not fetched again."""
    read = Folder.read

    def cut(self: Folder, path: str, start: int = 0) -> Iterator[bytes]:
        for number, block in enumerate(read(self, path, start)):
            if path == LARGE and number == 2:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(Folder, "read", cut)
    with pytest.raises(KeyboardInterrupt):
        pull_all(node, published, MODEL)
    assert not node.folder(node.catalogue[MODEL]).exists()
    monkeypatch.undo()
    (item,) = pull_all(node, published, MODEL)
    assert item.fetched == item.size - 2 * (1 << 20)
    assert (node.root / LARGE).read_bytes() == random_bytes(3_000_000)


@pytest.mark.parametrize("size", [100, 3_000_000, 4_000_000])
def test_damaged_remainder_is_no_obstacle(node: Store, published: Folder, size: int) -> None:
    """Whatever lies in the scratch folder under the hash of a file."""
    sha256 = read_listing(published).files[LARGE].sha256
    partial = Places(node, node.catalogue[MODEL]).partials / sha256
    partial.parent.mkdir(parents=True)
    partial.write_bytes(random_bytes(3_000_000)[:size] if size < 1000 else bytes(size))
    pull_all(node, published, MODEL)
    assert (node.root / LARGE).read_bytes() == random_bytes(3_000_000)


def test_remainder_that_is_another_file_too_is_not_written_to(
    node: Store, published: Folder, tmp_path: Path
) -> None:
    """A hard link of somebody's in the scratch folder."""
    theirs = tmp_path / "theirs"
    theirs.write_bytes(random_bytes(3_000_000)[:100])
    partials = Places(node, node.catalogue[MODEL]).partials
    partial = partials / read_listing(published).files[LARGE].sha256
    partial.parent.mkdir(parents=True)
    os.link(theirs, partial)
    pull_all(node, published, MODEL)
    assert theirs.read_bytes() == random_bytes(3_000_000)[:100]
    assert (node.root / LARGE).read_bytes() == random_bytes(3_000_000)


def test_commit_that_was_cut_off_is_completed_first(node: Store, published: Folder) -> None:
    """Between two renames nothing seems to be here: all of it would be fetched again."""
    pull_all(node, published)
    before = tree(node.root / "datasets_v2")
    unit = node.root / "datasets_v2/humaneval"
    unit.rename(unit.with_name("humaneval.wmtp-old"))
    assert [item.fetched for item in pull_all(node, published, DATASET)] == [0]
    assert tree(node.root / "datasets_v2") == before


def test_new_generation_replaces_the_old_one(
    tree_store: Store, node: Store, published: Folder
) -> None:
    """What is the same is linked, not fetched; the generation before is kept."""
    pull_all(node, published)
    commit(tree_store, DATASET, {"raw/data.parquet": b"new", "raw/LICENSE": b"MIT\n"})
    publish(tree_store, None, published)
    _, item = pull_all(node, published)
    manifest = tree_store.manifest_path(tree_store.catalogue[DATASET])
    assert item.fetched == 3 + manifest.stat().st_size
    assert files_below(node.root) == files_below(tree_store.root)
    assert (node.previous(node.catalogue[DATASET]) / "raw/data.parquet").exists()


# -- refused ---------------------------------------------------------------------------------------


def refused(node: Store, destination: Folder, message: str, *names: str) -> None:
    """The pull fails with a message on one line; what is committed is as before."""
    before = files_below(node.root)
    with pytest.raises((PublishError, SpecError, StoreError)) as error:
        pull_all(node, destination, *names)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert files_below(node.root) == before


def test_flipped_bit_there(node: Store, published: Folder, mounted: Path) -> None:
    """In any file, its own manifest too."""
    damage(mounted / LARGE, flip(2_000_000))
    refused(node, published, "It was not kept. Somebody publishes there now", MODEL)
    assert not [*(node.scratch(node.catalogue[MODEL])).rglob("*.*")]
    damage(mounted / "datasets_v2/humaneval/raw.metadata.json", flip(30))
    refused(node, published, "It was not kept", DATASET)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_shorter_or_longer_there(
    node: Store,
    published: Folder,
    mounted: Path,
    change: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that ends early is asked for three times; of one that is longer no more is taken."""
    monkeypatch.setattr(arrival, "FIRST_WAIT", 0.0)
    damage(mounted / ROWS, change)
    if len(change(b"12")) == 1:
        refused(node, published, "ends at file://", DATASET)
    else:
        pull_all(node, published, DATASET)
        assert (node.root / ROWS).read_bytes() == random_bytes(50_000, 2)


def test_file_that_is_gone(node: Store, published: Folder, mounted: Path) -> None:
    """Named, at once."""
    (mounted / ROWS).unlink()
    refused(node, published, f"has no {ROWS}", DATASET)


def test_nothing_published(node: Store, folder: Folder) -> None:
    """A wrong URL is the likely cause."""
    refused(node, folder, f"it has no {MANIFEST}", MODEL)


def test_names(node: Store, published: Folder) -> None:
    """Unknown to us, and known but not published."""
    refused(node, published, "'nobody' is neither an asset nor a folder", "nobody")
    refused(node, published, "mbpp_raw is not published there; that is: humaneval_raw", "mbpp_raw")


def leave(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Pretend that the disk has so many bytes left."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("", (), {"free": free}))


def test_no_room(node: Store, published: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before the first byte, also to whoever asks for one artifact only."""
    leave(monkeypatch, 10)
    message = f"{MODEL} will not fit: 3.0 MB to fetch, 10 B free"
    refused(node, published, message, MODEL)
    with pytest.raises(StoreError, match=message):
        pull(node, node.catalogue[MODEL], published, read_listing(published))


def test_room_for_all_that_was_asked_for(
    node: Store, published: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the two fits, both do not: the first is not fetched either."""
    leave(monkeypatch, 3_040_000)
    refused(node, published, f"{MODEL} and 1 more will not fit: 3.1 MB to fetch, 3.0 MB free")
    assert not node.internal.exists()
    assert [len(pull_all(node, published, name)) for name in (MODEL, DATASET)] == [1, 1]


def test_new_generation_needs_room(
    tree_store: Store, node: Store, published: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the same name and size, or a longer one, whose bytes are others and are kept."""
    pull_all(node, published)
    for size in (3_000_000, 2_000_000):
        commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(size, 7)})
        publish(tree_store, [tree_store.catalogue[MODEL]], published)
        with monkeypatch.context() as patch:
            leave(patch, 10)
            refused(node, published, f"will not fit: {size / 1e6} MB to fetch, 10 B free", MODEL)


def test_what_is_here_needs_no_room(
    tree_store: Store, node: Store, published: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what is committed, nor what arrived before, nor the same bytes a second time; also
    where the manifest of what lies here is gone."""
    large = read_listing(published).files[LARGE].sha256
    partial = Places(node, node.catalogue[MODEL]).partials / large
    partial.parent.mkdir(parents=True)
    partial.write_bytes(random_bytes(3_000_000)[:2_990_000])
    with monkeypatch.context() as patch:
        leave(patch, 15_000)
        pull_all(node, published, MODEL)
        leave(patch, 3_000)
        pull_all(node, published, MODEL)
        node.manifest_path(node.catalogue[MODEL]).unlink()
        pull_all(node, published, MODEL)
    commit(tree_store, DATASET, {"raw/a": random_bytes(9_000), "raw/b": random_bytes(9_000)})
    publish(tree_store, None, published)
    leave(monkeypatch, 12_000)
    pull_all(node, published, DATASET)
    assert files_below(node.root) == files_below(tree_store.root)


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [Path.touch, link_to_nowhere])
@pytest.mark.parametrize("name", ["datasets_v2", "datasets_v2/humaneval"])
def test_something_lies_where_a_folder_must_be(
    node: Store, published: Folder, name: str, make: Callable[[Path], None]
) -> None:
    """Seen before anything is fetched, of any artifact; nobody's file is removed."""
    path = node.root / name
    path.parent.mkdir(parents=True)
    make(path)
    refused(node, published, f"folder, and is in the way of {DATASET}. Nothing was changed;")
    refused(node, published, f"{path} is ", DATASET)
    assert not node.internal.exists()
    assert os.path.lexists(path)


def test_no_right_to_write(node: Store, published: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the artifact's folder gets its name, which is the last step of all."""
    above = node.root / "datasets_v2"
    above.mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: path != above)
    refused(node, published, f"{DATASET} cannot be written under {node.root} ([Errno 13] ")
    assert not node.internal.exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [(Path.touch, "source cannot be read (Not a directory)"), (link_to_nowhere, "in the way of")],
)
def test_something_lies_where_the_internal_folder_must_be(
    node: Store, published: Folder, make: Callable[[Path], None], message: str
) -> None:
    """A link to a disk that is not mounted, for one."""
    node.root.mkdir()
    make(node.internal)
    refused(node, published, message, DATASET)


def test_folder_where_a_copy_must_be(tree_store: Store, node: Store, folder: Folder) -> None:
    """At the root, where a release is copied to."""
    publish(release(tree_store, "v2.0.0"), None, folder)
    (node.root / "RELEASE.json").mkdir(parents=True)
    refused(node, folder, f"is a folder, and is in the way of a file of {RELEASE}")


def test_exit_codes(
    node: Store,
    published: Folder,
    mounted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """64 is what other words or another environment would fix; 1 is for disks, files and what is
    published. None is a defect of the program."""

    def code(name: str, url: str = f"file://{mounted}", also: Sequence[str] = ()) -> int:
        monkeypatch.setattr(sys, "argv", ["wmtp", "pull", name, *also, "--from", url])
        with pytest.raises(SystemExit) as ended:
            main()
        capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    monkeypatch.setenv("WMTP_SOURCE", "sample")
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(node.root))
    assert [code("nobody"), code(MODEL, "mbpp_raw"), code(MODEL, "ftp://x/y")] == [64, 64, 64]
    assert code("mbpp_raw") == 1
    assert not node.root.exists()
    with monkeypatch.context() as patch:
        leave(patch, 10)
        assert code(MODEL) == 1
        leave(patch, 3_040_000)
        assert code("meta-llama-mtp", also=[DATASET]) == 1
        assert files_below(node.root) == {}
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", forbidden)
        assert code(MODEL) == 1
    (tmp_path / "file").touch()
    for root in ("file", "file/below"):
        monkeypatch.setenv("WMTP_STORAGE_ROOT", str(tmp_path / root))
        assert code(MODEL) == 64
    (tmp_path / "link").symlink_to("nowhere")
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(tmp_path / "link"))
    assert code(MODEL) == 64
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(node.root))
    assert code(MODEL) == 0
    monkeypatch.setenv("WMTP_SOURCE", "hub")
    assert code(MODEL) == 64
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(tmp_path / "other"))
    assert code(MODEL) == 64


def forbidden(*arguments: object, **others: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_other_source(published: Folder, tmp_path: Path) -> None:
    """The sample never lands in the root of the real models."""
    node = Store(Settings("hub", tmp_path / "node"), CATALOGUE)
    refused(node, published, "Set WMTP_SOURCE=sample", MODEL)


# -- a hostile MANIFEST.json -----------------------------------------------------------------------


def rewrite(mounted: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change MANIFEST.json, and seal it as whoever can write there can."""
    path = mounted / MANIFEST
    document = json.loads(path.read_bytes())
    document.pop("self_sha256")
    change(document)
    sealed = hashlib.sha256(render(document)).hexdigest()
    path.write_bytes(render({**document, "self_sha256": sealed}))


def _files(document: dict[str, Any], key: str = DATASET) -> dict[str, Any]:
    return document["artifacts"][key]["files"]


def named(name: str) -> Callable[[dict[str, Any]], None]:
    """The rows have another path."""

    def change(document: dict[str, Any]) -> None:
        files = _files(document)
        files[name] = files.pop(ROWS)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (named("../../etc/passwd"), "is not a plain relative path"),
        (named("/etc/passwd"), "is not a plain relative path"),
        (named("datasets_v2/humaneval/raw/../../x"), "is not a plain relative path"),
        (named("datasets_v2\\humaneval"), "is not a plain relative path"),
        (named("datasets_v2/humaneval/raw/a\0"), "is not a plain relative path"),
        (named(".wmtp/source"), "which has its files in datasets_v2/humaneval/"),
        (named("datasets_v2/humaneval/processed/x"), "which has its files in"),
        (named("datasets_v2/humaneval/RAW.metadata.json"), "named twice"),
        (named("Manifest.json"), "named twice"),
        (named("datasets_v2/humaneval/raw/other"), "contradict each other"),
        (lambda d: _files(d)[ROWS].update(size=-1), "greater than or equal to 0"),
        (lambda d: _files(d)[ROWS].update(size=1e9), "valid integer"),
        (lambda d: _files(d)[ROWS].update(sha256="0" * 63), "match pattern"),
        (lambda d: _files(d)[ROWS].update(url="http://x"), "Extra inputs"),
        (lambda d: _files(d).pop("datasets_v2/humaneval/raw.metadata.json"), "names no raw.meta"),
        (lambda d: _files(d).pop(ROWS), "contradict each other"),
        (lambda d: d["artifacts"][DATASET].update(content_sha256="0" * 64), "contradict each"),
        (lambda d: d.update(format="wmtp-publish/2"), "format"),
        (lambda d: d.update(source="elsewhere"), "source"),
        (lambda d: d.update(published_at="x" * 41), "published_at"),
        (
            lambda d: _files(d)["datasets_v2/humaneval/raw.metadata.json"].update(size=1 << 30),
            "far too long",
        ),
    ],
)
def test_hostile_manifest(
    node: Store,
    published: Folder,
    mounted: Path,
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    """It comes from another machine: nothing is written outside the artifact's own folder, and
    nothing is taken that contradicts itself."""
    rewrite(mounted, change)
    refused(node, published, message, DATASET)


def test_own_manifest_that_is_none(node: Store, published: Folder, mounted: Path) -> None:
    """MANIFEST.json names it with the right hash, and it is not a manifest of an artifact."""
    name = "datasets_v2/humaneval/raw.metadata.json"
    (mounted / name).unlink()
    (mounted / name).write_bytes(b"{}")
    sha256 = hashlib.sha256(b"{}").hexdigest()
    rewrite(mounted, lambda d: _files(d)[name].update(size=2, sha256=sha256))
    refused(node, published, "not a manifest: KeyError('self_sha256'). Nothing was taken", DATASET)


def test_own_manifest_of_another_artifact(node: Store, published: Folder, mounted: Path) -> None:
    """All hashes are right, and it says that it is of something else."""
    name = "datasets_v2/humaneval/raw.metadata.json"
    data = amend(parse((mounted / name).read_bytes(), name), {"asset": OTHER})
    (mounted / name).unlink()
    (mounted / name).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    rewrite(mounted, lambda d: _files(d)[name].update(size=len(data), sha256=sha256))
    refused(node, published, f"contradict each other about {DATASET}", DATASET)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"a":' * 50_000, b"[" * (9 << 20), b'{"artifacts": {}}', b"\xff"]
)
def test_manifest_that_is_none(node: Store, published: Folder, mounted: Path, data: bytes) -> None:
    """Damaged, or made to take a parser down."""
    (mounted / MANIFEST).write_bytes(data)
    refused(node, published, "is not a wmtp_assets manifest", DATASET)


@pytest.mark.parametrize("stated", ["\x1b[2J" + "x" * 5000, {"a": ["\x07"] * 5000}])
def test_what_a_manifest_states_is_shown_short(
    node: Store, published: Folder, mounted: Path, stated: object
) -> None:
    """It may clear a terminal, or fill it."""
    document = json.loads((mounted / MANIFEST).read_bytes())
    (mounted / MANIFEST).write_bytes(render({**document, "self_sha256": stated}))
    with pytest.raises(PublishError, match="was changed after it was written") as error:
        pull_all(node, published, DATASET)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 2000


def test_artifact_that_is_unknown_here(node: Store, published: Folder, mounted: Path) -> None:
    """An older checkout on the node does not know every artifact."""
    rewrite(mounted, lambda d: d["artifacts"].update(newer_raw=d["artifacts"].pop(DATASET)))
    refused(node, published, "'newer_raw' is neither an asset nor a folder", "newer_raw")
    pull_all(node, published, MODEL)


def test_on_a_machine_without_the_platform(
    tree_store: Store, published: Folder, mounted: Path, tmp_path: Path
) -> None:
    """The command, where no Dagster, torch or pyarrow is installed."""
    del published
    environment = light_environment(tmp_path / "light") | {
        "WMTP_SOURCE": "sample",
        "WMTP_STORAGE_ROOT": str(tmp_path / "node"),
    }
    wmtp = Path(sys.executable).with_name("wmtp")
    done = subprocess.run(
        [wmtp, "pull", MODEL, DATASET, "--from", f"file://{mounted}", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [item["key"] for item in document["artifacts"]] == [MODEL, DATASET]
    assert files_below(tmp_path / "node") == files_below(tree_store.root)
    checked = subprocess.run([wmtp, "verify", MODEL], env=environment, check=False)
    assert checked.returncode == 0


# -- going back, and what is judged afterwards -----------------------------------------------------


def forward_only(node: Store, destination: Folder, *names: str, downgrade: bool = False) -> None:
    """Pull as the command does."""
    listing = read_listing(destination)
    chosen = choose(node, listing, names or [*listing.artifacts])
    if not downgrade:
        require_forward(node, chosen, listing)
    for artifact in chosen:
        pull(node, artifact, destination, listing, downgrade=downgrade)


def test_older_release_is_refused(
    tree_store: Store, node: Store, folder: Folder, tmp_path: Path
) -> None:
    """Both versions are named, nothing is fetched; on purpose it goes back."""
    publish(release(tree_store, "v2.0.0"), None, folder)
    (tmp_path / "newer").mkdir()
    newer = at(tmp_path / "newer")
    commit(tree_store, DATASET, {"raw/data.parquet": b"new", "raw/LICENSE": b"MIT\n"})
    publish(release(tree_store, "v2.1.0"), None, newer)
    forward_only(node, newer)
    before = files_below(node.root)
    message = "humaneval_raw is here of release v2.1.0, and published of release v2.0.0: it would"
    with pytest.raises(PublishError, match=message):
        forward_only(node, folder, DATASET)
    with pytest.raises(PublishError, match=r"storage_release is here of release v2\.1\.0, and "):
        forward_only(node, folder, RELEASE)
    assert files_below(node.root) == before
    forward_only(node, folder, MODEL)  # the same content is not a way back
    forward_only(node, folder, downgrade=True)
    assert (node.root / ROWS).read_bytes() == random_bytes(50_000, 2)
    forward_only(node, newer)


def test_older_generation_is_refused(
    tree_store: Store,
    node: Store,
    folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without releases the time tells at which the content was first made."""
    day = 86_400
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(20_000 * day))
    commit(tree_store, DATASET, {"raw/data.parquet": b"old"})
    publish(tree_store, [tree_store.catalogue[DATASET]], folder)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(20_001 * day))
    commit(tree_store, DATASET, {"raw/data.parquet": b"new"})
    (tmp_path / "newer").mkdir()
    publish(tree_store, [tree_store.catalogue[DATASET]], at(tmp_path / "newer"))
    forward_only(node, at(tmp_path / "newer"))
    before = files_below(node.root)
    with pytest.raises(PublishError, match=r"made at 2024-10-05.*made at 2024-10-04.*--downgrade"):
        forward_only(node, folder)
    assert files_below(node.root) == before
    forward_only(node, folder, downgrade=True)
    assert (node.root / ROWS).read_bytes() == b"old"


def test_says_what_it_checked(node: Store, tree_store: Store, folder: Folder) -> None:
    """Hashes, release, and whether anybody signed it: the last two only where it was so."""
    publish(tree_store, None, folder)
    (item,) = pull_all(node, folder, DATASET)
    assert item.checked == "every byte hashed; of no release; no signature was asked for"
    publish(release(tree_store, "v2.0.0"), None, folder)
    (item,) = pull_all(node, folder, DATASET)
    assert item.checked == "every byte hashed; of release v2.0.0; no signature was asked for"


def test_verify_judges_what_was_pulled_and_no_more(
    tree_store: Store, node: Store, folder: Folder
) -> None:
    """A training node has two artifacts of fifty: the others are not missing there, the release
    knows of more than is here, and what was pulled and is gone is missing."""
    publish(release(tree_store, "v2.0.0"), None, folder)
    pull_all(node, folder, DATASET, RELEASE)
    assert [item.key for item in to_judge(node)] == [DATASET, RELEASE]
    assert exit_code([*verify(node, to_judge(node)), strays(node)]) == 0
    assert exit_code(verify_release(node, lambda verdict: None)) == 0
    shutil.rmtree(node.root / "datasets_v2")
    assert exit_code(verify(node, to_judge(node))) == 2
    assert exit_code(verify_release(node, lambda verdict: None)) == 2
