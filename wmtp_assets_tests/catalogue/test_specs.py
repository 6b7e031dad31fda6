"""Specs: what a ``defs.yaml`` may say, and how sharply a wrong one is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.model import MAX_NAME, relative_path
from wmtp_assets.catalogue.specs import (
    DEFS_FOLDER,
    SPEC_OF_COMPONENT,
    DatasetSpec,
    DocumentSpec,
    MicroSpec,
    ModelSpec,
    Repository,
    SmallSpec,
    SnapshotSpec,
    SplitSpec,
    load_spec,
    load_specs,
)
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets_tests.catalogue.shipped import artifacts_of

SHIPPED = sorted(DEFS_FOLDER.rglob("defs.yaml"))
REMOVED = object()

UNSAFE_NAMES = (
    "",
    ".",
    "..",
    "../params.json",
    "7B/../../params.json",
    "/etc/passwd",
    "//host/share",
    "7B//params.json",
    "./params.json",
    "7B/",
    "7B\\params.json",
    "..\\params.json",
    "params.json\0",
    "7B\nparams.json",
    "7B\x1b[2Jparams.json",
    "params\x7f.json",
    "params\x85.json",
    "params\u202enosj.bin",
    "params\u2066.json",
)


def attributes(name: str) -> dict[str, Any]:
    """The attributes of the shipped spec ``name``, to be changed."""
    documents = [yaml.safe_load(path.read_text()) for path in SHIPPED]
    return next(item["attributes"] for item in documents if item["attributes"]["name"] == name)


def component(name: str) -> str:
    """The component type of the shipped spec ``name``."""
    documents = [yaml.safe_load(path.read_text()) for path in SHIPPED]
    return next(item["type"] for item in documents if item["attributes"]["name"] == name)


def change(document: Any, field: str, value: object) -> None:
    """Set the dotted ``field`` (an integer indexes a list), or remove it."""
    *parents, last = field.split(".")
    for key in parents:
        document = document[int(key)] if isinstance(document, list) else document[key]
    if isinstance(document, list):
        document[int(last)] = value
    elif value is REMOVED:
        del document[last]
    else:
        document[last] = value


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a shipped spec, changed, below ``tmp_path`` and returns the file."""

    def write(name: str, changes: dict[str, object] | None = None, folder: str = "one") -> Path:
        document = {"type": component(name), "attributes": copy.deepcopy(attributes(name))}
        for field, value in (changes or {}).items():
            change(document["attributes"], field, value)
        path = tmp_path / folder / "defs.yaml"
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(document))
        return path

    return write


@pytest.fixture
def text(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Writes a ``defs.yaml`` of any content."""

    def text(content: str | bytes) -> Path:
        path = tmp_path / "defs.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return text


# -- what is shipped -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_file_loads(path: Path) -> None:
    """wmtp reads these files without Dagster: each must be whole by itself."""
    spec = load_spec(path)
    document = yaml.safe_load(path.read_text())
    assert isinstance(spec, SPEC_OF_COMPONENT[document["type"]])
    assert spec.name == path.parent.name
    shown = spec.model_dump(mode="json", exclude_unset=True)
    assert shown == document["attributes"]


def test_shipped_files_load_together() -> None:
    """One graph: no name stands for two artifacts, and the families of the experiments exist."""
    names = {type(spec): spec.name for spec in load_specs()}
    assert names.keys() == {ModelSpec, MicroSpec, DatasetSpec, SnapshotSpec, DocumentSpec}
    assert len(load_specs()) == len(SHIPPED)


def test_component_types_are_those_that_exist() -> None:
    """Dagster and wmtp must read the same file as the same spec, or one of them is wrong."""
    from wmtp_assets import components

    found = {
        f"{components.__name__}.{name}": getattr(components, name).spec_class
        for name in components.__all__
    }
    assert found == SPEC_OF_COMPONENT


def test_spec_is_immutable(write: Write) -> None:
    """A spec is shared by assets, checks and commands: none may change it for the others."""
    spec = load_spec(write("micro_mtp"))
    with pytest.raises(ValidationError, match="frozen"):
        spec.max_bytes = 1  # type: ignore[union-attr]


def test_defaults_and_derived_values() -> None:
    """What a spec leaves out is decided here, once: page on the hub, sizes of the small splits."""
    model = Repository(id="facebook/x", type="model", license="MIT", size="1 MB")
    dataset = Repository(id="google/x", type="dataset", license="MIT", size="1 MB")
    assert model.page == "https://huggingface.co/facebook/x"
    assert dataset.page == "https://huggingface.co/datasets/google/x"
    assert model.revision is None
    assert not model.gated
    assert [SmallSpec().limit(split) for split in ("train", "valid", "test")] == [100, 32, 32]


# -- wrong fields --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["meta_llama_mtp", "micro_mtp", "humaneval", "parameter_snapshot"])
def test_unknown_field(write: Write, name: str) -> None:
    """A misspelt field would otherwise be a silent default."""
    path = write(name, {"descripton": "x"})
    with pytest.raises(SpecError, match=r"attributes\.descripton: Extra inputs") as error:
        load_spec(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["card", "facts", "heading", "readm"])
def test_unknown_document(write: Write, name: str) -> None:
    """A document of one model is none of the storage, and a misspelt one is told what there is."""
    path = write("storage_readme", {"document": name})
    known = "inventory, migration, readme, release, report"
    with pytest.raises(SpecError, match=rf"no document '{name}'; known are: {known}$") as error:
        load_catalogue(path.parent)
    assert str(error.value).startswith(f"{path}: attributes.document: ")


@pytest.mark.parametrize("name", ["../rules", "Readme", "", "of_storage.readme"])
def test_document_is_a_name(write: Write, name: str) -> None:
    """It is imported: it names a module of one folder, and no path."""
    path = write("storage_readme", {"document": name})
    with pytest.raises(SpecError, match=r"attributes\.document: "):
        load_spec(path)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name in ("meta_llama_mtp", "micro_mtp", "humaneval")
        for field in ("name", "folder", "description")
    ]
    + [("parameter_snapshot", field) for field in ("name", "description")]
    + [
        ("meta_llama_mtp", "family"),
        ("meta_llama_mtp", "dtype"),
        ("meta_llama_mtp", "repository.id"),
        ("meta_llama_mtp", "repository.license"),
        ("meta_llama_mtp", "files.checkpoint"),
        ("meta_llama_mtp", "tokenizer"),
        ("micro_mtp", "parent"),
        ("micro_mtp", "shape.dim"),
        ("micro_mtp", "max_bytes"),
        ("humaneval", "converter"),
        ("humaneval", "splits"),
        ("humaneval", "splits.test.files"),
        ("humaneval", "uses"),
    ],
)
def test_missing_field(write: Write, name: str, field: str) -> None:
    """What has no sensible default must be said; the message names the file and the field."""
    path = write(name, {field: REMOVED})
    with pytest.raises(SpecError) as error:
        load_spec(path)
    assert str(error.value) == f"{path}: attributes.{field}: Field required"


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("meta_llama_mtp", "family", "mistral"),
        ("meta_llama_mtp", "status", "wanted"),
        ("meta_llama_mtp", "variants", "bfloat16"),
        ("meta_llama_mtp", "variants.0", "bf16"),
        ("meta_llama_mtp", "tokenizer.shared_with", "meta-llama"),
        ("ref_sheared_llama", "files.shards", "a.bin"),
        ("parameter_snapshot", "folder", "defaults"),
        ("meta_llama_mtp", "dtype", "int8"),
        ("meta_llama_mtp", "dtype", "torch.float16"),
        ("meta_llama_mtp", "repository.type", "space"),
        ("meta_llama_mtp", "repository.id", "no-owner"),
        ("meta_llama_mtp", "repository.id", "a/b/c"),
        ("meta_llama_mtp", "repository.id", "../models"),
        ("meta_llama_mtp", "repository.id", "models/.."),
        ("meta_llama_mtp", "repository.id", ".hidden/x"),
        ("meta_llama_mtp", "repository.id", "facebook/x?revision=1"),
        ("meta_llama_mtp", "repository.revision", "main"),
        ("meta_llama_mtp", "repository.revision", "a1b2c3d"),
        ("meta_llama_mtp", "repository.revision", "A" * 40),
        ("meta_llama_mtp", "repository.revision", "a" * 40 + "\n"),
        ("meta_llama_mtp", "repository.revision", "g" * 40),
        ("meta_llama_mtp", "tokenizer.sha256", "9e556afd"),
        ("meta_llama_mtp", "tokenizer.sha256", "F" * 64),
        ("meta_llama_mtp", "tokenizer.sha256", "f" * 65),
        ("meta_llama_mtp", "tokenizer.vocab_size", 0),
        ("meta_llama_mtp", "name", "Meta"),
        ("meta_llama_mtp", "name", "meta-llama"),
        ("meta_llama_mtp", "name", "a" * 61),
        ("meta_llama_mtp", "folder", ".."),
        ("meta_llama_mtp", "folder", ".wmtp"),
        ("meta_llama_mtp", "folder", "a/b"),
        ("meta_llama_mtp", "folder", "Meta"),
        ("meta_llama_mtp", "folder", ""),
        ("micro_mtp", "parent", "Meta LLaMA"),
        ("micro_mtp", "dtype", "float8"),
        ("micro_mtp", "max_bytes", -1),
        ("micro_mtp", "shape.n_heads", 0),
        ("micro_mtp", "shape.ffn_dim_multiplier", 0),
        ("humaneval", "splits", {}),
        ("humaneval", "splits.test.files", []),
        ("humaneval", "splits.test.rows", -1),
        ("humaneval", "max_tokens", 0),
        ("humaneval", "small", {"train": 0}),
        ("humaneval", "splits.test.raw_only", "maybe"),
        ("humaneval", "uses", []),
        ("humaneval", "uses", ["evaluation", "training"]),
        ("humaneval", "splits.test.held_out", "maybe"),
        ("codecontests", "public_tests", -1),
        ("codecontests", "public_tests", 1.5),
        ("codecontests", "evaluation", "test"),
        ("codecontests", "splits.train.expected.problems", -1),
        ("codecontests", "splits.train.expected.correct", 0.5),
        ("codecontests", "splits.train.expected.incorrect", REMOVED),
        ("codecontests", "splits.train.expected.rows", 1),
        ("codecontests", "splits.train.files", "data/train-*.parquet"),
    ],
)
def test_wrong_value(write: Write, name: str, field: str, value: object) -> None:
    """A wrong value is refused where it is written, not where it is used hours later."""
    path = write(name, {field: value})
    with pytest.raises(SpecError) as error:
        load_spec(path)
    assert str(error.value).startswith(f"{path}: attributes.{field}")


SHARED = {"shared_with": "meta_llama_mtp"}
CONTRADICTIONS: dict[str, tuple[str, dict[str, object], str, str]] = {
    "an index, and no shards": (
        "ref_sheared_llama",
        {"files.shards": REMOVED},
        ".files",
        "shards are named where checkpoint is an .index.json, and only there",
    ),
    "shards, and no index": (
        "ref_sheared_llama",
        {"files.checkpoint": "pytorch_model.bin"},
        ".files",
        "shards are named where checkpoint is an .index.json, and only there",
    ),
    "Meta's family without params.json": (
        "meta_llama_mtp",
        {"files.params": REMOVED, "files.config": "config.json"},
        "",
        "files.params is missing: family meta_mtp needs it",
    ),
    "a llama family without config.json": (
        "ref_sheared_llama",
        {"files.config": REMOVED, "files.params": "params.json"},
        "",
        "files.config is missing: family llama needs it",
    ),
    "the reward family without config.json": (
        "starling_rm",
        {"files.config": REMOVED},
        "",
        "files.config is missing: family llama_reward needs it",
    ),
    "no tokenizer at all": (
        "meta_llama_mtp",
        {"files.tokenizer": REMOVED},
        "",
        "files.tokenizer is missing, and tokenizer.shared_with too",
    ),
    "no facts about the tokenizer": (
        "meta_llama_mtp",
        {"tokenizer": {}},
        ".tokenizer",
        "give either vocab_size or shared_with",
    ),
    "a pin, and no number of pieces": (
        "meta_llama_mtp",
        {"tokenizer": {"sha256": "f" * 64}},
        ".tokenizer",
        "give either vocab_size or shared_with",
    ),
    "facts of its own and another's": (
        "ref_sheared_llama",
        {"tokenizer.vocab_size": 32000},
        ".tokenizer",
        "give either vocab_size or shared_with",
    ),
    "a pin of its own and another's": (
        "ref_sheared_llama",
        {"tokenizer.sha256": "f" * 64},
        ".tokenizer",
        "sha256 is pinned by meta_llama_mtp, which it is shared with",
    ),
    "a pin of the sample's own and another's": (
        "ref_sheared_llama",
        {"tokenizer.sample_sha256": "f" * 64},
        ".tokenizer",
        "sample_sha256 is pinned by meta_llama_mtp, which it is shared with",
    ),
    "no split that is processed": (
        "humaneval",
        {"splits.test.raw_only": True},
        "",
        "splits: all are raw_only, none is processed",
    ),
    "evaluation on a split that there is not": (
        "codecontests",
        {"evaluation": ["valid", "validation", "dev"]},
        "",
        "evaluation: no processed split dev, validation",
    ),
    "evaluation on a split that is not processed": (
        "codecontests",
        {"splits.valid.raw_only": True},
        "",
        "evaluation: no processed split valid",
    ),
    "a variant that is the model": (
        "meta_llama_mtp",
        {"variants": ["float16"]},
        "",
        "variants are other dtypes than float16, each named once",
    ),
    "a variant twice": (
        "meta_llama_mtp",
        {"variants": ["bfloat16", "float32", "bfloat16"]},
        "",
        "variants are other dtypes than float16, each named once",
    ),
}
"""Shipped spec, changes → the place that is named, and what is said."""


@pytest.mark.parametrize(
    ("name", "changes", "place", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys()
)
def test_fields_that_contradict_each_other(
    write: Write, name: str, changes: dict[str, object], place: str, message: str
) -> None:
    """Each field is right by itself: what is wrong is told before 13 GB are downloaded for it."""
    path = write(name, changes)
    with pytest.raises(SpecError) as error:
        load_spec(path)
    assert str(error.value) == f"{path}: attributes{place}: {message}"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("meta_llama_mtp", {"variants": ["bfloat16", "float32"]}),
        ("meta_llama_mtp", {"variants": []}),
        ("meta_llama_mtp", {"tokenizer": {"vocab_size": 32000}}),
        ("meta_llama_mtp", {"tokenizer": SHARED, "files.tokenizer": REMOVED}),
        ("starling_rm", {"files.tokenizer": "tokenizer.model"}),
        ("mbpp", {"splits.test.raw_only": True, "splits.validation.raw_only": True}),
        ("codecontests", {"evaluation": ["train", "valid", "test"], "public_tests": 0}),
        ("codecontests", {"evaluation": [], "splits.train.expected": REMOVED}),
        ("codecontests", {"splits.test.held_out": True, "splits.test.raw_only": False}),
        ("starling_rm", {"files.checkpoint": "model.safetensors", "status": "required"}),
    ],
)
def test_fields_that_agree(write: Write, name: str, changes: dict[str, object]) -> None:
    """The other side of each contradiction: what a new model may need is not refused."""
    assert load_spec(write(name, changes)).name == name


def test_names_of_variants(write: Write) -> None:
    """Short names of dtypes, as people write them; two variants never get one name."""
    spec = load_spec(
        write("meta_llama_mtp", {"dtype": "float32", "variants": ["float16", "bfloat16"]})
    )
    keys = [artifact.key for artifact in artifacts_of(spec)]
    assert keys[3:5] == ["meta_llama_mtp_fp16", "meta_llama_mtp_bf16"]


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("humaneval", {"converter": "mbbp"}, "converter: 'mbbp' is not a known format"),
        ("codecontests", {"converter": "code_contests"}, "converter: 'code_contests' is not a"),
        (
            "mbpp",
            {"evaluation": ["test"]},
            "evaluation: mbpp has no tests of its own to write",
        ),
        (
            "mbpp",
            {"splits.train.expected": {"problems": 374, "correct": 374, "incorrect": 0}},
            "splits: expected: rows of mbpp do not say if they are correct",
        ),
        (
            "mbpp",
            {"uses": ["baseline", "verifiable_critic"]},
            "uses: verifiable_critic: it learns from is_correct, and rows of mbpp do not say",
        ),
        (
            "humaneval",
            {"uses": ["evaluation", "baseline"]},
            "uses: baseline: every split of humaneval is held_out, so that it is for evaluation",
        ),
    ],
)
def test_what_a_format_cannot_give(
    write: Write, name: str, changes: dict[str, object], said: str
) -> None:
    """Formats are found by name when the specs are expanded: the file and the field are named."""
    path = write(name, changes)
    with pytest.raises(SpecError) as error:
        artifacts_of(load_spec(path))
    assert str(error.value).startswith(f"{path}: attributes.{said}")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"tiny": {"rows": 3}}, "sections.tiny: no kind of artifact has this section; known: none"),
    ],
)
def test_section_that_no_kind_has(write: Write, sections: dict[str, object], said: str) -> None:
    """A typo in a section would be settings that nobody reads."""
    path = write("humaneval", {"sections": sections})
    with pytest.raises(SpecError) as error:
        artifacts_of(load_spec(path))
    assert str(error.value) == f"{path}: {said}"


def test_every_wrong_field_is_named(write: Write) -> None:
    """One run shows all that has to be corrected."""
    path = write("micro_mtp", {"dtype": "int8", "shape.dim": 0, "parent": REMOVED})
    with pytest.raises(SpecError) as error:
        load_spec(path)
    for field in ("attributes.dtype", "attributes.shape.dim", "attributes.parent"):
        assert field in str(error.value)


@pytest.mark.parametrize("unsafe", UNSAFE_NAMES, ids=repr)
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("meta_llama_mtp", "files.checkpoint"),
        ("meta_llama_mtp", "files.params"),
        ("meta_llama_mtp", "files.tokenizer"),
        ("ref_sheared_llama", "files.config"),
        ("ref_sheared_llama", "files.shards.1"),
        ("ref_sheared_llama", "files.extras.0"),
        ("humaneval", "splits.test.files.0"),
        ("codecontests", "splits.train.files.0"),
    ],
)
def test_unsafe_file_name(write: Write, name: str, field: str, unsafe: str) -> None:
    """Each of these is written below the artifact's folder: none may leave it or hide in a log."""
    path = write(name, {field: unsafe})
    with pytest.raises(SpecError, match="is not a plain relative path") as error:
        load_spec(path)
    assert str(error.value).startswith(f"{path}: attributes.{field}: ")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("meta_llama_mtp", {"files.params": "tokenizer.model"}),
        ("meta_llama_mtp", {"files.params": "Tokenizer.Model"}),
        ("ref_sheared_llama", {"files.shards": ["a.bin", "a.bin"]}),
        ("ref_sheared_llama", {"files.shards": ["a.bin", "Config.json"]}),
        ("ref_sheared_llama", {"files.extras": ["a.json", "Tokenizer.model"]}),
        (
            "humaneval",
            {"splits.train": {"files": ["openai_humaneval/test-00000-of-00001.parquet"]}},
        ),
        (
            "humaneval",
            {"splits.train": {"files": ["OpenAI_humaneval/test-00000-of-00001.parquet"]}},
        ),
        ("humaneval", {"splits.test.files": ["a.parquet", "a.parquet"]}),
        ("codecontests", {"splits.test.files": ["data/train-*.parquet"]}),
        ("codecontests", {"splits.test.files": ["data/Train-*.parquet"]}),
    ],
)
def test_file_named_twice(write: Write, name: str, changes: dict[str, object]) -> None:
    """Rows of a file in two splits leak the test set; names equal but for case are one on macOS."""
    path = write(name, changes)
    with pytest.raises(SpecError, match="named twice") as error:
        load_spec(path)
    assert str(error.value).startswith(f"{path}: attributes")


# -- splits ----------------------------------------------------------------------------------------

HELD_OUT = {"splits.test.held_out": True}


@pytest.mark.parametrize(
    ("name", "changes", "held_out"),
    [
        ("mbpp", {}, ("test",)),
        ("mbpp", {"splits.test.held_out": False}, ()),
        ("mbpp", {"splits.validation.held_out": True}, ("validation", "test")),
        ("mbpp", {"splits.prompt.held_out": True}, ("test",)),
        ("mbpp", {"uses": ["baseline"]}, ("test",)),
        ("codecontests", {}, ()),
        ("codecontests", HELD_OUT, ("test",)),
    ],
)
def test_held_out_splits(
    write: Write, name: str, changes: dict[str, object], held_out: tuple[str, ...]
) -> None:
    """Which rows training must not share words with is said split by split; a split that is only
    kept raw has no rows to compare."""
    spec = load_spec(write(name, changes))
    assert isinstance(spec, DatasetSpec)
    assert {*spec.held_out} == {*held_out}


@pytest.mark.parametrize(
    ("changes", "has_tests"), [({}, True), ({"evaluation": []}, False), ({"uses": ["rho_1"]}, True)]
)
def test_artifact_of_tests_is_for_evaluation(
    write: Write, changes: dict[str, object], has_tests: bool
) -> None:
    """Tests are written for whoever evaluates; the spec alone decides, and names it for the lookup
    of clashes too."""
    names = [artifact.key for artifact in artifacts_of(load_spec(write("codecontests", changes)))]
    tests = ["tests"] * has_tests
    parts = ("raw", "processed", "pairs", "small", "stats", *tests, "card", "croissant")
    assert names == [f"codecontests_{part}" for part in parts]


def test_counts_that_are_expected_of_codecontests() -> None:
    """Counted on the real hub once; a typo here would warn forever, or hide a change.

    13,328 + 117 + 165 problems; rows as of 2,048 tokens and no public tests in input.
    """
    spec = next(spec for spec in load_specs() if spec.name == "codecontests")
    assert isinstance(spec, DatasetSpec)
    counts = {name: split.expected for name, split in spec.splits.items()}
    expected = {name: count.model_dump() for name, count in counts.items() if count}
    rows = {name: count["correct"] + count["incorrect"] for name, count in expected.items()}
    assert {name: count["problems"] for name, count in expected.items()} == {
        "train": 13_328,
        "valid": 117,
        "test": 165,
    }
    assert rows == {"train": 3_691_981, "valid": 14_725, "test": 14_851}
    assert {name: count["correct"] for name, count in expected.items()} == {
        "train": 1_754_404,
        "valid": 8_184,
        "test": 8_038,
    }
    assert (spec.max_tokens, spec.public_tests, spec.evaluation) == (2048, 2, ("valid", "test"))


def shards(split: str, count: int, *suffixes: str, folder: str = "data") -> list[str]:
    """Names of shards as hubs have them; with suffixes, each has one of its own."""
    ends = suffixes or [""] * count
    return [f"{folder}/{split}-{n:05}-of-{count:05}{ends[n]}.parquet" for n in range(count)]


TRAIN = ("data/train-*.parquet",)
WHOLE = shards("train", 1)
UPSTREAM = ["README.md", "data/README", *shards("test", 1, "-9c49"), *shards("valid", 1, "-5e67")]


@pytest.mark.parametrize(
    ("files", "names", "selected"),
    [
        (TRAIN, shards("train", 39), shards("train", 39)),
        (TRAIN, shards("train", 39)[::-1], shards("train", 39)),
        (TRAIN, shards("train", 3, "-f0", "-a1", "-00"), shards("train", 3, "-f0", "-a1", "-00")),
        (
            TRAIN,
            ["data/train-all.parquet", "data/train-.parquet"],
            ["data/train-.parquet", "data/train-all.parquet"],
        ),
        (TRAIN, [*shards("train", 1), *shards("train", 2, folder="data/old")], WHOLE),
        (TRAIN, [*shards("train", 1), "train-x.parquet", "Data/train-y.parquet"], WHOLE),
        (TRAIN, [*shards("train", 1), "data/trainer.parquet", "data/train-x.parquet.lock"], WHOLE),
        (("data/train-*-of-*.parquet",), shards("train", 2), shards("train", 2)),
        (("*/train-*.parquet",), shards("train", 2, folder="x"), shards("train", 2, folder="x")),
        (("b.parquet", "a.parquet"), ["a.parquet", "b.parquet"], ["b.parquet", "a.parquet"]),
        (("a.parquet", "*.parquet"), ["b.parquet", "a.parquet"], ["a.parquet", "b.parquet"]),
        (("z*.parquet", "*.parquet"), ["a.parquet", "z.parquet"], ["z.parquet", "a.parquet"]),
        (
            ("full/train-*.parquet", "more/train-*.parquet"),
            [*shards("train", 1, folder="full"), *shards("train", 2, folder="more")],
            [*shards("train", 1, folder="full"), *shards("train", 2, folder="more")],
        ),
        (("rows[1].parquet",), ["rows1.parquet", "rows[1].parquet"], ["rows[1].parquet"]),
        (("wh?.parquet",), ["why.parquet", "wh?.parquet"], ["wh?.parquet"]),
        (("a.parquet",), ["a-parquet", "a.parquet"], ["a.parquet"]),
    ],
)
def test_files_of_a_split(files: tuple[str, ...], names: list[str], selected: list[str]) -> None:
    """Upstream's names end in digits that nobody can foresee; a star stands for those and for
    nothing that crosses a folder, and everything else is meant to the letter."""
    assert SplitSpec(files=files).select([*UPSTREAM, *names]) == tuple(selected)


@pytest.mark.parametrize(
    ("files", "names", "message"),
    [
        (TRAIN, [], "has no file data/train-*.parquet"),
        (TRAIN, shards("train", 2, folder="data/deeper"), "has no file data/train-*.parquet"),
        (TRAIN, ["data/TRAIN-1.parquet"], "has no file data/train-*.parquet"),
        (("a.parquet", "b.parquet"), ["a.parquet"], "has no file b.parquet"),
        (
            TRAIN,
            shards("train", 39)[:-1],
            "has 38 of 39 shards of data/train-*.parquet; missing: 00038",
        ),
        (
            TRAIN,
            shards("train", 39)[38:],
            "has 1 of 39 shards of data/train-*.parquet; missing: 00000, 00001, 00002, 00003, "
            "00004, 00005, 00006, 00007, 00008, 00009",
        ),
        (
            tuple(shards("train", 3)[1:]),
            shards("train", 3),
            "has 2 of 3 shards of data/train-00001-of-00003.parquet, "
            "data/train-00002-of-00003.parquet; missing: 00000",
        ),
        (
            ("data/train-*.parquet", "more/train-*.parquet"),
            [*shards("train", 2), *shards("train", 2, folder="more")[:1]],
            "has 1 of 2 shards of data/train-*.parquet, more/train-*.parquet; missing: 00001",
        ),
        (
            TRAIN,
            [*shards("train", 2, "-0a", "-0b"), *shards("train", 2, "-1a", "-1b")],
            "has 4 of 2 shards of data/train-*.parquet; they are of more than one upload",
        ),
        (
            TRAIN,
            [*shards("train", 2), *shards("train", 3)],
            "has 5 of 3 shards of data/train-*.parquet; they are of more than one upload",
        ),
        (
            TRAIN,
            [*shards("train", 2), *shards("train", 5)[2:3]],
            "has 3 of 5 shards of data/train-*.parquet; they are of more than one upload",
        ),
        (
            TRAIN,
            [*shards("train", 1), "data/train-00001-of-00001.parquet"],
            "has 2 of 1 shards of data/train-*.parquet; they are of more than one upload",
        ),
    ],
)
def test_files_that_a_split_lacks(files: tuple[str, ...], names: list[str], message: str) -> None:
    """A shard too few is a dataset without its problems, one too many has them twice; neither shows
    in any row."""
    with pytest.raises(ValueError) as error:
        SplitSpec(files=files).select([*UPSTREAM, *names])
    assert str(error.value) == message


@settings(deadline=None)
@given(st.data(), st.integers(1, 30))
def test_any_lost_shard_is_missed(data: st.DataObject, count: int) -> None:
    """Whatever the hub lists, in whatever order: all shards in their order, or an error."""
    whole = shards("train", count)
    lost = data.draw(st.sets(st.integers(0, count - 1)))
    names = data.draw(st.permutations([n for i, n in enumerate(whole) if i not in lost] + UPSTREAM))
    split = SplitSpec(files=TRAIN)
    if not lost:
        assert split.select(names) == tuple(whole)
        return
    expected = "missing: " if len(lost) < count else "has no file "
    with pytest.raises(ValueError, match=expected):
        split.select(names)


# -- file names ----------------------------------------------------------------------------------

OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Bidirectional ones: a name with them shows as another."""

SEGMENT = st.text(
    st.characters(blacklist_characters=f"/\\{OVERRIDES}", blacklist_categories=("Cc", "Cs")),
    min_size=1,
).filter(lambda segment: segment not in (".", "..") and len(segment.encode()) <= MAX_NAME)


@settings(deadline=None)
@given(st.lists(SEGMENT, min_size=1, max_size=5).map("/".join))
def test_plain_relative_path_is_taken_as_it_is(path: str) -> None:
    """Upstream's names are kept to the letter, spaces and all scripts included."""
    assert relative_path(path) == path


@settings(deadline=None)
@given(st.text(st.sampled_from("ab./\\ \0\n\x7f\x9f\ud800ü~-")))
@example("a/..")
@example("...")
def test_accepted_path_stays_in_its_folder(path: str) -> None:
    """The only thing between a hostile name and a file outside the storage root."""
    try:
        relative_path(path)
    except ValueError:
        return
    parts = path.split("/")
    assert all(part not in ("", ".", "..") for part in parts)
    assert (Path("/top/artifact") / path).parts == ("/", "top", "artifact", *parts)
    assert path.isprintable()
    assert "\\" not in path
    path.encode()


# -- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "type: [unclosed",
        "a: b: c",
        "\tname: x",
        b"\xff\xfe\xfa",
        "type: 2024-13-45",
        "one: 1\n---\ntwo: 2\n",
        "!!python/object/apply:os.getcwd []",
        "[" * 5000,
    ],
    ids=["unclosed", "colons", "tab", "bytes", "date", "two documents", "python tag", "nesting"],
)
def test_not_yaml(text: Callable[[str | bytes], Path], content: str | bytes) -> None:
    """Whatever the parser stumbles over, the message names the file; no code in it is run."""
    path = text(content)
    with pytest.raises(SpecError, match="not readable as YAML") as error:
        load_spec(path)
    assert str(error.value).startswith(f"{path}: ")


def test_missing_file(tmp_path: Path) -> None:
    """The name of the file is what one needs to know."""
    with pytest.raises(SpecError, match="not readable as YAML"):
        load_spec(tmp_path / "defs.yaml")


@pytest.mark.parametrize(
    "line", ["name: {{ env.NAME }}", 'name: "{{ name }}"', "name: x  # {{ later }}"]
)
def test_templating(text: Callable[[str | bytes], Path], line: str) -> None:
    """Dagster would fill in what wmtp would take literally: the two would see two graphs."""
    path = text(f"type: wmtp_assets.components.MicroModel\nattributes:\n  {line}\n")
    with pytest.raises(SpecError, match="templating") as error:
        load_spec(path)
    assert str(error.value).startswith(f"{path}: line 3: ")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "expected exactly the two keys"),
        ("- type", "expected exactly the two keys"),
        ("just text", "expected exactly the two keys"),
        ("type: x\nattributes: {}\nrequirements: {}", "expected exactly the two keys"),
        ("attributes: {}", "unknown component type None"),
        ("type: wmtp_assets.components.Model\nattributes: {}", "Model'; known are wmtp_assets"),
        ("type: dagster.DefinitionsComponent\nattributes: {}", "unknown component type"),
        ("type: [1]\nattributes: {}", "unknown component type"),
        ("type: wmtp_assets.components.MicroModel", "attributes: Input should be a valid dict"),
        ("type: wmtp_assets.components.MicroModel\nattributes: [1]", "attributes: Input should be"),
    ],
)
def test_wrong_document(text: Callable[[str | bytes], Path], content: str, problem: str) -> None:
    """A document of another shape is refused as a whole, with what is known instead."""
    path = text(content)
    with pytest.raises(SpecError) as error:
        load_spec(path)
    assert problem in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


# -- many files ----------------------------------------------------------------------------------


def test_folders_are_searched_in_path_order(write: Write, tmp_path: Path) -> None:
    """The order of the graph must not depend on the order in which a disk lists its names."""
    write("micro_mtp", folder="b")
    write("meta_llama_mtp", folder="a")
    write("humaneval", folder="c")
    assert [spec.name for spec in load_specs(tmp_path)] == [
        "meta_llama_mtp",
        "micro_mtp",
        "humaneval",
    ]


@pytest.mark.parametrize(
    ("name", "changes", "claim"),
    [
        ("meta_llama_mtp", {"folder": "other"}, "name meta_llama_mtp"),
        ("meta_llama_mtp", {"name": "other"}, "folder meta-llama-mtp"),
        ("micro_mtp", {"name": "meta_llama_mtp"}, "name meta_llama_mtp"),
        ("micro_mtp", {"name": "meta_llama_mtp_raw"}, "meta_llama_mtp_raw"),
        ("micro_mtp", {"name": "meta_llama_mtp_bf16"}, "meta_llama_mtp_bf16"),
        ("micro_mtp", {"folder": "meta-llama-mtp"}, "folder meta-llama-mtp"),
        ("humaneval", {"name": "meta_llama_mtp"}, "name meta_llama_mtp"),
    ],
)
def test_declared_twice(
    write: Write, tmp_path: Path, name: str, changes: dict[str, object], claim: str
) -> None:
    """Two specs on one name or folder would overwrite each other's artifacts."""
    first = write("meta_llama_mtp", folder="1")
    second = write(name, changes, folder="2")
    with pytest.raises(SpecError) as error:
        load_catalogue(tmp_path)
    assert str(error.value) == f"{second}: {claim!r} is already declared by {first}"


def test_no_specs_at_all(tmp_path: Path) -> None:
    """An empty graph is a wrong folder, not a project without artifacts."""
    with pytest.raises(SpecError, match=r"no defs\.yaml found"):
        load_specs(tmp_path)
