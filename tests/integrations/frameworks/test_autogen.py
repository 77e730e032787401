"""AutoGen: its OpenAI client with our transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import UserMessage

from stageroute_router import StageRouteRouter

# AutoGen says that the model that answered is not called like the group that was asked.
pytestmark = pytest.mark.filterwarnings("ignore:Resolved model mismatch:UserWarning")

ASK = [UserMessage(content="hello", source="user")]


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def client(documented: dict[str, Any]) -> Any:
    return documented["client"]


async def test_a_call_is_routed_and_rewarded(
    client: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    with router.stageroute.episode() as episode:
        answer = await client.create(ASK)
    assert answer.content
    assert answer.usage.completion_tokens > 0
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert await arouted() == 1


async def test_a_stream_is_routed_and_rewarded(
    client: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    with router.stageroute.episode() as episode:
        parts = [part async for part in client.create_stream(ASK)]
    assert len(parts) > 2
    assert "".join(parts[:-1]) == parts[-1].content
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert await arouted() == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_calls_a_tool_and_is_rewarded_as_a_whole(
    client: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]], *, stream: bool
) -> None:
    agent = AssistantAgent("clerk", client, tools=[add], reflect_on_tool_use=True, model_client_stream=stream)
    with router.stageroute.episode() as episode:
        result = await agent.run(task="2 and 3?")
    executed = [message for message in result.messages if type(message).__name__ == "ToolCallExecutionEvent"]
    assert [answer.content for message in executed for answer in message.content] == ["5"]
    assert result.messages[-1].content
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2


async def test_a_team_is_rewarded_as_a_whole(
    client: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    members = [AssistantAgent(name, client) for name in ("writer", "critic")]
    team = RoundRobinGroupChat(members, termination_condition=MaxMessageTermination(4))
    with router.stageroute.episode() as episode:
        result = await team.run(task="hello")
    assert [message.source for message in result.messages] == ["user", "writer", "critic", "writer"]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 3
    assert await arouted() == 3
