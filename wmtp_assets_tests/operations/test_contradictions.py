"""What contradicts itself is believed nowhere: a manifest that was edited, and hashes of a file and
of its pieces that cannot both be right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets import load_state_dict, open_jsonl
from wmtp_assets.base.errors import CorruptArtifact, PublishError
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints.beside import MODEL_FILES
from wmtp_assets.operations.gc import collect
from wmtp_assets.operations.migrate import migrate
from wmtp_assets.operations.publish import plan_publication, publish
from wmtp_assets.operations.repair import find_damage, repair_one
from wmtp_assets.operations.rollback import rollback
from wmtp_assets.operations.show import details_of
from wmtp_assets.operations.status import status_of
from wmtp_assets.operations.verify import exit_code, findings_of, verify
from wmtp_assets.storage import manifest
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import Store
from wmtp_assets.storage.verified import verified
from wmtp_assets_tests.destinations.trees import at
from wmtp_assets_tests.trees import damage, flip, hash_once, rewrite_pieces

CHECKPOINT, SUMS = MODEL_FILES.checkpoint, "safetensors/SHA256SUMS"


def edit(data: bytes, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = json.loads(data)
    change(document)
    return document


def seal(document: dict[str, Any]) -> bytes:
    """With a hash of itself that is right."""
    return manifest.amend(manifest.Manifest(document, {}, ""), {})


def first_file(document: dict[str, Any]) -> dict[str, Any]:
    return next(iter(document["manifest"]["files"].values()))


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "what it says, and not its own hash": lambda data: manifest.render(
        edit(data, lambda it: it.update(version="v9"))
    ),
    "a file's hash, and its own": lambda data: seal(
        edit(data, lambda it: first_file(it).update(sha256="0" * 64))
    ),
    "the content hash, and its own": lambda data: seal(
        edit(data, lambda it: it["manifest"].update(content_sha256="0" * 64))
    ),
    "a file that is listed no longer": lambda data: seal(
        edit(data, lambda it: it["manifest"]["files"].popitem())
    ),
    "the same in another form": lambda data: json.dumps(json.loads(data)).encode(),
}


def _gc(store: Store, artifact: Artifact) -> bool:
    kept = store.previous(artifact)
    kept.mkdir(parents=True)
    (kept / "file").write_bytes(b"the last good one")
    (found,) = collect(store, ["previous"])
    return found.kept.startswith("the committed generation is damaged") and kept.is_dir()


def _raises(act: Callable[[], object]) -> bool:
    with pytest.raises((CorruptArtifact, PublishError)):
        act()
    return True


def _read(path: Path) -> None:
    with verified(path):
        pass


DOORS: dict[str, Callable[[Store, Artifact, Path], bool]] = {
    "verify": lambda store, it, _: exit_code(verify(store, [it])) % 2 == 1,
    "verify --release": lambda store, it, _: (
        exit_code(verify(store, [it], only=("sha256", "release"))) == 1
    ),
    "repair": lambda store, it, _: not find_damage(store, it).is_none,
    "gc": lambda store, it, _: _gc(store, it),
    "open_verified": lambda store, it, _: _raises(
        lambda: store.open_verified(it, next(iter(manifest_names(store, it))))
    ),
    "verified": lambda store, it, _: _raises(lambda: _read(store.folder(it))),
    "publish": lambda store, it, to: _raises(lambda: plan_publication(store, [it], at(to))),
    "migrate": lambda store, it, _: [row.state for row in migrate(store, [it])] == ["not migrated"],
    "status": lambda store, it, _: status_of(store, it).state == "damaged",
    "show": lambda store, it, _: (
        details_of(store, it).status.state == "damaged" and not details_of(store, it).files
    ),
}
"""Where an artifact is read → whether it is not believed there."""


def manifest_names(store: Store, artifact: Artifact) -> list[str]:
    return [*json.loads(store.manifest_path(artifact).read_bytes())["manifest"]["files"]]


@pytest.mark.parametrize("edited", EDITS)
@pytest.mark.parametrize("key", ["micro_mtp", "humaneval_pairs"])
def test_manifest_that_contradicts_itself_is_believed_nowhere(
    store: Store, tmp_path: Path, key: str, edited: str
) -> None:
    """Whichever of its hashes was left, at every door, and no byte of the files was touched."""
    artifact = store.catalogue[key]
    damage(store.manifest_path(artifact), EDITS[edited])
    (tmp_path / "to").mkdir()
    for name, is_refused in DOORS.items():
        assert is_refused(store, artifact, tmp_path / "to"), name
    if key == "micro_mtp":
        path = store.path(artifact, CHECKPOINT)
        assert _raises(lambda: load_state_dict(path, verify=True))
    else:
        assert _raises(lambda: open_jsonl(store.path(artifact, "test.jsonl"), verify=True)[0])


@pytest.mark.parametrize("edited", EDITS)
def test_previous_generation_that_contradicts_itself_is_not_gone_back_to(
    store: Store, edited: str
) -> None:
    """What is committed is right: it stays."""
    artifact = store.catalogue["humaneval_pairs"]
    kept = store.previous(artifact)
    kept.mkdir(parents=True)
    data = store.manifest_path(artifact).read_bytes()
    (kept / artifact.manifest).write_bytes(EDITS[edited](data))
    with pytest.raises(CorruptArtifact, match="its previous generation is damaged"):
        rollback(store, artifact)
    assert store.manifest_path(artifact).read_bytes() == data


# -- a file, and its pieces ------------------------------------------------------------------------


def records(store: Store, artifact: Artifact, **changes: FileRecord) -> None:
    """Write the manifest anew with other files, all its own hashes right."""
    committed = store.manifest(artifact)
    files = {**committed.files, **changes}
    document = committed.description
    document["sha256"]["checkpoint"] = files[CHECKPOINT].sha256
    data = manifest.seal(document, files, committed.document["created_at"], None)
    damage(store.manifest_path(artifact), lambda _: data)


def of_pieces_only(store: Store, artifact: Artifact) -> None:
    """Another tensor, with the hashes of the pieces; the file's own hash is as it was."""
    damage(store.path(artifact, CHECKPOINT), flip(-1))
    rewrite_pieces(store, artifact)
    records(store, artifact, **{artifact.pieces: hash_once(store.path(artifact, artifact.pieces))})


def of_the_file_only(store: Store, artifact: Artifact) -> None:
    """Another tensor, with the file's own hash; the hashes of the pieces are as they were."""
    damage(store.path(artifact, CHECKPOINT), flip(-1))
    follow(store, artifact)


def follow(store: Store, artifact: Artifact) -> None:
    """Let SHA256SUMS and manifest say the hash that the checkpoint has."""
    old = store.manifest(artifact).files[CHECKPOINT].sha256
    new = hash_once(store.path(artifact, CHECKPOINT))
    sums = store.path(artifact, SUMS)
    damage(sums, lambda data: data.replace(old.encode(), new.sha256.encode()))
    records(store, artifact, **{CHECKPOINT: new, SUMS: hash_once(sums)})


@pytest.mark.parametrize("was_verified", [False, True])
@pytest.mark.parametrize("edited", [of_pieces_only, of_the_file_only])
def test_file_and_pieces_that_contradict_each_other_are_found(
    store: Store, tmp_path: Path, edited: Callable[[Store, Artifact], None], was_verified: bool
) -> None:
    """Reading a whole file compares it with both: verify, the release, gc, repair, ``verified`` and
    publishing do. That both were once right says nothing of another content."""
    artifact = store.catalogue["micro_mtp"]
    if was_verified:
        assert not findings_of(verify(store, [artifact], only=["sha256"]))
        assert store.agrees(artifact, store.manifest(artifact))
    edited(store, artifact)
    is_of_pieces = edited is of_pieces_only
    (finding,) = findings_of(verify(store, [artifact], only=["sha256"]))
    file = CHECKPOINT if is_of_pieces else artifact.pieces
    assert finding.file == f"{artifact.base}/{file}"
    assert finding.remedy == "dagster asset materialize --select 'micro_mtp'"
    assert ("although each piece is as pieces.json has it" in finding.found) == is_of_pieces
    about = store.catalogue["storage_release"]
    assert "micro_mtp" in str(findings_of(verify(store, [about], only=["release"])))
    assert DOORS["gc"](store, artifact, tmp_path)
    assert find_damage(store, artifact).files == (file,)
    assert repair_one(store, artifact, dry_run=True)[1] == 1
    with pytest.raises(CorruptArtifact, match="contradict"):
        _read(store.folder(artifact))
    (tmp_path / "to").mkdir()
    with pytest.raises(PublishError, match="does not pass the rule sha256"):
        publish(store, [artifact], at(tmp_path / "to"))
    assert not (tmp_path / "to/MANIFEST.json").exists()


def test_consistent_edit_is_found_by_the_release(store: Store) -> None:
    """Tensor, pieces, SHA256SUMS and manifest: nothing contradicts itself, and the release does not
    know it. What is compared with is ``RELEASE.json``, nothing that lies beside the artifact."""
    artifact, about = store.catalogue["micro_mtp"], store.catalogue["storage_release"]
    of_pieces_only(store, artifact)
    follow(store, artifact)
    verdicts = verify(store, [about, artifact], only=("release", "sha256"))
    (finding,) = findings_of(verdicts)
    assert (finding.rule, finding.place) == ("release", "artifacts.micro_mtp")
