"""LinUCB: a ridge regression of rewards on a call's numbers for each arm, and an upper bound of what it predicts.

Source: Li, Chu, Langford and Schapire, "A contextual-bandit approach to personalized news article recommendation"
(WWW 2010), algorithm 1, disjoint models. Where this differs: the intercept starts at 1/2, the middle of the rewards,
with the weight of one call, and slopes have a ridge of their own, since 18 numbers would otherwise outweigh it; bounds
are cut off at 1; costs enter by a price, see :mod:`benchmarks.context.policy`.

Tried on two streams of 5,000 calls in each of nine cells, other than those that are reported: ridge 5, 20, 80 (0.961,
0.973, 0.973 of the optimum, with optimism 1), optimism 1, 0.5, 0.25 (0.973, 0.978, 0.980); and over 20,000 calls
optimism 0.5 and 0.25 (1.003 both).
"""

from __future__ import annotations

import numpy as np

from benchmarks.context.estimator import Prediction
from stageroute_router.core.arrays import FloatArray, IntArray
from stageroute_router.errors import SettingsError


class LinUcb:
    """A regression for each arm.

    Args:
        arms: how many there are.
        numbers: how many numbers a call has, beside the intercept.
        ridge: calls that slopes of 0 count as, above 0.
        optimism: width of the bound in standard deviations, at least 0: twice the paper's alpha, since a reward in
            [0, 1] deviates by at most 1/2.

    Raises:
        SettingsError: a number out of its domain.
    """

    def __init__(self, *, arms: int, numbers: int, ridge: float = 20.0, optimism: float = 0.5) -> None:
        if ridge <= 0:
            msg = f"ridge must be above 0, for a regression on few calls, not {ridge}"
            raise SettingsError(msg)
        if optimism < 0:
            msg = f"optimism must be at least 0, not {optimism}"
            raise SettingsError(msg)
        self.optimism = optimism
        first = np.diag([1.0, *[ridge] * numbers])
        self._gram = np.tile(first, (arms, 1, 1))
        self._moment = np.zeros((arms, 1 + numbers))
        self._inverse = np.linalg.inv(self._gram)
        self._theta = np.zeros((arms, 1 + numbers))

    def learn(self, arms: IntArray, numbers: FloatArray, rewards: FloatArray) -> None:
        """Add rewards of calls with these numbers to their arms' regressions."""
        rows = _with_intercept(numbers)
        for arm in np.unique(arms):
            own = rows[arms == arm]
            self._gram[arm] += own.T @ own
            self._moment[arm] += own.T @ (rewards[arms == arm] - 0.5)
            self._inverse[arm] = np.linalg.inv(self._gram[arm])
            self._theta[arm] = self._inverse[arm] @ self._moment[arm]

    def predict(self, numbers: FloatArray, arms: IntArray) -> Prediction:
        """Return what each arm's regression predicts."""
        rows = _with_intercept(numbers)
        variance = np.einsum("nd,ade,ne->na", rows, self._inverse[arms], rows, optimize=True)
        return Prediction(mean=0.5 + rows @ self._theta[arms].T, count=1 / variance)


def _with_intercept(numbers: FloatArray) -> FloatArray:
    return np.column_stack([np.ones(len(numbers)), numbers])
