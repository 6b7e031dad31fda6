"""Conversion to safetensors: the numbers of torch, no silent overflow, no damage to what is there.

Everything through the real builder but where the numbers alone matter.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from wmtp_assets.checkpoints import convert as convert_module
from wmtp_assets.checkpoints.convert import cast, convert
from wmtp_assets.checkpoints.torch_zip import read_tensors
from wmtp_assets.errors import CorruptArtifact, InvalidInput, MissingArtifact
from wmtp_assets.progress import Progress, silent
from wmtp_assets.specs import DType
from wmtp_assets.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import RAW, SAFETENSORS, TOKENIZER
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
    sources = {name: (tensor,) for name, tensor in read_tensors(checkpoint).items()}
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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A committed tiny model, all but the micro model."""
    store = tiny.make_store(tmp_path / "storage")
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    tiny.make(store, TOKENIZER, SAFETENSORS)
    return store


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
def test_overflow_names_the_tensor(
    store: Store, position: int, number: float, why: str
) -> None:
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
def test_model_is_converted_whole(
    tmp_path: Path, source: torch.dtype, target: DType
) -> None:
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
    metadata = {"model_name": "tiny-model", "format": "pt"}
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


def test_hashes_are_those_of_the_bytes(store: Store) -> None:
    """Verification believes these hashes; whoever has only the file recomputes them alike."""
    artifact = store.catalogue[SAFETENSORS]
    document = store.manifest(artifact).document
    content = tiny.checkpoint_path(store, SAFETENSORS).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    del header["__metadata__"]
    described = document["checkpoint"]
    assert described["header_sha256"] == hashlib.sha256(content[:start]).hexdigest()
    assert described["tensors"].keys() == header.keys()
    covered = 0
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        data = content[start + begin : start + end]
        assert described["tensors"][name] == {
            "dtype": "float16",
            "shape": entry["shape"],
            "sha256": hashlib.sha256(data).hexdigest(),
        }
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


DAMAGEdef test_truncated_raw_file_is_corrupt(store: Store) -> None:
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
    tensors = read_tensors(path)
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
