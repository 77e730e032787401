"""A contextual estimate in the engine: what is estimated of a call differs from ours, and nothing else does.

The engine is the product's: stages, the estimator that plans them with its revisit, list prices as prior costs, account
and pacing. Where it has segments it is shown the latest 64 calls instead, each a segment of its own with what the
estimate says of it: they stand for the calls to come when a live set is planned, and when the routing programme finds
the price of a dollar under the paced budget. A call then gets the live arm with the largest upper bound less price
times expected cost, by its own numbers. Until these are standardised, the engine routes without context.

What is learned counts from the engine's next estimate on (after 1 to 32 calls), so that price and bounds agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.context.dearness import Dearness
from benchmarks.context.estimator import Estimator
from benchmarks.context.numbers import PromptNumbers
from stageroute_router.core.arrays import FloatArray, IntArray
from stageroute_router.core.budget.account import Charge
from stageroute_router.core.budget.pacing import surplus_cap_usd
from stageroute_router.core.estimators.base import Bounds, Scenarios
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.evidence.evidence import Evidence
from stageroute_router.core.evidence.shrinkage import CellBeliefs
from stageroute_router.replay.run import EnginePolicy, TimelyReward
from stageroute_router.replay.stream import Stream
from stageroute_router.tables.outcomes import OutcomeTable

LATEST_CALLS = 64
"""How many calls stand for those to come."""


class Context:
    """What is known of calls by their numbers, and of the latest calls. Arms are the table's models.

    Args:
        estimator: of rewards; fresh.
        numbers: of the table's queries; fresh.
        arms: how many there are.
    """

    def __init__(self, estimator: Estimator, numbers: PromptNumbers, *, arms: int) -> None:
        self.present: list[int] = []
        self._estimator = estimator
        self._numbers = numbers
        self._dearness = Dearness(arms=arms, numbers=numbers.size)
        self._latest: deque[int] = deque(maxlen=LATEST_CALLS)
        self._rewards: list[tuple[int, int, float]] = []
        self._costs: list[tuple[int, int, float]] = []

    @property
    def ready(self) -> bool:
        """Whether calls have numbers."""
        return self._numbers.ready

    def see(self, row: int) -> None:
        """Take a call's query before it is routed."""
        self._numbers.see(row)
        self._latest.append(row)

    def paid(self, arm: int, row: int, cost_usd: float) -> None:
        """Take what a call cost, to be learned."""
        self._costs.append((arm, row, cost_usd))

    def rewarded(self, arm: int, row: int, reward: float) -> None:
        """Take a reward, to be learned."""
        self._rewards.append((arm, row, reward))

    def learn(self) -> None:
        """Learn what was taken."""
        if not self.ready:
            return
        for waiting, teach in (
            (self._rewards, self._estimator.learn),
            (self._costs, self._dearness.learn),
        ):
            if waiting:
                arms, rows, values = zip(*waiting, strict=True)
                teach(np.array(arms, dtype=np.intp), self._numbers.of(list(rows)), np.array(values))
                waiting.clear()

    def worth(self, rows: Sequence[int], arms: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return upper bounds of rewards, and factors of the arms' costs, shape (calls, arms)."""
        numbers = self._numbers.of(list(rows))
        bound = self._estimator.predict(numbers, arms).bound(self._estimator.optimism)
        return bound, self._dearness.of(numbers, arms)

    def latest_worth(self, arms: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the same for the latest calls."""
        return self.worth(self._latest, arms)

    def beliefs(self, *, arm_mean: FloatArray, expected_cost: FloatArray) -> CellBeliefs:
        """Return what is believed of the candidates in the latest calls, as the estimator would have it of segments.

        Args:
            arm_mean: what is believed of each candidate over all calls, shape (candidates,).
            expected_cost: likewise, US dollars per call.
        """
        arms = np.array(self.present, dtype=np.intp)
        numbers = self._numbers.of(list(self._latest))
        found = self._estimator.predict(numbers, arms)
        # The estimator shifts beliefs with draws of the arm's mean: here they lean on it by one reward.
        own = np.maximum(found.count - 1.0, 0.0)
        return CellBeliefs(
            names=self.names,
            weight=self.weight,
            leaning=1.0,
            own=own,
            reward_sum=np.clip(found.mean, 0.0, 1.0) * (own + 1.0) - arm_mean,
            expected_cost=expected_cost * self._dearness.of(numbers, arms),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the latest calls, as segments."""
        return tuple(map(str, range(len(self._latest))))

    @property
    def weight(self) -> FloatArray:
        """Their shares."""
        return np.full(len(self._latest), 1 / len(self._latest))


_WITHOUT = PosteriorEstimator()


@dataclass(frozen=True, kw_only=True)
class ContextEstimator(PosteriorEstimator):
    """The default estimator, with the latest calls in place of segments.

    Args:
        context: what is known of calls.
    """

    context: Context

    def bounds(self, evidence: Evidence, *, budget_usd: float) -> Bounds:
        """Return the bounds of the arms over all calls."""
        return _WITHOUT.bounds(evidence, budget_usd=budget_usd)

    def scenarios(
        self, evidence: Evidence, *, live: IntArray, bounds: Bounds, rng: np.random.Generator
    ) -> Scenarios:
        """Return one scenario, of upper bounds in the latest calls; without numbers, those of the default estimator."""
        context = self.context
        context.learn()
        if not context.ready:
            return _WITHOUT.scenarios(evidence, live=live, bounds=bounds, rng=rng)
        reward, factor = context.latest_worth(np.array(context.present, dtype=np.intp)[live])
        return Scenarios(
            reward=reward[None],
            cost=(bounds.expected_cost[live] * factor)[None],
            segments=context.names,
            weight=context.weight,
        )

    def _cells(self, evidence: Evidence, expected_cost: FloatArray) -> CellBeliefs | None:
        context = self.context
        context.learn()
        if not context.ready:
            return None
        return context.beliefs(arm_mean=self._reward_mean(evidence), expected_cost=expected_cost)


class ContextPolicy(EnginePolicy):
    """The engine with a contextual estimate, as a policy.

    Args:
        table: recorded outcomes with prompts; of these only names, list prices and prompts are read.
        stream: its budget, live places, stage length and number of calls are read.
        estimator: of rewards; fresh.
        numbers: of the table's queries; fresh.
        seed: of exploration.
    """

    def __init__(
        self, table: OutcomeTable, stream: Stream, *, estimator: Estimator, numbers: PromptNumbers, seed: int
    ) -> None:
        self._context = Context(estimator, numbers, arms=len(table.models))
        super().__init__(table, stream, estimator=ContextEstimator(context=self._context), seed=seed)

    def start(self, models: Sequence[int]) -> None:
        """Plan the first stage."""
        self._context.present = list(models)
        super().start(models)

    def arrive(self, models: Sequence[int], *, call: int) -> None:
        """Tell the engine of other candidates."""
        self._context.present = list(models)
        super().arrive(models, call=call)

    def choose(self, call: int) -> int:
        """Take the live arm that is worth most at the price, or the one that is looked at again."""
        row = int(self._rows[call])
        self._context.see(row)
        snapshot = self._snapshot
        mix, estimate = snapshot.mix, snapshot.estimate
        if not mix.by_segment:
            return super().choose(call)
        names = snapshot.live
        models = np.array([self._index_of[name] for name in names], dtype=np.intp)
        bound, factor = self._context.worth([row], models)
        cost = estimate.bounds.expected_cost[[estimate.position[name] for name in names]] * factor[0]
        if mix.explored is not None and self._uniform[call] < mix.explore_share:
            chosen = mix.explored
        else:
            chosen = int(np.argmax(bound[0] - mix.shadow_price * cost))
        stage = snapshot.stage
        budget = self._engine.policy.budget_usd
        self._arm = names[chosen]
        self._charge = Charge(
            expected_cost_usd=float(cost[chosen]),
            budget_usd=budget,
            surplus_cap_usd=surplus_cap_usd(budget_usd=budget, calls_per_stage=stage.calls_per_stage),
            booking=estimate.booking,
        )
        return int(models[chosen])

    def observe(self, call: int, *, model: int, cost_usd: float, rewards: Sequence[TimelyReward]) -> None:
        """Keep what was observed with its call's numbers; all else as without."""
        self._context.paid(model, int(self._rows[call]), cost_usd)
        for reward in rewards:
            self._context.rewarded(reward.model, int(self._rows[reward.call]), reward.value)
        super().observe(call, model=model, cost_usd=cost_usd, rewards=rewards)
