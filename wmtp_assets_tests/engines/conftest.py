"""Servers that are started once, and a storage root whose artifacts are lost one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.engines import programs
from wmtp_assets_tests.engines.site import Site
from wmtp_assets_tests.examples import EPOCH
from wmtp_assets_tests.trees import link_tree

KEY = "humaneval_small"
"""An artifact that takes no time; a test holds its lock for as long as its step must run."""

SECOND = "mbpp_small"
"""Another one."""

KEYS = (KEY, SECOND)


@pytest.fixture(scope="session")
def database() -> Iterator[programs.Postgres]:
    """PostgreSQL."""
    with programs.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[programs.Slurm]:
    """Slurm with the nodes a and b."""
    with programs.slurm() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _database_of_the_site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test reads the history itself."""
    if request.node.get_closest_marker("engines") and "database" in request.fixturenames:
        monkeypatch.setenv("WMTP_DATABASE_URL", request.getfixturevalue("database").url)


@pytest.fixture(scope="session")
def empty_site(
    tmp_path_factory: pytest.TempPathFactory, sample_folder: Path, database: programs.Postgres
) -> Callable[..., Site]:
    """Makes a site whose root has the files of the imitated hub, and no artifact."""

    def make(name: str, **variables: str) -> Site:
        root = tmp_path_factory.mktemp(name) / "storage"
        link_tree(sample_folder, root / INTERNAL / "hub")
        return Site.make(root, database.url, **variables)

    return make


@pytest.fixture(scope="session")
def site(
    empty_site: Callable[..., Site],
) -> Iterator[Site]:
    """A site with the artifacts of :data:`KEYS`, and those that they are made from."""
    made = empty_site("site")
    store = made.store
    needed = {key for key in KEYS for key in [*_upstream(store, key), key]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        for artifact in store.catalogue:
            if artifact.key in needed:
                materialize(store, artifact)
    yield made
    for process in made.started:
        programs.kill_tree(process.pid)


def _upstream(store: Store, key: str) -> set[str]:
    """What an artifact is made from, and that is made from."""
    direct = store.catalogue[key].upstream
    return {*direct, *(far for near in direct for far in _upstream(store, near))}


@pytest.fixture
def slurm_site(site: Site, cluster: programs.Slurm) -> Site:
    """The site, whose artifact :data:`KEY` is lost, and whose runs find Slurm."""
    site.variables |= cluster.environment
    lose(site)
    return site


def lose(site: Site) -> None:
    """Let the artifact be made again."""
    store = site.store
    store.path(store.catalogue[KEY], "test_small.jsonl").unlink(missing_ok=True)
