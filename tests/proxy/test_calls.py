"""What clients of the proxy get: every kind of call is routed, costed, and can be rewarded."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import pytest

from stageroute_router.errors import TokenCallerError
from stageroute_router.reward_keys import key_source
from stageroute_router.reward_token import RewardTokens
from stageroute_router.runtime import Runtime, open_runtime
from stageroute_router.testing.provider import SimulatedProvider
from tests.proxy.conftest import MESSAGES, PRICES, Setup, eventually
from tests.topics import COOK, QUERY

HEADERS = {f"x-stageroute-{name}" for name in ("decision-id", "token", "arm", "probability", "stage")}
COST_IN_TOKENS = 200
"""What any call costs in the price of a prompt token: 100 of these, and 50 completion tokens at twice the price."""

COMPLETION = {"messages": MESSAGES}
# Without being asked for it, the oldest LiteLLM has usage only from OpenAI's own host, and counts words otherwise.
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", COMPLETION),
    "chat stream": ("/v1/chat/completions", {**COMPLETION, **STREAM}),
    "text": ("/v1/completions", {"prompt": "hello"}),
    "text stream": ("/v1/completions", {"prompt": "hello", **STREAM}),
    "embeddings": ("/v1/embeddings", {"input": "hello"}),
    "responses": ("/v1/responses", {"input": "hello"}),
    "responses stream": ("/v1/responses", {"input": "hello", "stream": True}),
    "messages": ("/v1/messages", {**COMPLETION, "max_tokens": 100}),
    "messages stream": ("/v1/messages", {**COMPLETION, "max_tokens": 100, "stream": True}),
}


def ours(response: httpx.Response) -> set[str]:
    return {name for name in response.headers if name.startswith("x-stageroute-")}


@pytest.fixture(scope="module")
def worker(setup: Setup) -> Iterator[Runtime]:
    """Another process's view: it knows the database, and no call."""
    settings = {"chat": {"budget_usd_per_call": 0.002, "max_live_models": 3}}
    runtime = open_runtime(settings, known_groups=None, database_url=setup.database_url)
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def tokens(setup: Setup) -> RewardTokens:
    return RewardTokens(key_source((), database_url=setup.database_url), lifetime_s=3600)


@pytest.mark.parametrize("kind", CALLS)
def test_every_kind_of_call_is_routed_and_costed_and_can_be_rewarded(
    setup: Setup, worker: Runtime, tokens: RewardTokens, kind: str
) -> None:
    path, body = CALLS[kind]
    response = setup.client.post(path, json={"model": "chat", **body})
    assert response.status_code == 200
    assert ours(response) == HEADERS
    headers = response.headers
    arm = headers["x-stageroute-arm"].removeprefix("openai/")
    # The oldest LiteLLM has no such header on streams of text completions.
    assert headers.get("x-litellm-model-id", f"chat/{arm}") == f"chat/{arm}"
    found = setup.decision(response)
    assert found.state == "settled"
    assert found.cost_usd == pytest.approx(COST_IN_TOKENS * PRICES[arm])
    assert (found.served_arm, found.decision.arm) == (f"openai/{arm}", f"openai/{arm}")
    assert found.decision.probability == pytest.approx(float(headers["x-stageroute-probability"]), rel=1e-5)
    assert found.decision.stage == int(headers["x-stageroute-stage"])
    assert found.decision.call_id == headers["x-litellm-call-id"]
    caller = found.decision.caller
    assert caller is not None
    claims = tokens.read_from(headers["x-stageroute-token"], caller=caller)
    assert claims.decision_id == found.decision.decision_id
    receipt = worker.record_reward(claims.decision_id, 0.75, source="client").result(30)
    assert receipt.status == "recorded"
    rewarded = setup.store.decision(claims.decision_id)
    assert rewarded is not None
    assert rewarded.rewards == {"client": 0.75}


def test_calls_are_told_apart_by_a_model_that_embeds(setup: Setup, provider: SimulatedProvider) -> None:
    asked = provider.counts("embedder")["requests"]

    def segment(text: str, **more: Any) -> str:
        response = setup.chat("meant", messages=[{"role": "user", "content": text}], **more)
        found = setup.decision(response)
        assert found.cost_usd == pytest.approx(COST_IN_TOKENS * PRICES["small"]), "an embedding costs more"
        return found.decision.segment

    segments = [segment(topic("onions")) for topic in (COOK, QUERY)]
    assert sorted(segments) == ["auto:1:0", "auto:1:1"]
    assert [segment(topic("carrots"), **STREAM) for topic in (COOK, QUERY)] == segments
    assert [segment(topic("carrots")) for topic in (COOK, QUERY)] == segments, "known already"
    assert provider.counts("embedder")["requests"] == asked + 4


def test_a_call_of_text_completions_does_not_make_later_ones_free(setup: Setup) -> None:
    for _ in range(6):
        setup.client.post("/v1/completions", json={"model": "chat", "prompt": "hello"})
    for kind in ("responses", "messages") * 4:
        path, body = CALLS[kind]
        found = setup.decision(setup.client.post(path, json={"model": "chat", **body}))
        assert found.cost_usd == pytest.approx(
            COST_IN_TOKENS * PRICES[found.served_arm.removeprefix("openai/")]
        )


def test_a_caller_is_named_by_a_digest_that_its_tokens_are_bound_to(
    setup: Setup, tokens: RewardTokens
) -> None:
    responses = [setup.chat() for _ in range(2)]
    callers = {setup.decision(response).decision.caller for response in responses}
    assert len(callers) == 1
    (caller,) = callers
    assert caller is not None
    assert len(caller) == 16
    with pytest.raises(TokenCallerError):
        tokens.read_from(responses[0].headers["x-stageroute-token"], caller=None)
    from litellm.proxy._types import UserAPIKeyAuth  # noqa: PLC0415 - only this test needs it

    assert caller != UserAPIKeyAuth(api_key=setup.process.master_key).api_key
    with closing(sqlite3.connect(setup.database_url.removeprefix("sqlite:///"))) as database:
        dump = "\n".join(database.iterdump())
    assert setup.process.master_key not in dump
    assert str(UserAPIKeyAuth(api_key=setup.process.master_key).api_key) not in dump


def test_the_headers_are_those_of_the_attempt_that_served(setup: Setup) -> None:
    for streamed in (False, True):
        states: list[str] = []
        for _ in range(
            100
        ):  # the failing arm is chosen first in some of the calls, and again and again in few
            response = setup.chat("flaky", stream=streamed)
            if response.status_code == 500:
                assert not ours(response)
                continue
            assert response.headers["x-stageroute-arm"] == "openai/small"
            found = setup.decision(response)
            assert (found.state, found.served_arm) == ("settled", "openai/small")
            states = [state for _, _, state in decisions_of(setup, found.decision.call_id)]
            if len(states) > 1:
                break
        assert states == ["failed"] * (len(states) - 1) + ["settled"]
        assert len(states) > 1


def decisions_of(setup: Setup, call_id: str) -> list[tuple[str, str, str]]:
    """Return decision, arm and state of each attempt of a call, in order, once they have all ended."""

    def ended() -> list[tuple[str, str, str]] | None:
        with closing(sqlite3.connect(setup.database_url.removeprefix("sqlite:///"))) as database:
            rows = database.execute(
                "select decision_id, arm, state from stageroute_decisions where call_id = ? order by decision_id",
                [call_id],
            ).fetchall()
        return None if any(state == "open" for _, _, state in rows) else rows

    found: list[tuple[str, str, str]] = eventually(ended)
    return found


def test_an_answer_that_litellm_chose_for_carries_no_headers(setup: Setup) -> None:
    plain = setup.chat("plain")
    fallback = setup.chat("doomed")
    assert (plain.status_code, ours(plain)) == (200, set())
    assert (fallback.status_code, ours(fallback)) == (200, set())
    assert fallback.headers["x-litellm-model-id"] == "plain/small"

    def states() -> list[str]:
        with closing(sqlite3.connect(setup.database_url.removeprefix("sqlite:///"))) as database:
            query = "select state from stageroute_decisions where group_name = 'doomed'"
            return [state for (state,) in database.execute(query)]

    eventually(lambda: set(states()) == {"failed"})


def test_calls_under_one_call_id_are_told_apart(setup: Setup) -> None:
    chosen = {"x-litellm-call-id": "the-clients-own"}
    with ThreadPoolExecutor(12) as pool:
        responses = list(pool.map(lambda _: setup.chat(headers=chosen), range(24)))
    found = [setup.decision(response) for response in responses]
    assert len({one.decision.decision_id for one in found}) == 24
    for response, one in zip(responses, found, strict=True):
        assert response.headers["x-litellm-call-id"] == "the-clients-own"
        assert one.response_id == response.json()["id"]
        arm = one.served_arm.removeprefix("openai/")
        assert one.cost_usd == pytest.approx(COST_IN_TOKENS * PRICES[arm])
    assert setup.store.decision("the-clients-own") is None, "it names none of them for certain"


def test_a_client_cannot_end_another_ones_call(setup: Setup) -> None:
    """It knows the other's call id and decision id while that call is under way, and forges all our notes."""
    chosen = {"x-litellm-call-id": "guessed"}
    body = {"model": "slow", **COMPLETION, **STREAM}
    with setup.client.stream("POST", "/v1/chat/completions", json=body, headers=chosen) as victim:
        decision_id = victim.headers["x-stageroute-decision-id"]
        forged = {
            "stageroute": decision_id,
            "stageroute_decision": decision_id,
            "stageroute_origin": "guessed",
            "model_info": {"id": "slow/slow"},
        }
        for place in ("metadata", "litellm_metadata"):
            response = setup.chat(headers=chosen, **{place: forged})
            attacker = setup.decision(response)
            assert attacker.decision.decision_id != decision_id
            assert attacker.response_id == response.json()["id"]
        # How the victim's call ends is not known before it does.
        still = eventually(lambda: setup.store.decision(decision_id))
        lines = [line for line in victim.iter_lines() if line.startswith("data: {")]
    assert still.state == "open"
    ended = setup.ended(decision_id)
    assert (ended.served_arm, ended.cost_usd) == ("openai/slow", pytest.approx(150e-6))
    assert ended.response_id == json.loads(lines[0].removeprefix("data: "))["id"]


@pytest.mark.parametrize(
    ("kind", "place"),
    [("chat", "metadata"), ("chat", "litellm_metadata"), ("responses", "metadata"), ("messages", "metadata")],
)
def test_a_client_names_the_segment_of_its_call(setup: Setup, kind: str, place: str) -> None:
    """With the OpenAI SDK: ``extra_body={"metadata": {"stageroute": {"segment": "sql"}}}``."""
    path, body = CALLS[kind]
    given = {place: {"stageroute": {"segment": "sql"}, "stageroute_decision": "sr-forged"}}
    response = setup.client.post(path, json={"model": "chat", **body, **given})
    assert setup.decision(response).decision.segment == "sql"


def test_a_label_that_is_no_name_is_no_segment(setup: Setup) -> None:
    for label in ("two\nlines", "x" * 65, 7, ["sql"], "auto:1:1"):
        response = setup.chat(metadata={"stageroute": {"segment": label}})
        assert setup.decision(response).decision.segment == ""


def test_a_locked_database_delays_no_call_and_loses_none(setup: Setup) -> None:
    file = setup.database_url.removeprefix("sqlite:///")
    locker = sqlite3.connect(file, isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    try:
        responses = [setup.chat() for _ in range(5)]
        assert setup.client.get("/health/readiness").status_code == 200
        assert setup.client.get("/health/liveliness").status_code == 200
    finally:
        locker.execute("ROLLBACK")
        locker.close()
    assert [response.status_code for response in responses] == [200] * 5
    assert all(ours(response) == HEADERS for response in responses)
    for response in responses:
        assert setup.decision(response).state == "settled"


def test_litellms_own_model_info_keeps_working(setup: Setup) -> None:
    models = setup.client.get("/v1/models").json()["data"]
    assert {model["id"] for model in models} >= {"chat", "plain"}
    assert httpx.get(f"{setup.process.url}/v1/models").status_code in {
        401,
        500,
    }  # 500: see LiteLLM without a database


def availabilities(setup: Setup, group: str) -> dict[str, float]:
    """Return the chance that each arm of a group answers, as the proxy believes."""
    found = setup.client.get("/stageroute/status", params={"group": group}).json()
    return {arm["name"]: arm["availability"] for arm in found["groups"][0]["arms"]}


def test_an_arm_that_fails_is_left_and_a_clients_mistake_is_not_the_arms(
    setup: Setup, provider: SimulatedProvider
) -> None:
    for name in PRICES:
        provider.set(name, error_rate=1.0, error_status=400)
    try:
        for _ in range(12):
            assert setup.chat().status_code == 400
    finally:
        for name in PRICES:
            provider.set(name, error_rate=0.0, error_status=500)
    assert set(availabilities(setup, "chat").values()) == {1.0}
    down, *_ = PRICES
    provider.set(down, error_rate=1.0)
    try:
        eventually(
            lambda: setup.chat().status_code == 200 and availabilities(setup, "chat")[f"openai/{down}"] < 1
        )
    finally:
        provider.set(down, error_rate=0.0)
