"""The OpenAI SDK, whose every request the router in this process answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import openai
import pytest
import pytest_asyncio

from stageroute_router import SettingsError, StageRouteRouter
from stageroute_router.integrations.openai_transport import async_http_client, http_client, transport
from stageroute_router.reports.status import GroupStatus
from stageroute_router.testing.provider.provider import SimulatedProvider

ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(router: StageRouteRouter) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        http_client=http_client(router), base_url="http://stageroute/v1", api_key="unused"
    ) as made:
        yield made


@pytest_asyncio.fixture
async def async_client(router: StageRouteRouter) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        http_client=async_http_client(router), base_url="http://stageroute/v1", api_key="unused"
    ) as made:
        yield made


def group(router: StageRouteRouter) -> GroupStatus:
    return router.stageroute.status("chat")


def test_a_call_is_routed_costed_and_rewarded_by_its_id(
    router: StageRouteRouter, client: openai.OpenAI
) -> None:
    answer = client.chat.completions.create(model="chat", messages=ASK)
    assert answer.choices[0].message.content
    assert router.record_reward(answer.id, 0.75).status in {"recorded", "kept"}
    assert (group(router).calls, group(router).reward_coverage) == (1, 1.0)


def test_headers_name_call_and_decision(router: StageRouteRouter, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="chat", messages=ASK)
    decision = raw.headers["x-stageroute-decision-id"]
    assert raw.headers["x-stageroute-arm"] in {arm.name for arm in group(router).arms}
    assert raw.headers["x-stageroute-stage"] == "1"
    assert router.record_reward(decision, 0.5).decision_id == decision
    assert router.record_reward(raw.headers["x-litellm-call-id"], 0.5).status == "unchanged"


def test_a_stream_comes_in_parts_and_is_rewarded_by_a_chunks_id(
    router: StageRouteRouter, client: openai.OpenAI
) -> None:
    chunks = list(
        client.chat.completions.create(
            model="chat", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    assert len(chunks) > 2
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [chunk.usage for chunk in chunks if chunk.usage]
    assert router.record_reward(chunks[-1].id, 1.0).status in {"recorded", "kept"}


def test_a_stream_may_be_left_early(router: StageRouteRouter, client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="chat", messages=ASK, stream=True) as stream:
        next(iter(stream))
    assert client.chat.completions.create(model="chat", messages=ASK).id


async def test_asynchronous_calls_and_streams(
    router: StageRouteRouter, async_client: openai.AsyncOpenAI
) -> None:
    answer = await async_client.chat.completions.create(model="chat", messages=ASK)
    assert (await router.arecord_reward(answer.id, 0.5)).status in {"recorded", "kept"}
    stream = await async_client.chat.completions.create(model="chat", messages=ASK, stream=True)
    ids = {chunk.id async for chunk in stream}
    assert len(ids) == 1
    assert (await router.arecord_reward(ids.pop(), 0.5)).status in {"recorded", "kept"}
    assert group(router).calls == 2


def test_embeddings_text_and_responses(router: StageRouteRouter, client: openai.OpenAI) -> None:
    assert client.embeddings.create(model="chat", input=["a", "b"]).data[1].embedding
    assert client.completions.create(model="chat", prompt="hello").choices[0].text
    answer = client.responses.create(model="chat", input="hello")
    assert answer.output_text
    assert router.record_reward(answer.id, 0.5).status in {"recorded", "kept"}
    events = list(client.responses.create(model="chat", input="hello", stream=True))
    assert events[-1].type == "response.completed"
    assert group(router).calls == 4


async def test_asynchronous_responses(router: StageRouteRouter, async_client: openai.AsyncOpenAI) -> None:
    answer = await async_client.responses.create(model="chat", input="hello")
    assert answer.output_text
    stream = await async_client.responses.create(model="chat", input="hello", stream=True)
    assert [event.type async for event in stream][-1] == "response.completed"


def test_tools_are_passed_on(client: openai.OpenAI, provider: SimulatedProvider) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
        },
    }
    answer = client.chat.completions.create(
        model="chat",
        messages=ASK,
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "add"}},
    )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "add"


def test_models_are_the_routers_groups(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["chat"]


def test_a_providers_refusal_is_the_sdks_error_and_is_not_repeated(
    router: StageRouteRouter, client: openai.OpenAI, provider: SimulatedProvider
) -> None:
    for model in ("small", "large"):
        provider.set(model, error_rate=1.0)
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="chat", messages=ASK)
    assert caught.value.status_code >= 429
    assert sum(provider.counts(model)["requests"] for model in ("small", "large")) == 1


def test_an_unknown_group_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="nowhere"):
        client.chat.completions.create(model="nowhere", messages=ASK)


@pytest.mark.parametrize(
    ("asked", "body", "status", "words"),
    [
        ("POST /v1/audio/speech", b"{}", 404, "/chat/completions"),
        ("GET /v1/chat/completions", b"", 405, "use POST"),
        ("POST /v1/chat/completions", b"{", 400, "JSON object"),
        ("POST /v1/chat/completions", b"[]", 400, "JSON object"),
        ("POST /v1/chat/completions", b'{"messages": []}', 400, "model group"),
    ],
)
def test_what_is_no_call_is_refused_in_plain_words(
    router: StageRouteRouter, asked: str, body: bytes, status: int, words: str
) -> None:
    method, path = asked.split()
    with http_client(router, library="httpx") as http:
        answer = http.request(method, f"http://any{path}", content=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_the_library_must_be_one_of_two(router: StageRouteRouter) -> None:
    with pytest.raises(SettingsError, match=r"'requests'.*httpx2 and httpx"):
        http_client(router, library="requests")


def test_the_library_is_the_installed_sdks(router: StageRouteRouter) -> None:
    with http_client(router) as http:
        assert isinstance(http, openai.DefaultHttpxClient.__mro__[1])
    assert issubclass(openai.DefaultHttpxClient, httpx.Client) or openai.VERSION >= "3"


async def test_one_transport_serves_synchronous_and_asynchronous_clients(router: StageRouteRouter) -> None:
    ours = transport(router, library="httpx")
    given = {"base_url": "http://stageroute/v1", "api_key": "unused"}
    with openai.OpenAI(http_client=httpx.Client(transport=ours), **given) as client:
        assert client.chat.completions.create(model="chat", messages=ASK).choices
    async with openai.AsyncOpenAI(http_client=httpx.AsyncClient(transport=ours), **given) as async_client:
        assert (await async_client.chat.completions.create(model="chat", messages=ASK)).choices
        stream = await async_client.chat.completions.create(model="chat", messages=ASK, stream=True)
        assert len([chunk async for chunk in stream]) > 1
    assert group(router).calls == 3


def test_a_transport_of_an_unknown_library_is_refused(router: StageRouteRouter) -> None:
    with pytest.raises(SettingsError, match="httpx2 and httpx"):
        transport(router, library="requests")


def test_a_label_reaches_the_router(
    router: StageRouteRouter, client: openai.OpenAI, segment_of: Callable[[str], str]
) -> None:
    extra = {"metadata": {"stageroute": {"segment": "sql"}}}
    made = [
        client.chat.completions.with_raw_response.create(model="chat", messages=ASK, extra_body=extra),
        client.responses.with_raw_response.create(model="chat", input="hello", extra_body=extra),
    ]
    assert [segment_of(raw.headers["x-stageroute-decision-id"]) for raw in made] == ["sql", "sql"]
