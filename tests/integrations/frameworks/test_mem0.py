"""mem0: its LiteLLM models, by the provider called ``stageroute``."""

from __future__ import annotations

import os
import tempfile

# Both are read at import.
os.environ["MEM0_TELEMETRY"] = "False"
_HOME = tempfile.TemporaryDirectory()
os.environ["MEM0_DIR"] = _HOME.name

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mem0 import AsyncMemory, Memory

from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

TOLD = [{"role": "user", "content": "I like Ulm."}]
FACTS = '{"memory": [{"id": "0", "text": "Likes Ulm"}]}'
ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    """Models that find a fact, and one that embeds."""
    models = [
        SimulatedModel(name=name, answer=FACTS, tool_arguments={"add": {"a": 2}})
        for name in ("small", "large")
    ]
    with SimulatedProvider(models, seed=0) as serving:
        yield serving


@pytest.fixture
def config(documented: dict[str, Any], provider: SimulatedProvider, tmp_path: Path) -> dict[str, Any]:
    embedder = {"model": "small", "openai_base_url": f"{provider.url}/v1", "api_key": "unused"}
    store = {"path": str(tmp_path / "vectors"), "embedding_model_dims": 4}
    return {
        **documented["config"],
        "embedder": {"provider": "openai", "config": embedder},
        "vector_store": {"provider": "qdrant", "config": store},
        "history_db_path": str(tmp_path / "history.db"),
    }


def test_facts_are_found_and_rewarded(
    config: dict[str, Any], router: StageRouteRouter, routed: Callable[[], int]
) -> None:
    memory = Memory.from_config(config)
    with router.stageroute.episode() as episode:
        result = memory.add(TOLD, user_id="ann")
    assert [found["memory"] for found in result["results"]] == ["Likes Ulm"]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert routed() == 1


async def test_facts_are_found_asynchronously_and_rewarded(
    config: dict[str, Any], router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    memory = AsyncMemory.from_config(config)
    with router.stageroute.episode() as episode:
        result = await memory.add(TOLD, user_id="ann")
    assert [found["memory"] for found in result["results"]] == ["Likes Ulm"]
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert await arouted() == 1


def test_tools_are_offered(config: dict[str, Any], routed: Callable[[], int]) -> None:
    answer = Memory.from_config(config).llm.generate_response(TOLD, tools=[ADD])
    assert answer["tool_calls"] == [{"name": "add", "arguments": {"a": 2}}]
    assert routed() == 1
