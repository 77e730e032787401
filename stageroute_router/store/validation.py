"""What a store refuses: numbers that would poison sums for ever."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from stageroute_router.errors import InvalidRewardError, StoreError
from stageroute_router.store.contract import LONGEST_SEGMENTER, PENDING_REWARD_LIFETIME_S
from stageroute_router.store.writes import (
    FAILURE_SOURCE,
    ArmPinned,
    CallFailed,
    CallSettled,
    DecisionMade,
    MixRecorded,
    RewardReported,
    RewardRevoked,
    SegmenterFitted,
    SegmentsForgotten,
    StagePlanned,
    Write,
)

LONGEST_SOURCE = 64
"""Characters of a reward's source, which is stored with each reward."""

_SOURCE = re.compile(rf"[A-Za-z0-9_.:/@+ -]{{1,{LONGEST_SOURCE}}}")


def check_batch(batch: Sequence[Write]) -> None:
    """Raise for the first write that no store can keep; applying the rest is then not begun.

    Raises:
        InvalidRewardError: a reward is not a number in [0, 1].
        ValueError: another number is NaN, infinite or out of range, or a name is missing.
    """
    for write in batch:
        match write:
            case RewardReported() | RewardRevoked():
                _check_report(write)
            case DecisionMade():
                _check_decision(write)
            case CallSettled() | CallFailed():
                _check_end(write)
            case StagePlanned():
                _check_stage(write)
            case ArmPinned():
                _check_pin(write)
            case MixRecorded():
                _check_finite("made_at", write.made_at)
            case SegmentsForgotten() | SegmenterFitted():
                _check_segments(write)


def check_retention(retention_s: float | None) -> None:
    """Raise unless decisions can be folded away after this time.

    Raises:
        StoreError: it is shorter than a day, or no time at all.
    """
    if retention_s is not None and not PENDING_REWARD_LIFETIME_S <= retention_s < math.inf:
        raise StoreError(
            f"the retention is {retention_s!r} seconds; it has to be at least a day (86400), because rewards and "
            "the ends of calls may come that late, or None for ever"
        )


def _check_report(write: RewardReported | RewardRevoked) -> None:
    if isinstance(write, RewardReported):
        _check_reward(write.reward)
        _check_finite("reported_at", write.reported_at)
    else:
        _check_finite("revoked_at", write.revoked_at)
    check_source(write.source)


def _check_decision(write: DecisionMade) -> None:
    if not write.decision_id:
        raise ValueError("a decision without an id cannot be stored; give it a unique decision_id")
    if not 0.0 <= write.probability <= 1.0:
        raise ValueError(f"probability is {write.probability!r}; it has to be in [0, 1]")
    _check_count("stage", write.stage)
    _check_amount("charge.expected_cost_usd", write.charge.expected_cost_usd)
    _check_amount("charge.budget_usd", write.charge.budget_usd)
    for name in ("reward_ucb", "cost_lcb_usd", "shadow_price"):
        if math.isnan(getattr(write, name)):
            raise ValueError(f"{name} is NaN; it has to be a number (infinity is allowed)")
    if math.isnan(write.charge.surplus_cap_usd):
        raise ValueError("charge.surplus_cap_usd is NaN; it has to be a number (infinity is allowed)")
    _check_finite("made_at", write.made_at)


def _check_end(write: CallSettled | CallFailed) -> None:
    if isinstance(write, CallFailed):
        _check_finite("failed_at", write.failed_at)
        if write.reward is not None:
            _check_reward(write.reward)
        return
    _check_amount("cost_usd", write.cost_usd)
    _check_count("prompt_tokens", write.prompt_tokens)
    _check_count("completion_tokens", write.completion_tokens)
    _check_finite("settled_at", write.settled_at)


def _check_stage(write: StagePlanned) -> None:
    if not write.live:
        raise ValueError(f"stage {write.stage} of {write.group!r} has no live arm; it needs at least one")
    if not 0.0 <= write.explore_share < 1.0:
        raise ValueError(f"explore_share is {write.explore_share!r}; it has to be in [0, 1)")
    _check_count("stage", write.stage)
    _check_count("opened_at_call", write.opened_at_call)
    _check_finite("opened_at", write.opened_at)


def _check_pin(write: ArmPinned) -> None:
    if not write.arm:
        raise ValueError(f"a pin in group {write.group!r} names no arm; it needs one")
    if write.pinned not in (True, False, None):
        raise ValueError(f"pinned is {write.pinned!r}; it has to be true, false, or None to forget it")
    _check_finite("set_at", write.set_at)


def _check_segments(write: SegmentsForgotten | SegmenterFitted) -> None:
    if isinstance(write, SegmentsForgotten):
        _check_finite("unseen_since", write.unseen_since)
        return
    if write.version < 1:
        raise ValueError(f"version is {write.version!r}; the versions of a segmenter count from 1")
    if not is_segmenter(write.fitted):
        raise ValueError(
            f"fitted is {len(write.fitted)} characters of something else; it has to be a JSON object of at most "
            f"{LONGEST_SEGMENTER}"
        )
    _check_finite("fitted_at", write.fitted_at)


def is_segmenter(text: object) -> bool:
    """Return whether a text can be a fitted segmenter: a JSON object that is not too long."""
    if not isinstance(text, str) or len(text) > LONGEST_SEGMENTER:
        return False
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def check_source(source: str) -> None:
    """Raise unless an application may report rewards under this name.

    Raises:
        InvalidRewardError: it is no name of 1 to 64 letters, digits, spaces and ``_ . : / @ + -``, or the one under
            which failures are kept: the two would replace each other.
    """
    if not _SOURCE.fullmatch(source):
        # Without the value: a text that is no name may be a client's.
        raise InvalidRewardError(
            f"the source of a reward must be a name of 1 to {LONGEST_SOURCE} letters, digits, spaces or _ . : / @ + -; "
            f"this one has {len(source)} characters. Name who judged, such as 'judge', and never a client's text"
        )
    if source == FAILURE_SOURCE:
        raise InvalidRewardError(
            f"the source of a reward is {source!r}, under which the rewards of failed calls are kept; "
            "give it another name"
        )


def _check_reward(reward: float) -> None:
    if not 0.0 <= reward <= 1.0:
        raise InvalidRewardError(f"reward is {reward!r}; it has to be in [0, 1]")


def _check_amount(name: str, amount: float) -> None:
    if not 0.0 <= amount < math.inf:
        raise ValueError(f"{name} is {amount!r}; it has to be a finite number of US dollars, at least 0")


def _check_count(name: str, count: int) -> None:
    if count < 0:
        raise ValueError(f"{name} is {count!r}; it has to be at least 0")


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; it has to be a finite number of seconds")
