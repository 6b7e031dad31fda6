"""Assets through Dagster: what a materialization says, and what a failure leaves behind."""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dagster as dg
import pytest
import yaml

from wmtp_assets.base.errors import MissingArtifact
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints.beside import MODEL_FILES
from wmtp_assets.checkpoints.safetensors_file import read_header
from wmtp_assets.components import artifacts
from wmtp_assets.components.artifacts import description_of, source_of
from wmtp_assets.components.metadata import describe, table
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.components.types import definitions_of
from wmtp_assets.datasets.formats.codecontests import CodeContestsRecord
from wmtp_assets.definitions import build_defs, defs
from wmtp_assets.kinds.registry import kind_of, load_catalogue, rules_of
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.components.conftest import Run, runner
from wmtp_assets_tests.rules.cases import edit_manifest
from wmtp_assets_tests.trees import damage, flip, remove_optional, reseal, tree

MAKEFILE = Path(__file__).parents[2] / "Makefile"
EVERYTHING_FOR_MICRO = (
    "meta_llama_mtp_raw,meta_llama_mtp_tokenizer,meta_llama_mtp_safetensors,micro_mtp"
)


def _failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    (event,) = [e for e in result.all_events if e.is_step_failure and e.step_key == step]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return data.description or ""


def test_unchanged_bytes_have_the_same_data_version(
    store: Store, run: Run, instance: dg.DagsterInstance
) -> None:
    """A re-run that changes nothing must make nothing downstream stale."""
    versions = []
    for _ in range(2):
        assert run(dg.AssetSelection.assets("micro_mtp")).success
        event = instance.get_latest_materialization_event(dg.AssetKey("micro_mtp"))
        assert event is not None
        materialization = event.asset_materialization
        assert materialization is not None
        assert materialization.tags is not None
        versions.append(materialization.tags["dagster/data_version"])
    manifest = store.manifest(store.catalogue["micro_mtp"])
    assert versions == [manifest.content_sha256] * 2


def test_materialization_describes_the_artifact(store: Store, run: Run) -> None:
    """What the UI shows is read from the committed manifest."""
    result = run(dg.AssetSelection.assets("micro_mtp", "humaneval_small"))
    metadata = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    micro = {key: value.value for key, value in metadata["micro_mtp"].items()}
    assert micro["n_params"] == 24_908_288
    assert micro["dtype"] == "float16"
    assert micro["dagster/size_bytes"] == store.manifest(store.catalogue["micro_mtp"]).size
    assert micro["repository"] == "facebook/multi-token-prediction"
    assert metadata["humaneval_small"]["dagster/row_count"].value == 32


def test_links_lead_to_pages_that_are_there(store: Store) -> None:
    """The commits of the sample are on no hub; those of the real source have a page each."""
    micro = store.catalogue["micro_mtp"]
    shown = describe(store, micro, store.manifest(micro), None)
    assert "https://huggingface.co" not in str(shown)
    source = store.manifest(micro).document["source"] | {"endpoint": "huggingface"}
    reseal(store, micro, source=source)
    shown = describe(store, micro, store.manifest(micro), None)
    page = "https://huggingface.co/facebook/multi-token-prediction"
    assert shown["repository"] == dg.MetadataValue.url(page)
    assert shown["revision_page"] == dg.MetadataValue.url(f"{page}/tree/{shown['revision']}")


@pytest.mark.parametrize(("source", "has_links"), [("sample", False), ("hub", True)])
def test_repository_is_linked_where_it_is_asked(
    source: str, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample repository has no page; its node says whose it imitates."""
    monkeypatch.setenv("WMTP_SOURCE", source)
    spec = load_catalogue()["mbpp_raw"].spec
    said = source_of(spec).metadata["repository"]
    assert isinstance(said, dg.UrlMetadataValue) is has_links
    assert str(said.value).endswith("google-research-datasets/mbpp")


def test_long_tables_open_by_a_click() -> None:
    """A checkpoint of a thousand tensors is one line of its page; columns wider than a laptop's
    window would push the page aside. What a name holds is not markup."""
    few = [{"name": "a", "bytes": 1}] * 11
    assert isinstance(table(few), dg.TableMetadataValue)
    assert isinstance(table([{"a": 1, "b": 2, "c": 3, "d": 4}]), dg.MarkdownMetadataValue)
    shown = table([*few, {"name": "x|<b>", "bytes": 2000}])
    assert isinstance(shown, dg.MarkdownMetadataValue)
    assert len(str(shown.value)) == 1000
    assert str(shown.value).rstrip().splitlines() == [
        "| name | bytes |",
        "| --- | --- |",
        *["| `a` | 1 |"] * 11,
        r"| x\|&lt;b&gt; | 2,000 |",
    ]


def test_every_column_has_a_meaning(store: Store) -> None:
    """Of every artifact with rows, down to the fields of metadata: a name alone is guessed at."""
    seen = set()
    for artifact in store.catalogue:
        if kind_of(artifact).rows is None:
            continue
        shown = describe(store, artifact, store.manifest(artifact), None)
        columns = shown["dagster/column_schema"].columns
        assert [column.name for column in columns if not column.description] == [], artifact.key
        first = next(iter(shown["sample_rows"].value.values()))[0]
        assert [column.name for column in columns if "." not in column.name] == [*first]
        assert {f"metadata.{name}" for name in first["metadata"]} == {
            column.name for column in columns if "." in column.name
        }
        seen.add(artifact.kind)
    assert seen == {"processed", "pairs", "small"}


def test_checkpoint_lists_its_tensors(store: Store, run: Run) -> None:
    """Name, dtype, shape and bytes, as the header has them; the bytes add up."""
    result = run(dg.AssetSelection.assets("micro_mtp"))
    (event,) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    tensors, dtypes = metadata["tensors"], metadata["dtypes"]
    assert isinstance(tensors, dg.MarkdownMetadataValue)
    assert isinstance(dtypes, dg.TableMetadataValue)
    header = read_header(store.path(store.catalogue["micro_mtp"], MODEL_FILES.checkpoint))
    rows = [line.strip("| ").split(" | ") for line in str(tensors.value).rstrip().splitlines()[2:]]
    assert [(row[0], row[3]) for row in rows] == [
        (f"`{entry.name}`", f"{entry.size:,}") for entry in header.entries
    ]
    assert [row.data for row in dtypes.records] == [
        {"dtype": "float16", "tensors": len(header.entries), "bytes": 2 * header.n_params}
    ]


def test_descriptions_say_size_and_rules() -> None:
    """What it is for, what it takes, what holds: before anybody presses 'Materialize'."""
    catalogue = load_catalogue()
    for artifact in catalogue:
        text = description_of(artifact)
        assert artifact.spec.description in text
        assert all(f"`{rule.name}`" in text for rule in rules_of(artifact))
    assert "About 27 GB on the hub" in description_of(catalogue["meta_llama_mtp_raw"])
    assert "About 13.5 GB" in description_of(catalogue["meta_llama_mtp_safetensors"])
    assert "About 22.8 GB" in description_of(catalogue["codecontests_processed"])
    assert " Less than 1 MB." in description_of(catalogue["codecontests_stats"])
    assert "At most 50.0 MB" in description_of(catalogue["micro_mtp"])
    assert description_of(catalogue["storage_release"]).startswith(
        catalogue["storage_release"].spec.description
    )


@pytest.mark.parametrize(
    ("key", "pictures"),
    [
        ("micro_mtp", {"size_by_part"}),
        ("codecontests_stats", {"token_lengths", "labels", "difficulties"}),
        ("humaneval_stats", {"token_lengths"}),
    ],
)
def test_pictures_are_shown(run: Run, key: str, pictures: set[str]) -> None:
    """As Markdown with an SVG in it, of every kind that there is something to draw of."""
    result = run(dg.AssetSelection.assets(key).without_checks())
    (event,) = result.get_asset_materialization_events()
    shown = {
        name: value.value
        for name, value in event.materialization.metadata.items()
        if isinstance(value, dg.MarkdownMetadataValue) and str(value.value).startswith("![")
    }
    assert shown.keys() == pictures
    for text in shown.values():
        data = str(text).partition("base64,")[2].removesuffix(")")
        assert ElementTree.fromstring(b64decode(data)).tag == "{http://www.w3.org/2000/svg}svg"
        assert len(data) < 100_000


def test_rows_are_shown(store: Store, run: Run) -> None:
    """Columns with their meaning, what was dropped and why, and the first rows, cut short."""
    result = run(dg.AssetSelection.assets("codecontests_processed", "codecontests_pairs"))
    processed, pairs = (
        event.materialization.metadata for event in result.get_asset_materialization_events()
    )
    schema = processed["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    names = [column.name for column in schema.columns if "." not in column.name]
    assert names == [*CodeContestsRecord.model_fields]
    splits = str(processed["splits"].value).rstrip().splitlines()[2:]
    document = store.manifest(store.catalogue["codecontests_processed"]).document
    for line, (split, said) in zip(splits, document["splits"].items(), strict=True):
        assert line.startswith(f"| `{split}` | ")
        assert f" | {said['rows']:,} | " in line
    assert "too_long: 59" in splits[0]
    for metadata, field in ((processed, "instruction"), (pairs, "prompt")):
        sample = metadata["sample_rows"].value
        assert isinstance(sample, dict)
        assert {split: len(rows) for split, rows in sample.items()} == dict.fromkeys(
            document["splits"], 3
        )
        assert all(0 < len(row[field]) <= 301 for rows in sample.values() for row in rows)


def test_every_asset_leads_to_its_definition() -> None:
    """'Where is this decided?' is answered with a file that is there."""
    graph = defs().resolve_asset_graph()
    for artifact in load_catalogue():
        reference = graph.get(dg.AssetKey(artifact.key)).metadata["dagster/code_references"]
        assert isinstance(reference, dg.CodeReferencesMetadataValue)
        paths = {
            Path(item.file_path)
            for item in reference.code_references
            if isinstance(item, dg.LocalFileCodeReference)
        }
        assert [path.name for path in paths] == ["defs.yaml"]
        assert f"name: {artifact.spec.name}\n" in paths.pop().read_text()


@pytest.mark.parametrize("name", ["models", "datasets", "small", "everything"])
def test_jobs_make_nothing_optional(name: str) -> None:
    """'Launch run' in the UI must not download 14 GB that nobody asked for."""
    keys = defs().get_repository_def().get_job(name).asset_layer.selected_asset_keys
    artifacts = {artifact.key: artifact for artifact in load_catalogue()}
    made = [artifacts[key.to_user_string()] for key in keys]
    assert made != []
    assert not any(artifact.optional for artifact in made)
    if name == "everything":
        assert len(made) == sum(not artifact.optional for artifact in artifacts.values())


def test_dataset_describes_itself(store: Store, run: Run) -> None:
    """Rows, files and commit of CodeContests in the UI; its tests are counted by problem."""
    result = run(dg.AssetSelection.assets("codecontests_processed", "codecontests_tests"))
    assert result.success
    metadata = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    for key in ("codecontests_processed", "codecontests_tests"):
        manifest = store.manifest(store.catalogue[key])
        said = {name: value.value for name, value in metadata[key].items()}
        assert said["dagster/row_count"] == manifest.document["rows"]
        assert said["dagster/size_bytes"] == manifest.size
        assert said["content_sha256"] == manifest.content_sha256
        assert said["repository"] == "deepmind/code_contests"
        assert said["revision"] == manifest.document["source"]["revision"]
        files = str(metadata[key]["files"].value)
        assert re.findall(r"`([^`]+)` \| [\d,]+ \|", files) == sorted(manifest.files)
    assert metadata["codecontests_tests"]["dagster/row_count"].value == 48 + 12 + 12
    failed = [item for item in result.get_asset_check_evaluations() if not item.passed]
    assert sorted((item.check_name, item.severity) for item in failed) == [
        ("problems", dg.AssetCheckSeverity.WARN),
        ("text_twins", dg.AssetCheckSeverity.WARN),
    ]


@pytest.mark.parametrize(
    ("key", "upstream", "manifest", "everything"),
    [
        (
            "micro_mtp",
            "meta_llama_mtp_safetensors",
            "models_v2/meta-llama-mtp/metadata.json",
            EVERYTHING_FOR_MICRO,
        ),
        (
            "codecontests_tests",
            "codecontests_raw",
            "datasets_v2/codecontests/raw.metadata.json",
            "codecontests_raw,codecontests_tests",
        ),
        (
            "codecontests_pairs",
            "codecontests_processed",
            "datasets_v2/codecontests/metadata.json",
            "meta_llama_mtp_raw,meta_llama_mtp_tokenizer,codecontests_raw,codecontests_processed,"
            "codecontests_pairs",
        ),
    ],
)
def test_missing_upstream_is_one_clear_message(
    empty_store: Store,
    instance: dg.DagsterInstance,
    key: str,
    upstream: str,
    manifest: str,
    everything: str,
) -> None:
    """Dagster does not test that upstream exists; people need what, where, and the command."""
    result = runner(empty_store, instance)(dg.AssetSelection.assets(key))
    assert not result.success
    message = _failure(result, key)
    assert upstream in message
    assert str(empty_store.root / manifest) in message
    assert message.endswith(f"dagster asset materialize --select '{everything}'")


def test_damaged_parent_leaves_the_old_micro_model(store: Store, run: Run) -> None:
    """The hash of every parent tensor is checked as it is read, checks or no checks."""
    parent = store.catalogue["meta_llama_mtp_safetensors"]
    damage(store.path(parent, "safetensors/model.safetensors"), flip(5_000_000))
    edit_manifest(made_with__builder=1)(store, store.catalogue["micro_mtp"])
    before = tree(store.root / "models_v2/micro-mtp")
    result = run(dg.AssetSelection.assets("micro_mtp").without_checks())
    assert not result.success
    assert "is damaged: SHA-256" in _failure(result, "micro_mtp")
    assert tree(store.root / "models_v2/micro-mtp") == before


def test_tag_is_on_exactly_the_optional_assets() -> None:
    """``make materialize`` selects by it: one tag too many is a model that is silently not made."""
    tagged = {
        spec.key.to_user_string()
        for asset in definitions_of(load_catalogue()).assets or ()
        if isinstance(asset, dg.AssetsDefinition)
        for spec in asset.specs
        if spec.tags.get("optional") is not None
    }
    assert tagged == {artifact.key for artifact in load_catalogue() if artifact.optional}
    assert len(tagged) == 16


def test_default_selection_is_what_is_required() -> None:
    """The Makefile's own, in Dagster's words: every required asset, and its checks with it."""
    line = next(line for line in MAKEFILE.read_text().splitlines() if line.startswith("SELECT ?="))
    selection = dg.AssetSelection.from_string(line.removeprefix("SELECT ?= "))
    storage = StorageResource(source="sample", root="/nowhere")
    graph = build_defs(definitions_of(load_catalogue()), storage).resolve_asset_graph()
    assert {key.to_user_string() for key in selection.resolve(graph)} == {
        artifact.key for artifact in load_catalogue() if not artifact.optional
    }
    assert len(selection.resolve(graph)) == 40


def test_optional_assets_say_so_where_people_look() -> None:
    """In the UI a description is read before it is pressed 'Materialize all'."""
    for asset in definitions_of(load_catalogue()).assets or ():
        if isinstance(asset, dg.SourceAsset):
            continue
        assert isinstance(asset, dg.AssetsDefinition)
        for spec in asset.specs:
            is_optional = load_catalogue()[spec.key.to_user_string()].optional
            text = spec.description or ""
            assert text.startswith("Optional: made only when it is asked for. ") == is_optional


def test_snapshot_is_made_of_what_is_there(
    store: Store, run: Run, instance: dg.DagsterInstance
) -> None:
    """With and without the optional models; that these are upstream must not make them needed."""
    snapshot = store.catalogue["parameter_snapshot"]
    path = store.path(snapshot, "defaults.yaml")
    with_all = path.read_bytes()
    result = run(dg.AssetSelection.assets("parameter_snapshot"))
    assert result.success
    assert path.read_bytes() == with_all

    remove_optional(store)
    without = path.read_bytes()
    path.unlink()
    store.manifest_path(snapshot).unlink()
    result = run(dg.AssetSelection.assets("parameter_snapshot"))
    assert result.success
    evaluations = result.get_asset_check_evaluations()
    assert {item.check_name: item.passed for item in evaluations} == {
        "sha256": True,
        "current": True,
        "made_with": True,
    }
    assert path.read_bytes() == without
    names = {"meta-llama-mtp-bf16", "starling-rm-7b", "micro-mtp-untied", "micro-ref-untied"}
    assert yaml.safe_load(with_all)["models"].keys() - yaml.safe_load(without)["models"] == names
    event = instance.get_latest_materialization_event(dg.AssetKey("parameter_snapshot"))
    assert event is not None and event.asset_materialization is not None
    assert event.asset_materialization.metadata["content_sha256"].value == (
        store.manifest(snapshot).content_sha256
    )


@pytest.mark.long
def test_optional_model_is_made_when_it_is_asked_for(store: Store, run: Run) -> None:
    """By name, with its checks; the snapshot, which is not asked for, is then out of date."""
    remove_optional(store)
    keys = [artifact.key for artifact in store.catalogue if artifact.key.startswith("starling_rm_")]
    result = run(dg.AssetSelection.assets(*keys))
    assert result.success
    evaluations = result.get_asset_check_evaluations()
    assert len(evaluations) == 16
    assert all(item.passed and item.description is None for item in evaluations)
    assert not run(dg.AssetSelection.checks_for_assets("parameter_snapshot")).success


def test_instance_of_the_other_source_is_refused(
    empty_store: Store, instance: dg.DagsterInstance, run: Run
) -> None:
    """History of sample artifacts under real assets would lie about where bytes came from."""
    assert run(dg.AssetSelection.assets("humaneval_small")).success
    storage = StorageResource(source="hub", root=str(empty_store.root))
    job = build_defs(_only("humaneval_small"), storage).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert "export WMTP_SOURCE=hub; source activate.sh" in _failure(result, "humaneval_small")


def _only(key: str) -> dg.Definitions:
    from wmtp_assets.components.artifacts import asset_of

    return dg.Definitions(assets=[asset_of(load_catalogue()[key])])


def test_every_artifact_can_be_described(store: Store) -> None:
    """A table whose rows differ in their fields fails the run after everything was made."""
    for artifact in store.catalogue:
        said = describe(store, artifact, store.manifest(artifact), 1.0)
        assert said["files"].value, artifact.key


@pytest.mark.parametrize(
    ("selected", "expected"),
    [
        (["meta_llama_mtp_raw"], True),
        (["meta_llama_mtp_raw", "humaneval_raw"], True),
        (["meta_llama_mtp_raw", "meta_llama_mtp_tokenizer"], False),
    ],
)
def test_a_run_of_raw_files_alone_is_told_so(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    selected: list[str],
    expected: bool,
) -> None:
    """They are downloaded also where nothing could be made of them."""
    told: dict[str, bool] = {}

    def stopped(store: Store, artifact: Artifact[Any], *rest: Any, **said: Any) -> None:
        told[artifact.key] = said["alone"]
        raise MissingArtifact("enough is known")

    monkeypatch.setattr(artifacts, "update", stopped)
    storage = StorageResource(source="sample", root=str(tmp_path / "storage"))
    job = build_defs(
        definitions_of(load_catalogue()), storage
    ).resolve_implicit_global_asset_job_def()
    job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        asset_selection=[dg.AssetKey(key) for key in selected],
    )
    assert told["meta_llama_mtp_raw"] == expected
