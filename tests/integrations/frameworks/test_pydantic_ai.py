"""Pydantic AI: OpenAI's chat model with our transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent

from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel


class City(BaseModel):
    """A structured answer."""

    name: str
    inhabitants: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def returned(result: Any) -> list[Any]:
    parts = [part for message in result.all_messages() for part in message.parts]
    return [part.content for part in parts if part.part_kind == "tool-return" and part.tool_name == "add"]


@pytest.fixture
def agent(documented: dict[str, Any]) -> Agent[Any, str]:
    made: Agent[Any, str] = documented["agent"]
    return made


def test_a_run_is_routed_and_rewarded_by_its_id(
    agent: Agent[Any, str], router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    result = agent.run_sync("hello")
    assert result.output
    response_id = result.response.provider_response_id
    assert response_id is not None
    assert router.record_reward(response_id, 1.0).status == "recorded"
    assert routed() == 1


async def test_a_run_with_a_tool_is_rewarded_as_a_whole(
    agent: Agent[Any, str], router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    agent.tool_plain(add)
    with router.stageroute.episode() as episode:
        result = await agent.run("2 and 3?")
    assert returned(result) == [5]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2


async def test_a_streamed_run_with_a_tool_is_rewarded_as_a_whole(
    agent: Agent[Any, str], router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    agent.tool_plain(add)
    with router.stageroute.episode() as episode:
        async with agent.run_stream("2 and 3?") as result:
            parts = [part async for part in result.stream_text(delta=True, debounce_by=None)]
    assert len(parts) > 1
    assert returned(result) == [5]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2


@pytest.fixture
def provider() -> Any:
    """Models that answer an output tool, too."""
    tools = {"add": {"a": 2, "b": 3}, "final_result": {"name": "Ulm", "inhabitants": 129_942}}
    names = ("small", "large")
    with SimulatedProvider([SimulatedModel(name=name, tool_arguments=tools) for name in names]) as serving:
        yield serving


async def test_structured_output(agent: Agent[Any, str], arouted: Callable[[], Awaitable[int]]) -> None:
    result = await agent.run("Ulm?", output_type=City)
    assert result.output == City(name="Ulm", inhabitants=129_942)
    assert await arouted() == 1
