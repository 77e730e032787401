"""The OpenAI SDK from version 3 on, which left httpx for httpx2."""

from __future__ import annotations

import openai

from stageroute_router import StageRouteRouter
from stageroute_router.integrations.openai_transport import async_http_client, http_client

ASK = [{"role": "user", "content": "hello"}]


def test_version() -> None:
    assert openai.VERSION >= "3"


def test_calls_and_streams(router: StageRouteRouter) -> None:
    with openai.OpenAI(http_client=http_client(router), base_url="http://any/v1", api_key="unused") as client:
        answer = client.chat.completions.create(model="chat", messages=ASK)
        assert router.record_reward(answer.id, 1.0).status == "recorded"
        stream = list(client.chat.completions.create(model="chat", messages=ASK, stream=True))
        assert router.record_reward(stream[-1].id, 1.0).status in {"recorded", "kept"}
        assert client.responses.create(model="chat", input="hello").output_text


async def test_asynchronous_calls_and_streams(router: StageRouteRouter) -> None:
    async with openai.AsyncOpenAI(
        http_client=async_http_client(router), base_url="http://any/v1", api_key="unused"
    ) as client:
        answer = await client.chat.completions.create(model="chat", messages=ASK)
        assert (await router.arecord_reward(answer.id, 1.0)).status == "recorded"
        stream = await client.chat.completions.create(model="chat", messages=ASK, stream=True)
        ids = {chunk.id async for chunk in stream}
        assert (await router.arecord_reward(ids.pop(), 1.0)).status in {"recorded", "kept"}
