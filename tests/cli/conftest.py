"""A proxy that reports what it is told to, over real HTTP; the command line as a process; a terminal to look at."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import TypeAdapter

from stageroute_router.cli import main
from stageroute_router.core.snapshot import ArmEvidence
from stageroute_router.reports import DecisionReceipt, HistoryPoint, StageReport
from stageroute_router.reports.status import ArmStatus, GroupStatus, Status
from stageroute_router.reports.values import Alternative, Attempt, Move
from stageroute_router.store.health import Health

DEADLINE_S = 30.0
OPENED_AT = 1_767_225_600.0
HEALTHY = Health(
    state="ok", since=None, reason=None, queued=0, dropped=0, rejected=0, last_commit_at=OPENED_AT + 60.0
)


def arm_of(name: str, *, live: bool = True, probability: float = 0.0, **others: Any) -> ArmStatus:
    return replace(
        ArmStatus(
            name=name,
            live=live,
            pinned=False,
            explored=False,
            probability=probability,
            max_share=1.0,
            share_limit=1.0,
            share_limited_by=None,
            pulls=2400,
            failures=3,
            reward_count=2300,
            reward_mean=0.71,
            reward_ucb=0.72,
            reward_lcb=0.5,
            cost_count=2397,
            cost_mean_usd=0.0009,
            cost_lcb_usd=0.00088,
            expected_cost_usd=0.00091,
        ),
        **others,
    )


def group_of(name: str = "chat", **others: Any) -> GroupStatus:
    return replace(
        GroupStatus(
            name=name,
            stage=7,
            stage_reason="schedule",
            stage_opened_at=OPENED_AT,
            stage_calls=12,
            calls=3012,
            calls_per_minute=240.0,
            open_calls=2,
            spend_usd=3.01,
            in_flight_usd=0.002,
            budget_usd_per_call=0.001,
            spend_ratio=0.987,
            shadow_price=12.0,
            feasible=True,
            reward_coverage=0.93,
            arms=(
                arm_of("openai/gpt-x", probability=0.81),
                arm_of("anthropic/small", probability=0.17, reward_mean=None, cost_mean_usd=0.00002),
                arm_of("mistral/look", probability=0.02, explored=True),
                arm_of("openai/old", live=False),
            ),
            warnings=(),
        ),
        **others,
    )


def stage_of(number: int, *, group: str = "chat") -> StageReport:
    return StageReport(
        group=group,
        stage=number,
        reason="schedule" if number > 1 else "start",
        opened_at=OPENED_AT + 3600.0 * number,
        opened_at_call=500 * (number - 1),
        calls=500,
        live=("openai/gpt-x", "anthropic/small"),
        explored="mistral/look",
        explore_share=0.02,
        moves=(
            Move(arm="anthropic/small", moved="came", why="worth more than what it replaced"),
            Move(arm="openai/old", moved="left", why="no mixture used it"),
        ),
        evidence=(ArmEvidence(arm="openai/gpt-x", pulls=10, reward_ucb=0.9, cost_lcb_usd=0.0004),),
    )


def history_of(points: int) -> tuple[HistoryPoint, ...]:
    return tuple(
        HistoryPoint(
            at=OPENED_AT + 60.0 * i,
            calls=100 * i,
            open_calls=0,
            spend_usd=0.1 * i,
            in_flight_usd=0.0,
            reward_count=90 * i,
            reward_total=60.0 * i,
        )
        for i in range(points)
    )


def receipt_of(**others: Any) -> DecisionReceipt:
    return replace(
        DecisionReceipt(
            decision_id="d-1",
            call_id="call-1",
            response_id="chatcmpl-1",
            group="chat",
            segment="",
            stage=7,
            made_at=OPENED_AT,
            arm="openai/gpt-x",
            served_arm="anthropic/small",
            probability=0.81,
            reward_ucb=0.72,
            cost_lcb_usd=0.00088,
            expected_cost_usd=0.00091,
            budget_usd_per_call=0.001,
            shadow_price=12.0,
            binding="budget",
            explanation="openai/gpt-x is worth most within the budget.",
            state="settled",
            cost_usd=0.0004,
            rewards={"app": 0.9, "judge": 0.5},
            alternatives=(
                Alternative(
                    arm="openai/gpt-x",
                    live=True,
                    probability=0.81,
                    reward_ucb=0.72,
                    cost_lcb_usd=0.00088,
                    value=0.709,
                    why="chosen: worth most",
                ),
                Alternative(
                    arm="openai/large",
                    live=False,
                    probability=0.0,
                    reward_ucb=0.9,
                    cost_lcb_usd=0.02,
                    value=None,
                    why="not live in this stage",
                ),
            ),
            attempts=(
                Attempt(
                    decision_id="d-1",
                    group="chat",
                    arm="openai/gpt-x",
                    served_arm="openai/gpt-x",
                    probability=0.81,
                    made_at=OPENED_AT,
                    state="failed",
                    cost_usd=0.0,
                ),
                Attempt(
                    decision_id="d-2",
                    group="chat-fallback",
                    arm="anthropic/small",
                    served_arm="anthropic/small",
                    probability=1.0,
                    made_at=OPENED_AT + 1.0,
                    state="settled",
                    cost_usd=0.0004,
                ),
            ),
        ),
        **others,
    )


@dataclass
class StandIn:
    """What a proxy with the plugin would report. Tests change it while it is served.

    Args:
        key: the key that it requires; None requires none.
        is_full: whether no more arms can be pinned.
        answer: answers every request instead, when set.
        released: while it is not set, requests are left unanswered.
    """

    groups: tuple[GroupStatus, ...] = field(default_factory=lambda: (group_of(),))
    stages: tuple[StageReport, ...] = field(default_factory=lambda: tuple(stage_of(n) for n in range(1, 8)))
    is_full: bool = False
    pinned_by: ClassVar[Mapping[bool | None, Literal["operator"] | None]] = {
        True: "operator",
        False: "operator",
        None: None,
    }
    receipts: Mapping[str, DecisionReceipt] = field(default_factory=lambda: {"chatcmpl-1": receipt_of()})
    health: Health = HEALTHY
    key: str | None = None
    answer: Callable[[Request], Response] | None = None
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    port: int = 0
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve, at the same port as the last time if there was one."""
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(self._app(), log_level="critical", lifespan="off", ws="none")
        config.timeout_graceful_shutdown = 1
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        self._thread.start()
        wait_until(lambda: server.started)

    def stop(self) -> None:
        """Be gone."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(DEADLINE_S)
            assert not self._thread.is_alive()

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def door(request: Request, go_on: Callable[[Request], Any]) -> Response:
            self.asked.append(f"{request.method} {request.url.path}")
            await asyncio.to_thread(self.released.wait)
            if self.answer is not None:
                return self.answer(request)
            if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
                told = {"error": {"message": "Invalid key sk-...1234", "type": "auth_error", "code": "401"}}
                return JSONResponse(told, 401)
            return await go_on(request)

        self._routes(app)
        return app

    def _routes(self, app: FastAPI) -> None:  # noqa: C901 - one after the other
        missing = _missing("there is no such group", "unknown_group")

        @app.get("/stageroute/status")
        async def status() -> Response:
            return json_response(Status, Status(groups=self.groups))

        @app.get("/stageroute/stages")
        async def stages(group: str, last: int) -> Response:
            if group not in {each.name for each in self.groups}:
                return JSONResponse(missing, 404)
            found = tuple(stage for stage in self.stages if stage.group == group)[-last:]
            return json_response(tuple[StageReport, ...], found)

        @app.get("/stageroute/history")
        async def history(group: str, points: int) -> Response:
            return json_response(tuple[HistoryPoint, ...], history_of(min(points, 40)))

        @app.get("/stageroute/decisions/{key:path}")
        async def decision(key: str) -> Response:
            if key not in self.receipts:
                return JSONResponse(_missing(f"no decision {key}", "unknown_call"), 404)
            return json_response(DecisionReceipt, self.receipts[key])

        @app.get("/stageroute/health")
        async def health() -> Response:
            return json_response(Health, self.health, 200 if self.health.state == "ok" else 503)

        @app.post("/stageroute/groups/{group:path}/redeploy")
        async def redeploy(group: str) -> Response:
            for each in self.groups:
                if each.name == group:
                    return json_response(GroupStatus, replace(each, stage=each.stage + 1, stage_calls=0))
            return JSONResponse(missing, 404)

        @app.post("/stageroute/groups/{group:path}/pin")
        async def pin(group: str, request: Request) -> Response:
            wanted = await request.json()
            for each in self.groups:
                if each.name != group:
                    continue
                if wanted["arm"] not in {arm.name for arm in each.arms}:
                    return JSONResponse(_missing(f"no arm {wanted['arm']}", "unknown_arm"), 404)
                if self.is_full and wanted["pinned"]:
                    told = {
                        "message": "2 arms would be pinned",
                        "type": "conflict_error",
                        "code": "cannot_pin",
                    }
                    return JSONResponse({"error": told}, 409)
                arms = tuple(
                    replace(arm, pinned=bool(wanted["pinned"]), pinned_by=self.pinned_by[wanted["pinned"]])
                    if arm.name == wanted["arm"]
                    else arm
                    for arm in each.arms
                )
                return json_response(GroupStatus, replace(each, arms=arms))
            return JSONResponse(missing, 404)


def _missing(message: str, code: str) -> dict[str, object]:
    return {"error": {"message": message, "type": "not_found_error", "code": code}}


def json_response(shape: Any, value: object, status: int = 200) -> Response:
    """Answer with a value as JSON, with a field that is newer than this version."""
    body = json.loads(TypeAdapter(shape).dump_json(value))
    if isinstance(body, dict):
        body["newer_field"] = {"of": "a later release"}
    return JSONResponse(body, status)


@pytest.fixture
def proxy() -> Iterator[StandIn]:
    served = StandIn()
    served.released.set()
    served.start()
    yield served
    served.released.set()
    served.stop()


@dataclass
class Clean:
    """The command line in an empty folder, with no keys in the environment."""

    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in {"STAGEROUTE_KEY", "LITELLM_API_KEY", "TERM"}}
        # A proxy between this machine and itself would not be what is tested.
        return {**kept, "COLUMNS": "200", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **more}

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it in this process, which saves the second that imports take."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["stageroute", *arguments])
            wanted = self.environment(**environment)
            for name in {*os.environ} - {*wanted}:
                patch.delenv(name)
            for name, value in wanted.items():
                patch.setenv(name, value)
            try:
                main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def process(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it as people do."""
        started = self.start(*arguments, **environment)
        out, err = started.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, started.returncode, out, err)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", "from stageroute_router.cli import main; main()", *arguments]

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment(**environment),
        )


@pytest.fixture
def run(tmp_path: Path) -> Clean:
    return Clean(tmp_path)


def wait_until(done: Callable[[], bool], *, deadline_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


@pytest.fixture
def dead_url() -> Iterator[str]:
    """The URL of a port without a listener, held so that no other process gets it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
