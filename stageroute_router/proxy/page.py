"""The page inside LiteLLM's proxy: who may look is decided by the proxy's own keys and roles."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request

from stageroute_router.page import page_router
from stageroute_router.proxy.api.access import asker_of
from stageroute_router.proxy.api.requests import GuardedRoute, KnockingRequest
from stageroute_router.proxy.interfaces import ProxyRouting


def proxy_page(proxy: ProxyRouting) -> APIRouter:
    """Return the page, ready to be included in the application of LiteLLM's proxy.

    Args:
        proxy: where the routing of the proxy's present router is found.
    """
    from litellm.proxy.auth.user_api_key_auth import (  # noqa: PLC0415 - seconds, and loaded where a proxy runs
        user_api_key_auth,
    )

    async def may_read(request: Request, auth: Any = Depends(user_api_key_auth)) -> None:  # noqa: ANN401
        asker = asker_of(auth)
        if isinstance(request, KnockingRequest):
            request.is_known = True
        asker.look()

    return page_router(reports=proxy.control, may_read=may_read, route_class=GuardedRoute)
