"""What was observed of a group, as arrays."""

from __future__ import annotations

from stageroute_router.core.evidence.evidence import Evidence, ExpectedTokens, gather

__all__ = ["Evidence", "ExpectedTokens", "gather"]
