"""Scores given in Langfuse as rewards, by trace or observation.

The one-line change, once at start; ``get_client()`` is Langfuse's own::

    traces = follow(router)

and then, once in a while::

    pull_scores(traces, names={"helpful": (0, 1), "stars": (1, 5)})

asks Langfuse for the scores of the traces that this process remembers, and keeps them as rewards of the decisions made
inside, under the name ``langfuse:helpful``. Langfuse's traces are OpenTelemetry's: what is routed inside a function
with ``@observe``, or inside any other span of the same tracer provider, belongs to that span and its trace.
``traces.record_reward(trace_id, 0.9)`` rewards without asking Langfuse.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from langfuse import Langfuse, get_client
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from stageroute_router.errors import SettingsError, UnknownDecisionError
from stageroute_router.receipt import RewardReceipt

from .routed import Scale, check_scale, control_of, on_scale
from .runs import REMEMBERED, Runs

logger = logging.getLogger("stageroute_router")

_TRACES_PER_REQUEST = 50  # their ids go into an address, which must not get too long


def follow(router: object, *, remembered: int = REMEMBERED, tracer_provider: Any = None) -> Traces:  # noqa: ANN401
    """Follow all traces of a tracer provider, from now on.

    Args:
        router: a :class:`~stageroute_router.StageRouteRouter`, or one that :func:`~stageroute_router.attach` was
            used on.
        remembered: how many pairs of a span, or trace, and a decision are kept, in memory; the oldest are forgotten.
        tracer_provider: OpenTelemetry's. By default the global one, which Langfuse sets when its client is made.

    Raises:
        SettingsError: the router is not routed by StageRoute, or there is no tracer provider yet.
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
            Otherwise as :meth:`~stageroute_router.hook.control.Control.record_reward`.
        """
        return self.runs.record_reward(run_id, reward, source=source)


def pull_scores(
    traces: Traces,
    *,
    names: Mapping[str, Scale],
    trace_ids: Iterable[str] | None = None,
    newest: int = 1000,
    client: Langfuse | None = None,
) -> tuple[RewardReceipt, ...]:
    """Record the scores of remembered traces. Waits for Langfuse, and until the rewards are durable.

    Args:
        traces: what remembers them.
        names: which scores, at least one, by name, with the worst and the best value there is. A score that is no
            number or bool, or off its scale, is left out and logged.
        trace_ids: of which traces. By default, of the ``newest`` that are remembered.
        newest: how many, if ``trace_ids`` are not given.
        client: Langfuse's own default one unless given.

    Returns:
        One receipt per score and decision; where several of one name are about the same decision, the newest counts.

    Raises:
        SettingsError: a scale cannot be used.
        langfuse.api.core.ApiError: Langfuse cannot be asked.
        StoreError: a reward could not be committed.
    """
    for name, scale in names.items():
        check_scale(name, scale)
    remembered = [run_id for run_id in traces.runs.ids() if "/" not in run_id]
    wanted = list(remembered[-newest:] if trace_ids is None else trace_ids)
    scores = _scores((client or get_client()).api.scores, names=names, trace_ids=wanted)
    receipts: list[RewardReceipt] = []
    for score in sorted(scores, key=lambda one: one.updated_at):
        reward = on_scale(score.value, names[score.name])
        if reward is None:
            logger.warning("Langfuse's score %r has a value that is not on its scale; left out", score.name)
            continue
        about = score.subject
        run_id = about.id if about.kind == "trace" else f"{about.trace_id}/{about.id}"
        try:
            receipts += traces.record_reward(run_id, reward, source=f"langfuse:{score.name}")
        except UnknownDecisionError:
            continue  # of an observation with nothing routed inside, or forgotten meanwhile
    return tuple(receipts)


def _scores(api: Any, *, names: Iterable[str], trace_ids: list[str]) -> list[Any]:  # noqa: ANN401 - generated types
    """Return all scores of traces, page by page."""
    found: list[Any] = []
    for start in range(0, len(trace_ids), _TRACES_PER_REQUEST):
        batch, cursor = ",".join(trace_ids[start : start + _TRACES_PER_REQUEST]), None
        while True:
            page = api.get_many(
                name=",".join(names), trace_id=batch, fields="subject", limit=100, cursor=cursor
            )
            found += page.data
            cursor = page.meta.cursor
            if cursor is None:
                break
    return found


def _ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    trace_id = f"{context.trace_id:032x}"
    return trace_id, f"{trace_id}/{context.span_id:016x}"
