"""Which engine, and what is refused before the first step. Nothing here needs a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import dagster as dg
import pytest

from wmtp_assets.base.errors import SpecError, StoreError
from wmtp_assets.base.secrets import NAMES
from wmtp_assets.base.settings import read_engine
from wmtp_assets.components import engines, hosts
from wmtp_assets.components.database import NoDatabase, PostgresStorage, database_url, place_of
from wmtp_assets.components.engines import (
    LIBRARIES,
    NOT_AGAIN,
    WordlessJobs,
    engine_names,
    executor_of,
    require_extra,
)
from wmtp_assets.components.hosts import (
    COMMIT_TAG,
    ROOT_TAG,
    announce,
    commit,
    handed_on,
    require_same,
    require_shared_database,
)
from wmtp_assets_tests.engines import outcomes
from wmtp_assets_tests.engines.programs import free_ports

PROJECT = Path(__file__).parents[2]
URL = "postgresql://wmtp:very-secret@127.0.0.1:{port}/history"


def test_default_is_as_it_was() -> None:
    """One machine needs no cluster."""
    assert read_engine({}) == read_engine({"WMTP_ENGINE": ""}) == "in_process"
    assert executor_of("in_process").name == "in_process"


def test_engines_are_found_by_name() -> None:
    """A new one is a new module."""
    assert engine_names() == ["in_process", "k8s", "multiprocess", "ray", "slurm"]
    page = (PROJECT / "docs/clusters.md").read_text()
    assert all(f"`{name}`" in page for name in engine_names())


def load_definitions(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Ask Dagster for the assets, as a run does first."""
    hidden = ("WMTP_", "DAGSTER")
    known = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    return subprocess.run(
        [sys.executable, "-m", "dagster", "asset", "list", "-m", "wmtp_assets.definitions"],
        env={**known, "PYTHONPATH": str(PROJECT), "DAGSTER_HOME": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_unknown_engine(tmp_path: Path) -> None:
    """A typo must not run on one machine what was meant for twenty."""
    with pytest.raises(SpecError) as error:
        executor_of("slrum")
    said = "WMTP_ENGINE='slrum' is not an engine; use one of in_process, k8s, multiprocess, ray, "
    assert str(error.value) == f"{said}slurm"
    done = load_definitions(tmp_path, WMTP_ENGINE="slrum")
    assert done.returncode != 0 and said in done.stderr


def test_malformed_number(tmp_path: Path) -> None:
    """The sentence stood between two tracebacks and a drawing of all components."""
    done = load_definitions(tmp_path, WMTP_CONVERSION_STEPS="65")
    said = "Error: WMTP_CONVERSION_STEPS='65' is not a number of steps, 0 to 64"
    assert done.returncode != 0 and done.stderr.strip().endswith(said)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("extra", LIBRARIES)
def test_missing_extra(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it, and no ModuleNotFoundError."""
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match=re.escape(f"'.[platform,{extra}]'")):
        require_extra(extra, f"WMTP_ENGINE={extra}")


def test_job_without_a_word() -> None:
    """A job of Ray or Kubernetes that ended well, whose step did not say so, was taken for one that
    runs, forever. One poll later it is dead; what a person stopped is not started again."""
    jobs = WordlessJobs()
    assert jobs.health_of("a", has_ended=False).is_healthy
    assert jobs.health_of("a", has_ended=True).is_healthy
    reason = jobs.health_of("a", has_ended=True).unhealthy_reason or ""
    assert "did not say that it did" in reason and NOT_AGAIN not in reason
    assert jobs.health_of("b", has_ended=True, is_wanted=False).is_healthy
    assert NOT_AGAIN in (jobs.health_of("b", True, is_wanted=False).unhealthy_reason or "")


def test_extras_are_declared() -> None:
    """What an error says to install can be installed."""
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert extras["optional-dependencies"].keys() >= {*LIBRARIES, "slurm"}


def test_sqlite_is_for_one_host(tmp_path: Path) -> None:
    """SQLite on a network filesystem loses what two hosts write, without a word."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with (
        dg.DagsterInstance.from_config(str(tmp_path)) as instance,
        pytest.raises(StoreError, match=r"WMTP_ENGINE=slurm runs steps on other .* in SQLite"),
    ):
        require_shared_database(instance, "slurm")


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("postgresql://a:b@h:1/n", "postgresql+psycopg2://a:b@h:1/n"),
        ("postgres://a@h/n", "postgresql+psycopg2://a@h/n"),
        ("postgresql+psycopg2://a@h/n?sslmode=require", None),
    ],
)
def test_database_url(url: str, taken: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that people write for PostgreSQL; SQLAlchemy takes the driver that Dagster uses."""
    monkeypatch.setenv("WMTP_DATABASE_URL", url)
    assert database_url() == (taken or url)


@pytest.mark.parametrize("url", ["", "mysql://a:very-secret@h/n", "history.db", "postgresql:n"])
def test_database_url_of_something_else(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error shows the scheme only: what is behind it may be a password."""
    monkeypatch.setenv("WMTP_DATABASE_URL", url)
    with pytest.raises(NoDatabase, match="Set WMTP_DATABASE_URL=postgresql://") as error:
        database_url()
    assert "very-secret" not in str(error.value)
    assert str(error.value).endswith("Set WMTP_DATABASE_URL=postgresql://user@host:5432/name")


UNCLEAR = (
    "postgresql://u:first@sekret99@nohost/d",
    "postgresql://u:first@x:sekret99@nohost/d",
    "postgresql://u:sekret99x",
    "postgresql://u:sekret99x@h:54x/d",
    "postgresql://u:first@x/sekret99@nohost/d",
    "postgresql://u:first@x?sekret99@nohost/d",
    "postgresql://u/sekret99@h",
    "postgresql://u:65536",
    "postgresql://u:first@h1:1,sekret99:2/d",
)
NONE_AT_ALL = (
    "host=db password=sekret99x dbname=x",
    "sekret99:x",
    "u:sekret99@h/d",
    "Sekret99 mysql://h",
)


@pytest.mark.parametrize("url", [*UNCLEAR, *NONE_AT_ALL])
def test_database_url_that_cannot_be_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is shown: a part that looks like a host or port may be one of a password."""
    monkeypatch.setenv("WMTP_DATABASE_URL", url)
    with pytest.raises(NoDatabase) as error:
        database_url()
    said = "the Dagster instance keeps its history in PostgreSQL, and "
    if url in UNCLEAR:
        said += (
            "the address in WMTP_DATABASE_URL cannot be read. In a user and a password, special "
            "characters are written as %XX, such as %40 for @; the password is better kept in "
            "~/.pgpass. "
        )
    else:
        said += "WMTP_DATABASE_URL is not an address. "
    assert str(error.value) == f"{said}Set WMTP_DATABASE_URL=postgresql://user@host:5432/name"
    assert place_of(url) == "its address"


def test_commands_say_that_a_database_url_cannot_be_read(tmp_path: Path) -> None:
    """In one line, without a traceback; ``make install`` and ``make ui`` begin with it."""
    pytest.importorskip("dagster_postgres", reason="not installed: make test-engines")
    (tmp_path / "dagster.yaml").write_text((PROJECT / ".dagster/cluster/dagster.yaml").read_text())
    variables = {
        "DAGSTER_HOME": str(tmp_path),
        "PYTHONPATH": str(PROJECT),
        "WMTP_STORAGE_ROOT": str(tmp_path / "root"),
    }
    for url in (UNCLEAR[0], UNCLEAR[2], NONE_AT_ALL[0]):
        done = subprocess.run(
            [sys.executable, "-m", "wmtp_assets.components.instance"],
            env={**os.environ, **variables, "WMTP_DATABASE_URL": url},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "sekret99" not in done.stderr + done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: the Dagster instance keeps its history in PostgreSQL, and ")
        assert line.endswith(". Set WMTP_DATABASE_URL=postgresql://user@host:5432/name")


def test_database_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says where it was looked for; the password is in none of them."""
    pytest.importorskip("dagster_postgres", reason="not installed: make test-engines")
    (port,) = free_ports(1)
    monkeypatch.setenv("WMTP_DATABASE_URL", URL.format(port=port))
    with pytest.raises(NoDatabase, match="Connection refused") as error:
        PostgresStorage.from_config_value(None, {})
    assert f", 127.0.0.1:{port}/history, cannot be used: " in str(error.value)
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((PROJECT / ".dagster/cluster/dagster.yaml").read_text())
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "micro_mtp"]
    done = subprocess.run(
        [*command, "-m", "wmtp_assets.definitions"],
        env={**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: the database of the Dagster instance")
    assert "Traceback" not in done.stderr and "very-secret" not in done.stdout + done.stderr


def test_place_of_a_database() -> None:
    """No user, no password, no options: a password may hold anything."""
    assert place_of("postgresql://u:p%40ss:w/rd@host:5/name?password=x") == "host:5/name"
    assert place_of("postgresql://u:p?ss@host/name?password=x") == "host/name"
    assert place_of("postgresql://u@host/name?password=x%40sekret99") == "host/name"
    assert place_of("postgresql://u:p@ss:w/rd@host:5/name?password=x") == "its address"
    assert place_of("postgresql://u@host:5/name?password=x@sekret99") == "its address"
    assert place_of("postgresql://") == "its address"


# -- what a step finds on its host -----------------------------------------------------------------


def run_with(tags: dict[str, str]) -> dg.DagsterRun:
    return dg.DagsterRun("small", run_id="7f", tags=tags)


def test_step_of_the_same_root_and_commit(tmp_path: Path) -> None:
    """Nothing is asked of runs that stay on one host."""
    require_same(None, tmp_path)
    require_same(run_with({}), tmp_path)
    require_same(run_with(announce(tmp_path, run_with({}), "slurm")), tmp_path)


def test_step_of_another_root(tmp_path: Path) -> None:
    """A folder of that name is on every host; a file that was just written is not."""
    tags = announce(tmp_path / "one", run_with({}), "slurm")
    for place in ("two", "three"):
        if place == "three":  # one that other runs used
            announce(tmp_path / place, dg.DagsterRun("small", run_id="8a"), "slurm")
        with pytest.raises(StoreError, match=f"{place} on .* is not the one of {tags[ROOT_TAG]}"):
            require_same(run_with(tags), tmp_path / place)


def test_step_of_another_commit(tmp_path: Path) -> None:
    """Both are named."""
    tags = announce(tmp_path, run_with({}), "slurm")
    tags[COMMIT_TAG] = "0123456789ab (sources ba9876543210)"
    with pytest.raises(StoreError) as error:
        require_same(run_with(tags), tmp_path)
    assert f"with commit {tags[COMMIT_TAG]}, and the worker on " in str(error.value)
    assert f" has {commit()}. " in str(error.value)


def test_run_is_not_resumed_with_another_commit(tmp_path: Path) -> None:
    """Its first steps were made by other sources."""
    with pytest.raises(StoreError, match="this process, which was to resume the run, has"):
        announce(tmp_path, run_with({COMMIT_TAG: "another"}), "slurm")


def test_files_of_old_runs_are_removed(tmp_path: Path) -> None:
    """One is left by every run."""
    announce(tmp_path, run_with({}), "slurm")
    left = tmp_path / ".wmtp/runs/7f"
    os.utime(left, (0, 0))
    announce(tmp_path, dg.DagsterRun("small", run_id="8a"), "slurm")
    assert [path.name for path in left.parent.iterdir()] == ["8a"]


def test_clock_of_a_host_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose clock is a year ahead must not take the file of a run that runs: each of its
    steps would be refused."""
    announce(tmp_path, run_with({}), "slurm")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 365 * 86400)
    announce(tmp_path, dg.DagsterRun("small", run_id="8a"), "slurm")
    assert {path.name for path in (tmp_path / ".wmtp/runs").iterdir()} == {"7f", "8a"}


def test_commit_is_told_by_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed and not committed is changed; an image has no ``.git``."""
    for content in ("a", "b"):
        package = tmp_path / content / "wmtp_assets"
        (package / "components").mkdir(parents=True)
        (package / "x.py").write_text(content)
    found = []
    for content in ("a", "b"):
        place = tmp_path / content / "wmtp_assets/components/hosts.py"
        monkeypatch.setattr(hosts, "__file__", str(place))
        monkeypatch.setattr(hosts, "project_folder", lambda: tmp_path)
        found.append(commit.__wrapped__())
    assert found[0] != found[1]
    assert all(re.fullmatch(r"no commit known \(sources [0-9a-f]{12}\)", it) for it in found)


@pytest.mark.parametrize(
    ("url", "is_handed_on"),
    [
        (URL.format(port=1), False),
        ("postgresql://wmtp@db/history", True),
        ("postgresql://wmtp@[::1]:5432/history?sslmode=require", True),
        ("postgres:///history?host=/run/postgresql", True),
        ("postgresql://wmtp@db/history?password=sekret99", False),
        ("postgresql://wmtp@db/history?sslmode=require&passw%6Frd=sekret99", False),
        ("postgresql://wmtp:se/kret@db", False),
        ("postgresql://wmtp:1/kret@db", False),
        ("postgresql://wmtp:sekret99", False),
        ("postgresql://wmtp:123456", False),
        ("postgresql://wmtp:12345/d", False),
        ("postgresql://wmtp:@db/history", False),
        ("host=db password=sekret99 dbname=x", False),
        ("postgresql://h/d?application_name=a@b", False),
    ],
)
def test_secrets_are_not_handed_on(
    url: str, is_handed_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables of a Ray job or a Kubernetes Job are shown to whoever asks."""
    for name, value in {
        "WMTP_DATABASE_URL": url,
        "HF_TOKEN": "hf_secret",
        "HUGGING_FACE_HUB_TOKEN": "hf_secret",
        "WMTP_WEBHOOK_URL": "https://secret",
        "WMTP_ENGINE": "ray",
    }.items():
        monkeypatch.setenv(name, value)
    names = handed_on()
    assert "WMTP_ENGINE" in names
    assert not {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WMTP_WEBHOOK_URL"} & {*names}
    assert ("WMTP_DATABASE_URL" in names) is is_handed_on


def test_no_secret_of_any_service_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of Azure are settings as others are; a proxy and a mirror may have a password."""
    hidden = {
        **dict.fromkeys(NAMES, "sekret99"),
        "HTTPS_PROXY": "http://u:pw@p:1",
        "ALL_PROXY": "socks5://u:se/kret@p:1",
        "HF_ENDPOINT": "https://token@mirror",
        "WMTP_PUBLISH_URL": "https://a.example/x?sv=1&sig=abc",
    }
    shown = {
        "AZURE_STORAGE_ACCOUNT": "account",
        "WMTP_TRUSTED_ENDPOINT": "http://127.0.0.1:8080",
        "WMTP_STORAGE_ROOT": "/shared/a:b@c",
    }
    for name, value in {**hidden, **shown}.items():
        monkeypatch.setenv(name, value)
    names = {*handed_on()}
    assert not names & hidden.keys()
    assert names >= shown.keys()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert "HTTPS_PROXY" in handed_on()


def test_outcomes_are_those_of_the_tests() -> None:
    """``python -m wmtp_assets_tests.engines.outcomes`` writes the table of the page."""
    page = outcomes.PAGE.read_text()
    assert outcomes.page_with_table(page) == page


def test_activation_enters_the_database(tmp_path: Path) -> None:
    """Logs go where every host sees them, and whoever changed the file of the instance keeps it."""
    root = tmp_path / "root"
    environment = {
        "PATH": os.environ["PATH"],
        "WMTP_STORAGE_ROOT": str(root),
        "WMTP_DATABASE_URL": URL.format(port=1),
    }

    def home() -> str:
        script = f"source {PROJECT}/activate.sh && echo $DAGSTER_HOME"
        command = ["bash", "-c", script]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert home() == f"{root}/.wmtp/dagster"
    file = root / ".wmtp/dagster/dagster.yaml"
    assert file.read_text() == (PROJECT / ".dagster/cluster/dagster.yaml").read_text()
    file.write_text("# mine\n")
    environment["DAGSTER_HOME"] = home()
    assert home() == str(file.parent) and file.read_text() == "# mine\n"
    environment["DAGSTER_HOME"] = "/elsewhere"
    assert home() == "/elsewhere"
    environment |= {"DAGSTER_HOME": "", "HOME": str(tmp_path), "WMTP_STORAGE_ROOT": "~/my root"}
    assert home() == f"{tmp_path}/my root/.wmtp/dagster"
    del environment["WMTP_DATABASE_URL"]
    environment["DAGSTER_HOME"] = str(file.parent)
    assert home() == f"{PROJECT}/.dagster/sample"
