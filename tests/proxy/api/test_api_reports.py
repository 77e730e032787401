"""What an operator is shown over HTTP: the same values as in Python, in the form that is described."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import pytest

from stageroute_router.errors import PinError
from stageroute_router.reports.status import Status

if TYPE_CHECKING:
    from tests.proxy.api.conftest import Served

MASTER = "sk-master-of-these-tests"


def strict(text: str) -> Any:
    """Read JSON as it is defined: without NaN and infinity."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def plain(value: object) -> Any:
    return json.loads(json.dumps(value))


def ask(
    served: Served, path: str, *, as_described: str | None = None, key: str = MASTER, **query: Any
) -> Any:
    """Return an answer of 200, after checking that it has the form that the description gives it."""
    with served.client(key) as client:
        answer = client.get(f"/stageroute{path}", params=query)
        assert answer.status_code == 200, answer.text
        found = strict(answer.text)
        if as_described is not None:
            document = client.get("/stageroute/openapi.json").json()
            shown = document["paths"][as_described]["get"]["responses"]["200"]["content"]["application/json"]
            jsonschema.Draft202012Validator(
                {**shown["schema"], "components": document["components"]}
            ).validate(found)
    return found


@pytest.fixture(scope="module")
def called(served: Served) -> list[Any]:
    """Some calls, rewarded, over two stages."""
    control = served.routing.control()
    responses = []
    for stage in range(2):
        for _ in range(6):
            responses.append(served.call("sk-anna"))
            control.record_reward(responses[-1].id, 0.5)
        if stage == 0:
            control.redeploy("chat")
    return responses


def test_the_status_is_that_of_the_router(served: Served, called: list[Any]) -> None:
    found = ask(served, "/status", as_described="/stageroute/status")
    (group,) = found["groups"]
    assert (group["name"], group["stage"], group["calls"]) == ("chat", 2, len(called))
    assert found.keys() == served.routing.control().status().to_dict().keys()
    assert ask(served, "/status", group="chat")["groups"][0].keys() == group.keys()


def test_stages_and_history_are_those_of_the_router(served: Served, called: list[Any]) -> None:
    control = served.routing.control()
    stages = ask(served, "/stages", as_described="/stageroute/stages", group="chat")
    assert stages == plain([asdict(stage) for stage in control.stages("chat")])
    assert [stage["stage"] for stage in stages] == [1, 2]
    assert ask(served, "/stages", group="chat", last=1) == stages[1:]
    history = ask(served, "/history", as_described="/stageroute/history", group="chat")
    assert history[-1]["calls"] == len(called)
    assert len(ask(served, "/history", group="chat", points=1)) == 1


def test_health_is_that_of_the_router(served: Served) -> None:
    assert ask(served, "/health", as_described="/stageroute/health")["state"] == "ok"


def test_a_receipt_is_found_by_every_id_of_its_call(served: Served, called: list[Any]) -> None:
    expected = served.routing.control().receipt(called[0].id)
    assert expected is not None
    for key in (expected.decision_id, called[0].id, expected.call_id):
        found = ask(served, f"/decisions/{key}", as_described="/stageroute/decisions/{id}")
        assert found == plain(asdict(expected))
    assert expected.rewards == {"app": 0.5}


def test_a_call_that_is_about_to_be_stored_is_looked_for_again(
    served: Served, called: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM reports on a call after its answer, and another worker stores it."""
    control = served.routing.control()
    looks = iter([None, None])
    find = control.receipt
    monkeypatch.setattr(control, "receipt", lambda key, **asked: next(looks, find(key, **asked)))
    assert ask(served, f"/decisions/{called[0].id}", as_described="/stageroute/decisions/{id}")
    assert next(looks, "none left") == "none left"


def test_a_key_sees_the_receipts_of_its_own_calls(served: Served, called: list[Any]) -> None:
    path = f"/decisions/{called[0].id}"
    assert ask(served, path, key="sk-anna")["group"] == "chat"
    assert ask(served, path, key="sk-viewer")["group"] == "chat"


def test_and_others_are_as_unknown_to_it_as_those_that_never_were(served: Served, called: list[Any]) -> None:
    with served.client("sk-ben") as client:
        of_anna = client.get(f"/stageroute/decisions/{called[0].id}")
        of_unknown = client.get("/stageroute/decisions/chatcmpl-unknown")
    assert of_anna.status_code == of_unknown.status_code == 404
    assert of_anna.text.replace(called[0].id, "chatcmpl-unknown") == of_unknown.text


def test_who_is_not_told_apart_has_no_receipts(served: Served, called: list[Any]) -> None:
    with served.client("sk-anonymous") as client:
        assert client.get(f"/stageroute/decisions/{called[0].id}").status_code == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/status?group=nowhere", 404),
        ("/stages?group=nowhere", 404),
        ("/history?group=nowhere", 404),
        ("/decisions/nowhere", 404),
        ("/decisions/with%20a%20space", 404),
        ("/decisions/a/b", 404),
        ("/stages", 422),
        ("/stages?group=chat&last=0", 422),
        ("/stages?group=chat&last=many", 422),
        ("/history?group=chat&points=1000000", 422),
    ],
)
def test_what_there_is_not_is_said_in_one_form(served: Served, path: str, status: int) -> None:
    with served.client() as client:
        answer = client.get(f"/stageroute{path}")
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].keys() == {"message", "type", "code"}


def test_a_window_is_opened_and_the_status_after_it_told(served: Served) -> None:
    before = served.routing.control().group_status("chat").stage
    with served.client() as client:
        answer = client.post("/stageroute/groups/chat/redeploy")
        assert client.post("/stageroute/groups/no/where/redeploy").status_code == 404
    found = strict(answer.text)
    assert (found["name"], found["stage"], found["stage_reason"]) == ("chat", before + 1, "manual")


def test_an_arm_is_pinned_and_the_status_after_it_told(served: Served) -> None:
    control = served.routing.control()
    before = {arm.name: arm.pinned for arm in control.group_status("chat").arms}
    name = next(iter(before))

    def pin(**body: object) -> httpx.Response:
        with served.client() as client:
            return client.post("/stageroute/groups/chat/pin", json=body)

    for pinned, shown in ((True, (True, "operator")), (False, (False, "operator")), (None, (False, None))):
        answer = pin(arm=name, pinned=pinned)
        assert answer.status_code == 200, answer.text
        (arm,) = (arm for arm in strict(answer.text)["arms"] if arm["name"] == name)
        assert (arm["pinned"], arm["pinned_by"]) == shown
    assert {arm.name: arm.pinned for arm in control.group_status("chat").arms} == before


def test_a_pin_that_cannot_be_is_said_in_one_form(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    control = served.routing.control()
    name = control.group_status("chat").arms[0].name
    good = {"arm": name, "pinned": True}
    cases: list[tuple[str, object, int, str]] = [
        ("chat", {"arm": "unknown", "pinned": True}, 404, "unknown_arm"),
        ("nowhere", good, 404, "unknown_group"),
        ("chat", {"arm": name}, 422, "malformed_body"),
        ("chat", {"pinned": True}, 422, "malformed_body"),
        ("chat", {**good, "pinned": "yes"}, 422, "malformed_body"),
        ("chat", {**good, "pinned": 1}, 422, "malformed_body"),
        ("chat", {**good, "more": 1}, 422, "malformed_body"),
        ("chat", [good], 422, "malformed_body"),
    ]
    with served.client() as client:
        for group, body, status, code in cases:
            answer = client.post(f"/stageroute/groups/{group}/pin", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        monkeypatch.setattr(control, "pin", _too_many)
        answer = client.post("/stageroute/groups/chat/pin", json=good)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "cannot_pin")
    assert "max_live_models is 1" in answer.json()["error"]["message"]
    assert not any(arm.pinned for arm in control.group_status("chat").arms)


def _too_many(*_args: object, **_more: object) -> object:
    raise PinError("group 'chat': 2 arms would be pinned (a, b), and max_live_models is 1")


def test_what_is_infinite_is_null(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no mixture keeps the budget, one more dollar would buy without end."""
    control = served.routing.control()
    group = replace(control.group_status("chat"), shadow_price=math.inf, feasible=False)
    receipt = control.receipt(served.call("sk-anna").id)
    assert receipt is not None
    receipt = replace(receipt, shadow_price=math.inf, reward_ucb=math.inf)
    monkeypatch.setattr(control, "status", lambda: Status(groups=(group,)))
    monkeypatch.setattr(control, "receipt", lambda *_, **__: receipt)
    (found,) = ask(served, "/status", as_described="/stageroute/status")["groups"]
    assert found["shadow_price"] is None
    found = ask(served, "/decisions/x", as_described="/stageroute/decisions/{id}")
    assert (found["shadow_price"], found["reward_ucb"]) == (None, None)


def test_an_internal_error_says_nothing_of_itself(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        msg = "a secret"
        raise RuntimeError(msg)

    monkeypatch.setattr(served.routing.control(), "stages", broken)
    with served.client() as client:
        answer = client.get("/stageroute/stages", params={"group": "chat"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
