"""An SQLite file of ours: how it is created, opened and recognised.

Two settings are worth knowing. Transactions begin with a ``BEGIN IMMEDIATE`` of our own: the driver's own
transactions let two writers read the same old value, and all but one of their updates are lost. And memory
mapping is never switched on: SQLite before 3.51.3 can damage a database in WAL mode that way.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

from sqlalchemy import URL, Connection, Engine, StaticPool, create_engine, event

from stageroute_router.errors import SchemaError, StoreError
from stageroute_router.store.sql.drivers.failures import sqlite_error_name, translated
from stageroute_router.store.sql.drivers.statements import say

Durability = Literal["full", "normal"]
"""``full``: a commit survives a power failure. ``normal``: the last commits may be lost in one, never in a
crash of the process, and the file is never damaged; commits are several times faster."""

APPLICATION_ID = 0x53527465
"""Written into the header of our files ("SRte"), so that another program's file is never taken for ours."""

BUSY_TIMEOUT_S = 5.0
"""How long to wait for another process's transaction."""

logger = logging.getLogger(__name__)


def is_in_memory(url: URL) -> bool:
    """Whether a URL names a database that lives in memory only.

    >>> from sqlalchemy import make_url
    >>> is_in_memory(make_url("sqlite://")), is_in_memory(make_url("sqlite:///stageroute.db"))
    (True, False)
    """
    name = url.database
    if not name or name == ":memory:":
        return True
    return name.startswith("file:") and (":memory:" in name or url.query.get("mode") == "memory")


def prepared(url: URL) -> URL:
    """Return a URL with an absolute path (a later change of folder does no harm), its file existing.

    A new file is readable by its owner only; SQLite gives the files beside it the same permissions.

    Raises:
        StoreError: the folder does not exist, or the file cannot be created.
    """
    if is_in_memory(url) or url.database is None or url.database.startswith("file:"):
        return url
    path = Path(url.database).expanduser().absolute()
    if not path.parent.is_dir():
        raise StoreError(
            f"the folder {path.parent} of the database {path.name} does not exist; create it, "
            f"or name another in database_url"
        )
    if path.is_dir():
        raise StoreError(f"the database {path} is a folder; name a file in database_url")
    with translated(str(path)), suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return url.set(database=str(path))


def writer_engine(url: URL, *, durability: Durability) -> Engine:
    """Return an engine with one connection, whose transactions are serialised among all processes."""
    if is_in_memory(url):
        engine = create_engine(
            url, poolclass=StaticPool, connect_args={"check_same_thread": False}, hide_parameters=True
        )
    else:
        engine = create_engine(url, pool_size=1, max_overflow=0, hide_parameters=True)
    return _configured(engine, begin="BEGIN IMMEDIATE", synchronous=durability.upper(), pragmas=())


def reader_engine(url: URL) -> Engine:
    """Return an engine whose connections cannot write, and see one moment of the database per transaction."""
    engine = create_engine(url, pool_size=1, max_overflow=7, hide_parameters=True)
    # The writer alone moves the log into the file, see the warning about old versions of SQLite above.
    return _configured(
        engine, begin="BEGIN", synchronous="NORMAL", pragmas=("query_only=ON", "wal_autocheckpoint=0")
    )


def stamped_version(connection: Connection) -> int:
    """Return the schema version in the header of a file that is ours; 0 for one that is new."""
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def stamp(connection: Connection, *, version: int) -> None:
    """Mark a file as ours, with its schema version, as part of the running transaction."""
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID:d}")
    connection.exec_driver_sql(f"PRAGMA user_version = {version:d}")


def path_of(url: URL) -> Path | None:
    """Return the file a URL names; None for a database in memory."""
    if is_in_memory(url) or not url.database:
        return None
    return Path(url.database.removeprefix("file:"))


def back_up(path: Path, to: Path) -> None:
    """Write a copy of a database into a new file, readable by its owner only, while others go on using it.

    Copying the file itself would miss what is still in its write-ahead log.

    Raises:
        StoreError: there is such a file already, or it cannot be written.
    """
    try:
        with translated(str(to)):
            os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except StoreError as error:
        if to.exists():
            raise StoreError(f"the file {to} exists already; give the backup another name") from error
        raise
    try:
        with translated(str(path)), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
            connection.execute("VACUUM INTO ?", (str(to),))
    except BaseException:
        to.unlink()
        raise


def damage(path: Path) -> list[str]:
    """Return what SQLite finds wrong with a file; nothing when all is well.

    Raises:
        StoreError: it is too damaged to be read, or not a database.
    """
    with translated(str(path)), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        found = [str(line) for (line,) in connection.execute("PRAGMA quick_check")]
    return [] if found == ["ok"] else found


def back_up_beside(url: URL, *, schema: int) -> None:
    """Copy a database that is about to be migrated to ``<file>.schema-<number>.backup``; none in memory.

    Replaces the copy of a migration that failed half-way: the database has not changed its schema since.
    """
    path = path_of(url)
    if path is None:
        return
    unfinished = path.with_name(f"{path.name}.schema-{schema}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    back_up(path, unfinished)
    with translated(str(path)):
        unfinished.replace(path.with_name(f"{path.name}.schema-{schema}.backup"))


def _configured(engine: Engine, *, begin: str, synchronous: str, pragmas: tuple[str, ...]) -> Engine:
    in_memory = is_in_memory(engine.url)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        try:
            connection.isolation_level = None  # transactions begin as we say, see the module's docstring
            connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000:.0f}")
            # Before anything is changed: this may be another program's file.
            _check_ours(connection, engine.url)
            if not in_memory:
                _set_wal(connection, engine.url)
            common = ("foreign_keys=ON", "journal_size_limit=67108864", "trusted_schema=OFF")
            for pragma in (f"synchronous={synchronous}", *common, *pragmas):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()  # the pool forgets a connection that could not be configured
            raise

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        say(connection, begin)

    return engine


def _check_ours(connection: sqlite3.Connection, url: URL) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id == APPLICATION_ID:
        return
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    # A database restored from a dump has our tables, but the mark in its header is lost.
    if application_id == 0 and (not tables or "stageroute_alembic_version" in tables):
        return
    raise SchemaError(
        f"the database {url.database} belongs to another program "
        f"(application id {application_id}, {len(tables)} tables, none of them ours); "
        f"name another file in database_url"
    )


def _set_wal(connection: sqlite3.Connection, url: URL) -> None:
    mode = _while_locked(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
    if mode != "wal":
        logger.warning(
            "the database %s cannot use a write-ahead log (journal mode %r; is it on a network drive?): "
            "commits are slower, and readers wait for writers",
            url.database,
            mode,
        )


def _while_locked(action: Callable[[], str]) -> str:
    """Repeat the one request for which SQLite itself does not always wait for other processes."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not sqlite_error_name(error).startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.002, 0.02))
