"""LlamaIndex: its LiteLLM model, by the provider called ``stageroute``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool

from stageroute_router import StageRouteRouter

ASK = [ChatMessage(role="user", content="hello")]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def llm(documented: dict[str, Any]) -> Any:
    return documented["llm"]


def test_a_chat_is_routed_and_rewarded(llm: Any, router: StageRouteRouter, routed: Callable[[], int]) -> None:
    answer = llm.chat(ASK)
    assert answer.message.content
    assert router.record_reward(answer.raw, 1.0).status == "recorded"
    assert llm.complete("hello").text
    assert routed() == 2


def test_a_stream_is_routed_and_rewarded(
    llm: Any, router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    parts = list(llm.stream_chat(ASK))
    assert "".join(part.delta or "" for part in parts) == parts[-1].message.content != ""
    assert router.record_reward(parts[-1].raw, 1.0).status in {"recorded", "kept"}
    assert routed() == 1


async def test_asynchronous_calls_and_streams(
    llm: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    answer = await llm.achat(ASK)
    assert (await router.arecord_reward(answer.raw.id, 1.0)).status == "recorded"
    parts = [part async for part in await llm.astream_chat(ASK)]
    assert (await router.arecord_reward(parts[-1].raw.id, 1.0)).status in {"recorded", "kept"}
    assert await arouted() == 2


def test_a_tool_is_called(llm: Any, routed: Callable[[], int]) -> None:
    answer = llm.predict_and_call([FunctionTool.from_defaults(fn=add)], user_msg="2 and 3?")
    assert answer.response == "5"
    assert routed() == 1


async def test_an_agent_calls_a_tool_and_is_rewarded_as_a_whole(
    llm: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    agent = FunctionAgent(tools=[FunctionTool.from_defaults(fn=add)], llm=llm)
    with router.stageroute.episode() as episode:
        answer = await agent.run("2 and 3?")
    assert [call.tool_output.content for call in answer.tool_calls] == ["5"]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2
    assert await arouted() == 2
