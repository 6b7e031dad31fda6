"""Hostile torch checkpoints: pickles that execute or grow, archives that lie."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import torch

from wmtp_assets_tests.checkpoints.tiny import saved
from wmtp_assets_tests.checkpoints.torch_files import crafted, records, zipped
from wmtp_assets_tests.hostile.corpus import hostile
from wmtp_assets_tests.hostile.doors import PTH, SHARD

MARKER = "executed"
"""A file that appears in the current folder where a pickle was executed."""

COMMAND = f"touch {MARKER}".encode()
CODE = f"open({MARKER!r}, 'w')".encode()


def with_pickle(data: bytes, good: bytes) -> bytes:
    """A good checkpoint with another description."""
    return zipped(records(good) | {"data.pkl": data})


def text(value: bytes) -> bytes:
    """An opcode that pushes a string."""
    return b"X" + struct.pack("<I", len(value)) + value


@hostile(PTH, "asks for (posix|os).system")
def executes_by_reduce(good: bytes) -> bytes:
    """The classic: GLOBAL and REDUCE."""
    return with_pickle(b"\x80\x02cos\nsystem\n" + text(COMMAND) + b"\x85R.", good)


@hostile(PTH, "no plain state dict")
def executes_by_stack_global(good: bytes) -> bytes:
    """Protocol 4 takes module and name from the stack."""
    code = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93" + text(CODE) + b"\x85R."
    return with_pickle(code, good)


@hostile(PTH, "no plain state dict")
def executes_by_inst(good: bytes) -> bytes:
    """INST imports and calls in one opcode of protocol 0."""
    return with_pickle(b"(" + text(COMMAND) + b"ios\nsystem\n.", good)


@hostile(PTH, "no plain state dict")
def executes_by_obj(good: bytes) -> bytes:
    """OBJ calls a class that lies on the stack."""
    return with_pickle(b"(cos\nsystem\n" + text(COMMAND) + b"o.", good)


@hostile(PTH, "no plain state dict")
def executes_by_newobj(good: bytes) -> bytes:
    """NEWOBJ calls __new__ of a class that runs a process."""
    return with_pickle(b"\x80\x02csubprocess\nPopen\n" + text(COMMAND) + b"\x85\x81.", good)


@hostile(PTH, "no plain state dict")
def executes_by_newobj_ex(good: bytes) -> bytes:
    """NEWOBJ_EX, with arguments by name."""
    return with_pickle(b"\x80\x04csubprocess\nPopen\n" + text(COMMAND) + b"\x85}\x92.", good)


@hostile(PTH, "no plain state dict")
def executes_by_build(good: bytes) -> bytes:
    """BUILD calls __setstate__, which an instance can be given."""
    state = b"}" + text(b"__setstate__") + b"cos\nsystem\ns"
    return with_pickle(
        b"\x80\x02ccollections\nOrderedDict\n)R" + state + b"b" + text(COMMAND) + b"b.", good
    )


@hostile(PTH, "no plain state dict")
def executes_by_persistent_id(good: bytes) -> bytes:
    """The class of a storage is a function."""
    code = b"(" + text(b"storage") + b"cos\nsystem\n" + text(COMMAND) + text(b"cpu") + b"K\x01tQ."
    return with_pickle(b"\x80\x02" + code, good)


@hostile(PTH, "no plain state dict")
def executes_by_getattr(good: bytes) -> bytes:
    """Attributes of what is allowed lead to what is not."""
    code = b"cbuiltins\ngetattr\n(ccollections\nOrderedDict\n" + text(b"__subclasses__") + b"tR)R."
    return with_pickle(b"\x80\x02" + code, good)


@hostile(PTH, "no plain state dict")
def executes_by_extension(good: bytes) -> bytes:
    """EXT1 names a global by a number."""
    return with_pickle(b"\x80\x02\x82\x01" + text(COMMAND) + b"\x85R.", good)


@hostile(SHARD, "asks for runpy._run_code")
def executes_in_a_shard(good: bytes) -> bytes:
    """Through a module that no list of bad ones has, in one shard of two."""
    return with_pickle(b"\x80\x02crunpy\n_run_code\n" + text(CODE) + b"}\x86R.", good)


@hostile(PTH, "legacy")
def executes_in_a_legacy_file(good: bytes) -> bytes:
    """Before zip, torch files were several pickles behind each other."""
    return b"\x80\x02cos\nsystem\n" + text(COMMAND) + b"\x85R."


@hostile(PTH, "not a torch checkpoint")
def executes_in_a_tar(good: bytes) -> bytes:
    """The oldest format of torch: pickles in a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = len(data := b"cos\nsystem\n" + text(COMMAND) + b"\x85R.")
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@hostile(PTH, "TorchScript")
def torchscript(good: bytes) -> bytes:
    """An archive of code, which torch would compile and run."""
    return zipped(
        records(good) | {"constants.pkl": b"\x80\x02).", "code/__torch__.py": b"def f(): pass\n"}
    )


@hostile(PTH, "asks for _codecs.encode")
def codec_bomb(good: bytes) -> bytes:
    """hex doubles bytes: 30 times over, 1 kB is a terabyte. Torch allows codecs."""
    code = b"c_codecs\nencode\n" * 31 + text(b"x" * 1024) + text(b"latin1") + b"\x86R"
    return with_pickle(b"\x80\x02" + code + (text(b"hex") + b"\x86R") * 30 + b".", good)


@hostile(PTH, "asks for bytearray")
def bytearray_bomb(good: bytes) -> bytes:
    """Torch allows bytearray, which takes a number of bytes."""
    return with_pickle(b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + b"\0\0\0\0\x40\x85R.", good)


@hostile(PTH, "asks for torch.FloatTensor")
def tensor_of_numbers(good: bytes) -> bytes:
    """A constructor that allocates: 160 GB for a few bytes."""
    return with_pickle(b"\x80\x02ctorch\nFloatTensor\nJ\0\0\x03\0J\0\0\x03\0\x86R.", good)


@hostile(PTH, "no plain state dict")
def bytes_bomb(good: bytes) -> bytes:
    """A length of 4 GB for a string that is not there."""
    return with_pickle(b"\x80\x02}X\xff\xff\xff\xffabc", good)


@hostile(PTH, "no plain state dict")
def long_bomb(good: bytes) -> bytes:
    """LONG4: an integer of two billion bytes."""
    return with_pickle(b"\x80\x02\x8b\xff\xff\xff\x7f" + bytes(1000) + b".", good)


@hostile(PTH, "no plain state dict")
def frame_bomb(good: bytes) -> bytes:
    """A frame that is said to have 2^62 bytes."""
    return with_pickle(b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}.", good)


@hostile(PTH, "no plain state dict|is a list|is a dict")
def shared_list_bomb(good: bytes) -> bytes:
    """Lists that hold one list twice, sixty times over: small, until somebody prints them."""
    code = b"\x80\x02}" + text(b"w") + b"]q\0"
    for number in range(60):
        code += b"](h%ch%ceq%c" % (number, number, number + 1)
    return with_pickle(code + b"s.", good)


@hostile(PTH, "more than .* sets or the like")
def set_bomb(good: bytes) -> bytes:
    """30,000 sets of one list of 50,000 numbers: 150 GB. Torch allows set: training uses it."""
    numbers = b"]q\0(" + b"".join(b"J" + struct.pack("<i", n) for n in range(50_000)) + b"e0"
    sets = b"c__builtin__\nset\nq\x010](" + b"h\x01h\0\x85R" * 30_000 + b"e."
    return with_pickle(b"\x80\x02" + numbers + sets, good)


def longs(numbers: list[int]) -> bytes:
    """Opcodes that push integers of any length."""
    packed = (number.to_bytes(10, "little", signed=True) for number in numbers)
    return b"".join(b"\x8a\x0a" + data for data in packed)


ONE_HASH = [number * ((1 << 61) - 1) for number in range(1, 60_000)]
"""Integers that all have the hash 0."""


@hostile(PTH, "made to have one hash")
def keys_of_one_hash(good: bytes) -> bytes:
    """A dict compares each key with all before it."""
    pairs = b"".join(longs([number]) + b"N" for number in ONE_HASH)
    return with_pickle(b"\x80\x02}(" + pairs + b"u.", good)


@hostile(PTH, "made to have one hash")
def set_of_one_hash(good: bytes) -> bytes:
    """The same in a list of which a set is made."""
    return with_pickle(
        b"\x80\x02cbuiltins\nset\n](" + longs(ONE_HASH) + b"e\x85R.",
        good,
    )


def tuples_of_one_hash() -> tuple[bytes, int]:
    """Opcodes that make tuples of -1 and -2, which have one hash, and remember them from 2 on; how
    many there are."""
    code, first, last = b"J\xff\xff\xff\xffq\x00J\xfe\xff\xff\xffq\x01", 0, 2
    for _ in range(5):
        made = b""
        count = last
        for left in range(first, last):
            for right in range(first, last):
                if count - last < 8_000:
                    made += struct.pack("<cIcIccI", b"j", left, b"j", right, b"\x86", b"r", count)
                    made += b"0"
                    count += 1
        code += made
        first, last = last, count
    return code, last


@hostile(PTH, "made to have one hash")
def tuple_keys_of_one_hash(good: bytes) -> bytes:
    """Integers need not be large for that."""
    code, count = tuples_of_one_hash()
    keys = b"".join(b"j" + struct.pack("<I", key) + b"N" for key in range(2, count))
    return with_pickle(b"\x80\x02" + code + b"}(" + keys + b"u.", good)


@hostile(PTH, "made to have one hash")
def set_of_tuples_of_one_hash(good: bytes) -> bytes:
    """The same in a list of which a set is made."""
    code, count = tuples_of_one_hash()
    items = b"".join(b"j" + struct.pack("<I", key) for key in range(2, count))
    return with_pickle(b"\x80\x02" + code + b"cbuiltins\nset\n](" + items + b"e\x85R.", good)


P1, P2, P5 = 11400714785074694791, 14029467366897019727, 2870177450012600261
"""Of the hash of a tuple in CPython, Objects/tupleobject.c."""


def pairs_of_one_hash(count: int) -> list[tuple[int, int]]:
    """Pairs of integers below 2^60 that have one hash: the second follows from the first."""
    mask = (1 << 64) - 1

    def turned(number: int, left: int) -> int:
        return (number << left | number >> (64 - left)) & mask

    goal, pairs = 12345, list[tuple[int, int]]()
    first = 0
    while len(pairs) < count:
        first += 1
        before = turned((P5 + first * P2) & mask, 31) * P1 & mask
        second = (goal - before) * pow(P2, -1, 1 << 64) & mask
        if second < 1 << 60:
            pairs.append((first, second))
    assert len({hash(pair) for pair in pairs}) == 1
    return pairs


def computed(count: int) -> bytes:
    """Opcodes that push them."""
    return b"".join(
        longs([pair[0]]) + longs([pair[1]]) + b"\x86" for pair in pairs_of_one_hash(count)
    )


@hostile(PTH, "made to have one hash")
def computed_tuples_of_one_hash(good: bytes) -> bytes:
    """No integer of them is large, and no two have one hash."""
    return with_pickle(b"\x80\x02cbuiltins\nset\n](" + computed(6_000) + b"e\x85R.", good)


@hostile(PTH, "made to have one hash")
def sizes_of_one_hash(good: bytes) -> bytes:
    """The same as sizes of tensors, which are tuples too."""
    pairs = b"".join(
        b"h\x01" + longs([one]) + longs([other]) + b"\x86\x85RN"
        for one, other in pairs_of_one_hash(6_000)
    )
    return with_pickle(b"\x80\x02ctorch\nSize\nq\x010}(" + pairs + b"u.", good)


@hostile(PTH, "more than 1024 bits")
def long_key(good: bytes) -> bytes:
    """An integer of 800,000 bytes, which is hashed each time it is used."""
    number = b"\x8b" + struct.pack("<I", 800_000) + b"\x7f" * 800_000
    return with_pickle(b"\x80\x02" + number + b"q\x000}(" + b"h\x00N" * 40_000 + b"u.", good)


@hostile(PTH, "more than .* sets or the like")
def ordered_bomb(good: bytes) -> bytes:
    """The same with the class that state dicts are of, and 10,000 pairs."""
    pairs = b"]q\0(" + b"".join(b"M" + struct.pack("<H", n) + b"N\x86" for n in range(10_000))
    dicts = b"e0ccollections\nOrderedDict\nq\x010](" + b"h\x01h\0\x85R" * 30_000 + b"e."
    return with_pickle(b"\x80\x02" + pairs + dicts, good)


@hostile(PTH, "keys of more than")
def hash_bomb(good: bytes) -> bytes:
    """A tuple that holds itself twice, sixty times over, as a key: its hash takes 2^60 steps."""
    code = b"\x80\x02}(K\x01\x85q\0"
    for number in range(60):
        code += b"h%ch%c\x86q%c" % (number, number, number + 1)
    return with_pickle(code + b"tNs.", good)


@hostile(PTH, "nested more than|more than .* steps")
def deep_key(good: bytes) -> bytes:
    """A tuple 150,000 deep as a key: its hash is computed recursively, in C."""
    return with_pickle(b"\x80\x02}" + b")" + b"\x85" * 150_000 + b"Ns.", good)


@hostile(PTH, "more than .* steps")
def opcode_bomb(good: bytes) -> bytes:
    """A million steps that make nothing."""
    return with_pickle(b"\x80\x02" + b"N" * 1_000_000 + b".", good)


@hostile(PTH, "description is larger")
def huge_description(good: bytes) -> bytes:
    """60 MB of description."""
    return with_pickle(b"\x80\x02" + b"N" * 60_000_000 + b".", good)


@hostile(PTH, "no plain state dict")
def mark_bomb(good: bytes) -> bytes:
    """150,000 marks and no end of them."""
    return with_pickle(b"\x80\x02" + b"(" * 150_000 + b".", good)


@hostile(PTH, "no plain state dict")
def memo_bomb(good: bytes) -> bytes:
    """The C unpickler makes room for a memo of four billion."""
    return with_pickle(b"\x80\x02}r\xff\xff\xff\xffj\xff\xff\xff\x7f.", good)


GEOMETRY: dict[str, dict[str, Any]] = {
    "stride_0_giant": {"size": (10**6, 10**6), "stride": (0, 0), "count": 1, "record": bytes(4)},
    "negative_strides": {"stride": (-2, -1), "offset": 3},
    "offset_beyond": {"offset": 1 << 40},
    "negative_offset": {"offset": -1},
    "overflowing_product": {"size": (1 << 32, 1 << 32), "stride": (0, 0)},
    "negative_size": {"size": (-2, -2)},
    "overflowing_count": {"count": 1 << 70},
    "stride_overflow": {"stride": (1 << 62, 1)},
    "rank_bomb": {"size": (1,) * 900, "stride": (0,) * 900},
    "path_as_record": {"key": "../data.pkl"},
}
"""One tensor of four float32 that is described otherwise."""


def _add_geometry(name: str, lies: dict[str, Any]) -> None:
    def lying(good: bytes) -> bytes:
        return crafted(**lies)

    lying.__name__ = name
    hostile(PTH, r"\bw\b|no plain state dict")(lying)


for _name, _lies in GEOMETRY.items():
    _add_geometry(_name, _lies)


@hostile(PTH, "sparse_coo")
def sparse_tensor(good: bytes) -> bytes:
    """Indices that point anywhere: torch checks them late, or never."""
    return saved({"w": torch.eye(3).to_sparse()})


@hostile(PTH, "no plain state dict")
def quantized_tensor(good: bytes) -> bytes:
    """Its bytes are not floats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved({"w": torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)})


@hostile(PTH, "no storage")
def meta_tensor(good: bytes) -> bytes:
    """A tensor of a terabyte without data."""
    return saved({"w": torch.empty(1 << 38, device="meta")})


# -- archives --------------------------------------------------------------------------------------


@hostile(PTH, "compressed or encrypted")
def zip_bomb(good: bytes) -> bytes:
    """200 MB of zeros in 200 kB."""
    return zipped(records(good) | {"data/0": bytes(200 << 20)}, compressed=("data/0",))


@hostile(PTH, "compressed or encrypted")
def zip_bomb_in_the_description(good: bytes) -> bytes:
    """The record that is read whole, deflated."""
    return zipped(records(good) | {"data.pkl": bytes(500_000)}, compressed=("data.pkl",))


def patched(data: bytes, name: str, at: int, form: str, value: int) -> bytes:
    """Another value in a record's entry in the zip directory."""
    changed, full = bytearray(data), f"archive/{name}".encode()
    entry = data.index(full, data.index(b"PK\x01\x02")) - 46
    struct.pack_into(form, changed, entry + at, value)
    return bytes(changed)


@hostile(PTH, "compressed or encrypted")
def encrypted(good: bytes) -> bytes:
    """zipfile asks for a password."""
    return patched(zipped(records(good)), "data/0", 8, "<H", 1)


@hostile(PTH, "does not lie where it should|not a torch checkpoint")
def overlapping_records(good: bytes) -> bytes:
    """Two records that are the same bytes."""
    return patched(zipped(records(good)), "data/1", 42, "<I", 0)


@hostile(PTH, "duplicate record")
def record_twice(good: bytes) -> bytes:
    """Which of the two counts differs between readers."""
    buffer = io.BytesIO(zipped(records(good)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr("archive/data/0", bytes(48))
    return buffer.getvalue()


@hostile(PTH, "2 records data.pkl")
def two_descriptions(good: bytes) -> bytes:
    """Which of the two is checked, and which is read?"""
    return zipped(records(good) | {"more/data.pkl": b"\x80\x02}."})


@hostile(PTH, "does not lie where it should")
def quoted_record(good: bytes) -> bytes:
    """The directory calls a record what its own header calls otherwise."""
    data = zipped(records(good))
    at = data.rindex(b"archive/data/1")
    return data[:at] + b"archive/data/X" + data[at + 14 :]


@hostile(PTH, "a directory of more than .* bytes is not read")
def directory_bomb(good: bytes) -> bytes:
    """80,000 records."""
    empty = {f"x{number}": b"" for number in range(80_000)}
    return zipped(records(good) | empty)


@hostile(PTH, "a directory of more than .* bytes is not read")
def directory_of_a_million(good: bytes) -> bytes:
    """A million entries, all of them for one record, at the end of the file."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *[0] * 9, 1, *[0] * 6) + b"x"
    size = len(entry) * 1_000_000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, size, 0, 0)
    return entry * 1_000_000 + end


@hostile(PTH, "not a torch checkpoint|does not lie")
def extra_field_bomb(good: bytes) -> bytes:
    """Entries with 64 kB of empty extra fields each, which zipfile decodes one by one."""
    extra = struct.pack("<HH", 0xCAFE, 0) * 16_000
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *[0] * 9, 1, len(extra), *[0] * 5) + b"x"
    data = (entry + extra) * 60
    return data + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 60, 60, len(data), 0, 0)


@hostile(PTH, "not a torch checkpoint")
def comment_bomb(good: bytes) -> bytes:
    """A comment of 64 kB full of ends of directories."""
    data = zipped(records(good))
    comment = (b"PK\x05\x06" + b"\xff" * 18) * 2900
    return data[:-2] + struct.pack("<H", len(comment)) + comment


def zip64(size: int, offset: int, count: int) -> bytes:
    """The end of a zip64 archive that says this of its directory."""
    end = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 1)
    return (
        end
        + locator
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, *[0xFFFF] * 2, 0, 0, 0)[:12]
        + (b"\xff" * 8 + b"\0\0")
    )


@hostile(PTH, "not a torch checkpoint")
def zip64_lies(good: bytes) -> bytes:
    """A directory of 2^60 entries and bytes."""
    return zipped(records(good)) + zip64(1 << 60, 0, 1 << 60)


@hostile(PTH, "big-endian")
def big_endian(good: bytes) -> bytes:
    """Swapping the bytes of data that is not there crashes torch."""
    return zipped(records(good) | {"byteorder": b"big"})


@hostile(PTH, "not a torch checkpoint")
def cut_off(good: bytes) -> bytes:
    """The directory stands at the end: a download that broke off."""
    return good[: len(good) // 2]


@hostile(PTH, "not a tensor name")
def names_that_leave(good: bytes) -> bytes:
    """Tensors called ../../x, with a NUL, and a backslash."""
    return saved({name: torch.ones(1) for name in ("../../x", "a\0b", "a\\b")})


def pickled(value: Mapping[str, Any]) -> bytes:
    return pickle.dumps(value, protocol=2)


@hostile(PTH, "not a tensor")
def values_of_all_kinds(good: bytes) -> bytes:
    """A state dict of numbers."""
    return with_pickle(pickled({"w": 1, "v": [2] * 1000}), good)
