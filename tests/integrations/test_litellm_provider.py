"""``litellm`` called by a model's name: the router answers as one more provider."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import litellm
import pytest

from stageroute_router import SettingsError, StageRouteRouter
from stageroute_router.integrations.litellm_provider import register

ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture
def registered(router: StageRouteRouter) -> Iterator[StageRouteRouter]:
    before = list(litellm.custom_provider_map)
    register(router)
    yield router
    litellm.custom_provider_map = before


def settled(router: StageRouteRouter, calls: int) -> Any:
    """Wait until LiteLLM has reported so many calls; return the group's status."""
    give_up_at = time.monotonic() + 20
    while True:
        status = router.stageroute.status("chat")
        if (status.calls, status.open_calls) == (calls, 0) or time.monotonic() > give_up_at:
            return status
        time.sleep(0.01)


def test_a_call_is_routed_costed_once_and_rewarded(registered: StageRouteRouter) -> None:
    answer = litellm.completion(model="stageroute/chat", messages=ASK)
    assert answer.choices[0].message.content
    assert registered.record_reward(answer, 1.0).status == "recorded"
    status = settled(registered, 1)
    assert registered.record_reward(answer.id, 1.0).status == "unchanged"
    assert (status.calls, status.open_calls, status.reward_coverage) == (1, 0, 1.0)
    assert status.spend_usd == pytest.approx(next(arm for arm in status.arms if arm.pulls).cost_mean_usd)
    assert status.spend_usd > 0


def test_a_stream_is_routed_and_rewarded(registered: StageRouteRouter) -> None:
    chunks = list(litellm.completion(model="stageroute/chat", messages=ASK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert settled(registered, 1).spend_usd > 0
    assert registered.record_reward(chunks[-1], 0.5).status == "recorded"


async def test_asynchronous_calls_and_streams(registered: StageRouteRouter) -> None:
    answer = await litellm.acompletion(model="stageroute/chat", messages=ASK)
    assert (await registered.arecord_reward(answer, 1.0)).status == "recorded"
    stream = await litellm.acompletion(model="stageroute/chat", messages=ASK, stream=True)
    chunks = [chunk async for chunk in stream]
    assert (await registered.arecord_reward(chunks[-1], 0.5)).status in {"recorded", "kept"}


def test_an_episode_covers_calls_by_name(registered: StageRouteRouter) -> None:
    with registered.stageroute.episode() as episode:
        litellm.completion(model="stageroute/chat", messages=ASK)
        litellm.completion(model="stageroute/chat", messages=ASK)
    assert [receipt.status for receipt in episode.record_reward(1.0)] == ["recorded"] * 2


def test_parameters_and_metadata_reach_the_router(registered: StageRouteRouter) -> None:
    heard: list[dict[str, Any]] = []
    ordinary = registered.completion

    def listening(**given: Any) -> Any:
        heard.append(given)
        return ordinary(**given)

    registered.completion = listening  # type: ignore[method-assign]
    litellm.completion(
        model="stageroute/chat", messages=ASK, temperature=0.25, max_tokens=7, metadata={"team": "blue"}
    )
    (given,) = heard
    assert (given["model"], given["temperature"], given["max_tokens"]) == ("chat", 0.25, 7)
    assert given["metadata"]["team"] == "blue"


async def test_embeddings(registered: StageRouteRouter) -> None:
    assert litellm.embedding(model="stageroute/chat", input=["a"]).data
    assert (await litellm.aembedding(model="stageroute/chat", input=["a"])).data


def test_frameworks_are_told_what_the_model_can_do(registered: StageRouteRouter) -> None:
    assert litellm.supports_function_calling(model="stageroute/chat")
    assert litellm.get_model_info("stageroute/chat")["mode"] == "chat"


def test_a_second_router_takes_the_place_or_another_name(
    registered: StageRouteRouter, router: StageRouteRouter
) -> None:
    register(router)
    register(router, provider="stageroute-two")
    names = [entry["provider"] for entry in litellm.custom_provider_map]
    assert names.count("stageroute") == 1
    assert litellm.completion(model="stageroute-two/chat", messages=ASK).id


@pytest.mark.parametrize("name", ["", "a/b", "openai"])
def test_names_that_cannot_be_used_are_refused(router: StageRouteRouter, name: str) -> None:
    with pytest.raises(SettingsError, match="provider = "):
        register(router, provider=name)


def test_an_error_of_the_provider_is_an_error_of_the_call(
    registered: StageRouteRouter, provider: Any
) -> None:
    for model in ("small", "large"):
        provider.set(model, error_rate=1.0)
    with pytest.raises(Exception, match="simulated failure"):
        litellm.completion(model="stageroute/chat", messages=ASK, num_retries=0)


def test_a_label_reaches_the_router(registered: StageRouteRouter, segment_of: Callable[[str], str]) -> None:
    metadata = {"stageroute": {"segment": "sql"}}
    with registered.stageroute.episode() as episode:
        litellm.completion(model="stageroute/chat", messages=ASK, metadata=metadata)
        litellm.embedding(model="stageroute/chat", input=["hello"], metadata=metadata)
    assert [segment_of(decision) for decision in episode.decisions] == ["sql", "sql"]
