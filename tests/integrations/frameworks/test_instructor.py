"""Instructor over the router: whether an answer validates is its reward."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import instructor
import openai
import pytest
from instructor.core.exceptions import IncompleteOutputException, InstructorRetryException
from pydantic import BaseModel, Field, field_validator

from stageroute_router import SettingsError, StageRouteRouter
from stageroute_router.integrations.instructor import rewarding
from stageroute_router.integrations.openai_transport import async_http_client, http_client
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

ASK = [{"role": "user", "content": "Who is Ann?"}]
GOOD = {"name": "Ann", "age": 31}


class User(BaseModel):
    """What the simulated models answer."""

    name: str
    age: int = Field(ge=0)


class Impossible(BaseModel):
    """What they never answer."""

    name: int


class Picky(BaseModel):
    """Fits at its third reading."""

    name: str
    age: int
    readings: int = 0

    @field_validator("name")
    @classmethod
    def third_time(cls, name: str) -> str:
        READINGS.append(name)
        if len(READINGS) % 3:
            raise ValueError("not yet")
        return name


READINGS: list[str] = []


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    models = [
        SimulatedModel(
            name=name, answer=json.dumps(GOOD), tool_arguments={"User": GOOD}, output_usd_per_token=price
        )
        for name, price in (("small", 1e-7), ("large", 1e-6))
    ]
    with SimulatedProvider(models, seed=0) as serving:
        yield serving


@pytest.fixture(params=["router", "openai"])
def client(request: pytest.FixtureRequest, router: StageRouteRouter) -> Any:
    mode = instructor.Mode.JSON
    if request.param == "router":
        return rewarding(instructor.from_litellm(router.completion, mode=mode), router)
    sdk = openai.OpenAI(http_client=http_client(router), base_url="http://any/v1", api_key="unused")
    return rewarding(instructor.from_openai(sdk, mode=mode), router)


@pytest.fixture(params=["router", "openai"])
def async_client(request: pytest.FixtureRequest, router: StageRouteRouter) -> Any:
    mode = instructor.Mode.JSON
    if request.param == "router":
        return rewarding(instructor.from_litellm(router.acompletion, mode=mode), router)
    sdk = openai.AsyncOpenAI(
        http_client=async_http_client(router), base_url="http://any/v1", api_key="unused"
    )
    return rewarding(instructor.from_openai(sdk, mode=mode), router)


def rewards(router: StageRouteRouter, *, count: int) -> list[float]:
    """Wait for ``count`` rewards, which are reported in the background; return how many there are and their sum."""
    deadline = time.monotonic() + 10
    while True:
        arms = router.stageroute.status("chat").arms
        given = sum(arm.reward_count for arm in arms)
        if given >= count or time.monotonic() > deadline:
            return [given, round(sum(arm.reward_count * (arm.reward_mean or 0) for arm in arms), 9)]
        time.sleep(0.01)


def kept(router: StageRouteRouter, response_id: str) -> dict[str, float]:
    """Return the rewards of a response, once its own id is known: LiteLLM reports it from a thread of its own."""
    deadline = time.monotonic() + 10
    while (receipt := router.stageroute.receipt(response_id)) is None:
        assert time.monotonic() < deadline, f"no decision of the response {response_id}"
        time.sleep(0.01)
    return dict(receipt.rewards)


def calls(router: StageRouteRouter) -> int:
    return int(router.stageroute.status("chat").calls)


def ask(client: Any, model: type[BaseModel], **more: Any) -> Any:
    return client.create(model="chat", messages=ASK, response_model=model, **more)


def test_an_answer_that_validates_is_worth_1(router: StageRouteRouter, client: Any) -> None:
    assert ask(client, User).model_dump() == GOOD
    assert rewards(router, count=1) == [1, 1.0]
    user, answer = client.create_with_completion(model="chat", messages=ASK, response_model=User)
    assert user.model_dump() == GOOD
    assert rewards(router, count=2) == [2, 2.0]
    assert kept(router, answer.id) == {"instructor": 1.0}
    # What the application reports is kept beside it.
    router.record_reward(answer.id, 0.5)
    assert router.stageroute.receipt(answer.id).rewards == {"instructor": 1.0, "app": 0.5}
    assert calls(router) == 2


def test_each_attempt_has_its_own_reward(router: StageRouteRouter, client: Any) -> None:
    READINGS.clear()
    assert ask(client, Picky, max_retries=3).name == "Ann"
    assert rewards(router, count=3) == [3, 1.0]
    assert calls(router) == 3


def test_an_answer_that_never_validates_is_worth_0(router: StageRouteRouter, client: Any) -> None:
    with pytest.raises(InstructorRetryException):
        ask(client, Impossible, max_retries=1)
    assert rewards(router, count=2) == [2, 0.0]
    assert calls(router) == 2


async def test_asynchronous_calls(router: StageRouteRouter, async_client: Any) -> None:
    assert (await ask(async_client, User)).model_dump() == GOOD
    READINGS.clear()
    assert (await ask(async_client, Picky, max_retries=3)).name == "Ann"
    with pytest.raises(InstructorRetryException):
        await ask(async_client, Impossible, max_retries=0)
    assert rewards(router, count=5) == [5, 2.0]
    assert calls(router) == 5


async def test_asynchronous_streams(router: StageRouteRouter, async_client: Any) -> None:
    partial = async_client.create_partial(model="chat", messages=ASK, response_model=User)
    assert [part async for part in partial][-1].age == 31
    assert rewards(router, count=1) == [1, 1.0]
    left = async_client.create_partial(model="chat", messages=ASK, response_model=User)
    async for _ in left:
        break
    await left.aclose()
    with pytest.raises(Exception, match="name"):
        assert [
            part
            async for part in async_client.create_partial(
                model="chat", messages=ASK, response_model=Impossible
            )
        ]
    assert rewards(router, count=2) == [2, 1.0]  # the one left early is not judged
    assert calls(router) == 3


def test_synchronous_streams(router: StageRouteRouter) -> None:
    sdk = openai.OpenAI(http_client=http_client(router), base_url="http://any/v1", api_key="unused")
    client = rewarding(instructor.from_openai(sdk, mode=instructor.Mode.JSON), router)
    parts = list(client.create_partial(model="chat", messages=ASK, response_model=User))
    assert parts[-1].age == 31
    assert rewards(router, count=1) == [1, 1.0]
    assert calls(router) == 1


def test_a_stream_that_cannot_be_read_is_not_judged(router: StageRouteRouter) -> None:
    mode = instructor.Mode.JSON
    client = rewarding(instructor.from_litellm(router.completion, mode=mode), router)
    client.create_partial(model="chat", messages=ASK, response_model=User)
    ask(client, User)  # rewards are taken in order: were there one of the first, it would be there now
    assert rewards(router, count=1) == [1, 1.0]
    assert calls(router) == 2


def test_tools(router: StageRouteRouter) -> None:
    client = rewarding(instructor.from_litellm(router.completion), router)
    assert ask(client, User).model_dump() == GOOD
    assert rewards(router, count=1) == [1, 1.0]


def test_an_answer_cut_off_is_worth_0(router: StageRouteRouter, client: Any) -> None:
    def cut_off(response: Any) -> None:
        response.choices[0].finish_reason = "length"

    client.on("completion:response", cut_off)
    with pytest.raises(IncompleteOutputException):
        ask(client, User)
    assert rewards(router, count=1) == [1, 0.0]


def test_a_call_inside_a_validator_is_judged_by_itself(router: StageRouteRouter, client: Any) -> None:
    class Checked(User):
        @field_validator("name")
        @classmethod
        def real(cls, name: str) -> str:
            assert ask(client, User).name == name
            raise ValueError("no")

    with pytest.raises(InstructorRetryException):
        ask(client, Checked, max_retries=0)
    assert rewards(router, count=2) == [2, 1.0]


def test_errors_of_others_are_no_reward(router: StageRouteRouter, client: Any) -> None:
    class Buggy(User):
        @field_validator("name")
        @classmethod
        def bug(cls, name: str) -> str:
            raise RuntimeError(name)

    with pytest.raises(InstructorRetryException):
        ask(client, Buggy, max_retries=0)
    ask(client, User)  # rewards are taken in order: were there one of the first, it would be there now
    assert rewards(router, count=1) == [1, 1.0]
    assert calls(router) == 2


def test_a_router_that_is_not_routed_is_refused(router: StageRouteRouter) -> None:
    with pytest.raises(SettingsError, match="attach"):
        rewarding(instructor.from_litellm(router.completion), object())


async def test_the_pages_example(router: StageRouteRouter, documented: dict[str, Any]) -> None:
    assert (await ask(documented["async_client"], User)).model_dump() == GOOD
    assert rewards(router, count=1) == [1, 1.0]


def test_the_examples_of_the_adapter(shows: Callable[..., None]) -> None:
    shows("instructor")
