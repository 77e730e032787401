"""OpenTelemetry: decisions on the spans of calls, and evaluations taken as rewards.

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
import numbers
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, Literal, TypeVar

try:
    from opentelemetry import baggage, context
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
except ImportError as error:  # pragma: no cover - the tests' environment has it
    msg = 'OpenTelemetry is needed: pip install "stageroute-router[otel]"'
    raise ImportError(msg) from error

from stageroute_router.error_text import loggable
from stageroute_router.errors import (
    InvalidRewardError,
    SettingsError,
    StoreError,
    UnknownDecisionError,
    UnmanagedCallError,
)
from stageroute_router.forking import ForkAware, survive_fork
from stageroute_router.hook.control import Control
from stageroute_router.hook.identify import key_of, plain_response_id
from stageroute_router.hook.ledger import MadeDecision
from stageroute_router.hook.watching import watching
from stageroute_router.receipt import RewardReceipt
from stageroute_router.store.validation import check_source

logger = logging.getLogger("stageroute_router")

# The conventions for generative AI are not stable and have moved between packages; their names have not changed.
EVALUATION_EVENT = "gen_ai.evaluation.result"
_EVALUATION_NAME = "gen_ai.evaluation.name"
_SCORE = "gen_ai.evaluation.score.value"
_RESPONSE_ID = "gen_ai.response.id"
_CALL_ID = "litellm.call_id"

DECISION_ID = "stageroute.decision_id"
"""The attribute, and the entry of the baggage, that tells which decision a span or an evaluation is about."""

Key = TypeVar("Key")

_LOG_INTERVAL_S = 60.0
_REMEMBERED = 50_000

Verdict = Literal[
    "recorded", "not_accepted", "bad_score", "no_call", "unmanaged", "unknown", "not_stored", "error"
]
"""What became of an evaluation:

- ``"recorded"``: its reward is stored.
- ``"not_accepted"``: it has another name than those that were given a scale.
- ``"bad_score"``: it has no score, or one that is no number on the scale.
- ``"no_call"``: it names no call, and no span that one is known of.
- ``"unmanaged"``: its call was left to LiteLLM's own choice.
- ``"unknown"``: no decision of this database has that id.
- ``"not_stored"``: the database did not take it in time.
- ``"error"``: an error of ours; the log has it.
"""


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

    def made(self, call_id: str, decision: MadeDecision) -> None:
        """Take a decision; the strategy calls this."""
        self._calls.put(call_id, decision)

    def answered(self, response_id: str, decision: MadeDecision) -> None:
        """Take the id of an answer; the strategy calls this."""
        self._answers.put(response_id, decision)

    # --- what a tracer provider asks -----------------------------------------------------------------------

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        """Have the span come by here before it ends: afterwards nothing can be written on it."""
        try:
            there = vars(span)
            there["end"] = partial(self._end, span, there.get("end"))
        except Exception as error:  # noqa: BLE001 - tracing goes on without our attributes
            _log("a span could not be prepared", error)

    def on_end(self, span: ReadableSpan) -> None:
        """Do nothing: it has been done."""

    def shutdown(self) -> None:
        """Listen no more."""
        watching.end(self)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: nothing waits here."""
        return True

    def decision_of(self, *, trace_id: int, span_id: int) -> str | None:
        """Return the decision that was written on a recent span, or None.

        Args:
            trace_id: of the span's trace.
            span_id: of the span.

        ```python
        from stageroute_router.telemetry import DecisionSpans

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
        call_id, response_id = known.get(_CALL_ID), known.get(_RESPONSE_ID)
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


class EvaluationRewards(LogRecordProcessor):
    """Takes ``gen_ai.evaluation.result`` events as rewards, from the source ``otel:<name of the evaluation>``.

    Which call an evaluation is about is told by, in this order: its attribute ``stageroute.decision_id``; its
    attribute ``gen_ai.response.id``; the baggage's ``stageroute.decision_id`` (see :func:`evaluating`); the span it
    was emitted in, where ``spans`` has written a decision on it.

    It waits for nothing and raises nothing: what became of evaluations is in ``counts``, and in the log, once a minute,
    where something is wrong with them.

    Args:
        control: ``router.stageroute``, or a function that returns the present one.
        scales: the evaluations to accept, by name, with the scores that are worth a reward of 0 and of 1, such as
            ``{"helpfulness": (1, 5), "toxicity": (1, 0)}``. Scores in between are rewards in between; a score beyond
            is refused, never clipped. Several evaluations of one call are several rewards: the arm's mean is taken
            over all.
        spans: where to look up the span an evaluation was emitted in; None not to.

    Raises:
        SettingsError: there is no scale, one is no pair of different finite numbers, or a name cannot be a source.
    """

    def __init__(
        self,
        control: Control | Callable[[], Control],
        *,
        scales: Mapping[str, tuple[float, float]],
        spans: DecisionSpans | None = None,
    ) -> None:
        self._control: Callable[[], Control] = (lambda: control) if isinstance(control, Control) else control
        self._scales = {name: _scale(name, scale) for name, scale in scales.items()}
        if not self._scales:
            msg = 'scales is empty: say which evaluations to accept, such as {"helpfulness": (1, 5)}'
            raise SettingsError(msg)
        self._spans = spans
        self._lock = threading.Lock()
        self._counts: Counter[Verdict] = Counter()
        self._logged: dict[str, float] = {}

    @property
    def counts(self) -> Mapping[Verdict, int]:
        """What became of the evaluations so far, see :data:`Verdict`. One that is being stored is not in it yet."""
        with self._lock:
            return dict(self._counts)

    def on_emit(self, log_record: Any) -> None:  # noqa: ANN401 - the SDK has renamed its type
        """Take an event, if it is an evaluation."""
        try:
            self._take(log_record)
        except Exception as error:  # noqa: BLE001 - an evaluation must not break what it evaluates
            self._came_to("error", loggable(error))

    emit = on_emit  # its name before OpenTelemetry 1.35

    def shutdown(self) -> None:
        """Do nothing: rewards under way are the router's, whose ``close()`` stores them."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: nothing waits here."""
        return True

    def _take(self, emitted: Any) -> None:  # noqa: ANN401
        record = emitted.log_record
        said: Mapping[str, object] = record.attributes or {}
        if EVALUATION_EVENT not in (getattr(record, "event_name", None), said.get("event.name")):
            return
        name = said.get(_EVALUATION_NAME)
        scale = self._scales.get(name) if isinstance(name, str) else None
        if scale is None:
            self._came_to("not_accepted")
            return
        try:
            reward = _on_scale(said.get(_SCORE), scale)
        except InvalidRewardError as error:
            self._came_to("bad_score", f"evaluation {name!r}: {error}")
            return
        key = self._call_of(record, said)
        if key is None:
            self._came_to(
                "no_call",
                f"evaluation {name!r} names no call: set its attribute {_RESPONSE_ID}, or emit it in evaluating()",
            )
            return
        try:
            stored = self._control().submit_reward(key, reward, source=f"otel:{name}")
        except UnmanagedCallError:
            self._came_to("unmanaged")
            return
        except StoreError as error:  # the queue is full, or the router closed
            self._came_to("not_stored", str(error))
            return
        stored.add_done_callback(self._stored)

    def _call_of(self, record: Any, said: Mapping[str, object]) -> str | None:  # noqa: ANN401
        emitted_in = getattr(record, "context", None)
        for key in (
            said.get(DECISION_ID),
            said.get(_RESPONSE_ID),
            baggage.get_baggage(DECISION_ID, emitted_in if isinstance(emitted_in, context.Context) else None),
        ):
            if isinstance(key, str) and key:
                return key
        if self._spans is None or not record.trace_id or not record.span_id:
            return None
        return self._spans.decision_of(trace_id=record.trace_id, span_id=record.span_id)

    def _stored(self, done: Future[RewardReceipt]) -> None:
        error = done.exception()
        if error is None:
            self._came_to("recorded")
        elif isinstance(error, UnknownDecisionError):
            self._came_to("unknown", str(error))
        else:
            self._came_to("not_stored", loggable(error))

    def _came_to(self, verdict: Verdict, why: str | None = None) -> None:
        now = time.monotonic()
        with self._lock:
            self._counts[verdict] += 1
            count = self._counts[verdict]
            says = why is not None and now - self._logged.get(verdict, -math.inf) >= _LOG_INTERVAL_S
            if says:
                self._logged[verdict] = now
        if says:
            logger.warning("an evaluation was not taken as a reward (%s, %d so far): %s", verdict, count, why)


@contextmanager
def evaluating(response: object) -> Iterator[None]:
    """Let evaluations that are emitted inside be about a call, whatever emits them.

    Evaluators that copy OpenTelemetry's baggage to their events (pydantic-evals does), or that emit events in the
    present context, need no more.

    Args:
        response: what the call returned, or its response id, call id or decision id.

    Raises:
        NotAResponseError: it is none of these.

    ```python
    from stageroute_router.telemetry import evaluating

    with evaluating(response):
        run_evaluators(response)
    ```
    """
    token = context.attach(baggage.set_baggage(DECISION_ID, key_of(response)))
    try:
        yield
    finally:
        context.detach(token)


def _scale(name: str, scale: object) -> tuple[float, float]:
    try:
        check_source(f"otel:{name}")
    except InvalidRewardError as error:
        msg = f"the evaluation {name!r} cannot be taken: {error}"
        raise SettingsError(msg) from error
    ends = scale if isinstance(scale, tuple | list) else ()
    if len(ends) != 2 or not all(_is_number(end) for end in ends) or ends[0] == ends[1]:
        msg = (
            f"the scale of evaluation {name!r} must be two different finite numbers, the scores worth 0 and 1, such as "
            f"(1, 5); it is {scale!r}"
        )
        raise SettingsError(msg)
    return float(ends[0]), float(ends[1])


def _on_scale(score: object, scale: tuple[float, float]) -> float:
    worst, best = scale
    if not _is_number(score, or_bool=True):
        msg = f"its score is no finite number but {type(score).__name__}"
        raise InvalidRewardError(msg)
    reward = (float(score) - worst) / (best - worst)  # type: ignore[arg-type]
    if not 0 <= reward <= 1:
        msg = f"its score {score!r} is not between {worst:g} and {best:g}, which its scale is"
        raise InvalidRewardError(msg)
    return reward


def _is_number(value: object, *, or_bool: bool = False) -> bool:
    if isinstance(value, bool):
        return or_bool
    return isinstance(value, numbers.Real) and math.isfinite(value)


class _Recent(ForkAware, Generic[Key]):
    """The last so many decisions, by some key."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._decisions: dict[Key, MadeDecision] = {}
        self._lock = threading.Lock()
        survive_fork(self)

    def after_fork_in_child(self) -> None:
        """Hold no lock of the parent's threads."""
        self._lock = threading.Lock()

    def put(self, key: Key, decision: MadeDecision) -> None:
        with self._lock:
            self._decisions.pop(key, None)  # so that it counts as new
            self._decisions[key] = decision
            while len(self._decisions) > self._capacity:
                del self._decisions[next(iter(self._decisions))]

    def get(self, key: Key) -> MadeDecision | None:
        return self._decisions.get(key)


_last_logged = -math.inf


def _log(what: str, error: Exception) -> None:
    """Log an error of ours at most once a minute: spans are many."""
    global _last_logged  # noqa: PLW0603 - one log, one minute
    now = time.monotonic()
    if now - _last_logged >= _LOG_INTERVAL_S:
        _last_logged = now
        logger.error("%s:\n%s", what, loggable(error))
