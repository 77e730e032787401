"""StageRoute over HTTP, inside LiteLLM's proxy: rewards from clients, and what an operator looks at and does."""

from __future__ import annotations

from stageroute_router.proxy.api.routes import api_router

__all__ = ["api_router"]
