"""Reading a zip-format ``.pth`` / ``.bin`` without loading it.

``torch.save`` writes a zip archive of uncompressed records: ``<name>/data.pkl`` describes the
tensors, ``<name>/data/<n>`` are their storages. Torch itself reads the description, with
``weights_only=True`` and on the meta device; the zip directory says where each storage lies.
Format: https://docs.pytorch.org/docs/stable/notes/serialization.html.

Torch does not detect corruption. So the directory and the description are verified before they are
parsed, by the function that :func:`read_tensors` is given; the data, which nothing parses, by
whoever reads it, against the CRC-32 that the directory has for each storage. An archive written
without any (``torch.serialization.set_crc32_options(False)``) is verified as a whole before.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.excerpts import Hole, OpenFile, open_whole
from wmtp_assets.checkpoints.pipeline import ALL, Contents, Record, StoredTensor, Wanted
from wmtp_assets.checkpoints.safetensors_file import is_tensor_name

if TYPE_CHECKING:
    import torch

DESCRIPTION = ("data.pkl", "version", "byteorder")
MAX_DESCRIPTION = 1 << 20
MAX_OPCODES = 200_000
"""Steps of the pickle that describes the tensors; a tensor takes some 30, and 100 bytes."""
MAX_BITS = 1024
"""Of an integer; no size or offset has so many. A megabyte of digits is hashed anew each time."""
MAX_HASHED = 10_000_000
"""Values that are hashed, with those in tuples: one that holds itself twice, forty times over, is
small, and takes forever where it is a key."""
MAX_DEPTH = 1000
"""Of tuples in a tuple: its hash is computed recursively, in C."""
MAX_COLLISIONS = 1_000_000
"""Comparisons of keys that have one hash and are not equal. Integers that differ by a multiple of
2^61 - 1 do, and tuples can be computed that do: a dict of many takes time that grows with their
square. Of names, which a state dict has, and of tuples that nobody computed, there are none."""
MAX_COPIES = 16
"""Calls that copy a list or a dict, as set does: of one that is used again and again, each is as
large as the description."""
PROTOCOLS = (2, 3)
"""Of pickle, that torch reads with ``weights_only=True``."""
MAX_RECORDS = 10_000
TAIL = 1 << 20
"""Bytes at the end of the file that must hold the zip directory; 300 tensors need 30 kB."""

SELECT = re.compile(r"\w{1,60}")
"""A key that leads to a state dict in a file of several."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, sizes of name and extra field
_ENCRYPTED = 1  # bit of a record's flags
_UTF8 = 0x800  # bit of a record's flags: its name is
_GLOBALS = re.compile(
    r"collections (?:OrderedDict|Counter)|(?:__builtin__|builtins) set"
    r"|torch \w+Storage|torch [a-z]\w*|torch Size|torch\._utils _rebuild_\w+"
    r"|torch\.storage \w+|torch\.serialization _get_layout|torch\.nn\.parameter Parameter"
)
"""What a description may name, of what torch itself lets through: nothing that only takes memory,
as bytearray, encodings and tensors made of numbers do."""
_COPIES = re.compile(r"collections \w+|\w+ set")
"""What of them copies its argument."""

Verify = Callable[[int, int], None]
"""Takes first byte and end of a part of the file; raises if it is not what it should be."""


def trust(begin: int, end: int) -> None:
    """A :data:`Verify` for a file that was verified as a whole."""


_Archive = tuple[Mapping[str, bytes], Sequence[Record]]
"""The small records that describe the tensors, by their names in the zip archive; and the storages,
which are records too."""


class _Tail(io.RawIOBase):
    """The last bytes of a file, in their place: for zipfile, which looks for offsets from both ends
    and compares them. It reads only what it is asked for, and nothing before it."""

    def __init__(self, file: IO[bytes], begin: int) -> None:
        self._file, self._begin = file, begin

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        position = self._file.seek(offset, whence)
        if position < self._begin:
            count = self._file.seek(0, os.SEEK_END) - self._begin
            raise zipfile.BadZipFile(f"its directory is not in the last {count} bytes")
        return position

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1, /) -> bytes:
        return self._file.read(-1 if size is None else size)


def _open_archive(path: Path, verify: Verify, open_file: OpenFile = open_whole) -> _Archive:
    with open_file(path) as file:
        if file.read(1) == b"\x80":
            raise InvalidInput(
                f"{path}: a legacy (non-zip) torch file. Rewrite it where it was made: "
                "torch.save(torch.load(old, weights_only=True), new)"
            )
        size = file.seek(0, os.SEEK_END)
        start = max(size - TAIL, 0)
        verify(start, size)
        try:
            with zipfile.ZipFile(_Tail(file, start)) as archive:  # type: ignore[arg-type]
                return _read_archive(path, file, archive, verify)
        except (
            zipfile.BadZipFile,
            EOFError,
            struct.error,
            RuntimeError,
            ValueError,
            ArithmeticError,
        ) as error:
            raise InvalidInput(
                f"{path}: not a torch checkpoint, or cut off: {error}; a directory of more than "
                f"{TAIL} bytes is not read; download it again"
            ) from error


def _read_archive(
    path: Path, file: IO[bytes], archive: zipfile.ZipFile, verify: Verify
) -> _Archive:
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    if len(infos) > MAX_RECORDS:
        raise InvalidInput(f"{path}: more than {MAX_RECORDS} records in the archive")
    names = {info.filename for info in infos}
    if len(names) != len(infos):
        raise InvalidInput(f"{path}: a duplicate record in the archive")
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InvalidInput(f"{path}: not a torch checkpoint: {len(pickles)} records data.pkl")
    prefix = pickles[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in names:
        raise InvalidInput(
            f"{path}: a TorchScript archive, not a checkpoint. Save the state dict instead: "
            "torch.save(module.state_dict(), new)"
        )
    described = [name for name in DESCRIPTION if prefix + name in names]
    if sum(archive.getinfo(prefix + name).file_size for name in described) > MAX_DESCRIPTION:
        raise InvalidInput(f"{path}: the description is larger than {MAX_DESCRIPTION} bytes")
    has_sums = any(info.CRC for info in infos) or not any(info.file_size for info in infos)
    if not has_sums:
        verify(0, file.seek(0, os.SEEK_END))
    records: dict[str, Record] = {}
    position = 0
    for info in infos:
        is_stored = (
            info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        )
        if not is_stored or info.flag_bits & _ENCRYPTED:
            raise InvalidInput(
                f"{path}: record {info.filename!r} is compressed or encrypted; "
                "torch writes records stored"
            )
        is_described = info.filename.removeprefix(prefix) in DESCRIPTION
        record = _locate_record(path, file, info, has_sums, is_described)
        if (
            record is None
            or info.header_offset < position
            or record.begin + record.size > archive.start_dir
        ):
            raise InvalidInput(f"{path}: record {info.filename!r} does not lie where it should")
        position = record.begin + record.size
        records[info.filename.removeprefix(prefix)] = record
        if is_described:
            verify(info.header_offset, position)
    description = {name: _read_record(file, records[name]) for name in described}
    if description.get("byteorder", b"little") != b"little":
        raise InvalidInput(f"{path}: tensors are big-endian; save them on a little-endian machine")
    storages = [record for name, record in records.items() if name.startswith("data/")]
    return {prefix + name: data for name, data in description.items()}, storages


def _locate_record(
    path: Path, file: IO[bytes], info: zipfile.ZipInfo, has_sums: bool, is_described: bool
) -> Record | None:
    """Where the data of a record lies; None: its own header is not there, or has another name.

    Of a storage (not ``is_described``) in an excerpt, whose header is not here: where it begins at
    the earliest.
    """
    begin, encoding = info.header_offset, "utf-8" if info.flag_bits & _UTF8 else "cp437"
    if begin < 0:
        return None
    crc32 = info.CRC if has_sums else None
    file.seek(begin)
    try:
        signature, name_size, extra_size = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        name = file.read(name_size).decode(encoding)
    except Hole:
        if is_described:
            raise
        begin += _LOCAL_HEADER.size + len(info.orig_filename.encode(encoding))
        return Record(path, begin, info.file_size, info.filename, crc32)
    if signature != b"PK\x03\x04" or name != info.orig_filename:
        return None
    begin += _LOCAL_HEADER.size + name_size + extra_size
    return Record(path, begin, info.file_size, info.filename, crc32)


def _read_record(file: IO[bytes], record: Record) -> bytes:
    file.seek(record.begin)
    data = file.read(record.size)
    if record.crc32 is not None and zlib.crc32(data) != record.crc32:
        raise InvalidInput(
            f"{record.path}: record {record.what!r} has another CRC-32; download it again"
        )
    return data


@dataclass(frozen=True, eq=False, slots=True)
class _Value:
    """What is on the stack of a pickle, as far as it decides about its hash.

    Attributes:
        value: a number, a text or a tuple of such; of what torch makes, an object that equals only
            itself.
        parts: those of a tuple.
        size: values in it, counted through tuples.
        depth: of tuples in it.
    """

    value: object
    parts: tuple[_Value, ...] = ()
    size: int = 1
    depth: int = 0

    @classmethod
    def of_parts(cls, parts: Sequence[_Value]) -> _Value:
        """A tuple.

        Raises:
            ValueError: if it is too deep.
        """
        depth = 1 + max((part.depth for part in parts), default=0)
        if depth > MAX_DEPTH:
            raise ValueError(f"its description has a tuple nested more than {MAX_DEPTH} deep")
        return cls(
            tuple(part.value for part in parts),
            tuple(parts),
            min(1 + sum(part.size for part in parts), MAX_HASHED + 1),
            depth,
        )


class _OneHash:
    """Something that may have the hash of any other, as far as we know."""

    def __hash__(self) -> int:
        return 0


class _Global(str):
    """Module and name of something that is called."""


_CONSTANTS: Mapping[str, object] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
}
_MADE = frozenset(("REDUCE", "BINPERSID", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET", "DICT", "LIST"))
"""Steps that make what is its own key, or none."""


def _check_pickle(data: bytes) -> None:
    """Look at a pickle step by step, and make nothing of it but what its keys are.

    Raises:
        ValueError: if torch should not see it: it would take time or memory.
    """
    stack: list[_Value | None] = []  # None: a mark
    memo: dict[int, _Value | None] = {}
    keys: list[_Value] = []
    in_lists: list[_Value] = []
    copies = 0
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        name = opcode.name
        if count >= MAX_OPCODES:
            raise ValueError(f"its description has more than {MAX_OPCODES} steps")
        protocol = argument if name == "PROTO" else "0 or 1" if not count else PROTOCOLS[0]
        if protocol not in PROTOCOLS:
            raise ValueError(
                f"it is pickled with protocol {protocol}; torch reads 2 and 3 without executing "
                "code. Save it where it was made, without pickle_protocol: torch.save(state, new)"
            )
        if name == "GLOBAL" and not _GLOBALS.fullmatch(argument):
            asked = argument.replace(" ", ".").removeprefix("builtins.")
            raise pickle.UnpicklingError(f"GLOBAL {asked} ")
        if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
            raise ValueError(f"its description has an integer of more than {MAX_BITS} bits")
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
            continue
        if name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
            continue
        if not opcode.stack_before and len(opcode.stack_after) == 1:
            is_mark = opcode.stack_after[0] is pickletools.markobject
            stack.append(None if is_mark else _made(name, argument, ()))
            continue
        taken = _pop(stack, opcode.stack_before)
        match name, taken:
            case "REDUCE", [_Value(_Global() as called), arguments] if _COPIES.fullmatch(called):
                copies += arguments.size > 1
                keys += arguments.parts[0].parts if arguments.parts else ()
            case (("SETITEM" | "SETITEMS" | "DICT"), _):
                keys += (taken if name == "DICT" else taken[1:])[::2]
            case (("APPEND" | "APPENDS" | "LIST"), _):
                in_lists += taken if name == "LIST" else taken[1:]
        if copies > MAX_COPIES:
            raise ValueError(f"its description makes more than {MAX_COPIES} sets or the like")
        stack += [_made(name, argument, taken) for _ in opcode.stack_after]
    _check_keys(keys + in_lists * bool(copies))


def _pop(stack: list[_Value | None], needed: Sequence[object]) -> list[_Value]:
    """What a step takes from the stack, the lowest first, marks left out."""
    taken: list[_Value] = []
    fixed = len(needed)
    if pickletools.markobject in needed:
        while (inner := stack.pop()) is not None:
            taken.append(inner)
        fixed = list(needed).index(pickletools.markobject)
    for _ in range(fixed):
        one = stack.pop()
        if one is not None:
            taken.append(one)
    return taken[::-1]


def _made(name: str, argument: Any, taken: Sequence[_Value]) -> _Value:
    """What a step puts onto the stack."""
    if name in _CONSTANTS:
        return _Value(_CONSTANTS[name])
    if name == "GLOBAL":
        return _Value(_Global(argument))
    if name.startswith("TUPLE"):
        return _Value.of_parts(taken)
    match name, taken:
        case "REDUCE", [_Value(_Global("torch Size")), _Value(_, [_Value(tuple()) as sizes])]:
            return sizes  # it is a tuple
        case "REDUCE", [_Value(_Global("torch Size")), _]:
            return _Value(_OneHash())
    if name in _MADE:
        return _Value(object())
    return _Value(argument if isinstance(argument, int | float | str | bytes) else _OneHash())


def _check_keys(keys: Iterable[_Value]) -> None:
    """Require that what is hashed takes a time that grows with its size.

    Raises:
        ValueError: if it does not.
    """
    hashed = collisions = 0
    by_hash: dict[int, set[object]] = {}
    for key in keys:
        hashed += key.size
        if hashed > MAX_HASHED:
            raise ValueError(f"its description has keys of more than {MAX_HASHED} values")
        same = by_hash.setdefault(hash(key.value), set())
        same.add(key.value)
        collisions += (len(same) - 1) * key.size
        if collisions > MAX_COLLISIONS:
            raise ValueError("its description has keys that were made to have one hash")


def _load_description(archive: _Archive) -> tuple[Any, dict[int, Record]]:
    """What ``torch.load`` makes of the description, and offset → storage.

    Torch is given an archive with the same description and empty storages: on the meta device it
    reads no data, and says for each storage at which offset the archive keeps it. (In the original
    it would guess offsets from the way its own writer lays records out.)
    """
    import torch

    description, storages = archive
    buffer = io.BytesIO()
    places: dict[int, Record] = {}
    with zipfile.ZipFile(buffer, "w") as skeleton:
        for name, data in description.items():
            if name.endswith("/data.pkl"):
                _check_pickle(data)
            skeleton.writestr(name, data)
        for record in storages:
            skeleton.writestr(record.what, b"")
            places[buffer.tell()] = record
    buffer.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # protocol 3 is not torch's default
        return torch.load(buffer, map_location="meta", weights_only=True), places


def read_tensors(
    path: Path,
    verify: Verify = trust,
    wanted: Wanted = ALL,
    open_file: OpenFile = open_whole,
) -> Contents:
    """The tensors of a checkpoint, by name, without their data.

    Args:
        path: the file.
        verify: called for each part of the file before it is parsed.
        wanted: which of them are the model's.
        open_file: how the file is opened. Of an excerpt, where a storage begins is not exact.

    Raises:
        InvalidInput: naming the file and the tensor, if what is selected is not a flat state dict
            in zip format, if the file needs more than weights to load, or if a tensor does not lie
            within its record.
        OSError: if the file cannot be read.
    """
    archive = _open_archive(path, verify, open_file)
    import torch

    try:
        loaded, places = _load_description(archive)
        state, left_out = _select(path, loaded, wanted.select)
        tensors: dict[str, StoredTensor] = {}
        dropped: list[str] = []
        for key, value in state.items():
            if not isinstance(key, str) or not is_tensor_name(key):
                raise InvalidInput(f"{path}: {_shown(key)} is not a tensor name")
            name = wanted.name_of(key, path)
            if wanted.is_buffer(name):
                dropped.append(name)
                continue
            if not isinstance(value, torch.Tensor):
                raise InvalidInput(
                    f"{path}: {key} is a {type(value).__name__}, not a tensor: "
                    f"expected a flat state dict{_select_hint(loaded)}"
                )
            tensors[name] = _locate(path, name, value, places)
        return Contents(tensors, tuple(dropped), left_out)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        # Torch's own text stays out of the traceback: it recommends to load the file unsafely.
        raise InvalidInput(f"{path}: no plain state dict: {_reason(error)}") from None


def _shown(key: object) -> str:
    return repr(key[:60]) if isinstance(key, str) else f"a {type(key).__name__}"


def _select(
    path: Path, loaded: object, keys: Sequence[str]
) -> tuple[Mapping[object, object], dict[str, int]]:
    """The state dict that keys lead to; and what is beside it → the number of tensors in it."""
    left_out: dict[str, int] = {}
    state, begin = loaded, ""
    for key in keys:
        if not isinstance(state, Mapping) or key not in state:
            names = [_shown(name) for name in state] if isinstance(state, Mapping) else []
            raise InvalidInput(
                f"{path}: has no {begin}{key}, the checkpoint.select of the spec; it has "
                f"{', '.join(names[:5]) or 'no names at all'}{_select_hint(loaded)}"
            )
        for name, value in state.items():
            if name != key:
                beside = begin + _shown(name).strip("'")
                left_out[beside] = left_out.get(beside, 0) + _count_tensors(value)
        state, begin = state[key], f"{begin}{key}."
    if not isinstance(state, Mapping):
        what = f"{begin[:-1]} is" if keys else "holds"
        raise InvalidInput(f"{path}: {what} a {type(state).__name__}, not a state dict")
    if not state:
        raise InvalidInput(f"{path}: holds no tensors{' in ' if keys else ''}{begin[:-1]}")
    return state, left_out


def _inside(value: object) -> Iterable[tuple[object, object]]:
    """Key and value of what a container holds, without going deeper."""
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, list | tuple | set) else ()


def _count_tensors(value: object) -> int:
    """The tensors in a value; one container that is in it twice counts once."""
    import torch

    count, seen, left = 0, set[int](), [value]
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            count += isinstance(one, torch.Tensor)
            left += [inner for _, inner in _inside(one)]
    return count


def _select_hint(loaded: object) -> str:
    """What to write into the spec for a file that holds a state dict further inside."""
    import torch

    left, seen = [("", loaded)], set[int]()
    while left:
        begin, value = left.pop(0)
        if not isinstance(value, Mapping) or id(value) in seen or begin.count(".") > 3:
            continue
        seen.add(id(value))
        if begin and value and all(isinstance(one, torch.Tensor) for one in value.values()):
            return f". In {begin} there is one: checkpoint: {{select: {begin}}}, in the spec"
        left += [
            (f"{begin}.{key}".removeprefix("."), inner)
            for key, inner in value.items()
            if isinstance(key, str) and SELECT.fullmatch(key)
        ]
    return ""


def _reason(error: Exception) -> str:
    """Why torch refused, in one printable line, without its advice to load the file unsafely."""
    asked = re.search(r"GLOBAL (\S+)", str(error))
    if asked:
        line = (
            f"it asks for {asked[1]}, which weights do not need. Save the weights alone where it "
            "was made: torch.save(state, new)"
        )
    else:
        lines = [line.strip() for line in str(error).splitlines() if "weights_only" not in line]
        line = next(filter(None, lines), type(error).__name__)
    return "".join(c if c.isprintable() else "?" for c in line[:200])


def _locate(
    path: Path, name: str, value: torch.Tensor, places: Mapping[int, Record]
) -> StoredTensor:
    layout = str(value.layout).removeprefix("torch.")
    if layout != "strided":
        raise InvalidInput(f"{path}: {name} is a {layout} tensor; only dense ones are read")
    if value.is_neg() or value.is_conj():
        raise InvalidInput(
            f"{path}: {name} is a view whose signs torch flips as it reads; save "
            f"{name}.resolve_neg().resolve_conj()"
        )
    storage = value.untyped_storage()
    record = places.get(getattr(storage, "_checkpoint_offset", -1))
    if record is None:
        raise InvalidInput(f"{path}: {name} has no storage in the archive")
    item = value.element_size()
    tensor = StoredTensor(
        path=path,
        name=name,
        dtype=str(value.dtype).removeprefix("torch."),
        shape=tuple(value.shape),
        stride=None if value.is_contiguous() else tuple(value.stride()),
        begin=record.begin + int(value.storage_offset()) * item,
        item_size=item,
        record=record,
    )
    if (
        record.size != storage.nbytes()
        or tensor.size > record.size
        or tensor.begin + tensor.extent > record.begin + record.size
    ):
        raise InvalidInput(
            f"{path}: {name} {list(tensor.shape)} does not fit its record {record.what} "
            f"of {record.size} bytes"
        )
    return tensor
