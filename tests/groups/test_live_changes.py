"""Models that are hosted by the application are told when to be loaded, and get no calls before."""

from __future__ import annotations

import queue
import threading

import pytest

from stageroute_router.core.arm import Arm
from stageroute_router.groups.live_changes import LiveChange
from stageroute_router.runtime.runtime import Runtime, open_runtime
from stageroute_router.settings.options import Options
from stageroute_router.settings.parsing import parse_groups

ARMS = [Arm(name="cheap", prior_cost_usd=0.001), Arm(name="dear", prior_cost_usd=0.001)]
NAMES = {"cheap", "dear"}
DEADLINE_S = 20


@pytest.fixture
def runtime() -> Runtime:
    return open_runtime(
        parse_groups({"chat": {"budget_usd_per_call": 0.002, "max_live_models": 2, "stage": "manual"}}),
        database_url="memory://",
        options=Options(seed=0),
    )


def test_hooks_hear_of_the_first_live_set_and_of_every_change(runtime: Runtime) -> None:
    heard: queue.SimpleQueue[LiveChange] = queue.SimpleQueue()
    with runtime:
        runtime.on_live_change(heard.put)
        runtime.set_arms("chat", ARMS)
        first = heard.get(timeout=DEADLINE_S)
        assert (first.group, first.stage, set(first.live), set(first.came), first.left) == (
            "chat",
            1,
            NAMES,
            NAMES,
            (),
        )
        runtime.set_arms("chat", ARMS[:1])
        second = heard.get(timeout=DEADLINE_S)
        assert (second.live, second.came, second.left) == (("cheap",), (), ("dear",))


def test_a_later_hook_hears_of_the_present_live_set(runtime: Runtime) -> None:
    heard: queue.SimpleQueue[LiveChange] = queue.SimpleQueue()
    with runtime:
        runtime.set_arms("chat", ARMS)
        runtime.flush()
        runtime.on_live_change(heard.put)
        assert set(heard.get(timeout=DEADLINE_S).came) == NAMES


def test_an_arm_gets_no_calls_before_its_hook_returned(runtime: Runtime) -> None:
    loading, loaded = threading.Event(), threading.Event()

    def load(change: LiveChange) -> None:
        if "dear" in change.came:
            loading.set()
            assert loaded.wait(DEADLINE_S)

    def chosen(calls: int) -> set[str]:
        made = [runtime.choose("chat", eligible=NAMES, call_id="c") for _ in range(calls)]
        return {routed.arm for routed in made if routed is not None}

    with runtime:
        runtime.set_arms("chat", ARMS[:1])
        runtime.on_live_change(load)
        runtime.flush()
        runtime.set_arms("chat", ARMS)
        runtime.operations.redeploy("chat")
        assert loading.wait(DEADLINE_S)
        assert chosen(100) == {"cheap"}
        assert runtime.choose("chat", eligible={"dear"}, call_id="c").arm == "dear"  # type: ignore[union-attr]
        done: queue.SimpleQueue[LiveChange] = queue.SimpleQueue()
        runtime.on_live_change(done.put)
        loaded.set()
        done.get(timeout=DEADLINE_S)
        done.get(timeout=DEADLINE_S) if done.qsize() else None
        runtime.operations.redeploy("chat")
        give_up = 2000
        while chosen(1) == {"cheap"} and give_up:
            give_up -= 1
        assert give_up


def test_a_hook_that_fails_is_logged_and_its_arms_are_routed_to(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    heard: queue.SimpleQueue[LiveChange] = queue.SimpleQueue()

    def broken(_: LiveChange) -> None:
        msg = "no such machine"
        raise OSError(msg)

    with runtime:
        runtime.on_live_change(broken)
        runtime.on_live_change(heard.put)
        runtime.set_arms("chat", ARMS)
        heard.get(timeout=DEADLINE_S)
        assert runtime.choose("chat", eligible=NAMES, call_id="c") is not None
    assert "the hook for the live set of group 'chat', stage 1, failed" in caplog.text
