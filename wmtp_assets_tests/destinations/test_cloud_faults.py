"""Each fault of the list, played to the real clients against strict servers on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets.base.errors import PublishError
from wmtp_assets.operations.publish import publish
from wmtp_assets_tests.destinations.cloud_faults import FAULTS, CloudFault, table
from wmtp_assets_tests.destinations.conftest import ACCOUNT_KEY, Cloud
from wmtp_assets_tests.destinations.test_clouds import one_after_the_other
from wmtp_assets_tests.destinations.test_faults import commit_model, sent, state_of
from wmtp_assets_tests.destinations.trees import files_below
from wmtp_assets_tests.quick import quick, thinned

DOCS = Path(__file__).parents[2] / "docs/publishing-faults.md"


@pytest.mark.parametrize(
    "fault",
    quick(thinned(FAULTS, [*FAULTS[::4], *FAULTS[1::4]]), FAULTS[::4]),
    ids=lambda fault: fault.name,
)
def test_publishing(
    fault: CloudFault, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for S3: what the table says is what happens, and after every fault a sound server is all
    that is needed."""
    one_after_the_other(monkeypatch)
    publish(commit_model(tmp_path / "storage", 1), None, cloud.open())
    before = cloud.objects()
    store = commit_model(tmp_path / "storage", 2)
    local = files_below(store.root)
    outcome, error = fault.outcomes[cloud.scheme], fault.error(cloud.scheme)
    cloud.front.soundly()
    fault.play(cloud.scheme)(cloud.front)
    if error:
        with pytest.raises(PublishError) as raised:
            publish(store, None, cloud.open())
        text = str(raised.value)
        assert error in text
        assert "\n" not in text
        assert "secret" not in text
        assert ACCOUNT_KEY not in text
    else:
        publish(store, None, cloud.open())
    moved = sent(cloud.front)
    cloud.front.soundly()
    state = state_of(cloud.objects(), before, local)
    assert (moved, state) == (outcome.moved, outcome.state)

    publish(store, None, cloud.open())
    assert sent(cloud.front) == outcome.again
    assert state_of(cloud.objects(), before, local) == "new"


def test_the_docs_have_this_table() -> None:
    """A table that is written by hand is true on the day it is written."""
    assert table() in DOCS.read_text()
