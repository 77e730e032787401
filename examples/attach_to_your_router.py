"""A router that exists already, an agent that makes several calls, and one reward for all of them.

    python examples/attach_to_your_router.py

The models are simulated on loopback, so that this runs without keys.
"""

from __future__ import annotations

import asyncio
import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from stageroute_router import attach
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider

TASKS = 30

MODELS = [
    SimulatedModel(name="planner-small", reward_mean=0.5, output_usd_per_token=1e-6),
    SimulatedModel(name="planner-large", reward_mean=0.9, output_usd_per_token=2e-5),
]


async def agent(router: litellm.Router, task: str) -> float:
    """Answer a task with two calls, deep inside a framework that hides the responses; return how well it went."""
    plan = await router.acompletion(model="chat", messages=[{"role": "user", "content": f"plan: {task}"}])
    text = ""
    stream = await router.acompletion(
        model="chat", messages=[{"role": "user", "content": f"do: {task}"}], stream=True
    )
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    return 1.0 if plan.choices[0].message.content and text else 0.0


async def main() -> None:
    """Attach, run the agent on some tasks, report one reward per task."""
    with SimulatedProvider(MODELS, seed=0) as provider:
        router = litellm.Router(model_list=provider.model_list("chat"))
        control = attach(
            router,
            stageroute={"chat": {"budget_usd_per_call": 0.001}},  # groups not named here stay as they were
            database_url="memory://",
        )
        for number in range(TASKS):
            with control.episode() as episode:
                success = await agent(router, f"task {number}")
            await episode.arecord_reward(success)
        status = control.status("chat")
        print(
            f"{status.calls} calls, {status.spend_usd:.4f} dollars, reward coverage {status.reward_coverage:.0%}"
        )
        control.close()


if __name__ == "__main__":
    asyncio.run(main())
