"""How processes end: SIGTERM loses no acknowledged reward, waits no longer than it should, and takes no signals."""

from __future__ import annotations

import gc
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
import weakref
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stageroute_router import StageRouteRouter
from stageroute_router.core.arm import Arm
from stageroute_router.runtime.runtime import open_runtime
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.sql.drivers import sqlite
from stageroute_router.store.sql.store import SqlStore

APP = Path(__file__).with_name("serving_app.py")
SETTINGS = {"chat": {"budget_usd_per_call": 0.002}}


def start(url: str, mode: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(APP), url, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("mode", "code"), [("plain", -signal.SIGTERM), ("exit", 0), ("server", 0)])
def test_sigterm_loses_no_acknowledged_reward(tmp_path: Path, mode: str, code: int) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    process = start(url, mode)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(200)]
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    lines = rest.splitlines(keepends=True)
    # Without any handler the process dies in the middle of anything, of a line too.
    acknowledged += [line.strip() for line in lines if line.endswith("\n") and line.startswith("sr-")]
    assert process.returncode == code
    store = SqlStore(url)
    stored = [store.decision(one) for one in acknowledged]
    group = store.load("chat")
    differences = store.verify()
    store.close()
    assert len(acknowledged) >= 200
    assert all(one is not None and one.rewards == {"app": 0.5} for one in stored)
    assert not differences
    if mode == "server":
        assert "lost 0\n" in lines
    if mode != "plain":
        assert group.account.open_calls <= 1, "the call under way, if any: everything before it was stored"


def test_sigterm_waits_for_a_database_no_longer_than_its_deadline(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    SqlStore(url).close()
    process = start(url, "hung")
    assert process.stdin is not None
    assert process.stdout is not None
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        process.stdin.write("go\n")
        process.stdin.flush()
        told = [process.stdout.readline().strip() for _ in range(100)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        other.execute("ROLLBACK")
    assert process.returncode == 0
    store = SqlStore(url)
    assert [store.decision(one) for one in told] == [None] * 100, "none of them was acknowledged"
    store.close()


def test_signals_are_the_applications(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    runtime = open_runtime(parse_groups(SETTINGS), database_url=f"sqlite:///{tmp_path}/s.db")
    runtime.set_arms("chat", [Arm(name="small")])
    assert runtime.choose("chat", eligible={"small"}, call_id="c") is not None
    runtime.close()
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_runtime_is_closed_by_its_block_and_says_what_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.02)
    url = f"sqlite:///{tmp_path}/s.db"
    with open_runtime(parse_groups(SETTINGS), database_url=url) as runtime:
        runtime.set_arms("chat", [Arm(name="small")])
        runtime.choose("chat", eligible={"small"}, call_id="c")
    assert runtime.close() == 0
    runtime = open_runtime(parse_groups(SETTINGS), database_url=url)
    runtime.set_arms("chat", [Arm(name="small")])
    assert runtime.flush()
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        runtime.choose("chat", eligible={"small"}, call_id="c")
        assert runtime.close(0.1) == 2  # the call, and what its arm was sampled from
        other.execute("ROLLBACK")
    store = SqlStore(url)
    assert store.load("chat").account.calls == 1
    store.close()


MODELS = [
    {
        "model_name": "chat",
        "litellm_params": {"model": "openai/small", "api_key": "none", "mock_response": "hi"},
    }
]


@pytest.mark.calls_litellm
def test_router_that_is_forgotten_with_pending_rewards_warns_and_stores_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where LiteLLM lets go of it: its own list of callbacks keeps a router that has made a call for ever."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.02)
    url = f"sqlite:///{tmp_path}/s.db"
    router: Any = StageRouteRouter(model_list=MODELS, stageroute=SETTINGS, database_url=url)
    routing = router.stageroute._routing
    routed = routing.choose("chat", eligible={"openai/small"}, call_id="c")
    router.record_reward(routed.decision_id, 0.25)
    thread = routing._writer._worker.thread
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        routing.record_reward(routed.decision_id, 0.75)
        gone = weakref.ref(routing)
        give_up = time.monotonic() + 20
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            router.discard()
            del router, routing
            gc.collect()
            while gone() is not None and thread.is_alive() and time.monotonic() < give_up:
                thread.join(0.05)  # it is at work for the runtime, which it holds as long
                gc.collect()
        other.execute("ROLLBACK")
    assert gone() is None
    assert [one for one in caught if "pending writes was forgotten" in str(one.message)]
    thread.join(30)
    store = SqlStore(url)
    found = store.decision(routed.decision_id)
    store.close()
    assert found is not None
    assert found.rewards == {"app": 0.75}


@pytest.mark.calls_litellm
async def test_router_closes_without_blocking_its_event_loop(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    router: Any = StageRouteRouter(model_list=MODELS, stageroute=SETTINGS, database_url=url)
    async with router.stageroute as control:
        response = await router.acompletion(model="chat", messages=[{"role": "user", "content": "hello"}])
        await router.arecord_reward(response, 1.0)
        assert control.health().state == "ok"
    assert await control.aclose() == 0
    store = SqlStore(url)
    assert sum(cell.reward_count for cell in store.load("chat").statistics.values()) == 1
    store.close()
