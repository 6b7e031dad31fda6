"""Files verified with nothing but their path: their manifest is found, or it is said why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import wmtp_assets
from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.catalogue.artifact import VALUE_HEAD
from wmtp_assets.storage import verified as module
from wmtp_assets.storage.store import Store
from wmtp_assets.storage.verified import VerifiedFile, find, private, read_verified, verified
from wmtp_assets_tests.leaks import leaves_nothing
from wmtp_assets_tests.trees import as_the_version_before, damage, flip

MICRO = "models_v2/micro-mtp"
MBPP = "datasets_v2/mbpp"


def read(path: Path) -> bytes:
    """All bytes of a file, verified."""
    return read_verified(path, lambda file: bytes(file.read_whole()))


def refused(path: Path, kind: type[Exception] = CorruptArtifact) -> str:
    """What is said of a path that is not verified; as a file and as a folder it is the same."""
    with pytest.raises(kind) as caught:
        read(path)
    said = str(caught.value)
    with pytest.raises(kind) as again, verified(path):
        pass
    assert str(again.value) == said
    return said


def test_every_file_of_every_artifact_is_found(store: Store) -> None:
    """Under whatever name its manifest has, and wherever that lies above it."""
    count = 0
    for artifact in store.catalogue:
        for name, record in store.manifest(artifact).files.items():
            listed = find(store.path(artifact, name))
            assert (listed.where, listed.name, listed.record, listed.key) == (
                store.manifest_path(artifact),
                name,
                record,
                artifact.key,
            )
            count += 1
    assert count > 150


def test_every_folder_is_verified(store: Store) -> None:
    """Libraries are given the folder of a model, one in it, a dataset, or a single file."""
    units = {artifact.unit for artifact in store.catalogue if artifact.unit.count("/") == 1}
    for name in (
        *units,
        f"{MICRO}/safetensors",
        f"{MBPP}/processed",
        f"{MBPP}/index/train.offsets",
    ):
        with wmtp_assets.verified(str(store.root / name)) as path:
            assert path == store.root / name


def test_copied_folder_needs_nothing_else(root: Path, tmp_path: Path) -> None:
    """On a training node there is neither graph nor storage root."""
    there = tmp_path / "elsewhere"
    shutil.copytree(root / MICRO, there)
    with verified(there) as path:
        assert path == there
    file = there / "safetensors/model.safetensors"
    damage(file, flip(-1))
    assert refused(file).endswith("Repair it with: wmtp repair micro_mtp")


def test_relative_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a notebook has it; the working directory may change inside the block."""
    monkeypatch.chdir(root / MICRO)
    with verified("configs/../safetensors") as path:
        assert path == root / MICRO / "safetensors"


def test_needs_the_base_package_only() -> None:
    """A machine that verifies before it copies has no torch."""
    script = (
        "import sys, wmtp_assets.storage.verified\n"
        "print({'torch', 'dagster', 'numpy', 'datasets', 'pyarrow'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("name", ["safetensors/model.safetensors", "configs/config.json"])
def test_flipped_bit_anywhere(root: Path, name: str) -> None:
    """At the beginning, in the middle, in the last byte: named with the command that helps."""
    path = root / MICRO / name
    size = path.stat().st_size
    with leaves_nothing():
        for at in (0, size // 2, size - 1):
            damage(path, flip(at))
            said = refused(path)
            assert said.startswith(f"{path}")
            assert " is damaged: SHA-256 " in said
            assert said.endswith("Repair it with: wmtp repair micro_mtp")
            damage(path, flip(at))
    assert read(path) == path.read_bytes()


def test_damage_of_a_part_is_named(store: Store) -> None:
    """A finding of 40 GB helps nobody."""
    path = store.root / "models_v2/starling-rm-7b/raw/pytorch_model.bin"
    damage(path, flip(16 << 20))
    assert refused(path).startswith(f"{path}, bytes 16777216 to 33554432, is damaged: SHA-256 ")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0"])
def test_another_size(root: Path, change: Callable[[bytes], bytes]) -> None:
    """Said before a byte is read or memory is taken."""
    path = root / MICRO / "safetensors/model.safetensors"
    size = path.stat().st_size
    damage(path, change)
    found = path.stat().st_size
    with leaves_nothing():
        said = refused(path)
    assert f"{path} is damaged: {found} bytes, but micro_mtp was committed with {size}" in said


def test_huge_file_is_not_read(root: Path) -> None:
    """An exbibyte of holes costs nothing to make, and all memory to read."""
    for name in ("safetensors/model.safetensors", "pieces.json", "metadata.json"):
        path = root / MICRO / name
        kept = path.read_bytes()
        path.unlink()
        with path.open("wb") as file:
            file.truncate(1 << 43)
        assert str(path) in refused(root / MICRO / "safetensors/model.safetensors")
        again = path.with_name("new")
        again.write_bytes(kept)
        again.replace(path)


def test_missing(root: Path) -> None:
    """A file that was committed, and a path that never was."""
    there = root / MICRO / "configs/params.json"
    there.unlink()
    with pytest.raises(MissingArtifact, match=f"{there} is missing, although micro_mtp is commit"):
        read(there)
    with (
        pytest.raises(MissingArtifact, match=r"params.json is missing, although micro_mtp is"),
        verified(root / MICRO / "configs"),
    ):
        pass
    said = refused(root / MICRO / "nothing", MissingArtifact)
    assert said == f"{root / MICRO / 'nothing'} does not exist; see what is there with: wmtp status"


def test_link_and_folder_are_no_file(root: Path, tmp_path: Path) -> None:
    """A link may lead to another checkpoint, which is whole and not this one."""
    path = root / MICRO / "safetensors/model.safetensors"
    shutil.copy(path, tmp_path / "elsewhere")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert "but micro_mtp was committed with a regular file. Repair it with: " in refused(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(CorruptArtifact, match="not a regular file"):
        read(path)


def test_linked_folder_leads_to_no_other_artifact(root: Path) -> None:
    """Whole, but of another model: the manifest above the link decides."""
    shutil.rmtree(root / MICRO / "safetensors")
    (root / MICRO / "safetensors").symlink_to(root / "models_v2/micro-ref/safetensors")
    with pytest.raises(CorruptArtifact, match=r"micro-mtp/safetensors/model.safetensors.* damaged"):
        read(root / MICRO / "safetensors/model.safetensors")
    with pytest.raises(CorruptArtifact), verified(root / MICRO / "safetensors"):
        pass


def test_root_may_be_behind_a_link(root: Path, tmp_path: Path) -> None:
    """A volume is mounted somewhere, and the project has a link to it."""
    (tmp_path / "storage").symlink_to(root)
    with verified(tmp_path / "storage" / MICRO) as path:
        assert path == tmp_path / "storage" / MICRO


def test_folder_of_an_artifact_may_be_a_link(root: Path, tmp_path: Path) -> None:
    """One model lies on a larger disk, or has a shorter name: what lies there is compared."""
    link = tmp_path / "model"
    link.symlink_to(root / MICRO)
    with verified(link) as path:
        assert path == link
    damage(root / MICRO / "safetensors/model.safetensors", flip(-1))
    with pytest.raises(CorruptArtifact, match="damaged"), verified(link):
        pass


def test_dots_behind_a_link(root: Path) -> None:
    """The system follows the link first: ``latest/..`` is what is above the folder that it leads
    to, and another model's bytes, whole as they are, must not be handed out instead."""
    other = root / "models_v2/micro-ref"
    (other / "latest").symlink_to(root / MICRO / "tokenizer")
    path = other / "latest/../configs/params.json"
    assert read(path) == path.read_bytes() != (other / "configs/params.json").read_bytes()
    with verified(other / "latest/../configs") as folder:
        assert folder == root / MICRO / "configs"


def test_no_manifest(root: Path, tmp_path: Path) -> None:
    """A file that was copied alone cannot be verified; that is not damage."""
    path = tmp_path / "alone.safetensors"
    shutil.copy(root / MICRO / "safetensors/model.safetensors", path)
    said = refused(path, MissingArtifact)
    assert said.startswith(f"{path} cannot be verified: there is no manifest (metadata.json, raw.")
    assert said.endswith("Copy the artifact's whole folder, or fetch it with: wmtp pull")


def test_file_that_no_manifest_lists(root: Path) -> None:
    """transformers prefers one name to another: what nobody committed is not loaded."""
    path = root / MICRO / "safetensors/adapter_model.safetensors"
    path.write_bytes(b"x")
    said = refused(path)
    assert f"{path} cannot be verified: it is not a file of an artifact; " in said
    assert str(root / MICRO / "metadata.json") in said
    with pytest.raises(CorruptArtifact, match="adapter_model"), verified(root / MICRO):
        pass


def test_files_of_known_tools_may_lie_there(root: Path) -> None:
    """A signature must not make the folder that it signs unusable."""
    (root / MICRO / "safetensors/model.sig").write_bytes(b"x")
    with verified(root / MICRO / "safetensors"):
        pass


@pytest.mark.parametrize("at", [20, -3])
def test_damaged_manifest(root: Path, at: int) -> None:
    """Nothing says then what was committed; the manifest is named."""
    path = root / MICRO / "metadata.json"
    damage(path, flip(at))
    said = refused(root / MICRO / "safetensors/model.safetensors")
    assert f"cannot be verified: {path}: " in said
    assert said.endswith("Repair it with: wmtp repair")


def test_damaged_manifest_of_another_artifact_does_not_matter(root: Path) -> None:
    """Files that an intact manifest lists are valid."""
    model = root / "models_v2/meta-llama-mtp"
    damage(model / "metadata.json", flip(20))
    assert read(model / "tokenizer/tokenizer.model")
    assert read(model / "raw/tokenizer.model")


def test_upstreams_own_metadata_is_a_file(root: Path) -> None:
    """Repositories have files of this name, which are not manifests."""
    path = root / "models_v2/meta-llama-mtp/raw/7B_1T_4/metadata.json"
    path.write_text("{}")
    assert read(path.with_name("params.json"))


def test_two_manifests_that_contradict_each_other(root: Path) -> None:
    """Whoever lays a second one beside the file would otherwise decide about it."""
    for name in ("metadata.json", "pieces.json"):
        source = root / "models_v2/meta-llama-mtp/safetensors-bf16" / name
        damage(source, lambda data: data)
        shutil.copy(source, root / "models_v2/micro-mtp/safetensors" / name)
    said = refused(root / MICRO / "safetensors/model.safetensors")
    assert "contradict each other about it" in said


def test_pieces_that_contradict_the_file(store: Store) -> None:
    """The file is whole; it is its pieces' hashes that are wrong, and nothing is handed out."""
    micro = store.catalogue["micro_mtp"]
    path = store.path(micro, micro.pieces)
    damage(path, flip(path.read_bytes().index(b'","') - 70))
    said = refused(store.root / MICRO / "safetensors/model.safetensors")
    assert said.startswith(f"{path} is damaged: SHA-256 ")


def test_version_before_is_hashed_as_a_whole(store: Store) -> None:
    """Its hashes of pieces are not under the content hash, and not used."""
    micro = store.catalogue["micro_mtp"]
    as_the_version_before(store, micro)
    path = store.root / MICRO / "safetensors/model.safetensors"
    assert read(path) == path.read_bytes()
    damage(path, flip(-1))
    assert refused(path).startswith(f"{path} is damaged: SHA-256 ")


def test_value_head_is_compared_with_what_was_recorded(store: Store) -> None:
    """Training's own file: none that was not recorded, and not another one."""
    micro = store.catalogue["micro_mtp"]
    head = store.path(micro, VALUE_HEAD)
    head.write_bytes(b"a trained head")
    assert "is not a file of an artifact" in refused(head)
    sha256 = "9" * 64
    store.amend(micro, {"value_head": {"path": VALUE_HEAD, "sha256": sha256}})
    assert f"micro_mtp was committed with SHA-256 {sha256}" in refused(head)
    with head.open("wb") as file:
        file.truncate(1 << 43)
    assert str(head) in refused(head)


def opened(path: Path) -> closing[VerifiedFile]:
    """A verified file, closed at the end."""
    return closing(VerifiedFile(find(path)))


def test_what_was_hashed_is_handed_out(root: Path) -> None:
    """The file is overwritten in place after it was read: its bytes are in private memory."""
    path = root / "models_v2/micro-ref/safetensors/model.safetensors"
    damage(path, lambda data: data)
    good = path.read_bytes()
    with opened(path) as file, path.open("r+b", buffering=0) as other:
        held = [file.read(piece) for piece in file.pieces[:5]]
        other.write(b"\xff" * len(good))
        assert b"".join(map(bytes, held)) == good[: file.pieces[4].end]
        with pytest.raises(CorruptArtifact, match=f"{file.pieces[5].place}, is damaged: SHA-256"):
            file.read(file.pieces[5])


def test_file_that_is_cut_off_while_it_is_read(root: Path) -> None:
    """A mapping would end the process with SIGBUS."""
    path = root / MICRO / "safetensors/model.safetensors"
    damage(path, lambda data: data)
    with opened(path) as file:
        os.truncate(path, 1000)
        with pytest.raises(CorruptArtifact, match="it was cut off while it was read"):
            file.read_whole()


@pytest.mark.parametrize("is_undone", [False, True])
def test_change_inside_the_block_is_found_at_its_end(root: Path, is_undone: bool) -> None:
    """A library has read the file by then; one that is right again is said to be right."""
    path = root / MICRO / "configs/params.json"
    damage(path, lambda data: data)
    good = path.read_bytes()
    if is_undone:
        with verified(root / MICRO):
            path.write_bytes(b"x")
            path.write_bytes(good)
        return
    with (
        pytest.raises(CorruptArtifact, match=r"params.json is damaged: 1 b"),
        verified(root / MICRO),
    ):
        path.write_bytes(b"x")


@pytest.mark.parametrize("change", ["added", "removed"])
def test_names_inside_the_block(root: Path, change: str) -> None:
    """A new ``adapter_config.json`` makes transformers load something else."""
    path = root / MICRO / "safetensors"
    other = path / ("adapter_config.json" if change == "added" else "SHA256SUMS")
    with pytest.raises((CorruptArtifact, MissingArtifact), match=other.name), verified(path):
        other.unlink() if change == "removed" else other.write_bytes(b"{}")


def test_error_inside_the_block_is_the_callers(root: Path) -> None:
    """It says more than that the folder changed."""
    with pytest.raises(ZeroDivisionError), verified(root / MICRO):
        (root / MICRO / "safetensors/extra").write_bytes(b"")
        raise ZeroDivisionError


def test_memory_is_private() -> None:
    """That of a forked data loader does not change ours."""
    for size in (10, module.BLOCK, 3 * module.BLOCK + 1):
        view = private(size)
        child = os.fork()
        if not child:
            view[:3] = b"abc"
            os._exit(0)
        os.waitpid(child, 0)
        assert len(view) == size
        assert bytes(view[:3]) == bytes(3)
