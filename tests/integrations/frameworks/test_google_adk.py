"""Google ADK: its LiteLLM model, by the provider called ``stageroute``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.adk.agents import Agent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.runners import InMemoryRunner
from google.genai import types

from stageroute_router import StageRouteRouter


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def model(documented: dict[str, Any]) -> Any:
    assert isinstance(documented["agent"], Agent)
    return documented["agent"].model


async def ask(agent: Agent, *, stream: bool = False) -> list[Any]:
    """Return the events of one question to an agent."""
    runner = InMemoryRunner(agent=agent, app_name="test")
    session = await runner.session_service.create_session(app_name="test", user_id="ann")
    message = types.Content(role="user", parts=[types.Part(text="2 and 3?")])
    config = RunConfig(streaming_mode=StreamingMode.SSE if stream else StreamingMode.NONE)
    found = runner.run_async(user_id="ann", session_id=session.id, new_message=message, run_config=config)
    return [event async for event in found]


def ask_synchronously(agent: Agent) -> list[Any]:
    """Return the same by ADK's synchronous interface, which works in a thread of its own."""
    runner = InMemoryRunner(agent=agent, app_name="test")
    session = asyncio.run(runner.session_service.create_session(app_name="test", user_id="ann"))
    message = types.Content(role="user", parts=[types.Part(text="2 and 3?")])
    return list(runner.run(user_id="ann", session_id=session.id, new_message=message))


def results(events: list[Any]) -> list[Any]:
    return [
        response.response["result"] for event in events for response in event.get_function_responses() or []
    ]


def test_a_synchronous_run_is_routed_and_rewarded(
    model: Any, router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    with router.stageroute.episode() as episode:
        events = ask_synchronously(Agent(name="assistant", model=model))
    assert events[-1].content.parts[0].text
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert routed() == 1


async def test_a_run_with_a_tool_is_rewarded_as_a_whole(
    model: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    with router.stageroute.episode() as episode:
        events = await ask(Agent(name="assistant", model=model, tools=[add]))
    assert results(events) == [5]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2


async def test_a_streamed_run_with_a_tool_is_rewarded_as_a_whole(
    model: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    with router.stageroute.episode() as episode:
        events = await ask(Agent(name="assistant", model=model, tools=[add]), stream=True)
    assert any(event.partial for event in events)
    assert results(events) == [5]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2
