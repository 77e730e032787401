"""The probability that is written with a decision is the one it was sampled with, while everything changes.

One stream of 100,000 calls: rewards and costs come in late and in batches, how hard the calls are changes, arms cool
down and come back, windows open every 500 calls, a revisit is often going on. Then two checks of the log:

- *frequencies*: for every arm, the sum over calls of (chosen or not) - (its probability) is a martingale, because a
  call's distribution is settled before its uniform number is drawn. Its predictable variance is the sum of
  p (1 - p); five standard deviations bound it except once in a million seeds.
- *evaluation from the log*: weighted by one over the written probability, an arm's rewards estimate its mean
  reward over all calls at which it could have been chosen, whatever made the engine choose it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from stageroute_router.core.arm import Arm
from stageroute_router.core.budget.account import Account
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import Choice, GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics

CALLS = 100_000
BATCH = 16
"""Calls between two advances of the snapshot; their outcomes come in three batches later."""

SPELL = 400
"""Calls for which an arm stays out."""

BUDGET_USD = 0.002
REWARD = np.array([0.45, 0.55, 0.75, 0.65, 0.80, 0.50, 0.40])
HARD = 0.4
"""In hard spells, every mean reward is lower by this, and the best arm is out: shares go with how hard calls are."""

COST = BUDGET_USD * np.array([0.2, 0.4, 1.0, 1.4, 3.0, 0.8, 0.3])
LIKELY = 0.02
"""Rewards are weighted over calls that an arm gets with at least this chance, or its weights say nothing."""

NAMES = [f"arm{index}" for index in range(len(COST))]
BEST = 2
"""The arm with the largest reward among those at most as dear as the budget."""


@dataclass(frozen=True, kw_only=True)
class Log:
    """What was written about each call, and what the test knows beside.

    Args:
        chosen: index of the arm, shape (calls,).
        written: the probability written with the decision, shape (calls,).
        distribution: probability of every arm, shape (calls, arms).
        mean: mean reward of every arm at every call, shape (calls, arms).
        reward: what the chosen arm's answer was worth, shape (calls,).
        looking: calls in whose stage an arm had a revisit.
        restricted: calls for which a live arm was not eligible.
        outside: calls that no live arm could serve.
        refreshes: how many different distributions there were.
    """

    chosen: NDArray[np.int64]
    written: NDArray[np.float64]
    distribution: NDArray[np.float64]
    mean: NDArray[np.float64]
    reward: NDArray[np.float64]
    looking: int
    restricted: int
    outside: int
    refreshes: int


def distribution_of(snapshot: Snapshot, choice: Choice, eligible: frozenset[str]) -> dict[str, float]:
    """Return what the snapshot says about every arm that could have been chosen for this call."""
    live = tuple(name for name in snapshot.live if name in eligible)
    if live == snapshot.live:
        return dict(zip(live, snapshot.mix.probabilities, strict=True))
    if choice.outside_live_set:
        live = tuple(arm.name for arm in snapshot.arms if arm.name in eligible)
    return dict(zip(live, snapshot.restricted[live].probabilities, strict=True))


def observed(reward: float | None, cost_usd: float) -> ArmStatistics:
    seen = ArmStatistics.of_pull() + ArmStatistics.of_cost(cost_usd)
    return seen if reward is None else seen + ArmStatistics.of_reward(reward)


@pytest.fixture(scope="module")
def log() -> Log:
    rng = np.random.default_rng(5)
    policy = GroupPolicy(
        budget_usd=BUDGET_USD, max_live=5, schedule=EveryCalls(500), estimator=PosteriorEstimator()
    )
    engine = Engine(policy, seed=6)
    prices = COST * np.exp(rng.normal(0, 0.3, len(COST)))
    arms = [Arm(name=name, prior_cost_usd=float(price)) for name, price in zip(NAMES, prices, strict=True)]
    snapshot = engine.start(arms, now=0.0)

    uniform = rng.random(CALLS)
    # What every arm would have answered; whether a reward comes; which arms are out.
    hard = rng.random(CALLS // SPELL + 1) < 0.3
    mean = REWARD - HARD * np.repeat(hard, SPELL)[:CALLS, None]
    potential = (rng.random((CALLS, len(NAMES))) < mean).astype(float)
    cost = COST * rng.gamma(2, 0.5, (CALLS, len(NAMES)))
    reported = rng.random(CALLS) < 0.7
    out = rng.random((CALLS // SPELL + 1, len(NAMES))) < 0.06
    out[hard, BEST] = True
    live_is_out = rng.random(len(out)) < 0.02

    position = {name: index for index, name in enumerate(NAMES)}
    chosen = np.zeros(CALLS, dtype=np.int64)
    written = np.zeros(CALLS)
    distribution = np.zeros((CALLS, len(NAMES)))
    looking = restricted = outside = 0
    mixes = set()
    account = Account()
    open_batches: deque[list[tuple[int, Choice]]] = deque()
    batch: list[tuple[int, Choice]] = []
    for call in range(CALLS):
        if call % SPELL == 0:
            absent = {name for name in NAMES if out[call // SPELL, position[name]]}
            if live_is_out[call // SPELL]:
                absent = set(snapshot.live)
            eligible = frozenset(NAMES) - absent
        choice = engine.choose(snapshot, uniform=float(uniform[call]), eligible=eligible)
        chosen[call], written[call] = position[choice.arm], choice.probability
        for name, probability in distribution_of(snapshot, choice, eligible).items():
            distribution[call, position[name]] = probability
        looking += snapshot.stage.explored is not None
        restricted += not eligible.issuperset(snapshot.live)
        outside += choice.outside_live_set
        mixes.add(snapshot.mix.probabilities)
        account = account.dispatched(choice.charge)
        batch.append((call, choice))
        if len(batch) == BATCH:
            open_batches.append(batch)
            batch = []
            increments: dict[str, ArmStatistics] = {}
            for done, made in open_batches.popleft() if len(open_batches) > 3 else ():
                paid = float(cost[done, position[made.arm]])
                worth = float(potential[done, position[made.arm]]) if reported[done] else None
                account = account.settled(made.charge, cost_usd=paid)
                increments[made.arm] = increments.get(made.arm, ArmStatistics()) + observed(worth, paid)
            snapshot = engine.advance(snapshot, increments=increments, account=account, now=0.0)
    return Log(
        chosen=chosen,
        written=written,
        distribution=distribution,
        mean=mean,
        reward=potential[np.arange(CALLS), chosen],
        looking=looking,
        restricted=restricted,
        outside=outside,
        refreshes=len(mixes),
    )


def test_the_stream_has_everything_that_could_upset_the_probabilities(log: Log) -> None:
    """Otherwise the tests below would say little."""
    assert log.refreshes > CALLS // 100
    assert log.looking > CALLS // 50
    assert log.restricted > CALLS // 20
    assert log.outside > 100
    assert np.count_nonzero(log.distribution.max(axis=1) < 0.9) > CALLS // 4


def test_each_decision_is_written_with_its_own_probability(log: Log) -> None:
    assert np.array_equal(log.written, log.distribution[np.arange(CALLS), log.chosen])
    assert (log.written > 0).all()
    np.testing.assert_allclose(log.distribution.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("arm", range(len(NAMES)), ids=NAMES)
def test_frequencies_match_the_written_probabilities(log: Log, arm: int) -> None:
    probability = log.distribution[:, arm]
    surprise = ((log.chosen == arm) - probability).sum()
    variance = (probability * (1 - probability)).sum()
    assert variance > 30  # enough to see something
    assert abs(surprise) < 5 * np.sqrt(variance)


def mean_rewards(log: Log, arm: int) -> tuple[NDArray[np.bool_], NDArray[np.float64], float]:
    """Return the calls that the arm was likely enough to get, its mean reward at each, and the estimate's sd.

    Over these calls, r / p where the arm was chosen and 0 elsewhere has the arm's mean reward m as its mean and
    m / p - m^2 as its variance, because a reward r is 0 or 1. Which calls they are is settled before the draw.
    """
    likely = log.distribution[:, arm] >= LIKELY
    mean = log.mean[likely, arm]
    variance = (mean / log.distribution[likely, arm] - mean**2).sum()
    return likely, mean, float(np.sqrt(variance) / likely.sum())


@pytest.mark.parametrize("arm", range(len(NAMES)), ids=NAMES)
def test_weighting_by_the_written_probability_estimates_an_arms_mean_reward(log: Log, arm: int) -> None:
    likely, mean, deviation = mean_rewards(log, arm)
    chosen = likely & (log.chosen == arm)
    estimate = (log.reward[chosen] / log.written[chosen]).sum() / likely.sum()
    assert abs(estimate - mean.mean()) < 5 * deviation


def test_not_weighting_misjudges_an_arm_that_gets_the_hard_calls(log: Log) -> None:
    """So the check above is one that wrong probabilities would not pass."""
    arm = NAMES.index("arm0")
    likely, mean, deviation = mean_rewards(log, arm)
    chosen = likely & (log.chosen == arm)
    assert log.reward[chosen].mean() - mean.mean() < -5 * deviation
