"""A replay can be recomputed by anyone, and says what it should."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stageroute_router.core.estimators.paper import PaperEstimator
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.replay.live import CONCURRENCY, GROUP, replay_live
from stageroute_router.replay.result import ReplayResult
from stageroute_router.replay.run import replay
from stageroute_router.replay.stream import Stream, draw_stream
from stageroute_router.store.opening import open_store
from stageroute_router.tables.load import load_table
from stageroute_router.tables.outcomes import OutcomeTable
from stageroute_router.tables.routerbench import synthetic_table

DATA = Path(os.environ.get("STAGEROUTE_DATA", "../shared/data"))


def recorded(seed: int = 1, *, calls: int = 1_500, **options: float) -> tuple[OutcomeTable, Stream]:
    table = synthetic_table(seed=seed, queries=1_000)
    return table, draw_stream(table, seed=seed, calls=calls, **options)  # type: ignore[arg-type]


def check_consistent(
    result: ReplayResult, table: OutcomeTable, stream: Stream, *, under_way: int = 0
) -> None:
    """Recompute every figure from the choices alone; calls ``under_way`` at once may overtake each other."""
    assert np.array_equal(result.row, stream.rows)
    reward = table.reward[result.row, result.model]
    cost = table.cost_usd[result.row, result.model]
    figures = result.to_dict()
    assert figures["reward"] == pytest.approx(reward.sum())
    assert figures["spend_ratio"] == pytest.approx(cost.sum() / (stream.budget_usd * len(reward)), rel=1e-6)
    assert figures["reward_ratio"] == pytest.approx(reward.sum() / result.oracle_reward)
    assert len(result.spend_ratio_quarters) == 4
    assert (result.live.sum(axis=1) <= stream.max_live).all()
    assert result.live[result.stage - 1, result.model].all(), "only live arms answer"
    latest = np.arange(len(reward)) + under_way
    assert (result.arrival[result.model] <= latest).all(), "no model answers before arriving"
    assert (np.maximum.accumulate(result.stage) - result.stage <= (1 if under_way else 0)).all()
    assert sum(result.calls_per_model.values()) == len(reward)


@pytest.mark.parametrize("estimator", [PosteriorEstimator(), PaperEstimator(gamma=0.1)])
def test_every_figure_follows_from_the_choices(estimator: PosteriorEstimator | PaperEstimator) -> None:
    table, stream = recorded()
    result = replay(table, stream, name="drawn", estimator=estimator, seed=1)
    check_consistent(result, table, stream)
    assert result.elapsed_s > 0
    assert len(result.live) == len(stream.stage_lengths)


def test_stream_is_feasible_only_if_the_shares_leave_enough_to_the_cheap_models() -> None:
    table, stream = recorded(budget_fraction=0.1)
    tight = float(table.mean_cost_usd[stream.arrival <= 0].min()) * 1.001
    stream = replace(stream, budget_usd=tight)
    for share, feasible in ((1.0, True), (0.4, False)):
        result = replay(table, stream, name="x", estimator=PosteriorEstimator(), seed=1, max_share=share)
        assert stream.feasible
        assert result.feasible is feasible


def test_same_seed_same_choices() -> None:
    table, stream = recorded(calls=600)
    first, again, other = (
        replay(table, stream, name="drawn", estimator=PosteriorEstimator(), seed=seed) for seed in (5, 5, 6)
    )
    assert np.array_equal(first.model, again.model)
    assert not np.array_equal(first.model, other.model)


def test_budget_is_kept_and_reward_comes_near_the_optimum() -> None:
    """The default estimator on published figures; the thresholds leave room for a short stream."""
    table, stream = recorded(calls=6_000, budget_fraction=0.3)
    result = replay(table, stream, name="drawn", estimator=PosteriorEstimator(), seed=2)
    assert result.feasible
    assert result.spend_ratio <= 1.02
    assert result.reward_ratio >= 0.95


def test_late_and_partial_rewards_still_teach() -> None:
    table, stream = recorded(calls=6_000, reward_delay=200, reward_rate=0.3)
    result = replay(table, stream, name="drawn", estimator=PosteriorEstimator(), seed=2)
    assert result.spend_ratio <= 1.03
    assert result.reward_ratio >= 0.85  # 1,800 rewards in all, and newcomers at every thousand calls


def test_no_model_gets_more_than_its_share() -> None:
    table, stream = recorded(calls=3_000)
    result = replay(table, stream, name="drawn", estimator=PosteriorEstimator(), seed=3, max_share=0.4)
    share = max(result.calls_per_model.values()) / result.calls
    assert share <= 0.4 + 5 * np.sqrt(0.24 / result.calls)


def test_choices_file_has_what_it_takes_to_recompute(tmp_path: Path) -> None:
    table, stream = recorded(calls=400)
    result = replay(table, stream, name="drawn", estimator=PosteriorEstimator(), seed=1)
    path = tmp_path / "choices.npz"
    result.save_choices(path)
    with np.load(path, allow_pickle=False) as saved:
        assert set(saved.files) == {"row", "model", "stage", "arrival", "live"}
        assert table.reward[saved["row"], saved["model"]].sum() == pytest.approx(result.reward.sum())
    json.dumps(result.to_dict())  # plain values only


@pytest.mark.calls_litellm
def test_replay_through_litellm_is_the_product_over_http(tmp_path: Path) -> None:
    """Real Router, real HTTP, newcomers on the way: what was stored adds up to what was answered and charged."""
    table = synthetic_table(seed=4, queries=150)
    stream = draw_stream(table, seed=4, calls=150, budget_usd=0.001, stages=5)
    url = f"sqlite:///{tmp_path / 'live.db'}"
    result = replay_live(table, stream, name="live", settings={}, seed=4, database_url=url)
    check_consistent(result, table, stream, under_way=CONCURRENCY)
    assert result.cost_usd == pytest.approx(table.cost_usd[result.row, result.model], rel=1e-6, abs=1e-12)
    store = open_store(url)
    stored = store.load(GROUP)
    store.close()
    assert stored.account.calls == 150
    assert stored.account.open_calls == 0
    assert stored.account.spend_usd == pytest.approx(result.cost_usd.sum())
    assert sum(cell.reward_count for cell in stored.statistics.values()) == 150
    assert sum(cell.reward_sum for cell in stored.statistics.values()) == pytest.approx(result.reward.sum())


@pytest.mark.shared_data
@pytest.mark.skipif(
    not (DATA / "routerbench3.npz").is_file(),
    reason="no recorded tables: set STAGEROUTE_DATA to the folder with routerbench3.npz",
)
def test_recorded_routerbench_queries() -> None:
    """A sanity check on recorded outcomes; the full measurement is a benchmark."""
    table = load_table(DATA / "routerbench3.npz")
    stream = draw_stream(table, seed=0, calls=5_000)
    result = replay(table, stream, name="routerbench3", estimator=PosteriorEstimator(), seed=0)
    check_consistent(result, table, stream)
    assert result.spend_ratio <= 1.02
    assert result.reward_ratio >= 0.95
