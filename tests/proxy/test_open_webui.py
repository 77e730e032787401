"""Ratings of an Open WebUI become rewards of the calls that it made; its export is simulated."""

from __future__ import annotations

import doctest
import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stageroute_router.errors import ProxyError
from stageroute_router.integrations import open_webui
from stageroute_router.integrations.open_webui import import_ratings
from stageroute_router.proxy.reward_key import HEADER
from tests.support.proxy import Setup

EXPORTED: list[Any] = []


class Export(BaseHTTPRequestHandler):
    """Answers an admin with what is exported."""

    def do_GET(self) -> None:
        good = self.headers["Authorization"] == "Bearer admin"
        body = json.dumps(EXPORTED).encode()
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def webui() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Export)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def rating(message: str, value: object, at: int) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "data": {"rating": value},
        "meta": {"message_id": message},
        "updated_at": at,
    }


def shows(adapter: str, **named: object) -> None:
    assert adapter == open_webui.__name__.rpartition(".")[2]
    ran = doctest.testmod(open_webui, extraglobs=named)
    assert ran.attempted
    assert not ran.failed


def test_the_example_runs(setup: Setup, webui: str) -> None:
    messages = [str(uuid.uuid4()) for _ in range(3)]
    for message in messages:
        setup.chat(headers={HEADER: message})
    EXPORTED[:] = [rating(message, 1, 1) for message in messages]
    key = setup.client.headers["authorization"].removeprefix("Bearer ")
    proxy = {"proxy_url": str(setup.client.base_url), "proxy_key": key}
    shows("open_webui", webui_url=webui, webui_key="admin", **proxy)


def test_thumbs_become_rewards_once(setup: Setup, webui: str) -> None:
    up, down = str(uuid.uuid4()), str(uuid.uuid4())
    calls = [setup.chat(headers={HEADER: key}) for key in (up, down)]
    EXPORTED[:] = [
        rating(up, 1, 5),
        rating(down, -1, 6),
        rating(str(uuid.uuid4()), 1, 7),
        rating(up, None, 8),
        {"meta": {"message_id": up}, "data": {"rating": 1}, "updated_at": "yesterday"},
        "no rating",
    ]
    proxy = {
        "proxy_url": str(setup.client.base_url),
        "proxy_key": setup.client.headers["authorization"].removeprefix("Bearer "),
    }
    for _ in range(2):
        done = import_ratings(webui, "admin", **proxy)
        assert (done.taken, done.unknown, done.unusable, done.newest) == (2, 1, 3, 7)
    given = [
        setup.client.get(f"/stageroute/decisions/{call.headers['x-stageroute-decision-id']}").json()
        for call in calls
    ]
    assert [one["rewards"] for one in given] == [{"open_webui": 1.0}, {"open_webui": 0.0}]
    assert import_ratings(webui, "admin", **proxy, since=6).taken == 1
    EXPORTED[:] = [rating(up, -1, 10), rating(up, 1, 9)]  # thought better of it
    assert import_ratings(webui, "admin", **proxy, since=9).taken == 1
    thought = setup.client.get(f"/stageroute/decisions/{calls[0].headers['x-stageroute-decision-id']}").json()
    assert thought["rewards"] == {"open_webui": 0.0}
    with pytest.raises(ProxyError, match=r"Open WebUI does not accept this key \(401\); .* admin"):
        import_ratings(webui, "wrong", **proxy)
    with pytest.raises(ProxyError, match=r"the proxy does not accept this key .* connection"):
        import_ratings(webui, "admin", proxy_url=proxy["proxy_url"], proxy_key="sk-wrong")
    EXPORTED.clear()
    nothing = import_ratings(webui, "admin", **proxy)
    assert import_ratings(webui, "admin", **proxy, since=nothing.newest) == nothing
