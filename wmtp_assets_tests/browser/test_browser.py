"""The web UI by clicks: what a person looks for is there, and what is pressed happens.

The tests are in the order in which a newcomer would do it, over one project and one instance:
everything is made on the command line, and then looked at, in windows of 1,280 and 1,440 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.base.settings import Settings
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.browser.ui import CHROMIUM, WIDE, Ui, opened
from wmtp_assets_tests.pages import Copy
from wmtp_assets_tests.trees import link_tree

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


RULES = len(rules_of(load_catalogue()["micro_mtp"]))


WIDTHS = (1280, 1440)
"""Pixels of the windows in which everything is to be seen that a person looks for."""


@pytest.fixture(scope="module")
def made(good_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The web UI of a project after the first command, as the second opens it."""
    folder = tmp_path_factory.mktemp("browser")
    link_tree(good_root, folder / "storage")
    project = Copy.make(folder / "project", folder / "storage")
    project.run("dagster asset materialize --select 'not tag:optional=true'")
    with opened(project) as ui:
        yield ui


@pytest.fixture(params=WIDTHS, ids=str)
def window(made: Ui, request: pytest.FixtureRequest) -> Iterator[Ui]:
    """The same, in windows of several widths."""
    made.resize(request.param)
    yield made
    made.resize(WIDTHS[0])


@pytest.fixture(scope="module")
def store(made: Ui) -> Store:
    """The storage root that is served."""
    return Store(Settings("sample", made.project.root), load_catalogue())


def test_overview_has_the_run_of_the_first_command(window: Ui) -> None:
    """Not an empty page: what the command line made is on the timeline, green, and in its list."""
    window.open("overview/activity/timeline")
    window.fits("wmtp_assets", "Jobless asset materializations")
    expect(window.page.get_by_text("No runs or scheduled ticks")).to_have_count(0)
    window.open("runs")
    window.fits("Success", "39 more")


def test_automation_says_what_is_on(window: Ui) -> None:
    """Schedules that run by themselves, and what is offered with a switch."""
    window.open("automation")
    window.fits("integrity_daily", "derived_weekly", "Scheduled At 03:00 AM UTC")
    window.fits("observe_upstream_weekly", "verification_overdue", "failure_alerts")
    switches = window.page.locator("input[type=checkbox][role=switch], label input[type=checkbox]")
    expect(switches.first).to_be_attached()


def test_lineage_shows_where_a_model_comes_from(made: Ui) -> None:
    """From the repository to the micro model, grouped, with what was checked of each."""
    made.resize(WIDE)
    made.upstream_of("micro_mtp")
    made.sees("upstream", "models", "micro", "multi-token-prediction", "Hugging Face", "PyTorch")
    made.sees("meta_llama_mtp_raw", "meta_llama_mtp_tokenizer", "meta_llama_mtp_safetensors")
    made.sees(f"{RULES} / {RULES} Passed", "sentencepiece")
    made.resize(WIDTHS[0])


def test_lineage_has_the_groups(window: Ui) -> None:
    """The graph of 58 nodes opens as seven boxes."""
    window.open("asset-groups")
    groups = ("upstream", "models", "micro", "datasets", "small", "reports", "published")
    window.fits(*groups)


def test_asset_page_answers_what_where_from_and_whether(window: Ui, store: Store) -> None:
    """What it is, how large, of which dtype, from which commit, checked by what, decided where.
    Its tensors, and a picture that the browser can draw, are one click away."""
    window.asset("micro_mtp")
    manifest = store.manifest(store.catalogue["micro_mtp"])
    window.fits(
        "A laptop-sized model with the same code paths as meta_llama_mtp",
        "At most 50.0 MB.",
        str(manifest.size),
        human_bytes(manifest.size),
        "defs.yaml",
        "wmtp",
    )
    window.sees(
        manifest.content_sha256,
        "float16",
        "24908288",
        "facebook/multi-token-prediction",
        manifest.document["source"]["revision"],
        "unchanged",
    )
    expect(window.page.get_by_role("link", name="micro", exact=True)).to_be_visible()
    expect(window.page.locator("a[href*='huggingface.co']")).to_have_count(0)
    expect(window.page.get_by_text("layers.0.attention.wq.weight")).to_have_count(0)
    tensors = window.show("tensors")
    expect(tensors.get_by_text("layers.0.attention.wq.weight", exact=True)).to_be_visible()
    window.close()
    _is_drawn(window, "size_by_part")


def test_pictures_of_a_dataset(made: Ui) -> None:
    """Beside the numbers they are drawn from."""
    made.asset("codecontests_stats")
    for name in ("token_lengths", "labels", "difficulties"):
        _is_drawn(made, name)
        made.close()


def _is_drawn(ui: Ui, name: str) -> None:
    image = ui.show(name).locator("img")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.complete && image.naturalWidth") > 300


def test_rows_are_shown(window: Ui) -> None:
    """Row count, columns with their types and meaning, and why rows were left out."""
    window.asset("codecontests_processed")
    window.fits("Row count", "6,038", "Columns", "task_id", "upstream's description")
    window.sees("is_correct", "whether upstream lists the solution", "sample_rows")
    expect(window.show("splits").get_by_text("too_long: 59")).to_be_visible()


def test_check_page_has_the_evidence(window: Ui) -> None:
    """What is required, that it blocks, and what was read."""
    window.check("micro_mtp", "dtype")
    window.fits("Every tensor has the declared dtype, read from the tensor headers.")
    window.fits("blocking", "Passed", "tensors_by_dtype.float16", "38")


def test_schedule_is_on(made: Ui) -> None:
    """Integrity every night, on a schedule."""
    made.schedule("integrity_daily")
    made.sees("Every rule, every night at 03:00 UTC", "0 3 * * *", "integrity")
    assert made.page.locator("input[type=checkbox]").first.is_checked()


def test_sensors_are_off_and_say_what_they_do(made: Ui) -> None:
    """Automation and alerts are offered, with a switch."""
    for name in ("automation", "failure_alerts"):
        made.open(f"locations/wmtp_assets/sensors/{name}")
        made.sees("Off ")


def test_jobs_have_descriptions(made: Ui) -> None:
    """A list of names alone would have to be tried out."""
    made.open("jobs")
    jobs = ("models", "datasets", "small", "integrity", "everything")
    made.fits(*jobs)
    for job in jobs:
        made.job(job)
        made.fits("Description")
        expect(made.page.get_by_text("No description")).to_have_count(0)


def test_one_asset_is_made_by_a_click(made: Ui, store: Store) -> None:
    """Where it must be: its page shows the run, why, how fast, and results of all its checks."""
    micro = store.catalogue["micro_mtp"]
    before = store.manifest_path(micro).stat().st_ino
    store.path(micro, "configs/params.json").unlink()
    made.asset("micro_mtp")
    assert made.launch("Materialize") == "Success"
    made.sees(f"{RULES} checks")
    assert store.manifest_path(micro).stat().st_ino != before
    made.asset("micro_mtp")
    made.sees("Latest materialization", "seconds ago", "why", "megabytes_per_second")


def test_what_is_unchanged_is_not_made_by_a_click(made: Ui, store: Store) -> None:
    """Its page says so, and keeps all that it says of the artifact; checks say that they recall."""
    before = store.manifest_path(store.catalogue["micro_mtp"]).stat().st_ino
    made.asset("micro_mtp")
    assert made.launch("Materialize") == "Success"
    assert store.manifest_path(store.catalogue["micro_mtp"]).stat().st_ino == before
    made.asset("micro_mtp")
    made.sees("unchanged", "content_sha256", "tensors")
    made.check("micro_mtp", "dtype")
    made.sees("remembered", "verified_at", "tensors_by_dtype.float16")


def test_failed_blocking_check_stops_downstream(made: Ui, store: Store) -> None:
    """Training wrote a value head of the wrong shape: the check says what is wrong and what to do,
    and the card is not made from it."""
    import torch
    from safetensors.torch import save_file

    micro = store.catalogue["micro_mtp"]
    head = store.path(micro, "safetensors/value_head.safetensors")
    card = store.manifest_path(store.catalogue["micro_mtp_card"]).stat().st_mtime_ns
    said = {
        "place": "models_v2/micro-mtp/metadata.json: value_head",
        "expected": "a record of the value head",
        "found": "path None, but the file is there",
        "remedy": "wmtp value-head micro-mtp",
    }
    save_file({"value_head.weight": torch.zeros(512, 2)}, head)
    try:
        made.lineage('key:"micro_mtp" or key:"micro_mtp_card"')
        made.sees("micro_mtp_card")
        assert made.launch("Materialize all") == "Failure"
        made.sees("micro_mtp_value_head")
        for width in WIDTHS:
            made.resize(width)
            made.check("micro_mtp", "value_head")
            made.fits("Failed", "models_v2/micro-mtp/metadata.json: value_head")
            for name, text in said.items():
                made.fits(name, text)
        expect(made.show("first_findings").get_by_text("[512, 1]").first).to_be_visible()
        assert store.manifest_path(store.catalogue["micro_mtp_card"]).stat().st_mtime_ns == card
        made.resize(WIDE)
        made.upstream_of("micro_mtp_card")
        made.sees(f"{RULES - 1} / {RULES} Passed")
    finally:
        head.unlink()
