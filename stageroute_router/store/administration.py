"""What an operator may ask of a database without a router: its schema, its health, a copy of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import make_url

from stageroute_router.errors import StoreError
from stageroute_router.store.contract import Store
from stageroute_router.store.opening import require_database
from stageroute_router.store.records import StoredProblem
from stageroute_router.store.sql.drivers import sqlite
from stageroute_router.store.sql.drivers.failures import translated
from stageroute_router.store.sql.schema import SCHEMA_VERSION, check_not_newer
from stageroute_router.store.sql.store import engines, parsed_url, place_of


def schema_version(database_url: str) -> int:
    """Return a database's schema version, 0 for one without our tables. Changes nothing.

    Raises:
        StoreError: there is no such database, or it cannot be used.
        SchemaError: it is another program's, or was written by a newer version.
    """
    require_database(database_url)
    url = parsed_url(database_url)
    place = place_of(url)
    with translated(place):
        writer, reader = engines(url, durability="full")
        try:
            with reader.connect() as connection:
                return check_not_newer(connection, place=place)
        finally:
            reader.dispose()
            writer.dispose()


def upgrade_sql(database_url: str) -> str:
    """Return the SQL that brings a database to this version's schema; empty where there is nothing to do.

    Raises:
        StoreError: as :func:`schema_version`.
    """
    from stageroute_router.store.sql import migrations  # noqa: PLC0415 - Alembic is slow to import

    found = schema_version(database_url)
    if found == SCHEMA_VERSION:
        return ""
    dialect = parsed_url(database_url).get_backend_name()
    return migrations.upgrade_sql(dialect, found=found, to=SCHEMA_VERSION)


def damage(database_url: str) -> Sequence[str]:
    """Return what SQLite itself finds wrong with a file; nothing for PostgreSQL, which looks after itself.

    Raises:
        StoreError: the database cannot be read at all.
    """
    path = _file_of(database_url)
    return [] if path is None else sqlite.damage(path)


def problems(store: Store) -> Sequence[StoredProblem]:
    """Return the rows of all groups that cannot be used."""
    return [problem for group in store.groups() for problem in store.load(group).problems]


def back_up(database_url: str, to: Path) -> None:
    """Copy an SQLite database while others use it.

    Raises:
        StoreError: it is not an SQLite file, or the copy cannot be written.
    """
    require_database(database_url)
    path = _file_of(database_url)
    if path is None:
        raise StoreError(
            f"the database {place_of(parsed_url(database_url))} is not an SQLite file; copy a PostgreSQL database "
            f"with its own tool: pg_dump --format=custom --table='stageroute_*' --file={to} DATABASE"
        )
    sqlite.back_up(path, to)


def _file_of(database_url: str) -> Path | None:
    url = parsed_url(database_url)
    return sqlite.path_of(make_url(url)) if url.get_backend_name() == "sqlite" else None
