"""Rewards find their call by anything the application may hold, and every misuse has its own error."""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from stageroute_router.errors import (
    InvalidRewardError,
    NotAResponseError,
    UnknownDecisionError,
    UnmanagedCallError,
)
from stageroute_router.hook.calls.observer import read_response
from stageroute_router.hook.calls.response import key_of, plain_response_id

MESSAGES = [{"role": "user", "content": "hello"}]
BIG, SMALL = "openai/gpt-4o", "openai/gpt-4o-mini"

Call = Callable[..., Any]


@pytest.fixture
def made(routed: Call, entry: Call) -> Any:
    return routed([entry("big", BIG), entry("theirs", SMALL, group="else")])


def ask(made: Any, **asked: Any) -> Any:
    return made.router.completion(**{"model": "chat", "messages": MESSAGES, **asked})


def test_a_reward_is_taken_by_response_response_id_call_id_and_decision_id(made: Any) -> None:
    response = ask(made)
    made.routing.wait(1, "settled")
    for key in (response, response.id, response._hidden_params["litellm_call_id"], "d0", {"id": response.id}):
        assert made.control.record_reward(key, 0.5).decision_id == "d0"


def test_a_reward_may_come_before_litellm_reports_the_call(made: Any) -> None:
    response = ask(made)
    assert made.control.record_reward(response, 0.5).decision_id == "d0"


def test_the_source_of_a_reward_is_passed_on(made: Any) -> None:
    made.control.record_reward(ask(made), 0.5, source="judge")
    assert made.routing.wait(1, "reward")[0][2]["source"] == "judge"


@pytest.mark.parametrize("reward", [1.7, -0.1, float("nan"), "good", None])
def test_a_bad_reward_has_its_own_error(made: Any, reward: object) -> None:
    with pytest.raises(InvalidRewardError):
        made.control.record_reward(ask(made), reward)


def test_an_unknown_id_has_its_own_error(made: Any) -> None:
    with pytest.raises(UnknownDecisionError):
        made.control.record_reward("chatcmpl-unknown", 1.0)


@pytest.mark.parametrize("nothing", ["", None, 42, object(), {"choices": []}, SimpleNamespace(id=None)])
def test_what_is_no_response_has_its_own_error(made: Any, nothing: object) -> None:
    with pytest.raises(NotAResponseError, match="needs what a LiteLLM call returned"):
        made.control.record_reward(nothing, 1.0)


def test_a_call_of_an_unmanaged_group_has_its_own_error_naming_the_group(made: Any) -> None:
    response = ask(made, model="else")
    with pytest.raises(UnmanagedCallError, match="group 'else', which StageRoute does not manage"):
        made.control.record_reward(response, 1.0)


async def test_an_unmanaged_call_is_known_by_its_response_id_too(made: Any) -> None:
    response = await made.router.acompletion(model="else", messages=MESSAGES)
    managed = await made.router.acompletion(model="chat", messages=MESSAGES)
    # LiteLLM reports in order: when the second call is settled, the first one has been heard of.
    await asyncio.to_thread(made.routing.wait, 1, "settled")
    with pytest.raises(UnmanagedCallError, match="'else'"):
        await made.control.arecord_reward(response.id, 1.0)
    assert (await made.control.arecord_reward(managed.id, 1.0)).decision_id == "d0"


def test_a_call_that_fell_back_to_an_unmanaged_group_names_that_group(routed: Call, entry: Call) -> None:
    models = [entry("big", BIG, answer="litellm.RateLimitError"), entry("theirs", SMALL, group="else")]
    made = routed(models, fallbacks=[{"chat": ["else"]}])
    response = ask(made)
    with pytest.raises(UnmanagedCallError, match="'else'"):
        made.control.record_reward(response, 1.0)


def test_a_pinned_deployment_of_a_managed_group_has_its_own_error(made: Any) -> None:
    response = ask(made, model=BIG, specific_deployment=True)
    with pytest.raises(UnmanagedCallError):
        made.control.record_reward(response, 1.0)


async def test_giving_up_on_an_asynchronous_reward_does_not_take_it_back(made: Any) -> None:
    pending: Future[Any] = Future()
    made.routing.record_reward = lambda *_, **__: pending
    task = asyncio.create_task(made.control.arecord_reward("d0", 1.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pending.set_result("done")  # what the writer does; a cancelled future would raise here


def test_ids_that_only_look_wrapped_stay_as_they_are() -> None:
    other = base64.b64encode(b"something else").decode()
    for plain in (
        "resp_abc",
        f"resp_{other}",
        "resp_" + base64.b64encode(b"\xff\xfe").decode(),
        "chatcmpl-1",
    ):
        assert plain_response_id(plain) == plain


def test_the_call_id_in_a_response_comes_before_its_own_id() -> None:
    response = SimpleNamespace(id="r", _hidden_params={"litellm_call_id": "c"})
    assert key_of(response) == "c"
    assert key_of(SimpleNamespace(id="r", _hidden_params=None)) == "r"
    assert key_of(SimpleNamespace(logging_obj=SimpleNamespace(litellm_call_id="c"))) == "c"


# --- episodes ----------------------------------------------------------------------------------------------


async def test_an_episode_credits_every_call_made_inside_it_however_deep(made: Any) -> None:
    async def tool() -> None:
        await made.router.acompletion(model="chat", messages=MESSAGES)

    await tool()
    with made.control.episode() as episode:
        await tool()
        await asyncio.gather(tool(), asyncio.create_task(tool()))
        await asyncio.to_thread(ask, made)
    await tool()
    assert episode.decisions == ("d1", "d2", "d3", "d4")
    receipts = await episode.arecord_reward(1.0)
    assert [receipt.decision_id for receipt in receipts] == ["d1", "d2", "d3", "d4"]
    assert {said["source"] for _, _, said in made.routing.of("reward")} == {"episode"}


def test_an_inner_episodes_decisions_belong_to_the_outer_one_too(made: Any) -> None:
    with made.control.episode() as outer:
        ask(made)
        with made.control.episode() as inner:
            ask(made)
        ask(made)
    assert inner.decisions == ("d1",)
    assert outer.decisions == ("d0", "d1", "d2")
    assert len(inner.record_reward(0.5, source="inner")) == 1


def test_an_episode_ends_with_its_block_even_if_that_fails(made: Any) -> None:
    with pytest.raises(ZeroDivisionError), made.control.episode() as episode:
        raise ZeroDivisionError
    ask(made)
    assert episode.decisions == ()


def test_an_attempt_that_failed_gets_no_credit_from_an_episode(routed: Call, entry: Call) -> None:
    models = [entry("big", BIG, answer="litellm.RateLimitError"), entry("other", SMALL, group="else")]
    made = routed(models, groups=["chat", "else"], fallbacks=[{"chat": ["else"]}])
    with made.control.episode() as episode:
        ask(made)
    made.routing.wait(1, "failed")
    assert episode.decisions == ("d1",)


def test_an_episode_belongs_to_one_router(routed: Call, entry: Call) -> None:
    one, two = (routed([entry("big", BIG)]) for _ in range(2))
    with one.control.episode() as episode:
        ask(two)
        ask(one)
    assert episode.decisions == ("d0",)
    assert len(episode.record_reward(1.0)) == 1
    assert two.routing.of("reward") == []


def test_a_plain_worker_thread_is_outside_and_an_empty_episode_says_so(
    made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    logging.disable(logging.NOTSET)
    with made.control.episode() as episode:
        worker = threading.Thread(target=ask, args=(made,))
        worker.start()
        worker.join()
    assert episode.record_reward(1.0) == ()
    assert any("worker threads" in line for line in caplog.messages)


# --- what a response tells ---------------------------------------------------------------------------------


def test_a_rewarded_response_settles_its_call_where_litellms_report_is_lost(made: Any) -> None:
    """An event loop that ends with the call takes LiteLLM's background report with it in some versions."""
    response = asyncio.run(made.router.acompletion(model="chat", messages=MESSAGES))
    made.control.record_reward(response, 1.0)
    made.control.record_reward(response, 0.5)
    ((_, decision, said),) = made.routing.of("settled")
    assert decision == "d0"
    assert said["cost_usd"] == pytest.approx(response._hidden_params["response_cost"])
    assert (said["prompt_tokens"], said["completion_tokens"]) == (10, 20)
    assert said["response_id"] == response.id


def test_the_tokens_of_a_responses_api_answer_are_read_too(made: Any) -> None:
    response = made.router.responses(model="chat", input="hello")
    report = read_response(response)
    assert report is not None
    assert (report.prompt_tokens, report.completion_tokens) == (
        response.usage.input_tokens,
        response.usage.output_tokens,
    )


def test_a_response_from_the_cache_tells_so() -> None:
    hidden = {"litellm_call_id": "c", "response_cost": 0.5, "cache_hit": True}
    report = read_response(SimpleNamespace(id="r", _hidden_params=hidden))
    assert report is not None
    assert report.from_cache


@pytest.mark.parametrize("cost", [None, True, "0.1"])
def test_a_response_without_a_cost_tells_nothing(cost: object) -> None:
    hidden = {"litellm_call_id": "c", "response_cost": cost}
    assert read_response(SimpleNamespace(id="r", _hidden_params=hidden)) is None


def test_a_strange_response_does_not_harm_its_reward(made: Any) -> None:
    made.routing.expected_errors = True
    response = ask(made)
    hidden = {**response._hidden_params, "response_cost": 0.1}
    strange = SimpleNamespace(id="r", _hidden_params=hidden, usage={"prompt_tokens": "many"})
    made.routing.wait(1, "settled")
    assert made.control.record_reward(strange, 1.0).decision_id == "d0"
    assert [type(error) for error in made.routing.errors] == [ValueError]
