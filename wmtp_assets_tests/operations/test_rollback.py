"""``wmtp rollback``: the previous generation comes back whole, or nothing changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.rollback import rollback
from wmtp_assets.storage import store as store_module
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import Store
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
    """Who reads ``README.md`` at the root must not read of another generation."""
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
