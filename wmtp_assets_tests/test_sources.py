"""One code path for the sample and the real hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets.base.errors import DownloadError, InvalidInput, StoreError
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, Spec, load_specs
from wmtp_assets.kinds.registry import expand, load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.sample.server import serve
from wmtp_assets.sample.tokenizer import MODEL_SHA256
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.examples import EPOCH
from wmtp_assets_tests.quick import thinned


def _pinned_to_the_sample(spec: Spec) -> Spec:
    """The spec as it would be if the sample's tokenizer and commits were the real ones."""
    if isinstance(spec, DatasetSpec):
        repository = spec.repository.model_copy(update={"revision": None})
        return spec.model_copy(update={"repository": repository})
    if not isinstance(spec, ModelSpec):
        return spec
    tokenizer = spec.tokenizer.model_copy(update={"sha256": MODEL_SHA256})
    return spec.model_copy(update={"tokenizer": tokenizer})


OF_ONE_DATASET = (
    "meta_llama_mtp_raw",
    "meta_llama_mtp_tokenizer",
    "humaneval_raw",
    "humaneval_processed",
    "humaneval_pairs",
    "humaneval_small",
)


@pytest.mark.parametrize("name", thinned(["of one dataset", "all"], ["of one dataset"]))
def test_hub_makes_the_same_artifacts(
    sample_folder: Path,
    good_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """What is tested on the sample is what runs on the real hub: same bytes in and out."""
    catalogue = expand([_pinned_to_the_sample(spec) for spec in load_specs()])
    store = Store(Settings("hub", tmp_path / "storage"), catalogue)
    sample = Store(Settings("sample", good_root), load_catalogue())
    with serve(sample_folder) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        for artifact in catalogue:
            if name != "all" and artifact.key not in OF_ONE_DATASET:
                continue
            made = materialize(store, artifact)
            if artifact.is_generated and artifact.kind != "parameters":
                continue  # they say which source they are of
            of_sample = sample.manifest(artifact)
            assert made.content_sha256 == of_sample.content_sha256
            if artifact.kind != "parameters":  # of many sources
                assert made.document["source"]["endpoint"] == "mirror"
                assert of_sample.document["source"]["endpoint"] == "sample"


def test_pinned_tokenizer_is_required_of_the_hub(
    sample_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that serves another tokenizer of 32,000 pieces is refused before its large files."""
    store = Store(Settings("hub", tmp_path / "storage"), load_catalogue())
    with serve(sample_folder) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(InvalidInput, match=r"another tokenizer: .*expected 9e556afd"):
            materialize(store, store.catalogue["meta_llama_mtp_raw"])
    assert not (store.root / "models_v2/meta-llama-mtp").exists()


def test_pinned_commit_is_required_of_the_hub(
    sample_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that has another commit at the head of main is not taken for the pinned one."""
    store = Store(Settings("hub", tmp_path / "storage"), load_catalogue())
    revision = "802411c3010cb00d1b05bad57ca77365a3c699d6"
    with serve(sample_folder) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(DownloadError, match=f"has no revision '{revision}' at {url}"):
            materialize(store, store.catalogue["codecontests_raw"])
    assert not (store.root / "datasets_v2").exists()


def test_sources_never_share_a_root(tmp_path: Path) -> None:
    """Sample weights under the real root would be trained on by somebody."""
    sample = Store(Settings("sample", tmp_path), load_catalogue())
    materialize(sample, sample.catalogue["humaneval_raw"])
    hub = Store(Settings("hub", tmp_path), load_catalogue())
    with pytest.raises(StoreError, match=r"holds artifacts of the source 'sample'"):
        materialize(hub, hub.catalogue["humaneval_raw"])
