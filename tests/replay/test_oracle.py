"""The clairvoyant optimum against enumeration, and what fixed policies come to."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from stageroute_router.errors import SettingsError
from stageroute_router.replay.oracle import best_mixtures, fixed_policies, oracle
from stageroute_router.replay.stream import draw_stream, protocol_budget
from stageroute_router.tables.load import load_table
from stageroute_router.tables.outcomes import OutcomeTable
from stageroute_router.tables.routerbench import ROUTERBENCH, synthetic_table
from stageroute_router.testing.provider.routerbench import routerbench_models

DATA = Path(os.environ.get("STAGEROUTE_DATA", "../shared/data"))


def enumerated(
    reward: np.ndarray, cost: np.ndarray, *, budget: float, places: int, share: float
) -> float | None:
    """Return the best mean reward over all live sets of at most so many places; None if none keeps the budget."""
    best: float | None = None
    for members in itertools.combinations(range(len(reward)), min(places, len(reward))):
        chosen = list(members)
        solved = linprog(
            -reward[chosen],
            A_ub=[cost[chosen]],
            b_ub=[budget],
            A_eq=[np.ones(len(chosen))],
            b_eq=[1.0],
            bounds=(0.0, share),
        )
        if solved.status == 0 and (best is None or -solved.fun > best):
            best = float(-solved.fun)
    return best


programmes = st.integers(1, 6).flatmap(
    lambda models: st.tuples(
        st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=models, max_size=models),
        st.lists(st.integers(0, 30).map(lambda n: n / 1000), min_size=models, max_size=models),
    )
)


@settings(deadline=None, max_examples=200)
@given(
    programme=programmes,
    budget=st.integers(1, 35).map(lambda n: n / 1000),
    places=st.integers(1, 6),
    share=st.sampled_from([1.0, 0.7, 0.5, 0.4, 0.34]),
)
@example(programme=([0.0, 1.0], [0.0, 0.0]), budget=0.001, places=1, share=1.0)
def test_the_optimum_is_that_of_enumeration(
    programme: tuple[list[float], list[float]], budget: float, places: int, share: float
) -> None:
    reward, cost = np.array(programme[0]), np.array(programme[1])
    share_in_effect = max(share, 1 / min(places, len(reward)))
    found = best_mixtures(
        reward,
        cost,
        arrival=np.zeros(len(reward)),
        calls=1,
        budget_usd=budget,
        max_live=places,
        max_share=share,
    )
    (mixture,) = found.shares
    assert mixture.sum() == pytest.approx(1.0)
    assert mixture.min() >= 0.0
    assert mixture.max() <= share_in_effect + 1e-9
    assert np.count_nonzero(mixture > 1e-9) <= places
    assert found.reward == pytest.approx(float(mixture @ reward))
    assert found.spend_usd == pytest.approx(float(mixture @ cost))
    best = enumerated(reward, cost, budget=budget, places=places, share=share_in_effect)
    if best is not None:
        assert found.cost_per_call_usd[0] <= budget * (1 + 1e-6)
        assert found.reward == pytest.approx(best, abs=1e-6)
    else:
        # No mixture keeps the budget: the best of the cheapest mixtures.
        cheapest = np.sort(cost)[: min(places, len(cost))] @ np.diff(
            np.minimum(np.arange(min(places, len(cost)) + 1) * share_in_effect, 1.0)
        )
        assert found.spend_usd == pytest.approx(cheapest, rel=1e-6)
        again = enumerated(reward, cost, budget=cheapest * (1 + 1e-8), places=places, share=share_in_effect)
        assert found.reward == pytest.approx(again, abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(programme=programmes, data=st.data())
def test_the_total_is_each_periods_optimum_times_its_calls(
    programme: tuple[list[float], list[float]], data: st.DataObject
) -> None:
    reward, cost = programme
    models = len(reward)
    arrival = np.array(data.draw(st.lists(st.integers(0, 25), min_size=models, max_size=models)))
    arrival[0] = 0
    found = best_mixtures(reward, cost, arrival=arrival, calls=20, budget_usd=0.01, max_live=3)
    total = 0.0
    for call in range(20):
        there = np.flatnonzero(arrival <= call)
        alone = best_mixtures(
            np.array(reward)[there],
            np.array(cost)[there],
            arrival=np.zeros(len(there)),
            calls=1,
            budget_usd=0.01,
            max_live=3,
        )
        total += alone.reward
    assert found.reward == pytest.approx(total)
    assert found.lengths.sum() == 20
    for start, shares in zip(found.starts, found.shares, strict=True):
        assert not shares[arrival > start].any()


def test_costs_of_any_size_are_solved_alike() -> None:
    """Solvers have absolute tolerances; dollars must not meet them."""
    for unit in (1e-9, 1e-3, 1e6):
        found = best_mixtures(
            [0.2, 0.9], [1 * unit, 3 * unit], arrival=[0, 0], calls=1, budget_usd=2 * unit, max_live=2
        )
        np.testing.assert_allclose(found.shares, [[0.5, 0.5]], atol=1e-7)


def test_an_optimum_needs_a_model_and_sensible_limits() -> None:
    def solve(**changes: float) -> None:
        options = {"arrival": [0], "calls": 1, "budget_usd": 1.0, "max_live": 1, "max_share": 1.0, **changes}
        best_mixtures([0.5], [0.5], **options)  # type: ignore[arg-type]

    with pytest.raises(SettingsError, match="exists at the start"):
        solve(arrival=[3])  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="at least one call"):
        solve(calls=0)
    with pytest.raises(SettingsError, match="max_live must be at least 1, not 0"):
        solve(max_live=0)
    with pytest.raises(SettingsError, match=r"max_share must lie in \(0, 1\], not 0"):
        solve(max_share=0)


def test_a_streams_optimum_lies_between_always_cheapest_and_always_best() -> None:
    table = synthetic_table(seed=1, queries=400)
    stream = draw_stream(table, seed=1, calls=1000)
    best = oracle(table, stream)
    policies = {
        policy.name: policy
        for policy in fixed_policies(
            table.mean_reward, table.mean_cost_usd, arrival=stream.arrival, calls=stream.calls
        )
    }
    assert best.spend_usd <= stream.budget_usd * stream.calls * (1 + 1e-9)
    assert policies["always-cheapest"].reward <= best.reward <= policies["always-best"].reward
    assert policies["always-cheapest"].spend_usd <= min(policy.spend_usd for policy in policies.values())


@settings(deadline=None, max_examples=60)
@given(programme=programmes, data=st.data())
def test_fixed_policies_add_up_call_by_call(
    programme: tuple[list[float], list[float]], data: st.DataObject
) -> None:
    reward, cost = programme
    models = range(len(reward))
    arrival = data.draw(st.lists(st.integers(0, 12), min_size=len(reward), max_size=len(reward)))
    arrival[0] = 0
    picks = {"always-best": 0.0, "always-cheapest": 0.0, "uniform": 0.0}
    spends = dict(picks)
    for call in range(10):
        there = [model for model in models if arrival[model] <= call]
        best = min(there, key=lambda model: (-reward[model], cost[model]))
        cheapest = min(there, key=lambda model: (cost[model], -reward[model]))
        for name, members in (("always-best", [best]), ("always-cheapest", [cheapest]), ("uniform", there)):
            picks[name] += sum(reward[model] for model in members) / len(members)
            spends[name] += sum(cost[model] for model in members) / len(members)
    for policy in fixed_policies(reward, cost, arrival=arrival, calls=10):
        assert policy.reward == pytest.approx(picks[policy.name])
        assert policy.spend_usd == pytest.approx(spends[policy.name])


def test_routerbench_has_its_published_means() -> None:
    """The simulated models cost and score what was published, and equal prompts explain their prices."""
    for published, model in zip(ROUTERBENCH, routerbench_models(), strict=True):
        assert model.mean_cost_usd == pytest.approx(published.mean_cost_usd)
        assert model.reward_mean == published.mean_reward
        assert 150 < model.prompt_tokens < 220
    table = synthetic_table(seed=0, queries=20_000)
    np.testing.assert_allclose(table.mean_cost_usd, [m.mean_cost_usd for m in ROUTERBENCH], rtol=0.02)
    np.testing.assert_allclose(table.mean_reward, [m.mean_reward for m in ROUTERBENCH], atol=0.015)
    spread = table.cost_usd.std(axis=0) / table.mean_cost_usd
    np.testing.assert_allclose(spread, 0.5, atol=0.02)
    even = synthetic_table(seed=0, queries=2000, cost_cv=0.0)
    assert (even.cost_usd.std(axis=0) / even.mean_cost_usd).max() < 0.01
    assert np.array_equal(
        synthetic_table(seed=3, queries=5).reward, synthetic_table(seed=3, queries=5).reward
    )


@pytest.mark.shared_data
@pytest.mark.skipif(not (DATA / "routerbench3.npz").is_file(), reason=f"no recorded tables in {DATA}")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("routerbench3", (0.777, 0.800, 0.879)),
        ("bfcl71", (0.889, 0.892, 0.905)),
        ("openllm_v2", (0.221, 0.444, 0.564)),
    ],
)
def test_with_all_models_there_the_optimum_is_the_known_one(name: str, expected: tuple[float, ...]) -> None:
    """The figures that were published with the tables."""
    table: OutcomeTable = load_table(DATA / f"{name}.npz")
    for fraction, value in zip((0.1, 0.3, 1.0), expected, strict=True):
        found = best_mixtures(
            table.mean_reward,
            table.mean_cost_usd,
            arrival=np.zeros(len(table.models)),
            calls=1,
            budget_usd=protocol_budget(table, fraction=fraction),
            max_live=5,
        )
        assert round(found.reward, 3) == value
