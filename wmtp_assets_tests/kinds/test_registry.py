"""Layout: the contract of paths with the training code, and the order of the graph."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from wmtp_assets.base.errors import SpecError
from wmtp_assets.catalogue.artifact import INTERNAL, TOP_FOLDERS, VALUE_HEAD, Artifact
from wmtp_assets.catalogue.specs import (
    DatasetSpec,
    MicroShape,
    MicroSpec,
    ModelSpec,
    SnapshotSpec,
    Spec,
    TokenizerSpec,
    load_specs,
)
from wmtp_assets.kinds.registry import expand, load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.catalogue.shipped import artifacts_of

CATALOGUE = load_catalogue()

SPECS = {spec.name: spec for spec in load_specs()}


Kind = TypeVar("Kind", bound=Spec)


def spec_of(name: str, kind: type[Kind]) -> Kind:
    """The shipped spec ``name``."""
    spec = SPECS[name]
    assert isinstance(spec, kind)
    return spec


MODEL = spec_of("meta_llama_mtp", ModelSpec)
REFERENCE = spec_of("ref_sheared_llama", ModelSpec)
REWARD = spec_of("starling_rm", ModelSpec)
MICRO = spec_of("micro_mtp", MicroSpec)
DATASET = spec_of("humaneval", DatasetSpec)
CONTESTS = spec_of("codecontests", DatasetSpec)
SNAPSHOT = spec_of("parameter_snapshot", SnapshotSpec)

MICROS = ("micro_mtp", "micro_mtp_untied", "micro_ref", "micro_ref_untied")
CHECKPOINT = ("safetensors", "configs")
MICRO_MODEL = ("safetensors", "tokenizer", "configs")
ROWS = ("processed", "index")
PATHS = {
    "meta_llama_mtp_raw": ("models_v2/meta-llama-mtp", "raw.metadata.json", ("raw",)),
    "meta_llama_mtp_tokenizer": ("models_v2/meta-llama-mtp/tokenizer", "metadata.json", ()),
    "meta_llama_mtp_safetensors": ("models_v2/meta-llama-mtp", "metadata.json", CHECKPOINT),
    "meta_llama_mtp_bf16": ("models_v2/meta-llama-mtp/safetensors-bf16", "metadata.json", ()),
    "ref_sheared_llama_raw": ("models_v2/ref-sheared-llama-2.7b", "raw.metadata.json", ("raw",)),
    "ref_sheared_llama_tokenizer": (
        "models_v2/ref-sheared-llama-2.7b/tokenizer",
        "metadata.json",
        (),
    ),
    "ref_sheared_llama_safetensors": (
        "models_v2/ref-sheared-llama-2.7b",
        "metadata.json",
        CHECKPOINT,
    ),
    "starling_rm_raw": ("models_v2/starling-rm-7b", "raw.metadata.json", ("raw",)),
    "starling_rm_tokenizer": ("models_v2/starling-rm-7b/tokenizer", "metadata.json", ()),
    "starling_rm_safetensors": ("models_v2/starling-rm-7b", "metadata.json", CHECKPOINT),
    "micro_mtp": ("models_v2/micro-mtp", "metadata.json", MICRO_MODEL),
    "micro_mtp_untied": ("models_v2/micro-mtp-untied", "metadata.json", MICRO_MODEL),
    "micro_ref": ("models_v2/micro-ref", "metadata.json", MICRO_MODEL),
    "micro_ref_untied": ("models_v2/micro-ref-untied", "metadata.json", MICRO_MODEL),
    "codecontests_raw": ("datasets_v2/codecontests", "raw.metadata.json", ("raw",)),
    "codecontests_processed": ("datasets_v2/codecontests", "metadata.json", ROWS),
    "codecontests_pairs": ("datasets_v2/codecontests/pairs", "metadata.json", ()),
    "codecontests_small": ("datasets_local_small/codecontests_small", "metadata.json", ()),
    "codecontests_stats": ("datasets_v2/codecontests/stats", "metadata.json", ()),
    "codecontests_tests": ("datasets_v2/codecontests/tests", "metadata.json", ()),
    "gsm8k_raw": ("datasets_v2/gsm8k", "raw.metadata.json", ("raw",)),
    "gsm8k_processed": ("datasets_v2/gsm8k", "metadata.json", ROWS),
    "gsm8k_pairs": ("datasets_v2/gsm8k/pairs", "metadata.json", ()),
    "gsm8k_small": ("datasets_local_small/gsm8k_small", "metadata.json", ()),
    "gsm8k_stats": ("datasets_v2/gsm8k/stats", "metadata.json", ()),
    "humaneval_raw": ("datasets_v2/humaneval", "raw.metadata.json", ("raw",)),
    "humaneval_processed": ("datasets_v2/humaneval", "metadata.json", ROWS),
    "humaneval_pairs": ("datasets_v2/humaneval/pairs", "metadata.json", ()),
    "humaneval_small": ("datasets_local_small/humaneval_small", "metadata.json", ()),
    "humaneval_stats": ("datasets_v2/humaneval/stats", "metadata.json", ()),
    "mbpp_raw": ("datasets_v2/mbpp", "raw.metadata.json", ("raw",)),
    "mbpp_processed": ("datasets_v2/mbpp", "metadata.json", ROWS),
    "mbpp_pairs": ("datasets_v2/mbpp/pairs", "metadata.json", ()),
    "mbpp_small": ("datasets_local_small/mbpp_small", "metadata.json", ()),
    "mbpp_stats": ("datasets_v2/mbpp/stats", "metadata.json", ()),
    "parameter_snapshot": ("configs", "metadata.json", ()),
    **{
        f"{name}_card": (
            f"models_v2/{folder}",
            "README.metadata.json",
            ("README.md", "bom.cdx.json"),
        )
        for name, folder in {
            "meta_llama_mtp": "meta-llama-mtp",
            "ref_sheared_llama": "ref-sheared-llama-2.7b",
            "starling_rm": "starling-rm-7b",
            **{name: name.replace("_", "-") for name in MICROS},
        }.items()
    },
    **{
        f"{name}_card": (
            f"datasets_v2/{name}",
            "README.metadata.json",
            ("README.md", "bom.cdx.json"),
        )
        for name in ("codecontests", "gsm8k", "humaneval", "mbpp")
    },
    **{
        f"{name}_croissant": (
            f"datasets_v2/{name}",
            "croissant.metadata.json",
            ("croissant.json",),
        )
        for name in ("codecontests", "gsm8k", "humaneval", "mbpp")
    },
    **{
        key: ("docs", f"{file.split('.')[0]}.metadata.json", (file,))
        for key, file in {
            "storage_readme": "README.md",
            "asset_inventory": "phase1_asset_inventory.md",
            "migration_notes": "migration_notes.md",
            "storage_release": "RELEASE.json",
            "completion_report": "phase1_completion_report.md",
        }.items()
    },
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
        ("meta_llama_mtp_tokenizer", VALUE_HEAD, True),
        ("meta_llama_mtp_bf16", "model.safetensors", True),
        ("meta_llama_mtp_bf16", VALUE_HEAD, True),
        ("codecontests_processed", "processed/train.jsonl", True),
        ("codecontests_processed", "processed/metadata.json", True),
        ("codecontests_processed", "index/train.offsets", True),
        ("codecontests_processed", "metadata.json", True),
        ("codecontests_processed", "raw.metadata.json", False),
        ("codecontests_processed", "raw/data/train-00000-of-00001.parquet", False),
        ("codecontests_processed", "tests/metadata.json", False),
        ("codecontests_processed", "processed.old/train.jsonl", False),
        ("codecontests_processed", "index", True),
        ("codecontests_raw", "metadata.json", False),
        ("codecontests_raw", "index/train.offsets", False),
        ("codecontests_tests", "processed/train.jsonl", True),
    ],
)
def test_ownership_goes_by_whole_names(key: str, path: str, owned: bool) -> None:
    """``safetensors-bf16/`` begins like ``safetensors/`` and belongs to another asset; raw and
    processed rows lie in one folder, each with a manifest of its own."""
    assert CATALOGUE[key].is_owner(path) is owned
    assert CATALOGUE[key].is_carried_over(path) is not owned


@pytest.mark.parametrize(
    "key", [key for key in PATHS if PATHS[key][2] in (CHECKPOINT, MICRO_MODEL)]
)
@pytest.mark.parametrize("guest", [VALUE_HEAD])
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
        catalogue = expand(order)
        keys = [artifact.key for artifact in catalogue]
        for artifact in catalogue:
            assert all(keys.index(key) < keys.index(artifact.key) for key in artifact.upstream)


def test_upstream_is_what_is_read() -> None:
    """Lineage: Dagster shows these edges and stops a damaged artifact from flowing along them."""
    keys = tuple(artifact.key for artifact in CATALOGUE)
    assert {artifact.key: artifact.upstream for artifact in CATALOGUE} == {
        "meta_llama_mtp_raw": (),
        "meta_llama_mtp_tokenizer": ("meta_llama_mtp_raw",),
        "meta_llama_mtp_safetensors": ("meta_llama_mtp_raw", "meta_llama_mtp_tokenizer"),
        "meta_llama_mtp_bf16": ("meta_llama_mtp_raw", "meta_llama_mtp_tokenizer"),
        "ref_sheared_llama_raw": (),
        "ref_sheared_llama_tokenizer": ("ref_sheared_llama_raw",),
        "ref_sheared_llama_safetensors": ("ref_sheared_llama_raw", "ref_sheared_llama_tokenizer"),
        "starling_rm_raw": (),
        "starling_rm_tokenizer": ("meta_llama_mtp_tokenizer",),
        "starling_rm_safetensors": ("starling_rm_raw", "starling_rm_tokenizer"),
        **dict.fromkeys(
            ("micro_mtp", "micro_mtp_untied"),
            ("meta_llama_mtp_safetensors", "meta_llama_mtp_tokenizer"),
        ),
        **dict.fromkeys(
            ("micro_ref", "micro_ref_untied"),
            ("ref_sheared_llama_safetensors", "ref_sheared_llama_tokenizer"),
        ),
        "codecontests_raw": (),
        "codecontests_processed": ("codecontests_raw", "meta_llama_mtp_tokenizer"),
        "codecontests_pairs": ("codecontests_processed",),
        "codecontests_small": ("codecontests_processed",),
        "codecontests_stats": ("codecontests_processed",),
        "codecontests_tests": ("codecontests_raw",),
        "gsm8k_raw": (),
        "gsm8k_processed": ("gsm8k_raw", "meta_llama_mtp_tokenizer"),
        "gsm8k_pairs": ("gsm8k_processed",),
        "gsm8k_small": ("gsm8k_processed",),
        "gsm8k_stats": ("gsm8k_processed",),
        "humaneval_raw": (),
        "humaneval_processed": ("humaneval_raw", "meta_llama_mtp_tokenizer"),
        "humaneval_pairs": ("humaneval_processed",),
        "humaneval_small": ("humaneval_processed",),
        "humaneval_stats": ("humaneval_processed",),
        "mbpp_raw": (),
        "mbpp_processed": ("mbpp_raw", "meta_llama_mtp_tokenizer"),
        "mbpp_pairs": ("mbpp_processed",),
        "mbpp_small": ("mbpp_processed",),
        "mbpp_stats": ("mbpp_processed",),
        "parameter_snapshot": (
            "meta_llama_mtp_safetensors",
            "meta_llama_mtp_bf16",
            "ref_sheared_llama_safetensors",
            "starling_rm_safetensors",
            *MICROS,
        ),
        **{
            f"{name}_card": (f"{name}_raw", f"{name}_tokenizer", f"{name}_safetensors")
            for name in ("meta_llama_mtp", "ref_sheared_llama", "starling_rm")
        },
        **{f"{name}_card": (name,) for name in MICROS},
        **{
            f"{name}_{part}": (f"{name}_processed",)
            for part in ("card", "croissant")
            for name in ("codecontests", "gsm8k", "humaneval", "mbpp")
        },
        **dict.fromkeys(
            ("storage_readme", "asset_inventory", "migration_notes", "storage_release"), keys[:51]
        ),
        "completion_report": keys[:55],
    }


def test_parent_that_nobody_declares() -> None:
    """Found when the graph is loaded, not after an hour of downloading."""
    orphan = MICRO.model_copy(update={"parent": "meta_lama_mtp"})
    with pytest.raises(SpecError) as error:
        expand([MODEL, orphan])
    assert str(error.value) == (
        "micro_mtp: parent: no defs.yaml declares the model meta_lama_mtp; known: meta_llama_mtp"
    )


def test_parent_that_is_a_micro_model() -> None:
    """A micro model has no separate safetensors asset to be cut from."""
    child = MICRO.model_copy(update={"name": "tiny", "folder": "tiny", "parent": "micro_mtp"})
    with pytest.raises(
        SpecError, match=r"tiny: parent: no defs\.yaml declares the model micro_mtp;"
    ):
        expand([MODEL, MICRO, child])


def test_tokenizer_that_nobody_declares() -> None:
    """As for a parent."""
    lost = DATASET.model_copy(update={"tokenizer": "llama_tokenizer"})
    with pytest.raises(SpecError, match="humaneval_processed is made from llama_tokenizer, which"):
        expand([MODEL, lost])


def test_tests_exist_where_splits_are_for_evaluation() -> None:
    """What judges a solution stands in a dataset of its own or nowhere: MBPP has its assertions in
    the rows, and an asset that is always empty would look like one that is broken."""
    assert [item.key for item in CATALOGUE if item.kind == "tests"] == ["codecontests_tests"]
    without = CONTESTS.model_copy(update={"evaluation": ()})
    assert [item.key for item in artifacts_of(without)] == [
        f"codecontests_{part}"
        for part in ("raw", "processed", "pairs", "small", "stats", "card", "croissant")
    ]


@pytest.mark.parametrize("key", ["meta_llama_mtp_raw", "micro_mtp", "humaneval_stats"])
def test_tokenizer_that_is_none(key: str) -> None:
    """Tokens can only be counted with a tokenizer; an asset of the dataset itself is a circle."""
    wrong = DATASET.model_copy(update={"tokenizer": key})
    with pytest.raises(SpecError, match=f"humaneval counts with {key}, which is not a tokenizer"):
        expand([MODEL, MICRO, wrong])


# -- what is shared, and what may be absent -------------------------------------------------------


@pytest.mark.parametrize("owner", ["nobody", "ref_sheared_llama", "starling_rm", "micro_mtp"])
def test_tokenizer_that_cannot_be_shared(owner: str) -> None:
    """Of a model that has none of its own nothing is known; a circle would prove nothing."""
    sharing = REWARD.model_copy(update={"tokenizer": TokenizerSpec(shared_with=owner)})
    with pytest.raises(SpecError) as error:
        expand([MODEL, REFERENCE, MICRO, sharing])
    assert str(error.value) == (
        f"starling_rm: tokenizer.shared_with: {owner} is not a model with a tokenizer of its own; "
        "those are: meta_llama_mtp"
    )


def test_facts_of_a_shared_tokenizer_are_its_owners() -> None:
    """The pin stands in one spec; a model that shares it is held to the same bytes."""
    own = spec_of("meta_llama_mtp", ModelSpec).tokenizer
    assert own.sha256 is not None
    for spec in (MODEL, REFERENCE, REWARD):
        assert CATALOGUE.tokenizer(spec) == own
    assert CATALOGUE.shared_tokenizer(MODEL) is None
    micro_reference = spec_of("micro_ref", MicroSpec)  # its parent has it from the owner
    for spec in (REFERENCE, REWARD, MICRO, micro_reference):
        assert CATALOGUE.shared_tokenizer(spec) == CATALOGUE["meta_llama_mtp_tokenizer"]


def test_family_of_a_micro_model_is_its_parents() -> None:
    """It is cut from the parent's tensors and keeps their names."""
    named = {name: spec for name, spec in SPECS.items() if isinstance(spec, ModelSpec | MicroSpec)}
    assert {name: CATALOGUE.family(spec) for name, spec in named.items()} == {
        "meta_llama_mtp": "meta_mtp",
        "ref_sheared_llama": "llama",
        "starling_rm": "llama_reward",
        "micro_mtp": "meta_mtp",
        "micro_mtp_untied": "meta_mtp",
        "micro_ref": "llama",
        "micro_ref_untied": "llama",
    }


def test_what_is_optional() -> None:
    """Everything else is what the experiments cannot do without."""
    assert {artifact.key for artifact in CATALOGUE if artifact.optional} == {
        "meta_llama_mtp_bf16",
        "starling_rm_raw",
        "starling_rm_tokenizer",
        "starling_rm_safetensors",
        "micro_mtp_untied",
        "micro_mtp_untied_card",
        "micro_ref_untied",
        "micro_ref_untied_card",
        "gsm8k_raw",
        "gsm8k_processed",
        "gsm8k_pairs",
        "gsm8k_small",
        "gsm8k_stats",
        "gsm8k_card",
        "gsm8k_croissant",
        "starling_rm_card",
    }


def test_dtype_is_declared_of_every_checkpoint() -> None:
    """A variant has a dtype of its own, not its model's."""
    assert {artifact.key: artifact.dtype for artifact in CATALOGUE if artifact.dtype} == {
        "meta_llama_mtp_safetensors": "float16",
        "meta_llama_mtp_bf16": "bfloat16",
        "ref_sheared_llama_safetensors": "float16",
        "starling_rm_safetensors": "float16",
        **dict.fromkeys(MICROS, "float16"),
    }


OPTIONAL_MODEL = MODEL.model_copy(update={"status": "optional"})


@pytest.mark.parametrize("name", ["gsm8k", "codecontests"])
def test_status_of_a_dataset_is_that_of_all_its_artifacts(name: str) -> None:
    """One required part would make everybody download the whole."""
    spec = spec_of(name, DatasetSpec)
    for status in ("required", "optional"):
        made = artifacts_of(spec.model_copy(update={"status": status}))
        assert [item.key for item in made] == [key for key in PATHS if key.startswith(name)]
        assert {item.optional for item in made} == {status == "optional"}
    assert DatasetSpec.model_validate(spec.model_dump(exclude={"status"})).status == "required"


@pytest.mark.parametrize(
    ("specs", "key", "upstream"),
    [
        ([OPTIONAL_MODEL, DATASET], "humaneval_processed", "meta_llama_mtp_tokenizer"),
        (
            [OPTIONAL_MODEL, REWARD.model_copy(update={"status": "required"})],
            "starling_rm_tokenizer",
            "meta_llama_mtp_tokenizer",
        ),
    ],
    ids=["dataset", "shared tokenizer"],
)
def test_required_artifact_is_not_made_from_an_optional_one(
    specs: list[Spec], key: str, upstream: str
) -> None:
    """``make materialize`` leaves optional ones out, and would then fail far from the cause."""
    with pytest.raises(SpecError) as error:
        expand(specs)
    assert str(error.value) == (
        f"{key} is made from {upstream}, which is optional: it may never be there"
    )


def test_optional_artifact_may_be_made_from_an_optional_one() -> None:
    """The parts of an optional model, and models that share its tokenizer; and the snapshot, which
    takes what is there, may be made from any."""
    catalogue = expand([OPTIONAL_MODEL, REWARD, SNAPSHOT])
    assert [item.key for item in catalogue if not item.optional] == ["parameter_snapshot"]


def test_micro_model_of_an_optional_model_is_optional() -> None:
    """It can be made only where its parent is: nobody has to say so twice, nor to remember to."""
    catalogue = expand([OPTIONAL_MODEL, MICRO])
    assert MICRO.status == "required"
    assert [item.key for item in catalogue if not item.optional] == []
    assert {spec.status for spec in catalogue.specs} == {"optional"}
    made = [item.optional for item in expand([MODEL, MICRO]) if item.spec.name == MICRO.name]
    assert made == [False, False]


@pytest.mark.parametrize(
    ("family", "shape", "message"),
    [
        ("any", {}, "parent: meta_llama_mtp is of the family any, .* nothing can be cut from it"),
        ("meta_mtp", {"n_heads": 3, "n_kv_heads": 3}, "shape.dim 512 is not a multiple of .* 3"),
    ],
)
def test_what_cannot_be_cut_is_told_when_specs_are_read(
    family: str, shape: dict[str, int], message: str
) -> None:
    """Not after an hour of downloading; the message names the file."""
    parent = MODEL.model_copy(update={"family": family})
    micro = MICRO.model_copy(update={"shape": MICRO.shape.model_copy(update=shape)})
    with pytest.raises(SpecError, match=message) as error:
        expand([parent, micro])
    assert str(error.value).startswith(micro.where)


def test_a_shape_has_whole_groups() -> None:
    """Of query heads for each key-value head."""
    with pytest.raises(ValidationError, match="n_heads 4 is not a multiple of n_kv_heads 3"):
        MicroShape.model_validate(MICRO.shape.model_dump() | {"n_kv_heads": 3})


# -- selection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PATHS)
def test_select_asset(key: str) -> None:
    """An asset key means that asset alone."""
    assert CATALOGUE.select(key) == (CATALOGUE[key],)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("meta-llama-mtp", ("raw", "tokenizer", "safetensors", "bf16", "card")),
        ("models_v2/meta-llama-mtp/safetensors-bf16", ("bf16",)),
        ("models_v2/meta-llama-mtp", ("raw", "safetensors", "card")),
        ("models_v2/meta-llama-mtp/tokenizer", ("tokenizer",)),
    ],
)
def test_select_folder(name: str, keys: tuple[str, ...]) -> None:
    """People see folders on disk and name what they see."""
    found = [artifact.key for artifact in CATALOGUE.select(name)]
    assert found == [f"meta_llama_mtp_{key}" for key in keys]


def test_select_the_folder_of_the_snapshot() -> None:
    """``configs/`` lies at the top of the root: its name is all there is of its path."""
    assert [item.key for item in CATALOGUE.select("configs")] == ["parameter_snapshot"]


def test_select_dataset_folders() -> None:
    """A dataset's folder means the dataset, its small splits included; those alone by theirs."""
    assert [item.key for item in CATALOGUE.select("humaneval")] == [
        key for key in PATHS if key.startswith("humaneval")
    ]
    assert [item.key for item in CATALOGUE.select("humaneval_small")] == ["humaneval_small"]
    small = CATALOGUE.select("datasets_local_small/humaneval_small")
    assert [item.key for item in small] == ["humaneval_small"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "codecontests",
            ("raw", "processed", "pairs", "small", "stats", "tests", "card", "croissant"),
        ),
        ("datasets_v2/codecontests", ("raw", "processed", "card", "croissant")),
        ("datasets_v2/codecontests/tests", ("tests",)),
        ("datasets_local_small/codecontests_small", ("small",)),
    ],
)
def test_select_codecontests(name: str, parts: tuple[str, ...]) -> None:
    """Tests are part of the dataset: whoever verifies the folder verifies them too."""
    found = [artifact.key for artifact in CATALOGUE.select(name)]
    assert found == [f"codecontests_{part}" for part in parts]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("", ""),
        ("models_v2", ""),
        ("raw", ""),
        ("meta_llama_mtp", "'meta-llama-mtp'"),
        ("humaneval_small/", "'humaneval_small'"),
    ],
)
def test_select_unknown(name: str, meant: str) -> None:
    """The message names what is like it, and the command that lists what there is."""
    with pytest.raises(SpecError, match="neither an asset nor a folder") as error:
        CATALOGUE.select(name)
    said = str(error.value)
    assert ("Did you mean" in said) == bool(meant)
    assert meant in said
    assert said.endswith("All of them: wmtp status")


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
    assert sum(len(artifacts_of(spec)) for spec in CATALOGUE.specs) == len(keys) == 56
    assert keys[-1] == "completion_report"  # of all the others
