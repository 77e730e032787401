"""Which arms are live in a stage."""

from __future__ import annotations

from stageroute_router.core.live_set.programme import plan_live_set

__all__ = ["plan_live_set"]
