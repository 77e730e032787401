"""Rate limits bound shares by the traffic observed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stageroute_router.core.arm import Arm
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.base import Estimator
from stageroute_router.core.estimators.paper import PaperEstimator
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.routing.shares import (
    LEAST_SEEN_S,
    MARGIN_SD,
    MEMORY_S,
    ShareLimit,
    Traffic,
    bearing_all_calls,
    planned_calls,
    share_limit,
)
from stageroute_router.core.schedule import EveryCalls, Schedule
from stageroute_router.core.snapshot import GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.reports.describe import describe

RATES = st.none() | st.floats(0, 1e6)
SHARES = st.floats(0.01, 1)
RULES = [PosteriorEstimator(), PaperEstimator(gamma=0.1)]

# --- the share ---------------------------------------------------------------------------------------------


@given(
    max_share=SHARES,
    requests=RATES,
    tokens=RATES,
    calls=st.floats(1e-3, 1e6),
    tokens_per_call=st.just(0.0) | st.floats(1e-3, 1e5),
)
def test_share_holds_every_limit_and_is_the_largest_that_does(
    max_share: float, requests: float | None, tokens: float | None, calls: float, tokens_per_call: float
) -> None:
    arm = Arm(name="a", max_share=max_share, requests_per_minute=requests, tokens_per_minute=tokens)
    limit = share_limit(arm, calls_per_minute=calls, tokens_per_call=tokens_per_call)
    assert 0 < limit.share <= max_share
    if limit.share > 1e-6:
        if requests is not None:
            assert limit.share * calls <= planned_calls(requests) * (1 + 1e-9)
        if tokens is not None and tokens_per_call > 0:
            assert limit.share * calls <= planned_calls(tokens / tokens_per_call) * (1 + 1e-9)
    bound = {"max_share": max_share, None: 1.0}
    if limit.reason == "rpm" and requests is not None:
        bound["rpm"] = planned_calls(requests) / calls
    if limit.reason == "tpm" and tokens is not None:
        bound["tpm"] = planned_calls(tokens / tokens_per_call) / calls
    assert math.isclose(limit.share, max(bound[limit.reason], 1e-6), rel_tol=1e-9)


@given(limit=st.floats(0, 1e9))
def test_planned_calls_leave_room_for_their_own_noise(limit: float) -> None:
    calls = planned_calls(limit)
    assert 0 <= calls <= limit
    assert calls + MARGIN_SD * math.sqrt(calls) == pytest.approx(limit, rel=1e-6, abs=1e-9)


@given(
    requests=RATES,
    tokens=RATES,
    calls=st.floats(1e-3, 1e6),
    more=st.floats(1, 100),
    tokens_per_call=st.just(0.0) | st.floats(1e-3, 1e5),
)
def test_more_traffic_never_widens_a_share(
    requests: float | None, tokens: float | None, calls: float, more: float, tokens_per_call: float
) -> None:
    arm = Arm(name="a", requests_per_minute=requests, tokens_per_minute=tokens)
    little = share_limit(arm, calls_per_minute=calls, tokens_per_call=tokens_per_call)
    much = share_limit(arm, calls_per_minute=calls * more, tokens_per_call=tokens_per_call)
    assert much.share <= little.share


@given(max_share=SHARES, requests=RATES, tokens=RATES)
def test_rate_limits_have_no_effect_while_traffic_is_unknown(
    max_share: float, requests: float | None, tokens: float | None
) -> None:
    arm = Arm(name="a", max_share=max_share, requests_per_minute=requests, tokens_per_minute=tokens)
    limit = share_limit(arm, calls_per_minute=Traffic().calls_per_minute, tokens_per_call=500)
    assert limit == ShareLimit(max_share, "max_share" if max_share < 1 else None)


# --- the traffic -------------------------------------------------------------------------------------------


@given(
    per_batch=st.integers(1, 50),
    seconds=st.floats(0.05, 5),
    batches=st.integers(200, 400),
)
def test_steady_traffic_is_estimated_from_its_first_seconds_on(
    per_batch: int, seconds: float, batches: int
) -> None:
    """Within the calls of one batch, from when it has been seen for ten seconds."""
    traffic = Traffic()
    true = per_batch / seconds * 60
    for batch in range(batches):
        traffic = traffic.after(per_batch, now=1e9 + batch * seconds)
        if batch * seconds >= LEAST_SEEN_S:
            assert traffic.calls_per_minute == pytest.approx(true, rel=seconds / LEAST_SEEN_S + 0.05)


def test_burst_is_no_traffic_of_millions() -> None:
    traffic = Traffic().after(1, now=0.0).after(99, now=0.001)
    assert traffic.calls_per_minute is not None
    assert traffic.calls_per_minute < 60 / LEAST_SEEN_S * 100 * 1.1


def test_traffic_of_an_hour_ago_is_forgotten() -> None:
    traffic = Traffic().after(1_000, now=0.0).after(1, now=3_600.0)
    assert traffic.calls_per_minute == pytest.approx(60 / MEMORY_S)


@given(events=st.lists(st.tuples(st.integers(-3, 30), st.floats(-1e4, 1e4)), max_size=30))
def test_estimate_is_finite_whatever_the_clock_does(events: list[tuple[int, float]]) -> None:
    """Clocks are set back, and withdrawn calls are taken back."""
    traffic = Traffic()
    now = 1e9
    for calls, elapsed in events:
        now += elapsed
        traffic = traffic.after(calls, now=now)
    rate = traffic.calls_per_minute
    assert rate is None or (math.isfinite(rate) and rate >= 0)


# --- live sets that bear all calls -------------------------------------------------------------------------


@given(data=st.data(), shares=st.lists(st.sampled_from([0.1, 0.3, 0.5, 1.0]), min_size=1, max_size=8))
def test_live_set_bears_all_calls_where_one_of_its_size_can(data: st.DataObject, shares: list[float]) -> None:
    order = data.draw(st.permutations(range(len(shares))))
    live = tuple(order[: data.draw(st.integers(1, len(shares)))])
    kept = set(data.draw(st.lists(st.sampled_from(live), max_size=2)))
    chosen = bearing_all_calls(live, max_share=shares, kept=kept)
    assert len(chosen) == len(set(chosen)) == len(live)
    assert kept <= set(chosen)
    if sum(shares[i] for i in live) >= 1:
        assert chosen == live
    others = sorted((shares[i] for i in range(len(shares)) if i not in kept), reverse=True)
    possible = sum(shares[i] for i in kept) + sum(others[: len(live) - len(kept)])
    assert sum(shares[i] for i in chosen) >= min(possible, 1) - 1e-9


# --- the engine --------------------------------------------------------------------------------------------

BUDGET_USD = 0.01
REWARD = {"best": 0.9, "next": 0.7, "poor": 0.3}


def an_engine(estimator: Estimator, *, max_live: int = 3, schedule: Schedule | None = None) -> Engine:
    policy = GroupPolicy(
        budget_usd=BUDGET_USD, max_live=max_live, schedule=schedule or EveryCalls(500), estimator=estimator
    )
    return Engine(policy, seed=2)


def the_arms(**limits: float) -> list[Arm]:
    arms = [Arm(name=name, prior_cost_usd=0.001) for name in REWARD]
    return [replace(arm, **limits) if arm.name == "best" else arm for arm in arms]


def observed(reward: float) -> ArmStatistics:
    return ArmStatistics(
        pulls=300, reward_count=300, reward_sum=300 * reward, cost_count=300, cost_sum=0.3, cost_sumsq=3e-4
    )


def minutes_of(
    engine: Engine, arms: list[Arm], *, per_minute: int, minutes: int, tokens: int = 0
) -> tuple[Snapshot, list[Counter[str]]]:
    """Make evenly spaced calls by a simulated clock; return the calls of each minute, by arm."""
    rng = np.random.default_rng(3)
    known = {name: observed(reward) for name, reward in REWARD.items()}
    snapshot = engine.start(arms, now=0.0, statistics=known)
    counts = []
    for minute in range(minutes):
        counts.append(Counter[str]())
        for call in range(per_minute):
            choice = engine.choose(snapshot, uniform=rng.random())
            counts[-1][choice.arm] += 1
            account = snapshot.account.dispatched(choice.charge).settled(
                choice.charge, cost_usd=0.001, prompt_tokens=tokens
            )
            seen = (
                ArmStatistics.of_pull()
                + ArmStatistics.of_cost(0.001)
                + ArmStatistics.of_reward(float(rng.random() < REWARD[choice.arm]))
            )
            now = 60.0 * (minute + call / per_minute)
            snapshot = engine.advance(snapshot, increments={choice.arm: seen}, account=account, now=now)
    return snapshot, counts


def test_rate_limit_that_would_be_hit_is_not() -> None:
    """300 calls a minute, of which the best arm takes 100: it gets nearly those, the next best the rest."""
    _, free = minutes_of(an_engine(PosteriorEstimator()), the_arms(), per_minute=300, minutes=2)
    assert free[1]["best"] > 250
    snapshot, limited = minutes_of(
        an_engine(PosteriorEstimator()), the_arms(requests_per_minute=100.0), per_minute=300, minutes=6
    )
    for minute in limited[1:]:
        assert 60 <= minute["best"] <= 100
        assert minute["next"] >= 180
    status = describe("chat", policy=an_engine(PosteriorEstimator()).policy, snapshot=snapshot)
    best = next(arm for arm in status.arms if arm.name == "best")
    assert best.share_limited_by == "rpm"
    assert best.share_limit == pytest.approx(81.9 / 300, rel=0.02)
    assert best.max_share == 1.0
    assert status.calls_per_minute == pytest.approx(300, rel=0.02)


def test_token_limit_that_would_be_hit_is_not() -> None:
    """200 calls a minute of 1,000 tokens each, of which the best arm takes 100,000 a minute."""
    _, limited = minutes_of(
        an_engine(PosteriorEstimator()),
        the_arms(tokens_per_minute=100_000.0),
        per_minute=200,
        minutes=4,
        tokens=1_000,
    )
    for minute in limited[1:]:
        assert 60 <= minute["best"] <= 100


@pytest.mark.parametrize("estimator", RULES)
def test_rate_limit_far_above_the_traffic_changes_nothing(estimator: Estimator) -> None:
    outcomes = [
        minutes_of(an_engine(estimator), the_arms(**limits), per_minute=60, minutes=2)[1]
        for limits in ({}, {"requests_per_minute": 1_000.0, "tokens_per_minute": 1e6})
    ]
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("estimator", RULES)
def test_window_keeps_arms_live_that_bear_the_traffic(estimator: Estimator) -> None:
    """One place: the best arm could serve a third of the calls, so the next best is kept."""
    engine = an_engine(estimator, max_live=1, schedule=EveryCalls(50))
    snapshot, counts = minutes_of(engine, the_arms(requests_per_minute=100.0), per_minute=300, minutes=2)
    assert snapshot.live != ("best",)
    assert snapshot.mix.feasible
    assert counts[1]["best"] == 0


def test_limits_that_are_too_small_for_the_traffic_share_it_in_proportion_and_say_so() -> None:
    arms = [replace(arm, requests_per_minute=30.0 * (i + 1)) for i, arm in enumerate(the_arms())]
    snapshot, _ = minutes_of(an_engine(PosteriorEstimator()), arms, per_minute=600, minutes=2)
    assert dict(zip(snapshot.live, snapshot.mix.probabilities, strict=True)) == pytest.approx(
        {"best": 0.149, "next": 0.331, "poor": 0.520}, abs=1e-3
    )
    assert not snapshot.mix.feasible
