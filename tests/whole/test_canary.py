"""Nothing of prompts, answers, keys, headers, metadata, users and secrets is stored, logged or shown.

They are planted everywhere they can be, everything that can happen is made to happen, and then everything we leave
behind is searched.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import sqlite3
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.calls_litellm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")

from stageroute_router import StageRouteError, StageRouteRouter
from stageroute_router.core.engine import Engine
from stageroute_router.hook.outcomes import Outcomes
from stageroute_router.reports.status import GroupStatus
from stageroute_router.router.token_keys import key_source
from stageroute_router.runtime.runtime import open_runtime
from stageroute_router.settings.options import Options
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

DEADLINE_S = 30.0
KINDS = (
    "prompt",
    "answer",
    "api-key",
    "header",
    "metadata",
    "user",
    "system",
    "password",
    "token-secret",
)
CANARY = {kind: f"canary-{kind}-{uuid.UUID(int=number + 1).hex}" for number, kind in enumerate(KINDS)}
SETTINGS = {"chat": {"budget_usd_per_call": 0.01, "failure_reward": 0.0}}


class EchoingProvider:
    """A provider whose every answer is an error that repeats all it was sent, its client's key included."""

    def __init__(self) -> None:
        received = self.received = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
                received.append(f"{self.headers} {sent}")
                said = json.dumps(
                    {"error": {"message": received[-1], "type": "e", "param": sent, "code": "e"}}
                )
                self.send_response(401 if len(received) % 2 else 500)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(said.encode())

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> EchoingProvider:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Findings(logging.Handler):
    """Everything we show: log records of all levels with their tracebacks, errors, and what is added by hand."""

    def __init__(self) -> None:
        super().__init__(level=0)
        self.texts: list[tuple[str, str]] = []
        self.errors = 0
        self.logged = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.logged += 1
        self.add(f"log of {record.name}", self.format(record))
        self.add(f"log arguments of {record.name}", repr(record.args))

    def add(self, place: str, text: object) -> None:
        self.texts.append((place, text if isinstance(text, str) else repr(text)))

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Note an error of ours with its traceback; anything else ends the test."""
        try:
            yield
        except StageRouteError as error:
            self.errors += 1
            self.add("error", "".join(traceback.format_exception(error)))

    def leaks(self) -> list[str]:
        return [
            f"{kind} in {place}: {text[max(text.find(canary) - 200, 0) :][:400]}"
            for place, text in self.texts
            for kind, canary in CANARY.items()
            if canary in text
        ]


@pytest.fixture
def found() -> Iterator[Findings]:
    findings = Findings()
    logger = logging.getLogger("stageroute_router")
    level = logger.level
    logger.setLevel(1)
    logger.addHandler(findings)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield findings
    logger.removeHandler(findings)
    logger.setLevel(level)
    for warning in warned:
        if "stageroute" in str(warning.filename):
            findings.add("warning", str(warning.message))
    assert findings.leaks() == []


def asked(**more: Any) -> dict[str, Any]:
    """Return a call with a canary in all that an application can say."""
    return {
        "model": "chat",
        "messages": [
            {"role": "system", "content": CANARY["system"]},
            {"role": "user", "content": CANARY["prompt"]},
        ],
        "extra_headers": {"X-Secret": CANARY["header"]},
        "metadata": {"note": CANARY["metadata"]},
        "user": CANARY["user"],
        **more,
    }


def make(models: list[dict[str, Any]], database_url: str, **options: Any) -> Any:
    options = {"reward_token_keys": ["k1:os.environ/CANARY_KEY"], **options}
    return StageRouteRouter(
        model_list=models,
        stageroute=SETTINGS,
        database_url=database_url,
        stageroute_options=options,
        num_retries=0,
        disable_cooldowns=True,
    )


def wait_until(router: Any, reached: Callable[[GroupStatus], bool]) -> GroupStatus:
    """Ask for the status until it is as expected: LiteLLM reports calls in the background."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        status: GroupStatus = router.stageroute.status("chat")
        if reached(status):
            return status
    pytest.fail(f"not reached in time: {router.stageroute.status('chat')}")


def is_settled(status: GroupStatus) -> bool:
    return status.open_calls == 0


def has_met_an_error(status: GroupStatus) -> bool:
    return "internal errors" in " ".join(status.warnings)


def search_files(folder: Path, found: Findings) -> set[str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        found.add(path.name, path.read_bytes().decode("latin-1"))
    return {path.name for path in files}


def search_objects(thing: object, found: Findings) -> None:
    """Note what printing an object and its parts shows, three steps deep."""
    seen: set[int] = set()

    def look(thing: object, depth: int) -> None:
        if id(thing) in seen or not type(thing).__module__.startswith("stageroute_router"):
            return
        seen.add(id(thing))
        found.add(f"repr of {type(thing).__name__}", repr(thing))
        found.add(f"text of {type(thing).__name__}", str(thing))
        if depth:
            for part in list(getattr(thing, "__dict__", {}).values()):
                look(part, depth - 1)

    look(thing, 3)
    assert len(seen) >= 3


@pytest.fixture(autouse=True)
def _token_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_KEY", CANARY["token-secret"])


async def answered_calls(router: Any, found: Findings) -> None:
    """Make calls of every kind that succeed, and reward them in every way."""
    sync = await asyncio.to_thread(router.completion, **asked())
    assert CANARY["answer"] in sync.choices[0].message.content
    answer = await router.acompletion(**asked())
    stream = await router.acompletion(**asked(stream=True))
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert CANARY["answer"] in text
    control = router.stageroute
    token = control.reward_token(sync, caller=CANARY["user"])
    found.add("token", token)
    found.add("decoded token", base64.urlsafe_b64decode(token.partition(".")[2] + "==").decode("latin-1"))
    found.add("receipt", await control.areward_by_token(token, 1.0, caller=CANARY["user"]))
    found.add("receipt", await router.arecord_reward(answer, 0.5, source="judge"))
    found.add("receipt", await router.arecord_reward(stream, 0.5))
    with control.episode() as episode:
        await router.acompletion(**asked())
    found.add("receipt", await episode.arecord_reward(1.0))
    found.add("episode", episode)
    # What was meant for another argument, or another door.
    for mistaken in (CANARY["prompt"] + " ?", text + " ", {"text": text}, answer.choices[0], sync.usage):
        with found.catching():
            await router.arecord_reward(mistaken, 1.0)
    for sent in (sync, answer.choices[0].message.content, CANARY["prompt"], token[:-2]):
        with found.catching():
            await control.areward_by_token(sent, 1.0)
    with found.catching():
        await control.areward_by_token(token, 1.0, caller=CANARY["user"] + "x")
    with found.catching():
        await router.arecord_reward(answer, 1.0, source=CANARY["prompt"] + " ?")
    assert found.errors == 11


def test_nothing_of_calls_that_are_answered_is_left_behind(found: Findings, tmp_path: Path) -> None:
    with SimulatedProvider([SimulatedModel(name="m", answer=CANARY["answer"])]) as provider:
        models = provider.model_list("chat", api_key=CANARY["api-key"])
        router = make(models, f"sqlite:///{tmp_path / 's.db'}")
        asyncio.run(answered_calls(router, found))
        found.add("status", wait_until(router, is_settled))
        found.add("status as JSON", json.dumps(router.stageroute.status().to_dict()))
        search_objects(router.stageroute, found)
        assert search_files(tmp_path, found) >= {"s.db", "s.db-wal"}
        router.stageroute.close()
        assert "s.db" in search_files(tmp_path, found)


def test_nothing_of_calls_that_fail_is_left_behind(found: Findings, tmp_path: Path) -> None:
    """The provider's errors repeat the whole request, with its key."""
    with EchoingProvider() as provider:
        params = {
            "model": "openai/m",
            "api_base": provider.url,
            "api_key": CANARY["api-key"],
            "max_retries": 0,
        }
        router = make([{"model_name": "chat", "litellm_params": params}], f"sqlite:///{tmp_path / 's.db'}")
        for _ in range(2):
            with pytest.raises(Exception, match="canary-api-key"):
                router.completion(**asked())
            with pytest.raises(Exception, match="canary-api-key"):
                asyncio.run(router.acompletion(**asked()))
        for kind in ("prompt", "api-key", "header", "system"):
            assert CANARY[kind] in provider.received[-1], kind
        status = wait_until(router, is_settled)
        assert sum(arm.failures for arm in status.arms) == 4
        found.add("status", status)
        search_objects(router.stageroute, found)
        search_files(tmp_path, found)
        router.stageroute.close()
        search_files(tmp_path, found)


def test_an_error_inside_us_is_logged_without_what_it_says(
    found: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an unexpected error says may be a piece of the request: its kind and place are enough to find it by."""

    def broken(*_: object, **__: object) -> object:
        raise KeyError(" ".join(CANARY.values()))

    with SimulatedProvider([SimulatedModel(name="m", answer=CANARY["answer"])]) as provider:
        models = provider.model_list("chat", api_key=CANARY["api-key"])
        router = make(models, f"sqlite:///{tmp_path / 's.db'}")
        for place in ((Engine, "choose"), (Outcomes, "_conclude")):
            router = make(models, f"sqlite:///{tmp_path / 's.db'}")
            with monkeypatch.context() as patch:
                patch.setattr(*place, broken)
                response = router.completion(**asked())
                found.add("status", wait_until(router, has_met_an_error))
            with found.catching():
                router.record_reward(response, 1.0)
            router.stageroute.close()
        assert found.errors == 1  # without a choice there is nothing to reward
        logged = [text for place, text in found.texts if place == "log of stageroute_router"]
        assert sum("KeyError" in text and "test_canary.py" in text for text in logged) == 2
        search_files(tmp_path, found)


def test_nothing_is_shown_while_the_database_is_broken(found: Findings, tmp_path: Path) -> None:
    with SimulatedProvider([SimulatedModel(name="m", answer=CANARY["answer"])]) as provider:
        models = provider.model_list("chat", api_key=CANARY["api-key"])
        router = make(models, f"sqlite:///{tmp_path / 's.db'}")
        router.completion(**asked())
        wait_until(router, is_settled)
        with contextlib.closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
            other.execute("ALTER TABLE stageroute_decisions RENAME TO away")
            responses = [router.completion(**asked()) for _ in range(3)]
            status = router.stageroute.status("chat")
            assert "writes are queued" in " ".join(status.warnings)
            found.add("status", status)
            found.add("health", router.stageroute.health())
            search_objects(router.stageroute, found)
            other.execute("ALTER TABLE away RENAME TO stageroute_decisions")
        for response in responses:
            assert router.record_reward(response, 1.0).status == "recorded"
        router.stageroute.close()
        search_files(tmp_path, found)


def test_a_databases_password_and_a_tokens_secret_are_never_shown(found: Findings, tmp_path: Path) -> None:
    models = [{"model_name": "chat", "litellm_params": {"model": "openai/m", "api_key": CANARY["api-key"]}}]
    secret = CANARY["password"]
    places = (
        f"postgresql://user:{secret}@127.0.0.1:1/name?connect_timeout=1",
        f"mysql://user:{secret}@127.0.0.1/name",
        f"not a url://user:{secret}@127.0.0.1/name",
        f"sqlite:///{tmp_path}/no such folder/s.db",
    )
    for url in places:
        with found.catching():
            runtime = open_runtime(
                parse_groups(SETTINGS), database_url=url, options=Options(reward_deadline=0.1)
            )
            search_objects(runtime, found)
            with found.catching():
                runtime.record_reward("chatcmpl-1", 1.0).result(DEADLINE_S)
            found.add("health", runtime.reports.health())
            runtime.close(0.1)
    for keys in ([CANARY["token-secret"]], ["k1:os.environ/CANARY_KEY", "k1:os.environ/CANARY_KEY"]):
        with found.catching():
            make(models, "memory://", reward_token_keys=keys)
    assert found.errors >= 5
    for key in key_source(["k1:os.environ/CANARY_KEY"], database_url="memory://")():
        assert key.secret.decode() == CANARY["token-secret"]
        found.add("key", key)
