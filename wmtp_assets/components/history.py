"""Where Dagster keeps runs and events: its own SQLite files, whose connections stay open.

Dagster's event log opens a database anew for each statement, so that each is compiled anew, and
SQLite copies its write-ahead log into the database, with three ``fsync``, each time the last
connection is closed. In a run where nothing changed that was a fifth of the work. The files are
Dagster's in either case: an instance can be opened with ``storage: sqlite`` too.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, SqliteStorageConfig
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import QueuePool

KEPT = 4
"""Databases that stay open, of those used last: the index of all runs, and some runs."""


class KeptEventLog(SqliteEventLogStorage):
    """Dagster's event log, with one open connection to each of the databases used last.

    One is enough: Dagster's lock lets one thread at a time use any.
    """

    def __init__(self, base_dir: str) -> None:
        self._engines: OrderedDict[tuple[int, str], Engine] = OrderedDict()
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        if shard not in self._initialized_dbs:
            with super()._connect(shard):  # it makes the tables
                pass
        with self._db_lock:
            with self._engine(shard).begin() as connection:
                database: Any = connection.connection.dbapi_connection
                before = database.total_changes
                yield connection
                has_changed = database.total_changes != before
            if has_changed:
                # the web UI shows the progress of a run when the file of its events changes, and
                # what is written lies in the log beside it until the database is closed
                os.utime(self.path_for_shard(shard))

    def _engine(self, shard: str) -> Engine:
        key = os.getpid(), shard  # SQLite forbids to use a connection of the process before a fork
        if key not in self._engines:
            self._engines[key] = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                pool_size=1,
                max_overflow=0,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
        self._engines.move_to_end(key)
        while len(self._engines) > KEPT:
            self._engines.popitem(last=False)[1].dispose()
        return self._engines[key]

    def _close(self) -> None:
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()

    def wipe(self) -> None:
        """As Dagster's, which removes files."""
        self._close()
        super().wipe()

    def dispose(self) -> None:
        """As Dagster's; the databases are closed."""
        self._close()
        super().dispose()


class KeptStorage(DagsterSqliteStorage):
    """Dagster's storage in SQLite files, with :class:`KeptEventLog`; named in ``dagster.yaml``."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(str(Path(base_dir).expanduser()), inst_data)
        self._event_log_storage = KeptEventLog(str(Path(self.base_dir, "history", "runs")))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: SqliteStorageConfig
    ) -> KeptStorage:
        return cls.from_local(inst_data=inst_data, **config_value)
