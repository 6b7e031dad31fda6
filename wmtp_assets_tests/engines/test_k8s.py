"""Jobs of Kubernetes, without a cluster: rendered for a real run, compared with Kubernetes' own
schema, and their commands run on this machine, as a kubelet would."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import yaml

from wmtp_assets.base.errors import StoreError
from wmtp_assets.components import hosts
from wmtp_assets_tests.engines.conftest import KEY, lose
from wmtp_assets_tests.engines.programs import PASSWORD
from wmtp_assets_tests.engines.site import PROJECT, Site

pytestmark = pytest.mark.engines

CONFIG = {"execution": {"config": {"poll_seconds": 1}}}
LAUNCHER = {
    "module": "dagster_k8s",
    "class": "K8sRunLauncher",
    "config": {
        "service_account_name": "wmtp",
        "instance_config_map": "wmtp-instance",
        "dagster_home": "/opt/dagster/home",
        "job_image": "registry.example.org/wmtp:1",
        "job_namespace": "wmtp",
        "load_incluster_config": False,
        "env_secrets": ["wmtp-database"],
        "volumes": [{"name": "root", "persistentVolumeClaim": {"claimName": "wmtp-root"}}],
        "volume_mounts": [{"name": "root", "mountPath": "/srv/storage"}],
    },
}
"""As Dagster's Helm chart writes it into the instance."""


class Kubelet:
    """Runs the containers of Jobs on this machine; the API server, as far as the client asks it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.jobs: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.root = site.root
        """What is mounted in pods."""

    def create_namespaced_job_with_retries(self, body: Any, namespace: str) -> None:
        import kubernetes

        job = kubernetes.client.ApiClient().sanitize_for_serialization(body)
        (container,) = job["spec"]["template"]["spec"]["containers"]
        name = job["metadata"]["name"]
        self.jobs[name] = job
        given = {item["name"]: item["value"] for item in container["env"] if "value" in item}
        secret = {"WMTP_DATABASE_URL": self.site.variables["WMTP_DATABASE_URL"]}
        command = hosts.command_of(container["args"])
        with self.site.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env={**self.site.variables, **secret, **given, "WMTP_STORAGE_ROOT": str(self.root)},
                cwd=PROJECT,
                stdout=log,
                stderr=log,
            )

    def get_job_status(self, job_name: str, namespace: str) -> Any:
        code = self.processes[job_name].poll()
        return SimpleNamespace(failed=int(bool(code)), succeeded=int(code == 0))

    def delete_job(self, job_name: str, namespace: str) -> None:
        self.processes[job_name].terminate()


@pytest.fixture
def instance(site: Site, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of a pod."""
    document = yaml.safe_load((PROJECT / ".dagster/cluster/dagster.yaml").read_text())
    del document["run_monitoring"]
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({**document, "run_launcher": LAUNCHER}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def kubelet(site: Site, monkeypatch: pytest.MonkeyPatch) -> Kubelet:
    """In place of the cluster."""
    kubernetes = pytest.importorskip("kubernetes", reason="not installed: make test-engines")
    import dagster_k8s.executor

    made = Kubelet(site)
    client = SimpleNamespace(production_client=lambda **_: made)
    monkeypatch.setattr(dagster_k8s.executor, "DagsterKubernetesClient", client)
    monkeypatch.setattr(kubernetes.config, "load_kube_config", lambda *_, **__: None)
    monkeypatch.setattr(
        kubernetes.client, "VersionApi", lambda: SimpleNamespace(get_code=lambda **_: None)
    )
    for name, value in {**site.variables, "WMTP_ENGINE": "k8s"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(PROJECT)
    return made


def run(instance: dg.DagsterInstance, select: str) -> dg.ExecuteJobResult:
    """Run assets in this process, with steps where the engine has them."""
    from dagster._core.code_pointer import ModuleCodePointer
    from dagster._core.definitions.reconstruct import ReconstructableRepository

    pointer = ModuleCodePointer("wmtp_assets.definitions", "defs", str(PROJECT))
    job = ReconstructableRepository(pointer).get_reconstructable_job("__ASSET_JOB")
    return dg.execute_job(
        job,
        instance,
        run_config=CONFIG,
        asset_selection=[dg.AssetKey(select)],
    )


def test_run_of_jobs(site: Site, kubelet: Kubelet, instance: dg.DagsterInstance) -> None:
    """Each is a valid Job with the volume of the storage root, and makes its artifact; the password
    of the database comes from a Secret only."""
    import kubernetes_validate

    lose(site)
    with run(instance, KEY) as result:
        assert result.success
    store = site.store
    assert store.path(store.catalogue[KEY], "test_small.jsonl").is_file()
    assert len(kubelet.jobs) == 2  # the artifact with its checks, and what looked before
    for job in kubelet.jobs.values():
        kubernetes_validate.validate(job, "1.31", strict=True)
        assert PASSWORD not in str(job)
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert {"name": "root", "mountPath": "/srv/storage"} in container["volumeMounts"]
        assert {"secretRef": {"name": "wmtp-database"}} in container["envFrom"]
        assert {"name": "WMTP_ENGINE", "value": "k8s"} in container["env"]
    job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = "root"
    with pytest.raises(kubernetes_validate.ValidationError):  # what held above was seen to fail
        kubernetes_validate.validate(job, "1.31", strict=True)


def test_root_that_is_not_shared(
    site: Site, kubelet: Kubelet, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """A claim that is ``ReadWriteOnce``, or another one: one error before the first step."""
    lose(site)
    kubelet.root = tmp_path / "elsewhere"
    with run(instance, KEY) as result:
        assert not result.success
    (job,) = kubelet.jobs.values()
    assert "podAntiAffinity" in job["spec"]["template"]["spec"]["affinity"]
    (why,) = site.events(result.run_id, dg.DagsterEventType.RUN_FAILURE)
    assert f"the storage root {kubelet.root} on " in why
    assert not site.events(result.run_id, dg.DagsterEventType.STEP_START)


def context_of(instance: dg.DagsterInstance) -> Any:
    """What an executor is made from."""
    return SimpleNamespace(
        instance=instance,
        executor_config={"retries": {"enabled": {}}},
        _replace=lambda **changes: SimpleNamespace(instance=instance, **changes),
    )


def test_no_cluster(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One error before the first step: neither a pod nor a kubeconfig."""
    pytest.importorskip("kubernetes", reason="not installed: make test-engines")
    from wmtp_assets.components.engines import k8s

    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(StoreError, match="the Kubernetes cluster cannot be used: "):
        k8s._create(context_of(instance))


def test_no_launcher_of_kubernetes(site: Site) -> None:
    """dagster-k8s fails without it in the middle of the first step."""
    pytest.importorskip("kubernetes", reason="not installed: make test-engines")
    from wmtp_assets.components.engines import k8s

    with pytest.raises(StoreError, match="is LocalRunLauncher"):
        k8s._create(context_of(site.history))
