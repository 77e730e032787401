"""The one place where parts are added to the web application of LiteLLM's proxy."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import Match

from stageroute_router.hook.watching import watching
from stageroute_router.proxy.api import PREFIX, api_router
from stageroute_router.proxy.metrics import mount_metrics
from stageroute_router.proxy.page import proxy_page
from stageroute_router.proxy.ports import ProxyRouting
from stageroute_router.proxy.tracing import ProxyTracing

_kept: list[object] = []
"""What is only referred to weakly elsewhere, for the life of the process."""


def mount(app: FastAPI, *, proxy: ProxyRouting) -> None:
    """Add StageRoute's endpoints, page and metrics to an application, one line per part.

    Args:
        app: LiteLLM's application, before it serves.
        proxy: what the parts read from and report to.
    """
    routes = app.router.routes
    litellms = list(routes)
    mount_metrics(app, proxy=proxy)
    _kept.append(ProxyTracing(watching))
    ours = _OurPaths()
    ours.include_router(api_router(proxy))
    ours.include_router(proxy_page(proxy))
    app.include_router(ours)
    # Routes are tried in order, and LiteLLM has hundreds: behind them, finding one of ours was half of a reward's time.
    routes[:] = [*routes[len(litellms) :], *litellms]


class _OurPaths(APIRouter):
    """Routes that no request of another path is compared with, one by one: every call would pay for that.

    Versions of FastAPI that copy the routes of a router do not ask it; there, each is compared.
    """

    def matches(self, scope: MutableMapping[str, Any]) -> tuple[Match, MutableMapping[str, Any]]:
        """Return whether a request is for one of these routes, and what for."""
        if PREFIX not in scope["path"]:  # behind the proxy's own root path, if it has one
            return Match.NONE, {}
        return super().matches(scope)
