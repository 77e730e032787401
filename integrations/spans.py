"""Decisions by OpenTelemetry's spans and traces, for whatever gives marks to those (see :mod:`.langfuse`).

The one-line change, once at start, after the tracer provider was set::

    traces = follow(router)

What is routed inside a span belongs to that span, to those around it, and to its trace.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from stageroute_router.errors import SettingsError
from stageroute_router.rewards.receipt import RewardReceipt

from .common.rewards import control_of
from .common.runs import REMEMBERED, Runs


def follow(router: object, *, remembered: int = REMEMBERED, tracer_provider: Any = None) -> Traces:  # noqa: ANN401
    """Follow all traces of a tracer provider, from now on.

    Args:
        router: a :class:`~stageroute_router.StageRouteRouter`, or one that :func:`~stageroute_router.attach` was
            used on.
        remembered: how many pairs of a span, or trace, and a decision are kept, in memory; the oldest are forgotten.
        tracer_provider: OpenTelemetry's. By default the global one, which Langfuse sets when its client is made.

    Raises:
        SettingsError: the router is not routed by StageRoute, or there is no tracer provider yet.

    >>> traces = follow(router, tracer_provider=tracer_provider)
    """
    provider = tracer_provider or trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor"):
        msg = (
            "OpenTelemetry has no tracer provider yet: make Langfuse's client before, or give tracer_provider"
        )
        raise SettingsError(msg)
    made = Traces(Runs(control_of(router), remembered=remembered))
    provider.add_span_processor(made)
    return made


class Traces(SpanProcessor):
    """Remembers which decisions were made inside which trace and span. Made by :func:`follow`."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        """What is remembered: traces by their id, observations by ``<trace id>/<observation id>``."""

    def on_start(self, span: ReadableSpan, parent_context: object = None) -> None:
        """Take note that a span begins, here."""
        trace_id, span_id = _ids(span)
        around = f"{trace_id}/{span.parent.span_id:016x}" if span.parent else trace_id
        if not self.runs.follows(around):  # the trace itself, or a parent in another process
            around = trace_id
            self.runs.began(trace_id)
        self.runs.began(span_id, inside=around)

    def on_end(self, span: ReadableSpan) -> None:
        """Take note that a span has ended, and with its first one the trace."""
        trace_id, span_id = _ids(span)
        self.runs.ended(span_id)
        if span.parent is None or span.parent.is_remote:
            self.runs.ended(trace_id)

    def record_reward(self, run_id: str, reward: object, *, source: str = "app") -> tuple[RewardReceipt, ...]:
        """Give every decision made inside a trace or observation the same reward, and wait until that is durable.

        Args:
            run_id: a trace's id, as ``get_client().get_current_trace_id()`` returns it, or
                ``<trace id>/<observation id>``.
            reward: a finite number in [0, 1].
            source: who says so; the same source again replaces its earlier value.

        Raises:
            UnknownDecisionError: nothing was routed inside it in this process, or it is forgotten.
            StageRouteError: otherwise as :meth:`~stageroute_router.router.control.Control.record_reward`.

        >>> traces = follow(router, tracer_provider=tracer_provider)
        >>> asked = [{"role": "user", "content": "hello"}]
        >>> with tracer_provider.get_tracer("mine").start_as_current_span("answer") as span:
        ...     answer = router.completion(model="chat", messages=asked)
        >>> trace_id = f"{span.get_span_context().trace_id:032x}"
        >>> [receipt.status for receipt in traces.record_reward(trace_id, 0.9)]
        ['recorded']
        """
        return self.runs.record_reward(run_id, reward, source=source)


def _ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.context
    trace_id = f"{context.trace_id:032x}"
    return trace_id, f"{trace_id}/{context.span_id:016x}"
