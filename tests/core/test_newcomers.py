"""How many unobserved arms a stage may try."""

from __future__ import annotations

import pytest

from stageroute_router.core.arm import Arm
from stageroute_router.core.budget.account import Account
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics

KNOWN = ArmStatistics(
    pulls=100, reward_count=100, reward_sum=80, reward_sumsq=80, cost_count=100, cost_sum=0.1, cost_sumsq=1e-4
)


def first_stage(
    *, known: int, unseen: int, calls: int, max_share: float = 1.0, pinned: int = 0, seed: int = 0
) -> Snapshot:
    """Plan a stage of so many calls, with ten places."""
    policy = GroupPolicy(
        budget_usd=0.01, max_live=10, schedule=EveryCalls(calls), estimator=PosteriorEstimator()
    )
    names = [f"known{i}" for i in range(known)] + [f"unseen{i}" for i in range(unseen)]
    arms = [
        Arm(
            name=name, prior_cost_usd=0.001, max_share=max_share, pinned=name in names[known : known + pinned]
        )
        for name in names
    ]
    statistics = dict.fromkeys(names[:known], KNOWN)
    return Engine(policy, seed=seed).start(
        arms, now=0.0, statistics=statistics, account=Account(calls=100 * known)
    )


def unseen_in(snapshot: Snapshot) -> int:
    return sum(name.startswith("unseen") for name in snapshot.live)


@pytest.mark.parametrize(("calls", "most"), [(20, 1), (150, 1), (299, 2), (500, 5), (5_000, 9)])
@pytest.mark.parametrize("seed", range(3))
def test_a_stage_tries_one_newcomer_per_hundred_calls_and_leaves_other_places_free(
    calls: int, most: int, seed: int
) -> None:
    snapshot = first_stage(known=1, unseen=30, calls=calls, seed=seed)
    assert unseen_in(snapshot) == most
    assert len(snapshot.live) == 1 + most


def test_places_are_filled_where_nothing_is_known_at_all() -> None:
    assert unseen_in(first_stage(known=0, unseen=30, calls=20)) == 10


def test_observed_arms_take_the_places_that_newcomers_may_not() -> None:
    snapshot = first_stage(known=12, unseen=12, calls=100)
    assert unseen_in(snapshot) <= 1
    assert len(snapshot.live) == 10


def test_pinned_newcomers_are_live_besides() -> None:
    assert unseen_in(first_stage(known=1, unseen=30, calls=100, pinned=3)) == 4


def test_newcomers_fill_up_where_the_others_shares_cannot_bear_all_calls() -> None:
    """One observed arm and one newcomer, of half the calls each, can; of three tenths each, they cannot."""
    enough = first_stage(known=1, unseen=30, calls=100, max_share=0.5)
    assert unseen_in(enough) == 1
    short = first_stage(known=1, unseen=30, calls=100, max_share=0.3)
    assert len(short.live) == 10
    assert short.mix.feasible
