"""AG2: its OpenAI configuration with our transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ag2 import Agent
from ag2.events import ModelMessageChunk, ToolResultEvent

from stageroute_router import StageRouteRouter

CALLED: list[int] = []


def add(a: int, b: int) -> int:
    """Add two numbers."""
    CALLED.append(a + b)
    return a + b


@pytest.fixture
def config(documented: dict[str, Any]) -> Any:
    CALLED.clear()
    assert isinstance(documented["agent"], Agent)
    return documented["config"]


async def test_a_turn_is_routed_and_rewarded(
    config: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    reply = await Agent("assistant", config=config).ask("hello")
    assert reply.body
    assert reply.response.response_id is not None
    assert (await router.arecord_reward(reply.response.response_id, 1.0)).status == "recorded"
    assert await arouted() == 1


async def test_a_turn_with_a_tool_is_rewarded_as_a_whole(
    config: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    with router.stageroute.episode() as episode:
        reply = await Agent("assistant", config=config, tools=[add]).ask("2 and 3?")
    assert reply.body
    assert CALLED == [5]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2


async def test_a_streamed_turn_with_a_tool_is_rewarded_as_a_whole(
    config: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    agent = Agent("assistant", config=config.copy(streaming=True), tools=[add])
    parts: list[str] = []
    tools: list[str] = []
    with router.stageroute.episode() as episode:
        async with agent.run("2 and 3?") as run:
            run.stream.where(ModelMessageChunk).subscribe(lambda event: parts.append(event.content))
            run.stream.where(ToolResultEvent).subscribe(lambda event: tools.append(event.name))
            reply = await run.result()
    assert len(parts) > 1
    assert "".join(parts) == reply.body
    assert (tools, CALLED) == (["add"], [5])
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2
