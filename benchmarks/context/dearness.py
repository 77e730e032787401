"""How dear a call is, by its numbers: what segments are told by their own costs, contextual routers get from this."""

from __future__ import annotations

import numpy as np

from stageroute_router.core.arrays import FloatArray, IntArray

_RIDGE = 20.0
"""Calls that prompts making no difference counts as."""

_MEAN_WEIGHT = 5.0
"""Calls that an arm's having got calls like all others counts as."""

_MOST = 8.0
"""No call is taken to be more than so many times dearer or cheaper than its arm's average one."""


class Dearness:
    """The factor by which calls are dearer than the average call of an arm: log-linear, the same slopes for all arms.

    Least squares of the log of the cost with a mean for each arm, from sums alone: an arm that got the long questions
    is not taken to be dear.

    Args:
        arms: how many there are.
        numbers: how many numbers a call has.
    """

    def __init__(self, *, arms: int, numbers: int) -> None:
        self._count = np.zeros(arms)
        self._x = np.zeros((arms, numbers))
        self._y = np.zeros(arms)
        self._xx = np.zeros((numbers, numbers))
        self._xy = np.zeros(numbers)
        self._slope = np.zeros(numbers)
        self._mean = np.zeros((arms, numbers))
        self._spread = 1.0

    def learn(self, arms: IntArray, numbers: FloatArray, cost_usd: FloatArray) -> None:
        """Add calls: who answered, their numbers, their costs in US dollars; free ones tell nothing."""
        paid = cost_usd > 0
        arms, numbers, log_cost = arms[paid], numbers[paid], np.log(cost_usd[paid])
        np.add.at(self._count, arms, 1.0)
        np.add.at(self._x, arms, numbers)
        np.add.at(self._y, arms, log_cost)
        self._xx += numbers.T @ numbers
        self._xy += numbers.T @ log_cost
        count = np.maximum(self._count, 1.0)[:, None]
        within = self._xx - self._x.T @ (self._x / count)
        self._slope = np.linalg.solve(
            within + _RIDGE * np.eye(len(within)), self._xy - self._x.T @ (self._y[:, None] / count)[:, 0]
        )
        total = max(float(self._count.sum()), 1.0)
        self._mean = (self._x + _MEAN_WEIGHT * self._x.sum(axis=0) / total) / (count + _MEAN_WEIGHT)
        # The average of exp is more than exp of the average: by this much, where the log is normal.
        self._spread = float(np.exp(0.5 * self._slope @ (within / total) @ self._slope))

    def of(self, numbers: FloatArray, arms: IntArray) -> FloatArray:
        """Return the factors, shape (calls, arms), for calls of these numbers, shape (calls, numbers)."""
        log_factor = (numbers @ self._slope)[:, None] - (self._mean[arms] @ self._slope)
        return np.asarray(np.clip(np.exp(log_factor) / self._spread, 1 / _MOST, _MOST))
