"""The interface of a contextual estimate: rewards of calls with their numbers in, what each arm would earn out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stageroute_router.core.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What calls would earn. Arrays of shape (calls, arms).

    Args:
        mean: the expected reward; a regression may leave [0, 1].
        count: how many rewards that expectation is worth, above 0.
    """

    mean: FloatArray
    count: FloatArray

    def bound(self, optimism: float) -> FloatArray:
        """Return upper bounds of the expected reward, at most 1.

        Args:
            optimism: their width in standard deviations, of rewards that deviate by 1/2.
        """
        return np.minimum(self.mean + optimism * 0.5 / np.sqrt(self.count), 1.0)


class Estimator(Protocol):
    """Learns what calls earn by their numbers. Arms are indices."""

    @property
    def optimism(self) -> float:
        """The width of the bound that calls are routed by, in standard deviations."""
        ...

    def learn(self, arms: IntArray, numbers: FloatArray, rewards: FloatArray) -> None:
        """Take rewards in [0, 1]: whose they are, shape (calls,), and the calls' numbers, shape (calls, numbers)."""
        ...

    def predict(self, numbers: FloatArray, arms: IntArray) -> Prediction:
        """Return what calls with these numbers, shape (calls, numbers), would earn with these arms."""
        ...
