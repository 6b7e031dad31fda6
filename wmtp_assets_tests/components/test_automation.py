"""When derived assets are made again by themselves: content decides, and checks."""

from __future__ import annotations

import dagster as dg
import pytest

from wmtp_assets.base.settings import AUTOMATION_VARIABLE
from wmtp_assets.components.automation import DERIVED, automation
from wmtp_assets.definitions import defs
from wmtp_assets.kinds.registry import load_catalogue


class Graph:
    """An asset whose content and check are set here, and one that is derived from it."""

    def __init__(self) -> None:
        self.content, self.is_good = "one", True
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: dg.AssetDaemonCursor | None = None

        @dg.asset
        def source() -> dg.MaterializeResult:
            return dg.MaterializeResult(data_version=dg.DataVersion(self.content))

        @dg.asset_check(asset=source, blocking=True)
        def good() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.is_good)

        @dg.asset(deps=[source], automation_condition=DERIVED)
        def derived() -> None: ...

        self.defs = dg.Definitions(assets=[source, derived], asset_checks=[good])

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
    """That is what the sensor is for."""
    graph.content = "two"
    graph.make("source")
    assert graph.requested() == 1


def test_changed_bytes_that_fail_a_check_do_not(graph: Graph) -> None:
    """A bad artifact stops where it is, also when nobody looks."""
    graph.content, graph.is_good = "two", False
    graph.make("source")
    assert graph.requested() == 0


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
