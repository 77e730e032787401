"""Haystack: its OpenAI chat generator with our transport."""

from __future__ import annotations

import os

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from haystack import Pipeline
from haystack.components.agents import Agent
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function

from stageroute_router import StageRouteRouter

ASK = [ChatMessage.from_user("hello")]


def add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)


@pytest.fixture
def generator(documented: dict[str, Any]) -> Any:
    return documented["generator"]


def test_a_pipeline_is_routed_and_rewarded(
    generator: Any, router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    pipeline = Pipeline()
    pipeline.add_component("llm", generator)
    with router.stageroute.episode() as episode:
        result = pipeline.run({"llm": {"messages": ASK}})
    assert result["llm"]["replies"][0].text
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert routed() == 1


def test_a_stream_is_routed_and_rewarded(
    generator: Any, router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    parts: list[str] = []
    with router.stageroute.episode() as episode:
        result = generator.run(ASK, streaming_callback=lambda part: parts.append(part.content))
    assert len(parts) > 1
    assert "".join(parts) == result["replies"][0].text
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert routed() == 1


async def test_asynchronous_calls_and_streams(
    generator: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    parts: list[str] = []

    async def hear(part: Any) -> None:
        parts.append(part.content)

    with router.stageroute.episode() as episode:
        assert (await generator.run_async(ASK))["replies"][0].text
        streamed = await generator.run_async(ASK, streaming_callback=hear)
    assert "".join(parts) == streamed["replies"][0].text
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2


def test_an_agent_calls_a_tool_and_is_rewarded_as_a_whole(
    generator: Any, router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    agent = Agent(chat_generator=generator, tools=[create_tool_from_function(add)])
    with router.stageroute.episode() as episode:
        result = agent.run([ChatMessage.from_user("2 and 3?")])
    answers = [message.tool_call_result.result for message in result["messages"] if message.tool_call_result]
    assert answers == ["5"]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert routed() == 2
