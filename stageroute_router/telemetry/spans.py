"""OpenTelemetry: decisions on the spans of calls.

Needs the extra ``otel``. Nothing here happens unless it is added to the application's own providers::

    spans = DecisionSpans()
    tracer_provider.add_span_processor(spans)
    logger_provider.add_log_record_processor(
        EvaluationRewards(router.stageroute, scales={"helpfulness": (1, 5), "correct": (0, 1)}, spans=spans)
    )
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

try:
    from opentelemetry import context
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
except ImportError as error:
    msg = 'OpenTelemetry is needed: pip install "stageroute-router[otel]"'
    raise ImportError(msg) from error

from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.hook.calls.listeners import watching
from stageroute_router.hook.calls.response import plain_response_id
from stageroute_router.process.fork import ForkAware, survive_fork
from stageroute_router.process.logs import loggable

logger = logging.getLogger("stageroute_router")
RESPONSE_ID = "gen_ai.response.id"
_CALL_ID = "litellm.call_id"

DECISION_ID = "stageroute.decision_id"
"""The attribute, and the entry of the baggage, that tells which decision a span or an evaluation is about."""

Key = TypeVar("Key")

_LOG_INTERVAL_S = 60.0
_REMEMBERED = 50_000


class DecisionSpans(SpanProcessor):
    """Writes each decision on the spans of its call: LiteLLM's, and any other that names LiteLLM's call or the answer.

    A span gets ``stageroute.decision_id``, ``.group``, ``.arm``, ``.stage``, ``.probability`` and ``.shadow_price``
    (reward per US dollar) when it ends, if it has ``litellm.call_id`` or ``gen_ai.response.id`` by then. Of attempts
    that share a call id, because the application chose it, the last one is written.

    It knows the decisions of all routers of this process, made after it was. Add it to the tracer provider that makes
    the spans, before or after its exporters.

    Args:
        remembered: how many calls, answers and spans are remembered, each.
    """

    def __init__(self, *, remembered: int = _REMEMBERED) -> None:
        self._calls: _Recent[str] = _Recent(remembered)
        self._answers: _Recent[str] = _Recent(remembered)
        self._spans: _Recent[tuple[int, int]] = _Recent(remembered)
        watching.begin(self)

    # --- what the strategy tells ---------------------------------------------------------------------------

    def made(self, call_id: str, decision: RoutingDecision) -> None:
        """Record a decision; the strategy calls this."""
        self._calls.put(call_id, decision)

    def answered(self, response_id: str, decision: RoutingDecision) -> None:
        """Record the id of an answer; the strategy calls this."""
        self._answers.put(response_id, decision)

    # --- what a tracer provider asks -----------------------------------------------------------------------

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        """Wrap the span's ``end``: attributes cannot be set after it."""
        try:
            there = vars(span)
            there["end"] = partial(self._end, span, there.get("end"))
        except Exception as error:  # noqa: BLE001 - tracing goes on without our attributes
            _log("a span could not be prepared", error)

    def on_end(self, span: ReadableSpan) -> None:
        """Do nothing: the decision was written before the end."""

    def shutdown(self) -> None:
        """Stop listening to the strategy."""
        watching.end(self)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: this processor buffers nothing."""
        return True

    def decision_of(self, *, trace_id: int, span_id: int) -> str | None:
        """Return the decision that was written on a recent span, or None.

        Args:
            trace_id: of the span's trace.
            span_id: of the span.

        ```python
        from stageroute_router.telemetry.spans import DecisionSpans

        spans = DecisionSpans()
        tracer_provider.add_span_processor(spans)
        with tracer_provider.get_tracer("mine").start_as_current_span("call") as span:
            span.set_attribute("litellm.call_id", "call-1")
            asked = [{"role": "user", "content": "hello"}]
            router.completion(model="chat", messages=asked, litellm_call_id="call-1")
        ended = span.get_span_context()
        assert spans.decision_of(trace_id=ended.trace_id, span_id=ended.span_id)
        ```
        """
        decision = self._spans.get((trace_id, span_id))
        return None if decision is None else decision.decision_id

    def _end(
        self, span: Span, before: Callable[[int | None], None] | None, end_time: int | None = None
    ) -> None:
        there = vars(span)
        if before is None:
            del there["end"]
        else:
            there["end"] = before
        try:
            self._write(span)
        except Exception as error:  # noqa: BLE001 - the span must end
            _log("a decision could not be written on its span", error)
        span.end(end_time)

    def _write(self, span: Span) -> None:
        known = span.attributes or {}
        call_id, response_id = known.get(_CALL_ID), known.get(RESPONSE_ID)
        decision = self._calls.get(call_id) if isinstance(call_id, str) else None
        if decision is None and isinstance(response_id, str):
            # Where an answer has no id of its own, LiteLLM gives the call's.
            decision = self._answers.get(plain_response_id(response_id)) or self._calls.get(response_id)
        if decision is None:
            return
        span.set_attributes(
            {
                DECISION_ID: decision.decision_id,
                "stageroute.group": decision.group,
                "stageroute.arm": decision.arm,
                "stageroute.stage": decision.stage,
                "stageroute.probability": decision.probability,
                "stageroute.shadow_price": decision.shadow_price,
            }
        )
        made = span.get_span_context()
        if made is not None:
            self._spans.put((made.trace_id, made.span_id), decision)


class _Recent(ForkAware, Generic[Key]):
    """The last so many decisions, by some key."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._decisions: dict[Key, RoutingDecision] = {}
        self._lock = threading.Lock()
        survive_fork(self)

    def after_fork_in_child(self) -> None:
        """Hold no lock of the parent's threads."""
        self._lock = threading.Lock()

    def put(self, key: Key, decision: RoutingDecision) -> None:
        with self._lock:
            self._decisions.pop(key, None)  # so that it counts as new
            self._decisions[key] = decision
            while len(self._decisions) > self._capacity:
                del self._decisions[next(iter(self._decisions))]

    def get(self, key: Key) -> RoutingDecision | None:
        return self._decisions.get(key)


_last_logged = -math.inf


def _log(what: str, error: Exception) -> None:
    """Log an error of ours at most once a minute: spans are many."""
    global _last_logged  # noqa: PLW0603 - one log, one minute
    now = time.monotonic()
    if now - _last_logged >= _LOG_INTERVAL_S:
        _last_logged = now
        logger.error("%s:\n%s", what, loggable(error))
