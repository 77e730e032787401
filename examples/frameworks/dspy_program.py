"""A DSPy program whose metric teaches the router.

    pip install dspy
    python examples/frameworks/dspy_program.py

The models are simulated on loopback, so that this runs without keys: one always says Paris, the other never does.
"""

from __future__ import annotations

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import dspy

from stageroute_router import StageRouteRouter
from stageroute_router.integrations.dspy import MetricRewards
from stageroute_router.integrations.litellm_provider import register
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider

FORM = "[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]"
MODELS = [
    SimulatedModel(name="right", answer=FORM.format("Paris")),
    SimulatedModel(name="wrong", answer=FORM.format("Lyon")),
]
DEVSET = [
    dspy.Example(
        question=f"The capital of France, asked for the {number}th time?", answer="Paris"
    ).with_inputs("question")
    for number in range(100)
]


def exact_match(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
    """Say whether a prediction is what was expected."""
    return bool(example.answer == prediction.answer)


def main() -> None:
    """Evaluate a program, as one does anyway; the router learns from the metric."""
    with SimulatedProvider(MODELS, seed=0) as provider:
        router = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={"chat": {"budget_usd_per_call": 0.001, "stage": {"calls": 20}}},
            database_url="memory://",
        )
        register(router)
        rewards = MetricRewards(router)
        dspy.configure(lm=dspy.LM("stageroute/chat", cache=False), callbacks=[rewards])
        program = dspy.Predict("question -> answer")
        score = dspy.Evaluate(devset=DEVSET, metric=rewards.of(exact_match), num_threads=4)(program).score
        for arm in router.stageroute.status("chat").arms:
            print(f"{arm.name}: {arm.pulls} calls, mean reward {arm.reward_mean}")
        print(f"score {score:.0f} of 100")
        router.stageroute.close()


if __name__ == "__main__":
    main()
