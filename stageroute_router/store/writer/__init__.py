"""The one thread of a process that writes to the store."""

from __future__ import annotations

from stageroute_router.store.writer.writer import Writer

__all__ = ["Writer"]
