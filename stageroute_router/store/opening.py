"""From a database URL to a store: the URL's scheme says which.

``memory``, ``sqlite`` and ``postgresql`` are built in. An installed package names others in its ``pyproject.toml``::

    [project.entry-points."stageroute_router.stores"]
    redis = "my_package.store:open_redis"

``open_redis`` is an :class:`Opener`; ``redis://...`` is then a ``database_url`` like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from stageroute_router.errors import StoreError
from stageroute_router.store.contract import DEFAULT_DATABASE, DEFAULT_RETENTION_S, Store
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.sql.drivers.sqlite import Durability as Durability  # noqa: PLC0414 - part of opening
from stageroute_router.store.sql.schema import Migrate
from stageroute_router.store.sql.store import SqlStore

MEMORY_URL = "memory://"

GROUP = "stageroute_router.stores"
"""The entry point group that installed packages register their stores in, by scheme."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)(?:\+[A-Za-z0-9_.-]+)?://")


class Opener(Protocol):
    """Opens a store; called once by each router, and by each command that looks at a database."""

    def __call__(
        self,
        url: str,
        *,
        durability: Durability,
        retention_s: float | None,
        migrate: Migrate | None,
        lazily: bool,
    ) -> Store:
        """Open the store at ``url``, whose scheme is the one registered. The rest is as for :func:`open_store`.

        ``migrate="verify"`` must not create anything; with ``lazily`` a database that is away now is no error.

        Raises:
            StoreError: the database cannot be used; the message says why and what to do, without a password.
        """
        ...


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
        url: an SQLAlchemy URL such as ``sqlite:///stageroute.db``, ``memory://`` for one that forgets everything when
            the process ends, or what the store of an installed package takes.
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
    return _opener_of(url)(
        url, durability=durability, retention_s=retention_s, migrate=migrate, lazily=lazily
    )


def schemes() -> tuple[str, ...]:
    """Return the schemes of all stores, sorted.

    >>> {"memory", "postgresql", "sqlite"}.issubset(schemes())
    True
    """
    return tuple(sorted({*_BUILT_IN, *_installed()}))


def _opener_of(url: str) -> Opener:
    """Return what opens a URL.

    Raises:
        StoreError: it is no URL, its scheme is not registered, or the package that registers it cannot be imported.
    """
    found = _SCHEME.match(url)
    if found is None:
        msg = f"database_url is {_shown(url)!r}, which is not a database URL; write for example {DEFAULT_DATABASE}"
        raise StoreError(msg)
    scheme = found[1]
    built_in = _BUILT_IN.get(scheme)
    if built_in is not None:
        return built_in
    installed = _installed().get(scheme)
    if installed is None:
        msg = (
            f"database_url {_shown(url)!r} has the scheme {scheme!r}, which no store is registered for; there are: "
            f"{', '.join(schemes())}"
        )
        raise StoreError(msg)
    try:
        opener: Opener = installed.load()
    except (ImportError, AttributeError) as error:
        msg = (
            f"the store of {scheme}:// cannot be loaded from {installed.value} ({error}); correct its package"
        )
        raise StoreError(msg) from error
    return opener


def _shown(url: str) -> str:
    """Return a URL without a password.

    >>> _shown("redis://user:secret@host/0"), _shown("user:secret@host")
    ('redis://***@host/0', '***@host')
    """
    return re.sub(r"^([\w+.-]*://)?.*@", r"\1***@", url)


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _open_memory(
    url: str, *, durability: Durability, retention_s: float | None, migrate: Migrate | None, lazily: bool
) -> Store:
    if url != MEMORY_URL:
        raise StoreError(
            f"database_url is {_shown(url)!r}; a store in memory has no place: write {MEMORY_URL}"
        )
    return MemoryStore(retention_s=retention_s)


_BUILT_IN: Mapping[str, Opener] = MappingProxyType(
    {"memory": _open_memory, "postgres": SqlStore, "postgresql": SqlStore, "sqlite": SqlStore}
)
