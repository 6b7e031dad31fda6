"""Hostile safetensors files, as upstream's checkpoint and as a committed one."""

from __future__ import annotations

import json
from typing import Any

from wmtp_assets_tests.hostile.corpus import hostile
from wmtp_assets_tests.hostile.doors import CHECKPOINT, RAW_SAFE

Header = dict[str, Any]


def with_header(header: bytes | Header, data: bytes = bytes(16)) -> bytes:
    """A file of a header and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def f32(begin: int, end: int, *shape: int) -> Header:
    """What a header says of a tensor."""
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}


@hostile(RAW_SAFE, "a header of")
def length_of_2_to_63(good: bytes) -> bytes:
    """The length is believed first, and up to 2^64."""
    return (1 << 63).to_bytes(8, "little") + good[8:]


@hostile(RAW_SAFE, "a header of")
def header_of_100_mb(good: bytes) -> bytes:
    """The library reads that much, in 22 s and 2.8 GB."""
    return with_header(b'{"a":[' + b"1," * 50_000_000 + b"1]}")


@hostile(CHECKPOINT, "bad safetensors header")
def header_of_16_mb_of_lists(good: bytes) -> bytes:
    """As long as is allowed, and as many values as fit."""
    return with_header(b'{"a":[' + b"[]," * ((16 << 20) // 3 - 10) + b"[]]}")


@hostile(RAW_SAFE, "tensors|values")
def tensors_250_000(good: bytes) -> bytes:
    """Empty tensors, each of them sound."""
    one = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return with_header(b"{" + b",".join(one % n for n in range(250_000)) + b"}", b"")


@hostile(CHECKPOINT, "tensors|values")
def tensors_100_000(good: bytes) -> bytes:
    """Fewer, in the place of a model's."""
    one = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return with_header(b"{" + b",".join(one % n for n in range(100_000)) + b"}", b"")


@hostile(RAW_SAFE, "nested|recursion|values")
def deep_header(good: bytes) -> bytes:
    """200,000 brackets."""
    return with_header(b'{"a":' + b"[" * 200_000)


@hostile(RAW_SAFE, "duplicate key")
def key_twice(good: bytes) -> bytes:
    """The library takes the second one."""
    one = json.dumps(f32(0, 16, 2, 2)).encode()
    return with_header(b'{"w":%s,"w":%s}' % (one, one))


@hostile(RAW_SAFE, "begins at")
def overlapping(good: bytes) -> bytes:
    """One byte belongs to two tensors."""
    return with_header({"v": f32(0, 16, 4), "w": f32(8, 24, 4)}, bytes(24))


@hostile(RAW_SAFE, "begins at")
def hole(good: bytes) -> bytes:
    """Bytes that belong to no tensor may be anything."""
    return with_header({"v": f32(0, 8, 2), "w": f32(12, 16, 1)})


@hostile(RAW_SAFE, "not a tensor name")
def name_with_nul(good: bytes) -> bytes:
    """Ends early in C."""
    return with_header({"a\0b": f32(0, 16, 4)})


@hostile(CHECKPOINT, "not a tensor name")
def name_that_leaves(good: bytes) -> bytes:
    """Somebody may make a file of each tensor."""
    return with_header({"../../etc/passwd": f32(0, 16, 4)})


@hostile(RAW_SAFE, "not a tensor name")
def name_of_15_mb(good: bytes) -> bytes:
    """One long key."""
    return with_header({"x" * (15 << 20): f32(0, 16, 4)})


@hostile(RAW_SAFE, "not a list of sizes")
def negative_shape(good: bytes) -> bytes:
    """(-2) x (-2) elements are four."""
    return with_header({"w": f32(0, 16, -2, -2)})


@hostile(RAW_SAFE, "not a list of sizes")
def bool_shape(good: bytes) -> bytes:
    """True is 1 in Python."""
    return with_header({"w": {"dtype": "F32", "shape": [True, 4], "data_offsets": [0, 16]}})


@hostile(RAW_SAFE, "not a list of sizes")
def rank_bomb(good: bytes) -> bytes:
    """A shape of 200,000 ones."""
    return with_header({"w": f32(0, 16, *[1] * 200_000)})


@hostile(RAW_SAFE, "data_offsets span")
def overflowed_product(good: bytes) -> bytes:
    """2^32 x 2^32 elements are none, in 64 bits."""
    return with_header({"w": f32(0, 0, 1 << 32, 1 << 32)}, b"")


@hostile(RAW_SAFE, "bad safetensors header")
def number_of_a_million_digits(good: bytes) -> bytes:
    """Takes the square of its length to read."""
    shape = b"9" * 1_000_000
    return with_header(b'{"w":{"dtype":"F32","shape":[%s],"data_offsets":[0,16]}}' % shape)


@hostile(RAW_SAFE, "the tensors end")
def cut_off(good: bytes) -> bytes:
    """A download that broke off in the data."""
    return good[:-100]


@hostile(CHECKPOINT, "the tensors end")
def tensor_of_a_terabyte(good: bytes) -> bytes:
    """A sound header over data that is not there."""
    return with_header({"w": f32(0, 1 << 40, 1 << 38)})


@hostile(CHECKPOINT, "no map of strings|values")
def metadata_bomb(good: bytes) -> bytes:
    """__metadata__ of a million keys, none of them a string's."""
    pairs = b",".join(b'"%d":1' % n for n in range(1_000_000))
    return with_header(b'{"__metadata__":{%s}}' % pairs, b"")
