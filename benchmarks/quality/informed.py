"""The engine with nothing left to learn: what its windows cost, and so how much of the rest is learning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stageroute_router.core.posterior_rule import PosteriorRule
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.replay.outcomes import OutcomeTable
from stageroute_router.replay.run import EnginePolicy
from stageroute_router.replay.stream import Stream

OBSERVATIONS = 100_000
"""Of every model, before the first call: what a stream adds to them is next to nothing."""


class InformedEngine(EnginePolicy):
    """The default rule in the product's engine, which has seen every model's true means before it is called.

    Args:
        table: recorded outcomes, whose means it knows.
        stream: its budget, live places and stages.
        seed: of exploration.
        max_share: throughput share of every arm.
    """

    def __init__(self, table: OutcomeTable, stream: Stream, *, seed: int, max_share: float) -> None:
        super().__init__(table, stream, rule=PosteriorRule(), seed=seed, max_share=max_share)
        squares = np.square(table.cost_usd, dtype=np.float64).mean(axis=0)
        self._known = {
            name: ArmStatistics(
                pulls=OBSERVATIONS,
                reward_count=OBSERVATIONS,
                reward_sum=OBSERVATIONS * float(table.mean_reward[model]),
                reward_sumsq=OBSERVATIONS * float(table.mean_reward[model]),
                cost_count=OBSERVATIONS,
                cost_sum=OBSERVATIONS * float(table.mean_cost_usd[model]),
                cost_sumsq=OBSERVATIONS * float(squares[model]),
            )
            for model, name in enumerate(table.models)
        }

    def start(self, models: Sequence[int]) -> None:
        """Plan the first stage, knowing everything."""
        arms = [self._arms[model] for model in models]
        self._snapshot = self._engine.start(arms, now=0.0, statistics=self._known)
