"""The rule ``made_with``: an artifact was made as its ``defs.yaml`` says now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.rules.findings import is_warning
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.rules.cases import KEY, Case, apply, edit_manifest
from wmtp_assets_tests.trees import reseal

MANIFEST = {kind: load_catalogue()[key].manifest for kind, key in KEY.items()}


def _another_version(store: Store, artifact: Artifact) -> Store:
    return respec(store, artifact.spec.name, version="v9.9.9")


def _other_small(store: Store, artifact: Artifact) -> Store:
    return respec(store, artifact.spec.name, small={"seed": 3})


CASES = [
    *(
        Case(
            "another version in defs.yaml",
            "made_with",
            kind,
            _another_version,
            MANIFEST[kind],
            "version",
            r"v9\.9\.9",
            r"v2\.0\.0",
        )
        for kind in KEY
    ),
    Case(
        "another setting in defs.yaml",
        "made_with",
        "small",
        _other_small,
        MANIFEST["small"],
        "made_with.settings.small.seed",
        "3",
        "0",
    ),
    Case(
        "another builder",
        "made_with",
        "pairs",
        edit_manifest(made_with__builder=1),
        MANIFEST["pairs"],
        "made_with.builder",
        "2",
        "1",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(store: Store, case: Case) -> None:
    """Whoever trains reads ``defs.yaml`` to know what he has."""
    case.check(store)


def test_manifest_that_does_not_say_is_not_refused(store: Store) -> None:
    """The version before wrote none: its artifacts are as good as they were, and are published."""
    artifact = store.catalogue["mbpp_small"]
    edit_manifest(made_with=None)(store, artifact)
    outcome = apply(store, artifact, "made_with")
    assert is_warning(outcome)
    (finding,) = outcome.findings
    assert finding.found == "made by an earlier version, which did not say builder, small"
    assert finding.remedy == "wmtp migrate mbpp_small"


def test_time_in_the_future_is_a_warning(store: Store) -> None:
    """Nobody signed it, so it may claim any: pulls would refuse whatever is made later."""
    artifact = store.catalogue["mbpp_small"]
    tomorrow = f"{datetime.now(UTC) + timedelta(hours=23):%Y-%m-%dT%H:%M:%SZ}"
    reseal(store, artifact, created_at=tomorrow)
    assert apply(store, artifact, "made_with").findings == []
    reseal(store, artifact, created_at="9999-12-31T23:59:59Z")
    outcome = apply(store, artifact, "made_with")
    assert is_warning(outcome)
    (finding,) = outcome.findings
    assert (finding.place, finding.found) == ("created_at", "9999-12-31T23:59:59Z")
