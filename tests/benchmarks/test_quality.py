"""The quality report's figures can be recomputed from the table, and its peers get what they are said to get."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import measure, study, summary, variants
from benchmarks.quality.__main__ import main
from benchmarks.quality.catalogue import BY_NAME, OURS, Entry, Setting, Task
from benchmarks.quality.measure import Run, figures, slope, waits
from benchmarks.quality.peer import Known, PeerPolicy, SharedLiveSet
from benchmarks.quality.simple import LagrangePacer
from benchmarks.quality.study import Cell, Place, Search
from benchmarks.quality.variants import Variant, enlarged
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.replay.oracle import Oracle, oracle
from stageroute_router.replay.result import ReplayResult
from stageroute_router.replay.run import Policy, replay, run_policy
from stageroute_router.replay.stream import Stream, draw_stream
from stageroute_router.tables.outcomes import OutcomeTable, prior_costs
from stageroute_router.tables.routerbench import synthetic_table

CALLS = 600
PEERS = [name for name in BY_NAME if not name.startswith(("paretobandit", "mabwiser", "litellm"))]


@pytest.fixture
def table() -> OutcomeTable:
    return synthetic_table(seed=3, queries=400)


@pytest.fixture
def saved(table: OutcomeTable, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.npz"
    assert table.release is not None
    assert table.input_usd_per_token is not None
    assert table.output_usd_per_token is not None
    assert table.prompt_tokens is not None
    assert table.completion_tokens is not None
    np.savez(
        path,
        reward=table.reward,
        cost=table.cost_usd,
        models=np.array(table.models),
        release=np.array(table.release),
        price_in=table.input_usd_per_token * 1e6,
        price_out=table.output_usd_per_token * 1e6,
        tok_in=table.prompt_tokens.astype(int),
        tok_out=table.completion_tokens.astype(int),
    )
    return path


# --- the command -----------------------------------------------------------------------------------------------


def test_command_reports_figures_that_anyone_can_recompute(
    table: OutcomeTable, saved: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = [str(saved), "--seeds", "2", "--calls", str(CALLS), "--fractions", "0.3", "--out", str(out)]
    words += ["--only", OURS, "thompson-lagrange", "--variants", "base", "late", "--horizons", "300", "600"]
    assert main(words) == 0
    report = json.loads((out / "report.json").read_text())
    assert {(cell["variant"], cell["policy"]) for cell in report["cells"]} == {
        (variant, policy)
        for variant in ("base", "late", "T=300", "T=600")
        for policy in (OURS, "thompson-lagrange")
    }

    (base,) = (cell for cell in report["cells"] if (cell["variant"], cell["policy"]) == ("base", OURS))
    ratios, judged = [], []
    for seed, run in enumerate(base["runs"]):
        stream = draw_stream(table, seed=seed, calls=CALLS, budget_fraction=0.3)
        result = replay(table, stream, name="", estimator=PosteriorEstimator(), seed=seed)
        optimum = oracle(table, stream)
        reward = table.reward[stream.rows, result.model]
        cost = table.cost_usd[stream.rows, result.model]
        ratios.append(reward.sum() / optimum.reward)
        allowed = stream.budget_usd * CALLS
        judged.append(cost.sum() / (allowed if stream.feasible else max(allowed, optimum.spend_usd)))
        quarters = cost.reshape(4, -1).sum(axis=1) / (stream.budget_usd * CALLS / 4)
        assert run["reward_ratio"] == pytest.approx(ratios[-1])
        assert run["spend_ratio"] == pytest.approx(cost.sum() / allowed)
        assert run["judged_spend"] == pytest.approx(judged[-1])
        assert run["worst_quarter"] == pytest.approx(quarters.max())
        assert run["regret"] == pytest.approx(optimum.reward - table.mean_reward[result.model].sum())
        assert run["regret_curve"][-1] == pytest.approx(run["regret"], abs=1e-3)
        assert run["feasible"] == stream.feasible
    assert base["figures"]["reward_ratio"] == pytest.approx(np.mean(ratios))
    assert base["figures"]["judged_spend"] == pytest.approx(max(judged))

    (line,) = (row for row in report["summaries"] if (row["variant"], row["policy"]) == ("base", OURS))
    assert line["reward_ratio"] == pytest.approx(base["figures"]["feasible_reward_ratio"])
    (steep,) = (row for row in report["slopes"] if (row["policy"], row["table"]) == (OURS, "tiny"))
    first, last = steep["regret"]
    assert steep["calls"] == [300, 600]
    assert steep["slope"] == pytest.approx(math.log(last / first) / math.log(2))

    text = (out / "report.md").read_text()
    assert f"| {OURS} |" in text
    assert f"{base['figures']['reward_ratio']:.4f}" in text
    for picture in ("reward-by-spend.png", "regret-over-calls.png", "regret-by-calls.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
        assert f"({picture})" in text


def test_a_peer_that_is_not_installed_is_skipped_and_named(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mabwiser", None)
    monkeypatch.setitem(sys.modules, "mabwiser.mab", None)
    words = [str(saved), "--seeds", "1", "--calls", "100", "--fractions", "1", "--out", str(tmp_path / "out")]
    assert main([*words, "--only", "uniform", "mabwiser-ucb1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Skipped mabwiser-ucb1" in shown
    assert "pip install -r requirements/peers.txt" in shown
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [cell["policy"] for cell in report["cells"]] == ["uniform"]
    assert set(report["skipped"]) == {"mabwiser-ucb1"}


def test_a_table_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.npz"), "--out", str(tmp_path / "out")]) == 2
    assert "there is no such file" in " ".join(capsys.readouterr().out.split())


# --- what peers get --------------------------------------------------------------------------------------------


def run(entry: Entry, table: OutcomeTable, stream: Stream, *, max_share: float = 1.0) -> ReplayResult:
    task = Task(table=table, stream=stream, seed=1, max_share=max_share)
    setting: Setting = entry.grid[0] if entry.grid else {}
    return run_policy(table, stream, entry.make(task, setting), name=entry.name, max_share=max_share)


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(
    "changes", [{}, {"reward_delay": 50, "reward_rate": 0.3}], ids=["base", "late and partial"]
)
def test_every_policy_keeps_to_the_streams_rules(
    name: str, changes: dict[str, float], table: OutcomeTable
) -> None:
    stream = draw_stream(table, seed=1, calls=CALLS, **changes)  # type: ignore[arg-type]
    result = run(BY_NAME[name], table, stream)
    assert (result.live.sum(axis=1) <= stream.max_live).all()
    assert result.live[result.stage - 1, result.model].all(), "only live models answer"
    assert (result.arrival[result.model] <= np.arange(CALLS)).all(), "no model answers before arriving"
    assert np.bincount(result.stage)[1:].tolist() == list(stream.stage_lengths)
    again = run(BY_NAME[name], table, stream)
    assert np.array_equal(result.model, again.model), "equal seeds, equal choices"


@pytest.mark.calls_litellm
def test_litellms_bandit_learns_from_rewards(table: OutcomeTable) -> None:
    free = replace(table, input_usd_per_token=None, output_usd_per_token=None)
    stream = draw_stream(free, seed=1, calls=2_000)
    result = run(BY_NAME["litellm-adaptive"], free, stream)
    assert result.reward[1_000:].mean() > free.mean_reward.mean() + 0.05


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pareto_bandit", "paretobandit"),
        ("pareto_bandit", "paretobandit-best"),
        ("mabwiser", "mabwiser-ucb1"),
        ("mabwiser", "mabwiser-thompson"),
    ],
)
@pytest.mark.parametrize("variant", ["base", "unpriced"])
def test_packages_run_where_they_are_installed(
    module: str, name: str, variant: str, table: OutcomeTable
) -> None:
    pytest.importorskip(module, reason="pip install -r requirements/peers.txt")
    table = variants.BY_NAME[variant].table(table)
    stream = draw_stream(table, seed=1, calls=CALLS, reward_delay=20, reward_rate=0.7)
    result = run(BY_NAME[name], table, stream)
    assert result.live[result.stage - 1, result.model].all()


def test_no_peer_is_told_what_the_engine_is_not(table: OutcomeTable) -> None:
    stream = draw_stream(table, seed=1, calls=CALLS)
    known = Known.of(table, stream, seed=1)
    assert known.prior_cost_usd.tolist() == list(prior_costs(table))
    assert known.priced
    bare = Known.of(replace(table, input_usd_per_token=None), stream, seed=1)
    assert not bare.priced
    assert (bare.prior_cost_usd == stream.budget_usd).all()


def known_of(table: OutcomeTable, **changes: float) -> tuple[Known, Stream]:
    stream = draw_stream(table, seed=1, calls=CALLS, **changes)  # type: ignore[arg-type]
    return Known.of(table, stream, seed=1), stream


def test_shared_live_set_keeps_the_most_used_and_gives_newcomers_a_place(table: OutcomeTable) -> None:
    known, _ = known_of(table)
    rule = SharedLiveSet(known)
    nothing = np.zeros(len(table.models))
    first = rule.plan(range(8), used=nothing, places=5)
    assert len(set(first)) == 5
    used = nothing.copy()
    used[first[:3]] = [50, 30, 20]
    used[first[3]] = 5
    second = rule.plan(range(9), used=used, places=5)
    left_out = set(range(9)) - set(first)
    assert set(first[:3]) <= set(second), "three of five places to those that answered most"
    assert set(second) - set(first[:3]) <= left_out, "the others to those that were never live"
    third = rule.plan(range(9), used=used, places=5)
    assert left_out <= set(second) | set(third), "all had their turn"


class Stubborn:
    """Always wants the first model it is offered."""

    def __init__(self) -> None:
        self.admitted: list[int] = []

    def admit(self, model: int) -> None:
        self.admitted.append(model)

    def choose(self, offered: Sequence[int], *, call: int) -> int:
        assert set(offered) <= set(self.admitted)
        return offered[0]

    def paid(self, call: int, *, model: int, cost_usd: float) -> None:
        pass

    def rewarded(self, call: int, *, model: int, reward: float) -> None:
        pass


def test_a_peer_is_not_offered_a_model_that_has_had_its_share(table: OutcomeTable) -> None:
    known, stream = known_of(table)
    policy = PeerPolicy(Stubborn(), SharedLiveSet(known), stream, models=len(table.models), max_share=0.4)
    result = run_policy(table, stream, policy, name="", max_share=0.4)
    for number in np.unique(result.stage):
        counts = np.bincount(result.model[result.stage == number])
        assert counts.max() <= math.ceil(0.4 * stream.calls_per_stage)
        assert (counts > 0).sum() == 3


def test_lagrange_pacer_makes_money_dearer_while_too_much_is_spent(table: OutcomeTable) -> None:
    known, _ = known_of(table)
    pacer = LagrangePacer(known)
    for _ in range(10):
        pacer.paid(3 * known.budget_usd)
    assert pacer.price == pytest.approx(20 / math.sqrt(known.calls))
    for _ in range(100):
        pacer.paid(0.0)
    assert pacer.price == 0.0


def test_a_setting_is_searched_among_those_that_keep_the_budget(
    table: OutcomeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend = {1: (0.90, 0.99), 2: (0.97, 1.0), 3: (0.99, 1.2), 5: (0.98, 1.001)}

    def pretend(_task: Task, _entry: Entry, setting: Setting, _optimum: Oracle) -> Run:
        reward, judged = spend[int(setting["x"])]  # type: ignore[call-overload]
        return a_run(reward_ratio=reward, judged_spend=judged)

    def never(_task: Task, _setting: Setting) -> Policy:
        raise AssertionError

    monkeypatch.setattr(study, "run_once", pretend)
    entry = Entry(name="x", make=never, note="", grid=({"x": 1}, {"x": 2}, {"x": 3}), refine=({"x": 5},))
    place = Place(variant=variants.BY_NAME["base"], table_name="", table=table, fraction=0.3, calls=CALLS)
    assert study.searched_setting(place, entry, Search(seeds=1, calls=100)) == ({"x": 5}, 4)
    dear = Entry(name="x", make=never, note="", grid=({"x": 3},))
    assert study.searched_setting(place, dear, Search(seeds=1, calls=100)) == ({"x": 3}, 1)


# --- measures --------------------------------------------------------------------------------------------------


def a_run(**changes: object) -> Run:
    run = Run(
        policy="x",
        seed=0,
        calls=100,
        feasible=True,
        reward_ratio=0.9,
        spend_ratio=1.0,
        judged_spend=1.0,
        worst_quarter=1.0,
        regret=10.0,
        optimum_reward=100.0,
        regret_curve=(0.0, 10.0),
        decisions_per_second=1.0,
        waits=(),
    )
    return replace(run, **changes)  # type: ignore[arg-type]


def test_feasible_and_infeasible_runs_are_told_apart() -> None:
    runs = [
        a_run(reward_ratio=0.9, spend_ratio=0.8, judged_spend=0.8, worst_quarter=1.1),
        a_run(reward_ratio=0.7, spend_ratio=3.0, judged_spend=1.01, worst_quarter=5.0, feasible=False),
    ]
    found = figures(runs)
    assert (found.runs, found.feasible) == (2, 1)
    assert found.reward_ratio == pytest.approx(0.8)
    assert found.feasible_reward_ratio == pytest.approx(0.9)
    assert (found.worst_spend_ratio, found.worst_quarter, found.infeasible_spend) == (0.8, 1.1, 1.01)
    assert found.judged_spend == 1.01
    assert math.isnan(figures(runs[:1]).infeasible_spend)


def test_slope_of_a_power_is_its_exponent() -> None:
    calls = (2_000, 20_000, 100_000)
    assert slope(calls, [3 * number**0.55 for number in calls]) == pytest.approx(0.55)
    assert math.isnan(slope(calls, [1.0, 2.0, -1.0]))


def test_a_newcomers_wait_ends_when_it_has_half_of_its_share() -> None:
    """Model 1 arrives at call 1,000, should get 0.8, and gets every second call from call 1,300 on."""
    calls = 3_000
    model = np.zeros(calls, dtype=np.int64)
    model[1_300::2] = 1
    optimum = Oracle(
        starts=np.array([0, 1_000]),
        lengths=np.array([1_000, 2_000]),
        shares=np.array([[1.0, 0.0], [0.2, 0.8]]),
        reward_per_call=np.array([0.5, 0.8]),
        cost_per_call_usd=np.zeros(2),
    )
    result = ReplayResult(
        name="",
        models=("old", "new"),
        row=np.zeros(calls, dtype=np.int64),
        model=model,
        stage=np.ones(calls, dtype=np.int64),
        reward=np.zeros(calls),
        cost_usd=np.zeros(calls),
        arrival=np.array([0, 1_000]),
        live=np.ones((1, 2), dtype=np.bool_),
        budget_usd=1.0,
        oracle_reward_per_call=np.ones(calls),
        oracle_spend_usd=0.0,
        feasible=True,
        elapsed_s=1.0,
    )
    (wait,) = waits(result, optimum)
    # 0.4 of 200 are 80 calls: the 80th of every second call from 1,300 on is call 1,458, the 459th after arrival.
    assert (wait.model, wait.arrived, wait.share, wait.calls, wait.reached) == ("new", 1_000, 0.8, 459, True)
    (never,) = waits(replace(result, model=np.zeros(calls, dtype=np.int64)), optimum)
    assert (never.calls, never.reached) == (2_000, False)
    assert measure.WINDOW == 200


def a_cell(policy: str, *rewards: float, judged: float = 1.0) -> Cell:
    runs = tuple(a_run(reward_ratio=reward, judged_spend=judged) for reward in rewards)
    return Cell(variant="base", table="t", fraction=0.3, policy=policy, setting={}, searched=0, runs=runs)


def test_peers_beat_the_default_by_more_than_a_margin_and_within_the_budget() -> None:
    cells = [
        a_cell(OURS, 0.98, 0.96),
        a_cell("ucb1-lagrange", 0.975, 0.97),
        a_cell("thompson-lagrange", 0.98, 0.97),
        a_cell("paper-1", 1.10, 1.10, judged=1.5),
        a_cell("epsilon-greedy", 0.99, 0.99, judged=1.01),
        a_cell("best-single", 0.99, 0.99),
    ]
    found = summary.beaten(cells)
    assert [(one.peer, one.keeps) for one in found] == [
        ("thompson-lagrange", True),
        ("epsilon-greedy", False),
    ]
    assert found[0].error == pytest.approx(np.std([0.0, 0.01], ddof=1) / math.sqrt(2))


def test_reward_without_luck_is_that_of_the_true_means() -> None:
    assert a_run(regret=3.0, optimum_reward=60.0).expected_ratio == pytest.approx(0.95)
    lucky = replace(a_cell("ucb1-lagrange", 0.99, 0.99), runs=(a_run(reward_ratio=0.99, regret=12.0),) * 2)
    (found,) = summary.beaten([a_cell(OURS, 0.97, 0.97), lucky])
    assert found.reward_ratio - found.ours == pytest.approx(0.02)
    assert found.expected_difference == pytest.approx(-0.02)


# --- variants --------------------------------------------------------------------------------------------------


def test_enlarged_table_has_noisy_copies_beside_the_originals(table: OutcomeTable) -> None:
    large = enlarged(table, models=40, seed=0)
    original = len(table.models)
    assert len(set(large.models)) == 40
    assert np.array_equal(large.reward[:, :original], table.reward)
    assert np.array_equal(large.cost_usd[:, :original], table.cost_usd)
    copies = np.arange(original, 40)
    source = copies % original
    moved = large.mean_reward[copies] - table.mean_reward[source]
    assert 0.01 < moved.std() < 0.1
    assert not np.array_equal(large.reward[:, copies], table.reward[:, source])
    dearer = large.mean_cost_usd[copies] / table.mean_cost_usd[source]
    assert 0.15 < np.log(dearer).std() < 0.5
    assert large.input_usd_per_token is not None
    assert table.input_usd_per_token is not None
    assert large.input_usd_per_token[copies] / table.input_usd_per_token[source] == pytest.approx(dearer)
    again = enlarged(table, models=40, seed=0)
    assert np.array_equal(again.reward, large.reward)
    assert not np.array_equal(enlarged(table, models=40, seed=1).reward, large.reward)


def test_variants_change_what_they_say(table: OutcomeTable) -> None:
    def stream(name: str) -> Stream:
        return variants.BY_NAME[name].stream(table, seed=0, calls=CALLS, fraction=0.3)

    assert stream("late").reward_delay == 200
    assert 0.2 < stream("partial").rewarded.mean() < 0.4
    assert (stream("short").calls, stream("long").calls) == (2_000, 100_000)
    assert (stream("live3").max_live, stream("live8").max_live) == (3, 8)
    assert variants.BY_NAME["shares"].max_share == 0.4
    assert prior_costs(variants.BY_NAME["unpriced"].table(table)) == (None,) * len(table.models)
    assert len(variants.BY_NAME["many"].table(table).models) == 200


def test_a_search_sees_fewer_calls_of_the_same_kind(table: OutcomeTable) -> None:
    variant = Variant(name="x", about="", reward_delay=7, reward_rate=0.5, max_live=3, max_share=0.5)
    place = Place(variant=variant, table_name="", table=table, fraction=0.3, calls=CALLS)
    task = place.task(0, calls=100)
    assert (task.stream.calls, task.stream.reward_delay, task.stream.max_live) == (100, 7, 3)
    assert task.max_share == 0.5
    assert place.task(0).stream.calls == CALLS
