"""What the steps of an artifact ask a cluster for, as tags that engines read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wmtp_assets.base.settings import read_settings
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import needs_of

SLURM_TAG = "slurm/sbatch"
"""Options of ``sbatch`` for the job of a step."""

KUBERNETES_TAG = "dagster-k8s/config"
"""What ``dagster-k8s`` puts into the Job of a step."""


def tags_of(artifact: Artifact[Any]) -> Mapping[str, Any]:
    """Tags of the steps that make and check an artifact: memory, rounded up to MiB, and CPUs.

    Raises:
        SpecError: if a setting is malformed.
    """
    needs = needs_of(artifact, read_settings().source)
    mebibytes = -(-needs.memory // (1 << 20))
    wanted = {"cpu": str(needs.cpus), "memory": f"{mebibytes}Mi"}
    return {
        SLURM_TAG: f"--mem={mebibytes}M --cpus-per-task={needs.cpus}",
        KUBERNETES_TAG: {"container_config": {"resources": {"requests": wanted, "limits": wanted}}},
    }
