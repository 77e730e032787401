"""Metrics in LiteLLM's proxy: on a page of their own, and on LiteLLM's where it has one.

A client that may read LiteLLM's ``/metrics`` may read ours, by the same setting and the same check.
"""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Iterable, Mapping

from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stageroute_router.metrics.collector import StageRouteCollector
from stageroute_router.proxy.interfaces import ProxyNotReadyError, ProxyRouting
from stageroute_router.reports.endpoints import PREFIX
from stageroute_router.router.control import Control

PATH = f"{PREFIX}/metrics"

_LITELLMS_PATH = "/metrics"


def mount_metrics(app: FastAPI, *, proxy: ProxyRouting) -> None:
    """Serve the metrics of this worker at ``/stageroute/metrics``, and put them among LiteLLM's at ``/metrics``.

    LiteLLM's page is there when its ``prometheus`` callback is on. With several workers it is read from files
    (``PROMETHEUS_MULTIPROC_DIR``) that know counters and gauges only; the page mounted here instead has LiteLLM's
    metrics of all workers, from the files, and ours of the worker that answers.

    Args:
        app: LiteLLM's application, before LiteLLM mounts its own page.
        proxy: whose routing is shown.
    """
    collector = StageRouteCollector(lambda: _present(proxy))
    registry = CollectorRegistry()
    registry.register(collector)
    app.router.routes.append(Route(PATH, _AsLiteLLMs(MetricsPage(registry)), include_in_schema=False))
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        REGISTRY.register(collector)
    elif _litellm_serves_metrics():
        both = CollectorRegistry()
        MultiProcessCollector(both)  # type: ignore[no-untyped-call]
        both.register(collector)
        app.router.routes.append(Mount(_LITELLMS_PATH, MetricsPage(both)))


class MetricsPage:
    """An ASGI application that answers with the metrics of a registry, in any format a Prometheus asks for.

    Rendering is done in a thread, so that a page of many metrics does not hold up the calls of others.

    Args:
        registry: what to show.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        names = request.query_params.getlist("name[]")
        shown = self._registry.restricted_registry(names) if names else self._registry
        body = await asyncio.to_thread(encode, shown)
        headers = {"content-type": content_type}
        if gzip_accepted(request.headers.get("accept-encoding", "")):
            body = await asyncio.to_thread(gzip.compress, body)
            headers["content-encoding"] = "gzip"
        await Response(body, headers=headers)(scope, receive, send)


class _AsLiteLLMs:
    """Asks LiteLLM whether a request may read its metrics, before it reads ours."""

    def __init__(self, page: ASGIApp) -> None:
        # Takes seconds to import, and is there already in a proxy.
        from litellm.proxy.middleware.prometheus_auth_middleware import (  # noqa: PLC0415
            PrometheusAuthMiddleware,
        )

        self._guarded = PrometheusAuthMiddleware(page)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        there = {**scope, "path": _LITELLMS_PATH, "raw_path": _LITELLMS_PATH.encode(), "root_path": ""}
        await self._guarded(there, receive, send)


def _present(proxy: ProxyRouting) -> Control | None:
    try:
        return proxy.control()
    except ProxyNotReadyError:
        return None


def _litellm_serves_metrics() -> bool:
    """Return whether the proxy's configuration turns LiteLLM's ``prometheus`` callback on."""
    from litellm.proxy import proxy_server  # noqa: PLC0415 - see above

    settings = proxy_server.proxy_config.config.get("litellm_settings")
    if not isinstance(settings, Mapping):
        return False
    for key in ("callbacks", "success_callback", "failure_callback"):
        named = settings.get(key)
        if named == "prometheus" or (
            isinstance(named, Iterable) and not isinstance(named, str) and "prometheus" in named
        ):
            return True
    return False
