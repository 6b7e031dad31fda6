"""PostgreSQL, Slurm with two nodes and Ray with two nodes, started for a test in a folder of their
own, on ports of 127.0.0.1 that nobody has."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

PASSWORD = "s3cret-of-the-database"
"""Must be nowhere but in the environment."""

SERVERS = (Path("/usr/sbin"), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))


def program(name: str) -> str:
    """The path of a program; the test is skipped where it is not installed."""
    path = os.pathsep.join([os.environ["PATH"], *map(str, SERVERS)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install slurm-wlm munge postgresql")
    return found


def eventually(what: Callable[[], T | None], about: str, seconds: float = 300) -> T:
    """The first value of ``what`` that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {about}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    found = [socket.socket() for _ in range(count)]
    for one in found:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in found]
    for one in found:
        one.close()
    return ports


def answers(port: int) -> bool:
    """Whether something listens."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def descendants(pid: int) -> list[int]:
    """A process and all that it started, by ``/proc``."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            number, _, rest = stat.read_text().partition(" (")
            parents.setdefault(int(rest.rpartition(") ")[2].split()[1]), []).append(int(number))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def kill_tree(pid: int) -> None:
    """SIGKILL for a process and all that it started."""
    for one in descendants(pid):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


@contextmanager
def folder_of(name: str) -> Iterator[Path]:
    """A folder with a short path (sockets have at most 107 characters) that others may enter."""
    folder = Path(tempfile.mkdtemp(prefix=f"wmtp-{name}-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# -- PostgreSQL ------------------------------------------------------------------------------------


@dataclass
class Postgres:
    """A database cluster of its own."""

    folder: Path
    port: int
    as_user: list[str]

    @property
    def url(self) -> str:
        """What ``WMTP_DATABASE_URL`` is set to."""
        return f"postgresql://wmtp:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def url_by_socket(self) -> str:
        """The same, for processes in other network namespaces."""
        return f"postgresql://wmtp:{PASSWORD}@/postgres?host={self.folder}&port={self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = (
            f"-k {self.folder} -p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off "
            "-c max_connections=300"
        )
        self._pg_ctl("start", "-w", "-o", options, "-l", str(self.folder / "log"))

    def stop(self, mode: str = "immediate") -> None:
        """Stop it as a crash does; clients lose their connections."""
        self._pg_ctl("stop", "-m", mode)

    def _pg_ctl(self, *arguments: str) -> None:
        command = [*self.as_user, program("pg_ctl"), "-D", str(self.folder / "data"), *arguments]
        with (self.folder / "pg_ctl.log").open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd="/")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL; it refuses to be run by root, who starts it as ``postgres``."""
    initdb = program("initdb")
    program("pg_ctl")
    is_root = os.geteuid() == 0
    with folder_of("pg") as folder:
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if is_root:
            shutil.chown(folder, "postgres", "postgres")
        server = Postgres(folder, free_ports(1)[0], as_user if is_root else [])
        secret = folder / "password"
        secret.write_text(PASSWORD)
        command = [initdb, "-D", str(folder / "data"), "-U", "wmtp", "-A", "md5"]
        command += [f"--pwfile={secret}", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run([*server.as_user, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")
        secret.unlink()
        server.start()
        try:
            yield server
        finally:
            server.stop()


# -- Slurm -----------------------------------------------------------------------------------------

SLURM_CONF = """
# Nodes of that size, whatever this machine has. The times are for a machine that has other work: a
# daemon that answers late is not dead, and a job that starts late is not lost.
ClusterName=wmtp
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmctldTimeout=30
SlurmdTimeout={slurmd_timeout}
SlurmdParameters=config_overrides
MessageTimeout=60
TCPTimeout=30
BatchStartTimeout=120
UnkillableStepTimeout=300
KillWait=2
MinJobAge=300
DefMemPerCPU=100
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=5
NodeName=a NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=64000
NodeName=b NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=64000
PartitionName=all Nodes=a,b Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class Slurm:
    """A controller and two nodes on one machine."""

    folder: Path
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def configure(self, slurmd_timeout: int = 300) -> None:
        """Write ``slurm.conf``: after so many seconds a node that does not answer is down."""
        (self.folder / "slurm.conf").write_text(
            SLURM_CONF.format(
                folder=self.folder,
                host=socket.gethostname(),
                user=getpass.getuser(),
                ports=self.ports,
                slurmd_timeout=slurmd_timeout,
            )
        )
        if "slurmctld" in self.daemons:
            self.run("scontrol", "reconfigure")

    @property
    def environment(self) -> dict[str, str]:
        """What finds it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str) -> str:
        """Run one of Slurm's programs; its output."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    def start(self, name: str, *command: str, within: tuple[str, ...] = ()) -> None:
        """Start a daemon in the foreground, so that it is known and ends with the test."""
        path, *arguments = command
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                [*within, program(path), *arguments],
                env={**os.environ, **self.environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def start_controller(self) -> None:
        """Start ``slurmctld``, with what it knew before."""
        self.start("slurmctld", "slurmctld", "-D")

    def start_node(self, name: str, within: tuple[str, ...] = ()) -> None:
        """Start a node, and wait until jobs may run there."""
        self.start(name, "slurmd", "-D", "-N", name, within=within)
        self.run("scontrol", "update", f"nodename={name}", "state=resume")
        ready = ("idle", "mix", "alloc")
        shown = ("sinfo", "-h", "-N", "-n", name, "-o", "%t")
        eventually(lambda: self.run(*shown).strip() in ready, f"node {name}")

    def kill(self, name: str) -> None:
        """SIGKILL for a daemon and all that it started: of a node, every process of its jobs."""
        daemon = self.daemons.pop(name)
        kill_tree(daemon.pid)
        daemon.wait()
        for job in self.pids(name):
            kill_tree(job)

    def pids(self, node: str) -> list[int]:
        """The ``slurmstepd`` of a node: each made itself independent of ``slurmd``."""
        places = (f"{self.folder}/spool-{node}", f"{self.folder}/slurmd-{node}")
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if path.read_bytes().startswith(b"slurmstepd"):
                    links = [str(it.readlink()) for it in (path.parent / "fd").iterdir()]
                    if any(link.startswith(places) for link in links):
                        found.append(int(path.parent.name))
        return found


@contextmanager
def slurm() -> Iterator[Slurm]:
    """A running Slurm with the nodes ``a`` and ``b``."""
    for name in ("munged", "slurmctld", "slurmd", "sbatch"):
        program(name)
    with folder_of("slurm") as folder:
        cluster = Slurm(folder)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        (folder / "state").mkdir()
        cluster.configure()
        paths = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        options = [f"--{option}={folder}/munge.{end}" for option, end in paths.items()]
        options += [f"--seed-file={folder}/munge.seed", "--num-threads=8"]
        try:
            cluster.start("munged", "munged", "--foreground", "--force", *options)
            eventually((folder / "munge.socket").exists, "munged")
            cluster.start_controller()
            eventually(lambda: "UP" in cluster.run("scontrol", "ping"), "slurmctld")
            cluster.start_node("a")
            cluster.start_node("b")
            yield cluster
        finally:
            cluster.run("scancel", "--me")
            for name in [*cluster.daemons]:
                cluster.kill(name)


# -- Ray -------------------------------------------------------------------------------------------


AGENT_PORTS = (
    "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port",
    "metrics-export-port",
    "runtime-env-agent-port",
)
"""Of each node of Ray."""

STARTS = 4
"""How often a node of Ray is started until it is up."""


@dataclass
class Ray:
    """A head and one more node on one machine."""

    folder: Path
    environment: Mapping[str, str]
    ports: list[int] = field(default_factory=list)
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Of the jobs API."""
        return f"http://127.0.0.1:{self.ports[1]}"

    def shown_jobs(self) -> list[dict[str, Any]]:
        """What the jobs API says of every job, to anybody."""
        with urllib.request.urlopen(f"{self.address}/api/jobs/", timeout=30) as answer:
            return json.load(answer)

    def nodes_alive(self) -> int:
        """How many nodes the head knows by the names of their hosts, which come later; 0: it does
        not answer yet."""
        try:
            url = f"{self.address}/nodes?view=summary"
            with urllib.request.urlopen(url, timeout=60) as answer:
                nodes = [node.get("raylet", {}) for node in json.load(answer)["data"]["summary"]]
        except (OSError, HTTPException):
            return 0
        return sum(
            node.get("state") == "ALIVE" and bool(node.get("nodeManagerHostname")) for node in nodes
        )

    def start_head(self) -> None:
        """Start the head, and wait until its jobs API answers."""

        def options() -> list[str]:
            self.ports = free_ports(3)
            gcs, dashboard, client = self.ports
            return [
                "--head",
                f"--port={gcs}",
                "--dashboard-host=127.0.0.1",
                f"--dashboard-port={dashboard}",
                f"--ray-client-server-port={client}",
            ]

        self._start("head", options, lambda: self.nodes_alive() == 1)

    def start_second(self, within: tuple[str, ...] = ()) -> None:
        """Start the second node, and wait until the head knows it."""
        address = f"--address=127.0.0.1:{self.ports[0]}"
        self._start("second", lambda: [address], lambda: self.nodes_alive() == 2, within)

    def _start(
        self,
        name: str,
        options: Callable[[], list[str]],
        is_up: Callable[[], bool],
        within: tuple[str, ...] = (),
    ) -> None:
        """Start a node; ``ray start --block`` ends with it. It gives up after 30 s, perhaps too
        early on a machine that has other work: then it is started again. It would wait half as long
        for an agent to say which port it has, so each is given one, and said to have it."""
        command = [*within, sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        command += ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--disable-usage-stats"]
        command += ["--object-store-memory=100000000"]
        patience = {"RAY_worker_register_timeout_seconds": "600"}
        for _ in range(STARTS):
            ports = zip(AGENT_PORTS, free_ports(len(AGENT_PORTS)), strict=True)
            given = dict(ports)
            agents = [f"--{option}={port}" for option, port in given.items()]
            number = os.urandom(28).hex()
            patience["RAY_OVERRIDE_NODE_ID_FOR_TESTING"] = number
            said = f"dashboard_agent_listen_port_{number}"
            with (self.folder / f"{name}.out").open("ab") as out:
                node = self.nodes[name] = subprocess.Popen(
                    [*command, *options(), *agents],
                    env={**self.environment, **patience, "RAY_TMPDIR": str(self.folder)},
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            end = time.monotonic() + 600
            while node.poll() is None and not is_up():
                assert time.monotonic() < end, f"not within 600 s: Ray's node {name}"
                session = self.folder / "ray/session_latest"
                if session.is_dir() and not (session / said).exists():
                    (session / said).write_text(str(given["dashboard-agent-listen-port"]))
                time.sleep(0.2)
            if node.poll() is None:
                return
        raise AssertionError((self.folder / f"{name}.out").read_text())

    def kill(self, name: str) -> None:
        """SIGKILL for a node and all that it started."""
        node = self.nodes.pop(name)
        kill_tree(node.pid)
        node.wait()


@contextmanager
def ray(environment: Mapping[str, str]) -> Iterator[Ray]:
    """A running Ray with two nodes, whose jobs have that environment."""
    pytest.importorskip("ray", reason="ray is not installed: make test-engines")
    with folder_of("ray") as folder:
        cluster = Ray(folder, environment)
        try:
            cluster.start_head()
            cluster.start_second()
            yield cluster
        finally:
            for name in [*cluster.nodes]:
                cluster.kill(name)
