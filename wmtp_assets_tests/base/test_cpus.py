"""CPUs that a process may use: made-up cgroup files, as kernels and container engines have them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from wmtp_assets.base import cpus, settings
from wmtp_assets.base.cpus import usable_cpus
from wmtp_assets.base.settings import read_workers

CPUS = 16
"""That the process is bound to."""

JOB = "/system.slice/slurmstepd.scope/job_7"
SLURM = f"{JOB}/step_batch"


@pytest.fixture(autouse=True)
def many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large machine, whatever this one is."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {*range(CPUS)}, raising=False)


def write(top: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return top


def v2(group: str, **limits: str) -> dict[str, str]:
    """Files of cgroup v2, where a limit is given with the folder (dashes for slashes) it is of."""
    folder = "sys/fs/cgroup"
    files = {"proc/self/cgroup": f"0::{group}\n"}
    return files | {f"{folder}{where}/cpu.max": text for where, text in limits.items()}


def v1(group: str, mount: str, quota: str, period: str) -> dict[str, str]:
    """Files of cgroup v1, with hierarchies that say nothing of CPUs beside it."""
    folder = f"sys/fs/cgroup/{mount}{group}"
    return {
        "proc/self/cgroup": f"9:name=systemd:/\n5:cpu,cpuacct:{group}\n3:cpuset:/other\n0::/\n",
        f"{folder}/cpu.cfs_quota_us": quota,
        f"{folder}/cpu.cfs_period_us": period,
    }


CASES: dict[str, tuple[dict[str, str], int]] = {
    "no cgroups at all": ({}, CPUS),
    "v2, a pod with a namespace of its own": (v2("/", **{"": "300000 100000\n"}), 3),
    "v2, a part of a CPU": (v2("/", **{"": "50000 100000\n"}), 1),
    "v2, two and a half": (v2("/", **{"": "250000 100000\n"}), 3),
    "v2, no limit": (v2("/", **{"": "max 100000\n"}), CPUS),
    "v2, more than there are": (v2("/", **{"": "9900000 100000\n"}), CPUS),
    "v2, of the step": (v2(SLURM, **{SLURM: "200000 100000\n"}), 2),
    "v2, of the job above it": (
        v2(SLURM, **{SLURM: "max 100000\n", JOB: "400000 100000\n"}),
        4,
    ),
    "v2, the smaller of two": (
        v2(SLURM, **{SLURM: "800000 100000\n", JOB: "500000 100000\n"}),
        5,
    ),
    "v2, above the namespace": (v2("/../other", **{"": "600000 100000\n"}), 6),
    "v2, none of our paths is mounted": (v2("/kubepods/pod1/c", **{"": "700000 100000\n"}), 7),
    "v1": (v1("/docker/c", "cpu,cpuacct", "200000\n", "100000\n"), 2),
    "v1, mounted by the short name": (v1("/docker/c", "cpu", "150000\n", "100000\n"), 2),
    "v1, no limit": (v1("/docker/c", "cpu,cpuacct", "-1\n", "100000\n"), CPUS),
    "v1, in a container": (
        v1("", "cpu,cpuacct", "300000\n", "100000\n")
        | {"proc/self/cgroup": "5:cpu,cpuacct:/docker/c\n"},
        3,
    ),
    "another controller with cpu in its name": (
        v1("/x", "cpu", "100000\n", "100000\n") | {"proc/self/cgroup": "3:cpuset:/x\n"},
        CPUS,
    ),
    "not numbers": (v2("/", **{"": "what?\n"}), CPUS),
    "a period of nothing": (v2("/", **{"": "100000 0\n"}), CPUS),
    "lines of no use": ({"proc/self/cgroup": "\n::\n0\n"}, CPUS),
}


@pytest.mark.parametrize("name", CASES)
def test_cgroup_limit_counts(tmp_path: Path, name: str) -> None:
    """A container with two CPUs of sixty-four must not start sixty-four processes: each has its
    memory, and they take turns."""
    files, count = CASES[name]
    assert usable_cpus(write(tmp_path, files)) == count


def test_affinity_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smaller of the two: Slurm binds to CPUs, Kubernetes has quotas."""
    top = write(tmp_path, v2("/", **{"": "300000 100000\n"}))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5})
    assert usable_cpus(top) == 2


def test_elsewhere_every_cpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has neither."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert usable_cpus(write(tmp_path, v2("/", **{"": "300000 100000\n"}))) == 8


def test_workers_follow_the_limit_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person says is what is done."""
    assert settings.usable_cpus is cpus.usable_cpus
    monkeypatch.setattr(settings, "usable_cpus", lambda: 3)
    assert read_workers({}) == 3
    assert read_workers({"WMTP_WORKERS": "12"}) == 12
