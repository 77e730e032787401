"""smolagents: its LiteLLM model, by the provider called ``stageroute``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from smolagents import (
    ActionStep,
    ChatMessage,
    CodeAgent,
    LiteLLMRouterModel,
    MessageRole,
    ToolCallingAgent,
    tool,
)

from stageroute_router import StageRouteRouter, attach
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

ASK = [ChatMessage(role=MessageRole.USER, content=[{"type": "text", "text": "hello"}])]
PROGRAM = "Thought: I add.\n<code>\nfinal_answer(add(2, 3))\n</code>"


@tool  # type: ignore[untyped-decorator]
def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: one.
        b: the other.
    """
    return a + b


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    """Models that write a program, or call a tool where they are offered one."""
    tools = {"add": {"a": 2, "b": 3}, "final_answer": {"answer": "5"}}
    models = [SimulatedModel(name=name, answer=PROGRAM, tool_arguments=tools) for name in ("small", "large")]
    with SimulatedProvider(models, seed=0) as serving:
        yield serving


@pytest.fixture
def model(documented: dict[str, Any]) -> Any:
    return documented["model"]


def test_a_call_is_routed_and_rewarded(
    model: Any, router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    answer = model.generate(ASK)
    assert answer.content == PROGRAM
    assert router.record_reward(answer.raw, 1.0).status == "recorded"
    assert routed() == 1


def test_a_stream_is_routed(model: Any, router: StageRouteRouter, routed: Callable[[], int]) -> None:
    with router.stageroute.episode() as episode:
        parts = list(model.generate_stream(ASK))
    assert "".join(part.content or "" for part in parts) == PROGRAM
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert routed() == 1


def test_a_tool_is_called(model: Any, routed: Callable[[], int]) -> None:
    answer = model.generate(ASK, tools_to_call_from=[add])
    assert [call.function.name for call in answer.tool_calls] == ["add"]
    assert routed() == 1


def test_a_code_agent_is_rewarded_step_by_step(
    model: Any, router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    agent = CodeAgent(tools=[add], model=model, verbosity_level=0)
    assert agent.run("2 and 3?") == 5
    steps = [step for step in agent.memory.steps if isinstance(step, ActionStep)]
    receipts = [router.record_reward(step.model_output_message.raw, 1.0) for step in steps]
    assert [receipt.status for receipt in receipts] == ["recorded"]
    assert routed() == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_calling_agent_is_rewarded_as_a_whole(
    model: Any, router: StageRouteRouter, routed: Callable[[], int], *, stream: bool
) -> None:
    agent = ToolCallingAgent(tools=[], model=model, verbosity_level=0, stream_outputs=stream)
    with router.stageroute.episode() as episode:
        assert agent.run("2 and 3?") == "5"
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert routed() == 1


def test_a_router_model_is_attached_to(provider: SimulatedProvider) -> None:
    model = LiteLLMRouterModel(model_id="chat", model_list=provider.model_list("chat"))
    groups = {"chat": {"budget_usd_per_call": 0.01, "max_live_models": 2}}
    with attach(model.client, stageroute=groups, database_url="memory://") as control:
        answer = model.generate(ASK)
        assert answer.content == PROGRAM
        assert control.record_reward(answer.raw, 1.0).status == "recorded"
        assert "".join(part.content or "" for part in model.generate_stream(ASK)) == PROGRAM
        assert control.status("chat").calls == 2
