"""A real checkpoint on its way: with its own rules, its value head, and what shares its folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from wmtp_assets.base.child import stop
from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact, PublishError
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.checkpoints.beside import forget_value_head, record_value_head
from wmtp_assets.checkpoints.params import MetaParams
from wmtp_assets.destinations.file import Folder
from wmtp_assets.destinations.listing import MANIFEST
from wmtp_assets.operations import publish as selection
from wmtp_assets.operations.publish import Options, publish
from wmtp_assets.operations.pull import choose, pull, read_listing
from wmtp_assets.operations.verify import Verdict, exit_code, verify
from wmtp_assets.rules.findings import Finding, Outcome, Problem
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.destinations.trees import (
    at,
    files_below,
)
from wmtp_assets_tests.light import light_environment
from wmtp_assets_tests.trees import damage, link_tree, reseal

KEYS = (tiny.RAW, tiny.TOKENIZER, tiny.SAFETENSORS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a tiny model that has a value head; for reading only."""
    store = tiny.make_store(tmp_path_factory.mktemp("made") / "storage")
    params = tiny.PARAMS | {"vocab_size": 32_000}
    tiny.commit_raw(store, tiny.random_tensors(MetaParams.model_validate(params)), params)
    tiny.make(store, tiny.TOKENIZER, tiny.SAFETENSORS)
    artifact = store.catalogue[tiny.SAFETENSORS]
    save_file({"weight": torch.ones(32, 1)}, store.path(artifact, VALUE_HEAD))
    record_value_head(store, artifact, 32, "stage-1")
    return store.root


@pytest.fixture
def model_store(made: Path, tmp_path: Path) -> Store:
    """A copy of :func:`made`; change files through :func:`damage` only."""
    link_tree(made, tmp_path / "storage")
    return tiny.make_store(tmp_path / "storage")


def artifacts(store: Store) -> list[Artifact]:
    return [store.catalogue[key] for key in KEYS]


def test_there_and_back(model_store: Store, folder: Folder, tmp_path: Path) -> None:
    """The files of three assets share one folder, and a value head is recorded in a manifest that
    was amended: on the node every byte is the same, and every rule holds."""
    publish(model_store, artifacts(model_store), folder)
    node = tiny.make_store(tmp_path / "node")
    listing = read_listing(folder)
    for artifact in choose(node, listing, ["tiny-model"]):
        pull(node, artifact, folder, listing)
    assert files_below(node.root) == files_below(model_store.root)
    assert exit_code(verify(node, artifacts(node), lambda verdict: None)) == 0


def test_value_head_that_was_trained_again(
    model_store: Store, folder: Folder, tmp_path: Path
) -> None:
    """Only it and the manifest that records it are sent, and fetched once the old one is away."""
    publish(model_store, artifacts(model_store), folder)
    node = tiny.make_store(tmp_path / "node")
    link_tree(model_store.root, node.root)
    artifact = model_store.catalogue[tiny.SAFETENSORS]
    head = model_store.path(artifact, VALUE_HEAD)
    head.unlink()
    save_file({"weight": torch.zeros(32, 1)}, head)
    record_value_head(model_store, artifact, 32, "stage-2")
    destination = at(folder.root)
    publish(model_store, artifacts(model_store), destination)
    expected = head.stat().st_size + model_store.manifest_path(artifact).stat().st_size
    assert destination.payload == expected
    with pytest.raises(PublishError, match="is another value head than the published one"):
        pull(node, artifact, destination, read_listing(destination))
    node.path(artifact, VALUE_HEAD).rename(tmp_path / "old_head")
    assert pull(node, artifact, destination, read_listing(destination)).fetched == expected
    assert files_below(node.root) == files_below(model_store.root)


def test_value_head_is_not_unpublished_by_a_machine_that_has_none(
    model_store: Store, folder: Folder
) -> None:
    """The same checkpoint without its head was published, and with --delete the only head was
    removed. It must be asked for."""
    publish(model_store, artifacts(model_store), folder)
    artifact = model_store.catalogue[tiny.SAFETENSORS]
    forget_value_head(model_store, artifact)
    model_store.path(artifact, VALUE_HEAD).unlink()
    before = files_below(folder.root)
    with pytest.raises(PublishError, match="has no value head here: it would be published no lon"):
        publish(model_store, artifacts(model_store), folder, Options(delete=True))
    assert files_below(folder.root) == before
    publish(model_store, artifacts(model_store), folder, Options(delete=True, overwrite=True))
    assert not (folder.root / artifact.base / VALUE_HEAD).exists()


def record_another(node: Store, artifact: Artifact) -> bytes:
    """Train and record a value head on the node; its bytes."""
    head = node.path(artifact, VALUE_HEAD)
    head.unlink(missing_ok=True)
    save_file({"weight": torch.full((32, 1), 7.0)}, head)
    record_value_head(node, artifact, 32, "stage-9")
    return head.read_bytes()


def test_value_head_of_the_node_is_never_replaced(
    model_store: Store, folder: Folder, tmp_path: Path
) -> None:
    """It may be the only copy of a training run: refused before anything is fetched, and the record
    stays too."""
    publish(model_store, artifacts(model_store), folder)
    node = tiny.make_store(tmp_path / "node")
    link_tree(model_store.root, node.root)
    artifact = node.catalogue[tiny.SAFETENSORS]
    mine = record_another(node, artifact)
    before = files_below(node.root)
    with pytest.raises(PublishError, match="is another value head than the published one"):
        pull(node, artifact, folder, read_listing(folder))
    assert files_below(node.root) == before
    assert node.path(artifact, VALUE_HEAD).read_bytes() == mine


def test_value_head_that_is_put_there_meanwhile(
    model_store: Store, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training ends while a pull commits: nobody overwrites what it wrote."""
    publish(model_store, artifacts(model_store), folder)
    node = tiny.make_store(tmp_path / "node")
    artifact = node.catalogue[tiny.SAFETENSORS]
    commit, mine = Store.commit, b"trained meanwhile"

    def overtaken(self: Store, *args: Any, **kwargs: Any) -> object:
        done = commit(self, *args, **kwargs)
        node.path(artifact, VALUE_HEAD).write_bytes(mine)
        return done

    monkeypatch.setattr(Store, "commit", overtaken)
    with pytest.raises(PublishError, match="was just put there"):
        pull(node, artifact, folder, read_listing(folder))
    assert node.path(artifact, VALUE_HEAD).read_bytes() == mine


def test_value_head_that_is_put_there_while_files_are_fetched(
    model_store: Store, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen before anything is committed beside it, not after."""
    publish(model_store, artifacts(model_store), folder)
    node = tiny.make_store(tmp_path / "node")
    artifact = node.catalogue[tiny.SAFETENSORS]
    head, read = node.path(artifact, VALUE_HEAD), Folder.read

    def overtaken(self: Folder, path: str, start: int = 0) -> Iterator[bytes]:
        if path != MANIFEST:
            head.parent.mkdir(parents=True, exist_ok=True)
            head.write_bytes(b"trained meanwhile")
        return read(self, path, start)

    monkeypatch.setattr(Folder, "read", overtaken)
    with pytest.raises(PublishError, match="is another value head than the published one"):
        pull(node, artifact, folder, read_listing(folder))
    assert files_below(node.root) == {f"{artifact.base}/{VALUE_HEAD}": b"trained meanwhile"}


def test_recorded_value_head_is_not_forgotten(
    model_store: Store, folder: Folder, tmp_path: Path
) -> None:
    """Published without one: what the node recorded would be a stray file."""
    head = model_store.catalogue[tiny.SAFETENSORS]
    forget_value_head(model_store, head)
    model_store.path(head, VALUE_HEAD).unlink()
    publish(model_store, artifacts(model_store), folder)
    node = tiny.make_store(tmp_path / "node")
    link_tree(model_store.root, node.root)
    artifact = node.catalogue[tiny.SAFETENSORS]
    mine = record_another(node, artifact)
    with pytest.raises(PublishError, match="wmtp value-head tiny-model --forget"):
        pull(node, artifact, folder, read_listing(folder))
    forget_value_head(node, artifact)
    pull(node, artifact, folder, read_listing(folder))
    assert node.path(artifact, VALUE_HEAD).read_bytes() == mine


def test_value_head_that_is_not_the_recorded_one(
    model_store: Store, folder: Folder, tmp_path: Path
) -> None:
    """MANIFEST.json and the artifact's own manifest must agree about it."""
    publish(model_store, artifacts(model_store), folder)
    listing = read_listing(folder)
    path = f"{model_store.catalogue[tiny.SAFETENSORS].base}/{VALUE_HEAD}"
    files = listing.artifacts[tiny.SAFETENSORS].files
    files[path] = files[path].model_copy(update={"sha256": "0" * 64})
    node = tiny.make_store(tmp_path / "node")
    with pytest.raises(PublishError, match="contradict each other about tiny_safetensors"):
        pull(node, node.catalogue[tiny.SAFETENSORS], folder, listing)


def test_rule_about_the_content(model_store: Store, folder: Folder) -> None:
    """All hashes are right, and the label lies: not a byte is sent."""
    reseal(model_store, model_store.catalogue[tiny.SAFETENSORS], dtype="bfloat16")
    with pytest.raises(PublishError, match=f"nothing was sent: {tiny.SAFETENSORS} does not pass"):
        publish(model_store, artifacts(model_store), folder)
    assert files_below(folder.root) == {}


def test_warnings_stop_nothing(
    model_store: Store, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream itself has what they are about; beside one, a finding that is none still does."""

    def found(problem: Problem) -> Verdict:
        place = ("tokenizer/tokenizer.model", "line 1", "one", "two", "look at it")
        finding = Finding("twins", tiny.TOKENIZER, problem, *place)
        return Verdict(tiny.TOKENIZER, "twins", Outcome([finding]))

    def with_findings(*problems: Problem) -> Callable[..., list[Verdict]]:
        added = [found(problem) for problem in problems]
        return lambda *args, **kwargs: [*verify(*args, **kwargs), *added]

    monkeypatch.setattr(selection, "verify", with_findings("warning", "corrupt"))
    with pytest.raises(PublishError, match="does not pass the rule twins"):
        publish(model_store, artifacts(model_store), folder)
    monkeypatch.setattr(selection, "verify", with_findings("warning"))
    publish(model_store, artifacts(model_store), folder)
    assert read_listing(folder).artifacts.keys() == {*KEYS}


def test_rule_that_cannot_be_applied(
    model_store: Store, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a library is missing a rule is skipped; skipped is not passed."""
    light_environment(tmp_path / "light")
    monkeypatch.syspath_prepend(tmp_path / "light")
    stop()  # the child that applies rules starts anew, without the libraries
    try:
        with pytest.raises(PublishError, match="the rule tokenizer was not applied to tiny_token"):
            publish(model_store, artifacts(model_store), folder)
    finally:
        stop()
    assert files_below(folder.root) == {}


def test_artifact_that_cannot_be_read(model_store: Store, folder: Folder) -> None:
    """Not materialized; without its recorded value head; with a manifest that was changed."""
    with pytest.raises(MissingArtifact, match="tiny_micro has not been materialized"):
        publish(model_store, [model_store.catalogue[tiny.MICRO]], folder)
    artifact = model_store.catalogue[tiny.SAFETENSORS]
    head = model_store.path(artifact, VALUE_HEAD)
    shutil.copy(head, folder.root.parent / "head")
    head.unlink()
    with pytest.raises(CorruptArtifact, match=r"is recorded in metadata.json, but is not"):
        publish(model_store, [artifact], folder)
    shutil.move(folder.root.parent / "head", head)
    damage(model_store.manifest_path(artifact), lambda data: data[:-2])
    with pytest.raises(CorruptArtifact):
        publish(model_store, [artifact], folder)
    assert files_below(folder.root) == {}
