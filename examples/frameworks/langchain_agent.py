"""A LangChain agent with a tool, rewarded by the id of its run.

    pip install langchain langchain-litellm
    python examples/frameworks/langchain_agent.py

The models are simulated on loopback, so that this runs without keys.
"""

from __future__ import annotations

import os
import uuid

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_litellm import ChatLiteLLMRouter

from stageroute_router import StageRouteRouter
from stageroute_router.integrations.langchain import follow
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider

TASKS = 10
HOW_THEY_CALL_TOOLS = {"add": {"a": 2, "b": 3}}
MODELS = [
    SimulatedModel(name="small", tool_arguments=HOW_THEY_CALL_TOOLS, output_usd_per_token=1e-6),
    SimulatedModel(name="large", tool_arguments=HOW_THEY_CALL_TOOLS, output_usd_per_token=1e-5),
]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def main() -> None:
    """Give the agent some tasks; reward all calls of a task by how it went."""
    with SimulatedProvider(MODELS, seed=0) as provider:
        router = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={"chat": {"budget_usd_per_call": 0.001}},
            database_url="memory://",
        )
        rewards = follow(router)
        agent = create_agent(ChatLiteLLMRouter(router=router, model="chat"), tools=[add])
        for number in range(TASKS):
            run_id = uuid.uuid4()
            answer = agent.invoke({"messages": [("user", f"task {number}")]}, {"run_id": run_id})
            used_the_tool = any(message.type == "tool" for message in answer["messages"])
            rewards.record_reward(run_id, 1.0 if used_the_tool else 0.0)
        status = router.stageroute.status("chat")
        print(f"{TASKS} tasks, {status.calls} calls, reward coverage {status.reward_coverage:.0%}")
        router.stageroute.close()


if __name__ == "__main__":
    main()
