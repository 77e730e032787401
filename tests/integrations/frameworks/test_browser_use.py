"""browser-use: its LiteLLM and OpenAI models, as its agent calls them. No browser is started."""

from __future__ import annotations

import os
import tempfile

# All are read at import.
_HOME = tempfile.TemporaryDirectory()
os.environ["BROWSER_USE_CONFIG_DIR"] = _HOME.name
for _name in ("ANONYMIZED_TELEMETRY", "BROWSER_USE_CLOUD_SYNC", "BROWSER_USE_VERSION_CHECK"):
    os.environ[_name] = "false"
os.environ["BROWSER_USE_SETUP_LOGGING"] = "false"

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from browser_use import ChatOpenAI
from browser_use.llm.messages import ContentPartImageParam, ContentPartTextParam, ImageURL, UserMessage
from pydantic import BaseModel

from stageroute_router import StageRouteRouter
from stageroute_router.integrations.openai_transport import async_http_client
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

ASK = [UserMessage(content="Ulm?")]
ANSWER = '{"name":"Ulm","inhabitants":129942}'
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class City(BaseModel):
    """A structured answer."""

    name: str
    inhabitants: int


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    """Models that answer with JSON."""
    models = [SimulatedModel(name=name, answer=ANSWER) for name in ("small", "large")]
    with SimulatedProvider(models, seed=0) as serving:
        yield serving


@pytest.fixture(params=["litellm", "openai"])
def llm(request: pytest.FixtureRequest, documented: dict[str, Any], router: StageRouteRouter) -> Any:
    if request.param == "litellm":
        return documented["llm"]
    return ChatOpenAI(
        model="chat", api_key="unused", base_url="http://any/v1", http_client=async_http_client(router)
    )


async def test_a_call_is_routed_and_rewarded(
    llm: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    with router.stageroute.episode() as episode:
        answer = await llm.ainvoke(ASK)
    assert answer.completion == ANSWER
    assert answer.usage.completion_tokens > 0
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert await arouted() == 1


async def test_structured_output_about_a_picture(
    llm: Any, router: StageRouteRouter, arouted: Callable[[], Awaitable[int]]
) -> None:
    seen = UserMessage(
        content=[
            ContentPartTextParam(text="Which city?"),
            ContentPartImageParam(image_url=ImageURL(url=PIXEL)),
        ]
    )
    with router.stageroute.episode() as episode:
        answer = await llm.ainvoke([seen], output_format=City)
    assert answer.completion == City(name="Ulm", inhabitants=129942)
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"]
    assert await arouted() == 1
