"""``wmtp migrate``: what the bytes prove is rewritten, and nothing is converted again."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base.child import directly
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints.beside import files_of, record_value_head
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.migrate import Migration, migrate
from wmtp_assets.operations.repair import find_damage, repair
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage import manifest as manifests
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import MICRO, RAW, SAFETENSORS, TOKENIZER
from wmtp_assets_tests.faults.sweep import safetensors_file
from wmtp_assets_tests.trees import as_the_version_before, damage, flip, tree

PART = 1 << 16
WIDTH = tiny.params().dim


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A tiny model, a variant, a micro model and their parameters, in the form of this version."""
    monkeypatch.setattr("wmtp_assets.storage.files.PART", PART)
    monkeypatch.setattr("wmtp_assets.storage.store.PART", PART)
    model = tiny.META_MODEL | {"variants": ["bfloat16"]}
    store = tiny.store_of(tmp_path / "storage", model, tiny.micro_spec(), tiny.SNAPSHOT)
    tiny.commit_raw(store, tiny.random_tensors(tiny.params()), in_parts=True)
    for artifact in store.catalogue:
        if artifact.kind != "raw" and not artifact.is_generated:
            tiny.make(store, artifact.key)
    tiny.make(store, *(item.key for item in store.catalogue if item.kind == "parameters"))
    return store


def there(store: Store) -> list[Artifact]:
    return [item for item in store.catalogue if store.manifest_path(item).exists()]


@pytest.fixture
def old(made: Store) -> Store:
    """The same as the version before committed it."""
    for artifact in there(made):
        as_the_version_before(made, artifact)
    return made


def run(store: Store, *keys: str, dry_run: bool = False) -> dict[str, Migration]:
    artifacts = [item for item in there(store) if not keys or item.key in keys]
    return {
        item.artifact: item for item in migrate(store, artifacts, run=directly, dry_run=dry_run)
    }


def states(store: Store, *keys: str, dry_run: bool = False) -> dict[str, str]:
    return {key: item.state for key, item in run(store, *keys, dry_run=dry_run).items()}


def findings(store: Store) -> list[str]:
    """What the rules find, those that read the sample's hub and pins apart."""
    return [
        str(finding)
        for artifact in there(store)
        for rule in rules_of(artifact)
        if rule.name in ("sha256", "dtype", "parameters", "current", "micro_size")
        for finding in apply_rule(rule, store, artifact).findings
    ]


def contents(store: Store) -> dict[str, str]:
    return {item.key: store.manifest(item).content_sha256 for item in there(store)}


def undated(store: Store, artifact: Artifact) -> dict[str, Any]:
    document = copy.deepcopy(store.manifest(artifact).document)
    for key in ("made_with", "created_at", "self_sha256"):
        document.pop(key, None)
    return document


def test_migrated_is_what_is_made_now(made: Store) -> None:
    """File by file and byte by byte, but for what made it: that is unknown, and not invented.

    Manifests of the version before are verified, as a whole, before.
    """
    expected = {item.key: undated(made, item) for item in there(made)}
    before = contents(made)
    for artifact in there(made):
        as_the_version_before(made, artifact)
    assert contents(made) != before
    assert findings(made) == []
    payload = {
        path: found
        for path, found in tree(made.root / "models_v2").items()
        if not path.endswith("metadata.json")
    }
    times = {item.key: made.manifest(item).document["created_at"] for item in there(made)}
    done = states(made)
    assert {*done.values()} == {"migrated", "made again"}
    assert contents(made) == before
    assert {item.key: undated(made, item) for item in there(made)} == expected
    assert tree(made.root / "models_v2").items() >= payload.items()  # also the same inodes
    assert findings(made) == []
    for artifact in there(made):
        if not artifact.is_generated:
            assert made.manifest(artifact).made_with is None
            assert made.manifest(artifact).document["created_at"] == times[artifact.key]
    assert {*states(made).values()} == {"nothing to migrate"}


def test_the_manifest_before_is_kept(old: Store) -> None:
    """The previous generation, which shares its files with the new one."""
    artifact = old.catalogue[SAFETENSORS]
    before = old.manifest_path(artifact).read_bytes()
    run(old)
    kept = old.previous(artifact)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {artifact.manifest: before}


def test_dry_run_reads_everything_and_writes_nothing(old: Store) -> None:
    before = tree(old.root / "models_v2")
    done = states(old, dry_run=True)
    assert {*done.values()} == {"to be migrated", "to be made again"}
    assert tree(old.root / "models_v2") == before
    damage(old.path(old.catalogue[RAW], f"raw/{tiny.CHECKPOINT}"), flip(PART))
    assert "is damaged" in run(old, dry_run=True)[RAW].problem


def test_upstream_that_was_another_stays_so(old: Store) -> None:
    """What an artifact was made from is a statement; only the same content has a new hash."""
    artifact = old.catalogue[MICRO]
    stated = old.manifest(artifact).document["upstream"]
    old.amend(artifact, {"upstream": stated | {SAFETENSORS: "0" * 64}})
    run(old)
    assert old.manifest(artifact).document["upstream"][SAFETENSORS] == "0" * 64


def test_in_any_order(old: Store) -> None:
    """A model by itself first, then what it was made from: its hash there is replaced later."""
    assert states(old, MICRO) == {MICRO: "migrated"}
    assert states(old)[MICRO] == "migrated"
    upstream = old.manifest(old.catalogue[MICRO]).document["upstream"]
    assert upstream[SAFETENSORS] == old.manifest(old.catalogue[SAFETENSORS]).content_sha256
    assert findings(old) == []


def test_value_head_is_kept(old: Store) -> None:
    """What training put there, and what was recorded about it."""
    artifact = old.catalogue[SAFETENSORS]
    head = old.folder(artifact) / "safetensors/value_head.safetensors"
    head.write_bytes(safetensors_file("summary.weight", (WIDTH, 1), bytes(4 * WIDTH)))
    record_value_head(old, artifact, WIDTH, "run-1")
    said = old.manifest(artifact).document["value_head"]
    run(old)
    assert old.manifest(artifact).document["value_head"] == said
    assert head.exists()


# -- what cannot be proven -------------------------------------------------------------------------


def edit(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    """Replace what an old manifest says at ``path``."""

    def change(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


CHECKPOINT = "safetensors/model.safetensors"
TENSOR = ("checkpoint", "tensors", "norm.weight")
LIES = {
    "header": (SAFETENSORS, edit("checkpoint", "header_sha256", to="0" * 64), "header_sha256"),
    "tensor": (SAFETENSORS, edit(*TENSOR, "sha256", to="0" * 64), "norm.weight.sha256"),
    "shape": (SAFETENSORS, edit(*TENSOR, "shape", to=[1, WIDTH]), "norm.weight.shape"),
    "dtype": (SAFETENSORS, edit(*TENSOR, "dtype", to="float32"), "norm.weight.dtype"),
    "count": (SAFETENSORS, edit("n_params", to=1), "n_params"),
    "role": (SAFETENSORS, edit("files", "checkpoint", to="nowhere"), "checkpoint"),
    "part": (RAW, edit("parts", "sha256", f"raw/{tiny.CHECKPOINT}", to=["0" * 64]), "parts.sha256"),
    "width": (RAW, edit("parts", "size", to=5), "parts.size"),
    "no parts": (RAW, edit("parts", to=None), "parts"),
}


@pytest.mark.parametrize("name", LIES)
def test_manifest_that_contradicts_the_bytes_is_refused(old: Store, name: str) -> None:
    """With the place, what stands there and what is so; nothing is written."""
    key, change, place = LIES[name]
    artifact = old.catalogue[key]
    manifest = old.manifest(artifact)
    description = copy.deepcopy(manifest.description)
    change(description)
    data = manifests.seal(description, manifest.files, manifest.document["created_at"], None)
    damage(old.manifest_path(artifact), lambda _: data)
    before = tree(old.folder(artifact))
    migration = run(old, key)[key]
    assert migration.state == "not migrated"
    assert "metadata.json says at " in migration.problem
    assert place in migration.problem
    assert f"dagster asset materialize --select '{key}'" in migration.problem
    assert tree(old.folder(artifact)) == before


@pytest.mark.parametrize("key", [RAW, TOKENIZER, SAFETENSORS, MICRO])
def test_damaged_file_is_refused_and_repaired_first(old: Store, key: str) -> None:
    """The others are migrated; the command that is named helps, and then it is migrated too."""
    artifact = old.catalogue[key]
    name = (
        files_of(artifact).checkpoint
        if artifact.dtype
        else next(iter(old.manifest(artifact).files))
    )
    good = old.path(artifact, name).read_bytes()
    damage(old.path(artifact, name), flip(-1))
    done = run(old)
    assert done[key].state == "not migrated"
    assert f"{old.path(artifact, name)} is damaged" in done[key].problem
    assert f"wmtp repair {key}" in done[key].problem
    others = {item.state for item in done.values() if item.artifact != key}
    assert "not migrated" not in others
    if key == RAW:  # fetched from a hub, which the tiny model has none of
        damage(old.path(artifact, name), lambda _: good)
    else:
        repair(old, find_damage(old, artifact), run=directly)
    assert old.path(artifact, name).read_bytes() == good
    assert "not migrated" not in {item.state for item in run(old).values()}
    assert findings(old) == []


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_missing_and_emptied_files_are_refused(old: Store, change: Callable[[Path], Any]) -> None:
    for key in (RAW, SAFETENSORS):
        artifact = old.catalogue[key]
        path = old.path(artifact, next(iter(old.manifest(artifact).files)))
        damage(path, lambda data: data)
        change(path)
        problem = run(old, key)[key].problem
        assert str(path) in problem
        assert f"wmtp repair {key}" in problem


def test_damaged_manifest_is_refused(old: Store) -> None:
    artifact = old.catalogue[RAW]
    damage(old.manifest_path(artifact), flip(20))
    problem = run(old, RAW)[RAW].problem
    assert f"Repair it with: wmtp repair {RAW}" in problem


# -- repair of what is in the new form -------------------------------------------------------------


@pytest.mark.parametrize("key", [SAFETENSORS, MICRO])
def test_damaged_pieces_are_repaired(made: Store, key: str) -> None:
    """They are made again with the files they are about."""
    artifact = made.catalogue[key]
    path = made.path(artifact, artifact.pieces)
    good = path.read_bytes()
    damage(path, flip(50))
    found = find_damage(made, artifact)
    assert found.files == (artifact.pieces,)
    repair(made, found, run=directly)
    assert path.read_bytes() == good
    assert findings(made) == []


def test_damaged_manifest_of_the_version_before_is_repaired_into_the_new_form(old: Store) -> None:
    """Its files are what is made now, so that the pieces are, too."""
    artifact = old.catalogue[SAFETENSORS]
    damage(old.manifest_path(artifact), flip(20))
    repair(old, find_damage(old, artifact), run=directly)
    assert artifact.pieces in old.manifest(artifact).files
    assert findings(old) == []


def test_micro_model_is_cut_from_a_parent_of_the_version_before(old: Store) -> None:
    """The parent is hashed as a whole, once; a damaged one makes no micro model."""
    artifact = old.catalogue[MICRO]
    content = manifests.content_sha256(old.manifest(artifact).files)
    made = tiny.make(old, MICRO)
    payload = {name: item for name, item in made.files.items() if name != artifact.pieces}
    assert manifests.content_sha256(payload) == content
    damage(old.path(old.catalogue[SAFETENSORS], CHECKPOINT), flip(-1))
    with pytest.raises(Exception, match="is damaged"):
        tiny.make(old, MICRO)


# -- the sample ------------------------------------------------------------------------------------


def test_the_sample_of_the_version_before(root: Path, store: Store) -> None:
    """Every artifact there is, with its documents: all rules hold before and after, also that of a
    release which was made before."""
    for artifact in store.catalogue:
        as_the_version_before(store, artifact)
    other = Store(Settings("sample", root), store.catalogue)
    (release,) = [item for item in store.catalogue if item.kind == "release"]
    payload = {path: item for path, item in tree(root).items() if _is_payload(path)}
    done = {item.artifact: item for item in migrate(other, other.catalogue, run=directly)}
    assert [item.problem for item in done.values() if item.problem] == []
    for artifact in store.catalogue:
        for rule in rules_of(artifact):
            if rule.name in ("sha256", "current", "release", "parameters"):
                assert apply_rule(rule, store, artifact).findings == [], (artifact.key, rule.name)
    assert {path: item for path, item in tree(root).items() if path in payload} == payload
    assert json.loads((root / "RELEASE.json").read_bytes())["artifacts"]
    assert release.key in done


def _is_payload(path: str) -> bool:
    is_payload = any(f"/{folder}/" in f"/{path}" for folder in ("raw", "safetensors", "processed"))
    return is_payload and not path.startswith(".wmtp")
