"""Sufficient statistics of one arm: a commutative monoid, so workers' statistics add up."""

from __future__ import annotations

from dataclasses import dataclass

Cell = tuple[str, str]
"""(segment, arm). The segment is ``""`` where context is not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmStatistics:
    """What has been observed of one arm (in one segment of one group).

    Rewards and costs have counts of their own: LiteLLM reports a cost for nearly every call, the
    application a reward for some. Dividing one by the other's count would inflate every cost.

    ``a + b`` are the statistics of both; ``ArmStatistics()`` is neutral; ``a - b`` takes observations back
    (a reward that was replaced, a call that turned out to be a cache hit).

    Args:
        pulls: decisions that chose the arm, whether or not they were answered.
        failures: decisions whose call failed at the provider; they are no evidence about quality.
        reward_count: rewards reported.
        reward_sum: sum of the rewards, each in [0, 1].
        reward_sumsq: sum of the squared rewards.
        cost_count: calls whose cost is known.
        cost_sum: sum of the costs, US dollars.
        cost_sumsq: sum of the squared costs, US dollars squared.

    >>> a = ArmStatistics.of_reward(0.25) + ArmStatistics.of_cost(0.002)
    >>> (a + ArmStatistics.of_reward(0.75)).reward_mean
    0.5
    """

    pulls: int = 0
    failures: int = 0
    reward_count: int = 0
    reward_sum: float = 0.0
    reward_sumsq: float = 0.0
    cost_count: int = 0
    cost_sum: float = 0.0
    cost_sumsq: float = 0.0

    @classmethod
    def of_pull(cls) -> ArmStatistics:
        """Return the statistics of one decision that chose the arm.

        >>> (ArmStatistics.of_pull() + ArmStatistics.of_pull()).pulls
        2
        """
        return _ONE_PULL

    @classmethod
    def of_failure(cls) -> ArmStatistics:
        """Return the statistics of one call that failed at the provider.

        >>> failed = ArmStatistics.of_pull() + ArmStatistics.of_failure()
        >>> failed.failures, failed.reward_mean is None  # no evidence about quality
        (1, True)
        """
        return _ONE_FAILURE

    @classmethod
    def of_reward(cls, reward: float) -> ArmStatistics:
        """Return the statistics of one reward in [0, 1]."""
        return cls(reward_count=1, reward_sum=reward, reward_sumsq=reward * reward)

    @classmethod
    def of_cost(cls, cost_usd: float) -> ArmStatistics:
        """Return the statistics of one call's cost in US dollars."""
        return cls(cost_count=1, cost_sum=cost_usd, cost_sumsq=cost_usd * cost_usd)

    def __add__(self, other: ArmStatistics) -> ArmStatistics:
        return ArmStatistics(
            pulls=self.pulls + other.pulls,
            failures=self.failures + other.failures,
            reward_count=self.reward_count + other.reward_count,
            reward_sum=self.reward_sum + other.reward_sum,
            reward_sumsq=self.reward_sumsq + other.reward_sumsq,
            cost_count=self.cost_count + other.cost_count,
            cost_sum=self.cost_sum + other.cost_sum,
            cost_sumsq=self.cost_sumsq + other.cost_sumsq,
        )

    def __sub__(self, other: ArmStatistics) -> ArmStatistics:
        return ArmStatistics(
            pulls=self.pulls - other.pulls,
            failures=self.failures - other.failures,
            reward_count=self.reward_count - other.reward_count,
            reward_sum=self.reward_sum - other.reward_sum,
            reward_sumsq=self.reward_sumsq - other.reward_sumsq,
            cost_count=self.cost_count - other.cost_count,
            cost_sum=self.cost_sum - other.cost_sum,
            cost_sumsq=self.cost_sumsq - other.cost_sumsq,
        )

    @property
    def reward_mean(self) -> float | None:
        """Mean reward, or None when none was reported."""
        return self.reward_sum / self.reward_count if self.reward_count else None

    @property
    def cost_mean_usd(self) -> float | None:
        """Mean cost in US dollars, or None when none is known."""
        return self.cost_sum / self.cost_count if self.cost_count else None


_ONE_PULL = ArmStatistics(pulls=1)
_ONE_FAILURE = ArmStatistics(failures=1)
