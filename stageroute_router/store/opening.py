"""From a database URL to a store."""

from __future__ import annotations

from typing import Literal

from stageroute_router.store.base import Store
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.sql import SqlStore

MEMORY_URL = "memory://"

Durability = Literal["full", "normal"]


def open_store(url: str, *, durability: Durability = "full") -> Store:
    """Open the store at ``url``.

    Args:
        url: an SQLAlchemy URL such as ``sqlite:///stageroute.db``, or ``memory://`` for one that forgets
            everything when the process ends.
        durability: ``"full"``: what was acknowledged survives a power loss; ``"normal"``: it survives a crash of
            the process, and the last moments before a power loss may be gone.

    Raises:
        StoreError: the database cannot be used; the message says why and what to do.
    """
    if url == MEMORY_URL:
        return MemoryStore()
    return SqlStore(url, durability=durability)
