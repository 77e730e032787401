"""Peers that are a few lines each: textbook bandits with a budget price, and the paper's baselines."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt

import numpy as np

from benchmarks.quality.peer import Known, Ledger
from stageroute_router.core.estimators.confidence import paper_cost_lcb, paper_reward_ucb
from stageroute_router.tables.outcomes import Floats, OutcomeTable


class LagrangePacer:
    """The budget as a price: dual gradient steps, so that spend above budget makes money dearer.

    ``price += (cost / budget - 1) / sqrt(calls)``, kept in [0, 10]. What is overspent in the end is at most the last
    price times ``sqrt(calls)`` budgets of a call.

    Args:
        known: budget and number of calls.
    """

    def __init__(self, known: Known) -> None:
        self._budget = known.budget_usd
        self._step = 1 / sqrt(known.calls)
        self.price = 0.0

    def paid(self, cost_usd: float) -> None:
        """Move the price."""
        if self._budget > 0:
            self.price = min(max(self.price + self._step * (cost_usd / self._budget - 1), 0.0), 10.0)

    def penalty(self, cost_usd: Floats) -> Floats:
        """Return what costs are worth in reward at the price."""
        return self.price * cost_usd / self._budget if self._budget > 0 else 0.0 * cost_usd


class _Paced:
    """A bandit over reward index minus price times mean cost."""

    def __init__(self, known: Known) -> None:
        self._ledger = Ledger(known)
        self._pacer = LagrangePacer(known)
        self._random = np.random.default_rng([known.seed, 2])

    def admit(self, model: int) -> None:
        """Nothing to prepare."""

    def choose(self, offered: Sequence[int], *, call: int) -> int:
        """Return the model with the largest index after its cost."""
        models = np.asarray(offered)
        value = self._index(models, call=call) - self._pacer.penalty(self._ledger.cost[models])
        return int(models[np.argmax(value)])

    def _index(self, models: np.ndarray, *, call: int) -> Floats:
        raise NotImplementedError

    def paid(self, call: int, *, model: int, cost_usd: float) -> None:
        """Learn the cost."""
        self._ledger.paid(model, cost_usd)
        self._pacer.paid(cost_usd)

    def rewarded(self, call: int, *, model: int, reward: float) -> None:
        """Learn the reward."""
        self._ledger.rewarded(model, reward)


class PacedUcb1(_Paced):
    """UCB1 (mean + sqrt(2 ln t / n), at most 1) with the pacer."""

    def _index(self, models: np.ndarray, *, call: int) -> Floats:
        count, total = self._ledger.rewards[models], self._ledger.reward_sum[models]
        seen = np.maximum(count, 1)
        bound = total / seen + np.sqrt(2 * log(call + 2) / seen)
        return np.asarray(np.where(count > 0, np.minimum(bound, 1.0), 1.0))


class PacedThompson(_Paced):
    """Thompson sampling from Beta(1 + sum, 1 + count - sum) with the pacer."""

    def _index(self, models: np.ndarray, *, call: int) -> Floats:
        count, total = self._ledger.rewards[models], self._ledger.reward_sum[models]
        return np.asarray(self._random.beta(1 + total, 1 + count - total))


class PacedEpsilonGreedy(_Paced):
    """One call in twenty to a random live model, the others to the best mean (unseen: 1/2) with the pacer."""

    epsilon = 0.05

    def choose(self, offered: Sequence[int], *, call: int) -> int:
        """Explore or take the best."""
        if self._random.random() < self.epsilon:
            return offered[int(self._random.integers(len(offered)))]
        return super().choose(offered, call=call)

    def _index(self, models: np.ndarray, *, call: int) -> Floats:
        count, total = self._ledger.rewards[models], self._ledger.reward_sum[models]
        return np.asarray((total + 0.5) / (count + 1))


class PaperGreedy:
    """The paper's greedy baseline, learner and live set: the largest reward bound per cost bound.

    Bounds are the paper's at gamma 0.1, costs divided by the dearest list price. The live set holds the models with
    the largest ratios, calls go to the largest of them. A cost bound of 0 makes the ratio infinite: among those the
    least observed goes first.

    Args:
        known: what may be known.
    """

    gamma = 0.1

    def __init__(self, known: Known) -> None:
        self._ledger = Ledger(known)
        self._scale = float(known.prior_cost_usd.max()) or 1.0

    def admit(self, model: int) -> None:
        """Nothing to prepare."""

    def choose(self, offered: Sequence[int], *, call: int) -> int:
        """Return the largest ratio."""
        return int(self._ranked(np.asarray(offered))[0])

    def plan(self, present: Sequence[int], *, used: Floats, places: int) -> list[int]:
        """Return the candidates with the largest ratios."""
        return [int(model) for model in self._ranked(np.asarray(present))[:places]]

    def _ranked(self, models: np.ndarray) -> np.ndarray:
        ledger = self._ledger
        reward = paper_reward_ucb(ledger.rewards[models], ledger.reward_sum[models], gamma=self.gamma)
        scaled = ledger.cost_sum[models] / self._scale
        cost = paper_cost_lcb(ledger.costs[models], scaled, gamma=self.gamma, lowest=0.0, highest=1.0)
        ratio = np.divide(reward, cost, out=np.full(len(models), np.inf), where=np.asarray(cost) > 0)
        return np.asarray(models[np.lexsort((ledger.rewards[models], -ratio))])

    def paid(self, call: int, *, model: int, cost_usd: float) -> None:
        """Learn the cost."""
        self._ledger.paid(model, cost_usd)

    def rewarded(self, call: int, *, model: int, reward: float) -> None:
        """Learn the reward."""
        self._ledger.rewarded(model, reward)


class Uniform:
    """The paper's uniform baseline, learner and live set: random live models, calls spread evenly.

    Args:
        known: only the seed is used.
    """

    def __init__(self, known: Known) -> None:
        self._random = np.random.default_rng([known.seed, 2])

    def admit(self, model: int) -> None:
        """Nothing to prepare."""

    def choose(self, offered: Sequence[int], *, call: int) -> int:
        """Return any."""
        return offered[int(self._random.integers(len(offered)))]

    def plan(self, present: Sequence[int], *, used: Floats, places: int) -> list[int]:
        """Return any."""
        return [int(model) for model in self._random.permutation(np.asarray(present))[:places]]

    def paid(self, call: int, *, model: int, cost_usd: float) -> None:
        """Learn nothing."""

    def rewarded(self, call: int, *, model: int, reward: float) -> None:
        """Learn nothing."""


class BestSingle:
    """An oracle's single model: of the candidates with a true mean cost within the budget, the best true mean reward.

    Where none is affordable, the cheapest. With throughput shares below 1 the next best of the live models follows.

    Args:
        table: whose true means it knows.
        known: the budget.
    """

    def __init__(self, table: OutcomeTable, known: Known) -> None:
        self._reward, self._cost = table.mean_reward, table.mean_cost_usd
        self._budget = known.budget_usd

    def admit(self, model: int) -> None:
        """Nothing to prepare."""

    def choose(self, offered: Sequence[int], *, call: int) -> int:
        """Return the best of the live models."""
        return self._ranked(offered)[0]

    def plan(self, present: Sequence[int], *, used: Floats, places: int) -> list[int]:
        """Return the best candidates."""
        return self._ranked(present)[:places]

    def _ranked(self, models: Sequence[int]) -> list[int]:
        def merit(model: int) -> tuple[bool, float]:
            dear = self._cost[model] > self._budget
            return dear, float(self._cost[model] if dear else -self._reward[model])

        return sorted(models, key=merit)

    def paid(self, call: int, *, model: int, cost_usd: float) -> None:
        """Learn nothing."""

    def rewarded(self, call: int, *, model: int, reward: float) -> None:
        """Learn nothing."""
