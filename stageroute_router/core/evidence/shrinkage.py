"""The posterior of an arm in one segment: its observations there, shrunk toward the arm's own by empirical Bayes.

A segment's own average has too few observations; the arm's average ignores the segment. Empirical Bayes weighs the two:
it estimates the variance between segments from the observations, and shrinks each cell toward its arm accordingly. So
segments that do not differ cost almost nothing, and segments that differ separate as observations arrive.

Source: the normal hierarchy with the variance between cells by DerSimonian and Laird (1986), pooled over arms;
constants from measurements on recorded tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, expit, logit

from stageroute_router.core.arrays import FloatArray, IntArray
from stageroute_router.core.evidence.evidence import Evidence, SegmentEvidence

_LEAST_VARIANCE = 0.01
"""Smallest variance assumed of a single reward, for an arm whose rewards were all equal."""

_SUREST = 0.01
"""Smallest distance of an arm's average from 0 and 1, so that no single reward counts as proof."""

_SPREAD = 0.005
_SPREAD_WEIGHT = 200.0
"""Prior variance of an arm's mean rewards between segments, and its weight in rewards."""

_WEAKEST, _STRONGEST = 2.0, 2000.0
"""Bounds of the number of rewards that an arm's average counts as in one of its segments."""

_COST_SPREAD = 0.1
_COST_SPREAD_WEIGHT = 50.0
"""Prior variance of a cell's mean cost over its expectation, between segments and between arms within one, and its
weight in calls."""

_COST_VARIATION_WEIGHT = 5.0
"""Calls that a coefficient of variation of 1 counts as, for the costs within a cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPriors:
    """The priors of each arm in each segment. Arrays of shape (segments, arms).

    Args:
        reward: expected reward, in [0, 1].
        weight: how many rewards that counts as, if it is right; 0 where nothing was said.
        trust: how probable it is by now that what was said of each arm's segments is right, shape (arms,).
    """

    reward: FloatArray
    weight: FloatArray
    trust: FloatArray

    def take(self, indices: IntArray) -> CellPriors:
        """Return the priors of some of the arms, in the order given."""
        return CellPriors(
            reward=self.reward[:, indices], weight=self.weight[:, indices], trust=self.trust[indices]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBeliefs:
    """The posteriors of each arm in each segment. Arrays of shape (segments, arms).

    Args:
        names: the segments.
        weight: each segment's share of the calls, shape (segments,), summing to 1.
        leaning: how many rewards an arm's average counts as in each cell, in [2, 2000]: the larger, the less segments
            differ.
        own: how many rewards each cell has of its own.
        reward_sum: their sum.
        expected_cost: US dollars per call.
        said: what was said of the cells beforehand; None for nothing.
    """

    names: tuple[str, ...]
    weight: FloatArray
    leaning: float
    own: FloatArray
    reward_sum: FloatArray
    expected_cost: FloatArray
    said: CellPriors | None = None

    def mean(self, arm_mean: FloatArray, *, trust: FloatArray | None = None) -> FloatArray:
        """Return each cell's expected reward, given the arms' posteriors.

        Args:
            arm_mean: shape (..., arms): one row, or one per draw.
            trust: in what was said of each arm's segments, in [0, 1], of the same shape; None for what it is by now.

        Returns:
            Shape (..., segments, arms).
        """
        weighed = self.reward_sum + self.leaning * arm_mean[..., None, :]
        seen = weighed / (self.own + self.leaning)
        if self.said is None:
            return np.asarray(seen)
        weight = self.said.weight
        informed = (weighed + weight * self.said.reward) / (self.own + self.leaning + weight)
        right = (self.said.trust if trust is None else trust)[..., None, :]
        return np.asarray(right * informed + (1 - right) * seen)

    def cost_of(self, segment: str) -> FloatArray:
        """Return the expected costs of a segment, US dollars per call, shape (arms,)."""
        return np.asarray(self.expected_cost[self.names.index(segment)])

    def take(self, indices: IntArray) -> CellBeliefs:
        """Return the posteriors of some of the arms, in the order given."""
        return CellBeliefs(
            names=self.names,
            weight=self.weight,
            leaning=self.leaning,
            own=self.own[:, indices],
            reward_sum=self.reward_sum[:, indices],
            expected_cost=self.expected_cost[:, indices],
            said=None if self.said is None else self.said.take(indices),
        )


def believe(
    evidence: Evidence,
    cells: SegmentEvidence,
    *,
    arm_mean: FloatArray,
    arm_cost: FloatArray,
    prior_trust: FloatArray | None,
) -> CellBeliefs:
    """Return the posterior of each arm in each segment.

    Args:
        evidence: of all arms.
        cells: the same by segment.
        arm_mean: expected reward of each arm over all segments, in [0, 1], shape (arms,).
        arm_cost: its expected cost, US dollars per call, shape (arms,).
        prior_trust: how probable it is, as far as its rewards over all segments tell, that what was said of each arm
            is right, in (0, 1), shape (arms,); None where nothing was said of segments.
    """
    leaning = _leaning(evidence, cells, arm_mean=arm_mean)
    return CellBeliefs(
        names=cells.names,
        weight=cells.weight,
        leaning=leaning,
        own=cells.reward_count,
        reward_sum=cells.reward_sum,
        expected_cost=_expected_cost(cells, arm_cost=arm_cost),
        said=None
        if prior_trust is None
        else _priors(cells, leaning=leaning, arm_mean=arm_mean, prior_trust=prior_trust),
    )


def _priors(
    cells: SegmentEvidence, *, leaning: float, arm_mean: FloatArray, prior_trust: FloatArray
) -> CellPriors:
    """Return the priors, and the probability that they are right.

    By the rewards of all arms in all segments together, because a segment in which an arm was wrongly called bad gets
    no calls that could say otherwise, and a table that is wrong of one arm mostly is of all; or by the arm's own
    rewards, where these speak worse of it.
    """
    mean = np.clip(arm_mean, _SUREST, 1 - _SUREST)
    good, bad = leaning * mean, leaning * (1 - mean)
    seen_good, seen_bad = cells.reward_sum, cells.reward_count - cells.reward_sum
    said_good = good + cells.prior_weight * cells.prior_reward
    said_bad = bad + cells.prior_weight * (1 - cells.prior_reward)
    informed = betaln(said_good + seen_good, said_bad + seen_bad) - betaln(said_good, said_bad)
    ignorant = betaln(good + seen_good, bad + seen_bad) - betaln(good, bad)
    by_arm = (informed - ignorant).sum(axis=0)
    trust = np.asarray(expit(logit(prior_trust) + np.minimum(by_arm, by_arm.sum())))
    return CellPriors(reward=cells.prior_reward, weight=cells.prior_weight, trust=trust)


def _leaning(evidence: Evidence, cells: SegmentEvidence, *, arm_mean: FloatArray) -> float:
    n = cells.reward_count
    per_arm = n.sum(axis=0)
    variance = np.maximum(arm_mean * (1 - arm_mean), _LEAST_VARIANCE)
    mean = cells.reward_sum / np.maximum(n, 1)
    scatter = (n * (mean - arm_mean) ** 2).sum(axis=0)
    seen = np.count_nonzero(n, axis=0)
    surplus = float((scatter - np.maximum(seen - 1, 0) * variance)[seen > 0].sum())
    scale = float((per_arm - (n * n).sum(axis=0) / np.maximum(per_arm, 1)).sum())
    between = (max(0.0, surplus) + _SPREAD_WEIGHT * _SPREAD) / (scale + _SPREAD_WEIGHT)
    total = float(per_arm.sum())
    within = float((per_arm * variance).sum() / total) if total else 0.25
    return min(max(within / between, _WEAKEST), _STRONGEST)


def _expected_cost(cells: SegmentEvidence, *, arm_cost: FloatArray) -> FloatArray:
    """Return the cost of each cell: the arm's, times how dear the segment is, corrected by what the cell cost.

    In two passes, since an arm that got the long questions is not dear but its segments are. How much a segment's own
    costs count against all others', and a cell's against its arm's and segment's, is estimated from the costs as for
    rewards: where costs do not differ, chance would otherwise make cells cheap.
    """
    count, cost = cells.cost_count, cells.cost_sum
    floor = np.maximum(arm_cost, 1e-300)
    base, dearness = floor, np.ones(len(cells.names))
    calls = count.sum(axis=1)
    for _ in range(2):
        expected = base * dearness[:, None]
        relative = (cost / base).sum(axis=1)
        strength = _strength(calls, relative, variation=_variation(cells, expected))
        dearness = (strength + relative) / (strength + calls)
        dearness /= float(cells.weight @ dearness)
        met = (5 + count.T @ dearness) / (5 + count.sum(axis=0))
        base = floor / met
    expected = base * dearness[:, None]
    strength = _strength(count, cost / expected, variation=_variation(cells, expected))
    return np.asarray((strength * expected + cost) / (strength + count))


def _variation(cells: SegmentEvidence, expected: FloatArray) -> float:
    """Return the variance of a single cost over what is expected of its cell, pooled over cells."""
    count = np.maximum(cells.cost_count, 1)
    within = np.maximum(cells.cost_sumsq - cells.cost_sum**2 / count, 0.0) / expected**2
    free = float(np.maximum(cells.cost_count - 1, 0).sum())
    return (float(within.sum()) + _COST_VARIATION_WEIGHT) / (free + _COST_VARIATION_WEIGHT)


def _strength(count: FloatArray, relative: FloatArray, *, variation: float) -> float:
    """Return how many costs the expectation counts as, where sums of costs relative to it were observed."""
    seen = np.count_nonzero(count)
    excess = float((count * (relative / np.maximum(count, 1) - 1) ** 2).sum()) - seen * variation
    between = (max(0.0, excess) + _COST_SPREAD_WEIGHT * _COST_SPREAD) / (
        float(count.sum()) + _COST_SPREAD_WEIGHT
    )
    return min(max(variation / between, _WEAKEST), _STRONGEST)
