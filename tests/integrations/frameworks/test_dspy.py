"""DSPy over the router: a metric's values become rewards of the calls that a prediction was made of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pytest

from stageroute_router import InvalidRewardError, SettingsError, StageRouteRouter
from stageroute_router.errors import NotAResponseError
from stageroute_router.integrations.dspy import MetricRewards
from stageroute_router.integrations.litellm_provider import register
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

ANSWER = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
DEVSET = [
    dspy.Example(question=f"capital {at}?", answer="Paris" if at % 2 else "Rome").with_inputs("question")
    for at in range(8)
]


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    models = [
        SimulatedModel(name=name, answer=ANSWER, output_usd_per_token=price)
        for name, price in (("small", 1e-7), ("large", 1e-6))
    ]
    with SimulatedProvider(models, seed=0) as serving:
        yield serving


@pytest.fixture
def rewards(router: StageRouteRouter) -> Iterator[MetricRewards]:
    register(router)
    made = MetricRewards(router)
    with dspy.context(lm=dspy.LM("stageroute/chat", cache=False), callbacks=[made]):
        yield made


class Twice(dspy.Module):
    """Asks two modules, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.second = dspy.Predict("question, draft -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return self.second(question=question, draft=self.first(question=question).answer)

    async def aforward(self, question: str) -> dspy.Prediction:
        draft = await self.first.acall(question=question)
        return await self.second.acall(question=question, draft=draft.answer)


def exact_match(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
    return bool(example.answer == prediction.answer)


def totals(router: StageRouteRouter) -> tuple[int, float]:
    arms = router.stageroute.status("chat").arms
    return sum(arm.reward_count for arm in arms), sum(
        arm.reward_count * (arm.reward_mean or 0) for arm in arms
    )


def test_the_metric_of_an_evaluation_rewards_every_call(
    router: StageRouteRouter, rewards: MetricRewards
) -> None:
    evaluate = dspy.Evaluate(
        devset=DEVSET, metric=rewards.of(exact_match), num_threads=4, display_progress=False
    )
    result = evaluate(Twice())
    assert result.score == 50.0
    assert router.stageroute.status("chat").calls == 16
    assert totals(router) == (16, pytest.approx(8.0))
    # Each prediction's two calls have its own value.
    for example, prediction, score in result.results:
        receipts = [router.stageroute.receipt(made) for made in rewards.decisions(prediction)]
        assert len(receipts) == 2
        assert [one.rewards for one in receipts] == [{"dspy:exact_match": float(score)}] * 2
        assert score == (example.answer == "Paris")


def test_a_metric_of_ones_own_code(router: StageRouteRouter, rewards: MetricRewards) -> None:
    prediction = dspy.Predict("question -> answer")(question="capital?")
    metric = rewards.of(lambda example, prediction: 0.25, name="closeness")
    assert metric.__name__ == "closeness"
    assert metric(DEVSET[0], prediction) == 0.25
    assert totals(router) == (1, pytest.approx(0.25))
    feedback = rewards.of(lambda *_: dspy.Prediction(score=0.5, feedback="so so"), name="judge")
    assert feedback(DEVSET[0], prediction).feedback == "so so"
    assert rewards.of(exact_match)(DEVSET[1], prediction) is True
    (decision,) = rewards.decisions(prediction)
    given = router.stageroute.receipt(decision).rewards
    assert given == {"dspy:closeness": 0.25, "dspy:judge": 0.5, "dspy:exact_match": 1.0}


async def test_asynchronous_modules(router: StageRouteRouter, rewards: MetricRewards) -> None:
    prediction = await Twice().acall(question="capital?")
    assert len(await rewards.arecord_reward(prediction, 0.5)) == 2
    assert router.stageroute.status("chat").calls == 2
    assert totals(router) == (2, pytest.approx(1.0))


async def test_streamed_modules(router: StageRouteRouter, rewards: MetricRewards) -> None:
    streamed = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
    )
    parts = [part async for part in streamed(question="capital?")]
    assert "".join(part.chunk for part in parts if isinstance(part, dspy.streaming.StreamResponse)) == "Paris"
    assert rewards.of(exact_match)(DEVSET[1], parts[-1]) is True
    assert totals(router) == (1, 1.0)
    assert router.stageroute.status("chat").calls == 1


def test_a_tool_that_asks_counts_for_the_agent(router: StageRouteRouter, rewards: MetricRewards) -> None:
    asked = dspy.Tool(
        lambda question: dspy.Predict("question -> answer")(question=question).answer, name="ask"
    )

    class Agent(dspy.Module):
        def forward(self, question: str) -> dspy.Prediction:
            return dspy.Prediction(answer=asked(question=question))

    assert len(rewards.record_reward(Agent()(question="capital?"), 1.0)) == 1
    assert router.stageroute.status("chat").calls == 1


def test_an_optimizer_rewards_as_it_goes(router: StageRouteRouter, rewards: MetricRewards) -> None:
    optimizer = dspy.BootstrapFewShot(metric=rewards.of(exact_match), max_bootstrapped_demos=2)
    compiled = optimizer.compile(dspy.Predict("question -> answer"), trainset=DEVSET[:4])
    made, _ = totals(router)
    assert made == router.stageroute.status("chat").calls > 0
    assert len(compiled.demos) > 0


def test_predictions_outlive_pickling_and_copies(router: StageRouteRouter, rewards: MetricRewards) -> None:
    prediction = dspy.Predict("question -> answer")(question="capital?")
    assert rewards.decisions(copy.deepcopy(prediction)) == rewards.decisions(prediction) != ()
    assert dict(prediction.items()) == {"answer": "Paris"}  # nothing is added that users would see


@pytest.mark.parametrize("value", [7, -0.1, float("nan"), "good", None, dspy.Prediction(score=5)])
def test_scales_that_are_no_rewards_are_refused(router: StageRouteRouter, value: Any) -> None:
    rewards = MetricRewards(router)
    with pytest.raises(InvalidRewardError, match=r"'marks' returned .* number from 0 to 1"):
        rewards.of(lambda *_: value, name="marks")(DEVSET[0], dspy.Prediction(answer="Paris"))


def test_what_cannot_be_rewarded_is_told(router: StageRouteRouter) -> None:
    rewards = MetricRewards(router)
    with pytest.raises(NotAResponseError, match="Prediction is none"):
        rewards.record_reward(dspy.Prediction(answer="mine"), 1.0)
    # A metric only judges, where nothing was routed.
    assert rewards.of(exact_match)(DEVSET[1], dspy.Prediction(answer="Paris")) is True
    with pytest.raises(SettingsError, match="attach"):
        MetricRewards(object())


def test_the_pages_example(router: StageRouteRouter, documented: dict[str, Any]) -> None:
    try:
        prediction = dspy.Predict("question -> answer")(question="capital?")
        assert documented["rewards"].of(exact_match)(DEVSET[1], prediction) is True
    finally:
        dspy.configure(lm=None, callbacks=[])
    assert totals(router) == (1, 1.0)


def test_the_example_runs(example: Callable[[str], str]) -> None:
    assert "of 100" in example("dspy_program.py")


@pytest.mark.usefixtures("rewards")
def test_the_examples_of_the_adapter(shows: Callable[..., None]) -> None:
    shows("dspy")
