"""Answer a batch of questions at once, grade the answers afterwards, and let the grades teach the router.

    python examples/batch_evaluation.py

Grading may come days later and in another process: a token, kept with the answer, is all it takes. The models are
simulated on loopback, so that this runs without keys.
"""

from __future__ import annotations

import asyncio
import os
import tempfile

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider
from stageroute_router.testing.simulated_model import Outcome

AT_ONCE = 16
QUESTIONS = [f"What is {number} + {number}?" for number in range(200)]

MODELS = [
    SimulatedModel(name="small", reward_mean=0.6, output_usd_per_token=2e-6),
    SimulatedModel(name="large", reward_mean=0.95, output_usd_per_token=2e-5),
]


def new_router(provider: SimulatedProvider, database_url: str) -> StageRouteRouter:
    """Return a router over the same database as every other process of this application."""
    return StageRouteRouter(
        model_list=provider.model_list("chat"),
        stageroute={"chat": {"budget_usd_per_call": 0.0006, "stage": {"calls": 50}}},
        database_url=database_url,
    )


async def answer_all(router: StageRouteRouter) -> dict[str, str]:
    """Answer every question, a few at a time; return the answers by their tokens."""
    room = asyncio.Semaphore(AT_ONCE)

    async def answer(question: str) -> tuple[str, str]:
        async with room:
            response = await router.acompletion(
                model="chat", messages=[{"role": "user", "content": question}]
            )
        return router.stageroute.reward_token(response), response.choices[0].message.content

    answers = dict(await asyncio.gather(*map(answer, QUESTIONS)))
    await router.stageroute.aclose()
    return answers


async def grade_all(router: StageRouteRouter, answers: dict[str, str]) -> None:
    """Grade the answers and report all grades at once: they are committed together."""
    grades = {
        key: Outcome.from_text(text).reward for key, text in answers.items()
    }  # your own grading goes here
    await asyncio.gather(*(router.arecord_reward(key, grade) for key, grade in grades.items()))
    status = router.stageroute.status("chat")
    print(f"{status.calls} calls at {(status.spend_ratio or 0):.0%} of the budget, {len(grades)} grades")
    await router.stageroute.aclose()


def main() -> None:
    """Answer in one run, grade in another."""
    with tempfile.TemporaryDirectory() as folder, SimulatedProvider(MODELS, seed=0) as provider:
        url = f"sqlite:///{folder}/stageroute.db"
        answers = asyncio.run(answer_all(new_router(provider, url)))
        asyncio.run(grade_all(new_router(provider, url), answers))


if __name__ == "__main__":
    main()
