"""Statistics are a commutative monoid, and an account is told by its events."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stageroute_router.core.budget.account import Account, Charge
from stageroute_router.core.budget.pacing import paced_budget_usd, surplus_cap_usd
from stageroute_router.core.statistics import ArmStatistics

counts = st.integers(0, 10**9)
# Sixty-fourths add up exactly, so the laws can be checked with ==.
amounts = st.integers(0, 10**6).map(lambda n: n / 64)
statistics = st.builds(
    ArmStatistics,
    pulls=counts,
    failures=counts,
    reward_count=counts,
    reward_sum=amounts,
    reward_sumsq=amounts,
    cost_count=counts,
    cost_sum=amounts,
    cost_sumsq=amounts,
)


@given(a=statistics, b=statistics, c=statistics)
def test_statistics_of_workers_add_up_in_any_order(
    a: ArmStatistics, b: ArmStatistics, c: ArmStatistics
) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + ArmStatistics() == a
    assert (a + b) - b == a


def test_every_field_is_added_and_subtracted() -> None:
    """A field forgotten in ``+`` would lose observations silently."""
    ones = ArmStatistics(**{field.name: 1 for field in fields(ArmStatistics)})
    twos = ArmStatistics(**{field.name: 2 for field in fields(ArmStatistics)})
    assert ones + ones == twos
    assert twos - ones == ones


def test_rewards_and_costs_have_counts_of_their_own() -> None:
    seen = ArmStatistics()
    for cost in (0.001, 0.003):
        seen += ArmStatistics.of_pull() + ArmStatistics.of_cost(cost)
    seen += ArmStatistics.of_reward(0.5)
    assert (seen.pulls, seen.cost_count, seen.reward_count) == (2, 2, 1)
    assert seen.cost_mean_usd == pytest.approx(0.002)
    assert seen.reward_mean == 0.5
    assert ArmStatistics().reward_mean is None
    assert ArmStatistics().cost_mean_usd is None


charges = st.builds(
    Charge,
    expected_cost_usd=amounts,
    budget_usd=amounts,
    surplus_cap_usd=st.just(1e9),
    booking=st.sampled_from(["surplus", "none"]),
)


@given(
    events=st.lists(st.tuples(charges, st.sampled_from(["settle", "withdraw", "open"]), amounts), max_size=20)
)
def test_account_is_the_sum_of_its_calls(events: list[tuple[Charge, str, float]]) -> None:
    account = Account()
    for charge, _, _ in events:
        account = account.dispatched(charge)
    for charge, what, cost in events:
        if what == "settle":
            account = account.settled(charge, cost_usd=cost, prompt_tokens=2, completion_tokens=1)
        elif what == "withdraw":
            account = account.withdrawn(charge)
    settled = [(charge, cost) for charge, what, cost in events if what == "settle"]
    still_open = [charge for charge, what, _ in events if what == "open"]
    assert account.calls == len(settled) + len(still_open)
    assert account.open_calls == len(still_open)
    assert account.spend_usd == sum(cost for _, cost in settled)
    assert account.in_flight_usd == sum(charge.expected_cost_usd for charge in still_open)
    assert account.surplus_usd == sum(
        c.budget_usd - cost for c, cost in settled if c.booking == "surplus"
    ) + sum(c.budget_usd - c.expected_cost_usd for c in still_open if c.booking == "surplus")
    assert (account.token_calls, account.prompt_tokens) == (len(settled), 2 * len(settled))


def test_surplus_is_capped_so_that_old_credit_cannot_fund_a_spree() -> None:
    charge = Charge(expected_cost_usd=0.0, budget_usd=1.0, surplus_cap_usd=3.0, booking="surplus")
    account = Account()
    for _ in range(10):
        account = account.dispatched(charge).settled(charge, cost_usd=0.0)
    assert account.surplus_usd == 3.0


def test_unpaced_charges_leave_no_debt() -> None:
    charge = Charge(expected_cost_usd=5.0, budget_usd=1.0, surplus_cap_usd=3.0, booking="none")
    account = Account().dispatched(charge).settled(charge, cost_usd=9.0)
    assert account.surplus_usd == 0.0
    assert account.spend_usd == 9.0


def test_debt_is_repaid_a_tenth_of_the_budget_a_call() -> None:
    """What no live arm could have avoided is neither forgotten nor paid back all at once."""
    owed = Charge(expected_cost_usd=3.0, budget_usd=1.0, surplus_cap_usd=5.0, booking="debt")
    account = Account().dispatched(owed).settled(owed, cost_usd=1.25)
    assert (account.debt_usd, account.surplus_usd) == (0.25, 0.0)
    even = Charge(expected_cost_usd=1.0, budget_usd=1.0, surplus_cap_usd=5.0, booking="surplus")
    for debt, surplus in ((0.15, -0.1), (0.05, -0.2), (0.0, -0.25), (0.0, -0.25)):
        account = account.dispatched(even).settled(even, cost_usd=1.0)
        assert account.debt_usd == pytest.approx(debt)
        assert account.surplus_usd == pytest.approx(surplus)


@given(
    budget=st.floats(1e-6, 1.0),
    surplus=st.floats(-1e3, 1e3),
    calls_per_stage=st.integers(1, 10**6),
)
def test_paced_budget_stays_between_nothing_and_twice_the_budget(
    budget: float, surplus: float, calls_per_stage: int
) -> None:
    paced = paced_budget_usd(budget_usd=budget, surplus_usd=surplus, calls_per_stage=calls_per_stage)
    assert 0 <= paced <= 2 * budget
    assert (paced >= budget) == (surplus >= 0) or math.isclose(paced, budget)
    cap = surplus_cap_usd(budget_usd=budget, calls_per_stage=calls_per_stage)
    at_cap = paced_budget_usd(budget_usd=budget, surplus_usd=cap, calls_per_stage=calls_per_stage)
    assert math.isclose(at_cap, 1.1 * budget)
