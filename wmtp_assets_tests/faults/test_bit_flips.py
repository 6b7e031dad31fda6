"""One flipped bit, anywhere in a store: it is found, and the finding says where it is.

Disks and memory flip bits in silence. Files have hashes over every byte, so that none can be missed
in principle; this holds the program to it, on a small store with artifacts of every kind.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact, Catalogue
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, load_specs
from wmtp_assets.checkpoints.beside import files_of, record_value_head
from wmtp_assets.kinds.registry import expand, rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.rules.findings import Finding
from wmtp_assets.sample import humaneval, mbpp
from wmtp_assets.storage.files import PART
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.datasets import contests
from wmtp_assets_tests.faults.extent import extent
from wmtp_assets_tests.faults.sweep import safetensors_file

pytestmark = pytest.mark.faults

FLIPS = extent(400, 12_000)
LEAST = extent(1, 30)
"""Flips in the smallest file."""

LARGE = tiny.META_MODEL | {"name": "large", "folder": "large-model", "status": "optional"}
ROWS = 12
"""Rows that are kept of each upstream file: rules read all of them for every flip."""


# -- the store -------------------------------------------------------------------------------------


def small_catalogue() -> Catalogue:
    """Tiny models of two families with a variant and a micro model, a large raw file, and the three
    datasets."""

    def unpinned(spec: DatasetSpec) -> DatasetSpec:
        document = {**spec.model_dump(), "tokenizer": tiny.TOKENIZER}
        for split in document["splits"].values():
            split["rows"] = None
        return DatasetSpec.model_validate(document)

    models = [tiny.META_MODEL | {"variants": ["bfloat16"]}, tiny.REWARD_MODEL, LARGE]
    specs = [spec for spec in load_specs() if isinstance(spec, DatasetSpec)]
    datasets = [unpinned(spec) for spec in specs if spec.status == "required"]
    parsed = [ModelSpec.model_validate(model) for model in models]
    return expand([*parsed, tiny.micro_spec(), tiny.SNAPSHOT, *datasets])


def some_rows(build: Callable[[Path], None], folder: Path) -> dict[str, bytes]:
    """The first rows of each file of a sample repository, and its card."""
    folder.mkdir()
    build(folder)
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            pq.write_table(pq.read_table(path).slice(0, ROWS), path)
        files[f"raw/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    shutil.rmtree(folder)
    return files


def build_store(root: Path) -> Store:
    """Artifacts of every kind, no file of which is linked to another."""
    store = Store(Settings("sample", root), small_catalogue())
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()))
    tiny.commit_files(store, tiny.reward_files(), "reward_raw")
    large = random.Random(0).randbytes(2 * PART + 1000)
    tiny.commit_files(store, {"large.bin": large}, "large_raw", in_parts=True)
    contests.commit_raw(store, contests.small_repository())
    for module in (humaneval, mbpp):
        name = module.__name__.rpartition(".")[2]
        files = some_rows(module.build, root.with_name(name))
        contests.commit(store, store.catalogue[f"{name}_raw"], files)
    for artifact in store.catalogue:
        if artifact.kind != "raw" and artifact.spec.name != "large":
            materialize(store, artifact)
    model = store.catalogue[tiny.SAFETENSORS]
    width = tiny.params().dim
    head = safetensors_file("summary.weight", (width, 1), bytes(4 * width))
    store.path(model, VALUE_HEAD).write_bytes(head)
    record_value_head(store, model, width, "run-1")
    return store


# -- flips -----------------------------------------------------------------------------------------


def flips_of(sizes: dict[Path, int]) -> Iterator[tuple[Path, list[int]]]:
    """Bits to flip in each file, in all :data:`FLIPS`: more in a large file, some in each."""
    weights = {path: size ** (1 / 3) for path, size in sizes.items()}
    left = max(FLIPS - LEAST * len(sizes), 0) / sum(weights.values())
    for path, size in sizes.items():
        chance = random.Random(f"{path.name} {size}")
        count = LEAST + round(left * weights[path] + 0.5)
        yield path, sorted(chance.sample(range(8 * size), min(count, 8 * size)))


def flip_bit(path: Path, bit: int) -> None:
    """Flip one bit in place; a second time puts it back."""
    with path.open("r+b", buffering=0) as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def findings_of(store: Store, artifact: Artifact, rule: str) -> list[Finding]:
    """What a rule says."""
    (found,) = (item for item in rules_of(artifact) if item.name == rule)
    outcome = apply_rule(found, store, artifact)
    assert not outcome.skipped, outcome.skipped
    return outcome.findings


# -- where a flip is -------------------------------------------------------------------------------


class Places:
    """What findings about a flip in one file must say, from the file's good bytes alone."""

    def __init__(self, artifact: Artifact, name: str, data: bytes) -> None:
        self.artifact, self.name, self.data = artifact, name, data
        self.path = f"{artifact.base}/{name}"
        self.rule = row_rule(artifact, name)
        is_checkpoint = artifact.dtype is not None and name == files_of(artifact).checkpoint
        self.tensors = list(tensors_of(data)) if is_checkpoint else []

    def one_of_each(self) -> set[int]:
        """A bit in each tensor: some are so small that chance would not hit them."""
        return {
            random.Random(name).randrange(8 * begin, 8 * end) for name, begin, end in self.tensors
        }

    def is_right(self, place: str, offset: int) -> bool:
        """Whether the rule of hashes names what the flipped byte belongs to."""
        if self.tensors:
            inside = [name for name, begin, end in self.tensors if begin <= offset < end]
            return place == (f"tensor {inside[0]}" if inside else "the header")
        if match := re.fullmatch(r"bytes (\d+) to (\d+)", place):
            begin, end = map(int, match.groups())
            return begin <= offset < end <= len(self.data)
        return not place and len(self.data) <= PART

    def names_line(self, finding: Finding, offset: int) -> bool:
        """Whether a rule that reads rows names the line, or the offset, of the flipped byte.

        ``index`` says which row of the twin differs, and that the line of that number should be
        equal to it.
        """
        if self.name.endswith(".offsets"):
            number = offset // 8
            last = len(self.data) // 8 - 1
            place = "the end" if number == last else f"offset {number}"
            return finding.file == self.path and finding.place == place
        line = self.data.count(b"\n", 0, offset) + 1
        if finding.file == self.path:
            return re.match(rf"line {line}\b", finding.place) is not None
        is_row = re.match(rf"row {line}\b", finding.place) is not None
        return is_row and finding.expected == f"line {line} of {self.name}"


def row_rule(artifact: Artifact, name: str) -> str:
    """The rule that reads a file row by row; empty: there is none."""
    if name.endswith("_eval.jsonl"):
        return "evaluation"
    if name.endswith(".offsets"):
        return "index"
    if not name.endswith(".jsonl"):
        return ""
    rules = {
        "processed": "index",
        "small": "membership",
        "pairs": "derivation",
        "tests": "derivation",
    }
    return rules.get(artifact.kind, "")


def tensors_of(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Name, first byte and end of each tensor of a safetensors file."""
    start = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8:start])
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield name, start + begin, start + end


# -- the test --------------------------------------------------------------------------------------


class Flips:
    """Flips bits of one artifact's files and collects what was not found, or at a wrong place."""

    def __init__(self, store: Store, artifact: Artifact) -> None:
        self.store, self.artifact = store, artifact
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()

    def flip(self, path: Path, bits: list[int]) -> None:
        """Flip each of ``bits`` of a file by itself, and one in each tensor."""
        name = path.relative_to(self.store.folder(self.artifact)).as_posix()
        places = Places(self.artifact, name, path.read_bytes())
        for bit in places.one_of_each() | {*bits}:
            flip_bit(path, bit)
            problem = self._missed(places, bit // 8)
            flip_bit(path, bit)
            self.counts["flips"] += 1
            if problem:
                self.wrong.append(f"{places.path}, bit {bit}: {problem}")
        assert path.read_bytes() == places.data

    def _missed(self, places: Places, offset: int) -> str:
        rule = "value_head" if places.name == VALUE_HEAD else "sha256"
        found = findings_of(self.store, self.artifact, rule)
        if not found:
            return "not found"
        if {finding.file for finding in found} != {places.path}:
            return f"found as {[*map(str, found)]}"
        self.counts["found"] += 1
        is_hashed = places.name not in (self.artifact.manifest, VALUE_HEAD)
        if is_hashed and not places.is_right(found[0].place, offset):
            return f"found in {found[0].place!r}"
        self.counts[found[0].place.split(" ")[0] or "file"] += 1
        return self._misplaced(places, offset) if places.rule else ""

    def _misplaced(self, places: Places, offset: int) -> str:
        rows = findings_of(self.store, self.artifact, places.rule)
        self.counts[f"by {places.rule}"] += 1
        if any(places.names_line(finding, offset) for finding in rows):
            return ""
        return f"{places.rule} says {[*map(str, rows[:3])]}"


def files_of_artifact(store: Store, artifact: Artifact) -> list[Path]:
    """All its files, the manifest and a value head too."""
    names = [*store.manifest(artifact).files, artifact.manifest]
    paths = [store.path(artifact, name) for name in (*names, *artifact.guests)]
    return [path for path in paths if path.exists()]


def test_every_flipped_bit_is_found_and_placed(
    memory: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """A finding about that very file and no other; in a checkpoint it names the tensor or the
    header, in a large file the bytes, and in rows the rule that reads them names the line.

    Results of rules are not made durable, there are thousands.
    """
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    store = build_store(memory / "storage")
    artifacts = [item for item in store.catalogue if store.manifest_path(item).exists()]
    assert {item.kind for item in artifacts} == {item.kind for item in store.catalogue}
    files = {
        path: artifact for artifact in artifacts for path in files_of_artifact(store, artifact)
    }
    flips = {artifact.key: Flips(store, artifact) for artifact in artifacts}
    assert_good(store, artifacts)
    for path, bits in flips_of({path: path.stat().st_size for path in files}):
        flips[files[path].key].flip(path, bits)
    assert_good(store, artifacts)
    counts = sum((item.counts for item in flips.values()), Counter())
    record_property("points", counts["flips"])
    print(f"{len(files)} files of {len(artifacts)} artifacts: {dict(counts)}")
    assert [wrong for item in flips.values() for wrong in item.wrong] == []
    assert counts["found"] == counts["flips"] >= FLIPS
    assert counts["tensor"] and counts["the"] and counts["bytes"]


def assert_good(store: Store, artifacts: list[Artifact]) -> None:
    """Or the flips would be found without being there."""
    for artifact in artifacts:
        assert findings_of(store, artifact, "sha256") == []
