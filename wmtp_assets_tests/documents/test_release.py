"""Freezing means freezing: what was released under a version stays what it was."""

from __future__ import annotations

import pytest

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.documents.of_storage.release import parse_release
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, flip, tree


def entries(store: Store) -> dict[str, dict[str, object]]:
    artifact = store.catalogue["storage_release"]
    release = parse_release(store.read(artifact, "RELEASE.json"), "")
    return {key: entry.model_dump() for key, entry in release.artifacts.items()}


def test_everything_made_from_upstream_is_frozen(store: Store) -> None:
    """One that is left out may change without anybody noticing."""
    frozen = entries(store)
    assert list(frozen) == [item.key for item in store.catalogue if not item.is_generated]
    micro = store.manifest(store.catalogue["micro_mtp"])
    assert frozen["micro_mtp"] == {
        "version": "v2.0.0",
        "size": micro.size,
        "files": len(micro.files),
        "content_sha256": micro.content_sha256,
    }


def test_change_under_an_unchanged_version_is_refused(store: Store) -> None:
    """Making the release again must not be the way around its check; a new version is."""
    changed = respec(store, "mbpp", small={"seed": 1})
    materialize(changed, changed.catalogue["mbpp_small"])
    before = tree(store.root / "docs")
    with pytest.raises(InvalidInput) as error:
        materialize(changed, changed.catalogue["storage_release"])
    assert str(error.value).startswith(
        "storage_release was not made: mbpp_small changed under an unchanged version: expected "
    )
    assert "raise version in the defs.yaml of mbpp and run: dagster" in str(error.value)
    assert tree(store.root / "docs") == before

    raised = respec(store, "mbpp", small={"seed": 1}, version="v2.0.1")
    materialize(raised, raised.catalogue["mbpp_small"])
    materialize(raised, raised.catalogue["storage_release"])
    assert entries(raised)["mbpp_small"]["version"] == "v2.0.1"
    assert entries(raised)["mbpp_pairs"]["version"] == "v2.0.0"


def test_what_is_gone_stays_released(store: Store) -> None:
    """An optional model that comes back as another one must not pass for the released one."""
    artifact = store.catalogue["meta_llama_mtp_bf16"]
    before = entries(store)
    store.manifest_path(artifact).unlink()
    materialize(store, store.catalogue["storage_release"])
    assert entries(store) == before


def test_damaged_release_is_no_new_beginning(store: Store) -> None:
    """It is read from its copy; with both damaged nothing is frozen anew over what was."""
    release = store.catalogue["storage_release"]
    good = store.read(release, "RELEASE.json")
    damage(store.path(release, "RELEASE.json"), flip(100))
    materialize(store, release)
    assert store.read(release, "RELEASE.json") == good
    damage(store.manifest_path(release), flip(20))
    materialize(store, release)
    assert store.read(release, "RELEASE.json") == good
    damage(store.path(release, "RELEASE.json"), flip(100))
    damage(store.root / "RELEASE.json", flip(200))
    with pytest.raises(CorruptArtifact, match=r"Neither .* is what was released: put one of them"):
        materialize(store, release)
