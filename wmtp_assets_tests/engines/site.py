"""A storage root, a Dagster instance in PostgreSQL, and runs over them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.components.hosts import command_of
from wmtp_assets.documents.document import Fact
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.engines.programs import eventually
from wmtp_assets_tests.examples import EPOCH

PROJECT = Path(__file__).parents[2]
CONFIG = {"poll_seconds": 2, "look_seconds": 0}
"""Of a run of many hosts: no other host looks at the root first."""


@dataclass
class Site:
    """A storage root and its instance.

    Attributes:
        root: the storage root.
        variables: of the environment of a run.
        started: runs that were started.
    """

    root: Path
    variables: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def make(cls, root: Path, url: str, **variables: str) -> Site:
        """Lay out the instance as ``source activate.sh`` does, and its tables."""
        home = root / INTERNAL / "dagster"
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / ".dagster/cluster/dagster.yaml", home)
        hidden = ("WMTP_", "DAGSTER", "SLURM", "SBATCH", "RAY_", "HF_", "PYTEST", "PYTHONDONT")
        known = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        site = cls(
            root,
            {
                **known,
                "DAGSTER_HOME": str(home),
                "WMTP_STORAGE_ROOT": str(root),
                "WMTP_DATABASE_URL": url,
                "PYTHONPATH": str(PROJECT),
                "SOURCE_DATE_EPOCH": EPOCH,
                "NO_PROXY": "127.0.0.1",
                **variables,
            },
        )
        site.command("-m", "wmtp_assets.components.instance")
        return site

    @property
    def home(self) -> Path:
        """Of the instance: its file, and what is logged."""
        return Path(self.variables["DAGSTER_HOME"])

    @property
    def store(self) -> Store:
        """The store of the root."""
        return Store(Settings("sample", self.root), load_catalogue())

    def command(self, *arguments: str) -> str:
        """Run Python to its end; its output."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.variables,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(
        self,
        select: str,
        engine: str,
        within: tuple[str, ...] = (),
        config: Mapping[str, Any] | None = None,
        **variables: str,
    ) -> subprocess.Popen[bytes]:
        """Start a run of the command line."""
        known = CONFIG if config is None else config
        if engine in ("in_process", "multiprocess"):
            known = {}
        command = [*within, *command_of(["dagster", "asset", "materialize"])]
        command += ["-m", "wmtp_assets.definitions", "--select", select]
        command += ["--config-json", json.dumps({"execution": {"config": known}} if known else {})]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**self.variables, "WMTP_ENGINE": engine, **variables},
                cwd=PROJECT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    @property
    def log(self) -> Path:
        """What the commands said."""
        return self.root.with_name(f"{self.root.name}.log")

    def finish(self, process: subprocess.Popen[bytes], seconds: float = 900) -> int:
        """Wait for a run of the command line; its exit code."""
        return process.wait(timeout=seconds)

    @cached_property
    def history(self) -> dg.DagsterInstance:
        """The instance, for reading."""
        return dg.DagsterInstance.from_config(self.variables["DAGSTER_HOME"])

    def newest(self, after: set[str], count: int = 1) -> list[dg.DagsterRun]:
        """The runs that were made since."""

        def found() -> list[dg.DagsterRun]:
            new = [run for run in self.history.get_runs(limit=9) if run.run_id not in after]
            return new if len(new) >= count else []

        return eventually(found, "a run")

    def runs(self) -> set[str]:
        """Of every run, its id."""
        return {run.run_id for run in self.history.get_runs()}

    def status(self, run: str) -> str:
        """STARTED, SUCCESS, …"""
        found = self.history.get_run_by_id(run)
        assert found is not None
        return found.status.value

    def events(self, run: str, kind: dg.DagsterEventType) -> list[str]:
        """What the log of a run says in events of a kind."""
        found = []
        for entry in self.history.all_logs(run, of_type=kind):
            data = getattr(entry.dagster_event, "event_specific_data", None)
            error = getattr(data, "error", None)
            found.append(f"{entry.user_message or entry.message} {error.message if error else ''}")
        return found

    def step_is_running(self, run: str, count: int = 1) -> None:
        """Wait until so many steps said that they started."""
        kind = dg.DagsterEventType.STEP_START
        eventually(lambda: len(self.events(run, kind)) >= count, "a step that started")

    def dump(self) -> str:
        """All that the database knows."""
        import sqlalchemy

        url = self.variables["WMTP_DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:")
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            tables = sqlalchemy.inspect(engine).get_table_names()
            found = [connection.execute(sqlalchemy.text(f"select * from {it}")) for it in tables]
            return "".join(str(row) for rows in found for row in rows)

    def hashes(self) -> dict[str, str]:
        """Artifact → content hash, of those that are there, as the golden table has it."""
        store = self.store
        return {
            artifact.key: Fact(artifact, store.manifest(artifact)).content_sha256
            for artifact in store.catalogue
            if store.manifest_path(artifact).exists()
        }
