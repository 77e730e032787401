"""A small world to try the engine in: arms with true rewards and costs, and calls in small batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from stageroute_router.core.arm import Arm
from stageroute_router.core.budget.account import Account
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.base import Estimator
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import Choice, GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.groups.in_flight import InFlight


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is true of an arm, and what is said of it beforehand.

    Args:
        reward: chance of a reward of 1.
        cost: mean cost of a call, in units of the budget per call.
        spread: standard deviation of the logarithm of a call's cost; 0 for always the mean.
        price: what the price list says, in the same unit; None for an arm without a price; default: the truth.
        seen: calls observed before the stream, and the rewards among them.
        arrives: the call before which it becomes a candidate.
        max_share: its throughput share.
    """

    reward: float
    cost: float
    spread: float = 0.0
    price: float | None = -1.0
    seen: tuple[int, float] = (0, 0.0)
    arrives: int = 0
    max_share: float = 1.0


@dataclass(slots=True, kw_only=True)
class Past:
    """What happened: per call the arm's position and the cost in budgets; per window the live set and surplus.

    ``paced`` is whether every call was charged to the pacer; ``snapshot`` is the last one.
    """

    names: list[str]
    chosen: NDArray[np.int64]
    cost: NDArray[np.float64]
    snapshot: Snapshot
    paced: bool = True
    live: list[tuple[str, ...]] = field(default_factory=list)
    surplus: list[float] = field(default_factory=list)

    def share(self, name: str, start: int = 0, stop: int | None = None) -> float:
        """Return the arm's share of the calls from ``start`` to ``stop``."""
        return float((self.chosen[start:stop] == self.names.index(name)).mean())

    def pulls(self, name: str, start: int = 0, stop: int | None = None) -> int:
        """Return how many of these calls the arm got."""
        return int((self.chosen[start:stop] == self.names.index(name)).sum())

    def spend(self, start: int = 0, stop: int | None = None) -> float:
        """Return the mean cost of these calls over the budget."""
        return float(self.cost[start:stop].mean())


BUDGET_USD = 0.002


def simulate(
    models: Mapping[str, Model],
    *,
    calls: int,
    seed: int,
    stage: int = 500,
    max_live: int = 5,
    batch: int = 20,
    feedback: float = 1.0,
    reward_of: Callable[[str, int], float] | None = None,
    cost_of: Callable[[str, int], float] | None = None,
    cost_delay: int = 0,
    estimator: Estimator | None = None,
) -> Past:
    """Route ``calls`` calls through the product's engine and return what happened.

    Observations reach the engine in batches, as a writer's commits do.

    Args:
        models: the truth, by arm name.
        calls: how many.
        seed: of the world and of the engine.
        stage: calls per stage.
        max_live: most live arms.
        batch: calls routed from one snapshot.
        feedback: fraction of calls that are rewarded.
        reward_of: true mean reward of an arm at a call, where it moves.
        cost_of: true mean cost of an arm at a call in budgets, where it moves.
        cost_delay: after how many calls a cost is known.
        estimator: the confidence estimator; the default one by default.
    """
    rng = np.random.default_rng([seed, 1])
    names = list(models)
    policy = GroupPolicy(
        budget_usd=BUDGET_USD,
        max_live=max_live,
        schedule=EveryCalls(stage),
        estimator=estimator or PosteriorEstimator(),
    )
    engine = Engine(policy, seed=seed)
    arms = {
        name: Arm(
            name=name,
            max_share=model.max_share,
            prior_cost_usd=None
            if model.price is None
            else BUDGET_USD * (model.cost if model.price < 0 else model.price),
        )
        for name, model in models.items()
    }
    snapshot = engine.start(
        [arms[name] for name, model in models.items() if model.arrives == 0],
        now=0,
        statistics={name: _seen(model) for name, model in models.items() if model.seen[0]},
        account=Account(calls=sum(model.seen[0] for model in models.values())),
    )
    past = Past(
        names=names,
        chosen=np.zeros(calls, dtype=np.int64),
        cost=np.zeros(calls),
        snapshot=snapshot,
        live=[snapshot.live],
    )
    arrivals = sorted({model.arrives for model in models.values()} - {0})
    in_flight = InFlight()
    unpaid: deque[tuple[int, Choice, float]] = deque()
    uniform = rng.random((calls, 3))
    noise = rng.standard_normal(calls)
    for start in range(0, calls, batch):
        if arrivals and start >= arrivals[0]:
            now = arrivals.pop(0)
            present = [arms[name] for name, model in models.items() if model.arrives <= now]
            snapshot = engine.with_arms(snapshot, present, now=0)
        account = snapshot.account
        known: list[str] = []
        seen = {name: [0.0] * 6 for name in names}
        for call in range(start, min(start + batch, calls)):
            choice = engine.choose(snapshot, uniform=uniform[call, 0], in_flight=in_flight.count)
            in_flight.started(str(call), arm=choice.arm, now=0.0)
            model = models[choice.arm]
            cost = model.cost if cost_of is None else cost_of(choice.arm, call)
            cost *= float(np.exp(model.spread * noise[call] - model.spread**2 / 2))
            past.chosen[call] = names.index(choice.arm)
            past.cost[call] = cost
            past.paced = past.paced and choice.charge.booking == "surplus"
            account = account.dispatched(choice.charge)
            seen[choice.arm][0] += 1
            if uniform[call, 1] < feedback:
                mean = model.reward if reward_of is None else reward_of(choice.arm, call)
                seen[choice.arm][1] += 1
                seen[choice.arm][2] += uniform[call, 2] < mean
            unpaid.append((call, choice, BUDGET_USD * cost))
            while unpaid and unpaid[0][0] + cost_delay <= call:
                number, paid, amount = unpaid.popleft()
                known.append(str(number))
                account = account.settled(paid.charge, cost_usd=amount)
                sums = seen[paid.arm]
                sums[3:] = sums[3] + 1, sums[4] + amount, sums[5] + amount * amount
        window = snapshot.stage.number
        increments = {name: _statistics(sums) for name, sums in seen.items() if any(sums)}
        snapshot = engine.advance(snapshot, increments=increments, account=account, now=0)
        for decision in known:
            in_flight.ended(decision)
        if snapshot.stage.number != window:
            past.live.append(snapshot.live)
            past.surplus.append(account.surplus_usd / BUDGET_USD)
    past.snapshot = snapshot
    return past


def _seen(model: Model) -> ArmStatistics:
    count, total = model.seen
    cost = BUDGET_USD * model.cost
    return _statistics([count, count, total, count, count * cost, count * cost * cost])


def _statistics(sums: list[float]) -> ArmStatistics:
    """Return statistics of rewards that are 0 or 1: pulls, rewards, their sum, costs, their sum and squares."""
    pulls, rewards, reward_sum, costs, cost_sum, cost_sumsq = sums
    return ArmStatistics(
        pulls=int(pulls),
        reward_count=int(rewards),
        reward_sum=float(reward_sum),
        reward_sumsq=float(reward_sum),
        cost_count=int(costs),
        cost_sum=cost_sum,
        cost_sumsq=cost_sumsq,
    )


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """Return the simulation and the class of its models: tests cannot import this file."""
    return SimpleNamespace(Model=Model, simulate=simulate)
