"""Signatures travel with what is published, and ``wmtp pull --signed`` demands them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

pytest.importorskip("model_signing", reason="needs the extra signing")

from click.testing import CliRunner, Result

from wmtp_assets.base.errors import PublishError
from wmtp_assets.cli.main import cli
from wmtp_assets.destinations.destination import open_destination
from wmtp_assets.destinations.file import Folder
from wmtp_assets.destinations.listing import MANIFEST, parse_listing
from wmtp_assets.destinations.sending import Options
from wmtp_assets.operations.publish import publish
from wmtp_assets.operations.sign import sign, signed_ones
from wmtp_assets.storage.manifest import FileRecord, amend, content_sha256, parse
from wmtp_assets.storage.signatures import Trust, key_config
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.hub import Hub
from wmtp_assets_tests.destinations.trees import (
    DATASET,
    MODEL,
    RELEASE,
    commit,
    files_below,
    release,
)
from wmtp_assets_tests.signing import TrustFolder
from wmtp_assets_tests.trees import damage

HUB = "hf://datasets/acme/humaneval"


def _publish(store: Store, *keys: str) -> None:
    """To the hub."""
    artifacts = [store.catalogue[key] for key in keys]
    publish(store, artifacts, open_destination(store, HUB), Options(is_accepted=True))


@pytest.fixture
def trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrustFolder:
    """One signer is believed."""
    trust = TrustFolder(tmp_path / "outside")
    trust.add("one")
    monkeypatch.setenv("WMTP_TRUST", str(trust.folder))
    return trust


@pytest.fixture
def signed(tree_store: Store, trust: TrustFolder) -> Store:
    """A release that is signed."""
    store = release(tree_store, "v2.0.0")
    sign(store, key_config(trust.keys / "one.pem", None, None, ()), Trust(trust.folder))
    return store


@pytest.fixture
def on_node(node: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The environment names the node."""
    monkeypatch.setenv("WMTP_SOURCE", "sample")
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(node.root))
    return node


def wmtp(*arguments: str) -> Result:
    """Run the command in this process; its errors pass."""
    return CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)


def refused(node: Store, folder: Folder, message: str, *names: str) -> None:
    """Nothing is fetched, also nothing of the artifacts that are right."""
    with pytest.raises(PublishError, match=message):
        wmtp("pull", *(names or (MODEL, DATASET)), "--from", folder.name, "--signed")
    assert files_below(node.root) == {}


def reseal(folder: Folder, path: str, data: bytes) -> None:
    """Write a published file, and let MANIFEST.json say so."""
    damage(folder.root / path, lambda _: data)
    listing = parse_listing((folder.root / MANIFEST).read_bytes(), "here").model_dump()
    for item in listing["artifacts"].values():
        if path in item["files"]:
            record = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            item["files"][path].update(record)
            if path.endswith("metadata.json"):
                item["content_sha256"] = parse(data, "here").content_sha256
    body = parse_listing((folder.root / MANIFEST).read_bytes(), "here").model_validate(listing)
    damage(folder.root / MANIFEST, lambda _: body.render())


def test_signatures_travel(signed: Store, on_node: Store, folder: Folder) -> None:
    """They lie at the destination as here, and on the node; which verifies what it has."""
    publish(signed, None, folder)
    assert {path.name for path in (folder.root / "signatures").iterdir()} == {
        f"{key}.sig" for key in (MODEL, DATASET, RELEASE)
    }
    done = wmtp("pull", DATASET, RELEASE, "--from", folder.name, "--signed")
    assert "humaneval_raw: 2 files, 50.0 kB, " in done.stdout
    assert "; every byte hashed; of release v2.0.0; signed by one\n" in done.stdout
    assert (on_node.root / f"signatures/{DATASET}.sig").is_file()
    verified = wmtp("verify", "--signed")
    assert verified.return_value == 0
    assert f"signed by one: {DATASET}, {RELEASE}\n" in verified.stdout
    assert wmtp("verify").return_value == 0


def test_signature_travels_by_the_hub(signed: Store, on_node: Store, hub: Hub) -> None:
    """It is in the commit, and on the node, which verifies it. ``--signed`` wants the release too,
    which lies in no folder: it is refused with the command that publishes both."""
    repository = hub.make("dataset", "acme/humaneval")
    _publish(signed, DATASET)
    path = f"signatures/{DATASET}.sig"
    assert repository.main[path] == (signed.root / path).read_bytes()
    with pytest.raises(PublishError, match=r"no release is published at .*storage_release"):
        wmtp("pull", DATASET, "--from", HUB, "--signed")
    wmtp("pull", DATASET, "--from", HUB)
    verified = wmtp("verify", "--signed")
    assert verified.return_value == 0
    assert f"signed by one: {DATASET}\n" in verified.stdout


def test_release_travels_by_the_hub(
    signed: Store, trust: TrustFolder, on_node: Store, hub: Hub
) -> None:
    """Beside the one folder, if it is named: then ``--signed`` demands what it demands elsewhere,
    and a later publication of the folder alone does not take the release away."""
    repository = hub.make("dataset", "acme/humaneval")
    _publish(signed, DATASET, RELEASE)
    assert repository.main["RELEASE.json"] == repository.main["docs/RELEASE.json"]
    assert b"meta" not in repository.main["NOTICE"]  # a release has nothing of a model
    assert len(repository.commits) == 2
    _publish(signed, DATASET, RELEASE)
    assert len(repository.commits) == 2
    done = wmtp("pull", DATASET, RELEASE, "--from", HUB, "--signed")
    assert "of release v2.0.0; signed by one\n" in done.stdout
    assert wmtp("verify", "--signed").return_value == 0
    commit(signed, DATASET, {"raw/data.parquet": b"new", "raw/LICENSE": b"MIT\n"})
    _publish(signed, DATASET)
    assert "RELEASE.json" in repository.main
    with pytest.raises(PublishError, match="humaneval_raw is not signed at"):
        wmtp("pull", DATASET, "--from", HUB, "--signed")
    newer = release(signed, "v2.1.0")
    sign(newer, key_config(trust.keys / "one.pem", None, None, ()), Trust(trust.folder))
    _publish(newer, DATASET, RELEASE)
    assert "of release v2.1.0" in wmtp("pull", DATASET, "--from", HUB, "--signed").stdout


def test_release_alone_is_no_repository(signed: Store, hub: Hub) -> None:
    """It goes beside a folder."""
    hub.make("dataset", "acme/humaneval")
    with pytest.raises(PublishError, match="takes one folder of the storage"):
        _publish(signed, RELEASE)


def test_what_nobody_signed_is_refused(
    tree_store: Store, trust: TrustFolder, on_node: Store, folder: Folder
) -> None:
    """No release, a release that is not signed, and signatures of somebody else."""
    publish(tree_store, None, folder)
    refused(on_node, folder, "no release is published at")
    store = release(tree_store, "v2.0.0")
    publish(store, None, folder)
    refused(on_node, folder, "storage_release is not signed at")
    sign(store, key_config(trust.keys / "one.pem", None, None, ()), Trust(trust.folder))
    publish(store, None, folder)
    trust.forget("one")
    trust.add("another")
    refused(on_node, folder, "is the signature of nobody in")


def test_consistent_edit_there_is_refused(signed: Store, on_node: Store, folder: Folder) -> None:
    """Rows, the artifact's manifest and MANIFEST.json, all resealed."""
    publish(signed, None, folder)
    rows, path = "datasets_v2/humaneval/raw/data.parquet", "datasets_v2/humaneval/raw.metadata.json"
    committed = parse((folder.root / path).read_bytes(), "here")
    record = FileRecord(size=6, sha256=hashlib.sha256(b"poison").hexdigest())
    files = {**committed.files, "raw/data.parquet": record}
    sealed = {
        "files": {name: files[name].model_dump() for name in sorted(files)},
        "content_sha256": content_sha256(files),
    }
    data = amend(committed, {"manifest": sealed})
    reseal(folder, rows, b"poison")
    reseal(folder, path, data)
    refused(on_node, folder, "was made by one and is of other files: of raw.metadata.json")
    wmtp("pull", DATASET, "--from", folder.name)  # which shows that nothing else would have


def test_artifact_of_another_release_is_refused(
    signed: Store, trust: TrustFolder, on_node: Store, folder: Folder
) -> None:
    """Signed once, and put into the place of what the release has: an old version, such as one
    with a known fault."""
    publish(signed, None, folder)
    before = {path: (folder.root / path).read_bytes() for path in files_below(folder.root)}
    commit(signed, DATASET, {"raw/data.parquet": b"new", "raw/LICENSE": b"MIT\n"})
    newer = release(signed, "v2.1.0")
    sign(newer, key_config(trust.keys / "one.pem", None, None, ()), Trust(trust.folder))
    publish(newer, None, folder)
    sig = f"signatures/{DATASET}.sig"
    for path in (*(it for it in before if it.startswith("datasets_v2/")), sig):
        reseal(folder, path, before[path])
    refused(on_node, folder, "humaneval_raw at .* is not what release v2.1.0 has, which one signed")


def test_stale_signature_is_not_published(signed: Store, folder: Folder) -> None:
    """It would only say that something is wrong."""
    commit(signed, DATASET, {"raw/data.parquet": b"new", "raw/LICENSE": b"MIT\n"})
    said: list[str] = []
    publish(signed, [signed.catalogue[DATASET]], folder, say=said.append)
    assert not (folder.root / "signatures").exists()
    assert any("signatures/humaneval_raw.sig is not published: it is none of" in it for it in said)


def test_documents_are_left_out(node: Store) -> None:
    """Nobody signs them: that is said, and refused where nothing else was named."""
    catalogue, said = node.catalogue, list[str]()
    chosen = [catalogue[key] for key in (MODEL, "meta_llama_mtp_card", RELEASE)]
    assert [it.key for it in signed_ones(chosen, said.append)] == [MODEL, RELEASE]
    assert said == ["left out, as no document is signed: meta_llama_mtp_card"]
    with pytest.raises(PublishError, match="no document is signed, such as meta_llama_mtp_card"):
        signed_ones(chosen[1:2], said.append)
