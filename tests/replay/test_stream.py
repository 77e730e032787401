"""Streams keep to the protocol, whatever the table and the seed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stageroute_router.errors import SettingsError
from stageroute_router.replay.stream import Stream, draw_stream, protocol_budget
from stageroute_router.tables.load import load_table
from stageroute_router.tables.outcomes import OutcomeTable
from stageroute_router.tables.routerbench import synthetic_table

DATA = Path(os.environ.get("STAGEROUTE_DATA", "../shared/data"))


def table_of(
    *, queries: int, models: int, seed: int = 0, release: tuple[str, ...] | None = None
) -> OutcomeTable:
    random = np.random.default_rng(seed)
    return OutcomeTable(
        models=tuple(f"m{index}" for index in range(models)),
        reward=random.random((queries, models)),
        cost_usd=random.random((queries, models)) * random.exponential(size=models),
        release=release,
    )


def same(one: Stream, other: Stream) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in Stream.__dataclass_fields__
    )


@settings(deadline=None, max_examples=150)
@given(
    queries=st.integers(1, 40),
    models=st.integers(1, 30),
    calls=st.integers(1, 400),
    seed=st.integers(0, 2**32),
    fraction=st.floats(0.01, 2.0),
)
def test_every_stream_keeps_the_protocol(
    queries: int, models: int, calls: int, seed: int, fraction: float
) -> None:
    table = table_of(queries=queries, models=models, seed=seed)
    stream = draw_stream(table, seed=seed, calls=calls, budget_fraction=fraction)
    # Rule 1: every pass is a permutation.
    assert stream.calls == len(stream.rows) == calls
    for start in range(0, calls, queries):
        passed = stream.rows[start : start + queries]
        assert len(set(passed.tolist())) == len(passed)
    assert stream.rows.min() >= 0
    assert stream.rows.max() < queries
    # Rule 2: the initial ones, then one by one, evenly, the last at 60 %.
    initial = min(max(-(-models // 2), 5), models)
    assert int((stream.arrival == 0).sum()) == initial
    later = sorted(stream.arrival[stream.arrival > 0].tolist())
    count = models - initial
    assert later == [max(int(0.6 * calls * number / count), 1) for number in range(1, count + 1)]
    # Rule 3.
    assert sum(stream.stage_lengths) == calls
    assert len(set(stream.stage_lengths[:-1])) <= 1
    assert stream.stage_lengths[-1] <= stream.calls_per_stage
    assert len(stream.stage_lengths) <= max(round(calls ** (1 / 3)), 1)
    assert stream.max_live == (5 if models <= 15 else 8)
    # Rules 4 and 7.
    cost = table.mean_cost_usd
    assert stream.budget_usd == max(fraction * cost[np.argmax(table.mean_reward)], 1.2 * cost.min())
    assert stream.feasible == (cost[stream.arrival == 0].min() <= stream.budget_usd)
    # Rule 5.
    assert stream.rewarded.all()
    assert stream.reward_delay == 0
    assert same(stream, draw_stream(table, seed=seed, calls=calls, budget_fraction=fraction))


def test_the_usual_stream_has_twenty_seven_stages() -> None:
    stream = draw_stream(synthetic_table(seed=0, queries=50), seed=0)
    assert (stream.calls, len(stream.stage_lengths), stream.calls_per_stage) == (20_000, 27, 741)


def test_streams_of_one_seed_differ_only_in_what_was_asked_for() -> None:
    table = synthetic_table(seed=0, queries=50)
    plain = draw_stream(table, seed=4, calls=500)
    other = draw_stream(
        table, seed=4, calls=500, budget_usd=1.0, stages=3, max_live=2, reward_delay=200, reward_rate=0.3
    )
    assert np.array_equal(plain.rows, other.rows)
    assert np.array_equal(plain.arrival, other.arrival)
    assert (other.budget_usd, other.max_live, other.reward_delay) == (1.0, 2, 200)
    assert other.stage_lengths == (167, 167, 166)
    assert 100 < other.rewarded.sum() < 200
    assert not same(plain, draw_stream(table, seed=5, calls=500))


def test_a_lower_reward_rate_withholds_more_of_the_same_rewards() -> None:
    table = synthetic_table(seed=0, queries=50)
    few, many, none = (
        draw_stream(table, seed=4, calls=500, reward_rate=rate).rewarded for rate in (0.3, 0.6, 0.0)
    )
    assert (few <= many).all()
    assert not none.any()


@given(seed=st.integers(0, 1000), dates=st.permutations([f"2024-{month:02d}-01" for month in range(1, 13)]))
def test_models_arrive_in_order_of_their_release(seed: int, dates: list[str]) -> None:
    table = table_of(queries=3, models=12, release=tuple(dates))
    arrival = draw_stream(table, seed=seed, calls=100).arrival
    later = sorted((model for model in range(12) if arrival[model]), key=lambda model: arrival[model])
    assert [dates[model] for model in later] == sorted(dates[model] for model in later)


def test_models_without_a_date_arrive_last() -> None:
    dates = tuple("" if model % 2 else "2024-01-01" for model in range(20))
    for seed in range(10):
        arrival = draw_stream(table_of(queries=3, models=20, release=dates), seed=seed, calls=100).arrival
        dated = [arrival[model] for model in range(20) if arrival[model] and dates[model]]
        undated = [arrival[model] for model in range(20) if arrival[model] and not dates[model]]
        assert max(dated, default=0) <= min(undated, default=100)


def test_the_initial_models_differ_between_seeds() -> None:
    table = table_of(queries=3, models=12)
    drawn = {tuple(draw_stream(table, seed=seed, calls=100).arrival == 0) for seed in range(20)}
    assert len(drawn) > 10


def test_of_equally_good_models_the_cheaper_sets_the_budget() -> None:
    table = OutcomeTable(
        models=("dear", "fair", "cheap"),
        reward=np.array([[0.9, 0.9, 0.1]]),
        cost_usd=np.array([[0.4, 0.2, 0.01]]),
    )
    assert protocol_budget(table, fraction=0.5) == 0.1
    assert protocol_budget(table, fraction=0.01) == pytest.approx(0.012)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "seed must be 0 or more, not -1"),
        ({"calls": 0}, "calls must be at least 1, not 0"),
        ({"budget_fraction": 0.0}, r"budget_fraction must be above 0, not 0.0"),
        ({"budget_fraction": float("nan")}, "budget_fraction must be above 0, not nan"),
        ({"budget_usd": 0.0}, "budget_usd must be above 0"),
        ({"budget_usd": float("inf")}, "budget_usd must be above 0"),
        ({"stages": 0}, "stages must be from 1 to the number of calls, 100, not 0"),
        ({"stages": 101}, "stages must be from 1 to the number of calls, 100, not 101"),
        ({"max_live": 0}, "max_live must be at least 1"),
        ({"reward_delay": -1}, "reward_delay must be 0 or more"),
        ({"reward_rate": 1.1}, r"reward_rate must be in \[0, 1\], not 1.1"),
    ],
)
def test_an_impossible_stream_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        draw_stream(table_of(queries=3, models=3), **{"seed": 0, "calls": 100, **options})


@pytest.mark.shared_data
@pytest.mark.skipif(not (DATA / "openllm_v2.npz").is_file(), reason=f"no recorded tables in {DATA}")
def test_about_two_streams_in_three_of_openllm_cannot_keep_the_small_budget() -> None:
    table = load_table(DATA / "openllm_v2.npz")
    feasible = [draw_stream(table, seed=seed, calls=100, budget_fraction=0.1).feasible for seed in range(60)]
    assert 0.2 < np.mean(feasible) < 0.65
