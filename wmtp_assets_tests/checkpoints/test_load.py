"""The reader that the training code uses: names complete, memory shared, nothing else changed.

Verified, it hands out what was hashed, and names what is damaged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file

import wmtp_assets
from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact
from wmtp_assets.catalogue.artifact import VALUE_HEAD
from wmtp_assets.checkpoints.beside import record_value_head
from wmtp_assets.checkpoints.families import load_state_dict
from wmtp_assets.checkpoints.safetensors_file import ITEM_SIZE, read_header
from wmtp_assets.storage import verified as verified_module
from wmtp_assets.storage.pieces import Piece
from wmtp_assets.storage.store import Store
from wmtp_assets.storage.verified import VerifiedFile
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import MICRO, SAFETENSORS, TOKENIZER, VARIANT
from wmtp_assets_tests.leaks import leaves_nothing
from wmtp_assets_tests.trees import as_the_version_before, damage, flip, reseal

META = tiny.random_tensors(tiny.params(), torch.float16)
LLAMA = tiny.llama_tensors(torch.float16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_is_exported() -> None:
    """The training code imports it from the package."""
    assert wmtp_assets.load_state_dict is load_state_dict


@pytest.mark.parametrize("as_text", [False, True])
def test_tied_file_gets_its_output_matrix(path: Path, as_text: bool) -> None:
    """The strict loader wants the name; the memory must be the embedding's, not a second 131 MB."""
    tied = {name: tensor for name, tensor in META.items() if name != "output.weight"}
    save_file(tied, path)
    found = load_state_dict(str(path) if as_text else path)
    assert_same(found, tied | {"output.weight": META["tok_embeddings.weight"]})
    embedding, output = found["tok_embeddings.weight"], found["output.weight"]
    assert output.shape == (48, 32)
    assert output.data_ptr() == embedding.data_ptr()
    output[0, 0] = 7
    assert embedding[0, 0] == 7


def test_untied_file_is_left_alone(path: Path) -> None:
    """An output matrix of its own must never be replaced by the embedding."""
    save_file(META, path)
    found = load_state_dict(path)
    assert_same(found, META)
    assert_same(found, load_file(path))
    assert found["output.weight"].data_ptr() != found["tok_embeddings.weight"].data_ptr()
    assert not torch.equal(found["output.weight"], found["tok_embeddings.weight"])


def test_tied_file_of_the_other_family_gets_its_output_matrix(path: Path) -> None:
    """transformers' names: the same promise, under the names that its strict loader wants."""
    tied = {name: tensor for name, tensor in LLAMA.items() if name != "lm_head.weight"}
    save_file(tied, path)
    found = load_state_dict(path)
    assert_same(found, tied | {"lm_head.weight": LLAMA["model.embed_tokens.weight"]})
    assert found["lm_head.weight"].data_ptr() == found["model.embed_tokens.weight"].data_ptr()


def test_untied_file_of_the_other_family_is_left_alone(path: Path) -> None:
    """Nothing but what the library reads, and no memory shared."""
    save_file(LLAMA, path)
    found = load_state_dict(path)
    assert_same(found, load_file(path))
    assert found["lm_head.weight"].data_ptr() != found["model.embed_tokens.weight"].data_ptr()


def test_foreign_file_is_left_alone(path: Path) -> None:
    """A lone output matrix of either family, a value head: there is nothing to untie."""
    for tensors in (
        {"output.weight": torch.ones(4, 2)},
        {"lm_head.weight": torch.ones(4, 2), "model.norm.weight": torch.ones(2)},
        {"v_head.weight": torch.ones(1, 2), "steps": torch.tensor(3)},
    ):
        save_file(tensors, path)
        assert_same(load_state_dict(path), tensors)


def test_errors_are_the_librarys(path: Path) -> None:
    """Documented as such: the caller handles them as he does for ``load_file``."""
    with pytest.raises(FileNotFoundError):
        load_state_dict(path)
    path.write_bytes(b"no safetensors file")
    with pytest.raises(SafetensorError):
        load_state_dict(path)


# -- verified --------------------------------------------------------------------------------------

CHECKPOINTS = (SAFETENSORS, VARIANT, MICRO)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A committed model with its variant and its micro model, which is tied."""
    store = tiny.make_store(tmp_path_factory.mktemp("made") / "storage")
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    tiny.make(store, TOKENIZER, SAFETENSORS, MICRO, VARIANT)
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    """A copy of :func:`made`."""
    return tiny.copy_of(made, tmp_path / "storage")


def verified(path: Path) -> dict[str, torch.Tensor]:
    return load_state_dict(path, verify=True)


def refused(path: Path, kind: type[Exception] = CorruptArtifact) -> str:
    with pytest.raises(kind) as caught:
        verified(path)
    return str(caught.value)


@pytest.mark.parametrize("key", CHECKPOINTS)
def test_verified_is_what_the_library_reads(store: Store, key: str) -> None:
    """Tied or not, in every dtype: only where the bytes lie is another place."""
    path = tiny.checkpoint_path(store, key)
    found = verified(path)
    assert_same(found, load_state_dict(path))
    assert ("tok_embeddings.weight" in found) and ("output.weight" in found)
    shared = found["output.weight"].data_ptr() == found["tok_embeddings.weight"].data_ptr()
    assert shared == (key == MICRO)
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in found.values()}
    assert len(storages) == len(found) - shared
    for tensor in storages.values():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes, "freed one by one"
    found["norm.weight"].add_(1)  # may be written to


@pytest.mark.parametrize("key", CHECKPOINTS)
def test_one_flipped_bit_in_each_tensor(store: Store, key: str) -> None:
    """Which tensor, which file, and what to type: in its first byte, its last, and the header."""
    path = tiny.checkpoint_path(store, key)
    header = read_header(path)
    ends = {entry.name: header.begins[entry.name] + entry.size for entry in header.entries}
    places = {
        **{begin: f"tensor {name}" for name, begin in header.begins.items()},
        **{end - 1: f"tensor {name}" for name, end in ends.items()},
        **dict.fromkeys((0, 7, 8, 100, header.data_start - 1), "the header"),
    }
    with leaves_nothing():
        for at, place in places.items():
            damage(path, flip(at))
            said = refused(path)
            assert said.startswith(f"{path}, {place}, is damaged: SHA-256 "), at
            assert said.endswith(f"Repair it with: wmtp repair {key}")
            damage(path, flip(at))
    assert len(verified(path)) == len(load_state_dict(path))


def test_one_damaged_tensor_of_the_version_before(store: Store) -> None:
    """It has no hashes that could be trusted but the file's: all of it is read and hashed first."""
    for key in CHECKPOINTS:
        as_the_version_before(store, store.catalogue[key])
        path = tiny.checkpoint_path(store, key)
        assert_same(verified(path), load_state_dict(path))
        damage(path, flip(-1))
        assert refused(path).startswith(f"{path} is damaged: SHA-256 ")


def test_raw_file_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream's own safetensors: parts are not tensors, and a tensor may lie in two of them."""
    monkeypatch.setattr("wmtp_assets.storage.files.PART", 4096)
    monkeypatch.setattr("wmtp_assets.storage.store.PART", 4096)
    store = tiny.make_store(tmp_path / "storage")
    tiny.commit_files(store, {"model.safetensors": save(META)}, in_parts=True)
    path = tiny.raw_path(store, "model.safetensors")
    assert_same(verified(path), META)
    damage(path, flip(5000))
    assert refused(path).startswith(f"{path}, bytes 4096 to 8192, is damaged: SHA-256 ")


def test_every_dtype_and_shape(tmp_path: Path) -> None:
    """A scalar, nothing at all, eight-bit floats: as the library reads them."""
    kinds = [torch.bool, torch.uint8, torch.int8, torch.float8_e5m2, torch.float8_e4m3fn]
    kinds += [torch.int16, torch.uint16, torch.float16, torch.bfloat16, torch.int32, torch.uint32]
    kinds += [torch.float32, torch.float64, torch.int64, torch.uint64, torch.complex64]
    kinds += [torch.float8_e5m2fnuz, torch.float8_e4m3fnuz]
    assert len(kinds) == len(ITEM_SIZE) - 1  # the library cannot read F8_E8M0 into torch
    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 4), "bytes": torch.empty(0)}
    store = tiny.make_store(tmp_path / "storage")
    tiny.commit_files(store, {"x.safetensors": save(tensors)})
    tiny.assert_same_bits(verified(tiny.raw_path(store, "x.safetensors")), tensors)


def test_value_head(store: Store) -> None:
    """Training's own file, after it was recorded; damaged, it is not loaded."""
    path = store.path(store.catalogue[SAFETENSORS], VALUE_HEAD)
    head = {"v_head.weight": torch.ones(32, 1)}
    save_file(head, path)
    assert "it is not a file of an artifact" in refused(path)
    record_value_head(store, store.catalogue[SAFETENSORS], 32, "run-7")
    assert_same(verified(path), head)
    damage(path, flip(-1))
    assert f"{path} is damaged: SHA-256 " in refused(path)


def test_what_is_no_checkpoint(store: Store, tmp_path: Path) -> None:
    """Whole, and still nothing to load; or nothing that could be compared."""
    with pytest.raises(InvalidInput, match=r"params.json: no safetensors file: a header of"):
        verified(tiny.raw_path(store, "7B_1T_4/params.json"))
    save_file(META, tmp_path / "alone.safetensors")
    assert "there is no manifest" in refused(tmp_path / "alone.safetensors", MissingArtifact)
    assert "does not exist" in refused(tmp_path / "nothing", MissingArtifact)


def test_pieces_of_another_checkpoint(store: Store) -> None:
    """All hashes are right, and the pieces are not the header's tensors: nobody committed that."""
    micro = store.catalogue[MICRO]
    path = tiny.checkpoint_path(store, MICRO)
    damage(path, lambda data: data.replace(b'"norm.weight"', b'"Norm.weight"'))
    pieces = store.path(micro, micro.pieces).read_bytes()
    reseal(store, micro)
    rewritten = store.path(micro, micro.pieces).read_bytes()
    assert rewritten != pieces
    damage(store.path(micro, micro.pieces), lambda data: data.replace(b"Norm.w", b"norm.w"))
    hashes_only(store)
    assert "are not the tensors of the header. Find out more with: wmtp verify" in refused(path)


def hashes_only(store: Store) -> None:
    """Make the micro model's manifest right again, and leave its pieces as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wmtp_assets_tests.trees.rewrite_pieces", lambda store, artifact: None)
        reseal(store, store.catalogue[MICRO])


def test_pieces_that_contradict_the_file(store: Store) -> None:
    """The checkpoint is as it was committed: it is said that the hashes of its pieces are wrong."""
    micro = store.catalogue[MICRO]
    path = tiny.checkpoint_path(store, MICRO)
    last = store.pieces(micro)["safetensors/model.safetensors"][-1]
    damage(
        store.path(micro, micro.pieces),
        lambda data: data.replace(last.sha256.encode(), b"0" * 64),
    )
    hashes_only(store)
    said = refused(path)
    assert said.startswith(f"{path} is as it was committed, but the hashes of its pieces beside ")
    assert f"{last.place} has SHA-256 {last.sha256}, not {'0' * 64}" in said
    assert said.endswith("--select 'tiny_micro'")


def test_header_that_claims_everything(store: Store) -> None:
    """Eight bytes may ask for eight exbibytes."""
    path = tiny.checkpoint_path(store, MICRO)
    as_the_version_before(store, store.catalogue[MICRO])
    damage(path, lambda data: b"\xff" * 7 + b"\x7f" + data[8:])
    reseal(store, store.catalogue[MICRO])
    assert f"{path}: no safetensors file: a header of 9223372" in refused(path, InvalidInput)


class Meanwhile:
    """Does something after a read of a checkpoint; ``reads`` says how many there were."""

    def __init__(self, patch: pytest.MonkeyPatch, do: Callable[[int], object]) -> None:
        self.reads = 0
        real = VerifiedFile.compare

        def compare(file: VerifiedFile, piece: Piece, into: memoryview | None = None) -> None:
            real(file, piece, into)
            if file.listed.name.endswith(".safetensors"):
                self.reads += 1
                do(self.reads)

        patch.setenv("WMTP_WORKERS", "1")
        patch.setattr(VerifiedFile, "compare", compare)


def test_file_that_is_overwritten_after_it_was_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place, after the last read: what is handed out is what was hashed, here and later."""
    path = tiny.checkpoint_path(store, SAFETENSORS)
    damage(path, lambda data: data)
    good = {name: tensor.clone() for name, tensor in load_file(path).items()}
    size = path.stat().st_size

    def overwrite(reads: int) -> None:
        if reads == len(good) + 1:
            with path.open("r+b") as file:
                file.write(b"\xff" * size)

    meanwhile = Meanwhile(monkeypatch, overwrite)
    found = verified(path)
    assert meanwhile.reads == len(good) + 1
    assert path.read_bytes() == b"\xff" * size
    assert_same(found, good)
    os.truncate(path, 0)
    assert_same(found, good)


def test_file_that_is_overwritten_while_it_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tensor but the last is right by then: none is handed out."""
    path = tiny.checkpoint_path(store, SAFETENSORS)
    damage(path, lambda data: data)
    count_of = len(read_header(path).entries)

    def overwrite(reads: int) -> None:
        if reads == count_of:
            with path.open("r+b") as file:
                file.write(b"\xff" * path.stat().st_size)

    Meanwhile(monkeypatch, overwrite)
    assert re.match(f"{path}, tensor .*, is damaged: SHA-256 ", refused(path))


@pytest.mark.parametrize("when", ["before it is opened", "while it is read"])
def test_commit_while_it_is_read(store: Store, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """The old version, whole, while it is open; the new one, where only the manifest was read."""
    path = tiny.checkpoint_path(store, SAFETENSORS)
    old = {name: tensor.clone() for name, tensor in load_file(path).items()}

    def commit() -> None:
        monkeypatch.undo()
        tiny.commit_raw(store, tiny.random_tensors(tiny.params(), seed=1))
        tiny.make(store, SAFETENSORS)

    if when == "while it is read":
        Meanwhile(monkeypatch, lambda reads: commit() if reads == 2 else None)
    else:
        real = verified_module.find

        def find(path: Path) -> verified_module.Listed:
            listed = real(path)
            commit()
            return listed

        monkeypatch.setattr(verified_module, "find", find)
    found = verified(path)
    new = load_file(path)
    assert not torch.equal(new["norm.weight"], old["norm.weight"])
    assert_same(found, old if when == "while it is read" else new)


def test_commits_all_the_time(store: Store) -> None:
    """Old or new, never a mix, and never called damaged."""
    artifact = store.catalogue[SAFETENSORS]
    path = tiny.checkpoint_path(store, SAFETENSORS)
    versions = [load_file(path)]
    tiny.commit_raw(store, tiny.random_tensors(tiny.params(), seed=1))
    tiny.make(store, SAFETENSORS)
    versions.append(load_file(path))
    files = []
    for generation in (store.folder(artifact), store.previous(artifact)):
        names = store.manifest(artifact).files
        files.append({name: (generation / name).read_bytes() for name in names})
    document = store.manifest(artifact).description
    stop = Event()

    def commit_in_turns() -> None:
        for number in count(1):
            if stop.is_set():
                return
            with store.stage(artifact) as staged:
                for name, data in files[number % 2].items():
                    staged.write(name, data)
                store.commit(artifact, staged, document)

    writer = Thread(target=commit_in_turns)
    writer.start()
    try:
        seen = [verified(path)["norm.weight"] for _ in range(60)]
        whole = [verified(path) for _ in range(20)]
    finally:
        stop.set()
        writer.join()
    norms = [version["norm.weight"] for version in versions]
    assert {[torch.equal(norm, found) for norm in norms].index(True) for found in seen} == {0, 1}
    for found in whole:
        version = versions[[torch.equal(norm, found["norm.weight"]) for norm in norms].index(True)]
        assert_same(found, version)
