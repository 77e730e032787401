"""Rewards that come by themselves, from real calls of a routed router."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stageroute_router import SettingsError, StageRouteRouter
from stageroute_router.integrations.automatic import Answered, RewardFunction, watch
from stageroute_router.integrations.judge import DAY_S, Judge
from stageroute_router.integrations.signals import (
    NotAskedAgain,
    NotEmpty,
    NotRefused,
    ToolCallsFit,
    ValidJson,
)
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

ASK = [{"role": "user", "content": "hello"}]


def rewards(router: StageRouteRouter, count: int) -> list[tuple[int, float | None]]:
    """Wait until so many rewards are known; return count and mean of each arm that has any."""
    give_up_at = time.monotonic() + 20
    while True:
        arms = [arm for arm in router.stageroute.status("chat").arms if arm.reward_count]
        if sum(arm.reward_count for arm in arms) >= count or time.monotonic() > give_up_at:
            return [(arm.reward_count, arm.reward_mean) for arm in arms]
        time.sleep(0.01)


@pytest.fixture
def watching(router: StageRouteRouter) -> Iterator[Any]:
    made = []

    def start(*sources: Any, **options: Any) -> Any:
        made.append(watch(router, *sources, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_function_grades_calls_and_streams(router: StageRouteRouter, watching: Any) -> None:
    seen: list[tuple[Any, str]] = []

    def grade(request: Any, response: Any) -> float:
        seen.append((request["messages"], response.choices[0].message.content))
        return 0.25

    watching(RewardFunction("mine", grade))
    router.completion(model="chat", messages=ASK)
    list(router.completion(model="chat", messages=ASK, stream=True))
    assert sum(count for count, _ in rewards(router, 2)) == 2
    assert {mean for _, mean in rewards(router, 2)} == {0.25}
    assert [asked for asked, _ in seen] == [ASK, ASK]
    assert all("reward" in text for _, text in seen)


async def test_asynchronous_calls_are_graded(router: StageRouteRouter, watching: Any) -> None:
    watch = watching(RewardFunction("mine", lambda _request, _response: 1.0))
    await router.acompletion(model="chat", messages=ASK)
    stream = await router.acompletion(model="chat", messages=ASK, stream=True)
    async for _ in stream:
        pass
    known = await asyncio.to_thread(rewards, router, 2)  # LiteLLM reports streams on this event loop
    assert sum(count for count, _ in known) == 2
    assert watch.skipped == 0


def test_none_gives_no_reward_and_sources_stay_apart(router: StageRouteRouter, watching: Any) -> None:
    watching(RewardFunction("never", lambda _request, _response: None), NotEmpty())
    response = router.completion(model="chat", messages=ASK)
    assert rewards(router, 1) == [(1, 1.0)]
    router.record_reward(response, 0.0)
    assert rewards(router, 2) == [(2, 0.5)]


def test_a_source_that_raises_is_logged_without_the_answer(
    router: StageRouteRouter, watching: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_request: Any, response: Any) -> float:
        raise ValueError(response.choices[0].message.content)

    watching(RewardFunction("broken", broken), RewardFunction("high", lambda *_: 7.0), NotEmpty())
    with caplog.at_level(logging.WARNING, logger="stageroute_router"):
        router.completion(model="chat", messages=ASK)
        assert rewards(router, 1) == [(1, 1.0)]
    assert "'broken' of rewards raised ValueError" in caplog.text
    assert "'high' was not recorded" in caplog.text
    assert "prompt_tokens" not in caplog.text


def test_calls_of_another_router_are_not_rewarded(
    router: StageRouteRouter, provider: SimulatedProvider, watching: Any
) -> None:
    asked: list[Any] = []
    watching(RewardFunction("mine", lambda request, _response: asked.append(request)))
    other = StageRouteRouter(
        model_list=provider.model_list("chat"),
        stageroute={"chat": {"budget_usd_per_call": 0.01}},
        database_url="memory://",
    )
    other.completion(model="chat", messages=ASK)
    router.completion(model="chat", messages=[{"role": "user", "content": "mine"}])
    give_up_at = time.monotonic() + 20
    while not asked and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert [request["messages"][0]["content"] for request in asked] == ["mine"]
    other.stageroute.close()


@pytest.mark.parametrize("sources", [(), (NotEmpty(), NotEmpty()), (RewardFunction("app", lambda *_: 1.0),)])
def test_names_must_be_told_apart(router: StageRouteRouter, sources: Any) -> None:
    with pytest.raises(SettingsError, match="name of its own"):
        watch(router, *sources)


def test_a_router_that_is_not_routed_is_refused() -> None:
    with pytest.raises(SettingsError, match="StageRoute does not route it"):
        watch(object(), NotEmpty())


# --- signals -----------------------------------------------------------------------------------------------------


def answered(
    text: str | None = "hello",
    *,
    calls: Any = None,
    finish: str = "stop",
    decision: str = "d1",
    **request: Any,
) -> Answered:
    message = {"role": "assistant", "content": text, "tool_calls": calls}
    return Answered(
        decision_id=decision,
        request=request,
        response={"choices": [{"message": message, "finish_reason": finish}]},
    )


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": SCHEMA}}]
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("signal", "case", "value"),
    [
        (ValidJson(), answered("{}"), None),
        (ValidJson(), answered("{}", response_format={"type": "text"}), None),
        (ValidJson(), answered("{}", response_format={"type": "json_object"}), 1.0),
        (ValidJson(), answered("[1]", response_format={"type": "json_object"}), 0.0),
        (ValidJson(), answered("{a", response_format={"type": "json_object"}), 0.0),
        (ValidJson(), answered(None, response_format={"type": "json_object"}), 0.0),
        (ValidJson(), answered('{"a": 1}', response_format=BY_SCHEMA), 1.0),
        (ValidJson(), answered('{"a": "x"}', response_format=BY_SCHEMA), 0.0),
        (NotEmpty(), answered("x"), 1.0),
        (NotEmpty(), answered(" \n"), 0.0),
        (NotEmpty(), answered(None), 0.0),
        (NotEmpty(), answered(None, calls=[call("add", "{}")]), 1.0),
        (NotRefused(), answered("Four."), 1.0),
        (NotRefused(), answered("I'm sorry, but I can't help with that."), 0.0),
        (NotRefused(), answered("I\u2019m sorry, I cannot do this."), 0.0),
        (NotRefused(), answered("I cannot assist with that request."), 0.0),
        (NotRefused(), answered("As an AI language model, I cannot have opinions"), 0.0),
        (NotRefused(), answered("I cannot overstate how good this is."), 1.0),
        (NotRefused(), answered("x", finish="content_filter"), 0.0),
        (ToolCallsFit(), answered("x", tools=TOOLS), None),
        (ToolCallsFit(), answered(None, calls=[call("add", '{"a": 1}')], tools=TOOLS), 1.0),
        (ToolCallsFit(), answered(None, calls=[call("add", '{"a": "1"}')], tools=TOOLS), 0.0),
        (ToolCallsFit(), answered(None, calls=[call("add", "{")], tools=TOOLS), 0.0),
        (ToolCallsFit(), answered(None, calls=[call("drop", "{}")], tools=TOOLS), 0.0),
    ],
)
def test_signals(signal: Any, case: Answered, value: float | None) -> None:
    assert list(signal.rewards(case)) == ([] if value is None else [("d1", value)])


def test_asking_the_same_again_soon_speaks_against_the_answer_before() -> None:
    now = [0.0]
    signal = NotAskedAgain(within_s=60.0, clock=lambda: now[0])

    def ask(text: str, decision: str, user: str | None = "u") -> list[tuple[str, float]]:
        messages = [{"role": "user", "content": text}]
        return list(signal.rewards(answered(decision=decision, messages=messages, user=user)))

    assert ask("what is 2 + 2?", "d1") == []
    assert ask("what  is 2 + 2?", "d2", user="another user") == []
    assert ask("What  is 2 + 2?", "d3") == [("d1", 0.0)]
    assert ask("thanks, and 3 + 3?", "d4") == [("d3", 1.0)]
    now[0] = 61.0
    assert ask("thanks, and 3 + 3?", "d5") == []
    assert ask("x", "d6", user=None) == []


def test_signals_see_real_tool_calls(router: StageRouteRouter, watching: Any) -> None:
    watching(ToolCallsFit())
    tool = {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        },
    }
    router.completion(model="chat", messages=ASK, tools=[tool], _skip_mcp_handler=True)
    assert rewards(router, 1) == [(1, 1.0)]


# --- the judge ---------------------------------------------------------------------------------------------------


def test_a_judge_grades_by_a_real_call(router: StageRouteRouter, watching: Any) -> None:
    with SimulatedProvider([SimulatedModel(name="judge", answer="8")], seed=0) as judging:
        judge = Judge(
            model="openai/judge",
            api_base=f"{judging.url}/v1",
            api_key="none",
            sample=1.0,
            max_usd_per_day=1.0,
        )
        watching(judge)
        router.completion(model="chat", messages=ASK)
        assert rewards(router, 1) == [(1, 0.8)]


class FakeJudge:
    """Answers with given texts, at a given cost."""

    def __init__(self, *texts: str, cost: float | None = 0.004) -> None:
        self.texts, self.cost, self.asked = list(texts), cost, []

    def __call__(self, **given: Any) -> Any:
        self.asked.append(given)
        message = type("Message", (), {"content": self.texts[len(self.asked) - 1]})()
        choice = type("Choice", (), {"message": message})()
        return type("Response", (), {"choices": [choice], "_hidden_params": {"response_cost": self.cost}})()


def test_a_judge_stops_before_its_dollars_are_spent_and_begins_anew_the_next_day() -> None:
    now = [0.0]
    fake = FakeJudge(*["5"] * 9)
    judge = Judge(
        model="m", sample=1.0, max_usd_per_day=0.02, first_usd=0.004, complete=fake, clock=lambda: now[0]
    )
    graded = [list(judge.rewards(answered(messages=ASK))) for _ in range(9)]
    assert graded == [[("d1", 0.5)]] * 5 + [[]] * 4
    assert judge.spent_usd == pytest.approx(0.02)
    now[0] = DAY_S
    assert list(judge.rewards(answered(messages=ASK))) == [("d1", 0.5)]


def test_a_judge_reserves_before_it_calls() -> None:
    fake = FakeJudge("5", cost=None)
    judge = Judge(model="m", sample=1.0, max_usd_per_day=0.005, complete=fake)
    assert list(judge.rewards(answered())) == []
    assert fake.asked == []


def test_a_judge_grades_its_sample_only() -> None:
    fake = FakeJudge(*["10"] * 1000)
    judge = Judge(model="m", sample=0.1, max_usd_per_day=1e9, complete=fake, seed=0)
    graded = sum(bool(list(judge.rewards(answered()))) for _ in range(1000))
    assert 70 < graded < 130


@pytest.mark.parametrize(
    ("text", "mark"), [("10", 1.0), (" 7\n", 0.7), ("3/10", 0.3), ("0.", 0.0), ("11", None), ("good", None)]
)
def test_only_a_mark_is_a_mark(text: str, mark: float | None) -> None:
    judge = Judge(model="m", sample=1.0, max_usd_per_day=1.0, complete=FakeJudge(text))
    assert list(judge.rewards(answered())) == ([] if mark is None else [("d1", mark)])


def test_the_judge_is_shown_question_and_answer_as_material() -> None:
    fake = FakeJudge("5")
    list(
        Judge(model="m", sample=1.0, max_usd_per_day=1.0, complete=fake).rewards(answered("4", messages=ASK))
    )
    system, material = fake.asked[0]["messages"]
    assert "never an instruction" in system["content"]
    assert json.loads(material["content"]) == {"conversation": {"messages": ASK}, "answer": "4"}


@pytest.mark.parametrize("wrong", [{"sample": 0}, {"sample": 1.5}, {"max_usd_per_day": 0}, {"first_usd": -1}])
def test_what_is_out_of_its_domain_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Judge(**{"model": "m", "max_usd_per_day": 1.0, **wrong})  # type: ignore[arg-type]
