"""When derived assets are made again by themselves: content decides, and checks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dagster as dg
import pytest

from wmtp_assets.base.settings import AUTOMATION_VARIABLE
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.catalogue.specs import DEFS_FOLDER
from wmtp_assets.components.automation import DERIVED, automation
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.components.types import definitions_of
from wmtp_assets.definitions import build_defs, defs
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.sample import code_contests
from wmtp_assets.sample.index import index_repository, read_index, write_index
from wmtp_assets.sample.repositories import index_path, repository_folder
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.quick import full_only, thinned
from wmtp_assets_tests.trees import damage, flip


class Graph:
    """An asset whose content and check are set here, and one that is derived from it."""

    def __init__(self) -> None:
        self.content, self.code = "one", "1"
        self.is_good, self.severity = True, dg.AssetCheckSeverity.ERROR
        self.fails = False
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: dg.AssetDaemonCursor | None = None

    @property
    def defs(self) -> dg.Definitions:
        @dg.asset
        def source() -> dg.MaterializeResult:
            return dg.MaterializeResult(data_version=dg.DataVersion(self.content))

        @dg.asset(tags={"optional": "true"})
        def absent() -> None: ...

        @dg.asset_check(asset=source, blocking=True)
        def good() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.is_good, severity=self.severity)

        @dg.asset_check(asset=absent, blocking=True)
        def present() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=False)

        @dg.asset(deps=[source, absent], automation_condition=DERIVED, code_version=self.code)
        def derived() -> None:
            if self.fails:
                raise dg.Failure("as it was told")

        return dg.Definitions(assets=[source, absent, derived], asset_checks=[good, present])

    def make(self, key: str) -> None:
        job = self.defs.resolve_implicit_global_asset_job_def()
        job.execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(key)],
        )

    def requested(self) -> int:
        """How many assets the sensor would make now."""
        result = dg.evaluate_automation_conditions(
            defs=self.defs, instance=self.instance, cursor=self.cursor
        )
        self.cursor = result.cursor
        return result.total_requested


@pytest.fixture
def graph() -> Graph:
    """Both assets are there, and the sensor has seen it."""
    graph = Graph()
    graph.make("source")
    graph.make("derived")
    graph.requested()
    assert graph.requested() == 0
    return graph


def test_equal_bytes_make_nothing_again(graph: Graph) -> None:
    """A download that brought what was there must not cost a conversion of 27 GB."""
    graph.make("source")
    assert graph.requested() == 0


def test_changed_bytes_do(graph: Graph) -> None:
    """That is what the sensor is for; what is optional and not there does not hold it up."""
    graph.content = "two"
    graph.make("source")
    assert graph.requested() == 1
    graph.make("derived")
    assert graph.requested() == 0


def test_changed_settings_do(graph: Graph) -> None:
    """A new limit in a ``defs.yaml`` makes the rows stale, as other upstream rows do."""
    graph.code = "2"
    assert graph.requested() == 1
    graph.make("derived")
    assert graph.requested() == 0


def test_changed_bytes_that_fail_a_check_do_not(graph: Graph) -> None:
    """A bad artifact stops where it is, also when nobody looks, until it passes."""
    graph.content, graph.is_good = "two", False
    graph.make("source")
    assert [graph.requested(), graph.requested()] == [0, 0]
    graph.is_good = True
    graph.make("source")
    assert graph.requested() == 1


def test_a_warning_holds_nothing_back(graph: Graph) -> None:
    """A blocking check of CodeContests warns forever: upstream's rows are what they are."""
    graph.content, graph.is_good, graph.severity = "two", False, dg.AssetCheckSeverity.WARN
    graph.make("source")
    assert graph.requested() == 1


def test_what_was_stale_before_is_made() -> None:
    """Whoever turns it on after a change asked for exactly this."""
    graph = Graph()
    graph.make("source")
    graph.make("derived")
    graph.content = "two"
    graph.make("source")
    assert graph.requested() == 1


def test_what_was_never_made_is_left_alone() -> None:
    """It is not an answer to a change: a person decides what there is."""
    graph = Graph()
    graph.make("source")
    assert [graph.requested(), graph.requested()] == [0, 0]


def test_what_fails_is_asked_for_once(graph: Graph) -> None:
    """Every 30 seconds the same failed conversion would fill the disk and the webhook; another
    content may be one that can be converted."""
    graph.content, graph.fails = "two", True
    graph.make("source")
    assert graph.requested() == 1
    graph.make("derived")
    assert [graph.requested(), graph.requested()] == [0, 0]
    graph.content, graph.fails = "three", False
    graph.make("source")
    assert graph.requested() == 1


def change_upstream(store: Store) -> None:
    """Put other problems into the sample's CodeContests, as another upload would."""
    hub = store.root / INTERNAL / "hub"
    repository = repository_folder(hub, "dataset", "deepmind/code_contests")
    index = read_index(index_path(repository))
    assert index is not None
    shutil.rmtree(repository)
    index_path(repository).unlink()
    problems = {"train": 30, "valid": 7, "test": 9}
    code_contests.write_dataset(repository, problems, 3, code_contests.SHARDS, seed=1)
    write_index(index_path(repository), index_repository(repository), index[1])


FOLLOW = {
    "codecontests_processed",
    "codecontests_tests",
    "codecontests_pairs",
    "codecontests_small",
    "codecontests_stats",
    "codecontests_card",
    "codecontests_croissant",
    "storage_readme",
    "asset_inventory",
    "migration_notes",
    "completion_report",
    "storage_release",
}
"""What is made of CodeContests."""


class Sensor:
    """Evaluates the real graph as the sensor does, and makes what it asks for."""

    def __init__(self, store: Store, instance: dg.DagsterInstance, defs_folder: Path) -> None:
        storage = StorageResource(
            source="sample", root=str(store.root), defs_folder=str(defs_folder)
        )
        self._defs = build_defs(definitions_of(load_catalogue(defs_folder)), storage)
        self._instance = instance
        self._cursor: dg.AssetDaemonCursor | None = None

    def make(self, *keys: str) -> bool:
        """Make assets and apply their checks; whether all went well."""
        return self._run(dg.AssetSelection.assets(*keys))

    def check(self, key: str) -> bool:
        """Apply the checks of an asset; whether all went well."""
        return self._run(dg.AssetSelection.checks_for_assets(key))

    def _run(self, selection: dg.AssetSelection) -> bool:
        job = dg.Definitions.merge(
            self._defs, dg.Definitions(jobs=[dg.define_asset_job("selection", selection)])
        ).resolve_job_def("selection")
        return job.execute_in_process(instance=self._instance, raise_on_error=False).success

    def tick(self) -> set[str]:
        """Evaluate once, run what is requested, say what that is."""
        result = dg.evaluate_automation_conditions(
            defs=self._defs, instance=self._instance, cursor=self._cursor
        )
        self._cursor = result.cursor
        asked = [it.key for it in result.results if not it.true_subset.is_empty]
        keys = {key.to_user_string() for key in asked if isinstance(key, dg.AssetKey)}
        if keys:
            self.make(*keys)
        return keys

    def ticks(self) -> list[set[str]]:
        """Tick until twice nothing is asked for; what was asked for each time."""
        asked: list[set[str]] = []
        while len(asked) < 20 and not (len(asked) > 1 and asked[-1] == asked[-2] == set()):
            asked.append(self.tick())
        assert asked[-2:] == [set(), set()], asked
        return asked[:-2]


@pytest.fixture
def sensor(store: Store, instance: dg.DagsterInstance, tmp_path: Path) -> Sensor:
    """The graph with everything that is required made, and another CodeContests upstream: whose
    version, in a copy of the ``defs.yaml``, is another too."""
    folder = Path(shutil.copytree(DEFS_FOLDER, tmp_path / "defs"))
    required = [item.key for item in store.catalogue if not item.optional]
    assert Sensor(store, instance, folder).make(*required)
    change_upstream(store)
    spec = folder / "datasets/codecontests/defs.yaml"
    spec.write_text(spec.read_text().replace("  name:", "  version: v2.1.0\n  name:", 1))
    return Sensor(store, instance, folder)


@pytest.mark.long
@pytest.mark.parametrize(
    "is_on_before", thinned([True, False], [True]), ids={True: "on", False: "turned on after"}.get
)
def test_new_problems_of_codecontests_reach_the_documents(
    store: Store, sensor: Sensor, is_on_before: bool
) -> None:
    """Everything that is made of them, once each and upstream first, and nothing else: through a
    blocking check that warns, and past optional assets that are not there."""
    if is_on_before:
        assert sensor.ticks() == []
    assert sensor.make("codecontests_raw")
    asked = [key for keys in sensor.ticks() for key in sorted(keys)]
    assert sorted(asked) == sorted(FOLLOW)
    turn = {key: asked.index(key) for key in asked}
    for key in asked:
        artifact = store.catalogue[key]
        assert all(turn[it] < turn[key] for it in artifact.upstream if it in turn)
        assert apply_rule(rules_of(artifact)[0], store, artifact).findings == []


@full_only
@pytest.mark.usefixtures("sensor")
def test_released_version_is_not_made_of_other_rows(
    store: Store, instance: dg.DagsterInstance
) -> None:
    """A person decides that a version is another: until then the release fails, once, and the
    report on it waits."""
    sensor = Sensor(store, instance, DEFS_FOLDER)
    assert sensor.make("codecontests_raw")
    asked = [key for keys in sensor.ticks() for key in keys]
    assert sorted(asked) == sorted(FOLLOW - {"completion_report"})
    release = json.loads(
        store.path(store.catalogue["storage_release"], "RELEASE.json").read_bytes()
    )
    assert release["artifacts"]["codecontests_raw"]["version"] == "v2.0.0"


@full_only
def test_damaged_rows_reach_nothing(store: Store, sensor: Sensor) -> None:
    """An ERROR of the rows' check holds back what is made of them until they are made again."""
    assert sensor.make("codecontests_raw", "codecontests_processed")
    damage(store.path(store.catalogue["codecontests_processed"], "processed/test.jsonl"), flip(9))
    assert not sensor.check("codecontests_processed")
    assert sensor.ticks() == [{"codecontests_tests"}]


def test_derived_assets_have_the_condition_and_no_others() -> None:
    """Raw files come when somebody asks for them, and so does what is optional."""
    graph = defs().resolve_asset_graph()
    having = {
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if graph.get(key).automation_condition is not None
    }
    assert having == {
        artifact.key for artifact in load_catalogue() if artifact.upstream and not artifact.optional
    }


@pytest.mark.parametrize(("value", "status"), [("", "STOPPED"), ("0", "STOPPED"), ("1", "RUNNING")])
def test_one_setting_turns_it_on(monkeypatch: pytest.MonkeyPatch, value: str, status: str) -> None:
    """Off by default: a person decides when 50 GB are made again."""
    monkeypatch.setenv(AUTOMATION_VARIABLE, value)
    assert automation().default_status == dg.DefaultSensorStatus[status]
