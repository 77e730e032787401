"""Learning by segment: what cells lean on, and what the engine makes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stageroute_router.core.arm import Arm, SegmentPrior
from stageroute_router.core.budget.account import Account
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.base import Scenarios
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.evidence.cell_sums import sum_cells
from stageroute_router.core.evidence.evidence import Evidence, ExpectedTokens, gather
from stageroute_router.core.evidence.shrinkage import CellBeliefs, believe
from stageroute_router.core.mix import priced_mix
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics, Cell

ARMS = [
    Arm(name="cheap", prior_cost_usd=0.001),
    Arm(name="words", prior_cost_usd=0.002),
    Arm(name="code", prior_cost_usd=0.002),
]
REWARDS = {
    ("text", "cheap"): 0.4,
    ("text", "words"): 0.9,
    ("text", "code"): 0.3,
    ("sql", "cheap"): 0.4,
    ("sql", "words"): 0.3,
    ("sql", "code"): 0.9,
}


def totals(cells: dict[Cell, ArmStatistics]) -> dict[str, ArmStatistics]:
    by_arm: dict[str, ArmStatistics] = {}
    for (_, arm), seen in cells.items():
        by_arm[arm] = by_arm.get(arm, ArmStatistics()) + seen
    return by_arm


def some_calls(count: int, *, reward: float, cost_usd: float = 0.001) -> ArmStatistics:
    return ArmStatistics(
        pulls=count,
        reward_count=count,
        reward_sum=count * reward,
        reward_sumsq=count * reward,
        cost_count=count,
        cost_sum=count * cost_usd,
        cost_sumsq=count * cost_usd**2,
    )


def evidence_of(cells: dict[Cell, ArmStatistics], arms: list[Arm] | None = None) -> Evidence:
    arms = ARMS if arms is None else arms
    return gather(
        arms,
        statistics=totals(cells),
        account=Account(),
        expected_tokens=ExpectedTokens(),
        max_share=[1.0] * len(arms),
        cells=sum_cells([arm.name for arm in arms], cells),
    )


def beliefs(
    cells: dict[Cell, ArmStatistics], *, arm_cost: float = 0.001, arms: list[Arm] | None = None
) -> CellBeliefs:
    evidence = evidence_of(cells, arms)
    assert evidence.segments is not None
    mean = evidence.reward_sum / np.maximum(evidence.reward_count, 1)
    return believe(
        evidence,
        evidence.segments,
        arm_mean=mean,
        arm_cost=np.full(len(ARMS), arm_cost),
        prior_trust=np.full(len(ARMS), 0.8),
    )


def the_engine(*, budget_usd: float = 0.002, seed: int = 1, max_live: int = 3) -> Engine:
    policy = GroupPolicy(
        budget_usd=budget_usd, max_live=max_live, schedule=EveryCalls(200), estimator=PosteriorEstimator()
    )
    return Engine(policy, seed=seed)


def serve(
    engine: Engine, segments: list[str], *, told: bool, seed: int = 5, candidates: list[Arm] | None = None
) -> tuple[list[str], float, Snapshot]:
    """Route calls with true rewards; return the arms, the mean reward and the last snapshot.

    Args:
        engine: fresh.
        segments: of each call.
        told: whether the engine hears of them.
        seed: of the answers.
        candidates: the arms, with what is said of them; by default nothing is.
    """
    rng = np.random.default_rng(seed)
    snapshot = engine.start(candidates or ARMS, now=0.0)
    arms, reward = [], 0.0
    for call, segment in enumerate(segments):
        choice = engine.choose(snapshot, uniform=rng.random(), segment=segment if told else "")
        answered = float(rng.random() < REWARDS[segment, choice.arm])
        cost = ARMS[[arm.name for arm in ARMS].index(choice.arm)].prior_cost_usd or 0.0
        seen = some_calls(1, reward=answered, cost_usd=cost)
        snapshot = engine.advance(
            snapshot,
            increments={choice.arm: seen},
            cells={(segment, choice.arm): seen} if told else None,
            account=snapshot.account.dispatched(choice.charge).settled(choice.charge, cost_usd=cost),
            now=float(call),
        )
        arms.append(choice.arm)
        reward += answered
    return arms, reward / len(segments), snapshot


# --- shrinkage --------------------------------------------------------------------------------------------------


def test_where_segments_do_not_differ_cells_lean_on_their_arm() -> None:
    alike = {(s, a.name): some_calls(200, reward=0.5) for s in ("text", "sql", "chat") for a in ARMS}
    apart = {cell: some_calls(200, reward=0.1 if cell[0] == "sql" else 0.9) for cell in alike}
    assert beliefs(alike).leaning > 10 * beliefs(apart).leaning


def test_a_new_cell_is_believed_to_be_like_its_arm() -> None:
    cells = {("text", "words"): some_calls(100, reward=0.8), ("sql", "code"): some_calls(1, reward=1.0)}
    found = beliefs(cells)
    mean = found.mean(np.array([0.5, 0.8, 0.6]))
    assert mean[found.names.index("sql")][1] == pytest.approx(0.8)
    assert mean[found.names.index("")] == pytest.approx([0.5, 0.8, 0.6])


@given(
    rewards=st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1)), min_size=6, max_size=6),
    arm_mean=st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
@settings(deadline=None)
def test_a_belief_lies_between_what_arm_and_cell_did(
    rewards: list[tuple[int, float]], arm_mean: list[float]
) -> None:
    names = [(segment, arm.name) for segment in ("text", "sql") for arm in ARMS]
    cells = {name: some_calls(n, reward=reward) for name, (n, reward) in zip(names, rewards, strict=True)}
    found = beliefs(cells)
    mean = found.mean(np.array(arm_mean))
    for (segment, arm), (n, reward) in zip(names, rewards, strict=True):
        column = [one.name for one in ARMS].index(arm)
        among = (arm_mean[column], reward) if n else (arm_mean[column],)
        value = mean[found.names.index(segment), column]
        assert min(among) - 1e-9 <= value <= max(among) + 1e-9


def test_a_dear_segment_is_told_from_a_dear_arm() -> None:
    """The arm that got the long questions is not the dear one: where it is new, it costs what the segment costs."""
    cells = {
        ("long", "cheap"): some_calls(300, reward=0.5, cost_usd=0.004),
        ("short", "cheap"): some_calls(300, reward=0.5, cost_usd=0.001),
        ("long", "words"): some_calls(300, reward=0.5, cost_usd=0.008),
    }
    found = beliefs(cells, arm_cost=0.004)
    evidence = evidence_of(cells)
    assert evidence.segments is not None
    found = believe(
        evidence,
        evidence.segments,
        arm_mean=np.full(3, 0.5),
        arm_cost=np.array([0.0025, 0.008, 0.002]),
        prior_trust=np.full(3, 0.8),
    )
    short = found.cost_of("short")
    assert short[0] == pytest.approx(0.001, rel=0.05)
    assert 0.0015 < short[1] < 0.0035  # about 0.002, which was never observed
    assert found.cost_of("long")[1] == pytest.approx(0.008, rel=0.05)


def test_chance_does_not_make_a_segment_cheap() -> None:
    """Costs of 20 segments that do not differ: what is expected of each is nearer to the truth than its own mean."""
    rng = np.random.default_rng(4)
    cells = {}
    for segment in range(20):
        for arm in ARMS:
            costs = 0.002 * rng.exponential(size=30)
            cells[f"s{segment}", arm.name] = replace(
                some_calls(30, reward=0.5), cost_sum=costs.sum(), cost_sumsq=(costs**2).sum()
            )
    observed = np.array([cell.cost_sum / 30 for cell in cells.values()])
    found = beliefs(cells, arm_cost=float(observed.mean()))
    expected = found.expected_cost[[found.names.index(f"s{segment}") for segment in range(20)]].ravel()
    assert np.abs(expected - 0.002).max() < 0.35 * np.abs(observed - 0.002).max()


def test_segments_that_cost_differently_come_apart() -> None:
    rng = np.random.default_rng(4)
    cells = {}
    for segment, dear in enumerate(np.geomspace(0.2, 5.0, 20)):
        for arm in ARMS:
            costs = 0.002 * dear * rng.exponential(size=30)
            cells[f"s{segment}", arm.name] = replace(
                some_calls(30, reward=0.5), cost_sum=costs.sum(), cost_sumsq=(costs**2).sum()
            )
    found = beliefs(cells, arm_cost=float(np.mean([cell.cost_sum / 30 for cell in cells.values()])))
    rows = [found.names.index(f"s{segment}") for segment in range(20)]
    expected = found.expected_cost[rows].mean(axis=1)
    assert expected == pytest.approx(0.002 * np.geomspace(0.2, 5.0, 20), rel=0.4)


def test_calls_of_arms_that_left_count_in_their_segment_and_nowhere_else() -> None:
    stay = {("text", "cheap"): some_calls(7, reward=0.5), ("sql", "words"): some_calls(5, reward=0.8)}
    left = {("sql", "gone"): some_calls(20, reward=0.1), ("chat", "away"): some_calls(3, reward=0.2)}
    with_them, without = evidence_of({**left, **stay}).segments, evidence_of(stay).segments
    assert with_them is not None
    assert without is not None
    # One more call than there were, in each.
    assert dict(zip(with_them.names, with_them.weight * 39, strict=True)) == pytest.approx(
        {"": 1, "chat": 4, "sql": 26, "text": 8}
    )
    rows = [with_them.names.index(name) for name in without.names]
    assert (with_them.reward_count[rows] == without.reward_count).all()
    assert (with_them.cost_sum[rows] == without.cost_sum).all()
    assert not with_them.reward_count[with_them.names.index("chat")].any()


# --- what was said of arms in segments beforehand -------------------------------------------------------------------


def said_of(weight: float, **rewards: float) -> tuple[SegmentPrior, ...]:
    return tuple(
        SegmentPrior(segment=segment, reward=reward, weight=weight) for segment, reward in rewards.items()
    )


def said(weight: float, *, displaced: bool = False) -> list[Arm]:
    """Return the arms with what is true of them said beforehand, or with one segment's truth said of the other."""
    other = {"text": "sql", "sql": "text"}
    return [
        replace(
            arm,
            prior_reward=0.5,
            prior_weight=weight,
            segment_priors=said_of(
                weight, **{s: REWARDS[other[s] if displaced else s, arm.name] for s in other}
            ),
        )
        for arm in ARMS
    ]


def test_what_was_said_of_a_new_cell_counts_as_so_many_rewards() -> None:
    arms = [replace(ARMS[0], segment_priors=said_of(30, sql=0.9)), *ARMS[1:]]
    cells = {("text", "cheap"): some_calls(100, reward=0.5), ("sql", "words"): some_calls(1, reward=1.0)}
    found = beliefs(cells, arms=arms)
    row, leaning = found.names.index("sql"), found.leaning
    trusted, doubted = (
        found.mean(np.array([0.5, 0.5, 0.5]), trust=np.full(3, trust))[row, 0] for trust in (1.0, 0.0)
    )
    assert trusted == pytest.approx((leaning * 0.5 + 30 * 0.9) / (leaning + 30))
    assert doubted == pytest.approx(0.5)
    assert found.mean(np.array([0.5, 0.5, 0.5]))[row, 0] == pytest.approx(0.8 * trusted + 0.2 * doubted)
    assert found.mean(np.array([0.5, 0.5, 0.5]))[found.names.index("text"), 0] == pytest.approx(0.5)


def trust_in(cells: dict[Cell, ArmStatistics], arms: list[Arm]) -> float:
    """Return the trust in what was said of the first arm."""
    found = beliefs(cells, arms=arms).said
    assert found is not None
    return float(found.trust[0])


def test_rewards_decide_whether_what_was_said_is_right() -> None:
    arms = [replace(ARMS[0], segment_priors=said_of(20, text=0.9, sql=0.2)), *ARMS[1:]]
    right = {("text", "cheap"): some_calls(30, reward=0.9), ("sql", "cheap"): some_calls(30, reward=0.2)}
    wrong = {("text", "cheap"): some_calls(30, reward=0.2), ("sql", "cheap"): some_calls(30, reward=0.9)}
    assert trust_in(right, arms) > 0.9
    assert trust_in(wrong, arms) < 0.05
    # Whatever was said is as good as forgotten, also in a segment that has only one reward.
    once = {**wrong, ("sql", "cheap"): some_calls(1, reward=1.0)}
    assert trust_in(once, arms) < 0.2


def test_a_table_that_is_wrong_of_other_arms_is_trusted_less_of_an_untried_arm() -> None:
    arms = [
        replace(arm, segment_priors=said_of(20, text=one, sql=other))
        for arm, one, other in zip(ARMS, (0.9, 0.9, 0.2), (0.2, 0.9, 0.9), strict=True)
    ]
    wrong = {("text", "code"): some_calls(30, reward=0.9), ("sql", "code"): some_calls(30, reward=0.2)}
    assert trust_in(wrong, arms) < 0.05
    right = {("text", "code"): some_calls(30, reward=0.2), ("sql", "code"): some_calls(30, reward=0.9)}
    assert trust_in(right, arms) == pytest.approx(0.8)  # praise of one is no proof of another


@given(
    seed=st.integers(0, 2**32 - 1),
    rewards=st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1)), min_size=6, max_size=6),
)
@settings(deadline=None, max_examples=30)
def test_what_counts_as_no_observation_changes_nothing(seed: int, rewards: list[tuple[int, float]]) -> None:
    names = [(segment, arm.name) for segment in ("text", "sql") for arm in ARMS]
    cells = {name: some_calls(n, reward=reward) for name, (n, reward) in zip(names, rewards, strict=True)}
    snapshots = [
        Engine(the_engine().policy, seed=seed).start(arms, now=0.0, statistics=totals(cells), cells=cells)
        for arms in (ARMS, said(0.0))
    ]
    assert snapshots[0].stage == snapshots[1].stage
    assert snapshots[0].mix == snapshots[1].mix


def test_a_table_of_segments_helps_from_the_start_and_a_wrong_one_fades() -> None:
    segments = np.random.default_rng(0).choice(["text", "sql"], size=1_500).tolist()
    best = {"text": "words", "sql": "code"}

    def hits(arms: list[Arm], part: slice) -> float:
        seeds = range(4)
        chosen = [
            serve(the_engine(seed=seed), segments, told=True, seed=seed, candidates=arms)[0] for seed in seeds
        ]
        return float(
            np.mean([[a == best[s] for a, s in zip(c[part], segments[part], strict=True)] for c in chosen])
        )

    start, end = slice(5, 105), slice(-500, None)
    assert hits(said(20), start) > hits(ARMS, start) + 0.1
    assert hits(said(20, displaced=True), end) > 0.9


# --- the engine -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "sql"])
def test_one_segment_is_routed_exactly_as_without(name: str) -> None:
    rng = np.random.default_rng(3)
    plain_engine, engine = the_engine(seed=9), the_engine(seed=9)
    plain, snapshot = plain_engine.start(ARMS, now=0.0), engine.start(ARMS, now=0.0)
    for call in range(900):
        uniform, answered = rng.random(), float(rng.random() < 0.6)
        one = plain_engine.choose(plain, uniform=uniform)
        other = engine.choose(snapshot, uniform=uniform, segment=name)
        assert (one.arm, one.probability, one.charge) == (other.arm, other.probability, other.charge)
        seen = some_calls(1, reward=answered)
        account = plain.account.dispatched(one.charge).settled(one.charge, cost_usd=0.001)
        plain = plain_engine.advance(plain, increments={one.arm: seen}, account=account, now=float(call))
        snapshot = engine.advance(
            snapshot,
            increments={one.arm: seen},
            cells={(name, one.arm): seen},
            account=account,
            now=float(call),
        )
    assert plain.stage == snapshot.stage


def test_each_segment_gets_its_own_arm_where_no_single_one_is_best() -> None:
    segments = np.random.default_rng(0).choice(["text", "sql"], size=2_000).tolist()
    _, blind, _ = serve(the_engine(), segments, told=False)
    arms, reward, snapshot = serve(the_engine(), segments, told=True)
    assert blind < 0.7
    assert reward > 0.8
    late = Counter(zip(segments[-500:], arms[-500:], strict=True))
    assert late["text", "words"] > 0.9 * sum(n for (segment, _), n in late.items() if segment == "text")
    assert late["sql", "code"] > 0.9 * sum(n for (segment, _), n in late.items() if segment == "sql")
    assert set(snapshot.mix.by_segment) == {"", "text", "sql"}


def test_the_budget_holds_for_all_segments_together() -> None:
    segments = np.random.default_rng(0).choice(["text", "sql"], p=[0.8, 0.2], size=4_000).tolist()
    _, _, snapshot = serve(the_engine(budget_usd=0.0012), segments, told=True)
    assert snapshot.account.spend_usd / 4_000 == pytest.approx(0.0012, rel=0.05)


def test_probabilities_are_those_that_arms_are_chosen_with() -> None:
    segments = np.random.default_rng(0).choice(["text", "sql"], size=600).tolist()
    engine = the_engine(budget_usd=0.0014)
    _, _, snapshot = serve(engine, segments, told=True)
    grid = (np.arange(20_000) + 0.5) / 20_000
    for segment in ("text", "sql", "never seen"):
        chosen: Counter[str] = Counter()
        probability: dict[str, float] = {}
        for uniform in grid:
            choice = engine.choose(snapshot, uniform=float(uniform), segment=segment)
            chosen[choice.arm] += 1
            probability[choice.arm] = choice.probability
        for arm, count in chosen.items():
            assert count / len(grid) == pytest.approx(probability[arm], abs=1e-4)


def test_an_unknown_segment_is_routed_like_the_nameless_one() -> None:
    segments = ["text", "sql"] * 100
    engine = the_engine()
    _, _, snapshot = serve(engine, segments, told=True)
    for uniform in (0.1, 0.5, 0.9):
        one = engine.choose(snapshot, uniform=uniform, segment="never seen")
        other = engine.choose(snapshot, uniform=uniform, segment="")
        assert (one.arm, one.probability) == (other.arm, other.probability)


def test_a_call_is_charged_what_its_segment_costs() -> None:
    engine = the_engine()
    cells = {
        (segment, arm.name): some_calls(100, reward=0.5, cost_usd=cost)
        for segment, cost in (("short", 0.001), ("long", 0.004))
        for arm in ARMS
    }
    snapshot = engine.start(ARMS, now=0.0, statistics=totals(cells), cells=cells)
    charged = {
        segment: engine.choose(snapshot, uniform=0.5, segment=segment).charge.expected_cost_usd
        for segment in ("short", "long")
    }
    assert charged["long"] > 3 * charged["short"]


def test_when_arms_cannot_serve_the_rest_is_still_mixed_by_segment() -> None:
    segments = np.random.default_rng(0).choice(["text", "sql"], size=2_000).tolist()
    engine = the_engine()
    _, _, snapshot = serve(engine, segments, told=True)
    arms = {
        segment: Counter(
            engine.choose(snapshot, uniform=u / 50, segment=segment, eligible={"words", "code"}).arm
            for u in range(50)
        ).most_common(1)[0][0]
        for segment in ("text", "sql")
    }
    assert arms == {"text": "words", "sql": "code"}


# --- a price of its own -----------------------------------------------------------------------------------------


def test_a_call_with_a_price_of_its_own_gets_the_best_arm_at_that_price() -> None:
    cells = {
        ("", "cheap"): some_calls(5_000, reward=0.5, cost_usd=0.001),
        ("", "words"): some_calls(5_000, reward=0.9, cost_usd=0.005),
        ("", "code"): some_calls(5_000, reward=0.7, cost_usd=0.002),
    }
    engine = the_engine(budget_usd=0.0012)
    snapshot = engine.start(ARMS, now=0.0, statistics=totals(cells))
    chosen = {
        price: engine.choose(snapshot, uniform=0.5, price=price) for price in (0.0, 30.0, 100.0, 1000.0)
    }
    assert {price: choice.arm for price, choice in chosen.items()} == {
        0.0: "words",  # whatever it costs
        30.0: "words",  # 0.2 of reward for 0.003 dollars are 67 per dollar
        100.0: "code",
        1000.0: "cheap",
    }
    assert all(choice.probability > 0.99 for choice in chosen.values())
    assert chosen[100.0].shadow_price == 100.0


@pytest.mark.parametrize("paced", [True, False])
def test_priced_calls_are_paced_or_not_as_configured(paced: bool) -> None:  # noqa: FBT001
    policy = GroupPolicy(
        budget_usd=0.0012,
        max_live=3,
        schedule=EveryCalls(200),
        estimator=PosteriorEstimator(),
        pace_priced_calls=paced,
    )
    cells = {("", arm.name): some_calls(100, reward=0.5, cost_usd=arm.prior_cost_usd or 0.0) for arm in ARMS}
    engine = Engine(policy, seed=1)
    snapshot = engine.start(ARMS, now=0.0, statistics=totals(cells))
    choice = engine.choose(snapshot, uniform=0.5, price=0.0)
    account = snapshot.account.dispatched(choice.charge).settled(choice.charge, cost_usd=0.1)
    assert account.spend_usd == 0.1
    assert (account.surplus_usd != 0.0) == paced


@given(
    price=st.floats(0, 1e4),
    seed=st.integers(0, 1000),
    share=st.sampled_from([1.0, 0.5]),
)
@settings(deadline=None, max_examples=50)
def test_priced_mix_is_the_mean_of_the_best_fillings(price: float, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    scenarios = Scenarios(reward=rng.random((6, 4)), cost=rng.random((6, 4)) * 1e-3)
    mix = priced_mix(scenarios, segment="", price=price, max_share=np.full(4, share))
    expected = np.zeros(4)
    for value in scenarios.reward - price * scenarios.cost:
        best = np.argsort(-value, kind="stable")[: round(1 / share)]
        expected[best] += share / 6
    assert mix.probabilities == pytest.approx(expected.tolist())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_sums_taken_over_from_an_earlier_estimate_are_those_read_anew(data: st.DataObject) -> None:
    """Whatever changes between two estimates: some cells, new cells, new segments, the candidates."""
    segment = st.sampled_from(["", "sql", "text", "new"])
    arm = st.sampled_from(["cheap", "words", "code", "left"])
    some = st.builds(some_calls, st.integers(1, 9), reward=st.floats(0, 1), cost_usd=st.floats(0, 0.01))
    cells: dict[Cell, ArmStatistics] = data.draw(st.dictionaries(st.tuples(segment, arm), some))
    before = None
    for _ in range(4):
        arms = data.draw(st.sampled_from([["cheap", "words", "code"], ["code", "cheap"]]))
        anew = sum_cells(arms, cells)
        before = sum_cells(arms, cells, before=before)
        assert (before is None) == (anew is None) == (len({segment for segment, _ in cells}) < 2)
        if before is not None and anew is not None:
            assert before.segments == anew.segments
            np.testing.assert_array_equal(before.calls, anew.calls)
            np.testing.assert_array_equal(before.table, anew.table)
        for cell, more in data.draw(st.dictionaries(st.tuples(segment, arm), some, max_size=3)).items():
            cells = cells | {cell: cells.get(cell, ArmStatistics()) + more}


def test_estimates_that_follow_one_another_are_those_of_a_fresh_start() -> None:
    """What an engine keeps of its last estimate changes nothing: not even the last bit of a probability."""
    cells = {cell: some_calls(20, reward=reward) for cell, reward in REWARDS.items()}
    policy = GroupPolicy(
        budget_usd=0.002, max_live=3, schedule=EveryCalls(1000), estimator=PosteriorEstimator()
    )
    going = Engine(policy, seed=3)
    snapshot = going.start(ARMS, now=0.0, statistics=totals(cells), cells=cells)
    seen = some_calls(1, reward=1.0)
    for number in range(8):
        fresh = Engine(policy, seed=number)
        going = Engine(policy, seed=number)
        snapshot = going.advance(
            snapshot,
            increments={"words": seen},
            account=replace(snapshot.account, calls=snapshot.account.calls + 1),
            now=1.0,
            cells={("sql", "words"): seen},
        )
        again = fresh.start(
            ARMS,
            now=1.0,
            statistics=snapshot.statistics,
            account=snapshot.account,
            stage=snapshot.stage,
            traffic=snapshot.traffic,
            cells=snapshot.cells,
        )
        assert snapshot.estimate.sums is not None
        assert snapshot.mix == again.mix
