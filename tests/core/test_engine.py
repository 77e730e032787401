"""One group's state machine: what a snapshot and events lead to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stageroute_router.core.arm import Arm
from stageroute_router.core.budget.account import Account
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.base import Estimator
from stageroute_router.core.estimators.confidence import paper_cost_lcb, paper_reward_ucb
from stageroute_router.core.estimators.paper import PaperEstimator
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.routing.closed_form import solve_routing
from stageroute_router.core.schedule import EveryCalls, EverySeconds, Manual, Schedule
from stageroute_router.core.snapshot import Choice, GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics

RULES = [PosteriorEstimator(), PaperEstimator(gamma=0.1), PaperEstimator(gamma=1.0, paced=True)]


def an_engine(
    estimator: Estimator | None = None,
    *,
    budget_usd: float = 0.002,
    max_live: int = 3,
    schedule: Schedule | None = None,
    seed: int = 7,
) -> Engine:
    policy = GroupPolicy(
        budget_usd=budget_usd,
        max_live=max_live,
        schedule=schedule or EveryCalls(100),
        estimator=estimator or PosteriorEstimator(),
    )
    return Engine(policy, seed=seed)


def some_arms(count: int, *, cost_usd: float = 0.001) -> list[Arm]:
    return [Arm(name=f"arm{i}", prior_cost_usd=cost_usd * (i + 1)) for i in range(count)]


def observed(*, rewards: Sequence[float] = (), costs: Sequence[float] = ()) -> ArmStatistics:
    total = ArmStatistics()
    for reward in rewards:
        total += ArmStatistics.of_pull() + ArmStatistics.of_reward(reward)
    for cost in costs:
        total += ArmStatistics.of_cost(cost)
    return total


def after_call(
    engine: Engine,
    snapshot: Snapshot,
    choice: Choice,
    *,
    reward: float | None,
    cost_usd: float,
    now: float = 0.0,
) -> Snapshot:
    account = snapshot.account.dispatched(choice.charge).settled(choice.charge, cost_usd=cost_usd)
    increment = ArmStatistics.of_pull() + ArmStatistics.of_cost(cost_usd)
    if reward is not None:
        increment += ArmStatistics.of_reward(reward)
    return engine.advance(snapshot, increments={choice.arm: increment}, account=account, now=now)


def run(
    engine: Engine,
    snapshot: Snapshot,
    *,
    calls: int,
    reward: dict[str, float],
    cost_usd: dict[str, float],
    seed: int = 3,
) -> tuple[Snapshot, Counter[str], float]:
    rng = np.random.default_rng(seed)
    pulls: Counter[str] = Counter()
    spend = 0.0
    for _ in range(calls):
        choice = engine.choose(snapshot, uniform=rng.random())
        pulls[choice.arm] += 1
        spend += cost_usd[choice.arm]
        outcome = float(rng.random() < reward[choice.arm])
        snapshot = after_call(engine, snapshot, choice, reward=outcome, cost_usd=cost_usd[choice.arm])
    return snapshot, pulls, spend


@pytest.mark.parametrize("estimator", RULES)
def test_live_set_is_never_larger_than_allowed(estimator: Estimator) -> None:
    snapshot = an_engine(estimator, max_live=3).start(some_arms(8), now=0)
    assert len(snapshot.live) == 3
    assert len(set(snapshot.live)) == 3


@pytest.mark.parametrize("estimator", RULES)
def test_fewer_candidates_than_places_are_all_live(estimator: Estimator) -> None:
    snapshot = an_engine(estimator, max_live=5).start(some_arms(2), now=0)
    assert set(snapshot.live) == {"arm0", "arm1"}


@pytest.mark.parametrize("estimator", RULES)
def test_sampled_frequencies_are_the_written_probabilities(estimator: Estimator) -> None:
    """Evaluation from logs depends on it: 20,000 calls within 5 standard deviations."""
    engine = an_engine(estimator, max_live=4, schedule=Manual())
    known = {f"arm{i}": observed(rewards=[0.5, 0.2 * i] * 5, costs=[0.001 * (i + 1)] * 10) for i in range(4)}
    snapshot = engine.start(some_arms(4), now=0, statistics=known)
    rng = np.random.default_rng(11)
    calls = 20_000
    pulls: Counter[str] = Counter()
    written: dict[str, float] = {}
    for _ in range(calls):
        choice = engine.choose(snapshot, uniform=rng.random())
        pulls[choice.arm] += 1
        written[choice.arm] = choice.probability
    assert math.isclose(sum(snapshot.mix.probabilities), 1.0, abs_tol=1e-12)
    for name, probability in zip(snapshot.live, snapshot.mix.probabilities, strict=True):
        deviation = math.sqrt(max(calls * probability * (1 - probability), 1.0))
        assert abs(pulls[name] - calls * probability) < 5 * deviation
        if pulls[name]:
            assert written[name] == probability


def test_newcomer_waits_for_the_next_window() -> None:
    engine = an_engine(max_live=5, schedule=EveryCalls(10))
    snapshot = engine.start(some_arms(2), now=0)
    snapshot = engine.with_arms(snapshot, some_arms(3), now=0)
    assert "arm2" not in snapshot.live
    snapshot, _, _ = run(
        engine,
        snapshot,
        calls=10,
        reward=dict.fromkeys(["arm0", "arm1", "arm2"], 0.5),
        cost_usd=dict.fromkeys(["arm0", "arm1", "arm2"], 0.001),
    )
    assert snapshot.stage.number == 2
    assert "arm2" in snapshot.live


def test_removed_arm_leaves_at_once() -> None:
    engine = an_engine()
    arms = some_arms(3)
    snapshot = engine.start(arms, now=0)
    snapshot = engine.with_arms(snapshot, arms[1:], now=0)
    assert snapshot.stage.number == 1
    assert set(snapshot.live) == {"arm1", "arm2"}
    for uniform in np.linspace(0, 0.999, 50):
        assert engine.choose(snapshot, uniform=float(uniform)).arm != "arm0"


def test_window_opens_when_no_live_arm_is_left() -> None:
    engine = an_engine(max_live=1)
    snapshot = engine.start(some_arms(2), now=0)
    (gone,) = snapshot.live
    left = [arm for arm in some_arms(2) if arm.name != gone]
    snapshot = engine.with_arms(snapshot, left, now=5.0)
    assert (snapshot.stage.number, snapshot.stage.reason) == (2, "departure")
    assert snapshot.live == (left[0].name,)


def test_statistics_of_a_departed_arm_are_there_when_it_returns() -> None:
    engine = an_engine(schedule=EveryCalls(5))
    arms = some_arms(2)
    snapshot = engine.start(arms, now=0, statistics={"arm1": observed(rewards=[1.0] * 7)})
    snapshot = engine.with_arms(snapshot, arms[:1], now=0)
    snapshot = engine.with_arms(snapshot, arms, now=0)
    assert snapshot.statistics["arm1"].reward_count == 7


def test_only_eligible_arms_are_chosen_and_their_probability_is_exact() -> None:
    engine = an_engine(max_live=3, schedule=Manual())
    snapshot = engine.start(some_arms(3), now=0)
    eligible = {"arm1", "arm2"}
    rng = np.random.default_rng(5)
    pulls: Counter[str] = Counter()
    probability: dict[str, float] = {}
    for _ in range(5_000):
        choice = engine.choose(snapshot, uniform=rng.random(), eligible=eligible)
        assert not choice.outside_live_set
        pulls[choice.arm] += 1
        probability[choice.arm] = choice.probability
    assert set(pulls) <= eligible
    for name, count in pulls.items():
        assert abs(count / 5_000 - probability[name]) < 5 * math.sqrt(0.25 / 5_000)


def test_candidates_that_are_not_live_serve_when_no_live_arm_can() -> None:
    engine = an_engine(max_live=1)
    snapshot = engine.start(some_arms(3), now=0)
    others = {f"arm{i}" for i in range(3)} - set(snapshot.live)
    choice = engine.choose(snapshot, uniform=0.5, eligible=others)
    assert choice.arm in others
    assert choice.outside_live_set


def test_nothing_eligible_is_an_error_with_the_names() -> None:
    engine = an_engine()
    snapshot = engine.start(some_arms(2), now=0)
    with pytest.raises(ValueError, match="stranger"):
        engine.choose(snapshot, uniform=0.5, eligible={"stranger"})


def test_group_without_arms_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one arm"):
        an_engine().start([], now=0)


def test_window_opens_by_calls_and_by_time() -> None:
    by_calls = an_engine(schedule=EveryCalls(3))
    snapshot = by_calls.start(some_arms(1), now=0)
    snapshot, _, _ = run(by_calls, snapshot, calls=7, reward={"arm0": 0.5}, cost_usd={"arm0": 0.001})
    assert (snapshot.stage.number, snapshot.stage.opened_at_call) == (3, 6)

    by_time = an_engine(schedule=EverySeconds(60))
    snapshot = by_time.start(some_arms(1), now=0)
    snapshot = by_time.advance(snapshot, increments={}, account=Account(), now=59)
    assert snapshot.stage.number == 1
    snapshot = by_time.advance(snapshot, increments={}, account=Account(), now=60)
    assert (snapshot.stage.number, snapshot.stage.opened_at) == (2, 60)


def test_restart_continues_stage_live_set_and_account() -> None:
    engine = an_engine(max_live=2, schedule=EveryCalls(50))
    arms = some_arms(5)
    reward = {f"arm{i}": 0.1 * i for i in range(5)}
    cost = {f"arm{i}": 0.001 for i in range(5)}
    snapshot, _, _ = run(engine, engine.start(arms, now=0), calls=120, reward=reward, cost_usd=cost)
    again = an_engine(max_live=2, schedule=EveryCalls(50), seed=99).start(
        arms, now=1, statistics=snapshot.statistics, account=snapshot.account, stage=snapshot.stage
    )
    assert again.stage == snapshot.stage
    assert again.live == snapshot.live
    assert again.account == snapshot.account
    assert again.statistics == snapshot.statistics


def test_pinned_arm_is_always_live() -> None:
    arms = [*some_arms(5), Arm(name="must", prior_cost_usd=1.0, pinned=True)]
    known = {"must": observed(rewards=[0.0] * 50, costs=[1.0] * 50)}
    for estimator in RULES:
        snapshot = an_engine(estimator, max_live=2).start(arms, now=0, statistics=known)
        assert "must" in snapshot.live
        assert len(snapshot.live) == 2


@pytest.mark.parametrize("estimator", RULES)
def test_no_arm_gets_more_than_its_share(estimator: Estimator) -> None:
    arms = [Arm(name=f"arm{i}", prior_cost_usd=0.001, max_share=0.4) for i in range(5)]
    known = {"arm0": observed(rewards=[1.0] * 100, costs=[0.001] * 100)}
    snapshot = an_engine(estimator, max_live=4).start(arms, now=0, statistics=known)
    assert max(snapshot.mix.probabilities) <= 0.4 + 1e-9
    assert math.isclose(sum(snapshot.mix.probabilities), 1.0, abs_tol=1e-9)


def test_paper_mode_is_the_papers_programme_with_current_bounds() -> None:
    """Bounds by the formula, mix by the closed form: nothing of ours in between."""
    arms = some_arms(3)
    known = {
        "arm0": observed(rewards=[0.2, 0.4, 0.3], costs=[0.001] * 3),
        "arm1": observed(rewards=[0.6, 0.7], costs=[0.002] * 2),
        "arm2": observed(rewards=[0.9] * 4, costs=[0.006] * 4),
    }
    engine = an_engine(PaperEstimator(gamma=0.01), budget_usd=0.002, max_live=3)
    snapshot = engine.start(arms, now=0, statistics=known)
    scale = 0.006
    ucb = [paper_reward_ucb(s.reward_count, s.reward_sum, gamma=0.01) for s in known.values()]
    lcb = [
        scale * paper_cost_lcb(s.cost_count, s.cost_sum / scale, gamma=0.01, lowest=0.0, highest=1.0)
        for s in known.values()
    ]
    expected = dict(zip(known, solve_routing(ucb, lcb, budget=0.002).probabilities, strict=True))
    for name, probability in zip(snapshot.live, snapshot.mix.probabilities, strict=True):
        assert math.isclose(probability, expected[name], abs_tol=1e-9)


def test_paper_mode_starts_with_the_least_observed() -> None:
    """At the start every bound is 1, so ties decide: no arm is tried twice before all were tried."""
    engine = an_engine(PaperEstimator(gamma=1.0), budget_usd=1.0, max_live=3, schedule=Manual())
    arms = [Arm(name=f"arm{i}", prior_cost_usd=0.001) for i in range(3)]
    _, pulls, _ = run(
        engine,
        engine.start(arms, now=0),
        calls=3,
        reward=dict.fromkeys(["arm0", "arm1", "arm2"], 1.0),
        cost_usd=dict.fromkeys(["arm0", "arm1", "arm2"], 0.001),
    )
    assert pulls == {"arm0": 1, "arm1": 1, "arm2": 1}


def test_budget_is_kept_and_used() -> None:
    """A good arm at 5 times the budget is mixed in as far as the budget goes."""
    engine = an_engine(budget_usd=0.002, max_live=2, schedule=EveryCalls(200))
    arms = [Arm(name="small", prior_cost_usd=0.001), Arm(name="large", prior_cost_usd=0.01)]
    snapshot, pulls, spend = run(
        engine,
        engine.start(arms, now=0),
        calls=4_000,
        reward={"small": 0.4, "large": 0.9},
        cost_usd={"small": 0.001, "large": 0.01},
    )
    assert spend <= 1.005 * 0.002 * 4_000
    assert spend >= 0.97 * 0.002 * 4_000
    assert abs(pulls["large"] / 4_000 - 1 / 9) < 0.02
    assert math.isclose(snapshot.account.spend_usd, spend, rel_tol=1e-9)


def test_loose_budget_is_not_an_order_to_spend() -> None:
    engine = an_engine(budget_usd=0.1, max_live=2, schedule=EveryCalls(100))
    arms = [Arm(name="cheap", prior_cost_usd=0.001), Arm(name="dear", prior_cost_usd=0.05)]
    _, pulls, _ = run(
        engine,
        engine.start(arms, now=0),
        calls=1_000,
        reward={"cheap": 0.9, "dear": 0.5},
        cost_usd={"cheap": 0.001, "dear": 0.05},
    )
    assert pulls["cheap"] > 900


def test_calls_in_flight_count_at_their_expected_cost() -> None:
    """300 calls are dispatched before the first cost is known: the mix has turned to the cheap arm by then."""
    engine = an_engine(budget_usd=0.002, max_live=2, schedule=Manual())
    arms = [Arm(name="small", prior_cost_usd=0.001), Arm(name="large", prior_cost_usd=0.01)]
    known = {
        "small": observed(rewards=[0.4] * 50, costs=[0.001] * 50),
        "large": observed(rewards=[0.9] * 50, costs=[0.01] * 50),
    }
    snapshot = engine.start(arms, now=0, statistics=known)
    before = dict(zip(snapshot.live, snapshot.mix.probabilities, strict=True))["large"]
    for _ in range(300):
        choice = engine.choose(snapshot, uniform=0.0, eligible={"large"})
        account = snapshot.account.dispatched(choice.charge)
        snapshot = engine.advance(
            snapshot, increments={choice.arm: ArmStatistics.of_pull()}, account=account, now=0
        )
    after = dict(zip(snapshot.live, snapshot.mix.probabilities, strict=True))["large"]
    assert before > 0.05
    assert after < 0.005  # what remains is the tolerance: 2 % above the cheapest mixture


def test_costs_that_arrive_together_count_at_once() -> None:
    """400 costs in one commit, after the calls were counted: the next choice reckons with them."""
    engine = an_engine(budget_usd=0.002, max_live=2, schedule=Manual())
    known = {name: observed(rewards=[0.9, 0.1] * 20) for name in ("arm0", "arm1")}
    snapshot = engine.start(some_arms(2), now=0, statistics=known, account=Account(calls=400))
    before = dict(zip(snapshot.live, snapshot.mix.probabilities, strict=True))["arm1"]
    costs = {"arm0": observed(costs=[0.001] * 200), "arm1": observed(costs=[0.2] * 200)}
    snapshot = engine.advance(snapshot, increments=costs, account=snapshot.account, now=0)
    after = dict(zip(snapshot.live, snapshot.mix.probabilities, strict=True))["arm1"]
    assert before > 0.2
    assert after < 0.01


def test_unreachable_budget_routes_to_the_cheapest_and_says_so() -> None:
    engine = an_engine(budget_usd=0.0001, max_live=2)
    arms = [Arm(name="small", prior_cost_usd=0.001), Arm(name="large", prior_cost_usd=0.01)]
    known = {
        "small": observed(rewards=[0.4] * 50, costs=[0.001] * 50),
        "large": observed(rewards=[0.9] * 50, costs=[0.01] * 50),
    }
    snapshot = engine.start(arms, now=0, statistics=known)
    assert not snapshot.mix.feasible
    assert dict(zip(snapshot.live, snapshot.mix.probabilities, strict=True))["small"] > 0.995
    assert engine.choose(snapshot, uniform=0.3).charge.booking == "none"


def test_same_seed_same_decisions() -> None:
    def decisions(seed: int) -> list[str]:
        engine = an_engine(seed=seed, max_live=3)
        snapshot = engine.start(some_arms(6), now=0)
        rng = np.random.default_rng(1)
        chosen = []
        for _ in range(300):
            choice = engine.choose(snapshot, uniform=rng.random())
            chosen.append(choice.arm)
            snapshot = after_call(engine, snapshot, choice, reward=float(rng.random() < 0.5), cost_usd=0.001)
        return chosen

    assert decisions(1) == decisions(1)
    assert decisions(1) != decisions(2)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), estimator=st.sampled_from(RULES))
def test_any_history_gives_a_distribution(data: st.DataObject, estimator: Estimator) -> None:
    """Whatever was observed, free arms and zero rewards included, the mix is a distribution within the shares."""
    count = data.draw(st.integers(1, 7))
    money = st.one_of(st.just(0.0), st.floats(1e-7, 10.0))
    arms = [
        Arm(
            name=f"arm{i}",
            max_share=data.draw(st.sampled_from([1.0, 0.5, 0.3])),
            prior_cost_usd=data.draw(st.none() | money),
        )
        for i in range(count)
    ]
    known = {
        arm.name: observed(
            rewards=data.draw(st.lists(st.floats(0, 1), max_size=5)),
            costs=data.draw(st.lists(money, max_size=5)),
        )
        for arm in arms
    }
    account = Account(calls=data.draw(st.integers(0, 1000)), surplus_usd=data.draw(st.floats(-100, 100)))
    engine = an_engine(
        estimator, budget_usd=data.draw(st.floats(1e-6, 1.0)), max_live=data.draw(st.integers(1, 8))
    )
    snapshot = engine.start(arms, now=0, statistics=known, account=account)
    probabilities = np.array(snapshot.mix.probabilities)
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    assert math.isclose(probabilities.sum(), 1.0, abs_tol=1e-9)
    shares = np.array([next(arm.max_share for arm in arms if arm.name == name) for name in snapshot.live])
    if shares.sum() >= 1:
        assert (probabilities <= shares + 1e-6).all()
    choice = engine.choose(snapshot, uniform=data.draw(st.floats(0, 1, exclude_max=True)))
    assert choice.arm in snapshot.live
    assert choice.probability > 0
    assert choice.charge.expected_cost_usd >= 0
