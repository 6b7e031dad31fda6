"""A database that goes away while it is used."""

from __future__ import annotations

import dagster as dg
import pytest

from wmtp_assets.components.database import PostgresStorage
from wmtp_assets_tests.engines.programs import Postgres

pytestmark = pytest.mark.engines


def test_statement_whose_connection_breaks_is_sent_again(database: Postgres) -> None:
    """A step that was about to store an event failed with "server closed the connection
    unexpectedly", which is an error of its own and was not tried again."""
    import sqlalchemy

    storage = PostgresStorage.from_config_value(None, {})
    number, end = sqlalchemy.text("select pg_backend_pid()"), "select pg_terminate_backend(:pid)"
    with storage.run_storage._engine.connect() as connection:
        first = connection.execute(number).scalar()
        with storage.event_log_storage._engine.connect() as other:
            other.execute(sqlalchemy.text(end), {"pid": first})
        assert connection.execute(number).scalar() not in (None, first)


def test_database_is_waited_for(database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster asks six times within eleven seconds, and then the run was lost."""
    storage = PostgresStorage.from_config_value(None, {})
    said = []

    def start(seconds: float) -> None:
        said.append(seconds)
        database.start()

    database.stop()
    monkeypatch.setattr("wmtp_assets.components.database.time.sleep", start)
    assert storage.run_storage.get_runs(filters=dg.RunsFilter(run_ids=["none"])) == []
    assert said == [1.0]
