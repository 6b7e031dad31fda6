"""A safetensors file that needs no change is taken over as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.catalogue.specs import ModelSpec
from wmtp_assets.kinds.registry import expand, kind_of, rules_of
from wmtp_assets.kinds.staleness import reasons
from wmtp_assets.operations.repair import repair_one
from wmtp_assets.storage import store as store_module
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import RAW, SAFETENSORS, TOKENIZER, Tensors
from wmtp_assets_tests.rules.cases import apply
from wmtp_assets_tests.trees import damage, flip, reseal

NAME = "model.safetensors"
MODEL: dict[str, Any] = tiny.LLAMA_MODEL | {
    "files": {"checkpoint": NAME, "config": "config.json", "tokenizer": "tokenizer.model"}
}


def tensors(dtype: torch.dtype = torch.float16) -> Tensors:
    made = tiny.llama_tensors(dtype)
    return {name: tensor for name, tensor in made.items() if "inv_freq" not in name}


GOOD = save(tensors(), {"format": "pt"})


def store_of(root: Path, data: bytes = GOOD, **stated: Any) -> Store:
    """A store with one raw safetensors file and the tokenizer."""
    store = tiny.store_of(root / "storage", MODEL | stated)
    files = tiny.llama_files()
    kept = {name: files[name] for name in ("config.json", "tokenizer.model")}
    tiny.commit_files(store, {NAME: data, **kept})
    tiny.make(store, TOKENIZER)
    return store


def conversion(store: Store) -> dict[str, Any]:
    return store.manifest(store.catalogue[SAFETENSORS]).document["conversion"]


def in_place(store: Store) -> bytes:
    return tiny.checkpoint_path(store, SAFETENSORS).read_bytes()


@pytest.mark.parametrize("family", ["llama", "any"])
def test_is_taken_over(tmp_path: Path, family: str) -> None:
    """Byte for byte, header and all; every rule holds, also the one about the label in the file,
    which upstream's has not."""
    store = store_of(tmp_path, family=family, checkpoint={"embedding_rows": 48})
    document = tiny.make(store, SAFETENSORS).document
    assert in_place(store) == GOOD
    assert conversion(store)["taken_over"] == "byte for byte"
    assert document["sha256"]["checkpoint"] == document["source"]["files"][NAME]
    assert tiny.checkpoint_path(store, SAFETENSORS).stat().st_mode & 0o777 == 0o644
    pieces = store.pieces(store.catalogue[SAFETENSORS])["safetensors/model.safetensors"]
    assert len(pieces) == 1 + len(tensors())
    for rule in rules_of(store.catalogue[SAFETENSORS]):
        if rule.name != "tokenizer":  # of 32,000 pieces
            assert not apply(store, store.catalogue[SAFETENSORS], rule.name).findings, rule.name


def test_same_manifest_with_and_without_shared_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether blocks are shared is of the filesystem, and nothing that a hash may depend on."""
    found = []
    for can in (True, False):

        def clone(source: Path, target: Path, can: bool = can) -> bool:
            if can:
                shutil.copyfile(source, target)
            return can

        monkeypatch.setattr(store_module, "clone", clone)
        store = store_of(tmp_path / str(can))
        manifest = tiny.make(store, SAFETENSORS)
        assert in_place(store) == GOOD
        found.append((manifest.content_sha256, conversion(store), manifest.files))
    assert found[0] == found[1]


def changed_header(change: Callable[[dict[str, Any]], None], pad: int = 8) -> bytes:
    """The same data behind another header."""
    end = 8 + int.from_bytes(GOOD[:8], "little")
    header = json.loads(GOOD[8:end])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8 + (pad - 8))
    return len(text).to_bytes(8, "little") + text + GOOD[end:]


def moved() -> bytes:
    """Tensors whose data lie in another order than the library lays them out."""
    end = 8 + int.from_bytes(GOOD[:8], "little")
    data, header = GOOD[end:], json.loads(GOOD[8:end])
    names = [name for name in header if name != "__metadata__"][::-1]
    parts, at = [], 0
    for name in names:
        begin, stop = header[name]["data_offsets"]
        parts.append(data[begin:stop])
        header[name]["data_offsets"] = [at, at + stop - begin]
        at += stop - begin
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


PREFIXED = {f"module.{name}": tensor for name, tensor in tensors().items()}
INV_FREQ = "model.layers.0.self_attn.rotary_emb.inv_freq"

REWRITTEN: dict[str, tuple[bytes, Mapping[str, Any]]] = {
    "float32": (save(tensors(torch.float32), {"format": "pt"}), {}),
    "bfloat16": (save(tensors(torch.bfloat16), {"format": "pt"}), {}),
    "no metadata": (save(tensors()), {}),
    "of another library": (save(tensors(), {"format": "np"}), {}),
    "a wrong label": (save(tensors(), {"format": "pt", "dtype": "float32"}), {}),
    "a buffer": (save(tensors() | {INV_FREQ: torch.ones(4).half()}, {"format": "pt"}), {}),
    "a prefix": (
        save(PREFIXED, {"format": "pt"}),
        {"checkpoint": {"strip_prefix": "module."}},
    ),
    "another order": (moved(), {}),
    "data at an odd byte": (changed_header(lambda header: None, pad=11), {}),
}


@pytest.mark.parametrize("what", REWRITTEN)
def test_is_rewritten(tmp_path: Path, what: str) -> None:
    """What is not as we promise our file to be is made so, as before; no number is lost."""
    data, stated = REWRITTEN[what]
    store = store_of(tmp_path, data, **stated)
    tiny.make(store, SAFETENSORS)
    assert "taken_over" not in conversion(store)
    metadata = {"dtype": "float16", "format": "pt", "model_name": "tiny-model"}
    expected = load_file(tiny.raw_path(store, NAME))
    kept = {n.removeprefix("module."): t.half() for n, t in expected.items() if "inv_freq" not in n}
    assert in_place(store) == tiny.save_file_bytes(kept, metadata)


def test_tied_output_matrix_is_left_out(tmp_path: Path) -> None:
    """A file with a tensor that ours has not is another file."""
    store = store_of(tmp_path, GOOD, overrides={"tie_word_embeddings": True})
    with pytest.raises(InvalidInput, match="is not the same as"):
        tiny.make(store, SAFETENSORS)


def test_reads_every_number(tmp_path: Path) -> None:
    """NaN is refused in what is copied, too; the message names upstream's file."""
    bad = tensors()
    bad["model.norm.weight"][3] = float("nan")
    store = store_of(tmp_path, save(bad, {"format": "pt"}))
    with pytest.raises(InvalidInput, match=r"model\.norm\.weight: holds NaN") as refused:
        tiny.make(store, SAFETENSORS)
    assert str(tiny.raw_path(store, NAME)) in str(refused.value)
    assert "staging" not in str(refused.value)
    assert tiny.staged_left(store) == []


@pytest.mark.parametrize("offset", [0, 100, -1])
def test_damaged_raw_file(tmp_path: Path, offset: int) -> None:
    """It is verified before it is believed."""
    store = store_of(tmp_path)
    damage(tiny.raw_path(store, NAME), flip(offset))
    with pytest.raises(CorruptArtifact, match="wmtp repair tiny_raw"):
        tiny.make(store, SAFETENSORS)
    assert tiny.staged_left(store) == []


def test_changed_while_it_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hashed are the bytes that will be ours, after they were shared."""

    def clone(source: Path, target: Path) -> bool:
        target.write_bytes(flip(-1)(source.read_bytes()))
        return True

    monkeypatch.setattr(store_module, "clone", clone)
    store = store_of(tmp_path)
    with pytest.raises(CorruptArtifact, match="was changed while it was taken over"):
        tiny.make(store, SAFETENSORS)
    assert store.find_manifest(store.catalogue[SAFETENSORS]) is None
    assert tiny.staged_left(store) == []


def test_another_file_is_found(tmp_path: Path) -> None:
    """Resealed, so that no hash of the manifest tells: it is not upstream's any more."""
    store = store_of(tmp_path)
    artifact = store.catalogue[SAFETENSORS]
    tiny.make(store, SAFETENSORS)
    damage(tiny.checkpoint_path(store, SAFETENSORS), flip(-1))
    reseal(store, artifact, source={"files": {NAME: "0" * 64}})
    found = apply(store, artifact, "parameters").findings
    assert any("taken over" in finding.place for finding in found)


# -- a hard link -----------------------------------------------------------------------------------


def inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def test_is_linked_only_where_the_spec_says(tmp_path: Path) -> None:
    """One inode for two artifacts has a price, which somebody must want to pay."""
    for link in (True, False):
        store = store_of(tmp_path / str(link), checkpoint={"link": link})
        tiny.make(store, SAFETENSORS)
        ours, theirs = tiny.checkpoint_path(store, SAFETENSORS), tiny.raw_path(store, NAME)
        assert (inode(ours) == inode(theirs)) == link
        assert in_place(store) == GOOD
        assert conversion(store)["taken_over"] == ("hard link" if link else "byte for byte")
        assert not apply(store, store.catalogue[RAW], "sha256").findings
        assert not apply(store, store.catalogue[SAFETENSORS], "sha256").findings


@pytest.mark.parametrize("before", [True, False])
def test_setting_decides(tmp_path: Path, before: bool) -> None:
    """It is made again where the spec says otherwise; of files that are converted nothing is said,
    so that no manifest of theirs is out of date."""
    store = store_of(tmp_path, checkpoint={"link": before})
    tiny.make(store, SAFETENSORS)
    assert reasons(store, store.catalogue[SAFETENSORS]) == []
    other = MODEL | {"checkpoint": {"link": not before}}
    store = Store(store.settings, expand([ModelSpec.model_validate(other)]))
    (reason,) = reasons(store, store.catalogue[SAFETENSORS])
    assert (reason.why, reason.what.partition(":")[0]) == ("settings changed", "checkpoint.link")
    tiny.make(store, SAFETENSORS)
    path = tiny.checkpoint_path(store, SAFETENSORS)
    assert (inode(path) == inode(tiny.raw_path(store, NAME))) != before


def test_damage_to_one_is_damage_to_both(tmp_path: Path) -> None:
    """The price, as the docs say it: the raw file is not a source for the repair of the other."""
    store = store_of(tmp_path, checkpoint={"link": True})
    tiny.make(store, SAFETENSORS)
    path = tiny.raw_path(store, NAME)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    row, _ = repair_one(store, store.catalogue[SAFETENSORS])
    assert row["state"] != "repaired"


def test_link_of_what_is_cast_is_no_link(tmp_path: Path) -> None:
    """A file in another dtype is another file; that is not an error."""
    store = store_of(tmp_path, REWRITTEN["float32"][0], checkpoint={"link": True})
    tiny.make(store, SAFETENSORS)
    assert "taken_over" not in conversion(store)


def test_only_safetensors_are_linked_to() -> None:
    """A setting that can do nothing is a mistake in the spec."""
    with pytest.raises(ValidationError, match=r"checkpoint\.link: only one \.safetensors file"):
        ModelSpec.model_validate(tiny.LLAMA_MODEL | {"checkpoint": {"link": True}})


# -- a filesystem that shares blocks ---------------------------------------------------------------

SIZE = 48 << 20
"""Bytes of a raw file that is large beside what a filesystem keeps for itself."""


@pytest.fixture(params=["btrfs", "xfs"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A filesystem in a file, whose files can share blocks."""
    kind: str = request.param
    make = {"btrfs": ["mkfs.btrfs", "-q"], "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"]}[kind]
    if os.geteuid() or not shutil.which(make[0]):
        pytest.skip(f"needs root and {make[0]}")
    image, folder = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(512 << 20)
    folder.mkdir()
    subprocess.run([*make, image], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no {kind} can be mounted: {done.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def free(folder: Path) -> int:
    """Bytes, once all was written."""
    subprocess.run(["sync", "-f", folder], check=True)
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


@pytest.mark.faults
def test_blocks_are_shared(sharing: Path) -> None:
    """The second file takes no room until one of them is written, which does not reach the other:
    what a hard link would do."""
    extra = {"model.layers.0.other.weight": torch.ones(SIZE // 2, dtype=torch.float16)}
    data = save(tensors() | extra, {"format": "pt"})
    store = store_of(sharing, data, family="any")
    before = free(sharing)
    tiny.make(store, SAFETENSORS)
    assert before - free(sharing) < SIZE // 4
    ours, theirs = tiny.checkpoint_path(store, SAFETENSORS), tiny.raw_path(store, NAME)
    assert inode(ours) != inode(theirs)
    assert in_place(store) == data
    assert conversion(store)["taken_over"] == "byte for byte"
    with theirs.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert in_place(store) == data


def test_only_what_may_be_taken_over_says_whether_it_is_linked() -> None:
    """A new setting of all models would make every manifest that there is out of date."""
    single, sharded = (
        expand([ModelSpec.model_validate(model)])[SAFETENSORS]
        for model in (MODEL, tiny.LLAMA_MODEL)
    )
    assert kind_of(single).settings(single)["checkpoint.link"] is False
    assert "checkpoint.link" not in kind_of(sharded).settings(sharded)
