"""What the engine relies on, of every registered estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import MappingProxyType

import numpy as np
import pytest

from stageroute_router.core.arm import Arm
from stageroute_router.core.arrays import FloatArray
from stageroute_router.core.budget.account import Account
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators import registry
from stageroute_router.core.estimators.base import Estimator, Scenarios, StagePlan
from stageroute_router.core.evidence.evidence import Evidence, SegmentEvidence
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import GroupPolicy
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.settings.parsing import parse_groups

BUDGET_USD = 0.002

# One line for each estimator: the settings to check it with besides its defaults.
CHECKED: Mapping[str, tuple[Mapping[str, float | bool], ...]] = MappingProxyType(
    {
        "paper": ({"gamma": 1.0, "paced": True}, {"gamma": 20.0}),
        "posterior": ({"paced": False},),
    }
)


def test_every_registered_estimator_is_checked() -> None:
    assert set(registry.names()) == set(CHECKED)


@pytest.fixture(
    params=[
        pytest.param((name, settings), id=f"{name}-{settings}")
        for name in registry.names()
        for settings in ({}, *CHECKED.get(name, ()))
    ]
)
def estimator(request: pytest.FixtureRequest) -> Estimator:
    name, settings = request.param
    return registry.make(name, **settings)


def some(values: object, like: int) -> FloatArray:
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (like,)).copy()


def evidence(
    *,
    rewards: object = (200, 50, 5, 0),
    mean: object = (0.8, 0.6, 0.5, 0.0),
    cost: object = (2.0, 1.0, 0.5, 1.0),
    price: object = (2.0, 1.0, 0.5, 1.0),
    max_share: object = 1.0,
    prior_reward: object = 0.0,
    prior_weight: object = 0.0,
) -> Evidence:
    """Return evidence of arms; costs and prices in budgets per call."""
    count = np.asarray(rewards, dtype=np.float64)
    arms = len(count)
    dollars = BUDGET_USD * some(cost, arms)
    return Evidence(
        pulls=count,
        reward_count=count,
        reward_sum=count * some(mean, arms),
        cost_count=count,
        cost_sum=count * dollars,
        cost_sumsq=count * dollars**2,
        prior_cost=BUDGET_USD * some(price, arms),
        prior_reward=some(prior_reward, arms),
        prior_weight=some(prior_weight, arms),
        max_share=some(max_share, arms),
    )


def in_segments(known: Evidence) -> Evidence:
    """Return the same evidence, half of it in each of two segments."""
    halves = {
        name: np.stack([0.5 * getattr(known, name)] * 2)
        for name in ("reward_count", "reward_sum", "cost_count", "cost_sum", "cost_sumsq")
    }
    nothing = np.zeros((2, len(known)))
    return replace(
        known,
        segments=SegmentEvidence(
            names=("", "sql"),
            weight=np.array([0.5, 0.5]),
            prior_reward=nothing,
            prior_weight=nothing,
            **halves,
        ),
    )


NAN = float("nan")
SITUATIONS: Mapping[str, Evidence] = MappingProxyType(
    {
        "usual": evidence(),
        "one arm": evidence(rewards=[7], mean=0.5, cost=1.0, price=1.0),
        "nothing observed": evidence(rewards=[0, 0, 0, 0]),
        "no price known": evidence(price=NAN),
        "nothing observed, no price known": evidence(rewards=[0, 0, 0, 0], price=NAN),
        "free": evidence(cost=0.0, price=0.0),
        "free beside dear": evidence(cost=(0.0, 1e4, 1e-4, 1.0), price=(0.0, 1e4, 1e-4, 1.0)),
        "all out of the budget's reach": evidence(cost=1e5, price=1e5),
        "all rewards 1": evidence(rewards=(10**6, 1, 3, 0), mean=1.0),
        "all rewards 0": evidence(rewards=(10**6, 1, 3, 0), mean=0.0),
        "priors": evidence(prior_reward=(0.0, 1.0, 0.5, 0.9), prior_weight=(100.0, 1.0, 0.0, 20.0)),
        "small shares": evidence(max_share=(0.5, 0.3, 0.3, 0.2)),
        "segments": in_segments(evidence()),
        "segments, nothing observed": in_segments(evidence(rewards=[0, 0, 0, 0])),
    }
)


@pytest.fixture(params=[pytest.param(known, id=name) for name, known in SITUATIONS.items()])
def known(request: pytest.FixtureRequest) -> Evidence:
    return request.param


def plan_of(
    estimator: Estimator,
    known: Evidence,
    *,
    max_live: int = 2,
    pinned: tuple[int, ...] = (),
    calls: int = 255,
    calls_per_stage: int = 500,
    seed: int = 0,
) -> StagePlan:
    return estimator.plan_stage(
        known,
        budget_usd=BUDGET_USD,
        max_live=max_live,
        pinned=np.array(pinned, dtype=np.intp),
        calls=calls,
        calls_per_stage=calls_per_stage,
        rng=np.random.default_rng(seed),
    )


def scenarios_of(estimator: Estimator, known: Evidence, live: list[int], *, seed: int = 0) -> Scenarios:
    bounds = estimator.bounds(known, budget_usd=BUDGET_USD)
    return estimator.scenarios(
        known, live=np.array(live, dtype=np.intp), bounds=bounds, rng=np.random.default_rng(seed)
    )


# --- the attributes ----------------------------------------------------------------------------------------


def test_an_estimator_is_an_immutable_value(estimator: Estimator) -> None:
    with pytest.raises(AttributeError):
        estimator.paced = not estimator.paced  # type: ignore[misc]
    assert isinstance(estimator.paced, bool)
    assert 0 <= estimator.cost_tolerance < 1


def test_settings_reach_the_estimator() -> None:
    for name in registry.names():
        assert registry.make(name, paced=True).paced
        assert not registry.make(name, paced=False).paced
        assert registry.make(name, gamma=None, paced=None) == registry.make(name)
        assert parse_groups({"chat": {"budget_usd_per_call": 1, "estimator": name}})[
            "chat"
        ].policy().estimator == (registry.make(name))


@pytest.mark.parametrize("calls", [0, 1, 31, 1000, 10**9])
def test_an_estimate_lasts_for_one_call_at_least(estimator: Estimator, calls: int) -> None:
    assert estimator.refresh_after(calls) >= 1


# --- bounds ------------------------------------------------------------------------------------------------


def test_bounds_are_in_their_domains(estimator: Estimator, known: Evidence) -> None:
    bounds = estimator.bounds(known, budget_usd=BUDGET_USD)
    for values in (bounds.reward_ucb, bounds.cost_lcb, bounds.expected_cost):
        assert values.shape == (len(known),)
        assert np.isfinite(values).all()
    assert (bounds.reward_ucb >= 0).all()
    assert (bounds.reward_ucb <= 1).all()
    assert (bounds.cost_lcb >= 0).all()
    assert (bounds.cost_lcb <= bounds.expected_cost * (1 + 1e-9)).all()


def test_bounds_enclose_what_was_seen_and_come_closer(estimator: Estimator) -> None:
    counts = [1, 30, 1000, 10**6]
    bounds = estimator.bounds(evidence(rewards=counts, mean=0.4, cost=1.0, price=1.0), budget_usd=BUDGET_USD)
    assert (bounds.reward_ucb >= 0.4 - 1e-9).all()
    assert (np.diff(bounds.reward_ucb) <= 1e-12).all()
    assert bounds.reward_ucb[-1] == pytest.approx(0.4, abs=0.01)
    assert bounds.expected_cost[-1] == pytest.approx(BUDGET_USD, rel=0.01)
    assert bounds.cost_lcb[-1] == pytest.approx(BUDGET_USD, rel=0.05)


def test_an_arm_without_rewards_may_be_perfect(estimator: Estimator) -> None:
    bounds = estimator.bounds(evidence(), budget_usd=BUDGET_USD)
    assert bounds.reward_ucb[3] == 1.0


def test_segments_are_those_of_the_evidence(estimator: Estimator) -> None:
    cells = estimator.bounds(SITUATIONS["segments"], budget_usd=BUDGET_USD).cells
    assert estimator.bounds(SITUATIONS["usual"], budget_usd=BUDGET_USD).cells is None
    if cells is not None:
        assert cells.names == ("", "sql")
        assert cells.expected_cost.shape == (2, 4)


# --- scenarios ---------------------------------------------------------------------------------------------


def test_scenarios_have_a_column_per_live_arm_and_values_in_their_domains(
    estimator: Estimator, known: Evidence
) -> None:
    for live in ([0], list(range(len(known)))[::-1]):
        found = scenarios_of(estimator, known, live)
        assert found.reward.shape == found.cost.shape
        assert found.reward.shape[-1] == len(live)
        assert found.reward.shape[0] >= 1
        assert np.isfinite(found.reward).all()
        assert np.isfinite(found.cost).all()
        assert (found.reward >= 0).all()
        assert (found.reward <= 1).all()
        assert (found.cost >= 0).all()
        if found.weight is None:
            assert found.reward.ndim == 2
            assert found.segments == ()
        else:
            assert known.segments is not None
            assert found.segments == known.segments.names
            assert found.reward.shape[1:] == (len(found.segments), len(live))
            assert found.weight.sum() == pytest.approx(1.0)


def test_scenarios_follow_what_was_seen(estimator: Estimator) -> None:
    sure = evidence(rewards=[10**6] * 3, mean=(0.2, 0.5, 0.9), cost=(0.5, 1.0, 2.0), price=1.0)
    found = scenarios_of(estimator, sure, [2, 0])
    assert found.reward.mean(axis=0) == pytest.approx([0.9, 0.2], abs=0.02)
    assert found.cost.mean(axis=0) / BUDGET_USD == pytest.approx([2.0, 0.5], rel=0.05)


# --- plans -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_live", [1, 2, 4, 9])
def test_a_plan_has_arms_once_each_and_no_more_than_places(
    estimator: Estimator, known: Evidence, max_live: int
) -> None:
    plan = plan_of(estimator, known, max_live=max_live)
    assert 1 <= len(plan.live) <= max_live
    assert len(set(plan.live)) == len(plan.live)
    assert set(plan.live) <= set(range(len(known)))
    assert 0 <= plan.explore_share < 1
    assert (plan.explored is None) == (plan.explore_share == 0)
    assert plan.explored is None or plan.explored in plan.live


def test_pinned_arms_are_live(estimator: Estimator, known: Evidence) -> None:
    last = len(known) - 1
    assert last in plan_of(estimator, known, max_live=1, pinned=(last,)).live
    everything = tuple(range(len(known)))
    assert set(plan_of(estimator, known, max_live=len(known), pinned=everything).live) == set(everything)


def test_newcomers_are_tried(estimator: Estimator) -> None:
    """An arm without rewards that is not dear gets a place within a few windows where there is one to spare."""
    plans = [plan_of(estimator, evidence(), max_live=3, seed=seed) for seed in range(20)]
    assert any(3 in plan.live for plan in plans)


def test_the_first_stage_uses_its_places(estimator: Estimator) -> None:
    plan = plan_of(estimator, SITUATIONS["nothing observed"], max_live=2, calls=0)
    assert len(plan.live) == 2


def test_live_arms_can_take_all_calls(estimator: Estimator) -> None:
    known = SITUATIONS["small shares"]
    plan = plan_of(estimator, known, max_live=4)
    assert known.max_share[list(plan.live)].sum() >= 1 - 1e-9


# --- randomness --------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same(estimator: Estimator, known: Evidence) -> None:
    live = list(range(len(known)))
    plans, drawn = zip(
        *(
            (plan_of(estimator, known, seed=5), scenarios_of(estimator, known, live, seed=5))
            for _ in range(2)
        ),
        strict=True,
    )
    assert plans[0] == plans[1]
    assert np.array_equal(drawn[0].reward, drawn[1].reward)
    assert np.array_equal(drawn[0].cost, drawn[1].cost)


def test_evidence_is_not_changed(estimator: Estimator, known: Evidence) -> None:
    before = [
        np.copy(value) for value in (known.reward_count, known.reward_sum, known.cost_sum, known.prior_cost)
    ]
    plan = plan_of(estimator, known)
    scenarios_of(estimator, known, list(plan.live))
    after = (known.reward_count, known.reward_sum, known.cost_sum, known.prior_cost)
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(before, after, strict=True))


# --- in the engine -----------------------------------------------------------------------------------------


def test_the_engine_routes_by_it(estimator: Estimator) -> None:
    """Arms come, are observed and leave; every choice is of a live arm, with its probability."""
    policy = GroupPolicy(budget_usd=BUDGET_USD, max_live=2, schedule=EveryCalls(20), estimator=estimator)
    engine = Engine(policy, seed=3)
    arms = [Arm(name="free", prior_cost_usd=0.0), Arm(name="dear", prior_cost_usd=1.0), Arm(name="unpriced")]
    snapshot = engine.start(arms, now=0.0)
    rng = np.random.default_rng(4)
    for call in range(80):
        if call == 40:
            snapshot = engine.with_arms(snapshot, [*arms[1:], Arm(name="new", pinned=True)], now=float(call))
        choice = engine.choose(snapshot, uniform=float(rng.random()))
        assert choice.arm in snapshot.live
        assert 0 < choice.probability <= 1
        cost = {"free": 0.0, "dear": 1.0}.get(choice.arm, 0.001)
        account = Account(calls=call + 1)
        seen = ArmStatistics(
            pulls=1,
            reward_count=1,
            reward_sum=0.5,
            reward_sumsq=0.25,
            cost_count=1,
            cost_sum=cost,
            cost_sumsq=cost * cost,
        )
        snapshot = engine.advance(snapshot, increments={choice.arm: seen}, account=account, now=float(call))
    assert snapshot.stage.number >= 4
    assert "new" in snapshot.live


# --- the registry ------------------------------------------------------------------------------------------


def test_an_installed_package_may_bring_one(monkeypatch: pytest.MonkeyPatch) -> None:
    here = "stageroute_router.core.estimators"
    points = [
        EntryPoint(name="mine", value=f"{here}.paper:PaperEstimator", group=registry.GROUP),
        EntryPoint(name="broken", value=f"{here}.paper:Missing", group=registry.GROUP),
        EntryPoint(name="absent", value="no_such_package:Estimator", group=registry.GROUP),
        EntryPoint(name="posterior", value=f"{here}.paper:PaperEstimator", group=registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: points if group == registry.GROUP else [])
    assert registry.make("mine", gamma=2.0) == registry.make("paper", gamma=2.0)
    assert registry.make("posterior") != registry.make("paper"), "ours comes first"
    assert set(registry.names()) == {*CHECKED, "absent", "broken", "mine"}
    settings = {"budget_usd_per_call": 1, "estimator": "mine", "gamma": 2}
    assert parse_groups({"chat": settings})["chat"].policy().estimator == registry.make("paper", gamma=2.0)
    for name, said in (
        ("broken", "Missing"),
        ("absent", "no_such_package"),
        ("nothing", "must be one of.* 'mine'.*'paper'"),
    ):
        with pytest.raises(ValueError, match=said):
            registry.factory_of(name)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="two estimators are named 'paper'"):
        registry.register("paper")(object)  # type: ignore[type-var]
