"""Bursts: hundreds of calls under way before anything is known of what they cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stageroute_router.core.arm import Arm
from stageroute_router.core.choice import PROVEN_BY_COSTS
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.schedule import Manual
from stageroute_router.core.snapshot import GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.groups.in_flight import LIFETIME_S, MOST, InFlight
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.memory import MemoryStore
from stageroute_router.testing.clock import FakeClock

BUDGET_USD = 0.002
LIMIT = 8


# --- the engine --------------------------------------------------------------------------------------------


def known_cost(cost_usd: float, *, count: int, reward: float = 0.5) -> ArmStatistics:
    return ArmStatistics(
        pulls=count,
        reward_count=count,
        reward_sum=reward * count,
        cost_count=count,
        cost_sum=cost_usd * count,
        cost_sumsq=cost_usd * cost_usd * count,
    )


def a_snapshot(
    statistics: dict[str, ArmStatistics], *, prices: dict[str, float | None]
) -> tuple[Engine, Snapshot]:
    policy = GroupPolicy(budget_usd=BUDGET_USD, max_live=5, schedule=Manual(), estimator=PosteriorEstimator())
    engine = Engine(policy, seed=1)
    arms = [Arm(name=name, prior_cost_usd=price) for name, price in prices.items()]
    return engine, engine.start(arms, now=0, statistics=statistics)


def test_arm_of_unknown_cost_gets_no_more_calls_than_its_limit() -> None:
    engine, snapshot = a_snapshot(
        {"proven": known_cost(0.001, count=50)}, prices={"proven": 0.001, "new": 0.001}
    )
    assert engine.choose(snapshot, uniform=0.999, in_flight={"new": LIMIT - 1}).arm == "new"
    full = engine.choose(snapshot, uniform=0.999, in_flight={"new": LIMIT})
    assert (full.arm, full.probability, full.outside_live_set) == ("proven", 1.0, False)


def test_arm_of_known_cost_has_no_limit() -> None:
    known = known_cost(0.001, count=PROVEN_BY_COSTS, reward=0.9)
    engine, snapshot = a_snapshot(
        {"proven": known_cost(0.001, count=50, reward=0.1), "new": known},
        prices={"proven": 0.001, "new": 0.001},
    )
    assert engine.choose(snapshot, uniform=0.999, in_flight={"new": 500}).arm == "new"


def test_probabilities_stay_exact_while_arms_have_their_fill() -> None:
    """The written probability is that of the mix without them; frequencies match it."""
    engine, snapshot = a_snapshot(
        {name: known_cost(0.001, count=8) for name in ("a", "b", "c")},
        prices=dict.fromkeys(("a", "b", "c", "new", "newer")),
    )
    rng = np.random.default_rng(2)
    calls = 20_000
    pulls: Counter[str] = Counter()
    written: dict[str, float] = {}
    for _ in range(calls):
        choice = engine.choose(snapshot, uniform=rng.random(), in_flight={"new": LIMIT, "a": 300})
        pulls[choice.arm] += 1
        written[choice.arm] = choice.probability
    assert "new" not in pulls
    assert math.isclose(sum(written.values()), 1.0, abs_tol=1e-9)
    for name, probability in written.items():
        assert abs(pulls[name] - calls * probability) < 5 * math.sqrt(calls * probability)


def test_where_every_arm_has_its_fill_the_cheapest_by_its_list_price_serves() -> None:
    prices = {"dear": 0.5, "cheap": 0.001, "fair": 0.01}
    engine, snapshot = a_snapshot({}, prices=prices)
    for uniform in (0.0, 0.5, 0.999):
        choice = engine.choose(snapshot, uniform=uniform, in_flight=dict.fromkeys(prices, LIMIT))
        assert (choice.arm, choice.probability) == ("cheap", 1.0)


def test_where_nothing_is_known_at_all_the_arms_take_turns() -> None:
    engine, snapshot = a_snapshot({}, prices={"a": None, "b": None})
    full = {"a": LIMIT, "b": LIMIT}
    chosen = {engine.choose(snapshot, uniform=uniform, in_flight=full).arm for uniform in (0.2, 0.7)}
    assert chosen == {"a", "b"}
    assert engine.choose(snapshot, uniform=0.2, in_flight=full).probability == 0.5


def test_cheapest_arm_is_not_left_out_where_the_others_cannot_keep_the_budget() -> None:
    """Leaving it out would send the calls to an arm of fifteen budgets, known or not."""
    for known in ({}, {"dear": known_cost(0.03, count=50, reward=0.9)}):
        engine, snapshot = a_snapshot(known, prices={"dear": 0.03, "cheap": 0.0005, "cheap too": 0.0006})
        full = {"cheap": LIMIT, "cheap too": LIMIT}
        shares = Counter[str]()
        for uniform in np.linspace(0, 0.999, 100):
            choice = engine.choose(snapshot, uniform=float(uniform), in_flight=full)
            shares[choice.arm] = max(shares[choice.arm], choice.probability)
        assert shares["cheap"] >= 0.9
        assert "cheap too" not in shares


def test_arm_without_a_price_is_excluded_even_where_the_others_exceed_the_budget() -> None:
    """It might cost anything; the others cost twice the budget."""
    engine, snapshot = a_snapshot(
        {"proven": known_cost(0.004, count=50)}, prices={"proven": 0.004, "new": None}
    )
    choice = engine.choose(snapshot, uniform=0.999, in_flight={"new": LIMIT})
    assert (choice.arm, choice.probability) == ("proven", 1.0)


def test_where_every_arm_has_its_fill_an_arm_without_a_price_comes_last() -> None:
    engine, snapshot = a_snapshot({}, prices={"listed": 0.004, "new": None})
    choice = engine.choose(snapshot, uniform=0.999, in_flight={"listed": LIMIT, "new": LIMIT})
    assert (choice.arm, choice.probability) == ("listed", 1.0)


def test_only_eligible_arms_serve_even_where_they_have_their_fill() -> None:
    engine, snapshot = a_snapshot({}, prices={"dear": 0.5, "cheap": 0.001})
    choice = engine.choose(snapshot, uniform=0.5, eligible={"dear"}, in_flight={"dear": 99, "cheap": 99})
    assert (choice.arm, choice.probability) == ("dear", 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_budget_is_kept_when_costs_come_late(world: Any, seed: int) -> None:
    """36 unseen arms of 0.1 to 157 budgets, each cost known 200 calls later.

    Without the limit, a stage's worth of calls finds out together what the dearest arms cost.
    """
    rewards = np.random.default_rng(5).uniform(0.2, 0.8, 36)
    models = {
        f"arm{i}": world.Model(reward=float(reward), cost=0.1 * 1570 ** (i / 35))
        for i, reward in enumerate(rewards)
    }
    past = world.simulate(models, calls=6_000, seed=seed, cost_delay=200)
    assert past.spend(0, 1_500) <= 1.02
    assert past.spend() <= 1.005


# --- the count ---------------------------------------------------------------------------------------------


@given(
    events=st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc"), st.floats(0, 5_000)), max_size=60)
)
def test_count_is_that_of_the_calls_that_neither_ended_nor_grew_old(
    events: list[tuple[int, str, float]],
) -> None:
    """Decision ids may end twice, before they start, or never."""
    calls = InFlight()
    open_calls: dict[str, tuple[str, float]] = {}
    now = 0.0
    for number, (decision, arm, elapsed) in enumerate(events):
        now += elapsed
        if decision % 3 == 0:
            ended = str(number - 1 - decision)
            calls.ended(ended)
            open_calls.pop(ended, None)
        else:
            over = calls.started(str(number), arm=arm, now=now)
            assert set(over) == {d for d, (_, since) in open_calls.items() if now - since > LIFETIME_S}
            open_calls = {d: call for d, call in open_calls.items() if d not in over}
            open_calls[str(number)] = (arm, now)
        assert calls.count == Counter(arm for arm, _ in open_calls.values())


def test_memory_of_open_calls_is_bounded() -> None:
    calls = InFlight()
    for number in range(MOST + 10):
        calls.started(str(number), arm="a", now=0.0)
    assert calls.count == {"a": MOST}


# --- the runtime -------------------------------------------------------------------------------------------

ARMS = [
    Arm(name="small", prior_cost_usd=0.001),
    # Listed at twice the budget; it costs a hundred times as much.
    Arm(name="dear", prior_cost_usd=0.004),
]
COST_USD = {"small": 0.001, "dear": 0.2}


def a_runtime(clock: FakeClock | None = None, **more: object) -> Runtime:
    settings = {"chat": {"budget_usd_per_call": BUDGET_USD, "stage": {"calls": 10_000}, **more}}
    made = Runtime(parse_groups(settings), store=MemoryStore(), seed=4, clock=clock or FakeClock())
    made.set_arms("chat", ARMS)
    return made


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    made = a_runtime()
    yield made
    made.close()


def burst(runtime: Runtime, *, calls: int) -> list[RoutingDecision]:
    """Make calls that do not end, on 8 threads at once."""

    def choose(number: int) -> RoutingDecision:
        routed = runtime.choose("chat", eligible={"small", "dear"}, call_id=str(number))
        assert routed is not None
        return routed

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(choose, range(calls)))


def settle(runtime: Runtime, routed: RoutingDecision) -> None:
    runtime.settled(
        routed.decision_id,
        arm=routed.arm,
        cost_usd=COST_USD[routed.arm],
        prompt_tokens=0,
        completion_tokens=0,
        response_id=None,
    )


def pulls(made: list[RoutingDecision]) -> Counter[str]:
    return Counter(routed.arm for routed in made)


def test_burst_of_calls_finds_out_a_wrong_price_with_a_few_of_them(runtime: Runtime) -> None:
    """400 calls before any cost is known, while the unseen arm is 50 times as dear as its price says."""
    made = burst(runtime, calls=400)
    assert 1 <= pulls(made)["dear"] <= LIMIT
    for routed in made:
        settle(runtime, routed)
    runtime.flush()
    later = burst(runtime, calls=400)
    assert pulls(later)["dear"] <= LIMIT
    spent = sum(COST_USD[routed.arm] for routed in made)
    assert spent <= 400 * BUDGET_USD + LIMIT * COST_USD["dear"]


def test_limit_is_a_setting() -> None:
    made = a_runtime(max_unproven_in_flight=2)
    assert pulls(burst(made, calls=300))["dear"] <= 2
    made.close()


def test_arm_gets_calls_again_once_some_costs_are_known(runtime: Runtime) -> None:
    """A round trip later the arm is known, and its share is the mix's again."""
    COST = {"small": 0.001, "dear": 0.004}  # noqa: N806 - this time the list is right
    made = burst(runtime, calls=100)
    for routed in made:
        runtime.settled(
            routed.decision_id,
            arm=routed.arm,
            cost_usd=COST[routed.arm],
            prompt_tokens=0,
            completion_tokens=0,
            response_id=None,
        )
        runtime.record_reward(routed.decision_id, 1.0 if routed.arm == "dear" else 0.1)
    runtime.flush()
    assert pulls(made)["dear"] == LIMIT
    assert pulls(burst(runtime, calls=300))["dear"] > 2 * LIMIT


@pytest.mark.parametrize("end", ["failed", "withdrawn"])
def test_calls_that_failed_or_do_not_count_make_room(runtime: Runtime, end: str) -> None:
    for routed in burst(runtime, calls=100):
        getattr(runtime, end)(routed.decision_id)
    runtime.flush()
    assert 1 <= pulls(burst(runtime, calls=100))["dear"] <= LIMIT


def test_calls_whose_end_is_never_reported_make_room_after_an_hour() -> None:
    clock = FakeClock()
    made = a_runtime(clock)
    assert pulls(burst(made, calls=200))["dear"] == LIMIT
    assert pulls(burst(made, calls=200))["dear"] == 0
    clock.advance(LIFETIME_S + 1)
    assert 1 <= pulls(burst(made, calls=200))["dear"] <= LIMIT
    made.close()
