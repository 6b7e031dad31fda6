"""The Dagster instance in PostgreSQL, for engines of many hosts.

``.dagster/cluster/dagster.yaml`` names :class:`PostgresStorage`. The address is in the environment
only, so that no file and no description of a run has its password.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click
from dagster._core.storage.base_storage import DagsterStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from wmtp_assets.base.errors import SpecError, StoreError
from wmtp_assets.base.settings import DATABASE_VARIABLE
from wmtp_assets.components.engines import require_extra

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

PATIENCE = 100.0
"""Seconds for which a connection is tried again, and Dagster does that six times."""

_URL = re.compile(r"postgres(?:ql)?(?:\+psycopg2)?://(?P<rest>.*)", re.S)
_SCHEME = re.compile(r"[a-z][a-z0-9+]*://")

_EXAMPLE = f"{DATABASE_VARIABLE}=postgresql://user@host:5432/name"

LAST_PORT = 65535
"""The largest port there is. A larger number may be a password of digits."""


class NoDatabase(StoreError, click.ClickException):
    """The database of the instance cannot be used. Commands say it, without a traceback."""


def database_url() -> str:
    """``WMTP_DATABASE_URL`` as SQLAlchemy takes it for psycopg2, which Dagster uses: for
    ``postgresql://`` SQLAlchemy 2.1 takes another driver.

    Raises:
        NoDatabase: if it is not set, or is none of PostgreSQL; of the address, it tells the scheme
            alone.
    """
    url = DATABASE_VARIABLE.read()
    match = _URL.fullmatch(url)
    if match is None:
        scheme = _SCHEME.match(url)
        said = f"is {scheme[0]}…" if scheme else "is not an address" if url else "is not set"
        raise NoDatabase(
            f"the Dagster instance keeps its history in PostgreSQL, and {DATABASE_VARIABLE} "
            f"{said}. Set {_EXAMPLE}"
        )
    for_psycopg2 = f"postgresql+psycopg2://{match['rest']}"
    if _parsed(for_psycopg2) is None:
        raise NoDatabase(
            "the Dagster instance keeps its history in PostgreSQL, and the address in "
            f"{DATABASE_VARIABLE} cannot be read. In a user and a password, special characters are "
            "written as %XX, such as %40 for @; the password is better kept in ~/.pgpass. Set "
            f"{_EXAMPLE}"
        )
    return for_psycopg2


def _parsed(url: str) -> URL | None:
    """The parts of an address; None where a part of a password could be taken for another one."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ValueError, ArgumentError):
        return None
    is_clear = url.count("@") <= 1 and "@" not in f"{parsed.host}{parsed.database}"
    return parsed if is_clear and (parsed.port or 0) <= LAST_PORT else None


def place_of(url: str) -> str:
    """Host, port and name of a database: the address without its secrets."""
    parsed = _parsed(url)
    if parsed is None:
        return "its address"
    place = type(parsed).create(
        parsed.drivername, host=parsed.host, port=parsed.port, database=parsed.database
    )
    return place.render_as_string().partition("://")[2] or "its address"


class PostgresStorage(DagsterStorage, ConfigurableClass):
    """Dagster's own storage in PostgreSQL, at the address of ``WMTP_DATABASE_URL``."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Any:
        """Open it, and make its tables the first time; a ``DagsterPostgresStorage``.

        Raises:
            NoDatabase: if it cannot be reached, or the extra ``postgres`` is not installed.
        """
        try:
            require_extra("postgres", str(DATABASE_VARIABLE))
        except SpecError as error:
            raise NoDatabase(str(error)) from None
        import sqlalchemy.exc
        from dagster_postgres import (  # pyright: ignore[reportMissingImports]
            DagsterPostgresStorage,
        )
        from dagster_postgres.utils import (  # pyright: ignore[reportMissingImports]
            DagsterPostgresException,
        )

        url = database_url()
        try:
            storage = DagsterPostgresStorage(url, inst_data=inst_data)
        except (sqlalchemy.exc.SQLAlchemyError, DagsterPostgresException) as error:
            _refuse(url, error)
        for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
            _be_patient(part._engine, place_of(url))
        return storage


def _be_patient(engine: Any, place: str) -> None:
    """Let a database that was reached once be waited for: a failover or an upgrade of it takes
    minutes, and is not a reason to lose a run of days. Dagster itself gives up after eleven
    seconds, and loses a step whose connection breaks in the middle of a statement.

    Such a statement is sent again on a new connection. Each is a transaction of its own in Dagster;
    one that was committed, and whose answer was lost, is then done twice, which is an event twice.
    That is the recipe of SQLAlchemy's FAQ, "How do I 'retry' a statement execution automatically?".
    A web server makes engines of its own afterwards: a page is to say at once what is wrong.
    """
    from sqlalchemy import event

    dialect = engine.dialect

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        end, wait = time.monotonic() + PATIENCE, 1.0
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.dbapi.OperationalError as error:
                if time.monotonic() + wait > end:
                    raise
                said = str(error).strip().partition("\n")[0]
                logging.getLogger(__name__).warning("%s is asked again: %s", place, said)
            time.sleep(wait)
            wait = min(2 * wait, 15.0)

    def execute(send: Callable[..., None], cursor: Any, context: Any, *sent: Any) -> bool:
        try:
            send(cursor, *sent, context=context)
        except dialect.dbapi.Error as error:
            connection = context.root_connection
            broken = connection.connection.dbapi_connection
            if not dialect.is_disconnect(error, broken, cursor):
                raise
            connection.invalidate()
            connection.rollback()
            context.cursor = connection.connection.cursor()
            send(context.cursor, *sent, context=context)
        return True

    @event.listens_for(engine, "do_execute")
    def do_execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        return execute(dialect.do_execute, cursor, context, statement, parameters)

    @event.listens_for(engine, "do_execute_no_params")
    def do_execute_no_params(cursor: Any, statement: str, context: Any) -> bool:
        return execute(dialect.do_execute_no_params, cursor, context, statement)


def _refuse(url: str, error: BaseException) -> NoReturn:
    """Say why the database cannot be used, in the words of PostgreSQL, which has no secrets in
    its messages."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = str(error).strip().partition("\n")[0]
    raise NoDatabase(
        f"the database of the Dagster instance, {place_of(url)}, cannot be used: {said}. "
        f"Start it, or correct {DATABASE_VARIABLE}"
    ) from None
