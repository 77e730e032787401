"""What is known of a group's arms, as arrays: the input of every estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stageroute_router.core.arm import Arm
from stageroute_router.core.arrays import FloatArray, IntArray
from stageroute_router.core.budget.account import Account
from stageroute_router.core.evidence.cell_sums import CellSums
from stageroute_router.core.statistics import ArmStatistics

TOKEN_WEIGHT = 10
"""How many observed calls the expected token counts are worth."""

_NOTHING = ArmStatistics()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTokens:
    """Token counts of a typical call, before any was observed; only their prices' scale depends on them."""

    prompt: float = 500.0
    completion: float = 250.0

    def given(self, account: Account) -> tuple[float, float]:
        """Return expected prompt and completion tokens of a call, after what the account has seen."""
        weight = TOKEN_WEIGHT + account.token_calls
        return (
            (TOKEN_WEIGHT * self.prompt + account.prompt_tokens) / weight,
            (TOKEN_WEIGHT * self.completion + account.completion_tokens) / weight,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEvidence:
    """What is known of the arms in each segment. Arrays of shape (segments, arms), costs in US dollars.

    Args:
        names: the segments; ``""``, which stands for all others, is one of them.
        weight: each segment's share of the calls so far, shape (segments,), summing to 1. None is 0: a call may come.
        prior_reward: what was said of each arm in each segment beforehand.
        prior_weight: how many observations that is worth; 0 where nothing was said.
    """

    names: tuple[str, ...]
    weight: FloatArray
    reward_count: FloatArray
    reward_sum: FloatArray
    cost_count: FloatArray
    cost_sum: FloatArray
    cost_sumsq: FloatArray
    prior_reward: FloatArray
    prior_weight: FloatArray

    def take(self, indices: Sequence[int] | IntArray) -> SegmentEvidence:
        """Return the evidence of some of the arms, in the order given."""
        return SegmentEvidence(
            names=self.names,
            weight=self.weight,
            reward_count=self.reward_count[:, indices],
            reward_sum=self.reward_sum[:, indices],
            cost_count=self.cost_count[:, indices],
            cost_sum=self.cost_sum[:, indices],
            cost_sumsq=self.cost_sumsq[:, indices],
            prior_reward=self.prior_reward[:, indices],
            prior_weight=self.prior_weight[:, indices],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Arrays over arms, all of shape (arms,): observations first, then priors.

    Costs are in US dollars. ``prior_cost`` is NaN where no price is known. ``segments`` has the same observations by
    segment, where there is more than one.
    """

    pulls: FloatArray
    reward_count: FloatArray
    reward_sum: FloatArray
    cost_count: FloatArray
    cost_sum: FloatArray
    cost_sumsq: FloatArray
    prior_cost: FloatArray
    prior_reward: FloatArray
    prior_weight: FloatArray
    max_share: FloatArray
    segments: SegmentEvidence | None = None

    def __len__(self) -> int:
        return len(self.reward_count)

    def take(self, indices: Sequence[int] | IntArray) -> Evidence:
        """Return the evidence of some of the arms, in the order given."""
        chosen = np.asarray(indices, dtype=np.intp)
        return Evidence(
            pulls=self.pulls[chosen],
            reward_count=self.reward_count[chosen],
            reward_sum=self.reward_sum[chosen],
            cost_count=self.cost_count[chosen],
            cost_sum=self.cost_sum[chosen],
            cost_sumsq=self.cost_sumsq[chosen],
            prior_cost=self.prior_cost[chosen],
            prior_reward=self.prior_reward[chosen],
            prior_weight=self.prior_weight[chosen],
            max_share=self.max_share[chosen],
            segments=None if self.segments is None else self.segments.take(chosen),
        )


def gather(
    arms: Sequence[Arm],
    *,
    statistics: Mapping[str, ArmStatistics],
    account: Account,
    expected_tokens: ExpectedTokens,
    max_share: Sequence[float],
    cells: CellSums | None = None,
) -> Evidence:
    """Return the evidence of ``arms``, in their order; arms without statistics count as never observed.

    ``max_share`` are the shares that bind now, in (0, 1]: an arm's own, or less where its rate limits demand it.
    ``cells`` are the same statistics by segment and arm, of the same arms; None where there is but one segment.
    """
    prompt, completion = expected_tokens.given(account)
    rows = np.array(
        [
            (
                s.pulls,
                s.reward_count,
                s.reward_sum,
                s.cost_count,
                s.cost_sum,
                s.cost_sumsq,
                _prior_cost(arm, prompt=prompt, completion=completion),
                0.0 if arm.prior_reward is None else arm.prior_reward,
                0.0 if arm.prior_reward is None else arm.prior_weight,
                share,
            )
            for arm, share in zip(arms, max_share, strict=True)
            for s in (statistics.get(arm.name, _NOTHING),)
        ],
        dtype=np.float64,
    ).T
    return Evidence(
        pulls=rows[0],
        reward_count=rows[1],
        reward_sum=rows[2],
        cost_count=rows[3],
        cost_sum=rows[4],
        cost_sumsq=rows[5],
        prior_cost=rows[6],
        prior_reward=rows[7],
        prior_weight=rows[8],
        max_share=rows[9],
        segments=None if cells is None else _gather_segments(arms, cells),
    )


def _gather_segments(arms: Sequence[Arm], cells: CellSums) -> SegmentEvidence:
    row = {name: index for index, name in enumerate(cells.segments)}
    said = np.zeros((2, len(cells.segments), len(arms)))
    for index, arm in enumerate(arms):
        for prior in arm.segment_priors:
            if prior.segment in row:
                said[:, row[prior.segment], index] = prior.reward, prior.weight
    calls = cells.calls + 1.0
    _, reward_count, reward_sum, cost_count, cost_sum, cost_sumsq = cells.table
    return SegmentEvidence(
        names=cells.segments,
        weight=calls / calls.sum(),
        reward_count=reward_count,
        reward_sum=reward_sum,
        cost_count=cost_count,
        cost_sum=cost_sum,
        cost_sumsq=cost_sumsq,
        prior_reward=said[0],
        prior_weight=said[1],
    )


def _prior_cost(arm: Arm, *, prompt: float, completion: float) -> float:
    if arm.prior_cost_usd is not None:
        return arm.prior_cost_usd
    if arm.input_usd_per_token is None and arm.output_usd_per_token is None:
        return float("nan")
    return prompt * (arm.input_usd_per_token or 0.0) + completion * (arm.output_usd_per_token or 0.0)
