"""OpenTelemetry: evaluations taken as rewards."""

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
from typing import Any, Literal

try:
    from opentelemetry import baggage, context
    from opentelemetry.sdk._logs import LogRecordProcessor
except ImportError as error:
    msg = 'OpenTelemetry is needed: pip install "stageroute-router[otel]"'
    raise ImportError(msg) from error

from stageroute_router.errors import (
    InvalidRewardError,
    SettingsError,
    StoreError,
    UnknownDecisionError,
    UnmanagedCallError,
)
from stageroute_router.hook.calls.response import key_of
from stageroute_router.process.logs import loggable
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.router.control import Control
from stageroute_router.store.validation import check_source
from stageroute_router.telemetry.spans import DECISION_ID, RESPONSE_ID, DecisionSpans

logger = logging.getLogger("stageroute_router")

# The conventions for generative AI are not stable and have moved between packages; their names have not changed.
EVALUATION_EVENT = "gen_ai.evaluation.result"
_EVALUATION_NAME = "gen_ai.evaluation.name"
_SCORE = "gen_ai.evaluation.score.value"

_LOG_INTERVAL_S = 60.0

Verdict = Literal[
    "recorded", "not_accepted", "bad_score", "no_call", "unmanaged", "unknown", "not_stored", "error"
]
"""The result of an evaluation:

- ``"recorded"``: its reward is stored.
- ``"not_accepted"``: it has another name than those that were given a scale.
- ``"bad_score"``: it has no score, or one that is no number on the scale.
- ``"no_call"``: it names no call, and no span that one is known of.
- ``"unmanaged"``: its call was left to LiteLLM's own choice.
- ``"unknown"``: no decision of this database has that id.
- ``"not_stored"``: the database did not take it in time.
- ``"error"``: an error of ours; the log has it.
"""


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
        """Do nothing: the router's ``close()`` stores the rewards in its queue."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: this processor buffers nothing."""
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
                f"evaluation {name!r} names no call: set its attribute {RESPONSE_ID}, or emit it in evaluating()",
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
            said.get(RESPONSE_ID),
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
    """Attribute all evaluations that are emitted inside to one call.

    Evaluators that copy OpenTelemetry's baggage to their events (pydantic-evals does), or that emit events in the
    present context, need no more.

    Args:
        response: what the call returned, or its response id, call id or decision id.

    Raises:
        NotAResponseError: it is none of these.

    ```python
    from stageroute_router.telemetry.evaluations import evaluating

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
