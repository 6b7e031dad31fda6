"""Conversion to safetensors: the numbers of torch, no silent overflow, no damage to what is there.

Everything through the real builder but where the numbers alone matter.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from wmtp_assets.base.child import directly
from wmtp_assets.base.errors import (
    CorruptArtifact,
    DamagedRecord,
    InvalidInput,
    MissingArtifact,
    StoreError,
)
from wmtp_assets.base.progress import human_bytes
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DType, ModelFiles
from wmtp_assets.checkpoints import convert as convert_module
from wmtp_assets.checkpoints.beside import files_of
from wmtp_assets.checkpoints.convert import cast, convert
from wmtp_assets.checkpoints.pipeline import Extent, StoredTensor
from wmtp_assets.checkpoints.torch_zip import read_tensors, trust
from wmtp_assets.checkpoints.upstream import read_upstream
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.test_torch_zip import records, zipped
from wmtp_assets_tests.checkpoints.tiny import RAW, SAFETENSORS, TOKENIZER
from wmtp_assets_tests.checkpoints.views import View, views
from wmtp_assets_tests.leaks import leaves_nothing
from wmtp_assets_tests.trees import damage, flip, tree

INF, NAN = math.inf, math.nan

Tensors = dict[str, torch.Tensor]
Sources = dict[str, tuple[StoredTensor, ...]]


def convert_to(target: Path, sources: Sources, dtype: DType, metadata: dict[str, str]) -> bytes:
    """The bytes of the file that :func:`convert` writes."""
    target.unlink(missing_ok=True)
    with tiny.new_file(target) as file:
        convert(sources, dtype, metadata, file)
    return target.read_bytes()


def converted(folder: Path, tensors: Mapping[str, torch.Tensor], dtype: DType) -> Tensors:
    """What a state dict is after conversion, as the library reads it."""
    checkpoint, target = folder / "x.pth", folder / "x.safetensors"
    torch.save(dict(tensors), checkpoint)
    sources = {name: (tensor,) for name, tensor in read_tensors(checkpoint).tensors.items()}
    convert_to(target, sources, dtype, {})
    return load_file(target)


# -- numbers -------------------------------------------------------------------------------------

FLOATS: tuple[DType, ...] = ("float16", "bfloat16", "float32")
SOURCES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

EDGES = [
    0.0,
    -0.0,
    1 + 2**-11,  # a tie in float16: to even, down
    1 + 3 * 2**-11,  # a tie: to even, up
    1 + 2**-8,  # a tie in bfloat16
    1 + 3 * 2**-8,
    2**-14,  # smallest normal float16
    2**-24,  # smallest float16
    2**-25,  # a tie with zero
    -(2**-25) * 1.0001,
    2**-149,  # smallest float32
    -1e-40,
    65504.0,
    -65519.99,
]


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_rounds_as_torch_does(tmp_path: Path, source: torch.dtype, target: DType) -> None:
    """To nearest, ties to even: the model that is evaluated must be ``.to(dtype)`` of the source.

    In blocks of a few numbers, so that every seam between blocks is crossed.
    """
    values = torch.tensor(EDGES, dtype=torch.float64).to(source)
    tensors = {
        "edges": values[torch.isfinite(values.to(torch.float16))],
        "weights": torch.randn(37, 5, generator=torch.Generator().manual_seed(0)).to(source),
        "transposed": torch.arange(30.0).reshape(5, 6).to(source).t(),
        "column": torch.arange(30.0).reshape(5, 6).to(source)[:, 1],
        "scalar": torch.tensor(-1.5, dtype=source),
        "empty": torch.empty(0, 7, dtype=source),
        "parameter": torch.nn.Parameter(torch.ones(3, dtype=source)),
    }
    dtype = getattr(torch, target)
    expected = {name: tensor.detach().to(dtype) for name, tensor in tensors.items()}
    with tiny.blocks_of(64):
        tiny.assert_same_bits(converted(tmp_path, tensors, target), expected)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=8),
    st.sampled_from([torch.float16, torch.bfloat16]),
)
def test_casts_or_refuses(numbers: list[float], dtype: torch.dtype) -> None:
    """Either every number is finite afterwards and torch's, or the block is refused."""
    values = torch.tensor(numbers, dtype=torch.float32)
    expected = values.to(dtype)
    if torch.isfinite(expected).all():
        assert tiny.bits(cast(values, dtype, "x")) == tiny.bits(expected)
    else:
        with pytest.raises(InvalidInput, match=r"^x: "):
            cast(values, dtype, "x")


def test_largest_number_that_rounds_down_is_accepted(tmp_path: Path) -> None:
    """65,504 is the largest float16; up to 65,520 the nearest float16 is finite."""
    tensors = {"w": torch.tensor([65519.99, -65519.99, 65504.0])}
    found = converted(tmp_path, tensors, "float16")["w"]
    assert found.tolist() == [65504.0, -65504.0, 65504.0]


# -- the same file -------------------------------------------------------------------------------


def numbers(dtype: torch.dtype, count: int) -> torch.Tensor:
    """A storage of numbers that float16 has room for, edges first."""
    tail = torch.randn(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    every = torch.cat((torch.tensor(EDGES, dtype=torch.float64)[:-2], tail))[:count]
    return every.to(dtype)


def permuted(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, in a storage of their own, laid out in another order."""
    order = tuple(reversed(range(tensor.ndim)))
    return TWINS["copied"](tensor.permute(order)).permute(order)


TWINS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "shared": lambda tensor: tensor.detach(),
    "copied": lambda tensor: tensor.detach().clone(memory_format=torch.contiguous_format),
    "permuted": permuted,
}


def read_back(folder: Path, name: str) -> Mapping[str, tuple[StoredTensor, ...]]:
    """The tensors of a file, as a source."""
    files = ModelFiles(checkpoint=name, config="config.json")
    return read_upstream(files, lambda path: (folder / path, trust)).tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property test."""
    return tmp_path_factory.mktemp("convert")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    described=st.lists(
        st.tuples(views(SOURCES), st.lists(st.sampled_from(sorted(TWINS)), max_size=2)),
        min_size=1,
        max_size=4,
    ),
    target=st.sampled_from(FLOATS),
    block=st.sampled_from([8, 16, 24, 4096]),
    is_torch=st.booleans(),
    is_early=st.booleans(),
    metadata=st.dictionaries(st.text(max_size=3), st.text(max_size=3), min_size=1, max_size=3),
)
def test_any_tensors_become_what_save_file_writes(
    folder: Path,
    described: list[tuple[View, list[str]]],
    target: DType,
    block: int,
    is_torch: bool,
    is_early: bool,
    metadata: dict[str, str],
) -> None:
    """Byte for byte, from any view of any storage, in blocks so small that seams are everywhere.

    From either format, alone or with twins that have to be equal, however those are laid out.
    """
    storages: dict[torch.dtype, torch.Tensor] = {}
    tensors: Tensors = {}
    sources: dict[str, list[str]] = {}
    for number, (view, twins) in enumerate(described):
        tensor = view.of(storages, numbers)
        found = {f"t.{number}": tensor}
        found |= {f"t.{number}.{i}": TWINS[twin](tensor) for i, twin in enumerate(twins)}
        sources[f"t.{number}"] = list(found)
        tensors |= found
    name = "x.pth" if is_torch else "x.safetensors"
    if is_torch:
        torch.save(tensors, folder / name)
    else:
        copies = {n: TWINS["copied"](tensor) for n, tensor in tensors.items()}
        save_file(copies, folder / name)
    with tiny.blocks_of(block), tiny.everything_read_ahead() if is_early else nullcontext():
        stored = read_back(folder, name)
        groups = {n: tuple(stored[one][0] for one in same) for n, same in sources.items()}
        data = convert_to(folder / "converted.safetensors", groups, target, metadata)
    dtype = getattr(torch, target)
    expected = {n: tensors[n].detach().to(dtype) for n in sources}
    assert data == tiny.save_file_bytes(expected, metadata)


def two(folder: Path, one: torch.Tensor, other: torch.Tensor) -> Sources:
    """Two tensors of a file that have to be equal."""
    torch.save({"one": one, "other": other}, folder / "x.pth")
    stored = read_tensors(folder / "x.pth").tensors
    return {"w": (stored["one"], stored["other"])}


@pytest.mark.parametrize("how", ["copied", "permuted"])
@pytest.mark.parametrize("at", [0, 999, 1000, 2399], ids=str)
def test_twins_that_differ_are_refused(tmp_path: Path, how: str, at: int) -> None:
    """One number, in the first or the last block, and be it the sign of a zero."""
    tensor = torch.zeros(48, 50)
    other = TWINS[how](tensor)
    other[at // 50, at % 50] = -0.0
    with tiny.blocks_of(1000):
        message = r"x\.pth: other is not the same as one in x\.pth: they differ within elements "
        with pytest.raises(InvalidInput, match=message) as refused:
            convert_to(tmp_path / "x.safetensors", two(tmp_path, tensor, other), "float16", {})
    begin, end = map(int, str(refused.value).rsplit("elements ", 1)[1].split(" to "))
    assert begin <= at < end
    if how == "copied":
        assert begin % 250 == 0 and end == min(begin + 250, 2400)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_buffers_are_not_reused_too_early(tmp_path: Path, count: int) -> None:
    """The next block would overwrite one that is still compared, cast or written.

    Blocks of whole pages: smaller ones lie in the same page, and overwriting changes nothing.
    """
    tensor = torch.arange(20_000.0)
    torch.save({str(i): tensor.clone() for i in range(count)}, tmp_path / "x.pth")
    sources: Sources = {"w": tuple(read_tensors(tmp_path / "x.pth").tensors.values())}
    with tiny.blocks_of(8192), tiny.everything_read_ahead():
        convert_to(tmp_path / "x", sources, "float16", {})
    assert torch.equal(load_file(tmp_path / "x")["w"], tensor.half())


def test_transposed_twin_of_one_storage(tmp_path: Path) -> None:
    """The same bytes at the same place, read in another order, are another tensor."""
    square = torch.arange(16.0).reshape(4, 4)
    with pytest.raises(InvalidInput, match="other is not the same as one"):
        convert_to(tmp_path / "x", two(tmp_path, square, square.t()), "float16", {})
    symmetric = square + square.t()
    convert_to(tmp_path / "y", two(tmp_path, symmetric, symmetric.t()), "float16", {})
    assert torch.equal(load_file(tmp_path / "y")["w"], symmetric.half())


@pytest.mark.parametrize("length", range(1, 9))
def test_tensors_at_any_address(tmp_path: Path, length: int) -> None:
    """Torch aligns its records to 64 bytes; another writer's tensors begin anywhere."""
    path = tmp_path / "x.pth"
    path.write_bytes(zipped(records(GOOD), prefix="x" * length + "/"))
    stored = read_tensors(path).tensors
    assert {tensor.begin % 64 for tensor in stored.values()} != {0}
    with tiny.blocks_of(1000):
        sources = {name: (tensor,) for name, tensor in stored.items()}
        data = convert_to(tmp_path / "x", sources, "float16", {"format": "pt"})
    expected = {name: tensor.half() for name, tensor in STATE.items()}
    assert data == tiny.save_file_bytes(expected, {"format": "pt"})


def test_shared_twins_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a reward model's file is names for what was read already."""
    read: list[str] = []
    real = convert_module.read_extents

    def count(extents: Iterable[Extent], kept: int = 1) -> Generator[memoryview, None, None]:
        def told() -> Iterator[Extent]:
            for extent in extents:
                read.append(extent.what)
                yield extent

        return real(told(), kept)

    monkeypatch.setattr(convert_module, "read_extents", count)
    tensor = torch.ones(10, 10)
    convert_to(tmp_path / "1", two(tmp_path, tensor, tensor), "float16", {})
    assert read == ["one"]
    read.clear()
    convert_to(tmp_path / "2", two(tmp_path, tensor, tensor.clone()), "float16", {})
    assert sorted(read) == ["one", "other"]


def test_file_that_shrinks_between_description_and_data(tmp_path: Path) -> None:
    """Whoever replaces the file while it is read gets an error and not zeros."""
    path = tmp_path / "x.pth"
    for tensor in (torch.ones(1000), torch.ones(20, 50).t()):
        torch.save({"w": tensor}, path)
        stored = read_tensors(path).tensors
        os.truncate(path, stored["w"].begin + 2000)
        with pytest.raises(InvalidInput, match=r"x\.pth: the file ends inside "):
            convert_to(tmp_path / "x", {"w": (stored["w"],)}, "float16", {})


# -- overflow ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A committed tiny model, all but the micro model."""
    store = tiny.make_store(tmp_path_factory.mktemp("made") / "storage")
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    tiny.make(store, TOKENIZER, SAFETENSORS)
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    """A copy of :func:`made`."""
    return tiny.copy_of(made, tmp_path / "storage")


@pytest.mark.parametrize("position", [0, 1000, -1], ids=["first", "middle", "last"])
@pytest.mark.parametrize(
    ("number", "why"),
    [
        (65520.0, "65520 overflows float16 (largest 65504)"),
        (-65520.0, "65520 overflows float16 (largest 65504)"),
        (3e38, "3e+38 overflows float16 (largest 65504)"),
        (INF, "holds NaN or infinity"),
        (-INF, "holds NaN or infinity"),
        (NAN, "holds NaN or infinity"),
    ],
)
def test_overflow_names_the_tensor(store: Store, position: int, number: float, why: str) -> None:
    """One infinite weight turns every logit into NaN, hours into a run.

    In the first, a middle and the last of the tensor's blocks: none may be left unchecked.
    """
    tensors = tiny.random_tensors(tiny.params())
    name = "extra_heads.1.feed_forward.w2.weight"
    tensors[name].view(-1)[position] = number
    tiny.commit_raw(store, tensors)
    with tiny.blocks_of(256):
        assert tiny.assert_refused(store) == f"{tiny.raw_path(store)}: {name}: {why}"


@pytest.mark.parametrize(("source", "number"), [(torch.float64, 1e39), (torch.float64, 3.41e38)])
def test_bfloat16_overflows_too(tmp_path: Path, source: torch.dtype, number: float) -> None:
    """Its range is float32's, and float64 goes beyond; float32's own largest rounds to infinity."""
    for dtype in ("bfloat16", "float32"):
        with pytest.raises(InvalidInput, match=rf"w: .* overflows {dtype} \(largest 3\.\d+e\+38\)"):
            converted(tmp_path, {"w": torch.tensor([1.0, number], dtype=source)}, dtype)
    with pytest.raises(InvalidInput, match=r"3\.40282e\+38 overflows bfloat16"):
        converted(tmp_path, {"w": torch.tensor([3.4028235e38])}, "bfloat16")


@pytest.mark.parametrize(
    "dtype",
    [torch.int64, torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint16],
    ids=str,
)
def test_other_dtypes_are_refused(store: Store, dtype: torch.dtype) -> None:
    """A quantised checkpoint is numbers without their scales; as float16 it is noise."""
    tensors = tiny.random_tensors(tiny.params())
    name = "layers.0.attention.wq.weight"
    tensors[name] = tensors[name].to(dtype)
    tiny.commit_raw(store, tensors)
    message = tiny.assert_refused(store)
    found = str(dtype).removeprefix("torch.")
    assert message.startswith(f"{tiny.raw_path(store)}: {name} is {found}; expected one of ")


# -- the artifact --------------------------------------------------------------------------------


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("source", [torch.float16, torch.float32], ids=str)
def test_model_is_converted_whole(tmp_path: Path, source: torch.dtype, target: DType) -> None:
    """Every tensor but the buffers, in the dtype of the spec, under its own name.

    metadata.json says what was done, from the bytes: upstream's notes call its float32 file
    float16.
    """
    store = tiny.make_store(tmp_path / "storage", target)
    tensors = tiny.random_tensors(tiny.params(), source)
    tiny.commit_raw(store, tensors)
    with tiny.blocks_of(1000):
        document = tiny.make(store, TOKENIZER, SAFETENSORS).document
    del tensors["rope.freqs"]
    expected = {name: tensor.to(getattr(torch, target)) for name, tensor in tensors.items()}
    tiny.assert_same_bits(load_file(tiny.checkpoint_path(store, SAFETENSORS)), expected)
    assert document["dtype"] == target
    assert document["n_params"] == sum(tensor.numel() for tensor in tensors.values())
    assert document["conversion"] == {
        "from_dtype": [str(source).removeprefix("torch.")],
        "to_dtype": target,
        "dropped": ["rope.freqs"],
        "aliased": {},
    }


def test_file_is_what_save_file_writes(store: Store) -> None:
    """Other tools compare checkpoints byte for byte with what the library makes."""
    path = tiny.checkpoint_path(store, SAFETENSORS)
    metadata = {"model_name": "tiny-model", "format": "pt", "dtype": "float16"}
    assert path.read_bytes() == tiny.save_file_bytes(load_file(path), metadata)


@pytest.mark.parametrize(
    "names", [(), ("rope.freqs",), ("freqs_cis",), ("freqs_cis", "rope.freqs")]
)
def test_rotary_buffers_are_dropped_and_recorded(store: Store, names: tuple[str, ...]) -> None:
    """The model recomputes them; the strict loader does not know them; a reader can see they were.

    Meta's own files hold either; ``freqs_cis`` is complex and could not be converted.
    """
    tensors = tiny.random_tensors(tiny.params())
    del tensors["rope.freqs"]
    buffers = {"freqs_cis": torch.zeros(4, 4, dtype=torch.complex64), "rope.freqs": torch.zeros(4)}
    tiny.commit_raw(store, tensors | {name: buffers[name] for name in names})
    document = tiny.make(store, SAFETENSORS).document
    assert document["conversion"]["dropped"] == sorted(names)
    assert load_file(tiny.checkpoint_path(store, SAFETENSORS)).keys() == tensors.keys()


def test_mixed_source_is_told(store: Store) -> None:
    """A file with several dtypes is converted; which ones it had must not get lost."""
    tensors = tiny.random_tensors(tiny.params())
    tensors["norm.weight"] = tensors["norm.weight"].half()
    tiny.commit_raw(store, tensors)
    document = tiny.make(store, SAFETENSORS).document
    assert document["conversion"]["from_dtype"] == ["float16", "float32"]
    assert document["dtype"] == "float16"


def test_tied_source_is_written_out(store: Store) -> None:
    """Two names for one storage: in the safetensors file each tensor has bytes of its own."""
    tensors = tiny.random_tensors(tiny.params())
    tensors["output.weight"] = tensors["tok_embeddings.weight"]
    tiny.commit_raw(store, tensors)
    tiny.make(store, SAFETENSORS)
    found = load_file(tiny.checkpoint_path(store, SAFETENSORS))
    assert torch.equal(found["output.weight"], found["tok_embeddings.weight"])
    assert found["output.weight"].data_ptr() != found["tok_embeddings.weight"].data_ptr()


def test_record_of_several_tensors_is_verified_and_that_is_said(store: Store) -> None:
    """Flat checkpoints hold all weights in one record: its checksum takes a pass over the file."""
    tensors = tiny.random_tensors(tiny.params())
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors.values()])
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    views = {
        name: part.view(tensor.shape)
        for (name, tensor), part in zip(tensors.items(), parts, strict=True)
    }
    tiny.commit_raw(store, views)
    said: list[str] = []
    materialize(store, store.catalogue[SAFETENSORS], said.append, run=directly)
    found = load_file(tiny.checkpoint_path(store, SAFETENSORS))
    assert torch.equal(found["norm.weight"], tensors["norm.weight"].half())
    line = next(line for line in said if line.startswith("verifying records of several tensors: "))
    assert "(100 %)" in line


def test_hashes_are_those_of_the_bytes(store: Store) -> None:
    """Verification believes these hashes; whoever has only the file recomputes them alike."""
    artifact = store.catalogue[SAFETENSORS]
    document = store.manifest(artifact).document
    content = tiny.checkpoint_path(store, SAFETENSORS).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    del header["__metadata__"]
    described = document["checkpoint"]
    assert described.keys() == {"tensors"}
    assert described["tensors"].keys() == header.keys()
    first, *others = store.pieces(artifact)[files_of(artifact).checkpoint]
    sha256 = hashlib.sha256(content[:start]).hexdigest()
    assert (first.place, first.begin, first.end, first.sha256) == ("the header", 0, start, sha256)
    assert len(others) == len(header)
    covered = 0
    for (name, entry), piece in zip(header.items(), others, strict=True):
        begin, end = entry["data_offsets"]
        data = content[start + begin : start + end]
        assert described["tensors"][name] == {"dtype": "float16", "shape": entry["shape"]}
        assert piece.place == f"tensor {name}"
        assert (piece.begin, piece.end) == (start + begin, start + end)
        assert piece.sha256 == hashlib.sha256(data).hexdigest()
        covered += len(data)
    assert start + covered == len(content)
    folder = store.folder(artifact)
    for role, name in document["files"].items():
        assert document["sha256"][role] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_sha256sum_accepts_the_folder(store: Store) -> None:
    """The file is for people without this project: coreutils must accept it, and see damage."""
    folder = tiny.checkpoint_path(store, SAFETENSORS).parent
    command = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "model.safetensors: OK\n")
    damage(folder / "model.safetensors", flip(-1))
    assert subprocess.run(command, cwd=folder, capture_output=True).returncode == 1


def test_again_is_the_same(store: Store) -> None:
    """Same bytes in, same bytes out: nothing downstream becomes stale."""
    before = store.manifest(store.catalogue[SAFETENSORS])
    assert tiny.make(store, SAFETENSORS).document == before.document


# -- what is refused -----------------------------------------------------------------------------


def rename(tensors: Tensors) -> None:
    tensors["lm_head.weight"] = tensors.pop("output.weight")


def transpose(tensors: Tensors) -> None:
    tensors["layers.2.feed_forward.w2.weight"] = tensors["layers.2.feed_forward.w2.weight"].t()


def add_layer(tensors: Tensors) -> None:
    tensors["layers.5.attention_norm.weight"] = torch.ones(32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("norm.weight"), "missing tensors: norm.weight"),
        (
            lambda tensors: tensors.pop("extra_heads.1.ffn_norm.weight"),
            "missing tensors: extra_heads.1.ffn_norm.weight",
        ),
        (rename, "missing tensors: output.weight; unexpected tensors: lm_head.weight"),
        (add_layer, "unexpected tensors: layers.5.attention_norm.weight"),
        (
            transpose,
            "layers.2.feed_forward.w2.weight has shape [88, 32], params.json asks for [32, 88]",
        ),
    ],
    ids=["missing", "missing head", "renamed", "extra", "transposed"],
)
def test_wrong_tensors_are_refused(
    store: Store, change: Callable[[Tensors], object], message: str
) -> None:
    """The training code's loader is strict about names and shapes, and far away."""
    tensors = tiny.random_tensors(tiny.params())
    change(tensors)
    tiny.commit_raw(store, tensors)
    assert tiny.assert_refused(store) == f"{tiny.raw_path(store)}: {message}"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (b"{", "not JSON"),
        (tiny.PARAMS | {"head_dim": 8}, "head_dim: Extra inputs are not permitted"),
        (tiny.PARAMS | {"n_layers": 6}, "unexpected tensors: layers.4."),
        (tiny.PARAMS | {"n_layers": 8}, "missing tensors: layers.5."),
        (tiny.PARAMS | {"n_future_tokens": 4}, "missing tensors: extra_heads.2."),
        (tiny.PARAMS | {"vocab_size": 64}, "tok_embeddings.weight has shape [48, 32], params.json"),
        (tiny.PARAMS | {"multiple_of": 256}, "feed_forward.w1.weight has shape [88, 32], params"),
        (tiny.PARAMS | {"n_kv_heads": 4}, "attention.wk.weight has shape [16, 32], params.json"),
    ],
)
def test_wrong_params_are_refused(store: Store, params: Any, message: str) -> None:
    """Shapes are derived from params.json alone; a file that does not fit it loads nowhere."""
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()), params)
    assert message in tiny.assert_refused(store)


def test_files_that_are_no_checkpoint_are_refused(store: Store) -> None:
    """The reader's refusal must come out of the builder, and change nothing."""
    tiny.commit_raw(store, b"<html>Access denied</html>")
    message = tiny.assert_refused(store)
    assert message.startswith(f"{tiny.raw_path(store)}: not a torch checkpoint")


@pytest.mark.parametrize("name", [tiny.CHECKPOINT, "7B_1T_4/params.json"])
@pytest.mark.parametrize("offset", [0, 60, -1])
def test_damaged_raw_file_is_not_parsed(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, offset: int
) -> None:
    """Torch loads most damaged files without a word: bytes are verified before they are parsed."""

    def parse(*arguments: object, **options: object) -> None:
        raise AssertionError("parsed before it was verified")

    monkeypatch.setattr(torch, "load", parse)
    monkeypatch.setattr(zipfile, "ZipFile", parse)
    if name != tiny.CHECKPOINT:
        monkeypatch.setattr(convert_module, "parse_parameters", parse)
    damage(tiny.raw_path(store, name), flip(offset))
    message = tiny.assert_refused(store, CorruptArtifact)
    assert name in message
    assert f"wmtp repair {RAW}" in message


def with_buffer_amid() -> Tensors:
    """A state dict whose buffer is neither near the description nor near the directory."""
    tensors = tiny.random_tensors(tiny.params())
    buffer = {"rope.freqs": tensors.pop("rope.freqs")}
    names = list(tensors)
    return {n: (tensors | buffer)[n] for n in (*names[:30], *buffer, *names[30:])}


STATE = with_buffer_amid()
GOOD = tiny.saved(STATE)

PART = 4096


@pytest.fixture
def parted(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same, with hashes of parts, so that data is verified while it is converted."""
    monkeypatch.setattr("wmtp_assets.storage.files.PART", PART)
    monkeypatch.setattr("wmtp_assets.storage.store.PART", PART)
    monkeypatch.setattr("wmtp_assets.checkpoints.torch_zip.TAIL", 4 * PART)
    tiny.commit_raw(store, GOOD, in_parts=True)
    parts = store.pieces(store.catalogue[RAW])[f"raw/{tiny.CHECKPOINT}"]
    assert parts[0].end == PART
    assert len(parts) == -(-len(GOOD) // PART)
    return store


def storage_of(name: str) -> int:
    """The number of the storage of a tensor in :data:`GOOD`: they are in order."""
    return list(STATE).index(name)


LAST_TRUNK = "layers.4.feed_forward.w2.weight"
BEGIN, SIZE = tiny.storage_at(GOOD, storage_of(LAST_TRUNK))
HEADER = GOOD[:BEGIN].rindex(b"PK\x03\x04")


@pytest.mark.parametrize("offset", [0, SIZE // 2, SIZE - 4])
def test_damaged_data_is_found_by_its_checksum(
    parted: Store, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    """The lowest bit of one weight: no value looks wrong, and torch would load it.

    The file is hashed as a whole only then, to tell whose damage it is.
    """
    whole: list[str] = []
    real = Store.verify_file

    def verify_file(self: Store, artifact: Artifact, name: str, *rest: Any) -> Path:
        whole.append(name)
        return real(self, artifact, name, *rest)

    monkeypatch.setattr(Store, "verify_file", verify_file)
    tiny.make(parted, SAFETENSORS)
    assert whole == []
    damage(tiny.raw_path(parted), flip(BEGIN + offset))
    message = tiny.assert_refused(parted, CorruptArtifact, "is damaged: SHA-256 ")
    assert message.startswith(str(tiny.raw_path(parted)))
    assert f"wmtp repair {RAW}" in message
    assert whole == [f"raw/{tiny.CHECKPOINT}"]


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (BEGIN + 3, 0x7F),  # sign and exponent: 1e38
        (BEGIN + SIZE - 1, 0x7F),
        (HEADER, None),
        (HEADER + 26, None),
    ],
    ids=["overflow in the first number", "overflow in the last number", "signature", "name size"],
)
def test_damage_here_is_not_blamed_on_upstream(
    parted: Store, offset: int, value: int | None
) -> None:
    """A flipped bit can look like a model that overflows, or a file that is none.

    Whoever reads that asks upstream for another model; what helps is to download it again.
    """
    change = (lambda byte: byte ^ 1) if value is None else (lambda byte: value)
    damage(tiny.raw_path(parted), lambda data: tiny.changed(data, offset, change))
    with tiny.blocks_of(256):
        tiny.assert_refused(parted, CorruptArtifact, "is damaged: SHA-256 ")


def test_damaged_description_is_found_by_its_part(parted: Store) -> None:
    """Without the rest of the file: where it is, is said in bytes."""
    at = GOOD.index(LAST_TRUNK.encode())
    damage(tiny.raw_path(parted), flip(at))
    begin = at // PART * PART
    message = tiny.assert_refused(parted, CorruptArtifact)
    assert message.startswith(
        f"{tiny.raw_path(parted)}, bytes {begin} to {begin + PART}, is damaged: SHA-256 "
    )
    assert f"wmtp repair {RAW}" in message


@pytest.mark.parametrize(
    "offset",
    [BEGIN - 1, tiny.storage_at(GOOD, storage_of("rope.freqs"))[0]],
    ids=["padding", "dropped buffer"],
)
def test_damage_in_what_is_not_used_changes_nothing(parted: Store, offset: int) -> None:
    """Bytes that reach no tensor reach no output; the rule about file hashes finds them."""
    path = tiny.checkpoint_path(parted, SAFETENSORS)
    before = path.read_bytes()
    damage(tiny.raw_path(parted), flip(offset))
    tiny.make(parted, SAFETENSORS)
    assert path.read_bytes() == before
    with pytest.raises(CorruptArtifact):
        parted.verify_file(parted.catalogue[RAW], f"raw/{tiny.CHECKPOINT}")


@pytest.mark.parametrize("name", ["norm.weight", LAST_TRUNK])
def test_upstreams_own_damage_is_told(store: Store, name: str) -> None:
    """The hub's hash is right and the archive's is not: downloading it again does not help."""
    number = storage_of(name)
    data = tiny.changed(GOOD, tiny.storage_at(GOOD, number)[0] + 1)
    tiny.commit_raw(store, data)
    found = zlib.crc32(storage(data, number))
    stated = zlib.crc32(storage(GOOD, number))
    assert tiny.assert_refused(store) == (
        f"{tiny.raw_path(store)}: record archive/data/{number} has CRC-32 {found:08x}, the archive "
        f"says {stated:08x}. The file is as upstream has it: upstream's own copy is damaged"
    )


def storage(data: bytes, number: int) -> bytes:
    begin, size = tiny.storage_at(data, number)
    return data[begin : begin + size]


@pytest.mark.parametrize("layout", ["transposed", "slices", "gap", "twin"])
def test_checksums_of_all_records_are_checked(tmp_path: Path, layout: str) -> None:
    """Also of those that no tensor reads from begin to end in one go."""
    base = torch.arange(1.0, 65.0).reshape(8, 8)
    states: dict[str, Tensors] = {
        "transposed": {"a": base.t()},
        "slices": {"a": base[:4], "b": base[4:]},
        "gap": {"a": base[:, 1:3]},
        "twin": {"a": base, "b": permuted(base)},
    }
    data = tiny.saved(states[layout])
    for offset in (0, 20, 255):
        (tmp_path / "x.pth").write_bytes(tiny.changed(data, tiny.storage_at(data, 0)[0] + offset))
        stored = read_tensors(tmp_path / "x.pth").tensors
        sources: Sources = {name: (tensor,) for name, tensor in stored.items()}
        if layout == "twin":
            sources = {"a": (stored["a"], stored["b"])}
        with pytest.raises(DamagedRecord, match=r"x\.pth: record archive/data/0 has CRC-32 "):
            convert_to(tmp_path / "x", sources, "float32", {})


def test_truncated_raw_file_is_corrupt(store: Store) -> None:
    """Not refused as another format: the download was good once, so making it again helps."""
    damage(tiny.raw_path(store), lambda data: data[:-1])
    tiny.assert_refused(store, CorruptArtifact, match="is damaged")


def test_raw_files_of_another_spec_are_missing(store: Store) -> None:
    """After an edit of the spec's file names the raw artifact lacks a file: say so, and the remedy.

    It was a KeyError.
    """
    folder = store.folder(store.catalogue[RAW])
    raw = store.catalogue[RAW]
    with store.stage(raw) as staged:
        for name in ("raw/7B_1T_4/params.json", "raw/tokenizer.model"):
            staged.write(name, (folder / name).read_bytes())
        store.commit(raw, staged, {"asset": RAW, "source": {"repo": "owner/tiny"}})
    message = tiny.assert_refused(store, MissingArtifact)
    assert tiny.CHECKPOINT in message
    assert f"--select '{RAW}'" in message


# -- what else can go wrong ----------------------------------------------------------------------


def test_full_disk_shows_before_anything_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """27 GB are read in a minute or ten; that there is no room for 13 is known at once."""

    def allocate(descriptor: int, begin: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read(*arguments: object, **named: object) -> Generator[memoryview, None, None]:
        raise AssertionError("read before the space was reserved")
        yield memoryview(b"")

    size = tiny.checkpoint_path(store, SAFETENSORS).stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", allocate)
        patch.setattr(convert_module, "read_extents", read)
        message = tiny.assert_refused(store, StoreError)
    assert message.startswith(f"no space left for {SAFETENSORS} under {store.root} (")
    assert f"{human_bytes(size)} or more needed for one file" in message
    assert " free. What is committed is whole" in message
    tiny.make(store, SAFETENSORS)


LIMITED = """
import resource
import signal
import sys
from pathlib import Path
from wmtp_assets_tests.checkpoints import tiny

store = tiny.make_store(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    tiny.make(store, tiny.SAFETENSORS)
except OSError as error:
    print(error.errno, len(tiny.staged_left(store)))
"""


def test_system_that_refuses_to_write(store: Store) -> None:
    """A real limit, in a process of its own: its error comes out, and nothing is left behind."""
    before = tree(tiny.model_folder(store, SAFETENSORS))
    assert tiny.run_python(LIMITED, str(store.root)).split() == [str(errno.EFBIG), "0"]
    assert tree(tiny.model_folder(store, SAFETENSORS)) == before


@pytest.mark.parametrize("position", [0, -1], ids=["first tensor", "last tensor"])
def test_refusal_leaves_no_thread_and_no_file(store: Store, position: int) -> None:
    """A server that converts again and again would run out of both."""
    names = sorted(STATE.keys() - {"rope.freqs"})
    tensors = tiny.random_tensors(tiny.params())
    tensors[names[position]].view(-1)[0] = NAN
    tiny.commit_raw(store, tensors)
    with leaves_nothing(), tiny.blocks_of(256):
        tiny.assert_refused(store)


# -- memory --------------------------------------------------------------------------------------

MEMORY = """
import resource
import sys
from pathlib import Path
import torch
from wmtp_assets.checkpoints.convert import convert
from wmtp_assets.checkpoints.torch_zip import read_tensors
from wmtp_assets_tests.checkpoints import tiny

def peak():
    # Linux starts a process with its parent's maximum; the one of its own memory is VmHWM.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def run(path):
    tensors = read_tensors(path).tensors
    with tiny.new_file(path.with_suffix(".safetensors")) as file:
        convert({name: (tensor,) for name, tensor in tensors.items()}, "float16", {}, file)
    return sum(tensor.size for tensor in tensors.values())

folder = Path(sys.argv[1])
torch.save({"w": torch.ones(8)}, folder / "small.pth")
run(folder / "small.pth")
before = peak()
print(run(folder / "large.pth"), peak() - before)
"""


def test_memory_does_not_grow_with_the_tensor(tmp_path: Path) -> None:
    """Upstream's file is 27 GB and its largest tensor 524 MB; loading it whole took all of that.

    A single tensor of 200 MB is converted in a process of its own: its peak beyond the imports
    stays far under the 200 MB, and under the 100 MB of the result.
    """
    torch.save({"w": torch.ones(50_000_000)}, tmp_path / "large.pth")
    total, growth = map(int, tiny.run_python(MEMORY, str(tmp_path)).split())
    assert total == 200_000_000
    assert growth < 100_000_000
