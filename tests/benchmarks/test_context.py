"""LinUCB and neighbours use the numbers of a prompt, get what the engine gets, and nothing earlier."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.context.dearness import Dearness
from benchmarks.context.estimator import Prediction
from benchmarks.context.linucb import LinUcb
from benchmarks.context.neighbours import Neighbours
from benchmarks.context.numbers import PromptNumbers
from benchmarks.context.policy import ContextPolicy
from benchmarks.learning import segments
from benchmarks.learning.segments import CHANCE, ESTIMATORS, policy_of
from stageroute_router.core.arrays import FloatArray, IntArray
from stageroute_router.core.segments.features import FEATURE_NAMES
from stageroute_router.errors import SettingsError
from stageroute_router.replay.result import ReplayResult
from stageroute_router.replay.run import run_policy
from stageroute_router.replay.stream import Stream, draw_stream
from stageroute_router.tables.outcomes import OutcomeTable

CALLS = 1_000
SUMS, PROSE = (0.9, 0.2, 0.6), (0.2, 0.9, 0.6)


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    """Sums and prose, an arm that is good at each, and one that is fair at both; the second is three times as dear."""
    random = np.random.default_rng(5)
    sums = random.random(CALLS) < 0.5
    prompts = [
        f"{random.integers(10**9)} + {random.integers(10**9)} ="
        if is_sum
        else "Write about the " + "old " * int(random.integers(1, 9)) + "house."
        for is_sum in sums
    ]
    chance = np.where(sums[:, None], SUMS, PROSE)
    return OutcomeTable(
        models=("adder", "writer", "allrounder"),
        reward=(random.random(chance.shape) < chance).astype(np.float64),
        cost_usd=np.tile([0.001, 0.003, 0.001], (CALLS, 1)),
        prompts=prompts,
    )


def route(table: OutcomeTable, stream: Stream, by: str) -> ReplayResult:
    return run_policy(table, stream, policy_of(table, stream, by=by, seed=3), name=by)


@pytest.fixture(scope="module")
def stream(table: OutcomeTable) -> Stream:
    return draw_stream(table, seed=3, calls=CALLS, budget_usd=0.002, reward_delay=20)


@pytest.fixture(scope="module")
def without(table: OutcomeTable, stream: Stream) -> ReplayResult:
    return route(table, stream, "none")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_where_prompts_decide_it_beats_going_without_and_chance_does_not(
    name: str, table: OutcomeTable, stream: Stream, without: ReplayResult
) -> None:
    found, control = route(table, stream, name), route(table, stream, name + CHANCE)
    assert found.reward[300:].mean() > without.reward[300:].mean() + 0.1
    assert control.reward[300:].mean() < without.reward[300:].mean() + 0.05
    assert found.spend_ratio < 1.03
    assert np.array_equal(found.model[:150], without.model[:150]), "no context until numbers have a scale"


class Oracle:
    """Knows what each model earns, and that only sums have more digits than the average."""

    optimism = 0.0

    def learn(self, arms: IntArray, numbers: FloatArray, rewards: FloatArray) -> None:
        pass

    def predict(self, numbers: FloatArray, arms: IntArray) -> Prediction:
        is_sum = numbers[:, [FEATURE_NAMES.index("share of digits")]] > 0
        mean = np.where(is_sum, SUMS, PROSE)[:, arms]
        return Prediction(mean=mean, count=np.full_like(mean, 1e6))


def test_one_price_buys_the_dear_model_where_it_is_worth_most(table: OutcomeTable) -> None:
    tight = draw_stream(table, seed=3, calls=CALLS, budget_usd=0.0015)

    def routed() -> ReplayResult:
        numbers = PromptNumbers(table, seed=3)
        return run_policy(
            table,
            tight,
            ContextPolicy(table, tight, estimator=Oracle(), numbers=numbers, seed=3),
            name="",
        )

    result = routed()
    assert np.array_equal(result.model, routed().model), "equal seeds, equal choices"
    assert result.live[result.stage - 1, result.model].all(), "only live models answer"
    assert table.prompts is not None
    is_sum = np.array([str(table.prompts[row]).endswith("=") for row in tight.rows])[300:]
    dear = result.model[300:] == 1
    assert result.spend_ratio < 1.03
    # What is left after the cheap model for all: half of the prose at three times the price of all else.
    assert 0.4 < dear[~is_sum].mean() < 0.65
    assert dear[is_sum].mean() < 0.02


class Recorder(LinUcb):
    """Remembers what it was told."""

    def __init__(self, *, arms: int, numbers: int) -> None:
        super().__init__(arms=arms, numbers=numbers)
        self.told: list[tuple[int, FloatArray, float]] = []
        self.learned_at: list[tuple[int, int]] = []
        self.now: Callable[[], int] = int

    def learn(self, arms: IntArray, numbers: FloatArray, rewards: FloatArray) -> None:
        super().learn(arms, numbers, rewards)
        self.told += zip(arms.tolist(), numbers, rewards.tolist(), strict=True)
        self.learned_at.append((self.now(), len(self.told)))


def test_rewards_are_learned_when_they_are_told_with_their_own_calls_numbers(table: OutcomeTable) -> None:
    stream = draw_stream(table, seed=4, calls=600, budget_usd=0.002, reward_delay=100, reward_rate=0.5)
    numbers = PromptNumbers(table, seed=0)
    recorder = Recorder(arms=3, numbers=numbers.size)
    policy = ContextPolicy(table, stream, estimator=recorder, numbers=numbers, seed=4)
    calls = 0

    def choose(call: int) -> int:
        nonlocal calls
        calls = call
        return ContextPolicy.choose(policy, call)

    policy.choose = choose  # type: ignore[method-assign]
    recorder.now = lambda: calls
    result = run_policy(table, stream, policy, name="")
    rewarded = np.flatnonzero(stream.rewarded)
    assert recorder.told
    for call, (arm, row, reward) in zip(rewarded.tolist(), recorder.told, strict=False):
        assert arm == result.model[call]
        assert reward == table.reward[stream.rows[call], arm]
        assert np.array_equal(row, numbers.of([int(stream.rows[call])])[0])
    for now, known in recorder.learned_at:
        assert known <= np.count_nonzero(rewarded + 100 <= now)


def test_numbers_are_standardised_on_the_first_calls(table: OutcomeTable) -> None:
    numbers = PromptNumbers(table, seed=0, calls=50)
    with pytest.raises(RuntimeError, match="on 50 calls, and 0 came"):
        numbers.of([0])
    for row in range(60):
        assert numbers.ready == (row >= 50)
        numbers.see(row)
    first = numbers.of(list(range(50)))
    varied = first.std(axis=0) > 0
    assert varied.sum() > 3
    assert first[:, varied].mean(axis=0) == pytest.approx(0, abs=0.2), "but for what is cut off"
    assert np.abs(numbers.of(list(range(CALLS)))).max() <= 3.0


def test_linucb_is_a_ridge_regression_with_its_bound() -> None:
    random = np.random.default_rng(1)
    x, rewards = random.standard_normal((40, 2)), random.random(40)
    arms = np.repeat([0, 1], 20)
    found = LinUcb(arms=3, numbers=2, ridge=4.0)
    for part in (slice(0, 7), slice(7, 40)):
        found.learn(arms[part], x[part], rewards[part])
    asked = random.standard_normal((5, 2))
    prediction = found.predict(asked, np.array([1, 2]))
    rows, wanted = np.column_stack([np.ones(20), x[20:]]), np.column_stack([np.ones(5), asked])
    gram = rows.T @ rows + np.diag([1.0, 4.0, 4.0])
    assert prediction.mean[:, 0] == pytest.approx(
        0.5 + wanted @ np.linalg.solve(gram, rows.T @ (rewards[20:] - 0.5))
    )
    alpha_1 = np.sqrt(np.einsum("nd,dn->n", wanted, np.linalg.solve(gram, wanted.T)))
    assert prediction.bound(2.0)[:, 0] == pytest.approx(np.minimum(prediction.mean[:, 0] + alpha_1, 1))
    assert prediction.mean[:, 1].tolist() == [0.5] * 5, "unobserved"
    assert (prediction.count[:, 0] > prediction.count[:, 1]).all()


def test_neighbours_are_the_nearest_of_the_latest() -> None:
    random = np.random.default_rng(2)
    x, rewards = random.standard_normal((30, 3)), random.random(30)
    found = Neighbours(arms=2, numbers=3, nearest=4, leaning=2.0, memory=20)
    arms = np.zeros(30, dtype=np.intp)
    for part in (slice(0, 3), slice(3, 30)):
        found.learn(arms[part], x[part], rewards[part])
    asked = random.standard_normal(3)
    nearest = np.argsort(((x[10:] - asked) ** 2).sum(axis=1))[:4]
    overall = (1 + rewards.sum()) / 32
    prediction = found.predict(asked[None], np.array([0, 1]))
    assert prediction.mean[0, 0] == pytest.approx((rewards[10:][nearest].sum() + 2 * overall) / 6)
    assert prediction.mean[0, 1] == 0.5
    assert prediction.count[0, 0] == pytest.approx(1 / (1 / 6 + (1 / 3) ** 2 / 32))
    few = Neighbours(arms=1, numbers=3, nearest=4, leaning=2.0, memory=20)
    few.learn(arms[:2], x[:2], rewards[:2])
    overall = (1 + rewards[:2].sum()) / 4
    assert few.predict(asked[None], arms[:1]).mean[0, 0] == pytest.approx(
        (rewards[:2].sum() + 2 * overall) / 4
    )


def test_an_arm_that_got_the_long_calls_is_not_taken_to_be_dear() -> None:
    random = np.random.default_rng(3)
    arms = random.integers(2, size=4_000)
    x = np.column_stack([random.normal(np.where(arms == 1, 1.0, -1.0), 0.7), random.standard_normal(4_000)])
    cost = np.array([0.001, 0.002])[arms] * np.exp(0.8 * x[:, 0] + 0.3 * random.standard_normal(4_000))
    dearness = Dearness(arms=2, numbers=2)
    dearness.learn(arms[:9], x[:9], cost[:9])
    dearness.learn(arms[9:], x[9:], cost[9:])
    dearness.learn(np.array([0]), np.array([[5.0, 5.0]]), np.array([0.0]))  # free
    means = np.array([cost[arms == arm].mean() for arm in (0, 1)])
    asked = np.array([[-1.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    expected = means * dearness.of(asked, np.array([0, 1]))
    true = np.array([0.001, 0.002]) * np.exp(0.8 * asked[:, :1] + 0.3**2 / 2)
    assert expected == pytest.approx(true, rel=0.1)


# --- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "settings", "wrong"),
    [
        (LinUcb, {"ridge": 0.0}, "ridge must be above 0, .*not 0.0"),
        (LinUcb, {"optimism": -1.0}, "optimism must be at least 0, not -1.0"),
        (Neighbours, {"optimism": -1.0}, "optimism must be at least 0, not -1.0"),
        (Neighbours, {"nearest": 0}, "nearest must be from 1 to memory, 1000, not 0"),
        (Neighbours, {"nearest": 9, "memory": 8}, "nearest must be from 1 to memory, 8, not 9"),
        (Neighbours, {"leaning": 0.0}, "leaning must be above 0, .*not 0.0"),
    ],
)
def test_a_setting_out_of_its_domain_is_named(
    make: Callable[..., object], settings: dict[str, float], wrong: str
) -> None:
    with pytest.raises(SettingsError, match=wrong):
        make(arms=1, numbers=1, **settings)


def test_a_table_without_prompts_is_refused(table: OutcomeTable) -> None:
    bare = replace(table, prompts=None)
    stream = draw_stream(bare, seed=0, calls=10)
    with pytest.raises(SettingsError, match="has no prompts"):
        policy_of(bare, stream, by="linucb", seed=0)
    with pytest.raises(SettingsError, match="calls must be at least 2"):
        PromptNumbers(table, seed=0, calls=1)


def test_an_unknown_way_is_answered_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["segments", "t.npz", "--by", "forest"])
    with pytest.raises(SystemExit):
        segments.main()
    assert "'forest' is none of none, label, auto, linucb, neighbours" in capsys.readouterr().err
