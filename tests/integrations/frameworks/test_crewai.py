"""CrewAI: its LLM, by the provider called ``stageroute``."""

from __future__ import annotations

import os
import tempfile

# CrewAI keeps settings and databases in the user's home, and looks for it at import.
_HOME = tempfile.TemporaryDirectory()
os.environ.update(HOME=_HOME.name, XDG_DATA_HOME=_HOME.name)
for _name in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_TESTING", "CREWAI_DISABLE_VERSION_CHECK"):
    os.environ[_name] = "true"
os.environ["CREWAI_TRACING_ENABLED"] = "false"

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from crewai import LLM, Agent, Crew, Task
from crewai.events import LLMCallCompletedEvent, crewai_event_bus
from crewai.tools import tool

from stageroute_router import StageRouteRouter

CALLED: list[int] = []


@tool("add")  # type: ignore[untyped-decorator]
def add(a: int, b: int) -> int:
    """Add two numbers."""
    CALLED.append(a + b)
    return a + b


@pytest.fixture
def llm(documented: dict[str, Any]) -> Any:
    CALLED.clear()
    return documented["llm"]


def crew(llm: Any) -> Crew:
    agent = Agent(role="clerk", goal="add numbers", backstory="adds", llm=llm, tools=[add])
    return Crew(agents=[agent], tasks=[Task(description="2 and 3?", expected_output="a number", agent=agent)])


def test_a_call_is_routed_and_rewarded_by_the_events_id(
    llm: Any, router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    ids = []
    with crewai_event_bus.scoped_handlers():

        @crewai_event_bus.on(LLMCallCompletedEvent)
        def remember(_: Any, event: LLMCallCompletedEvent) -> None:
            ids.append(event.response_id)

        assert llm.call("hello")
        crewai_event_bus.flush()
    assert router.record_reward(ids[0], 1.0).status == "recorded"
    assert routed() == 1


def test_a_stream_is_routed(documented: dict[str, Any], routed: Callable[[], int]) -> None:
    assert documented["llm"].model == "stageroute/chat"
    assert LLM(model="stageroute/chat", stream=True).call("hello")
    assert routed() == 1


async def test_an_asynchronous_call_is_routed_and_rewarded(
    llm: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    with router.stageroute.episode() as episode:
        assert await llm.acall("hello")
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert await arouted() == 1


def test_a_crew_calls_a_tool_and_is_rewarded_as_a_whole(
    llm: Any, router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    with router.stageroute.episode() as episode:
        assert crew(llm).kickoff().raw
    assert CALLED == [5]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert routed() == 2


async def test_a_crew_in_another_thread_is_rewarded_as_a_whole(
    llm: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    with router.stageroute.episode() as episode:
        assert (await crew(llm).kickoff_async()).raw
    assert CALLED == [5]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2
