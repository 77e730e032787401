"""Brings a database to the schema this version knows, or says clearly why not."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, delete, false, inspect, text

from stageroute_router.errors import SchemaError
from stageroute_router.store.sql import tables
from stageroute_router.store.sql.drivers import postgres, sqlite

SCHEMA_VERSION = 5
"""The newest schema this version knows: the number of the last revision in ``migrations/versions``."""

Migrate = Literal["auto", "verify"]
"""``auto``: create and migrate tables when a database is opened. ``verify``: refuse one that needs it."""


def ensure_schema(connection: Connection, *, place: str, migrate: Migrate) -> None:
    """Create or migrate the tables, inside the caller's transaction.

    The caller's transaction has to be serialised with those of other processes: the first one migrates, the
    others find it done. A database that is up to date costs one look at its version. An SQLite file with older
    tables is first copied beside itself.

    Args:
        connection: in a transaction.
        place: the database as messages name it.
        migrate: whether to change tables.

    Raises:
        SchemaError: the database was written by a newer version, or it needs a migration and may not have one.
        StoreError: the copy could not be written.
    """
    found = check_not_newer(connection, place=place)
    is_sqlite = connection.dialect.name == "sqlite"
    if found < SCHEMA_VERSION:
        if migrate == "verify":
            state = f"has schema {found}" if found else "has no tables of stageroute_router yet"
            raise SchemaError(
                f"the database {place} {state}, this version needs schema {SCHEMA_VERSION}; nothing was changed. "
                f"Run once: stageroute db upgrade --database URL (or let a database administrator run what "
                f"stageroute db upgrade --sql --database URL prints)"
            )
        if found and is_sqlite:
            sqlite.back_up_beside(connection.engine.url, schema=found)
        postgres.without_time_limit(connection)
        # Imported here, because Alembic is slow to import and nearly every start finds nothing to do.
        from stageroute_router.store.sql.migrations import upgrade  # noqa: PLC0415

        upgrade(connection, to=SCHEMA_VERSION)
    if is_sqlite and sqlite.stamped_version(connection) != SCHEMA_VERSION:
        sqlite.stamp(connection, version=SCHEMA_VERSION)
    # SQLite opens a file it may not write without a word: better to fail now than at the first reward.
    connection.execute(delete(tables.groups).where(false()))


def check_not_newer(connection: Connection, *, place: str) -> int:
    """Return the schema version of a database, 0 for one without our tables.

    Raises:
        SchemaError: a newer version has written it.
    """
    stamped = sqlite.stamped_version(connection) if connection.dialect.name == "sqlite" else 0
    # The stamp of a file that was migrated by hand is out of date.
    found = stamped if stamped >= SCHEMA_VERSION else revision(connection)
    if found > SCHEMA_VERSION:
        raise SchemaError(
            f"the database {place} was written by a newer version of stageroute_router (schema {found}, "
            f"this version knows {SCHEMA_VERSION}); run: pip install --upgrade stageroute-router"
        )
    return found


def revision(connection: Connection) -> int:
    """Return the number of the last revision applied to a database, 0 for an empty one."""
    if not inspect(connection).has_table(tables.VERSION_TABLE):
        return 0
    found = connection.execute(text(f"SELECT version_num FROM {tables.VERSION_TABLE}")).scalar()  # noqa: S608
    return int(found) if found is not None else 0
