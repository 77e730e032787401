"""Who gets in, and what they may look at and do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from litellm.proxy import proxy_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.api.conftest import Served

MASTER = "sk-master-of-these-tests"

LOOKING = ["/status", "/stages?group=chat", "/history?group=chat", "/health"]
EVERYTHING = [
    *(("GET", path) for path in [*LOOKING, "/decisions/sr-1", "/openapi.json"]),
    ("POST", "/reward"),
    ("DELETE", "/reward?id=x"),
    ("POST", "/groups/chat/redeploy"),
    ("POST", "/groups/chat/pin"),
]

no_valid_key = pytest.mark.parametrize(
    "header",
    [None, "Bearer", "Bearer sk-wrong", "Bearer sk-" + "x" * 5000, "no bearer at all", "Basic c2stYW5uYTo="],
    ids=lambda header: str(header)[:16],
)


def check_unauthorized(served: Served, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    with httpx.Client(base_url=served.url, headers=headers) as client:
        for method, path in EVERYTHING:
            answer = client.request(method, f"/stageroute{path}", content=b"not even JSON")
            assert answer.status_code == 401, answer.text
            assert answer.json()["error"]["code"] == "invalid_key"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "sk-" not in answer.text


@no_valid_key
def test_nothing_answers_without_a_valid_key(served: Served, header: str | None) -> None:
    check_unauthorized(served, header)


@no_valid_key
def test_nor_where_litellm_has_no_database_to_look_for_it(
    served: Served, only_master: None, header: str | None
) -> None:
    check_unauthorized(served, header)


def test_the_master_key_is_enough_without_a_database(served: Served, only_master: None) -> None:
    with served.client() as client:
        assert client.get("/stageroute/status").status_code == 200


@pytest.mark.parametrize("path", LOOKING)
@pytest.mark.parametrize(
    ("key", "status"), [(MASTER, 200), ("sk-viewer", 200), ("sk-anna", 403), ("sk-anonymous", 403)]
)
def test_only_admins_and_viewers_look(served: Served, path: str, key: str, status: int) -> None:
    with served.client(key) as client:
        answer = client.get(f"/stageroute{path}")
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["error"]["code"] == "not_allowed"


@pytest.mark.parametrize(
    ("key", "status"), [(MASTER, 200), ("sk-viewer", 403), ("sk-anna", 403), ("sk-anonymous", 403)]
)
def test_only_admins_open_windows(served: Served, key: str, status: int) -> None:
    control = served.routing.control()
    before = control.group_status("chat").stage
    with served.client(key) as client:
        answer = client.post("/stageroute/groups/chat/redeploy")
    assert answer.status_code == status, answer.text
    assert control.group_status("chat").stage == before + (status == 200)


@pytest.mark.parametrize(
    ("key", "status"), [(MASTER, 200), ("sk-viewer", 403), ("sk-anna", 403), ("sk-anonymous", 403)]
)
def test_only_admins_pin(served: Served, key: str, status: int) -> None:
    control = served.routing.control()
    arm = control.group_status("chat").arms[0].name
    with served.client(key) as client:
        answer = client.post("/stageroute/groups/chat/pin", json={"arm": arm, "pinned": True})
        unread = client.post("/stageroute/groups/chat/pin", content=b"not even JSON")
    assert answer.status_code == status, answer.text
    assert unread.status_code == (422 if status == 200 else 403)
    assert [one.name for one in control.group_status("chat").arms if one.pinned] == [arm] * (status == 200)
    control.pin("chat", arm, pinned=None)


def test_a_key_without_a_role_learns_nothing_of_groups(served: Served) -> None:
    with served.client("sk-anna") as client:
        known = client.get("/stageroute/stages", params={"group": "chat"})
        unknown = client.get("/stageroute/stages", params={"group": "no such group"})
    assert (known.status_code, known.text) == (unknown.status_code, unknown.text)


def test_litellms_own_rules_let_an_ordinary_key_in_to_reward(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checks for keys of its own keep routes that it does not know for proxy admins."""
    monkeypatch.setattr(proxy_server, "general_settings", {"custom_auth_run_common_checks": True})
    response = served.call("sk-anna")
    with served.client("sk-anna") as client:
        assert client.post("/stageroute/reward", json={"id": response.id, "reward": 1}).status_code == 200
        assert client.get("/stageroute/status").status_code == 403


def test_a_key_that_is_limited_to_other_routes_stays_limited(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from litellm.proxy._types import UserAPIKeyAuth  # noqa: PLC0415 - with the proxy's own imports

    async def limited(request: object, api_key: str) -> Any:
        return UserAPIKeyAuth(api_key=api_key, user_role="internal_user", allowed_routes=["llm_api_routes"])

    monkeypatch.setattr(proxy_server, "user_custom_auth", limited)
    with served.client("sk-limited") as client:
        answer = client.post("/stageroute/reward", json={"id": "x", "reward": 1})
    assert answer.status_code == 403, answer.text
    assert answer.json()["error"]["code"] == "not_allowed"


def test_a_proxy_without_authentication_opens_every_report(served: Served, without_keys: None) -> None:
    response = served.call("sk-anna")
    with served.client(None) as client:
        assert client.get("/stageroute/status").status_code == 200
        assert client.post("/stageroute/groups/chat/redeploy").status_code == 200
        assert client.post("/stageroute/reward", json={"id": response.id, "reward": 1}).status_code == 200


def test_a_proxy_with_other_ways_to_get_in_is_not_open(
    served: Served, without_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_server, "general_settings", {"enable_jwt_auth": True})
    with served.client(None) as client:
        assert client.get("/stageroute/status").status_code in (401, 403)


def test_before_the_proxy_has_a_router_everything_asks_to_come_again(serve: Callable[..., Served]) -> None:
    with serve(None).client() as client:
        for method, path in EVERYTHING:
            if path == "/openapi.json":
                continue
            answer = client.request(method, f"/stageroute{path}", content=b'{"id": "x", "reward": 1}')
            assert answer.status_code == 503, answer.text
            assert answer.json()["error"]["code"] == "not_ready"
            assert int(answer.headers["retry-after"]) > 0
