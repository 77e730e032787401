"""Availability: learned and forgotten within a handful of calls, and exact in what calls are sampled from."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stageroute_router.core.arm import Arm
from stageroute_router.core.availability import (
    AVAILABLE,
    FOLLOW_UP_SHARE,
    JUMP_PER_CALL,
    JUMPS,
    LAST_PROBE_SHARES,
    LEVELS,
    PROBE_SHARE,
    UNAVAILABLE,
    Availability,
    Belief,
    rounded,
)
from stageroute_router.core.budget.account import Account
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.schedule import EveryCalls, EverySeconds
from stageroute_router.core.snapshot import GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.groups.availability import PROBE_PAUSE_S, Answering

NAMES = ("best", "second", "third")
REWARDS = {"best": 0.9, "second": 0.7, "third": 0.5}


def engine(*, max_live: int = 3) -> Engine:
    policy = GroupPolicy(
        budget_usd=0.01, max_live=max_live, schedule=EveryCalls(100_000), estimator=PosteriorEstimator()
    )
    return Engine(policy, seed=0)


def known(made: Engine, *, prior_cost: float = 0.001) -> Snapshot:
    """Return a snapshot in which a thousand rewards say which arm is best."""
    statistics = {
        name: ArmStatistics(
            pulls=1000,
            reward_count=1000,
            reward_sum=1000 * reward,
            reward_sumsq=1000 * reward,
            cost_count=1000,
            cost_sum=1.0,
            cost_sumsq=0.001,
        )
        for name, reward in REWARDS.items()
    }
    arms = [Arm(name=name, prior_cost_usd=prior_cost) for name in NAMES]
    return made.start(arms, now=0.0, statistics=statistics)


def shares(
    made: Engine, snapshot: Snapshot, availability: Availability | None, **asked: object
) -> dict[str, float]:
    """Return how often each arm is chosen, over a fine grid of uniform numbers."""
    count = 2_000
    chosen = [
        made.choose(snapshot, uniform=(i + 0.5) / count, availability=availability, **asked).arm  # type: ignore[arg-type]
        for i in range(count)
    ]
    return {name: chosen.count(name) / count for name in NAMES}


# --- what is believed --------------------------------------------------------------------------------------


def after(outcomes: str, belief: Belief | None = None, *, step_s: float = 0.1) -> Belief:
    """Return the belief after answers (``a``) and failures (``f``)."""
    found = belief or Belief()
    for number, outcome in enumerate(outcomes):
        found = found.after(answered=outcome == "a", now=1.0 + number * step_s)
    return found


def test_one_failure_in_a_thousand_answers_leaves_an_arm_most_of_its_worth() -> None:
    assert after("a" * 1000 + "f").chance > 0.75
    assert after("a" * 1000 + "faaaa").chance > AVAILABLE


def test_three_failures_in_a_row_are_enough_to_leave() -> None:
    assert after("a" * 1000 + "ff").chance < 0.3
    assert after("a" * 1000 + "fff").chance < UNAVAILABLE


@pytest.mark.parametrize("failed", [10, 30, 1000])
def test_three_answers_in_a_row_are_enough_to_come_back(failed: int) -> None:
    assert after("a" * 1000 + "f" * failed + "aaa").chance > AVAILABLE


def test_an_arm_that_answers_half_of_its_calls_is_worth_about_half() -> None:
    draws = random.Random(3)
    beliefs = [Belief()]
    for _ in range(2000):
        beliefs.append(beliefs[-1].after(answered=draws.random() < 0.5, now=0.0))
    chances = [one.chance for one in beliefs[100:]]
    assert abs(float(np.mean(chances)) - 0.5) < 0.06


def test_what_is_believed_of_an_outage_fades_within_minutes() -> None:
    gone = after("f" * 30)
    assert gone.at_time(gone.at + 1.0).chance < UNAVAILABLE
    assert gone.at_time(gone.at + 600.0).chance > 0.7


def test_a_clock_that_is_set_back_changes_nothing() -> None:
    gone = after("f" * 30)
    assert gone.at_time(gone.at - 1e6).chance == pytest.approx(gone.chance)
    assert gone.after(answered=False, now=gone.at - 1e6).at == gone.at


@given(st.lists(st.booleans(), min_size=1, max_size=7))
@settings(deadline=None, max_examples=50)
def test_the_filter_is_bayes_rule(outcomes: list[bool]) -> None:
    """Oracle: the joint probability of every path through the levels, one by one."""
    start = Belief()
    states = range(len(LEVELS))
    joint = np.array(start.weights)
    stay = 1 - JUMP_PER_CALL
    step = np.array(
        [[stay * (here == there) + (1 - stay) * JUMPS[there] for there in states] for here in states]
    )
    step /= step.sum(axis=1, keepdims=True)
    for answered in outcomes:
        likely = np.array([level if answered else 1 - level for level in LEVELS])
        joint = np.array(
            [sum(joint[here] * step[here, there] for here in states) * likely[there] for there in states]
        )
    found = start
    for answered in outcomes:
        found = found.after(answered=answered, now=0.0)
    assert found.weights == pytest.approx(tuple(joint / joint.sum()), abs=1e-9)


def test_the_tables_of_the_model_are_distributions() -> None:
    assert sum(JUMPS) == pytest.approx(1.0)
    assert sum(Belief().weights) == pytest.approx(1.0, abs=1e-4)
    assert len(JUMPS) == len(LEVELS) == len(Belief().weights)


@given(st.floats(0.0, 1.0))
def test_rounded_chances_are_near_and_never_nothing(chance: float) -> None:
    found = rounded(chance)
    assert 0 < found <= 1
    if UNAVAILABLE <= chance < AVAILABLE:
        assert abs(found - chance) <= 0.0251
    assert (found == 1) == (chance >= AVAILABLE or found == 1.0)


# --- what calls are sampled from ---------------------------------------------------------------------------


def test_where_all_answer_choices_are_those_of_before() -> None:
    made = engine()
    snapshot = known(made)
    uniforms = np.random.default_rng(1).random(2_000)
    before = [made.choose(snapshot, uniform=u).arm for u in uniforms]
    assert [made.choose(snapshot, uniform=u, availability=None).arm for u in uniforms] == before
    assert [made.choose(snapshot, uniform=u, availability=Availability()).arm for u in uniforms] == before


def test_an_arm_that_does_not_answer_gets_nothing_while_others_do() -> None:
    made = engine()
    snapshot = known(made)
    found = shares(made, snapshot, Availability(chance={"best": 0.01}))
    assert found["best"] == 0
    assert found["second"] > 0.9


def test_where_no_arm_answers_calls_go_as_if_all_did() -> None:
    made = engine()
    snapshot = known(made)
    down = Availability(chance=dict.fromkeys(NAMES, 0.01))
    assert shares(made, snapshot, down) == shares(made, snapshot, None)


@pytest.mark.parametrize(("chance", "expected"), [(0.9, "best"), (0.5, "second")])
def test_an_arm_is_worth_its_reward_times_its_chance_of_an_answer(chance: float, expected: str) -> None:
    made = engine()
    found = shares(made, known(made), Availability(chance={"best": chance}))
    assert found[expected] > 0.9


@pytest.mark.parametrize(
    ("share", "price"), list(product([PROBE_SHARE, 0.005, FOLLOW_UP_SHARE], [None, 1.0]))
)
def test_probes_get_their_share_and_the_recorded_probability_says_so(
    share: float, price: float | None
) -> None:
    made = engine()
    snapshot = known(made)
    availability = Availability(chance={"best": 0.01}, probes=("best",), probe_share=share)
    found = shares(made, snapshot, availability, price=price)
    assert found["best"] == pytest.approx(share, abs=6e-4)
    choice = made.choose(snapshot, uniform=1.0 - 1e-12, availability=availability, price=price)
    recorded = dict(zip(choice.used.among, choice.used.mix.probabilities, strict=True))
    assert recorded["best"] == pytest.approx(share)
    assert {name: recorded.get(name, 0.0) for name in NAMES} == pytest.approx(found, abs=1e-3)


def test_calls_go_outside_the_live_set_where_no_live_arm_answers() -> None:
    made = engine(max_live=1)
    snapshot = known(made)
    assert snapshot.live == ("best",)
    choice = made.choose(snapshot, uniform=0.5, availability=Availability(chance={"best": 0.01}))
    assert choice.outside_live_set
    assert choice.arm in ("second", "third")
    assert choice.used.unavailable == ("best",)


def test_a_window_gives_no_place_to_arms_that_do_not_answer() -> None:
    made = engine(max_live=1)
    snapshot = made.open_stage(known(made), reason="outage", now=1.0, without={"best"})
    assert snapshot.live == ("second",)
    assert snapshot.stage.reason == "outage"
    assert made.open_stage(snapshot, reason="recovery", now=2.0).live == ("best",)


def test_a_stage_that_an_outage_cut_short_does_not_make_the_next_ones_short() -> None:
    policy = GroupPolicy(
        budget_usd=0.01, max_live=1, schedule=EverySeconds(3600.0), estimator=PosteriorEstimator()
    )
    made = Engine(policy, seed=0)
    first = known(made)
    assert first.stage.calls_per_stage == 500
    account = Account(calls=3)
    later = made.advance(first, increments={}, account=account, now=1.0)
    after = made.open_stage(later, reason="outage", now=2.0, without={"best"})
    assert after.stage.calls_per_stage == 500
    assert made.open_stage(later, reason="manual", now=2.0).stage.calls_per_stage == 3


def test_a_window_without_a_replacement_keeps_the_arms() -> None:
    made = engine(max_live=1)
    assert made.open_stage(known(made), reason="outage", now=1.0, without=set(NAMES)).live == ("best",)


# --- what a process keeps of it ----------------------------------------------------------------------------


def down(*arms: str, replicas: int = 1, failures: int = 5) -> Answering:
    """Return what is known after failures of all replicas of some arms."""
    answering = Answering()
    answering.know({name: [f"{name}-{n}" for n in range(replicas)] for name in NAMES})
    for name, replica in product(arms, range(replicas)):
        for moment in range(failures):
            answering.failed(name, deployment=f"{name}-{replica}", kind="Timeout", now=float(moment))
    return answering


def ask(answering: Answering, *, now: float = 100.0, has_retry: bool = True) -> Availability | None:
    eligible = {name: [f"{name}-0"] for name in NAMES}
    return answering.available(eligible, live=NAMES, has_retry=has_retry, now=now)


def test_an_arm_answers_as_long_as_one_of_its_replicas_does() -> None:
    answering = Answering()
    answering.know({"best": ["eu", "us"]})
    for moment in range(9):
        answering.failed("best", deployment="eu", kind="Timeout", now=float(moment))
    assert answering.available({"best": ["eu", "us"]}, live=NAMES, has_retry=True, now=9.0) is None
    assert answering.outages(now=9.0) == []
    weights = answering.weights(["eu", "us"], has_retry=False, now=9.0)
    assert weights == [LAST_PROBE_SHARES[0][1], 1.0]
    only_eu = answering.available({"best": ["eu"], "second": ["s"]}, live=NAMES, has_retry=True, now=9.0)
    assert only_eu is not None
    assert only_eu.chance["best"] < UNAVAILABLE


def test_probes_wait_for_each_other_and_pause_after_failures() -> None:
    answering = down("best")
    first = ask(answering)
    assert first is not None
    assert first.probes == ("best",)
    answering.routed("best", decision_id="d1", now=100.0)
    second = ask(answering)
    assert second is not None
    assert second.probes == ()
    answering.failed("best", deployment="best-0", kind="Timeout", now=101.0)
    paused = ask(answering, now=101.0 + PROBE_PAUSE_S / 2)
    assert paused is not None
    assert paused.probes == ()
    later = ask(answering, now=101.0 + PROBE_PAUSE_S)
    assert later is not None
    assert later.probes == ("best",)


def test_a_probe_that_ends_without_telling_lets_others_be_made() -> None:
    answering = down("best")
    answering.routed("best", decision_id="d1", now=100.0)
    answering.ended("d1")
    found = ask(answering)
    assert found is not None
    assert found.probes == ("best",)


def test_calls_without_a_retry_probe_seldom_and_the_longer_ago_the_sooner() -> None:
    answering = down("best")
    shares = []
    for _ in range(200):
        found = ask(answering, has_retry=False)
        assert found is not None
        shares.append(found.probe_share)
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == LAST_PROBE_SHARES[-1][1] < PROBE_SHARE
    with_retry = ask(answering)
    assert with_retry is not None
    assert with_retry.probe_share == PROBE_SHARE


def test_a_surprising_answer_is_followed_up_at_once() -> None:
    answering = down("best", "second", failures=20)
    answering.answered("best-0", now=20.0)
    found = ask(answering, has_retry=False, now=20.0)
    assert found is not None
    assert (found.probes, found.probe_share) == (("best",), FOLLOW_UP_SHARE)
    answering.failed("best", deployment="best-0", kind="Timeout", now=21.0)
    found = ask(answering, now=22.0)
    assert found is not None
    assert (found.probes, found.probe_share) == (("best", "second"), PROBE_SHARE)


def test_what_answers_again_is_forgotten() -> None:
    answering = down("best")
    for moment in range(20):
        answering.answered("best-0", now=10.0 + moment)
    assert not answering.tracked
    assert ask(answering) is None


def test_deployments_that_are_gone_are_forgotten() -> None:
    answering = down("best")
    answering.know({"second": ["second-0"]})
    assert not answering.tracked


def test_an_outage_tells_since_when_and_how_often_and_how() -> None:
    (outage,) = down("best", failures=7).outages(now=7.0)
    assert (outage.arm, outage.since, outage.failures, outage.last_failure) == ("best", 0.0, 7, "Timeout")
    assert outage.chance < UNAVAILABLE
