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

from stageroute_router.errors import UnknownDecisionError
from stageroute_router.rewards.receipt import RewardReceipt

from .common.rewards import Scale, check_scale, on_scale
from .spans import Traces, follow

__all__ = ["Traces", "follow", "pull_scores"]

logger = logging.getLogger("stageroute_router")

_TRACES_PER_REQUEST = 50  # their ids go into an address, which must not get too long


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

    >>> receipts = pull_scores(traces, names={"stars": (1, 5)})
    >>> [receipt.status for receipt in receipts]  # one trace with five stars
    ['recorded']
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
