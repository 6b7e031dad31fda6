"""The safetensors writer against ``save_file``, and the header reader against attack files."""

from __future__ import annotations

import hashlib
import json
import random
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.checkpoints.safetensors_file import (
    DTYPE_CODES,
    DTYPE_NAMES,
    ITEM_SIZE,
    MAX_HEADER,
    MAX_NAME,
    MAX_RANK,
    Header,
    TensorEntry,
    WrittenCheckpoint,
    is_tensor_name,
    read_header,
    write_checkpoint,
)
from wmtp_assets.storage.files import HashedFile
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.quick import quick, thinned

TORCH_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}
CODES = {dtype: code for code, dtype in TORCH_DTYPES.items()}


def test_every_dtype_is_compared_with_torch() -> None:
    """A dtype that the property tests leave out could be written in the wrong order or width."""
    assert TORCH_DTYPES.keys() == ITEM_SIZE.keys()
    assert {code: dtype.itemsize for code, dtype in TORCH_DTYPES.items()} == ITEM_SIZE
    assert all(getattr(torch, name) == TORCH_DTYPES[code] for code, name in DTYPE_NAMES.items())
    assert {DTYPE_CODES[name]: name for name in DTYPE_CODES} == DTYPE_NAMES


# -- writing -------------------------------------------------------------------------------------


def random_tensor(code: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """A tensor of any bits at all, NaNs included."""
    count = torch.Size(shape).numel()
    data = bytearray(random.Random(seed).randbytes(count * ITEM_SIZE[code]))
    if code == "BOOL":
        data = bytearray(byte & 1 for byte in data)
    if not data:
        return torch.empty(shape, dtype=TORCH_DTYPES[code])
    return torch.frombuffer(data, dtype=TORCH_DTYPES[code]).reshape(shape)


names = st.text(max_size=12).filter(lambda name: name != "__metadata__")
legal_names = st.one_of(
    st.from_regex(r"(layers|ä|模)\.[0-9]{1,2}\.w[a-c]", fullmatch=True),
    names.filter(is_tensor_name),
)
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
metadata_texts = st.text(max_size=8)


def state_dicts(names: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, torch.Tensor]]:
    tensor = st.builds(random_tensor, st.sampled_from(sorted(ITEM_SIZE)), shapes, st.integers(0, 9))
    return st.dictionaries(names, tensor, max_size=8)


def pieces_of(tensor: torch.Tensor, size: int) -> Iterator[memoryview]:
    view = memoryview(tiny.bits(tensor))
    for begin in range(0, len(view), size):
        yield view[begin : begin + size]


def write(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    order: Iterable[str] | None = None,
    piece: int = 5,
) -> WrittenCheckpoint:
    """Write ``tensors`` in pieces of ``piece`` bytes."""
    path.unlink(missing_ok=True)
    entries = [
        TensorEntry(name, CODES[tensors[name].dtype], tuple(tensors[name].shape))
        for name in order or tensors
    ]
    with tiny.new_file(path) as file:
        return write_checkpoint(
            file, entries, metadata, lambda entry: pieces_of(tensors[entry.name], piece)
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property test."""
    return tmp_path_factory.mktemp("safetensors")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tensors=state_dicts(names),
    metadata=st.dictionaries(metadata_texts, metadata_texts, max_size=1),
    data=st.data(),
)
def test_writes_the_bytes_of_save_file(
    folder: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], data: st.DataObject
) -> None:
    """The library's layout is what every reader was tested with; ours adds only order.

    The result must depend neither on the order of the entries nor on the size of the pieces.
    """
    ours, theirs = folder / "ours.safetensors", folder / "theirs.safetensors"
    order = data.draw(st.permutations(list(tensors)))
    written = write(ours, tensors, metadata, order, data.draw(st.integers(1, 64)))
    save_file(tensors, theirs, metadata or None)
    content = ours.read_bytes()
    assert content == theirs.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert written.header_sha256 == hashlib.sha256(content[:start]).hexdigest()
    assert {entry.name: sha256 for entry, sha256 in written.tensors} == {
        name: hashlib.sha256(tiny.bits(tensor)).hexdigest() for name, tensor in tensors.items()
    }


def split(content: bytes) -> tuple[dict[str, str], list[tuple[str, Any]], bytes]:
    """Metadata, tensors in header order, and data of a file."""
    start = 8 + int.from_bytes(content[:8], "little")
    pairs = json.loads(content[8:start], object_pairs_hook=list)
    assert pairs[0][0] == "__metadata__"
    return dict(pairs[0][1]), pairs[1:], content[start:]


@settings(max_examples=50, deadline=None)
@given(
    tensors=state_dicts(names),
    metadata=st.dictionaries(metadata_texts, metadata_texts, min_size=2, max_size=6),
)
def test_several_metadata_keys_are_written_in_order(
    folder: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    """``save_file`` hashes them in a random order, and the same model gets another SHA-256."""
    ours, theirs = folder / "ours.safetensors", folder / "theirs.safetensors"
    write(ours, tensors, metadata)
    save_file(tensors, theirs, metadata)
    content = ours.read_bytes()
    assert len(content) == theirs.stat().st_size
    assert split(content) == split(theirs.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    pairs = json.loads(content[8:start], object_pairs_hook=list)
    assert [key for key, _ in pairs[0][1]] == sorted(metadata)
    write(ours, tensors, dict(reversed(metadata.items())))
    assert ours.read_bytes() == content


def test_file_is_readable_by_others(tmp_path: Path) -> None:
    """``save_file`` leaves mode 0600, and the training job runs under another account."""
    path = tmp_path / "x.safetensors"
    path.touch()
    usual = path.stat().st_mode
    write(path, {"a": torch.zeros(2)}, {})
    assert path.stat().st_mode == usual


@pytest.mark.parametrize("count", [0, 1, 3, 5, 8])
def test_wrong_number_of_bytes_is_an_error(tmp_path: Path, count: int) -> None:
    """One byte more or less would shift every tensor behind it, under correct-looking hashes."""
    tensors = {"a": torch.zeros(1), "b": torch.zeros(1)}
    entries = [TensorEntry(name, "F32", (1,)) for name in tensors]
    with (
        pytest.raises(ValueError, match=rf"^a: {count} bytes for a tensor of 4$"),
        tiny.new_file(tmp_path / "x") as file,
    ):
        write_checkpoint(file, entries, {}, lambda entry: [memoryview(bytes(count))])


def test_file_that_failed_is_not_recorded(tmp_path: Path) -> None:
    """Only a file that was written whole may appear in a manifest."""
    records: list[FileRecord] = []

    def read(entry: TensorEntry) -> Iterator[memoryview]:
        yield memoryview(bytes(2))
        raise OSError(5, "Input/output error")

    with (
        pytest.raises(OSError, match="Input/output error"),
        HashedFile(tmp_path / "x", records.append, lambda size: None) as file,
    ):
        write_checkpoint(file, [TensorEntry("a", "F32", (1,))], {}, read)
    assert records == []


def test_space_is_reserved_before_the_first_tensor_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must show before hours of reading, not after."""
    reserved: list[int] = []

    def reserve(self: HashedFile, size: int) -> None:
        reserved.append(size)
        raise OSError(28, "No space left on device")

    def read(entry: TensorEntry) -> Iterator[memoryview]:
        raise AssertionError("read before the space was reserved")

    monkeypatch.setattr(HashedFile, "reserve", reserve)
    with pytest.raises(OSError, match="No space"), tiny.new_file(tmp_path / "x") as file:
        write_checkpoint(file, [TensorEntry("a", "F64", (10,))], {}, read)
    monkeypatch.undo()
    write(tmp_path / "y", {"a": torch.zeros(10, dtype=torch.float64)}, {})
    assert reserved == [(tmp_path / "y").stat().st_size]


# -- reading -------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tensors=state_dicts(legal_names),
    metadata=st.dictionaries(metadata_texts, metadata_texts, max_size=4),
)
def test_header_round_trips(
    folder: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    """What is written is read back: names, dtypes, shapes, where the data lies, and hashes."""
    path = folder / "x.safetensors"
    written = write(path, tensors, metadata)
    header = read_header(path)
    content = path.read_bytes()
    # Empty tensors may share their offset with others: their order in the file is no one's.
    assert sorted(header.entries, key=str) == sorted((e for e, _ in written.tensors), key=str)
    assert (header.metadata, header.sha256) == (metadata, written.header_sha256)
    assert header.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert header.n_params == sum(tensor.numel() for tensor in tensors.values())
    assert header.data_start == 8 + int.from_bytes(content[:8], "little")
    for entry in header.entries:
        begin = header.begins[entry.name]
        assert content[begin : begin + entry.size] == tiny.bits(tensors[entry.name])


@pytest.mark.parametrize("count", quick(thinned([60, 500, 1500], [60, 500]), [60]))
def test_reads_whatever_the_library_writes(folder: Path, count: int) -> None:
    """Any dtype, shape and name, with metadata or without: each tensor lies where it is said to.

    Header and data are padded by nobody: tensors of one byte move the others off their alignment,
    and other writers lay them out in an order of their own.
    """
    path = folder / "written.safetensors"

    @settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        tensors=state_dicts(legal_names),
        metadata=st.none() | st.dictionaries(metadata_texts, metadata_texts, max_size=3),
        data=st.data(),
    )
    def check(
        tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None, data: st.DataObject
    ) -> None:
        assume(tensors or metadata != {})  # of which the library writes what it cannot read
        save_file(tensors, path, metadata)
        if data.draw(st.booleans()):
            header, content, rows = {}, b"", data.draw(st.permutations(list(tensors)))
            for name in rows:
                piece = tiny.bits(tensors[name])
                offsets = [len(content), len(content) + len(piece)]
                code, shape = CODES[tensors[name].dtype], list(tensors[name].shape)
                header[name] = {"data_offsets": offsets, "shape": shape, "dtype": code}
                content += piece
            text = json.dumps(header, indent=data.draw(st.sampled_from([None, 1]))).encode()
            path.write_bytes(len(text).to_bytes(8, "little") + text + content)
        header, content = read_header(path), path.read_bytes()
        assert header.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        for entry in header.entries:
            begin = header.begins[entry.name]
            assert entry.dtype == CODES[tensors[entry.name].dtype]
            assert content[begin : begin + entry.size] == tiny.bits(tensors[entry.name])
        unread = torch.float8_e8m0fnu  # the library writes it, and has no name for it as it reads
        theirs = {name: tensor for name, tensor in tensors.items() if tensor.dtype != unread}
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in theirs}
        tiny.assert_same_bits(found, theirs)

    check()


def describe(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, str]]:
    """Name → dtype and shape, and the metadata, as the library reads them."""
    with safe_open(path, framework="pt") as file:
        tensors = {
            name: (file.get_slice(name).get_dtype(), tuple(file.get_slice(name).get_shape()))
            for name in file.keys()  # noqa: SIM118
        }
        return tensors, file.metadata() or {}


def described(header: Header) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, str]]:
    """The same from our header."""
    tensors = {entry.name: (entry.dtype, entry.shape) for entry in header.entries}
    return tensors, dict(header.metadata)


def test_what_is_accepted_the_library_accepts_too(tmp_path: Path) -> None:
    """Two parsers that read the same file differently is how checked bytes become other tensors.

    Headers with random edits: whenever ours accepts one, the library must, with the same result.
    """
    path = tmp_path / "x.safetensors"
    tensors = {"a.b": torch.zeros(2, 3), "ä": torch.zeros(0, 7), "c": torch.zeros(5).half()}
    write(path, tensors, {"format": "pt", "k": "v\n"})
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    data = content[start:]
    generator = random.Random(0)
    alphabet = [*b'-+0123456789.eE"\\,:{}[]nulltrue uUdDaAfF', 0, 0x80, 0xC3, 0xED, 0xFE]
    accepted = 0
    for _ in range(6000):
        header = bytearray(content[8:start])
        for _ in range(generator.choice([1, 1, 2, 3])):
            at = generator.randrange(len(header))
            edit = generator.randrange(3)
            piece = bytes(generator.choices(alphabet, k=generator.choice([1, 1, 2])))
            header[at : at + (edit > 0)] = b"" if edit == 2 else piece
        path.write_bytes(len(header).to_bytes(8, "little") + header + data)
        try:
            ours = read_header(path)
        except InvalidInput as error:
            assert str(error).startswith(f"{path}: bad safetensors header: ")
            assert "\n" not in str(error)
            continue
        accepted += 1
        assert describe(path) == described(ours), bytes(header)
    assert accepted > 100


GOOD: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "a.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "F16", "shape": [3], "data_offsets": [16, 22]},
}
GOOD_DATA = bytes(22)


def put(path: Path, header: object, data: bytes = GOOD_DATA) -> Path:
    """Write a file with a header, given as a document or as bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def refusal(path: Path) -> str:
    """The message with which the file is refused: one line that names the file."""
    with pytest.raises(InvalidInput) as refused:
        read_header(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + MAX_NAME + 300
    return message.removeprefix(f"{path}: ").removeprefix("bad safetensors header: ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


def test_good_file_is_good(path: Path) -> None:
    """The base of all the attack files below; if it were refused they would prove nothing."""
    header = read_header(put(path, GOOD))
    assert [entry.name for entry in header.entries] == ["a.weight", "b"]
    assert header.begins["b"] == header.data_start + 16
    assert describe(path) == described(header)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, -1])
def test_truncated_file_is_refused(path: Path, kept: int) -> None:
    """An interrupted copy, wherever it stopped."""
    content = put(path, GOOD).read_bytes()
    path.write_bytes(content[:kept])
    assert refusal(path).startswith(
        ("no safetensors file: a header of ", "the tensors end at byte ", "Expecting", "Unterm")
    )


def test_extended_file_is_refused(path: Path) -> None:
    """Bytes that belong to no tensor are covered by no hash."""
    put(path, GOOD, GOOD_DATA + b"\0")
    size = path.stat().st_size
    assert refusal(path) == f"the tensors end at byte {size - 1}, the file at {size}"


@pytest.mark.parametrize("length", [0, 1, 50, 180, 1 << 20, 1 << 63, (1 << 64) - 1])
def test_lying_header_length_is_refused(path: Path, length: int) -> None:
    """The length is the first thing that is believed, and up to 2^64."""
    content = put(path, GOOD).read_bytes()
    path.write_bytes(length.to_bytes(8, "little") + content[8:])
    refusal(path)


def test_huge_header_is_refused_unread(path: Path) -> None:
    """The library takes seconds and gigabytes to parse one; the bytes must not even be read."""
    with path.open("wb") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER + 100)
    tracemalloc.start()
    try:
        message = refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert message.startswith(f"no safetensors file: a header of {MAX_HEADER + 1} bytes")


def test_header_of_exactly_the_limit_is_read(path: Path) -> None:
    """The limit itself is not a lie."""
    text = json.dumps(GOOD).encode().ljust(MAX_HEADER)
    assert read_header(put(path, text)).n_params == 7


def edited(**changes: Any) -> dict[str, Any]:
    """The good header with changes to the tensor ``b``."""
    return GOOD | {"b": GOOD["b"] | changes}


BAD_ENTRIES: list[tuple[object, str]] = [
    # Where the data lies.
    (edited(data_offsets=[10, 16]), "b: begins at 10, the one before ends at 16"),
    (edited(data_offsets=[15, 21]), "b: begins at 15, the one before ends at 16"),
    (edited(data_offsets=[0, 6]), "a.weight: begins at 0, the one before ends at 6"),
    (edited(data_offsets=[17, 23]), "b: begins at 17, the one before ends at 16"),
    (edited(data_offsets=[16, 20]), "b: F16 [3] is 6 bytes, data_offsets span 4"),
    (edited(data_offsets=[22, 16]), "b: F16 [3] is 6 bytes, data_offsets span -6"),
    (edited(data_offsets=[16]), "b: data_offsets must be begin and end"),
    (edited(data_offsets=[16, 22, 28]), "b: data_offsets must be begin and end"),
    (edited(data_offsets=[]), "b: data_offsets must be begin and end"),
    (edited(data_offsets=[-6, 0]), "b: [-6, 0] is not a list of sizes"),
    (edited(data_offsets=[16.0, 22.0]), "b: [16.0, 22.0] is not a list of sizes"),
    (edited(data_offsets={"0": 16}), "b: {'0': 16} is not a list of sizes"),
    (edited(data_offsets=[1 << 64, (1 << 64) + 6]), "b: [18446744073709551616, 1844674407370955"),
    # Shapes.
    (edited(shape=[4]), "b: F16 [4] is 8 bytes, data_offsets span 6"),
    (edited(shape=[]), "b: F16 [] is 2 bytes, data_offsets span 6"),
    (edited(shape=[-3]), "b: [-3] is not a list of sizes"),
    (edited(shape=[-1, -3]), "b: [-1, -3] is not a list of sizes"),
    (edited(shape=[3, True]), "b: [3, True] is not a list of sizes"),
    (edited(shape=[3.0]), "b: [3.0] is not a list of sizes"),
    (edited(shape=["3"]), "b: ['3'] is not a list of sizes"),
    (edited(shape=3), "b: 3 is not a list of sizes"),
    (edited(shape=None), "b: None is not a list of sizes"),
    (edited(shape=[1 << 63]), "b: [9223372036854775808] is not a list of sizes"),
    (edited(shape=[1 << 62, 4]), "b: F16 [4611686018427387904, 4] is 36893488147419103232 bytes"),
    (edited(shape=[3] + [1] * MAX_RANK), "b: [3, 1, 1,"),
    # Dtypes.
    (edited(dtype="F128"), "b: unknown dtype 'F128'"),
    (edited(dtype="f16"), "b: unknown dtype 'f16'"),
    (edited(dtype=16), "b: unknown dtype 16"),
    (edited(dtype=["F16"]), "b: unknown dtype ['F16']"),
    (edited(dtype="x" * 100_000), "b: unknown dtype 'xxx"),
    # Keys.
    (edited(device="cpu"), "b: expected dtype, shape and data_offsets"),
    (GOOD | {"b": {"dtype": "F16", "shape": [3]}}, "b: expected dtype, shape and data_offsets"),
    (GOOD | {"b": []}, "b: expected dtype, shape and data_offsets"),
    (GOOD | {"b": None}, "b: expected dtype, shape and data_offsets"),
    # Documents.
    ([], "the header is not a JSON object"),
    ("text", "the header is not a JSON object"),
    (None, "the header is not a JSON object"),
    (b"{", "Expecting property name"),
    (b"", "Expecting value"),
    (b"{} {}", "Extra data"),
    (b"\x00" * 40, "Expecting value"),
    (json.dumps(GOOD).encode("utf-16"), "'utf-8' codec can't decode"),
    (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "Unexpected UTF-8 BOM"),
    (b'{"\xff": 1}', "'utf-8' codec can't decode"),
    (b"[" * 1_000_000, "more than 250000 values"),
    (b"[" * 100_000, "maximum recursion depth"),
    (b'{"a":' * 100_000, "maximum recursion depth"),
    (b'{"a": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
    (b'{"b": {"dtype": NaN, "shape": [], "data_offsets": []}}', "b: unknown dtype nan"),
    # Metadata.
    (GOOD | {"__metadata__": []}, "__metadata__ is not a map of strings"),
    (GOOD | {"__metadata__": None}, "__metadata__ is not a map of strings"),
    (GOOD | {"__metadata__": "format"}, "__metadata__ is not a map of strings"),
    (GOOD | {"__metadata__": {"step": 3}}, "__metadata__ is not a map of strings"),
    (GOOD | {"__metadata__": {"a": {"b": "c"}}}, "__metadata__ is not a map of strings"),
    (GOOD | {"__metadata__": {"a": None}}, "__metadata__ is not a map of strings"),
    (GOOD | {"__metadata__": {"a": "\ud800"}}, "'utf-8' codec can't encode"),
]


@pytest.mark.parametrize(("header", "message"), BAD_ENTRIES)
def test_bad_header_is_refused(path: Path, header: object, message: str) -> None:
    """Every byte of the data must belong to exactly one tensor of a known size.

    Overlaps and holes hide bytes from the per-tensor hashes; sizes that are negative, booleans or
    beyond 2^63 are what other readers stumble over.
    """
    assert refusal(put(path, header)).startswith(message)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a\0b",
        "a\nb",
        "a\x1b[2Jb",
        "../../etc/passwd",
        "a..b",
        "a\\b",
        "a\u202eb",
        "a\u2028b",
        "\ud800",
        "x" * (MAX_NAME + 1),
        "x" * 1_000_000,
    ],
)
def test_bad_name_is_refused(path: Path, name: str) -> None:
    """Names go into messages, logs and file names; the library accepts most of these."""
    header = {"a.weight": GOOD["a.weight"], name: GOOD["b"]}
    assert refusal(put(path, header)).endswith("is not a tensor name")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"b": 1, "b": 1}', "'b'"),
        ('{"__metadata__": {"k": "1", "k": "2"}}', "'k'"),
        ('{"__metadata__": {}, "__metadata__": {}}', "'__metadata__'"),
        ('{"b": {"dtype": "F16", "dtype": "F16"}}', "'dtype'"),
        ('{"\\u0062": 1, "b": 1}', "'b'"),
    ],
)
def test_same_key_twice_is_refused(path: Path, text: str, key: str) -> None:
    """Which of the two counts differs between parsers; the library accepts exact duplicates."""
    assert refusal(put(path, text.encode())) == f"duplicate key {key}"


def test_same_long_key_twice_is_cut(path: Path) -> None:
    """A message of megabytes fills the event log."""
    key = "x" * 1_000_000
    assert "duplicate key" in refusal(put(path, f'{{"{key}": 1, "{key}": 1}}'.encode()))


def test_duplicates_are_found_in_linear_time(path: Path) -> None:
    """A duplicate behind 150,000 other keys once took each of them times all of them to find."""
    keys = ",".join(f'"{number}":0' for number in range(150_000))
    assert refusal(put(path, f'{{{keys},"149999":0}}'.encode())) == "duplicate key '149999'"


def test_sizes_of_thousands_of_digits_cost_nothing(path: Path) -> None:
    """Each is a legal JSON number; their product has millions of digits and took hours."""
    number = "9" * 4000
    header = '{"b": {"dtype": "F16", "shape": [%s], "data_offsets": [0, 22]}}'
    put(path, (header % ",".join([number] * 4000)).encode())
    assert refusal(path).startswith("b: ")


def test_long_shapes_cost_nothing(path: Path) -> None:
    """150,000 dimensions of 2^62 multiply to a number of 9 million bits, slowly."""
    header = '{"b": {"dtype": "F16", "shape": [%s], "data_offsets": [0, 22]}}'
    put(path, (header % ",".join(["4611686018427387904"] * 150_000)).encode())
    assert refusal(path).endswith("is not a list of sizes")


def test_too_many_tensors_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs an object, here and in every reader behind us."""
    monkeypatch.setattr("wmtp_assets.checkpoints.safetensors_file.MAX_TENSORS", 1)
    assert refusal(put(path, GOOD)) == "2 tensors, at most 1 are read"


@pytest.mark.parametrize(
    "header",
    [edited(data_offsets=[15, 21]), edited(data_offsets=[17, 23]), edited(dtype="F128")],
)
def test_library_refuses_the_same(path: Path, header: object) -> None:
    """The attack files must be attacks: what both refuse shows that they were built right."""
    put(path, header)
    with pytest.raises(SafetensorError):
        describe(path)


def test_library_accepts_what_is_refused_here(path: Path) -> None:
    """Why there is a reader of our own: the library lets these pass."""
    put(path, {"a.weight": GOOD["a.weight"], "../a\0": GOOD["b"]})
    assert "../a\0" in describe(path)[0]
    refusal(path)
    entry = json.dumps(GOOD["b"] | {"data_offsets": [0, 6]})
    put(path, f'{{"b": {entry}, "b": {entry}}}'.encode(), bytes(6))
    assert "b" in describe(path)[0]
    refusal(path)


def test_missing_file_is_an_os_error(path: Path) -> None:
    """Not there and not valid are different problems with different remedies."""
    with pytest.raises(FileNotFoundError):
        read_header(path)
