"""A store in an SQL database: an SQLite file, or PostgreSQL where several hosts share it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

from sqlalchemy import URL, Connection, Engine, delete, make_url, select, text, union
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from stageroute_router.errors import StoreError
from stageroute_router.forking import ForkAware, survive_fork
from stageroute_router.store import postgres, reading, sqlite_file, tables
from stageroute_router.store.base import (
    EXPIRY_INTERVAL_S,
    PENDING_REWARD_LIFETIME_S,
    CommitReport,
    StagePlanned,
    StoredDecision,
    StoredGroup,
    Write,
)
from stageroute_router.store.connections import Connections
from stageroute_router.store.failures import translated
from stageroute_router.store.schema import ensure_schema
from stageroute_router.store.sqlite_file import Durability
from stageroute_router.store.validation import check_batch
from stageroute_router.store.writing import write_back

# Any number will do, as long as all workers use the same and no other program does.
_POSTGRES_LOCK = 0x53527465


class SqlStore(ForkAware):
    """Keeps everything in an SQL database; a new or older SQLite file gets its tables when it is opened.

    Write transactions are serialised among all processes (``BEGIN IMMEDIATE`` on SQLite), which makes a
    batch's reads and writes one step. Reading never waits for them.

    Args:
        url: ``sqlite:///stageroute.db`` (relative to the current folder), ``sqlite:////var/lib/app/s.db``
            (absolute), ``sqlite://`` (in memory, gone when closed), or
            ``postgresql://user:password@host/name``.
        durability: ``"full"``: what was committed survives a power failure. ``"normal"``: the last commits
            may be lost in a power failure, never in a crash of the process. SQLite only; PostgreSQL does as
            it is configured.
        clock: returns seconds since the epoch; by it, rewards nobody claims are dropped after a day.

    Raises:
        StoreError: the URL, the folder, the file or the driver cannot be used; the message says how to go on.
        SchemaError: the database is another program's, or was written by a newer version.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: Durability = "full",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if durability not in ("full", "normal"):
            raise StoreError(f"durability is {durability!r}; it has to be 'full' or 'normal'")
        parsed = _parsed(url)
        self._place = _place(parsed)
        self._clock = clock
        self._expired_at = clock()
        self._lock = threading.Lock()
        self._closed = False
        with translated(self._place):
            self._writer, self._reader = _engines(parsed, durability=durability)
            is_file = parsed.get_backend_name() == "sqlite"
            self._connections = Connections(
                self._writer, self._reader, wait_s=sqlite_file.BUSY_TIMEOUT_S + 1 if is_file else 0.0
            )
            survive_fork(self)
            try:
                with self._writing() as connection:
                    ensure_schema(connection, place=self._place)
            except BaseException:
                self.close()
                raise

    def load(self, group: str) -> StoredGroup:
        """Return what is stored of a group; an empty one when nothing is."""
        with self._reading() as connection:
            stages = reading.load_stages(connection, group, last=1)
            version, account = reading.load_account(connection, group)
            return StoredGroup(
                account=account,
                statistics=reading.load_statistics(connection, group),
                stage=stages[0] if stages else None,
                configuration=reading.load_configuration(connection, group),
                version=version,
            )

    def groups(self) -> Sequence[str]:
        """Return the names of all groups with anything stored, sorted."""
        tables_of_groups = (tables.groups, tables.stages, tables.configurations)
        names = union(*(select(table.c.group_name) for table in tables_of_groups))
        with self._reading() as connection:
            return sorted(connection.execute(names).scalars())

    def versions(self) -> Mapping[str, int]:
        """Return the version of each group."""
        with self._reading() as connection:
            return reading.load_versions(connection)

    def stages(self, group: str, *, last: int | None = None) -> Sequence[StagePlanned]:
        """Return a group's stages in order, or only the ``last`` so many."""
        with self._reading() as connection:
            return reading.load_stages(connection, group, last=last)

    def decision(self, key: str) -> StoredDecision | None:
        """Return the decision a key names (decision, response or call id), or None."""
        with self._reading() as connection:
            return reading.load_key(connection, key).decision(key)

    def commit(self, batch: Sequence[Write]) -> CommitReport:
        """Apply a batch in order, in one transaction, durably.

        Raises:
            StoreError: nothing of the batch was applied (or, if the connection broke at the very end, that is
                not known): committing the same batch again is right in both cases.
            InvalidRewardError: a reward is not in [0, 1]. Nothing was applied.
            ValueError: another value of the batch cannot be stored. Nothing was applied.
        """
        check_batch(batch)
        now = self._clock()
        with translated(self._place), self._writing() as connection:
            ledger = reading.load_ledger(connection, batch)
            applied = ledger.apply(batch, now=now)
            write_back(connection, ledger, applied)
            expire = now - self._expired_at > EXPIRY_INTERVAL_S
            if expire:
                received_at = tables.pending_rewards.c.received_at
                too_old = received_at < now - PENDING_REWARD_LIFETIME_S
                connection.execute(delete(tables.pending_rewards).where(too_old))
        if expire:
            self._expired_at = now
        return applied.report

    def interrupt(self) -> None:
        """Break off what other threads are waiting for the database to do; their calls raise ``StoreError``."""
        self._connections.interrupt()

    def after_fork_in_child(self) -> None:
        """Begin with a lock that no thread of the parent holds."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Release files and connections. Closing twice is harmless."""
        self._closed = True
        # The writer last: the last connection to an SQLite file moves its log into the file.
        if self._reader is not self._writer:
            self._reader.dispose()
        self._writer.dispose()

    def __repr__(self) -> str:
        return f"SqlStore({self._place!r})"

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._connections.in_use(), self._lock:
            self._check_open()
            with self._writer.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
                yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._check_open()
        # A database in memory has a single connection, so its readers do wait for its writers.
        alone = self._lock if self._reader is self._writer else nullcontext()
        with translated(self._place), self._connections.in_use(), alone, self._reader.begin() as connection:
            yield connection

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the database {self._place} was closed by this process; open it again")


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        hidden = re.sub(r"//[^@]*@", "//***@", str(url))
        raise StoreError(
            f"database_url is {hidden!r}, which is not a database URL; "
            f"write for example sqlite:///stageroute.db"
        ) from None
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return sqlite_file.prepared(parsed)
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise StoreError(
        f"database_url {_place(parsed)!r} names {parsed.drivername!r}; "
        f"what is supported is sqlite:///file and postgresql://user@host/name"
    )


def _place(url: URL) -> str:
    """Return a URL as messages and logs name it: without its password."""
    return url.render_as_string(hide_password=True)


def _engines(url: URL, *, durability: Durability) -> tuple[Engine, Engine]:
    """Return an engine to write with and one to read with: the same one for a database in memory."""
    if url.get_backend_name() == "sqlite":
        writer = sqlite_file.writer_engine(url, durability=durability)
        return writer, writer if sqlite_file.is_in_memory(url) else sqlite_file.reader_engine(url)
    try:
        engine = postgres.engine(url)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StoreError(
            f"the database {_place(url)} needs a driver that is not installed; "
            f'run: pip install "stageroute-router[postgres]"'
        ) from error
    return engine, engine.execution_options(isolation_level="REPEATABLE READ")
