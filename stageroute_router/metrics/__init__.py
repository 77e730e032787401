"""Prometheus metrics of a router, read when they are scraped. Needs the extra ``metrics``."""

from __future__ import annotations

from stageroute_router.metrics.collector import StageRouteCollector, expose

__all__ = ["StageRouteCollector", "expose"]
