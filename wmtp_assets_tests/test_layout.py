"""Layout: the contract of paths with the training code, and the order of the graph."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_assets.errors import SpecError
from wmtp_assets.layout import GUESTS, INTERNAL, TOP_FOLDERS, Artifact, Catalogue, artifacts_of
from wmtp_assets.specs import DatasetSpec, MicroSpec, ModelSpec, load_specs
from wmtp_assets.store import Store

CATALOGUE = Catalogue.load()

MODEL, MICRO, DATASET = (
    next(spec for spec in load_specs() if isinstance(spec, kind))
    for kind in (ModelSpec, MicroSpec, DatasetSpec)
)

PATHS = {
    "meta_llama_mtp_raw": ("models_v2/meta-llama-mtp", "raw.metadata.json", ("raw",)),
    "meta_llama_mtp_tokenizer": ("models_v2/meta-llama-mtp/tokenizer", "metadata.json", ()),
    "meta_llama_mtp_safetensors": (
        "models_v2/meta-llama-mtp",
        "metadata.json",
        ("safetensors", "configs"),
    ),
    "micro_mtp": (
        "models_v2/micro-mtp",
        "metadata.json",
        ("safetensors", "tokenizer", "configs"),
    ),
    "humaneval_raw": ("datasets_v2/humaneval", "raw.metadata.json", ("raw",)),
    "humaneval_processed": ("datasets_v2/humaneval/processed", "metadata.json", ()),
    "humaneval_small": ("datasets_local_small/humaneval_small", "metadata.json", ()),
    "humaneval_stats": ("datasets_v2/humaneval/stats", "metadata.json", ()),
}


def owners(path: str) -> list[str]:
    """Keys of the artifacts that own ``path``, relative to the storage root."""
    return [
        artifact.key
        for artifact in CATALOGUE
        if path.startswith(f"{artifact.base}/")
        and artifact.is_owner(path.removeprefix(f"{artifact.base}/"))
    ]


# -- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PATHS)
def test_paths_are_those_of_the_contract(key: str) -> None:
    """The training code opens these paths; a change here breaks it without any error here."""
    artifact = CATALOGUE[key]
    assert (artifact.base, artifact.manifest, artifact.owns) == PATHS[key]


def test_every_artifact_is_in_the_table() -> None:
    """A new artifact is a new promise: it is written down above."""
    assert {artifact.key for artifact in CATALOGUE} == PATHS.keys()


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            sorted(
                {part for base, _, _ in PATHS.values() for part in base.split("/")}
                | {name for _, _, names in PATHS.values() for name in names}
                | {"metadata.json", "raw.metadata.json", "raw.metadata.json.bak", "model.bin"}
            )
        ),
        min_size=1,
        max_size=5,
    ).map("/".join)
)
def test_no_path_has_two_owners(path: str) -> None:
    """A commit replaces what the asset owns: a second owner would lose its files."""
    assert len(owners(path)) <= 1


def test_every_file_of_the_sample_has_one_owner(good_root: Path) -> None:
    """What nobody owns is hashed by no manifest, and no verification would ever read it."""
    for top in TOP_FOLDERS:
        files = [path for path in (good_root / top).rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert len(owners(path.relative_to(good_root).as_posix())) == 1, path


@pytest.mark.parametrize(
    ("key", "path", "owned"),
    [
        ("meta_llama_mtp_raw", "raw/7B_1T_4/consolidated.pth", True),
        ("meta_llama_mtp_raw", "raw.metadata.json", True),
        ("meta_llama_mtp_raw", "metadata.json", False),
        ("meta_llama_mtp_raw", "rawer/x", False),
        ("meta_llama_mtp_raw", "safetensors/raw/x", False),
        ("meta_llama_mtp_raw", "notes/raw.metadata.json", False),
        ("meta_llama_mtp_safetensors", "metadata.json", True),
        ("meta_llama_mtp_safetensors", "configs/params.json", True),
        ("meta_llama_mtp_safetensors", "safetensors-bf16/model.safetensors", False),
        ("meta_llama_mtp_safetensors", "tokenizer/metadata.json", False),
        ("meta_llama_mtp_tokenizer", "anything/below", True),
    ],
)
def test_ownership_goes_by_whole_names(key: str, path: str, owned: bool) -> None:
    """``safetensors-bf16/`` begins like ``safetensors/`` and belongs to another asset."""
    assert CATALOGUE[key].is_owner(path) is owned
    assert CATALOGUE[key].is_carried_over(path) is not owned


@pytest.mark.parametrize("key", ["meta_llama_mtp_safetensors", "micro_mtp"])
@pytest.mark.parametrize("guest", GUESTS)
def test_guests_are_carried_over(key: str, guest: str) -> None:
    """Training writes its value head beside the checkpoint; no asset can make it again."""
    assert CATALOGUE[key].is_owner(guest)
    assert CATALOGUE[key].is_carried_over(guest)


def test_artifacts_that_share_a_folder_share_a_lock() -> None:
    """Two commits into one folder at a time would carry over each other's half."""
    for one in CATALOGUE:
        for two in CATALOGUE:
            nested = f"{one.base}/".startswith(f"{two.base}/")
            assert not nested or one.unit == two.unit
    assert CATALOGUE["meta_llama_mtp_tokenizer"].unit == "models_v2/meta-llama-mtp"
    assert CATALOGUE["humaneval_small"].unit == "datasets_local_small/humaneval_small"


def test_nothing_lives_among_the_internals() -> None:
    """``.wmtp/`` may be emptied: no artifact may lie in it."""
    assert INTERNAL not in TOP_FOLDERS
    for artifact in CATALOGUE:
        assert artifact.base.split("/")[0] in TOP_FOLDERS


# -- graph ---------------------------------------------------------------------------------------


def test_upstream_comes_first() -> None:
    """Commands make artifacts in this order; out of order the first run of all would fail."""
    seen: set[str] = set()
    for artifact in CATALOGUE:
        assert seen.issuperset(artifact.upstream), artifact.key
        seen.add(artifact.key)


def test_order_of_the_files_does_not_matter() -> None:
    """``datasets/`` sorts before ``models/``, yet is made from a model's tokenizer."""
    specs = load_specs()
    for order in (specs, specs[::-1]):
        catalogue = Catalogue(order)
        keys = [artifact.key for artifact in catalogue]
        for artifact in catalogue:
            assert all(keys.index(key) < keys.index(artifact.key) for key in artifact.upstream)


def test_upstream_is_what_is_read() -> None:
    """Lineage: Dagster shows these edges and stops a damaged artifact from flowing along them."""
    assert {artifact.key: artifact.upstream for artifact in CATALOGUE} == {
        "meta_llama_mtp_raw": (),
        "meta_llama_mtp_tokenizer": ("meta_llama_mtp_raw",),
        "meta_llama_mtp_safetensors": ("meta_llama_mtp_raw", "meta_llama_mtp_tokenizer"),
        "micro_mtp": ("meta_llama_mtp_safetensors", "meta_llama_mtp_tokenizer"),
        "humaneval_raw": (),
        "humaneval_processed": ("humaneval_raw", "meta_llama_mtp_tokenizer"),
        "humaneval_small": ("humaneval_processed",),
        "humaneval_stats": ("humaneval_processed", "meta_llama_mtp_tokenizer"),
    }


@pytest.mark.parametrize("spec", [MODEL, MICRO, DATASET], ids=lambda spec: spec.name)
def test_names_of_a_family_are_those_of_its_spec(spec: ModelSpec | MicroSpec | DatasetSpec) -> None:
    """Clashes are looked for among a spec's ``artifact_names``: none may be missing."""
    assert tuple(artifact.key for artifact in artifacts_of(spec)) == spec.artifact_names


def test_parent_that_nobody_declares() -> None:
    """Found when the graph is loaded, not after an hour of downloading."""
    orphan = MICRO.model_copy(update={"parent": "meta_lama_mtp"})
    with pytest.raises(SpecError) as error:
        Catalogue([MODEL, orphan])
    message = str(error.value)
    assert message.startswith(
        "micro_mtp is made from meta_lama_mtp_safetensors, which no defs.yaml"
    )
    assert "meta_llama_mtp_safetensors" in message


def test_parent_that_is_a_micro_model() -> None:
    """A micro model has no separate safetensors asset to be cut from."""
    child = MICRO.model_copy(update={"name": "tiny", "folder": "tiny", "parent": "micro_mtp"})
    with pytest.raises(SpecError, match="tiny is made from micro_mtp_safetensors, which no"):
        Catalogue([MODEL, MICRO, child])


def test_tokenizer_that_nobody_declares() -> None:
    """As for a parent."""
    lost = DATASET.model_copy(update={"tokenizer": "llama_tokenizer"})
    with pytest.raises(SpecError, match="humaneval_processed is made from llama_tokenizer, which"):
        Catalogue([MODEL, lost])


@pytest.mark.parametrize("key", ["meta_llama_mtp_raw", "micro_mtp", "humaneval_stats"])
def test_tokenizer_that_is_none(key: str) -> None:
    """Tokens can only be counted with a tokenizer; an asset of the dataset itself is a circle."""
    wrong = DATASET.model_copy(update={"tokenizer": key})
    with pytest.raises(SpecError, match=f"humaneval counts with {key}, which is no tokenizer"):
        Catalogue([MODEL, MICRO, wrong])


# -- selection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PATHS)
def test_select_asset(key: str) -> None:
    """An asset key means that asset alone."""
    assert CATALOGUE.select(key) == (CATALOGUE[key],)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("meta-llama-mtp", ("raw", "tokenizer", "safetensors")),
        ("models_v2/meta-llama-mtp", ("raw", "safetensors")),
        ("models_v2/meta-llama-mtp/tokenizer", ("tokenizer",)),
    ],
)
def test_select_folder(name: str, keys: tuple[str, ...]) -> None:
    """People see folders on disk and name what they see."""
    found = [artifact.key for artifact in CATALOGUE.select(name)]
    assert found == [f"meta_llama_mtp_{key}" for key in keys]


def test_select_dataset_folders() -> None:
    """A dataset's folder means the dataset, its small splits included; those alone by theirs."""
    assert [item.key for item in CATALOGUE.select("humaneval")] == list(DATASET.artifact_names)
    assert [item.key for item in CATALOGUE.select("humaneval_small")] == ["humaneval_small"]
    small = CATALOGUE.select("datasets_local_small/humaneval_small")
    assert [item.key for item in small] == ["humaneval_small"]


@pytest.mark.parametrize("name", ["", "models_v2", "meta_llama_mtp", "raw", "humaneval_small/"])
def test_select_unknown(name: str) -> None:
    """The message lists what there is."""
    with pytest.raises(SpecError, match="neither an asset nor a folder") as error:
        CATALOGUE.select(name)
    assert all(key in str(error.value) for key in PATHS)


def test_artifact_is_where_the_store_looks(store: Store) -> None:
    """Every committed file of the sample lies at root / base / name, and its manifest beside."""
    for artifact in store.catalogue:
        assert isinstance(artifact, Artifact)
        assert store.manifest_path(artifact).is_file()
        for name in store.manifest(artifact).files:
            assert (store.root / artifact.base / name).is_file()
            assert artifact.is_owner(name)


def test_catalogue_lists_each_artifact_once() -> None:
    """Iteration drives the commands: one artifact twice would be made twice."""
    keys = [artifact.key for artifact in CATALOGUE]
    assert all(one != two for one, two in pairwise(sorted(keys)))
    assert sum(len(artifacts_of(spec)) for spec in CATALOGUE.specs) == len(keys)
