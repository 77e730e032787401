"""From a database URL to a store."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from stageroute_router.errors import StoreError
from stageroute_router.store.contract import DEFAULT_RETENTION_S, Store
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.sql.drivers.sqlite import Durability as Durability  # noqa: PLC0414 - part of opening
from stageroute_router.store.sql.schema import Migrate
from stageroute_router.store.sql.store import SqlStore

MEMORY_URL = "memory://"


def open_existing_store(url: str) -> Store:
    """Open a database that must be there already: looking at one must not create it, nor change its tables.

    Raises:
        StoreError: there is no such file, or it cannot be used.
        SchemaError: its tables are older; the message has the command to run.
    """
    require_database(url)
    return open_store(url, migrate="verify")


def require_database(url: str) -> None:
    """Raise unless there is a file where a URL names one.

    Raises:
        StoreError: there is no such file.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        return  # opening it says what is wrong with it
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).exists():
        msg = (
            f"there is no database {parsed.database!r}; give the URL your router uses: "
            "--database sqlite:///path/to/stageroute.db"
        )
        raise StoreError(msg)


def open_store(
    url: str,
    *,
    durability: Durability = "full",
    retention_s: float | None = DEFAULT_RETENTION_S,
    migrate: Migrate | None = None,
    lazily: bool = False,
) -> Store:
    """Open the store at ``url``.

    Args:
        url: an SQLAlchemy URL such as ``sqlite:///stageroute.db``, or ``memory://`` for one that forgets
            everything when the process ends.
        durability: ``"full"``: what was acknowledged survives a power loss; ``"normal"``: it survives a crash of
            the process, and the last moments before a power loss may be gone.
        retention_s: how old decisions and rewards become before they are folded into sums, in seconds, at least
            a day; None for ever.
        migrate: ``"auto"``: create and migrate tables; ``"verify"``: refuse a database that needs it, with the
            command to run. Default: ``"auto"`` for SQLite, ``"verify"`` for PostgreSQL.
        lazily: whether to speak to the database when it is first needed only: a process should start while it is
            away.

    Raises:
        StoreError: the database cannot be used; the message says why and what to do.
    """
    if url == MEMORY_URL:
        return MemoryStore(retention_s=retention_s)
    return SqlStore(url, durability=durability, retention_s=retention_s, migrate=migrate, lazily=lazily)
