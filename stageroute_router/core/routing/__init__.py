"""Which share of the calls each live arm gets."""

from __future__ import annotations

from stageroute_router.core.routing.closed_form import solve_routing

__all__ = ["solve_routing"]
