"""Decisions by the ids of runs, and what else adapters share, without any framework."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextvars import copy_context
from typing import Any

import pytest

from stageroute_router import InvalidRewardError, SettingsError, StageRouteRouter, UnknownDecisionError
from stageroute_router.integrations.common.rewards import (
    check_scale,
    control_of,
    on_scale,
    report_without_waiting,
)
from stageroute_router.integrations.common.runs import Runs

ASK: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def runs(router: StageRouteRouter) -> Runs:
    return Runs(control_of(router))


def ask(router: StageRouteRouter) -> None:
    router.completion(model="chat", messages=ASK)


def test_a_decision_belongs_to_its_run_and_all_around_it(router: StageRouteRouter, runs: Runs) -> None:
    runs.began("outer")
    ask(router)
    runs.began("inner", inside="outer")
    ask(router)
    runs.ended("inner")
    ask(router)
    runs.ended("outer")
    ask(router)  # in no run
    assert [len(runs.decisions(run)) for run in ("outer", "inner")] == [3, 1]
    assert runs.decisions("inner")[0] == runs.decisions("outer")[1]
    assert runs.ids() == ("outer", "inner")
    assert len(runs.record_reward("outer", 0.5, source="user")) == 3
    assert len(runs.record_reward("inner", 1.0, source="critic")) == 1
    given = [dict(router.stageroute.receipt(made).rewards) for made in runs.decisions("outer")]
    assert given == [{"user": 0.5}, {"user": 0.5, "critic": 1.0}, {"user": 0.5}]


def test_a_run_may_end_in_another_context_than_it_began(router: StageRouteRouter, runs: Runs) -> None:
    runs.began("run")
    ask(router)
    thread = threading.Thread(target=copy_context().run, args=(runs.ended, "run"))
    thread.start()
    thread.join()
    ask(router)
    assert len(runs.decisions("run")) == 1
    assert not runs.follows("run")


def test_a_run_that_goes_on_counts_again(router: StageRouteRouter, runs: Runs) -> None:
    for _ in range(2):
        runs.began("thread of talk")
        ask(router)
        runs.ended("thread of talk")
    assert len(runs.decisions("thread of talk")) == 2


async def test_runs_side_by_side_are_kept_apart(router: StageRouteRouter, runs: Runs) -> None:
    runs.began("all")

    async def work(name: str) -> None:
        runs.began(name, inside="all")
        for _ in range(3):
            await router.acompletion(model="chat", messages=ASK)
        runs.ended(name)

    names = [f"task {number}" for number in range(4)]
    await asyncio.gather(*map(work, names))
    decisions = [set(runs.decisions(name)) for name in names]
    assert [len(made) for made in decisions] == [3] * 4
    assert set(runs.decisions("all")) == set.union(*decisions)
    assert len(runs.decisions("all")) == 12


def test_two_routers_do_not_see_each_others_runs(router: StageRouteRouter, provider: Any) -> None:
    other = StageRouteRouter(
        model_list=provider.model_list("chat"),
        stageroute={"chat": {"budget_usd_per_call": 0.01, "max_live_models": 2, "stage": {"calls": 100}}},
        database_url="memory://",
    )
    with other.stageroute:
        here, there = Runs(control_of(router)), Runs(control_of(other))
        here.began("run")
        there.began("run")
        ask(router)
        ask(router)
        ask(other)
        assert (len(here.decisions("run")), len(there.decisions("run"))) == (2, 1)
        assert not set(here.decisions("run")) & set(there.decisions("run"))


def test_what_is_remembered_is_bounded(router: StageRouteRouter) -> None:
    runs = Runs(control_of(router), remembered=4)
    for number in range(6):
        runs.began(f"run {number}")
        ask(router)
        if number % 2:  # every other one never ends
            runs.ended(f"run {number}")
    assert runs.ids() == ("run 2", "run 3", "run 4", "run 5")
    for number in range(100):
        runs.began(f"empty {number}")
    assert sum(runs.follows(f"empty {number}") for number in range(100)) == 4
    for number in range(100):
        runs.began(f"short {number}")
        runs.ended(f"short {number}")
        assert not runs.follows(f"short {number}")
    with pytest.raises(UnknownDecisionError, match="forgotten"):
        runs.record_reward("run 0", 1.0, source="app")


def test_what_failed_is_in_no_run(router: StageRouteRouter, runs: Runs, provider: Any) -> None:
    for model in ("small", "large"):
        provider.set(model, error_rate=1.0)
    runs.began("run")
    with pytest.raises(Exception, match=r"[Ee]rror"):
        ask(router)
    runs.ended("run")
    with pytest.raises(UnknownDecisionError):
        runs.record_reward("run", 1.0, source="app")


async def test_asynchronous_rewards(router: StageRouteRouter, runs: Runs) -> None:
    runs.began("run")
    await router.acompletion(model="chat", messages=ASK)
    (receipt,) = await runs.arecord_reward("run", 1.0, source="app")
    assert receipt.status == "recorded"
    with pytest.raises(InvalidRewardError):
        await runs.arecord_reward("run", 2.0, source="app")


def test_a_reward_reported_in_the_background(
    router: StageRouteRouter, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    runs.began("run")
    ask(router)
    (decision,) = runs.decisions("run")
    report_without_waiting(runs.control, decision, 0.5, source="critic")
    report_without_waiting(runs.control, "sr-unknown", 0.5, source="critic")
    deadline = time.monotonic() + 10
    while not router.stageroute.receipt(decision).rewards and time.monotonic() < deadline:
        time.sleep(0.01)
    assert router.stageroute.receipt(decision).rewards == {"critic": 0.5}
    with caplog.at_level(logging.WARNING, logger="stageroute_router"):
        report_without_waiting(runs.control, decision, 7.0, source="critic")
    assert "was not recorded" in caplog.text


@pytest.mark.parametrize(
    ("value", "scale", "reward"),
    [
        (0.25, (0, 1), 0.25),
        (True, (0, 1), 1.0),
        (5, (1, 5), 1.0),
        (2, (5, 1), 0.75),  # a mark whose best is 1
        (-1, (-1, 1), 0.0),
        (6, (1, 5), None),
        (float("nan"), (0, 1), None),
        ("5", (1, 5), None),
        (None, (0, 1), None),
    ],
)
def test_scales(value: object, scale: tuple[float, float], reward: float | None) -> None:
    assert on_scale(value, scale) == reward


@pytest.mark.parametrize("scale", [(1, 1), (0,), (0, 1, 2), ("a", "b"), (0, float("inf")), None])
def test_bad_scales_are_refused(scale: Any) -> None:
    with pytest.raises(SettingsError, match="scale of 'stars'"):
        check_scale("stars", scale)
