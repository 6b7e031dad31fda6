"""Hostile JSON, YAML and tokenizers: upstream's and our own configs, manifests, indexes."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from wmtp_assets.storage import manifest
from wmtp_assets.storage.manifest import amend, parse
from wmtp_assets_tests.hostile.corpus import hostile
from wmtp_assets_tests.hostile.doors import (
    ADAPTER,
    COMMITTED_TOKENIZER,
    CONFIG,
    CONFIG_JSON,
    DATA_MANIFEST,
    INDEX,
    MODEL_MANIFEST,
    PARAMS,
    PARAMS_JSON,
    PROBLEM_INDEX,
    SCHEMA,
    SNAPSHOT,
    TOKENIZER,
)

DEEP = b'{"a":' + b"[" * 200_000
VALUES = b'{"a":[' + b"[]," * 2_600_000 + b"[]]}"
"""Just below 8 MiB."""


@hostile(PARAMS, "not JSON")
def deep_params(good: bytes) -> bytes:
    """200,000 brackets."""
    return DEEP


@hostile(PARAMS, "not JSON|values")
def params_of_millions(good: bytes) -> bytes:
    """As many values as fit."""
    return VALUES


@hostile(PARAMS, "not JSON")
def params_of_100_mb(good: bytes) -> bytes:
    """One string."""
    return b'{"dim":"' + b"x" * 100_000_000 + b'"}'


@hostile(PARAMS, "n_layers")
def params_with_a_billion_layers(good: bytes) -> bytes:
    """Small, and a billion names follow from it."""
    return json.dumps(json.loads(good) | {"n_layers": 10**9}).encode()


@hostile(CONFIG, "num_hidden_layers|missing tensors|n_layers")
def config_with_a_billion_layers(good: bytes) -> bytes:
    """The same in transformers' form."""
    return json.dumps(json.loads(good) | {"num_hidden_layers": 10**9}).encode()


@hostile(CONFIG, "not a JSON object")
def config_with_a_huge_number(good: bytes) -> bytes:
    """Eight million digits: reading them takes the square of that."""
    return b'{"hidden_size":' + b"9" * 8_000_000 + b"}"


@hostile(CONFIG, "not a JSON object")
def config_with_a_key_twice(good: bytes) -> bytes:
    """Which of the two counts differs between readers."""
    return good.rstrip().removesuffix(b"}") + b',"vocab_size":1}'


@hostile(CONFIG, "not a JSON object")
def config_of_a_million_keys(good: bytes) -> bytes:
    """The last of them is a duplicate."""
    return b"{" + b"".join(b'"%d":1,' % n for n in range(600_000)) + b'"1":1}'


@hostile(INDEX, "not an index of shards")
def index_that_leaves(good: bytes) -> bytes:
    """A shard outside of the repository."""
    return b'{"weight_map":{"w":"../../../../etc/passwd"}}'


@hostile(INDEX, "not an index of shards")
def index_to_a_device(good: bytes) -> bytes:
    """A shard that never ends."""
    return b'{"weight_map":{"w":"/dev/zero"}}'


@hostile(INDEX, "not an index of shards")
def index_with_backslashes(good: bytes) -> bytes:
    """Another separator elsewhere."""
    return b'{"weight_map":{"w":"..\\\\..\\\\x.bin"}}'


@hostile(INDEX, "longer|larger|values")
def index_of_400_000(good: bytes) -> bytes:
    """Tensors that are nowhere."""
    shard = next(iter(json.loads(good)["weight_map"].values()))
    rows = (b'"%d":"%s"' % (n, shard.encode()) for n in range(400_000))
    return b'{"weight_map":{' + b",".join(rows) + b"}}"


@hostile(INDEX, "not an index of shards")
def deep_index(good: bytes) -> bytes:
    """200,000 brackets."""
    return DEEP


@hostile(CONFIG_JSON, "values")
def committed_config_of_millions(good: bytes) -> bytes:
    """As many values as fit."""
    return VALUES


@hostile(PARAMS_JSON, "not JSON")
def committed_params_with_nul(good: bytes) -> bytes:
    """Ends early in C."""
    return good.replace(b"{", b"{\0", 1)


@hostile(SCHEMA, "values")
def schema_of_millions(good: bytes) -> bytes:
    """As many values as fit."""
    return VALUES


@hostile(SCHEMA, "not JSON")
def schema_with_half_a_character(good: bytes) -> bytes:
    """A lone surrogate, which crashes whoever prints it."""
    return good.replace(b'"title"', b'"\\ud800"', 1)


@hostile(PROBLEM_INDEX, "the entry that its rows give|those of the rows")
def problem_index_of_100_mb(good: bytes) -> bytes:
    """Deep, and long."""
    return good[:100] + b"[" * 100_000_000


# -- YAML ------------------------------------------------------------------------------------------


@hostile(ADAPTER, "an alias or a tag")
def billion_laughs(good: bytes) -> bytes:
    """Nine lists, each of nine times the one before."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines).encode()


@hostile(ADAPTER, "an alias or a tag")
def yaml_that_executes(good: bytes) -> bytes:
    """A tag that calls a function."""
    return b"dtype: !!python/object/apply:os.system ['touch executed']\n"


@hostile(ADAPTER, "an alias or a tag")
def yaml_merge(good: bytes) -> bytes:
    """A merge key, doubled many times over."""
    return b"a: &a {b: 1}\n" + b"<<: [%s]\n" % b", ".join([b"*a"] * 1000)


@hostile(ADAPTER, "not YAML|longer than")
def yaml_of_1_mb(good: bytes) -> bytes:
    """Lists in a row: PyYAML reads 100 kB a second."""
    return b"a: [" + b"[]," * 330_000 + b"[]]\n"


@hostile(ADAPTER, "not YAML|configs")
def yaml_of_30_kb(good: bytes) -> bytes:
    """What a small file can cost."""
    return b"a: [" + b"{}," * 10_000 + b"{}]\n"


@hostile(ADAPTER, "not YAML")
def deep_yaml(good: bytes) -> bytes:
    """30,000 brackets."""
    return b"[" * 30_000


@hostile(ADAPTER, "dtype|not YAML")
def yaml_of_dashes(good: bytes) -> bytes:
    """Lists in lists in lists, in block style."""
    return b"- " * 16_000


@hostile(SNAPSHOT, "longer than")
def yaml_of_100_mb(good: bytes) -> bytes:
    """One text, in the snapshot."""
    return b"a: " + b"x" * 100_000_000


# -- manifests -------------------------------------------------------------------------------------


def said(name: str) -> Callable[[bytes], bytes]:
    """A manifest with one file more, sealed as ours are."""

    def change(good: bytes) -> bytes:
        document = json.loads(good)
        document["manifest"]["files"][name] = {"size": 1, "sha256": "0" * 64}
        return resealed(document)

    return change


def resealed(document: dict[str, Any]) -> bytes:
    """A manifest that agrees with itself, whatever its files are called."""
    files = document["manifest"]["files"]
    lines = "".join(f"{files[path]['sha256']}  {path}\n" for path in sorted(files))
    document["manifest"]["content_sha256"] = sha256(lines.encode()).hexdigest()
    document["self_sha256"] = manifest._self_sha256(document)
    return manifest.render(document)


PATHS = {
    "path_that_leaves": "../../../etc/passwd",
    "absolute_path": "/etc/passwd",
    "device_as_path": "/dev/zero",
    "path_with_backslash": "..\\x",
    "path_with_control_character": "a\x1bb",
    "path_not_normal": "configs//config.json",
    "empty_path": "",
}
for _name, _path in PATHS.items():
    _change = said(_path)
    _change.__name__ = _name
    hostile(MODEL_MANIFEST, "not a manifest")(_change)


@hostile(MODEL_MANIFEST, "not a manifest")
def paths_that_differ_in_case(good: bytes) -> bytes:
    """One file on macOS, two here."""
    return said("configs/CONFIG.json")(good)


@hostile(DATA_MANIFEST, "not a manifest")
def deep_manifest(good: bytes) -> bytes:
    """200,000 brackets."""
    return DEEP


@hostile(DATA_MANIFEST, "not a manifest")
def manifest_of_millions(good: bytes) -> bytes:
    """As many values as fit in 60 MB."""
    return b'{"a":[' + b"[]," * 20_000_000 + b"[]]}"


@hostile(DATA_MANIFEST, "not a manifest|longer than")
def manifest_of_50_mb_of_text(good: bytes) -> bytes:
    """Sealed, and one long string."""
    return amend(parse(good, "good"), {"note": "x" * 50_000_000})


@hostile(MODEL_MANIFEST, "not a manifest")
def manifest_with_a_key_twice(good: bytes) -> bytes:
    """The first one says another dtype."""
    return good.replace(b"{", b'{"dtype": "float32",', 1)


@hostile(MODEL_MANIFEST, "not a manifest")
def manifest_of_200_000_files(good: bytes) -> bytes:
    """Each of them missing."""
    document = json.loads(good)
    for n in range(200_000):
        document["manifest"]["files"][f"{n}"] = {"size": 1, "sha256": "0" * 64}
    return resealed(document)


@hostile(MODEL_MANIFEST, "not a manifest")
def manifest_of_escapes(good: bytes) -> bytes:
    """20,000 files, each of which leaves."""
    document = json.loads(good)
    for n in range(20_000):
        document["manifest"]["files"][f"../{n}"] = {"size": -1, "sha256": "0"}
    return resealed(document)


# -- tokenizers ------------------------------------------------------------------------------------


@hostile(TOKENIZER, "not a sentencepiece model|longer than|more than")
def empty_pieces(good: bytes) -> bytes:
    """Three million pieces of nothing, in 6 MB."""
    return b"\n\0" * 3_000_000


@hostile(TOKENIZER, "not a sentencepiece model|longer than|pieces|more than")
def small_pieces(good: bytes) -> bytes:
    """A million pieces of three letters."""
    digits = [(1 + n % 100, 1 + n // 100 % 100, 1 + n // 10_000) for n in range(1_000_000)]
    return b"".join(b"\n\5\n\3%c%c%c" % letters for letters in digits)


@hostile(TOKENIZER, "not a sentencepiece model|longer than")
def tokenizer_of_100_mb(good: bytes) -> bytes:
    """A good one with an unknown field behind it."""
    return good + b"\xfa\x3f" + _varint(100_000_000) + bytes(100_000_000)


@hostile(COMMITTED_TOKENIZER, "not a sentencepiece model|longer than|pieces")
def tokenizer_cut_off(good: bytes) -> bytes:
    """Half of it."""
    return good[: len(good) // 2]


@hostile(COMMITTED_TOKENIZER, "not a sentencepiece model")
def tokenizer_of_noise(good: bytes) -> bytes:
    """No protocol buffer at all."""
    return bytes(range(256)) * 4000


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
