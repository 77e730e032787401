"""What each write means, for every store."""

from __future__ import annotations

from stageroute_router.store.ledger.ledger import Ledger

__all__ = ["Ledger"]
