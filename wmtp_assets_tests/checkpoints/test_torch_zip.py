"""The ``.pth`` reader: equal to ``torch.load`` for real files, one clear refusal for all others."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import random
import struct
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.serialization import config

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.checkpoints import torch_zip
from wmtp_assets.checkpoints.pipeline import StoredTensor, Wanted
from wmtp_assets.checkpoints.torch_zip import read_tensors
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.torch_files import Call, crafted, records, zipped
from wmtp_assets_tests.checkpoints.views import View, random_bits, views
from wmtp_assets_tests.quick import full_only, quick, thinned

DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.uint16,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.complex64,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.pth"


# -- equal to torch.load -------------------------------------------------------------------------


def content(path: Path, tensor: StoredTensor) -> bytes:
    """The elements of ``tensor``, row-major: taken from the file where it is said to lie."""
    assert tensor.path == path
    data = bytearray(path.read_bytes()[tensor.begin : tensor.begin + tensor.extent])
    assert len(data) == tensor.extent
    if not data:
        return b""
    dtype = getattr(torch, tensor.dtype)
    flat = torch.frombuffer(data, dtype=dtype)
    return tiny.bits(flat.as_strided(tensor.shape, tensor.stride) if tensor.stride else flat)


def assert_reads_as_torch(path: Path, has_sums: bool = True) -> dict[str, StoredTensor]:
    """Every tensor has the name, dtype, shape and bits that ``torch.load`` gives it."""
    expected = torch.load(path, weights_only=True)
    found = read_tensors(path).tensors
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        stored = found[name]
        assert stored.name == name
        assert getattr(torch, stored.dtype) == tensor.dtype
        assert stored.item_size == tensor.element_size()
        assert stored.shape == tuple(tensor.shape)
        assert stored.size == tensor.numel() * tensor.element_size()
        assert stored.stride == (None if tensor.is_contiguous() else tensor.stride())
        assert content(path, stored) == tiny.bits(tensor), name
        record = stored.record
        assert record is not None
        data = path.read_bytes()[record.begin : record.begin + record.size]
        assert record.crc32 == (zlib.crc32(data) if has_sums else None)
        assert stored.fills_record == (tensor.is_contiguous() and tiny.bits(tensor) == data)
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(described=st.lists(views(DTYPES), min_size=1, max_size=6), is_ordered=st.booleans())
def test_reads_what_torch_reads(folder: Path, described: list[View], is_ordered: bool) -> None:
    """A wrong stride or offset gives plausible numbers in the wrong places: no one would notice.

    Any view of any storage, alone or shared: transposed, sliced, overlapping itself, scalar, empty.
    """
    storages: dict[torch.dtype, torch.Tensor] = {}
    tensors = {
        f"t.{number}": view.of(storages, random_bits) for number, view in enumerate(described)
    }
    path = folder / "x.pth"
    torch.save(OrderedDict(tensors) if is_ordered else tensors, path)
    assert_reads_as_torch(path)


@contextmanager
def writing(has_sums: bool, alignment: int) -> Iterator[None]:
    """Torch writes with these of its public options."""
    with config.patch({"save.storage_alignment": alignment}):
        torch.serialization.set_crc32_options(has_sums)
        try:
            yield
        finally:
            torch.serialization.set_crc32_options(True)


@pytest.mark.parametrize("count", quick(thinned([40, 500, 1500], [40, 500]), [40]))
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_reads_whatever_torch_writes(folder: Path, count: int) -> None:
    """Every public option of ``torch.save``: what torch then reads is read here, alike.

    What it refuses to read safely is refused, with a remedy; so is the legacy format.
    """
    path = folder / "written.pth"

    @settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        described=st.lists(views(DTYPES), min_size=1, max_size=4),
        has_sums=st.booleans(),
        alignment=st.sampled_from([1, 64, 256, 4096]),
        protocol=st.sampled_from([2, 2, 3, 4, 5]),
        is_zip=st.sampled_from([True, True, True, False]),
        form=st.sampled_from(["dict", "OrderedDict", "with _metadata", "through a buffer"]),
    )
    def check(
        described: list[View],
        has_sums: bool,
        alignment: int,
        protocol: int,
        is_zip: bool,
        form: str,
    ) -> None:
        storages: dict[torch.dtype, torch.Tensor] = {}
        tensors: Any = {
            f"t.{n}": view.of(storages, random_bits) for n, view in enumerate(described)
        }
        if form in ("OrderedDict", "with _metadata"):
            tensors = OrderedDict(tensors)
        if form == "with _metadata":
            tensors._metadata = OrderedDict({"": {"version": 1}, "t": {"version": 2}})
        buffer = io.BytesIO()
        with writing(has_sums, alignment):
            torch.save(
                tensors,
                buffer if form == "through a buffer" else path,
                pickle_protocol=protocol,
                _use_new_zipfile_serialization=is_zip,
            )
        if form == "through a buffer":
            path.write_bytes(buffer.getvalue())
        if not is_zip:
            assert "torch.save(torch.load(old, weights_only=True), new)" in refusal(path)
        elif protocol in torch_zip.PROTOCOLS:
            assert_reads_as_torch(path, has_sums)
        else:
            with pytest.raises(pickle.UnpicklingError):
                torch.load(path, weights_only=True)
            assert f"it is pickled with protocol {protocol}" in refusal(path)

    check()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property test."""
    return tmp_path_factory.mktemp("pth")


BASE = torch.arange(24, dtype=torch.float32).reshape(4, 6)


@pytest.mark.parametrize(
    "tensor",
    [
        BASE,
        BASE.t(),
        BASE[1:3],
        BASE[:, 1:3],
        BASE[::2],
        BASE[3, 5],
        BASE[4:],
        BASE[0].expand(4, 6),
        BASE.diagonal(),
        BASE.reshape(2, 2, 6).permute(2, 0, 1),
        torch.tensor(3.5),
        torch.empty(0),
        torch.empty(3, 0, 2),
        torch.nn.Parameter(BASE),
        torch.nn.Parameter(BASE.t(), requires_grad=False),
    ],
    ids=str,
)
def test_each_kind_of_view(path: Path, tensor: torch.Tensor) -> None:
    """The views that real state dicts hold, each by itself."""
    torch.save({"w": tensor, "base": BASE}, path)
    found = assert_reads_as_torch(path)
    assert found["base"].stride is None


def test_shared_storage_is_read_for_both(path: Path) -> None:
    """Tied weights stand in the file once; both names must be found there."""
    torch.save({"a": BASE, "b": BASE, "row": BASE[2]}, path)
    found = assert_reads_as_torch(path)
    assert found["a"].begin == found["b"].begin == found["row"].begin - 48


# -- other writers -------------------------------------------------------------------------------


class Unseekable(io.BytesIO):
    """Behind each record, zipfile writes a data descriptor to a file that cannot seek."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise io.UnsupportedOperation("tell")


STATE = {
    "w": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "v": torch.arange(12, dtype=torch.float16).reshape(3, 4).t(),
    "s": torch.tensor(1.5, dtype=torch.float64),
}
SAVED = tiny.saved(STATE)


def assert_is_state(path: Path) -> None:
    """The file reads as :data:`STATE`."""
    found = read_tensors(path).tensors
    assert {name: content(path, tensor) for name, tensor in found.items()} == {
        name: tiny.bits(tensor) for name, tensor in STATE.items()
    }


def without(*names: str) -> dict[str, bytes]:
    """The records of :data:`SAVED` but for some."""
    return {name: data for name, data in records(SAVED).items() if name not in names}


TORCHS_OWN = (".format_version", ".storage_alignment", ".data/serialization_id")


@pytest.mark.parametrize(
    "data",
    [
        SAVED,
        zipped(without(*TORCHS_OWN)),
        zipped(without(*TORCHS_OWN, "byteorder")),
        zipped(without(".storage_alignment")),
        zipped(records(SAVED)),
        zipped(dict(reversed(records(SAVED).items()))),
        zipped(records(SAVED), prefix="consolidated.00/"),
        zipped(records(SAVED), prefix="größe/"),
        zipped(records(SAVED), buffer=Unseekable()),
        zipped(records(SAVED), extra=b"\xff\xff\x05\x00abcde"),
        zipped(records(SAVED) | {"readme.txt": b"hello", "data/99": b"unused"}),
    ],
)
def test_reads_archives_of_other_writers(path: Path, data: bytes) -> None:
    """Torch guesses offsets from the way its own writer lays records out; we must not.

    Files written before ``.format_version`` was invented are what is on the hub.
    """
    path.write_bytes(data)
    assert_is_state(path)


def test_reads_files_written_without_alignment_hints(path: Path) -> None:
    """The same through torch's own older writer settings: whatever it loads, we read alike."""
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, data in records(SAVED).items():
            with archive.open(f"archive/{name}", "w", force_zip64=True) as record:
                record.write(data)
    assert_is_state(path)
    assert_reads_as_torch(path)


def test_local_header_says_where_the_data_begins(path: Path) -> None:
    """Local and central extra fields differ in length: torch pads the local one only."""
    path.write_bytes(SAVED)
    with zipfile.ZipFile(path) as archive:
        assert all(info.extra == b"" for info in archive.infolist())
    assert all(tensor.begin % 64 == 0 for tensor in read_tensors(path).tensors.values())


# -- refusals ------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    """The message with which the file is refused: one line that names the file."""
    with pytest.raises(InvalidInput) as refused:
        read_tensors(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400
    return message.removeprefix(f"{path}: ")


def test_legacy_file_is_refused_with_a_remedy(path: Path) -> None:
    """Its data cannot be read in blocks; whoever has the file can rewrite it in one line."""
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    assert refusal(path) == (
        "a legacy (non-zip) torch file. Rewrite it where it was made: "
        "torch.save(torch.load(old, weights_only=True), new)"
    )
    torch.save(torch.load(path, weights_only=True), path)
    assert_is_state(path)


def test_torchscript_is_refused_with_a_remedy(path: Path) -> None:
    """It holds code beside the weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert refusal(path).startswith("a TorchScript archive, not a checkpoint. Save the state dict")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P",
        b"PK\x03\x04",
        b"PK\x05\x06" + bytes(18),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"<!DOCTYPE html><html><body>Access denied</body></html>",
        b"\x1f\x8b\x08" + bytes(100),
        (8).to_bytes(8, "little") + b"{}      ",
        zipped({}),
        zipped({"readme.txt": b"hello"}),
        zipped({"data.pkl": b"", "version": b"3\n"}),
        zipped(without("data.pkl")),
        zipped(without("version")),
        zipped(records(SAVED), prefix=""),
        zipped(records(SAVED), prefix="a/b/"),
        zipped(records(SAVED) | {"more/data.pkl": records(SAVED)["data.pkl"]}),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_other_files_are_refused(path: Path, data: bytes) -> None:
    """A pointer file, an error page, another archive: what a failed download leaves behind."""
    path.write_bytes(data)
    refusal(path)


@pytest.mark.parametrize("size", [*range(0, len(SAVED), 37), len(SAVED) - 1])
def test_truncated_file_is_refused(path: Path, size: int) -> None:
    """The zip directory stands at the end, so every truncation must show."""
    path.write_bytes(SAVED[:size])
    refusal(path)


@pytest.mark.parametrize("where", ["file", "value", "key", "nested", "beside"])
@pytest.mark.parametrize("how", ["system", "eval", "open", "exec"])
def test_code_in_a_pickle_is_not_run(path: Path, tmp_path: Path, where: str, how: str) -> None:
    """A checkpoint of strangers must not be able to run anything, wherever the call is hidden.

    And the message must not repeat torch's advice to load the file unsafely.
    """
    marker = tmp_path / "executed"
    calls = {
        "system": Call(os.system, f"touch {marker}"),
        "eval": Call(eval, f"open({str(marker)!r}, 'w')"),
        "exec": Call(exec, f"open({str(marker)!r}, 'w')"),
        "open": Call(open, str(marker), "w"),
    }
    call = calls[how]
    values: dict[str, Any] = {
        "file": call,
        "value": {"w": call},
        "key": {"w": BASE, call: BASE},
        "nested": {"w": BASE, "x": [{"y": (call,)}]},
        "beside": {"w": BASE, "optimizer": call, "z": BASE},
    }
    torch.save(values[where], path)
    message = refusal(path)
    assert not marker.exists()
    assert message.startswith("no plain state dict: it asks for ")
    assert how in message
    assert "weights_only" not in message
    assert "trust" not in message


def test_refusal_shows_nothing_of_torchs_advice(path: Path) -> None:
    """The traceback goes into the event log; whoever reads it there would follow the advice."""
    torch.save({"w": Call(os.system, "true")}, path)
    with pytest.raises(InvalidInput) as refused:
        read_tensors(path)
    assert refused.value.__suppress_context__
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "value",
    [
        torch.nn.Linear(2, 2),
        {"w": Call(bytearray, 10**15)},
        {"w": Call(torch.Size, 3)},
        {"w": Call(torch.device, "nowhere")},
        {"w": Call(complex, "x")},
    ],
    ids=["module", "memory", "size", "device", "complex"],
)
def test_pickles_that_fail_are_refused(path: Path, value: object) -> None:
    """What torch permits can still fail, in any way; each must end in one line."""
    torch.save(value, path)
    assert refusal(path).startswith("no plain state dict: ")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([BASE], "holds a list, not a state dict"),
        (BASE, "holds a Tensor, not a state dict"),
        (3, "holds a int, not a state dict"),
        ({}, "holds no tensors"),
        (
            {"model": {"w": BASE}, "step": 3},
            "model is a dict, not a tensor: expected a flat state dict. In model there is one: "
            "checkpoint: {select: model}, in the spec",
        ),
        (
            {"a": {"b": {"w": BASE}, "c": [BASE]}},
            "a is a dict, not a tensor: expected a flat state dict. In a.b there is one: "
            "checkpoint: {select: a.b}, in the spec",
        ),
        ({"w.x": {"w": BASE}}, "w.x is a dict, not a tensor: expected a flat state dict"),
        ({"w": BASE, "step": 3}, "step is a int, not a tensor: expected a flat state dict"),
        ({"w": None}, "w is a NoneType, not a tensor: expected a flat state dict"),
        ({"w": [BASE]}, "w is a list, not a tensor: expected a flat state dict"),
        ({3: BASE}, "a int is not a tensor name"),
        ({("a", "b"): BASE}, "a tuple is not a tensor name"),
        ({"": BASE}, "'' is not a tensor name"),
        ({"a\nb": BASE}, r"'a\nb' is not a tensor name"),
        ({"\x1b[2J": BASE}, r"'\x1b[2J' is not a tensor name"),
        ({"../../w": BASE}, "'../../w' is not a tensor name"),
        ({"x" * 5000: BASE}, f"'{'x' * 60}' is not a tensor name"),
    ],
)
def test_other_contents_are_refused(path: Path, value: object, message: str) -> None:
    """Training checkpoints nest the state dict; names end up in messages and in the header."""
    torch.save(value, path)
    assert refusal(path) == message


@pytest.mark.parametrize(
    "beside",
    [
        {"seen": {1, 2}, "pairs": [(number, -number) for number in range(5_000)]},
        {"seen": {(number % 70, number) for number in range(5_000)}},
        {(number, "name"): number for number in range(5_000)},
        {"classes": tuple(f"class {number}" for number in range(20_000))},
        {"classes": set(range(20_000)), "shapes": [torch.Size((n, 2)) for n in range(3_000)]},
        {"seeds": [(1 << 63) + number for number in range(5_000)]},
        {"seeds": {(1 << 63) + number for number in range(5_000)}},
        {(-1, -2): 1, (-2, -1): 2, -1: 3, -2: 4},
    ],
    ids=itertools.count(),
)
def test_what_training_keeps_beside_is_no_reason(path: Path, beside: object) -> None:
    """Many tuples, keys and large integers are valid; only keys made to collide are not."""
    torch.save({"model": {"w": BASE}, "beside": beside}, path)
    assert list(read_tensors(path, wanted=Wanted(select=("model",))).tensors) == ["w"]


def attributed(name: str, value: object) -> torch.Tensor:
    """A tensor whose method ``name`` is shadowed by an attribute."""
    tensor = BASE.clone()
    setattr(tensor, name, value)
    return tensor


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (BASE.to_sparse, "w is a sparse_coo tensor"),
        (BASE.to_sparse_csr, "w is a sparse_csr tensor"),
        (partial(BASE.to, "meta"), "w has no storage in the archive"),
        (partial(torch.quantize_per_tensor, BASE, 0.1, 0, torch.qint8), "no plain state dict: "),
        (partial(torch.nested.nested_tensor, [BASE, BASE[:2]]), "no plain state dict: "),
        (partial(torch.nested.nested_tensor, [BASE], layout=torch.jagged), "no plain state dict: "),
        (partial(attributed, "stride", torch.Size), "no plain state dict: "),
        (partial(attributed, "element_size", torch.Size), "no plain state dict: "),
    ],
    ids=["coo", "csr", "meta", "quantized", "nested", "jagged", "stride", "element_size"],
)
@pytest.mark.filterwarnings("ignore")
def test_other_tensors_are_refused(
    path: Path, make: Callable[[], torch.Tensor], message: str
) -> None:
    """Their bytes are not a plain array of their elements."""
    torch.save({"w": make()}, path)
    assert refusal(path).startswith(message)


@pytest.mark.parametrize("tensor", [torch.tensor([1 + 2j]).conj(), torch.tensor([2j]).conj().imag])
def test_lazily_negated_views_are_refused(path: Path, tensor: torch.Tensor) -> None:
    """Torch stores only a flag and flips the sign as it reads: the stored bytes are wrong ones.

    The imaginary part is a float32 tensor like any other, and its sign was lost.
    """
    torch.save({"w": tensor}, path)
    assert "resolve_neg" in refusal(path)
    torch.save({"w": tensor.resolve_conj().resolve_neg()}, path)
    assert_reads_as_torch(path)


# -- geometry ------------------------------------------------------------------------------------


def test_crafted_file_is_good(path: Path) -> None:
    """The base of the attack files below; if it were refused they would prove nothing."""
    path.write_bytes(crafted(record=struct.pack("<4f", 1, 2, 3, 4)))
    assert read_tensors(path).tensors["w"].shape == (2, 2)
    assert_reads_as_torch(path)


HUGE = 1 << 62


@pytest.mark.parametrize(
    "data",
    [
        crafted((10**6, 10**6), (0, 0), count=1, record=bytes(4)),
        crafted((5,), (0,)),
        crafted((HUGE,), (0,)),
        crafted((1 << 32, 1 << 32), (0, 0)),
        crafted((HUGE, HUGE, HUGE), (0, 0, 0)),
        crafted((3, 2), (2, 1)),
        crafted((2, 2), (3, 1)),
        crafted((2, 2), (2, 1), offset=1),
        crafted((2, 2), (HUGE, 1)),
        crafted((0,), (1,), offset=5),
        crafted(offset=HUGE),
        crafted(offset=-1),
        crafted((2, 2), (-2, -1), offset=3),
        crafted((-2, -2)),
        crafted((2,), (2, 1)),
        crafted(count=5),
        crafted(count=-5, record=bytes(20)),
        crafted(count=3, record=bytes(12)),
        crafted(count=HUGE),
        crafted(count=1 << 70),
        crafted(count=4.0),
        crafted(count="4"),
        crafted(count=None),
        crafted(record=bytes(15)),
        crafted(record=bytes(17)),
        crafted(record=b""),
        crafted(key="1"),
        crafted(key="../data.pkl"),
        crafted(key=""),
        crafted(key=("0",)),
    ],
)
def test_impossible_geometry_is_refused(path: Path, data: bytes) -> None:
    """Four bytes viewed as 10^12 numbers take 4 TB when they are made contiguous.

    No tensor may have more elements than its record has room for, lie outside of it, or belong to a
    record that does not exist or has another size than is said.
    """
    path.write_bytes(data)
    refusal(path)


@pytest.mark.parametrize("lie", [{"count": 3}, {"count": -4}, {"key": 0}])
def test_harmless_lies_change_nothing(path: Path, lie: dict[str, Any]) -> None:
    """A storage that is said to be too small is enlarged by torch on the meta device, unnoticed.

    What counts is the record: the tensor fits it exactly, so its data is what it always was.
    """
    record = struct.pack("<4f", 1, 2, 3, 4)
    path.write_bytes(crafted(record=record, **lie))
    assert content(path, read_tensors(path).tensors["w"]) == record


def test_expanded_view_within_its_record_is_read(path: Path) -> None:
    """Stride 0 alone is not an attack: a row repeated in a record that could hold all of it."""
    path.write_bytes(crafted((2, 2), (0, 1), record=struct.pack("<4f", 1, 2, 3, 4)))
    assert_reads_as_torch(path)


def test_big_endian_file_is_refused(path: Path) -> None:
    """Its numbers would be read with their bytes swapped.

    Refused before torch sees it: swapping the bytes of data that is not there crashes the process.
    """
    path.write_bytes(zipped(records(SAVED) | {"byteorder": b"big"}))
    assert refusal(path).startswith("tensors are big-endian")
    path.write_bytes(zipped(records(SAVED) | {"byteorder": b"middle"}))
    refusal(path)


def test_missing_storage_is_refused(path: Path) -> None:
    """A description that names a record the archive lost."""
    for number in range(3):
        path.write_bytes(zipped(without(f"data/{number}")))
        refusal(path)


@pytest.mark.parametrize("name", ["data/0", "data.pkl", "version"])
def test_deflated_record_is_refused(path: Path, name: str) -> None:
    """A few kilobytes inflate to gigabytes; torch never writes them, but reads them."""
    data = zipped(records(SAVED), compressed=(name,))
    path.write_bytes(data)
    assert torch.load(path, weights_only=True).keys() == STATE.keys()
    assert refusal(path).startswith(f"record 'archive/{name}' is compressed or encrypted")


def test_huge_description_is_refused_unread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All records that are read whole count, not only the pickle."""
    monkeypatch.setattr(torch_zip, "MAX_DESCRIPTION", 2000)
    path.write_bytes(SAVED)
    read_tensors(path)
    for name in torch_zip.DESCRIPTION:
        path.write_bytes(zipped(records(SAVED) | {name: bytes(2001)}))
        assert refusal(path) == "the description is larger than 2000 bytes"


def patched(data: bytes, name: str, **fields: int) -> bytes:
    """Change fields of a record's entry in the zip directory."""
    layout = {"flags": (8, "<H"), "packed": (20, "<I"), "size": (24, "<I"), "offset": (42, "<I")}
    changed = bytearray(data)
    full = f"archive/{name}".encode()
    entry = next(
        at
        for at in range(len(data))
        if data.startswith(b"PK\x01\x02", at) and data.startswith(full, at + 46)
    )
    for field, value in fields.items():
        at, form = layout[field]
        struct.pack_into(form, changed, entry + at, value)
    return bytes(changed)


def offset_of(name: str) -> int:
    """Where the local header of a record of :data:`SAVED` lies."""
    with zipfile.ZipFile(io.BytesIO(SAVED)) as archive:
        return archive.getinfo(f"archive/{name}").header_offset


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("data/1", {"offset": offset_of("data/0")}),  # the same record twice
        ("data/0", {"size": 80, "packed": 80}),  # into the next one
        ("data/1", {"size": 1 << 20, "packed": 1 << 20}),  # beyond the end
        (".data/serialization_id", {"size": 60, "packed": 60}),  # the last one: into the directory
        ("data/1", {"offset": offset_of("data/1") + 1}),
        ("data/1", {"offset": len(SAVED) - 10}),
        ("data/1", {"offset": len(SAVED) + 10}),
        ("data/1", {"offset": 0xFFFFFFF0}),
        ("data/1", {"flags": 1}),
        ("data.pkl", {"flags": 1}),
        ("data.pkl", {"flags": 0x800 | 0x40 | 1}),
        ("version", {"size": 1, "packed": 1}),
    ],
)
def test_records_that_do_not_lie_where_they_should(
    path: Path, name: str, fields: dict[str, int]
) -> None:
    """Overlapping records make one byte two tensors; both readers must agree what is where."""
    path.write_bytes(patched(SAVED, name, **fields))
    refusal(path)


def test_record_twice_is_refused(path: Path) -> None:
    """Which of the two counts differs between readers."""
    buffer = io.BytesIO(SAVED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr("archive/data/0", bytes(48))
    path.write_bytes(buffer.getvalue())
    assert refusal(path) == "a duplicate record in the archive"


def test_record_name_that_is_no_utf8(path: Path) -> None:
    """A flag says that names are UTF-8; where they are not, zipfile fails with another error."""
    data = zipped(records(SAVED) | {"ü": b""}).replace("ü".encode(), b"\xfc\xfc")
    path.write_bytes(data)
    refusal(path)


def test_missing_file_is_an_os_error(path: Path) -> None:
    """Not there and not valid are different problems with different remedies."""
    with pytest.raises(FileNotFoundError):
        read_tensors(path)


# -- what is verified before it is parsed --------------------------------------------------------


def spans() -> dict[str, tuple[int, int]]:
    """First byte and end of each part of :data:`SAVED`; a record's with its local header."""
    with zipfile.ZipFile(io.BytesIO(SAVED)) as archive:
        found = {
            info.filename.removeprefix("archive/"): (info.header_offset, info.file_size)
            for info in archive.infolist()
        }
        directory = archive.start_dir
    ends = {}
    for name, (begin, size) in found.items():
        data = begin + 30 + sum(struct.unpack_from("<HH", SAVED, begin + 26))
        ends[name] = begin, data + size
    return ends | {"directory": (directory, len(SAVED))}


def test_directory_and_description_are_verified(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsers are where damage does harm: each byte that one sees was asked for before.

    The data is not: 27 GB of it are verified while they are converted.
    """
    parts = spans()
    monkeypatch.setattr(torch_zip, "TAIL", len(SAVED) - parts["directory"][0] + 5)
    path.write_bytes(SAVED)
    asked: list[tuple[int, int]] = []

    def verify(begin: int, end: int) -> None:
        assert 0 <= begin < end <= len(SAVED)
        asked.append((begin, end))

    assert read_tensors(path, verify).tensors.keys() == STATE.keys()
    covered = {byte for begin, end in asked for byte in range(begin, end)}
    for name in ("directory", *torch_zip.DESCRIPTION):
        assert covered >= {*range(*parts[name])}, name
    for number in range(3):
        assert not covered & {*range(parts[f"data/{number}"][0] + 30, parts[f"data/{number}"][1])}


@pytest.mark.parametrize("passed", range(4))
def test_what_fails_verification_is_not_parsed(
    path: Path, monkeypatch: pytest.MonkeyPatch, passed: int
) -> None:
    """The first bad part ends it, with the verifier's own error and not a parser's."""
    path.write_bytes(SAVED)
    left = passed

    def verify(begin: int, end: int) -> None:
        nonlocal left
        if not left:
            raise CorruptArtifact("as told")
        left -= 1

    def parse(*arguments: object, **options: object) -> None:
        raise AssertionError("parsed before it was verified")

    monkeypatch.setattr(torch, "load", parse)
    if not passed:
        monkeypatch.setattr(torch_zip.zipfile, "ZipFile", parse)
    with pytest.raises(CorruptArtifact, match=r"^as told$"):
        read_tensors(path, verify)


def test_directory_beyond_the_verified_tail_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that begins before it would be parsed unverified."""
    begin, end = spans()["directory"]
    path.write_bytes(SAVED)
    monkeypatch.setattr(torch_zip, "TAIL", end - begin)
    read_tensors(path)
    monkeypatch.setattr(torch_zip, "TAIL", end - begin - 1)
    assert f"a directory of more than {end - begin - 1} bytes" in refusal(path)


def end_field(name: str) -> int:
    """Where a field of the end-of-directory record of :func:`zipped` stands, from the end."""
    return {"size": -10, "offset": -6}[name]


@pytest.mark.parametrize("more", [1, 10, 1000, -1, -10])
@pytest.mark.parametrize("name", ["size", "offset"])
def test_directory_that_lies_elsewhere_than_said(path: Path, name: str, more: int) -> None:
    """zipfile moves all records by the difference, be it to before the file begins."""
    data = bytearray(zipped(records(SAVED)))
    at = len(data) + end_field(name)
    struct.pack_into("<I", data, at, struct.unpack_from("<I", data, at)[0] + more)
    path.write_bytes(data)
    refusal(path)


# Of the records' offsets none fits 32 bits but the first.
FAR = (4 << 30) + 4096


def write_far(path: Path) -> None:
    """Write a checkpoint that ends beyond 4 GiB; almost all of it is a hole, which takes no disk.

    As torch does: the description first, directory and its end in zip64 format.
    """
    parts = records(crafted(record=struct.pack("<4f", 1, 2, 3, 4)))
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", parts.pop("data.pkl"))
        archive.start_dir = FAR  # where the next record goes
        for name, data in parts.items():
            archive.writestr(f"archive/{name}", data)


def test_checkpoint_of_more_than_4_gib_is_read(path: Path) -> None:
    """As each 7B one is: offsets stand in zip64 fields, and only the tail is read."""
    write_far(path)
    size = path.stat().st_size
    assert size > FAR and path.stat().st_blocks * 512 < 1 << 20
    asked: list[tuple[int, int]] = []
    tensor = read_tensors(path, lambda begin, end: asked.append((begin, end))).tensors["w"]
    assert (size - torch_zip.TAIL, size) in asked and min(asked)[0] == 0
    assert FAR < tensor.begin < size
    with path.open("rb") as file:
        file.seek(tensor.begin)
        assert struct.unpack("<4f", file.read(16)) == (1, 2, 3, 4)


def test_zipfile_finds_offsets_where_they_are(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer versions look for the end of the directory where its locator says it is (gh-139700),
    and refuse archives that have it elsewhere, or locators that point beyond the file."""

    class Newer(zipfile.ZipFile):
        def __init__(self, file: Any) -> None:
            size = file.seek(0, os.SEEK_END)
            assert size == path.stat().st_size
            file.seek(size - 22 - 20)
            signature, _, offset, _ = struct.unpack("<4sIQI", file.read(20))
            assert signature == b"PK\x06\x07" and FAR < offset == size - 22 - 20 - 56
            assert file.seek(offset) == file.tell() == offset
            found = struct.unpack("<4sQ28xQQ", file.read(56))
            assert found[0] == b"PK\x06\x06" and found[2] + found[3] == offset
            with pytest.raises(zipfile.BadZipFile):  # nor may it read what was not verified
                file.seek(size - torch_zip.TAIL - 1)
                file.read(1)
            super().__init__(file)

    write_far(path)
    monkeypatch.setattr(torch_zip.zipfile, "ZipFile", Newer)
    torch_zip._open_archive(path, torch_zip.trust)


# -- fuzzing -------------------------------------------------------------------------------------


def mutants(count: int) -> list[bytes]:
    """Damaged copies of a small file; the same ones in every process.

    Damaged bytes of the file, its first part only, and a damaged description in a sound archive:
    the last kind is what a checksum does not stop before it reaches torch.
    """
    generator = random.Random(1)

    def damage(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[generator.randrange(len(changed))] = generator.randrange(256)
        return bytes(changed)

    good = records(SAVED)
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: damage(SAVED),
        lambda: damage(zipped(good)),
        lambda: SAVED[: generator.randrange(len(SAVED))],
        lambda: zipped(good | {"data.pkl": damage(good["data.pkl"])}),
        lambda: zipped(good | {"data.pkl": damage(damage(good["data.pkl"]))}),
    )
    return [kind() for kind in itertools.islice(itertools.cycle(kinds), count)]


def try_mutants(path: Path, count: int) -> int:
    """Read each mutant; how many are accepted. Whatever else they raise comes out."""
    accepted = 0
    warnings.simplefilter("ignore")
    for mutant in mutants(count):
        path.write_bytes(mutant)
        try:
            tensors = read_tensors(path).tensors
        except (InvalidInput, OSError) as error:
            assert str(error).isprintable(), str(error)
            continue
        accepted += 1
        for tensor in tensors.values():
            assert len(content(path, tensor)) == tensor.size <= len(mutant)
    return accepted


FUZZ = """
import sys
from pathlib import Path
from wmtp_assets_tests.checkpoints.test_torch_zip import try_mutants
print(try_mutants(Path(sys.argv[1]), int(sys.argv[2])))
"""


@full_only
def test_damaged_files_never_crash(path: Path) -> None:
    """In a process of its own, since torch's reader is C++: refused or read, nothing else.

    On failure the file that did it is left at ``path``. Some are read, with other numbers: torch
    has no checksum, which is why bytes are verified before they get here.
    """
    accepted = int(tiny.run_python(FUZZ, str(path), "5000"))
    assert 0 < accepted < 5000
