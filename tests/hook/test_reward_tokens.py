"""Reward tokens on LiteLLM: made from what a call returned, taken from a client, in any process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stageroute_router import StageRouteRouter
from stageroute_router.errors import (
    InvalidRewardError,
    InvalidTokenError,
    MalformedTokenError,
    SettingsError,
    TokenCallerError,
    TokenSignatureError,
    UnknownDecisionError,
    UnmanagedCallError,
)
from stageroute_router.reports.database import StoredReports
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

MESSAGES = [{"role": "user", "content": "hello"}]
BIG, SMALL = "openai/gpt-4o", "openai/gpt-4o-mini"
SETTINGS = {"chat": {"budget_usd_per_call": 0.01}}
KEY = "k1:only-for-tests-0123456789-abcdefghij"

Call = Callable[..., Any]


@pytest.fixture
def made(routed: Call, entry: Call) -> Any:
    return routed([entry("big", BIG), entry("theirs", SMALL, group="else")])


def ask(made: Any, **asked: Any) -> Any:
    return made.router.completion(**{"model": "chat", "messages": MESSAGES, **asked})


def test_a_token_is_made_from_a_response_its_id_or_its_call_id(made: Any) -> None:
    response = ask(made)
    made.routing.wait(1, "settled")
    for held in (response, response.id, response._hidden_params["litellm_call_id"]):
        receipt = made.control.reward_by_token(made.control.reward_token(held), 1.0)
        assert receipt.decision_id == "d0"


def test_a_token_says_which_arm_and_stage_it_is_about(made: Any) -> None:
    claims = made.control._rewards._tokens.read(made.control.reward_token(ask(made)))
    assert (claims.decision_id, claims.arm, claims.stage) == ("d0", BIG, 1)


async def test_a_token_of_a_stream_is_made_before_its_end(made: Any) -> None:
    stream = await made.router.acompletion(model="chat", messages=MESSAGES, stream=True)
    token = made.control.reward_token(stream)
    assert [chunk async for chunk in stream]
    assert (await made.control.areward_by_token(token, 1.0)).decision_id == "d0"


def test_tokens_of_calls_with_the_same_id_are_about_the_last_of_them(made: Any) -> None:
    """An application may choose call ids; retries of one call then share it, too."""
    for _ in range(2):
        response = ask(made, litellm_call_id="chosen")
    assert made.control._rewards._tokens.read(made.control.reward_token(response)).decision_id == "d1"


def test_a_token_of_a_retried_call_is_about_the_attempt_that_answered(routed: Call, entry: Call) -> None:
    picks = iter([BIG, SMALL])
    made = routed(
        [entry("big", BIG, answer="litellm.RateLimitError"), entry("small", SMALL)],
        prefer=lambda _: next(picks, SMALL),
        num_retries=3,
    )
    response = ask(made)
    claims = made.control._rewards._tokens.read(made.control.reward_token(response))
    assert claims.arm == SMALL
    assert claims.decision_id != "d0"


def test_calls_that_were_not_routed_have_no_token(made: Any) -> None:
    with pytest.raises(UnmanagedCallError, match="'else'"):
        made.control.reward_token(ask(made, model="else"))
    with pytest.raises(UnknownDecisionError, match="where the call was made"):
        made.control.reward_token("chatcmpl-unknown")


def test_your_own_code_may_reward_by_token_without_naming_the_caller(made: Any) -> None:
    token = made.control.reward_token(ask(made), caller="alice")
    assert made.control.record_reward(token, 0.5, source="judge").decision_id == "d0"
    assert made.routing.wait(1, "reward")[0][2] == {
        "reward": 0.5,
        "source": "judge",
        "key": "d0",
        "replace": True,
    }


async def test_your_own_code_does_not_get_past_a_forged_token(made: Any) -> None:
    token = made.control.reward_token(ask(made))
    for forged in (token[:-1], token[:-1] + ("A" if token[-1] != "A" else "Q")):
        with pytest.raises(InvalidTokenError):
            made.control.record_reward(forged, 0.5)
        with pytest.raises(InvalidTokenError):
            await made.control.arecord_reward(forged, 0.5)
    assert made.routing.of("reward") == []


def test_the_door_for_clients_takes_tokens_only(made: Any) -> None:
    response = ask(made)
    token = made.control.reward_token(response, caller="alice")
    for key in (response, response.id, "d0", response._hidden_params["litellm_call_id"], None, b"srt1."):
        with pytest.raises(MalformedTokenError):
            made.control.reward_by_token(key, 1.0)
    for caller in (None, "bob"):
        with pytest.raises(TokenCallerError):
            made.control.reward_by_token(token, 1.0, caller=caller)
    for reward in (1.5, -1, "1", None):
        with pytest.raises(InvalidRewardError):
            made.control.reward_by_token(token, reward, caller="alice")
    assert made.routing.of("reward") == []
    assert made.control.reward_by_token(token, 1.0, caller="alice").status == "recorded"


# --- with the real runtime ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    with SimulatedProvider([SimulatedModel(name="strong"), SimulatedModel(name="weak")]) as started:
        yield started


@pytest.fixture
def make(request: pytest.FixtureRequest, provider: SimulatedProvider) -> Call:
    def build(database_url: str = "memory://", **options: Any) -> Any:
        router = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute=SETTINGS,
            database_url=database_url,
            stageroute_options=options,
            num_retries=0,
        )
        request.addfinalizer(router.stageroute.close)
        return router

    return build


def rewards(router: Any) -> tuple[int, float]:
    """Return how many rewards a router's arms have, and their sum."""
    arms = [arm for arm in router.stageroute.status("chat").arms if arm.reward_count]
    return sum(arm.reward_count for arm in arms), sum(arm.reward_count * arm.reward_mean for arm in arms)


def test_a_clients_first_reward_counts_and_your_own_code_may_correct_it(make: Call) -> None:
    router = make()
    response = router.completion(model="chat", messages=MESSAGES)
    token = router.stageroute.reward_token(response, caller="alice")
    statuses = [
        router.stageroute.reward_by_token(token, value, caller="alice").status for value in (0.25, 0.25, 1)
    ]
    assert statuses == ["recorded", "unchanged", "unchanged"]
    assert rewards(router) == (1, 0.25)
    assert router.record_reward(token, 0.5, source="client").status == "replaced"
    assert rewards(router) == (1, 0.5)


def test_a_second_token_for_the_same_call_is_no_second_reward(make: Call) -> None:
    router = make()
    response = router.completion(model="chat", messages=MESSAGES)
    for value in (1.0, 0.0):
        router.stageroute.reward_by_token(router.stageroute.reward_token(response), value)
    assert rewards(router) == (1, 1.0)


def test_a_setting_lets_clients_change_their_mind(make: Call) -> None:
    router = make(clients_may_replace=True)
    token = router.stageroute.reward_token(router.completion(model="chat", messages=MESSAGES))
    statuses = [router.stageroute.reward_by_token(token, value).status for value in (0.25, 1.0)]
    assert statuses == ["recorded", "replaced"]
    assert rewards(router) == (1, 1.0)


async def test_a_client_that_repeats_itself_at_several_workers_at_once_counts_once(
    make: Call, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'stageroute.db'}"
    here, there = make(url), make(url)
    token = here.stageroute.reward_token(await here.acompletion(model="chat", messages=MESSAGES))
    repeats = [
        router.stageroute.areward_by_token(token, number / 20)
        for number in range(20)
        for router in (here, there)
    ]
    receipts = await asyncio.gather(*repeats)
    # The other worker may not know the decision yet: then the first value is kept for it.
    statuses = [receipt.status for receipt in receipts]
    assert set(statuses) <= {"recorded", "kept", "unchanged"}
    assert statuses.count("recorded") + statuses.count("kept") == 1
    here.stageroute.close()
    there.stageroute.close()
    with StoredReports(url) as reports:
        (group,) = reports.status().groups
    assert sum(arm.reward_count for arm in group.arms) == 1


def test_your_own_code_may_take_a_clients_reward_back(make: Call) -> None:
    router = make()
    token = router.stageroute.reward_token(router.completion(model="chat", messages=MESSAGES))
    router.stageroute.reward_by_token(token, 1.0)
    statuses = [router.stageroute.revoke_reward(token, source="client").status for _ in range(2)]
    assert statuses == ["revoked", "unchanged"]
    assert rewards(router) == (0, 0)


def test_routers_on_one_database_file_take_each_others_tokens(make: Call, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'stageroute.db'}"
    here, there = make(url), make(url)
    response = here.completion(model="chat", messages=MESSAGES)
    token = here.stageroute.reward_token(response)
    here.stageroute.close()
    receipt = there.stageroute.reward_by_token(token, 1.0)
    assert (receipt.status, receipt.group) == ("recorded", "chat")
    assert receipt.arm is not None
    assert receipt.arm.endswith(response._hidden_params["model_id"].partition("/")[2])


def test_routers_without_a_common_secret_refuse_each_others_tokens(make: Call) -> None:
    here, there = make(reward_token_keys=[KEY]), make()
    token = here.stageroute.reward_token(here.completion(model="chat", messages=MESSAGES))
    with pytest.raises(TokenSignatureError):
        there.stageroute.reward_by_token(token, 1.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reward_token_keys": ["k1:short"]}, r"reward_token_keys\[0\].*at least 32"),
        ({"reward_token_lifetime": "soon"}, "reward_token_lifetime = 'soon'.*longer than 0"),
        ({"reward_token_lifetime": 0}, "reward_token_lifetime = 0.*longer than 0"),
        ({"reward_token_lifetime": "91d"}, r"'91d': must not be longer than the retention, 90 days"),
        (
            {"reward_token_lifetime": "3d", "retention": "2d"},
            r"must not be longer than the retention, 2 days",
        ),
        ({"reward_token_lifetime": True}, "reward_token_lifetime = True.*not a boolean"),
    ],
)
def test_settings_of_tokens_that_cannot_be_used_are_refused_at_construction(
    make: Call, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        make(**options)
