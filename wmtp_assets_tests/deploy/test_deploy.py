"""``deploy/``: nothing is built or started here; ``docs/clusters.md`` says so.

What a parser, a linter or a comparison with this project can find is found before somebody's
cluster does. Linters are those of the extra ``dev``; where one is not installed, its test is
skipped.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from wmtp_assets.base.settings import VARIABLES
from wmtp_assets.components.guard import Guard, read_hosts

PROJECT = Path(__file__).resolve().parents[2]
DEPLOY = PROJECT / "deploy"
COMPOSE, VALUES, DOCKERFILE = (DEPLOY / it for it in ("compose.yaml", "values.yaml", "Dockerfile"))
KEYS = Path(__file__).with_name("chart_keys.yaml")
SCRIPTS = [DEPLOY / "controller.sbatch", DEPLOY / "entrypoint.sh"]

ENGINES = {"WMTP_ENGINE", "WMTP_DATABASE_URL"}
"""Variables of the engines."""


def program(name: str) -> str:
    """A linter, beside the Python that runs this or elsewhere."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.yaml")), ids=lambda path: path.name)
def test_yaml(path: Path) -> None:
    """It can be read, and no key is there twice, which a parser passes over."""

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.value != "<<"]
        assert len(keys) == len({*keys}), (path, keys)
        loader.flatten_mapping(node)
        return dict(loader.construct_pairs(node))

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    assert yaml.load(path.read_text(), Loader)


def test_variables_are_declared() -> None:
    """A misspelt variable is read by nobody."""
    known = {str(variable) for variable in VARIABLES} | ENGINES
    for path in DEPLOY.iterdir():
        names = set(re.findall(r"\bWMTP_[A-Z_]*[A-Z]", path.read_text()))
        assert names <= known, path


def test_no_secret_is_in_a_file() -> None:
    """They are read from deploy/.env, which git and the builder never see, or from the cluster's
    secrets."""
    secret = re.compile(r"(?i)(?:password|token)\w*\s*[:=]\s*(?!-}|\$[{(]|\.\.\.|\?write)(\S+)")
    for path in DEPLOY.iterdir():
        assert secret.findall(path.read_text()) in ([], ["false"]), path
    assert "deploy/.env" in (PROJECT / ".gitignore").read_text().replace("/deploy", "deploy")
    assert not any(is_sent(name) for name in ("deploy/.env", ".git/config", "storage/sample/x"))


def is_sent(name: str) -> bool:
    """Whether the builder gets a file, by the rules of ``.dockerignore``: the last that fits."""
    sent = True
    for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        is_kept = pattern.startswith("!")
        pattern = pattern.removeprefix("!").removeprefix("**/")
        parts = name.split("/")
        depth = pattern.count("/") + 1
        above = "/".join(parts[:depth])
        if len(parts) >= depth and fnmatch(above, pattern):
            sent = is_kept
    return sent


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, with their continuation lines."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, rest) for name, rest in found]


def test_images() -> None:
    """Two stages, neither of which runs as root; nothing is copied that the builder is not sent."""
    stages = [rest.split()[-1] for name, rest in instructions() if name == "FROM"]
    assert stages == ["base", "platform"]
    users = [rest for name, rest in instructions() if name == "USER"]
    assert users
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)
    for name, rest in instructions():
        if name != "COPY":
            continue
        *sources, _ = [word for word in rest.split() if not word.startswith("--")]
        for source in sources:
            path = PROJECT / source
            assert path.exists(), source
            files = [path] if path.is_file() else [*path.rglob("*")]
            names = [file.relative_to(PROJECT).as_posix() for file in files if file.is_file()]
            assert any(map(is_sent, names)), source
            assert path.is_dir() or all(map(is_sent, names)), source


def test_hadolint() -> None:
    """What it knows about Dockerfiles; a broken one is found."""
    hadolint = program("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    broken = DOCKERFILE.read_text().replace("USER 10001:10001", "USER root")
    assert subprocess.run([hadolint, "-"], input=broken, text=True, capture_output=True).returncode


def test_entrypoint_runs_the_command(tmp_path: Path) -> None:
    """In the environment of activate.sh, and as the same process: signals reach it."""
    (tmp_path / "activate.sh").write_text("export DAGSTER_HOME=/of/activate\n")
    script = (DEPLOY / "entrypoint.sh").read_text().replace("/opt/wmtp", str(tmp_path))
    done = subprocess.run(
        ["bash", "-c", script, "entrypoint", "bash", "-c", 'echo "$DAGSTER_HOME"; exit 3'],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (3, "/of/activate\n")
    assert os.access(DEPLOY / "entrypoint.sh", os.X_OK)


def refused(document: Any) -> bool:
    """Whether the Compose specification refuses a document."""
    if importlib.util.find_spec("compose_spec") is None:
        pytest.skip("compose-spec is not installed")
    from compose_spec import PyCompose  # pyright: ignore[reportMissingImports]

    try:
        PyCompose.from_yaml(yaml.safe_dump(document)).validate()
    except Exception:
        return True
    return False


def test_compose_specification() -> None:
    """What is not in the specification is refused by ``docker compose``, at start."""
    document = load(COMPOSE)
    assert not refused(document)
    broken = copy.deepcopy(document)
    broken["services"]["code"]["depends_on"]["prepare"]["condition"] = "service_is_done"
    assert refused(broken)


def test_compose() -> None:
    """Reached from this host alone; whatever runs is watched; one volume; what is waited for and
    mounted is there."""
    document = load(COMPOSE)
    services: Mapping[str, Any] = document["services"]
    assert {*services} == {"postgres", "prepare", "code", "webserver", "daemon"}
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert {*service.get("depends_on", {})} <= {*services}
        assert {volume.split(":")[0] for volume in service["volumes"]} <= {*document["volumes"]}
        if name != "prepare":
            assert service["healthcheck"]["test"][0] == "CMD", name
            assert service["restart"] == "unless-stopped"
        if name != "postgres":
            assert "storage:/storage" in service["volumes"]
            assert service["cap_drop"] == ["ALL"]
    build = services["prepare"]["build"]
    assert (COMPOSE.parent / build["context"] / build["dockerfile"]).is_file()
    (server,) = load(DEPLOY / "workspace.yaml")["load_from"]
    port = str(server["grpc_server"]["port"])
    assert server["grpc_server"]["host"] in services
    assert port in services["code"]["command"]


def test_modules_exist() -> None:
    """What the files start is in this project, or a program of Dagster's packages."""
    text = "".join(path.read_text() for path in DEPLOY.iterdir())
    modules = set(re.findall(r"\bwmtp_assets(?:\.\w+)+", text))
    assert modules >= {"wmtp_assets.definitions", "wmtp_assets.components.instance"}
    for module in modules:
        assert importlib.util.find_spec(module), module
    programs = {it.name for it in entry_points(group="console_scripts")}
    assert {"wmtp", "dagster", "dagster-webserver", "dagster-daemon"} <= programs


def unknown(values: Any, keys: Any, at: str = "") -> list[str]:
    """The keys that the chart does not know."""
    if isinstance(keys, list):
        items = enumerate(values)
        return [it for number, item in items for it in unknown(item, keys[0], f"{at}[{number}]")]
    found: list[str] = []
    for key, value in values.items() if keys is not None else ():
        place = f"{at}.{key}".lstrip(".")
        found += [place] if key not in keys else unknown(value, keys[key], place)
    return found


def test_values_are_keys_of_the_chart() -> None:
    """A key that the chart does not know is refused, or changes nothing."""
    values = load(VALUES)
    assert unknown(values, load(KEYS)) == []
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    assert values["computeLogManager"]["type"] == "CustomComputeLogManager"
    required = {"imagePullPolicy", "loadInclusterConfig", "envConfigMaps", "envSecrets", "envVars"}
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    assert required | {"volumes", "volumeMounts"} <= {*launcher}


def _deployment(values: Any) -> Any:
    (found,) = values["dagster-user-deployments"]["deployments"]
    return found


BREAK: list[tuple[str, Callable[[Any], Any]]] = [
    ("dagit", lambda values: values.__setitem__("dagit", {})),
    (
        "runLauncher.config.k8sRunLauncher.env",
        lambda values: values["runLauncher"]["config"]["k8sRunLauncher"].__setitem__("env", {}),
    ),
    (
        "dagster-user-deployments.deployments[0].volume",
        lambda values: _deployment(values).__setitem__("volume", 1),
    ),
]


@pytest.mark.parametrize(("place", "damage"), BREAK, ids=[place for place, _ in BREAK])
def test_other_keys_are_found(place: str, damage: Callable[[Any], Any]) -> None:
    """Names that another version has, or another part of the chart."""
    values = load(VALUES)
    damage(values)
    assert unknown(values, load(KEYS)) == [place]


def test_every_pod_sees_the_root() -> None:
    """The claim that is mounted is the one that is made, by many nodes, at the same place; every
    of our pods runs the same image, and not as root."""
    values, claim = load(VALUES), load(DEPLOY / "claim.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    pods = [values["dagsterWebserver"], values["dagsterDaemon"], deployment, launcher]
    for pod in pods:
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert [mount["mountPath"] for mount in pod["volumeMounts"]] == ["/storage"]
        assert {"requests", "limits"} == {*pod["resources"]}
        assert pod.get("image", deployment["image"]) == deployment["image"]
        ours = pod.get("podSecurityContext")
        user = ours or pod["runK8sConfig"]["podSpecConfig"]["securityContext"]
        assert user["runAsNonRoot"]
        assert str(user["runAsUser"]) in DOCKERFILE.read_text()
    of_code = {f"{it['name']}={it['value']}" for it in deployment["env"]}
    assert of_code == {*launcher["envVars"]}


def test_web_server_of_the_chart_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart writes the ``dagster.yaml`` of its pods: without our class of instance, any page in
    a browser behind ``kubectl port-forward`` could start runs. The guard lets in the kubelet's
    probe, which would otherwise come under the pod's address, and the forwarded port."""
    values = load(VALUES)
    ours = load(PROJECT / ".dagster/cluster/dagster.yaml")["instance_class"]
    assert values["additionalInstanceConfig"]["instance_class"] == ours
    server = values["dagsterWebserver"]
    for item in server["env"]:
        monkeypatch.setenv(item["name"], item["value"])
    probe = server["readinessProbe"]["httpGet"]
    assert probe["port"] == server["service"]["port"]
    (host,) = [header["value"] for header in probe["httpHeaders"] if header["name"] == "Host"]
    guard = Guard(lambda *_: None, read_hosts())  # type: ignore[arg-type]

    def status(host: str) -> int:
        scope = {
            "type": "http",
            "method": "GET",
            "path": probe["path"],
            "query_string": b"",
            "headers": [(b"host", host.encode())],
            "server": ("10.0.0.7", probe["port"]),
        }
        refusal = guard._refuse(scope)
        return refusal[0] if refusal else 200

    assert [status(name) for name in (host, "127.0.0.1:3000", "localhost:3000")] == [200] * 3
    assert [status(name) for name in ("10.0.0.7:80", "evil.example.org")] == [403] * 2


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts(path: Path) -> None:
    """Bash can parse it, and shellcheck finds nothing; a broken one is found."""
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    shellcheck = program("shellcheck")
    done = subprocess.run([shellcheck, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    broken = path.read_text() + "\necho $1\n"
    assert subprocess.run(
        [shellcheck, "--shell=bash", "-"], input=broken, text=True, capture_output=True
    ).returncode


ENDS = {
    "python": "",
    "dagster-webserver": "until [ -e daemon ]; do sleep 0.01; done; exit ${CODE:-0}",
    "dagster-daemon": "touch daemon; exec sleep 60",
}
"""The web server ends when the daemon has said how it was called, not before."""


def interruptible() -> None:
    """As Slurm starts a script: tests that run in the background of a shell ignore SIGINT, and what
    they start inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def controller(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The script, in a project whose programs say how they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "activate.sh").write_text(f'export PATH="{programs}:$PATH" DAGSTER_HOME=/of/it\n')
    for name in ("python", "dagster", "dagster-webserver", "dagster-daemon"):
        script = f'#!/bin/bash\necho "{name} $* engine=$WMTP_ENGINE home=$DAGSTER_HOME"\n'
        (programs / name).write_text(script + ENDS.get(name, "exit ${CODE:-0}"))
        (programs / name).chmod(0o755)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", SCRIPTS[0], *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            timeout=50,
            preexec_fn=interruptible,
        )

    return run


Controller = Callable[..., subprocess.CompletedProcess[str]]
SHARED = {"WMTP_STORAGE_ROOT": "/shared", "WMTP_DATABASE_URL": "postgresql://db/dagster"}


@pytest.mark.parametrize("missing", SHARED)
def test_controller_needs_what_is_shared(controller: Controller, missing: str) -> None:
    """Without them each node would have a root or a history of its own."""
    done = controller("+micro_mtp", **{k: v for k, v in SHARED.items() if k != missing})
    assert done.returncode != 0
    assert f"export {missing}" in done.stderr
    assert done.stdout == ""


def test_controller_materializes(controller: Controller) -> None:
    """One selection; its exit code is the job's."""
    done = controller("+micro_mtp", **SHARED, CODE="7")
    assert done.returncode == 7, done.stderr
    prepared, made = done.stdout.splitlines()
    assert prepared.startswith("python -m wmtp_assets.components.instance engine=slurm")
    assert made == "dagster asset materialize --select +micro_mtp engine=slurm home=/of/it"


def test_controller_serves_this_node_alone(controller: Controller) -> None:
    """Web server and daemon; when one of them ends, so does the other, and the job fails."""
    done = controller(**SHARED, CODE="3")
    assert done.returncode == 3, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("dagster-webserver --host 127.0.0.1 ") for line in lines)
    assert any(line.startswith("dagster-daemon run ") for line in lines)
    options = re.findall(r"^#SBATCH (\S+?)[=\s]", SCRIPTS[0].read_text(), re.M)
    assert {"--mem", "--time", "--cpus-per-task"} <= {*options}
