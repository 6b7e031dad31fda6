"""What a run may say of itself: that nothing is left out, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInvalidConfigError

from wmtp_assets.components.storage import FORCE
from wmtp_assets.definitions import defs

PLACES = [
    ("storage", "root"),
    ("storage", "source"),
    ("storage", "defs_folder"),
    ("destination", "url"),
]


@pytest.fixture(scope="module")
def jobs() -> list[dg.JobDefinition]:
    """Every job, also the one that single assets are made in."""
    repository = defs().get_repository_def()
    return [repository.get_job(name) for name in repository.job_names]


def test_no_place_is_run_configuration(jobs: list[dg.JobDefinition]) -> None:
    """The launchpad shows the fields of this schema; whoever fills it in would choose which folder
    is written to, and where artifacts are sent. Dagster's io_manager has one, and is never used:
    assets meet on disk."""
    assert len(jobs) > 6
    for job in jobs:
        fields: Any = job.run_config_schema.run_config_schema_type
        resources = getattr(fields, "fields", {}).get("resources")
        ours = resources.config_type.fields.keys() - {"io_manager"}
        for name in ours:
            resource = resources.config_type.fields[name]
            config = resource.config_type.fields.get("config")
            asked = set(getattr(config.config_type, "fields", {})) if config else set()
            assert asked == ({"force"} if name == "options" else set()), (job.name, name)


@pytest.mark.parametrize(("resource", "field"), PLACES)
def test_place_in_a_run_configuration_is_refused(
    jobs: list[dg.JobDefinition], resource: str, field: str, tmp_path: Path
) -> None:
    """Before anything is done; as the web server and the command line do it."""
    config = {"resources": {resource: {"config": {field: str(tmp_path)}}}}
    for job in jobs:
        with pytest.raises(DagsterInvalidConfigError):
            dg.validate_run_config(job, config)


def test_force_is_run_configuration(jobs: list[dg.JobDefinition]) -> None:
    """``make materialize FORCE=1``, and the launchpad."""
    for job in jobs:
        if "options" in job.resource_defs:
            dg.validate_run_config(job, FORCE)
