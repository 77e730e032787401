"""The one place where parts are added to the web application of LiteLLM's proxy."""

from __future__ import annotations

import threading
from collections.abc import MutableMapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from starlette.routing import Match

from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.hook.calls.listeners import Watching, watching
from stageroute_router.proxy.api import api_router
from stageroute_router.proxy.interfaces import ProxyRouting
from stageroute_router.proxy.metrics import mount_metrics
from stageroute_router.proxy.page import proxy_page
from stageroute_router.reports.endpoints import PREFIX

if TYPE_CHECKING:
    from stageroute_router.telemetry.spans import DecisionSpans


# Decisions on the spans that LiteLLM's proxy makes, once it makes some.


class ProxyTracing:
    """Adds :class:`~stageroute_router.telemetry.DecisionSpans` to the process's tracer provider when there is one.

    LiteLLM makes its provider with the first request that is traced, if one of its ``otel`` callbacks is on, so this
    looks at each decision until then. Providers that LiteLLM keeps to itself (those of single teams) are not reached.

    Args:
        watching: who tells of decisions.
    """

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self._lock = threading.Lock()
        self._spans: DecisionSpans | None = None
        if find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None:
            watching.begin(self)

    def made(self, call_id: str, decision: RoutingDecision) -> None:
        """Look for a provider, and hand over to it."""
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            return
        from stageroute_router.telemetry.spans import DecisionSpans  # noqa: PLC0415

        with self._lock:
            if self._spans is None:
                self._spans = DecisionSpans()
                provider.add_span_processor(self._spans)
                self._watching.end(self)
        self._spans.made(call_id, decision)

    def answered(self, response_id: str, decision: RoutingDecision) -> None:
        """Do nothing: there was no span to write on."""


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
