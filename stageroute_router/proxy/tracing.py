"""Decisions on the spans that LiteLLM's proxy makes, once it makes some."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING

from stageroute_router.hook.ledger import MadeDecision
from stageroute_router.hook.watching import Watching

if TYPE_CHECKING:
    from stageroute_router.telemetry import DecisionSpans


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

    def made(self, call_id: str, decision: MadeDecision) -> None:
        """Look for a provider, and hand over to it."""
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            return
        from stageroute_router.telemetry import DecisionSpans  # noqa: PLC0415

        with self._lock:
            if self._spans is None:
                self._spans = DecisionSpans()
                provider.add_span_processor(self._spans)
                self._watching.end(self)
        self._spans.made(call_id, decision)

    def answered(self, response_id: str, decision: MadeDecision) -> None:
        """Do nothing: there was no span to write on."""
