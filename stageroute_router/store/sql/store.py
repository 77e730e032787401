"""A store in an SQL database: an SQLite file, or PostgreSQL where several hosts share it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from stageroute_router.errors import StoreError
from stageroute_router.process.fork import ForkAware, survive_fork
from stageroute_router.store.contract import DEFAULT_DATABASE, DEFAULT_RETENTION_S, More, nothing_more
from stageroute_router.store.history import HistoryPoint
from stageroute_router.store.ledger.sums import statistics_by_stage
from stageroute_router.store.records import (
    CommitReport,
    Difference,
    StatisticsByStage,
    StoredDecision,
    StoredGroup,
)
from stageroute_router.store.sql import checking, sampling
from stageroute_router.store.sql.drivers import postgres, sqlite
from stageroute_router.store.sql.drivers.connections import Connections
from stageroute_router.store.sql.drivers.failures import translated
from stageroute_router.store.sql.drivers.sqlite import Durability
from stageroute_router.store.sql.drivers.statements import say
from stageroute_router.store.sql.reading.batch import load_key, load_ledger
from stageroute_router.store.sql.reading.decisions import load_call, load_mix, load_page, load_recent
from stageroute_router.store.sql.reading.group import (
    load_folded,
    load_group,
    load_stage,
    load_stage_statistics,
    load_stages,
    load_versions,
)
from stageroute_router.store.sql.schema import Migrate, ensure_schema
from stageroute_router.store.sql.upkeep import do_upkeep, overdue, read_upkeep
from stageroute_router.store.sql.writing import write_back
from stageroute_router.store.validation import check_batch, check_retention
from stageroute_router.store.writes import MixRecorded, StagePlanned, Write

# Any number will do, as long as all workers use the same and no other program does.
_POSTGRES_LOCK = 0x53527465

_EXPORT_PAGE = 1000
"""Decisions that an export reads at once: a page takes some milliseconds and a megabyte."""


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
        retention_s: how old decisions and rewards become before they are folded into sums, in seconds, at least
            a day; None for ever. Statistics never change by it.
        migrate: ``"auto"``: a new database gets its tables, and an older one is brought up to date, at once.
            ``"verify"``: such a database is refused, naming the command to run, and nothing is created. By
            default ``"auto"`` for SQLite and ``"verify"`` for PostgreSQL, where workers may not change tables.
        clock: returns seconds since the epoch, by which everything ages.
        lazily: whether to speak to the database when it is first needed, and not now. What is raised below is
            then raised there, except for a URL, driver or folder that cannot be right.

    Raises:
        StoreError: the URL, the folder, the file or the driver cannot be used; the message says how to go on.
        SchemaError: the database is another program's, or was written by a newer version.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: Durability = "full",
        retention_s: float | None = DEFAULT_RETENTION_S,
        migrate: Migrate | None = None,
        clock: Callable[[], float] = time.time,
        lazily: bool = False,
    ) -> None:
        if durability not in ("full", "normal"):
            raise StoreError(f"durability is {durability!r}; it has to be 'full' or 'normal'")
        check_retention(retention_s)
        parsed = parsed_url(url)
        self._place = place_of(parsed)
        self._clock = clock
        self._retention_s = retention_s
        self._lock = threading.Lock()
        self._closed = False
        self._sampler = sampling.Sampler()
        with translated(self._place):
            self._writer, self._reader = engines(parsed, durability=durability)
            is_file = parsed.get_backend_name() == "sqlite"
            self._migrate: Migrate = migrate or ("auto" if is_file else "verify")
            self._connections = Connections(
                self._writer, self._reader, wait_s=sqlite.BUSY_TIMEOUT_S + 1 if is_file else 0.0
            )
            survive_fork(self)
        self._ready = False
        if not lazily:
            try:
                self._prepare()
            except BaseException:
                self.close()
                raise

    def load(self, group: str) -> StoredGroup:
        """Return what is stored of a group; an empty one when nothing is."""
        with self._reading() as connection:
            return load_group(connection, group)

    def statistics_by_stage(self, group: str) -> StatisticsByStage:
        """Return a group's statistics per stage and cell, and what was folded away, whose stage is None."""
        with self._reading() as connection:
            folded = load_folded(connection, group)
            return statistics_by_stage(load_stage_statistics(connection, group), folded=folded)

    def groups(self) -> Sequence[str]:
        """Return the names of all groups with anything stored, sorted."""
        with self._reading() as connection:
            return checking.groups_in(connection)

    def versions(self) -> Mapping[str, int]:
        """Return the version of each group."""
        with self._reading() as connection:
            return load_versions(connection)

    def stages(self, group: str, *, last: int | None = None) -> Sequence[StagePlanned]:
        """Return a group's stages in order, or only the ``last`` so many."""
        with self._reading() as connection:
            return load_stages(connection, group, last=last)[0]

    def stage(self, group: str, number: int) -> StagePlanned | None:
        """Return one stage of a group, or None."""
        with self._reading() as connection:
            return load_stage(connection, group, number)

    def decision(self, key: str) -> StoredDecision | None:
        """Return the decision a key names (decision, response or call id), or None."""
        with self._reading() as connection:
            return load_key(connection, key).decision(key)

    def decisions_of_call(self, call_id: str) -> Sequence[StoredDecision]:
        """Return all decisions of a logical call in the order of their arrival: its retries and fallbacks."""
        with self._reading() as connection:
            return load_call(connection, call_id)

    def recent_decisions(
        self, group: str, *, limit: int = 50, before: float | None = None
    ) -> Sequence[StoredDecision]:
        """Return a group's latest decisions, the latest first, or those made before a moment."""
        with self._reading() as connection:
            return load_recent(connection, group, limit=limit, before=before)

    def export_decisions(self, group: str | None = None) -> Iterator[StoredDecision]:
        """Return all decisions with their rewards in the order of their arrival, of all groups or of one."""
        after: int | None = -1
        while after is not None:
            with self._reading() as connection:
                page, after = load_page(connection, group=group, after=after, rows=_EXPORT_PAGE)
            yield from page

    def mix(self, mix_id: str) -> MixRecorded | None:
        """Return a distribution that decisions were sampled from, or None."""
        with self._reading() as connection:
            return load_mix(connection, mix_id)

    def history(self, group: str, *, points: int = 300) -> Sequence[HistoryPoint]:
        """Return a group's totals over time, the oldest first and the present ones last."""
        with self._reading() as connection:
            return sampling.load_history(connection, group, points=points, now=self._clock())

    def commit(self, batch: Sequence[Write], *, more: More = nothing_more) -> CommitReport:
        """Apply a batch in order, in one transaction, durably.

        Args:
            batch: the writes.
            more: asked once, when no other worker can commit before this batch any more: what has come up while it
                waited for that. It is applied after the batch, as a part of it. By default, nothing has.

        Raises:
            StoreError: nothing of the batch was applied (or, if the connection broke at the very end, that is
                not known): committing the same batch again is right in both cases.
            InvalidRewardError: a reward is not in [0, 1]. Nothing was applied.
            ValueError: another value of the batch cannot be stored. Nothing was applied.
        """
        check_batch(batch)
        now = self._clock()
        with translated(self._place), self._writing() as connection:
            state = read_upkeep(connection)
            is_due = state.is_due(now)
            lost = overdue(connection, now) if is_due else ()
            added = more()
            check_batch(added)
            batch = [*batch, *added]
            ledger = load_ledger(connection, batch, lost=lost, folded_up_to=state.folded_up_to)
            applied = ledger.apply(batch, now=now, lost=lost)
            write_back(connection, ledger, applied)
            self._sampler.sample(connection, applied, now=now)
            if is_due:
                do_upkeep(connection, state, now=now, retention_s=self._retention_s, lost=len(lost))
        return applied.report

    def interrupt(self) -> None:
        """Break off what other threads are waiting for the database to do; their calls raise ``StoreError``."""
        self._connections.interrupt()

    def after_fork_in_child(self) -> None:
        """Begin with a lock that no thread of the parent holds."""
        self._lock = threading.Lock()

    def verify(self) -> Sequence[Difference]:
        """Compare statistics and accounts with what all decisions and rewards amount to; nothing when all is well.

        Surplus and debt are not compared: they depend on the order of events.
        """
        with self._reading() as connection:
            return checking.verify(connection)

    def rebuild(self) -> Sequence[Difference]:
        """Repair what :meth:`verify` finds, and return what was found. Other workers' commits wait for it.

        Raises:
            StoreError: the database cannot be written. Nothing was changed.
        """
        with translated(self._place), self._writing() as connection:
            return checking.rebuild(connection)

    def close(self) -> None:
        """Release files and connections. Closing twice is harmless."""
        self._closed = True
        # The writer last: the last connection to an SQLite file moves its log into the file.
        if self._reader is not self._writer:
            self._reader.dispose()
        self._writer.dispose()

    def __repr__(self) -> str:
        return f"SqlStore({self._place!r})"

    def _prepare(self) -> None:
        """Bring the database to our schema, once."""
        if not self._ready:
            with translated(self._place), self._transaction() as connection:
                ensure_schema(connection, place=self._place, migrate=self._migrate)
            self._ready = True

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._prepare()
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._connections.in_use(), self._lock:
            self._check_open()
            try:
                with self._writer.begin() as connection:
                    if connection.dialect.name == "postgresql":
                        say(connection, f"SELECT pg_advisory_xact_lock({_POSTGRES_LOCK:d})")
                    yield connection
            except BaseException:
                # A file that was made writable, or restored, in the meantime shows to a new connection only.
                self._connections.close_idle()
                raise

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._check_open()
        self._prepare()
        # A database in memory has a single connection, so its readers do wait for its writers.
        alone = self._lock if self._reader is self._writer else nullcontext()
        with translated(self._place), self._connections.in_use(), alone, self._reader.begin() as connection:
            yield connection

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the database {self._place} was closed by this process; open it again")


def parsed_url(url: str) -> URL:
    """Return a URL as SQLAlchemy's, with our driver; a new SQLite file is created.

    Raises:
        StoreError: it names no database we know, or a folder that is not there.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        hidden = re.sub(r"//[^@]*@", "//***@", str(url))
        raise StoreError(
            f"database_url is {hidden!r}, which is not a database URL; write for example {DEFAULT_DATABASE}"
        ) from None
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return sqlite.prepared(parsed)
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise StoreError(
        f"database_url {place_of(parsed)!r} names {parsed.drivername!r}; "
        f"what is supported is sqlite:///file and postgresql://user@host/name"
    )


def place_of(url: URL) -> str:
    """Return a URL as messages and logs name it: without its password."""
    return url.render_as_string(hide_password=True)


def engines(url: URL, *, durability: Durability) -> tuple[Engine, Engine]:
    """Return an engine to write with and one to read with: the same one for a database in memory.

    Raises:
        StoreError: the driver is not installed.
    """
    if url.get_backend_name() == "sqlite":
        writer = sqlite.writer_engine(url, durability=durability)
        return writer, writer if sqlite.is_in_memory(url) else sqlite.reader_engine(url)
    try:
        engine = postgres.engine(url)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StoreError(
            f"the database {place_of(url)} needs a driver that is not installed; "
            f'run: pip install "stageroute-router[postgres]"'
        ) from error
    return engine, engine.execution_options(isolation_level="REPEATABLE READ")
