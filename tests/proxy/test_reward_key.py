"""A client may name a call by its own id, sent in a header; another client's reward may not."""

from __future__ import annotations

import uuid

import httpx
import pytest

from stageroute_router.proxy import reward_key
from stageroute_router.proxy.reward_key import HEADER, TASK_HEADER, key_in
from tests.support.proxy import Setup


def reward(setup: Setup, key: str, value: float) -> httpx.Response:
    return setup.client.post("/stageroute/reward", json={"id": f"key:{key}", "reward": value})


def test_a_call_is_rewarded_once_by_the_key_it_came_with(setup: Setup) -> None:
    key = str(uuid.uuid4())
    answer = setup.chat(headers={HEADER: key})
    assert answer.status_code == 200
    decision = answer.headers["x-stageroute-decision-id"]
    found = [reward(setup, key, 1.0) for _ in range(2)]
    assert [one.json() for one in found] == [
        {"status": status, "decision_id": decision} for status in ("recorded", "unchanged")
    ]
    assert key not in str(setup.decision(answer))
    assert reward(setup, str(uuid.uuid4()), 1.0).status_code == 404


@pytest.mark.parametrize("key", ["x" * 129, "two words", "tab\there"])
def test_a_key_that_cannot_be_used_is_ignored(setup: Setup, key: str) -> None:
    answer = setup.chat(headers={HEADER: key})
    assert "x-stageroute-decision-id" in answer.headers
    assert setup.decision(answer).decision.call_id == answer.headers["x-litellm-call-id"]


def test_a_key_that_cannot_be_used_is_said_once_and_not_shown(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_key, "_said", set())
    for _ in range(2):
        assert key_in({HEADER: "two words"}, caller="one") is None
    (said,) = caplog.records
    assert HEADER in said.getMessage()
    assert "two words" not in said.getMessage()


def test_a_call_for_something_else_leaves_the_key_to_the_answer(setup: Setup) -> None:
    key = str(uuid.uuid4())
    answer = setup.chat(headers={HEADER: key, TASK_HEADER: ""})
    title = setup.chat(headers={HEADER: key, TASK_HEADER: "title_generation"})
    assert setup.decision(title).decision.call_id == title.headers["x-litellm-call-id"]
    assert reward(setup, key, 1.0).json()["decision_id"] == answer.headers["x-stageroute-decision-id"]


def test_an_empty_key_is_none(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_key, "_said", set())
    assert key_in({HEADER: "", TASK_HEADER: "title_generation"}, caller="one") is None
    assert not caplog.records


def test_equal_keys_of_two_callers_are_two_ids() -> None:
    one, other = (key_in({HEADER.upper(): "m1"}, caller=caller) for caller in ("one", "other"))
    assert one
    assert other
    assert one != other
