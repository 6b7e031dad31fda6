"""A folder on this machine in the place of a repository: read, hashed, copied, never linked to."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from wmtp_assets.base.errors import DownloadError, InvalidInput, SpecError
from wmtp_assets.base.settings import Settings, Source
from wmtp_assets.catalogue.specs import ModelSpec, load_spec, load_specs
from wmtp_assets.hub.endpoint import open_endpoint
from wmtp_assets.hub.folder import LFS_POINTER, revision_of
from wmtp_assets.hub.remote import head_of
from wmtp_assets.kinds.registry import expand
from wmtp_assets.kinds.staleness import reasons
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.pin import pin
from wmtp_assets.operations.plan import plan_raw
from wmtp_assets.operations.show import details_of
from wmtp_assets.storage import files
from wmtp_assets.storage.files import clone, hash_file
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import CHECKPOINT, META_MODEL, RAW, SAFETENSORS, TOKENIZER
from wmtp_assets_tests.hub.conftest import write_files
from wmtp_assets_tests.trees import tree

PARAMS = "7B_1T_4/params.json"
FILES = {
    CHECKPOINT: tiny.saved(tiny.random_tensors(tiny.params())),
    PARAMS: json.dumps(tiny.PARAMS).encode(),
    "tokenizer.model": tiny.llama_files()["tokenizer.model"],
}

Open = Callable[..., Store]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What somebody trained, and a file that nobody asks for."""
    write_files(tmp_path / "runs/best model", {**FILES, "optimizer.pt": b"large"})
    return tmp_path / "runs/best model"


@pytest.fixture
def opened(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """A root of a source, whose model is the folder; ``path`` stands in its defs.yaml."""
    monkeypatch.setenv("WMTP_LOCK", str(tmp_path / "wmtp.lock"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def open_(
        source: Source = "hub", path: str = "../runs/best model", root: str = "storage"
    ) -> Store:
        return Store(Settings(source, tmp_path / root), expand([declared(tmp_path, path)]))

    return open_


def declared(tmp_path: Path, path: str, **more: Any) -> Any:
    """The spec that a defs.yaml with this ``repository.path`` declares."""
    repository = {"path": path, "type": "model", "license": "MIT", **more}
    attributes = {**META_MODEL, "repository": repository}
    document = {"type": "wmtp_assets.components.CheckpointModel", "attributes": attributes}
    defs = tmp_path / "defs/defs.yaml"
    defs.parent.mkdir(exist_ok=True)
    defs.write_text(yaml.safe_dump(json.loads(json.dumps(document))))
    return load_spec(defs)


def make(store: Store, *keys: str) -> None:
    for key in keys:
        materialize(store, store.catalogue[key])


@pytest.mark.parametrize("source", ["hub", "sample"])
def test_folder_is_a_source(opened: Open, folder: Path, source: Source) -> None:
    """The same for both sources, and offline; the manifest says where the bytes come from, and
    holds no path of this machine."""
    store = opened(source)
    before = tree(folder)
    make(store, RAW, TOKENIZER, SAFETENSORS)
    raw = store.catalogue[RAW]
    said = store.manifest(raw).document["source"]
    assert (said["endpoint"], said["repo"]) == ("folder", "local/best-model")
    assert said["revision"] == revision_of({n: hash_file(folder / n).sha256 for n in FILES})
    assert said["pinned"] is False
    assert {name: store.read(raw, f"raw/{name}") for name in FILES} == FILES
    assert str(folder) not in store.manifest_path(raw).read_text()
    assert tree(folder) == before
    assert page_of(store) == str(folder)


def page_of(store: Store) -> str:
    """What ``wmtp show`` says about where the model comes from."""
    return details_of(store, store.catalogue[RAW]).source["page"]


@pytest.mark.parametrize("path", ["{folder}", "~/best model"], ids=["absolute", "home"])
def test_paths(opened: Open, folder: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As people write them."""
    monkeypatch.setenv("HOME", str(folder.parent))
    store = opened(path=path.replace("{folder}", str(folder)))
    assert store.catalogue[RAW].spec.repository.path == str(folder)
    make(store, RAW)


def test_files_are_not_linked(opened: Open, folder: Path) -> None:
    """The next training step writes into the folder, and the artifact must stay what it was."""
    store = opened()
    make(store, RAW)
    with (folder / CHECKPOINT).open("r+b") as file:
        file.write(b"other")
    raw = store.catalogue[RAW]
    assert store.read(raw, f"raw/{CHECKPOINT}") == FILES[CHECKPOINT]
    assert not tiny.raw_path(store, PARAMS).samefile(folder / PARAMS)


def test_lock_pins_the_content(opened: Open, folder: Path, tmp_path: Path) -> None:
    """What was pinned is what is made; what changed since is told, and taken when it is asked."""
    store = opened()
    raw = store.catalogue[RAW]
    rows, is_written = pin(store, [raw])
    assert is_written and rows[0]["state"] == "locked"
    pinned = json.loads((tmp_path / "wmtp.lock").read_text())["repositories"]
    assert {*pinned} == {"folders/local/best-model"}
    assert pinned["folders/local/best-model"]["revision"] == rows[0]["revision"]
    again, is_written = pin(store, [raw])
    assert (again[0]["state"], is_written) == ("as before", False)
    make(store, RAW)
    assert store.manifest(raw).document["source"]["pinned"] is True
    assert reasons(store, raw) == []

    (folder / PARAMS).write_bytes(b" " + FILES[PARAMS])
    rows, is_written = pin(store, [raw])
    assert not is_written
    assert "holds other files than are pinned" in rows[0]["problem"]
    assert "wmtp lock --update tiny_raw" in rows[0]["problem"]
    shutil.rmtree(store.root)
    with pytest.raises(DownloadError, match="wmtp lock --update tiny_raw"):
        make(store, RAW)
    assert not (store.root / "models_v2").exists()

    rows, is_written = pin(store, [raw], update=True)
    assert is_written and rows[0]["changed"] == [PARAMS]
    make(store, RAW)
    assert store.read(raw, f"raw/{PARAMS}") == b" " + FILES[PARAMS]


def test_same_size_and_other_bytes_are_not_what_was_pinned(opened: Open, folder: Path) -> None:
    """A size proves nothing; the copy is hashed."""
    store = opened()
    pin(store, [store.catalogue[RAW]])
    (folder / CHECKPOINT).write_bytes(tiny.changed(FILES[CHECKPOINT], 5000))
    with pytest.raises(DownloadError, match="It was not kept"):
        make(store, RAW)


def test_sample_locks_folders_only(opened: Open) -> None:
    """The sample's own repositories are made here."""
    store = opened("sample")
    rows, is_written = pin(store, store.catalogue)
    assert is_written and len(rows) == 1
    made = tiny.make_store(store.root / "other")
    with pytest.raises(SpecError, match="not locked"):
        pin(made, made.catalogue)


def test_plan(opened: Open, folder: Path) -> None:
    """Bytes to copy, whether it is pinned, and what is wrong with it."""
    store = opened("sample")
    raw = store.catalogue[RAW]
    planned = plan_raw(store, raw)
    size = sum(map(len, FILES.values()))
    assert (planned.size, planned.to_download, planned.is_pinned) == (size, size, False)
    pin(store, [raw])
    assert plan_raw(store, raw).is_pinned
    shutil.rmtree(folder)
    (store.root.parent / "wmtp.lock").unlink()
    assert "is not a folder. Correct repository.path" in plan_raw(store, raw).problem


def test_refused_before_it_is_copied(
    opened: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from the hub."""
    monkeypatch.setattr("wmtp_assets.hub.preflight.LARGE", 10_000)
    unusual = tiny.random_tensors(tiny.params()) | {"lora.weight": tiny.torch.zeros(3)}
    (folder / CHECKPOINT).write_bytes(tiny.saved(unusual))
    write_files(folder, {"tokenizer.model": FILES["tokenizer.model"]})
    store = opened()
    assert "unexpected tensors: lora.weight" in plan_raw(store, store.catalogue[RAW]).problem
    with pytest.raises(InvalidInput, match=r"unexpected tensors: lora\.weight"):
        make(store, RAW)


def test_head_moves_with_the_content(opened: Open, folder: Path) -> None:
    """What ``observe_upstream`` shows; what nobody asks for does not count."""
    store = opened("sample")
    spec = store.catalogue[RAW].spec
    make(store, RAW)

    def head() -> str:
        with open_endpoint(store.settings, spec.repository) as endpoint:
            return head_of(endpoint, spec)

    before = head()
    (folder / "optimizer.pt").write_bytes(b"another step")
    assert head() == before
    assert reasons(store, store.catalogue[RAW]) == []
    (folder / PARAMS).write_bytes(b" " + FILES[PARAMS])
    assert head() != before
    assert "upstream changed" in str(reasons(store, store.catalogue[RAW])[0])


@pytest.mark.parametrize(
    ("path", "root"),
    [("../storage/models_v2/mine", "storage"), ("..", "storage"), ("../storage", "storage")],
    ids=["inside", "around", "itself"],
)
def test_folder_and_root_lie_apart(opened: Open, tmp_path: Path, path: str, root: str) -> None:
    """An artifact must not be made from what its commit replaces."""
    (tmp_path / "storage/models_v2/mine").mkdir(parents=True)
    store = opened(path=path, root=root)
    with pytest.raises(SpecError, match="lie within one another"):
        make(store, RAW)


@pytest.mark.parametrize("path", ["runs\0", "runs\u202e", "runs\nbest", "runs\x1b[2J"])
def test_path_that_nobody_sees(opened: Open, path: str) -> None:
    """No system has a NUL in a name, and what is not printed hides which folder it is."""
    with pytest.raises(SpecError, match="has a character that is not printed") as error:
        opened(path=path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["a\n  b.pth", "a\u202eb.pth", "a\x1b[2Jb.pth", "a\udcff.pth"])
def test_names_of_others_are_shown_as_they_are(opened: Open, folder: Path, name: str) -> None:
    """On one line, and nothing in them is obeyed."""
    (folder / name).write_bytes(b"")
    (folder / CHECKPOINT).unlink()
    with pytest.raises(DownloadError, match="has no file") as error:
        make(opened(), RAW)
    assert str(error.value).isprintable()


def test_link_into_the_root_is_seen(opened: Open, tmp_path: Path) -> None:
    """It is the place that counts."""
    (tmp_path / "storage/models_v2").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "storage/models_v2")
    with pytest.raises(SpecError, match="lie within one another"):
        make(opened(path="../link"), RAW)


def test_snapshot_of_the_cache(opened: Open, folder: Path, tmp_path: Path) -> None:
    """Its files are links to blobs; what is committed are files."""
    for name in FILES:
        blob = tmp_path / "blobs" / hash_file(folder / name).sha256
        blob.parent.mkdir(exist_ok=True)
        (folder / name).rename(blob)
        (folder / name).symlink_to(blob)
    store = opened()
    make(store, RAW)
    assert not tiny.raw_path(store).is_symlink()
    assert tiny.raw_path(store).read_bytes() == FILES[CHECKPOINT]


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def pointer(path: Path) -> None:
    path.write_bytes(LFS_POINTER + b"\noid sha256:" + b"0" * 64 + b"\nsize 27000000000\n")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def nothing(path: Path) -> None:
    """There is no file."""


@pytest.mark.parametrize(
    ("put", "match"),
    [
        (dangling, "cannot be read"),
        (loop, "cannot be read"),
        (os.mkfifo, "is not a regular file"),
        (device, "is not a regular file"),
        (pointer, "is a pointer of Git LFS and not the file. Fetch it there: git lfs pull"),
        (nothing, "has no file 7B_1T_4/consolidated.pth"),
    ],
)
def test_what_is_no_file_is_refused(
    opened: Open, folder: Path, put: Callable[[Path], None], match: str
) -> None:
    """Named as what it is; a clone without git-lfs is what people have most often."""
    (folder / CHECKPOINT).unlink()
    put(folder / CHECKPOINT)
    with pytest.raises(DownloadError, match=match):
        make(opened(), RAW)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"revision": "0" * 40}, "wmtp lock pins a folder"),
        ({"gated": True}, "wmtp lock pins a folder"),
        ({"path": ""}, "at least 1 character"),
    ],
)
def test_what_a_folder_cannot_be(tmp_path: Path, more: dict[str, Any], match: str) -> None:
    """Said when the spec is read."""
    with pytest.raises(SpecError, match=match):
        declared(tmp_path, **{"path": "x", **more})


def test_two_folders_of_one_name(tmp_path: Path) -> None:
    """Each needs a name of its own: pins and the graph know it by that."""
    spec = declared(tmp_path, "a/best")
    other = tmp_path / "defs/other/defs.yaml"
    other.parent.mkdir()
    text = (tmp_path / "defs/defs.yaml").read_text().replace("name: tiny", "name: second")
    other.write_text(text.replace("tiny-model", "second").replace("a/best", "b/best"))
    with pytest.raises(SpecError, match="give one of them another id"):
        load_specs(tmp_path / "defs")
    other.write_text(other.read_text().replace("    path:", "    id: local/second\n    path:"))
    assert len(load_specs(tmp_path / "defs")) == 2
    assert isinstance(spec, ModelSpec)


def test_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where blocks can be shared, the clone has the bytes; where not, nothing is left. An existing
    file is never written to."""
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(FILES[CHECKPOINT])
    if clone(source, target):
        assert target.read_bytes() == FILES[CHECKPOINT]
    else:
        assert not target.exists()
    target.write_bytes(b"mine")
    assert clone(source, target) is False
    assert target.read_bytes() == b"mine"
    monkeypatch.setattr(files, "_FICLONE", 0)
    assert clone(source, tmp_path / "c") is False
    assert not (tmp_path / "c").exists()
