"""Feedback given in LangSmith as rewards: people's marks and evaluators' scores, by run id.

With :func:`.langchain.follow` called at start, once in a while::

    pull_feedback(rewards, keys={"user_score": (0, 1), "stars": (1, 5)})

asks LangSmith for the feedback of the runs that this process remembers, and keeps it as rewards of the decisions made
inside them, under the name ``langsmith:user_score``. Pulling again changes nothing but what has changed there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone

from langsmith import Client
from langsmith.schemas import Feedback

from stageroute_router.errors import UnknownDecisionError
from stageroute_router.rewards.receipt import RewardReceipt

from .common.rewards import Scale, check_scale, on_scale
from .langchain import RunRewards

logger = logging.getLogger("stageroute_router")

_RUNS_PER_REQUEST = 50  # their ids go into an address, which must not get too long


def pull_feedback(
    rewards: RunRewards,
    *,
    keys: Mapping[str, Scale],
    run_ids: Iterable[object] | None = None,
    newest: int = 1000,
    client: Client | None = None,
) -> tuple[RewardReceipt, ...]:
    """Record the feedback of remembered runs. Waits for LangSmith, and until the rewards are durable.

    Args:
        rewards: what remembers the runs.
        keys: which feedback, at least one, by its key, with the worst and the best score there is of it. Feedback
            without a score, or with one off the scale, is left out and logged.
        run_ids: of which runs. By default, of the ``newest`` that are remembered, runs inside others among them.
        newest: how many, if ``run_ids`` are not given.
        client: as configured by the environment unless given.

    Returns:
        One receipt per feedback and decision; where several of one key are about the same decision, the newest of them
        counts.

    Raises:
        SettingsError: a scale cannot be used.
        InvalidRewardError: a key is too long for a source's name, or has characters that it cannot have.
        langsmith.utils.LangSmithError: LangSmith cannot be asked.
        StoreError: a reward could not be committed.

    >>> receipts = pull_feedback(rewards, keys={"stars": (1, 5)}, client=client)
    >>> [receipt.status for receipt in receipts]  # one run with five stars
    ['recorded']
    """
    for key, scale in keys.items():
        check_scale(key, scale)
    wanted = list(rewards.runs.ids()[-newest:] if run_ids is None else run_ids)
    client = client or Client()
    found: list[Feedback] = []
    for start in range(0, len(wanted), _RUNS_PER_REQUEST):
        batch = wanted[start : start + _RUNS_PER_REQUEST]
        found += client.list_feedback(run_ids=batch, feedback_key=list(keys))
    receipts: list[RewardReceipt] = []
    for feedback in sorted(found, key=_given_at):
        reward = on_scale(feedback.score, keys[feedback.key])
        if reward is None:
            logger.warning(
                "feedback %r of LangSmith has a score that is not on its scale; it is left out", feedback.key
            )
            continue
        try:
            receipts += rewards.record_reward(feedback.run_id, reward, source=f"langsmith:{feedback.key}")
        except UnknownDecisionError:
            continue  # forgotten meanwhile
    return tuple(receipts)


def _given_at(feedback: Feedback) -> datetime:
    return feedback.modified_at or feedback.created_at or datetime.min.replace(tzinfo=timezone.utc)
