"""Random damages of a small CodeContests: no rule ever raises, and each is found.

The manifests are sealed again, so that the rules about the content are all that is left.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import INTERNAL, Artifact
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.rules.findings import Finding
from wmtp_assets.sample import code_contests
from wmtp_assets.sample.index import index_repository, read_index, write_index
from wmtp_assets.sample.repositories import index_path, repository_folder
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.examples import EPOCH
from wmtp_assets_tests.faults.extent import extent
from wmtp_assets_tests.rules.cases import rewrite
from wmtp_assets_tests.trees import Copy, damage, link_tree

SOME, MANY = extent((2, 8), (18, 60))
"""How often each file is damaged, of processed rows and of what is made of them: many rules read
the first, one reads the others."""

SLOW = ("token_length", "contamination")
"""Rules that read nothing but twins."""


@pytest.fixture(scope="module")
def little_root(good_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:func:`good_root` with a CodeContests of 46 problems and 133 rows, for reading only."""
    root = tmp_path_factory.mktemp("little") / "storage"
    link_tree(good_root, root)
    store = Store(Settings("sample", root), load_catalogue())
    repository = repository_folder(root / INTERNAL / "hub", "dataset", "deepmind/code_contests")
    index = read_index(index_path(repository))
    assert index is not None
    shutil.rmtree(repository)
    index_path(repository).unlink()
    problems = {"train": 30, "valid": 7, "test": 9}
    code_contests.write_dataset(repository, problems, 3, code_contests.SHARDS, seed=1)
    write_index(index_path(repository), index_repository(repository), index[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)  # another day would leave the summary before
        for artifact in store.catalogue:
            if artifact.spec.name == "codecontests":
                materialize(store, artifact)
    return root


@pytest.fixture(scope="module")
def good_copy(little_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The copy of :func:`little_root` that is the ``root`` of the tests."""
    return Copy(little_root, tmp_path_factory.mktemp("copy") / "storage")


@pytest.fixture
def little(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy to damage; results of rules are not made durable, there are thousands."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return store


def mangled(data: bytes, chance: random.Random) -> bytes:
    """Bytes overwritten, cut off, taken out, or put in a second time."""
    bad = bytearray(data)
    how = chance.random()
    begin = chance.randrange(len(bad))
    if how < 0.7:
        for _ in range(chance.choice([1, 1, 1, 3, 20])):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
    elif how < 0.8:
        del bad[begin:]
    elif how < 0.9:
        del bad[begin : begin + chance.randrange(1, 30)]
    else:
        bad[begin:begin] = bad[begin : begin + chance.randrange(1, 200)]
    return bytes(bad)


def is_same_content(name: str, good: bytes, bad: bytes) -> bool:
    """Whether readers see no difference: unused bytes of Parquet, white space of a schema."""
    if name.endswith(".parquet"):
        return pq.read_table(io.BytesIO(bad)).equals(pq.read_table(io.BytesIO(good)))
    return name.endswith("schema.json") and json.loads(bad) == json.loads(good)


def apply_all(store: Store, artifact: Artifact, name: str) -> Iterator[Finding]:
    """What all rules but sha256 find; ``name`` is the damaged file."""
    for rule in rules_of(artifact):
        if rule.name != "sha256" and (name.endswith(".parquet") or rule.name not in SLOW):
            yield from apply_rule(rule, store, artifact).findings


def test_small_code_contests_is_good(little: Store) -> None:
    """Or the damages below would be found without being there."""
    for artifact in little.catalogue:
        if artifact.spec.name == "codecontests":
            for rule in rules_of(artifact):
                problems = {item.problem for item in apply_rule(rule, little, artifact).findings}
                assert problems <= {"warning"}


@pytest.mark.faults
@pytest.mark.parametrize("part", ["processed", "pairs", "small", "stats", "tests"])
def test_random_damage_is_found_and_nothing_raises(little: Store, part: str) -> None:
    """Whatever became of the bytes: a finding, and no crash over this or what is made of it."""
    artifact = little.catalogue[f"codecontests_{part}"]
    downstream = [item for item in little.catalogue if artifact.key in item.upstream]
    manifest = little.manifest_path(artifact).read_bytes()
    for name in little.manifest(artifact).files:
        chance = random.Random(name)
        path = little.path(artifact, name)
        good = path.read_bytes()
        count = SOME if part == "processed" else MANY
        for bad in {mangled(good, chance) for _ in range(count)} - {good}:
            rewrite(name, lambda data, bad=bad: bad)(little, artifact)
            found = list(apply_all(little, artifact, name))
            if all(item.problem == "warning" for item in found):
                assert is_same_content(name, good, bad)
            for item in downstream:
                list(apply_all(little, item, name))
        damage(path, lambda data, good=good: good)
        damage(little.manifest_path(artifact), lambda data: manifest)
