"""``wmtp rollback``: the previous generation comes back whole, or nothing changes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.staleness import reasons
from wmtp_assets.operations.gc import collect
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.rollback import rollback
from wmtp_assets.storage import store as store_module
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import Staged, Store
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.rules.cases import apply, untouched
from wmtp_assets_tests.trees import damage, flip, tree

SMALL = {"train": 5, "other": 5, "seed": 1}


@pytest.fixture
def pairs(store: Store) -> tuple[Store, Artifact]:
    """MBPP's small splits of another seed, over those that were there: a store that wants them."""
    changed = respec(store, "mbpp", small=SMALL)
    materialize(changed, changed.catalogue["mbpp_small"])
    return changed, changed.catalogue["mbpp_small"]


def contents(store: Store, artifact: Artifact) -> dict[str, FileRecord]:
    """What lies in the folder of an artifact."""
    return {name: record for name, (_, record) in tree(store.folder(artifact)).items()}


def test_two_generations_change_places(store: Store) -> None:
    """A change that proves wrong is undone at once, and the undoing can be undone."""
    artifact = store.catalogue["mbpp_small"]
    first = contents(store, artifact)
    changed = respec(store, "mbpp", small=SMALL)
    second = materialize(changed, artifact := changed.catalogue["mbpp_small"])
    was = contents(changed, artifact)
    done = rollback(changed, artifact)
    assert contents(changed, artifact) == first
    assert done.replaced == second.content_sha256
    stale = {row.name: {reason.why for reason in row.reasons} for row in done.stale}
    assert stale["mbpp_small"] == {"settings changed"}
    assert apply(changed, artifact, "sha256").findings == []
    assert rollback(changed, artifact).content_sha256 == second.content_sha256
    assert contents(changed, artifact) == was


def test_without_a_previous_generation_nothing_changes(store: Store) -> None:
    """Nothing was replaced yet, or ``wmtp gc`` removed it: that is said, with what helps."""
    before = untouched(store)
    with pytest.raises(MissingArtifact, match="has no previous generation") as caught:
        rollback(store, store.catalogue["mbpp_small"])
    assert "dagster asset materialize --select 'mbpp_small'" in str(caught.value)
    assert untouched(store) == before


@pytest.mark.parametrize("name", ["metadata.json", "train_small.jsonl", "absent"])
def test_a_damaged_generation_is_refused(pairs: tuple[Store, Artifact], name: str) -> None:
    """What is committed is good; what was before is not any more, and one bit of it says so."""
    store, artifact = pairs
    kept = store.previous(artifact)
    if name == "absent":
        (kept / "train_small.jsonl").unlink()
    else:
        damage(kept / name, flip(30))
    before = untouched(store)
    with pytest.raises(CorruptArtifact, match="its previous generation is damaged"):
        rollback(store, artifact)
    assert untouched(store) == before
    assert not any((store.internal / "staging").glob("*/*"))


def test_neighbours_and_guests_stay(store: Store) -> None:
    """The folder of a model is exchanged as a whole: its card, tokenizer and value head are of
    others."""
    artifact = store.catalogue["micro_mtp"]
    head = store.path(artifact, "safetensors/value_head.safetensors")
    changed = respec(
        store,
        "micro_mtp",
        target_device="cpu",
        shape={
            **store.catalogue["micro_mtp"].spec.shape.model_dump(),
            "ffn_dim_multiplier": 0.25,
        },
    )
    materialize(changed, changed.catalogue["micro_mtp"])
    head.write_bytes(b"of training")
    card = tree(store.folder(artifact))["README.md"]
    rollback(changed, changed.catalogue["micro_mtp"])
    assert head.read_bytes() == b"of training"
    assert tree(store.folder(artifact))["README.md"] == card
    assert store.manifest(artifact).document["target_device"] == "mps"


def test_copies_at_the_root_follow(store: Store) -> None:
    """A reader of ``README.md`` at the root must not read of another generation."""
    changed = respec(store, "mbpp", description="Another description.")
    readme = changed.catalogue["storage_readme"]
    before = (store.root / "README.md").read_bytes()
    materialize(changed, readme)
    assert (store.root / "README.md").read_bytes() != before
    rollback(changed, readme)
    assert (store.root / "README.md").read_bytes() == before


@pytest.mark.parametrize("at", ["install", "drop_shared"])
def test_cut_off_it_is_one_or_the_other(
    pairs: tuple[Store, Artifact], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Before the exchange all is as it was, after it all is as it was before that."""
    store, artifact = pairs
    new = store.manifest(artifact).content_sha256
    old = Path(store.previous(artifact) / "metadata.json").read_bytes()

    def cut(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, at, cut)
        with pytest.raises(KeyboardInterrupt):
            rollback(store, artifact)
    assert apply(store, artifact, "sha256").findings == []
    is_old = store.manifest_path(artifact).read_bytes() == old
    assert is_old == (at == "drop_shared")
    assert is_old == (store.manifest(artifact).content_sha256 != new)


@pytest.mark.parametrize("at", ["drop_shared", "rename"])
@pytest.mark.parametrize("then", ["rollback", "gc"])
def test_killed_it_loses_no_generation(pairs: tuple[Store, Artifact], at: str, then: str) -> None:
    """What was exchanged lies in the staging folder then, which the next command empties."""
    store, artifact = pairs
    new = store.manifest(artifact).content_sha256
    if (child := os.fork()) == 0:
        try:
            where, name = (store_module, at) if at == "drop_shared" else (Path, at)
            original = getattr(where, name)

            def kill(path: Path, other: Path) -> object:
                if other == store.previous(artifact) or at == "drop_shared":
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(path, other)

            setattr(where, name, kill)
            rollback(store, artifact)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert store.manifest(artifact).content_sha256 != new
    assert any((store.internal / "staging" / artifact.key).iterdir())
    if then == "gc":
        assert not [item for item in collect(store, ["staging"]) if item.kept]
    assert rollback(store, artifact).content_sha256 == new
    assert apply(store, artifact, "sha256").findings == []
    assert not any((store.internal / "staging").glob("*/*"))


def test_what_is_shared_is_found_without_the_committed_manifest(
    pairs: tuple[Store, Artifact],
) -> None:
    """A damaged manifest is a reason to roll back, and says no more which files both have."""
    store, artifact = pairs
    kept = store.previous(artifact)
    before = json.loads((kept / artifact.manifest).read_bytes())["manifest"]["content_sha256"]
    assert (kept / "schema.json").read_bytes() == store.read(artifact, "schema.json")
    (kept / "schema.json").unlink()  # as where both generations have one file, such as a tokenizer
    damage(store.manifest_path(artifact), flip(30))
    done = rollback(store, artifact)
    assert (done.content_sha256, done.replaced) == (before, None)
    assert apply(store, artifact, "sha256").findings == []


def test_bytes_are_known_afterwards(pairs: tuple[Store, Artifact]) -> None:
    """They were just read: neither the next run nor a rule has to read them again."""
    store, artifact = pairs
    for path in store.previous(artifact).iterdir():
        damage(path, lambda data: data)  # the files are this test's own
    rollback(store, artifact)
    assert store.unread(artifact, store.manifest(artifact)) == []


def test_written_while_it_is_put_back(
    pairs: tuple[Store, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are linked, so that a process may still have one open: it is an error, and must be one
    for the next run too."""
    store, artifact = pairs
    kept = store.previous(artifact) / "train_small.jsonl"
    damage(kept, lambda data: data)  # the file is this test's own

    def place(staged: Staged, name: str, path: Path, record: FileRecord, parts: list[str]) -> None:
        original(staged, name, path, record, parts)
        if path == kept:
            path.write_bytes(flip(30)(path.read_bytes()))

    original = Staged.place
    monkeypatch.setattr(Staged, "place", place)
    with pytest.raises(CorruptArtifact, match=r"train_small\.jsonl is damaged"):
        rollback(store, artifact)
    assert "train_small.jsonl" in store.unread(artifact, store.manifest(artifact))
    found = [str(reason) for reason in reasons(store, artifact)]
    assert "damaged: train_small.jsonl has another SHA-256 than it was committed with" in found
