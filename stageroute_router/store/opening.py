"""From a database URL to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from stageroute_router.errors import StoreError
from stageroute_router.store.base import Store
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.sql import SqlStore

MEMORY_URL = "memory://"

Durability = Literal["full", "normal"]


def open_existing_store(url: str) -> Store:
    """Open a database that must be there already: looking at one must not create it.

    Raises:
        StoreError: there is no such file, or it cannot be used.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        return open_store(url)  # which says what is wrong with it
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).exists():
        msg = (
            f"there is no database {parsed.database!r}; give the URL your router uses: "
            "--database sqlite:///path/to/stageroute.db"
        )
        raise StoreError(msg)
    return open_store(url)


def open_store(url: str, *, durability: Durability = "full", lazily: bool = False) -> Store:
    """Open the store at ``url``.

    Args:
        url: an SQLAlchemy URL such as ``sqlite:///stageroute.db``, or ``memory://`` for one that forgets
            everything when the process ends.
        durability: ``"full"``: what was acknowledged survives a power loss; ``"normal"``: it survives a crash of
            the process, and the last moments before a power loss may be gone.
        lazily: whether to speak to the database when it is first needed only: a process should start while it is
            away.

    Raises:
        StoreError: the database cannot be used; the message says why and what to do.
    """
    if url == MEMORY_URL:
        return MemoryStore()
    return SqlStore(url, durability=durability, lazily=lazily)
