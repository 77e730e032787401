"""Rewards over HTTP: who may give them for what, and what each is answered."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stageroute_router.errors import UnknownDecisionError
from stageroute_router.process.ids import new_decision_id
from stageroute_router.proxy.reward_key import HEADER, key_in
from stageroute_router.rewards.receipt import RewardReceipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stageroute_router import StageRouteRouter
    from tests.proxy.api.conftest import Served

MASTER = "sk-master-of-these-tests"


def post(served: Served, key: str, body: object) -> httpx.Response:
    with served.client(key) as client:
        return client.post("/stageroute/reward", json=body)


def rewards(served: Served, response: Any) -> dict[str, float]:
    found = served.routing.control().receipt(response.id)
    assert found is not None
    return dict(found.rewards)


def code(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "code"}
    assert all(isinstance(part, str) and part for part in error.values())
    return str(error["code"])


# --- what counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named_by", ["response id", "call id", "decision id", "token"])
def test_a_key_rewards_its_own_call_by_whatever_names_it(served: Served, named_by: str) -> None:
    response = served.call("sk-anna")
    found = served.routing.control().receipt(response.id)
    assert found is not None
    key = {
        "response id": response.id,
        "call id": found.call_id,
        "decision id": found.decision_id,
        "token": served.token(response, "sk-anna"),
    }[named_by]
    answer = post(served, "sk-anna", {"id": key, "reward": 0.7})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"status": "recorded", "decision_id": found.decision_id}
    assert rewards(served, response) == {"client": 0.7}


def test_the_same_again_changes_nothing_and_another_value_replaces_it(served: Served) -> None:
    response = served.call("sk-anna")
    said = []
    for reward in (0.5, 0.5, 0.75):
        answer = post(served, "sk-anna", {"id": response.id, "reward": reward})
        assert answer.status_code == 200, answer.text
        said.append(answer.json()["status"])
    assert said == ["recorded", "unchanged", "replaced"]
    assert rewards(served, response) == {"client": 0.75}


def test_by_token_the_first_reward_counts(served: Served) -> None:
    response = served.call("sk-anna")
    token = served.token(response, "sk-anna")
    said = [post(served, "sk-anna", {"id": token, "reward": reward}).json()["status"] for reward in (0.5, 1)]
    assert said == ["recorded", "unchanged"]
    assert rewards(served, response) == {"client": 0.5}


def test_a_reward_may_come_before_its_decision(served: Served) -> None:
    answer = post(served, "sk-anna", {"id": new_decision_id(time.time()), "reward": 1})
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"status": "kept", "decision_id": None}


def test_a_call_of_another_worker_is_rewarded_in_this_one(
    serve: Callable[..., Served], routers: Callable[..., StageRouteRouter], tmp_path_factory: Any
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('shared')}/routing.db"
    one, other = serve(routers(database_url=url)), serve(routers(database_url=url))
    response = one.call("sk-anna")
    assert post(other, "sk-ben", {"id": response.id, "reward": 1}).status_code == 403
    assert post(other, "sk-anna", {"id": response.id, "reward": 1}).json()["status"] == "recorded"
    assert rewards(one, response) == {"client": 1.0}


def test_an_id_that_another_worker_is_about_to_store_is_looked_for_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = served.call("sk-anna")
    control = served.routing.control()
    stored = control.arecord_reward
    asked = []

    async def record(key: object, *args: Any, **named: Any) -> Any:
        asked.append(key)
        if len(asked) < 3:
            raise UnknownDecisionError(str(key))
        return await stored(key, *args, **named)

    monkeypatch.setattr(control, "arecord_reward", record)
    answer = post(served, "sk-anna", {"id": response.id, "reward": 1})
    assert (answer.status_code, answer.json()["status"], len(asked)) == (200, "recorded", 3)


def test_a_reward_can_be_taken_back(served: Served) -> None:
    response = served.call("sk-anna")
    post(served, "sk-anna", {"id": response.id, "reward": 1})
    with served.client("sk-ben") as ben, served.client("sk-anna") as anna:
        path, query = "/stageroute/reward", {"id": response.id}
        assert code(ben.delete(path, params=query), 403) == "not_your_call"
        assert [anna.delete(path, params=query).json()["status"] for _ in range(2)] == [
            "revoked",
            "unchanged",
        ]
        token = {"id": served.token(response, "sk-anna")}
        assert code(anna.delete(path, params=token), 400) == "bad_token"
        assert code(anna.delete(path, params={"id": "nowhere"}), 404) == "unknown_call"
    assert rewards(served, response) == {}


# --- whose call --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named_by", ["id", "token"])
def test_a_key_cannot_reward_the_calls_of_another_key(served: Served, named_by: str) -> None:
    response = served.call("sk-anna")
    key = served.token(response, "sk-anna") if named_by == "token" else response.id
    for other in ("sk-ben", "sk-viewer", "sk-anonymous"):
        assert code(post(served, other, {"id": key, "reward": 0}), 403) == "not_your_call"
    assert rewards(served, response) == {}


@pytest.mark.parametrize("named_by", ["id", "token"])
def test_an_admin_rewards_any_call(served: Served, named_by: str) -> None:
    response = served.call("sk-anna")
    key = served.token(response, "sk-anna") if named_by == "token" else response.id
    assert post(served, MASTER, {"id": key, "reward": 1, "source": "judge"}).status_code == 200
    assert rewards(served, response) == {"judge": 1.0}


def test_who_is_not_told_apart_rewards_by_token_only(served: Served) -> None:
    """An operator's own authentication may not identify callers: then no caller owns a call by its id."""
    response = served.call("sk-anonymous")
    assert code(post(served, "sk-anonymous", {"id": response.id, "reward": 1}), 403) == "not_your_call"
    token = served.token(response, "sk-anonymous")
    assert post(served, "sk-anonymous", {"id": token, "reward": 1}).json()["status"] == "recorded"


def test_only_admins_name_sources_of_their_own(
    serve: Callable[..., Served], routers: Callable[..., StageRouteRouter]
) -> None:
    served = serve(routers(), sources=("thumbs", "editor"))
    response = served.call("sk-anna")
    for key, source, status in [
        ("sk-anna", "judge", 403),
        ("sk-anna", "editor", 200),
        ("sk-anna", None, 200),
        (MASTER, "judge", 200),
        (MASTER, "x" * 65, 422),
        (MASTER, "no\nname", 422),
    ]:
        answer = post(served, key, {"id": response.id, "reward": 1, "source": source})
        assert answer.status_code == status, answer.text
    assert rewards(served, response) == {"editor": 1.0, "thumbs": 1.0, "judge": 1.0}


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reward",
    ["1.01", "-0.01", "NaN", "Infinity", "-Infinity", "1e999", "9" * 400, '"0.5"', "true", "null", "[1]"],
)
def test_what_is_no_reward_is_refused(served: Served, reward: str) -> None:
    response = served.call("sk-anna")
    body = f'{{"id": "{response.id}", "reward": {reward}}}'
    with served.client("sk-anna") as client:
        assert code(client.post("/stageroute/reward", content=body), 400) == "bad_reward"
    assert rewards(served, response) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"id=1",
        b"\xff\xfe",
        b'"text"',
        b"null",
        b"17",
        b"{}",
        b"[]",
        b'{"id": "x"}',
        b'{"reward": 1}',
        b'{"id": 17, "reward": 1}',
        b'{"id": "", "reward": 1}',
        b'{"id": "with a space", "reward": 1}',
        b'{"id": "\\u0000", "reward": 1}',
        b'{"id": "\\ud800", "reward": 1}',
        b'{"id": "x", "reward": 1, "score": 2}',
        b'{"id": "x", "reward": 1, "source": "\\n"}',
        b"[" * 100_000,
        b"[" + b",".join([b'{"id": "x", "reward": 1}'] * 1001) + b"]",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_says_something_else_is_refused(served: Served, body: bytes) -> None:
    with served.client("sk-anna") as client:
        assert code(client.post("/stageroute/reward", content=body), 422) == "malformed_body"


@pytest.mark.parametrize("sent", ["whole", "in chunks"])
def test_a_body_is_read_up_to_a_bound(served: Served, sent: str) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * (1 << 16)

    with served.client("sk-anna") as client:
        content = parts() if sent == "in chunks" else b"".join(parts())
        assert code(client.post("/stageroute/reward", content=content), 413) == "body_too_large"


def test_a_token_that_is_none_of_ours_is_refused(served: Served) -> None:
    token = served.token(served.call("sk-anna"), "sk-anna")
    for bad in (token[:-1], token[:-2] + "xx", "srt1.", "srt1." + "A" * 150, token + "A"):
        for key in ("sk-anna", MASTER):
            assert code(post(served, key, {"id": bad, "reward": 1}), 400) == "bad_token"


@pytest.mark.parametrize("key", ["sk-anna", MASTER])
@pytest.mark.parametrize("unknown", ["chatcmpl-nowhere", "x", "x" * 2000])
def test_an_unknown_id_is_unknown(served: Served, key: str, unknown: str) -> None:
    assert code(post(served, key, {"id": unknown, "reward": 1}), 404) == "unknown_call"


def test_a_call_that_is_older_than_what_is_kept_is_said_to_be(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def expired(key: str, *_: Any, **__: Any) -> RewardReceipt:
        return RewardReceipt(status="expired", key=key)

    monkeypatch.setattr(served.routing.control(), "arecord_reward", expired)
    assert code(post(served, "sk-anna", {"id": "sr-1", "reward": 1}), 404) == "call_expired"


# --- batches -----------------------------------------------------------------------------------------------


def test_each_reward_of_a_batch_has_its_answer_in_order(served: Served) -> None:
    own, others = served.call("sk-anna"), served.call("sk-ben")
    batch = [
        {"id": own.id, "reward": 0.25},
        {"id": others.id, "reward": 0.25},
        {"id": "nowhere", "reward": 0.25},
        {"id": own.id, "reward": 2},
        {"id": own.id},
        {"id": new_decision_id(time.time()), "reward": 1},
        "nonsense",
        {"id": served.token(own, "sk-anna"), "reward": 0.25},
    ]
    answer = post(served, "sk-anna", batch)
    assert answer.status_code == 200, answer.text
    results = answer.json()
    assert [result["code"] for result in results] == [200, 403, 404, 400, 422, 202, 422, 200]
    assert [result.get("status") for result in results if "status" in result] == [
        "recorded",
        "kept",
        "unchanged",
    ]
    assert results[4]["error"]["message"].startswith("[4].reward")


def test_a_full_batch_is_taken(served: Served) -> None:
    response = served.call("sk-anna")
    batch = [{"id": response.id, "reward": 1, "source": f"judge {index}"} for index in range(1000)]
    answer = post(served, MASTER, batch)
    assert answer.status_code == 200
    assert {result["code"] for result in answer.json()} == {200}
    assert len(rewards(served, response)) == 1000


# --- when it cannot be stored ------------------------------------------------------------------------------


@pytest.mark.parametrize("how_many", [1, 2])
def test_nothing_is_acknowledged_that_is_not_stored(
    serve: Callable[..., Served],
    routers: Callable[..., StageRouteRouter],
    tmp_path_factory: Any,
    how_many: int,
) -> None:
    path = tmp_path_factory.mktemp("locked") / "routing.db"
    served = serve(routers(database_url=f"sqlite:///{path}", reward_deadline=0.2))
    response = served.call("sk-anna")
    assert served.routing.control().receipt(response.id) is not None
    body: object = {"id": response.id, "reward": 1}
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = post(served, "sk-anna", [body] * how_many if how_many > 1 else body)
        other.execute("ROLLBACK")
    assert code(answer, 503) == "not_stored"
    assert int(answer.headers["retry-after"]) > 0
    assert post(served, "sk-anna", body).status_code == 200
    assert rewards(served, response) == {"client": 1.0}


def test_many_clients_at_once_are_all_answered(served: Served) -> None:
    responses = [served.call("sk-anna") for _ in range(32)]
    with ThreadPoolExecutor(16) as pool, served.client("sk-anna") as client:
        answers = list(
            pool.map(
                lambda one: client.post("/stageroute/reward", json={"id": one.id, "reward": 0.5}), responses
            )
        )
    assert {answer.status_code for answer in answers} == {200}
    assert all(rewards(served, response) == {"client": 0.5} for response in responses)


def test_a_key_that_two_callers_chose_is_each_ones_own(served: Served) -> None:
    annas = served.call("sk-anna", reward_key="m1")
    given = {"id": "key:m1", "reward": 1.0}
    with served.client("sk-ben") as ben, served.client("sk-anna") as anna:
        refused = ben.post("/stageroute/reward", json=given)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_call")
        stored = str(key_in({HEADER: "m1"}, caller=annas.origin.caller))
        refused = ben.post("/stageroute/reward", json={**given, "id": stored})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_your_call")
        bens = served.call("sk-ben", reward_key="m1")
        taken = [client.post("/stageroute/reward", json=given).json() for client in (anna, ben)]
        assert [one["status"] for one in taken] == ["recorded", "recorded"]
        for response, one in zip((annas, bens), taken, strict=True):
            receipt = served.routing.control().receipt(response.origin.call_id)
            assert receipt is not None
            assert receipt.decision_id == one["decision_id"]
        gone = ben.delete("/stageroute/reward", params={"id": "key:m1"})
        assert gone.json() == {"status": "revoked", "decision_id": taken[1]["decision_id"]}
