"""The rule of hashes: nothing that happens to a file of an artifact goes unseen."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.catalogue.artifact import INTERNAL, Artifact
from wmtp_assets.checkpoints.beside import MODEL_FILES, files_of
from wmtp_assets.checkpoints.safetensors_file import read_header
from wmtp_assets.operations.verify import Verdict, exit_code
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.rules.findings import Finding, Problem
from wmtp_assets.sample import code_contests
from wmtp_assets.storage import files as storage_files
from wmtp_assets.storage.files import PART, hash_file, open_regular
from wmtp_assets.storage.store import Store, materialize_command, repair_command
from wmtp_assets_tests.conftest import catalogue
from wmtp_assets_tests.quick import first_of_each, thinned
from wmtp_assets_tests.rules.cases import (
    KEY,
    Case,
    Damage,
    apply,
    document_of,
    edit_manifest,
    rule_of,
    seal_as,
)
from wmtp_assets_tests.trees import damage, flip, reseal, tree

HASH = "SHA-256 [0-9a-f]{64}"
BARE_HASH = "[0-9a-f]{64}"
SUMS = "safetensors/SHA256SUMS"
CHECKPOINT = MODEL_FILES.checkpoint
ONE_FILE: dict[str, str] = {
    "raw": "raw/openai_humaneval/test-00000-of-00001.parquet",
    "tokenizer": "tokenizer_config.json",
    "safetensors": "configs/params.json",
    "micro": "tokenizer/tokenizer.model",
    "processed": "processed/test.jsonl",
    "pairs": "test.jsonl",
    "small": "test_small.jsonl",
    "stats": "*_summary.json",
    "tests": "valid_tests.json",
    "parameters": "defaults.yaml",
    "card": "README.md",
    "croissant": "croissant.json",
    "document": "phase1_completion_report.md",
    "release": "RELEASE.json",
}


GENERATED_FILES = ("card", "croissant", "document", "release")
"""Kinds that own one name in a folder of others: a file beside it is a stray of ``wmtp verify``."""


def one_file(store: Store, kind: str) -> tuple[Artifact, str]:
    """An artifact of a kind and the name of a file of it."""
    artifact = store.catalogue[KEY[kind]]
    path = next(store.folder(artifact).glob(ONE_FILE[kind]))
    return artifact, path.relative_to(store.folder(artifact)).as_posix()


def finding(
    artifact: Artifact,
    name: str,
    expected: str,
    found: str,
    problem: Problem = "corrupt",
    place: str = "",
    remedy: str = "",
) -> Finding:
    return Finding(
        rule="sha256",
        artifact=artifact.key,
        problem=problem,
        file=f"{artifact.base}/{name}",
        place=place,
        expected=expected,
        found=found,
        remedy=remedy or repair_command(artifact.key),
    )


def findings(store: Store, artifact: Artifact) -> list[Finding]:
    """What the rule finds; an exit code follows from it."""
    outcome = apply(store, artifact, "sha256")
    assert bool(outcome.findings) == bool(exit_code([Verdict(artifact.key, "sha256", outcome)]))
    return outcome.findings


# -- single files, of every kind -------------------------------------------------------------------


BESIDE = "safetensors/config.json"
"""Where transformers looks for it, in the families that it loads."""


SPLITS = {
    "codecontests": ("train", "valid", "test"),
    "gsm8k": ("train", "test"),
    "humaneval": ("test",),
    "mbpp": ("train", "validation", "test"),
}
"""The splits of each dataset that are processed."""

RAW_SHARDS = [
    f"raw/{code_contests.shard_path(split, shard, count)}"
    for split, count in code_contests.SHARDS.items()
    for shard in range(count)
]


def dataset_files(name: str) -> list[tuple[str, str]]:
    """Asset and file of all that is made of a dataset; summaries have a date."""
    processed, pairs, small = (f"{name}_{part}" for part in ("processed", "pairs", "small"))
    files = [(processed, "processed/schema.json"), (pairs, "schema.json"), (small, "schema.json")]
    for split in SPLITS[name]:
        files += [
            (processed, f"processed/{split}.jsonl"),
            (processed, f"processed/{split}_metadata.json"),
            (processed, f"index/{split}.offsets"),
            (processed, f"index/{split}.parquet"),
            (pairs, f"{split}.jsonl"),
            (small, f"{split}_small.jsonl"),
        ]
    if name == "codecontests":
        files += [(processed, f"processed/{split}_eval.jsonl") for split in ("valid", "test")]
        files += [(processed, "processed/evaluation_schema.json")]
        files += [(f"{name}_tests", f"{split}_tests.json") for split in SPLITS[name]]
    return files


def small_files() -> list[tuple[str, str]]:
    """Asset and file of everything that is small in the sample; summaries have a date."""
    model = ["configs/config.json", "configs/meta_adapter.yaml", "configs/params.json", SUMS]
    tokenizer = ["tokenizer.json", "tokenizer.model", "tokenizer_config.json"]
    folder = [f"safetensors/{name}" for name in ("generation_config.json", *tokenizer)]
    models = ("meta_llama_mtp", "ref_sheared_llama", "starling_rm")
    micros = ("micro_mtp", "micro_mtp_untied", "micro_ref", "micro_ref_untied")
    loaded = ("ref_sheared_llama_safetensors", "starling_rm_safetensors", *micros[2:])
    return [
        ("meta_llama_mtp_raw", "raw/7B_1T_4/params.json"),
        ("meta_llama_mtp_raw", "raw/tokenizer.model"),
        ("ref_sheared_llama_raw", "raw/README.md"),
        ("ref_sheared_llama_raw", "raw/config.json"),
        ("ref_sheared_llama_raw", "raw/generation_config.json"),
        ("ref_sheared_llama_raw", "raw/pytorch_model.bin.index.json"),
        ("ref_sheared_llama_raw", "raw/special_tokens_map.json"),
        ("ref_sheared_llama_raw", "raw/tokenizer.model"),
        ("ref_sheared_llama_raw", "raw/tokenizer_config.json"),
        ("starling_rm_raw", "raw/config.json"),
        *((f"{key}_raw", "raw.pieces.json") for key in models),
        *((f"{key}_safetensors", "pieces.json") for key in models),
        *((key, "pieces.json") for key in ("meta_llama_mtp_bf16", *micros)),
        *((f"{key}_tokenizer", name) for key in models for name in tokenizer),
        *((f"{key}_safetensors", name) for key in models for name in model),
        *((key, name) for key in loaded for name in (BESIDE, *folder)),
        *(("meta_llama_mtp_bf16", Path(name).name) for name in model),
        *((key, name) for key in micros for name in model),
        *((key, f"tokenizer/{name}") for key in micros for name in tokenizer),
        ("humaneval_raw", ONE_FILE["raw"]),
        *(("codecontests_raw", name) for name in RAW_SHARDS),
        *(
            ("mbpp_raw", f"raw/full/{split}-00000-of-00001.parquet")
            for split in ("prompt", *SPLITS["mbpp"])
        ),
        *(("gsm8k_raw", f"raw/main/{split}-00000-of-00001.parquet") for split in SPLITS["gsm8k"]),
        *(pair for name in SPLITS for pair in dataset_files(name)),
        ("parameter_snapshot", "defaults.yaml"),
        *(
            (f"{key}_card", name)
            for key in (*models, *micros, *SPLITS)
            for name in ("README.md", "bom.cdx.json")
        ),
        *((f"{name}_croissant", "croissant.json") for name in SPLITS),
        ("storage_readme", "README.md"),
        ("asset_inventory", "phase1_asset_inventory.md"),
        ("migration_notes", "migration_notes.md"),
        ("storage_release", "RELEASE.json"),
        ("completion_report", "phase1_completion_report.md"),
    ]


LARGE = [
    ("meta_llama_mtp_raw", "raw/7B_1T_4/consolidated.pth"),
    ("ref_sheared_llama_raw", "raw/pytorch_model-00001-of-00002.bin"),
    ("ref_sheared_llama_raw", "raw/pytorch_model-00002-of-00002.bin"),
    ("starling_rm_raw", "raw/pytorch_model.bin"),
]
"""Upstream's checkpoints."""


def test_the_list_of_files_is_complete(good_root: Path, store: Store) -> None:
    """A file that is not in the list would be a file whose damage nobody tried."""
    listed = {*small_files(), *LARGE}
    listed |= {
        (artifact.key, files_of(artifact).checkpoint)
        for artifact in store.catalogue
        if artifact.dtype is not None
    }
    for key in (f"{name}_stats" for name in SPLITS):
        (summary,) = store.folder(store.catalogue[key]).glob(ONE_FILE["stats"])
        listed.add((key, summary.name))
    there = {
        (artifact.key, name)
        for artifact in store.catalogue
        for name in store.manifest(artifact).files
    }
    assert listed == there


OF_EACH = first_of_each(small_files(), lambda pair: (catalogue()[pair[0]].kind, pair[1]))


@pytest.mark.parametrize(("key", "name"), thinned(small_files(), OF_EACH))
@pytest.mark.parametrize("offset", thinned([0, -1], [-1]))
def test_flipped_bit_is_found(store: Store, key: str, name: str, offset: int) -> None:
    """The first bit and one of the last byte: no byte of any file is outside its hash."""
    artifact = store.catalogue[key]
    path = store.path(artifact, name)
    expected = f"SHA-256 {hash_file(path).sha256}"
    damage(path, flip(offset))
    found = f"SHA-256 {hash_file(path).sha256}"
    first, *others = findings(store, artifact)
    assert first == finding(artifact, name, expected, found)
    is_sums = name.endswith("SHA256SUMS")
    assert [item.file for item in others] == [f"{artifact.base}/{name}"] * is_sums


@pytest.mark.parametrize(("key", "name"), LARGE)
def test_flipped_bit_in_a_raw_checkpoint_is_found(store: Store, key: str, name: str) -> None:
    """The largest files, in parts, to their last byte; of 25 GB it is said where."""
    artifact = store.catalogue[key]
    path = store.path(artifact, name)
    manifest = store.manifest(artifact)
    size = manifest.files[name].size
    expected = store.pieces(artifact)[name][-1].sha256
    begin = (size - 1) // PART * PART
    damage(path, flip(-1))
    found = hashlib.sha256(path.read_bytes()[begin:]).hexdigest()
    place = f"bytes {begin} to {size}"
    assert findings(store, artifact) == [
        finding(artifact, name, f"SHA-256 {expected}", f"SHA-256 {found}", place=place)
    ]


@pytest.mark.parametrize("kind", KEY)
@pytest.mark.parametrize("by", [-7, 7])
def test_truncated_and_extended_file_is_found_by_its_size(store: Store, kind: str, by: int) -> None:
    """The sizes say at once what happened: a copy that was cut off, a log line appended."""
    artifact, name = one_file(store, kind)
    size = store.path(artifact, name).stat().st_size
    damage(store.path(artifact, name), lambda data: data[:by] if by < 0 else data + b"\n" * by)
    (first,) = findings(store, artifact)
    assert first == finding(artifact, name, f"{size} bytes", f"{size + by} bytes")


@pytest.mark.parametrize("kind", KEY)
def test_emptied_file_is_found(store: Store, kind: str) -> None:
    """What a full disk leaves behind."""
    artifact, name = one_file(store, kind)
    size = store.path(artifact, name).stat().st_size
    damage(store.path(artifact, name), lambda data: b"")
    (first,) = findings(store, artifact)
    assert first == finding(artifact, name, f"{size} bytes", "0 bytes")


@pytest.mark.parametrize("kind", KEY)
def test_missing_file_is_found(store: Store, kind: str) -> None:
    """It has an exit code of its own: the bytes that are there may be good."""
    artifact, name = one_file(store, kind)
    store.path(artifact, name).unlink()
    found = findings(store, artifact)
    assert found == [finding(artifact, name, "a file", "nothing", problem="missing")]


@pytest.mark.parametrize("kind", [kind for kind in KEY if kind not in GENERATED_FILES])
def test_extra_file_is_found(store: Store, kind: str) -> None:
    """A file beside the others is read by whoever globs the folder, and nothing vouches for it."""
    artifact, name = one_file(store, kind)
    extra = f"{name}.orig"
    store.path(artifact, extra).write_bytes(b"")
    assert findings(store, artifact) == [
        finding(
            artifact,
            extra,
            "no such file: it is not in the manifest",
            "a file",
            problem="extra",
            remedy="move it elsewhere",
        )
    ]


def link(path: Path) -> None:
    path.symlink_to(os.devnull)


@pytest.mark.parametrize("kind", KEY)
@pytest.mark.parametrize(
    ("make", "mode"),
    [(link, "l"), (os.mkfifo, "p"), (Path.mkdir, "d")],
    ids=["symbolic link", "named pipe", "folder"],
)
def test_what_is_no_regular_file_is_found(
    store: Store, kind: str, make: Callable[[Path], None], mode: str
) -> None:
    """A link may lead to another file tomorrow, and whoever opens a pipe waits forever."""
    artifact, name = one_file(store, kind)
    path = store.path(artifact, name)
    path.unlink()
    make(path)
    found = findings(store, artifact)
    assert [(item.file, item.expected, item.problem) for item in found] == [
        (f"{artifact.base}/{name}", "a regular file", "corrupt")
    ]
    assert re.fullmatch(rf"{mode}[rwx-]{{9}}", found[0].found)


@pytest.mark.parametrize("kind", KEY)
def test_link_to_the_very_same_bytes_is_found(store: Store, tmp_path: Path, kind: str) -> None:
    """Its content is right now; the place it leads to is outside every rule."""
    artifact, name = one_file(store, kind)
    path = store.path(artifact, name)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    found = findings(store, artifact)
    assert [item.found for item in found] == ["lrwxrwxrwx"]


@pytest.mark.parametrize(
    ("make", "name"),
    [(link, "safetensors/link"), (os.mkfifo, "configs/pipe"), (link, "safetensors/café\udce9")],
    ids=["link", "pipe", "name that is not text"],
)
def test_special_extra_file_is_found(store: Store, make: Callable[[Path], None], name: str) -> None:
    """Whatever it is and whatever it is called, it is listed, and its name can be printed."""
    artifact = store.catalogue["micro_mtp"]
    make(store.path(artifact, name))
    found = findings(store, artifact)
    assert [item.problem for item in found] == ["extra"]
    assert found[0].file == f"{artifact.base}/{name}".replace("\udce9", "\\udce9")
    found[0].file.encode()


def test_folder_that_became_a_link_is_found(store: Store, tmp_path: Path) -> None:
    """Each file in it is regular and right, but lies outside the artifact."""
    artifact = store.catalogue["meta_llama_mtp_safetensors"]
    folder = store.path(artifact, "configs")
    folder.rename(tmp_path / "configs")
    folder.symlink_to(tmp_path / "configs")
    found = findings(store, artifact)
    assert [(item.file, item.problem) for item in found] == [(f"{artifact.base}/configs", "extra")]


def test_folder_that_became_a_file_is_missing_files(store: Store) -> None:
    """The system says 'not a directory' for each of them."""
    artifact = store.catalogue["micro_mtp"]
    folder = store.path(artifact, "configs")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_bytes(b"")
    found = findings(store, artifact)
    assert [item.problem for item in found] == ["missing"] * 3 + ["extra"]


def test_file_of_another_asset_in_the_same_folder_is_not_ours(store: Store) -> None:
    """raw, tokenizer and safetensors share a folder; each rule answers for its own files."""
    stranger = store.path(store.catalogue["meta_llama_mtp_raw"], "notes.txt")
    stranger.write_bytes(b"")
    store.path(store.catalogue["meta_llama_mtp_raw"], "raw/7B_1T_4/params.json").unlink()
    store.path(store.catalogue["meta_llama_mtp_tokenizer"], "tokenizer.model").unlink()
    assert findings(store, store.catalogue["meta_llama_mtp_safetensors"]) == []


def test_value_head_that_training_adds_is_no_stranger(store: Store) -> None:
    """The contract with the training code: it puts this one file beside the checkpoint."""
    artifact = store.catalogue["meta_llama_mtp_safetensors"]
    store.path(artifact, "safetensors/value_head.safetensors").write_bytes(b"anything")
    assert findings(store, artifact) == []
    store.path(artifact, "configs/value_head.safetensors").write_bytes(b"anything")
    assert [item.file for item in findings(store, artifact)] == [
        f"{artifact.base}/configs/value_head.safetensors"
    ]


@pytest.mark.parametrize("key", ["meta_llama_mtp_bf16", "meta_llama_mtp_tokenizer"])
def test_value_head_in_another_place_is_a_stranger(store: Store, key: str) -> None:
    """Nothing reads it there and no rule vouches for it: its name alone is not a passport."""
    artifact = store.catalogue[key]
    path = store.path(artifact, "safetensors/value_head.safetensors")
    path.parent.mkdir()
    path.write_bytes(b"anything")
    assert [(item.file, item.problem) for item in findings(store, artifact)] == [
        (f"{artifact.base}/safetensors/value_head.safetensors", "extra")
    ]


# -- where a checkpoint is damaged -----------------------------------------------------------------


@pytest.mark.parametrize("tensor", ["tok_embeddings.weight", "layers.0.attention.wq.weight"])
@pytest.mark.parametrize("at", ["begin", "end"])
def test_damaged_tensor_is_named(store: Store, tensor: str, at: str) -> None:
    """'model.safetensors is damaged' is 13 GB of where; the tensor says which layer's weights."""
    artifact = store.catalogue["micro_mtp"]
    path = store.path(artifact, CHECKPOINT)
    header = read_header(path)
    size = next(entry.size for entry in header.entries if entry.name == tensor)
    damage(path, flip(header.begins[tensor] + (0 if at == "begin" else size - 1)))
    (first,) = findings(store, artifact)
    assert (first.file, first.place) == (f"{artifact.base}/{CHECKPOINT}", f"tensor {tensor}")
    assert re.fullmatch(HASH, first.expected) and re.fullmatch(HASH, first.found)


def test_every_damaged_tensor_is_named(store: Store) -> None:
    """A whole region of the disk is gone, and the header is not what says where tensors lie."""
    artifact = store.catalogue["micro_mtp"]
    path = store.path(artifact, CHECKPOINT)
    begins = read_header(path).begins

    def flip_each(data: bytes) -> bytes:
        changed = bytearray(data)
        for begin in begins.values():
            changed[begin] ^= 1
        return bytes(changed)

    damage(path, flip_each)
    assert [item.place for item in findings(store, artifact)] == [
        f"tensor {name}" for name in begins
    ]


@pytest.mark.parametrize("offset", [0, 7, 8, 40, 2000])
def test_damaged_header_is_named(store: Store, offset: int) -> None:
    """Then nothing can be said about tensors: what the header calls them is not to be believed."""
    artifact = store.catalogue["micro_mtp"]
    damage(store.path(artifact, CHECKPOINT), flip(offset))
    (first,) = findings(store, artifact)
    assert (first.file, first.place) == (f"{artifact.base}/{CHECKPOINT}", "the header")


@pytest.mark.parametrize("by", [-1, 1])
def test_checkpoint_of_another_size_is_no_damaged_header(store: Store, by: int) -> None:
    """A copy that was cut off has a good header; the sizes say what is wrong."""
    artifact = store.catalogue["micro_mtp"]
    damage(store.path(artifact, CHECKPOINT), lambda data: data[:by] if by < 0 else data + b"\0")
    (first,) = findings(store, artifact)
    assert first.place == ""
    assert first.expected.endswith(" bytes")


# -- SHA256SUMS and the roles ----------------------------------------------------------------------


def flip_in(pattern: str) -> Damage:
    """Flip a bit in the one file that a glob finds."""

    def act(store: Store, artifact: Artifact) -> None:
        damage(next(store.folder(artifact).glob(pattern)), flip(9))

    return act


def rewrite_sums(change: Callable[[bytes], bytes]) -> Damage:
    """Change SHA256SUMS and give the new one a right hash in the manifest."""

    def act(store: Store, artifact: Artifact) -> None:
        damage(store.path(artifact, SUMS), change)
        reseal(store, artifact)

    return act


def upper(data: bytes) -> bytes:
    return data[:64].upper() + data[64:]


OTHER = f"{'0' * 64}  other.bin\n".encode()
ABOUT_SUMS: dict[str, tuple[Callable[[bytes], bytes], str, str, str, int]] = {
    "upper case": (upper, "model.safetensors", BARE_HASH, "[0-9A-F]{64}", 1),
    "another hash": (flip(0), "model.safetensors", BARE_HASH, BARE_HASH, 1),
    "no line": (lambda data: b"", "model.safetensors", BARE_HASH, "no line", 1),
    "a line without newline": (
        lambda data: data[:-1],
        "model.safetensors",
        BARE_HASH,
        "no line",
        1,
    ),
    "a line too many": (lambda data: data + OTHER, "other.bin", "no line", "0{64}", 1),
    "CRLF": (
        lambda data: data.replace(b"\n", b"\r\n"),
        "model.safetensors",
        BARE_HASH,
        "no line",
        2,
    ),
    "binary mode": (
        lambda data: data.replace(b"  ", b" *"),
        "model.safetensors",
        BARE_HASH,
        "no line",
        2,
    ),
    "not UTF-8": (lambda data: data + b"\xff\n", "", "no line", r"\ufffd", 1),
    "a line twice": (
        lambda data: data * 2,
        "",
        "exactly what sha256sum prints, the checkpoint first, then by name",
        "the same hashes written otherwise",
        1,
    ),
    "a wrong line before the right one": (
        lambda data: flip(0)(data) + data,
        "",
        "exactly what sha256sum prints, the checkpoint first, then by name",
        "the same hashes written otherwise",
        1,
    ),
}
"""Change of SHA256SUMS → place, expected, found and number of the findings."""

ABOUT_ROLES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "another hash": ({"sha256__params": "0" * 64}, "sha256.params", BARE_HASH, "0{64}"),
    "upper case": (
        {"sha256__config": "ABCDEF"},
        "sha256.config",
        BARE_HASH,
        "ABCDEF",
    ),
    "no hash": ({"sha256__adapter": ...}, "sha256.adapter", BARE_HASH, "None"),
    "a role without a file": (
        {"sha256__value_head": "0" * 64},
        "files.value_head",
        "a file of the artifact",
        "None",
    ),
    "a file that is not there": (
        {"files__params": "configs/parameters.json"},
        "files.params",
        "a file of the artifact",
        "configs/parameters.json",
    ),
    "a file outside": (
        {"files__checkpoint": "../../../etc/passwd"},
        "files.checkpoint",
        "a file of the artifact",
        "../../../etc/passwd",
    ),
    "no name of a file": (
        {"files__checkpoint": 5},
        "files.checkpoint",
        "a file of the artifact",
        "5",
    ),
    "another file of the artifact": (
        {"files__config": "configs/params.json"},
        "sha256.config",
        BARE_HASH,
        BARE_HASH,
    ),
}
"""Edit of metadata.json → place, expected and found of the finding."""

CHECKPOINTS: tuple[str, ...] = ("safetensors", "micro")

CASES = [
    *(
        Case("a flipped bit", "sha256", kind, flip_in(name), name, "", HASH, HASH, is_sealed=False)
        for kind, name in ONE_FILE.items()
        if kind not in CHECKPOINTS
    ),
    *(
        Case(
            f"SHA256SUMS, {name}",
            "sha256",
            kind,
            rewrite_sums(change),
            SUMS,
            place,
            expected,
            found,
            findings=count,
            is_sealed=False,
        )
        for kind in CHECKPOINTS
        for name, (change, place, expected, found, count) in ABOUT_SUMS.items()
        if kind == "micro" or name == "upper case"
    ),
    *(
        Case(
            f"role, {name}",
            "sha256",
            kind,
            edit_manifest(**changes),
            "metadata.json",
            place,
            expected,
            found,
            is_sealed=False,
        )
        for kind in CHECKPOINTS
        for name, (changes, place, expected, found) in ABOUT_ROLES.items()
        if kind == "micro" or name == "another hash"
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_damage_is_found(store: Store, case: Case) -> None:
    """SHA256SUMS and the roles are what people and the training code look at: one wrong character
    in them is found although the manifest's own hashes are right."""
    case.check(store)


def test_sha256sum_accepts_every_folder(good_root: Path) -> None:
    """On a machine that has nothing of this project: each SHA256SUMS there is."""
    folders = [path.parent for path in good_root.rglob(Path(SUMS).name)]
    folders = [path for path in folders if INTERNAL not in path.parts]
    assert len(folders) == 8
    for folder in folders:
        done = subprocess.run(
            ["sha256sum", "--strict", "-c", Path(SUMS).name],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        listed = {line.partition(": ")[0] for line in done.stdout.splitlines()}
        assert "model.safetensors" in listed


def test_role_of_a_tokenizer_of_another_asset_is_left_to_its_rule(store: Store) -> None:
    """The safetensors asset names the tokenizer but does not own it."""
    artifact = store.catalogue["meta_llama_mtp_safetensors"]
    edit_manifest(sha256__tokenizer="0" * 64)(store, artifact)
    assert findings(store, artifact) == []
    assert apply(store, artifact, "tokenizer").findings != []


# -- hashes of pieces that contradict the manifest -------------------------------------------------


PIECES = "pieces.json"


def edit_pieces(
    store: Store, artifact: Artifact, change: Callable[[dict[str, Any]], object]
) -> None:
    """Change ``pieces.json``, with a manifest that knows the new one."""
    path = store.path(artifact, PIECES)
    document = json.loads(path.read_bytes())
    change(document)
    text = json.dumps(document, separators=(",", ":")) + "\n"
    damage(path, lambda data: text.encode())
    seal_as(store, artifact, document_of(store, artifact), list(store.manifest(artifact).files))


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("of", ["header", "tensor"])
def test_pieces_of_other_bytes_are_not_blamed_on_the_file(store: Store, kind: str, of: str) -> None:
    """The file is the committed one, as a whole; what contradicts it is said to be wrong."""
    artifact = store.catalogue[KEY[kind]]
    checkpoint = files_of(artifact).checkpoint
    right = {piece.place: piece.sha256 for piece in store.pieces(artifact)[checkpoint]}
    place = "the header" if of == "header" else "tensor norm.weight"

    def change(document: dict[str, Any]) -> None:
        cut = document["files"][checkpoint]
        if of == "header":
            cut["header"] = "0" * 64
        else:
            row = next(row for row in cut["tensors"] if row[0] == "norm.weight")
            row[2] = "0" * 64

    edit_pieces(store, artifact, change)
    assert findings(store, artifact) == [
        finding(
            artifact,
            PIECES,
            f"SHA-256 {right[place]}",
            f"SHA-256 {'0' * 64}",
            place=f"{checkpoint}, {place}",
            remedy=materialize_command(artifact.key),
        )
    ]
    assert apply(store, artifact, "sha256").evidence["damaged"] == [PIECES]


def test_pieces_that_do_not_fit_are_a_finding_and_the_file_is_read_whole(store: Store) -> None:
    """A list that does not cover the file exactly once would leave bytes unread."""
    artifact = store.catalogue["micro_mtp"]

    def repeat(document: dict[str, Any]) -> None:
        tensors = document["files"][CHECKPOINT]["tensors"]
        tensors.append(tensors[0])

    edit_pieces(store, artifact, repeat)
    damage(store.path(artifact, CHECKPOINT), flip(-1))
    first, second = findings(store, artifact)
    assert (first.file, first.place) == (f"{artifact.base}/{PIECES}", "")
    assert "a tensor's name is repeated" in first.found
    assert first.remedy == materialize_command(artifact.key)
    assert (second.file, second.place) == (f"{artifact.base}/{CHECKPOINT}", "")
    evidence = apply(store, artifact, "sha256").evidence
    assert evidence["damaged"] == [PIECES, CHECKPOINT]


def test_flipped_bit_in_damaged_pieces_is_found_with_that_of_the_file(store: Store) -> None:
    """Without trusted pieces the file is hashed whole; it is found all the same."""
    artifact = store.catalogue["micro_mtp"]
    damage(store.path(artifact, PIECES), flip(40))
    damage(store.path(artifact, CHECKPOINT), flip(-1))
    found = {item.file: item.place for item in findings(store, artifact)}
    assert found == {f"{artifact.base}/{name}": "" for name in (PIECES, CHECKPOINT)}


# -- what was read, and what cannot be read --------------------------------------------------------


def test_evidence_says_how_much_was_read(store: Store) -> None:
    """'ok' after nothing was read looks the same as 'ok' after everything was."""
    artifact = store.catalogue["micro_mtp"]
    manifest = store.manifest(artifact)
    assert apply(store, artifact, "sha256").evidence == {
        "files": 9,
        "bytes": manifest.size,
        "pieces": 8 + 1 + len(manifest.document["checkpoint"]["tensors"]),
        "content_sha256": manifest.content_sha256,
        "damaged": [],
    }


def test_progress_is_said(store: Store) -> None:
    """13 GB take a while; the last line is always said."""
    artifact = store.catalogue["micro_mtp"]
    said: list[str] = []
    apply_rule(rule_of(artifact, "sha256"), store, artifact, said.append)
    assert said[-1].startswith("hashing micro_mtp: 51.8 MB of 51.8 MB (100 %)")


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_unreadable_file_is_named_and_the_others_are_still_read(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A bad sector in one file says nothing about the rest, and is not proof of damage."""
    artifact = store.catalogue["micro_mtp"]
    bad = store.path(artifact, "configs/config.json")
    damage(store.path(artifact, "configs/params.json"), flip(5))
    real = open_regular

    def failing(path: Path) -> FileIO:
        if path == bad:
            raise OSError(code, os.strerror(code))  # as read(2) does: without a name
        return real(path)

    monkeypatch.setattr(storage_files, "open_regular", failing)
    found = findings(store, artifact)
    unreadable = finding(
        artifact, "configs/config.json", "readable", os.strerror(code), problem="unreadable"
    )
    assert unreadable in found
    assert f"{artifact.base}/configs/params.json" in [item.file for item in found]
    assert exit_code([Verdict("", "", apply(store, artifact, "sha256"))]) == 1 + 4


def test_file_that_cannot_be_opened_is_unreadable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root nothing is refused, so the refusal is made at the system call."""
    artifact = store.catalogue["humaneval_small"]
    bad = store.path(artifact, "test_small.jsonl")
    real = os.open

    def refusing(path: Any, *others: Any, **more: Any) -> int:
        if path == bad:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *others, **more)

    monkeypatch.setattr(os, "open", refusing)
    assert findings(store, artifact) == [
        finding(artifact, "test_small.jsonl", "readable", "Permission denied", problem="unreadable")
    ]


def test_folder_that_cannot_be_listed_is_unreadable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """os.walk passes over such a folder in silence, with every stranger in it."""
    artifact = store.catalogue["micro_mtp"]
    locked = store.path(artifact, "configs/locked")
    locked.mkdir()
    real = os.scandir

    def refusing(path: Any) -> Any:
        if os.fspath(path) == str(locked):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert findings(store, artifact) == [
        finding(
            artifact,
            "configs/locked",
            "readable",
            "Permission denied",
            problem="unreadable",
            remedy="make it readable",
        )
    ]


def test_artifact_is_left_as_it_is(store: Store) -> None:
    """Verification repairs nothing and writes nothing, neither good nor damaged."""
    artifact = store.catalogue["meta_llama_mtp_tokenizer"]
    before = tree(store.folder(artifact))
    assert findings(store, artifact) == []
    assert tree(store.folder(artifact)) == before
    damage(store.path(artifact, "tokenizer.model"), flip(3))
    before = tree(store.folder(artifact))
    assert findings(store, artifact) != []
    assert tree(store.folder(artifact)) == before


def test_unreadable_piece_is_named_and_the_others_are_still_hashed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass over a large file breaks off at a bad sector; its other pieces are then read one by
    one, so that one piece is unreadable and another one, behind it, is damaged. In pieces alone,
    too, which are hashed by runs."""
    artifact = store.catalogue["meta_llama_mtp_raw"]
    name = "raw/7B_1T_4/consolidated.pth"
    first, second, *_ = store.pieces(artifact)[name]
    damage(store.path(artifact, name), flip(second.begin))
    real = os.preadv

    def failing(descriptor: int, views: list[memoryview], begin: int, flags: int = 0) -> int:
        if begin < 4096 and len(views[0]) > 4096:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, views, begin, flags)

    monkeypatch.setattr(os, "preadv", failing)
    monkeypatch.setattr(storage_files, "SMALL", 0)
    for agrees in (False, True):
        monkeypatch.setattr(Store, "agrees", lambda *args, agrees=agrees: agrees)
        found = [item for item in findings(store, artifact) if item.file.endswith(".pth")]
        assert [(item.place, item.problem) for item in found] == [
            (first.place, "unreadable"),
            (second.place, "corrupt"),
        ]
