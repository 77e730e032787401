"""Open WebUI itself before a real proxy: a thumb is credited to the call that wrote the message, and to no other."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from stageroute_router.errors import ProxyError
from stageroute_router.integrations.open_webui import Imported, import_ratings
from stageroute_router.store.records import StoredDecision
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel
from tests.support.proxy import Setup, eventually, started

PYTHON = Path(os.environ["STAGEROUTE_TEST_FRAMEWORK_PYTHON"])
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "frameworks" / "open_webui.md").read_text()
[HEADERS] = map(json.loads, re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
[EXAMPLE] = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
UP, DOWN = 1, -1
TOOL = '''
class Tools:
    def tell_the_time(self, zone: str) -> str:
        """Tell the time.

        :param zone: where
        """
        return "noon in " + zone
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class WebUi:
    """An Open WebUI whose only connection is to the proxy, and its admin."""

    client: httpx.Client
    key: str
    proxy: Setup

    def asked(self, method: str, path: str, body: object = None) -> Any:
        answer = self.client.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def ask(
        self, *, chat: str | None = None, after: str | None = None, answers: int = 1, **more: Any
    ) -> Asked:
        """Send a message as the front end does, and return it once it is answered."""
        question, messages = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(answers)]
        found = self.asked(
            "POST",
            "/api/chat/completions",
            {
                "model": "chat",
                "messages": [{"role": "user", "content": "hello"}],
                "stream": True,
                "session_id": "a-browser",
                "id": messages[0],
                "message_ids": [{"model_id": "chat", "message_id": message} for message in messages],
                "parent_id": after,
                "user_message": {
                    "id": question,
                    "parentId": after,
                    "childrenIds": [],
                    "role": "user",
                    "content": "hello",
                    "models": ["chat"],
                },
                **({} if chat is None else {"chat_id": chat}),
                **more,
            },
        )
        asked = Asked(chat=found["chat_id"], messages=messages)
        eventually(lambda: all(one.get("done") for one in self._messages(asked)))
        return asked

    def go_on(self, asked: Asked) -> None:
        """Have an answer continued, as the front end does."""
        [message] = asked.messages
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "so"}],
            "stream": True,
            "session_id": "a-browser",
            "chat_id": asked.chat,
            "id": message,
            "assistant_message_id": message,
        }
        self.asked("POST", "/api/chat/completions", body)

    def _messages(self, asked: Asked) -> list[dict[str, Any]]:
        history = self.asked("GET", f"/api/v1/chats/{asked.chat}")["chat"]["history"]["messages"]
        return [history.get(message, {}) for message in asked.messages]

    def rate(self, asked: Asked, thumb: int | str, *, message: int = 0) -> str:
        """Give a message a thumb; return the rating's id."""
        return str(self.asked("POST", "/api/v1/evaluations/feedback", _rating(asked, thumb, message))["id"])

    def change(self, rating: str, asked: Asked, thumb: int) -> None:
        self.asked("POST", f"/api/v1/evaluations/feedback/{rating}", _rating(asked, thumb, 0))

    def take(self, **more: Any) -> Imported:
        """Import what was rated."""
        return import_ratings(str(self.client.base_url), self.key, **self.ours(), **more)

    def ours(self) -> dict[str, str]:
        key = self.proxy.client.headers["authorization"].removeprefix("Bearer ")
        return {"proxy_url": str(self.proxy.client.base_url), "proxy_key": key}

    def decisions(self, *, since: int, count: int) -> list[StoredDecision]:
        """Return the decisions made since so many, once there are so many of them, all over."""

        def look() -> list[StoredDecision] | None:
            found = self.stored()[since:]
            return found if len(found) >= count and all(one.state == "settled" for one in found) else None

        found: list[StoredDecision] = eventually(look)
        assert len(found) == count
        return found

    def stored(self) -> list[StoredDecision]:
        return list(self.proxy.store.export_decisions("chat"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question in a chat, and the messages that answer it."""

    chat: str
    messages: list[str]


def _rating(asked: Asked, thumb: int | str, message: int) -> dict[str, Any]:
    return {
        "type": "rating",
        "data": {"rating": thumb, "model_id": "chat"},
        "meta": {"message_id": asked.messages[message], "chat_id": asked.chat, "model_id": "chat"},
        "snapshot": {"chat": {}},
    }


@pytest.fixture(scope="module")
def webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUi]:
    folder = tmp_path_factory.mktemp("open_webui")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    models = [
        SimulatedModel(
            name=name, output_usd_per_token=price, tool_arguments={"tell_the_time": {"zone": "Rome"}}
        )
        for name, price in (("small", 1e-7), ("large", 1e-6))
    ]
    command = [str(PYTHON.parent / "open-webui"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "open_webui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=_settings(folder), stdout=output, stderr=output)
    try:
        with (
            SimulatedProvider(models, seed=0) as provider,
            started(
                _configuration(provider),
                folder=folder / "proxy",
                database_url=f"sqlite:///{folder}/stageroute.db",
            ) as proxy,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        ):
            eventually(lambda: _serves(client, process, log), seconds=300)
            yield _connected(client, proxy)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _settings(folder: Path) -> dict[str, str]:
    """Return the environment of an Open WebUI that needs nothing from elsewhere."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DATA_DIR": str(folder),
        "STATIC_DIR": str(folder / "static"),
        "WEBUI_SECRET_KEY": uuid.uuid4().hex,
        "USE_SLIM_DOCKER": "true",
        "OFFLINE_MODE": "true",
        "ENABLE_OLLAMA_API": "false",
        "ENABLE_API_KEYS": "true",
        "ENABLE_MEMORY_BACKGROUND_REVIEW": "true",
        "MEMORIES_REVIEW_INTERVAL_TURNS": "1",
    }


def _configuration(provider: SimulatedProvider) -> dict[str, Any]:
    group = {"budget_usd_per_call": 0.01, "max_live_models": 2, "segments": {"by": "tag"}}
    return {
        "model_list": provider.model_list("chat"),
        "stageroute_settings": {
            "database_url": "os.environ/STAGEROUTE_DATABASE_URL",
            "groups": {"chat": group},
        },
    }


def _serves(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False


def _connected(client: httpx.Client, proxy: Setup) -> WebUi:
    """Sign up as the first user, who is the admin, and connect the proxy as the documentation says."""
    who = {"name": "Ann", "email": "ann@example.com", "password": str(uuid.uuid4())}
    signed = client.post("/api/v1/auths/signup", json=who).raise_for_status().json()
    client.headers["authorization"] = f"Bearer {signed['token']}"
    key = client.post("/api/v1/auths/api_key").raise_for_status().json()["api_key"]
    webui = WebUi(client=client, key=key, proxy=proxy)
    ours = webui.ours()
    webui.asked(
        "POST",
        "/openai/config/update",
        {
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": [f"{ours['proxy_url'].rstrip('/')}/v1"],
            "OPENAI_API_KEYS": [ours["proxy_key"]],
            "OPENAI_API_CONFIGS": {"0": {"headers": {**HEADERS, "x-litellm-tags": "{{TASK}}"}}},
        },
    )
    assert [model["id"] for model in webui.asked("GET", "/api/models")["data"]] == ["chat"]
    return webui


def given(decisions: list[StoredDecision]) -> list[tuple[str, Mapping[str, float]]]:
    """Return what each call was for, and its rewards."""
    return [(one.decision.segment, dict(one.rewards)) for one in decisions]


def test_a_thumb_is_credited_to_the_answer_and_not_to_what_else_was_asked(webui: WebUi) -> None:
    before = len(webui.stored())
    tasks = dict.fromkeys(["title_generation", "tags_generation", "follow_up_generation"], True)
    asked = webui.ask(background_tasks=tasks, features={"memory": True})
    found = webui.decisions(since=before, count=5)
    assert {one.decision.segment for one in found} == {"", "memory_review", *tasks}
    webui.rate(asked, UP)
    # As the front end does when a thumb is given.
    body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "chat_id": asked.chat}
    webui.asked("POST", "/api/v1/tasks/tags/completions", body)
    webui.take()
    rewarded = webui.decisions(since=before, count=6)
    assert sorted(given(rewarded), key=str) == sorted(
        [("", {"open_webui": 1.0}), *((task, {}) for task in (*tasks, "memory_review", "tags_generation"))],
        key=str,
    )
    assert "ignored" not in webui.proxy.process.output


def test_thumbs_become_rewards_once_and_change_with_them(webui: WebUi) -> None:
    before = len(webui.stored())
    first = webui.ask()
    second = webui.ask(chat=first.chat, after=first.messages[0], stream=False)
    good, bad = webui.rate(first, UP), webui.rate(second, str(DOWN))  # its API takes both
    done = webui.take()
    assert (done.unknown, done.unusable) == (0, 0)
    found = webui.decisions(since=before, count=2)
    assert given(found) == [("", {"open_webui": 1.0}), ("", {"open_webui": 0.0})]
    assert webui.take() == done
    assert webui.decisions(since=before, count=2) == found
    webui.change(good, first, DOWN)
    webui.change(bad, second, UP)
    assert webui.take(since=done.newest).taken >= 2
    assert given(webui.decisions(since=before, count=2)) == [
        ("", {"open_webui": 0.0}),
        ("", {"open_webui": 1.0}),
    ]


def test_answers_side_by_side_have_each_its_own_thumb(webui: WebUi) -> None:
    before = len(webui.stored())
    asked = webui.ask(answers=2)
    webui.rate(asked, DOWN, message=1)
    webui.take()
    found = webui.decisions(since=before, count=2)
    assert sorted(len(one.rewards) for one in found) == [0, 1]
    webui.rate(asked, UP, message=0)
    webui.take()
    again = webui.decisions(since=before, count=2)
    assert sorted(one.rewards["open_webui"] for one in again) == [0.0, 1.0]


def test_of_several_calls_for_a_message_the_last_is_rewarded(webui: WebUi) -> None:
    before = len(webui.stored())
    clock = {"id": "clock", "name": "Clock", "content": TOOL, "meta": {"description": ""}}
    webui.asked("POST", "/api/v1/tools/create", clock)
    asked = webui.ask(tool_ids=["clock"])
    webui.rate(asked, UP)
    webui.take()
    assert given(webui.decisions(since=before, count=2)) == [("", {}), ("", {"open_webui": 1.0})]


def test_a_message_that_is_continued_is_rewarded_at_its_last_call(webui: WebUi) -> None:
    before = len(webui.stored())
    asked = webui.ask()
    webui.decisions(since=before, count=1)
    webui.go_on(asked)
    webui.decisions(since=before, count=2)
    webui.rate(asked, DOWN)
    webui.take()
    assert given(webui.decisions(since=before, count=2)) == [("", {}), ("", {"open_webui": 0.0})]


def test_the_documented_import_runs(webui: WebUi) -> None:
    webui.rate(webui.ask(), UP)
    names: dict[str, Any] = {"webui_url": str(webui.client.base_url), "webui_key": webui.key, **webui.ours()}
    exec(EXAMPLE, names)  # noqa: S102
    assert names["done"].taken >= 1
    assert time.time() - names["done"].newest < 600


def test_who_may_not_export_is_told_so(webui: WebUi) -> None:
    refused = pytest.raises(
        ProxyError, match=r"Open WebUI does not accept this key \(40[13]\); .* admin.* allowed"
    )
    with refused:
        import_ratings(str(webui.client.base_url), "sk-wrong", **webui.ours())
    settings = webui.asked("GET", "/api/v1/auths/admin/config")
    webui.asked("POST", "/api/v1/auths/admin/config", {**settings, "ENABLE_API_KEYS": False})
    with refused:
        webui.take()
    webui.asked("POST", "/api/v1/auths/admin/config", settings)
    webui.take()
