"""The OpenAI Agents SDK: through its LiteLLM models, and through OpenAI's client with our transport."""

from __future__ import annotations

import os

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool
from openai import AsyncOpenAI

from stageroute_router import StageRouteRouter
from stageroute_router.integrations.openai_transport import async_http_client


@function_tool
def add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)


@pytest.fixture
def agent(documented: dict[str, Any]) -> Agent[Any]:
    made: Agent[Any] = documented["agent"]
    return made


def outputs(items: list[Any]) -> list[str]:
    return [item.output for item in items if item.type == "tool_call_output_item"]


def test_a_run_is_routed_and_its_call_rewarded_by_its_id(
    agent: Agent[Any], router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    result = Runner.run_sync(agent, "hello")
    assert result.final_output
    response_id = result.raw_responses[0].output[0].provider_data["response_id"]
    assert router.record_reward(response_id, 1.0).status == "recorded"
    assert routed() == 1


async def test_a_run_with_a_tool_is_rewarded_as_a_whole(
    agent: Agent[Any], router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    with router.stageroute.episode() as episode:
        result = await Runner.run(agent.clone(tools=[add]), "2 and 3?")
    assert outputs(result.new_items) == ["5"]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2


async def test_a_streamed_run_with_a_tool_is_rewarded_as_a_whole(
    agent: Agent[Any], router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    with router.stageroute.episode() as episode:
        result = Runner.run_streamed(agent.clone(tools=[add]), "2 and 3?")
        kinds = [event.type async for event in result.stream_events()]
    assert kinds.count("raw_response_event") > 2
    assert outputs(result.new_items) == ["5"]
    assert result.final_output
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2


async def test_settings_reach_the_provider_and_do_no_harm(
    agent: Agent[Any], arouted: Callable[[], Awaitable[int]]
) -> None:
    settings = ModelSettings(temperature=0.2, max_tokens=20, parallel_tool_calls=False, metadata={"a": "b"})
    result = await Runner.run(agent.clone(model_settings=settings, tools=[add]), "2 and 3?")
    assert outputs(result.new_items) == ["5"]
    assert await arouted() == 2


async def test_the_responses_api_by_our_transport(
    router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    client = AsyncOpenAI(http_client=async_http_client(router), base_url="http://any/v1", api_key="unused")
    agent = Agent(name="Assistant", model=OpenAIResponsesModel("chat", openai_client=client))
    result = await Runner.run(agent, "hello")
    assert result.final_output
    assert (await router.arecord_reward(result.last_response_id, 1.0)).status == "recorded"
    streamed = Runner.run_streamed(agent, "hello")
    assert [event async for event in streamed.stream_events()]
    assert streamed.final_output
    assert (await router.arecord_reward(streamed.last_response_id, 1.0)).status in {"recorded", "kept"}
    assert await arouted() == 2
