"""The web UI by clicks: what a person looks for is there, and what is pressed happens.

The tests are in the order in which a newcomer would do it, over one project and one instance: first
everything is made.
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
from wmtp_assets_tests.browser.ui import CHROMIUM, Ui, opened
from wmtp_assets_tests.pages import Copy
from wmtp_assets_tests.trees import link_tree

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


RULES = len(rules_of(load_catalogue()["micro_mtp"]))


@pytest.fixture(scope="module")
def ui(good_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The web UI of a project whose instance knows nothing yet."""
    folder = tmp_path_factory.mktemp("browser")
    link_tree(good_root, folder / "storage")
    with opened(Copy.make(folder / "project", folder / "storage")) as ui:
        yield ui


@pytest.fixture(scope="module")
def made(ui: Ui) -> Ui:
    """The same, after the job ``everything`` was launched by a click."""
    ui.job("everything")
    ui.sees("Every asset that is not optional, with all checks.")
    assert ui.launch("Materialize all") == "Success"
    return ui


@pytest.fixture(scope="module")
def store(ui: Ui) -> Store:
    """The storage root that is served."""
    return Store(Settings("sample", ui.project.root), load_catalogue())


def test_lineage_shows_where_a_model_comes_from(made: Ui) -> None:
    """From the repository to the micro model, grouped, with what was checked of each."""
    made.upstream_of("micro_mtp")
    made.sees("upstream", "models", "micro", "multi-token-prediction", "Hugging Face", "PyTorch")
    made.sees("meta_llama_mtp_raw", "meta_llama_mtp_tokenizer", "meta_llama_mtp_safetensors")
    made.sees(f"{RULES} / {RULES} Passed", "sentencepiece")


@pytest.mark.parametrize(
    "group", ["upstream", "models", "micro", "datasets", "small", "reports", "published"]
)
def test_lineage_has_the_groups(made: Ui, group: str) -> None:
    """The graph of 58 nodes opens as seven boxes."""
    made.open("asset-groups")
    made.sees(group)


def test_asset_page_answers_what_where_from_and_whether(made: Ui, store: Store) -> None:
    """What it is, how large, of which dtype, from which commit, checked by what, decided where."""
    made.asset("micro_mtp")
    manifest = store.manifest(store.catalogue["micro_mtp"])
    revision = manifest.document["source"]["revision"]
    made.sees(
        "A laptop-sized model with the same code paths as meta_llama_mtp",
        "At most 50.0 MB.",
        str(manifest.size),
        human_bytes(manifest.size),
        manifest.content_sha256,
        "float16",
        "24908288",
        f"https://huggingface.co/facebook/multi-token-prediction/tree/{revision}",
        "unchanged",
        "layers.0.attention.wq.weight",
        "defs.yaml",
        "wmtp",
    )
    expect(made.page.get_by_role("link", name="micro", exact=True)).to_be_visible()


def test_picture_of_a_model(made: Ui) -> None:
    """Size by part: an image that the browser can draw."""
    made.asset("micro_mtp")
    _is_drawn(made, "size_by_part")


@pytest.mark.parametrize("name", ["token_lengths", "labels", "difficulties"])
def test_pictures_of_a_dataset(made: Ui, name: str) -> None:
    """Beside the numbers they are drawn from."""
    made.asset("codecontests_stats")
    _is_drawn(made, name)


def _is_drawn(ui: Ui, name: str) -> None:
    image = ui.show(name).locator("img")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.complete && image.naturalWidth") > 300


def test_rows_are_shown(made: Ui) -> None:
    """Row count, columns with their types, and why rows were left out."""
    made.asset("codecontests_processed")
    made.sees("Row count", "6,038", "too_long: 59", "sample_rows", "Columns", "task_id")


def test_check_page_has_the_evidence(made: Ui) -> None:
    """What is required, that it blocks, and what was read."""
    made.check("micro_mtp", "dtype")
    made.sees("Every tensor has the declared dtype, read from the tensor headers.")
    made.sees("blocking", "Passed", "tensors_by_dtype.float16", "38")


def test_schedule_is_on(made: Ui) -> None:
    """Integrity every night, without anyone remembering to."""
    made.schedule("integrity_daily")
    made.sees("Every rule, every night at 03:00 UTC", "0 3 * * *", "integrity")
    assert made.page.locator("input[type=checkbox]").first.is_checked()


def test_sensors_are_off_and_say_what_they_do(made: Ui) -> None:
    """Automation and alerts are offered, with a switch."""
    made.open("automation")
    made.sees("automation", "failure_alerts", "integrity_daily")
    for name in ("automation", "failure_alerts"):
        made.open(f"locations/wmtp_assets/sensors/{name}")
        made.sees("Off ")


@pytest.mark.parametrize("job", ["models", "datasets", "small", "integrity", "everything"])
def test_jobs_have_descriptions(made: Ui, job: str) -> None:
    """A list of names alone would have to be tried out."""
    made.open("jobs")
    made.sees(job)
    made.job(job)
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
    made.sees("unchanged", "content_sha256", "layers.0.attention.wq.weight")
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
    save_file({"value_head.weight": torch.zeros(512, 2)}, head)
    try:
        made.lineage('key:"micro_mtp" or key:"micro_mtp_card"')
        made.sees("micro_mtp_card")
        assert made.launch("Materialize all") == "Failure"
        made.sees("micro_mtp_value_head")
        made.check("micro_mtp", "value_head")
        made.sees("Failed", "first_findings", "expected", "found", "remedy", "[512, 1]")
        assert store.manifest_path(store.catalogue["micro_mtp_card"]).stat().st_mtime_ns == card
        made.upstream_of("micro_mtp_card")
        made.sees(f"{RULES - 1} / {RULES} Passed")
    finally:
        head.unlink()
