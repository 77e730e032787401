"""Who gets in, and what they may look at and do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.proxy.api.conftest import Served

MASTER = "sk-master-of-these-tests"

READING = ["/status", "/stages?group=chat", "/history?group=chat", "/health"]
EVERYTHING = [
    *(("GET", path) for path in [*READING, "/decisions/sr-1", "/openapi.json"]),
    ("POST", "/reward"),
    ("DELETE", "/reward?id=x"),
    ("POST", "/groups/chat/redeploy"),
]


def error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check the form of a refusal and return what it says."""
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    said: dict[str, Any] = answer.json()["error"]
    assert said.keys() == {"message", "type", "code"}
    assert all(isinstance(part, str) and part for part in said.values())
    return said


@pytest.mark.parametrize(
    "header",
    [None, "Bearer", "Bearer sk-wrong", "Bearer sk-" + "x" * 5000, "no bearer at all", "Basic c2stYW5uYTo="],
    ids=lambda header: str(header)[:16],
)
@pytest.mark.parametrize("checked_by", ["keys", "only_master"])
def test_nothing_answers_without_a_valid_key(
    serve: Callable[..., Served], router: Any, header: str | None, checked_by: str, request: Any
) -> None:
    request.getfixturevalue(checked_by)
    served = serve(request.getfixturevalue("routing_of")(router))
    headers = {} if header is None else {"authorization": header}
    with httpx.Client(base_url=served.url, headers=headers) as client:
        for method, path in EVERYTHING:
            answer = client.request(method, f"/stageroute{path}", content=b"not even JSON")
            said = error(answer, 401)
            assert said["code"] == "invalid_key"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "sk-" not in answer.text


@pytest.mark.parametrize("path", READING)
@pytest.mark.parametrize(
    ("key", "status"), [(MASTER, 200), ("sk-viewer", 200), ("sk-anna", 403), ("sk-nobody", 403)]
)
def test_only_admins_and_viewers_look(served: Served, path: str, key: str, status: int) -> None:
    with served.client(key) as client:
        answer = client.get(f"/stageroute{path}")
    if status == 200:
        assert answer.status_code == 200, answer.text
    else:
        assert error(answer, status)["code"] == "not_allowed"
